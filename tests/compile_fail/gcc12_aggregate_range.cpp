// expect: g++ 12 would destroy this temporary twice inside a co_await expression
// only: g++ 12
#include <tandem/gather.hpp>

#include <array>
#include <string>

tandem::task<> visit(std::string);

tandem::task<> parent() {
#if defined(FIXED)
  std::array<std::string, 2> names{"first of two names", "second of two names"};
  co_await tandem::for_each(names, visit);
#else
  co_await tandem::for_each(std::array<std::string, 2>{"first of two names", "second of two names"}, visit);
#endif
}
