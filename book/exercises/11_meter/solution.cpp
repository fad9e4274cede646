// Exercise 11, an operator of your own: a solution.
#include <tandem/generator.hpp>
#include <tandem/run.hpp>

#include <optional>

using namespace std::chrono_literals;
using namespace tandem;

generator<int> differences(generator<int> numbers) {
  const auto close = [&] { return numbers.close(); };
  co_await on_exit(close);
  std::optional<int> before;
  while (const auto number = co_await numbers.next()) {
    if (before) co_yield *number - *before;
    before = *number;
  }
}

#include "check.hpp"
