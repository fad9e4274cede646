// What the benchmark programs share: how an item is registered, and how the heap is measured.
#pragma once

#include <benchmark/benchmark.h>
#include <malloc.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <type_traits>
#include <vector>

namespace items {

using state = benchmark::State;

/// Registers an item. TANDEM_BENCH_ITERATIONS says how often it runs, for counting instructions.
inline benchmark::internal::Benchmark* add(const char* name, void (*item)(state&)) {
  auto* b = benchmark::RegisterBenchmark(name, item)->UseRealTime();  // as the peers are timed
  if (const char* n = std::getenv("TANDEM_BENCH_ITERATIONS")) b->Iterations(std::atol(n));
  return b;
}

inline int run_chosen(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();  // none, if this program does not have the item
  return 0;
}

/// Bytes, with what malloc adds to each block.
inline double heap_in_use() {
  const auto info = mallinfo2();
  return static_cast<double>(info.uordblks + info.hblkhd);
}

/// Of job `i`: one of so many, in no order; if there are as many jobs, each has one of its own.
inline int priority(unsigned i, unsigned priorities) { return static_cast<int>(std::uint64_t(i) * 7'919 % priorities); }

/// A thousand keys, in no order.
template <class Key>
std::vector<Key> cache_keys() {
  std::vector<Key> keys;
  for (unsigned i = 0; i != 1'000; ++i) {
    const int number = static_cast<int>(i * 2'654'435'761u >> 1);
    if constexpr (std::is_integral_v<Key>)
      keys.push_back(number);
    else
      keys.push_back("user " + std::to_string(number));
  }
  return keys;
}

}  // namespace items

/// Those of items.hpp: in floor_items.cpp and tandem_items.cpp.
void add_shared_items();
/// Those with two threads: in floor_threads.cpp and tandem_threads.cpp.
void add_thread_items();
/// Leases of a pool, items of streams and jobs of a scheduler: those of tandem_pools.cpp or floor_pools.cpp.
void add_pool_items();
/// Hits of a cache: those of tandem_caches.cpp or floor_caches.cpp.
void add_cache_items();
void add_limit_items();
/// What it costs to look at a loop, and to measure a call: those of tandem_observed.cpp, or of floor_limits.cpp.
void add_observed_items();
