// expect: push takes what converts to the queue's items
#include <tandem/queue.hpp>
#include <tandem/run.hpp>

#include <string>

tandem::task<> feed(tandem::queue<std::string>& names, int number) {
#if defined(FIXED)
  co_await names.push(std::to_string(number));
#else
  co_await names.push(number);
#endif
}
