// Exercise 10, an answer for somebody else: a solution.
#include <tandem/cancel.hpp>
#include <tandem/resource_pool.hpp>
#include <tandem/run.hpp>

#include <deque>
#include <string>

using namespace std::chrono_literals;
using namespace tandem;

class clerk {
 public:
  task<std::string> ask(std::string what, clock::duration takes);  // "the answer to ..."

 private:
  std::deque<std::string> answers_;  // that he owes, in the order in which he was asked
};

task<std::string> question(resource_pool<clerk>& clerks, std::string what, clock::duration takes) {
  const lease<clerk> he = co_await clerks.acquire();
  co_return co_await he->ask(what, takes);
}

task<std::string> at_the_counter(resource_pool<clerk>& clerks, clock::duration first_takes) {  // there is one at a time
  co_await try_timeout(1s, question(clerks, "A", first_takes));  // the limit is around the lease: a stop discards him
  co_return co_await question(clerks, "B", 1s);
}

#include "check.hpp"
