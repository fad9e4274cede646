// tandem/race.hpp: the first of several: race.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, task.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "task.hpp"

#include "detail/gcc12.hpp"
#include "detail/group.hpp"
#include "detail/result.hpp"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/race.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// What `race` gives: which arm was first, and its value. An arm of void has a `std::monostate`, one of T& a
/// `std::reference_wrapper<T>`.
template <class... Ts>
class race_result;

/// Asks `race` for the first value instead of the first ending.
struct first_successful_t {};
inline constexpr first_successful_t first_successful{};

/// `auto first = co_await race(from_cache(), from_network())`: whichever ends first decides; the others are stopped.
///
/// The arms start in order, each running until it first waits; once one has ended no further one starts. The awaiter
/// goes on when the others have ended too. An arm that is one of tandem's own waits (`sleep_for`, a handle, `next`, the
/// `pop`, `acquire`, `wait` of primitives), not wrapped in a task, decides at the moment when it is granted, and the
/// others like it leave their queues in the same call: of `race(q1.pop(), q2.pop())` exactly one takes effect. A task
/// that was asked to stop may still produce a value; it goes to `on_discard`, if that was given, and is dropped
/// otherwise.
///
/// If what decides is a failure, it is thrown as it is; if more arms fail while they are being stopped, all of them in
/// an `exception_group`, and a value that had decided is discarded too. With `first_successful` failures do not decide:
/// if every arm fails, they are thrown, several in an `exception_group`; if an arm has a value, they are dropped, those
/// of clean-ups too. A stop reaches every arm; a value that an arm has all the same is returned. It wins over failures
/// that did not decide; one that comes after it, in a clean-up, is thrown. Allocates nothing beyond one frame for an arm
/// that is neither a task nor a wait.
template <class... Arms>
requires(sizeof...(Arms) == 0 || !std::is_same_v<std::tuple_element_t<0, std::tuple<std::decay_t<Arms>..., void>>,
                                                 first_successful_t>) auto race(Arms&&... arms);
template <class... Arms>
auto race(first_successful_t, Arms&&... arms);

/// The same for any number of tasks of one type. Throws std::invalid_argument for none, and for an empty task.
template <class T>
auto race(std::vector<task<T>>&& arms);
template <class T>
auto race(first_successful_t, std::vector<task<T>>&& arms);

// `co_await race(...).on_discard(f)`: calls `f(value)` for each value that came too late, so that a connection can go
// back to its pool. If f throws, that is thrown from the co_await. On g++ 12 f must not be a temporary that owns its
// captures.

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

template <class T, class... Ts>
inline constexpr bool all_same = (std::is_same_v<T, Ts> && ...);

}  // namespace detail

template <class... Ts>
class race_result {
 public:
  /// Counted from 0.
  std::size_t index() const noexcept { return value_.index(); }
  /// The value of the arm I; throws std::bad_variant_access if another one was first.
  template <std::size_t I>
  auto& get() {
    return std::get<I>(value_);
  }
  template <std::size_t I>
  const auto& get() const {
    return std::get<I>(value_);
  }

  /// Made by the library.
  template <std::size_t I, class V>
  race_result(std::in_place_index_t<I> at, V&& value) : value_(at, std::forward<V>(value)) {}

 private:
  std::variant<detail::stored_t<Ts>...> value_;
};

/// Of arms of one type.
template <class T, class... Same>
requires detail::all_same<T, Same...>
class race_result<T, Same...> {
 public:
  std::size_t index() const noexcept { return index_; }
  detail::stored_t<T>& value() & noexcept { return value_; }
  const detail::stored_t<T>& value() const& noexcept { return value_; }
  detail::stored_t<T>&& value() && noexcept { return std::move(value_); }
  template <std::size_t I>
  detail::stored_t<T>& get() {
    if (index_ != I) throw std::bad_variant_access();
    return value_;
  }
  template <std::size_t I>
  const detail::stored_t<T>& get() const {
    if (index_ != I) throw std::bad_variant_access();
    return value_;
  }

  /// Made by the library.
  template <class V>
  race_result(std::size_t index, V&& value) : index_(index), value_(std::forward<V>(value)) {}

