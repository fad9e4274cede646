// A request at a rate limiter, and a call through what may be between it and a service.
#include <tandem/adaptive_concurrency.hpp>
#include <tandem/circuit_breaker.hpp>
#include <tandem/error_manager.hpp>
#include <tandem/policy.hpp>
#include <tandem/rate_limiter.hpp>
#include <tandem/retry.hpp>
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

/// `through(function)` gives what is awaited.
template <class Through>
task<> calls(items::state& s, Through through) {
  constexpr int n = 1000;
  for (auto _ : s)
    for (int i = 0; i != n; ++i) {
      const auto function = [i] { return call(i); };
      const int value = co_await through(function);
      benchmark::DoNotOptimize(value);
    }
  s.SetItemsProcessed(s.iterations() * n);
}
task<> retried_call(items::state& s) {
  const auto through = [](const auto& f) { return tandem::retry(f); };
  co_await calls(s, through);
}
task<> broken_call(items::state& s) {
  tandem::circuit_breaker breaker;
  const auto through = [&](const auto& f) { return breaker.run(f); };
  co_await calls(s, through);
}
task<> guarded_call(items::state& s) {
  tandem::error_manager errors;
  const auto through = [&](const auto& f) { return errors.guard(f); };
  co_await calls(s, through);
}
task<> policy_call(items::state& s) {
  tandem::circuit_breaker breaker;
  tandem::rate_limiter limit{tandem::token_bucket{.rate = 1'000'000'000, .burst = 1'000}};
  tandem::adaptive_concurrency<> control;
  const tandem::policy all(tandem::retry_options{}, breaker, limit, control);
  const auto through = [&](const auto& f) { return all.run(f); };
  co_await calls(s, through);
}

template <auto Item>
void run(items::state& s) {
  tandem::run(Item(s));
}

}  // namespace

void add_limit_items() {
  items::add("rate_limiter", run<rate_limiter>);
  items::add("limited_call", run<limited_call>);
  items::add("retried_call", run<retried_call>);
  items::add("broken_call", run<broken_call>);
  items::add("guarded_call", run<guarded_call>);
  items::add("policy_call", run<policy_call>);
}
