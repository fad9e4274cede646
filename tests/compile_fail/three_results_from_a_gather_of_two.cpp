// expect: decomposes into 2
#include <tandem/gather.hpp>

tandem::task<int> user();
tandem::task<int> posts();

tandem::task<int> page() {
#if defined(FIXED)
  auto [u, p] = co_await tandem::gather(user(), posts());
  co_return u + p;
#else
  auto [u, p, comments] = co_await tandem::gather(user(), posts());
  co_return u + p + comments;
#endif
}
