// What the picture of chapter 02 shows: its requests, with sleeps where the program reads from sockets, because virtual
// time, in which the picture is always the same, does not pass while a socket is read.
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

#include <stdexcept>

using namespace std::chrono_literals;
using namespace tandem;

task<> price() { co_await sleep_for(150ms); }
task<> stock(int product) {
  co_await sleep_for(50ms);
  if (product == 13) throw std::runtime_error("no stock of product 13");
}
task<> review() { co_await sleep_for(250ms); }

task<> product_7() { co_await gather(price(), stock(7), review()); }
task<> product_13() { co_await gather(price(), stock(13), review()); }

task<> visit() {
  co_await product_7();
  try {
    co_await product_13();
  } catch (const std::runtime_error&) {
  }
}

int main() { run(visit()); }
