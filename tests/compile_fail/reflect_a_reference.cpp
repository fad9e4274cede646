// expect: a field is a bit-field or a reference: only others can be reflected
#include <tandem/reflect.hpp>

struct view {
#if defined(FIXED)
  const int* number;
#else
  const int& number;
#endif
  int size;
};

std::string text(const view& v) { return tandem::describe(v); }
