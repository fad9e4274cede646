// expect: g++ 12 would destroy this temporary twice inside a co_await expression
// only: g++ 12
#include <tandem/event.hpp>
#include <tandem/task.hpp>

#include <string>

tandem::task<> parent(tandem::condition& c, std::string name) {
#if defined(FIXED)
  auto named = [name] { return name.empty(); };
  co_await c.wait(named);
  co_await c.wait([&] { return name.empty(); });
#else
  co_await c.wait([name] { return name.empty(); });
#endif
}
