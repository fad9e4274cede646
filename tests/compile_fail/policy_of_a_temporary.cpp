// expect: a circuit_breaker, rate_limiter or adaptive_concurrency is shared: give a variable, not a temporary
#include <tandem/policy.hpp>

tandem::task<int> fetch();

tandem::task<> all() {
  tandem::circuit_breaker breaker;
#if defined(FIXED)
  const tandem::policy p(breaker);
#else
  const tandem::policy p{tandem::circuit_breaker()};
#endif
  co_await p.run(fetch);
}
