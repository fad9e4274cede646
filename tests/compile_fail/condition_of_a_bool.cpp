// expect: a condition waits for a predicate, which it calls: c.wait([&] { return stock != 0; })
#include <tandem/event.hpp>
#include <tandem/task.hpp>

tandem::task<> parent(tandem::condition& c, int& stock) {
#if defined(FIXED)
  co_await c.wait([&] { return stock != 0; });
#else
  co_await c.wait(stock != 0);
#endif
}
