// tandem/threads.hpp: work that runs elsewhere: to_thread for what blocks, on for another executor.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, task.hpp, use_task.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "exceptions.hpp"
#include "task.hpp"
#include "use_task.hpp"

#include "detail/gcc12.hpp"
#include "detail/loop.hpp"
#include "detail/result.hpp"

#include TANDEM_ASIO_HEADER(post.hpp)
#include TANDEM_ASIO_HEADER(thread_pool.hpp)

#include <atomic>
#include <concepts>
#include <exception>
#include <functional>  // std::invoke
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/threads.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// As the first argument of `to_thread`: a stop leaves the call behind instead of waiting for it.
struct abandon_on_cancel_t {
  explicit abandon_on_cancel_t() = default;
};
inline constexpr abandon_on_cancel_t abandon_on_cancel{};

/// `co_await to_thread(fn, args...)`: calls `fn(args...)` on a thread of a shared pool and gives what it returns or
/// throws; the coroutine goes on where it was, on its own loop.
///
/// For calls that block: files, databases, long computations. `fn` and `args` are copied or moved into the call and
/// destroyed on that thread, before the coroutine goes on; `std::ref` passes a reference, which stays good, because the
/// coroutine always waits for the end of the call: a thread cannot be cancelled. If `fn` takes a std::stop_token first,
/// a stop is requested there. What the call gives after a stop is delivered and the next wait stops, unless it throws a
/// system_error of `operation_aborted` or `cancelled`: that counts as stopped. In a stopped scope nothing is called.
/// Destroying the context waits for the call as well.
///
/// The pool has min(32, cores + 4) threads, or as many as can be started, from the first use on and never joined; what
/// is not running yet waits in line. One allocation for the call, one more if it takes a stop_token, and Asio's own for
/// posting it; one hand-over between threads each way. Throws from the co_await if not one thread can be started.
template <class Function, class... Args>
requires(!std::same_as<std::remove_cvref_t<Function>, abandon_on_cancel_t>)  //
    auto to_thread(Function&& function, Args&&... args);

/// The same for a call that may be left behind: a stop takes effect at once, the call runs to its end unobserved, and
/// what it gives is destroyed on its thread; one that has not begun is not made. Give it everything by value: it may
/// outlive the coroutine, its context and `main`. It keeps its thread of the pool until it ends.
template <class Function, class... Args>
auto to_thread(abandon_on_cancel_t, Function&& function, Args&&... args);

/// `co_await on(executor, work())`: runs an awaitable as a task tree of its own on the loop of another executor, and
/// gives its result, or throws what it threw, here on the coroutine's own loop.
///
/// The two trees run in parallel if their executors do: what they share must allow that. A stop travels to the other
/// loop, the frames are destroyed there, and their end travels back. A value that was on its way is delivered, and the
/// next wait stops. If the other context goes first, `cancelled` is thrown here; if this one does, the frames of its
/// loop are left alone for ever, because the other tree may refer to them. The other context must be there until the
/// co_await, and be run; under `simulate` virtual time stands still for it, so that no time limit fires. Throws
/// std::invalid_argument for an empty executor. Allocates nothing beyond the frame, what Asio needs to post, and the
/// loop of an executor that is not in use.
template <class Executor, class Awaitable>
requires std::is_convertible_v<const Executor&, asio::any_io_executor>
auto on(const Executor& executor, Awaitable&& awaitable);

/// The same for a context's own executor.
template <class Context, class Awaitable>
requires std::is_convertible_v<Context&, asio::execution_context&>
auto on(Context& context, Awaitable&& awaitable);

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// Where the calls run. It is never destroyed, so that a call that was left behind does not keep the program from
/// ending. A template, so that only who calls it is compiled with it.
template <class Pool = asio::thread_pool>
Pool& call_threads() {
  static Pool& pool = []() -> Pool& {
    auto& p = *new Pool(1);  // with more, its constructor hangs if one cannot be started
    try {
      const unsigned wanted = std::thread::hardware_concurrency() + 4;
      for (unsigned n = wanted < 32 ? wanted : 32; n > 1; --n) std::thread([&p] { p.attach(); }).detach();
    } catch (...) {  // fewer will do
    }
    return p;
  }();
  return pool;
}

/// A call, shared by the coroutine that waits for it and the thread that makes it.
class any_call {
 public:
  virtual ~any_call() = default;
  /// Before the call is posted: who waits for it.
  void attach(arrival& waiter, loop& l) noexcept {
    waiter_ = &waiter;
    loop_ = &l;
  }
  /// Nobody waits any more. False if the call has ended, and its waiter is in the inbox.
  bool detach() noexcept {
    const std::scoped_lock lock(mutex_);
    return std::exchange(waiter_, nullptr) != nullptr;
  }
  void request_stop() noexcept { stop_.request_stop(); }
  /// On the thread of the call, before it.
  bool is_abandoned() noexcept {
    const std::scoped_lock lock(mutex_);
    return waiter_ == nullptr;
  }

