// tandem/clock.hpp: the clock that every wait in tandem goes by, real or virtual.
// Version 0.1.0. Needs C++20.
// needs: asio.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"

#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>

static_assert(TANDEM_VERSION == 100, "tandem/clock.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// The steady clock of the loop that runs on this thread: monotonic real time, or virtual time under `simulate`.
///
/// Outside a loop it is real time. Its `time_point` is a type of its own and converts from no other clock's, so that a
/// real time never reaches a simulation. With `using namespace tandem` the name collides with `::clock` of <ctime>
/// unless it is followed by `::`, as in `clock::now()`; otherwise write `tandem::clock`.
struct clock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<clock>;
  static constexpr bool is_steady = true;

  /// About 20 ns in real time, less under `simulate`.
  static time_point now() noexcept;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// Virtual time of the simulation that runs on this thread, or null. Not inlined, because clang may keep the address of
/// a thread-local across a suspension after which the coroutine runs on another thread.
[[gnu::noinline]] inline const clock::time_point*& virtual_now() noexcept {
  static constinit thread_local const clock::time_point* now = nullptr;
  return now;
}

inline clock::time_point real_now() noexcept {
  return clock::time_point(
      std::chrono::duration_cast<clock::duration>(std::chrono::steady_clock::now().time_since_epoch()));
}

[[noreturn, gnu::cold]] inline void throw_negative_duration(const char* who, double seconds) {
  char text[512];
  std::snprintf(text, sizeof text, "%s: the duration is %f s; it must not be negative", who, seconds);
  throw std::invalid_argument(text);
}

/// `what` names it, as "tandem::lru_cache: ttl".
inline void refuse_negative(clock::duration d, const char* what) {
  if (d < clock::duration::zero())
    throw std::invalid_argument(what + (" is " + std::to_string(d.count())) + " ns; it must not be negative");
}

/// A duration of any type as one of the clock: rounded up, saturated, refused with the caller's name when negative.
template <class Rep, class Period>
clock::duration checked_duration(std::chrono::duration<Rep, Period> d, const char* who) {
  const long double exact = std::chrono::duration<long double, clock::period>(d).count();
  if (!(exact >= 0)) throw_negative_duration(who, static_cast<double>(exact / 1e9L));
  if (exact >= static_cast<long double>(clock::duration::max().count())) return clock::duration::max();
  return std::chrono::ceil<clock::duration>(d);
}

/// `t + d`, or the end of time if that is nearer.
inline clock::time_point saturated_sum(clock::time_point t, clock::duration d) noexcept {
  const bool too_far = t > clock::time_point() && d > clock::time_point::max() - t;
  return too_far ? clock::time_point::max() : t + d;
}
/// `a + b`, of which neither is negative, or the longest duration if that is shorter.
inline clock::duration saturated_sum(clock::duration a, clock::duration b) noexcept {
  clock::rep sum;
  return __builtin_add_overflow(a.count(), b.count(), &sum) ? clock::duration::max() : clock::duration(sum);
}

}  // namespace detail

inline clock::time_point clock::now() noexcept {
  const auto* virtual_time = detail::virtual_now();
  return virtual_time ? *virtual_time : detail::real_now();
}

}  // namespace tandem::inline TANDEM_CONFIG
