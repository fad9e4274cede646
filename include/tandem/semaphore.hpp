// tandem/semaphore.hpp: a limit that coroutines share: semaphore, concurrent_semaphore, permit.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/holder.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/one_loop.hpp, detail/random.hpp, detail/timer_heap.hpp, detail/tracer.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"

#include "detail/frame.hpp"
#include "detail/holder.hpp"
#include "detail/waiting.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/semaphore.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

namespace detail {
template <class Loops>
class semaphore_core;
template <class Loops>
class acquire_request;
template <class Loops>
class acquire_waiter;

/// Where a permit was asked for, and its place among those that are out. Kept in debug builds, for reports.
#if defined(TANDEM_DEBUG)
class acquired_at {
 public:
  acquired_at(const std::source_location& where) noexcept : where_(where) {}
  const std::source_location& get() const noexcept { return where_; }

 private:
  std::source_location where_;
};
#else
class acquired_at {
 public:
  acquired_at(const std::source_location&) noexcept {}
};
#endif
class held_permit {
 public:
  template <class Core>
  void begin([[maybe_unused]] Core& core, [[maybe_unused]] const acquired_at& where) noexcept {
#if defined(TANDEM_DEBUG)
    const std::scoped_lock lock(core.mutex());
    holder_.hold(core.holders(), where.get());
#endif
  }
  template <class Core>
  void take_over([[maybe_unused]] Core& core, [[maybe_unused]] held_permit& other) noexcept {
#if defined(TANDEM_DEBUG)
    const std::scoped_lock lock(core.mutex());
    holder_ = std::move(other.holder_);
#endif
  }
  template <class Core>
  void end([[maybe_unused]] Core& core) noexcept {
#if defined(TANDEM_DEBUG)
    const std::scoped_lock lock(core.mutex());
    holder_.let_go();
#endif
  }

 private:
#if defined(TANDEM_DEBUG)
  holder holder_;
#endif
};
}  // namespace detail

template <class Loops>
class basic_permit;
template <class Loops>
class basic_semaphore;

/// For the coroutines of one loop: no lock, no atomics. A wait on another loop than that of the first waiter throws
/// std::logic_error.
using semaphore = basic_semaphore<detail::on_one_loop>;
/// What a `semaphore` gives.
using permit = basic_permit<detail::on_one_loop>;

/// For coroutines of any loops, on their threads; each is woken on its own loop. A waiter counts as something that can
/// come from outside: it keeps its context running, and is no deadlock. As an arm of a race it is a task, so of two
/// acquires both may take effect, the later one's permit going to `on_discard`.
using concurrent_semaphore = basic_semaphore<detail::on_any_loop>;
using concurrent_permit = basic_permit<detail::on_any_loop>;

/// What waiting for a permit of a closed semaphore throws.
class semaphore_closed : public std::runtime_error {
 public:
  semaphore_closed() : std::runtime_error("tandem::semaphore_closed") {}
};

struct semaphore_stats {
  std::size_t capacity = 0, available = 0;    ///< `available` as `available()` says
  std::size_t waiting = 0, most_waiting = 0;  ///< now, and the most there ever were
  std::uint64_t acquired = 0;                 ///< acquisitions, with and without a wait
  std::uint64_t waited = 0;                   ///< those that began to wait
  std::uint64_t gave_up = 0;                  ///< of these, those that were stopped, or lost a race
};

/// Permission for one of so many at a time, or for several of them: it comes back when the permit is destroyed.
///
/// Moves only. Giving back never waits and never throws: who waits next is put into its loop's queue, in the order of
/// arrival. A permit may outlive its semaphore.
template <class Loops>
class [[nodiscard("a permit that is dropped is given back at once")]] basic_permit {
 public:
  basic_permit() noexcept = default;  ///< Of nothing.
  basic_permit(basic_permit && other) noexcept;
  basic_permit& operator=(basic_permit&& other) noexcept;
  basic_permit(const basic_permit&) = delete;             // a permit is not copied: hand it on with std::move
  basic_permit& operator=(const basic_permit&) = delete;  // a permit is not copied: hand it on with std::move
  ~basic_permit();

