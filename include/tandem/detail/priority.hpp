// tandem/detail/priority.hpp: what has a priority, and lends it to what it waits for.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "frame.hpp"
#include "intrusive_list.hpp"
#include "loop.hpp"

#include <memory>
#include <new>
#include <utility>

namespace tandem::inline TANDEM_CONFIG::detail {

class loan;

/// A job whose place depends on its priority: the smaller number comes first. While others wait for it, theirs counts
/// if it is smaller (priority inheritance: Sha, Rajkumar, Lehoczky, "Priority inheritance protocols", 1990).
class prioritized {
 public:
  prioritized(const prioritized&) = delete;
  prioritized& operator=(const prioritized&) = delete;

  /// Its own, or a smaller one that it was lent.
  int priority() const noexcept { return priority_; }
  /// From a checkpoint that waits, of one of its coroutines: true if it goes on waiting, until it is woken.
  virtual bool gives_way(leaf& checkpoint) noexcept = 0;
  /// A checkpoint for which that was true has been stopped.
  virtual void checkpoint_left() noexcept = 0;

 protected:
  prioritized() = default;
  ~prioritized() = default;
  /// Before anybody waits for it.
  void begin_with(int p) noexcept { own_ = priority_ = p; }
  void set_own_priority(int p) noexcept {
    own_ = p;
    settle(*this);
  }
  /// Is to have the priority `p`: false if there is no memory for that, and it keeps what it has.
  virtual bool take_priority(int p) noexcept = 0;
  /// It has ended: nobody waits for it any more.
  void repay() noexcept;

 private:
  friend loan;
  struct side : list_node {
    explicit side(loan& l) noexcept : of(l) {}
    loan& of;
  };
  int lowest() const noexcept;
  static void settle(prioritized& first) noexcept;

  int own_ = 0, priority_ = 0;
  intrusive_list<side> given_, taken_;
  prioritized* next_to_settle_ = nullptr;  // see `settle`
  bool is_to_settle_ = false;
};

/// While it lives, one lends its priority to another.
class loan {
 public:
  loan(prioritized& from, prioritized& to) noexcept : from_(from), to_(to) {
    from.given_.push_back(given_);
    to.taken_.push_back(taken_);
    prioritized::settle(to);
  }
  loan(const loan&) = delete;
  loan& operator=(const loan&) = delete;
  ~loan() {
    if (!taken_.linked()) return;
    taken_.unlink();
    prioritized::settle(to_);
  }

 private:
  friend prioritized;
  prioritized &from_, &to_;
  prioritized::side given_{*this}, taken_{*this};
};

/// A coroutine of `from` waits for one of `to`; either may be none. Without memory for it nothing is lent.
inline std::unique_ptr<loan> lend(prioritized* from, prioritized* to) noexcept {
  if (!from || !to || from == to) return nullptr;
  return std::unique_ptr<loan>(::new (std::nothrow) loan(*from, *to));
}

inline int prioritized::lowest() const noexcept {
  int p = own_;
  for (const side* s = taken_.empty() ? nullptr : &taken_.front(); s; s = taken_.next(*s))
    if (s->of.from_.priority_ < p) p = s->of.from_.priority_;
  return p;
}
/// Passes on what has changed, however long the chain of those who wait for each other.
inline void prioritized::settle(prioritized& first) noexcept {
  first.next_to_settle_ = nullptr;
  for (prioritized* line = &first; line;) {
    prioritized& next = *line;
    line = next.next_to_settle_;
    next.is_to_settle_ = false;
    const int p = next.lowest();
    if (p == next.priority_ || !next.take_priority(p)) continue;
    next.priority_ = p;
    for (const side* s = next.given_.empty() ? nullptr : &next.given_.front(); s; s = next.given_.next(*s)) {
      prioritized& to = s->of.to_;
      if (std::exchange(to.is_to_settle_, true)) continue;
      to.next_to_settle_ = std::exchange(line, &to);
    }
  }
}
inline void prioritized::repay() noexcept {
  while (!taken_.empty()) taken_.pop_front();
  settle(*this);
}

}  // namespace tandem::inline TANDEM_CONFIG::detail
