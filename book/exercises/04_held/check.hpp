// The check of exercise 04: a site that counts its readers, and knows how many permits are out.
#include "../checking.hpp"

using namespace checking;

semaphore* the_limit;
std::size_t reading, most, pages;

task<> read_page() {
  goes_on();
  ++pages;
  most = std::max(most, ++reading);
  const std::size_t out = the_limit->capacity() - the_limit->available();
  expect(reading <= out, "at ", checking::now(),
         " there was somebody who read a page without a permit (read: ", reading, ", permits taken: ", out, ")");
  co_await sleep_for(100ms);
  --reading;
}

task<> site(std::size_t permits, int depth, std::size_t expected_pages, duration expected_time) {
  semaphore limit(permits);
  the_limit = &limit;
  reading = most = pages = 0;
  co_await scrape(limit, depth);
  const std::string who = sentence("with ", count(permits, "permit"), " and a depth of ", depth);
  expect(pages == expected_pages, who, " ", pages, " pages were read; there are ", expected_pages);
  expect(most <= permits, who, " ", most, " pages were read at a time");
  expect(checking::now() == expected_time, who, " it took ", checking::now(), ", not ", expected_time,
         checking::now() > expected_time ? ": permits were held by somebody who does not read" : "");
  expect(limit.available() == permits, who, " ", permits - limit.available(), " of the permits never came back");
}

int main() {
  return verdict("13 pages, never more than 4 at a time, in 500 ms", [] {
    for (std::uint64_t seed = 0; seed != 20 && problems().empty(); ++seed) {
      if (!run("with 4 permits and a depth of 2, scrape", site(4, 2, 13, 500ms), seed)) return;
      run("with 1 permit and a depth of 1, scrape", site(1, 1, 4, 400ms), seed);
      run("with 5 permits and a depth of 3, scrape", site(5, 3, 40, 1s), seed);
    }
  });
}
