// tandem/detail/leaf.hpp: what other code wakes: leaves of the await tree, and the roots above; loop.hpp defines what
// they do.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../clock.hpp"
#include "failures.hpp"
#include "frame.hpp"
#include "intrusive_list.hpp"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/detail/leaf.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// How far a leaf has come, and when it began to wait: one word, so that one store begins a wait. The moment is kept less
/// the last 16 bits of its nanoseconds.
class alignas(8) leaf_state {
 public:
  enum kind : unsigned char {
    idle,      // before, or after the frame took what it was granted
    waits,     // the frame waits
    competes,  // the frame waits for this and others
    woken,     // in the ready queue, to be resumed
    stopped,   // in the ready queue, to be destroyed
    calls      // in the ready queue, for on_turn
  };
  leaf_state() = default;
  /// Waits, since `t`.
  explicit leaf_state(clock::time_point t) noexcept
      : kind_(waits),
        high_(static_cast<std::uint16_t>(t.time_since_epoch().count() >> 48)),
        low_(static_cast<std::uint32_t>(t.time_since_epoch().count() >> 16)) {}
  leaf_state& operator=(kind k) noexcept {
    kind_ = k;
    return *this;
  }
  operator kind() const noexcept { return kind_; }
  clock::time_point since() const noexcept {
    const std::uint64_t t = std::uint64_t(high_) << 48 | std::uint64_t(low_) << 16;
    return clock::time_point(clock::duration(static_cast<std::int64_t>(t)));
  }

 private:
  kind kind_ = idle;
  [[maybe_unused]] std::uint8_t fill_ = 0;  // so that one store makes it idle
  std::uint16_t high_ = 0;
  std::uint32_t low_ = 0;
};

/// A wait_node that other code wakes, and that the loop has in its queue then: a timer, a waiter of a semaphore, a
/// group whose last child has ended. While it waits it may be linked into a list of whoever will wake it.
class leaf : public wait_node, public list_node {
 public:
  /// From `suspend`: lets the frame wait here. False in a stopped scope: it stops here and now, so join no list. Throws
  /// std::logic_error if another frame waits here already.
  [[gnu::always_inline]] bool park(frame& f) {
    if (state_ != idle) throw_awaited_twice();
    if (f.scope->state == scope::running) {
      waiter = &f;
      settle_in();
      return true;
    }
    park_to_be_stopped(f);
    return false;
  }
  /// The frame does not wait: it stops here.
  void park_to_be_stopped(frame& f) noexcept;
  /// Grants what is waited for. The frame is resumed in its turn, never from here.
  void wake() noexcept;
  /// Still waiting: neither woken nor stopped.
  bool waiting() const noexcept { return state_ == waits || state_ == competes; }
  /// Granted, and the frame has not run yet. A leaf destroyed in this state gives back what it was granted.
  bool granted() const noexcept { return state_ == woken; }
  void consume() noexcept { state_ = idle; }

  /// For race. A class of leaves that may leave its queue at any moment says so with `leaves_at_once`.
  static constexpr bool leaves_at_once = false;
  /// From now on the grant goes to the node that the frame waits for.
  void compete() noexcept {
    if (state_ == waits) state_ = competes;
  }
  void compete_for(frame& f) noexcept {
    waiter = &f;
    state_ = competes;
  }
  void leave() noexcept {
    unlink();
    state_ = idle;
  }

  void stop(stop_mode) noexcept override;
  std::optional<clock::time_point> since() const noexcept override { return state_.since(); }

 protected:
  leaf() = default;
  leaf(leaf&&) noexcept : leaf() {}  // awaitables move until they are awaited; there is no state to take along
  ~leaf() = default;

  /// What the loop does when a leaf of state `calls` gets its turn.
  virtual step on_turn() noexcept { return step::none(); }

  detail::loop& loop_of_waiter() const noexcept { return *waiter->scope->loop; }

  friend class loop;
  static constexpr auto idle = leaf_state::idle, waits = leaf_state::waits, competes = leaf_state::competes,
                        woken = leaf_state::woken, stopped = leaf_state::stopped, calls = leaf_state::calls;
  leaf_state state_;

  /// `waiter` waits from now on.
  void settle_in() noexcept;

 private:
  [[noreturn, gnu::cold, gnu::noinline]] void throw_awaited_twice() const {
    throw std::logic_error(std::string("tandem: two coroutines await the same ") + what() + "; make one for each");
  }
};

