// tandem/measure.hpp: how long calls take, how many are under way, and how many of them succeed: measure, call_metrics.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, error_kind.hpp, exceptions.hpp, metrics.hpp, task.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/one_loop.hpp, detail/random.hpp, detail/result.hpp, detail/time_parts.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "error_kind.hpp"
#include "metrics.hpp"
#include "task.hpp"

#include "detail/gcc12.hpp"
#include "detail/one_loop.hpp"
#include "detail/time_parts.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>  // std::invoke
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/measure.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

struct call_metrics_options {
  clock::duration window = std::chrono::seconds(60);  ///< what has ended within so much time counts; positive
  std::size_t parts = 10;                             ///< the window slides by such a part of itself; from 2 to 1000
};

/// What is known of calls that have ended: a plain aggregate.
struct call_summary {
  std::uint64_t count = 0, succeeded = 0, failed = 0;  ///< `count` is both
  std::uint64_t cancelled = 0;                         ///< neither of them: stopped by whoever called
  double success_ratio = 1;                            ///< of `count`; 1 if that is 0: nothing has failed
  latency_summary latency;                             ///< of `count`

  friend bool operator==(const call_summary&, const call_summary&) = default;
};

struct call_metrics_stats {
  std::uint64_t in_flight = 0, most_in_flight = 0;  ///< now, and the most there ever were
  clock::duration span{};  ///< the time that `window` is of: nine tenths of it to all of it, or since the first call
  double rate = 0;         ///< `window.count` per second of `span`
  call_summary window, total;  ///< what has ended in the last `window`, and since the beginning

  friend bool operator==(const call_metrics_stats&, const call_metrics_stats&) = default;
};

/// Counts calls and their times, in a window that slides and since the beginning: `co_await measure(metrics, fetch())`,
/// then `metrics.stats().window.latency.p99`.
///
/// A call counts in the window of the moment at which it ended, and until that is `window` ago, or up to one part of
/// the window less: parts are forgotten as a whole, by the loop's clock, virtual under `simulate`. Nothing runs while
/// nobody calls; what is older than the window is not there, however long ago it was looked at. Time that goes back is
/// by another clock (another simulation): the window begins anew then, and the totals stay.
///
/// A call that was stopped, or ended with `cancelled` or another error of the kind cancelled, has neither succeeded nor
/// failed. The times of failures count like those of successes: a time limit that runs out shows in the latency.
///
/// For the coroutines of one loop; a call in another throws std::logic_error. It may be destroyed while calls are under
/// way. A call costs two readings of the clock and O(1) amortised. Memory is bounded: a histogram of 15 KiB for each
/// part and one more, 165 KiB with ten parts, allocated when it is made and never again.
class call_metrics {
 public:
  class call;

  /// Throws std::invalid_argument for options outside their range.
  explicit call_metrics(call_metrics_options options);
  call_metrics() : call_metrics(call_metrics_options()) {}
  call_metrics(const call_metrics&) = delete;  // metrics are shared: pass them by reference
  call_metrics& operator=(const call_metrics&) = delete;

  /// A call begins, for what is no awaitable, or where a value may be a failure: `auto call = metrics.start();`, and
  /// `call.succeed()` or `call.fail()` at its end. Throws std::logic_error on another loop.
  call start();

  std::uint64_t in_flight() const noexcept;
  /// As of now, by the clock of whoever asks: ask where the calls are made. O(parts), about 10 us with ten.
  call_metrics_stats stats() const noexcept;
  /// Of all calls that succeeded or failed since the beginning: to be merged with that of another loop.
  const histogram& latency() const noexcept;
  /// As new, but for the calls in flight, which count when they end.
  void reset() noexcept;

 private:
  enum class how : unsigned char { succeeded, failed, cancelled };
  struct record {
    histogram latency;
    std::uint64_t failed = 0, cancelled = 0;

    void add(how h, clock::duration took) noexcept;
    void merge(const record& other) noexcept;
    /// Costs what the histogram does, unless there is nothing to forget.
    void reset() noexcept;
    call_summary summary() const noexcept;
  };
  /// It lives as long as the metrics, or a call.
  struct core {
    explicit core(const call_metrics_options& o) : time(o.window, o.parts), parts(o.parts) {}
    void look(clock::time_point now) noexcept;
    void ended(how h, clock::time_point began) noexcept;

    detail::time_parts time;
    std::vector<record> parts;
    std::size_t at = 0;  // the part of now
    record total;
    gauge in_flight;
    detail::one_loop home;
  };
  static const call_metrics_options& checked(const call_metrics_options& o);

  std::shared_ptr<core> core_;
};

/// A call that is under way. Moves only. One that is destroyed before it was said how it ended was cancelled. It may
/// outlive its metrics.
class [[nodiscard("a call that is dropped was cancelled at once")]] call_metrics::call {
 public:
  call() noexcept = default;  ///< Of nothing.
  call(call && other) noexcept = default;
  call& operator=(call&& other) noexcept;
  ~call() { end(how::cancelled); }

