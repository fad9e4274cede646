// expect: a lease is not copied: hand it on with std::move
#include <tandem/resource_pool.hpp>

void twice(tandem::lease<int> l) {
#if defined(FIXED)
  auto other = std::move(l);
#else
  auto other = l;
#endif
  other.release();
}
