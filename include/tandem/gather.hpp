// tandem/gather.hpp: many at once: gather, transform, for_each; with outcome.hpp, how one of them ended.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, outcome.hpp, progress.hpp, task.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "exceptions.hpp"
#include "outcome.hpp"
#include "progress.hpp"
#include "task.hpp"

#include "detail/gcc12.hpp"
#include "detail/group.hpp"
#include "detail/result.hpp"

#include <array>
#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>  // std::invoke
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/gather.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// Asks `gather` for an `outcome` of each child instead of stopping at the first failure.
struct return_exceptions_t {};
inline constexpr return_exceptions_t return_exceptions{};

namespace detail {
template <class A>
concept to_gather = !std::same_as<std::remove_cvref_t<A>, return_exceptions_t> &&
                    !std::same_as<std::remove_cvref_t<A>, observed_by>;
}

/// `auto [a, b] = co_await gather(f(), g())`: all at once; a tuple of the results, void as `std::monostate`.
///
/// The awaitables start in order, each running until it first waits, and the awaiter goes on when the last has ended.
/// The first failure stops the others; when they have ended it is thrown as it is, or, if more of them failed meanwhile
/// (in a clean-up), as part of an `exception_group`. A stop reaches every child; children that have not started yet
/// never do. A child's frame is destroyed as soon as it has ended. Allocates nothing, beyond one frame for an awaitable
/// that is not a task. Unlike asyncio's, no child goes on after a failure.
template <class... Awaitables>
requires(detail::to_gather<Awaitables>&&...) auto gather(Awaitables&&... awaitables);

/// The same for any number of tasks of one type: a vector of the results in the order of the tasks; `vector<task<>>`
/// gives void. None: completes at once. At most two allocations for the results. Throws std::invalid_argument for an
/// empty task.
template <class T>
auto gather(std::vector<task<T>>&& tasks);

/// The same, but a failure stops nothing: a tuple of `outcome`s.
template <class... Awaitables>
auto gather(return_exceptions_t, Awaitables&&... awaitables);

/// The same, but a failure stops nothing: a vector of `outcome`s.
template <class T>
auto gather(return_exceptions_t, std::vector<task<T>>&& tasks);

/// Each of these with an observer, which is told what the children do: `co_await gather(observed_by(bar), f(), g())`,
/// `co_await gather(observed_by(bar), return_exceptions, std::move(tasks))`. What is not observed does not pay for it.
template <class... Awaitables>
requires(detail::to_gather<Awaitables>&&...) auto gather(observed_by observer, Awaitables&&... awaitables);
template <class T>
auto gather(observed_by observer, std::vector<task<T>>&& tasks);
template <class... Awaitables>
auto gather(observed_by observer, return_exceptions_t, Awaitables&&... awaitables);
template <class T>
auto gather(observed_by observer, return_exceptions_t, std::vector<task<T>>&& tasks);

/// Options of `transform` and `for_each`.
struct fan_out {
  /// How many may be under way at a time; at least 1.
  std::size_t limit = 16;
};

/// `co_await transform(ids, fetch, {.limit = 8})`: a vector of what `fetch(id)` gives for each, in the order of the
/// range, at most `limit` (16 if left out) under way at a time.
///
/// Elements are pulled one at a time, as places become free. Failures and stops as in `gather`; then no further element
/// is pulled. An rvalue range and the callable are kept until the end. Throws std::invalid_argument for a limit of
/// zero. On g++ 12 neither may be a temporary that owns its captures or, an aggregate, its members.
template <class Range, class Function>
auto transform(Range&& range, Function&& function, fan_out options = {});

/// The same, but a failure stops nothing: a vector of `outcome`s.
template <class Range, class Function>
auto transform(return_exceptions_t, Range&& range, Function&& function, fan_out options = {});

/// `transform` that drops what the function gives.
template <class Range, class Function>
auto for_each(Range&& range, Function&& function, fan_out options = {});

