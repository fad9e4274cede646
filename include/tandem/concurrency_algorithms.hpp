// tandem/concurrency_algorithms.hpp: how much a service can take, told from its answers: knee, aimd, vegas, gradient.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/concurrency_algorithms.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// What the calls of some time showed, all of which began while the same limit held.
struct concurrency_window {
  clock::time_point begin{}, end{};  ///< `begin` is before `end`
  std::size_t limit = 0;
  std::size_t succeeded = 0, dropped = 0;  ///< calls that ended in the window; one of them is not 0
  clock::duration mean{};                  ///< of the times of those that succeeded; 0 if none did
  double in_flight = 0;                    ///< on the average
  double at_limit = 0;                     ///< the part of the time in which no further call was let through: 0 to 1

  double drop_share() const noexcept { return static_cast<double>(dropped) / static_cast<double>(dropped + succeeded); }
};

/// What an algorithm makes of a window.
struct concurrency_decision {
  double limit = 0;                ///< from now on: the whole part of it counts, within `min` and `max`
  const char* reason = "";         ///< in words; the characters must stay
  clock::duration service_time{};  ///< how long a call takes that need not wait in the service; 0 if that is not known
};

/// An algorithm is an object that is asked at the end of each window, with the limit as it said it the last time
/// (within `min` and `max`), and throws nothing. A window begins when no more calls are in flight than the limit
/// allows, and two mean times after that.
template <class A>
concept concurrency_algorithm = requires(A a, const concurrency_window& w, double limit) {
  { a.update(w, limit) }
  noexcept->std::same_as<concurrency_decision>;
};

struct knee_options {
  /// The service time is measured so often, while it is the limit that holds calls back: sooner when it is new, an
  /// eighth of this after that and then twice as long each time, and more seldom if it would take more than a thirtieth
  /// of the time (a tenth while it is new).
  clock::duration probe_interval = std::chrono::seconds(10);
};

/// By Little's law a service that answers x calls a second, each of which takes it s, works at `x * s` of them at a
/// time; what is in flight beyond that waits in its line. The limit is that number and its square root, since so long a
/// line is enough to keep the service busy (Halfin and Whitt, 1981).
///
/// In a window at the limit L in which calls took R on the average, x is `L / R`, so that all depends on s. It is
/// measured, not taken for the least of what was seen: for one window the limit is halved, and what the calls take then
/// is s. If that is half of R or little more, the line has only become shorter, and the limit is halved again. A limit
/// that is not used needs no probe: the service is measured when few calls are in flight. Before the limit falls by
/// more than the line that it has room for, s is measured anew: slower answers may be those of a longer line, or of a
/// service that has become slower, and to a slower one the limit need not fall.
///
/// Calls that are dropped, more than one in twenty, make it probe as well: if at half of the limit less than half as
/// many are, or as many are answered, it stays there, comes back slowly, and gives way by a tenth when calls are
/// dropped again; otherwise they are not for the number of calls, and it goes on as if they were none. While all are
/// dropped the limit is halved with each window, since nothing is lost.
///
/// Growth is by the square root, twice as much each time while no line is seen. Probes begin at whole multiples of the
/// interval on the clock, so that two in front of one service measure it together; many do not. (The same idea as in
/// BBR: Cardwell and others, "BBR: congestion-based congestion control", 2016.)
class knee {
 public:
  /// Throws std::invalid_argument for an interval that is not positive.
  explicit knee(knee_options options);
  knee() : knee(knee_options()) {}
  concurrency_decision update(const concurrency_window& w, double limit) noexcept;

 private:
  enum class probing : unsigned char { nothing, service_time, drops };
  concurrency_decision probe(const concurrency_window& w, probing what) noexcept;
  concurrency_decision probed(const concurrency_window& w) noexcept;
  concurrency_decision says(double limit, const char* reason) const noexcept { return {limit, reason, service_time_}; }
  concurrency_decision grown(const concurrency_window& w, double limit, double next, double part) noexcept;
  bool has_more_drops(const concurrency_window& w) noexcept;
  bool are_drops_ours(const concurrency_window& w) const noexcept;
  clock::duration soonest() const noexcept { return std::max(probe_interval_ / 8, clock::duration(1)); }
  double part_in_service(const concurrency_window& w) const noexcept;
  void measured(clock::duration service_time, clock::time_point now, clock::duration took) noexcept;

