// tandem/run.hpp: how a task gets going: run, simulate; with it spawn, to_thread, and what this_task.hpp has.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, spawn.hpp, task.hpp, this_task.hpp, threads.hpp, use_task.hpp, detail/await_tree.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/holder.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/place.hpp, detail/priority.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "exceptions.hpp"
#include "spawn.hpp"
#include "task.hpp"
#include "this_task.hpp"
#include "threads.hpp"
#include "use_task.hpp"

#include "detail/await_tree.hpp"

#include TANDEM_ASIO_HEADER(post.hpp)
#include TANDEM_ASIO_HEADER(signal_set.hpp)
#include TANDEM_ASIO_HEADER(steady_timer.hpp)

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/run.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// Runs `main` to its end on an io_context of its own, and gives its result or throws its exception.
///
/// SIGINT and SIGTERM stop the task, unless the program ignores them; when it has cleaned up, `interrupted` is thrown,
/// for the program's `main` to catch. A second signal has its default action, and so has a later one: `run` does not
/// put an earlier handler back. Tasks that were spawned on the same context are stopped, the latest first, when `main`
/// has ended; when `run` returns they have ended too and their handlers have run. Throws `deadlock` if `main` waits for
/// what can never happen, std::logic_error from inside a coroutine (there: `co_await` the task) and for an empty task.
template <class T>
T run(task<T> main);

/// Runs `context` on this thread until `main` has ended, whatever else the context has to do. No signal handling.
/// Handlers of the context run meanwhile, and so do tasks spawned on it; other threads may run the context too, and
/// then the task goes on on any of them. Throws what `run(task)` throws, and std::runtime_error if the context is
/// stopped (do not, while other threads run it), or runs out of work with an operation lost, before the task has ended;
/// the task is then destroyed with the context.
template <class T>
T run(asio::io_context& context, task<T> main);

/// How `simulate` goes about it.
struct simulation_options {
  /// 0: coroutines run in the order in which they became ready. Otherwise that order is shuffled, the same way each
  /// time for the same seed.
  std::uint64_t seed = 0;
  /// What `clock::now()` says at the beginning.
  clock::time_point start{};
};

/// Runs `main` to its end on virtual time: when every coroutine waits, the clock jumps to the next timer. Sleeping for
/// a year takes microseconds, and every run is the same.
///
/// Virtual time stands still while an Asio operation is in flight. Otherwise as `run(task)`, without signal handling.
template <class T>
T simulate(task<T> main, simulation_options options = {});

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// The root of `run` and `simulate`.
class main_root : public root {
 public:
  bool ended() const noexcept { return state_of_run_.load() == over; }
  void stop_nothing_at_end() noexcept { stop_at_end_ = nullptr; }
  /// The run is left. If the tree has not ended, the root looks after itself from now on.
  void leave() noexcept {
    if (state_of_run_.exchange(left) == over) delete this;
  }

 protected:
  /// `stop_at_end`: a context of the run's own.
  main_root(loop& l, asio::io_context* stop_at_end) noexcept : root(l), stop_at_end_(stop_at_end) {}
  virtual ~main_root() = default;
  /// And destroys the frame.
  virtual void keep_result(frame& body, fate how) noexcept = 0;
  virtual void report_end() noexcept { let_go(); }
  /// From here on the runner may destroy the root at any moment; false if it has left, and the root is gone now.
  bool let_go() noexcept {
    const bool has_runner = state_of_run_.exchange(over) != left;
    if (!has_runner) delete this;
    return has_runner;
  }

 private:
  void ended(frame& body, fate how) noexcept final {
    keep_result(body, how);
    if (stop_at_end_) stop_at_end_->stop();
    report_end();
  }

  asio::io_context* stop_at_end_;
  enum : unsigned char { under_way, over, left };
  std::atomic<unsigned char> state_of_run_{under_way};
};

template <class T>
class main_root_of : public main_root {
 public:
  main_root_of(loop& l, asio::io_context* stop_at_end) noexcept : main_root(l, stop_at_end) {}
  void begin(task<T> t) noexcept { this->start(*t.release()); }
  bool was_stopped() const noexcept { return result_.empty(); }
  result<T>& get() noexcept { return result_; }

 private:
  void keep_result(frame& body, fate how) noexcept override {
    if (how == fate::done) result_.take_from(static_cast<promise<T>&>(body).result);
    body.destroy();
    this->join_failures_of_strays(result_);
  }
  result<T> result_;
};

/// Wakes the thread of a run whose task may have ended on another: a handler that is posted until that thread has run
/// one, or has noticed by itself. A template, so that only a run on a given context is compiled with it.
template <class Context>
class waker {
 public:
  waker(Context& c, std::shared_ptr<std::atomic<bool>> seen) : context_(&c), seen_(std::move(seen)) {}
  void operator()() noexcept {
    if (*seen_ || std::this_thread::get_id() == runner_) return;
    try {
      if (++rounds_ < 16) return asio::post(*context_, *this);
      auto timer = std::make_shared<asio::steady_timer>(*context_, std::chrono::milliseconds(1));  // it is busy
      timer->async_wait([w = *this, timer](const error_code&) mutable { w(); });
    } catch (...) {
      std::terminate();  // the runner would wait for ever
    }
  }

