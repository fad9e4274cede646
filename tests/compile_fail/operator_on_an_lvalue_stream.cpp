// expect: an operator takes the stream as an rvalue: std::move(s) | ...
#include <tandem/streams.hpp>

void first_three(tandem::generator<int> numbers) {
#if defined(FIXED)
  auto three = std::move(numbers) | tandem::streams::take(3);
#else
  auto three = numbers | tandem::streams::take(3);
#endif
}
