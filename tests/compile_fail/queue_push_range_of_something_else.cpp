// expect: push_range takes a range of what converts to the queue's items
#include <tandem/queue.hpp>
#include <tandem/run.hpp>

#include <memory>
#include <vector>

tandem::task<> feed(tandem::queue<std::unique_ptr<int>>& owners, std::vector<std::unique_ptr<int>>& some) {
#if defined(FIXED)
  co_await owners.push_range(std::move(some));
#else
  co_await owners.push_range(some);
#endif
}
