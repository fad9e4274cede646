// Exercise 07, a menu: a solution.
#include <tandem/cached.hpp>
#include <tandem/run.hpp>

#include <string>

using namespace std::chrono_literals;
using namespace tandem;

task<std::string> write_menu(std::string meal);  // takes 10 minutes, and gives "lunch of 10 min", say

auto menus() {  // what is given is called with a meal, and awaited
  return cached(write_menu, {.ttl = 60min, .refresh_ahead = 20min});
}

#include "check.hpp"
