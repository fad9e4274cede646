// tandem/lru_cache.hpp: values that were loaded once and are kept, the least recently used goes first: lru_cache.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, gather.hpp, outcome.hpp, progress.hpp, task.hpp, detail/cache_load.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/lru_table.hpp, detail/one_loop.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "exceptions.hpp"
#include "task.hpp"

#include "detail/cache_load.hpp"
#include "detail/gcc12.hpp"
#include "detail/lru_table.hpp"
#include "detail/random.hpp"
#include "detail/waiting.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>  // std::function, std::invoke, std::equal_to, std::hash
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/lru_cache.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

template <class Key, class Value>
struct lru_cache_options {
  std::size_t capacity = 0;                      ///< entries, or what their weights add up to; at least 1
  clock::duration ttl = clock::duration::max();  ///< time to live: an entry is gone so long after it came
  clock::duration tti = clock::duration::max();  ///< time to idle: so long after its last use
  /// Time to live of a value that is an empty `std::optional`: what is known not to be there. None: as any other.
  std::optional<clock::duration> absent_ttl = {};
  /// Takes a random part off each time to live, at most this fraction, so that what came together does not go together.
  double jitter = 0;
  /// What an entry counts for; 1 if there is none.
  std::function<std::size_t(const Key&, const Value&)> weight = {};
  /// The time to live of each entry, instead of `ttl`.
  std::function<clock::duration(const Key&, const Value&)> expiry = {};
  /// Is told of every entry that goes, while the cache is there. It must not throw, not destroy the cache, and not use
  /// it, which throws std::logic_error, but for `size`, `stats` and `expires_at`.
  std::function<void(const Key&, const Value&, eviction)> on_evict = {};
};

struct lru_cache_stats {
  std::size_t size = 0, weight = 0, capacity = 0;  ///< entries, what they weigh, and the most that may be
  std::size_t loading = 0;                         ///< loads under way
  std::uint64_t hits = 0, misses = 0;
  std::uint64_t joined = 0;  ///< misses that found a load of their key under way, and waited for it
  std::uint64_t loads = 0, load_failures = 0, load_cancellations = 0;
  std::uint64_t evicted = 0, expired = 0, erased = 0, replaced = 0;  ///< entries that went, by reason
  std::uint64_t too_heavy = 0;                                       ///< loaded values that alone outweigh the cache
  double hit_ratio = 0;                                              ///< of hits and misses; 0 before the first
  clock::duration time_saved{};                                      ///< for each hit, what loading its entry had taken
};

/// How keys are hashed unless the cache is told otherwise: std::hash; strings can be looked up by anything that
/// converts to std::string_view and that they can be compared with.
template <class Key>
struct lru_cache_hash : std::hash<Key> {};
template <class Key>
requires(std::convertible_to<const Key&, std::string_view> && !std::is_pointer_v<Key>)
struct lru_cache_hash<Key> {
  using is_transparent = void;
  std::size_t operator()(std::string_view key) const noexcept { return std::hash<std::string_view>()(key); }
};

namespace detail {
template <class Key, class Value, class Hash, class Equal, class Loops>
class cache_core;
}  // namespace detail

/// Keeps values that cost something to get: `user u = co_await users.get(id, load_user)` calls `load_user(id)` if there
/// is no value for `id`, and once only, however many ask for it meanwhile.
///
/// The load is a task tree of the cache's own, on the loop of who asked first, with nobody's time limit. Those who wait
/// for it are resumed in their turn, in the order in which they came, with a copy of the value each, or the load's
/// failure, which is not kept: the next `get` loads again. A stop of who waits ends his waiting; when nobody waits any
/// more the load is stopped, and whoever asks after that starts another. `put`, `erase` and `clear` during a load win:
/// those who wait get what was loaded, the cache keeps what it was told.
///
/// When there is no room the least recently used entries go (exact LRU). A time that is over is noticed when its key is
/// asked for; now is the moment when the loop's turn began. The cache's destructor stops its loads without waiting; who
/// waits gets `cancelled`, if his loop runs.
///
/// A hit neither suspends nor allocates, beside what copying the value does. O(1). For the coroutines of one loop;
/// `concurrent_lru_cache` is for several. Values are copied to whoever asks: make large ones a
/// `std::shared_ptr<const T>`.
template <class Key, class Value, class Hash, class Equal, class Loops>
class basic_lru_cache {
 public:
  using key_type = Key;
  using value_type = Value;

