// expect: a field is a C array: make it a std::array or a std::string
#include <tandem/reflect.hpp>

#include <array>
#include <string>

struct names {
  int count;
#if defined(FIXED)
  std::array<std::string, 2> known;
#else
  std::string known[2];
#endif
  bool complete;
};

std::string text(const names& n) { return tandem::describe(n); }
