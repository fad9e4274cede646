// tandem/policy.hpp: all that is between a call and a service, in one: policy, call_trace.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: adaptive_concurrency.hpp, asio.hpp, cancel.hpp, circuit_breaker.hpp, clock.hpp, concurrency_algorithms.hpp, error_kind.hpp, exceptions.hpp, outcome.hpp, rate_limiter.hpp, retry.hpp, task.hpp, this_task.hpp, detail/alarm.hpp, detail/calls.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/lru_table.hpp, detail/one_loop.hpp, detail/place.hpp, detail/priority.hpp, detail/random.hpp, detail/result.hpp, detail/time_parts.hpp, detail/timer_heap.hpp, detail/tracer.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "adaptive_concurrency.hpp"
#include "asio.hpp"
#include "cancel.hpp"  // timeout
#include "circuit_breaker.hpp"
#include "clock.hpp"
#include "rate_limiter.hpp"
#include "retry.hpp"
#include "task.hpp"

#include "detail/calls.hpp"
#include "detail/gcc12.hpp"

#include <chrono>
#include <cstddef>
#include <exception>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/policy.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// A part of a policy: the time for everything, attempts and waits.
struct total_timeout {
  clock::duration limit = clock::duration::max();  ///< positive
};
/// A part of a policy: the time that the service has for one attempt.
struct attempt_timeout {
  clock::duration limit = clock::duration::max();  ///< positive
};

/// What happened to a call, in words and in order.
class call_trace {
 public:
  struct entry {
    clock::duration after{};  ///< the start of the call
    std::string what;
  };
  const std::vector<entry>& entries() const noexcept { return entries_; }
  /// A line for each.
  std::string text() const;

  /// Made by the library. What there is no memory for is left out.
  void begin() {
    entries_.clear();
    begin_ = clock::now();
  }
  void add(std::string what) { entries_.push_back({clock::now() - begin_, std::move(what)}); }

 private:
  std::vector<entry> entries_;
  clock::time_point begin_{};
};

namespace detail {
template <class Part>
inline constexpr int rank_of_part = -1;
template <>
inline constexpr int rank_of_part<total_timeout> = 0;
template <>
inline constexpr int rank_of_part<retry_options> = 1;
template <>
inline constexpr int rank_of_part<circuit_breaker> = 2;
template <>
inline constexpr int rank_of_part<rate_limiter> = 3;
template <class Algorithm>
inline constexpr int rank_of_part<adaptive_concurrency<Algorithm>> = 4;
template <>
inline constexpr int rank_of_part<attempt_timeout> = 5;

template <class Part>
constexpr bool is_shared_part() {
  const int rank = rank_of_part<std::remove_cvref_t<Part>>;
  return rank >= 2 && rank <= 4;
}
/// Ascending, so that each is there once at most.
template <class... Parts>
constexpr bool are_from_the_outside_in() {
  [[maybe_unused]] int last = -1;
  [[maybe_unused]] const auto follows = [&](int rank) { return rank > std::exchange(last, rank); };
  return (follows(rank_of_part<std::remove_cvref_t<Parts>>) && ...);
}
}  // namespace detail

/// What a call goes through on its way to a service:
///
///     policy to_bank(total_timeout{5s}, retry_options{.attempts = 3}, breaker, limit, control, attempt_timeout{1s});
///     auto account = co_await to_bank.run(fetch);
///
/// The parts are given from the outside in, in this order, and any may be left out: `total_timeout`, `retry_options`, a
/// `circuit_breaker`, a `rate_limiter`, an `adaptive_concurrency`, `attempt_timeout`. Another order does not compile.
/// The three in the middle are shared with other policies: variables that outlive the calls.
///
/// So every attempt is one for the breaker, and an open circuit is waited for by the retry; a call that the breaker
/// refuses takes no turn and no slot; who waits for a turn holds no slot; and the time of an attempt is that of the
/// service alone. The breaker's `slow_call` has the waits for turn and slot in it.
///
/// A call ends as the parts say: with the value, with the failure of the last attempt as it is, `timed_out`,
/// `circuit_open` or `overloaded`. A stop stops it wherever it is. With a breaker or a controller give an
/// `attempt_timeout`: what a total ends, or a stop, says nothing to them.
template <class... Parts>
class policy {
  static_assert(((detail::rank_of_part<std::remove_cvref_t<Parts>> >= 0) && ...),
                "a part of a policy is a total_timeout, retry_options, a circuit_breaker, a rate_limiter, an "
                "adaptive_concurrency or an attempt_timeout");
  static_assert(detail::are_from_the_outside_in<Parts...>(),
                "the parts of a policy are given from the outside in, each once at most: total_timeout, retry_options, "
                "circuit_breaker, rate_limiter, adaptive_concurrency, attempt_timeout");
  static_assert(((!detail::is_shared_part<Parts>() || std::is_lvalue_reference_v<Parts>)&&...),
                "a circuit_breaker, rate_limiter or adaptive_concurrency is shared: give a variable, not a temporary");

