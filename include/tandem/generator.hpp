// tandem/generator.hpp: async generators: generator<T>, on_exit, and for_each over what has a next().
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, cancel.hpp, clock.hpp, exceptions.hpp, gather.hpp, outcome.hpp, progress.hpp, semaphore.hpp, task.hpp, task_group.hpp, task_handle.hpp, this_task.hpp, detail/alarm.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/holder.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/one_loop.hpp, detail/place.hpp, detail/priority.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "cancel.hpp"
#include "gather.hpp"
#include "progress.hpp"
#include "semaphore.hpp"
#include "task.hpp"
#include "task_group.hpp"
#include "this_task.hpp"

#include "detail/failures.hpp"
#include "detail/gcc12.hpp"

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/generator.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

namespace detail {
template <class T>
class generator_promise;
template <class T>
class next_item;
class close_awaiter;
class generator_frame;
template <class F>
class on_exit_request;
template <class T>
struct moved_item;
}  // namespace detail

/// A coroutine that gives many T, one at a time, and may wait between them: `co_yield`.
///
///     generator<int> countdown(int n) {
///       for (; n != 0; --n) co_await sleep_for(1s), co_yield n;
///     }
///     auto g = countdown(3);
///     while (auto n = co_await g.next()) std::cout << *n << '\n';
///
/// Lazy: the body runs only while somebody awaits `next()`, as a child of his, in his scope and under his time limits.
/// An item that is there without waiting suspends nobody; otherwise the awaiter goes on in his loop's turn. What the
/// body throws comes out of `next()`, and the generator is over; so it is if a `next()` is stopped. When the body is
/// over, what it registered with `on_exit` is awaited, latest first, shielded; then its frame is destroyed, and then
/// the awaiter goes on. An item granted at the instant of a stop is given, and the next wait stops.
///
/// Who leaves a generator before its end awaits `close()`, or hands it to `for_each`, which does. One that is dropped
/// at a `co_yield` runs destructors only, and leases in it are discarded; debug builds say on stderr if something
/// registered with `on_exit` was lost. Destroyed while somebody waits for its next item, it is stopped where it waits,
/// and he gets std::logic_error. A `finally` cannot span a `co_yield`, since the body may never come back to it.
///
/// T is an object type or an lvalue reference; an item is moved from where it was yielded, an lvalue is copied first.
/// On g++ 12 a temporary of an aggregate type that needs a destructor cannot be yielded: give the type a constructor,
/// or name the item, and `co_yield moved(name)`. A generator is one pointer, its frame comes from a free list, an item
/// costs no allocation.
template <class T>
class [[nodiscard("a generator does nothing until its next() is awaited")]] generator {
  static_assert(!std::is_void_v<T>, "a generator of nothing: use a task, or generator<std::monostate>");
  static_assert(!std::is_rvalue_reference_v<T>, "generator<T&&> would dangle: yield the object, as generator<T>");
  static_assert(!std::is_const_v<T>, "generator<const T>: leave out the const, an item is a value");

 public:
  using promise_type = detail::generator_promise<T>;
  using value_type = T;

  generator() noexcept = default;  ///< Has no items.
  generator(generator&& other) noexcept;
  generator& operator=(generator&& other) noexcept;
  ~generator();

  /// `co_await g.next()`: an optional of the next item (of a std::reference_wrapper, for a T&); empty after the last,
  /// and ever after. Throws std::logic_error if somebody awaits it already.
  [[nodiscard("it gives an item when it is awaited")]] detail::next_item<T> next() noexcept;

  /// `co_await g.close()`: ends the generator where it is, if it is not over: awaits what it registered with `on_exit`
  /// and destroys its frame. Failures of these are thrown. Throws std::logic_error if somebody awaits `next()`.
  [[nodiscard("it closes when it is awaited")]] detail::close_awaiter close() noexcept;

  /// False once it is over, and if it was moved from.
  explicit operator bool() const noexcept { return frame_ != nullptr; }

 private:
  friend class detail::generator_promise<T>;
  explicit generator(detail::generator_promise<T>& p) noexcept;
  detail::generator_frame* frame_ = nullptr;
};

