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

static_assert(TANDEM_VERSION == 100, "tandem/detail/priority.hpp is of version 0.1.0, asio.hpp is not");

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
  void set_own_priority(int p) noexcept;
  /// Is to have the priority `p`: false if there is no memory for that, and it keeps what it has.
  virtual bool take_priority(int p) noexcept = 0;
  /// It has ended: it neither waits nor is waited for any more.
  void repay() noexcept;

 private:
  friend loan;
  struct side : list_node {
    explicit side(loan& l) noexcept : of(l) {}
    loan& of;
  };
  /// Those that something is to be done about, each once.
  struct line {
    prioritized* first = nullptr;
    void add(prioritized& p, prioritized*& next, bool& is_in_line) noexcept {
      if (std::exchange(is_in_line, true)) return;
      next = std::exchange(first, &p);
    }
  };
  static void pass_on(prioritized& lender) noexcept;
  static void settle(prioritized& borrower) noexcept;
  template <class F>
  void for_each_borrower(F f) const noexcept;

  int own_ = 0, priority_ = 0;
  intrusive_list<side> given_, taken_;
  // While `pass_on` and `settle` are at work.
  prioritized *next_ = nullptr, *next_below_ = nullptr;
  bool is_in_line_ = false, is_below_ = false;
  int before_ = 0;
};

/// While it lives, one lends its priority to another.
class loan {
 public:
  loan(prioritized& from, prioritized& to) noexcept : from_(from), to_(to) {
    from.given_.push_back(given_);
    to.taken_.push_back(taken_);
    if (from.priority_ < to.priority_) prioritized::pass_on(from);
  }
  loan(const loan&) = delete;
  loan& operator=(const loan&) = delete;
  ~loan() { end(); }
  void end() noexcept {
    if (!taken_.linked()) return;  // one of the two has ended
    taken_.unlink();
    given_.unlink();
    if (from_.priority_ == to_.priority_) prioritized::settle(to_);
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

template <class F>
void prioritized::for_each_borrower(F f) const noexcept {
  for (const side* s = given_.empty() ? nullptr : &given_.front(); s; s = given_.next(*s)) f(s->of.to_);
}

/// The lender's is a smaller number now, for all that it lends to, and so on, however long the chain.
inline void prioritized::pass_on(prioritized& lender) noexcept {
  line l;
  l.add(lender, lender.next_, lender.is_in_line_);
  while (l.first) {
    prioritized& from = *l.first;
    l.first = from.next_;
    from.is_in_line_ = false;
    from.for_each_borrower([&](prioritized& to) {
      if (from.priority_ >= to.priority_ || !to.take_priority(from.priority_)) return;
      to.priority_ = from.priority_;
      l.add(to, to.next_, to.is_in_line_);
    });
  }
}

/// Its own priority is a greater number now, or a lender has gone: what it was, and what it has lent itself, may have
/// come from there. All below it begin anew, with what comes from elsewhere, so that nobody in a circle keeps up
/// another.
inline void prioritized::settle(prioritized& borrower) noexcept {
  line below;
  below.add(borrower, borrower.next_below_, borrower.is_below_);
  prioritized* end = nullptr;  // what has been looked at
  while (below.first != end) {
    prioritized* const first = below.first;
    for (prioritized* p = first; p != end; p = p->next_below_)
      p->for_each_borrower([&](prioritized& to) { below.add(to, to.next_below_, to.is_below_); });
    end = first;
  }
  const auto from_elsewhere = [](const prioritized& p, int enough) {
    int lowest = p.own_;
    for (const side* s = p.taken_.empty() ? nullptr : &p.taken_.front(); s && lowest > enough; s = p.taken_.next(*s))
      if (const prioritized& from = s->of.from_; !from.is_below_ && from.priority_ < lowest) lowest = from.priority_;
    return lowest;
  };
  const bool has_changed = from_elsewhere(borrower, borrower.priority_) != borrower.priority_;
  for (prioritized* p = below.first; has_changed && p; p = p->next_below_) {
    p->before_ = p->priority_;
    p->priority_ = from_elsewhere(*p, p->before_);
  }
  line l;  // among themselves, before anybody is told
  for (prioritized* p = below.first; has_changed && p; p = p->next_below_) l.add(*p, p->next_, p->is_in_line_);
  while (l.first) {
    prioritized& from = *l.first;
    l.first = from.next_;
    from.is_in_line_ = false;
    from.for_each_borrower([&](prioritized& to) {
      if (from.priority_ >= to.priority_) return;
      to.priority_ = from.priority_;
      l.add(to, to.next_, to.is_in_line_);
    });
  }
  while (below.first) {
    prioritized& p = *below.first;
    below.first = p.next_below_;
    p.is_below_ = false;
    if (has_changed && p.priority_ != p.before_ && !p.take_priority(p.priority_)) p.priority_ = p.before_;
  }
}

inline void prioritized::set_own_priority(int p) noexcept {
  const int before = std::exchange(own_, p);
  if (p < priority_) {
    if (!take_priority(p)) return;
    priority_ = p;
    pass_on(*this);
  } else if (before == priority_) {
    settle(*this);
  }
}
inline void prioritized::repay() noexcept {
  while (!given_.empty()) given_.front().of.end();
  while (!taken_.empty()) {
    loan& l = taken_.front().of;
    l.taken_.unlink();
    l.given_.unlink();
  }
  priority_ = own_;
}

}  // namespace tandem::inline TANDEM_CONFIG::detail