  /// It has ended now. What is said after that does not count.
  void succeed() noexcept { end(how::succeeded); }
  void fail() noexcept { end(how::failed); }
  /// It has not ended.
  explicit operator bool() const noexcept { return core_ != nullptr; }

 private:
  friend class call_metrics;
  explicit call(std::shared_ptr<core> c) noexcept : core_(std::move(c)), began_(clock::now()) {}
  void end(how h) noexcept {
    if (const auto c = std::exchange(core_, nullptr)) c->ended(h, began_);
  }
  std::shared_ptr<core> core_;
  clock::time_point began_{};
};

/// What `measure` gives: the value, and how long it took to come. Of void, the time alone.
template <class T = void>
struct measured {
  T value;
  clock::duration elapsed{};
};
template <>
struct measured<void> {
  clock::duration elapsed{};
};

/// `auto [page, elapsed] = co_await measure(fetch(url))`: the awaitable's result, and the time from the start of the
/// co_await to its end, on the loop's clock. Its failure is thrown as it is, without a time; give metrics for that. A
/// stop stops it.
///
/// Instead of an awaitable, a callable that returns one, and its arguments: `measure(fetch, url)`. They are copied or
/// moved into the call and kept until it ends; `std::ref` passes by reference. One frame for whatever is not a task;
/// two readings of the clock.
template <class Awaitable, class... Args>
requires(!std::is_same_v<std::remove_cvref_t<Awaitable>, call_metrics>) auto measure(Awaitable&& awaitable,
                                                                                     Args&&... args);

/// `page p = co_await measure(metrics, fetch(url))`: the awaitable's own result, of which `metrics` are told how it
/// ended and after how long. The call begins with the co_await, and ends where the awaiter goes on, or, if it was
/// stopped, with the last of its frames. The same with a callable and its arguments.
template <class Awaitable, class... Args>
auto measure(call_metrics& metrics, Awaitable&& awaitable, Args&&... args);

// ---- implementation ------------------------------------------------------------------------------------------------

inline void call_metrics::record::add(how h, clock::duration took) noexcept {
  if (h == how::cancelled) {
    ++cancelled;
    return;
  }
  latency.record(took);
  failed += h == how::failed;
}
inline void call_metrics::record::merge(const record& other) noexcept {
  if (other.latency.count() != 0) latency.merge(other.latency);
  failed += other.failed;
  cancelled += other.cancelled;
}
inline void call_metrics::record::reset() noexcept {
  if (latency.count() != 0) latency.reset();
  failed = cancelled = 0;
}
inline call_summary call_metrics::record::summary() const noexcept {
  const std::uint64_t count = latency.count(), succeeded = count - failed;
  return {.count = count,
          .succeeded = succeeded,
          .failed = failed,
          .cancelled = cancelled,
          .success_ratio = count == 0 ? 1 : static_cast<double>(succeeded) / static_cast<double>(count),
          .latency = latency.summary()};
}

inline void call_metrics::core::look(clock::time_point now) noexcept {
  for (std::size_t n = time.begun(now); n != 0; --n) {
    at = (at + 1) % parts.size();
    parts[at].reset();
  }
}
inline void call_metrics::core::ended(how h, clock::time_point began) noexcept {
  const clock::time_point now = clock::now();
  const clock::duration took = std::max(now - began, clock::duration::zero());  // negative: by another clock
  look(now);
  parts[at].add(h, took);
  total.add(h, took);
  in_flight.sub();
}

inline const call_metrics_options& call_metrics::checked(const call_metrics_options& o) {
  const auto refuse = [](const std::string& what) { throw std::invalid_argument("tandem::call_metrics: " + what); };
  if (o.window <= clock::duration::zero())
    refuse("window is " + std::to_string(o.window.count()) + " ns; it must be positive");
  if (o.parts < 2 || o.parts > 1000)
    refuse("parts is " + std::to_string(o.parts) + "; it must be at least 2 and at most 1000");
  return o;
}
inline call_metrics::call_metrics(call_metrics_options options) : core_(std::make_shared<core>(checked(options))) {}

inline call_metrics::call call_metrics::start() {
  if (const detail::loop* here = detail::loop::current())
    core_->home.check(*here, "call_metrics", "make one for each loop");
  call c(core_);
  core_->look(c.began_);  // the window begins with the first call
  core_->in_flight.add();
  return c;
}
inline std::uint64_t call_metrics::in_flight() const noexcept {
  return static_cast<std::uint64_t>(core_->in_flight.value());
}
inline const histogram& call_metrics::latency() const noexcept { return core_->total.latency; }
inline call_metrics_stats call_metrics::stats() const noexcept {
  const clock::time_point now = clock::now();
  core_->look(now);
  record window;
  for (const record& part : core_->parts) window.merge(part);
  call_metrics_stats s;
  s.in_flight = in_flight();
  s.most_in_flight = static_cast<std::uint64_t>(core_->in_flight.max());
  s.span = core_->time.span(now);
  s.window = window.summary();
  s.total = core_->total.summary();
  const std::chrono::duration<double> seconds = s.span;
  if (s.span != clock::duration::zero()) s.rate = static_cast<double>(s.window.count) / seconds.count();
  return s;
}
inline void call_metrics::reset() noexcept {
  for (record& part : core_->parts) part.reset();
  core_->total.reset();
  core_->time.reset();
  core_->in_flight.reset_max();
}

