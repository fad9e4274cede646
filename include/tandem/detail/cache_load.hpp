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
#include "lru_table.hpp"
#include "result.hpp"
#include "waiting.hpp"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>  // std::invoke
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/detail/cache_load.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// Whose tree a load is: what waits for what, so that a load that waits for itself is seen.
class any_load : public root {
 public:
  virtual ~any_load() = default;
  /// Nobody wants it. From any thread, while it has not landed.
  virtual void stop_soon() noexcept = 0;
  struct wait : list_node {
    any_load* target = nullptr;
  };
  const void* owner() const noexcept { return owner_; }
  /// Would a wait of this tree for `other` close a circle? With the owner's mutex held, like what follows.
  bool is_awaited_by(const any_load& other) const {
    std::vector<const any_load*> line{&other};
    std::unordered_set<const any_load*> seen;
    while (!line.empty()) {
      const any_load* l = line.back();
      line.pop_back();
      if (l == this) return true;
      if (l->waits_.empty() || !seen.insert(l).second) continue;
      for (const wait* w = &l->waits_.front(); w; w = l->waits_.next(*w)) line.push_back(w->target);
    }
    return false;
  }
  void begins(wait& w) noexcept { waits_.push_back(w); }
  std::size_t wanted = 0;  // of the keys that it loads

 protected:
  any_load(detail::loop& l, const void* owner) noexcept : root(l), owner_(owner) {}

 private:
  const void* owner_;
  intrusive_list<wait> waits_;  // of coroutines of this tree, for other loads of the same cache
};

/// The load of one key, seen by those who want it.
template <class Key, class Value, class Loops>
struct cache_flight : list_node {
  cache_flight(Key k, std::uint64_t h) : hash(h), key(std::move(k)) {}
  std::uint64_t hash;
  Key key;
  typename Loops::line waiters;
  result<Value> value;
  any_load* load = nullptr;
  bool is_known = false;  // to those who come; otherwise it is being stopped, or what it loads is outdated
  bool is_given_up = false, is_over = false;
  std::size_t claims = 0;  // who wants it
  std::size_t users = 0;   // the load, and those
};

/// The flights of a cache.
template <class Flight, class Equal>
class cache_flights {
 public:
  /// One that can be joined.
  template <class K>
  Flight* find(const K& key, std::uint64_t hash) const {
    return known_.find(hash, [&](const Flight& f) { return equal_(f.key, key); });
  }
  /// Room for one more, so that `add` cannot fail.
  void reserve() { known_.reserve(); }
  void add(Flight& f) noexcept {
    known_.insert(f);
    all_.push_back(f);
    f.is_known = true;
    ++f.users;
  }
  /// Nobody joins it any more, and what it brings is not kept.
  void forget(Flight& f) noexcept {
    known_.erase(f);
    f.is_known = false;
  }
  void forget_all() noexcept {
    for (Flight* f = any(); f; f = all_.next(*f))
      if (f->is_known) forget(*f);
  }
  /// Of those that are not over, forgotten ones too.
  Flight* any() const noexcept { return all_.empty() ? nullptr : &all_.front(); }

 private:
  hash_index<Flight> known_;
  intrusive_list<Flight> all_;
  [[no_unique_address]] Equal equal_;
};

/// A share in a flight: as long as there is one, it is wanted.
template <class Core>
class cache_claim {
 public:
  cache_claim() noexcept = default;
  /// With the mutex held.
  cache_claim(Core& c, typename Core::flight& f) noexcept : core_(&c), flight_(&f) {
    ++f.claims;
    ++f.users;
  }
  cache_claim(cache_claim&& o) noexcept
      : core_(o.core_), flight_(std::exchange(o.flight_, nullptr)), is_wanted_(o.is_wanted_) {}
  cache_claim& operator=(cache_claim&& o) noexcept {
    std::swap(core_, o.core_);
    std::swap(flight_, o.flight_);
    std::swap(is_wanted_, o.is_wanted_);
    return *this;
  }
  ~cache_claim() {
    if (!flight_) return;
    {
      const std::scoped_lock lock(core_->mutex());
      drop();
    }
    core_->let_go(flight_);
  }
  /// With the mutex held: it is not wanted any more.
  void drop() noexcept {
    if (std::exchange(is_wanted_, false) && --flight_->claims == 0 && !flight_->is_over) core_->give_up(*flight_);
  }
  explicit operator bool() const noexcept { return flight_ != nullptr; }
  typename Core::flight& operator*() const noexcept { return *flight_; }
  typename Core::flight* operator->() const noexcept { return flight_; }
  Core& core() const noexcept { return *core_; }

