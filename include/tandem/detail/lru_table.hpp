// tandem/detail/lru_table.hpp: entries by their key, and in the order in which they were used; how they leave.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../clock.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/detail/lru_table.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// Why an entry left a cache.
enum class eviction {
  capacity,  ///< it was the least recently used, and another needed its place
  expired,   ///< its time was over
  erased,    ///< by `erase` or `clear`
  replaced   ///< by `put`, or by a later load
};

namespace detail {

/// Hashes are often the keys themselves: this spreads them, so that its high bits say a place (Knuth, The Art of
/// Computer Programming, volume 3, 6.4: Fibonacci hashing).
inline std::uint64_t spread(std::size_t h) noexcept { return std::uint64_t(h) * 0x9e3779b97f4a7c15u; }

/// Is the number a value of Key too?
template <class Key, class K>
bool fits(K number) noexcept {
  using limits = std::numeric_limits<Key>;
  if constexpr (std::is_floating_point_v<K> && std::is_integral_v<Key>)  // a cast from beyond the range is undefined
    if (!(number >= K(limits::min()) && number < K(limits::max() / 2 + 1) * 2)) return false;
  return static_cast<K>(static_cast<Key>(number)) == number && (number < K()) == (static_cast<Key>(number) < Key());
}
/// Refuses a number that does not fit.
template <class Key, class K>
Key key_from(const K& key) {
  if constexpr (std::is_integral_v<Key> && std::is_arithmetic_v<K>)
    if (!fits<Key>(key))
      throw std::invalid_argument("tandem: the key " + std::to_string(key) + " does not fit its type");
  return static_cast<Key>(key);
}
/// A key of another type as it is looked up: as it is if the hash takes it, otherwise converted.
template <class Key, class Hash, class K>
decltype(auto) key_to_find(const K& key) {
  if constexpr (std::is_same_v<K, Key> || requires { typename Hash::is_transparent; })
    return (key);
  else
    return key_from<Key>(key);
}

/// Items by their hash, which each of them knows. Open addressing with linear probing, at most three quarters full;
/// what is erased leaves no mark (Knuth, The Art of Computer Programming, volume 3, 6.4, algorithm R).
template <class Item>
class hash_index {
 public:
  std::size_t size() const noexcept { return size_; }
  template <class IsIt>
  [[gnu::always_inline]] Item* find(std::uint64_t hash, IsIt is_it) const {
    for (std::size_t i = place_of(hash);; i = (i + 1) & mask_) {
      const place& p = places_[i];
      if (!p.item) return nullptr;
      if (p.may_have(hash) && is_it(*p.item)) return p.item;
    }
  }
  /// Room for one more, so that `insert` cannot fail.
  void reserve() {
    if (!owned_ || (size_ + 1) * 4 > (mask_ + 1) * 3) grow();
  }
  void insert(Item& x) noexcept {
    std::size_t i = place_of(x.hash);
    while (places_[i].item) i = (i + 1) & mask_;
    places_[i] = place(x);
    ++size_;
  }
  void erase(Item& x) noexcept {
    std::size_t i = place_of(x.hash);
    while (places_[i].item != &x) i = (i + 1) & mask_;
    for (std::size_t j = i;;) {  // whoever was pushed on past the gap moves up into it
      j = (j + 1) & mask_;
      if (!places_[j].item) break;
      if (((j - place_of(places_[j].hash())) & mask_) < ((j - i) & mask_)) continue;
      places_[i] = places_[j];
      i = j;
    }
    places_[i] = {};
    --size_;
  }

 private:
  /// For keys that are compared as fast as hashes: half as much memory.
  struct place_for_scalar {
    place_for_scalar() = default;
    explicit place_for_scalar(Item& x) noexcept : item(&x) {}
    bool may_have(std::uint64_t) const noexcept { return true; }
    std::uint64_t hash() const noexcept { return item->hash; }
    Item* item = nullptr;
  };
  /// For others: a look-up need not look at items whose hash is another.
  struct place_with_hash {
    place_with_hash() = default;
    explicit place_with_hash(Item& x) noexcept : hash_(x.hash), item(&x) {}
    bool may_have(std::uint64_t h) const noexcept { return hash_ == h; }
    std::uint64_t hash() const noexcept { return hash_; }
    std::uint64_t hash_ = 0;
    Item* item = nullptr;
  };
  using place = std::conditional_t<std::is_scalar_v<decltype(Item::key)>, place_for_scalar, place_with_hash>;