  clock::duration probe_interval_, every_, service_time_{};
  concurrency_window before_;  // the probe
  probing probing_ = probing::nothing;
  clock::time_point next_probe_ = clock::time_point::max(), last_end_ = clock::time_point::min();
  double confirmed_ = 0;    // the limit for which the service time was measured
  double known_drops_ = 0;  // a share of drops that was the same at half of the limit
  double drops_from_ = 0;   // a limit at which calls were dropped that are not at a lower one; 0: none is known
  int growths_ = 0;         // without a line, one after the other
};

struct aimd_options {
  double decrease = 0.9;                          ///< what a limit is multiplied with; more than 0, less than 1
  clock::duration slow = clock::duration::max();  ///< a mean time that counts as drops do; positive
};

/// Additive increase, multiplicative decrease: one more each window, a tenth less if a call was dropped. It looks for
/// failures, not for lines: without them it grows to `max`, and a service that drops some calls at any load ends at
/// `min`. (Chiu and Jain, 1989.)
class aimd {
 public:
  /// Throws std::invalid_argument for options outside their range.
  explicit aimd(aimd_options options);
  aimd() : aimd(aimd_options()) {}
  concurrency_decision update(const concurrency_window& w, double limit) noexcept;

 private:
  aimd_options options_;
};

/// Keeps a line of 3 to 6 times the logarithm (base 10) of the limit in the service, told from the least mean time of
/// the last 30 to 60 seconds: so long does it take to believe a service that has become slower, and under a load that
/// never ceases the line itself is in that least time after a while. (Brakmo and Peterson, "TCP Vegas", 1995; numbers
/// as in Netflix's VegasLimit, which takes the time of some call for it every so often.)
class vegas {
 public:
  concurrency_decision update(const concurrency_window& w, double limit) noexcept;

 private:
  clock::duration least_{}, least_before_{};  // of this half minute and the one before; 0: not known
  clock::time_point turn_ = clock::time_point::min();
};

/// Lets the limit shrink as the mean time grows against its average over the last 600 windows, with a tolerance of one
/// half, and adds 4. The average follows what it should be compared with: under a load that never ceases the limit
/// drifts up to many times what the service can use. (Gradient2 of Netflix's concurrency-limits, 2018.)
class gradient {
 public:
  concurrency_decision update(const concurrency_window& w, double limit) noexcept;

 private:
  double long_term_ = 0;  // in nanoseconds
  int windows_ = 0;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// Less than that and the limit is not what holds calls back.
inline constexpr double limit_is_reached = 0.1, limit_is_held = 0.5;

}  // namespace detail

inline knee::knee(knee_options o) : probe_interval_(o.probe_interval), every_(soonest()) {
  if (o.probe_interval <= clock::duration::zero())
    throw std::invalid_argument("tandem::knee: probe_interval is " + std::to_string(o.probe_interval.count()) +
                                " ns; it must be positive");
}

/// At the next whole multiple. The sooner the less is known: what was measured at a small limit is too coarse for a
/// larger one.
inline void knee::measured(clock::duration service_time, clock::time_point now, clock::duration took) noexcept {
  const clock::duration before = std::exchange(service_time_, service_time), change = before - service_time;
  const bool is_news = before == clock::duration::zero() || std::max(change, -change) > before / 2;
  every_ = is_news ? soonest() : std::min(every_ * 2, probe_interval_);
  clock::duration every = every_;
  const int part = every == probe_interval_ ? 30 : 10;
  while (every / part < took && every < clock::duration::max() / 2) every *= 2;
  next_probe_ = detail::saturated_sum(now, every - now.time_since_epoch() % every);
}

/// Of those in flight, the rest waits in the service's line.
inline double knee::part_in_service(const concurrency_window& w) const noexcept {
  return w.mean <= service_time_ ? 1 : static_cast<double>(service_time_.count()) / static_cast<double>(w.mean.count());
}

inline concurrency_decision knee::probe(const concurrency_window& w, probing what) noexcept {
  before_ = w;
  probing_ = what;
  growths_ = 0;
  return says(std::max(1.0, std::floor(std::min(static_cast<double>(w.limit), w.in_flight) / 2)),
              what == probing::drops ? "halved, to see whether fewer calls are dropped"
                                     : "halved, to measure the service time");
}

/// Are fewer of the calls dropped at half of the limit, or as many answered? Not by chance: eight drops are to be
/// expected if it makes no difference.
inline bool knee::are_drops_ours(const concurrency_window& w) const noexcept {
  const auto answered = [](const concurrency_window& x) {
    return static_cast<double>(x.succeeded) / static_cast<double>((x.end - x.begin).count());
  };
  const double expected = before_.drop_share() * static_cast<double>(w.succeeded + w.dropped);
  return expected >= 8 && (static_cast<double>(w.dropped) < expected / 2 || answered(w) > 0.9 * answered(before_));
}