  /// Gives back now what is left to give back.
  void release() noexcept;
  /// How many of the semaphore's permits this one is; 0 after `release`, or if it was moved from.
  std::size_t count() const noexcept { return core_ ? count_ : 0; }
  explicit operator bool() const noexcept { return core_ != nullptr; }

 private:
  template <class>
  friend class detail::acquire_request;
  template <class>
  friend class basic_semaphore;
  basic_permit(detail::semaphore_core<Loops> & core, std::size_t count, const detail::acquired_at& where) noexcept;

  detail::semaphore_core<Loops>* core_ = nullptr;
  std::size_t count_ = 0;
  [[no_unique_address]] detail::held_permit held_;
};

/// At most `permits` at a time: `auto permit = co_await s.acquire();`.
///
/// First come, first served, whatever number of permits is asked for: whoever asks for many is not overtaken by those
/// who ask for few, and a permit that comes back belongs to the first in line before anyone else can ask for it. The
/// waiter goes on in its loop's turn, never inside the call that gave back. A stop takes a waiter out of the line; if
/// it had been granted a permit and never runs, the next in line gets it.
///
/// Destroying the semaphore closes it, if that happens on the loop of those who wait: in a coroutine, or in a handler
/// of its executor. Elsewhere, as when a program ends, they are left to be destroyed with their context; those of a
/// `concurrent_semaphore` are told in any case. Permits that are out stay valid.
///
/// Acquiring and giving back cost a few instructions and allocate nothing; the semaphore itself allocates once.
template <class Loops>
class basic_semaphore {
 public:
  /// With 0 permits everyone waits until `resize` gives some. Throws std::invalid_argument for more than 2^61.
  explicit basic_semaphore(std::size_t permits);
  ~basic_semaphore();
  basic_semaphore(const basic_semaphore&) = delete;  // a semaphore is shared: pass it by reference
  basic_semaphore& operator=(const basic_semaphore&) = delete;

  /// `co_await s.acquire()`, `co_await s.acquire(3)`: waits for so many permits and gives them as one. Does not suspend
  /// if they are there and nobody waits.
  ///
  /// Throws std::invalid_argument for 0 and for more than the capacity, `semaphore_closed` after `close()`. `where` is
  /// what reports name as the holder in debug builds.
  [[nodiscard("a wait begins when it is awaited")]] auto acquire(
      std::size_t count = 1, detail::acquired_at where = std::source_location::current());

  /// The permits, if they are there and nobody waits; otherwise an empty permit, which tests as false. From any code.
  basic_permit<Loops> try_acquire(std::size_t count = 1, detail::acquired_at where = std::source_location::current());

  /// From now on there are so many. A smaller number takes a debt: what is given back pays it first. Whoever is first
  /// in line and waits for more than there are gets std::invalid_argument, since nobody behind would ever be served. 0
  /// lets everyone wait. Throws std::invalid_argument for more than 2^61.
  void resize(std::size_t permits);

  /// Nobody gets a permit any more: who waits, or asks later, gets `semaphore_closed`. Permits that are out stay valid.
  void close() noexcept;

  /// What `try_acquire` could have now, if nobody waits; 0 while a debt is paid.
  std::size_t available() const noexcept;
  std::size_t capacity() const noexcept;
  /// How many wait.
  std::size_t waiting() const noexcept;
  semaphore_stats stats() const noexcept;

 private:
  detail::semaphore_core<Loops>* core_;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// It lives as long as the semaphore, a permit, or a waiter.
template <class Loops>
class semaphore_core {
 public:
  using mutex_type = typename Loops::mutex;
  using line_type = typename Loops::line;
  using waiter = acquire_waiter<Loops>;

  explicit semaphore_core(std::size_t permits) : free_(checked(permits)), capacity_(free_) {}

  mutex_type& mutex() noexcept { return mutex_; }