 protected:
  /// Last on the thread of the call. The loop stays as long as somebody waits.
  void report() noexcept {
    const std::scoped_lock lock(mutex_);
    if (waiter_) loop_->push(*std::exchange(waiter_, nullptr));
  }
  std::stop_source stop_{std::nostopstate};

 private:
  std::mutex mutex_;
  arrival* waiter_ = nullptr;
  loop* loop_ = nullptr;
};

template <class Function, class... Args>
class call final : public any_call {
 public:
  static constexpr bool takes_stop_token = std::is_invocable_v<Function, std::stop_token, Args...>;
  static auto invoke(Function&& f, Args&&... args, [[maybe_unused]] std::stop_token stop) -> decltype(auto) {
    if constexpr (takes_stop_token)
      return std::invoke(std::move(f), std::move(stop), std::move(args)...);
    else
      return std::invoke(std::move(f), std::move(args)...);
  }
  using returned = decltype(invoke(std::declval<Function>(), std::declval<Args>()..., std::stop_token()));
  using value_type = std::conditional_t<std::is_lvalue_reference_v<returned>, returned, std::remove_cvref_t<returned>>;

  template <class F, class... A>
  explicit call(F&& f, A&&... args) {
    what_.emplace(std::forward<F>(f), std::forward<A>(args)...);
    if constexpr (takes_stop_token) stop_ = std::stop_source();
  }
  ~call() noexcept override = default;  // whatever the destructors of its members say
  void run() noexcept {
    try {
      std::apply(
          [this](Function& f, Args&... args) {
            if constexpr (std::is_void_v<value_type>) {
              invoke(std::move(f), std::move(args)..., stop_.get_token());
              result_.set_value();
            } else {
              result_.set_value(invoke(std::move(f), std::move(args)..., stop_.get_token()));
            }
          },
          *what_);
    } catch (...) {
      result_.set_error(std::current_exception());
    }
    what_.reset();
    report();
  }
  detail::result<value_type>& result() noexcept { return result_; }

 private:
  std::optional<std::tuple<Function, Args...>> what_;
  detail::result<value_type> result_;
};

template <bool Abandon, class Call>
class call_awaitable final : public arrival {
 public:
  using value_type = typename Call::value_type;
  explicit call_awaitable(std::shared_ptr<Call> c) noexcept : call_(std::move(c)) {}
  call_awaitable(call_awaitable&& o) noexcept
      : arrival(std::move(o)), call_(std::move(o.call_)), spent_(std::exchange(o.spent_, true)) {}
  ~call_awaitable() = default;

  const char* what() const noexcept override { return "to_thread"; }
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    if (spent_) throw std::logic_error("tandem: awaiting a to_thread that was moved from, or awaited before");
    loop& l = *f.scope->loop;
    if (!park(f)) return true;
    spent_ = true;
    try {
      l.outside_begins();
      call_->attach(*this, l);
      try {
        asio::post(call_threads(), [c = call_] {
          if (!c->is_abandoned()) c->run();
        });
      } catch (...) {
        l.outside_ended();
        throw;
      }
    } catch (...) {
      f.waits_for = nullptr;
      consume();
      throw;
    }
    l.joins(*this);
    return true;
  }
  value_type await_resume() {
    consume();
    return call_->result().take();
  }
  void stop(stop_mode m) noexcept override {
    if (!waiting()) return;
    if (std::exchange(stop_asked_, true)) return;
    call_->request_stop();
    if (!Abandon || !call_->detach()) return;
    call_.reset();  // the thread has the last one
    loop_of_waiter().outside_ended();
    leaf::stop(m);
  }

 private:
  void arrive() noexcept override {
    unlink();
    loop& l = loop_of_waiter();
    l.outside_ended();
    state_ = stop_asked_ && is_aborted(call_->result().get_error()) ? stopped : woken;
    l.queue(*this);
  }
  std::shared_ptr<Call> call_;
  bool spent_ = false;
  bool stop_asked_ = false;
};

template <bool Abandon, class Function, class... Args>
auto make_call(Function&& function, Args&&... args) {
  refuse_what_gcc12_miscompiles<Function, Args...>();
  using F = std::decay_t<Function>;
  static_assert(std::is_invocable_v<F, std::decay_t<Args>...> ||
                    std::is_invocable_v<F, std::stop_token, std::decay_t<Args>...>,
                "to_thread: the function cannot be called with (a std::stop_token and) these arguments, as rvalues");
  using Call = call<F, std::decay_t<Args>...>;
  static_assert(!gives_awaitable<F, std::decay_t<Args>...>(),
                "to_thread is for plain functions; to run a coroutine elsewhere, write on(executor, coroutine())");
  return call_awaitable<Abandon, Call>(
      std::make_shared<Call>(std::forward<Function>(function), std::forward<Args>(args)...));
}

