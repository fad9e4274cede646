// expect: a semaphore is shared: pass it by reference
#include <tandem/semaphore.hpp>

#if defined(FIXED)
void use(tandem::semaphore& s);
#else
void use(tandem::semaphore s);
#endif

void parent(tandem::semaphore& s) { use(s); }
