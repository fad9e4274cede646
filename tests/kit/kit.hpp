// tests/kit/kit.hpp: what every test of a hand-over uses: shuffled schedules, a stop at every suspension point, the
// context destroyed at every step, and counters that show whether anything outlived its scope.
//
// Never write co_await inside CHECK or REQUIRE: the macros name their expression twice, and g++ 12 evaluates both.
#pragma once

#include <tandem/detail/one_loop.hpp>
#include <tandem/run.hpp>

#include TANDEM_ASIO_HEADER(bind_cancellation_slot.hpp)
#include TANDEM_ASIO_HEADER(cancellation_signal.hpp)

#include "../catch.hpp"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <utility>

namespace kit {

using namespace std::chrono_literals;

/// How many shuffled schedules a hand-over is run under: TANDEM_SCHEDULES, 200 if it is not set.
inline std::uint64_t schedules() {
  static const std::uint64_t n = [] {
    const char* s = std::getenv("TANDEM_SCHEDULES");
    return s ? std::strtoull(s, nullptr, 10) : 200ull;
  }();
  return n;
}

/// Coroutine frames that exist now. Counted in sanitizer builds, where frames do not come from the free list; elsewhere
/// 0.
inline long live_frames() {
#if defined(TANDEM_PLAIN_FRAMES)
  return tandem::detail::live_frames.load();
#else
  return 0;
#endif
}

/// An object that knows how many of it exist: put one into a frame, or hand one to it as a parameter, to see the frame
/// destroyed. One that was moved from no longer counts.
class counted {
 public:
  counted() noexcept { ++live_; }
  counted(counted&& o) noexcept : counts_(std::exchange(o.counts_, false)) {}
  counted& operator=(counted&&) = delete;
  ~counted() {
    if (counts_) --live_;
  }
  static int live() noexcept { return live_; }

 private:
  bool counts_ = true;
  static inline std::atomic<int> live_{0};
};

/// A minimal primitive over the machine's leaf: coroutines wait in line, `open_one` lets the first go on, `open` all.
/// Every pass that was granted is either used or handed on to the next in line: `passes` says how many are left. Like
/// all that has no lock, it serves one loop.
class gate {
 public:
  class waiter final : public tandem::detail::leaf {
   public:
    explicit waiter(gate& g) noexcept : gate_(&g) {}
    waiter(waiter&& o) noexcept : gate_(o.gate_) {}
    ~waiter() {
      if (granted()) {
        consume();
        gate_->open_one();
      }
    }
    static constexpr bool leaves_at_once = true;
    const char* what() const noexcept override { return "gate"; }
    bool await_ready() const noexcept {
      if (gate_->passes_ == 0) return false;
      --gate_->passes_;
      return true;
    }
    bool suspend(tandem::detail::frame& f) {
      gate_->home_.check(*f.scope->loop, "gate", "use concurrent_gate");
      if (park(f)) gate_->line_.push_back(*this);
      return true;
    }
    void await_resume() noexcept { consume(); }

   private:
    gate* gate_;
  };

  waiter wait() noexcept { return waiter(*this); }
  void open_one() noexcept {
    if (line_.empty())
      ++passes_;
    else
      line_.front().wake();
  }
  void open() noexcept {
    while (!line_.empty()) line_.front().wake();
  }
  bool has_waiters() const noexcept { return !line_.empty(); }
  int passes() const noexcept { return passes_; }

 private:
  tandem::detail::one_loop home_;
  tandem::detail::intrusive_list<tandem::detail::leaf> line_;
  int passes_ = 0;
};

/// A moment of virtual time that starts at its epoch.
inline tandem::clock::time_point at(tandem::clock::duration d) { return tandem::clock::time_point(d); }

/// `value` after a sleep.
template <class T>
tandem::task<T> after(tandem::clock::duration d, T value) {
  co_await tandem::sleep_for(d);
  co_return value;
}

/// What an awaitable throws, as text; "" if nothing.
template <class A>
tandem::task<std::string> thrown_by(A awaitable) {
  try {
    (void)co_await std::move(awaitable);
  } catch (const std::exception& e) {
    co_return e.what();
  }
  co_return "";
}

/// Runs `f` in a destructor, whatever way a scope is left.
template <class F>
class [[nodiscard]] at_exit {
 public:
  explicit at_exit(F f) : f_(std::move(f)) {}
  at_exit(const at_exit&) = delete;
  at_exit& operator=(const at_exit&) = delete;
  ~at_exit() { f_(); }

