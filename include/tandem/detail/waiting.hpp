// tandem/detail/waiting.hpp: those who wait in line at a primitive: of one loop, or of several on their threads.
//
// A primitive is written once, over one of these two. It holds its mutex while it looks at its lines or changes what
// they wait for. Whoever leaves a line is woken once: granted what he waits for, or with the reason why not.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "frame.hpp"
#include "intrusive_list.hpp"
#include "loop.hpp"
#include "one_loop.hpp"

#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/detail/waiting.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// All who use the primitive run on one loop, one at a time: there is no lock, and waking is a push to the loop's own
/// queue.
struct on_one_loop {
  static constexpr bool is_concurrent = false;

  class mutex {
   public:
    void lock() noexcept {}
    void unlock() noexcept {}
  };

  /// Remembers the loop, and refuses others.
  class user {
   public:
    void check(const frame& f, const char* type, const char* instead) { check(*f.scope->loop, type, instead); }
    void check(const loop& l, const char* type, const char* instead) { loop_.check(l, type, instead); }

   private:
    one_loop loop_;
  };

  class line;

  class waiter : public leaf {
   public:
    static constexpr bool leaves_at_once = true;
    void stop(stop_mode m) noexcept override {
      if (state_ != waits) return;
      leave_line();
      leaf::stop(m);
    }
    void leave() noexcept {
      leave_line();
      leaf::leave();
    }
    /// Where the frame is that waits.
    const scope& scope_around() const noexcept { return *wait_node::waiter->scope; }

   protected:
    waiter() noexcept = default;
    waiter(waiter&&) noexcept = default;
    ~waiter() = default;

    /// From `suspend`, with the mutex held: true if it waits, at the end of `l` from now on; false if it stops here.
    bool wait_in(line& l, mutex&, frame& f) {
      if (!park(f)) return false;
      l.push_back(*this);
      return true;
    }
    /// It was stopped, or withdrawn by a race, and is to be taken out of the line that it is in; nothing was granted.
    virtual void leave_line() noexcept = 0;

   private:
    friend line;
  };

  class line {
   public:
    bool empty() const noexcept { return list_.empty(); }
    std::size_t size() const noexcept { return size_; }
    waiter& front() const noexcept { return static_cast<waiter&>(list_.front()); }
    waiter& back() const noexcept { return static_cast<waiter&>(list_.back()); }
    waiter* next(const waiter& w) const noexcept { return static_cast<waiter*>(list_.next(w)); }
    void push_back(waiter& w) noexcept {
      list_.push_back(w);
      ++size_;
    }
    void remove(waiter& w) noexcept {
      if (!w.linked()) return;
      w.unlink();
      --size_;
    }
    /// What he waits for has been decided.
    void wake(waiter& w) noexcept {
      --size_;
      w.wake();
    }
    /// The primitive goes, in a coroutine or a handler of the loop, and he goes on; or elsewhere, when nobody is there
    /// who would run him.
    bool wake_if_running(waiter& w) noexcept {
      --size_;
      if (w.loop_of_waiter().here()) return w.wake(), true;
      w.unlink();
      return false;
    }

   private:
    intrusive_list<leaf> list_;
    std::size_t size_ = 0;
  };
};

/// Those who wait belong to any loops: a lock, and waking is a message to the waiter's own loop. While it is on its way
/// the waiter can't be stopped: the grant wins.
struct on_any_loop {
  static constexpr bool is_concurrent = true;

  using mutex = std::mutex;

  class user {
   public:
    void check(const frame&, const char*, const char*) const noexcept {}
  };

  class line;

  class waiter : public arrival {
   public:
    void stop(stop_mode m) noexcept override {
      if (state_ != waits) return;
      {
        const std::scoped_lock lock(*place_.mutex);
        if (is_on_its_way_) return;
        leave_line();
      }
      loop_of_waiter().maybe_outside_ended();
      leaf::stop(m);
    }

