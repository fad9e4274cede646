// tandem/streams.hpp: operators over streams: map, filter, take, chunk, merge, buffer, throttle, timeout.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, cancel.hpp, clock.hpp, event.hpp, exceptions.hpp, gather.hpp, generator.hpp, outcome.hpp, progress.hpp, queue.hpp, race.hpp, semaphore.hpp, task.hpp, task_group.hpp, task_handle.hpp, this_task.hpp, detail/alarm.hpp, detail/beside.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/holder.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/one_loop.hpp, detail/place.hpp, detail/priority.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "cancel.hpp"
#include "clock.hpp"
#include "exceptions.hpp"
#include "generator.hpp"
#include "queue.hpp"
#include "race.hpp"
#include "semaphore.hpp"
#include "task.hpp"
#include "task_handle.hpp"
#include "this_task.hpp"

#include "detail/beside.hpp"
#include "detail/gcc12.hpp"

#include <chrono>
#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/streams.hpp is of version 0.1.0, asio.hpp is not");

/// What is done to a stream on its way: `lines(socket) | map(parse) | filter(is_valid) | chunk(100, 1s)`.
///
/// Each operator takes the stream before it as an rvalue and is a generator: nothing runs before the first `next()`,
/// failures come out of `next()`, and from then on `close()` (or `for_each`) closes all of them, the last first. Those
/// that work ahead (`map` with a limit above 1, `merge`, `buffer`, `chunk` with a time) do so beside the coroutine,
/// from the first `next()` on, and hold a bounded number of items; their tasks, and whom they are asking just then, are
/// stopped and joined by `close()`, and if the stream is dropped instead, stopped then and joined by the tree. Items
/// move without throwing there.
namespace tandem::inline TANDEM_CONFIG::streams {

struct map_options {
  std::size_t limit = 1;  ///< calls under way, and results that nobody has taken, at a time; at least 1
  bool ordered = true;    ///< in the order of the items; otherwise as they end
};

/// `| map(fetch, {.limit = 8})`: what the function gives for each item; if that is awaitable, what it gives then. The
/// first failure is thrown, in order if it is ordered, and ends the stream. Throws std::invalid_argument for a limit of
/// zero. A function that is not awaited is called one item at a time.
template <class Function>
auto map(Function&& function, map_options options = {});

/// `| filter(is_valid)`: the items for which the predicate gives true, or something to await that does.
template <class Predicate>
auto filter(Predicate&& predicate);

/// `| take(10)`: the first so many, then the end; no more is asked for.
inline auto take(std::size_t count);

/// `| chunk(100)`: vectors of so many items; the last may have fewer, none is empty. A failure comes after the items
/// that came before it.
inline auto chunk(std::size_t size);
/// `| chunk(100, 1s)`: the same, but a vector is given when its first item has waited for so long.
template <class Rep, class Period>
auto chunk(std::size_t size, std::chrono::duration<Rep, Period> longest);

/// `| buffer(64)`: asks for up to so many items ahead of who takes them.
inline auto buffer(std::size_t size);

/// `| throttle(100ms)`: one item at most in so long: the next is held back until then. None is dropped.
template <class Rep, class Period>
auto throttle(std::chrono::duration<Rep, Period> interval);

/// `| timeout(5s)`: `timed_out` if an item takes longer, counted from when it was asked for; that ends the stream.
template <class Rep, class Period>
auto timeout(std::chrono::duration<Rep, Period> longest);

/// `merge(a, b)`: the items of all, as they come, each stream's in its order; the first failure ends all.
template <stream... Streams>
auto merge(Streams&&... sources);
/// The same for any number of one type.
template <stream Stream>
auto merge(std::vector<Stream> sources);

/// `from(queue)`: what is popped, up to the end of the queue, which must outlive the stream.
template <class T, class Loops>
generator<T> from(basic_queue<T, Loops>& queue);
/// `from(vector)`: the elements of a range, which is kept.
template <std::ranges::input_range Range>
auto from(Range range);

}  // namespace tandem::inline TANDEM_CONFIG::streams

