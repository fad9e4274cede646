// The items that the floor and tandem share, word for word. Before this, `lib` names one of the two.
#pragma once

#include "harness.hpp"

#include <chrono>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

namespace items {

using namespace std::chrono_literals;

/// Most items are one coroutine that repeats its work for as long as it is told to.
template <auto Item>
void run(state& s) {
  lib::run(Item(s));
}

template <auto Child>
lib::task<> gather(state& s) {
  const int n = static_cast<int>(s.range(0));
  for (auto _ : s) {
    std::vector<lib::task<int>> children;
    children.reserve(static_cast<std::size_t>(n));
    for (int i = 0; i != n; ++i) children.push_back(Child(i));
    const std::vector<int> values = co_await lib::gather(std::move(children));
    benchmark::DoNotOptimize(values.back());
  }
  s.SetItemsProcessed(s.iterations() * n);
}
inline lib::task<int> immediate(int i) { co_return i; }
inline lib::task<int> yielding(int i) {
  co_await lib::yield();
  co_return i;
}

inline lib::task<> yield(state& s) {
  constexpr int n = 1000;
  for (auto _ : s)
    for (int i = 0; i != n; ++i) co_await lib::yield();
  s.SetItemsProcessed(s.iterations() * n);
}

inline lib::task<int> deep(int levels) {
  if (levels == 1) co_return 1;
  const int below = co_await deep(levels - 1);
  co_return below + 1;
}
inline lib::task<> nested_await(state& s) {
  constexpr int levels = 10;
  for (auto _ : s) {
    const int sum = co_await deep(levels);
    benchmark::DoNotOptimize(sum);
  }
  s.SetItemsProcessed(s.iterations() * levels);
}

inline lib::task<> one_child(state& s) {
  constexpr int n = 1000;
  for (auto _ : s)
    for (int i = 0; i != n; ++i) {
      const int value = co_await immediate(i);
      benchmark::DoNotOptimize(value);
    }
  s.SetItemsProcessed(s.iterations() * n);
}

inline lib::task<> semaphore_uncontended(state& s) {
  constexpr int n = 1000;
  lib::semaphore one{1};
  for (auto _ : s)
    for (int i = 0; i != n; ++i) {
      const auto permit = co_await one.acquire();
      benchmark::ClobberMemory();
    }
  s.SetItemsProcessed(s.iterations() * n);
}

inline lib::task<int> takes_turns(lib::semaphore& permits, int times) {
  for (int i = 0; i != times; ++i) {
    const auto permit = co_await permits.acquire();
    co_await lib::yield();
  }
  co_return 0;
}
inline lib::task<> semaphore_contended(state& s) {
  constexpr int tasks = 100, times = 100;
  lib::semaphore permits{10};
  for (auto _ : s) {
    std::vector<lib::task<int>> all;
    all.reserve(tasks);
    for (int i = 0; i != tasks; ++i) all.push_back(takes_turns(permits, times));
    co_await lib::gather(std::move(all));
  }
  s.SetItemsProcessed(s.iterations() * tasks * times);
}

inline lib::task<int> pushes(lib::queue<int>& q, int n) {
  for (int i = 0; i != n; ++i) co_await q.push(i);
  q.close();
  co_return 0;
}
inline lib::task<int> pops(lib::queue<int>& q) {
  int sum = 0;
  while (const std::optional<int> v = co_await q.pop()) sum += *v;
  co_return sum;
}
inline lib::task<> queue(state& s) {
  constexpr int n = 10'000;
  for (auto _ : s) {
    lib::queue<int> q{static_cast<std::size_t>(s.range(0))};
    std::vector<lib::task<int>> both;
    both.reserve(2);
    both.push_back(pushes(q, n));
    both.push_back(pops(q));
    const std::vector<int> sums = co_await lib::gather(std::move(both));
    benchmark::DoNotOptimize(sums.back());
  }
  s.SetItemsProcessed(s.iterations() * n);
}

/// Bytes of the heap for one suspended task: its frame, what holds on to it, and what malloc adds. The last child
/// finds all others suspended.
template <auto Child>
lib::task<> memory(state& s) {
  constexpr int n = 100'000;
  for (auto _ : s) {
    lib::event over;
    const double before = heap_in_use();
    double after = 0;
    auto last = [](lib::event& e, double& bytes) -> lib::task<int> {
      bytes = heap_in_use();
      e.set();
      co_return 0;
    };
    std::vector<lib::task<int>> children;
    children.reserve(n + 1);
    for (int i = 0; i != n; ++i) children.push_back(Child(over));
    children.push_back(last(over, after));
    co_await lib::gather(std::move(children));
    s.counters["bytes"] = (after - before) / n;
  }
}
inline lib::task<int> waits_for_event(lib::event& e) {
  co_await e.wait();
  co_return 0;
}
inline lib::task<int> waits_for_timer(lib::event&) {
  co_await lib::sleep_for(100ms);
  co_return 0;
}

inline lib::task<int> sleeps(int i) {
  co_await lib::sleep_for(10ms);
  co_return i;
}

inline void add_all() {
  add("gather_immediate", run<gather<immediate>>)->Arg(10)->Arg(1'000)->Arg(100'000);
  add("gather_yielding", run<gather<yielding>>)->Arg(10)->Arg(1'000)->Arg(100'000);
  add("yield", run<yield>);
  add("nested_await", run<nested_await>);
  add("one_child", run<one_child>);
  add("semaphore_uncontended", run<semaphore_uncontended>);
  add("semaphore_contended", run<semaphore_contended>);
  add("queue", run<queue>)->Arg(1)->Arg(64);
  add("memory_event", run<memory<waits_for_event>>)->Iterations(1);
  add("memory_timer", run<memory<waits_for_timer>>)->Iterations(1);
  add("sleeps", run<gather<sleeps>>)->Arg(100'000);
}

}  // namespace items
