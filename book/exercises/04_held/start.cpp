// Exercise 04, a permit held too long. scrape reads a page and then the three pages that it links to, and so on; no
// more pages are read at a time than `limit` has permits. As it is it never ends: see who waits for whom, and repair
// it, without another limit and without another semaphore. To check it: ./examples/run check 04
#include <tandem/gather.hpp>
#include <tandem/run.hpp>
#include <tandem/semaphore.hpp>

using namespace std::chrono_literals;
using namespace tandem;

task<> read_page();  // takes 100 ms; for who has a permit

task<> scrape(semaphore& limit, int depth) {
  const permit turn = co_await limit.acquire();  // TODO: it is held for too long
  co_await read_page();
  if (depth != 0) co_await gather(scrape(limit, depth - 1), scrape(limit, depth - 1), scrape(limit, depth - 1));
}

#include "check.hpp"
