// tandem/retry.hpp: again, after a while: retry, backoff, retry_budget.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, cancel.hpp, clock.hpp, error_kind.hpp, exceptions.hpp, outcome.hpp, task.hpp, this_task.hpp, detail/alarm.hpp, detail/calls.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/place.hpp, detail/priority.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "cancel.hpp"  // timeout
#include "clock.hpp"
#include "error_kind.hpp"
#include "exceptions.hpp"
#include "outcome.hpp"
#include "task.hpp"
#include "this_task.hpp"

#include "detail/calls.hpp"
#include "detail/gcc12.hpp"
#include "detail/loop.hpp"
#include "detail/random.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/retry.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// How much of a wait is chance, so that those who failed together do not come back together. (The names and formulas
/// of Brooker, "Exponential backoff and jitter", AWS architecture blog, 2015.)
enum class jitter_kind : unsigned char {
  none,         ///< d, and d times `factor` the next time
  full,         ///< anything from 0 to that
  equal,        ///< from half of it to all of it
  decorrelated  ///< from `base` to three times the last wait, the first time to three times `base`
};
inline constexpr jitter_kind full = jitter_kind::full;

struct backoff_options {
  clock::duration base = std::chrono::milliseconds(100);  ///< the first wait, without chance; not negative
  clock::duration max = std::chrono::seconds(30);         ///< no wait is longer; at least `base`
  double factor = 2;                                      ///< at least 1; `decorrelated` has its own
  jitter_kind jitter = full;
};

/// Waits that become longer: `backoff waits({.base = 50ms})`, and then `co_await sleep_for(waits.next())`.
///
/// Other ones in each program, but under `simulate` the same each time. A plain value.
class backoff {
 public:
  /// Throws std::invalid_argument for options outside their range.
  explicit backoff(backoff_options options);
  backoff() : backoff(backoff_options()) {}
  clock::duration next() noexcept;
  /// As new.
  void reset() noexcept { last_ = clock::duration(-1); }

 private:
  backoff_options options_;
  clock::duration last_{-1};  // without chance; of `decorrelated`, with it; negative: none yet
  detail::random_source random_;
};

struct retry_budget_options {
  double ratio = 0.1;      ///< retries for each call, in the long run; not negative
  double per_second = 1;   ///< and for each second; not negative
  std::size_t burst = 10;  ///< and so many at once
};

/// Keeps the retries of all who share it within bounds, so that they do not multiply the load of a service that is
/// down: in any time in which n calls begin and t seconds pass, there are at most `burst + ratio * n + per_second * t`
/// retries.
///
/// For the coroutines of one loop. It must outlive the calls. (After Finagle's RetryBudget and gRFC A6.)
class retry_budget {
 public:
  /// Throws std::invalid_argument for options outside their range.
  explicit retry_budget(retry_budget_options options);
  retry_budget() : retry_budget(retry_budget_options()) {}
  retry_budget(const retry_budget&) = delete;  // a budget is shared: pass its address
  retry_budget& operator=(const retry_budget&) = delete;

  /// A call begins.
  void deposit() noexcept { add(options_.ratio); }
  /// True, and one less, if there may be a retry now.
  bool withdraw() noexcept;
  /// Retries that may be made now.
  std::size_t available() noexcept;

 private:
  void add(double n) noexcept { balance_ = std::min(balance_ + n, static_cast<double>(options_.burst)); }
  void refill() noexcept;
  retry_budget_options options_;
  double balance_;
  clock::time_point last_ = clock::time_point::min();
};

/// What a classifier says of an attempt.
class retry_decision {
 public:
  /// It was good, or there is no use in another.
  static constexpr retry_decision stop() noexcept { return {}; }
  /// Another, after the next wait of the backoff.
  static constexpr retry_decision again() noexcept { return retry_decision(true, std::nullopt); }
  /// Another, after this wait: what a server says by `Retry-After`. It may be longer than `max`.
  static constexpr retry_decision after(clock::duration wait) noexcept { return retry_decision(true, wait); }
  /// The same, and nothing was done, so that what is not idempotent may be tried again too.
  constexpr retry_decision nothing_was_done() const noexcept {
    retry_decision d = *this;
    d.nothing_was_done_ = true;
    return d;
  }

