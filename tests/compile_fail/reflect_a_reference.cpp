// expect: a field is a reference
#include <tandem/reflect.hpp>

struct view {
#if defined(FIXED)
  int* number;
#else
  int& number;
#endif
  int size;
};

std::string text(const view& v) { return tandem::describe(v); }