 private:
  Context* context_;
  std::shared_ptr<std::atomic<bool>> seen_;
  std::thread::id runner_ = std::this_thread::get_id();
  int rounds_ = 0;
};

/// The same on a given context.
template <class T>
class guest_root_of final : public main_root_of<T> {
 public:
  guest_root_of(loop& l, asio::io_context* c) : main_root_of<T>(l, nullptr), waker_(*c, runner_has_seen_) {}
  ~guest_root_of() { *runner_has_seen_ = true; }

 private:
  void report_end() noexcept override {
    auto wake = waker_;
    if (this->let_go()) wake();
  }
  std::shared_ptr<std::atomic<bool>> runner_has_seen_ = std::make_shared<std::atomic<bool>>(false);
  waker<asio::io_context> waker_;
};

/// While it lives, SIGINT and SIGTERM ask the tree to stop. It waits for signals only while the loop has something to
/// do, so that a context without work comes to its end and a deadlock is seen.
class signal_watch final : loop::observer {
 public:
  signal_watch(asio::io_context& context, loop& l, root& r) : signals_(context), loop_(l), root_(r) {
    if (!is_ignored(SIGINT)) signals_.add(SIGINT);
    if (!is_ignored(SIGTERM)) signals_.add(SIGTERM);
    wait();
    loop_.observe(this);
  }
  ~signal_watch() { loop_.observe(nullptr); }
  signal_watch(const signal_watch&) = delete;
  signal_watch& operator=(const signal_watch&) = delete;
  int signal() const noexcept { return signal_; }

 private:
  void wait() {
    signals_.async_wait([this](const error_code& error, int number) {
      if (error || signal_ != 0) return;
      signal_ = number;
      error_code ignored;
      signals_.clear(ignored);  // the next one has its default action
      loop_.ask_to_stop(root_);
    });
  }
  void on_idle() noexcept override {
    error_code ignored;
    signals_.cancel(ignored);
  }
  void on_work() noexcept override {
    if (signal_ != 0) return;
    try {
      wait();
    } catch (...) {  // no memory to wait for signals; the task goes on
    }
  }
  static bool is_ignored([[maybe_unused]] int s) noexcept {
#if defined(SA_SIGINFO)  // POSIX
    struct sigaction old;
    return sigaction(s, nullptr, &old) == 0 && (old.sa_flags & SA_SIGINFO) == 0 && old.sa_handler == SIG_IGN;
#else
    return false;
#endif
  }

  asio::basic_signal_set<asio::io_context::executor_type> signals_;
  loop& loop_;
  root& root_;
  int signal_ = 0;
};

inline std::string describe_deadlock(loop& l, const root& main) {
  std::string text = "tandem::deadlock: nothing is ready, timed or in flight, and the task still waits";
  text += await_tree(main, l.now());
  for (root* r = l.first_root(); r; r = loop::next_root(*r)) {
    if (r == &main) continue;
    text += "\n and, spawned:";
    text += await_tree(*r, l.now());
  }
  return text;
}

/// What runs have in common. `How` derives from it and says how things go on from one moment to the next. A template,
/// so that a program is compiled with those that it uses.
template <class How>
class runner {
 public:
  runner(asio::io_context& context, loop& l) noexcept : context_(context), loop_(l) {}

  /// Until `main` has ended. Throws `deadlock` when it never will.
  void run_to_end(main_root& main) {
    if (context_.stopped()) context_.restart();
    how().go_on(main);
    if (main.ended()) return;
    std::string report;
    how().in_turn([&] {
      if (main.ended() || !loop_.idle()) return;
      report = describe_deadlock(loop_, main);
      loop_.ask_to_stop(main);
    });
    if (main.ended()) return;
    if (report.empty()) {
      context_.stop();
      throw std::runtime_error(
          "tandem::run: the io_context was stopped, or ran out of work, before the task had ended");
    }
    context_.restart();
    how().go_on(main);
    if (!main.ended())
      how().in_turn([&] {
        if (!main.ended()) loop_.abandon(main);
      });
    throw deadlock(report);
  }
  /// The same for a context that ends with its run: whichever way that goes, every other tree is stopped and cleans up.
  void run_and_end_all(main_root& main) {
    try {
      run_to_end(main);
    } catch (...) {
      main.stop_nothing_at_end();
      end_all();
      throw;
    }
    end_all();
  }

 protected:
  asio::io_context& context_;
  loop& loop_;

 private:
  How& how() noexcept { return static_cast<How&>(*this); }
  void end_all() {
    loop_.end_all();
    context_.restart();
    how().clean_up();  // what is left then waits for what can never happen: it goes with the context
  }
};

