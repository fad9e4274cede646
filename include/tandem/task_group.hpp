// tandem/task_group.hpp: structured concurrency: with_task_group, task_group; with it comes task_handle<T>.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, outcome.hpp, task.hpp, task_handle.hpp, detail/alarm.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/priority.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "exceptions.hpp"
#include "task.hpp"
#include "task_handle.hpp"

#include "detail/alarm.hpp"
#include "detail/gcc12.hpp"
#include "detail/group.hpp"
#include "detail/result.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>  // std::invoke
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/task_group.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

namespace detail {
class task_group_core;
}  // namespace detail

/// Options of `task_group::spawn` and `start`.
struct child_options {
  /// For reports; the characters must outlive the child.
  std::string_view name = {};
  /// Does not keep the group open: it is stopped when only such children are left.
  bool background = false;
};
namespace detail {
inline constexpr child_options no_child_options;
}

/// Given to the callable of `task_group::start`; copies share what they report to.
template <class T = void>
class started;

/// A scope for children that are started one by one; made by `with_task_group`. Used on its loop only.
class task_group {
 public:
  task_group(const task_group&) = delete;
  task_group& operator=(const task_group&) = delete;

  /// Starts any awaitable as a child, at once: it runs until it first waits. Gives a task_handle.
  ///
  /// In a group that is stopping it never runs and its outcome is `cancelled`. Throws std::logic_error after `close()`
  /// and outside the group's loop, std::invalid_argument for an empty task. Two allocations: the child's record and,
  /// for an awaitable that is not a task, a frame.
  template <class Awaitable>
  auto spawn(Awaitable&& awaitable, const child_options& options = detail::no_child_options);

  /// `int port = co_await group.start<int>(serve)`: starts `serve(started<int>)` as a child and goes on when that has
  /// called its argument with a value; `start(serve)` and `started<>` for none.
  ///
  /// Trio's `Nursery.start`. A failure before that is thrown here and is none of the group's; a child that ends without
  /// having called it is a std::logic_error here. If the awaiter is stopped before, so is the child.
  template <class T = void, class Function>
  auto start(Function&& function, child_options options = {});

  /// Stops body and children. The group then ends without a failure: `with_task_group` returns, or, if the body had a
  /// value to give and was stopped, throws `cancelled` with the reason.
  void cancel(std::string reason = {});

  /// Asks the children to finish by themselves: `closing()` is granted, and nothing can be spawned any more. What is
  /// left after `grace` is stopped.
  template <class Rep, class Period>
  void close(std::chrono::duration<Rep, Period> grace);
  /// The same without an end.
  void close();
  bool is_closing() const noexcept;
  /// `co_await group.closing()`: goes on once the group is closing; at once if it is.
  auto closing() noexcept;

  /// Children that have not ended, background ones included.
  std::size_t size() const noexcept;

  /// Made by the library.
  explicit task_group(detail::task_group_core& core) noexcept : core_(&core) {}

 private:
  detail::task_group_core* core_;
};

/// `co_await with_task_group([](task_group& group) -> task<> { ...; group.spawn(work()); ... })`: runs the body and
/// ends when it and every child that was spawned into the group have ended. Gives what the body gives.
///
/// The first failure, of the body or of a child, stops the others; when all have ended it is thrown as it is, or, if
/// more failed, as part of an `exception_group`; the same exception object counts once. A child that was cancelled is
/// no failure. A stop reaches the body, every child and the awaiter; if all of them end with a value in spite of it,
/// the body's is given. The callable is kept until the end; on g++ 12 it must not be a temporary that owns its
/// captures. asyncio's `TaskGroup`, Trio's nursery; unlike theirs a single failure is not wrapped.
template <class Function>
auto with_task_group(Function&& function);

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// Waits until the group is closing.
class closing_awaiter final : public leaf {
 public:
  explicit closing_awaiter(task_group_core& g) noexcept : group_(&g) {}
  closing_awaiter(closing_awaiter&& o) noexcept : group_(o.group_) {}
  static constexpr bool leaves_at_once = true;
  const char* what() const noexcept override { return "task_group::closing"; }
  bool await_ready() const noexcept;
  bool suspend(frame& f);
  void await_resume() noexcept { consume(); }

 private:
  task_group_core* group_;
};

