// tandem/cancel.hpp: time limits and protection: timeout, try_timeout, deadline, shield, finally, with_resource.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, task.hpp, detail/alarm.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/place.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "exceptions.hpp"
#include "task.hpp"

#include "detail/alarm.hpp"
#include "detail/gcc12.hpp"
#include "detail/group.hpp"
#include "detail/place.hpp"
#include "detail/result.hpp"

#include <chrono>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/cancel.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// `co_await timeout(2s, fetch())`: the awaitable's result, or `timed_out` when the time is up.
///
/// The clock starts with the co_await. When it runs out, the awaitable is stopped; `timed_out` is thrown once it has
/// cleaned up. What arrives in time is never dropped: a value that the awaitable had been granted at that very instant,
/// or that it still produces while it is being stopped, is returned, and its exception is thrown. If the surrounding
/// scope is stopped meanwhile, that wins. Throws std::invalid_argument for a negative duration; with a duration of zero
/// the awaitable still gets as far as it comes without waiting. One frame for an awaitable that is not a task; O(log n)
/// of the loop's timers. asyncio's `wait_for`.
template <class Rep, class Period, class Awaitable>
auto timeout(std::chrono::duration<Rep, Period> duration, Awaitable&& awaitable);

/// `timeout` that gives an optional instead of throwing `timed_out`: empty when the time is up. For void, an
/// `optional<monostate>`. Other failures are thrown.
template <class Rep, class Period, class Awaitable>
auto try_timeout(std::chrono::duration<Rep, Period> duration, Awaitable&& awaitable);

/// `timeout` up to a point in time. One that has passed leaves the awaitable what it can do without waiting.
template <class Awaitable>
auto deadline(clock::time_point time, Awaitable&& awaitable);

/// `clock::time_point t = co_await this_task::deadline`: the earliest of the time limits around this coroutine, so that
/// it can be passed on with a request; `clock::time_point::max()` if there is none. Never waits. Reset by `shield`.
namespace this_task {
struct deadline_t;
}

/// `co_await shield(commit())`: the awaitable runs to its end even if the surrounding scope is stopped meanwhile.
///
/// Its result is delivered all the same, and the next wait stops. Time limits inside it work. False friend: asyncio's
/// `shield` releases the waiter at once and leaves the work behind; this one, like Trio's, waits.
template <class Awaitable>
auto shield(Awaitable&& awaitable);

/// How the body of `finally` or `with_resource` ended.
class ending {
 public:
  bool returned() const noexcept { return !stopped_ && !error_; }
  bool failed() const noexcept { return error_ != nullptr; }
  bool stopped() const noexcept { return stopped_; }
  /// What it threw, or null.
  const std::exception_ptr& error() const noexcept { return error_; }

  /// Made by the library.
  ending(bool stopped, std::exception_ptr error) noexcept : error_(std::move(error)), stopped_(stopped) {}

 private:
  std::exception_ptr error_;
  bool stopped_;
};

/// `co_await finally(body(), cleanup)`: awaits the body, then, however it ended, what `cleanup()` or `cleanup(ending)`
/// returns; then the body's ending goes on.
///
/// The clean-up is shielded and runs to its end. The body's frames are destroyed before it starts. If both fail, an
/// `exception_group` is thrown; a clean-up that throws while the body was being stopped turns the stop into that
/// failure. Destroying the whole context runs destructors only, no clean-up. `cleanup` is kept until it has ended; on
/// g++ 12 it must not be a temporary that owns its captures.
template <class Awaitable, class Cleanup>
auto finally(Awaitable&& body, Cleanup&& cleanup);

/// Python's `async with`: acquires, runs `body(resource)`, and awaits `release(resource, ending)` or
/// `release(resource)` on every exit, shielded. Gives what the body gives.
///
/// `acquire` is an awaitable, or a callable that returns one; if it fails or is stopped nothing is released. Between
/// the acquisition and the protection of the body nothing can be stopped. The callables take the resource by reference;
/// a `release` that takes it by value gets it moved.
template <class Acquire, class Body, class Release>
auto with_resource(Acquire&& acquire, Body&& body, Release&& release);

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// A group of one child.
template <class T>
class single : public group {
 public:
  std::size_t children() const noexcept override { return 1; }
  frame* child(std::size_t) const noexcept override { return frame_; }

