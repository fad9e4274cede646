// expect: a generator of nothing: use a task, or generator<std::monostate>
#include <tandem/generator.hpp>

#if defined(FIXED)
using given = std::monostate;
#else
using given = void;
#endif

tandem::generator<given> ticks();
auto first() { return ticks().next(); }
