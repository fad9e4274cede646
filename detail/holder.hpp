// tandem/detail/holder.hpp: who holds what others wait for, for the reports.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"

#include <source_location>

static_assert(TANDEM_VERSION == 100, "tandem/detail/holder.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// A member of a list of those who hold the same thing. It moves with what it is part of, and leaves the list with it.
class holder {
 public:
  holder() = default;
  /// Held from now on, taken at that line.
  void hold(holder*& list, const std::source_location& where) noexcept {
    where_ = where;
    next_ = list;
    here_ = &list;
    if (next_) next_->here_ = &next_;
    list = this;
  }
  holder(holder&& o) noexcept { take_over(o); }
  holder& operator=(holder&& o) noexcept {
    if (this != &o) {
      let_go();
      take_over(o);
    }
    return *this;
  }
  ~holder() { let_go(); }
  void let_go() noexcept {
    if (!here_) return;
    *here_ = next_;
    if (next_) next_->here_ = here_;
    here_ = nullptr;
  }

  const std::source_location& where() const noexcept { return where_; }
  const holder* next() const noexcept { return next_; }

 private:
  void take_over(holder& o) noexcept {
    where_ = o.where_;
    if (!o.here_) return;
    next_ = o.next_;
    here_ = o.here_;
    *here_ = this;
    if (next_) next_->here_ = &next_;
    o.here_ = nullptr;
  }
  std::source_location where_{};
  holder* next_ = nullptr;
  holder** here_ = nullptr;  // what points to this; null outside a list
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