  /// Throws std::invalid_argument for a capacity of 0, a negative time and a jitter outside [0, 1].
  explicit basic_lru_cache(lru_cache_options<Key, Value> options) : core_(new core(std::move(options))) {}
  ~basic_lru_cache() { core_->disown(); }
  basic_lru_cache(const basic_lru_cache&) = delete;
  basic_lru_cache& operator=(const basic_lru_cache&) = delete;

  /// `co_await cache.get(key, loader)`: the value of `key`; if there is none, what `loader(key)`, or `loader()`, gives
  /// when it is awaited. The look-up is made by the call. Key and loader are kept until the load ends.
  ///
  /// Throws what the loader, or the copy of a value, throws; `cancelled` if the cache goes, or the load is stopped by
  /// others; std::logic_error if a load waits for itself. A value that outweighs the cache is given, and not kept.
  template <class K = Key, class Loader>
  auto get(K&& key, Loader&& loader);

  /// `co_await cache.get_many(keys, loader)`: the values of a range of keys, in their order, as a vector. What is
  /// neither there nor being loaded is loaded by one `loader(std::vector<Key>)`, which gives a range of the values in
  /// the same order. That is one load for many keys: each may be waited for by others, and it is stopped when nobody
  /// waits for any of them. Throws what `get` throws, and std::logic_error if the loader gives another number of
  /// values.
  template <class Keys, class Loader>
  task<std::vector<Value>> get_many(Keys&& keys, Loader&& loader);

  /// Loads the key again, although there may be a value, and waits for nothing: the old value stays until the new one
  /// comes, or to its end if none does. Does nothing if the key is being loaded. The loader is called by the call.
  /// Throws std::logic_error where no loop runs.
  template <class K = Key, class Loader>
  void refresh(K&& key, Loader&& loader);

  /// When the time of the entry of `key` is over, without counting as a use: the end of time if never, nothing if there
  /// is no entry.
  template <class K = Key>
  std::optional<clock::time_point> expires_at(const K& key) const {
    return core_->expires_at(detail::key_to_find<Key, Hash>(key));
  }

  /// The value of `key`: tests as a bool, and dereferences to it. A reference, valid until the next suspension or
  /// change of the cache; a `concurrent_lru_cache` gives a copy. Counts as a use.
  template <class K = Key>
  auto find(const K& key) {
    return core_->find(detail::key_to_find<Key, Hash>(key));
  }

  /// Keeps the value, in place of any that is there. Throws std::invalid_argument if it outweighs the cache.
  void put(Key key, Value value) { core_->put(std::move(key), std::move(value), std::nullopt); }
  /// The same with a time to live of its own. Throws std::invalid_argument for a negative one.
  void put(Key key, Value value, clock::duration ttl) { core_->put(std::move(key), std::move(value), ttl); }
  /// False if there was none.
  template <class K = Key>
  bool erase(const K& key) {
    return core_->erase(detail::key_to_find<Key, Hash>(key));
  }
  void clear() { core_->clear(); }

  /// Entries, those whose time is over included until they are noticed.
  std::size_t size() const { return core_->size(); }
  lru_cache_stats stats() const { return core_->stats(); }

 private:
  static_assert(std::is_copy_constructible_v<Value>,
                "a cache gives every caller a copy: make a value that cannot be copied a std::shared_ptr<const T>");
  using core = detail::cache_core<Key, Value, Hash, Equal, Loops>;
  core* core_;
};

template <class Key, class Value, class Hash = lru_cache_hash<Key>, class Equal = std::equal_to<>>
using lru_cache = basic_lru_cache<Key, Value, Hash, Equal, detail::on_one_loop>;
/// The same for coroutines of any loops, on any threads: one load for each key, whoever asks.
template <class Key, class Value, class Hash = lru_cache_hash<Key>, class Equal = std::equal_to<>>
using concurrent_lru_cache = basic_lru_cache<Key, Value, Hash, Equal, detail::on_any_loop>;

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

template <class V>
constexpr bool may_be_absent = false;
template <class V>
constexpr bool may_be_absent<std::optional<V>> = true;

/// It lives as long as the cache, or a load of it.
template <class Key, class Value, class Hash, class Equal, class Loops>
class cache_core {
 public:
  using key_type = Key;
  using value_type = Value;
  using loops = Loops;
  using entry = lru_entry<Key, Value>;
  using flight = cache_flight<Key, Value, Loops>;
  using mutex_type = typename Loops::mutex;
  using leavers = lru_leavers<cache_core>;