 private:
  Core* core_ = nullptr;
  typename Core::flight* flight_ = nullptr;
  bool is_wanted_ = true;
};

/// A load and its end. It deletes itself.
template <class Core>
class load_tree : public any_load {
 public:
  using value = typename Core::value_type;
  using flight = typename Core::flight;
  load_tree(Core& c, detail::loop& l) noexcept : any_load(l, &c), core_(c), stopper_(*this) {}

  /// Once its flights have taken off. The loader is called without the mutex: it may use the cache.
  void begin() noexcept {
    began_ = clock::now();
    frame* body = nullptr;
    try {
      body = &call_loader();
    } catch (...) {
      land_all(std::current_exception());
      return is_over();
    }
    this->start(*body);
  }
  void stop_soon() noexcept override { stopper_.push(); }

 protected:
  /// Gives the frame of the task that it returned.
  virtual frame& call_loader() = 0;
  virtual void land_all(std::exception_ptr failure) noexcept = 0;
  void land(flight& f, result<value>& r) noexcept {
    core_.landed(f, r, clock::now() - began_);
    core_.let_go(&f);
  }
  /// As the last thing.
  void is_over() noexcept {
    has_ended_ = true;
    if (!stopper_.is_on_its_way()) delete this;
  }

 private:
  /// Takes the stop to the load's loop.
  class stopper final : public arrival {
   public:
    explicit stopper(load_tree& l) noexcept : load_(l) {}
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
    load_tree& load_;
    bool is_on_its_way_ = false;
  };

  Core& core_;
  clock::time_point began_{};
  bool has_ended_ = false;
  stopper stopper_;
};

/// The load of one key.
template <class Core, class Loader>
class cache_load final : public load_tree<Core> {
 public:
  using base = load_tree<Core>;
  using typename base::flight, typename base::value;
  using key_type = typename Core::key_type;
  cache_load(Core& c, detail::loop& l, flight& f, Loader loader) : base(c, l), flight_(f), loader_(std::move(loader)) {
    f.load = this;
    this->wanted = 1;
  }

 private:
  static auto call(Loader& f, const key_type& key) {
    if constexpr (std::is_invocable_v<Loader&, const key_type&>)
      return as_task(std::invoke(f, key));
    else
      return as_task(std::invoke(f));
  }
  using given = typename decltype(call(std::declval<Loader&>(), std::declval<const key_type&>()))::value_type;

  frame& call_loader() override {
    auto t = call(loader_, std::as_const(flight_.key));
    if (!t) throw_empty_task();
    return *t.release();
  }
  void land_all(std::exception_ptr failure) noexcept override {
    result<value> r;
    r.set_error(std::move(failure));
    this->land(flight_, r);
  }
  void ended(frame& body, fate how) noexcept override {
    result<value> r;
    if (how == fate::done) {
      auto& gave = static_cast<promise<given>&>(body).result;
      if constexpr (std::is_same_v<given, value>)
        r.take_from(gave);
      else if (gave.has_error())
        r.set_error(gave.get_error());
      else
        try {
          r.set_value(static_cast<value>(gave.take()));
        } catch (...) {
          r.set_error(std::current_exception());
        }
    }
    body.destroy();
    this->join_failures_of_strays(r);
    if (r.empty()) r.set_error(make_cancelled());
    this->land(flight_, r);
    this->is_over();
  }

  flight& flight_;
  Loader loader_;
};

/// One load for many keys.
template <class Core, class Loader>
class bulk_load final : public load_tree<Core> {
 public:
  using base = load_tree<Core>;
  using typename base::flight, typename base::value;
  using keys = std::vector<typename Core::key_type>;
  /// For at most n keys.
  bulk_load(Core& c, detail::loop& l, Loader loader, std::size_t n) : base(c, l), loader_(std::move(loader)) {
    keys_.reserve(n);
    flights_.reserve(n);
  }
  bool empty() const noexcept { return flights_.empty(); }
  /// It has to take off. With the mutex held.
  flight& add(const typename Core::key_type& k, std::uint64_t hash) {
    keys_.push_back(k);
    flights_.push_back(new flight(k, hash));
    flights_.back()->load = this;
    ++this->wanted;
    return *flights_.back();
  }
  void land_all(std::exception_ptr failure) noexcept override {
    for (flight* f : std::exchange(flights_, {})) {
      result<value> r;
      r.set_error(failure);
      this->land(*f, r);
    }
  }

 private:
  frame& call_loader() override {
    auto t = as_task(std::invoke(loader_, std::move(keys_)));
    if (!t) throw_empty_task();
    return *t.release();
  }
  using given = typename decltype(as_task(std::invoke(std::declval<Loader&>(), std::declval<keys>())))::value_type;

