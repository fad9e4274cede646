// tandem/task_handle.hpp: a task that runs, seen from outside: task_handle<T>.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, outcome.hpp, task.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/priority.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "exceptions.hpp"
#include "outcome.hpp"
#include "task.hpp"

#include "detail/frame.hpp"
#include "detail/intrusive_list.hpp"
#include "detail/loop.hpp"
#include "detail/priority.hpp"
#include "detail/result.hpp"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/task_handle.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

namespace detail {
template <class T>
class child_of;
template <class T, bool ByValue>
class handle_awaiter;
struct handle_access;
}  // namespace detail

/// A child of a task_group, seen from outside: to await it, to cancel it, to look at how it ended.
///
/// `co_await h` gives a `const T&` to the child's value (void and references as they are), or throws what the child
/// threw, or `cancelled` if it was cancelled. It may be awaited any number of times, by several waiters, who go on in
/// the order in which they came; awaiting does not consume. `co_await std::move(h)` gives the T itself, moved out if
/// no other handle shares it. A stop of a waiter detaches that waiter only. Copies are cheap and share the child; a
/// handle may outlive its group, and is used on its group's loop only. Awaiting an empty handle, one of another loop or
/// one's own throws std::logic_error.
template <class T = void>
class task_handle {
 public:
  using value_type = T;

  task_handle() noexcept = default;  ///< Empty.
  task_handle(const task_handle& other) noexcept;
  task_handle(task_handle&& other) noexcept : child_(std::exchange(other.child_, nullptr)) {}
  task_handle& operator=(task_handle other) noexcept {
    std::swap(child_, other.child_);
    return *this;
  }
  ~task_handle();

  explicit operator bool() const noexcept { return child_ != nullptr; }
  /// It has ended, whatever way.
  bool done() const;
  /// Asks the child to stop; nothing if it has ended. The group goes on.
  void cancel() const;
  /// How it ended: a value, a failure, or `cancelled`. Throws std::logic_error if it is not done.
  const tandem::outcome<T>& outcome() const;
  /// What `spawn` was told.
  std::string_view name() const;
  /// The same child?
  bool operator==(const task_handle&) const noexcept = default;

  detail::handle_awaiter<T, false> make_awaiter() const&;
  detail::handle_awaiter<T, true> make_awaiter() &&;

 private:
  friend struct detail::handle_access;
  explicit task_handle(detail::child_of<T>* c) noexcept : child_(c) {}
  detail::child_of<T>& child() const;
  detail::child_of<T>* child_ = nullptr;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

class child_base;
class task_group_core;

/// Whose child it is: a task_group, or the job of a pool.
class child_owner {
 public:
  /// It has ended, and its frame is gone: what the loop does next.
  virtual step child_done(child_base&) noexcept = 0;
  /// Why it was stopped, or nothing.
  virtual const std::string& stop_reason() const noexcept = 0;

 protected:
  ~child_owner() = default;
};

/// The record of a child: it owns the frame while that runs, and keeps how it ended for the handles. Counted by them
/// and by the owner, while it runs.
class child_base : public wait_node {
 public:
  const char* what() const noexcept override { return "task_group"; }

  void share() noexcept { ++owners_; }
  void release() noexcept {
    if (--owners_ == 0) dispose();
  }
  bool is_shared() const noexcept { return owners_ != 1; }

  bool ran() const noexcept { return ran_; }
  bool done() const noexcept { return done_; }
  std::string_view name() const noexcept { return name_; }
  std::string_view name_of_child() const noexcept override { return name_; }
  detail::loop& loop() const noexcept { return *scope_.loop; }
  frame* running() const noexcept { return frame_; }
  /// Smaller than that of a child that ended later.
  std::uint64_t ended_as() const noexcept { return ended_as_; }
  bool failed() const noexcept { return failed_; }
  /// It has failed, and nobody has asked how it ended.
  bool failed_unseen() const noexcept { return failed_ && !looked_at_; }
  void has_been_told() noexcept { looked_at_ = true; }
  virtual std::exception_ptr failure() const noexcept = 0;
  virtual bool has_value() const noexcept = 0;