  constexpr bool is_again() const noexcept { return is_again_; }
  constexpr std::optional<clock::duration> wait() const noexcept { return wait_; }
  constexpr bool is_safe() const noexcept { return nothing_was_done_; }

 private:
  constexpr retry_decision() noexcept = default;
  constexpr retry_decision(bool again, std::optional<clock::duration> wait) noexcept : is_again_(again), wait_(wait) {}
  bool is_again_ = false, nothing_was_done_ = false;
  std::optional<clock::duration> wait_;
};

/// What is told of each attempt.
struct retry_attempt {
  std::size_t number = 0;  ///< from 1
  clock::duration took{};
  std::exception_ptr error;             ///< null if it gave a value
  std::optional<clock::duration> wait;  ///< until the next; none: it was the last
  const char* reason = "";              ///< why it was
};

/// Refers to a function that is told of each attempt, a variable that outlives the retry. It must not throw. If the
/// wait for another attempt took longer than there was time, it is told of that too.
class retry_observer {
 public:
  retry_observer() noexcept = default;
  template <class Function>
  requires(std::is_invocable_v<Function&, const retry_attempt&> && !std::is_same_v<Function, retry_observer>)
      retry_observer(Function& function)
  noexcept
      : function_(const_cast<void*>(static_cast<const void*>(std::addressof(function)))),
        call_([](void* f, const retry_attempt& a) { (*static_cast<Function*>(f))(a); }) {}
  void operator()(const retry_attempt& a) const noexcept {
    if (call_) call_(function_, a);
  }

 private:
  void* function_ = nullptr;
  void (*call_)(void*, const retry_attempt&) = nullptr;
};

struct retry_options {
  std::size_t attempts = 3;                                                               ///< all together; at least 1
  clock::duration base = std::chrono::milliseconds(100), max = std::chrono::seconds(30);  ///< as in backoff_options
  double factor = 2;
  jitter_kind jitter = full;
  retry_budget* budget = nullptr;  ///< without one: no limit to retries but `attempts`
  /// Attempts and waits together: an attempt is stopped then, and a wait that would end then is not begun. Positive.
  clock::duration total_timeout = clock::duration::max();
  clock::duration attempt_timeout = clock::duration::max();  ///< of each; positive
  /// False: what is called may not be done twice. Then only those attempts are repeated of which it is known that
  /// nothing was done.
  bool idempotent = true;
  retry_observer observer = {};
};

/// The classifier that is taken if none is given. Failures of the kinds network and timeout are tried again, an
/// `unavailable` after its `retry_after()`; nothing was done if it was that, or if a connection was refused or a host
/// not found or not reached.
struct retry_by_kind {
  template <class T>
  retry_decision operator()(const outcome<T>& o) const noexcept;
};

/// `co_await retry(fetch, {.attempts = 4})`: calls `fetch()`, awaits what that returns, and does so again if it failed
/// in a way that may pass, after a wait that becomes longer each time. Gives the value of the last attempt, or throws
/// its failure, as it is.
///
/// The waits are those of `backoff`. The classifier is called with the `outcome` of each attempt, so that a value may
/// be a failure too. What it throws is how the retry ends. A stop stops the attempt or the wait and is never retried,
/// nor is a `cancelled`, whatever the classifier says. There is no other attempt if there have been `attempts`, if it
/// would begin after `total_timeout`, if the budget is empty, or if something may have been done that may not be done
/// twice.
///
/// The callables are kept until the end. Two frames, and those of the time limits if there are any. Throws
/// std::invalid_argument, by the call, for options outside their range.
template <class Function, class Classifier = retry_by_kind>
auto retry(Function&& function, retry_options options = {}, Classifier&& classifier = {});

// ---- implementation ------------------------------------------------------------------------------------------------