 private:
  F f_;
};

/// How a run of a scenario ended.
enum class end { returned, failed, cancelled, deadlocked, destroyed };

/// A program and what must hold after each of its runs. A scenario is made anew for every run, so its state is its own.
struct scenario {
  virtual tandem::task<> main() = 0;
  /// After a run, when its context is gone.
  virtual void check(end how) = 0;
  virtual ~scenario() = default;
};

struct run_plan {
  std::uint64_t seed = 0;
  std::uint64_t stop_before = 0;        // the program is asked to stop before this resumption, counted from 1; 0: never
  std::uint64_t destroy_after = ~0ull;  // the context is destroyed after so many resumptions
};
struct run_result {
  end how;
  std::uint64_t steps;       // resumptions until it ended
  std::exception_ptr error;  // what its handler got
};

/// One run on virtual time, one resumption at a time. Afterwards nothing may be left of it.
inline run_result run_once(scenario& s, run_plan plan) {
  std::uint64_t steps = 0;
  bool handler_called = false;
  std::exception_ptr error;
  end how = end::destroyed;
  {
    asio::io_context context(1);
    auto& loop = tandem::detail::loop::alone_on(context);
    loop.simulate({}, plan.seed);
    asio::cancellation_signal stop;
    tandem::spawn(context, s.main(), asio::bind_cancellation_slot(stop.slot(), [&](std::exception_ptr e) {
                    handler_called = true;
                    error = e;
                  }));
    while (!handler_called && steps != plan.destroy_after) {
      if (loop.has_ready()) {
        if (++steps == plan.stop_before) stop.emit(asio::cancellation_type::terminal);
        loop.run_one();
        continue;
      }
      if (context.stopped()) context.restart();
      if (context.poll() != 0 || loop.has_ready()) continue;
      if (loop.busy_with_operations())
        context.run_one();
      else if (!loop.advance())
        break;
    }
    if (!handler_called && steps != plan.destroy_after) {
      how = end::deadlocked;
      INFO(tandem::detail::await_tree(*loop.first_root(), loop.now()));
      CHECK(how != end::deadlocked);
    }
  }
  if (handler_called) {
    how = end::returned;
    try {
      if (error) std::rethrow_exception(error);
    } catch (const tandem::cancelled&) {
      how = end::cancelled;
    } catch (...) {
      how = end::failed;
    }
  }
  return {how, steps, error};
}

template <class Make>
run_result checked_run(Make& make, run_plan plan) {
  INFO("seed " << plan.seed << ", stopped before resumption " << plan.stop_before
               << " (0: never), context destroyed after " << plan.destroy_after);
  const long frames = live_frames();
  const int objects = counted::live();
  std::unique_ptr<scenario> s = make();
  const run_result r = run_once(*s, plan);
  s->check(r.how);
  s.reset();
  REQUIRE(live_frames() == frames);
  REQUIRE(counted::live() == objects);
  return r;
}

/// The whole treatment; `make()` gives a fresh scenario as a unique_ptr.
///
///  - in order and under a few shuffles: as it is, stopped at every suspension point, the context destroyed at every
///  step;
///  - under each of `schedules()` shuffles: as it is, and stopped at one point, so that all points have their turn.
template <class Make>
void explore(Make make) {
  const std::uint64_t thorough = 2 + schedules() / 1000;
  for (std::uint64_t seed = 0; seed != thorough; ++seed) {
    const std::uint64_t steps = checked_run(make, {.seed = seed}).steps;
    for (std::uint64_t at = 1; at <= steps; ++at) checked_run(make, {.seed = seed, .stop_before = at});
    for (std::uint64_t at = 0; at <= steps; ++at) checked_run(make, {.seed = seed, .destroy_after = at});
  }
  for (std::uint64_t seed = thorough; seed < schedules(); ++seed) {
    const std::uint64_t steps = checked_run(make, {.seed = seed}).steps;
    checked_run(make, {.seed = seed, .stop_before = 1 + seed % steps});
  }
}

/// A scenario from a lambda for `main` and one for `check`; `State` is made anew for every run.
template <class State, class Main, class Check>
void explore(Main main, Check check) {
  struct made final : scenario {
    made(Main& m, Check& c) : main_(m), check_(c) {}
    tandem::task<> main() override { return main_(state_); }
    void check(end how) override { check_(state_, how); }
    State state_{};
    Main& main_;
    Check& check_;
  };
  explore([&] { return std::make_unique<made>(main, check); });
}

}  // namespace kit
