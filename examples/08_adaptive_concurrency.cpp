// As much as it can take: a limit that finds itself, while the service changes (C 自适应并发控制)
#include <tandem/adaptive_concurrency.hpp>
#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>
#include <tandem/semaphore.hpp>

#include <asio/detached.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>
#include <asio/write.hpp>

#include <fstream>
#include <iomanip>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace tandem;
using asio::ip::tcp;

// [service]
struct service {  // what nobody knows: how many workers it has, and how long a call takes them
  semaphore workers{8};
  clock::duration work = 10ms;

  task<> answer() {
    const permit worker = co_await workers.acquire();
    co_await sleep_for(work);
  }
};

task<> changes(service& s) {
  co_await sleep_for(4s);
  s.work = 30ms;
  co_await sleep_for(4s);
  s.workers.resize(24);
}
// [/service]

// [clients]
template <class Call>
task<> client(adaptive_concurrency<>& control, Call call) {
  for (;;) co_await control.run(call);
}
// [/clients]

// [curve]
struct sample {
  double seconds, limit, milliseconds;
};

task<> observe(const adaptive_concurrency<>& control, std::vector<sample>& curve) {
  std::cout << "   s  limit  calls/s     ms\n" << std::fixed;
  std::uint64_t before = 0;
  for (int i = 1;; ++i) {
    co_await sleep_for(100ms);
    const adaptive_concurrency_stats now = control.stats();
    curve.push_back({i / 10.0, double(now.limit), double(now.mean / 1us) / 1000});
    if (i % 10 != 0) continue;
    std::cout << std::setw(4) << i / 10 << std::setw(7) << now.limit << std::setw(9) << now.succeeded - before
              << std::setw(7) << std::setprecision(1) << curve.back().milliseconds << '\n';
    before = now.succeeded;
  }
}

void draw(const std::vector<sample>& curve, const char* file) {
  std::ofstream svg(file);
  svg << "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 640 240' font-family='sans-serif' font-size='12'>\n"
         "<rect width='640' height='240' fill='white'/>\n";
  const auto line = [&](const char* colour, double sample::*value, double scale) {
    svg << "<polyline fill='none' stroke-width='2' stroke='" << colour << "' points='";
    for (const sample& s : curve) svg << s.seconds * 50 + 20 << ',' << 220 - s.*value * scale << ' ';
    svg << "'/>\n";
  };
  line("#2563eb", &sample::limit, 5);
  line("#dc2626", &sample::milliseconds, 2.5);
  svg << "<text x='24' y='16' fill='#2563eb'>limit: the top is 40</text>\n"
         "<text x='170' y='16' fill='#dc2626'>time of a call: the top is 80 ms</text>\n</svg>\n";
}
// [/curve]

// [virtual]
task<> twelve_seconds(adaptive_concurrency<>& control, std::vector<sample>& curve) {
  service s;
  std::vector<task<>> all;
  all.push_back(changes(s));
  all.push_back(observe(control, curve));
  const auto call = [&] { return s.answer(); };
  for (int i = 0; i != 100; ++i) all.push_back(client(control, call));
  auto everybody = gather(std::move(all));
  co_await try_timeout(12s + 1ms, std::move(everybody));
}
// [/virtual]

// [sockets]
task<> answer(service& s, tcp::socket peer) {
  for (char c = 0;;) {
    co_await asio::async_read(peer, asio::buffer(&c, 1), use_task);
    co_await s.answer();
    co_await asio::async_write(peer, asio::buffer(&c, 1), use_task);
  }
}

task<> serve(service& s, tcp::acceptor& door) {
  for (;;) {
    tcp::socket peer = co_await door.async_accept(use_task);
    peer.set_option(tcp::no_delay(true));
    tandem::spawn(door.get_executor(), answer(s, std::move(peer)), asio::detached);
  }
}

task<> remote_client(adaptive_concurrency<>& control, tcp::endpoint server) {
  tcp::socket socket(co_await this_task::executor);
  co_await socket.async_connect(server, use_task);
  socket.set_option(tcp::no_delay(true));
  const auto call = [&]() -> task<> {
    char c = '?';
    co_await asio::async_write(socket, asio::buffer(&c, 1), use_task);
    co_await asio::async_read(socket, asio::buffer(&c, 1), use_task);
  };
  co_await client(control, call);
}

task<> over_sockets(adaptive_concurrency<>& control) {
  service s;
  tcp::acceptor door(co_await this_task::executor, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  std::vector<task<>> all;
  all.push_back(serve(s, door));
  for (int i = 0; i != 60; ++i) all.push_back(remote_client(control, door.local_endpoint()));
  auto everybody = gather(std::move(all));
  co_await try_timeout(2s, std::move(everybody));
}
// [/sockets]

// [main]
int main(int argc, char** argv) {
  adaptive_concurrency<> control{{.initial = 20, .min = 1, .max = 100}};
  std::vector<sample> curve;
  simulate(twelve_seconds(control, curve));
  if (argc > 1) draw(curve, argv[1]);
  std::cout << control.explain();

  adaptive_concurrency<> remote{{.initial = 40, .min = 1, .max = 100}};
  run(over_sockets(remote));
  const std::size_t limit = remote.limit();
  std::cout << "over sockets, 8 workers: " << (limit >= 4 && limit <= 20 ? "from 4 to 20" : std::to_string(limit))
            << '\n';
}
// [/main]