  void stop(stop_mode m) noexcept override {
    const auto state = m == stop_mode::ask ? scope::stopping : scope::abandoned;
    if (done_ || scope_.state >= state) return;
    scope_.state = state;
    if (frame_) detail::loop::stop_below(*frame_, m);
  }
  /// It belongs into `around`, or, if that is null, to its tree alone.
  void enter(detail::loop& l, detail::root& tree, const scope* around) noexcept {
    scope_.loop = &l;
    scope_.root = &tree;
    scope_.outer = around;
    if (!around) return;
    scope_.deadline = around->deadline;
    if (!scope_.job) scope_.job = around->job;
  }
  /// The priority_scheduler's job that it is, or is part of; null if there is none.
  prioritized* job() const noexcept { return scope_.job; }
  /// Before `enter`.
  void is_job(prioritized& p) noexcept { scope_.job = &p; }
  const detail::scope& own_scope() const noexcept { return scope_; }
  bool is_stopped() const noexcept { return scope_.stop_asked(); }
  void start(frame& f) noexcept {
    f.owner = this;
    f.scope = &scope_;
    frame_ = &f;
    ran_ = true;
    bool has_ended = false;
    {
      const detail::loop::in_scope here(scope_);
      has_ended = scope_.loop->start(f);
    }
    if (has_ended) end(&f, fate::done);
  }
  /// `f` is null if it never ran.
  step end(frame* f, fate how) noexcept;
  step child_ended(frame& f, fate how) noexcept override { return end(&f, how); }
  /// For `start`: a failure is the group's from now on.
  void has_started() noexcept { starting_ = false; }

  /// Throws if `f` is part of this child, or of another loop.
  void check_waiter(const frame& f) const {
    if (f.scope->loop != scope_.loop)
      throw std::logic_error(
          "tandem: a task_handle is awaited on another loop than its group's; spawn with use_task gives "
          "an awaitable for any loop");
    for (const scope* s = f.scope; s; s = s->outer)
      if (s == &scope_) throw std::logic_error("tandem: a task awaits its own handle, so it would wait for ever");
  }

  intrusive_list<leaf> waiters;

  static void* operator new(std::size_t size) { return allocate_frame(size); }
  static void operator delete(void* p, std::size_t size) noexcept { deallocate_frame(p, size); }

 protected:
  child_base(child_owner& owner, std::string_view name) noexcept : owner_(&owner), name_(name) {}
  ~child_base() {
    if (frame_) frame_->destroy();
  }
  /// Keeps how the child ended. `f` is null if it never ran.
  virtual void take(frame* f, fate how) noexcept = 0;
  virtual void dispose() noexcept = 0;
  std::exception_ptr make_cancelled() const noexcept;
  bool failed_ = false;
  bool looked_at_ = false;

 private:
  friend class task_group_core;

  scope scope_;
  child_owner* owner_;  // null once it has ended
  frame* frame_ = nullptr;
  std::string_view name_;
  std::uint64_t ended_as_ = 0;
  std::uint32_t owners_ = 1;
  bool ran_ = false;
  bool done_ = false;

  // What a task_group notes about it.
  bool background_ = false;
  bool starting_ = false;      // a failure goes to whoever waits for its start
  bool is_cut_short_ = false;  // a stop from outside the group reached it before any other
  std::size_t place_ = 0;      // among the group's children
};

/// Whatever way it ended, or never ran. The frame goes before anyone is woken.
inline step child_base::end(frame* f, fate how) noexcept {
  frame_ = nullptr;
  take(f, how);
  if (f) f->destroy();
  done_ = true;
  ended_as_ = scope_.loop->next_number();
  while (!waiters.empty()) waiters.front().wake();
  if (!owner_) return step::none();
  const step next = std::exchange(owner_, nullptr)->child_done(*this);
  release();
  return next;
}

[[gnu::cold]] inline std::exception_ptr child_base::make_cancelled() const noexcept {
  try {
    if (owner_ && !owner_->stop_reason().empty()) return std::make_exception_ptr(cancelled(owner_->stop_reason()));
    return std::make_exception_ptr(cancelled());
  } catch (...) {
    return std::current_exception();
  }
}

template <class T>
class child_of : public child_base {
 public:
  child_of(child_owner& owner, std::string_view name) noexcept : child_base(owner, name) {}
  virtual ~child_of() = default;
  /// For who has a handle.
  tandem::outcome<T>& outcome() noexcept {
    this->looked_at_ = true;
    return outcome_;
  }
  std::exception_ptr failure() const noexcept override { return outcome_.error(); }
  bool has_value() const noexcept override { return outcome_.has_value(); }

