// tandem/wait.hpp: waiting for many: wait, as_completed; with it come task groups, handles and race.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, gather.hpp, outcome.hpp, progress.hpp, race.hpp, task.hpp, task_group.hpp, task_handle.hpp, detail/alarm.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/priority.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "gather.hpp"
#include "progress.hpp"
#include "race.hpp"
#include "task.hpp"
#include "task_group.hpp"

#include "detail/group.hpp"
#include "detail/result.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/wait.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// When `wait` goes on.
enum class return_when {
  first_completed,  ///< one has ended, whatever way
  first_exception,  ///< one has failed (cancelled is no failure), or all have ended
  all_completed     ///< all have ended
};
inline constexpr return_when first_completed = return_when::first_completed;
inline constexpr return_when first_exception = return_when::first_exception;
inline constexpr return_when all_completed = return_when::all_completed;

/// What `wait` gives: the handles of tasks that have ended, in the order in which they did, and the others, in the
/// order in which they were given.
template <class T>
struct wait_result {
  std::vector<task_handle<T>> done;
  std::vector<task_handle<T>> pending;
};

/// `auto answers = co_await wait(handles, first_completed)`: goes on when the condition holds; at once if it does
/// already.
///
/// Cancels nothing and throws no failure of a task: ask the handles. What is pending may be waited for again. With a
/// time limit it also goes on when that is over, with whatever is done; zero looks without waiting. A stop detaches the
/// waiter only. Linear in the number of handles, beside sorting those that are done; one allocation for each of the two
/// vectors, and one to wait. Throws std::invalid_argument for no handles and for a negative limit, std::logic_error for
/// an empty handle, one of another loop, and one's own.
template <class T>
auto wait(std::vector<task_handle<T>> handles, return_when condition = all_completed);
template <class T, class Rep, class Period>
auto wait(std::vector<task_handle<T>> handles, return_when condition, std::chrono::duration<Rep, Period> limit);

/// The same for handles that are more than a task_handle, such as those of a priority_scheduler.
template <class Handle, class... Arguments>
requires(!std::is_same_v<Handle, task_handle<typename Handle::value_type>> &&
         std::is_convertible_v<Handle, task_handle<typename Handle::value_type>>)
auto wait(const std::vector<Handle>& handles, Arguments... arguments);

/// One that has ended: which it was among the tasks, counted from 0, and how it ended.
template <class T>
struct completed {
  std::size_t index;
  tandem::outcome<T> outcome;
};

namespace detail {
template <class T>
class completion_core;
}

/// The tasks of an `as_completed`, one after the other as they end.
template <class T>
class completion_stream {
 public:
  using value_type = completed<T>;

  completion_stream(completion_stream&& other) noexcept;
  completion_stream& operator=(completion_stream&& other) noexcept;
  ~completion_stream();

  /// `while (auto one = co_await stream.next())`: an optional of the next that has ended, in the order in which they
  /// do; empty after the last, and if the stream is destroyed meanwhile. One waiter at a time.
  auto next();

 private:
  friend detail::completion_core<T>;
  explicit completion_stream(detail::completion_core<T>* core) noexcept : core_(core) {}
  detail::completion_core<T>* core_;  // null if moved from
};

/// `auto stream = as_completed(std::move(tasks), 8)`: runs the tasks, at most `limit` at a time, and gives each as it
/// ends, in the form of an outcome: a failure stops nothing.
///
/// Nothing starts before the first `next()`; from then on the tasks run whether or not somebody waits. Dropping the
/// stream stops those that are left; they are joined by the tree in which `next()` was called, which ends after them.
/// The same happens when the tree is stopped while nobody waits; under a shield, when the stream is dropped. A task
/// that fails after it was asked to stop, in a clean-up, is how the tree ends: in place of a value, together with a
/// failure of its body in an `exception_group`. Throws std::invalid_argument for an empty task and for a limit of zero.
/// Without a limit all start at once. Two allocations.
template <class T>
completion_stream<T> as_completed(std::vector<task<T>> tasks,
                                  std::size_t limit = std::numeric_limits<std::size_t>::max());

/// The same with an observer, which must outlive the stream: declare it before. Once the stream is dropped nothing more
/// is told; the tasks that are left count as stopped, however they end.
template <class T>
completion_stream<T> as_completed(observed_by observer, std::vector<task<T>> tasks,
                                  std::size_t limit = std::numeric_limits<std::size_t>::max());

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

template <class T>
class next_awaiter;