// ---- implementation ------------------------------------------------------------------------------------------------

namespace tandem::inline TANDEM_CONFIG::detail {

/// What an operator returns: to be put behind a stream.
template <class Make>
class stream_operator {
 public:
  explicit stream_operator(Make make) : make_(std::move(make)) {}

  template <class Source>
    requires stream<std::remove_cvref_t<Source>>
  friend auto operator|(Source&& source, stream_operator op) {
    static_assert(!std::is_lvalue_reference_v<Source>, "an operator takes the stream as an rvalue: std::move(s) | ...");
    return op.make_(std::move(source));
  }

 private:
  Make make_;
};

/// For `on_exit`.
template <class S>
struct closes {
  S* source;
  task<> operator()() const { return close_stream(*source); }
};

[[noreturn, gnu::cold, gnu::noinline]] inline void throw_zero(const char* which) {
  throw std::invalid_argument(std::string("tandem::streams::") + which + " is 0; it must be at least 1");
}

template <class F, class Item>
consteval auto mapped_type() {
  if constexpr (gives_awaitable<F&, Item>())
    return std::type_identity<stored_t<await_result_t<std::invoke_result_t<F&, Item>>>>();
  else
    return std::type_identity<std::decay_t<std::invoke_result_t<F&, Item>>>();
}
/// What a stream of `map(f)` gives.
template <class F, class Item>
using mapped_t = typename decltype(mapped_type<F, Item>())::type;

template <class S, class F>
generator<mapped_t<F, stream_item_t<S>>> map_one(S source, F f) {
  co_await on_exit(closes<S>{&source});
  while (auto one = co_await source.next()) {
    if constexpr (gives_awaitable<F&, stream_item_t<S>>()) {
      auto t = as_task(std::invoke(f, *std::move(one)));
      auto out = co_await std::move(t);
      co_yield moved(out);
    } else {
      auto out = std::invoke(f, *std::move(one));
      co_yield moved(out);
    }
  }
}

/// What an operator that works ahead shares with its tasks. The generator has it through a `working_ahead`.
template <class T>
struct ahead {
  explicit ahead(std::size_t capacity) : items(capacity) {}
  void fail(std::exception_ptr e) noexcept {
    if (!error) error = std::move(e);
    items.close();
  }
  /// After the items: throws if they were not all.
  task<> end() {
    if (!error && was_stopped) co_await this_task::checkpoint();  // who asks may be being stopped, too
    if (error) std::rethrow_exception(error);
    if (was_stopped) throw cancelled();
  }
  queue<T> items;
  std::exception_ptr error;
  bool was_stopped = false;
  beside tasks;
};

/// In such a task: who still asks for items, in a clean-up, is told if it was stopped with its tree.
template <class Shared>
class tells_of_stop {
 public:
  explicit tells_of_stop(Shared& s) noexcept : shared_(s) {}
  tells_of_stop(const tells_of_stop&) = delete;
  tells_of_stop& operator=(const tells_of_stop&) = delete;
  ~tells_of_stop() {
    if (failed_frames() == 0) return;  // it ended, or failed
    shared_.was_stopped = true;
    shared_.items.close();
  }

 private:
  Shared& shared_;
};

/// Dropped unclosed, it stops the tasks; what they share goes when the last of them has ended.
template <class Shared>
class working_ahead {
 public:
  explicit working_ahead(std::shared_ptr<Shared> s) noexcept : shared_(std::move(s)) {}
  working_ahead(working_ahead&&) noexcept = default;
  ~working_ahead() {
    if (shared_) shared_->tasks.stop();
  }
  Shared* operator->() const noexcept { return shared_.get(); }
  const std::shared_ptr<Shared>& share() const noexcept { return shared_; }