  [[gnu::noinline]] void grow() {
    const std::size_t old_size = owned_ ? mask_ + 1 : 0, new_size = owned_ ? 2 * old_size : 16;
    std::unique_ptr<place[]> old(new place[new_size]);
    old.swap(owned_);
    places_ = owned_.get();
    mask_ = new_size - 1;
    shift_ = 64 - std::countr_zero(new_size);
    size_ = 0;
    for (std::size_t i = 0; i != old_size; ++i)
      if (old[i].item) insert(*old[i].item);
  }
  std::size_t place_of(std::uint64_t hash) const noexcept { return static_cast<std::size_t>(hash >> shift_); }
  place none_[2];  // so that an empty index can be looked into
  std::unique_ptr<place[]> owned_;
  place* places_ = none_;
  std::size_t mask_ = 1, size_ = 0;
  int shift_ = 63;
};

struct lru_link {
  lru_link *before = nullptr, *after = nullptr;
};

template <class Key, class Value>
struct lru_entry : lru_link {
  lru_entry(Key k, Value v, std::uint64_t h) : key(std::move(k)), value(std::move(v)), hash(h) {}
  clock::duration cost{};  // of loading it; at the front is what a hit reads
  Key key;
  Value value;
  std::uint64_t hash;
  std::size_t weight = 1;
  clock::time_point gone_at = clock::time_point::max();
  clock::time_point used_at{};  // kept where it matters
  clock::time_point end(clock::duration tti) const noexcept {
    const clock::time_point idle = saturated_sum(used_at, tti);
    return idle < gone_at ? idle : gone_at;
  }
};

/// Entries by their key and by their last use.
template <class Entry, class Equal>
class lru_table {
 public:
  lru_table() noexcept { order_.before = order_.after = &order_; }
  lru_table(const lru_table&) = delete;
  lru_table& operator=(const lru_table&) = delete;
  ~lru_table() {
    while (size() != 0) {
      const std::unique_ptr<Entry> e(&oldest());
      erase(*e);
    }
  }

  std::size_t size() const noexcept { return index_.size(); }
  std::size_t weight() const noexcept { return weight_; }
  template <class K>
  [[gnu::always_inline]] Entry* find(const K& key, std::uint64_t hash) const {
    return index_.find(hash, [&](const Entry& e) { return equal_(e.key, key); });
  }
  /// The one whose last use is longest ago. There must be one.
  Entry& oldest() noexcept { return static_cast<Entry&>(*order_.before); }
  /// The one that was used next after `e`, or null.
  Entry* newer(Entry& e) noexcept { return e.before == &order_ ? nullptr : static_cast<Entry*>(e.before); }
  [[gnu::always_inline]] void use(Entry& e) noexcept {
    unlink(e);
    link(e);
  }
  /// Room for one more, so that `insert` cannot fail.
  void reserve() { index_.reserve(); }
  void insert(Entry& e) noexcept {
    weight_ += e.weight;
    index_.insert(e);
    link(e);
  }
  void erase(Entry& e) noexcept {
    weight_ -= e.weight;
    index_.erase(e);
    unlink(e);
  }

 private:
  void link(Entry& e) noexcept {
    e.after = order_.after;
    order_.after->before = &e;  // between the two of e: see intrusive_list
    e.before = &order_;
    order_.after = &e;
  }
  static void unlink(Entry& e) noexcept {
    e.before->after = e.after;
    e.after->before = e.before;
  }
  hash_index<Entry> index_;
  lru_link order_;  // the newest after it, the oldest before it
  std::size_t weight_ = 0;
  [[no_unique_address]] Equal equal_;
};

/// The on_evict hooks that run on this thread, of caches: each has been called by the next. Not inlined: see clock.hpp.
struct running_hook {
  const void* cache;
  const running_hook* outer;
};
[[gnu::noinline]] inline const running_hook*& hooks_of_this_thread() noexcept {
  static constinit thread_local const running_hook* innermost = nullptr;
  return innermost;
}

/// Entries that have left a cache. They are destroyed with this, when the cache's mutex is no longer held, after the
/// hook has been told.
template <class Cache>
class lru_leavers {
 public:
  using entry = typename Cache::entry;
  explicit lru_leavers(Cache& c) noexcept : cache_(c) {}
  lru_leavers(const lru_leavers&) = delete;
  lru_leavers& operator=(const lru_leavers&) = delete;
  ~lru_leavers() {
    if (first_ || replaced_) [[unlikely]]
      see_off();
  }
  void add(entry& e, eviction why) noexcept {
    why_ = why;
    if (why == eviction::replaced)
      replaced_ = &e;
    else
      e.after = std::exchange(first_, &e);
  }

 private:
  [[gnu::noinline]] void see_off() noexcept {
    if (replaced_) tell(*replaced_, eviction::replaced);
    while (first_) tell(static_cast<entry&>(*std::exchange(first_, first_->after)), why_);
  }
  void tell(entry& x, eviction why) noexcept {
    const std::unique_ptr<entry> e(&x);
    if (!cache_.tells()) return;
    const running_hook hook{&cache_, hooks_of_this_thread()};
    hooks_of_this_thread() = &hook;
    cache_.tell(x, why);
    hooks_of_this_thread() = hook.outer;
  }
  Cache& cache_;
  entry* replaced_ = nullptr;  // at most one in a call
  lru_link* first_ = nullptr;  // of the others, which go for one reason
  eviction why_{};
};

}  // namespace detail
}  // namespace tandem::inline TANDEM_CONFIG
