// Exercise 11, an operator of your own. differences gives by how much each number is larger than the one before. The
// numbers come from a meter, which must be switched off when nobody reads it any more, and differences is often left
// before its end. As it is the meter stays on: repair it. To check it: ./examples/run check 11
#include <tandem/generator.hpp>
#include <tandem/run.hpp>

#include <optional>

using namespace std::chrono_literals;
using namespace tandem;

generator<int> differences(generator<int> numbers) {
  // TODO: when this one is left, nobody closes `numbers`
  std::optional<int> before;
  while (const auto number = co_await numbers.next()) {
    if (before) co_yield *number - *before;
    before = *number;
  }
}

#include "check.hpp"
