// Exercise 14, one hop for all: a solution.
#include <tandem/run.hpp>

#include <string>

#include "given.hpp"

using namespace std::chrono_literals;
using namespace tandem;

task<int> count_right_names(database& db) {
  const auto ask_for_all = [&] {
    int right = 0;
    for (int user = 1; user <= 1000; ++user)
      if (db.name_of(user) == "user " + std::to_string(user)) ++right;
    return right;
  };
  co_return co_await hop(ask_for_all);
}

#include "check.hpp"
