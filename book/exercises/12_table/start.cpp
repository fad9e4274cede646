// Exercise 12, a table for four. Each philosopher takes the fork of his seat, says a word to his neighbour, and takes
// the next one. As it is, all of them wait for ever: read in the await tree who has what the others wait for, and let
// one philosopher do it in another order. To check it: ./examples/run check 12
#include <tandem/mutex.hpp>
#include <tandem/run.hpp>

#include <vector>

using namespace std::chrono_literals;
using namespace tandem;

task<> eat(std::size_t seat);  // takes a minute; for who has both forks

task<> dine(std::vector<mutex>& forks, std::size_t seat) {
  // TODO: all take the first fork, and nobody gets the second
  const mutex_lock first = co_await forks[seat].lock();
  co_await sleep_for(1s);
  const mutex_lock second = co_await forks[(seat + 1) % forks.size()].lock();
  co_await eat(seat);
}

#include "check.hpp"
