// tandem/circuit_breaker.hpp: leaves a service alone that is down: circuit_breaker.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, error_kind.hpp, exceptions.hpp, outcome.hpp, task.hpp, detail/calls.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/random.hpp, detail/result.hpp, detail/time_parts.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "error_kind.hpp"
#include "exceptions.hpp"
#include "outcome.hpp"
#include "task.hpp"

#include "detail/calls.hpp"
#include "detail/gcc12.hpp"
#include "detail/time_parts.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>  // std::function
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/circuit_breaker.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

enum class circuit_state : unsigned char {
  closed,    ///< calls are made, and their results counted
  open,      ///< no call is made
  half_open  ///< some are, to see whether the service is back
};

struct circuit_breaker_options {
  double failure_ratio = 0.5;     ///< so many of the calls in the window failed, and it opens; more than 0, up to 1
  std::size_t window = 20;        ///< the calls that count: so many; at least 1
  clock::duration window_time{};  ///< positive: in place of that, those of so much time, in tenths of it
  std::size_t min_calls = 10;     ///< with fewer in the window it does not open; at least 1, at most `window`
  clock::duration slow_call = clock::duration::max();   ///< one that takes longer is slow; positive
  double slow_ratio = 1;                                ///< so many were slow, and it opens; more than 0, up to 1
  clock::duration cool_down = std::chrono::seconds(5);  ///< how long it stays open; positive
  std::size_t probes = 3;  ///< calls that are made half-open, and must all be good; at least 1
};

/// What a call says about the service.
enum class circuit_outcome : unsigned char {
  success,
  failure,
  ignore  ///< nothing
};

/// How a call ends while the circuit is open: the service was not called. `retry_after()`: until the next probe may be
/// made.
class circuit_open : public unavailable {
 public:
  explicit circuit_open(clock::duration retry_after);
};

struct circuit_breaker_stats {
  circuit_state state = circuit_state::closed;
  std::size_t calls = 0, failures = 0, slow = 0;         ///< in the window
  std::uint64_t succeeded = 0, failed = 0, ignored = 0;  ///< calls that have ended, all together
  std::uint64_t refused = 0,
                late = 0;    ///< calls that were not made; and that ended when their results no longer counted
  std::uint64_t opened = 0;  ///< times
};

/// Makes calls as long as most of them are good, and refuses them for a while when they are not: `co_await
/// breaker.run(fetch)`.
///
/// *Closed*: the results of the last calls are counted, and if the part that failed, or was slow, is too large, it
/// opens. *Open*: `run` throws `circuit_open` at once. After `cool_down` it is *half-open* for whoever calls next: at
/// most `probes` calls are made, and others refused. If all of them are good it closes, with nothing counted; with the
/// first that is not it opens again. A probe that says nothing (it was stopped) leaves its place to another; if the
/// probes take longer than `cool_down`, others take their places, so that it cannot stick; if they are good after all,
/// they count. Results of calls that began before the state changed do not count.
///
/// For the coroutines of one loop, on its clock; nothing runs while nobody calls. A call costs a few comparisons, two
/// readings of the clock and two frames; nothing is allocated.
class circuit_breaker {
 public:
  /// Throws std::invalid_argument for options outside their range.
  explicit circuit_breaker(circuit_breaker_options options);
  circuit_breaker() : circuit_breaker(circuit_breaker_options()) {}
  circuit_breaker(const circuit_breaker&) = delete;  // a breaker is shared: pass it by reference
  circuit_breaker& operator=(const circuit_breaker&) = delete;

  /// Calls `function()`, awaits what that returns, and gives it. Failures of the kinds network, timeout, system and
  /// unknown count as such; those of the kinds validation and business are successes: the service has answered. Stops
  /// and `cancelled` are ignored. `classify`, which is given the `outcome` of the call, may say otherwise; what it
  /// throws is how the call ends, which is ignored then. The failure of the call goes on as it is.
  template <class Function>
  auto run(Function&& function);
  template <class Function, class Classify>
  auto run(Function&& function, Classify&& classify);

  /// As of now: one that was open for `cool_down` is half-open.
  circuit_state state() const noexcept;
  /// By hand: open for `cool_down`, or until it is closed; closed, with nothing counted.
  void open() noexcept;
  void close() noexcept;
  /// Called after each change, in the call that made it; must not throw. The change from open to half-open is told when
  /// somebody calls; one that the hook makes itself is not told. Replaces the one before.
  void on_change(std::function<void(circuit_state from, circuit_state to)> hook) {
    ++core_->hook_version;
    core_->hook = std::move(hook);
  }
  circuit_breaker_stats stats() const noexcept;

 private:
  /// Counted results, the oldest of which are forgotten.
  class results {
   public:
    explicit results(const circuit_breaker_options& o);
    void add(bool failed, bool slow, clock::time_point now) noexcept;
    void clear() noexcept;
    /// Forgets what is out of the window.
    void look(clock::time_point now) noexcept;
    std::size_t calls = 0, failures = 0, slow = 0;