   protected:
    waiter() noexcept = default;
    waiter(waiter&&) noexcept {}
    ~waiter() = default;

    /// As above.
    bool wait_in(line& l, mutex& m, frame& f) {
      loop& own = *f.scope->loop;
      if (state_ == idle) own.maybe_outside_begins();  // may throw; if it is not idle, park does
      if (!park(f)) {
        own.maybe_outside_ended();
        return false;
      }
      own.joins(*this);
      place_.mutex = &m;
      l.push_back(*this);
      return true;
    }
    virtual void leave_line() noexcept = 0;

   private:
    void arrive() noexcept override {
      unlink();
      loop& own = loop_of_waiter();
      own.maybe_outside_ended();
      state_ = woken;
      own.queue(*this);
    }

    friend line;
    struct place : list_node {
      waiter* who = nullptr;
      std::mutex* mutex = nullptr;
    } place_;  // in the line; its mutex guards this and what follows
    bool is_on_its_way_ = false;
  };

  class line {
   public:
    bool empty() const noexcept { return list_.empty(); }
    std::size_t size() const noexcept { return size_; }
    waiter& front() const noexcept { return *list_.front().who; }
    waiter* next(const waiter& w) const noexcept {
      const waiter::place* p = list_.next(w.place_);
      return p ? p->who : nullptr;
    }
    void push_back(waiter& w) noexcept {
      w.place_.who = &w;
      list_.push_back(w.place_);
      ++size_;
    }
    void remove(waiter& w) noexcept {
      if (!w.place_.linked()) return;
      w.place_.unlink();
      --size_;
    }
    void wake(waiter& w) noexcept {
      remove(w);
      w.is_on_its_way_ = true;
      w.loop_of_waiter().push(w);
    }
    bool wake_if_running(waiter& w) noexcept { return wake(w), true; }

   private:
    intrusive_list<waiter::place> list_;
    std::size_t size_ = 0;
  };
};

/// `x`, in a register of its own. g++ 12 copies neighbours together, as a vector; where they have just been written one
/// by one, the processor waits until the writes are done.
template <class T>
[[gnu::always_inline]] inline T by_itself(T x) noexcept {
  asm("" : "+r"(x));
  return x;
}

/// What an operation of a primitive returns: it asks first, and makes a waiter of itself only if it has to wait, since
/// most need not. A `Request` is moved about until then:
///
///   bool try_now();   done, without waiting?
///   value take();     after that: what the co_await gives
///
/// and a `Waiter`, a leaf, is made of it.
template <class Request, class Waiter>
class asks_first {
 public:
  template <class... Arguments>
  explicit asks_first(std::in_place_t, Arguments&&... arguments) : request_(std::forward<Arguments>(arguments)...) {}
  explicit asks_first(Request r) : request_(std::move(r)) {}
  asks_first(asks_first&& o) : request_(std::move(o.request_)) {}
  ~asks_first() {
    if (state_ == waits) end_waiter();
  }

  [[gnu::always_inline]] bool await_ready() {
    if (state_ != fresh) [[unlikely]]
      throw_awaited_twice();
    state_ = asked;
    return request_.try_now();
  }
  bool suspend(frame& f) {
    ::new (static_cast<void*>(std::addressof(waiter_))) Waiter(std::move(request_));
    state_ = waits;
    return waiter_.suspend(f);
  }
  decltype(auto) await_resume() {
    if (state_ == waits) return waiter_.await_resume();
    return request_.take();
  }

  /// For a race, of which it is an arm.
  Waiter as_leaf() && { return Waiter(std::move(request_)); }

 private:
  [[gnu::noinline]] void end_waiter() noexcept { waiter_.~Waiter(); }
  [[noreturn, gnu::cold, gnu::noinline]] static void throw_awaited_twice() {
    throw std::logic_error("tandem: an operation of a primitive is awaited twice; make one for each co_await");
  }
  Request request_;
  enum : unsigned char { fresh, asked, waits } state_ = fresh;
  union {
    Waiter waiter_;
  };
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