  void ended(frame& body, fate how) noexcept override {
    result<given> r;
    if (how == fate::done) r.take_from(static_cast<promise<given>&>(body).result);
    body.destroy();
    this->join_failures_of_strays(r);
    if (r.empty()) r.set_error(make_cancelled());
    if (r.has_error())
      land_all(r.get_error());
    else if (const std::size_t n = std::size(r.get_value()); n != flights_.size())
      land_all(wrong_number(n));
    else
      land_each(r.get_value());
    this->is_over();
  }
  void land_each(given& all) noexcept {
    auto next = std::begin(all);
    for (flight* f : std::exchange(flights_, {})) {
      result<value> r;
      try {
        r.set_value(static_cast<value>(std::move(*next++)));
      } catch (...) {
        r.set_error(std::current_exception());
      }
      this->land(*f, r);
    }
  }
  std::exception_ptr wrong_number(std::size_t n) const noexcept try {
    throw std::logic_error("tandem::lru_cache::get_many: the loader gave " + std::to_string(n) + " values for " +
                           std::to_string(flights_.size()) + " keys");
  } catch (...) {
    return std::current_exception();
  }

  Loader loader_;
  keys keys_;
  std::vector<flight*> flights_;
};

/// Somebody who waits for a flight.
template <class Core>
class flight_waiter : public Core::loops::waiter {
 public:
  using value = typename Core::value_type;
  explicit flight_waiter(cache_claim<Core> c) noexcept : claim_(std::move(c)) {}
  flight_waiter(flight_waiter&& o) noexcept : claim_(std::move(o.claim_)) {}
  flight_waiter& operator=(flight_waiter&&) = delete;

  const char* what() const noexcept override { return "lru_cache::get"; }
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    Core& c = claim_.core();
    c.check_user(f);
    const std::scoped_lock lock(c.mutex());
    if (claim_->is_over) return false;
    auto* around = dynamic_cast<any_load*>(f.scope->root);
    any_load* own = around && around->owner() == &c ? around : nullptr;
    if (own && own->is_awaited_by(*claim_->load))
      throw std::logic_error(
          "tandem::lru_cache: a load waits for itself: its loader gets the key that it loads, or one whose load waits "
          "for that");
    if (!this->wait_in(claim_->waiters, c.mutex(), f)) return true;
    edge_.target = claim_->load;
    if (own) own->begins(edge_);
    return true;
  }
  value await_resume() {
    this->consume();
    const result<value>& r = claim_->value;
    if (r.has_error()) std::rethrow_exception(r.get_error());
    return r.get_value();
  }
  /// For race: what `await_resume` would throw.
  std::exception_ptr failure() const noexcept { return claim_ ? claim_->value.get_error() : nullptr; }
  any_load::wait& edge() noexcept { return edge_; }

 protected:
  flight_waiter() noexcept = default;
  cache_claim<Core> claim_;

 private:
  void leave_line() noexcept override {
    claim_->waiters.remove(*this);
    edge_.unlink();
    claim_.drop();
  }
  any_load::wait edge_;
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
    const std::uint64_t hash = c.hash_of(k);
    if (!c.take_hit(k, hash, [this](const auto& e) { value_.emplace(e.value); }))
      to_load_.emplace(key_type(k), std::forward<L>(loader), hash);
  }
  cache_request(cache_request&& o)
      : core_(std::exchange(o.core_, nullptr)), value_(std::move(o.value_)), to_load_(std::move(o.to_load_)) {}
  bool try_now() const {
    if (!core_) throw std::logic_error("tandem::lru_cache: awaiting a get that was moved from, or awaited before");
    return value_.has_value();
  }
  value take() { return std::move(*value_); }

 protected:
  struct wish {
    template <class L>
    wish(key_type k, L&& l, std::uint64_t h) : key(std::move(k)), loader(std::forward<L>(l)), hash(h) {}
    key_type key;
    Loader loader;
    std::uint64_t hash;
  };
  Core* core_;
  std::optional<value> value_;
  std::optional<wish> to_load_;
};

template <class Core, class Loader>
class cache_waiter final : public flight_waiter<Core>, cache_request<Core, Loader> {
 public:
  using request = cache_request<Core, Loader>;
  using typename request::value;
  explicit cache_waiter(request r) : request(std::move(r)) {}
  cache_waiter(cache_waiter&& o) : request(std::move(static_cast<request&>(o))) {}

