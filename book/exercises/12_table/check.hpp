// The check of exercise 12: tables of several sizes, where it is seen who eats, and with which forks.
#include "../checking.hpp"

#include <tandem/gather.hpp>

#include <algorithm>

using namespace checking;

std::vector<mutex>* table;
std::vector<int> meals;
std::vector<bool> eating;

task<> eat(std::size_t seat) {
  goes_on();
  const std::size_t n = table->size(), right = (seat + 1) % n;
  expect((*table)[seat].is_locked() && (*table)[right].is_locked(), "the philosopher of seat ", seat,
         " eats, and does not have the forks ", seat, " and ", right);
  expect(!eating[right] && !eating[(seat + n - 1) % n], "the philosopher of seat ", seat,
         " eats together with a neighbour, with whom he shares a fork");
  eating[seat] = true;
  co_await sleep_for(1min);
  ++meals[seat];
  eating[seat] = false;
}

task<> dinner(std::size_t n) {
  std::vector<mutex> forks(n);
  table = &forks;
  meals.assign(n, 0);
  eating.assign(n, false);
  std::vector<task<>> all;
  for (std::size_t seat = 0; seat != n; ++seat) all.push_back(dine(forks, seat));
  co_await gather(std::move(all));
  for (std::size_t seat = 0; seat != n; ++seat)
    expect(meals[seat] == 1, "at a table for ", n, " the philosopher of seat ", seat, " has eaten ", meals[seat],
           " times, not once");
  expect(std::none_of(forks.begin(), forks.end(), [](const mutex& f) { return f.is_locked(); }),
         "a fork was never given back");
}

int main() {
  return verdict("everybody eats, with two forks, at tables for 4, 5 and 2", [] {
    for (std::size_t n : {4u, 5u, 2u})
      for (std::uint64_t seed = 0; seed != 20; ++seed)
        if (!run(sentence("a table for ", n), dinner(n), seed) || !problems().empty()) return;
  });
}
