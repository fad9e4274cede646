// tandem/adaptive_concurrency.hpp: as many calls at a time as a service can take: adaptive_concurrency.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, concurrency_algorithms.hpp, error_kind.hpp, exceptions.hpp, outcome.hpp, task.hpp, detail/alarm.hpp, detail/calls.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/one_loop.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "concurrency_algorithms.hpp"
#include "error_kind.hpp"
#include "exceptions.hpp"
#include "outcome.hpp"
#include "task.hpp"

#include "detail/alarm.hpp"
#include "detail/calls.hpp"
#include "detail/gcc12.hpp"
#include "detail/loop.hpp"
#include "detail/waiting.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <limits>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/adaptive_concurrency.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

namespace detail {
class concurrency_core;
class concurrency_request;
class concurrency_waiter;
}  // namespace detail

struct adaptive_concurrency_options {
  std::size_t initial = 10, min = 1, max = 1000;  ///< of the limit; `min` at least 1

  // How long the limit holds before it is looked at: at least `window`, and until `samples` calls have ended (less than
  // ten say little), and one
  // mean time has passed, and the mean is known well enough (its standard error is a quarter of its share of the square
  // root of the limit) or 30 mean times have passed.
  clock::duration window = std::chrono::milliseconds(100);  ///< positive
  std::size_t samples = 10;                                 ///< at least 1

  // Who waits is refused with `overloaded`, if any of these is set.
  std::size_t max_waiting = std::numeric_limits<std::size_t>::max();  ///< no more than so many wait
  clock::duration max_wait = clock::duration::max();                  ///< and nobody longer than this
  /// While somebody has been in line for `overload` without a break: nobody longer than this. (The controlled delay of
  /// Maurer, "Fail at scale", 2015, after CoDel: a line that never ends only makes all answers late.)
  clock::duration max_wait_overloaded = clock::duration::max();
  clock::duration overload = std::chrono::milliseconds(100);
  /// Meanwhile the newest is served first, which may still be of use to somebody, when the oldest no longer is.
  bool newest_first_overloaded = false;

  std::size_t log = 100;  ///< changes of the limit that are remembered; at most 1,000,000
};

/// Of one call.
struct concurrency_call {
  int priority = 0;  ///< the smaller number is let through first, and refused last
};

/// What a call says about the service.
enum class concurrency_outcome : unsigned char {
  success,  ///< its time counts
  drop,     ///< the service could not take it
  ignore    ///< nothing
};

/// How a call ends that the controller does not let through, where shedding was asked for: the service was not called.
/// `retry_after()`: about so long would a new call wait now, by the last window; before there was one, a guess.
class overloaded : public unavailable {
 public:
  explicit overloaded(clock::duration retry_after);
};

struct adaptive_concurrency_stats {
  std::size_t limit = 0, in_flight = 0;
  std::size_t waiting = 0, most_waiting = 0;              ///< now, and the most there ever were
  std::uint64_t succeeded = 0, dropped = 0, ignored = 0;  ///< calls that have ended
  std::uint64_t waited = 0, gave_up = 0;  ///< those that began to wait; of these, those that were stopped
  std::uint64_t shed = 0;                 ///< calls that were refused with `overloaded`
  clock::duration mean{};                 ///< of the last window
  clock::duration service_time{};         ///< as the algorithm knows it; 0 if it does not
};

/// Why the limit became what it is.
struct concurrency_change {
  std::size_t before = 0, after = 0;
  const char* reason = "";
  clock::duration service_time{};  ///< as the algorithm knew it
  concurrency_window window;       ///< what was seen
};

/// Leave for one call. Moves only; a slot that is destroyed says `ignore`. It may outlive its controller.
class [[nodiscard("a slot that is dropped is given back at once")]] concurrency_slot {
 public:
  concurrency_slot() noexcept = default;  ///< Of nothing.
  concurrency_slot(concurrency_slot && other) noexcept = default;
  concurrency_slot& operator=(concurrency_slot&& other) noexcept;
  ~concurrency_slot() { release(); }

