// Exercise 06, who waits for whom. Two nurses have four walks to take (priority 5), a blood test to make (9), and a
// surgeon to help (1), who needs the test. As it is he gets it last of all, because the scheduler cannot know what he
// waits for. Let it know, and leave the priorities as they are. To check it: ./examples/run check 06
#include <tandem/event.hpp>
#include <tandem/priority_scheduler.hpp>
#include <tandem/run.hpp>

#include <functional>

using namespace std::chrono_literals;
using namespace tandem;

task<> walk();             // takes 20 minutes
task<int> test_blood();    // takes 10 minutes, and gives what the surgeon needs
task<> cut(int in_blood);  // takes 60 minutes

task<> test(int& in_blood, event& ready) {
  in_blood = co_await test_blood();
  ready.set();
}

task<> operate(int& in_blood, event& ready) {
  co_await ready.wait();
  co_await cut(in_blood);
}

task<> hospital(priority_scheduler& nurses) {  // it has two slots
  int in_blood = 0;
  event ready;
  for (int patient = 0; patient != 4; ++patient) nurses.submit({.priority = 5}, walk);
  // TODO: operate waits for an event; give it what it really waits for
  nurses.submit({.priority = 9}, test, std::ref(in_blood), std::ref(ready));
  nurses.submit({.priority = 1}, operate, std::ref(in_blood), std::ref(ready));
  co_await nurses.drain();
}

#include "check.hpp"
