// expect: what is run is a callable that takes nothing and returns an awaitable, such as a task
#include <tandem/adaptive_concurrency.hpp>

tandem::task<int> fetch();
int blocks();

tandem::task<> all(tandem::adaptive_concurrency<>& control) {
#if defined(FIXED)
  co_await control.run(fetch);
#else
  co_await control.run(blocks);
#endif
}