/// Inside a generator: `co_await on_exit(f)`. When the body is over, however it ended, what `f()` returns is awaited:
/// latest first, shielded from stops, each even if another failed.
///
/// By then the body's local variables may be gone (they are, unless it is left at a `co_yield`); its parameters are
/// still there. So a stream that a generator takes items from is a parameter of it. If the body failed too, an
/// `exception_group` is thrown from `next()`; a failure while the awaiter was being stopped turns the stop into that
/// failure. Destroying the whole context runs destructors only. `f` is kept until then; on g++ 12 it must not be a
/// temporary that owns its captures. One allocation. Python's `aclose()` with `try ... finally`, or AsyncExitStack.
template <class Function>
[[nodiscard("co_await it inside a generator")]] auto on_exit(Function&& function);

/// `co_yield moved(item)`: moves the item, which is a variable, to whoever takes it. The same as std::move, but for
/// aggregates on g++ 12, which cannot tell a variable from a temporary.
template <class T>
detail::moved_item<T> moved(T& item) noexcept;

/// What gives items: `next()` is awaitable and gives an optional, or what can be used like one. A generator, the stream
/// of an `as_completed`; `close()`, if it has one, is awaitable.
template <class S>
concept stream = requires(S& s) {
  { s.next() } -> detail::awaitable;
  requires requires(detail::await_result_t<decltype(s.next())> item) {
    static_cast<bool>(item);
    *item;
  };
};

/// The type of a stream's items.
template <stream S>
using stream_item_t =
    std::remove_cvref_t<decltype(*std::declval<detail::await_result_t<decltype(std::declval<S&>().next())>&>())>;

/// `co_await for_each(lines(socket), handle, {.limit = 4})`: awaits `handle(item)` for each item of the stream, at most
/// `limit` (16 if left out) at a time; with a limit of 1 one after the other.
///
/// The next item is asked for when there is a place. The stream is closed on every exit, shielded. Failures and stops
/// as in `transform`: the first failure stops the rest, and is thrown when all have ended. The stream is taken as an
/// rvalue; stream and callable are kept until the end. Throws std::invalid_argument for a limit of zero.
template <stream Stream, class Function>
auto for_each(Stream&& items, Function&& function, fan_out options = {});

/// The same with an observer, which is told the total when the stream has come to its end.
template <stream Stream, class Function>
auto for_each(observed_by observer, Stream&& items, Function&& function, fan_out options = {});

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// Something to be awaited when a generator is over; a list of them, the latest first.
class exit_action {
 public:
  exit_action(const exit_action&) = delete;
  exit_action& operator=(const exit_action&) = delete;
  virtual ~exit_action() = default;
  virtual task<> begin() = 0;

  std::unique_ptr<exit_action> next;
  std::source_location where;

 protected:
  explicit exit_action(const std::source_location& w) noexcept : where(w) {}
};

template <class A>
task<> drop_result(A a) {
  co_await std::move(a);
}

template <class F>
class exit_action_of final : public exit_action {
 public:
  exit_action_of(F&& f, const std::source_location& w) : exit_action(w), f_(std::move(f)) {}
  task<> begin() override {
    using made = std::invoke_result_t<F&>;
    if constexpr (std::is_same_v<made, task<>>)
      return f_();
    else
      return drop_result<std::decay_t<made>>(f_());
  }

 private:
  F f_;
};

/// What `on_exit` gives.
template <class F>
class on_exit_request {
 public:
  template <class Function>
  explicit on_exit_request(std::in_place_t, Function&& f) : f_(std::forward<Function>(f)) {}
  F&& take() noexcept { return std::move(f_); }
  /// In a task.
  template <class Never = F>
  auto make_awaiter() && {
    static_assert(!std::is_same_v<Never, F>, "on_exit is awaited in a generator; in a task there is finally");
    return task<>().make_awaiter();
  }

 private:
  F f_;
};

class generator_wait;

extern template struct looked_up<decltype(__builtin_source_location())>;  // see frame.hpp

