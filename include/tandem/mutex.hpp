// tandem/mutex.hpp: one at a time, across waits: mutex, mutex_lock.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/holder.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/one_loop.hpp, detail/random.hpp, detail/timer_heap.hpp, detail/tracer.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"

#include "detail/frame.hpp"
#include "detail/holder.hpp"
#include "detail/waiting.hpp"

#include <cstddef>
#include <source_location>
#include <stdexcept>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/mutex.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

class mutex;

namespace detail {
class lock_request;
class lock_waiter;
}  // namespace detail

/// Ownership of a `mutex`; ends with its destructor.
///
/// Moves only. Unlocking never waits and never throws: who waits next owns the mutex from then on, and goes on in its
/// loop's turn. A lock may outlive its mutex.
class [[nodiscard("a lock that is dropped unlocks at once")]] mutex_lock {
 public:
  mutex_lock() noexcept = default;  ///< Of nothing.
  mutex_lock(mutex_lock && other) noexcept { take_over(other); }
  mutex_lock& operator=(mutex_lock&& other) noexcept {
    if (this == &other) return *this;
    unlock();
    take_over(other);
    return *this;
  }
  mutex_lock(const mutex_lock&) = delete;             // a lock is not copied: hand it on with std::move
  mutex_lock& operator=(const mutex_lock&) = delete;  // a lock is not copied: hand it on with std::move
  ~mutex_lock() { unlock(); }

  void unlock() noexcept;
  bool owns_lock() const noexcept { return mutex_ != nullptr; }
  explicit operator bool() const noexcept { return owns_lock(); }

 private:
  friend mutex;
  friend detail::lock_request;
  friend detail::lock_waiter;
  void take_over(mutex_lock & other) noexcept;
  mutex* mutex_ = nullptr;
  detail::holder holder_;
};

/// `auto lock = co_await m.lock();`: one coroutine at a time, from then until the lock is destroyed, whatever it awaits
/// in between. For the coroutines of one loop; code that does not wait in between needs no mutex there.
///
/// First come, first served: an unlocked mutex belongs to the first in line before anyone else can ask. The waiter goes
/// on in its loop's turn, never inside `unlock`. A stop takes a waiter out of the line; one that had been given the
/// mutex and never runs passes it on. Not recursive: who locks it twice waits for himself, and the report of the
/// deadlock says so, with the line of the owner. Allocates nothing.
///
/// Destroying it on the loop of those in line, in a coroutine or in a handler of its executor, ends their wait with
/// std::logic_error; elsewhere, as when a program ends, they are left to be destroyed with their context. Who owns it
/// then owns nothing.
class mutex {
 public:
  mutex() noexcept = default;
  ~mutex();
  mutex(const mutex&) = delete;  // a mutex is shared: pass it by reference
  mutex& operator=(const mutex&) = delete;

  /// Waits for the mutex and gives a mutex_lock. Does not suspend if nobody has it. Throws std::logic_error on another
  /// loop than that of the first waiter.
  [[nodiscard("a wait begins when it is awaited")]] auto lock(
      std::source_location where = std::source_location::current());
  /// The lock, or an empty one, which tests as false. From any code.
  mutex_lock try_lock(std::source_location where = std::source_location::current()) noexcept;
  void unlock() = delete;  // nobody unlocks but what `auto lock = co_await m.lock();` gives; no std::lock_guard either

  bool is_locked() const noexcept { return owner_ != nullptr; }
  /// How many wait.
  std::size_t waiting() const noexcept { return line_.size(); }

 private:
  friend mutex_lock;
  friend detail::lock_request;
  friend detail::lock_waiter;
  void pass_on() noexcept;

  mutex_lock* owner_ = nullptr;  // it may be a waiter's, which has not run yet
  detail::holder* holders_ = nullptr;
  detail::on_one_loop::line line_;
  detail::on_one_loop::user user_;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

class lock_request {
 public:
  lock_request(mutex& m, const std::source_location& where) noexcept : mutex_(&m), where_(where) {}
  bool try_now() noexcept {
    if (mutex_->owner_) return false;
    own(lock_);
    return true;
  }
  mutex_lock take() noexcept { return std::move(lock_); }

 protected:
  void own(mutex_lock& lock) noexcept {
    mutex_->owner_ = &lock;
    lock.mutex_ = mutex_;
    lock.holder_.hold(mutex_->holders_, where_);
  }
  mutex* mutex_;  // null when it is gone
  std::source_location where_;
  mutex_lock lock_;
};

class lock_waiter final : public on_one_loop::waiter, lock_request {
 public:
  explicit lock_waiter(lock_request&& r) noexcept : lock_request(std::move(r)) {}
  lock_waiter(lock_waiter&& o) noexcept : lock_request(std::move(o)) {}

  const char* what() const noexcept override { return "mutex"; }
  const holder* held_by() const noexcept override { return waiting() && mutex_ ? mutex_->holders_ : nullptr; }
  bool await_ready() noexcept { return try_now(); }
  bool suspend(frame& f) {
    mutex_->user_.check(f, "mutex", "use a concurrent_semaphore of one permit");
    wait_in(mutex_->line_, no_lock_, f);
    return true;
  }
  mutex_lock await_resume() {
    consume();
    if (!lock_.owns_lock()) throw_gone();
    return take();
  }

 private:
  friend mutex;
  void leave_line() noexcept override {
    if (mutex_) mutex_->line_.remove(*this);
  }
  [[noreturn, gnu::cold]] static void throw_gone() {
    throw std::logic_error("tandem::mutex: it was destroyed while this coroutine waited for it");
  }
  [[no_unique_address]] on_one_loop::mutex no_lock_;
};

}  // namespace detail

inline void mutex_lock::take_over(mutex_lock& other) noexcept {
  mutex_ = std::exchange(other.mutex_, nullptr);
  holder_ = std::move(other.holder_);
  if (mutex_) mutex_->owner_ = this;
}
inline void mutex_lock::unlock() noexcept {
  if (!mutex_) return;
  holder_.let_go();
  std::exchange(mutex_, nullptr)->pass_on();
}

inline mutex::~mutex() {
  if (owner_) {
    owner_->holder_.let_go();
    owner_->mutex_ = nullptr;
  }
  while (!line_.empty()) {
    auto& w = static_cast<detail::lock_waiter&>(line_.front());
    w.mutex_ = nullptr;
    line_.wake_if_running(w);
  }
}
inline auto mutex::lock(std::source_location where) {
  return detail::asks_first<detail::lock_request, detail::lock_waiter>(detail::lock_request(*this, where));
}
inline mutex_lock mutex::try_lock(std::source_location where) noexcept {
  detail::lock_request r(*this, where);
  r.try_now();
  return r.take();
}
inline void mutex::pass_on() noexcept {
  owner_ = nullptr;
  if (line_.empty()) return;
  auto& w = static_cast<detail::lock_waiter&>(line_.front());
  w.own(w.lock_);
  line_.wake(w);
}

}  // namespace tandem::inline TANDEM_CONFIG
