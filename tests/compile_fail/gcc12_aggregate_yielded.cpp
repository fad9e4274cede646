// expect: g++ 12 would destroy this temporary twice: give its type a constructor, or name the item
// only: g++ 12
#include <tandem/generator.hpp>

#include <string>

struct row {
  std::string name;
  int number;
};

tandem::generator<row> rows() {
#if defined(FIXED)
  row one{"anna", 1};
  co_yield tandem::moved(one);
#else
  co_yield row{"anna", 1};
#endif
}
