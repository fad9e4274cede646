// Exercise 09, a shaky line. ask_patiently asks up to 5 times, since the line often breaks: 100 ms after the first
// failure, then twice as long each time, without jitter. All together it takes no more than a second. What no other
// attempt can help is not tried again; what fails in the end is thrown as it is. To check it: ./examples/run check 09
#include <tandem/retry.hpp>
#include <tandem/run.hpp>

using namespace std::chrono_literals;
using namespace tandem;

task<int> ask();  // takes 10 ms, and then gives an answer, or throws that the line broke, or that the question is wrong

task<int> ask_patiently() {
  // TODO
  co_return co_await ask();
}

#include "check.hpp"
