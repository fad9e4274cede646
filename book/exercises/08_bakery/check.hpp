// The check of exercise 08: a week in a bakery, with its ovens and a line that is short.
#include "../checking.hpp"

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/semaphore.hpp>

using namespace checking;

constexpr duration week = 7 * 24h;
constexpr std::size_t all_there_could_be = 3 * (week / 20min);
semaphore* ovens;
std::size_t loaves;
std::size_t at_the_ovens;               // those who bake, and those who wait for it
std::vector<std::size_t> each_evening;  // how many there were

struct standing_there {  // and leaving in whatever way
  standing_there() { ++at_the_ovens; }
  ~standing_there() { --at_the_ovens; }
  standing_there(const standing_there&) = delete;
};

task<> bake() {
  goes_on();
  const standing_there counted;
  const permit oven = co_await ovens->acquire();
  co_await sleep_for(20min);
  ++loaves;
}

task<> look_every_evening() {
  for (;;) {
    co_await sleep_for(24h);
    each_evening.push_back(at_the_ovens);
  }
}

task<> work(adaptive_concurrency<>& control) {
  std::vector<task<>> everybody;
  everybody.push_back(look_every_evening());
  for (int i = 0; i != 20; ++i) everybody.push_back(baker(control));
  co_await try_timeout(week + 1min, gather(std::move(everybody)));
}

task<> bakery() {
  semaphore three(3);
  ovens = &three;
  adaptive_concurrency<> control({.initial = 20, .window = 1h, .max_waiting = 5}, knee({.probe_interval = 24h}));
  co_await work(control);
  const auto stats = control.stats();
  if (!expect(stats.succeeded != 0, "nobody asked control before he baked: ",
              each_evening.empty() ? 0 : each_evening.back(), " bakers stood at 3 ovens at the end"))
    co_return;
  expect(loaves >= stats.succeeded && loaves <= stats.succeeded + 20, "of ", loaves, " loaves only ", stats.succeeded,
         " were baked by leave of control");
  expect(loaves * 100 >= all_there_could_be * 95, loaves, " loaves were baked in a week; there could be ",
         all_there_could_be, ", and 95 in 100 of these are enough");
  expect(stats.limit >= 4 && stats.limit <= 6, "control found a limit of ", stats.limit,
         "; for 3 ovens it should be from 4 to 6: it must see how long each loaf takes, and nothing else");
  expect(stats.shed != 0, "nobody was ever refused, so that somebody did not ask");
  expect(stats.shed < 6'000, stats.shed,
         " times somebody was refused: a baker came back before the time that he was told");
}

int main() {
  return verdict("the limit found itself, nobody stands in line for long, and the ovens are full",
                 [] { run("a week of 20 bakers", bakery()); });
}