 public:
  /// Throws std::invalid_argument for times that are not positive, and for retry_options outside their range.
  explicit policy(Parts... parts);

  /// Calls `function()`, awaits what that returns, and gives it.
  template <class Function>
  auto run(Function&& function) const;
  /// The same, and writes down what happens. `trace` must outlive the call.
  template <class Function>
  auto run(Function&& function, call_trace& trace) const;

 private:
  std::tuple<Parts...> parts_;
};
template <class... Parts>
policy(Parts&&...) -> policy<std::conditional_t<detail::is_shared_part<Parts>(), Parts, std::remove_cvref_t<Parts>>...>;

// ---- implementation ------------------------------------------------------------------------------------------------

inline std::string call_trace::text() const {
  std::string s;
  for (const entry& e : entries_)
    s += std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(e.after).count()) + " ms: " + e.what +
         '\n';
  return s;
}

namespace detail {

inline void check_part(const total_timeout& t) {
  if (t.limit <= clock::duration::zero())
    throw std::invalid_argument("tandem::policy: total_timeout is " + std::to_string(t.limit.count()) +
                                " ns; it must be positive");
}
inline void check_part(const attempt_timeout& t) {
  if (t.limit <= clock::duration::zero())
    throw std::invalid_argument("tandem::policy: attempt_timeout is " + std::to_string(t.limit.count()) +
                                " ns; it must be positive");
}
inline void check_part(const retry_options& o) {
  checked_backoff(o);
  if (o.attempt_timeout != clock::duration::max())
    throw std::invalid_argument(
        "tandem::policy: retry_options have an attempt_timeout, of which breaker and controller would not know; use "
        "the "
        "part attempt_timeout");
}
template <class Shared>
void check_part(const Shared&) {}

/// What one call carries through the parts.
template <class Function>
struct policy_call {
  Function function;
  call_trace* trace;