/// Each of these with an observer: `co_await transform(observed_by(bar), ids, fetch, {.limit = 8})`. The total is the
/// size of the range if that knows it; if not, it is told when the last element has been pulled. A function that throws
/// instead of returning an awaitable is a child that failed.
template <class Range, class Function>
auto transform(observed_by observer, Range&& range, Function&& function, fan_out options = {});
template <class Range, class Function>
auto transform(observed_by observer, return_exceptions_t, Range&& range, Function&& function, fan_out options = {});
template <class Range, class Function>
auto for_each(observed_by observer, Range&& range, Function&& function, fan_out options = {});

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// What the three have in common: the first failure stops the rest, unless outcomes were asked for.
class gathering : public group {
 protected:
  explicit gathering(bool keep_going) noexcept : keep_going_(keep_going) {}
  gathering(gathering&& o) noexcept : group(std::move(o)), keep_going_(o.keep_going_) {}
  ~gathering() = default;

  template <class T>
  void settle(result<T>& r, frame& child, fate how) noexcept {
    if (how == fate::done)
      r.take_from(static_cast<promise<T>&>(child).result);
    else
      some_stopped_ = true;
    child.destroy();
    if (r.has_error()) child_failed(r.get_error());
  }
  template <class T, class Place>
  void settle_in_place(Place&& place, frame& child, fate how) noexcept {
    auto& r = static_cast<promise<T>&>(child).result;
    if (how == fate::done && r.has_value()) {
      place = r.get_value();
      return child.destroy();
    }
    std::exception_ptr e;
    if (how == fate::done)
      e = r.get_error();
    else
      some_stopped_ = true;
    child.destroy();
    if (e) child_failed(std::move(e));
  }
  /// The same, and tells how the child has ended.
  template <class T, class Observer>
  void settle(result<T>& r, frame& child, fate how, std::size_t number, Observer& observer) noexcept {
    settle(r, child, how);
    observer.end(number, how == fate::stopped, r.has_error());
  }
  template <class T, class Place, class Observer>
  void settle_in_place(Place&& place, frame& child, fate how, std::size_t number, Observer& observer) noexcept {
    const bool has_failed = static_cast<promise<T>&>(child).result.has_error();
    settle_in_place<T>(place, child, how);
    observer.end(number, how == fate::stopped, has_failed);
  }
  [[gnu::cold, gnu::noinline]] void child_failed(std::exception_ptr e) noexcept {
    if (!keep_going_)
      fail(std::move(e));
    else if (scope_.state != detail::scope::running)
      failures_.add(std::move(e));  // of a clean-up: thrown if there will be no outcomes because of the stop
  }
  void fail(std::exception_ptr e) noexcept {
    failures_.add(std::move(e));
    failed_ = true;
    set_stopping(stop_mode::ask);
  }
  void rethrow_failure() const {
    if (failed_ || (some_stopped_ && failures_.any())) failures_.rethrow();
  }
  /// With the frame that waits, while the child has not ended.
  template <class Observer>
  static void destroy(frame& child, std::size_t number, Observer& observer) noexcept {
    child.destroy();
    if (observer.has_begun()) observer.end(number, progress_ending::stopped);
  }
  /// May no further child start? Those that have not are never going to.
  bool no_more() const noexcept { return failed_ || some_stopped_ || stop_came(); }
  void not_started() noexcept { some_stopped_ = true; }
  bool goes_on() noexcept override { return !some_stopped_ || failures_.any(); }

 private:
  failures failures_;
  bool keep_going_;
  bool failed_ = false;
  bool some_stopped_ = false;
};

template <bool KeepGoing, class T, class Observer>
class gather_vector final : public gathering {
 public:
  using value_type =
      std::conditional_t<KeepGoing, std::vector<outcome<T>>,
                         std::conditional_t<std::is_void_v<T>, void,
                                            std::vector<std::conditional_t<std::is_void_v<T>, int, stored_t<T>>>>>;

  explicit gather_vector(std::vector<task<T>>&& tasks, Observer observer)
      : gathering(KeepGoing), tasks_(std::move(tasks)), observer_(observer) {
    if (tasks_.size() > std::numeric_limits<std::uint32_t>::max())
      throw std::invalid_argument("tandem::gather: " + std::to_string(tasks_.size()) + " tasks are more than 2^32 - 1");
    for (std::size_t i = 0; i != tasks_.size(); ++i)
      if (!tasks_[i])
        throw std::invalid_argument("tandem::gather: task " + std::to_string(i) + " of " +
                                    std::to_string(tasks_.size()) + " is empty: it was moved from, or awaited before");
  }
  gather_vector(gather_vector&& o) noexcept
      : gathering(std::move(o)), tasks_(std::move(o.tasks_)), observer_(o.observer_) {}
  ~gather_vector() {
    if (has_children())
      for (std::size_t i = 0; i != tasks_.size(); ++i)
        if (frame* c = tasks_[i].release()) destroy(*c, i, observer_);
    observer_.finish();
  }

