// Exercise 04, a permit held too long: a solution.
#include <tandem/gather.hpp>
#include <tandem/run.hpp>
#include <tandem/semaphore.hpp>

using namespace std::chrono_literals;
using namespace tandem;

task<> read_page();  // takes 100 ms; for who has a permit

task<> scrape(semaphore& limit, int depth) {
  {
    const permit turn = co_await limit.acquire();
    co_await read_page();
  }  // it is for reading, and not for what follows from it
  if (depth != 0) co_await gather(scrape(limit, depth - 1), scrape(limit, depth - 1), scrape(limit, depth - 1));
}

#include "check.hpp"
