// What exercise 14 is given: a database whose calls block, and a hop to a thread, which is counted.
#pragma once

#include <tandem/threads.hpp>

#include <atomic>
#include <string>

class database {
 public:
  std::string name_of(int user);  // "user 7"; blocks its thread, so that it must not be called on the loop's
};

inline std::atomic<int> hops = 0;

/// `co_await hop(f)`: calls `f()` on another thread and gives what it gives. It is `to_thread`, counted.
template <class Function>
auto hop(Function function) {
  ++hops;
  return tandem::to_thread(std::move(function));
}
