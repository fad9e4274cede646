// tandem/spawn.hpp: a task tree of its own: spawn.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, task.hpp, use_task.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "exceptions.hpp"
#include "task.hpp"
#include "use_task.hpp"

#include "detail/loop.hpp"
#include "detail/result.hpp"

#include TANDEM_ASIO_HEADER(associated_cancellation_slot.hpp)
#include TANDEM_ASIO_HEADER(associated_executor.hpp)
#include TANDEM_ASIO_HEADER(async_result.hpp)
#include TANDEM_ASIO_HEADER(cancellation_type.hpp)
#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(dispatch.hpp)
#include TANDEM_ASIO_HEADER(execution/executor.hpp)
#include TANDEM_ASIO_HEADER(execution/outstanding_work.hpp)
#include TANDEM_ASIO_HEADER(executor_work_guard.hpp)
#include TANDEM_ASIO_HEADER(post.hpp)
#include TANDEM_ASIO_HEADER(prefer.hpp)

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/spawn.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// Starts `awaitable` as a task tree of its own on `context` and returns: an Asio operation with the signature
/// `void(std::exception_ptr, T)`, or `void(std::exception_ptr)` for void, or with `std::optional<T>` if T has no
/// default constructor. Any completion token will do.
///
/// For any thread. The task starts in its turn, never inside `spawn`. All trees of a context run one at a time, on
/// whatever threads run the context. Emitting on the handler's cancellation slot, where the handler runs, stops the
/// task; its handler then gets `cancelled`. The handler is posted to its executor, by default `this_task::executor` of
/// the task, and keeps another context running until then; `detached` drops a failure, as in Asio. A task that waits
/// for other tasks only does not keep `context.run()` from returning; destroying the context destroys it, and its
/// handler. Write `tandem::spawn`, since Asio has a `spawn` too.
template <class Context, class Awaitable, class Token>
requires std::is_convertible_v<Context&, asio::execution_context&>
auto spawn(Context& context, Awaitable&& awaitable, Token&& token);

/// The same on the loop of an executor. That of an io_context or a thread_pool has one loop, every strand has its own,
/// and so has any other executor; equal executors share one. Loops of different executors run in parallel if their
/// executors do. Throws std::invalid_argument for an empty executor. Linear in the strands of the context that have a
/// loop now.
template <class Executor, class Awaitable, class Token>
requires std::is_convertible_v<const Executor&, asio::any_io_executor>
auto spawn(const Executor& executor, Awaitable&& awaitable, Token&& token);

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// What the completion handler of a spawned T is called with.
template <class T>
struct spawn_signature {
  using value =
      std::conditional_t<std::is_default_constructible_v<stored_t<T>>, stored_t<T>, std::optional<stored_t<T>>>;
  using type = void(std::exception_ptr, value);
};
template <>
struct spawn_signature<void> {
  using value = void;
  using type = void(std::exception_ptr);
};

/// Takes a stop from a cancellation signal, which may be emitted on another thread, to the tree.
class stop_request final : public arrival {
 public:
  explicit stop_request(root& r) noexcept : root_(&r), loop_(r.scope().loop) {}
  const char* what() const noexcept override { return "stop"; }

  static void emit(const std::shared_ptr<stop_request>& self) noexcept {
    root* here = nullptr;
    {
      const std::scoped_lock lock(self->mutex_);
      if (!self->root_ || self->under_way_) return;
      if (self->loop_->here()) {
        here = self->root_;
      } else {
        self->under_way_ = self;
        self->loop_->push(*self);
      }
    }
    if (here) self->loop_->ask_to_stop(*here);
  }
  /// The tree has ended; its loop may go.
  void tree_ended() noexcept {
    const std::scoped_lock lock(mutex_);
    root_ = nullptr;
  }

 private:
  void arrive() noexcept override {
    const auto self = [this] {
      const std::scoped_lock lock(mutex_);
      return std::move(under_way_);
    }();
    if (root_) loop_->ask_to_stop(*root_);
  }
  std::mutex mutex_;
  root* root_;  // changed by the loop only, under the mutex
  loop* loop_;
  std::shared_ptr<stop_request> under_way_;  // keeps this while it is in the loop's inbox
};

/// Keeps the context of an executor running. Asio's own guard copies a polymorphic executor in a noexcept constructor,
/// which may take memory.
template <class Executor>
auto work_on(const Executor& e) {
  if constexpr (asio::execution::is_executor<Executor>::value)
    return asio::prefer(e, asio::execution::outstanding_work.tracked);
  else
    return asio::make_work_guard(e);
}

template <class T, class Handler>
class spawned_root final : public root {
 public:
  template <class H>
  spawned_root(loop& l, H&& h)
      : root(l), handler_(std::forward<H>(h)), executor_(asio::get_associated_executor(handler_, l.executor())) {
    if constexpr (may_be_executor_of_loop) {
      const asio::any_io_executor e(executor_);
      is_serial_ = e == l.executor();
      if (l.belongs_to(e)) return;
    }
    work_.emplace(work_on(executor_));
  }
  void begin(task<T> t, std::unique_ptr<spawned_root>& self) {
    auto slot = asio::get_associated_cancellation_slot(handler_);
    if (slot.is_connected()) {
      stop_request_ = std::make_shared<stop_request>(*this);
      slot.assign([r = stop_request_](asio::cancellation_type_t type) {
        if (type != asio::cancellation_type::none) stop_request::emit(r);
      });
    }
    self.release();
    start(*t.release());
  }

 private:
  using executor_type = asio::associated_executor_t<Handler, asio::any_io_executor>;
  static constexpr bool may_be_executor_of_loop = std::is_convertible_v<const executor_type&, asio::any_io_executor>;

