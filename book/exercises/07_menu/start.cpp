// Exercise 07, a menu. The kitchen writes the menu of a meal when it is asked, which takes 10 minutes. menus gives what
// the guests ask instead: guests who ask together wait for one and the same menu, and a menu is good for 60 minutes. In
// the last 20 of these a guest gets it at once, and it is written anew meanwhile. To check it: ./examples/run check 07
#include <tandem/cached.hpp>
#include <tandem/run.hpp>

#include <string>

using namespace std::chrono_literals;
using namespace tandem;

task<std::string> write_menu(std::string meal);  // takes 10 minutes, and gives "lunch of 10 min", say

auto menus() {  // what is given is called with a meal, and awaited
  // TODO: the kitchen is asked by every guest
  return write_menu;
}

#include "check.hpp"
