// tests/fuzz/caches.hpp: the caches that all coroutines of a program share, and the laws that hold for them.
#pragma once

#include <tandem/cancel.hpp>
#include <tandem/lru_cache.hpp>
#include <tandem/race.hpp>
#include <tandem/run.hpp>

#include "program.hpp"

#include <array>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

namespace fuzz {

/// One cache of few keys. A value knows its key, and when what made it began; a key knows when it was changed last.
template <class Counted, template <class...> class Cache>
class one_cache {
 public:
  struct value : Counted {
    value(int k, unsigned long b) : key(k), born(b) {}
    value(const value& o) : Counted(), key(o.key), born(o.born) {}
    int key;
    unsigned long born;
  };

  explicit one_cache(tandem::lru_cache_options<int, value> o) : cache_(std::move(o)) {}

  /// Uses the cache in one of many ways. Failures of loads are swallowed.
  template <class Dice>
  tandem::task<> use(Dice draw) {
    const unsigned i = draw(keys);
    const int k = static_cast<int>(i);
    const unsigned how = draw(12), seconds = draw(4);
    const auto load = [this, how](int key) { return one(key, how); };
    try {
      if (how < 4) {
        const unsigned long floor = floor_[i];
        given(co_await cache_.get(k, load), k, floor);
      } else if (how == 4) {
        const unsigned long floor = floor_[i];
        const auto v = co_await tandem::try_timeout(std::chrono::seconds(seconds), cache_.get(k, load));
        if (v) given(*v, k, floor);
      } else if (how == 5) {
        const unsigned long floor = floor_[i];
        auto first = co_await tandem::race(cache_.get(k, load), tandem::sleep_for(std::chrono::seconds(seconds)));
        if (first.index() == 0) given(first.template get<0>(), k, floor);
      } else if (how == 6) {
        co_await use_many(k, how);
      } else if (how == 7) {
        cache_.put(k, value(k, floor_[i] = ++time_));
      } else if (how == 8) {
        floor_[i] = ++time_;
        cache_.erase(k);
      } else if (how == 9) {
        floor_.fill(++time_);
        cache_.clear();
      } else if (how == 10) {
        cache_.refresh(k, load);
      } else if (const auto v = cache_.find(k)) {
        given(*v, k, floor_[i]);
      }
    } catch (const std::exception&) {  // a load failed, or this was stopped
    }
  }
  /// When all is over.
  void check_end() const {
    const tandem::lru_cache_stats s = cache_.stats();
    fuzz::check(s.loading == 0 && under_way_.empty(), "every load has ended");
    fuzz::check(s.size <= 3 && s.weight <= s.capacity, "a cache keeps no more than it may");
    fuzz::check(s.load_failures + s.load_cancellations <= s.loads, "a load ends once");
  }

 private:
  static constexpr unsigned keys = 5;
  using keys_type = std::vector<int>;

  void given(const value& v, int k, unsigned long floor) const {
    fuzz::check(v.key == k, "a cache gives the value of the key");
    fuzz::check(v.born >= floor, "who asks after a change never gets what was before");
  }
  tandem::task<> use_many(int k, unsigned how) {
    const keys_type some{k, (k + 1) % static_cast<int>(keys), (k + 3) % static_cast<int>(keys), k};
    const std::array<unsigned long, keys> floors = floor_;
    const auto load = [this, how](keys_type all) { return many(std::move(all), how); };
    const std::vector<value> got = co_await cache_.get_many(some, load);
    fuzz::check(got.size() == some.size(), "get_many gives as many as it is asked for");
    for (std::size_t i = 0; i != got.size(); ++i) given(got[i], some[i], floors[static_cast<std::size_t>(some[i])]);
  }