template <class T>
class wait_awaitable final : public timer_leaf {
 public:
  using value_type = wait_result<T>;
  wait_awaitable(std::vector<task_handle<T>> handles, return_when condition, clock::duration limit)
      : handles_(std::move(handles)), condition_(condition), limit_(limit) {
    if (handles_.empty()) throw std::invalid_argument("tandem::wait: there are no handles to wait for");
    for (const auto& h : handles_) handle_access::child(h);
  }
  wait_awaitable(wait_awaitable&& o) noexcept
      : handles_(std::move(o.handles_)), condition_(o.condition_), limit_(o.limit_) {}

  const char* what() const noexcept override { return "wait"; }
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    if (handles_.empty())
      throw std::logic_error("tandem::wait: awaiting a wait that was moved from, or awaited before");
    std::size_t failed = 0;
    left_ = 0;
    for (const auto& h : handles_) {
      auto& c = handle_access::child(h);
      if (!c.done()) {
        c.check_waiter(f);
        ++left_;
      } else if (c.failed()) {
        ++failed;
      }
    }
    if (left_ == 0 || limit_ == clock::duration::zero()) return false;
    if (condition_ == first_completed && left_ != handles_.size()) return false;
    if (condition_ == first_exception && failed != 0) return false;

    loop& l = *f.scope->loop;
    if (limit_ != clock::duration::max()) l.reserve_timer();
    arms_.reset(new arm[left_]);
    if (!park(f)) return true;
    arm* a = arms_.get();
    for (const auto& h : handles_) {
      auto& c = handle_access::child(h);
      if (c.done()) continue;
      a->child = &c;
      a->compete_for(f);
      c.waiters.push_back(*a);
      if (f.scope->job) a->loan = lend(f.scope->job, c.job());
      ++a;
    }
    const clock::time_point due = saturated_sum(l.now(), limit_);
    if (due != clock::time_point::max()) l.add_timer(*this, due);
    return true;
  }
  void stop(stop_mode m) noexcept override {
    if (!waiting()) return;
    timer_leaf::stop(m);
    arms_.reset();
  }
  value_type await_resume() {
    consume();
    arms_.reset();  // what is pending must not tell whatever the frame waits for next
    value_type out;
    std::vector<task_handle<T>> all = std::move(handles_);
    handles_.clear();
    const auto is_done = [](const task_handle<T>& h) { return h.done(); };
    const auto done = static_cast<std::size_t>(std::count_if(all.begin(), all.end(), is_done));
    out.done.reserve(done);
    out.pending.reserve(all.size() - done);
    for (auto& h : all) (h.done() ? out.done : out.pending).push_back(std::move(h));
    std::sort(out.done.begin(), out.done.end(), [](const task_handle<T>& a, const task_handle<T>& b) {
      return handle_access::child(a).ended_as() < handle_access::child(b).ended_as();
    });
    return out;
  }

 private:
  /// Waits for one handle. Its grant comes to `arm_woken`.
  struct arm final : leaf {
    const char* what() const noexcept override { return "wait"; }
    const child_base* child = nullptr;
    std::unique_ptr<detail::loan> loan;  // while a job waits, which lends its priority
  };
  void arm_woken(leaf& l) noexcept override {
    l.consume();
    --left_;
    const bool enough = condition_ == first_completed || left_ == 0 ||
                        (condition_ == first_exception && static_cast<arm&>(l).child->failed());
    if (!enough || !waiting()) return;
    remove_from_timers();
    wake();
  }

  std::vector<task_handle<T>> handles_;
  return_when condition_;
  clock::duration limit_;
  std::size_t left_ = 0;
  std::unique_ptr<arm[]> arms_;
};

/// The tasks of an as_completed. Belongs to the stream, and to itself once that is dropped; to the tree while any run.
template <class T>
class completion_core final : public stop_target, public stray {
 public:
  completion_core(std::vector<task<T>> tasks, std::size_t limit, std::optional<observed> observer)
      : tasks_(std::move(tasks)), limit_(limit), observer_(observer) {}
  static completion_stream<T> make_stream(std::vector<task<T>> tasks, std::size_t limit,
                                          std::optional<observed> observer) {
    if (limit == 0) throw std::invalid_argument("tandem::as_completed: the limit is 0; it must be at least 1");
    if (tasks.size() > std::numeric_limits<std::uint32_t>::max())
      throw std::invalid_argument("tandem::as_completed: " + std::to_string(tasks.size()) +
                                  " tasks are more than 2^32 - 1");
    for (std::size_t i = 0; i != tasks.size(); ++i)
      if (!tasks[i])
        throw std::invalid_argument("tandem::as_completed: task " + std::to_string(i) +
                                    " is empty: it was moved from, or awaited before");
    return completion_stream<T>(new completion_core(std::move(tasks), limit, observer));
  }
  ~completion_core() {
    for (std::size_t i = 0; i != tasks_.size(); ++i)
      if (frame* c = child(i)) tasks_[i].release(), c->destroy();
  }

