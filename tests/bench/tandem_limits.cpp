// A request at a rate limiter, and a call through adaptive_concurrency.
#include <tandem/adaptive_concurrency.hpp>
#include <tandem/rate_limiter.hpp>
#include <tandem/run.hpp>

#include "harness.hpp"

namespace {

using tandem::task;

task<> rate_limiter(items::state& s) {
  constexpr int n = 1000;
  tandem::rate_limiter limit{tandem::token_bucket{.rate = 1'000'000'000, .burst = 1'000}};
  for (auto _ : s)
    for (int i = 0; i != n; ++i) benchmark::DoNotOptimize(limit.try_acquire().allowed);
  s.SetItemsProcessed(s.iterations() * n);
  co_return;
}

task<int> call(int i) { co_return i; }

task<> limited_call(items::state& s) {
  constexpr int n = 1000;
  tandem::adaptive_concurrency<> control;
  for (auto _ : s)
    for (int i = 0; i != n; ++i) {
      const auto calls = [i] { return call(i); };
      const int value = co_await control.run(calls);
      benchmark::DoNotOptimize(value);
    }
  s.SetItemsProcessed(s.iterations() * n);
}

template <auto Item>
void run(items::state& s) {
  tandem::run(Item(s));
}

}  // namespace

void add_limit_items() {
  items::add("rate_limiter", run<rate_limiter>);
  items::add("limited_call", run<limited_call>);
}
