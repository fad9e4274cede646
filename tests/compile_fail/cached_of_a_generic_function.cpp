// expect: cached takes a function, or an object with one call operator that is no template
#include <tandem/cached.hpp>

#if defined(FIXED)
const auto twice = [](int x) -> tandem::task<int> { co_return 2 * x; };
#else
const auto twice = [](auto x) -> tandem::task<int> { co_return 2 * x; };
#endif

auto kept() { return tandem::cached(twice); }
