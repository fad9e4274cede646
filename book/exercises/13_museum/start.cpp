// Exercise 13, a museum. It lets 3 people in, and then 2 more each minute; if nobody comes, at most 3 at once after
// that. Write its rule. A group goes in together: it walks in if all of it may now; otherwise it is told after how
// long, waits for its turn, and is let in. Nobody overtakes. To check it: ./examples/run check 13
#include <tandem/rate_limiter.hpp>
#include <tandem/run.hpp>

using namespace std::chrono_literals;
using namespace tandem;

void walks_in(const char* who);
void is_told(const char* who, clock::duration how_long);
void is_let_in(const char* who);

const token_bucket rule{.rate = 1, .burst = 1, .per = 1s};  // TODO

task<> visit(rate_limiter& door, const char* who, std::size_t people) {  // the door has your rule
  // TODO
  walks_in(who);
  co_return;
}

#include "check.hpp"