  void ended(frame& body, fate how) noexcept override {
    loop& l = *scope().loop;
    if (stop_request_) stop_request_->tree_ended();
    if (l.closed()) {  // the context goes, and with it the handler; the signal may have gone before
      body.destroy();
      delete this;
      return;
    }
    if (is_serial_) clear_slot();  // before the frame, which may own the signal
    if (how == fate::done) result_.take_from(static_cast<promise<T>&>(body).result);
    body.destroy();
    join_failures_of_strays(result_);
    if (result_.empty()) result_.set_error(make_cancelled());
    if (is_serial_ && l.is_permanent()) {
      l.completion_posted();
      counted_by_ = &l;
    }
    post_handler();
  }
  /// The root stays until its handler is called or destroyed, which may happen before `post` returns: whoever comes
  /// second, the poster or the handler, destroys it. Without the memory to post, the loop tries again in its next turn.
  void post_handler() noexcept {
    hands_ = poster;
    const executor_type executor = executor_;
    try {
      if constexpr (requires { asio::post(executor, static_cast<void (*)()>(nullptr)); })
        asio::post(executor, completion(*this));
      else  // any_completion_executor: not in this call either
        asio::post(scope().loop->executor(),
                   [executor, c = completion(*this)]() mutable { asio::dispatch(executor, std::move(c)); });
    } catch (...) {
      if (hands_.load() == over) {
        state_ = calls;
        return scope().loop->queue(*this);
      }
    }
    if (hands_.exchange(in_queue) == over) delete this;
  }
  void on_turn_after_end() noexcept override {
    if (scope().loop->closed())
      delete this;
    else
      post_handler();
  }
  void handler_done() noexcept {
    if (hands_.exchange(over) == in_queue) delete this;
  }
  void clear_slot() noexcept {
    auto slot = asio::get_associated_cancellation_slot(handler_);
    if (slot.is_connected()) slot.clear();
  }

  /// The handler and what it is called with, moved out of the root.
  std::pair<Handler, result<T>> take() {
    struct at_end {
      spawned_root& r;
      ~at_end() { r.handler_done(); }
    } at_end{*this};
    if (!is_serial_) clear_slot();
    return {std::move(handler_), std::move(result_)};
  }

  /// Calls the handler.
  class completion {
   public:
    explicit completion(spawned_root& r) noexcept : root_(&r) {}
    completion(completion&& o) noexcept : root_(std::exchange(o.root_, nullptr)) {}
    ~completion() {
      if (root_) root_->handler_done();
    }
    void operator()() {
      spawned_root& r = *std::exchange(root_, nullptr);
      struct at_end {  // also when the handler throws
        loop* counted_by;
        ~at_end() {
          if (counted_by) counted_by->completion_ran();
        }
      } at_end{r.counted_by_};
      auto taken = r.take();
      auto& [handler, result] = taken;
      using value = typename spawn_signature<T>::value;
      if constexpr (std::is_void_v<T>)
        std::move(handler)(result.get_error());
      else
        std::move(handler)(result.get_error(), result.has_value() ? value(std::move(result.get_value())) : value());
    }

   private:
    spawned_root* root_;
  };

  Handler handler_;
  std::shared_ptr<stop_request> stop_request_;  // shared with the handler of the slot, which may outlive us
  executor_type executor_;
  bool is_serial_ = false;                                        // the handler runs in turn with the loop
  // Another context must not end before the handler ran.
  std::optional<decltype(work_on(std::declval<const executor_type&>()))> work_;
  result<T> result_;
  loop* counted_by_ = nullptr;
  enum : unsigned char { poster, in_queue, over };
  std::atomic<unsigned char> hands_{poster};
};

template <class T>
class spawn_initiation {
 public:
  explicit spawn_initiation(loop::entry l) noexcept : loop_(std::move(l)) {}
  using executor_type = asio::any_io_executor;
  const executor_type& get_executor() const noexcept { return loop_->executor(); }

  template <class Handler>
  void operator()(Handler&& handler, task<T> t) const {
    const auto slot = asio::get_associated_cancellation_slot(handler);  // ours, through whatever adapts the handler
    if constexpr (std::is_same_v<std::remove_const_t<decltype(slot)>, operation_slot>)
      slot.operation().is_completed_by(*loop_);
    auto root = std::make_unique<spawned_root<T, std::decay_t<Handler>>>(*loop_, std::forward<Handler>(handler));
    root->begin(std::move(t), root);
  }

 private:
  loop::entry loop_;
};

template <class Awaitable, class Token>
auto spawn_on(loop::entry l, Awaitable&& awaitable, Token&& token) {
  auto t = to_task(std::forward<Awaitable>(awaitable));
  if (!t) throw_empty_task();
  using T = typename decltype(t)::value_type;
  return asio::async_initiate<Token, typename spawn_signature<T>::type>(spawn_initiation<T>(std::move(l)), token,
                                                                        std::move(t));
}

}  // namespace detail

template <class Context, class Awaitable, class Token>
requires std::is_convertible_v<Context&, asio::execution_context&>
auto spawn(Context& context, Awaitable&& awaitable, Token&& token) {
  return detail::spawn_on(detail::loop::of_context(context), std::forward<Awaitable>(awaitable),
                          std::forward<Token>(token));
}

template <class Executor, class Awaitable, class Token>
requires std::is_convertible_v<const Executor&, asio::any_io_executor>
auto spawn(const Executor& executor, Awaitable&& awaitable, Token&& token) {
  return detail::spawn_on(detail::loop::of(detail::checked_executor(executor, "tandem::spawn")),
                          std::forward<Awaitable>(awaitable), std::forward<Token>(token));
}

}  // namespace tandem::inline TANDEM_CONFIG
