// tandem/detail/lru_table.hpp: entries by their key, and in the order in which they were used.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../clock.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace tandem::inline TANDEM_CONFIG::detail {

/// Hashes are often the keys themselves: this spreads them.
inline std::size_t spread(std::size_t h) noexcept {
  const std::uint64_t x = std::uint64_t(h) * 0x9e3779b97f4a7c15u;
  return static_cast<std::size_t>(x ^ (x >> 32));
}

/// Items by their hash, which each of them knows. Open addressing with linear probing, at most three quarters full;
/// what is erased leaves no mark (Knuth, The Art of Computer Programming, volume 3, 6.4, algorithm R).
template <class Item>
class hash_index {
 public:
  std::size_t size() const noexcept { return size_; }
  template <class IsIt>
  [[gnu::always_inline]] Item* find(std::size_t hash, IsIt is_it) const {
    for (std::size_t i = hash & mask_;; i = (i + 1) & mask_) {
      const place& p = places_[i];
      if (!p.item) return nullptr;
      if (p.hash == hash && is_it(*p.item)) return p.item;
    }
  }
  /// Room for one more, so that `insert` cannot fail.
  void reserve() {
    if ((size_ + 1) * 4 > (mask_ + 1) * 3) grow();
  }
  void insert(Item& x) noexcept {
    std::size_t i = x.hash & mask_;
    while (places_[i].item) i = (i + 1) & mask_;
    places_[i] = {x.hash, &x};
    ++size_;
  }
  void erase(Item& x) noexcept {
    std::size_t i = x.hash & mask_;
    while (places_[i].item != &x) i = (i + 1) & mask_;
    for (std::size_t j = i;;) {  // whoever was pushed on past the gap moves up into it
      j = (j + 1) & mask_;
      if (!places_[j].item) break;
      if (((j - places_[j].hash) & mask_) < ((j - i) & mask_)) continue;
      places_[i] = places_[j];
      i = j;
    }
    places_[i] = {};
    --size_;
  }

 private:
  struct place {
    std::size_t hash = 0;
    Item* item = nullptr;
  };
  [[gnu::noinline]] void grow() {
    const std::size_t old_size = mask_ + 1, new_size = owned_ ? 2 * old_size : 16;
    std::unique_ptr<place[]> old(new place[new_size]);
    old.swap(owned_);
    places_ = owned_.get();
    mask_ = new_size - 1;
    size_ = 0;
    for (std::size_t i = 0; old && i != old_size; ++i)
      if (old[i].item) insert(*old[i].item);
  }
  place none_;  // so that an empty index can be looked into
  std::unique_ptr<place[]> owned_;
  place* places_ = &none_;
  std::size_t mask_ = 0, size_ = 0;
};

struct lru_link {
  lru_link *before = nullptr, *after = nullptr;
};

/// In one line of the processor's cache where it fits.
template <class Key, class Value>
struct alignas(sizeof(Key) + sizeof(Value) <= 8 ? 64 : alignof(std::max_align_t)) lru_entry : lru_link {
  lru_entry(Key k, Value v, std::size_t h) : key(std::move(k)), value(std::move(v)), hash(h) {}
  clock::duration cost{};  // of loading it
  Key key;
  Value value;
  std::size_t hash;
  std::size_t weight = 1;
  clock::time_point gone_at = clock::time_point::max();
  clock::time_point used_at{};  // kept where it matters
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
