// expect: a permit is not copied: hand it on with std::move
#include <tandem/semaphore.hpp>

void twice(tandem::semaphore& s) {
  tandem::permit p = s.try_acquire();
#if defined(FIXED)
  auto q = std::move(p);
#else
  auto q = p;
#endif
  q.release();
}
