// Exercise 10, an answer for somebody else. Somebody asks a clerk two questions, and waits for the first answer for a
// second at most. The clerk goes on thinking about it, and when he is asked again he gives the answer that he owes.
// Repair at_the_counter, and leave the clerk alone. To check it: ./examples/run check 10
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

task<std::string> at_the_counter(resource_pool<clerk>& clerks, clock::duration first_takes) {  // there is one at a time
  // TODO: the second answer may be that to the first question
  const lease<clerk> he = co_await clerks.acquire();
  co_await try_timeout(1s, he->ask("A", first_takes));
  co_return co_await he->ask("B", 1s);
}

#include "check.hpp"
