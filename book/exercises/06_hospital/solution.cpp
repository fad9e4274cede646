// Exercise 06, who waits for whom: a solution.
#include <tandem/priority_scheduler.hpp>
#include <tandem/run.hpp>

using namespace std::chrono_literals;
using namespace tandem;

task<> walk();             // takes 20 minutes
task<int> test_blood();    // takes 10 minutes, and gives what the surgeon needs
task<> cut(int in_blood);  // takes 60 minutes

task<> operate(priority_handle<int> blood) {
  const int in_blood = co_await blood;  // which lends the test the surgeon's priority
  co_await cut(in_blood);
}

task<> hospital(priority_scheduler& nurses) {  // it has two slots
  for (int patient = 0; patient != 4; ++patient) nurses.submit({.priority = 5}, walk);
  const priority_handle<int> blood = nurses.submit({.priority = 9}, test_blood);
  nurses.submit({.priority = 1}, operate, blood);
  co_await nurses.drain();
}

#include "check.hpp"
