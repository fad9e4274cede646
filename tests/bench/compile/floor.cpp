// What any program on Asio pays: it posts one lambda and waits for one timer.
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>

#include <chrono>
#include <cstdio>

int main() {
  asio::io_context io;
  asio::post(io, [] { std::puts("hello"); });
  asio::steady_timer timer(io, std::chrono::milliseconds(1));
  timer.async_wait([](asio::error_code) {});
  io.run();
}
