// expect: a coroutine frame cannot hold over-aligned objects
#include <tandem/queue.hpp>

#include <memory>

struct alignas(64) matrix {
  float cells[4][4] = {};
};

#if defined(FIXED)
tandem::task<> hand_on(tandem::queue<std::unique_ptr<matrix>>& from, tandem::queue<std::unique_ptr<matrix>>& to) {
#else
tandem::task<> hand_on(tandem::queue<matrix>& from, tandem::queue<matrix>& to) {
#endif
  while (auto next = co_await from.pop()) co_await to.push(std::move(*next));
}
