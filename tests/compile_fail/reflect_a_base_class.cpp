// expect: not a plain struct, because it has a base class: make that a field
#include <tandem/reflect.hpp>

struct named {
  const char* name;
};

#if defined(FIXED)
struct point {
  named name;
  int x, y;
};
#else
struct point : named {
  int x, y;
};
#endif

std::string text(const point& p) { return tandem::describe(p); }
