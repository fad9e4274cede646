// expect: to_thread: the function cannot be called with (a std::stop_token and) these arguments, as rvalues
#include <tandem/threads.hpp>

#include <functional>

void increment(int& i) { ++i; }

tandem::task<> f() {
  int i = 0;
#if defined(FIXED)
  co_await tandem::to_thread(increment, std::ref(i));
#else
  co_await tandem::to_thread(increment, i);
#endif
}