/// A group whose first child is the body; the others have scopes of their own.
class task_group_core : public group, public child_owner {
 public:
  const char* what() const noexcept override { return "task_group"; }
  std::size_t children() const noexcept override { return 1 + children_.size(); }
  frame* child(std::size_t i) const noexcept override { return i == 0 ? body_ : children_[i - 1]->running(); }

  /// `starting`: is told of the child before that runs, by whoever waits for its start.
  template <class T>
  task_handle<T> spawn(task<T> t, const child_options& options, child_base** starting = nullptr) {
    if (!t)
      throw std::invalid_argument("tandem::task_group::spawn: the task is empty: it was moved from, or awaited before");
    if (is_closing_) throw std::logic_error("tandem::task_group::spawn: the group has been closed");
    if (loop::current() != scope_.loop)
      throw std::logic_error("tandem::task_group::spawn: called from outside the coroutines of the group's loop");
    auto* c = new child_of<T>(*this, options.name);
    const task_handle<T> handle = handle_access::make(*c);
    c->waiter = waiter;
    c->enter(*scope_.loop, *scope_.root, &scope_);
    c->background_ = options.background;
    c->starting_ = starting != nullptr;
    children_.push_back(c);  // may throw: then the handle was the only owner
    c->place_ = children_.size() - 1;
    c->share();
    hold();
    if (starting) *starting = c;
    frame& f = *t.release();
    if (scope_.state != detail::scope::running || stop_came() || foreground_ == 0) {
      if (foreground_ != 0 && is_stopped_from_outside()) c->is_cut_short_ = !options.background;
      destroy_unstarted(f);
      c->end(nullptr, fate::stopped);
      return handle;
    }
    if (!c->background_) ++foreground_;
    c->start(f);
    return handle;
  }

  void cancel(std::string reason) noexcept {
    if (scope_.state != detail::scope::running) return;
    reason_ = std::move(reason);
    is_cancelled_ = true;
    scope_.loop->ask([this]() noexcept { set_stopping(stop_mode::ask); });
  }
  void close(clock::duration grace) {
    detail::loop& l = *scope_.loop;
    l.reserve_timer();
    const bool first = !std::exchange(is_closing_, true);
    const clock::time_point due = saturated_sum(l.now(), grace);
    if (due != clock::time_point::max()) end_of_grace_.set(l, due);
    if (!first) return;
    while (!closing_waiters.empty()) closing_waiters.front().wake();
  }
  bool is_closing() const noexcept { return is_closing_; }
  std::size_t size() const noexcept { return children_.size(); }
  const std::string& stop_reason() const noexcept override { return reason_; }

  step child_done(child_base& c) noexcept override {
    children_[c.place_] = children_.back();
    children_[c.place_]->place_ = c.place_;
    children_.pop_back();
    if (c.failed() && !c.starting_) fail(c.failure());
    if (c.is_cut_short_ && !c.has_value()) is_cut_short_ = true;
    if (!c.background_ && c.ran_) foreground_done();
    return one_less();
  }

  intrusive_list<leaf> closing_waiters;

 protected:
  task_group_core() = default;
  task_group_core(task_group_core&& o) noexcept : group(std::move(o)) {}
  ~task_group_core() {
    if (body_) body_->destroy();
    while (!children_.empty()) {  // only where the tree is destroyed as it stands
      child_base* c = children_.back();
      children_.pop_back();
      c->owner_ = nullptr;
      c->end(c->frame_, fate::stopped);
      c->release();
    }
  }

  /// `make` gives the frame of the body. It may spawn before that, and throw, which is how the body ends then.
  template <class Make>
  void start_body(Make make) noexcept {
    foreground_ = 1;
    frame* body = nullptr;
    try {
      body = make();
    } catch (...) {
      fail(std::current_exception());
      return foreground_done();
    }
    if (stop_came()) {  // in between: it never runs
      destroy_unstarted(*body);
      return foreground_done();
    }
    body_ = body;
    if (launch(*body, 0)) take(*body, fate::done);
  }
  void take(frame& body, fate how) noexcept override {
    body_ = nullptr;
    if (std::exception_ptr e = take_body(body, how)) fail(std::move(e));
    foreground_done();
  }
  /// Keeps the value, destroys the frame, gives the failure.
  virtual std::exception_ptr take_body(frame& body, fate how) noexcept = 0;
  virtual bool body_has_value() const noexcept = 0;

