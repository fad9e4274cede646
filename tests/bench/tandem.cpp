// tandem: items.hpp on the library, and Asio's operations awaited.
#include <tandem/race.hpp>
#include <tandem/tandem.hpp>

namespace lib = tandem;
#include "items.hpp"
#include "sockets.hpp"

namespace {

using asio::ip::tcp;
using tandem::task, tandem::use_task;

/// A child spawned into a group, joined by its handle.
task<> spawn_and_join(items::state& s) {
  constexpr int n = 1000;
  auto body = [&](tandem::task_group& group) -> task<> {
    for (auto _ : s)
      for (int i = 0; i != n; ++i) {
        const int value = co_await group.spawn(items::immediate(i));
        benchmark::DoNotOptimize(value);
      }
  };
  co_await tandem::with_task_group(body);
  s.SetItemsProcessed(s.iterations() * n);
}

task<> race(items::state& s) {
  tandem::event never;
  for (auto _ : s) {
    std::vector<task<int>> arms;
    arms.reserve(static_cast<std::size_t>(s.range(0)));
    for (int i = 1; i != s.range(0); ++i) arms.push_back(items::waits_for_event(never));
    arms.push_back(items::immediate(1));
    const auto first = co_await tandem::race(std::move(arms));
    benchmark::DoNotOptimize(first.value());
  }
  s.SetItemsProcessed(s.iterations());
}

task<> due_timer(items::state& s) {
  const auto executor = co_await tandem::this_task::executor;
  asio::steady_timer timer(executor);
  for (auto _ : s)
    for (int i = 0; i != operations; ++i) {
      timer.expires_at(std::chrono::steady_clock::time_point());
      co_await timer.async_wait(use_task);
    }
  s.SetItemsProcessed(s.iterations() * operations);
}

task<> echo_server(tcp::socket& socket) {
  char byte;
  for (int i = 0; i != operations; ++i) {
    co_await socket.async_read_some(asio::buffer(&byte, 1), use_task);
    co_await socket.async_write_some(asio::buffer(&byte, 1), use_task);
  }
}
task<> echo_client(tcp::socket& socket) {
  char byte = 'x';
  for (int i = 0; i != operations; ++i) {
    co_await socket.async_write_some(asio::buffer(&byte, 1), use_task);
    co_await socket.async_read_some(asio::buffer(&byte, 1), use_task);
  }
}
task<> echo(items::state& s) {
  auto pair = connected_pair(co_await tandem::this_task::executor);
  for (auto _ : s) co_await tandem::gather(echo_server(pair.server), echo_client(pair.client));
  s.SetItemsProcessed(s.iterations() * operations);
}

/// A program of 20 tasks: fetchers that share a gate, sleep, and yield.
task<int> worker(int i) {
  for (int k = 0; k != 3; ++k) {
    co_await tandem::yield();
    co_await tandem::sleep_for(std::chrono::milliseconds(i % 5));
  }
  co_return i;
}
task<int> twenty_tasks() {
  std::vector<task<int>> workers;
  for (int i = 0; i != 20; ++i) workers.push_back(worker(i));
  const auto values = co_await tandem::gather(std::move(workers));
  co_return values.back();
}
void schedules(items::state& s) {
  constexpr int n = 10'000;
  for (auto _ : s)
    for (int seed = 1; seed <= n; ++seed)
      benchmark::DoNotOptimize(tandem::simulate(twenty_tasks(), {.seed = static_cast<std::uint64_t>(seed)}));
}

}  // namespace

int main(int argc, char** argv) {
  add_shared_items();
  items::add("spawn_and_join", items::run<spawn_and_join>);
  items::add("race", items::run<race>)->Arg(2)->Arg(100);
  items::add("due_timer", items::run<due_timer>);
  items::add("echo", items::run<echo>);
  items::add("schedules", schedules)->Unit(benchmark::kMillisecond);
  add_pool_items();
  add_cache_items();
  add_limit_items();
  add_observed_items();
  add_thread_items();
  return items::run_chosen(argc, argv);
}
