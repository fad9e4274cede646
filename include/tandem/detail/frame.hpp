// tandem/detail/frame.hpp: the await tree: frames, what they wait for, the scopes they live in.
//
// Every suspended frame points at one wait_node: a child task, a group of children, or a leaf (a timer, a queue, an
// Asio operation). A child points back at the node that waits for it. Completion walks up these pointers, stopping
// walks down, printing walks down too: there is no other bookkeeping.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../clock.hpp"
#include "frame_memory.hpp"

#include <bit>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <source_location>
#include <string_view>
#include <type_traits>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/detail/frame.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

class frame;
class holder;
class leaf;
class loop;
class prioritized;
class root;

/// How a frame ended: it ran to its end (a value or an exception is in its promise), or it was stopped and will never
/// be resumed again.
enum class fate : unsigned char { done, stopped };

/// A stop that asks leaves every frame its clean-up; one that abandons destroys frames without resuming any.
enum class stop_mode : unsigned char { ask, abandon };

/// What the frames of one scope share. `gather`, `timeout`, `shield` and their like open a scope for their children.
struct scope {
  detail::loop* loop = nullptr;
  const scope* outer = nullptr;  // whose stop comes down to this one; null for a root and under a shield
  detail::root* root = nullptr;  // of the tree
  clock::time_point deadline = clock::time_point::max();  // the earliest of the time limits around
  prioritized* job = nullptr;  // of a priority_scheduler, that the frames are part of
  enum : unsigned char { running, stopping, abandoned } state = running;

  /// A stop has been asked for here or further out, though it may not have come down yet.
  bool stop_asked() const noexcept {
    for (const scope* s = this; s; s = s->outer)
      if (s->state != running) return true;
    return false;
  }
};

/// What the loop does next: resume `target`, or destroy it because it was stopped, or nothing.
struct step {
  frame* target = nullptr;
  fate how = fate::done;

  static step none() noexcept { return {}; }
  static step resume(frame& f) noexcept { return {&f, fate::done}; }
  static step reap(frame& f) noexcept { return {&f, fate::stopped}; }
};

/// What a suspended frame waits for.
class wait_node {
 public:
  wait_node() = default;
  wait_node(const wait_node&) = delete;
  wait_node& operator=(const wait_node&) = delete;

  frame* waiter = nullptr;

  /// For the await tree: "sleep_for", "gather".
  virtual const char* what() const noexcept = 0;
  /// What the user called the child that this is the owner of, or nothing.
  virtual std::string_view name_of_child() const noexcept { return {}; }
  /// The i-th child, null if it has not started or has ended.
  virtual std::size_t children() const noexcept { return 0; }
  virtual frame* child(std::size_t) const noexcept { return nullptr; }
  /// When a leaf began to wait; nothing for what waits for children.
  virtual std::optional<clock::time_point> since() const noexcept { return std::nullopt; }
  /// Who has what is waited for, the first of them; null if nobody has it, or it is not known.
  virtual const holder* held_by() const noexcept { return nullptr; }
  /// The child that a stop goes straight on to, for nodes that open no scope; this keeps the walk down a loop.
  virtual frame* passes_stop_to() const noexcept { return nullptr; }
  /// Stops what is below. Resumes nothing and destroys nothing: the loop does both later.
  virtual void stop(stop_mode) noexcept = 0;
  /// One of several leaves that the frame waits for at once, in a race, is granted what it waits for.
  virtual void arm_woken(leaf&) noexcept {}
  /// A child ended. Called by the loop, never from inside the child.
  virtual step child_ended(frame&, fate) noexcept { return step::none(); }

 protected:
  ~wait_node() = default;
};

/// clang looks up what __builtin_source_location gives where it is first used, and finds that it is private, unless
/// that is in <source_location> and not in a precompiled header, or in an explicit instantiation, where access is not
/// checked. Repeated in each header that uses it.
template <class>
struct looked_up {};
extern template struct looked_up<decltype(__builtin_source_location())>;

/// The part of a promise that does not depend on the result.
class frame {
 protected:
  // A source_location as the bare pointer that it holds: an argument that is an object would stay in the coroutine's
  // frame, next to the copy of it here, and g++ 13 refuses the default argument source_location::current() where it
  // calls a promise.
  using location_pointer = decltype(__builtin_source_location());
  void is_at(location_pointer here) noexcept { where = std::bit_cast<std::source_location>(here); }

