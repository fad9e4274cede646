// Exercise 08, a bakery. 20 bakers share 3 ovens, which nobody has told them. Each bakes one loaf after the other, for
// ever, and each only when `control` lets him. If it refuses (`overloaded`) he comes back when it says, and not before.
// As it is they all stand in front of the ovens. To check it: ./examples/run check 08
#include <tandem/adaptive_concurrency.hpp>
#include <tandem/run.hpp>

using namespace std::chrono_literals;
using namespace tandem;

task<> bake();  // waits for an oven, and then bakes a loaf for 20 minutes

task<> baker(adaptive_concurrency<>& control) {
  // TODO: nobody asks control
  for (;;) co_await bake();
}

#include "check.hpp"