  /// The call has ended; its time is what has passed since the slot was given. Who waits is let through. On the loop of
  /// those who wait.
  void release(concurrency_outcome outcome = concurrency_outcome::ignore) noexcept;
  explicit operator bool() const noexcept { return core_ != nullptr; }

 private:
  friend class detail::concurrency_request;
  explicit concurrency_slot(std::shared_ptr<detail::concurrency_core> core) noexcept;
  std::shared_ptr<detail::concurrency_core> core_;
  clock::time_point begin_{};
};

/// Lets as many calls through as a service can take, which it tells from how long they take: `auto r = co_await
/// control.run(fetch)`.
///
/// What is measured is the time from the start of the call to its end, without the wait for leave, in windows in which
/// one limit holds; `Algorithm` makes the next limit of it. The limit does not grow while it is not needed. A lower
/// limit stops nothing: those that are in flight are let end, and until then nobody is let through.
///
/// Calls end, so that others may begin: do not hold a slot while you wait for another of the same controller, and give
/// calls that last much longer than others a controller of their own, or a `min` above their number.
///
/// First come, first served among equals; the smaller number of `concurrency_call::priority` comes first. Who waits is
/// let through in his loop's turn. A stop takes him out of the line; if he had been let through and never runs, the
/// next one is. Whoever waits when the controller is destroyed gets `cancelled`, if that happens on his loop. Everybody
/// waits as long as it takes, unless shedding is asked for in the options. If the line is full, a call takes the place
/// of the last of those with a greater number.
///
/// For the coroutines of one loop. A call costs some comparisons, two readings of the clock, and two frames (`acquire`:
/// none); a priority that is new is one allocation, and is kept. A window's end is O(1) beside the algorithm.
template <class Algorithm = knee>
class adaptive_concurrency {
  static_assert(concurrency_algorithm<Algorithm>,
                "an algorithm has concurrency_decision update(const concurrency_window&, double limit) noexcept");

 public:
  /// Throws std::invalid_argument for options outside their range.
  explicit adaptive_concurrency(adaptive_concurrency_options options, Algorithm algorithm = Algorithm());
  adaptive_concurrency() : adaptive_concurrency(adaptive_concurrency_options()) {}
  ~adaptive_concurrency();
  adaptive_concurrency(const adaptive_concurrency&) = delete;  // a controller is shared: pass it by reference
  adaptive_concurrency& operator=(const adaptive_concurrency&) = delete;

  /// Waits for leave, calls `function()`, awaits what that returns, and gives it. A call that returns is a success;
  /// one that ends with `timed_out` (or another error whose code is `timed_out`) or `overloaded` was dropped; other
  /// failures and stops are ignored, and so is what throws before it has returned something to await. `classify` may
  /// say otherwise: it is called with the `outcome` of the call, and gives a `concurrency_outcome`. What it throws is
  /// how the call ends, which is ignored then. The failure of the call goes on as it is.
  template <class Function>
  auto run(Function&& function);
  template <class Function, class Classify>
  requires(!std::is_same_v<std::decay_t<Function>, concurrency_call>) auto run(Function&& function,
                                                                               Classify&& classify);
  template <class Function>
  auto run(concurrency_call call, Function&& function);
  template <class Function, class Classify>
  auto run(concurrency_call call, Function&& function, Classify&& classify);

  /// `auto slot = co_await control.acquire()`: waits for leave, for a call that is no one function; `slot.release(how)`
  /// when it has ended.
  [[nodiscard("a wait begins when it is awaited")]] auto acquire(concurrency_call call = {});
  /// An empty slot, which tests as false, if there is none now, or somebody waits. Where no loop runs:
  /// std::logic_error.
  concurrency_slot try_acquire();

  std::size_t limit() const noexcept;
  std::size_t in_flight() const noexcept;
  adaptive_concurrency_stats stats() const noexcept;
  /// The last changes of the limit, the oldest first.
  std::vector<concurrency_change> log() const;
  /// Why the limit is what it is, in a few lines of text.
  std::string explain() const;

 private:
  std::shared_ptr<detail::concurrency_core> core_;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// Looks at the calls as they start and end, and says when it has seen enough at one limit.
class concurrency_meter {
 public:
  concurrency_meter(clock::duration shortest, std::size_t samples, std::size_t limit) noexcept
      : shortest_(shortest), samples_(samples), limit_(limit), first_(limit) {}

