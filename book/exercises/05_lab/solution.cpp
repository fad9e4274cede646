// Exercise 05, wait, or turn away: a solution.
#include <tandem/run.hpp>
#include <tandem/worker_pool.hpp>

using namespace std::chrono_literals;
using namespace tandem;

struct tally {
  int printed = 0, turned_away = 0;
};

task<> print();  // takes 95 ms

task<tally> front_desk(bool patient) {
  worker_pool lab({.workers = 2, .backlog = 1});
  tally t;
  for (int customer = 0; customer != 10; ++customer) {
    if (patient) {
      co_await lab.submit(print);
      ++t.printed;
    } else if (lab.try_submit(print)) {
      ++t.printed;
    } else {
      ++t.turned_away;
    }
    co_await sleep_for(20ms);
  }
  lab.close();
  co_await lab.drain();
  co_return t;
}

#include "check.hpp"
