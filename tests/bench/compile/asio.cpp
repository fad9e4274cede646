// The same hello with Asio's coroutines.
#if defined(__clang__)  // Asio before 1.26 does not notice that clang has coroutines
#define ASIO_HAS_CO_AWAIT 1
#define ASIO_HAS_STD_COROUTINE 1
#endif

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>

#include <chrono>
#include <cstdio>

asio::awaitable<void> after(std::chrono::milliseconds d, int& sum, int value) {
  asio::steady_timer timer(co_await asio::this_coro::executor, d);
  co_await timer.async_wait(asio::use_awaitable);
  sum += value;
}

int main() {
  asio::io_context io;
  int sum = 0;
  asio::co_spawn(io, after(std::chrono::milliseconds(1), sum, 1), asio::detached);
  asio::co_spawn(io, after(std::chrono::milliseconds(2), sum, 2), asio::detached);
  io.run();
  std::printf("hello %d\n", sum);
}