/// The part of a generator's promise that does not depend on T.
class generator_frame : public frame {
 public:
  void return_void() noexcept {}
  void unhandled_exception() noexcept {
    if (destroyed_) std::terminate();
    has_failed();
    error = std::current_exception();
  }
  using frame::await_transform;
  template <class F>
  std::suspend_never await_transform(on_exit_request<F>&& r, location_pointer here = __builtin_source_location()) {
    is_at(here);
    auto a = std::make_unique<exit_action_of<F>>(r.take(), where);
    a->next = std::move(exits);
    exits = std::move(a);
    return {};
  }

  generator_frame** handle_slot = nullptr;  // of the generator that owns this; null if that is gone
  generator_wait* puller = nullptr;         // who waits for the next item, or for the end
  bool has_started = false;
  std::exception_ptr error;  // what the body threw
  std::unique_ptr<exit_action> exits;
  failures failures_of_exits;
  detail::scope exit_scope;

 protected:
  ~generator_frame() {
    while (exits) exits = std::move(exits->next);  // one after the other, however many
  }
};

/// Awaits them, latest first.
inline task<> run_exits(generator_frame& g) {
  while (g.exits) {
    const std::unique_ptr<exit_action> action = std::move(g.exits);
    g.exits = std::move(action->next);
    try {
      auto t = action->begin();
      co_await std::move(t);
    } catch (...) {
      g.failures_of_exits.add(std::current_exception());
    }
  }
}

/// The wait for a generator: until it has yielded, or is over and cleaned up.
class generator_wait : public leaf {
 public:
  std::size_t children() const noexcept override { return 1; }
  frame* child(std::size_t) const noexcept override { return child_; }
  const char* what() const noexcept override { return is_cleaning_ ? "generator, cleaning up" : "generator"; }
  std::optional<clock::time_point> since() const noexcept override { return std::nullopt; }
  frame* passes_stop_to() const noexcept override { return is_cleaning_ ? nullptr : child_; }
  void stop(stop_mode m) noexcept override {
    if (m == stop_mode::ask || !is_cleaning_ || !child_) return;
    generator_->exit_scope.state = scope::abandoned;
    loop::stop_below(*child_, m);
  }
  step child_ended(frame& child, fate how) noexcept override {
    if (is_cleaning_) {
      child.destroy();
      return end();
    }
    was_stopped_ = how == fate::stopped;
    return clean_up() ? end() : step::none();
  }

  /// It has come to a co_yield.
  void item_is_there() noexcept {
    child_ = nullptr;
    if (waiting()) wake();
  }
  /// The generator is being destroyed meanwhile: it is stopped, and its awaiter told, unless he has been granted an
  /// item.
  void generator_goes() noexcept {
    generator_->handle_slot = nullptr;
    is_dropped_ = true;
    if (is_cleaning_ || !child_) return;
    generator_->scope->loop->ask([this]() noexcept { loop::stop_below(*child_, stop_mode::ask); });
  }

 protected:
  explicit generator_wait(generator_frame** slot) noexcept : slot_(slot) {}
  generator_wait(generator_wait&& o) noexcept : slot_(o.slot_) {}
  ~generator_wait() {
    if (is_cleaning_ && child_) child_->destroy();
    if (!generator_) return;
    if (generator_->puller == this) generator_->puller = nullptr;
    if (is_dropped_ && !child_) {  // its item was granted before the stop
      generator_->has_failed();
      generator_->destroy();
    }
  }

  bool has_generator() const noexcept { return *slot_ != nullptr; }
  /// True if the frame has to wait.
  bool pull(frame& f) {
    if (!begin(f)) return false;
    generator_frame& g = *generator_;
    child_ = &g;
    g.owner = this;
    g.scope = f.scope;
    g.has_started = true;
    f.waits_for = this;
    if (f.scope->loop->start(g)) {
      if (clean_up()) end();
    }
    return settle(f);
  }
  bool close(frame& f) {
    if (!begin(f)) return false;
    generator_->scope = f.scope;
    generator_->has_failed();  // it was left before its end
    if (generator_->has_started) loop::leaves(*generator_);
    f.waits_for = this;
    if (!generator_->has_started || clean_up()) end();
    return settle(f);
  }
  void rethrow_failure() {
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }
  generator_frame* generator() const noexcept { return generator_; }
  /// The item is being taken.
  void end_pull() noexcept { generator_->puller = nullptr; }