  const char* what() const noexcept override { return "gather"; }
  std::size_t children() const noexcept override { return tasks_.size(); }
  frame* child(std::size_t i) const noexcept override { return tasks_[i].get(); }

  step child_ended(frame& child, fate how) noexcept override {
    take(child, how);  // of this class: not through the table of virtual functions
    return one_less();
  }

  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    begin(f);
    results_.resize(tasks_.size());
    observer_.begin(tasks_.size());
    for (std::size_t i = 0; i != tasks_.size(); ++i) {
      if (no_more()) {
        for (std::size_t k = i; k != tasks_.size(); ++k) destroy_unstarted(*tasks_[k].release());
        tasks_.resize(i);
        not_started();
        break;
      }
      frame& child = *tasks_[i].get();
      observer_.start(i);
      if (launch(child, i)) take(child, fate::done);
    }
    return end();
  }
  value_type await_resume() {
    consume();
    rethrow_failure();
    if constexpr (std::is_void_v<value_type>) {
      return;
    } else if constexpr (in_place) {
      return std::move(results_);
    } else {
      value_type out;
      out.reserve(results_.size());
      for (auto& r : results_) {
        if constexpr (KeepGoing)
          out.emplace_back(std::move(r));
        else
          out.push_back(std::move(r.get_value()));
      }
      return out;
    }
  }

 private:
  /// Numbers and their like go straight into the vector that is returned.
  static constexpr bool in_place = !KeepGoing && std::is_trivially_default_constructible_v<stored_t<T>> &&
                                   std::is_trivially_copyable_v<stored_t<T>>;

  void take(frame& child, fate how) noexcept override {
    const std::size_t i = child.index;
    tasks_[i].release();
    if constexpr (in_place && Observer::tells)
      settle_in_place<T>(results_[i], child, how, i, observer_);
    else if constexpr (in_place)
      settle_in_place<T>(results_[i], child, how);
    else if constexpr (Observer::tells)
      settle(results_[i], child, how, i, observer_);
    else
      settle(results_[i], child, how);
  }
  bool goes_on() noexcept override {
    observer_.finish();
    return gathering::goes_on();
  }
  std::vector<task<T>> tasks_;  // each is empty once it has ended
  std::vector<std::conditional_t<in_place, stored_t<T>, detail::result<T>>> results_;
  [[no_unique_address]] Observer observer_;
};

template <bool KeepGoing, class Observer, class... Ts>
class gather_tuple final : public gathering {
 public:
  template <class T>
  using item = std::conditional_t<KeepGoing, outcome<T>, stored_t<T>>;
  using value_type = std::tuple<item<Ts>...>;

  explicit gather_tuple(Observer observer, task<Ts>... tasks) : gathering(KeepGoing), observer_(observer) {
    (check(static_cast<bool>(tasks)), ...);
    children_ = {tasks.release()...};
  }
  gather_tuple(gather_tuple&& o) noexcept
      : gathering(std::move(o)), children_(std::exchange(o.children_, {})), observer_(o.observer_) {}
  ~gather_tuple() {
    for (std::size_t i = 0; i != sizeof...(Ts); ++i)
      if (frame* c = children_[i]) {
        if (has_children())
          destroy(*c, i, observer_);
        else
          was_awaited() ? destroy_unstarted(*c) : destroy_never_awaited(*c);
      }
    observer_.finish();
  }