  explicit cache_core(lru_cache_options<Key, Value> o)
      : options_(std::move(o)),
        has_times_(options_.ttl != never || options_.tti != never || options_.absent_ttl || options_.expiry) {
    if (options_.capacity == 0)
      throw std::invalid_argument("tandem::lru_cache: the capacity is 0; it must be at least 1");
    refuse_negative(options_.ttl, "tandem::lru_cache: ttl");
    refuse_negative(options_.tti, "tandem::lru_cache: tti");
    if (options_.absent_ttl) refuse_negative(*options_.absent_ttl, "tandem::lru_cache: absent_ttl");
    if (!(options_.jitter >= 0 && options_.jitter <= 1))
      throw std::invalid_argument("tandem::lru_cache: the jitter is " + std::to_string(options_.jitter) +
                                  "; it must be from 0 to 1");
  }
  cache_core(const cache_core&) = delete;
  cache_core& operator=(const cache_core&) = delete;

  mutex_type& mutex() noexcept { return mutex_; }
  void check_user(const frame& f) { user_.check(f, "lru_cache", "use a concurrent_lru_cache"); }
  /// Throws in the cache's own hook.
  [[gnu::always_inline]] void check_no_hook() const {
    if (options_.on_evict) check_no_hook_runs();
  }
  template <class K>
  std::uint64_t hash_of(const K& key) const {
    return spread(static_cast<std::size_t>(hash_(key)));
  }

  /// For those who leave, without the mutex: it runs already while the cache goes, or not at all.
  bool tells() {
    if (!options_.on_evict) return false;
    const std::scoped_lock lock(mutex_);
    return !is_ownerless_;
  }
  void tell(const entry& e, eviction why) { options_.on_evict(e.key, e.value, why); }

  // --- Entries. The mutex is held. ---

  /// Null if there is none, or its time is over: then it leaves.
  template <class K>
  entry* look_up(const K& key, std::uint64_t hash, leavers& out) {
    entry* e = entries_.find(key, hash);
    if (!e || is_there(*e)) return e;
    remove(*e, eviction::expired, out);
    return nullptr;
  }
  void touch(entry& e) noexcept {
    if (is_timed_) is_used(e);
    entries_.use(e);
  }
  void hit(entry& e) noexcept {
    touch(e);
    ++stats_.hits;
    stats_.time_saved = saturated_sum(stats_.time_saved, e.cost);
  }
  void miss() noexcept { ++stats_.misses; }
  /// A new one, in place of any that is there, or is being loaded. It is not too heavy.
  void store(std::unique_ptr<entry>& e, leavers& out) {
    entries_.reserve();
    flight* f = flights_.find(e->key, e->hash);
    entry* old = entries_.find(e->key, e->hash);
    if (f) flights_.forget(*f);
    if (old) remove(*old, eviction::replaced, out);
    while (entries_.weight() > options_.capacity - e->weight) remove(entries_.oldest(), eviction::capacity, out);
    entries_.insert(*e.release());
  }
  void remove(entry& e, eviction why, leavers& out) noexcept {
    ++(why == eviction::capacity  ? stats_.evicted
       : why == eviction::expired ? stats_.expired
       : why == eviction::erased  ? stats_.erased
                                  : stats_.replaced);
    entries_.erase(e);
    out.add(e, why);
  }

  // --- For the face. The mutex is not held. ---

  template <class K>
  std::optional<clock::time_point> expires_at(const K& key) {
    const std::uint64_t hash = hash_of(key);
    const std::scoped_lock lock(mutex_);
    const entry* e = entries_.find(key, hash);
    return e ? std::optional(e->end(options_.tti)) : std::nullopt;
  }
  template <class K>
  auto find(const K& key) {
    check_no_hook();
    const std::uint64_t hash = hash_of(key);
    std::conditional_t<Loops::is_concurrent, std::optional<Value>, const Value*> found{};
    take_hit(key, hash, [&](const entry& e) {
      if constexpr (Loops::is_concurrent)
        found.emplace(e.value);
      else
        found = &e.value;
    });
    return found;
  }
  /// Calls `take` with the entry, and the mutex held; false if there is none, or its time is over: then it leaves.
  template <class K, class Take>
  [[gnu::always_inline]] bool take_hit(const K& key, std::uint64_t hash, Take take) {
    {
      const std::scoped_lock lock(mutex_);
      entry* e = entries_.find(key, hash);
      if (e && is_there(*e)) {
        take(*e);
        hit(*e);
        return true;
      }
      miss();
      if (!e) return false;
    }
    drop_if_over(key, hash);
    return false;
  }

