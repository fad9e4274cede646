// expect: what is to be acquired is an awaitable, or a callable that takes nothing and returns one
#include <tandem/cancel.hpp>

tandem::task<int> make_key();

tandem::task<> parent() {
  auto nothing = [](auto&&...) { return tandem::yield(); };
#if defined(FIXED)
  co_await tandem::with_resource(make_key, nothing, nothing);
#else
  co_await tandem::with_resource(5, nothing, nothing);
#endif
}