 private:
  std::size_t index_;
  detail::stored_t<T> value_;
};

namespace detail {

/// What races of a tuple and of a vector have in common.
class racing : public group {
 public:
  const char* what() const noexcept override { return "race"; }

  void stop(stop_mode m) noexcept override {
    if (!waiting() && m == stop_mode::ask) return;
    // With no task left there is nobody to tell, and a walk that is under way must not note what is queued here.
    if (!leaves_wait_ || !let_leaves_go()) return set_stopping(m);
    state_ = stopped;
    scope_.loop->queue(*this);
  }

 protected:
  explicit racing(bool first_value_decides) noexcept : first_value_decides_(first_value_decides) {}
  racing(racing&& o) noexcept : group(std::move(o)), first_value_decides_(o.first_value_decides_) {}
  ~racing() = default;

  bool decided() const noexcept { return winner_ != none; }
  std::size_t winner() const noexcept { return winner_; }
  bool first_value_decides() const noexcept { return first_value_decides_; }
  bool no_more() const noexcept { return decided() || stop_came(); }

  /// An arm has ended; the leaves among the others leave their queues, the tasks are asked to stop.
  void decide(std::size_t arm) noexcept {
    winner_ = arm;
    if (first_value_decides_) failures_ = {};
    if (leaves_wait_) let_leaves_go();
    set_stopping(stop_mode::ask);
  }
  /// A leaf among the arms waits. All that do count as one.
  void leaf_waits(leaf& l) noexcept {
    waiter->waits_for = this;
    l.compete();
    if (!std::exchange(leaves_wait_, true)) hold();
  }
  /// `arm`, a leaf, is granted.
  void leaf_decides(std::size_t arm) noexcept {
    winner_ = arm;
    if (!let_leaves_go()) return set_stopping(stop_mode::ask);
    state_ = woken;
    scope_.loop->queue(*this);
  }
  /// Takes the leaves that still wait out of their queues.
  virtual void withdraw_leaves() noexcept {}

  /// A task has ended, with what is moved to `mine`. True if that is a value that came too late.
  template <class T>
  bool settle(result<T>& mine, frame& child, fate how) noexcept {
    const std::size_t arm = child.index;
    if (how == fate::done) mine.take_from(static_cast<promise<T>&>(child).result);
    child.destroy();
    if (mine.has_value() && decided()) return true;
    if (mine.has_error() && !(first_value_decides_ && decided())) {
      heed_stop();
      failures_.add(mine.get_error());
    }
    if (!decided() && (mine.has_value() || (mine.has_error() && !first_value_decides_))) decide(arm);
    return false;
  }
  void fail(std::size_t arm, std::exception_ptr e) noexcept {
    failures_.add(std::move(e));
    if (!first_value_decides_) decide(arm);
  }
  template <class Discard, class T>
  void discard(Discard& f, result<T>& late) noexcept {
    if constexpr (!std::is_same_v<Discard, std::nullptr_t> && !std::is_void_v<T>) try {
        f(late.take());
      } catch (...) {
        failures_.add(std::current_exception());
      }
  }
  bool any_failed() const noexcept { return failures_.any(); }
  /// `first`: that of a leaf that decided, or null.
  [[noreturn]] void rethrow(const std::exception_ptr& first = nullptr) const {
    if (first) std::rethrow_exception(failures_.together_with(first));
    failures_.rethrow();
  }
  bool goes_on() noexcept override {
    heed_stop();
    return decided() || failures_.any();
  }

 private:
  /// Once a stop came, failures before it no longer count: they did not decide.
  void heed_stop() noexcept {
    if (stop_heeded_ || decided() || !stop_came()) return;
    stop_heeded_ = true;
    failures_ = {};
  }
  bool let_leaves_go() noexcept {
    leaves_wait_ = false;
    withdraw_leaves();
    return let_go();
  }

