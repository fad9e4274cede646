// The check of exercise 06: patients, a laboratory and a surgeon who note when they are served.
#include "../checking.hpp"

using namespace checking;

int walks, tests, cuts, found;
duration cut_at, test_at;

task<> walk() {
  goes_on();
  co_await sleep_for(20min);
  ++walks;
}

task<int> test_blood() {
  goes_on();
  ++tests;
  test_at = checking::now();
  co_await sleep_for(10min);
  co_return 7;
}

task<> cut(int in_blood) {
  goes_on();
  ++cuts;
  cut_at = checking::now();
  found = in_blood;
  co_await sleep_for(60min);
}

task<> day() {
  priority_scheduler nurses({.slots = 2});
  co_await hospital(nurses);
  expect(tests == 1, "the blood was tested ", tests, " times, not once");
  expect(cuts == 1, "there were ", cuts, " operations, not one");
  if (cuts == 1) {
    expect(found == 7, "the surgeon was told ", found, "; the test says 7");
    expect(cut_at == 10min, "the surgeon cut after ", cut_at,
           "; he could have had the blood after 10 min. The test began after ", test_at,
           cut_at > 10min ? ", when those had been served who are less urgent than the surgeon, but more than the test"
                          : "");
  }
  expect(walks == 4, walks, " patients were taken for a walk when hospital ended, not 4");
  const duration end = checking::now();
  expect(end == 90min || cut_at != 10min, "all was done after ", end, ", not after 90 min");
  std::size_t known = 0;
  const auto stats = nurses.stats();
  for (const priority_stats& p : stats.priorities)
    if (p.priority == 1 || p.priority == 5 || p.priority == 9) ++known;
  expect(stats.submitted == 6, "the nurses had ", stats.submitted, " jobs; there are 4 walks, a test and an operation");
  expect(known == 3 && stats.priorities.size() == 3,
         "the priorities are not those of the exercise: 5 for the walks, 9 for the test, 1 for the surgeon");
}

int main() {
  return verdict("the surgeon has the blood after 10 minutes: the test was lent his priority",
                 [] { run("hospital", day()); });
}
