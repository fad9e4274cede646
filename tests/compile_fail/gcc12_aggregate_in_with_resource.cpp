// expect: g++ 12 would destroy this temporary twice inside a co_await expression
// only: g++ 12
#include <tandem/cancel.hpp>

#include <string>

struct connector {
  std::string host;
  tandem::task<int> operator()() const;
};

tandem::task<> parent(std::string host) {
  auto use = [](int) { return tandem::yield(); };
#if defined(FIXED)
  connector connect{host};
  co_await tandem::with_resource(connect, use, use);
#else
  co_await tandem::with_resource(connector{host}, use, use);
#endif
}