  static constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
  std::size_t winner_ = none;
  bool first_value_decides_;
  bool leaves_wait_ = false;
  bool stop_heeded_ = false;
  failures failures_;
};

[[noreturn, gnu::cold]] inline void throw_empty_arm(std::size_t i) {
  throw std::invalid_argument("tandem::race: task " + std::to_string(i) +
                              " is empty: it was moved from, or awaited before");
}

/// An arm that is a leaf is awaited as it is; anything else as a task.
template <class A>
concept leaf_arm = suspender<A> && A::leaves_at_once;
/// Such as a task_handle.
template <class A>
concept gives_leaf_arm = makes_awaiter<A> && leaf_arm<decltype(std::declval<A>().make_awaiter())>;
/// Such as an `acquire`, which becomes a leaf only if it has to wait.
template <class A>
concept becomes_leaf_arm = requires(A&& a) {
  { std::forward<A>(a).as_leaf() } -> leaf_arm;
};

template <class A>
struct race_arm {
  using T = typename decltype(to_task(std::declval<A>()))::value_type;
  static constexpr bool is_leaf = false;
  task<T> body;  // empty once it has ended
  result<T> mine;

  explicit race_arm(A&& a) : body(to_task(std::move(a))) {}
  race_arm(race_arm&& o) noexcept : body(std::move(o.body)) {}
};
template <leaf_arm A>
struct race_arm<A> {
  using T = await_result_t<A>;
  static constexpr bool is_leaf = true;
  A body;

  explicit race_arm(A&& a) : body(std::move(a)) {}
};

template <class Discard, class Indices, class... Arms>
class race_tuple;
template <class Discard, std::size_t... I, class... Arms>
class race_tuple<Discard, std::index_sequence<I...>, Arms...> final : public racing {
 public:
  using value_type = race_result<typename Arms::T...>;

  race_tuple(bool first_value_decides, Discard discard, Arms&&... arms)
      : racing(first_value_decides), arms_(std::move(arms)...), discard_(std::move(discard)) {
    (check<I>(), ...);
  }
  race_tuple(race_tuple&& o) : racing(std::move(o)), arms_(std::move(o.arms_)), discard_(std::move(o.discard_)) {}
  ~race_tuple() {
    if (was_awaited()) (destroy<I>(), ...);
  }

  template <class F>
  auto on_discard(F&& f) && {
    refuse_what_gcc12_miscompiles<F>();
    return race_tuple<std::decay_t<F>, std::index_sequence<I...>, Arms...>(first_value_decides(), std::forward<F>(f),
                                                                           std::move(std::get<I>(arms_))...);
  }

  std::size_t children() const noexcept override { return sizeof...(Arms); }
  frame* child(std::size_t i) const noexcept override {
    frame* f = nullptr;
    ((i == I ? void(f = child_of<I>()) : void()), ...);
    return f;
  }

  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    begin(f);
    (start<I>(f), ...);
    if (end()) return true;
    f.waits_for = nullptr;
    return false;
  }
  value_type await_resume() {
    consume();
    if (!any_failed()) return value_from<0>();
    (discard_value_of<I>(), ...);
    std::exception_ptr first;
    ((winner() == I ? void(first = failure_of_leaf<I>()) : void()), ...);
    rethrow(first);
  }

 private:
  template <std::size_t J>
  using arm = std::tuple_element_t<J, std::tuple<Arms...>>;

