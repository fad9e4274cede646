// tandem/detail/cache_load.hpp: loads that a cache owns, and those who wait for them.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../clock.hpp"
#include "../exceptions.hpp"
#include "../gather.hpp"
#include "../task.hpp"
#include "frame.hpp"
#include "intrusive_list.hpp"
#include "loop.hpp"
#include "result.hpp"
#include "waiting.hpp"

#include <cstddef>
#include <exception>
#include <functional>  // std::invoke
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tandem::inline TANDEM_CONFIG::detail {

/// Whose tree a load is: what waits for what, so that a load that waits for itself is seen.
class any_load : public root {
 public:
  /// Nobody wants it. From any thread, while it has not landed.
  virtual void stop_soon() noexcept = 0;
  struct wait : list_node {
    any_load* target = nullptr;
  };
  const void* owner() const noexcept { return owner_; }
  /// Would a wait of this tree for `other` close a circle? With the owner's mutex held.
  bool is_awaited_by(const any_load& other) const {
    std::vector<const any_load*> line{&other}, seen;
    while (!line.empty()) {
      const any_load* l = line.back();
      line.pop_back();
      if (l == this) return true;
      bool is_new = true;
      for (const any_load* s : seen) is_new = is_new && s != l;
      if (!is_new) continue;
      seen.push_back(l);
      for (const wait* w = l->waits_.empty() ? nullptr : &l->waits_.front(); w; w = l->waits_.next(*w))
        line.push_back(w->target);
    }
    return false;
  }
  void begins(wait& w) noexcept { waits_.push_back(w); }

 protected:
  any_load(detail::loop& l, const void* owner) noexcept : root(l), owner_(owner) {}
  ~any_load() = default;

 private:
  const void* owner_;
  intrusive_list<wait> waits_;  // of coroutines of this tree, for other loads of the same cache
};

/// One load, seen by those who wait for it.
template <class Key, class Value, class Loops>
struct cache_flight : list_node {
  cache_flight(Key k, std::size_t h) : hash(h), key(std::move(k)) {}
  std::size_t hash;
  Key key;
  typename Loops::line waiters;
  result<Value> value;
  any_load* load = nullptr;
  bool is_known = false;  // to those who come; otherwise it is being stopped, or what it loads is outdated
  bool is_given_up = false, is_over = false;
  std::size_t users = 0;  // the load, and who waits or has not taken the value yet
};

/// Somebody who waits for a load.
template <class Loops>
class cache_waiter_base : public Loops::waiter {
 public:
  any_load::wait& edge() noexcept { return edge_; }

 protected:
  cache_waiter_base() = default;
  ~cache_waiter_base() = default;
  any_load::wait edge_;
};

/// The tree of a load. `T` is what the loader gives.
template <class Core, class T, class Loader>
class cache_load final : public any_load {
 public:
  using flight = typename Core::flight;
  cache_load(Core& c, detail::loop& l, flight& f, Loader loader)
      : any_load(l, &c), core_(c), flight_(f), loader_(std::move(loader)), stopper_(*this) {}
  /// Calls the loader.
  void prepare() {
    task_ = call(loader_, std::as_const(flight_.key));
    if (!task_) throw_empty_task();
  }
  void begin() noexcept {
    began_ = this->scope().loop->batch_time();
    this->start(*task_.release());
  }
  void stop_soon() noexcept override { stopper_.push(); }
  static auto call(Loader& f, const typename Core::key_type& key) {
    if constexpr (std::is_invocable_v<Loader&, const typename Core::key_type&>)
      return as_task(std::invoke(f, key));
    else
      return as_task(std::invoke(f));
  }

 private:
  /// Takes the stop to the load's loop.
  class stopper final : public arrival {
   public:
    explicit stopper(cache_load& l) noexcept : load_(l) {}
    const char* what() const noexcept override { return "lru_cache"; }
    void push() noexcept {
      if (!std::exchange(is_on_its_way_, true)) load_.scope().loop->push(*this);
    }
    bool is_on_its_way() const noexcept { return is_on_its_way_; }

   private:
    void arrive() noexcept override {
      is_on_its_way_ = false;
      if (load_.has_ended_)
        delete &load_;
      else
        load_.scope().loop->ask_to_stop(load_);
    }
    cache_load& load_;
    bool is_on_its_way_ = false;
  };

  void ended(frame& body, fate how) noexcept override {
    using value = typename Core::value_type;
    result<value> r;
    if constexpr (std::is_same_v<T, value>) {
      if (how == fate::done) r.take_from(static_cast<promise<T>&>(body).result);
    } else if (how == fate::done) {
      auto& given = static_cast<promise<T>&>(body).result;
      if (given.has_error())
        r.set_error(given.get_error());
      else
        try {
          r.set_value(static_cast<value>(given.take()));
        } catch (...) {
          r.set_error(std::current_exception());
        }
    }
    body.destroy();
    this->join_failures_of_strays(r);
    if (r.empty()) r.set_error(make_cancelled());
    core_.landed(flight_, r, this->scope().loop->batch_time() - began_);
    core_.let_go(&flight_);
    has_ended_ = true;
    if (!stopper_.is_on_its_way()) delete this;
  }

  Core& core_;
  flight& flight_;
  Loader loader_;
  task<T> task_;
  clock::time_point began_{};
  bool has_ended_ = false;
  stopper stopper_;
};

/// What `get` found: the value, or what it takes to load it.
template <class Core, class Loader>
class cache_request {
 public:
  using key_type = typename Core::key_type;
  using value = typename Core::value_type;
  template <class K, class L>
  cache_request(Core& c, const K& k, L&& loader) : core_(&c) {
    c.check_no_hook();
    const std::size_t hash = c.hash_of(k);
    typename Core::leavers out(c);
    const std::scoped_lock lock(c.mutex());
    if (auto* e = c.count(c.use(k, hash, out)))
      value_.emplace(e->value);
    else
      to_load_.emplace(key_type(k), std::forward<L>(loader), hash);
  }
  bool try_now() const noexcept { return value_.has_value(); }
  value take() { return std::move(*value_); }

 protected:
  struct wish {
    template <class L>
    wish(key_type k, L&& l, std::size_t h) : key(std::move(k)), loader(std::forward<L>(l)), hash(h) {}
    key_type key;
    Loader loader;
    std::size_t hash;
  };
  Core* core_;
  std::optional<value> value_;
  std::optional<wish> to_load_;
};

template <class Core, class Loader>
class cache_waiter final : public cache_waiter_base<typename Core::loops>, cache_request<Core, Loader> {
 public:
  using request = cache_request<Core, Loader>;
  using flight = typename Core::flight;
  using value = typename Core::value_type;
  explicit cache_waiter(request r) : request(std::move(r)) {}
  cache_waiter(cache_waiter&& o) : request(std::move(static_cast<request&>(o))) {}
  ~cache_waiter() {
    if (flight_) this->core_->let_go(flight_);
  }

  const char* what() const noexcept override { return "lru_cache::get"; }
  bool await_ready() const noexcept { return this->try_now(); }
  bool suspend(frame& f) {
    if (!this->to_load_ || flight_)
      throw std::logic_error("tandem::lru_cache: awaiting a get that was moved from, or awaited before");
    Core& c = *this->core_;
    c.check_user(f);
    auto& wanted = *this->to_load_;
    {
      typename Core::leavers out(c);
      const std::scoped_lock lock(c.mutex());
      if (has_come(wanted.key, out)) return false;
      if (flight* x = c.under_way(wanted.key, wanted.hash)) return join(*x, f);
    }
    // The loader is called without the mutex: it may use the cache.
    auto made = std::make_unique<flight>(wanted.key, wanted.hash);
    auto load = std::make_unique<load_type>(c, *f.scope->loop, *made, std::move(wanted.loader));
    load->prepare();
    made->load = load.get();
    {
      typename Core::leavers out(c);
      const std::scoped_lock lock(c.mutex());
      if (has_come(made->key, out)) return false;
      if (flight* x = c.under_way(made->key, made->hash)) return join(*x, f);
      c.reserve_flight();
      if (!wait_for(*made, f)) return true;
      c.takes_off(*made.release());
    }
    load.release()->begin();
    return true;
  }
  value await_resume() {
    this->consume();
    if (!flight_) return this->take();
    const result<value>& r = flight_->value;
    if (r.has_error()) std::rethrow_exception(r.get_error());
    return r.get_value();
  }
  /// For race: what `await_resume` would throw.
  std::exception_ptr failure() const noexcept { return flight_ ? flight_->value.get_error() : nullptr; }

 private:
  using given = typename decltype(cache_load<Core, value, Loader>::call(
      std::declval<Loader&>(), std::declval<const typename Core::key_type&>()))::value_type;
  using load_type = cache_load<Core, given, Loader>;

  /// Since it was looked for.
  template <class K>
  bool has_come(const K& key, typename Core::leavers& out) {
    if (auto* e = this->core_->use(key, this->to_load_->hash, out)) this->value_.emplace(e->value);
    return this->value_.has_value();
  }
  bool join(flight& x, frame& f) {
    const auto* own = load_around(f);
    if (own && own->is_awaited_by(*x.load))
      throw std::logic_error(
          "tandem::lru_cache: a load waits for itself: its loader gets the key that it loads, or one whose load waits "
          "for that");
    if (wait_for(x, f)) this->core_->joins();
    return true;
  }
  bool wait_for(flight& x, frame& f) {
    if (!this->wait_in(x.waiters, this->core_->mutex(), f)) return false;
    ++x.users;
    flight_ = &x;
    this->edge_.target = x.load;
    if (any_load* own = load_around(f)) own->begins(this->edge_);
    return true;
  }
  /// Of the same cache.
  any_load* load_around(const frame& f) const {
    auto* l = dynamic_cast<any_load*>(f.scope->root);
    return l && l->owner() == this->core_ ? l : nullptr;
  }
  void leave_line() noexcept override {
    flight_->waiters.remove(*this);
    this->edge_.unlink();
    if (flight_->waiters.empty()) this->core_->give_up(*flight_);
  }
  flight* flight_ = nullptr;
};

/// One load for many keys: the only value of a cache that the loads of the keys share.
template <class Cache, class Loader>
class bulk_load {
 public:
  using key = typename Cache::key_type;
  using value = typename Cache::value_type;
  explicit bulk_load(Loader l) : loader_(std::move(l)) {}

  template <class Keys>
  static task<std::vector<value>> get_all(Cache& cache, Keys keys, std::shared_ptr<bulk_load> self) {
    std::vector<task<value>> all;
    for (const key& k : keys) {
      if (cache.is_to_load(k) && self->place_.try_emplace(k, self->keys_.size()).second) self->keys_.push_back(k);
      all.push_back(get_one(cache, k, self));
    }
    co_return co_await gather(std::move(all));
  }

 private:
  using values = std::shared_ptr<const std::vector<value>>;
  static task<value> get_one(Cache& cache, key k, std::shared_ptr<bulk_load> self) {
    auto load = [self](const key& x) { return load_one(self, x); };
    auto getting = cache.get(k, load);
    co_return co_await std::move(getting);
  }
  static task<value> load_one(std::shared_ptr<bulk_load> self, key k) {
    const auto at = self->place_.find(k);
    if (at == self->place_.end()) {  // it was there, and has gone meanwhile
      const values one = co_await load(self->loader_, std::vector<key>(1, k));
      co_return one->front();
    }
    auto load_all = [b = self.get()] { return load(b->loader_, b->keys_); };
    auto getting = self->values_.get(0, load_all);
    const values all = co_await std::move(getting);
    co_return (*all)[at->second];
  }
  static task<values> load(Loader& loader, std::vector<key> keys) {
    const std::size_t n = keys.size();
    auto loading = as_task(std::invoke(loader, std::move(keys)));
    auto all = std::make_shared<const std::vector<value>>(co_await std::move(loading));
    if (all->size() != n)
      throw std::logic_error("tandem::lru_cache::get_many: the loader gave " + std::to_string(all->size()) +
                             " values for " + std::to_string(n) + " keys");
    co_return all;
  }

  Loader loader_;
  std::vector<key> keys_;
  std::unordered_map<key, std::size_t, typename Cache::hasher, typename Cache::key_equal> place_;
  typename Cache::template with_value<values> values_{{.capacity = 1}};
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
