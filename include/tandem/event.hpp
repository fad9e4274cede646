// tandem/event.hpp: waiting for something to happen: event, condition.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/one_loop.hpp, detail/random.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"

#include "detail/frame.hpp"
#include "detail/gcc12.hpp"
#include "detail/intrusive_list.hpp"
#include "detail/loop.hpp"
#include "detail/one_loop.hpp"

#include <concepts>
#include <cstddef>
#include <exception>
#include <stdexcept>
#include <type_traits>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/event.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

namespace detail {
class event_waiter;
class condition_waiter;
}  // namespace detail

/// Happened, or not yet: `co_await e.wait()` goes on once somebody has called `e.set()`, at once if it is set.
///
/// For the coroutines of one loop. `set()` grants all who wait, in the order in which they came; each goes on in its
/// loop's turn, never inside `set()`, even if the event is reset before. It stays set until `reset()`. Nothing is
/// handed over: to count or to carry something take a `semaphore` or a `queue`, to wait until something holds a
/// `condition`. Allocates nothing.
///
/// Destroying it on the loop of those who wait, in a coroutine or in a handler of its executor, ends their wait with
/// std::logic_error; elsewhere, as when a program ends, they are left to be destroyed with their context.
class event {
 public:
  event() noexcept = default;
  ~event();
  event(const event&) = delete;
  event& operator=(const event&) = delete;

  void set() noexcept;
  void reset() noexcept { set_ = false; }
  bool is_set() const noexcept { return set_; }

  /// Does not suspend if it is set. Throws std::logic_error on another loop than that of the first waiter.
  [[nodiscard("a wait begins when it is awaited")]] auto wait() noexcept;

 private:
  friend detail::event_waiter;
  detail::intrusive_list<detail::leaf> waiters_;
  detail::one_loop loop_;
  bool set_ = false;
};

/// `co_await c.wait([&] { return stock != 0; })`: waits until something holds.
///
/// For the coroutines of one loop, so no mutex goes with it: whoever changes what the predicate looks at calls
/// `notify_one` or `notify_all` afterwards. The predicate is asked when `wait` is awaited, and after a notification in
/// the waiter's turn, right before it would go on: when the wait is over, it holds. If it does not, the waiter goes on
/// waiting without having been resumed, and what `notify_one` had for it passes to the next in line; the same if it is
/// stopped instead. An exception of the predicate is thrown from the co_await, and the notification passes on too.
/// First come, first asked. As an arm of a race a wait is a task, since it is asked after it was notified. Allocates
/// nothing.
///
/// Destroying it is as with an `event`. asyncio's `Condition`, without its lock.
class condition {
 public:
  condition() noexcept = default;
  ~condition();
  condition(const condition&) = delete;
  condition& operator=(const condition&) = delete;

  /// The predicate is kept until the end. On g++ 12 it must not be a temporary that owns its captures.
  template <class Predicate>
  [[nodiscard("a wait begins when it is awaited")]] auto wait(Predicate&& predicate);
  /// Waits for the next notification, whatever it is about.
  [[nodiscard("a wait begins when it is awaited")]] auto wait() noexcept;

  /// The first in line whose predicate holds, when it is asked, goes on.
  void notify_one() noexcept;
  /// All whose predicates hold go on.
  void notify_all() noexcept;

 private:
  friend detail::condition_waiter;
  detail::intrusive_list<detail::leaf> waiters_;
  detail::one_loop loop_;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// A waiter whose primitive goes: does it go on, to find that out?
inline bool may_go_on(const leaf& l) noexcept { return l.waiter->scope->loop->here(); }

class event_waiter final : public leaf {
 public:
  explicit event_waiter(event& e) noexcept : event_(&e) {}
  event_waiter(event_waiter&& o) noexcept : event_(o.event_) {}

  static constexpr bool leaves_at_once = true;
  const char* what() const noexcept override { return "event"; }
  bool await_ready() const noexcept { return state_ == idle && event_->is_set(); }
  bool suspend(frame& f) {
    event_->loop_.check(*f.scope->loop, "event", "make one for each loop, or hand over with a concurrent_queue");
    if (park(f)) event_->waiters_.push_back(*this);
    return true;
  }
  void await_resume() {
    consume();
    if (!event_) throw std::logic_error("tandem::event: it was destroyed while this coroutine waited for it");
  }

 private:
  friend event;
  event* event_;
};

/// Stays in its line while it has been notified and is to be asked.
class condition_waiter : public leaf {
 public:
  const char* what() const noexcept override { return "condition"; }
  void stop(stop_mode m) noexcept override {
    if (state_ != waits) return;
    pass_on();
    turn_.unlink();
    leaf::stop(m);
  }

 protected:
  explicit condition_waiter(condition& c) noexcept : condition_(&c) {}
  condition_waiter(condition_waiter&& o) noexcept : condition_(o.condition_) {}
  ~condition_waiter() = default;

  enum class answer : unsigned char { no, yes, thrown };
  /// Does it hold? What it throws is kept.
  virtual answer ask() noexcept = 0;

