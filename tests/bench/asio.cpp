// Asio's own coroutines: the same work with asio::awaitable and co_spawn.
#if defined(__clang__)  // Asio before 1.26 does not notice that clang has coroutines
#define ASIO_HAS_CO_AWAIT 1
#define ASIO_HAS_STD_COROUTINE 1
#endif

#include "harness.hpp"
#include "sockets.hpp"

#include <asio/awaitable.hpp>
#include <asio/bind_executor.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/experimental/awaitable_operators.hpp>
#include <asio/experimental/channel.hpp>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>

#include <exception>
#include <thread>
#include <utility>
#include <vector>

namespace {

using asio::awaitable, asio::use_awaitable, asio::ip::tcp;
using items::state;

template <auto Item>
void run(state& s) {
  asio::io_context io(1);
  asio::co_spawn(io, Item(s), asio::detached);
  io.run();
}

/// What Asio has no function for: all at once, and wait for the last. A timer that never fires is the signal.
template <auto Child>
awaitable<void> gather(state& s) {
  const auto executor = co_await asio::this_coro::executor;
  const int n = static_cast<int>(s.range(0));
  for (auto _ : s) {
    std::vector<int> values(static_cast<std::size_t>(n));
    asio::steady_timer all(executor, asio::steady_timer::time_point::max());
    int left = n;
    for (int i = 0; i != n; ++i)
      asio::co_spawn(executor, Child(i), [&, i](std::exception_ptr, int value) {
        values[static_cast<std::size_t>(i)] = value;
        if (--left == 0) all.cancel();
      });
    asio::error_code ignored;
    co_await all.async_wait(asio::redirect_error(use_awaitable, ignored));
    benchmark::DoNotOptimize(values.back());
  }
  s.SetItemsProcessed(s.iterations() * n);
}
awaitable<int> immediate(int i) { co_return i; }
awaitable<int> yielding(int i) {
  co_await asio::post(co_await asio::this_coro::executor, use_awaitable);
  co_return i;
}
awaitable<int> sleeps(int i) {
  asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::milliseconds(10));
  co_await timer.async_wait(use_awaitable);
  co_return i;
}

awaitable<void> yield(state& s) {
  constexpr int n = 1000;
  const auto executor = co_await asio::this_coro::executor;
  for (auto _ : s)
    for (int i = 0; i != n; ++i) co_await asio::post(executor, use_awaitable);
  s.SetItemsProcessed(s.iterations() * n);
}

awaitable<int> deep(int levels) {
  if (levels == 1) co_return 1;
  const int below = co_await deep(levels - 1);
  co_return below + 1;
}
awaitable<void> nested_await(state& s) {
  constexpr int levels = 10;
  for (auto _ : s) {
    const int sum = co_await deep(levels);
    benchmark::DoNotOptimize(sum);
  }
  s.SetItemsProcessed(s.iterations() * levels);
}

awaitable<void> one_awaited(state& s) {
  constexpr int n = 1000;
  for (auto _ : s)
    for (int i = 0; i != n; ++i) {
      const int value = co_await immediate(i);
      benchmark::DoNotOptimize(value);
    }
  s.SetItemsProcessed(s.iterations() * n);
}

awaitable<void> one_child(state& s) {
  constexpr int n = 1000;
  const auto executor = co_await asio::this_coro::executor;
  for (auto _ : s)
    for (int i = 0; i != n; ++i) {
      const int value = co_await asio::co_spawn(executor, immediate(i), use_awaitable);
      benchmark::DoNotOptimize(value);
    }
  s.SetItemsProcessed(s.iterations() * n);
}

awaitable<int> waits(asio::steady_timer& timer) {
  co_await timer.async_wait(use_awaitable);
  co_return 0;
}
awaitable<void> race(state& s) {
  using namespace asio::experimental::awaitable_operators;
  asio::steady_timer never(co_await asio::this_coro::executor, asio::steady_timer::time_point::max());
  for (auto _ : s) {
    const auto first = co_await (waits(never) || immediate(1));
    benchmark::DoNotOptimize(first.index());
  }
  s.SetItemsProcessed(s.iterations());
}

using channel = asio::experimental::channel<void(asio::error_code, int)>;
awaitable<void> pushes(channel& q, int n) {
  for (int i = 0; i != n; ++i) co_await q.async_send(asio::error_code(), i, use_awaitable);
}
/// Asio's bounded queue.
awaitable<void> queue(state& s) {
  constexpr int n = 10'000;
  const auto executor = co_await asio::this_coro::executor;
  for (auto _ : s) {
    channel q(executor, static_cast<std::size_t>(s.range(0)));
    asio::co_spawn(executor, pushes(q, n), asio::detached);
    int sum = 0;
    for (int i = 0; i != n; ++i) sum += co_await q.async_receive(use_awaitable);
    benchmark::DoNotOptimize(sum);
  }
  s.SetItemsProcessed(s.iterations() * n);
}

