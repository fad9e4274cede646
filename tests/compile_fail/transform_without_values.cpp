// expect: the function gives no values: use for_each
#include <tandem/gather.hpp>

#include <vector>

tandem::task<> visit(int);

tandem::task<> parent(std::vector<int>& ids) {
#if defined(FIXED)
  co_await tandem::for_each(ids, visit);
#else
  co_await tandem::transform(ids, visit);
#endif
}