  template <std::size_t J>
  void check() const {
    if constexpr (!arm<J>::is_leaf)
      if (!std::get<J>(arms_).body) throw_empty_arm(J);
  }
  template <std::size_t J>
  frame* child_of() const noexcept {
    if constexpr (!arm<J>::is_leaf)
      if (frame* c = std::get<J>(arms_).body.get(); c && c->scope) return c;
    return nullptr;
  }
  template <std::size_t J>
  void destroy() noexcept {
    if constexpr (!arm<J>::is_leaf)
      if (frame* c = std::get<J>(arms_).body.release()) c->scope ? c->destroy() : destroy_unstarted(*c);
  }
  template <std::size_t J>
  void start(frame& f) noexcept {
    auto& a = std::get<J>(arms_);
    if (decided()) return;
    if constexpr (arm<J>::is_leaf) try {
        if (a.body.await_ready()) return decide(J);
        if (stop_came() || f.scope->state != detail::scope::running) return;
        const bool is_parked = a.body.suspend(f);
        // A user's function that ran in there may have granted another arm, or stopped this race.
        if (decided() || (is_parked && !a.body.waiting() && !a.body.granted()))
          return a.body.waiting() ? a.body.leave() : a.body.unlink();
        if (!is_parked) return decide(J);
        if (a.body.granted()) return a.body.unlink(), decide(J);  // by itself: refused for want of memory
        leaf_waits(a.body);
      } catch (...) {
        fail(J, std::current_exception());
      }
    else if (!stop_came() && launch(*a.body.get(), J))
      take(*a.body.get(), fate::done);
  }
  void take(frame& child, fate how) noexcept override {
    const std::size_t i = child.index;
    ((i == I ? take_arm<I>(child, how) : void()), ...);
  }
  template <std::size_t J>
  void take_arm(frame& child, fate how) noexcept {
    if constexpr (!arm<J>::is_leaf) {
      auto& a = std::get<J>(arms_);
      a.body.release();
      if (settle(a.mine, child, how)) discard(discard_, a.mine);
    }
  }
  void arm_woken(leaf& l) noexcept override { (is_leaf<I>(l) || ...); }
  template <std::size_t J>
  bool is_leaf(leaf& l) noexcept {
    if constexpr (arm<J>::is_leaf)
      if (&l == &std::get<J>(arms_).body) return leaf_decides(J), true;
    return false;
  }
  void withdraw_leaves() noexcept override { (withdraw<I>(), ...); }
  template <std::size_t J>
  void withdraw() noexcept {
    if constexpr (arm<J>::is_leaf)
      if (auto& l = std::get<J>(arms_).body; l.waiting()) l.leave();
  }
  template <std::size_t J>
  void discard_value_of() noexcept {
    if constexpr (!arm<J>::is_leaf)
      if (auto& a = std::get<J>(arms_); winner() == J && a.mine.has_value()) discard(discard_, a.mine);
  }
  /// Of a class of leaves that says so with `failure`. What else was granted is given back with the leaf.
  template <std::size_t J>
  std::exception_ptr failure_of_leaf() const noexcept {
    if constexpr (requires { std::get<J>(arms_).body.failure(); })
      return std::get<J>(arms_).body.failure();
    else
      return nullptr;
  }
  /// Of the winner, which is `J` or one after it.
  template <std::size_t J>
  value_type value_from() {
    if constexpr (J + 1 != sizeof...(Arms))
      if (winner() != J) return value_from<J + 1>();
    auto& a = std::get<J>(arms_);
    if constexpr (!arm<J>::is_leaf) {
      return make<J>(std::move(a.mine.get_value()));
    } else if constexpr (std::is_void_v<typename arm<J>::T>) {
      a.body.await_resume();
      return make<J>(std::monostate());
    } else {
      return make<J>(a.body.await_resume());
    }
  }
  template <std::size_t J, class V>
  static value_type make(V&& v) {
    if constexpr (all_same<typename Arms::T...>)
      return value_type(J, std::forward<V>(v));
    else
      return value_type(std::in_place_index<J>, std::forward<V>(v));
  }

  std::tuple<Arms...> arms_;
  [[no_unique_address]] Discard discard_;
};

template <class Discard, class T>
class race_vector final : public racing {
 public:
  using value_type = race_result<T>;

  race_vector(bool first_value_decides, Discard discard, std::vector<task<T>>&& arms)
      : racing(first_value_decides), arms_(std::move(arms)), discard_(std::move(discard)) {
    if (arms_.empty()) throw std::invalid_argument("tandem::race: there are no tasks, so none can be first");
    if (arms_.size() > std::numeric_limits<std::uint32_t>::max())
      throw std::invalid_argument("tandem::race: " + std::to_string(arms_.size()) + " tasks are more than 2^32 - 1");
    for (std::size_t i = 0; i != arms_.size(); ++i)
      if (!arms_[i]) throw_empty_arm(i);
  }
  race_vector(race_vector&& o) : racing(std::move(o)), arms_(std::move(o.arms_)), discard_(std::move(o.discard_)) {}
  ~race_vector() {
    if (was_awaited())
      for (auto& a : arms_)
        if (frame* c = a.release()) c->scope ? c->destroy() : destroy_unstarted(*c);
  }

  template <class F>
  auto on_discard(F&& f) && {
    refuse_what_gcc12_miscompiles<F>();
    return race_vector<std::decay_t<F>, T>(first_value_decides(), std::forward<F>(f), std::move(arms_));
  }