  std::size_t in_flight() const noexcept { return in_flight_; }
  clock::duration mean() const noexcept { return last_mean_; }
  void started(clock::time_point now) noexcept {
    if (in_flight_ == 0 && is_settled_ && now - last_ >= shortest_) begin(now);  // a burst is not like the pause before
    pass(now);
    ++in_flight_;
  }
  /// It was let through, and never ran.
  void withdrawn(clock::time_point now) noexcept {
    pass(now);
    --in_flight_;
  }
  /// True if that was the last of a window.
  bool ended(clock::time_point now, clock::duration took, concurrency_outcome how) noexcept {
    pass(now);
    --in_flight_;
    if (first_ != 0 && --first_ == 0) begin(now);
    if (!is_settled_ || now == window_.begin) return false;
    const bool began_under_the_limit = took >= clock::duration::zero() && now - took >= since_;
    if (how == concurrency_outcome::ignore || !began_under_the_limit) return false;
    if (how == concurrency_outcome::drop) {
      ++window_.dropped;
    } else {
      const auto t = static_cast<double>(took.count());
      ++window_.succeeded;
      sum_ += t;
      squares_ += t * t;
    }
    return is_enough(now);
  }
  concurrency_window window(clock::time_point now) noexcept {
    const auto span = static_cast<double>((now - window_.begin).count());
    window_.end = now;
    window_.limit = limit_;
    window_.in_flight = call_time_ / span;
    window_.at_limit = time_at_limit_ / span;
    if (window_.succeeded != 0)
      last_mean_ = window_.mean =
          clock::duration(static_cast<clock::rep>(sum_ / static_cast<double>(window_.succeeded)));
    return window_;
  }
  /// The next window, at that limit.
  void restart(clock::time_point now, std::size_t limit) noexcept {
    if (std::exchange(limit_, limit) == limit) return begin(now);
    is_settled_ = false;
    settles_at_ = clock::time_point::max();
    pass(now);
  }

 private:
  /// What has been so until now.
  void pass(clock::time_point now) noexcept {
    if (now < last_) {  // by the clock of another simulation
      since_ = clock::time_point::min();
      begin(now);
    }
    const auto span = static_cast<double>((now - last_).count());
    last_ = now;
    if (is_settled_) {
      call_time_ += span * static_cast<double>(in_flight_);
      if (in_flight_ >= limit_) time_at_limit_ += span;
      return;
    }
    if (settles_at_ == clock::time_point::max()) {
      if (in_flight_ > limit_ || first_ != 0) return;
      since_ = now;
      settles_at_ = saturated_sum(now, last_mean_ * 2);
    }
    if (now >= settles_at_) begin(now);
  }
  void begin(clock::time_point now) noexcept {
    is_settled_ = true;
    window_ = {};
    window_.begin = last_ = now;
    sum_ = squares_ = call_time_ = time_at_limit_ = 0;
  }
  bool is_enough(clock::time_point now) const noexcept {
    const clock::duration span = now - window_.begin;
    if (span < shortest_ || window_.succeeded + window_.dropped < samples_) return false;
    if (window_.succeeded < 2) return true;
    const auto n = static_cast<double>(window_.succeeded), t = static_cast<double>(span.count());
    const double mean = sum_ / n;
    if (t < mean) return false;
    if (t >= 30 * mean) return true;
    const double variance = std::max(0.0, squares_ / n - mean * mean);
    return std::sqrt(variance / n * static_cast<double>(limit_)) <= mean / 4;
  }