inline concurrency_decision knee::probed(const concurrency_window& w) noexcept {
  const probing what = std::exchange(probing_, probing::nothing);
  const clock::duration took = w.end - before_.end;
  const double before = static_cast<double>(before_.limit), now = static_cast<double>(w.limit);
  if (w.limit >= before_.limit) {  // there may be a line in that
    measured(w.mean, w.end, took);
    confirmed_ = now;
    return says(now, "the least that is allowed");
  }
  if (are_drops_ours(w)) {
    measured(w.mean, w.end, took);
    drops_from_ = before;
    confirmed_ = now;
    return says(now, "with fewer calls fewer are dropped");
  }
  if (what == probing::drops) known_drops_ = std::max(before_.drop_share(), w.drop_share());
  const double slower = before_.succeeded == 0 || before_.mean <= w.mean
                            ? 1
                            : static_cast<double>(w.mean.count()) / static_cast<double>(before_.mean.count());
  if (slower < 1.15 * w.in_flight / before_.in_flight && w.limit > 1) {
    service_time_ = w.mean;  // at most
    confirmed_ = now;
    concurrency_decision d = probe(w, probing::service_time);
    d.reason = "halved again: there still was a line";
    return d;
  }
  measured(w.mean, w.end, took);
  const double works_at = before_.in_flight * slower;
  double next = std::min(works_at + std::sqrt(works_at), before + std::sqrt(before));
  if (before_.at_limit < detail::limit_is_reached && slower > 0.8) next = before;  // it was not in use, and no line
  confirmed_ = std::min(next, before);
  return says(next, "the service time was measured");
}

inline concurrency_decision knee::update(const concurrency_window& w, double limit) noexcept {
  if (w.end < last_end_) next_probe_ = w.end;  // by the clock of another simulation
  last_end_ = w.end;
  if (w.succeeded == 0) {
    probing_ = probing::nothing;
    growths_ = 0;
    return says(limit / 2, "every call was dropped");
  }
  if (probing_ != probing::nothing) return probed(w);

  const bool can_be_halved = w.limit > 1, is_held = w.at_limit >= detail::limit_is_held;
  const bool is_used = is_held || w.in_flight >= 2;
  if (has_more_drops(w) && can_be_halved) {
    if (drops_from_ == 0) return probe(w, probing::drops);
    drops_from_ = static_cast<double>(w.limit);
    growths_ = 0;
    return says(confirmed_ = limit * 0.9, "calls were dropped again");
  }

  if (service_time_ == clock::duration::zero()) {
    if (is_used && can_be_halved) return probe(w, probing::service_time);
    measured(w.mean, w.end, {});
    confirmed_ = limit;
  }
  if (!is_held && w.in_flight <= static_cast<double>(w.limit) / 2 && w.at_limit < detail::limit_is_reached) {
    if (w.mean > service_time_ * 3 / 2 && w.in_flight >= 2) return probe(w, probing::service_time);
    measured(w.mean, w.end, {});  // a probe for nothing
    growths_ = 0;
    return says(limit, "less is asked for");
  }
  // Faster than it can be: some of that is chance. One call alone makes no line.
  if (w.mean < service_time_ * 4 / 5 || w.limit == 1)
    service_time_ = w.mean;
  else if (w.mean < service_time_)
    service_time_ -= (service_time_ - w.mean) / 5;
  const bool may_have_a_line = is_held || (w.in_flight >= 2 && w.mean > service_time_ * 6 / 5);
  if (may_have_a_line && w.end >= next_probe_ && can_be_halved) return probe(w, probing::service_time);

  const double part = part_in_service(w);
  const double works_at = part * (is_held ? static_cast<double>(w.limit) : w.in_flight);
  const double next = works_at + std::sqrt(works_at);
  if (next > limit) return grown(w, limit, next, part);
  growths_ = 0;
  if (!is_held && part > 2.0 / 3) return says(limit, "no more is asked for");
  if (next < confirmed_ - std::sqrt(confirmed_) && can_be_halved) return probe(w, probing::service_time);
  return says(next, "the line was long enough");
}

/// More than one in twenty, more than there are at any load, and not by chance.
inline bool knee::has_more_drops(const concurrency_window& w) noexcept {
  const auto calls = static_cast<double>(w.succeeded + w.dropped);
  const double usual = std::max(0.05, known_drops_);
  if (w.drop_share() <= known_drops_ / 2) known_drops_ *= 0.9;
  return w.drop_share() > usual + 3 * std::sqrt(usual * (1 - usual) / calls);
}

