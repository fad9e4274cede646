// Exercise 12, a table for four: a solution.
#include <tandem/mutex.hpp>
#include <tandem/run.hpp>

#include <algorithm>
#include <vector>

using namespace std::chrono_literals;
using namespace tandem;

task<> eat(std::size_t seat);  // takes a minute; for who has both forks

task<> dine(std::vector<mutex>& forks, std::size_t seat) {
  const std::size_t next = (seat + 1) % forks.size();
  const mutex_lock first = co_await forks[std::min(seat, next)].lock();  // the last seat takes fork 0 first
  co_await sleep_for(1s);
  const mutex_lock second = co_await forks[std::max(seat, next)].lock();
  co_await eat(seat);
}

#include "check.hpp"
