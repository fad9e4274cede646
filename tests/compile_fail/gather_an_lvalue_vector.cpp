// expect: an awaitable is handed over as an rvalue: write std::move(x)
#include <tandem/gather.hpp>

#include <vector>

tandem::task<> parent(std::vector<tandem::task<int>>& tasks) {
#if defined(FIXED)
  co_await tandem::gather(std::move(tasks));
#else
  co_await tandem::gather(tasks);
#endif
}
