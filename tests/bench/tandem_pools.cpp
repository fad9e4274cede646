// A resource borrowed and given back, an item on its way through three operators, and jobs in the order of their
// priorities.
#include <tandem/priority_scheduler.hpp>
#include <tandem/resource_pool.hpp>
#include <tandem/run.hpp>
#include <tandem/streams.hpp>

#include "harness.hpp"

namespace {

using tandem::task;

struct resource {
  int number = 0;
};

task<> lease(items::state& s) {
  constexpr int n = 1000;
  tandem::resource_pool<resource> pool{{.max = 10, .create = []() -> task<resource> { co_return resource(); }}};
  for (auto _ : s)
    for (int i = 0; i != n; ++i) {
      const auto borrowed = co_await pool.acquire();
      benchmark::DoNotOptimize(borrowed->number);
    }
  s.SetItemsProcessed(s.iterations() * n);
}

tandem::generator<int> numbers(int n) {
  for (int i = 0; i != n; ++i) co_yield i;
}
task<> stream(items::state& s) {
  constexpr int n = 1000;
  for (auto _ : s) {
    auto all = numbers(n) | tandem::streams::map([](int i) { return i + 1; }) |
               tandem::streams::filter([](int i) { return i >= 0; }) | tandem::streams::take(n);
    int sum = 0;
    while (const auto one = co_await all.next()) sum += *one;
    benchmark::DoNotOptimize(sum);
  }
  s.SetItemsProcessed(s.iterations() * n);
}

task<> job(int& done) {
  ++done;
  co_return;
}
/// All are in line before the first starts.
template <unsigned Priorities>
task<> scheduler(items::state& s) {
  const unsigned n = static_cast<unsigned>(s.range(0));
  for (auto _ : s) {
    tandem::priority_scheduler jobs;
    int done = 0;
    for (unsigned i = 0; i != n; ++i) jobs.submit({.priority = items::priority(i, Priorities)}, job, std::ref(done));
    co_await jobs.drain();
    benchmark::DoNotOptimize(done);
  }
  s.SetItemsProcessed(s.iterations() * n);
}

template <auto Item>
void run(items::state& s) {
  tandem::run(Item(s));
}

}  // namespace

void add_pool_items() {
  items::add("lease", run<lease>);
  items::add("stream", run<stream>);
  items::add("scheduler", run<scheduler<8>>)->Arg(10)->Arg(1'000)->Arg(100'000);
  items::add("scheduler_distinct", run<scheduler<100'000>>)->Arg(100'000);
}
