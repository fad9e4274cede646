// expect: g++ 12 would destroy this temporary twice inside a co_await expression
// only: g++ 12
#include <tandem/gather.hpp>

#include <string>
#include <vector>

tandem::task<int> fetch(std::string host, int id);

tandem::task<> parent(std::string host, std::vector<int> ids) {
#if defined(FIXED)
  co_await tandem::transform(ids, [&](int id) { return fetch(host, id); });
#else
  co_await tandem::transform(ids, [host](int id) { return fetch(host, id); });
#endif
}