  bool begin(frame& f) {
    condition_->loop_.check(*f.scope->loop, "condition", "make one for each loop, or use a concurrent_queue");
    if (park(f)) condition_->waiters_.push_back(*this);
    return true;
  }
  void end() {
    consume();
    if (!condition_) throw std::logic_error("tandem::condition: it was destroyed while this coroutine waited for it");
  }

 private:
  friend condition;
  class turn final : public leaf {
   public:
    explicit turn(condition_waiter& w) noexcept : waiter_(w) {}
    const char* what() const noexcept override { return "condition"; }
    void take() noexcept {
      state_ = calls;
      waiter_.loop_of_waiter().queue(*this);
    }

   private:
    step on_turn() noexcept override { return waiter_.asked(); }
    condition_waiter& waiter_;
  };

  void notify(bool alone) noexcept {
    if (is_notified()) return;
    notified_ = alone ? by_itself : with_others;
    turn_.take();
  }
  bool is_notified() const noexcept { return notified_ != not_yet; }
  /// What `notify_one` had for this one is for the next behind it that is not to be asked anyway.
  void pass_on() noexcept {
    if (std::exchange(notified_, not_yet) != by_itself || !condition_) return;
    const auto& line = condition_->waiters_;
    for (leaf* l = line.next(*this); l; l = line.next(*l))
      if (auto& w = static_cast<condition_waiter&>(*l); !w.is_notified()) return w.notify(true);
  }
  step asked() noexcept {
    const answer a = condition_ ? ask() : answer::yes;
    if (state_ != waits) return step::none();  // the predicate has stopped its own coroutine
    if (a != answer::yes) pass_on();
    notified_ = not_yet;
    if (a == answer::no && condition_) return step::none();
    unlink();
    state_ = woken;
    return step::resume(*waiter);
  }

  condition* condition_;  // null when it is gone
  turn turn_{*this};
  enum : unsigned char { not_yet, by_itself, with_others } notified_ = not_yet;  // and not asked since
};

/// Without a predicate.
class notification_waiter final : public condition_waiter {
 public:
  explicit notification_waiter(condition& c) noexcept : condition_waiter(c) {}
  notification_waiter(notification_waiter&& o) noexcept = default;
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) { return begin(f); }
  void await_resume() { end(); }

 private:
  answer ask() noexcept override { return answer::yes; }
};

template <class Predicate>
class predicate_waiter final : public condition_waiter {
 public:
  template <class P>
  predicate_waiter(condition& c, P&& p) : condition_waiter(c), predicate_(std::forward<P>(p)) {}
  predicate_waiter(predicate_waiter&& o) : condition_waiter(std::move(o)), predicate_(std::move(o.predicate_)) {}

  bool await_ready() { return state_ == idle && static_cast<bool>(predicate_()); }
  bool suspend(frame& f) { return begin(f); }
  void await_resume() {
    end();
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  answer ask() noexcept override {
    try {
      return static_cast<bool>(predicate_()) ? answer::yes : answer::no;
    } catch (...) {
      error_ = std::current_exception();
      return answer::thrown;
    }
  }
  Predicate predicate_;
  std::exception_ptr error_;
};

}  // namespace detail

inline event::~event() {
  while (!waiters_.empty()) {
    auto& w = static_cast<detail::event_waiter&>(waiters_.front());
    w.event_ = nullptr;
    if (detail::may_go_on(w))
      w.wake();
    else
      w.unlink();
  }
}
inline void event::set() noexcept {
  set_ = true;
  while (!waiters_.empty()) waiters_.front().wake();
}
inline auto event::wait() noexcept { return detail::event_waiter(*this); }

inline condition::~condition() {
  while (!waiters_.empty()) {
    auto& w = static_cast<detail::condition_waiter&>(waiters_.front());
    w.condition_ = nullptr;
    w.unlink();
    if (detail::may_go_on(w)) w.notify(false);
  }
}
template <class Predicate>
auto condition::wait(Predicate&& predicate) {
  detail::refuse_what_gcc12_miscompiles<Predicate>();
  constexpr bool is_predicate = std::predicate<std::decay_t<Predicate>&>;
  static_assert(is_predicate, "a condition waits for a predicate, which it calls: c.wait([&] { return stock != 0; })");
  if constexpr (is_predicate)
    return detail::predicate_waiter<std::decay_t<Predicate>>(*this, std::forward<Predicate>(predicate));
}
inline auto condition::wait() noexcept { return detail::notification_waiter(*this); }
inline void condition::notify_one() noexcept {
  for (detail::leaf* l = waiters_.empty() ? nullptr : &waiters_.front(); l; l = waiters_.next(*l))
    if (auto& w = static_cast<detail::condition_waiter&>(*l); !w.is_notified()) return w.notify(true);
}
inline void condition::notify_all() noexcept {
  for (detail::leaf* l = waiters_.empty() ? nullptr : &waiters_.front(); l; l = waiters_.next(*l))
    static_cast<detail::condition_waiter&>(*l).notify(false);
}

}  // namespace tandem::inline TANDEM_CONFIG