inline backoff::backoff(backoff_options o) : options_(o) {
  const auto refuse = [](const std::string& what) { throw std::invalid_argument("tandem::backoff: " + what); };
  if (o.base < clock::duration::zero())
    refuse("base is " + std::to_string(o.base.count()) + " ns; it must not be negative");
  if (o.max < o.base)
    refuse("max is " + std::to_string(o.max.count()) + " ns; it must be at least base, " +
           std::to_string(o.base.count()) + " ns");
  if (!(o.factor >= 1 && std::isfinite(o.factor)))
    refuse("factor is " + std::to_string(o.factor) + "; it must be at least 1, and finite");
}

inline clock::duration backoff::next() noexcept {
  detail::loop* const here = detail::loop::current();
  detail::random_source& random = here ? here->random() : random_;
  const auto base = static_cast<double>(options_.base.count()), most = static_cast<double>(options_.max.count());
  const auto from_to = [&](double from, double to) { return from + random.part() * (to - from); };
  const auto duration = [&](double d) {
    return d >= most ? options_.max : clock::duration(static_cast<clock::rep>(d));
  };
  const auto last = static_cast<double>(last_.count());
  if (options_.jitter == jitter_kind::decorrelated)
    return last_ = duration(std::min(most, from_to(base, 3 * (last < 0 ? base : last))));
  last_ = last < 0 ? options_.base : duration(last * options_.factor);
  const auto whole = static_cast<double>(last_.count());
  switch (options_.jitter) {
    case jitter_kind::full:
      return duration(from_to(0, whole));
    case jitter_kind::equal:
      return duration(from_to(whole / 2, whole));
    default:
      return last_;
  }
}

inline retry_budget::retry_budget(retry_budget_options o) : options_(o), balance_(static_cast<double>(o.burst)) {
  if (!(o.ratio >= 0 && std::isfinite(o.ratio)))
    throw std::invalid_argument("tandem::retry_budget: ratio is " + std::to_string(o.ratio) +
                                "; it must be finite, and not negative");
  if (!(o.per_second >= 0 && std::isfinite(o.per_second)))
    throw std::invalid_argument("tandem::retry_budget: per_second is " + std::to_string(o.per_second) +
                                "; it must be finite, and not negative");
}

inline void retry_budget::refill() noexcept {
  const clock::time_point now = clock::now();
  if (last_ != clock::time_point::min() && now > last_)
    add(std::chrono::duration<double>(now - last_).count() * options_.per_second);
  last_ = now;
}
inline bool retry_budget::withdraw() noexcept {
  refill();
  if (balance_ < 1) return false;
  balance_ -= 1;
  return true;
}
inline std::size_t retry_budget::available() noexcept {
  refill();
  return static_cast<std::size_t>(std::min(balance_, 9e18));
}

