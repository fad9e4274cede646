// expect: a tandem::task awaits tasks, tandem's own awaitables, asio::awaitable and Asio operations
#include <tandem/run.hpp>

tandem::task<> parent() {
#if defined(FIXED)
  co_await tandem::yield();
#else
  co_await std::suspend_always();
#endif
}