  bool await_ready() const { return this->try_now(); }
  /// It waits as the last thing: what the loader and the hook do before may decide a race, or stop it.
  bool suspend(frame& f) {
    Core& c = *this->core_;
    c.check_user(f);
    if (f.scope->state != scope::running) return this->park_to_be_stopped(f), true;
    auto& wanted = *this->to_load_;
    std::unique_ptr<typename Core::flight> made;
    const auto look_again = [&] {
      typename Core::leavers out(c);
      const std::scoped_lock lock(c.mutex());
      if (auto* e = c.look_up(wanted.key, wanted.hash, out)) {
        this->value_.emplace(e->value);
        c.touch(*e);
      } else if (auto* x = c.flights().find(wanted.key, wanted.hash)) {
        this->claim_ = cache_claim<Core>(c, *x);
        c.joined();
      } else if (made) {
        c.flights().reserve();
        this->claim_ = cache_claim<Core>(c, *made);
        c.takes_off(*made.release());
      }
    };
    look_again();
    if (!this->value_ && !this->claim_) {
      made = std::make_unique<typename Core::flight>(wanted.key, wanted.hash);
      auto load = std::make_unique<cache_load<Core, Loader>>(c, *f.scope->loop, *made, std::move(wanted.loader));
      look_again();
      if (!made) load.release()->begin();
    }
    return this->claim_ && flight_waiter<Core>::suspend(f);
  }
  value await_resume() {
    if (this->claim_) return flight_waiter<Core>::await_resume();
    this->consume();
    return this->take();
  }
};

/// A get of many keys, looked up all at once.
template <class Core, class Loader>
std::vector<cache_claim<Core>> look_up_many(Core& c, const std::vector<typename Core::key_type>& keys, Loader loader,
                                            std::vector<std::optional<typename Core::value_type>>& found) {
  std::vector<cache_claim<Core>> claims;
  claims.reserve(keys.size());
  std::vector<std::uint64_t> hashes;
  for (const auto& k : keys) hashes.push_back(c.hash_of(k));
  auto load = std::make_unique<bulk_load<Core, Loader>>(c, *loop::current(), std::move(loader), keys.size());
  try {
    typename Core::leavers out(c);
    const std::scoped_lock lock(c.mutex());
    for (std::size_t i = 0; i != keys.size(); ++i) {
      if (auto* e = c.look_up(keys[i], hashes[i], out)) {
        found[i].emplace(e->value);
        c.hit(*e);
        continue;
      }
      if (auto* x = c.flights().find(keys[i], hashes[i])) {
        claims.emplace_back(c, *x);
        c.joined();
      } else {
        c.flights().reserve();
        claims.emplace_back(c, load->add(keys[i], hashes[i]));
        c.takes_off(*claims.back());
      }
      c.miss();
    }
  } catch (...) {
    load->land_all(std::current_exception());
    throw;
  }
  if (!load->empty()) load.release()->begin();
  return claims;
}

template <class Core>
task<typename Core::value_type> wait_with(cache_claim<Core> c) {
  flight_waiter<Core> flight(std::move(c));
  co_return co_await std::move(flight);
}

template <class Core, class Loader>
task<std::vector<typename Core::value_type>> load_many(Core& c, std::vector<typename Core::key_type> keys,
                                                       Loader loader) {
  using value = typename Core::value_type;
  std::vector<std::optional<value>> found(keys.size());
  std::vector<task<value>> waits;
  for (cache_claim<Core>& claim : look_up_many(c, keys, std::move(loader), found))
    waits.push_back(wait_with(std::move(claim)));
  auto loaded = co_await gather(std::move(waits));
  auto next = loaded.begin();
  std::vector<value> all;
  all.reserve(found.size());
  for (std::optional<value>& v : found) all.push_back(v ? std::move(*v) : std::move(*next++));
  co_return all;
}

/// A load that nobody waits for, unless there is one of the key.
template <class Core, class Loader>
void load_again(Core& c, typename Core::key_type key, Loader loader) {
  c.check_no_hook();
  loop* here = loop::current();
  if (!here) throw std::logic_error("tandem::lru_cache::refresh: called where no loop runs");
  auto made = std::make_unique<typename Core::flight>(std::move(key), 0);
  made->hash = c.hash_of(made->key);
  auto load = std::make_unique<cache_load<Core, Loader>>(c, *here, *made, std::move(loader));
  {
    const std::scoped_lock lock(c.mutex());
    if (auto* x = c.flights().find(made->key, made->hash)) {
      ++x->claims;  // of the cache itself
      return;
    }
    c.flights().reserve();
    ++made->claims;
    c.takes_off(*made.release());
  }
  load.release()->begin();
}

}  // namespace tandem::inline TANDEM_CONFIG::detail
