// expect: the body is a callable that takes the resource and returns an awaitable, such as a task
// expect: the release is a callable that takes the resource, or the resource and an ending, and returns an awaitable
#include <tandem/cancel.hpp>

tandem::task<int> make_key();

tandem::task<> parent() {
#if defined(FIXED)
  co_await tandem::with_resource(
      make_key(), [](int) { return tandem::yield(); }, [](int, tandem::ending) { return tandem::yield(); });
#else
  co_await tandem::with_resource(
      make_key(), [](int) {}, [](int, tandem::ending) {});
#endif
}
