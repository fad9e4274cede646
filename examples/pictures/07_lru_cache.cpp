// What the picture of chapter 07 shows, since sockets have no virtual time: one load for all who ask meanwhile, one of
// whom leaves; a hit; and another load when the time to live is over.
#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/lru_cache.hpp>
#include <tandem/run.hpp>

using namespace std::chrono_literals;
using namespace tandem;

task<int> load(int) {
  co_await sleep_for(40ms);
  co_return 17;
}

task<> ask(lru_cache<int, int>& known, clock::duration wait) {
  co_await sleep_for(wait);
  co_await try_timeout(30ms, known.get(1, load));
}

task<> patient(lru_cache<int, int>& known, clock::duration wait) {
  co_await sleep_for(wait);
  co_await known.get(1, load);
  co_await sleep_for(5ms);
}

task<> weather() {
  lru_cache<int, int> known({.capacity = 100, .ttl = 100ms});
  co_await gather(ask(known, 0ms), patient(known, 10ms), patient(known, 20ms), patient(known, 80ms),
                  patient(known, 150ms));
}

int main() { run(weather()); }
