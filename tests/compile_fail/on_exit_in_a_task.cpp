// expect: on_exit is awaited in a generator; in a task there is finally
#include <tandem/generator.hpp>

tandem::task<> close();

#if defined(FIXED)
tandem::generator<int> parent() {
#else
tandem::task<> parent() {
#endif
  auto closes = [] { return close(); };
  co_await tandem::on_exit(closes);
}
