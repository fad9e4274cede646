// expect: bit-field
#include <tandem/reflect.hpp>

struct flags {
#if defined(FIXED)
  unsigned ready, mode;
#else
  unsigned ready : 1, mode : 3;
#endif
};

std::string text(const flags& f) { return tandem::describe(f); }