awaitable<void> across_threads(state& s, asio::io_context& there) {
  constexpr int n = 100'000;
  const auto executor = co_await asio::this_coro::executor;
  for (auto _ : s) {
    std::vector<int> values(static_cast<std::size_t>(n));
    asio::steady_timer all(executor, asio::steady_timer::time_point::max());
    int left = n;
    for (int i = 0; i != n; ++i)
      asio::co_spawn(there, immediate(i), asio::bind_executor(executor, [&, i](std::exception_ptr, int value) {
                       values[static_cast<std::size_t>(i)] = value;
                       if (--left == 0) all.cancel();
                     }));
    asio::error_code ignored;
    co_await all.async_wait(asio::redirect_error(use_awaitable, ignored));
    benchmark::DoNotOptimize(values.back());
  }
  s.SetItemsProcessed(s.iterations() * n);
}
void run_across_threads(state& s) {
  asio::io_context there(1), here(1);
  auto work = asio::make_work_guard(there);
  std::thread thread([&] { there.run(); });
  asio::co_spawn(here, across_threads(s, there), asio::detached);
  here.run();
  work.reset();
  thread.join();
}

awaitable<void> memory(state& s) {
  const auto executor = co_await asio::this_coro::executor;
  for (auto _ : s) {
    constexpr int n = 100'000;
    std::vector<asio::steady_timer> timers;
    timers.reserve(n);
    const double before = items::heap_in_use();
    for (int i = 0; i != n; ++i) timers.emplace_back(executor, std::chrono::hours(1));
    int left = n;
    for (auto& t : timers) asio::co_spawn(executor, waits(t), [&](std::exception_ptr, int) { --left; });
    co_await asio::post(executor, use_awaitable);
    co_await asio::post(executor, use_awaitable);
    s.counters["bytes"] = (items::heap_in_use() - before) / n;
    for (auto& t : timers) t.cancel();
    while (left != 0) co_await asio::post(executor, use_awaitable);
  }
}

awaitable<void> due_timer(state& s) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  for (auto _ : s)
    for (int i = 0; i != operations; ++i) {
      timer.expires_at(std::chrono::steady_clock::time_point());
      co_await timer.async_wait(use_awaitable);
    }
  s.SetItemsProcessed(s.iterations() * operations);
}

awaitable<void> serve(tcp::socket& socket) {
  char byte;
  for (;;) {
    co_await socket.async_read_some(asio::buffer(&byte, 1), use_awaitable);
    co_await socket.async_write_some(asio::buffer(&byte, 1), use_awaitable);
  }
}
awaitable<void> echo(state& s, asio::io_context& io) {
  auto pair = connected_pair(io.get_executor());
  asio::co_spawn(io, serve(pair.server), asio::detached);
  char byte = 'x';
  for (auto _ : s)
    for (int i = 0; i != operations; ++i) {
      co_await pair.client.async_write_some(asio::buffer(&byte, 1), use_awaitable);
      co_await pair.client.async_read_some(asio::buffer(&byte, 1), use_awaitable);
    }
  s.SetItemsProcessed(s.iterations() * operations);
  io.stop();
}
void run_echo(state& s) {
  asio::io_context io(1);
  asio::co_spawn(io, echo(s, io), asio::detached);
  io.run();
}

}  // namespace

int main(int argc, char** argv) {
  using items::add;
  add("gather_immediate", run<gather<immediate>>)->Arg(10)->Arg(1'000)->Arg(100'000);
  add("gather_yielding", run<gather<yielding>>)->Arg(10)->Arg(1'000)->Arg(100'000);
  add("yield", run<yield>);
  add("nested_await", run<nested_await>);
  add("one_child", run<one_awaited>);
  add("spawn_and_join", run<one_child>);
  add("race", run<race>)->Arg(2);
  add("queue", run<queue>)->Arg(1)->Arg(64);
  add("across_threads", run_across_threads);
  add("memory_timer", run<memory>)->Iterations(1);
  add("sleeps", run<gather<sleeps>>)->Arg(100'000);
  add("due_timer", run<due_timer>);
  add("echo", run_echo);
  return items::run_chosen(argc, argv);
}
