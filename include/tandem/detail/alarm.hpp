// tandem/detail/alarm.hpp: calls somebody at a time, unless it is cancelled before.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../clock.hpp"
#include "frame.hpp"
#include "loop.hpp"

static_assert(TANDEM_VERSION == 100, "tandem/detail/alarm.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// A member of its owner, whose `on_alarm()` the loop calls in its turn. `Owner` may be incomplete.
template <class Owner>
class alarm final : public timer_leaf {
 public:
  explicit alarm(Owner& o) noexcept : owner_(o) {}
  const char* what() const noexcept override { return "alarm"; }
  /// After `l.reserve_timer()`.
  void set(loop& l, clock::time_point due) noexcept {
    cancel();
    this->state_ = leaf::calls;
    l.add_timer(*this, due);
  }
  void cancel() noexcept {
    this->remove_from_timers();
    this->unlink();  // it may be in the ready queue already
  }

 private:
  step on_turn() noexcept override {
    owner_.on_alarm();
    return step::none();
  }
  Owner& owner_;
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
