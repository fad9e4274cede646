// The floor: items.hpp on floor.hpp, and Asio's operations with plain callbacks.
#include "floor.hpp"

namespace lib = bare;
#include "items.hpp"
#include "sockets.hpp"

namespace {

using asio::ip::tcp;
using error_code = asio::error_code;

bare::race_arm ready_arm() { co_return 1; }
bare::race_arm waiting_arm(bare::cancellable_wait*& list) { co_return co_await bare::cancellable_wait(list) ? 1 : 0; }
/// All arms but the last wait; the last is ready, so they are cancelled.
lib::task<> race(items::state& s) {
  bare::cancellable_wait* waiters = nullptr;
  for (auto _ : s) {
    std::vector<bare::race_arm> arms;
    arms.reserve(static_cast<std::size_t>(s.range(0)));
    for (int i = 1; i != s.range(0); ++i) arms.push_back(waiting_arm(waiters));
    arms.push_back(ready_arm());
    const int value = co_await bare::race(std::move(arms));
    benchmark::DoNotOptimize(value);
  }
  s.SetItemsProcessed(s.iterations());
}

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
  add_shared_items();
  items::add("spawn_and_join", items::run<items::one_child>);  // a floor needs no group
  items::add("race", items::run<race>)->Arg(2)->Arg(100);
  items::add("due_timer", due_timers);
  items::add("echo", echo);
  add_pool_items();
  add_cache_items();
  add_limit_items();
  add_observed_items();
  add_thread_items();
  return items::run_chosen(argc, argv);
}
