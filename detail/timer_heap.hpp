// tandem/detail/timer_heap.hpp: the timers of a loop, the earliest first: a 4-ary heap.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../clock.hpp"
#include "leaf.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/detail/timer_heap.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// Adding and removing cost O(log n). Each timer knows its place, so that any of them can leave.
class timer_heap {
 public:
  bool empty() const noexcept { return entries_.empty(); }
  /// Precondition of these: not empty.
  timer_leaf& first() const noexcept { return *entries_.front().timer; }
  clock::time_point first_due() const noexcept { return entries_.front().due; }

  /// Makes room for one more, so that adding it cannot fail.
  void reserve_one() {
    if (entries_.size() == entries_.capacity()) entries_.reserve(entries_.empty() ? 16 : 2 * entries_.size());
  }
  /// Timers of one instant come in the order of their `order`.
  void add(timer_leaf& t, clock::time_point due, std::uint64_t order) noexcept {
    entries_.emplace_back();
    sift_up(entries_.size() - 1, {due, order, &t});
  }
  bool is_first(const timer_leaf& t) const noexcept { return t.at_ == 0; }
  void remove(timer_leaf& t) noexcept {
    const std::size_t i = t.at_;
    t.at_ = timer_leaf::not_in_heap;
    const entry last = entries_.back();
    entries_.pop_back();
    if (i == entries_.size()) return;
    if (i > 0 && last.before(entries_[(i - 1) / 4]))
      sift_up(i, last);
    else
      sift_down(i, last);
  }

 private:
  struct entry {
    clock::time_point due;
    std::uint64_t order;
    timer_leaf* timer;
    bool before(const entry& o) const noexcept { return due != o.due ? due < o.due : order < o.order; }
  };

  void place(std::size_t i, entry e) noexcept {
    entries_[i] = e;
    e.timer->at_ = i;
  }
  void sift_up(std::size_t i, entry e) noexcept {
    for (std::size_t parent; i > 0 && e.before(entries_[parent = (i - 1) / 4]); i = parent) place(i, entries_[parent]);
    place(i, e);
  }
  void sift_down(std::size_t i, entry e) noexcept {
    for (;;) {
      const std::size_t first = i * 4 + 1;
      if (first >= entries_.size()) break;
      std::size_t best = first;
      for (std::size_t k = first + 1; k < first + 4 && k < entries_.size(); ++k)
        if (entries_[k].before(entries_[best])) best = k;
      if (!entries_[best].before(e)) break;
      place(i, entries_[best]);
      i = best;
    }
    place(i, e);
  }

  std::vector<entry> entries_;
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