 public:
  union {
    wait_node* owner = nullptr;  // is told when this frame ends
    frame* next_unstarted;       // of those that are to be destroyed without having run
  };
  detail::scope* scope = nullptr;  // set when the frame starts
  wait_node* waits_for = nullptr;  // null while the frame runs, and before it starts
  union {
    std::source_location where{};  // of the latest co_await; before the first one, of the coroutine itself
    frame* next_put_off;         // instead, while `start` says that it is put off
  };
  std::uint32_t index = 0;  // which child of its owner this is

  frame() = default;
  frame(const frame&) = delete;
  frame& operator=(const frame&) = delete;

  static void* operator new(std::size_t size) { return allocate_frame(size); }
  static void operator delete(void* p, std::size_t size) noexcept { deallocate_frame(p, size); }

  /// Every promise of ours begins with its frame and is aligned no more strictly than the two pointers before it, so
  /// that this is the handle of the whole coroutine.
  std::coroutine_handle<> handle() noexcept { return std::coroutine_handle<frame>::from_promise(*this); }
  void destroy() noexcept {
    destroyed_ = true;
    if (failed_) [[unlikely]]
      destroy_failed();
    else
      handle().destroy();
  }
  /// It is being destroyed, and what it waits for maybe as well.
  bool is_going() const noexcept { return destroyed_; }
  /// It was stopped, or an exception left it, or it was left before its end: see `use_failed`.
  void has_failed() noexcept { failed_ = true; }

  std::suspend_always initial_suspend() noexcept { return {}; }
  /// Whoever resumed this frame sees that it is done and tells its owner: nothing runs on the stack of a frame that has
  /// ended, so it can be destroyed at once.
  std::suspend_always final_suspend() noexcept { return {}; }

  template <class A>
  auto await_transform(A&& awaitable, location_pointer here = __builtin_source_location());

  /// Put off because the stack was deep, in a scope that ran, or did not, at that time.
  enum : unsigned char { in_turn, put_off, put_off_stopped } start = in_turn;
  bool known_to_loop = false;  // it has been resumed while the loop was observed

 protected:
  ~frame() = default;
  bool destroyed_ = false;  // that is under way

 private:
  void destroy_failed() noexcept;
  bool failed_ = false;
};

/// How many frames are being destroyed on this thread that have failed. Not inlined: see clock.hpp.
[[gnu::noinline]] inline unsigned& failed_frames() noexcept {
  static constinit thread_local unsigned n = 0;
  return n;
}
[[gnu::cold, gnu::noinline]] inline void frame::destroy_failed() noexcept {
  ++failed_frames();
  handle().destroy();
  --failed_frames();
}
/// For what a frame owns and is being destroyed: because whoever used it has failed, or was stopped?
inline bool use_failed() noexcept { return failed_frames() != 0 || std::uncaught_exceptions() != 0; }

/// Says so to whoever wants to hear of it. Defined with the loop.
void was_never_awaited(frame& f) noexcept;

struct unstarted_frames {
  unsigned depth;
  unsigned not_needed;
  frame* put_off;
  /// Not inlined: see clock.hpp.
  [[gnu::noinline]] static unstarted_frames& of_this_thread() noexcept {
    static constinit thread_local unstarted_frames s{};
    return s;
  }
};

/// While it lives, tasks are destroyed that were handed over and turned out not to be needed: a job that was refused.
class not_needed {
 public:
  not_needed() noexcept { ++unstarted_frames::of_this_thread().not_needed; }
  ~not_needed() { --unstarted_frames::of_this_thread().not_needed; }
  not_needed(const not_needed&) = delete;
  not_needed& operator=(const not_needed&) = delete;
};

/// Destroys a frame that never ran. Its parameters may be tasks that never ran either, and so on; beyond a bounded depth
/// they wait until the outer ones are gone, so that length of such a chain is not depth of the stack.
[[gnu::cold, gnu::noinline]] inline void destroy_unstarted(frame& f) noexcept {
  auto& s = unstarted_frames::of_this_thread();
  constexpr unsigned max_depth = 64;
  if (s.depth == max_depth) {
    f.next_unstarted = std::exchange(s.put_off, &f);
    return;
  }
  ++s.depth;
  f.destroy();
  while (s.depth == 1 && s.put_off) {
    frame& next = *s.put_off;
    s.put_off = next.next_unstarted;
    next.destroy();
  }
  --s.depth;
}