 private:
  std::shared_ptr<Shared> shared_;
};

/// For `on_exit`. Not lambdas: g++ 12 warns of frames that have those of a template in them.
template <class Shared>
struct closes_sources {
  Shared* shared;
  task<> operator()() const { return shared->close_sources(); }
};
template <class Shared>
struct stops_and_closes {
  Shared* shared;
  task<> operator()() const {
    shared->tasks.stop();
    return both(*shared);
  }
  static task<> both(Shared& s) {
    auto joined_and_closed = finally(s.tasks.join(), closes_sources<Shared>{&s});
    co_await std::move(joined_and_closed);
  }
};

// -- map, with several calls under way

template <class R>
struct mapped_in_turn {  // the order of items
  mapped_in_turn(task_handle<R> h, permit p) noexcept : result(std::move(h)), place(std::move(p)) {}
  task_handle<R> result;
  permit place;
};
template <class R>
struct mapped_as_it_ends {
  mapped_as_it_ends(R r, permit p) noexcept : result(std::move(r)), place(std::move(p)) {}
  R result;
  permit place;
};

template <class S, class F, bool Ordered>
struct map_shared : ahead<std::conditional_t<Ordered, mapped_in_turn<mapped_t<F, stream_item_t<S>>>,
                                             mapped_as_it_ends<mapped_t<F, stream_item_t<S>>>>> {
  using item = stream_item_t<S>;
  using result = mapped_t<F, item>;
  map_shared(S s, F g, std::size_t limit)
      : map_shared::ahead(limit), source(std::move(s)), f(std::move(g)), places(limit) {}
  task<> close_sources() { return close_stream(source); }

  S source;
  F f;
  semaphore places;
  std::size_t under_way = 0;
  bool is_at_end = false;
};

/// Whatever the function gives for the item, in the end.
template <class Shared>
task<typename Shared::result> call_mapped(std::shared_ptr<Shared> s, typename Shared::item item) {
  const tells_of_stop tells(*s);
  if constexpr (gives_awaitable<decltype((s->f)), typename Shared::item>()) {
    auto t = as_task(std::invoke(s->f, std::move(item)));
    co_return co_await std::move(t);
  } else {
    co_return std::invoke(s->f, std::move(item));
  }
}
template <class Shared>
task<> map_unordered(std::shared_ptr<Shared> s, typename Shared::item item, permit place) {
  const tells_of_stop tells(*s);
  try {
    auto t = call_mapped(s, std::move(item));
    auto r = co_await std::move(t);
    try {
      co_await s->items.push(mapped_as_it_ends<typename Shared::result>(std::move(r), std::move(place)));
    } catch (const queue_closed&) {  // another has failed
      co_return;
    }
  } catch (...) {
    s->fail(std::current_exception());
    throw;  // the stream may be closing already
  }
  if (--s->under_way == 0 && s->is_at_end) s->items.close();
}

template <bool Ordered, class Shared>
task<> map_ahead(std::shared_ptr<Shared> s) {
  const tells_of_stop tells(*s);
  try {
    for (;;) {
      auto place = co_await s->places.acquire();
      auto one = co_await s->source.next();
      if (!one) break;
      if constexpr (Ordered) {
        auto call = call_mapped(s, *std::move(one));
        auto handle = co_await s->tasks.start(std::move(call));
        try {
          co_await s->items.push(mapped_in_turn<typename Shared::result>(std::move(handle), std::move(place)));
        } catch (const queue_closed&) {  // a call was stopped
          co_return;
        }
      } else {
        ++s->under_way;
        auto call = map_unordered(s, *std::move(one), std::move(place));
        co_await s->tasks.start(std::move(call));
      }
    }
  } catch (...) {
    s->fail(std::current_exception());
    throw;  // the stream may be closing already
  }
  s->is_at_end = true;
  if (Ordered || s->under_way == 0) s->items.close();
}

template <bool Ordered, class S, class F>
generator<mapped_t<F, stream_item_t<S>>> map_many(working_ahead<map_shared<S, F, Ordered>> s) {
  co_await on_exit(stops_and_closes<map_shared<S, F, Ordered>>{s.share().get()});
  auto dispatcher = map_ahead<Ordered>(s.share());
  co_await s->tasks.start(std::move(dispatcher));
  while (auto one = co_await s->items.pop()) {
    if constexpr (Ordered) {
      if (s->was_stopped) co_await this_task::checkpoint();  // as at the end
      auto out = co_await std::move(one->result);
      one.reset();  // its place is for the next
      co_yield moved(out);
    } else {
      auto out = std::move(one->result);
      one.reset();
      co_yield moved(out);
    }
  }
  co_await s->end();
}

template <bool Ordered, class S, class F>
auto make_map(S source, F f, std::size_t limit) {
  using shared = map_shared<S, F, Ordered>;
  return map_many<Ordered, S, F>(
      working_ahead<shared>(std::make_shared<shared>(std::move(source), std::move(f), limit)));
}

// -- one after the other

template <class S, class P>
generator<stream_item_t<S>> filter_items(S source, P predicate) {
  co_await on_exit(closes<S>{&source});
  while (auto one = co_await source.next()) {
    bool keep = false;
    if constexpr (gives_awaitable<P&, const stream_item_t<S>&>()) {
      auto t = as_task(std::invoke(predicate, std::as_const(*one)));
      keep = static_cast<bool>(co_await std::move(t));
    } else {
      keep = static_cast<bool>(std::invoke(predicate, std::as_const(*one)));
    }
    if (keep) co_yield moved(*one);
  }
}

template <class S>
generator<stream_item_t<S>> take_items(S source, std::size_t count) {
  co_await on_exit(closes<S>{&source});
  for (; count != 0; --count) {
    auto one = co_await source.next();
    if (!one) co_return;
    co_yield moved(*one);
  }
}

template <class S>
generator<std::vector<stream_item_t<S>>> chunk_items(S source, std::size_t size) {
  co_await on_exit(closes<S>{&source});
  std::vector<stream_item_t<S>> some;
  std::exception_ptr failure;  // thrown after the items
  for (bool is_over = false; !is_over;) {
    try {
      auto one = co_await source.next();
      is_over = !one;
      if (!is_over) some.push_back(*std::move(one));
    } catch (...) {
      failure = std::current_exception();
      is_over = true;
    }
    if (is_over ? some.empty() : some.size() < size) continue;
    co_yield moved(some);
    some.clear();
  }
  if (failure) std::rethrow_exception(failure);
}

template <class S>
generator<stream_item_t<S>> throttle_items(S source, clock::duration interval) {
  co_await on_exit(closes<S>{&source});
  clock::time_point next = clock::time_point::min();
  while (auto one = co_await source.next()) {
    if (clock::now() < next) co_await sleep_until(next);
    next = saturated_sum(clock::now(), interval);
    co_yield moved(*one);
  }
}

template <class S>
generator<stream_item_t<S>> limit_items(S source, clock::duration longest) {
  co_await on_exit(closes<S>{&source});
  for (;;) {
    auto limited = tandem::timeout(longest, source.next());
    auto one = co_await std::move(limited);
    if (!one) co_return;
    co_yield moved(*one);
  }
}

// -- those that ask ahead: buffer, merge, chunk with a time

/// An item, and when it came.
template <class T>
struct timed_item {
  timed_item(T i) : item(std::move(i)), came(clock::now()) {}
  T item;
  clock::time_point came;
};

template <class S, class Element = stream_item_t<S>>
struct ask_shared : ahead<Element> {
  ask_shared(std::vector<S> all, std::size_t capacity)
      : ask_shared::ahead(capacity), sources(std::move(all)), left(sources.size()) {}
  task<> close_sources() { return close_from(0); }
  /// Each, even if another one fails.
  task<> close_from(std::size_t i) {
    if (i == sources.size()) co_return;
    auto all = finally(close_stream(sources[i]), closes_the_rest{this, i + 1});
    co_await std::move(all);
  }
  struct closes_the_rest {
    ask_shared* shared;
    std::size_t first;
    task<> operator()() const { return shared->close_from(first); }
  };