/// The frame that waits is on one loop, the tree on another; no pointer is followed across. What goes from one to the
/// other are three messages: the tree itself (`child`), a stop (`message`), and the end (this leaf).
template <class T>
class on_awaitable final : public arrival {
 public:
  using value_type = T;
  on_awaitable(loop::entry other, task<T> t) : other_(std::move(other)), task_(std::move(t)) {
    if (!task_) throw_empty_task();
  }
  on_awaitable(on_awaitable&& o) noexcept
      : arrival(std::move(o)), other_(std::move(o.other_)), task_(std::move(o.task_)) {}
  ~on_awaitable() = default;

  const char* what() const noexcept override { return "on"; }
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    if (!task_) throw std::logic_error("tandem: awaiting an `on` that was moved from, or awaited before");
    if (!park(f)) return true;
    home_ = f.scope->loop;
    elsewhere_ = &*other_ != home_;
    if (elsewhere_) {
      try {
        home_->outside_begins();
      } catch (...) {
        f.waits_for = nullptr;
        consume();
        throw;
      }
    }
    child_.emplace(*other_, *this).begin(*task_.release());
    return true;
  }
  T await_resume() {
    consume();
    if (result_.empty()) throw cancelled();  // nobody here asked for it: its context went
    return result_.take();
  }
  void stop(stop_mode m) noexcept override {
    if (!waiting()) return;
    if (m == stop_mode::abandon && !elsewhere_) return child_->stop(m);
    if (std::exchange(stop_asked_, true)) return;
    unsigned char expected = running;
    if (!fate_.compare_exchange_strong(expected, stop_under_way)) return;
    other_->push(message_);
    fate_.store(stop_sent);
  }

 private:
  class child final : public root {
   public:
    child(loop& l, on_awaitable& a) noexcept : root(l), parent_(a) {}
    void begin(frame& body) noexcept { start(body); }

   private:
    void ended(frame& body, fate how) noexcept override {
      if (how == fate::done) parent_.result_.take_from(static_cast<promise<T>&>(body).result);
      body.destroy();
      join_failures_of_strays(parent_.result_);
      parent_.child_over();
    }
    on_awaitable& parent_;
  };
  class message final : public arrival {
   public:
    explicit message(on_awaitable& a) noexcept : parent_(a) {}
    const char* what() const noexcept override { return "stop"; }

   private:
    void arrive() noexcept override { parent_.message_arrived(); }
    on_awaitable& parent_;
  };

  // On the other loop.
  void child_over() noexcept {
    child_is_over_ = true;
    unsigned char expected = running;
    if (fate_.compare_exchange_strong(expected, over) || message_is_here_) return go_home();
    if (other_->closed())  // it must not go while a message is being pushed, which it collects afterwards
      while (fate_.load() != stop_sent) std::this_thread::yield();
  }
  void message_arrived() noexcept {
    message_is_here_ = true;
    if (child_is_over_)
      go_home();
    else
      other_->ask_to_stop(*child_);
  }
  void go_home() noexcept {
    other_.let_go();  // its context may go while this frame is still there
    home_->push(*this);
  }

  // On our own.
  void arrive() noexcept override {
    if (elsewhere_) home_->outside_ended();
    state_ = stop_asked_ && result_.empty() ? stopped : woken;
    home_->queue(*this);
  }

  loop::entry other_;
  std::optional<child> child_;
  message message_{*this};
  loop* home_ = nullptr;
  task<T> task_;
  detail::result<T> result_;
  bool elsewhere_ = true;
  bool stop_asked_ = false;
  bool child_is_over_ = false, message_is_here_ = false;  // on the other loop
  enum : unsigned char { running, stop_under_way, stop_sent, over };
  std::atomic<unsigned char> fate_{running};
};

template <class Awaitable>
auto make_on(loop::entry l, Awaitable&& awaitable) {
  auto t = to_task(std::forward<Awaitable>(awaitable));
  using T = typename decltype(t)::value_type;
  return on_awaitable<T>(std::move(l), std::move(t));
}

}  // namespace detail

template <class Function, class... Args>
requires(!std::same_as<std::remove_cvref_t<Function>, abandon_on_cancel_t>)  //
    auto to_thread(Function&& function, Args&&... args) {
  return detail::make_call<false>(std::forward<Function>(function), std::forward<Args>(args)...);
}

template <class Function, class... Args>
auto to_thread(abandon_on_cancel_t, Function&& function, Args&&... args) {
  return detail::make_call<true>(std::forward<Function>(function), std::forward<Args>(args)...);
}

template <class Executor, class Awaitable>
requires std::is_convertible_v<const Executor&, asio::any_io_executor>
auto on(const Executor& executor, Awaitable&& awaitable) {
  return detail::make_on(detail::loop::of(detail::checked_executor(executor, "tandem::on")),
                         std::forward<Awaitable>(awaitable));
}

template <class Context, class Awaitable>
requires std::is_convertible_v<Context&, asio::execution_context&>
auto on(Context& context, Awaitable&& awaitable) {
  return detail::make_on(detail::loop::of_context(context), std::forward<Awaitable>(awaitable));
}

}  // namespace tandem::inline TANDEM_CONFIG