 private:
  bool begin(frame& f) {
    if (generator_ || state_ != idle)
      throw std::logic_error("tandem::generator: awaiting a next() or close() that was awaited before");
    generator_ = *slot_;
    if (!generator_) return false;
    if (generator_->puller) {
      generator_ = nullptr;
      throw std::logic_error("tandem::generator: it is awaited already; one next() or close() at a time");
    }
    generator_->puller = this;
    waiter = &f;
    return true;
  }
  bool settle(frame& f) noexcept {
    if (child_) {
      state_ = waits;
      return true;
    }
    f.waits_for = nullptr;
    return false;
  }
  /// The body is over: true if there is nothing to wait for.
  bool clean_up() noexcept {
    generator_frame& g = *generator_;
    child_ = nullptr;
    if (!g.exits || g.scope->state == scope::abandoned) return true;
    try {
      child_ = run_exits(g).release();
    } catch (...) {
      g.failures_of_exits.add(std::current_exception());
      return true;
    }
    is_cleaning_ = true;
    loop& l = *g.scope->loop;
    g.exit_scope.loop = &l;
    g.exit_scope.root = g.scope->root;
    g.exit_scope.job = g.scope->job;
    child_->owner = this;
    child_->scope = &g.exit_scope;
    const loop::in_scope shielded(g.exit_scope);
    if (!l.start(*child_)) return false;
    child_->destroy();
    child_ = nullptr;
    return true;
  }
  /// Nothing is left to run: the frame goes, then its awaiter goes on.
  step end() noexcept {
    generator_frame& g = *std::exchange(generator_, nullptr);
    child_ = nullptr;
    is_cleaning_ = false;
    error_ = g.error;
    if (g.failures_of_exits.any()) error_ = g.failures_of_exits.together_with(error_);
    if (g.handle_slot) *g.handle_slot = nullptr;
    const bool never_ran = !g.has_started;
    never_ran ? destroy_unstarted(g) : g.destroy();
    const bool waited = state_ == waits;
    state_ = idle;
    if (is_dropped_ && !error_) error_ = make_dropped();
    if (was_stopped_ && !error_) return waited ? step::reap(*waiter) : step::none();
    return step::resume(*waiter);
  }
  [[gnu::cold]] static std::exception_ptr make_dropped() noexcept {
    try {
      throw std::logic_error("tandem::generator: it was destroyed while this coroutine waited for its next item");
    } catch (...) {
      return std::current_exception();
    }
  }

  generator_frame** slot_;
  generator_frame* generator_ = nullptr;  // null before it is awaited, and once that is over
  frame* child_ = nullptr;                // that is waited for: the generator, or what cleans up behind it
  std::exception_ptr error_;
  bool is_cleaning_ = false, was_stopped_ = false, is_dropped_ = false;
};

template <class T>
struct moved_item {
  T* item;
};

/// Suspends the generator; its awaiter takes the item from where it is.
class yielded {
 public:
  explicit yielded(generator_frame& g) noexcept : generator_(g) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<>) noexcept { generator_.puller->item_is_there(); }
  void await_resume() const noexcept {}

 private:
  generator_frame& generator_;
};

/// The same with an item that was made of something else.
template <class T>
class yielded_copy {
 public:
  template <class U>
  yielded_copy(generator_promise<T>& p, U&& from) : promise_(p), item_(std::forward<U>(from)) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<>) noexcept {
    promise_.item = std::addressof(item_);
    promise_.puller->item_is_there();
  }
  void await_resume() const noexcept {}

 private:
  generator_promise<T>& promise_;
  T item_;
};

template <class T>
class generator_promise final : public generator_frame {
 public:
  generator<T> get_return_object(location_pointer here = __builtin_source_location()) noexcept {
    is_at(here);
    static_assert(alignof(generator_promise) <= 2 * sizeof(void*));
    return generator<T>(*this);
  }
  template <class U>
    requires std::is_convertible_v<U&&, T>
  auto yield_value(U&& value, location_pointer here = __builtin_source_location()) {
    is_at(here);
    if constexpr (std::is_reference_v<T>) {
      static_assert(std::is_lvalue_reference_v<U&&>, "a generator of references yields an object that stays there");
      item = std::addressof(static_cast<T>(value));
      return yielded(*this);
    } else {
      static_assert(!miscompiled<U>,
                    "g++ 12 would destroy this temporary twice: give its type a constructor, or name the item and "
                    "co_yield the name, which copies it, or moved(name)");
      if constexpr (std::is_same_v<U&&, T&&>) {
        item = std::addressof(value);
        return yielded(*this);
      } else {
        return yielded_copy<T>(*this, std::forward<U>(value));
      }
    }
  }