   private:
    struct counts {
      std::size_t calls = 0, failures = 0, slow = 0;
    };
    /// Those that have been there longest.
    void forget_oldest() noexcept;
    std::vector<counts> parts_;  // one a call, or a tenth of the time
    std::size_t at_ = 0;
    bool is_of_time_;
    detail::time_parts time_;
  };
  /// It lives as long as the breaker, or a call.
  struct core {
    explicit core(const circuit_breaker_options& o) : options(o), window(o) {}
    void enter();
    void ended(std::uint64_t call_epoch, std::uint64_t call_round, clock::time_point began,
               circuit_outcome how) noexcept;
    void become(circuit_state next) noexcept;
    bool is_cool(clock::time_point now) const noexcept;

    const circuit_breaker_options options;
    circuit_state state = circuit_state::closed;
    std::uint64_t epoch = 0;  // of the state; results of others do not count
    std::uint64_t round = 0;  // of the probes; those of others hold no place any more
    clock::time_point since{};
    std::size_t probing = 0, good_probes = 0;  // half-open: calls under way, and those that were good
    results window;
    circuit_breaker_stats counted;
    std::function<void(circuit_state, circuit_state)> hook;
    std::uint64_t hook_version = 0;
  };
  /// A call that is under way: one that is stopped says nothing.
  class call {
   public:
    explicit call(std::shared_ptr<core> c) : core_(std::move(c)) {
      core_->enter();
      epoch_ = core_->epoch;
      round_ = core_->round;
      began_ = clock::now();
    }
    call(const call&) = delete;
    call& operator=(const call&) = delete;
    ~call() { end(circuit_outcome::ignore); }
    void end(circuit_outcome how) noexcept {
      if (const auto c = std::exchange(core_, nullptr)) c->ended(epoch_, round_, began_, how);
    }

   private:
    std::shared_ptr<core> core_;
    std::uint64_t epoch_ = 0, round_ = 0;
    clock::time_point began_{};
  };
  template <class Function, class Classify>
  static task<detail::called_t<Function>> make_call(std::shared_ptr<core> c, Function function, Classify classify);
  static circuit_breaker_options checked(const circuit_breaker_options& o);