  clock::duration shortest_;
  std::size_t samples_, limit_, in_flight_ = 0;
  std::size_t first_;  // so many calls are still to end that may have found the service empty
  concurrency_window window_;
  double sum_ = 0, squares_ = 0;  // of the times of those that succeeded, in nanoseconds
  double call_time_ = 0,
         time_at_limit_ = 0;  // nanoseconds since its begin, of all calls together, and with the limit reached
  clock::time_point last_{};  // up to then they are known
  clock::time_point since_ = clock::time_point::min();  // no more are in flight than the limit
  clock::time_point settles_at_ = clock::time_point::max();
  clock::duration last_mean_{};
  bool is_settled_ = false;
};

/// It lives as long as the controller, a slot, or somebody who waits.
class concurrency_core : public std::enable_shared_from_this<concurrency_core> {
 public:
  explicit concurrency_core(const adaptive_concurrency_options& o)
      : options_(checked(o)),
        exact_limit_(static_cast<double>(o.initial)),
        limit_(o.initial),
        meter_(o.window, o.samples, o.initial) {
    log_.reserve(o.log);
  }
  concurrency_core(const concurrency_core&) = delete;
  concurrency_core& operator=(const concurrency_core&) = delete;
  virtual ~concurrency_core() = default;

  std::size_t limit() const noexcept { return limit_; }
  std::size_t in_flight() const noexcept { return meter_.in_flight(); }
  /// Lets a call through, if nobody waits.
  bool take() {
    if (is_closed_) std::rethrow_exception(make_cancelled());
    if (waiting_ != 0 || meter_.in_flight() >= limit_) return false;
    meter_.started(clock::now());
    return true;
  }
  void ended(clock::time_point begin, concurrency_outcome how) noexcept {
    const clock::time_point now = clock::now();
    ++(how == concurrency_outcome::success ? stats_.succeeded
       : how == concurrency_outcome::drop  ? stats_.dropped
                                           : stats_.ignored);
    if (meter_.ended(now, now - begin, how)) decide(now);
    serve();
  }
  void withdrawn(bool has_waited) noexcept {
    meter_.withdrawn(clock::now());
    stats_.gave_up += has_waited;
    serve();
  }

  // For those who wait.
  void waits(concurrency_waiter& w, frame& f);
  void leaves(concurrency_waiter& w) noexcept;
  /// The controller is gone.
  void disown() noexcept;

  adaptive_concurrency_stats stats() const noexcept {
    adaptive_concurrency_stats s = stats_;
    s.limit = limit_;
    s.in_flight = meter_.in_flight();
    s.waiting = waiting_;
    s.mean = meter_.mean();
    s.service_time = last_.service_time;
    return s;
  }
  std::vector<concurrency_change> log() const {
    std::vector<concurrency_change> all;
    all.reserve(log_.size());
    for (std::size_t i = 0; i != log_.size(); ++i) all.push_back(log_[(oldest_ + i) % log_.size()]);
    return all;
  }
  std::string explain() const;

 private:
  friend alarm<concurrency_core>;
  using line = on_one_loop::line;

  static adaptive_concurrency_options checked(const adaptive_concurrency_options& o);
  virtual concurrency_decision ask(const concurrency_window& w, double limit) noexcept = 0;
  void decide(clock::time_point now) noexcept;
  void on_alarm() noexcept {
    alarm_at_ = clock::time_point::max();
    serve();
  }
  void serve() noexcept;
  void make_room(int priority, clock::time_point now);
  void shed_late(clock::time_point now) noexcept;
  void set_alarm() noexcept;
  void refuse(concurrency_waiter& w, std::exception_ptr why) noexcept;
  std::exception_ptr made_overloaded() const noexcept;
  /// For whoever comes now.
  clock::duration hint() const noexcept {
    const clock::duration each = meter_.mean() == clock::duration::zero() ? options_.window : meter_.mean();
    const double all =
        static_cast<double>(each.count()) * static_cast<double>(waiting_ + 1) / static_cast<double>(limit_);
    return std::max(clock::duration(1), clock::duration(static_cast<clock::rep>(std::min(all, 9e18))));
  }
  bool is_overloaded(clock::time_point now) const noexcept {
    return waiting_ != 0 && now >= saturated_sum(line_began_, options_.overload);
  }
  bool sheds_late() const noexcept {
    return options_.max_wait != clock::duration::max() || options_.max_wait_overloaded != clock::duration::max();
  }
  /// When the first of a line has waited too long.
  clock::time_point due(const concurrency_waiter& w) const noexcept;
  void left() noexcept {
    if (--waiting_ == 0) line_began_ = clock::time_point::max();
  }
  void remember(const concurrency_change& c) noexcept {
    if (options_.log == 0) return;
    if (log_.size() < options_.log) {
      log_.push_back(c);  // for which there is room
    } else {
      log_[oldest_] = c;
      oldest_ = (oldest_ + 1) % log_.size();
    }
  }