  const char* what() const noexcept override { return "gather"; }
  std::size_t children() const noexcept override { return sizeof...(Ts); }
  frame* child(std::size_t i) const noexcept override { return children_[i]; }

  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    begin(f);
    observer_.begin(sizeof...(Ts));
    for (std::size_t i = 0; i != sizeof...(Ts); ++i) {
      frame*& c = children_[i];
      if (no_more()) {
        destroy_unstarted(*std::exchange(c, nullptr));
        not_started();
        continue;
      }
      observer_.start(i);
      if (launch(*c, i)) take(*c, fate::done);
    }
    return end();
  }
  value_type await_resume() {
    consume();
    rethrow_failure();
    return results(std::index_sequence_for<Ts...>());
  }

 private:
  static void check(bool full) {
    if (!full)
      throw std::invalid_argument("tandem::gather: one of the tasks is empty: it was moved from, or awaited before");
  }
  template <std::size_t... I>
  value_type results(std::index_sequence<I...>) {
    return value_type(result_of<I>()...);
  }
  template <std::size_t I>
  auto result_of() {
    auto& r = std::get<I>(results_);
    if constexpr (KeepGoing)
      return std::tuple_element_t<I, value_type>(std::move(r));
    else
      return std::move(r.get_value());
  }

  void take(frame& child, fate how) noexcept override { take(child, how, std::index_sequence_for<Ts...>()); }
  template <std::size_t... I>
  void take(frame& child, [[maybe_unused]] fate how, std::index_sequence<I...>) noexcept {
    const std::size_t i = child.index;
    children_[i] = nullptr;
    if constexpr (Observer::tells)
      ((i == I ? settle(std::get<I>(results_), child, how, i, observer_) : void()), ...);
    else
      ((i == I ? settle(std::get<I>(results_), child, how) : void()), ...);
  }
  bool goes_on() noexcept override {
    observer_.finish();
    return gathering::goes_on();
  }

  std::array<frame*, sizeof...(Ts)> children_{};  // not started before the co_await; each is null once it has ended
  std::tuple<detail::result<Ts>...> results_;
  [[no_unique_address]] Observer observer_;
};

/// `transform`, and `for_each`, which keeps nothing. At most `limit` places; whoever ends frees one, which pulls the
/// next element.
enum class keep { nothing, values, outcomes };

template <keep Keep, class Range, class Function, class T, class Observer>
class fan_out_awaitable final : public gathering {
  template <keep K, class = void>
  struct kept {
    using type = void;
  };
  template <class X>
  struct kept<keep::values, X> {
    using type = std::vector<stored_t<T>>;
  };
  template <class X>
  struct kept<keep::outcomes, X> {
    using type = std::vector<outcome<T>>;
  };
  static constexpr bool has_results = Keep != keep::nothing;

 public:
  using value_type = typename kept<Keep>::type;

  template <class R, class F>
  fan_out_awaitable(R&& range, F&& function, std::size_t limit, Observer observer)
      : gathering(Keep == keep::outcomes),
        range_(std::forward<R>(range)),
        function_(std::forward<F>(function)),
        limit_(limit),
        observer_(observer) {}
  fan_out_awaitable(fan_out_awaitable&& o)
      : gathering(std::move(o)),
        range_(std::forward<Range>(o.range_)),
        function_(std::move(o.function_)),
        limit_(o.limit_),
        observer_(o.observer_) {}
  ~fan_out_awaitable() {
    for (auto& p : places_)
      if (p.child) destroy(*p.child, p.number, observer_);
    observer_.finish();
  }

