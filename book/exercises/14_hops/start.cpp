// Exercise 14, one hop for all. count_right_names asks a database for the names of the users 1 to 1,000, and counts
// those that are right. As it is it goes to a thread and back for each of them, which takes longer than the asking: let
// one hop do for all, and still leave the loop to others. To check it: ./examples/run check 14
#include <tandem/run.hpp>

#include <string>

#include "given.hpp"

using namespace std::chrono_literals;
using namespace tandem;

task<int> count_right_names(database& db) {
  int right = 0;
  for (int user = 1; user <= 1000; ++user) {
    const auto ask = [&] { return db.name_of(user); };
    const std::string name = co_await hop(ask);  // TODO: a hop for each
    if (name == "user " + std::to_string(user)) ++right;
  }
  co_return right;
}

#include "check.hpp"
