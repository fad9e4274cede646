// Exercise 13, a museum: a solution.
#include <tandem/rate_limiter.hpp>
#include <tandem/run.hpp>

using namespace std::chrono_literals;
using namespace tandem;

void walks_in(const char* who);
void is_told(const char* who, clock::duration how_long);
void is_let_in(const char* who);

const token_bucket rule{.rate = 2, .burst = 3, .per = 60s};

task<> visit(rate_limiter& door, const char* who, std::size_t people) {  // the door has your rule
  const rate_verdict now = door.try_acquire(people);
  if (now) {
    walks_in(who);
    co_return;
  }
  is_told(who, now.retry_after);
  co_await door.acquire(people);  // in line, and not by the clock: others may have come before
  is_let_in(who);
}

#include "check.hpp"