  const char* what() const noexcept override { return has_results ? "transform" : "for_each"; }
  std::size_t children() const noexcept override { return places_.size(); }
  frame* child(std::size_t i) const noexcept override { return places_[i].child; }

  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    begin(f);
    next_.emplace(begin_of(range_));
    end_.emplace(end_of(range_));
    if constexpr (Observer::tells) observer_.begin(size_if_known());
    fill();
    return end();
  }
  value_type await_resume() {
    consume();
    rethrow_failure();
    if constexpr (has_results) {
      value_type out;
      out.reserve(results_.size());
      for (auto& r : results_) {
        if constexpr (Keep == keep::outcomes)
          out.emplace_back(std::move(r));
        else
          out.push_back(std::move(r.get_value()));
      }
      return out;
    }
  }

 private:
  static auto begin_of(std::remove_reference_t<Range>& r) {
    using std::begin;
    return begin(r);
  }
  static auto end_of(std::remove_reference_t<Range>& r) {
    using std::end;
    return end(r);
  }
  struct place {
    frame* child = nullptr;
    std::size_t number = 0;  // of the element, for its result; of the next free place while it is free
  };

  /// Starts children until every place is taken or nothing is left to start. Called again from within (a child that
  /// ends at once), it leaves the work to the call that is under way.
  void fill() noexcept {
    if (std::exchange(filling_, true)) return;
    while (under_way_ != limit_ && !exhausted_ && !no_more() && more()) start_one();
    filling_ = false;
  }
  /// If a stop came and yet every child has a value, what counts is whether any element is left over. A range that does
  /// not know its size cannot tell without pulling one, and after a stop none is pulled.
  bool goes_on() noexcept override {
    if (!exhausted_ && any_left_over()) not_started();
    observer_.finish();
    return gathering::goes_on();
  }
  std::optional<std::size_t> size_if_known() noexcept {
    if constexpr (requires { std::size(range_); }) try {
        return static_cast<std::size_t>(std::size(range_));
      } catch (...) {  // it will be thrown by whoever needs it
      }
    return std::nullopt;
  }
  bool any_left_over() noexcept {
    if constexpr (requires { std::size(range_); }) {
      try {
        return pulled_ != static_cast<std::size_t>(std::size(range_));
      } catch (...) {
        fail(std::current_exception());
      }
    }
    return true;
  }
  /// Goes on to the next element; false at the end.
  bool more() noexcept {
    try {
      if (pulled_ != 0) ++*next_;
      exhausted_ = *next_ == *end_;
    } catch (...) {
      fail(std::current_exception());
      return false;
    }
    if (exhausted_) observer_.total(pulled_);
    return !exhausted_;
  }
  void start_one() noexcept {
    std::size_t at = 0;
    observer_.start(pulled_);
    try {
      auto t = as_task(std::invoke(function_, **next_));
      if (!t) throw_empty_task();
      if (free_ == places_.size()) places_.push_back({nullptr, free_ + 1});
      if constexpr (has_results) results_.emplace_back();
      at = std::exchange(free_, places_[free_].number);
      places_[at] = {t.release(), pulled_++};
    } catch (...) {
      observer_.end(pulled_, progress_ending::failed);
      return fail(std::current_exception());
    }
    ++under_way_;
    if (launch(*places_[at].child, at)) take(*places_[at].child, fate::done);
  }

  void take(frame& child, fate how) noexcept override {
    place& p = places_[child.index];
    const std::size_t number = std::exchange(p.number, std::exchange(free_, child.index));
    p.child = nullptr;
    --under_way_;
    if constexpr (has_results) {
      settle_number(number, results_[number], child, how);
    } else {
      detail::result<T> r;
      settle_number(number, r, child, how);
    }
    fill();
  }
  void settle_number([[maybe_unused]] std::size_t number, detail::result<T>& r, frame& child, fate how) noexcept {
    if constexpr (Observer::tells)
      settle(r, child, how, number, observer_);
    else
      settle(r, child, how);
  }

  Range range_;  // a reference if the caller's range is an lvalue
  Function function_;
  std::size_t limit_;
  std::optional<decltype(begin_of(std::declval<std::remove_reference_t<Range>&>()))> next_;
  std::optional<decltype(end_of(std::declval<std::remove_reference_t<Range>&>()))> end_;
  std::vector<place> places_;
  std::size_t free_ = 0;  // the first free place; all are taken when it is their number
  std::size_t under_way_ = 0;
  std::size_t pulled_ = 0;
  bool filling_ = false;
  bool exhausted_ = false;
  std::vector<detail::result<T>> results_;
  [[no_unique_address]] Observer observer_;
};

template <keep Keep, class Observer, class Range, class Function>
auto make_fan_out(Observer observer, Range&& range, Function&& function, const fan_out& options, const char* who) {
  refuse_what_gcc12_miscompiles<Range, Function>();
  using std::begin;
  using element = decltype(*begin(std::declval<std::remove_reference_t<Range>&>()));
  static_assert(gives_awaitable<std::decay_t<Function>&, element>(),
                "the function must return an awaitable for each element, such as a task");
  using T = typename decltype(as_task(std::invoke(
      std::declval<std::decay_t<Function>&>(), *begin(std::declval<std::remove_reference_t<Range>&>()))))::value_type;
  static_assert(Keep != keep::values || !std::is_void_v<T>, "the function gives no values: use for_each");
  if (options.limit == 0) throw std::invalid_argument(std::string(who) + ": the limit is 0; it must be at least 1");
  return fan_out_awaitable<Keep, Range, std::decay_t<Function>, T, Observer>(
      std::forward<Range>(range), std::forward<Function>(function), options.limit, observer);
}

