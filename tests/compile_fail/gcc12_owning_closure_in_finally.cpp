// expect: g++ 12 would destroy this temporary twice inside a co_await expression
// only: g++ 12
#include <tandem/cancel.hpp>

#include <string>

tandem::task<> close(std::string);

tandem::task<> parent(std::string name) {
#if defined(FIXED)
  auto cleanup = [name] { return close(name); };
  co_await tandem::finally(tandem::yield(), cleanup);
  co_await tandem::finally(tandem::yield(), [&] { return close(name); });
#else
  co_await tandem::finally(tandem::yield(), [name] { return close(name); });
#endif
}
