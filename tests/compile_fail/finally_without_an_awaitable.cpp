// expect: the clean-up is a callable that takes nothing or an ending, and returns an awaitable, such as a task
#include <tandem/cancel.hpp>

tandem::task<> parent() {
#if defined(FIXED)
  co_await tandem::finally(tandem::yield(), []() -> tandem::task<> { co_return; });
#else
  co_await tandem::finally(tandem::yield(), [] {});
#endif
}
