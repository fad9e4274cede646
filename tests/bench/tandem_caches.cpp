// Hits of a cache.
#include <tandem/lru_cache.hpp>
#include <tandem/run.hpp>

#include "harness.hpp"

#include <string>

namespace {

using tandem::task;

/// Without a co_await.
task<> find(items::state& s) {
  const auto keys = items::cache_keys<int>();
  tandem::lru_cache<int, int> cache{{.capacity = keys.size()}};
  for (const int k : keys) cache.put(k, 1);
  for (auto _ : s)
    for (const int k : keys) benchmark::DoNotOptimize(*cache.find(k));
  s.SetItemsProcessed(s.iterations() * static_cast<long>(keys.size()));
  co_return;
}

template <class Cache>
task<> get(items::state& s) {
  using key = typename Cache::key_type;
  const auto keys = items::cache_keys<key>();
  Cache cache{{.capacity = keys.size()}};
  for (const key& k : keys) cache.put(k, 1);
  const auto load = [](const key&) -> task<int> { co_return 1; };
  for (auto _ : s)
    for (const key& k : keys) {
      const int value = co_await cache.get(k, load);
      benchmark::DoNotOptimize(value);
    }
  s.SetItemsProcessed(s.iterations() * static_cast<long>(keys.size()));
}

template <auto Item>
void run(items::state& s) {
  tandem::run(Item(s));
}

}  // namespace

void add_cache_items() {
  items::add("cache_find", run<find>);
  items::add("cache_get", run<get<tandem::lru_cache<int, int>>>);
  items::add("cache_get_string", run<get<tandem::lru_cache<std::string, int>>>);
  items::add("cache_get_concurrent", run<get<tandem::concurrent_lru_cache<int, int>>>);
}