  const adaptive_concurrency_options options_;
  double exact_limit_;
  std::size_t limit_;
  concurrency_meter meter_;
  std::map<int, line> lines_;  // by priority
  std::size_t waiting_ = 0;
  clock::time_point line_began_ = clock::time_point::max();  // since then somebody has been in line
  alarm<concurrency_core> patience_{*this};                  // of the next who waits too long
  clock::time_point alarm_at_ = clock::time_point::max();
  loop* loop_ = nullptr;  // of those who wait
  adaptive_concurrency_stats stats_;
  concurrency_change last_change_;
  concurrency_change last_;  // that, or what left the limit as it was
  std::vector<concurrency_change> log_;
  std::size_t oldest_ = 0;
  on_one_loop::user user_;
  on_one_loop::mutex mutex_;
  bool is_closed_ = false;
};

template <class Algorithm>
class concurrency_core_with final : public concurrency_core {
 public:
  concurrency_core_with(const adaptive_concurrency_options& o, Algorithm a)
      : concurrency_core(o), algorithm_(std::move(a)) {}

 private:
  concurrency_decision ask(const concurrency_window& w, double limit) noexcept override {
    return algorithm_.update(w, limit);
  }
  Algorithm algorithm_;
};

class concurrency_request {
 public:
  concurrency_request(std::shared_ptr<concurrency_core> c, concurrency_call call) noexcept
      : core_(std::move(c)), call_(call) {}
  bool try_now() { return core_->take(); }
  concurrency_slot take() noexcept { return concurrency_slot(std::move(core_)); }

 protected:
  std::shared_ptr<concurrency_core> core_;
  concurrency_call call_;
};

class concurrency_waiter final : public on_one_loop::waiter, concurrency_request {
 public:
  explicit concurrency_waiter(concurrency_request r) noexcept : concurrency_request(std::move(r)) {}
  concurrency_waiter(concurrency_waiter&& o) noexcept
      : concurrency_request(std::move(static_cast<concurrency_request&>(o))) {}
  ~concurrency_waiter() {
    if (wait_ == taken) core_->withdrawn(line_ != nullptr);
  }
  const char* what() const noexcept override { return "adaptive_concurrency"; }
  bool await_ready() {
    if (!this->try_now()) return false;
    wait_ = taken;
    return true;
  }
  bool suspend(frame& f) {
    core_->waits(*this, f);
    return true;
  }
  concurrency_slot await_resume() {
    this->consume();
    if (failure_) {
      core_.reset();
      std::rethrow_exception(std::exchange(failure_, nullptr));
    }
    wait_ = over;
    return this->take();
  }
  std::exception_ptr failure() const noexcept { return failure_; }

