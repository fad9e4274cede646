// What the picture of chapter 12 shows: a page that is as slow as its slowest supplier. The program has its own
// simulations, and a blocked loop in real time, of which virtual time shows nothing.
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

using namespace std::chrono_literals;
using namespace tandem;

task<> ask_for_prices() { co_await sleep_for(30ms); }
task<> ask_for_frames(clock::duration delay) { co_await sleep_for(delay); }
task<> ask_for_stock() { co_await sleep_for(60ms); }

task<> order_page(clock::duration slow) {
  co_await gather(ask_for_prices(), ask_for_frames(slow), ask_for_stock());
}

task<> three_visits() {
  for (const clock::duration slow : {40ms, 900ms, 40ms}) co_await order_page(slow);
}

int main() { run(three_visits()); }