 protected:
  explicit single(task<T> t) : task_(std::move(t)) {
    if (!task_) throw_empty_task();
  }
  single(single&& o) noexcept : group(std::move(o)), task_(std::move(o.task_)) {}
  ~single() {
    if (frame_) frame_->destroy();
    if (frame* c = was_awaited() ? task_.release() : nullptr) destroy_unstarted(*c);
  }
  void launch_it() noexcept {
    frame_ = task_.release();
    if (launch(*frame_, 0)) take(*frame_, fate::done);
  }
  void take(frame& child, fate how) noexcept override {
    if (how == fate::done) result_.take_from(static_cast<promise<T>&>(child).result);
    frame_ = nullptr;
    child.destroy();
  }
  task<T> task_;
  frame* frame_ = nullptr;
  detail::result<T> result_;  // empty: it was stopped
};

enum class when_late { throws, gives_nothing };

inline bool is_ours(const frame& f) noexcept { return is_ours(function_name(f.where.function_name())); }
/// The frame that awaits `f`'s time limit, or the user's that awaits that if it is one of tandem's own.
inline const frame& users_frame(const frame& f) noexcept {
  const frame* above = &f;
  while (is_ours(*above) && above->owner && above->owner->waiter && above->owner->waiter != above)
    above = above->owner->waiter;
  return *above;
}
/// "tandem::timed_out: the time limit at buy (shop.cpp:12); pay (shop.cpp:40) waited for sleep"
inline std::string describe_time_limit(const frame& limited, const frame& below) {
  const auto place = [&](const frame& f) {
    return std::string(function_name(f.where.function_name())) + " (" + std::string(file_name(f.where.file_name())) +
           ":" + std::to_string(f.where.line()) + ")";
  };
  const frame* users = nullptr;  // the innermost that is not tandem's own
  const wait_node* n = nullptr;
  for (const frame* f = &below; f && f->waits_for; f = n->children() == 1 ? n->child(0) : nullptr) {
    n = f->waits_for;
    if (!is_ours(*f)) users = f;
  }
  std::string text = "tandem::timed_out: the time limit at " + place(users_frame(limited));
  if (n) text += "; " + (users ? place(*users) : std::string("it")) + " waited for " + n->what();
  return text;
}

template <class T, when_late Late>
class timeout_awaitable final : public single<T> {
 public:
  using value_type = std::conditional_t<Late == when_late::throws, T, std::optional<stored_t<T>>>;
  timeout_awaitable(task<T> t, clock::duration length, clock::time_point due)
      : single<T>(std::move(t)), length_(length), due_(due) {}
  timeout_awaitable(timeout_awaitable&& o) noexcept : single<T>(std::move(o)), length_(o.length_), due_(o.due_) {}

  const char* what() const noexcept override { return "timeout"; }
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    loop& l = *f.scope->loop;
    l.reserve_timer();
    this->begin(f);
    if (length_ >= clock::duration::zero()) due_ = saturated_sum(l.now(), length_);
    if (due_ < this->scope_.deadline) this->scope_.deadline = due_;
    alarm_.set(l, due_);
    this->launch_it();
    return this->end();
  }
  value_type await_resume() {
    this->consume();
    if constexpr (Late == when_late::throws) {
      if (this->result_.empty())
        throw timed_out(users_frame(*this->waiter).where, text_.empty() ? "tandem::timed_out" : text_);
      return this->result_.take();
    } else {
      if (this->result_.empty()) return std::nullopt;
      if constexpr (std::is_void_v<T>) {
        this->result_.take();
        return value_type(std::in_place);
      } else {
        return value_type(std::in_place, this->result_.take());
      }
    }
  }

 private:
  /// Late, and nobody asked from outside: the frame goes on with `timed_out`.
  bool goes_on() noexcept override {
    return !this->result_.empty() || (late_ && this->waiter->scope->state == detail::scope::running);
  }
  void take(frame& child, fate how) noexcept override {
    alarm_.cancel();
    single<T>::take(child, how);
  }

  void note_where() noexcept {
    if constexpr (Late == when_late::throws) try {
        text_ = describe_time_limit(*this->waiter, *this->frame_);
      } catch (...) {  // no memory: less is said
      }
  }

  friend alarm<timeout_awaitable>;
  void on_alarm() noexcept {
    late_ = true;
    note_where();
    this->set_stopping(stop_mode::ask);
  }

  clock::duration length_;  // counted from the co_await; negative: due_ was given
  clock::time_point due_;
  bool late_ = false;
  std::conditional_t<Late == when_late::throws, std::string, std::monostate> text_;  // of the exception
  alarm<timeout_awaitable> alarm_{*this};
};

template <class T>
class shield_awaitable final : public single<T> {
 public:
  explicit shield_awaitable(task<T> t) : single<T>(std::move(t)) {}
  shield_awaitable(shield_awaitable&&) noexcept = default;