  /// A load of a key, from the call of the loader to the end of its frame.
  struct flight {
    int key;
    unsigned long born;
    std::uint64_t cancelled_before;
  };
  class in_flight {
   public:
    in_flight(one_cache& c, int key) : cache_(&c) {
      const std::uint64_t cancelled = c.cache_.stats().load_cancellations;
      for (const flight& f : c.under_way_)
        fuzz::check(f.key != key || f.born < c.floor_[static_cast<std::size_t>(key)] || cancelled > f.cancelled_before,
                    "of a key there is one load at a time");
      c.under_way_.push_front({key, ++c.time_, cancelled});
      place_ = c.under_way_.begin();
    }
    in_flight(in_flight&& o) noexcept : cache_(std::exchange(o.cache_, nullptr)), place_(o.place_) {}
    ~in_flight() {
      if (cache_) cache_->under_way_.erase(place_);
    }
    const flight& operator*() const { return *place_; }

   private:
    one_cache* cache_;
    typename std::list<flight>::iterator place_;
  };

  tandem::task<value> one(int key, unsigned how) {
    if (how == 3 && time_ % 7 == 0) throw std::runtime_error("not loaded");
    return load_one(in_flight(*this, key));
  }
  tandem::task<value> load_one(in_flight f) {
    const unsigned long i = (*f).born;
    if (i % 3 == 0) co_await tandem::sleep_for(std::chrono::seconds(1));
    if (i % 4 == 0) co_await tandem::yield();
    if (i % 5 == 0) {  // needs another, which may need this
      const auto load = [this](int key) { return one(key, 0); };
      co_await cache_.get(((*f).key + 2) % static_cast<int>(keys), load);
    }
    if (i % 6 == 0) co_await tandem::shield(tandem::sleep_for(std::chrono::seconds(1)));
    if (i % 11 == 0) throw std::runtime_error("not loaded");
    co_return value((*f).key, i);
  }
  tandem::task<std::vector<value>> many(keys_type all, unsigned) {
    std::vector<in_flight> flights;
    for (const int k : all) flights.emplace_back(*this, k);
    return load_many(std::move(flights));
  }
  tandem::task<std::vector<value>> load_many(std::vector<in_flight> flights) {
    std::vector<value> values;
    for (const in_flight& f : flights) {
      const unsigned long i = (*f).born;
      if (i % 3 == 0) co_await tandem::sleep_for(std::chrono::seconds(1));
      if (i % 5 == 0) {
        const auto load = [this](int key) { return one(key, 0); };
        co_await cache_.get(((*f).key + 2) % static_cast<int>(keys), load);
      }
      if (i % 11 == 0) throw std::runtime_error("not loaded");
      values.emplace_back((*f).key, i);
    }
    if (values.size() % 2 == 0 && time_ % 13 == 0) values.pop_back();  // one too few
    co_return values;
  }

  unsigned long time_ = 0;
  std::array<unsigned long, keys> floor_{};
  std::list<flight> under_way_;
  Cache<int, value> cache_;
};

template <class Counted>
class caches {
  template <class K, class V>
  using plain = tandem::lru_cache<K, V>;
  template <class K, class V>
  using concurrent = tandem::concurrent_lru_cache<K, V>;

 public:
  caches() : plain_(plain_options()), concurrent_(concurrent_options()) {}
  template <class Dice>
  tandem::task<> use(bool is_plain, Dice draw) {
    return is_plain ? plain_.use(draw) : concurrent_.use(draw);
  }
  void check() const {
    plain_.check_end();
    concurrent_.check_end();
  }

 private:
  static auto plain_options() {
    tandem::lru_cache_options<int, typename one_cache<Counted, plain>::value> o;
    o.capacity = 3;
    o.ttl = std::chrono::seconds(4);
    o.tti = std::chrono::seconds(2);
    return o;
  }
  static auto concurrent_options() {
    using value = typename one_cache<Counted, concurrent>::value;
    tandem::lru_cache_options<int, value> o;
    o.capacity = 6;
    o.weight = [](int key, const value&) { return std::size_t(2 + key % 2); };
    o.on_evict = [](int key, const value& v, tandem::eviction) {
      fuzz::check(v.key == key, "a hook is told what goes");
    };
    return o;
  }
  one_cache<Counted, plain> plain_;
  one_cache<Counted, concurrent> concurrent_;
};

}  // namespace fuzz
