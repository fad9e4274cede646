// expect: a job is an awaitable, or a callable that takes these arguments as rvalues and returns one
#include <tandem/priority_scheduler.hpp>

tandem::task<int> report(int day);
int blocks(int day);

void all(tandem::priority_scheduler& scheduler) {
#if defined(FIXED)
  scheduler.submit({.priority = 3}, report, 1);
  scheduler.submit(report(2));
#else
  scheduler.submit({.priority = 3}, blocks, 1);
#endif
}