  const char* what() const noexcept override { return "shield"; }
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    this->begin(f);
    this->scope_.state = detail::scope::running;
    this->scope_.outer = nullptr;
    this->scope_.deadline = clock::time_point::max();
    const loop::in_scope shielded(this->scope_);
    this->launch_it();
    return this->end();
  }
  T await_resume() {
    this->consume();
    return this->result_.take();
  }
  void stop(stop_mode m) noexcept override {
    if (m == stop_mode::abandon) group::stop(m);
  }
};

template <class T, class Cleanup>
class finally_awaitable final : public single<T> {
 public:
  template <class C>
  finally_awaitable(task<T> t, C&& cleanup) : single<T>(std::move(t)), cleanup_(std::forward<C>(cleanup)) {}
  finally_awaitable(finally_awaitable&& o) noexcept : single<T>(std::move(o)), cleanup_(std::move(o.cleanup_)) {}
  ~finally_awaitable() = default;

  const char* what() const noexcept override { return cleaning_ ? "finally, cleaning up" : "finally"; }
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    this->begin(f);
    this->launch_it();
    return this->end();
  }
  T await_resume() {
    this->consume();
    if (failures_.any()) failures_.rethrow();
    return this->result_.take();
  }
  void stop(stop_mode m) noexcept override {
    if (m == stop_mode::abandon || !cleaning_) group::stop(m);
  }

 private:
  static auto call(Cleanup& c, const ending& e) {
    if constexpr (std::is_invocable_v<Cleanup&, const ending&>)
      return as_task(c(e));
    else
      return as_task(c());
  }
  using cleanup_value = typename decltype(call(std::declval<Cleanup&>(), std::declval<const ending&>()))::value_type;

  void take(frame& child, fate how) noexcept override {
    if (!cleaning_) {
      single<T>::take(child, how);
      if (this->scope_.state != detail::scope::abandoned) clean_up();
      return;
    }
    if (how == fate::done) {
      auto& r = static_cast<promise<cleanup_value>&>(child).result;
      if (r.has_error()) add_failure(r.get_error());
    }
    this->frame_ = nullptr;
    child.destroy();
  }
  void clean_up() noexcept {
    cleaning_ = true;
    this->scope_.state = detail::scope::running;
    this->scope_.outer = nullptr;
    this->scope_.deadline = clock::time_point::max();
    const loop::in_scope shielded(this->scope_);
    try {
      const auto& r = this->result_;
      ending_.emplace(r.empty(), r.get_error());  // here, because the clean-up may take it by reference
      auto t = call(cleanup_, *ending_);
      if (!t) throw_empty_task();
      this->frame_ = t.release();
    } catch (...) {
      return add_failure(std::current_exception());
    }
    if (this->launch(*this->frame_, 1)) take(*this->frame_, fate::done);
  }
  void add_failure(std::exception_ptr e) noexcept {
    if (this->result_.has_error() && !failures_.any()) failures_.add(this->result_.get_error());
    failures_.add(std::move(e));
  }
  bool goes_on() noexcept override { return !this->result_.empty() || failures_.any(); }

  Cleanup cleanup_;
  std::optional<ending> ending_;
  bool cleaning_ = false;
  failures failures_;
};

template <class T, class Cleanup>
auto make_finally(task<T> body, Cleanup&& cleanup) {
  return finally_awaitable<T, std::decay_t<Cleanup>>(std::move(body), std::forward<Cleanup>(cleanup));
}

/// `acquire` itself, or what it returns when called.
template <class A>
auto acquisition(A& a) {
  if constexpr (awaitable<A>)
    return as_task(std::move(a));
  else
    return as_task(a());
}

template <class F, class R>
auto call_release(F& f, R& resource, const ending& e) {
  if constexpr (std::is_invocable_v<F&, R&, const ending&>)
    return as_task(f(resource, e));
  else if constexpr (std::is_invocable_v<F&, R&>)
    return as_task(f(resource));
  else if constexpr (std::is_invocable_v<F&, R&&, const ending&>)
    return as_task(f(std::move(resource), e));
  else
    return as_task(f(std::move(resource)));
}

template <class F, class R>
consteval bool gives_release() {
  return gives_awaitable<F&, R&, const ending&>() || gives_awaitable<F&, R&>() ||
         gives_awaitable<F&, R&&, const ending&>() || gives_awaitable<F&, R&&>();
}

template <class Acquire>
using acquired_t = typename decltype(acquisition(std::declval<Acquire&>()))::value_type;

template <class Body, class R>
auto call_body(Body& body, std::optional<stored_t<R>>& resource)
    -> task<typename decltype(as_task(body(std::declval<R&>())))::value_type> {
  auto t = as_task(body(static_cast<R&>(*resource)));
  co_return co_await std::move(t);
}