 private:
  friend concurrency_core;
  void leave_line() noexcept override { core_->leaves(*this); }
  enum : unsigned char { undecided, taken, over } wait_ = undecided;
  clock::time_point since_{};
  on_one_loop::line* line_ = nullptr;
  std::exception_ptr failure_;
};

inline adaptive_concurrency_options concurrency_core::checked(const adaptive_concurrency_options& o) {
  const auto refuse = [](const std::string& what) {
    throw std::invalid_argument("tandem::adaptive_concurrency: " + what);
  };
  if (o.min == 0) refuse("min is 0; it must be at least 1");
  if (o.min > o.max) refuse("min is " + std::to_string(o.min) + ", more than max, " + std::to_string(o.max));
  if (o.initial < o.min || o.initial > o.max)
    refuse("initial is " + std::to_string(o.initial) + "; it must be from min, " + std::to_string(o.min) +
           ", to max, " + std::to_string(o.max));
  if (o.samples == 0) refuse("samples is 0; it must be at least 1");
  if (o.window <= clock::duration::zero())
    refuse("window is " + std::to_string(o.window.count()) + " ns; it must be positive");
  if (o.log > 1'000'000) refuse("log is " + std::to_string(o.log) + "; it must be at most 1,000,000");
  refuse_negative(o.max_wait, "tandem::adaptive_concurrency: max_wait");
  refuse_negative(o.max_wait_overloaded, "tandem::adaptive_concurrency: max_wait_overloaded");
  refuse_negative(o.overload, "tandem::adaptive_concurrency: overload");
  return o;
}

inline void concurrency_core::decide(clock::time_point now) noexcept {
  const concurrency_window w = meter_.window(now);
  const concurrency_decision d = ask(w, exact_limit_);
  const auto least = static_cast<double>(options_.min), most = static_cast<double>(options_.max);
  exact_limit_ = d.limit >= least ? std::min(d.limit, most) : least;  // which a NaN is not
  const std::size_t before =
      std::exchange(limit_, d.limit >= most ? options_.max : static_cast<std::size_t>(exact_limit_));
  last_ = {before, limit_, d.reason, d.service_time, w};
  if (before != limit_) remember(last_change_ = last_);
  meter_.restart(now, limit_);
}

inline clock::time_point concurrency_core::due(const concurrency_waiter& w) const noexcept {
  clock::time_point t = saturated_sum(w.since_, options_.max_wait);
  if (options_.max_wait_overloaded < options_.max_wait)
    t = std::min(t, std::max(saturated_sum(w.since_, options_.max_wait_overloaded),
                             saturated_sum(line_began_, options_.overload)));
  return t;
}

inline std::exception_ptr concurrency_core::made_overloaded() const noexcept {
  try {
    return std::make_exception_ptr(overloaded(hint()));
  } catch (...) {
    return std::current_exception();
  }
}

inline void concurrency_core::refuse(concurrency_waiter& w, std::exception_ptr why) noexcept {
  w.failure_ = std::move(why);
  left();
  w.line_->wake(w);
}

/// The line is full: somebody who is less urgent goes, or whoever comes is refused.
inline void concurrency_core::make_room(int priority, clock::time_point now) {
  const bool newest_first = options_.newest_first_overloaded && is_overloaded(now);
  for (auto last = lines_.rbegin(); last != lines_.rend(); ++last) {
    line& l = last->second;
    if (l.empty()) continue;
    if (last->first < priority || (last->first == priority && !newest_first)) break;
    ++stats_.shed;
    return refuse(static_cast<concurrency_waiter&>(newest_first ? l.front() : l.back()), made_overloaded());
  }
  ++stats_.shed;
  std::rethrow_exception(made_overloaded());
}

inline void concurrency_core::waits(concurrency_waiter& w, frame& f) {
  user_.check(f, "adaptive_concurrency", "make one for each loop");
  if (is_closed_) std::rethrow_exception(make_cancelled());
  if (f.scope->state != scope::running) return w.park_to_be_stopped(f);  // and takes nobody's place
  loop& l = *f.scope->loop;
  const clock::time_point now = l.now();
  loop_ = &l;
  line& mine = lines_[w.call_.priority];
  if (sheds_late()) l.reserve_timer();
  if (waiting_ >= options_.max_waiting) make_room(w.call_.priority, now);
  w.since_ = now;
  w.line_ = &mine;
  if (!w.wait_in(mine, mutex_, f)) return;
  if (++waiting_ == 1) line_began_ = now;
  if (waiting_ > stats_.most_waiting) stats_.most_waiting = waiting_;
  ++stats_.waited;
  set_alarm();
}

inline void concurrency_core::leaves(concurrency_waiter& w) noexcept {
  w.line_->remove(w);
  left();
  ++stats_.gave_up;
  if (waiting_ == 0) set_alarm();
}

/// For the first who will have waited too long, if that is sooner than what it is set for, or nobody waits.
inline void concurrency_core::set_alarm() noexcept {
  if (!sheds_late()) return;
  clock::time_point t = clock::time_point::max();
  for (auto& [priority, l] : lines_)
    if (!l.empty()) t = std::min(t, due(static_cast<concurrency_waiter&>(l.front())));
  if (waiting_ != 0 && t >= alarm_at_) return;
  patience_.cancel();
  alarm_at_ = t;
  if (t == clock::time_point::max()) return;
  try {
    loop_->reserve_timer();
    patience_.set(*loop_, t);
  } catch (...) {  // no memory: those who are late are refused when something ends
    alarm_at_ = clock::time_point::max();
  }
}

inline void concurrency_core::shed_late(clock::time_point now) noexcept {
  for (auto& [priority, l] : lines_)
    while (!l.empty()) {
      auto& w = static_cast<concurrency_waiter&>(l.front());
      if (due(w) > now) break;
      ++stats_.shed;
      refuse(w, made_overloaded());
    }
}

inline void concurrency_core::serve() noexcept {
  if (waiting_ == 0 || is_closed_) return;
  const clock::time_point now = clock::now();
  if (sheds_late()) shed_late(now - clock::duration(1));  // who is late now is let through, if he can be
  for (auto& [priority, l] : lines_)
    while (!l.empty() && meter_.in_flight() < limit_) {
      const bool newest_first = options_.newest_first_overloaded && is_overloaded(now);
      auto& w = static_cast<concurrency_waiter&>(newest_first ? l.back() : l.front());
      meter_.started(now);
      w.wait_ = concurrency_waiter::taken;
      left();
      l.wake(w);
    }
  if (sheds_late()) shed_late(now);
  set_alarm();
}

inline void concurrency_core::disown() noexcept {
  is_closed_ = true;
  patience_.cancel();
  const std::exception_ptr gone = waiting_ == 0 ? nullptr : make_cancelled();
  for (auto& [priority, l] : lines_)
    while (!l.empty()) {
      auto& w = static_cast<concurrency_waiter&>(l.front());
      w.failure_ = gone;
      left();
      l.wake_if_running(w);
    }
}

inline std::string concurrency_core::explain() const {
  const auto text_of = [](const concurrency_change& c) {
    const auto ms = [](clock::duration d) { return static_cast<double>(d.count()) / 1e6; };
    char when[64], what[320];
    std::snprintf(when, sizeof when, "at %.3f s: %zu -> %zu, ", ms(c.window.end.time_since_epoch()) / 1e3, c.before,
                  c.after);
    std::snprintf(what, sizeof what,
                  " (in %.0f ms %zu calls succeeded and %zu were dropped; mean %.2f ms, service time %.2f ms; %.1f in "
                  "flight, %.0f %% of the time at the limit)",
                  ms(c.window.end - c.window.begin), c.window.succeeded, c.window.dropped, ms(c.window.mean),
                  ms(c.service_time), c.window.in_flight, c.window.at_limit * 100);
    return when + std::string(c.reason) + what;
  };
  std::string s = "the limit is " + std::to_string(limit_) + " (from " + std::to_string(options_.min) + " to " +
                  std::to_string(options_.max) + ")\n";
  if (last_.window.limit == 0) return s + "as it was in the beginning: no window has ended\n";
  const bool has_changed = last_change_.window.limit != 0;
  if (has_changed) s += text_of(last_change_) + '\n';
  if (last_.before == last_.after) s += (has_changed ? "and last " : "") + text_of(last_) + '\n';
  return s;
}

// What the calls say.

struct classify_by_kind {
  template <class T>
  concurrency_outcome operator()(const outcome<T>& o) const noexcept {
    if (o) return concurrency_outcome::success;
    const std::exception_ptr e = o.error();
    return kind_of(e) == error_kind::timeout || is_a<overloaded>(e) ? concurrency_outcome::drop
                                                                    : concurrency_outcome::ignore;
  }
};

template <class Function, class Classify>
task<called_t<Function>> run_limited(std::shared_ptr<concurrency_core> core, concurrency_call call, Function function,
                                     Classify classify) {
  concurrency_slot slot =
      co_await asks_first<concurrency_request, concurrency_waiter>(concurrency_request(std::move(core), call));
  auto calls = outcome_of(function);
  auto o = co_await std::move(calls);
  slot.release(classify(std::as_const(o)));
  co_return give(std::move(o));
}

template <class Function, class Classify = classify_by_kind>
auto make_run(const std::shared_ptr<concurrency_core>& core, concurrency_call call, Function&& function,
              Classify&& classify = {}) {
  using F = std::decay_t<Function>;
  using C = std::decay_t<Classify>;
  refuse_what_gcc12_miscompiles<Function>();
  static_assert(gives_awaitable<F&>(),
                "what is run is a callable that takes nothing and returns an awaitable, such as a task");
  refuse_what_gcc12_miscompiles<Classify>();
  static_assert(std::is_invocable_r_v<concurrency_outcome, C&, const outcome<called_t<F>>&>,
                "what classifies takes the outcome of the call and gives a concurrency_outcome");
  return run_limited<F, C>(core, call, std::forward<Function>(function), std::forward<Classify>(classify));
}

}  // namespace detail

