// What the picture of chapter 10 shows: four customers and two connections, one of which is given up. It sleeps where
// the program asks over sockets, because virtual time, in which the picture is always the same, does not pass while a
// socket is read.
#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/resource_pool.hpp>
#include <tandem/run.hpp>

using namespace std::chrono_literals;
using namespace tandem;

struct connection {};
using pool = resource_pool<connection>;

task<connection> dial() {
  co_await sleep_for(50ms);
  co_return connection();
}

task<> asks(pool& lines) {
  const auto line = co_await lines.acquire();
  co_await sleep_for(100ms);
}

task<> gives_up(pool& lines) {
  const auto line = co_await lines.acquire();
  co_await sleep_for(10s);
}

task<> customers() {
  pool lines({.max = 2, .create = dial});
  co_await gather(try_timeout(180ms, gives_up(lines)), asks(lines), asks(lines), asks(lines));
  co_await lines.close();
}

int main() { run(customers()); }