template <class Acquire, class Body, class Release, class R = acquired_t<Acquire>>
auto use_resource(Acquire acquire, Body body, Release release)
    -> decltype(call_body<Body, R>(body, std::declval<std::optional<stored_t<R>>&>())) {
  // Whatever can fail is made before there is something to release.
  std::optional<stored_t<R>> resource;
  auto cleanup = [&](const ending& e) { return call_release(release, static_cast<R&>(*resource), e); };
  auto use = make_finally(call_body<Body, R>(body, resource), cleanup);
  auto acquiring = acquisition(acquire);
  resource.emplace(co_await std::move(acquiring));
  co_return co_await std::move(use);
}

}  // namespace detail

template <class Rep, class Period, class Awaitable>
auto timeout(std::chrono::duration<Rep, Period> duration, Awaitable&& awaitable) {
  const clock::duration d = detail::checked_duration(duration, "tandem::timeout");
  auto t = detail::to_task(std::forward<Awaitable>(awaitable));
  using T = typename decltype(t)::value_type;
  return detail::timeout_awaitable<T, detail::when_late::throws>(std::move(t), d, {});
}

template <class Rep, class Period, class Awaitable>
auto try_timeout(std::chrono::duration<Rep, Period> duration, Awaitable&& awaitable) {
  const clock::duration d = detail::checked_duration(duration, "tandem::try_timeout");
  auto t = detail::to_task(std::forward<Awaitable>(awaitable));
  using T = typename decltype(t)::value_type;
  return detail::timeout_awaitable<T, detail::when_late::gives_nothing>(std::move(t), d, {});
}

template <class Awaitable>
auto deadline(clock::time_point time, Awaitable&& awaitable) {
  auto t = detail::to_task(std::forward<Awaitable>(awaitable));
  using T = typename decltype(t)::value_type;
  return detail::timeout_awaitable<T, detail::when_late::throws>(std::move(t), clock::duration(-1), time);
}

template <class Awaitable>
auto shield(Awaitable&& awaitable) {
  auto t = detail::to_task(std::forward<Awaitable>(awaitable));
  return detail::shield_awaitable<typename decltype(t)::value_type>(std::move(t));
}

template <class Awaitable, class Cleanup>
auto finally(Awaitable&& body, Cleanup&& cleanup) {
  detail::refuse_what_gcc12_miscompiles<Cleanup>();
  using C = std::decay_t<Cleanup>&;
  static_assert(detail::gives_awaitable<C, const ending&>() || detail::gives_awaitable<C>(),
                "the clean-up is a callable that takes nothing or an ending, and returns an awaitable, such as a task");
  return detail::make_finally(detail::to_task(std::forward<Awaitable>(body)), std::forward<Cleanup>(cleanup));
}

template <class Acquire, class Body, class Release>
auto with_resource(Acquire&& acquire, Body&& body, Release&& release) {
  detail::refuse_what_gcc12_miscompiles<Acquire, Body, Release>();
  using A = std::decay_t<Acquire>;
  static_assert(detail::awaitable<A> || detail::gives_awaitable<A&>(),
                "what is to be acquired is an awaitable, or a callable that takes nothing and returns one");
  using R = detail::acquired_t<A>;
  static_assert(!std::is_void_v<R>,
                "the acquisition gives nothing that could be released: give the resource, or use finally");
  if constexpr (!std::is_void_v<R>) {
    static_assert(detail::gives_awaitable<std::decay_t<Body>&, R&>(),
                  "the body is a callable that takes the resource and returns an awaitable, such as a task");
    static_assert(detail::gives_release<std::decay_t<Release>, R>(),
                  "the release is a callable that takes the resource, or the resource and an ending, and returns an "
                  "awaitable, such as a task");
    return detail::use_resource<A, std::decay_t<Body>, std::decay_t<Release>>(
        std::forward<Acquire>(acquire), std::forward<Body>(body), std::forward<Release>(release));
  }
}

namespace this_task {

struct deadline_t {
  class awaiter {
   public:
    bool await_ready() const noexcept { return false; }
    bool suspend(detail::frame& f) noexcept {
      deadline_ = f.scope->deadline;
      return false;
    }
    clock::time_point await_resume() const noexcept { return deadline_; }

   private:
    clock::time_point deadline_;
  };
  awaiter make_awaiter() const noexcept { return {}; }
};
inline constexpr deadline_t deadline{};

}  // namespace this_task

}  // namespace tandem::inline TANDEM_CONFIG
