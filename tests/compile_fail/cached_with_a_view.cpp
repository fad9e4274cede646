// expect: the arguments are kept as a key: take a std::string, or another type that owns what it stands for
#include <tandem/cached.hpp>

#include <string>
#include <string_view>

#if defined(FIXED)
tandem::task<int> length(std::string);
#else
tandem::task<int> length(std::string_view);
#endif

auto kept() { return tandem::cached(length); }