/// A leaf that time wakes. Removing and adding cost O(log n) of the loop's timers.
class timer_leaf : public leaf {
 public:
  void stop(stop_mode) noexcept override;
  void leave() noexcept {
    remove_from_timers();
    leaf::leave();
  }

 protected:
  timer_leaf() = default;
  timer_leaf(timer_leaf&&) noexcept : timer_leaf() {}
  ~timer_leaf() { remove_from_timers(); }
  void remove_from_timers() noexcept;

 private:
  friend class loop;
  friend class timer_heap;
  static constexpr std::size_t not_in_heap = std::numeric_limits<std::size_t>::max();
  std::size_t at_ = not_in_heap;
  detail::loop* timers_ = nullptr;
};

/// A leaf that reaches its loop from outside, maybe from another thread: through the inbox (`loop::push`). While it is
/// there it must not be destroyed.
class arrival : public leaf {
 protected:
  arrival() = default;
  arrival(arrival&&) noexcept : arrival() {}
  ~arrival() = default;
  /// Called by the loop, in its turn.
  virtual void arrive() noexcept = 0;

 private:
  friend class loop;
  arrival* next_arrival_ = nullptr;
};

/// Work that belongs to a tree, though no frame of it waits for it: what an `as_completed` that was dropped leaves.
/// It is stopped with the tree, and the tree ends after it.
class stray : public list_node {
 public:
  virtual void stop_stray(stop_mode) noexcept = 0;
  /// Whose children the work is, for reports.
  virtual const wait_node& node_of_stray() const noexcept = 0;

 protected:
  ~stray() = default;
};

/// The top of a task tree. The loop knows every root, and nothing else of a tree.
class root : public arrival {
 public:
  const char* what() const noexcept override { return "root"; }
  std::size_t children() const noexcept override { return 1; }
  frame* child(std::size_t) const noexcept override { return body_; }
  void stop(stop_mode) noexcept override;
  step child_ended(frame&, fate) noexcept override;
  detail::scope& scope() noexcept { return scope_; }

  void adopt(stray& s) noexcept { strays_.push_back(s); }
  /// The first, and the one after `s`; null if there is none.
  const stray* first_stray() const noexcept { return strays_.empty() ? nullptr : &strays_.front(); }
  const stray* next_stray(const stray& s) const noexcept { return strays_.next(s); }
  /// A failure of one, of which nobody else may hear: the tree ends with it.
  void stray_failed(std::exception_ptr e) noexcept { failures_of_strays_.add(std::move(e)); }
  /// One has ended, and left: the tree ends if that was all that it waited for. It does so in a turn of its own: the
  /// thread that waits for it may go on at once, while whoever calls this is not done with what that thread destroys.
  void stray_ended() noexcept;

 protected:
  explicit root(detail::loop& l) noexcept {
    scope_.loop = &l;
    scope_.root = this;
  }
  ~root() { unregister(); }
  /// Registers the tree and queues its start; from any thread.
  void start(frame& body) noexcept;
  /// The tree has ended and its last frame is still there, for its result. May destroy the root.
  virtual void ended(frame& body, fate) noexcept = 0;
  /// The root has queued itself, to be called again after `ended`.
  virtual void on_turn_after_end() noexcept {}
  /// From `ended`, when the result has been moved to `r`, which is empty if the body was stopped: strays that have
  /// failed are how the tree ends, together with a failure of the body.
  template <class Result>
  void join_failures_of_strays(Result& r) const noexcept {
    if (failures_of_strays_.any()) r.set_error(failures_of_strays_.together_with(r.get_error()));
  }

 private:
  friend class loop;
  void arrive() noexcept override;
  step on_turn() noexcept override;
  void end(frame& body, fate) noexcept;
  void unregister() noexcept;
  detail::scope scope_;
  frame* body_ = nullptr;
  frame* ended_body_ = nullptr;  // while strays are still there
  fate ended_how_ = fate::done;
  intrusive_list<stray> strays_;
  failures failures_of_strays_;
  root* next_root_ = nullptr;
  root** previous_root_ = nullptr;
};

/// A group of children is a node of the tree that several stops may reach: see group.hpp.
class stop_target : public leaf {
 protected:
  friend class loop;
  virtual void stop_children() noexcept = 0;
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