  yielded yield_value(moved_item<T> from, location_pointer here = __builtin_source_location()) noexcept
    requires(!std::is_reference_v<T>)
  {
    is_at(here);
    item = from.item;
    return yielded(*this);
  }

  std::remove_reference_t<T>* item = nullptr;  // the latest, until the body is resumed
};

template <class T>
class next_item final : public generator_wait {
 public:
  explicit next_item(generator_frame** slot) noexcept : generator_wait(slot) {}
  next_item(next_item&&) noexcept = default;

  bool await_ready() const noexcept { return !has_generator(); }
  bool suspend(frame& f) { return pull(f); }
  std::optional<stored_t<T>> await_resume() {
    consume();
    rethrow_failure();
    auto* p = static_cast<generator_promise<T>*>(generator());
    if (!p) return std::nullopt;
    end_pull();
    if constexpr (std::is_reference_v<T>)
      return std::ref(*p->item);
    else
      return std::optional<T>(std::move(*p->item));
  }
};

class close_awaiter final : public generator_wait {
 public:
  explicit close_awaiter(generator_frame** slot) noexcept : generator_wait(slot) {}
  close_awaiter(close_awaiter&&) noexcept = default;

  bool await_ready() const noexcept { return !has_generator(); }
  bool suspend(frame& f) { return close(f); }
  void await_resume() {
    consume();
    rethrow_failure();
  }
};

/// The generator goes, maybe before its end.
inline void drop_generator(generator_frame& g) noexcept {
  if (g.puller) return g.puller->generator_goes();
#if !defined(NDEBUG)
  if (g.exits)
    std::fprintf(stderr,
                 "tandem::generator: dropped before its end, without close(): what was registered at %s:%u with "
                 "on_exit is not run\n",
                 g.exits->where.file_name(), static_cast<unsigned>(g.exits->where.line()));
#endif
  if (!g.has_started) return destroy_unstarted(g);
  loop::leaves(g);
  g.has_failed();
  g.destroy();
}

/// `stream.close()`, if there is such a thing.
template <class S>
task<> close_stream(S& s) {
  if constexpr (requires { { s.close() } -> awaitable; }) co_await s.close();
  co_return;
}

template <class F, class Item>
task<> use_item(F& f, Item item, [[maybe_unused]] permit place) {
  auto t = as_task(std::invoke(f, std::move(item)));
  co_await std::move(t);
}

template <class S, class F, class Observer>
task<> use_items(S& items, F& f, std::size_t limit, Observer& observer) {
  std::size_t pulled = 0;
  using item = stream_item_t<S>;
  if (limit == 1) {
    while (auto one = co_await items.next()) {
      ++pulled;
      auto t = as_task(std::invoke(f, *std::move(one)));
      co_await std::move(t);
      const bool is_stopped = co_await this_task::cancel_requested;
      if (is_stopped) co_await this_task::checkpoint();  // neither need have waited
    }
    co_return observer.total(pulled);
  }
  semaphore places(limit);
  auto body = [&](task_group& group) -> task<> {
    for (;;) {
      auto place = co_await places.acquire();
      const bool is_stopped = co_await this_task::cancel_requested;
      if (is_stopped) co_await this_task::checkpoint();  // what is there already would not stop it
      auto one = co_await items.next();
      if (!one) co_return observer.total(pulled);
      ++pulled;
      group.spawn(use_item<F, item>(f, *std::move(one), std::move(place)));
    }
  };
  co_await with_task_group(body);
}

template <class S, class F>
task<> for_each_item(S items, F f, std::size_t limit) {
  const auto closes = [&] { return close_stream(items); };
  unobserved nobody;
  auto all = finally(use_items(items, f, limit, nobody), closes);
  co_await std::move(all);
}

