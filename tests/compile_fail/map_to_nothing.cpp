// expect: the function of map gives something; to do something with each item there is for_each
#include <tandem/streams.hpp>

void show(int);
int next(int);

void all(tandem::generator<int> numbers) {
#if defined(FIXED)
  auto shown = std::move(numbers) | tandem::streams::map(next);
#else
  auto shown = std::move(numbers) | tandem::streams::map(show);
#endif
}
