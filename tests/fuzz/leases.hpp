// tests/fuzz/leases.hpp: the pools that all coroutines of a program share, and the laws that hold for them.
#pragma once

#include <tandem/resource_pool.hpp>
#include <tandem/run.hpp>

#include "program.hpp"

#include <chrono>
#include <stdexcept>
#include <utility>

namespace fuzz {

/// One that only makes them, and one that also checks and resets them. Some cannot be made, and some do not last.
template <class Counted>
class leases {
 public:
  struct resource : Counted {
    bool is_in_use = false;
  };
  using pool = tandem::resource_pool<resource>;

  leases() : plain_(options()), careful_(careful_options()) {}
  pool& operator[](unsigned i) { return i % 2 == 0 ? plain_ : careful_; }
  /// When all is over.
  void check() const {
    for (const pool* p : {&plain_, &careful_}) {
      const tandem::resource_pool_stats s = p->stats();
      fuzz::check(s.lent == 0 && s.waiting == 0, "nobody has a resource, and nobody waits");
      fuzz::check(s.size == s.idle && s.size <= 2, "no resource is lost");
      fuzz::check(s.most_lent <= 2, "no more are lent than there may be");
    }
  }

 private:
  static void check_idle(const resource& r) { fuzz::check(!r.is_in_use, "nobody has what is looked after"); }
  auto options() {
    tandem::resource_pool_options<resource> o;
    o.max = 2;
    o.idle_lifetime = std::chrono::seconds(5);
    o.acquire_timeout = std::chrono::seconds(6);
    o.create = [this] { return make(); };
    return o;
  }
  auto careful_options() {
    auto o = options();
    o.min = 1;
    o.check_after = {};
    o.check = [this](resource& r) { return look_at(r); };
    o.reset = [this](resource& r) { return clean(r); };
    return o;
  }
  tandem::task<resource> make() {
    const unsigned i = ++made_;
    if (i % 3 == 0) co_await tandem::sleep_for(std::chrono::seconds(1));
    if (i % 5 == 0) throw std::runtime_error("not made");
    co_return resource();
  }
  tandem::task<bool> look_at(resource& r) {
    check_idle(r);
    const unsigned i = ++looked_at_;
    co_await tandem::yield();
    co_return i % 4 != 0;
  }
  tandem::task<> clean(resource& r) {
    check_idle(r);
    const unsigned i = ++cleaned_;
    if (i % 2 == 0) co_await tandem::sleep_for(std::chrono::seconds(1));
    if (i % 7 == 0) throw std::runtime_error("not cleaned");
  }
  unsigned made_ = 0, looked_at_ = 0, cleaned_ = 0;
  pool plain_, careful_;
};

}  // namespace fuzz
