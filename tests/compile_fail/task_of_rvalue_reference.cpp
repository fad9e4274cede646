// expect: task<T&&> would dangle: return the object, as task<T>
#include <tandem/task.hpp>

#if defined(FIXED)
using type = tandem::task<int>;
#else
using type = tandem::task<int&&>;
#endif

void use(type t) { (void)t; }