  /// Calls the user's functions.
  std::unique_ptr<entry> make_entry(Key key, Value value, std::optional<clock::duration> ttl) {
    const std::uint64_t hash = hash_of(key);
    auto e = std::make_unique<entry>(std::move(key), std::move(value), hash);
    if (options_.weight) e->weight = options_.weight(e->key, e->value);
    if (!has_times_ && !ttl) return e;
    const clock::duration d = std::max(ttl ? *ttl : time_to_live(*e), clock::duration::zero());
    e->used_at = clock::now();
    const std::scoped_lock lock(mutex_);
    e->gone_at = d == clock::duration::zero() ? turn_time()  // over in this turn already
                                              : saturated_sum(e->used_at, random_.shortened(d, options_.jitter));
    return e;
  }
  void put(Key key, Value value, std::optional<clock::duration> ttl) {
    check_no_hook();
    if (ttl) refuse_negative(*ttl, "tandem::lru_cache::put: ttl");
    auto e = make_entry(std::move(key), std::move(value), ttl);
    if (e->weight > options_.capacity)
      throw std::invalid_argument("tandem::lru_cache: an entry that weighs " + std::to_string(e->weight) +
                                  " is put into a cache whose capacity is " + std::to_string(options_.capacity));
    leavers out(*this);
    const std::scoped_lock lock(mutex_);
    store(e, out);
    is_timed_ = is_timed_ || ttl;
  }
  template <class K>
  bool erase(const K& key) {
    check_no_hook();
    const std::uint64_t hash = hash_of(key);
    leavers out(*this);
    const std::scoped_lock lock(mutex_);
    flight* f = flights_.find(key, hash);
    entry* e = entries_.find(key, hash);
    if (f) flights_.forget(*f);
    if (e) remove(*e, eviction::erased, out);
    return e != nullptr;
  }
  void clear() {
    check_no_hook();
    leavers out(*this);
    const std::scoped_lock lock(mutex_);
    flights_.forget_all();
    while (entries_.size() != 0) remove(entries_.oldest(), eviction::erased, out);
  }
  /// The cache is gone.
  void disown() noexcept {
    const std::exception_ptr gone = make_cancelled();  // the same for all, so that who waits for many has one failure
    bool over = false;
    {
      leavers out(*this);
      const std::scoped_lock lock(mutex_);
      is_ownerless_ = true;
      ++users_;  // this, until the hook has been told
      while (flight* f = flights_.any()) {
        give_up(*f);
        f->value.set_error(gone);
        land(*f);
      }
      while (entries_.size() != 0) remove(entries_.oldest(), eviction::erased, out);
    }
    {
      const std::scoped_lock lock(mutex_);
      over = --users_ == 0;
    }
    if (over) delete this;
  }
  std::size_t size() {
    const std::scoped_lock lock(mutex_);
    return entries_.size();
  }
  lru_cache_stats stats() {
    const std::scoped_lock lock(mutex_);
    lru_cache_stats s = stats_;
    s.size = entries_.size();
    s.weight = entries_.weight();
    s.capacity = options_.capacity;
    s.loading = loading_;
    if (s.hits + s.misses != 0) s.hit_ratio = double(s.hits) / double(s.hits + s.misses);
    return s;
  }

  // --- Loads ---

  auto& flights() noexcept { return flights_; }
  /// With the mutex held.
  void takes_off(flight& f) noexcept {
    flights_.add(f);
    ++users_;
    ++loading_;
    ++stats_.loads;
  }
  void joined() noexcept { ++stats_.joined; }
  /// With the mutex held: nobody wants it.
  void give_up(flight& f) noexcept {
    if (f.is_known) flights_.forget(f);
    if (std::exchange(f.is_given_up, true)) return;
    ++stats_.load_cancellations;
    if (--f.load->wanted == 0) f.load->stop_soon();
  }
  /// The load has ended, and its frames are gone.
  void landed(flight& f, result<Value>& r, clock::duration cost) noexcept {
    std::unique_ptr<entry> e;
    if (is_kept(f) && r.has_value()) try {  // of what is not kept the user is asked nothing
        e = make_entry(f.key, r.get_value(), std::nullopt);
        e->cost = cost;
      } catch (...) {  // it is not kept, then
      }
    leavers out(*this);
    const std::scoped_lock lock(mutex_);
    --loading_;
    if (f.is_over) return;  // the cache has gone
    if (f.is_known) {
      flights_.forget(f);
      if (e) try {
          if (e->weight <= options_.capacity)
            store(e, out);
          else if (++stats_.too_heavy; entry* old = entries_.find(e->key, e->hash))
            remove(*old, eviction::replaced, out);  // which is outdated
        } catch (...) {
        }
    }
    if (!r.has_value() && !f.is_given_up) ++stats_.load_failures;
    f.value.take_from(r);
    land(f);
  }
  void let_go(flight* f) noexcept {
    std::unique_lock lock(mutex_);
    if (--f->users != 0) return;
    lock.unlock();
    delete f;
    lock.lock();
    const bool over = --users_ == 0 && is_ownerless_;
    lock.unlock();
    if (over) delete this;
  }

