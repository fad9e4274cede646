// expect: a task is awaited once, as an rvalue: co_await std::move(t)
#include <tandem/task.hpp>

tandem::task<> child();

tandem::task<> parent() {
  auto t = child();
#if defined(FIXED)
  co_await std::move(t);
#else
  co_await t;
#endif
}
