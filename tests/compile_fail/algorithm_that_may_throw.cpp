// expect: an algorithm has concurrency_decision update(const concurrency_window&, double limit) noexcept
#include <tandem/adaptive_concurrency.hpp>

struct mine {
#if defined(FIXED)
  tandem::concurrency_decision update(const tandem::concurrency_window&, double limit) noexcept { return {limit}; }
#else
  tandem::concurrency_decision update(const tandem::concurrency_window&, double limit) { return {limit}; }
#endif
};
tandem::adaptive_concurrency<mine> control;
