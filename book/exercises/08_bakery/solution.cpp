// Exercise 08, a bakery: a solution.
#include <tandem/adaptive_concurrency.hpp>
#include <tandem/run.hpp>

using namespace std::chrono_literals;
using namespace tandem;

task<> bake();  // waits for an oven, and then bakes a loaf for 20 minutes

task<> baker(adaptive_concurrency<>& control) {
  for (;;) {
    clock::duration rest{};
    try {
      co_await control.run(bake);
    } catch (const overloaded& refused) {
      rest = refused.retry_after();  // a handler cannot wait
    }
    co_await sleep_for(rest);
  }
}

#include "check.hpp"
