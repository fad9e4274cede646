// Exercise 05, wait, or turn away. A lab has two workers and one place in line; ten customers come, one every 20 ms,
// each with a picture to print. The patient wait until there is a place, the others are turned away. Then the
// lab closes, and front_desk ends when everything that was accepted is printed. To check it: ./examples/run check 05
#include <tandem/run.hpp>
#include <tandem/worker_pool.hpp>

using namespace std::chrono_literals;
using namespace tandem;

struct tally {
  int printed = 0, turned_away = 0;
};

task<> print();  // takes 95 ms

task<tally> front_desk(bool patient) {
  tally t;
  for (int customer = 0; customer != 10; ++customer) {
    // TODO: there is no lab, and nobody prints
    co_await sleep_for(20ms);
  }
  co_return t;
}

#include "check.hpp"