template <bool KeepGoing, class Observer, class... Awaitables>
auto make_gather(Observer observer, Awaitables&&... awaitables) {
  return gather_tuple<KeepGoing, Observer,
                      typename decltype(to_task(std::forward<Awaitables>(awaitables)))::value_type...>(
      observer, to_task(std::forward<Awaitables>(awaitables))...);
}

}  // namespace detail

template <class... Awaitables>
requires(detail::to_gather<Awaitables>&&...) auto gather(Awaitables&&... awaitables) {
  return detail::make_gather<false>(detail::unobserved(), std::forward<Awaitables>(awaitables)...);
}
template <class T>
auto gather(std::vector<task<T>>&& tasks) {
  return detail::gather_vector<false, T, detail::unobserved>(std::move(tasks), {});
}
template <class... Awaitables>
auto gather(return_exceptions_t, Awaitables&&... awaitables) {
  static_assert((!std::is_same_v<std::remove_cvref_t<Awaitables>, observed_by> && ...),
                "the observer comes first: gather(observed_by(x), return_exceptions, ...)");
  return detail::make_gather<true>(detail::unobserved(), std::forward<Awaitables>(awaitables)...);
}
template <class T>
auto gather(return_exceptions_t, std::vector<task<T>>&& tasks) {
  return detail::gather_vector<true, T, detail::unobserved>(std::move(tasks), {});
}
template <class T>
void gather(std::vector<task<T>>&) {
  static_assert(!std::is_same_v<T, T>, "an awaitable is handed over as an rvalue: write std::move(x)");
}

template <class... Awaitables>
requires(detail::to_gather<Awaitables>&&...) auto gather(observed_by observer, Awaitables&&... awaitables) {
  return detail::make_gather<false>(detail::observed(observer), std::forward<Awaitables>(awaitables)...);
}
template <class T>
auto gather(observed_by observer, std::vector<task<T>>&& tasks) {
  return detail::gather_vector<false, T, detail::observed>(std::move(tasks), detail::observed(observer));
}
template <class... Awaitables>
auto gather(observed_by observer, return_exceptions_t, Awaitables&&... awaitables) {
  return detail::make_gather<true>(detail::observed(observer), std::forward<Awaitables>(awaitables)...);
}
template <class T>
auto gather(observed_by observer, return_exceptions_t, std::vector<task<T>>&& tasks) {
  return detail::gather_vector<true, T, detail::observed>(std::move(tasks), detail::observed(observer));
}
template <class T>
void gather(observed_by, std::vector<task<T>>&) {
  static_assert(!std::is_same_v<T, T>, "an awaitable is handed over as an rvalue: write std::move(x)");
}

template <class Range, class Function>
auto transform(Range&& range, Function&& function, fan_out options) {
  return detail::make_fan_out<detail::keep::values>(detail::unobserved(), std::forward<Range>(range),
                                                    std::forward<Function>(function), options, "tandem::transform");
}
template <class Range, class Function>
auto transform(return_exceptions_t, Range&& range, Function&& function, fan_out options) {
  return detail::make_fan_out<detail::keep::outcomes>(detail::unobserved(), std::forward<Range>(range),
                                                      std::forward<Function>(function), options, "tandem::transform");
}
template <class Range, class Function>
auto for_each(Range&& range, Function&& function, fan_out options) {
  return detail::make_fan_out<detail::keep::nothing>(detail::unobserved(), std::forward<Range>(range),
                                                     std::forward<Function>(function), options, "tandem::for_each");
}

template <class Range, class Function>
auto transform(observed_by observer, Range&& range, Function&& function, fan_out options) {
  return detail::make_fan_out<detail::keep::values>(detail::observed(observer), std::forward<Range>(range),
                                                    std::forward<Function>(function), options, "tandem::transform");
}
template <class Range, class Function>
auto transform(observed_by observer, return_exceptions_t, Range&& range, Function&& function, fan_out options) {
  return detail::make_fan_out<detail::keep::outcomes>(detail::observed(observer), std::forward<Range>(range),
                                                      std::forward<Function>(function), options, "tandem::transform");
}
template <class Range, class Function>
auto for_each(observed_by observer, Range&& range, Function&& function, fan_out options) {
  return detail::make_fan_out<detail::keep::nothing>(detail::observed(observer), std::forward<Range>(range),
                                                     std::forward<Function>(function), options, "tandem::for_each");
}

}  // namespace tandem::inline TANDEM_CONFIG
