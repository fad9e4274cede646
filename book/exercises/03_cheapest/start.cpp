// Exercise 03, the cheapest within reason. cheapest asks all providers at once, waits for `patience` at most, and gives
// the lowest price that has come by then; nothing, if none has. One that is sold out throws, and does no harm to the
// others; if all have answered, nobody waits any longer. To check it: ./examples/run check 03
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

task<std::optional<int>> cheapest(std::chrono::milliseconds patience) {
  // TODO
  std::optional<int> best;
  for (const provider& p : providers) {
    const int euros = co_await ask(p);
    if (!best || euros < *best) best = euros;
  }
  co_return best;
}

#include "check.hpp"