 protected:
  /// For one that ends without a frame.
  void fail(std::exception_ptr e) noexcept { outcome_access::get(outcome_).set_error(std::move(e)); }

 private:
  void take(frame* f, fate how) noexcept override {
    result<T>& r = outcome_access::get(outcome_);
    if (f && how == fate::done) r.take_from(static_cast<promise<T>&>(*f).result);
    this->failed_ = r.has_error();
    if (r.empty()) r.set_error(this->make_cancelled());
  }
  void dispose() noexcept override { delete this; }

  tandem::outcome<T> outcome_ = outcome_access::make_empty<T>();
};

struct handle_access {
  template <class T>
  static task_handle<T> make(child_of<T>& c) noexcept {
    return task_handle<T>(&c);
  }
  template <class T>
  static child_of<T>& child(const task_handle<T>& h) {
    return h.child();
  }
};

template <class T, bool ByValue>
class handle_awaiter final : public leaf {
 public:
  using value = std::conditional_t<std::is_void_v<T> || std::is_reference_v<T> || ByValue, T, const stored_t<T>&>;
  explicit handle_awaiter(task_handle<T> h) noexcept : handle_(std::move(h)) {}
  handle_awaiter(handle_awaiter&& o) noexcept : handle_(std::move(o.handle_)) {}

  static constexpr bool leaves_at_once = true;
  const char* what() const noexcept override { return "task_handle"; }
  bool await_ready() const { return record().done(); }
  bool suspend(frame& f) {
    record().check_waiter(f);
    if (!park(f)) return true;
    record().waiters.push_back(*this);
    if (f.scope->job) [[unlikely]]
      loan_ = lend(f.scope->job, record().job());
    return true;
  }
  /// For race: what `await_resume` would throw.
  std::exception_ptr failure() const noexcept { return record().outcome().error(); }
  void leave() noexcept {
    loan_.reset();
    leaf::leave();
  }
  void stop(stop_mode m) noexcept override {
    loan_.reset();
    leaf::stop(m);
  }
  value await_resume() {
    consume();
    loan_.reset();
    auto& v = record().outcome().value();
    if constexpr (std::is_void_v<T>) {
      return;
    } else if constexpr (std::is_reference_v<T>) {
      return v.get();
    } else if constexpr (!ByValue) {
      return v;
    } else if constexpr (std::is_copy_constructible_v<T>) {
      return record().is_shared() ? v : T(std::move(v));
    } else {
      if (record().is_shared())
        throw std::logic_error(
            "tandem: the value of a task that only moves can be taken from its last handle alone; "
            "await the handle as it is, without std::move, for a reference");
      return std::move(v);
    }
  }

 private:
  child_of<T>& record() const { return handle_access::child(handle_); }
  task_handle<T> handle_;
  std::unique_ptr<loan> loan_;  // while a job waits, which lends its priority
};

}  // namespace detail

template <class T>
task_handle<T>::task_handle(const task_handle& other) noexcept : child_(other.child_) {
  if (child_) child_->share();
}
template <class T>
task_handle<T>::~task_handle() {
  if (child_) child_->release();
}
template <class T>
detail::child_of<T>& task_handle<T>::child() const {
  if (!child_) throw std::logic_error("tandem: a task_handle is used that is empty: never given a task, or moved from");
  return *child_;
}
template <class T>
bool task_handle<T>::done() const {
  return child().done();
}
template <class T>
void task_handle<T>::cancel() const {
  detail::child_of<T>& c = child();
  if (!c.done()) c.loop().ask([&]() noexcept { c.stop(detail::stop_mode::ask); });
}
template <class T>
const tandem::outcome<T>& task_handle<T>::outcome() const {
  if (!done()) throw std::logic_error("tandem::task_handle::outcome: the task has not ended");
  return child_->outcome();
}
template <class T>
std::string_view task_handle<T>::name() const {
  return child().name();
}
template <class T>
detail::handle_awaiter<T, false> task_handle<T>::make_awaiter() const& {
  child();
  return detail::handle_awaiter<T, false>(*this);
}
template <class T>
detail::handle_awaiter<T, true> task_handle<T>::make_awaiter() && {
  child();
  return detail::handle_awaiter<T, true>(std::move(*this));
}

}  // namespace tandem::inline TANDEM_CONFIG