/// Calls the function for an item and awaits what it returns, observed.
template <class F, class Item>
task<> use_observed(F& f, Item item, observed& observer, std::size_t index) {
  struct ends {
    observed& observer;
    std::size_t index;
    progress_ending how = progress_ending::stopped;
    ~ends() { observer.end(index, how); }
  } end{observer, index};
  observer.start(index);
  try {
    auto t = as_task(std::invoke(f, std::move(item)));
    co_await std::move(t);
    end.how = progress_ending::succeeded;
  } catch (...) {
    end.how = progress_ending::failed;
    throw;
  }
}

template <class S, class F>
task<> use_items_observed(S& items, F& f, std::size_t limit, observed observer) {
  struct finishes {
    observed& observer;
    ~finishes() { observer.finish(); }
  } finish{observer};
  std::size_t started = 0;
  auto use = [&](stream_item_t<S> item) {
    return use_observed<F, stream_item_t<S>>(f, std::move(item), observer, started++);
  };
  observer.begin(std::nullopt);
  co_await use_items(items, use, limit, observer);
}

template <class S, class F>
task<> for_each_item_observed(S items, F f, std::size_t limit, observed observer) {
  const auto closes = [&] { return close_stream(items); };
  auto all = finally(use_items_observed(items, f, limit, observer), closes);
  co_await std::move(all);
}

/// What `for_each` asks of its arguments.
template <class Stream, class Function>
void check_for_each(const fan_out& options) {
  refuse_what_gcc12_miscompiles<Stream, Function>();
  static_assert(!std::is_lvalue_reference_v<Stream>,
                "for_each closes the stream, so it takes it as an rvalue: write std::move(s)");
  static_assert(gives_awaitable<std::decay_t<Function>&, stream_item_t<Stream>>(),
                "the function takes an item of the stream and returns an awaitable, such as a task");
  if (options.limit == 0) throw std::invalid_argument("tandem::for_each: the limit is 0; it must be at least 1");
}

}  // namespace detail

template <class T>
generator<T>::generator(detail::generator_promise<T>& p) noexcept : frame_(&p) {
  p.handle_slot = &frame_;
}
template <class T>
generator<T>::generator(generator&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {
  if (frame_) frame_->handle_slot = &frame_;
}
template <class T>
generator<T>& generator<T>::operator=(generator&& other) noexcept {
  if (this == &other) return *this;
  const generator old(std::move(*this));  // which may own the other
  frame_ = std::exchange(other.frame_, nullptr);
  if (frame_) frame_->handle_slot = &frame_;
  return *this;
}
template <class T>
generator<T>::~generator() {
  if (frame_) detail::drop_generator(*frame_);
}
template <class T>
detail::next_item<T> generator<T>::next() noexcept {
  return detail::next_item<T>(&frame_);
}
template <class T>
detail::close_awaiter generator<T>::close() noexcept {
  return detail::close_awaiter(&frame_);
}

template <class T>
detail::moved_item<T> moved(T& item) noexcept {
  return {std::addressof(item)};
}

template <class Function>
auto on_exit(Function&& function) {
  detail::refuse_what_gcc12_miscompiles<Function>();
  static_assert(detail::gives_awaitable<std::decay_t<Function>&>(),
                "on_exit takes a callable without parameters that returns an awaitable, such as a task");
  return detail::on_exit_request<std::decay_t<Function>>(std::in_place, std::forward<Function>(function));
}

template <stream Stream, class Function>
auto for_each(Stream&& items, Function&& function, fan_out options) {
  detail::check_for_each<Stream, Function>(options);
  return detail::for_each_item<std::decay_t<Stream>, std::decay_t<Function>>(
      std::forward<Stream>(items), std::forward<Function>(function), options.limit);
}
template <stream Stream, class Function>
auto for_each(observed_by observer, Stream&& items, Function&& function, fan_out options) {
  detail::check_for_each<Stream, Function>(options);
  return detail::for_each_item_observed<std::decay_t<Stream>, std::decay_t<Function>>(
      std::forward<Stream>(items), std::forward<Function>(function), options.limit, detail::observed(observer));
}

}  // namespace tandem::inline TANDEM_CONFIG
