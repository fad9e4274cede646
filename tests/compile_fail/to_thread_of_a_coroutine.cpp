// expect: to_thread is for plain functions; to run a coroutine elsewhere, write on(executor, coroutine())
#include <tandem/threads.hpp>

tandem::task<int> coroutine() { co_return 1; }
int plain() { return 1; }

tandem::task<> f() {
#if defined(FIXED)
  co_await tandem::to_thread(plain);
#else
  co_await tandem::to_thread(coroutine);
#endif
}