  bool goes_on() noexcept override {
    end_of_grace_.cancel();
    if (failures_.any() || (body_has_value() && !is_cut_short_)) return true;
    return is_cancelled_ && waiter->scope->state == detail::scope::running;
  }
  void stop_children() noexcept override {
    const stop_mode m = scope_.state == detail::scope::abandoned ? stop_mode::abandon : stop_mode::ask;
    if (is_stopped_from_outside()) {
      for (child_base* c : children_)
        if (c->scope_.state == detail::scope::running) c->is_cut_short_ = !c->background_;
    }
    if (body_) detail::loop::stop_below(*body_, m);
    stop_all(m);
  }
  void rethrow_failures() const {
    if (failures_.any()) failures_.rethrow();
  }

 private:
  void fail(std::exception_ptr e) noexcept {
    if ((is_cancelled_ || is_stopped_from_outside()) && is_cancellation(e))
      return;  // it comes of that, through a handle
    failures_.add(std::move(e));
    scope_.loop->ask(
        [this]() noexcept { set_stopping(stop_mode::ask); });  // it may come out of a scope inside the group
  }
  /// By number: who is called by a stop may spawn, which leaves nothing behind here.
  void stop_all(stop_mode m) noexcept {
    for (std::size_t i = 0; i < children_.size(); ++i) children_[i]->stop(m);
  }
  [[gnu::cold]] static bool is_cancellation(const std::exception_ptr& e) noexcept {
    try {
      std::rethrow_exception(e);
    } catch (const cancelled&) {
      return true;
    } catch (...) {
      return false;
    }
  }
  /// It is stopping, and did not itself begin to.
  bool is_stopped_from_outside() const noexcept {
    return !is_cancelled_ && !failures_.any() && (scope_.state != detail::scope::running || stop_came());
  }
  void foreground_done() noexcept {
    if (--foreground_ == 0) stop_all(stop_mode::ask);
  }

  friend alarm<task_group_core>;
  void on_alarm() noexcept {
    try {
      cancel("the grace is over");
    } catch (...) {  // no memory for the reason
      cancel({});
    }
  }

  frame* body_ = nullptr;
  std::vector<child_base*> children_;
  std::size_t foreground_ = 0;  // body and children that keep the group open
  failures failures_;
  std::string reason_;
  bool is_cancelled_ = false;
  bool is_closing_ = false;
  bool is_cut_short_ = false;  // a stop from outside took what the group was to wait for
  alarm<task_group_core> end_of_grace_{*this};
};

inline bool closing_awaiter::await_ready() const noexcept { return group_->is_closing(); }
inline bool closing_awaiter::suspend(frame& f) {
  if (park(f)) group_->closing_waiters.push_back(*this);
  return true;
}

template <class Function, class T>
class with_task_group_awaitable final : public task_group_core {
 public:
  using value_type = T;
  template <class F>
  explicit with_task_group_awaitable(std::in_place_t, F&& f) : function_(std::forward<F>(f)) {}
  with_task_group_awaitable(with_task_group_awaitable&& o)
      : task_group_core(std::move(o)), function_(std::move(o.function_)) {}

  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    begin(f);
    this->start_body([this]() -> frame* {
      auto t = as_task(std::invoke(function_, face_.emplace(*this)));
      if (!t) throw_empty_task();
      return t.release();
    });
    return end();
  }
  T await_resume() {
    consume();
    rethrow_failures();
    if (result_.has_value()) return result_.take();
    if constexpr (!std::is_void_v<T>) throw stop_reason().empty() ? cancelled() : cancelled(stop_reason());
  }

 private:
  std::exception_ptr take_body(frame& body, fate how) noexcept override {
    if (how == fate::done) result_.take_from(static_cast<promise<T>&>(body).result);
    body.destroy();
    return result_.get_error();
  }
  bool body_has_value() const noexcept override { return result_.has_value(); }

  Function function_;
  std::optional<task_group> face_;
  result<T> result_;
};

/// What `started` reports to, shared by the child and by whoever waits for it.
template <class T>
struct start_report {
  result<T> value;
  leaf* waiter = nullptr;
  child_base* child = nullptr;
};

template <class Function, class T>
class start_awaitable final : public leaf {
  using task_of_function = decltype(as_task(std::invoke(std::declval<Function&>(), std::declval<started<T>>())));