inline call_metrics::call& call_metrics::call::operator=(call&& other) noexcept {
  if (this == &other) return *this;
  end(how::cancelled);
  core_ = std::move(other.core_);
  began_ = other.began_;
  return *this;
}

namespace detail {

template <class T>
class timed_awaiter {
 public:
  explicit timed_awaiter(task<T> t) : awaits_(std::move(t).make_awaiter()) {}
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) noexcept {
    began_ = clock::now();
    return awaits_.suspend(f);
  }
  measured<T> await_resume() {
    if constexpr (std::is_void_v<T>) {
      awaits_.await_resume();
      return {clock::now() - began_};
    } else {
      return {awaits_.await_resume(), clock::now() - began_};
    }
  }

 private:
  clock::time_point began_{};
  task_awaiter<T> awaits_;
};

template <class T>
class metered_awaiter {
 public:
  metered_awaiter(task<T> t, call_metrics& m) : metrics_(&m), awaits_(std::move(t).make_awaiter()) {}
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    call_ = metrics_->start();
    return awaits_.suspend(f);
  }
  T await_resume() {
    try {
      if constexpr (std::is_void_v<T>) {
        awaits_.await_resume();
        call_.succeed();
      } else {
        T value = awaits_.await_resume();
        call_.succeed();
        return value;
      }
    } catch (...) {
      if (kind_of(std::current_exception()) != error_kind::cancelled) call_.fail();
      throw;
    }
  }

 private:
  call_metrics* metrics_;
  call_metrics::call call_;
  task_awaiter<T> awaits_;
};

/// What `measure` gives. Moves until it is awaited.
template <class T>
class [[nodiscard("nothing happens until it is awaited")]] timed_task {
 public:
  explicit timed_task(task<T> t) noexcept : task_(std::move(t)) {}
  timed_awaiter<T> make_awaiter()&& { return timed_awaiter<T>(std::move(task_)); }

 private:
  task<T> task_;
};
template <class T>
class [[nodiscard("nothing happens until it is awaited")]] metered_task {
 public:
  metered_task(task<T> t, call_metrics & m) noexcept : task_(std::move(t)), metrics_(&m) {}
  metered_awaiter<T> make_awaiter()&& { return metered_awaiter<T>(std::move(task_), *metrics_); }

 private:
  task<T> task_;
  call_metrics* metrics_;
};

template <class Function, class... Args>
task<await_result_t<std::invoke_result_t<Function&, Args...>>> call_with(Function function, Args... args) {
  if constexpr (requires { function(std::move(args)...); })  // what an argument is converted to lives as long
    co_return co_await function(std::move(args)...);
  else
    co_return co_await std::invoke(function, std::move(args)...);
}
/// The awaitable, or the call, as a task.
template <class What, class... Args>
auto task_to_measure(What&& what, Args&&... args) {
  if constexpr (sizeof...(Args) == 0 && awaitable<std::remove_cvref_t<What>>) {
    return to_task(std::forward<What>(what));
  } else {
    refuse_what_gcc12_miscompiles<What, Args...>();
    constexpr bool is_call = gives_awaitable<std::decay_t<What>&, std::decay_t<Args>...>();
    static_assert(is_call,
                  "what is measured is an awaitable, or a callable that takes these arguments as rvalues and returns "
                  "one, such as a task; a plain function is measured by two readings of clock::now()");
    if constexpr (is_call)
      return call_with<std::decay_t<What>, std::decay_t<Args>...>(std::forward<What>(what),
                                                                  std::forward<Args>(args)...);
    else
      return task<>();
  }
}

}  // namespace detail

template <class Awaitable, class... Args>
requires(!std::is_same_v<std::remove_cvref_t<Awaitable>, call_metrics>) auto measure(Awaitable&& awaitable,
                                                                                     Args&&... args) {
  auto t = detail::task_to_measure(std::forward<Awaitable>(awaitable), std::forward<Args>(args)...);
  return detail::timed_task<typename decltype(t)::value_type>(std::move(t));
}
template <class Awaitable, class... Args>
auto measure(call_metrics& metrics, Awaitable&& awaitable, Args&&... args) {
  auto t = detail::task_to_measure(std::forward<Awaitable>(awaitable), std::forward<Args>(args)...);
  return detail::metered_task<typename decltype(t)::value_type>(std::move(t), metrics);
}

}  // namespace tandem::inline TANDEM_CONFIG
