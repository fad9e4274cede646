// expect: an awaitable is handed over as an rvalue: write std::move(x)
#include <tandem/gather.hpp>

tandem::task<int> child();

tandem::task<> parent() {
  auto t = child();
#if defined(FIXED)
  co_await tandem::gather(std::move(t), child());
#else
  co_await tandem::gather(t, child());
#endif
}