inline overloaded::overloaded(clock::duration retry_after)
    : unavailable("tandem::overloaded: too many calls wait; come back in " +
                      std::to_string(std::chrono::ceil<std::chrono::milliseconds>(retry_after).count()) + " ms",
                  retry_after) {}

inline concurrency_slot::concurrency_slot(std::shared_ptr<detail::concurrency_core> core) noexcept
    : core_(std::move(core)), begin_(clock::now()) {}
inline concurrency_slot& concurrency_slot::operator=(concurrency_slot&& other) noexcept {
  if (this == &other) return *this;
  release();
  core_ = std::move(other.core_);
  begin_ = other.begin_;
  return *this;
}
inline void concurrency_slot::release(concurrency_outcome outcome) noexcept {
  if (const auto core = std::exchange(core_, nullptr)) core->ended(begin_, outcome);
}

template <class Algorithm>
adaptive_concurrency<Algorithm>::adaptive_concurrency(adaptive_concurrency_options options, Algorithm algorithm)
    : core_(std::make_shared<detail::concurrency_core_with<Algorithm>>(options, std::move(algorithm))) {}
template <class Algorithm>
adaptive_concurrency<Algorithm>::~adaptive_concurrency() {
  core_->disown();
}

template <class Algorithm>
template <class Function>
auto adaptive_concurrency<Algorithm>::run(Function&& function) {
  return detail::make_run(core_, {}, std::forward<Function>(function));
}
template <class Algorithm>
template <class Function, class Classify>
requires(!std::is_same_v<std::decay_t<Function>, concurrency_call>) auto adaptive_concurrency<Algorithm>::run(
    Function&& function, Classify&& classify) {
  return detail::make_run(core_, {}, std::forward<Function>(function), std::forward<Classify>(classify));
}
template <class Algorithm>
template <class Function>
auto adaptive_concurrency<Algorithm>::run(concurrency_call call, Function&& function) {
  return detail::make_run(core_, call, std::forward<Function>(function));
}
template <class Algorithm>
template <class Function, class Classify>
auto adaptive_concurrency<Algorithm>::run(concurrency_call call, Function&& function, Classify&& classify) {
  return detail::make_run(core_, call, std::forward<Function>(function), std::forward<Classify>(classify));
}

