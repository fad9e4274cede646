// A bucket that is looked at, and a call that is counted and timed.
#include "floor.hpp"
#include "harness.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

/// So many tokens each second, as a rule of three.
class bucket {
 public:
  bool take(bare::clock::time_point now) noexcept {
    level_ += (now - last_).count() * rate;
    last_ = now;
    if (level_ > full) level_ = full;
    if (level_ < token) return false;
    level_ -= token;
    return true;
  }

 private:
  static constexpr std::int64_t token = 1'000'000'000, rate = 1'000'000'000, full = 1'000 * token;
  std::int64_t level_ = full;
  bare::clock::time_point last_ = bare::clock::now();
};

bare::task<> rate_limiter(items::state& s) {
  constexpr int n = 1000;
  bucket limit;
  const auto now = bare::clock::now();
  for (auto _ : s)
    for (int i = 0; i != n; ++i) benchmark::DoNotOptimize(limit.take(now));
  s.SetItemsProcessed(s.iterations() * n);
  co_return;
}

bare::task<int> call(int i) { co_return i; }

bare::task<> limited_call(items::state& s) {
  constexpr int n = 1000;
  std::size_t in_flight = 0;
  bare::clock::duration all{};
  for (auto _ : s)
    for (int i = 0; i != n; ++i) {
      ++in_flight;
      const auto begin = bare::clock::now();
      const int value = co_await call(i);
      all += bare::clock::now() - begin;
      --in_flight;
      benchmark::DoNotOptimize(value);
      benchmark::DoNotOptimize(in_flight);
    }
  benchmark::DoNotOptimize(all);
  s.SetItemsProcessed(s.iterations() * n);
}

bare::task<int> yields(int i) {
  co_await bare::yield();
  co_return i;
}
bare::task<> all_yield(items::state& s) {
  constexpr int n = 1000;
  for (auto _ : s) {
    std::vector<bare::task<int>> children;
    children.reserve(n);
    for (int i = 0; i != n; ++i) children.push_back(yields(i));
    const std::vector<int> values = co_await bare::gather(std::move(children));
    benchmark::DoNotOptimize(values.back());
  }
  s.SetItemsProcessed(s.iterations() * n);
}

template <auto Item>
void run(items::state& s) {
  bare::run(Item(s));
}

}  // namespace

void add_limit_items() {
  items::add("rate_limiter", run<rate_limiter>);
  for (const char* item : {"limited_call", "retried_call", "broken_call", "guarded_call", "policy_call"})
    items::add(item, run<limited_call>);
}

void add_observed_items() {
  for (const char* item : {"observed_by_nobody", "observed_by_watchdog", "observed_by_timeline", "observed_by_lints"})
    items::add(item, run<all_yield>);
  items::add("measured_call", run<limited_call>);
}
