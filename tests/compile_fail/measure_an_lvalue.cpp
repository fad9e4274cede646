// expect: an awaitable is handed over as an rvalue: write std::move(x)
#include <tandem/measure.hpp>

tandem::task<int> fetch();

tandem::task<> all() {
  auto t = fetch();
#if defined(FIXED)
  co_await tandem::measure(std::move(t));
#else
  co_await tandem::measure(t);
#endif
}