  /// Takes them if nobody waits. With the mutex held, as all that follows up to the next remark.
  bool take(std::size_t count) noexcept {
    if (free_ < static_cast<number>(count)) return false;
    free_ -= static_cast<number>(count);
    ++acquired_;
    return true;
  }
  /// Before asking for so many.
  void check_count(std::size_t count) {
    if (count == 1) return;
    if (count == 0) throw std::invalid_argument("tandem::semaphore: acquiring 0 permits; it must be at least 1");
    checked(count);
    const std::scoped_lock lock(mutex_);
    if (exceeds(count)) throw_exceeds(count);
  }
  /// Before waiting for so many.
  void check(std::size_t count) const {
    if (is_closed_) throw semaphore_closed();
    if (exceeds(count)) throw_exceeds(count);
  }
  void waits(waiter& w, frame& f) {
    user_.check(f, "semaphore", "use a concurrent_semaphore");
    const bool is_in_line = w.wait_in(line_, mutex_, f);
    ++users_;
    if (!is_in_line) return;
    enter_slow_path();
    ++waited_;
    if (line_.size() > most_waiting_) most_waiting_ = line_.size();
  }
  void leaves(waiter& w) noexcept {
    line_.remove(w);
    ++gave_up_;
    serve();
  }
  /// True if there is nobody left who uses this.
  bool give_back(std::size_t count) noexcept {
    free_ += static_cast<number>(count);
    if (free_ >= 0) return false;
    serve();
    return is_over();
  }
  bool one_user_less() noexcept {
    --users_;
    return is_over();
  }
  holder*& holders() noexcept { return holders_; }

  [[noreturn, gnu::cold]] void throw_exceeds(std::size_t count) const {
    throw std::invalid_argument("tandem::semaphore: acquiring " + std::to_string(count) + " permits of " +
                                std::to_string(capacity_) + " would wait for ever");
  }

  void resize(std::size_t permits) {
    const number n = checked(permits);
    const std::scoped_lock lock(mutex_);
    free_ += n - capacity_;
    capacity_ = n;
    if (is_slow_) serve();
  }
  /// The mutex is not held: here and below.
  void close() noexcept {
    const std::scoped_lock lock(mutex_);
    shut();
    while (!line_.empty()) {
      first().refuse(false);
      line_.wake(line_.front());
    }
  }
  /// The semaphore is gone.
  void disown() noexcept {
    bool over = false;
    {
      const std::scoped_lock lock(mutex_);
      shut();
      while (!line_.empty()) {
        first().refuse(false);
        line_.wake_if_running(line_.front());
      }
      is_ownerless_ = true;
      over = is_over();
    }
    if (over) delete this;
  }
  [[gnu::always_inline]] void release(std::size_t count) noexcept {
    if constexpr (!Loops::is_concurrent) {
      free_ += static_cast<number>(count);
      if (free_ >= 0) [[likely]]
        return;
      free_ -= static_cast<number>(count);
    }
    release_and_serve(count);
  }
  [[gnu::noinline]] void release_and_serve(std::size_t count) noexcept {
    bool over = false;
    {
      const std::scoped_lock lock(mutex_);
      over = give_back(count);
    }
    if (over) delete this;
  }
  bool try_take(std::size_t count) {
    const std::scoped_lock lock(mutex_);
    if (take(count)) return true;
    check(count);
    return false;
  }
  semaphore_stats stats() noexcept {
    const std::scoped_lock lock(mutex_);
    return {static_cast<std::size_t>(capacity_),
            static_cast<std::size_t>(free() < 0 ? 0 : free()),
            line_.size(),
            most_waiting_,
            acquired_,
            waited_,
            gave_up_};
  }

 private:
  using number = std::int64_t;
  /// While somebody waits, or it is closed, `free_` is less by this: so one comparison tells whether there is anything
  /// to be had at once, and one whether there is anything to do for those who wait.
  static constexpr number away = number(1) << 62;

