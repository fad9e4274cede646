// expect: on_exit takes a callable without parameters that returns an awaitable, such as a task
#include <tandem/generator.hpp>

#if defined(FIXED)
tandem::task<> hang_up();
#else
void hang_up();
#endif

tandem::generator<int> parent() {
  co_await tandem::on_exit(hang_up);
  co_yield 1;
}
