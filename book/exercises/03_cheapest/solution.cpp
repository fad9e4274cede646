// Exercise 03, the cheapest within reason: a solution.
#include <tandem/cancel.hpp>
#include <tandem/run.hpp>
#include <tandem/wait.hpp>

#include <optional>
#include <vector>

using namespace std::chrono_literals;
using namespace tandem;

struct provider {
  const char* name;
  std::chrono::milliseconds thinking_time;
  int euros;  // 0: sold out
};
const std::vector<provider> providers{
    {"train", 200ms, 89}, {"ferry", 100ms, 140}, {"plane", 300ms, 210}, {"bus", 50ms, 0}};

task<int> ask(provider p);  // takes its time to think

task<> collect(std::optional<int>& best) {
  std::vector<task<int>> questions;
  for (const provider& p : providers) questions.push_back(ask(p));
  auto answers = as_completed(std::move(questions));
  while (const auto one = co_await answers.next()) {
    if (!one->outcome.has_value()) continue;  // sold out
    if (!best || one->outcome.value() < *best) best = one->outcome.value();
  }
}

task<std::optional<int>> cheapest(std::chrono::milliseconds patience) {
  std::optional<int> best;  // out here, so that it is still there when collect is stopped
  co_await try_timeout(patience, collect(best));
  co_return best;
}

#include "check.hpp"
