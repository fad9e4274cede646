// tandem/detail/time_parts.hpp: a window of time that slides in parts.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../clock.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

static_assert(TANDEM_VERSION == 100, "tandem/detail/time_parts.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// Time in parts of equal length, of which the last few are the window. Whoever counts something in each of them
/// forgets the oldest when a new one begins, so that what has happened is forgotten when it is as old as the window, or
/// up to one part sooner.
class time_parts {
 public:
  /// `window` is positive. A part is its share of that, rounded up to a nanosecond.
  time_parts(clock::duration window, std::size_t parts) noexcept
      : parts_(parts), length_((static_cast<std::uint64_t>(window.count()) - 1) / parts + 1) {}

  /// How many parts have begun since it was asked last, at most all: those are to be forgotten. The first begins with
  /// the first question. Time that goes back is by another clock, and then all begins anew.
  std::size_t begun(clock::time_point now) noexcept {
    if (!has_begun_ || now < begin_) [[unlikely]] {
      has_begun_ = true;
      first_ = begin_ = now;
      return parts_;
    }
    const std::uint64_t n = between(begin_, now) / length_;
    if (n == 0) return 0;
    begin_ = clock::time_point(clock::duration(
        static_cast<clock::rep>(static_cast<std::uint64_t>(begin_.time_since_epoch().count()) + n * length_)));
    return static_cast<std::size_t>(std::min<std::uint64_t>(n, parts_));
  }
  /// How much time the window covers now, the moment that `begun` was asked about.
  clock::duration span(clock::time_point now) const noexcept {
    const std::uint64_t whole_parts = std::min(between(first_, begin_), (parts_ - 1) * length_);
    constexpr auto most = static_cast<std::uint64_t>(clock::duration::max().count());
    return clock::duration(static_cast<clock::rep>(std::min(whole_parts + between(begin_, now), most)));
  }
  void reset() noexcept { has_begun_ = false; }

 private:
  /// Exact, though as a duration it may be too long.
  static std::uint64_t between(clock::time_point earlier, clock::time_point later) noexcept {
    return static_cast<std::uint64_t>(later.time_since_epoch().count()) -
           static_cast<std::uint64_t>(earlier.time_since_epoch().count());
  }

  std::size_t parts_;
  std::uint64_t length_;
  clock::time_point first_{}, begin_{};  // of all parts there were, and of the latest
  bool has_begun_ = false;
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
