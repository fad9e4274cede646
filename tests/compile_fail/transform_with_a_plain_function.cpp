// expect: the function must return an awaitable for each element, such as a task
#include <tandem/gather.hpp>

#include <vector>

int plain(int);
tandem::task<int> coroutine(int);

tandem::task<> parent(std::vector<int>& ids) {
#if defined(FIXED)
  co_await tandem::transform(ids, coroutine);
#else
  co_await tandem::transform(ids, plain);
#endif
}
