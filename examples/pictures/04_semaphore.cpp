// What the picture of chapter 04 shows: callers with a semaphore each, and with one for all. It sleeps where the
// program asks over sockets, because virtual time, in which the picture is always the same, does not pass while a
// socket is read.
#include <tandem/gather.hpp>
#include <tandem/run.hpp>
#include <tandem/semaphore.hpp>

using namespace std::chrono_literals;
using namespace tandem;

task<> fetch(semaphore& limit) {
  const permit turn = co_await limit.acquire();
  co_await sleep_for(100ms);
}

task<> scrape(semaphore& limit) { co_await gather(fetch(limit), fetch(limit), fetch(limit)); }

task<> scrape_with_its_own() {
  semaphore limit(2);
  co_await scrape(limit);
}

task<> each_its_own() { co_await gather(scrape_with_its_own(), scrape_with_its_own(), scrape_with_its_own()); }

task<> one_for_all() {
  semaphore limit(2);
  co_await gather(scrape(limit), scrape(limit), scrape(limit));
}

task<> both() {
  co_await each_its_own();
  co_await one_for_all();
}

int main() { run(both()); }