inline concurrency_decision knee::grown(const concurrency_window& w, double limit, double next, double part) noexcept {
  if (w.at_limit < detail::limit_is_reached) {
    growths_ = 0;
    return says(limit, "no more is asked for");
  }
  confirmed_ = std::max(confirmed_, limit);
  double step = next - limit;
  const bool sees_no_line = part > 0.95;
  if (sees_no_line) {
    step = std::min(std::ldexp(step, std::min(growths_, 10)), std::max(std::sqrt(limit), limit / 2));
    ++growths_;
  } else {
    growths_ = 0;
  }
  if (drops_from_ != 0) {  // slowly where it dropped calls, until it no longer does
    if (limit > 1.3 * drops_from_) drops_from_ = 0;
    const double near = 0.9 * drops_from_;
    if (limit + step > near) step = std::max(1.0, near - limit);
  }
  return says(limit + step, sees_no_line ? "no line was seen" : "the line was short");
}

inline aimd::aimd(aimd_options o) : options_(o) {
  if (!(o.decrease > 0 && o.decrease < 1))
    throw std::invalid_argument("tandem::aimd: decrease is " + std::to_string(o.decrease) +
                                "; it must be more than 0 and less than 1");
  if (o.slow <= clock::duration::zero())
    throw std::invalid_argument("tandem::aimd: slow is " + std::to_string(o.slow.count()) + " ns; it must be positive");
}

inline concurrency_decision aimd::update(const concurrency_window& w, double limit) noexcept {
  if (w.dropped != 0) return {std::min(limit * options_.decrease, limit - 1), "calls were dropped"};
  if (w.mean > options_.slow) return {std::min(limit * options_.decrease, limit - 1), "calls were slow"};
  if (w.at_limit < detail::limit_is_reached) return {limit, "no more is asked for"};
  return {limit + 1, "no call was dropped"};
}

inline concurrency_decision vegas::update(const concurrency_window& w, double limit) noexcept {
  const double unit = std::max(1.0, std::floor(std::log10(std::max(limit, 1.0))));
  constexpr clock::duration half_minute = std::chrono::seconds(30);
  if (w.end >= turn_ || turn_ - w.end > half_minute) {
    const clock::time_point next = detail::saturated_sum(turn_, half_minute);
    const bool follows = w.end >= turn_ && w.end < next;  // otherwise what was seen is too old, or of another clock
    turn_ = follows ? next : detail::saturated_sum(w.end, half_minute);
    least_before_ = follows ? least_ : clock::duration::zero();
    least_ = {};
  }
  if (w.succeeded != 0 && (least_ == clock::duration::zero() || w.mean < least_)) least_ = w.mean;
  const clock::duration base = least_before_ == clock::duration::zero() ? least_
                               : least_ == clock::duration::zero()      ? least_before_
                                                                        : std::min(least_, least_before_);
  if (w.dropped != 0) return {limit - unit, "calls were dropped", base};
  if (w.at_limit < detail::limit_is_reached) return {limit, "no more is asked for", base};
  const double line =
      w.mean <= base || w.mean == clock::duration::zero()
          ? 0
          : std::ceil(limit * (1 - static_cast<double>(base.count()) / static_cast<double>(w.mean.count())));
  if (line <= unit) return {limit + 6 * unit, "there was hardly a line", base};
  if (line < 3 * unit) return {limit + unit, "the line was short", base};
  if (line > 6 * unit) return {limit - unit, "the line was long", base};
  return {limit, "the line was long enough", base};
}

inline concurrency_decision gradient::update(const concurrency_window& w, double limit) noexcept {
  constexpr int warm_up = 10, windows = 600;
  constexpr double tolerance = 1.5, smoothing = 0.2, line = 4;
  const double now = static_cast<double>(w.mean.count());
  if (w.succeeded == 0 || now == 0) return {limit, "no call succeeded", {}};
  if (windows_ < warm_up) {
    long_term_ = (long_term_ * windows_ + now) / (windows_ + 1);
    ++windows_;
  } else {
    long_term_ += (now - long_term_) * 2 / (windows + 1);
  }
  if (long_term_ > 2 * now) long_term_ *= 0.95;  // sooner back after a long overload
  const clock::duration average(static_cast<clock::rep>(long_term_));
  if (w.in_flight < limit / 2) return {limit, "no more is asked for", average};
  const double slope = std::clamp(tolerance * long_term_ / now, 0.5, 1.0);
  return {limit * (1 - smoothing) + (limit * slope + line) * smoothing,
          slope < 1 ? "slower than on the average" : "as fast as on the average", average};
}

}  // namespace tandem::inline TANDEM_CONFIG
