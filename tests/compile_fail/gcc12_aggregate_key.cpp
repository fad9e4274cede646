// only: g++ 12
// expect: g++ 12 would destroy this temporary twice inside a co_await expression
#include <tandem/lru_cache.hpp>
#include <tandem/reflect.hpp>

#include <string>

struct route {
  std::string from, to;
};
tandem::task<int> length(route);
using lengths = tandem::lru_cache<route, int, tandem::reflected_hash, tandem::reflected_equal>;

tandem::task<int> f(lengths& cache) {
#if defined(FIXED)
  const route r{"here", "there"};
  co_return co_await cache.get(r, length);
#else
  co_return co_await cache.get(route{"here", "there"}, length);
#endif
}