  std::vector<S> sources;
  std::size_t left;
};

template <class Shared>
task<> ask_ahead(std::shared_ptr<Shared> s, std::size_t which) {
  const tells_of_stop tells(*s);
  try {
    while (auto one = co_await s->sources[which].next()) {
      try {
        co_await s->items.push(*std::move(one));
      } catch (const queue_closed&) {  // another has failed
        co_return;
      }
    }
  } catch (...) {
    s->fail(std::current_exception());
    throw;  // the stream may be closing already
  }
  if (--s->left == 0) s->items.close();
}
template <class Shared>
task<> start_to_ask(Shared& shared, std::shared_ptr<Shared> s) {
  for (std::size_t i = 0; i != shared.sources.size(); ++i) {
    auto t = ask_ahead(s, i);
    co_await shared.tasks.start(std::move(t));
  }
  if (shared.sources.empty()) shared.items.close();
}

template <class S>
generator<stream_item_t<S>> items_of(working_ahead<ask_shared<S>> s) {
  co_await on_exit(stops_and_closes<ask_shared<S>>{s.share().get()});
  auto start = start_to_ask(*s.share(), s.share());
  co_await std::move(start);
  while (auto one = co_await s->items.pop()) co_yield moved(*one);
  co_await s->end();
}

template <class Shared, class S>
auto make_ahead(std::vector<S> sources, std::size_t capacity) {
  return working_ahead<Shared>(std::make_shared<Shared>(std::move(sources), capacity));
}
template <class S>
std::vector<S> only(S source) {
  std::vector<S> one;
  one.push_back(std::move(source));
  return one;
}

template <class S>
using ask_in_time = ask_shared<S, timed_item<stream_item_t<S>>>;
template <class S>
generator<std::vector<stream_item_t<S>>> chunk_in_time(working_ahead<ask_in_time<S>> s, std::size_t size,
                                                       clock::duration longest) {
  co_await on_exit(stops_and_closes<ask_in_time<S>>{s.share().get()});
  auto start = start_to_ask(*s.share(), s.share());
  co_await std::move(start);
  std::vector<stream_item_t<S>> some;
  for (bool is_over = false; !is_over;) {
    auto first = co_await s->items.pop();
    if (!first) break;
    some.push_back(std::move(first->item));
    const clock::time_point due = saturated_sum(first->came, longest);
    while (some.size() < size) {
      auto more = co_await race(s->items.pop(), sleep_until(due));
      if (more.index() == 1) break;
      auto& one = more.template get<0>();
      is_over = !one;
      if (is_over) break;
      some.push_back(std::move(one->item));
    }
    co_yield moved(some);
    some.clear();
  }
  co_await s->end();
}

/// Streams of several types, as one.
template <class S, class T>
generator<T> as_generator(S source) {
  co_await on_exit(closes<S>{&source});
  while (auto one = co_await source.next()) {
    T out(*std::move(one));
    co_yield moved(out);
  }
}

}  // namespace tandem::inline TANDEM_CONFIG::detail