  const char* what() const noexcept override { return "as_completed"; }
  std::size_t children() const noexcept override { return tasks_.size(); }
  frame* child(std::size_t i) const noexcept override { return i < next_ ? tasks_[i].get() : nullptr; }

  /// True if there is one to give, or none will come any more.
  bool has_answer() const noexcept { return given_ != ended_.size() || (under_way_ == 0 && !may_start()); }
  /// From `next()`: starts what may be started, in the tree of that frame.
  void start_for(frame& f) {
    if (waiter_) throw std::logic_error("tandem::as_completed: two coroutines await next() of the same stream");
    if (under_way_ == 0) {
      scope_.loop = f.scope->loop;
      scope_.root = f.scope->root;
      // Under a shield the tree's stop is not for them either: who drops the stream stops them.
      const detail::scope* outermost = f.scope;
      while (outermost->outer) outermost = outermost->outer;
      scope_.outer = outermost == &scope_.root->scope() ? outermost : nullptr;
      scope_.deadline = outermost->deadline;  // not that of one next()
    } else if (scope_.root != f.scope->root) {
      throw std::logic_error(
          "tandem::as_completed: next() is awaited in another tree than the one that runs the tasks");
    }
    ended_.reserve(tasks_.size());  // noting how one ended cannot fail
    if (!f.scope->stop_asked()) fill();
    if (under_way_ != 0) return;
    unlink_stray();
    if (observer_) observer_->finish();
  }
  /// Until it has taken what it waits for.
  void wait_here(next_awaiter<T>* n) noexcept { waiter_ = n; }
  bool is_awaited() const noexcept { return waiter_ != nullptr; }
  std::optional<completed<T>> take() {
    if (given_ == ended_.size()) return std::nullopt;
    auto& one = ended_[given_++];
    return completed<T>{one.index, tandem::outcome<T>(std::move(one.value))};
  }
  /// The stream is gone. Who waits for its next gets nothing.
  void drop() noexcept {
    if (waiter_) std::exchange(waiter_, nullptr)->stream_is_gone();
    if (observer_) [[unlikely]]
      tell_the_rest();
    if (under_way_ == 0) return delete this;
    is_dropped_ = true;
    scope_.loop->ask([this]() noexcept { stop(stop_mode::ask); });
  }

  void stop(stop_mode m) noexcept override {
    const auto state = m == stop_mode::ask ? detail::scope::stopping : detail::scope::abandoned;
    if (scope_.state >= state) return;
    scope_.state = state;
    scope_.loop->stop_children_of(*this);
  }
  const wait_node& node_of_stray() const noexcept override { return *this; }
  void stop_stray(stop_mode m) noexcept override {
    if (m == stop_mode::abandon || scope_.outer) stop(m);
  }
  step child_ended(frame& f, fate how) noexcept override {
    keep(f, how);
    if (!is_dropped_) fill();
    if (waiter_ && waiter_->waiting() && has_answer()) waiter_->wake();
    if (under_way_ != 0) return step::none();
    if (observer_) observer_->finish();
    unlink_stray();
    root& r = *scope_.root;
    if (is_dropped_) delete this;
    r.stray_ended();  // this may be what the tree waited for
    return step::none();
  }

 private:
  struct ended {
    explicit ended(std::size_t i) noexcept : index(i) {}
    std::size_t index;
    result<T> value;
  };
  bool may_start() const noexcept { return next_ != tasks_.size() && scope_.state == detail::scope::running; }
  void fill() noexcept {
    const loop::in_scope of_the_tasks(scope_);
    while (under_way_ < limit_ && may_start()) {
      frame& f = *tasks_[next_].get();
      f.owner = this;
      f.scope = &scope_;
      f.index = static_cast<std::uint32_t>(next_++);
      ++under_way_;
      if (!static_cast<stray&>(*this).linked()) scope_.root->adopt(*this);
      if (observer_) [[unlikely]]
        tell_start(f.index);
      if (scope_.loop->start(f)) keep(f, fate::done);
    }
  }
  [[gnu::noinline]] void tell_start(std::size_t i) noexcept {
    if (i == 0) observer_->begin(tasks_.size());
    observer_->start(i);
  }
  [[gnu::noinline]] void tell_end(std::size_t i, fate how) noexcept {
    observer_->end(i, how == fate::stopped, ended_.back().value.has_error());
  }
  /// The stream is being dropped, and its observer may be gone soon after.
  [[gnu::noinline]] void tell_the_rest() noexcept {
    for (std::size_t i = 0; i != next_; ++i)
      if (tasks_[i]) observer_->end(i, progress_ending::stopped);
    observer_->finish();
    observer_.reset();
  }
  void unlink_stray() noexcept { static_cast<stray&>(*this).unlink(); }
  void keep(frame& f, fate how) noexcept {
    const std::size_t i = f.index;
    tasks_[i].release();
    if (how == fate::done) {
      result<T>& r = static_cast<promise<T>&>(f).result;
      // Of a clean-up that fails the tree hears, since nobody may ever ask for the outcome.
      if (r.has_error() && scope_.state != detail::scope::running) scope_.root->stray_failed(r.get_error());
      if (!is_dropped_) ended_.emplace_back(i).value.take_from(r);
    } else if (!is_dropped_) {
      ended_.emplace_back(i);
    }
    // Now, because what the frame owns may drop the stream.
    if (observer_) [[unlikely]]
      tell_end(i, how);
    f.destroy();
    --under_way_;
  }
  void stop_children() noexcept override {
    const stop_mode m = scope_.state == detail::scope::abandoned ? stop_mode::abandon : stop_mode::ask;
    for (std::size_t i = 0; i != next_; ++i)
      if (frame* c = child(i)) detail::loop::stop_below(*c, m);
  }