  static number checked(std::size_t permits) {
    if (permits > static_cast<std::size_t>(away / 2))
      throw std::invalid_argument("tandem::semaphore: " + std::to_string(permits) + " permits are more than 2^61");
    return static_cast<number>(permits);
  }
  number free() const noexcept { return is_slow_ ? free_ + away : free_; }
  bool is_over() const noexcept { return is_ownerless_ && users_ == 0 && free() == capacity_; }
  /// With none at all everyone waits, so nobody is refused.
  bool exceeds(std::size_t count) const noexcept {
    return capacity_ != 0 && count > static_cast<std::size_t>(capacity_);
  }
  void enter_slow_path() noexcept {
    if (!std::exchange(is_slow_, true)) free_ -= away;
  }
  waiter& first() noexcept { return static_cast<waiter&>(line_.front()); }
  void shut() noexcept {
    is_closed_ = true;
    enter_slow_path();
  }
  /// Something came back, the number of permits changed, or somebody left the line.
  [[gnu::noinline]] void serve() noexcept {
    if (!is_slow_ || is_closed_) return;  // a debt was paid; or those in line are refused
    // A race that is granted something leaves all lines in the same call, and so comes back here.
    if (std::exchange(is_serving_, true)) return;
    while (!line_.empty()) {
      waiter& w = first();
      const auto count = static_cast<number>(w.count());
      if (free_ + away >= count) {
        free_ -= count;
        ++acquired_;
        w.grant();
        --users_;  // as long as a permit is out this stays anyway
      } else if (exceeds(w.count())) {
        w.refuse(true);
      } else {
        break;
      }
      line_.wake(w);
    }
    is_serving_ = false;
    if (!line_.empty()) return;
    is_slow_ = false;
    free_ += away;
  }

  number free_;
  number capacity_;
  std::uint64_t acquired_ = 0;
  line_type line_;
  bool is_slow_ = false, is_serving_ = false, is_closed_ = false, is_ownerless_ = false;
  std::size_t users_ = 0;  // awaiters that wait, or were refused, until they are gone
  std::size_t most_waiting_ = 0;
  std::uint64_t waited_ = 0, gave_up_ = 0;
  holder* holders_ = nullptr;
  [[no_unique_address]] typename Loops::user user_;
  [[no_unique_address]] mutex_type mutex_;
};

template <class Loops>
class acquire_request {
 public:
  acquire_request(semaphore_core<Loops>& core, std::size_t count, const acquired_at& where) noexcept
      : core_(&core), count_(count), where_(where) {}
  acquire_request(const acquire_request& o) noexcept : core_(by_itself(o.core_)), count_(o.count_), where_(o.where_) {}
  bool try_now() {
    const std::scoped_lock lock(core_->mutex());
    return core_->take(count_);
  }
  basic_permit<Loops> take() noexcept { return basic_permit<Loops>(*core_, count_, where_); }

 protected:
  semaphore_core<Loops>* core_;
  std::size_t count_;
  [[no_unique_address]] acquired_at where_;
};

template <class Loops>
class acquire_waiter final : public Loops::waiter, acquire_request<Loops> {
 public:
  using request = acquire_request<Loops>;
  explicit acquire_waiter(const request& r) noexcept : request(r) {}
  acquire_waiter(acquire_waiter&& o) noexcept : request(o) {}
  ~acquire_waiter() {
    if (wait_ == taken || is_user_) let_go();
  }

  const char* what() const noexcept override { return "semaphore"; }
  const holder* held_by() const noexcept override { return Loops::is_concurrent ? nullptr : core_->holders(); }
  bool await_ready() {
    if (!this->try_now()) return false;
    wait_ = taken;
    return true;
  }
  bool suspend(frame& f) {
    const std::scoped_lock lock(core_->mutex());
    if (Loops::is_concurrent && core_->take(count_)) {  // given back meanwhile
      wait_ = taken;
      return false;
    }
    core_->check(count_);
    core_->waits(*this, f);
    is_user_ = true;
    return true;
  }
  basic_permit<Loops> await_resume() {
    this->consume();
    if (wait_ != taken) throw_refused();
    wait_ = over;
    return this->take();
  }

