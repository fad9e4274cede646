// expect: sleep_until
#include <tandem/run.hpp>

#include <chrono>

tandem::task<> parent() {
#if defined(FIXED)
  co_await tandem::sleep_until(tandem::clock::now());
#else
  co_await tandem::sleep_until(std::chrono::steady_clock::now());
#endif
}