namespace tandem::inline TANDEM_CONFIG::streams {

template <class Function>
auto map(Function&& function, map_options options) {
  detail::refuse_what_gcc12_miscompiles<Function>();
  if (options.limit == 0) detail::throw_zero("map: the limit");
  return detail::stream_operator(
      [f = std::decay_t<Function>(std::forward<Function>(function)), options]<class S>(S source) mutable {
        using F = std::decay_t<Function>;
        static_assert(std::is_invocable_v<F&, stream_item_t<S>>, "the function of map takes an item of the stream");
        static_assert(!std::is_void_v<std::invoke_result_t<F&, stream_item_t<S>>>,
                      "the function of map gives something; to do something with each item there is for_each");
        using result = generator<detail::mapped_t<F, stream_item_t<S>>>;
        if (options.limit == 1) return result(detail::map_one<S, F>(std::move(source), std::move(f)));
        if (options.ordered) return result(detail::make_map<true>(std::move(source), std::move(f), options.limit));
        return result(detail::make_map<false>(std::move(source), std::move(f), options.limit));
      });
}

template <class Predicate>
auto filter(Predicate&& predicate) {
  detail::refuse_what_gcc12_miscompiles<Predicate>();
  return detail::stream_operator(
      [p = std::decay_t<Predicate>(std::forward<Predicate>(predicate))]<class S>(S source) mutable {
        static_assert(std::is_invocable_v<std::decay_t<Predicate>&, const stream_item_t<S>&>,
                      "the predicate of filter takes a const reference to an item of the stream");
        return detail::filter_items<S, std::decay_t<Predicate>>(std::move(source), std::move(p));
      });
}

inline auto take(std::size_t count) {
  return detail::stream_operator([count]<class S>(S source) { return detail::take_items(std::move(source), count); });
}

inline auto chunk(std::size_t size) {
  if (size == 0) detail::throw_zero("chunk: the size");
  return detail::stream_operator([size]<class S>(S source) { return detail::chunk_items(std::move(source), size); });
}
template <class Rep, class Period>
auto chunk(std::size_t size, std::chrono::duration<Rep, Period> longest) {
  if (size == 0) detail::throw_zero("chunk: the size");
  const clock::duration d = detail::checked_duration(longest, "tandem::streams::chunk");
  return detail::stream_operator([size, d]<class S>(S source) {
    return detail::chunk_in_time<S>(detail::make_ahead<detail::ask_in_time<S>>(detail::only(std::move(source)), size),
                                    size, d);
  });
}

inline auto buffer(std::size_t size) {
  if (size == 0) detail::throw_zero("buffer: the size");
  return detail::stream_operator([size]<class S>(S source) {
    return detail::items_of<S>(detail::make_ahead<detail::ask_shared<S>>(detail::only(std::move(source)), size - 1));
  });
}

template <class Rep, class Period>
auto throttle(std::chrono::duration<Rep, Period> interval) {
  const clock::duration d = detail::checked_duration(interval, "tandem::streams::throttle");
  return detail::stream_operator([d]<class S>(S source) { return detail::throttle_items(std::move(source), d); });
}

template <class Rep, class Period>
auto timeout(std::chrono::duration<Rep, Period> longest) {
  const clock::duration d = detail::checked_duration(longest, "tandem::streams::timeout");
  return detail::stream_operator([d]<class S>(S source) { return detail::limit_items(std::move(source), d); });
}

template <stream Stream>
auto merge(std::vector<Stream> sources) {
  const std::size_t capacity = sources.empty() ? 1 : sources.size();
  return detail::items_of<Stream>(detail::make_ahead<detail::ask_shared<Stream>>(std::move(sources), capacity));
}
template <stream... Streams>
auto merge(Streams&&... sources) {
  static_assert((!std::is_lvalue_reference_v<Streams> && ...),
                "merge takes the streams as rvalues: merge(std::move(a), std::move(b))");
  using item = std::common_type_t<stream_item_t<Streams>...>;
  std::vector<generator<item>> all;
  all.reserve(sizeof...(Streams));
  const auto add = [&]<class S>(S source) {
    if constexpr (std::is_same_v<S, generator<item>>)
      all.push_back(std::move(source));
    else
      all.push_back(detail::as_generator<S, item>(std::move(source)));
  };
  (add(std::move(sources)), ...);
  return merge(std::move(all));
}

template <class T, class Loops>
generator<T> from(basic_queue<T, Loops>& queue) {
  while (auto one = co_await queue.pop()) co_yield moved(*one);
}
template <std::ranges::input_range Range>
auto from(Range range) {
  using item = std::ranges::range_value_t<Range>;
  return [](Range r) -> generator<item> {
    for (auto&& one : r) {
      item out(std::forward<decltype(one)>(one));
      co_yield moved(out);
    }
  }(std::move(range));
}

}  // namespace tandem::inline TANDEM_CONFIG::streams
