// tandem/task.hpp: task<T>, the coroutine type.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "detail/frame.hpp"
#include "detail/loop.hpp"
#include "detail/result.hpp"

#include <coroutine>
#include <exception>
#include <stdexcept>
#include <type_traits>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/task.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

namespace detail {
template <class T>
class promise;
template <class T>
class task_awaiter;
}  // namespace detail

/// A coroutine that gives one T: `task<int> f() { ...; co_return 42; }`.
///
/// Lazy: the body starts when the task is awaited, on the stack of whoever awaits it, and if it ends without ever
/// waiting, nobody is suspended. Otherwise it is resumed by its loop, and its awaiter goes on as soon as it has ended.
/// `co_await std::move(t)` gives the T, or throws what the body threw; the frame with the parameters that it took by
/// value is destroyed before the awaiter goes on. Awaited once, as an rvalue: awaiting an empty task (moved from, or
/// awaited before) throws std::logic_error.
///
/// Cancellation travels from awaiter to task: when the awaiter's scope is stopped, the innermost frame stops at what it
/// waits for, and the frames are destroyed by the loop, innermost first; none of them is resumed, nothing is thrown.
/// A task that is destroyed before it was awaited destroys its parameters and never ran.
///
/// T is an object type, a reference, or void; it need not be copyable or default-constructible. A task is one pointer;
/// its frame comes from a free list of the thread. Awaiting costs no allocation beyond the frame.
template <class T = void>
class [[nodiscard("a task does nothing until it is awaited")]] task {
  static_assert(!std::is_rvalue_reference_v<T>, "task<T&&> would dangle: return the object, as task<T>");
  static_assert(!std::is_const_v<T>, "task<const T>: leave out the const, the result is a value");

 public:
  using promise_type = detail::promise<T>;
  using value_type = T;

  task() noexcept = default;  ///< Empty: not to be awaited.
  task(task&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
  task& operator=(task&& other) noexcept {
    task(std::move(other)).swap(*this);
    return *this;
  }
  ~task() {
    if (frame_) detail::destroy_never_awaited(*frame_);
  }

  void swap(task& other) noexcept { std::swap(frame_, other.frame_); }
  /// False for a task that was moved from, or awaited.
  explicit operator bool() const noexcept { return frame_ != nullptr; }

  /// For the awaiter and the scopes: hands over the frame. Not for users.
  detail::promise<T>* release() noexcept { return std::exchange(frame_, nullptr); }
  detail::promise<T>* get() const noexcept { return frame_; }
  detail::task_awaiter<T> make_awaiter() &&;

 private:
  friend class detail::promise<T>;
  explicit task(detail::promise<T>& p) noexcept : frame_(&p) {}
  detail::promise<T>* frame_ = nullptr;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

template <class T>
class promise_with_result : public frame {
 public:
  detail::result<T> result;
  void unhandled_exception() noexcept {
    // A destructor throws in a frame that is being destroyed: the compilers bring that here and then leave the frame.
    if (this->destroyed_) std::terminate();
    this->has_failed();
    result.set_error(std::current_exception());
  }
};

extern template struct looked_up<decltype(__builtin_source_location())>;  // see frame.hpp

template <class T>
class promise final : public promise_with_result<T> {
 public:
  task<T> get_return_object(frame::location_pointer here = __builtin_source_location()) noexcept {
    this->is_at(here);
    static_assert(alignof(promise) <= 2 * sizeof(void*), "coroutine frames cannot hold over-aligned results");
    return task<T>(*this);
  }
  template <class U = T>
    requires std::is_convertible_v<U&&, T>
  void return_value(U&& value) {
    this->result.set_value(std::forward<U>(value));
  }
};

template <>
class promise<void> final : public promise_with_result<void> {
 public:
  task<void> get_return_object(location_pointer here = __builtin_source_location()) noexcept {
    is_at(here);
    return task<void>(*this);
  }
  void return_void() noexcept { result.set_value(); }
};

/// A frame that waits for one child in its own scope: the plain `co_await`.
class child_node : public wait_node {
 public:
  const char* what() const noexcept override { return "task"; }
  std::size_t children() const noexcept override { return 1; }
  frame* child(std::size_t) const noexcept override { return child_; }
  frame* passes_stop_to() const noexcept override { return child_; }
  void stop(stop_mode) noexcept override {}
  step child_ended(frame&, fate how) noexcept override {
    if (how == fate::done) return step::resume(*waiter);
    std::exchange(child_, nullptr)->destroy();
    return step::reap(*waiter);
  }

 protected:
  explicit child_node(frame* child) noexcept : child_(child) {}
  ~child_node() {
    if (child_) child_->destroy();
  }
  bool start(frame& parent) noexcept {
    waiter = &parent;
    child_->owner = this;
    child_->scope = parent.scope;
    parent.waits_for = this;
    if (!parent.scope->loop->start(*child_)) return true;
    parent.waits_for = nullptr;
    return false;
  }
  frame* child_;
};

template <class T>
class task_awaiter final : public child_node {
 public:
  explicit task_awaiter(promise<T>* p) noexcept : child_node(p) {}
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& parent) noexcept { return start(parent); }
  T await_resume() {
    struct end_child {  // whatever happens, the child is gone before its awaiter goes on
      frame*& child;
      ~end_child() { std::exchange(child, nullptr)->destroy(); }
    } end{child_};
    return static_cast<promise<T>*>(child_)->result.take();
  }
};

[[noreturn, gnu::cold]] inline void throw_empty_task() {
  throw std::logic_error("tandem: awaiting an empty task: it was moved from, or awaited before");
}

/// Any awaitable as a task; tasks as they are.
template <class T>
task<T> as_task(task<T> t) noexcept {
  return t;
}
template <class A>
  requires awaitable<A>
task<await_result_t<A>> as_task(A a) {
  co_return co_await std::move(a);
}

/// Calling F with these arguments gives something to await.
template <class F, class... Args>
consteval bool gives_awaitable() {
  if constexpr (!std::is_invocable_v<F, Args...>)
    return false;
  else if constexpr (std::is_void_v<std::invoke_result_t<F, Args...>>)
    return false;
  else
    return awaitable<std::invoke_result_t<F, Args...>>;
}

/// The same for what a caller hands over to a scope.
template <class A>
auto to_task(A&& a) {
  using value = std::remove_cvref_t<A>;
  constexpr bool is_shared = std::is_copy_constructible_v<value> && awaitable<const value&>;  // a task_handle
  static_assert(!std::is_lvalue_reference_v<A> || is_shared,
                "an awaitable is handed over as an rvalue: write std::move(x)");
  static_assert(awaitable<std::remove_reference_t<A>>,
                "this is not awaitable: a task, a tandem awaitable or an Asio operation with use_task");
  if constexpr (std::is_lvalue_reference_v<A>)
    return as_task(value(a));
  else
    return as_task(std::move(a));
}

}  // namespace detail

template <class T>
detail::task_awaiter<T> task<T>::make_awaiter() && {
  if (!frame_) detail::throw_empty_task();
  return detail::task_awaiter<T>(release());
}

}  // namespace tandem::inline TANDEM_CONFIG
