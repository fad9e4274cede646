// only: g++ 12
// expect: g++ 12 would destroy this temporary twice inside a co_await expression
#include <tandem/threads.hpp>

#include <string>

tandem::task<> f(std::string s) {
#if defined(FIXED)
  auto length = [s] { return s.size(); };
  co_await tandem::to_thread(length);
#else
  co_await tandem::to_thread([s] { return s.size(); });
#endif
}
