// expect: the function must return an awaitable, such as a task
#include <tandem/cached.hpp>

#if defined(FIXED)
tandem::task<int> twice(int);
#else
int twice(int);
#endif

auto kept() { return tandem::cached(twice); }
