// The check of exercise 07: a kitchen that notes when it writes, and guests who know what they should get.
#include "../checking.hpp"

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>

using namespace checking;

std::vector<std::string> written;  // "lunch at 0 ms"
bool on_fire = false;

task<std::string> write_menu(std::string meal) {
  goes_on();
  written.push_back(meal + " at " + word(checking::now()));
  co_await sleep_for(10min);
  if (on_fire) throw std::runtime_error("the kitchen is on fire");
  co_return meal + " of " + word(checking::now());
}

template <class Menus>
task<> guest(Menus& ask, const char* who, std::string meal, duration comes, std::string gets, duration at) {
  co_await sleep_until(clock::time_point(comes));
  const std::string menu = co_await ask(meal);
  expect(menu == gets, who, ", who comes at ", comes, ", gets ", menu, "; it should be ", gets);
  expect(checking::now() == at, who, ", who comes at ", comes, ", has the menu at ", checking::now(),
         "; it should be at ", at);
}

void must_be_written(std::vector<std::string> times, const char* why) {
  expect(written == times, "the kitchen wrote ", list(written), "; it should write ", list(times), ": ", why);
}

task<> together() {
  auto ask = menus();
  co_await gather(guest(ask, "Ann", "lunch", 0min, "lunch of 10 min", 10min),
                  guest(ask, "Ben", "lunch", 0min, "lunch of 10 min", 10min),
                  guest(ask, "Cleo", "dinner", 5min, "dinner of 15 min", 15min),
                  guest(ask, "Dora", "lunch", 45min, "lunch of 10 min", 45min));
  must_be_written({"lunch at 0 ms", "dinner at 5 min"},
                  "who asks together, or while the menu is good, gets the same one");
}

task<> later() {
  auto ask = menus();
  co_await gather(guest(ask, "Ann", "lunch", 0min, "lunch of 10 min", 10min),
                  guest(ask, "Emil", "lunch", 49min, "lunch of 10 min", 49min),
                  guest(ask, "Finn", "lunch", 55min, "lunch of 10 min", 55min),  // it is written anew now
                  guest(ask, "Gina", "lunch", 75min, "lunch of 65 min", 75min),
                  guest(ask, "Hugo", "lunch", 130min, "lunch of 140 min", 140min));
  must_be_written({"lunch at 0 ms", "lunch at 55 min", "lunch at 130 min"},
                  "it is good for 60 minutes, and who asks in the last 20 of these has it written anew");
}

template <class Menus>
task<> leaves(Menus& ask) {
  co_await try_timeout(5min, guest(ask, "Ida", "lunch", 0min, "", 0min));
}

task<> one_leaves() {
  auto ask = menus();
  co_await gather(leaves(ask), guest(ask, "Jan, who asks together with Ida, who leaves after 5 min", "lunch", 0min,
                                     "lunch of 10 min", 10min));
}

task<> fire() {
  auto ask = menus();
  on_fire = true;
  const auto both = co_await gather(return_exceptions, guest(ask, "Kai", "lunch", 0min, "", 0min),
                                    guest(ask, "Lea", "lunch", 0min, "", 0min));
  expect(!std::get<0>(both).has_value() && !std::get<1>(both).has_value(),
         "the kitchen was on fire, and a guest did not hear of it");
  on_fire = false;
  co_await guest(ask, "Mia, after a fire in the kitchen", "lunch", 20min, "lunch of 30 min", 30min);
}

int main() {
  return verdict("one menu for all who ask, good for 60 minutes, and nobody waits for one that is in use", [] {
    for (task<> (*evening)() : {together, later, one_leaves, fire}) {
      written.clear();
      if (!run("an evening with these guests", evening()) || !problems().empty()) return;
    }
  });
}