  /// `text()`, if anybody wants to know. A line for which there is no memory is left out.
  template <class Text>
  void note(Text text) noexcept {
    if (!trace) return;
    try {
      trace->add(text());
    } catch (...) {
    }
  }
  void note_wait(clock::time_point began, const char* what) noexcept {
    note([&] {
      const clock::duration waited = clock::now() - began;
      if (waited < std::chrono::milliseconds(1)) return std::string(what);
      return what + (" after " + std::to_string(waited / std::chrono::milliseconds(1)) + " ms");
    });
  }
};
// One coroutine for each part, from the outside in.

template <class T, class Function>
task<T> go_through(policy_call<Function>& c) {
  c.note([] { return "the service is called"; });
  auto calls = outcome_of(c.function);
  auto o = co_await std::move(calls);
  c.note([&] { return o ? "it answered" : "it failed: " + text_of(o.error()); });
  co_return give(std::move(o));
}
template <class T, class Function, class... Rest>
task<T> within(policy_call<Function>& c, clock::duration limit, const char* what, Rest&... rest) {
  const clock::time_point began = clock::now();
  const auto limited = [&] { return timeout(limit, go_through<T>(c, rest...)); };
  auto calls = outcome_of(limited);
  auto o = co_await std::move(calls);
  if (!o && clock::now() - began >= limit && is_a<timed_out>(o.error())) c.note([&] { return what; });
  co_return give(std::move(o));
}
template <class T, class Function, class... Rest>
task<T> go_through(policy_call<Function>& c, const total_timeout& part, Rest&... rest) {
  return within<T>(c, part.limit, "the total time was up", rest...);
}
template <class T, class Function, class... Rest>
task<T> go_through(policy_call<Function>& c, const attempt_timeout& part, Rest&... rest) {
  return within<T>(c, part.limit, "the time of the attempt was up", rest...);
}
template <class T, class Function, class... Rest>
task<T> go_through(policy_call<Function>& c, const retry_options& part, Rest&... rest) {
  const auto attempt = [&] { return go_through<T>(c, rest...); };
  const retry_observer told = part.observer;
  auto tell = [&](const retry_attempt& a) {
    told(a);
    c.note([&] {
      const std::string number = "attempt " + std::to_string(a.number) + (a.error ? " failed" : " succeeded");
      return a.wait ? number + ", again in " + std::to_string(*a.wait / std::chrono::milliseconds(1)) + " ms"
                    : number + ": " + a.reason;
    });
  };
  retry_options options = part;
  options.observer = tell;
  co_return co_await retry(attempt, options);
}
template <class T, class Function, class... Rest>
task<T> go_through(policy_call<Function>& c, circuit_breaker& part, Rest&... rest) {
  bool was_called = false;
  const auto call = [&] {
    was_called = true;
    return go_through<T>(c, rest...);
  };
  auto calls = [&] { return part.run(call); };
  auto all = outcome_of(calls);
  auto o = co_await std::move(all);
  if (!was_called && is_a<circuit_open>(o.error())) c.note([] { return "the circuit is open"; });
  co_return give(std::move(o));
}
template <class T, class Function, class... Rest>
task<T> go_through(policy_call<Function>& c, rate_limiter& part, Rest&... rest) {
  const clock::time_point began = clock::now();
  co_await part.acquire();
  c.note_wait(began, "it was its turn");
  co_return co_await go_through<T>(c, rest...);
}
template <class T, class Function, class Algorithm, class... Rest>
task<T> go_through(policy_call<Function>& c, adaptive_concurrency<Algorithm>& part, Rest&... rest) {
  const clock::time_point began = clock::now();
  bool was_called = false;
  const auto call = [&] {
    was_called = true;
    c.note_wait(began, "it had a slot");
    return go_through<T>(c, rest...);
  };
  auto calls = [&] { return part.run(call); };
  auto all = outcome_of(calls);
  auto o = co_await std::move(all);
  if (!was_called && is_a<overloaded>(o.error())) c.note([] { return "the controller refused it"; });
  co_return give(std::move(o));
}

template <class Function, class... Parts>
task<called_t<Function>> run_policy(Function function, call_trace* trace, std::tuple<Parts...> parts) {
  policy_call<Function> c{std::move(function), trace};
  if (trace) trace->begin();
  auto all = std::apply([&](auto&... p) { return go_through<called_t<Function>>(c, p...); }, parts);
  co_return co_await std::move(all);
}

}  // namespace detail

template <class... Parts>
policy<Parts...>::policy(Parts... parts) : parts_(std::forward<Parts>(parts)...) {
  std::apply([](const auto&... p) { (detail::check_part(p), ...); }, parts_);
}
template <class... Parts>
template <class Function>
auto policy<Parts...>::run(Function&& function) const {
  detail::refuse_what_gcc12_miscompiles<Function>();
  static_assert(detail::gives_awaitable<std::decay_t<Function>&>(),
                "what is run is a callable that takes nothing and returns an awaitable, such as a task");
  return detail::run_policy<std::decay_t<Function>>(std::forward<Function>(function), nullptr, parts_);
}
template <class... Parts>
template <class Function>
auto policy<Parts...>::run(Function&& function, call_trace& trace) const {
  detail::refuse_what_gcc12_miscompiles<Function>();
  static_assert(detail::gives_awaitable<std::decay_t<Function>&>(),
                "what is run is a callable that takes nothing and returns an awaitable, such as a task");
  return detail::run_policy<std::decay_t<Function>>(std::forward<Function>(function), &trace, parts_);
}

}  // namespace tandem::inline TANDEM_CONFIG
