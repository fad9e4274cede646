// What the picture of chapter 14 shows: the same four requests by one customer, by two, and by four. It sleeps where
// the program asks over sockets, because virtual time, in which the picture is always the same, does not pass while a
// socket is read.
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

using namespace std::chrono_literals;
using namespace tandem;

task<> request() { co_await sleep_for(100ms); }

task<> customer(int requests) {
  for (int i = 0; i != requests; ++i) co_await request();
}

task<> one() { co_await customer(4); }
task<> two() { co_await gather(customer(2), customer(2)); }
task<> four() { co_await gather(customer(1), customer(1), customer(1), customer(1)); }

task<> all() {
  co_await one();
  co_await two();
  co_await four();
}

int main() { run(all()); }