/// On a context of its own.
class host_runner final : public runner<host_runner> {
 public:
  using runner::runner;
  /// Lets the loop go on until `main` has ended or nothing can happen any more.
  void go_on(main_root&) { context_.run(); }  // the root stops the context when it has ended
  /// Calls `f` where nothing of the loop runs meanwhile.
  template <class Function>
  void in_turn(Function f) {
    f();
  }
  /// Runs until no tree is left, or nothing can happen any more.
  void clean_up() {
    while (loop_.has_trees() && context_.run_one() != 0) {
    }
  }
};

/// On a context that other threads may run as well.
class guest_runner final : public runner<guest_runner> {
 public:
  using runner::runner;
  void go_on(main_root& main) {
    while (!main.ended() && context_.run_one() != 0) {
    }
  }
  template <class Function>
  void in_turn(Function f) {
    std::atomic<bool> done{false};
    std::exception_ptr error;
    asio::post(loop_.executor(), [&] {
      try {
        f();
      } catch (...) {
        error = std::current_exception();
      }
      done = true;
    });
    while (!done)
      if (context_.stopped())
        context_.restart();
      else if (context_.run_one() == 0)
        std::this_thread::yield();
    if (error) std::rethrow_exception(error);
  }
};

class simulated_runner final : public runner<simulated_runner> {
 public:
  simulated_runner(asio::io_context& context, loop& l, const simulation_options& options) noexcept
      : runner(context, l), outer_time_(virtual_now()) {
    l.simulate(options.start, options.seed);
    virtual_now() = l.virtual_time();  // for handlers of the context as well
  }
  ~simulated_runner() { virtual_now() = outer_time_; }

  void go_on(main_root& main) {
    while (!main.ended())
      if (!next(&main)) return;
  }
  template <class Function>
  void in_turn(Function f) {
    f();
  }
  void clean_up() {
    while (loop_.has_trees() && next(nullptr)) {
    }
  }

 private:
  /// One round; false when nothing can happen any more.
  bool next(main_root* main) {
    bool ran = false;
    for (int n = 0; n != entries_between_polls && !(main && main->ended()); ++n) {
      if (!loop_.run_one()) break;
      ran = true;
    }
    loop_.fire_due_timers();
    if (context_.stopped()) context_.restart();
    if (context_.poll() != 0 || ran || loop_.has_ready()) return true;
    if (!loop_.busy_with_operations() && loop_.advance()) return true;
    if (context_.stopped()) context_.restart();
    return context_.run_one() != 0;
  }

  static constexpr int entries_between_polls = 64;
  const clock::time_point* outer_time_;
};

inline void refuse_inside_a_loop(const char* who) {
  if (!loop::current()) return;
  std::string text = who;
  text += ": called from inside a coroutine, which it would block; co_await the task";
  throw std::logic_error(text);
}

/// Owns the root during a run; if the run is left by an exception, the root stays with its loop.
template <class T, class Root = main_root_of<T>>
class main_task {
 public:
  main_task(loop& l, task<T> t, asio::io_context* context) {
    if (!t) throw_empty_task();
    root_ = new Root(l, context);
    root_->begin(std::move(t));
  }
  main_task(const main_task&) = delete;
  main_task& operator=(const main_task&) = delete;
  ~main_task() { root_->leave(); }
  Root& root() noexcept { return *root_; }
  T take(int signal) {
    if (root_->was_stopped()) {
      if (signal != 0) throw interrupted(signal);
      throw cancelled();
    }
    return root_->get().take();
  }

 private:
  Root* root_;
};

}  // namespace detail

template <class T>
T run(task<T> main) {
  detail::refuse_inside_a_loop("tandem::run");
  asio::io_context context(1);
  detail::loop& l = detail::loop::alone_on(context);
  detail::main_task<T> root(l, std::move(main), &context);
  detail::host_runner runner(context, l);
  detail::signal_watch signals(context, l, root.root());
  runner.run_and_end_all(root.root());
  return root.take(signals.signal());
}

template <class T>
T run(asio::io_context& context, task<T> main) {
  detail::refuse_inside_a_loop("tandem::run");
  detail::loop& l = detail::loop::of(context);
  if (l.here())
    throw std::logic_error("tandem::run: called from a handler of the loop that is to run; co_await or spawn the task");
  detail::main_task<T, detail::guest_root_of<T>> root(l, std::move(main), &context);
  detail::guest_runner(context, l).run_to_end(root.root());
  return root.take(0);
}

template <class T>
T simulate(task<T> main, simulation_options options) {
  detail::refuse_inside_a_loop("tandem::simulate");
  asio::io_context context(1);
  detail::loop& l = detail::loop::alone_on(context);
  detail::simulated_runner runner(context, l, options);
  detail::main_task<T> root(l, std::move(main), nullptr);
  runner.run_and_end_all(root.root());
  return root.take(0);
}

}  // namespace tandem::inline TANDEM_CONFIG