 public:
  using value_type = T;
  template <class F>
  start_awaitable(task_group_core& g, F&& f, const child_options& options)
      : group_(&g), function_(std::forward<F>(f)), options_(options) {}
  start_awaitable(start_awaitable&& o) : group_(o.group_), function_(std::move(o.function_)), options_(o.options_) {}
  ~start_awaitable() { forget(); }

  const char* what() const noexcept override { return "task_group::start"; }
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    report_ = std::make_shared<start_report<T>>();
    handle_ = group_->spawn(call(std::move(function_), started<T>(report_)), options_, &report_->child);
    auto& c = handle_access::child(handle_);
    if (!c.ran() && f.scope->stop_asked()) {  // nothing begins any more, here too
      park_to_be_stopped(f);
      return true;
    }
    if (c.done() || !report_->value.empty()) {
      forget();
      return false;
    }
    if (!park(f)) {  // in a stopped scope
      forget();
      c.stop(stop_mode::ask);
      return true;
    }
    report_->waiter = this;
    c.waiters.push_back(*this);
    return true;
  }
  T await_resume() {
    consume();
    if (!report_->value.empty()) return report_->value.take();
    handle_.outcome().value();  // throws what ended it
    throw std::logic_error("tandem::task_group::start: the task ended without having called started");
  }
  void stop(stop_mode m) noexcept override {
    if (!waiting()) return;
    auto& c = handle_access::child(handle_);
    forget();
    c.stop(m);
    leaf::stop(m);
  }

 private:
  static task_of_function call(Function f, started<T> report) {
    auto t = as_task(std::invoke(f, std::move(report)));
    co_return co_await std::move(t);
  }
  /// From now on a failure of the child is the group's.
  void forget() noexcept {
    if (report_) report_->waiter = nullptr, report_->child = nullptr;
    if (handle_) handle_access::child(handle_).has_started();
  }

  task_group_core* group_;
  Function function_;
  child_options options_;
  std::shared_ptr<start_report<T>> report_;
  task_handle<typename task_of_function::value_type> handle_;
};

}  // namespace detail

template <class T>
class started {
 public:
  /// The child is ready; a second call is a std::logic_error.
  template <class... V>
  void operator()(V&&... value) const {
    if (!report_->value.empty()) throw std::logic_error("tandem::started: called twice");
    report_->value.set_value(std::forward<V>(value)...);
    if (report_->child) report_->child->has_started();
    if (report_->waiter && report_->waiter->waiting()) report_->waiter->wake();
  }

  /// Made by the library.
  explicit started(std::shared_ptr<detail::start_report<T>> report) noexcept : report_(std::move(report)) {}

 private:
  std::shared_ptr<detail::start_report<T>> report_;
};

template <class Awaitable>
auto task_group::spawn(Awaitable&& awaitable, const child_options& options) {
  return core_->spawn(detail::to_task(std::forward<Awaitable>(awaitable)), options);
}
template <class T, class Function>
auto task_group::start(Function&& function, child_options options) {
  detail::refuse_what_gcc12_miscompiles<Function>();
  static_assert(detail::gives_awaitable<std::decay_t<Function>&, started<T>>(),
                "the callable takes a started<T> and returns an awaitable, such as a task; write start<T> for its T");
  return detail::start_awaitable<std::decay_t<Function>, T>(*core_, std::forward<Function>(function), options);
}
inline void task_group::cancel(std::string reason) { core_->cancel(std::move(reason)); }
template <class Rep, class Period>
void task_group::close(std::chrono::duration<Rep, Period> grace) {
  core_->close(detail::checked_duration(grace, "tandem::task_group::close"));
}
inline void task_group::close() { core_->close(clock::duration::max()); }
inline bool task_group::is_closing() const noexcept { return core_->is_closing(); }
inline auto task_group::closing() noexcept { return detail::closing_awaiter(*core_); }
inline std::size_t task_group::size() const noexcept { return core_->size(); }

template <class Function>
auto with_task_group(Function&& function) {
  detail::refuse_what_gcc12_miscompiles<Function>();
  static_assert(detail::gives_awaitable<std::decay_t<Function>&, task_group&>(),
                "the callable takes a task_group& and returns an awaitable, such as a task");
  using T = typename decltype(detail::as_task(
      std::invoke(std::declval<std::decay_t<Function>&>(), std::declval<task_group&>())))::value_type;
  return detail::with_task_group_awaitable<std::decay_t<Function>, T>(std::in_place, std::forward<Function>(function));
}

}  // namespace tandem::inline TANDEM_CONFIG
