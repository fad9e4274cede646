// Exercise 09, a shaky line: a solution.
#include <tandem/retry.hpp>
#include <tandem/run.hpp>

using namespace std::chrono_literals;
using namespace tandem;

task<int> ask();  // takes 10 ms, and then gives an answer, or throws that the line broke, or that the question is wrong

task<int> ask_patiently() {
  retry_options options;
  options.attempts = 5;
  options.base = 100ms;
  options.jitter = jitter_kind::none;
  options.total_timeout = 1s;
  co_return co_await retry(ask, options);
}

#include "check.hpp"
