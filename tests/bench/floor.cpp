// The floor: items.hpp on floor.hpp, and Asio's operations with plain callbacks.
#include "floor.hpp"

namespace lib = bare;
#include "items.hpp"
#include "sockets.hpp"

namespace {

using asio::ip::tcp;
using error_code = asio::error_code;

struct due_timer {
  asio::steady_timer timer;
  int left;
  void wait() {
    timer.expires_at(std::chrono::steady_clock::time_point());
    timer.async_wait([this](error_code) {
      if (--left != 0) wait();
    });
  }
};
void due_timers(items::state& s) {
  asio::io_context io(1);
  due_timer t{asio::steady_timer(io), 0};
  for (auto _ : s) {
    t.left = operations;
    t.wait();
    io.restart();
    io.run();
  }
  s.SetItemsProcessed(s.iterations() * operations);
}

/// Sends a byte and waits for it to come back, or the other way round.
struct echo_end {
  tcp::socket& socket;
  bool sends_first;
  int left = 0;
  char byte = 'x';
  void start() {
    left = operations;
    sends_first ? send() : receive();
  }
  void send() {
    socket.async_write_some(asio::buffer(&byte, 1), [this](error_code, std::size_t) {
      if (sends_first || --left != 0) receive();
    });
  }
  void receive() {
    socket.async_read_some(asio::buffer(&byte, 1), [this](error_code, std::size_t) {
      if (!sends_first || --left != 0) send();
    });
  }
};
void echo(items::state& s) {
  asio::io_context io(1);
  auto pair = connected_pair(io.get_executor());
  echo_end client{pair.client, true}, server{pair.server, false};
  for (auto _ : s) {
    server.start();
    client.start();
    io.restart();
    io.run();
  }
  s.SetItemsProcessed(s.iterations() * operations);
}

}  // namespace

int main(int argc, char** argv) {
  items::add_all();
  items::add("due_timer", due_timers);
  items::add("echo", echo);
  return items::run_chosen(argc, argv);
}
