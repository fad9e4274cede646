// expect: an awaitable is handed over as an rvalue: write std::move(x)
#include <tandem/race.hpp>
#include <tandem/semaphore.hpp>

tandem::task<> parent(tandem::semaphore& s, tandem::semaphore& t) {
  auto acquire = s.acquire();
#if defined(FIXED)
  auto first = co_await tandem::race(std::move(acquire), t.acquire());
#else
  auto first = co_await tandem::race(acquire, t.acquire());
#endif
  (void)first;
}
