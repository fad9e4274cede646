// tandem/this_task.hpp: what every task may ask of its loop: sleep_for, sleep_until, yield, this_task.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/priority.hpp, detail/random.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "exceptions.hpp"

#include "detail/frame.hpp"
#include "detail/loop.hpp"
#include "detail/priority.hpp"

#include <chrono>

static_assert(TANDEM_VERSION == 100, "tandem/this_task.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// Waits for `duration`, and at least until the loop has been through its queue once. Sleepers that are due at the same
/// instant wake in the order in which they began, unless a simulation shuffles. Throws std::invalid_argument for a
/// negative duration or a NaN. A duration beyond the clock's range waits for ever. O(log n) of the loop's timers.
template <class Rep, class Period>
auto sleep_for(std::chrono::duration<Rep, Period> duration);

/// Waits until `clock::now() >= time`; a time that has passed waits for the loop's queue only. Takes tandem's clock
/// only.
auto sleep_until(clock::time_point time) noexcept;

/// Lets every other coroutine that is ready now have its turn first (a simulation with a seed shuffles the turns).
/// Stops here if the scope is, or gets, stopped.
auto yield() noexcept;

/// What a task can ask about itself.
namespace this_task {

/// `co_await this_task::executor`: the executor of the loop, for sockets, timers and `asio::post`. It is serial: what
/// is posted there runs in turn with the coroutines, for which a context that several threads may run gets a strand.
/// Does not suspend.
struct executor_t;
extern const executor_t executor;

/// `co_await this_task::cancel_requested`: true if a stop has been asked for, so that the next wait stops. Does not
/// suspend.
struct cancel_requested_t;
extern const cancel_requested_t cancel_requested;

/// `co_await this_task::checkpoint()`: gives way to the others, and stops here if asked to: `yield` under the name that
/// says why a long computation calls it. In a job of a priority_scheduler it also gives the job's slot to a more urgent
/// job that waits for one, and goes on when this one's turn has come again.
auto checkpoint() noexcept;

}  // namespace this_task

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

class yield_awaitable final : public leaf {
 public:
  yield_awaitable() noexcept {}  // by hand: a defaulted one would be preceded by zeroing all of it
  const char* what() const noexcept override { return "yield"; }
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    if (park(f)) {
      state_ = woken;
      f.scope->loop->queue_in_turn(*this);
    }
    return true;
  }
  void await_resume() noexcept { consume(); }
  void stop(stop_mode) noexcept override {  // in the queue already, with nothing granted that could be lost
    if (granted()) state_ = stopped;
  }
};

class checkpoint_awaitable final : public leaf {
 public:
  checkpoint_awaitable() noexcept {}
  const char* what() const noexcept override { return "checkpoint"; }
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    if (!park(f)) return true;
    if (f.scope->job && f.scope->job->gives_way(*this)) return true;
    state_ = woken;
    f.scope->loop->queue_in_turn(*this);
    return true;
  }
  void await_resume() noexcept { consume(); }
  void stop(stop_mode m) noexcept override {
    if (waiting()) {  // for the job's turn
      prioritized& job = *waiter->scope->job;
      leaf::stop(m);
      job.checkpoint_left();
    } else if (granted()) {  // in the queue already, with nothing granted that could be lost
      state_ = stopped;
    }
  }
};

class sleep_awaitable final : public timer_leaf {
 public:
  sleep_awaitable(clock::duration length, clock::time_point due) noexcept : length_(length), due_(due) {}
  sleep_awaitable(sleep_awaitable&& o) noexcept : length_(o.length_), due_(o.due_) {}

  static constexpr bool leaves_at_once = true;
  const char* what() const noexcept override { return "sleep"; }
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    loop& l = *f.scope->loop;
    l.reserve_timer();
    if (!park(f)) return true;
    if (length_ >= clock::duration::zero()) due_ = saturated_sum(l.now(), length_);
    l.add_timer(*this, due_);
    return true;
  }
  void await_resume() noexcept { consume(); }

 private:
  clock::duration length_;  // counted from the moment of the co_await; negative: due_ was given
  clock::time_point due_;
};

}  // namespace detail

template <class Rep, class Period>
auto sleep_for(std::chrono::duration<Rep, Period> duration) {
  return detail::sleep_awaitable(detail::checked_duration(duration, "tandem::sleep_for"), {});
}

inline auto sleep_until(clock::time_point time) noexcept { return detail::sleep_awaitable(clock::duration(-1), time); }

inline auto yield() noexcept { return detail::yield_awaitable(); }

namespace this_task {

struct executor_t {
  class awaiter {
   public:
    bool await_ready() const noexcept { return false; }
    bool suspend(detail::frame& f) noexcept {
      loop_ = f.scope->loop;
      return false;
    }
    asio::any_io_executor await_resume() const noexcept { return loop_->executor(); }

   private:
    detail::loop* loop_ = nullptr;
  };
  awaiter make_awaiter() const noexcept { return {}; }
};
inline constexpr executor_t executor{};

struct cancel_requested_t {
  class awaiter {
   public:
    bool await_ready() const noexcept { return false; }
    bool suspend(detail::frame& f) noexcept {
      requested_ = f.scope->stop_asked();
      return false;
    }
    bool await_resume() const noexcept { return requested_; }

   private:
    bool requested_ = false;
  };
  awaiter make_awaiter() const noexcept { return {}; }
};
inline constexpr cancel_requested_t cancel_requested{};

inline auto checkpoint() noexcept { return detail::checkpoint_awaitable(); }

}  // namespace this_task

}  // namespace tandem::inline TANDEM_CONFIG
