// expect: nobody unlocks but what `auto lock = co_await m.lock();` gives; no std::lock_guard either
#include <tandem/mutex.hpp>
#include <tandem/task.hpp>

#include <mutex>

tandem::task<> work(tandem::mutex& m) {
#if defined(FIXED)
  tandem::mutex_lock lock = co_await m.lock();
#else
  std::lock_guard lock(m);
  co_return;
#endif
}