 private:
  friend semaphore_core<Loops>;
  std::size_t count() const noexcept { return count_; }
  void grant() noexcept {
    wait_ = taken;
    is_user_ = false;
  }
  void refuse(bool asks_too_much) noexcept { wait_ = asks_too_much ? exceeds : closed; }
  void leave_line() noexcept override { core_->leaves(*this); }
  [[gnu::noinline]] void let_go() noexcept {
    bool is_last = false;
    {
      const std::scoped_lock lock(core_->mutex());
      if (wait_ == taken) is_last = core_->give_back(count_);
      if (is_user_) is_last = core_->one_user_less();
    }
    if (is_last) delete core_;
  }
  [[noreturn, gnu::cold]] void throw_refused() const {
    const std::scoped_lock lock(core_->mutex());
    if (wait_ == exceeds) core_->throw_exceeds(count_);
    throw semaphore_closed();
  }

  using request::core_, request::count_;
  enum : unsigned char { undecided, taken, closed, exceeds, over } wait_ = undecided;
  bool is_user_ = false;
};

}  // namespace detail

template <class Loops>
basic_permit<Loops>::basic_permit(detail::semaphore_core<Loops>& core, std::size_t count,
                                  const detail::acquired_at& where) noexcept
    : core_(&core), count_(count) {
  held_.begin(core, where);
}
template <class Loops>
basic_permit<Loops>::basic_permit(basic_permit&& other) noexcept
    : core_(std::exchange(other.core_, nullptr)), count_(other.count_) {
  if (core_) held_.take_over(*core_, other.held_);
}
template <class Loops>
basic_permit<Loops>& basic_permit<Loops>::operator=(basic_permit&& other) noexcept {
  if (this == &other) return *this;
  release();
  core_ = std::exchange(other.core_, nullptr);
  count_ = other.count_;
  if (core_) held_.take_over(*core_, other.held_);
  return *this;
}
template <class Loops>
basic_permit<Loops>::~basic_permit() {
  release();
}
template <class Loops>
[[gnu::always_inline]] inline void basic_permit<Loops>::release() noexcept {
  if (!core_) return;
  held_.end(*core_);
  std::exchange(core_, nullptr)->release(count_);
}

template <class Loops>
basic_semaphore<Loops>::basic_semaphore(std::size_t permits) : core_(new detail::semaphore_core<Loops>(permits)) {}
template <class Loops>
basic_semaphore<Loops>::~basic_semaphore() {
  core_->disown();
}
template <class Loops>
auto basic_semaphore<Loops>::acquire(std::size_t count, detail::acquired_at where) {
  core_->check_count(count);
  using request = detail::acquire_request<Loops>;
  return detail::asks_first<request, detail::acquire_waiter<Loops>>(request(*core_, count, where));
}
template <class Loops>
basic_permit<Loops> basic_semaphore<Loops>::try_acquire(std::size_t count, detail::acquired_at where) {
  core_->check_count(count);
  if (!core_->try_take(count)) return {};
  return basic_permit<Loops>(*core_, count, where);
}
template <class Loops>
void basic_semaphore<Loops>::resize(std::size_t permits) {
  core_->resize(permits);
}
template <class Loops>
void basic_semaphore<Loops>::close() noexcept {
  core_->close();
}
template <class Loops>
std::size_t basic_semaphore<Loops>::available() const noexcept {
  return core_->stats().available;
}
template <class Loops>
std::size_t basic_semaphore<Loops>::capacity() const noexcept {
  return core_->stats().capacity;
}
template <class Loops>
std::size_t basic_semaphore<Loops>::waiting() const noexcept {
  return core_->stats().waiting;
}
template <class Loops>
semaphore_stats basic_semaphore<Loops>::stats() const noexcept {
  return core_->stats();
}

}  // namespace tandem::inline TANDEM_CONFIG
