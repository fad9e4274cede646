// expect: not a plain struct: only an aggregate has fields that can be told apart
#include <tandem/reflect.hpp>

class point {
#if defined(FIXED)
 public:
#endif
  int x_ = 0;
};

void visit(const point& p) {
  tandem::for_each_field(p, [](std::string_view, int) {});
}
