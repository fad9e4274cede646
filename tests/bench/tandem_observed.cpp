// What it costs to look at a loop: 1,000 children that yield once, with nobody looking and with each of those who may;
// and a call that is measured.
#include <tandem/gather.hpp>
#include <tandem/inspect.hpp>
#include <tandem/lints.hpp>
#include <tandem/measure.hpp>
#include <tandem/run.hpp>
#include <tandem/trace.hpp>

#include "harness.hpp"

#include <tuple>
#include <vector>

namespace {

using namespace std::chrono_literals;
using tandem::task;

task<int> yields(int i) {
  co_await tandem::yield();
  co_return i;
}
task<> all_yield(int rounds) {
  constexpr int n = 1000;
  for (int round = 0; round != rounds; ++round) {
    std::vector<task<int>> children;
    children.reserve(n);
    for (int i = 0; i != n; ++i) children.push_back(yields(i));
    const std::vector<int> values = co_await tandem::gather(std::move(children));
    benchmark::DoNotOptimize(values.back());
  }
}
/// Each iteration is a run of its own, because who looks hears of loops that are made meanwhile.
template <class... Lookers>
void observed(items::state& s) {
  constexpr int rounds = 10;
  for (auto _ : s) {
    [[maybe_unused]] const std::tuple<Lookers...> lookers;
    tandem::run(all_yield(rounds));
  }
  s.SetItemsProcessed(s.iterations() * rounds * 1000);
}
struct watchdog : tandem::stall_watchdog {
  watchdog() : stall_watchdog({.threshold = 10s}) {}
};

task<int> call(int i) { co_return i; }
task<> measured_call(items::state& s) {
  constexpr int n = 1000;
  tandem::call_metrics metrics;
  for (auto _ : s)
    for (int i = 0; i != n; ++i) {
      const int value = co_await tandem::measure(metrics, call(i));
      benchmark::DoNotOptimize(value);
    }
  s.SetItemsProcessed(s.iterations() * n);
}
void run_measured_call(items::state& s) { tandem::run(measured_call(s)); }

}  // namespace

void add_observed_items() {
  items::add("observed_by_nobody", observed<>);
  items::add("observed_by_watchdog", observed<watchdog>);
  items::add("observed_by_timeline", observed<tandem::timeline>);
  items::add("observed_by_lints", observed<tandem::lints>);
  items::add("measured_call", run_measured_call);
}
