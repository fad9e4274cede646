// expect: give_the_item_a_name
// only: g++ 12
#include <tandem/queue.hpp>
#include <tandem/run.hpp>

#include <string>

struct job {
  std::string name;
  int number;
};

tandem::task<> feed(tandem::queue<job>& jobs) {
#if defined(FIXED)
  job one{"a name that is not short", 1};
  co_await jobs.push(std::move(one));
#else
  co_await jobs.push({"a name that is not short", 1});
#endif
}