template <class Algorithm>
auto adaptive_concurrency<Algorithm>::acquire(concurrency_call call) {
  return detail::asks_first<detail::concurrency_request, detail::concurrency_waiter>(
      detail::concurrency_request(core_, call));
}
template <class Algorithm>
concurrency_slot adaptive_concurrency<Algorithm>::try_acquire() {
  if (!detail::loop::current())
    throw std::logic_error("tandem::adaptive_concurrency: used where no loop runs, and so there is no time");
  detail::concurrency_request r(core_, {});
  return r.try_now() ? r.take() : concurrency_slot();
}

template <class Algorithm>
std::size_t adaptive_concurrency<Algorithm>::limit() const noexcept {
  return core_->limit();
}
template <class Algorithm>
std::size_t adaptive_concurrency<Algorithm>::in_flight() const noexcept {
  return core_->in_flight();
}
template <class Algorithm>
adaptive_concurrency_stats adaptive_concurrency<Algorithm>::stats() const noexcept {
  return core_->stats();
}
template <class Algorithm>
std::vector<concurrency_change> adaptive_concurrency<Algorithm>::log() const {
  return core_->log();
}
template <class Algorithm>
std::string adaptive_concurrency<Algorithm>::explain() const {
  return core_->explain();
}

}  // namespace tandem::inline TANDEM_CONFIG