  std::vector<task<T>> tasks_;  // each is empty once it has ended
  std::size_t limit_;
  std::size_t next_ = 0;  // the first that has not started
  std::size_t under_way_ = 0;
  std::vector<ended> ended_;
  std::size_t given_ = 0;
  next_awaiter<T>* waiter_ = nullptr;
  bool is_dropped_ = false;
  std::optional<observed> observer_;
  detail::scope scope_;
};

template <class T>
class next_awaiter final : public leaf {
 public:
  explicit next_awaiter(completion_core<T>& c) noexcept : core_(&c) {}
  next_awaiter(next_awaiter&& o) noexcept : core_(o.core_) {}
  ~next_awaiter() {
    if (core_ && (waiting() || granted())) core_->wait_here(nullptr);
  }

  static constexpr bool leaves_at_once = true;
  const char* what() const noexcept override { return "as_completed"; }
  bool await_ready() const noexcept { return !core_->is_awaited() && core_->has_answer(); }
  bool suspend(frame& f) {
    core_->start_for(f);
    if (core_->has_answer()) return false;
    if (park(f)) core_->wait_here(this);
    return true;
  }
  std::optional<completed<T>> await_resume() {
    consume();
    if (!core_) return std::nullopt;
    core_->wait_here(nullptr);
    return core_->take();
  }
  void stream_is_gone() noexcept {
    core_ = nullptr;
    if (waiting()) wake();
  }
  void stop(stop_mode m) noexcept override {
    if (waiting()) core_->wait_here(nullptr);
    leaf::stop(m);
  }
  void leave() noexcept {
    core_->wait_here(nullptr);
    leaf::leave();
  }

 private:
  completion_core<T>* core_;  // null once the stream has gone
};

}  // namespace detail

template <class T>
auto wait(std::vector<task_handle<T>> handles, return_when condition) {
  return detail::wait_awaitable<T>(std::move(handles), condition, clock::duration::max());
}
template <class T, class Rep, class Period>
auto wait(std::vector<task_handle<T>> handles, return_when condition, std::chrono::duration<Rep, Period> limit) {
  return detail::wait_awaitable<T>(std::move(handles), condition, detail::checked_duration(limit, "tandem::wait"));
}

template <class Handle, class... Arguments>
requires(!std::is_same_v<Handle, task_handle<typename Handle::value_type>> &&
         std::is_convertible_v<Handle, task_handle<typename Handle::value_type>>)
auto wait(const std::vector<Handle>& handles, Arguments... arguments) {
  return wait(std::vector<task_handle<typename Handle::value_type>>(handles.begin(), handles.end()), arguments...);
}

template <class T>
completion_stream<T>::completion_stream(completion_stream&& other) noexcept
    : core_(std::exchange(other.core_, nullptr)) {}
template <class T>
completion_stream<T>& completion_stream<T>::operator=(completion_stream&& other) noexcept {
  if (this != &other && core_) core_->drop();
  core_ = this != &other ? std::exchange(other.core_, nullptr) : core_;
  return *this;
}
template <class T>
completion_stream<T>::~completion_stream() {
  if (core_) core_->drop();
}
template <class T>
auto completion_stream<T>::next() {
  if (!core_) throw std::logic_error("tandem::as_completed: next() of a stream that was moved from");
  return detail::next_awaiter<T>(*core_);
}

template <class T>
completion_stream<T> as_completed(std::vector<task<T>> tasks, std::size_t limit) {
  return detail::completion_core<T>::make_stream(std::move(tasks), limit, std::nullopt);
}
template <class T>
completion_stream<T> as_completed(observed_by observer, std::vector<task<T>> tasks, std::size_t limit) {
  return detail::completion_core<T>::make_stream(std::move(tasks), limit, detail::observed(observer));
}

}  // namespace tandem::inline TANDEM_CONFIG