 private:
  [[gnu::cold, gnu::noinline]] void check_no_hook_runs() const {
    for (const running_hook* h = hooks_of_this_thread(); h; h = h->outer)
      if (h->cache == this) throw std::logic_error("tandem::lru_cache: an on_evict hook uses its own cache");
  }
  template <class K>
  [[gnu::noinline]] void drop_if_over(const K& key, std::uint64_t hash) {
    leavers out(*this);
    const std::scoped_lock lock(mutex_);
    look_up(key, hash, out);
  }
  [[gnu::always_inline]] bool is_there(const entry& e) const { return !is_timed_ || turn_time() < e.end(options_.tti); }
  /// The turn may have begun before the entry came.
  static void is_used(entry& e) noexcept { e.used_at = std::max(e.used_at, turn_time()); }
  bool is_kept(const flight& f) {
    const std::scoped_lock lock(mutex_);
    return f.is_known;
  }
  static constexpr clock::duration never = clock::duration::max();
  clock::duration time_to_live(const entry& e) const {
    if (options_.expiry) return options_.expiry(e.key, e.value);
    if constexpr (may_be_absent<Value>)
      if (options_.absent_ttl && !e.value) return *options_.absent_ttl;
    return options_.ttl;
  }
  void land(flight& f) noexcept {
    f.is_over = true;
    f.unlink();
    while (!f.waiters.empty()) {
      auto& w = static_cast<flight_waiter<cache_core>&>(f.waiters.front());
      w.edge().unlink();
      if (is_ownerless_)
        f.waiters.wake_if_running(w);
      else
        f.waiters.wake(w);
    }
  }

  lru_cache_options<Key, Value> options_;
  const bool has_times_;
  bool is_timed_ = has_times_;  // or some entry has
  [[no_unique_address]] Hash hash_;
  lru_table<entry, Equal> entries_;
  cache_flights<flight, Equal> flights_;
  std::size_t loading_ = 0, users_ = 0;
  bool is_ownerless_ = false;
  random_source random_;
  lru_cache_stats stats_;
  [[no_unique_address]] typename Loops::user user_;
  [[no_unique_address]] mutex_type mutex_;
};

}  // namespace detail

template <class Key, class Value, class Hash, class Equal, class Loops>
template <class K, class Loader>
auto basic_lru_cache<Key, Value, Hash, Equal, Loops>::get(K&& key, Loader&& loader) {
  detail::refuse_what_gcc12_miscompiles<K, Loader>();
  using function = std::decay_t<Loader>;
  static_assert(alignof(Value) <= 2 * sizeof(void*), "a coroutine frame cannot hold an over-aligned value: use find");
  static_assert(detail::gives_awaitable<function&, const Key&>() || detail::gives_awaitable<function&>(),
                "a loader is a callable that takes the key, or nothing, and returns an awaitable, such as a task");
  using request = detail::cache_request<core, function>;
  return detail::asks_first<request, detail::cache_waiter<core, function>>(
      std::in_place, *core_, detail::key_to_find<Key, Hash>(key), std::forward<Loader>(loader));
}

template <class Key, class Value, class Hash, class Equal, class Loops>
template <class Keys, class Loader>
task<std::vector<Value>> basic_lru_cache<Key, Value, Hash, Equal, Loops>::get_many(Keys&& keys, Loader&& loader) {
  detail::refuse_what_gcc12_miscompiles<Keys, Loader>();
  core_->check_no_hook();
  std::vector<Key> all;
  for (auto&& key : keys) all.push_back(detail::key_from<Key>(key));
  return detail::load_many<core, std::decay_t<Loader>>(*core_, std::move(all), std::forward<Loader>(loader));
}

template <class Key, class Value, class Hash, class Equal, class Loops>
template <class K, class Loader>
void basic_lru_cache<Key, Value, Hash, Equal, Loops>::refresh(K&& key, Loader&& loader) {
  detail::load_again<core, std::decay_t<Loader>>(*core_, detail::key_from<Key>(key), std::forward<Loader>(loader));
}

}  // namespace tandem::inline TANDEM_CONFIG