namespace detail {

/// Nobody can have done anything: it was not resolved, or not reached.
template <class ErrorCode>
bool was_not_sent(const ErrorCode& code) noexcept {
  const std::string_view category = code.category().name();
  if (category == "asio.netdb" || category == "asio.addrinfo") return true;
  const bool is_of_the_system = category == "system" || category == "generic" || category == "asio.system";
  return is_of_the_system &&
         (code.value() == ECONNREFUSED || code.value() == EHOSTUNREACH || code.value() == ENETUNREACH);
}

/// Another attempt: when, and whether it is safe.
inline retry_decision again_after(const std::exception_ptr& error) noexcept {
  bool not_sent = false;
  try {
    std::rethrow_exception(error);
  } catch (const unavailable& e) {
    return retry_decision::after(e.retry_after()).nothing_was_done();
  } catch (const system_error& e) {
    not_sent = was_not_sent(e.code());
#if defined(TANDEM_BOOST_ASIO)
  } catch (const std::system_error& e) {
    not_sent = was_not_sent(e.code());
#endif
  } catch (...) {
  }
  return not_sent ? retry_decision::again().nothing_was_done() : retry_decision::again();
}

/// Sets the wait before another attempt, or the reason why there is none.
inline void decide_on_another(retry_attempt& a, const retry_options& o, const retry_decision& d, std::size_t attempts,
                              backoff& waits, clock::time_point end) noexcept {
  if (attempts >= o.attempts) {
    a.reason = "there are no more attempts";
  } else if (!o.idempotent && !d.is_safe()) {
    a.reason = "it may have been done, and must not be done twice";
  } else {
    const clock::duration wait = std::max(d.wait() ? *d.wait() : waits.next(), clock::duration::zero());
    if (end != clock::time_point::max() && saturated_sum(clock::now(), wait) >= end)
      a.reason = "there is no time for another attempt";
    else if (o.budget && !o.budget->withdraw())
      a.reason = "the budget has no retry left";
    else
      a.wait = wait;
  }
}
/// After the wait, which may have taken longer. False if it is too late.
inline bool may_begin(retry_attempt& a, const retry_options& o, clock::time_point end) noexcept {
  if (end == clock::time_point::max() || clock::now() < end) return true;
  a.wait.reset();
  a.reason = "there was no time for another attempt";
  o.observer(a);
  return false;
}

template <class Function>
task<outcome<called_t<Function>>> outcome_within(clock::duration limit, Function& function) {
  const auto limited = [&] { return timeout(limit, function()); };
  auto calls = outcome_of(limited);
  co_return co_await std::move(calls);
}

template <class Function, class Classifier>
task<called_t<Function>> retry_loop(Function function, retry_options options, backoff waits, Classifier classifier) {
  const clock::time_point end = saturated_sum(clock::now(), options.total_timeout);
  if (options.budget) options.budget->deposit();
  for (std::size_t number = 1;; ++number) {
    const clock::time_point begin = clock::now();
    const clock::duration left = end == clock::time_point::max()
                                     ? clock::duration::max()
                                     : std::max(end - begin, clock::duration::zero());  // real time does not stand still
    const clock::duration limit = std::min(left, options.attempt_timeout);
    auto attempt = limit == clock::duration::max() ? outcome_of(function) : outcome_within(limit, function);
    auto result = co_await std::move(attempt);

    const retry_decision d = classifier(std::as_const(result));
    retry_attempt a{number, clock::now() - begin, result.error(), std::nullopt, ""};
    if (!d.is_again() || kind_of(a.error) == error_kind::cancelled)
      a.reason = result ? "it succeeded" : "this failure is not tried again";
    else
      decide_on_another(a, options, d, number, waits, end);
    options.observer(a);
    if (!a.wait) co_return give(std::move(result));
    co_await sleep_for(*a.wait);
    if (!may_begin(a, options, end)) co_return give(std::move(result));
  }
}

inline backoff checked_backoff(const retry_options& o) {
  const auto refuse = [](const std::string& what) { throw std::invalid_argument("tandem::retry: " + what); };
  if (o.attempts == 0) refuse("attempts is 0; it must be at least 1");
  if (o.total_timeout <= clock::duration::zero())
    refuse("total_timeout is " + std::to_string(o.total_timeout.count()) + " ns; it must be positive");
  if (o.attempt_timeout <= clock::duration::zero())
    refuse("attempt_timeout is " + std::to_string(o.attempt_timeout.count()) + " ns; it must be positive");
  return backoff({.base = o.base, .max = o.max, .factor = o.factor, .jitter = o.jitter});
}

}  // namespace detail

template <class T>
retry_decision retry_by_kind::operator()(const outcome<T>& o) const noexcept {
  if (o) return retry_decision::stop();
  const error_kind kind = kind_of(o.error());
  const bool may_pass = kind == error_kind::network || kind == error_kind::timeout;
  return may_pass ? detail::again_after(o.error()) : retry_decision::stop();
}

template <class Function, class Classifier>
auto retry(Function&& function, retry_options options, Classifier&& classifier) {
  using F = std::decay_t<Function>;
  using C = std::decay_t<Classifier>;
  detail::refuse_what_gcc12_miscompiles<Function, Classifier>();
  static_assert(detail::gives_awaitable<F&>(),
                "what is retried is a callable that takes nothing and returns an awaitable, such as a task");
  static_assert(std::is_invocable_r_v<retry_decision, C&, const outcome<detail::called_t<F>>&>,
                "a classifier takes the outcome of an attempt and gives a retry_decision");
  return detail::retry_loop<F, C>(std::forward<Function>(function), options, detail::checked_backoff(options),
                                  std::forward<Classifier>(classifier));
}

}  // namespace tandem::inline TANDEM_CONFIG