  std::size_t children() const noexcept override { return arms_.size(); }
  frame* child(std::size_t i) const noexcept override {
    frame* c = arms_[i].get();
    return c && c->scope ? c : nullptr;
  }
  step child_ended(frame& child, fate how) noexcept override {
    take(child, how);  // of this class: not through the table of virtual functions
    return one_less();
  }

  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    begin(f);
    for (std::size_t i = 0; i != arms_.size() && !no_more(); ++i) {
      frame& child = *arms_[i].get();
      if (launch(child, i)) take(child, fate::done);
    }
    return end();
  }
  value_type await_resume() {
    consume();
    if (any_failed()) {
      if (first_.has_value()) discard(discard_, first_);
      rethrow();
    }
    return value_type(winner(), std::move(first_.get_value()));
  }

 private:
  void take(frame& child, fate how) noexcept override {
    arms_[child.index].release();
    if (how == fate::stopped) return child.destroy();
    const bool was_decided = decided();
    result<T> mine;
    if (settle(mine, child, how))
      discard(discard_, mine);
    else if (!was_decided && mine.has_value())
      keep(mine);
  }
  /// A move constructor that throws is how the race ends.
  void keep(result<T>& mine) noexcept {
    first_.take_from(mine);
    if (first_.has_error()) this->fail(this->winner(), first_.get_error());
  }

  void stop_children() noexcept override {
    const stop_mode m = this->scope_.state == detail::scope::abandoned ? stop_mode::abandon : stop_mode::ask;
    for (auto& a : arms_)
      if (frame* c = a.get(); c && c->scope) detail::loop::stop_below(*c, m);
  }

  std::vector<task<T>> arms_;  // each is empty once it has ended
  result<T> first_;
  [[no_unique_address]] Discard discard_;
};

template <class... Arms>
auto make_race(bool first_value_decides, Arms&&... arms) {
  static_assert(sizeof...(Arms) != 0, "race needs at least one awaitable: of none, none can be first");
  if constexpr (sizeof...(Arms) != 0)
    return race_tuple<std::nullptr_t, std::index_sequence_for<Arms...>, Arms...>(first_value_decides, nullptr,
                                                                                 std::move(arms)...);
}
/// As a leaf where it is one. For the first value, what a leaf gives must be known when it decides: so as a task.
template <bool Leaves, class A>
auto make_arm(A&& a) {
  if constexpr (Leaves && leaf_arm<A>)
    return race_arm<A>(std::move(a));
  else if constexpr (Leaves && gives_leaf_arm<A>)
    return race_arm<decltype(std::forward<A>(a).make_awaiter())>(std::forward<A>(a).make_awaiter());
  else if constexpr (Leaves && becomes_leaf_arm<A>)
    return race_arm<decltype(std::move(a).as_leaf())>(std::move(a).as_leaf());
  else
    return race_arm<decltype(to_task(std::forward<A>(a)))>(to_task(std::forward<A>(a)));
}

}  // namespace detail

template <class... Arms>
requires(sizeof...(Arms) == 0 || !std::is_same_v<std::tuple_element_t<0, std::tuple<std::decay_t<Arms>..., void>>,
                                                 first_successful_t>) auto race(Arms&&... arms) {
  return detail::make_race(false, detail::make_arm<true>(std::forward<Arms>(arms))...);
}
template <class... Arms>
auto race(first_successful_t, Arms&&... arms) {
  return detail::make_race(true, detail::make_arm<false>(std::forward<Arms>(arms))...);
}
template <class T>
auto race(std::vector<task<T>>&& arms) {
  return detail::race_vector<std::nullptr_t, T>(false, nullptr, std::move(arms));
}
template <class T>
auto race(first_successful_t, std::vector<task<T>>&& arms) {
  return detail::race_vector<std::nullptr_t, T>(true, nullptr, std::move(arms));
}
template <class T>
void race(std::vector<task<T>>&) {
  static_assert(!std::is_same_v<T, T>, "an awaitable is handed over as an rvalue: write std::move(x)");
}

}  // namespace tandem::inline TANDEM_CONFIG