  std::shared_ptr<core> core_;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {
struct circuit_outcome_by_kind {
  template <class T>
  circuit_outcome operator()(const outcome<T>& o) const noexcept {
    if (o) return circuit_outcome::success;
    const error_kind kind = kind_of(o.error());
    return kind == error_kind::cancelled                                    ? circuit_outcome::ignore
           : kind == error_kind::validation || kind == error_kind::business ? circuit_outcome::success
                                                                            : circuit_outcome::failure;
  }
};
}  // namespace detail

inline circuit_open::circuit_open(clock::duration retry_after)
    : unavailable("tandem::circuit_open: the service was not called; come back in " +
                      std::to_string(std::chrono::ceil<std::chrono::milliseconds>(retry_after).count()) + " ms",
                  retry_after) {}

inline circuit_breaker::results::results(const circuit_breaker_options& o)
    : parts_(o.window_time != clock::duration::zero() ? 10 : o.window),
      is_of_time_(o.window_time != clock::duration::zero()),
      time_(std::max(o.window_time, clock::duration(1)), parts_.size()) {}
inline void circuit_breaker::results::forget_oldest() noexcept {
  at_ = (at_ + 1) % parts_.size();
  counts& c = parts_[at_];
  calls -= c.calls;
  failures -= c.failures;
  slow -= c.slow;
  c = {};
}
inline void circuit_breaker::results::look(clock::time_point now) noexcept {
  if (!is_of_time_) return;
  for (std::size_t n = time_.begun(now); n != 0; --n) forget_oldest();
}
inline void circuit_breaker::results::add(bool has_failed, bool was_slow, clock::time_point now) noexcept {
  if (is_of_time_)
    look(now);
  else
    forget_oldest();
  counts& c = parts_[at_];
  ++c.calls;
  ++calls;
  c.failures += has_failed;
  failures += has_failed;
  c.slow += was_slow;
  slow += was_slow;
}
inline void circuit_breaker::results::clear() noexcept {
  for (std::size_t n = parts_.size(); n != 0; --n) forget_oldest();
}

inline void circuit_breaker::core::become(circuit_state next) noexcept {
  const circuit_state before = std::exchange(state, next);
  ++epoch;
  since = clock::now();
  probing = good_probes = 0;
  window.clear();
  if (before == next) return;
  counted.opened += next == circuit_state::open;
  if (!hook) return;
  const std::uint64_t version = hook_version;
  auto told = std::move(hook);  // it may set another
  hook = nullptr;
  told(before, next);
  if (version == hook_version) hook = std::move(told);
}
inline bool circuit_breaker::core::is_cool(clock::time_point now) const noexcept {
  return now >= detail::saturated_sum(since, options.cool_down) || now < since;  // or by another clock
}
/// Before a call. Throws `circuit_open`.
inline void circuit_breaker::core::enter() {
  if (state == circuit_state::closed) return;
  const clock::time_point now = clock::now();
  if (state == circuit_state::open && is_cool(now)) become(circuit_state::half_open);
  if (state == circuit_state::closed) return;  // the hook has closed it
  const auto has_place = [&] { return state == circuit_state::half_open && probing + good_probes < options.probes; };
  if (state == circuit_state::half_open && !has_place() && is_cool(now)) {  // the probes may never end
    probing = 0;
    ++round;
    since = now;
  }
  if (has_place()) {
    ++probing;
    return;
  }
  ++counted.refused;
  throw circuit_open(detail::saturated_sum(since, options.cool_down) - now);
}
inline void circuit_breaker::core::ended(std::uint64_t call_epoch, std::uint64_t call_round, clock::time_point began,
                                         circuit_outcome how) noexcept {
  const clock::time_point now = clock::now();
  ++(how == circuit_outcome::success   ? counted.succeeded
     : how == circuit_outcome::failure ? counted.failed
                                       : counted.ignored);
  if (call_epoch != epoch) {
    ++counted.late;
    return;
  }
  if (state == circuit_state::half_open && call_round == round) --probing;
  if (how == circuit_outcome::ignore || state == circuit_state::open) return;
  const bool has_failed = how == circuit_outcome::failure, was_slow = now - began > options.slow_call;
  if (state == circuit_state::half_open) {
    if (has_failed || was_slow)
      become(circuit_state::open);
    else if (++good_probes >= options.probes)
      become(circuit_state::closed);
    return;
  }
  window.add(has_failed, was_slow, now);
  const auto all = static_cast<double>(window.calls);
  if (window.calls >= options.min_calls && (static_cast<double>(window.failures) >= options.failure_ratio * all ||
                                            static_cast<double>(window.slow) >= options.slow_ratio * all))
    become(circuit_state::open);
}

inline circuit_breaker_options circuit_breaker::checked(const circuit_breaker_options& o) {
  const auto refuse = [](const std::string& what) { throw std::invalid_argument("tandem::circuit_breaker: " + what); };
  const auto ratio = [&](double r, const char* name) {
    if (!(r > 0 && r <= 1)) refuse(name + (" is " + std::to_string(r)) + "; it must be more than 0 and at most 1");
  };
  const auto positive = [&](clock::duration d, const char* name) {
    if (d <= clock::duration::zero()) refuse(name + (" is " + std::to_string(d.count())) + " ns; it must be positive");
  };
  ratio(o.failure_ratio, "failure_ratio");
  ratio(o.slow_ratio, "slow_ratio");
  positive(o.slow_call, "slow_call");
  positive(o.cool_down, "cool_down");
  detail::refuse_negative(o.window_time, "tandem::circuit_breaker: window_time");
  if (o.window == 0) refuse("window is 0; it must be at least 1");
  if (o.probes == 0) refuse("probes is 0; it must be at least 1");
  if (o.min_calls == 0) refuse("min_calls is 0; it must be at least 1");
  if (o.window_time == clock::duration::zero() && o.min_calls > o.window)
    refuse("min_calls is " + std::to_string(o.min_calls) + ", more than window, " + std::to_string(o.window));
  return o;
}
inline circuit_breaker::circuit_breaker(circuit_breaker_options options)
    : core_(std::make_shared<core>(checked(options))) {}

inline circuit_state circuit_breaker::state() const noexcept {
  return core_->state == circuit_state::open && core_->is_cool(clock::now()) ? circuit_state::half_open : core_->state;
}
inline void circuit_breaker::open() noexcept {
  const auto c = core_;  // the hook may destroy the breaker
  c->become(circuit_state::open);
}
inline void circuit_breaker::close() noexcept {
  const auto c = core_;
  c->become(circuit_state::closed);
}
inline circuit_breaker_stats circuit_breaker::stats() const noexcept {
  core_->window.look(clock::now());
  circuit_breaker_stats s = core_->counted;
  s.state = state();
  s.calls = core_->window.calls;
  s.failures = core_->window.failures;
  s.slow = core_->window.slow;
  return s;
}

template <class Function, class Classify>
task<detail::called_t<Function>> circuit_breaker::make_call(std::shared_ptr<core> c, Function function,
                                                            Classify classify) {
  call under_way(std::move(c));
  auto calls = detail::outcome_of(function);
  auto o = co_await std::move(calls);
  under_way.end(classify(std::as_const(o)));
  co_return detail::give(std::move(o));
}
template <class Function, class Classify>
auto circuit_breaker::run(Function&& function, Classify&& classify) {
  using F = std::decay_t<Function>;
  using C = std::decay_t<Classify>;
  detail::refuse_what_gcc12_miscompiles<Function, Classify>();
  static_assert(detail::gives_awaitable<F&>(),
                "what is run is a callable that takes nothing and returns an awaitable, such as a task");
  static_assert(std::is_invocable_r_v<circuit_outcome, C&, const outcome<detail::called_t<F>>&>,
                "what classifies takes the outcome of the call and gives a circuit_outcome");
  return make_call<F, C>(core_, std::forward<Function>(function), std::forward<Classify>(classify));
}
template <class Function>
auto circuit_breaker::run(Function&& function) {
  return run(std::forward<Function>(function), detail::circuit_outcome_by_kind());
}

}  // namespace tandem::inline TANDEM_CONFIG
