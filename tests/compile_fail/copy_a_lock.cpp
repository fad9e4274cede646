// expect: a lock is not copied: hand it on with std::move
#include <tandem/mutex.hpp>
#include <tandem/task.hpp>

tandem::task<> work(tandem::mutex_lock lock);

tandem::task<> parent(tandem::mutex& m) {
  tandem::mutex_lock lock = co_await m.lock();
#if defined(FIXED)
  co_await work(std::move(lock));
#else
  co_await work(lock);
#endif
}