/// The same where nobody has asked for that. Not inlined: destructors of tasks are everywhere, and hardly any has
/// something to destroy.
[[gnu::cold, gnu::noinline]] inline void destroy_never_awaited(frame& f) noexcept {
  const auto& s = unstarted_frames::of_this_thread();
  if (s.depth == 0 && s.not_needed == 0) was_never_awaited(f);  // nor is it a parameter of one
  destroy_unstarted(f);
}

/// An awaiter that suspends through `suspend(frame&)`: what tandem's awaitables are made of. True: the frame waits.
template <class A>
concept suspender = requires(A& a, frame& f) {
  { a.await_ready() } -> std::same_as<bool>;
  { a.suspend(f) } -> std::same_as<bool>;
  a.await_resume();
};

/// Anything with a `make_awaiter() &&` that gives a suspender, such as a task.
template <class A>
concept makes_awaiter = requires(A&& a) {
  { std::forward<A>(a).make_awaiter() } -> suspender;
};

/// The awaiter that the compiler sees. It is trivially destructible, because g++ 12 copies what await_transform returns
/// by reference, and destroys some temporaries of a co_await expression twice.
template <class A>
class awaiter_ref {
 public:
  explicit awaiter_ref(A& a) noexcept : a_(&a) {}
  bool await_ready() noexcept(noexcept(a_->await_ready())) { return a_->await_ready(); }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> h) {
    return a_->suspend(h.promise());
  }
  decltype(auto) await_resume() { return a_->await_resume(); }

 private:
  A* a_;
};

/// The same around an awaiter that await_transform has made.
template <class A>
class awaiter_of {
 public:
  template <class Awaitable>
  explicit awaiter_of(Awaitable&& x) : a_(std::forward<Awaitable>(x).make_awaiter()) {}
  bool await_ready() noexcept(noexcept(a_.await_ready())) { return a_.await_ready(); }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> h) {
    return a_.suspend(h.promise());
  }
  decltype(auto) await_resume() { return a_.await_resume(); }

 private:
  A a_;
};

/// Turns a deferred Asio operation into one of ours; specialised where use_task is defined.
template <class A>
struct from_token {
  static constexpr bool possible = false;
};

template <class A>
concept deferred_operation = from_token<std::remove_cvref_t<A>>::possible;

/// What a coroutine may `co_await`.
template <class A>
concept awaitable = suspender<std::remove_reference_t<A>> || makes_awaiter<A> || deferred_operation<A>;

/// Compilers align coroutine frames as malloc does, and what is awaited is in one, as its result is.
template <class Awaiter>
consteval bool fits_into_a_frame() {
  using result = std::remove_cvref_t<decltype(std::declval<Awaiter&>().await_resume())>;
  if constexpr (!std::is_void_v<result>)
    if (alignof(result) > 2 * sizeof(void*)) return false;
  return alignof(Awaiter) <= 2 * sizeof(void*);
}

template <class A>
auto as_awaiter(A&& a) {
  if constexpr (suspender<std::remove_reference_t<A>> && !makes_awaiter<A>)
    static_assert(fits_into_a_frame<std::remove_reference_t<A>>(),
                  "a coroutine frame cannot hold over-aligned objects: hand over a std::unique_ptr to one");
  if constexpr (makes_awaiter<A>) {
    return awaiter_of<decltype(std::forward<A>(a).make_awaiter())>(std::forward<A>(a));
  } else if constexpr (suspender<std::remove_reference_t<A>>) {
    return awaiter_ref<std::remove_reference_t<A>>(a);
  } else if constexpr (deferred_operation<A>) {
    return from_token<std::remove_cvref_t<A>>::make(std::forward<A>(a));
  } else {
    static_assert(makes_awaiter<std::remove_reference_t<A>> == makes_awaiter<A>,
                  "a task is awaited once, as an rvalue: co_await std::move(t)");
    static_assert(makes_awaiter<std::remove_reference_t<A>>,
                  "a tandem::task awaits tasks, tandem's own awaitables, asio::awaitable and Asio operations "
                  "with use_task; give any other source a completion handler with asio::async_initiate and use_task");
  }
}

template <class A>
auto frame::await_transform(A&& a, location_pointer here) {
  is_at(here);
  return as_awaiter(std::forward<A>(a));
}

/// What `co_await std::declval<A>()` gives.
template <class A>
using await_result_t = decltype(as_awaiter(std::declval<A>()).await_resume());

}  // namespace tandem::inline TANDEM_CONFIG::detail
