// expect: what is measured is an awaitable, or a callable that takes these arguments as rvalues and returns one
#include <tandem/measure.hpp>

tandem::task<int> fetch(int);
int blocks(int);

tandem::task<> all(tandem::call_metrics& metrics) {
#if defined(FIXED)
  co_await tandem::measure(metrics, fetch, 1);
#else
  co_await tandem::measure(metrics, blocks, 1);
#endif
}
