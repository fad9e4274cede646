// expect: the parts of a policy are given from the outside in, each once at most
#include <tandem/policy.hpp>

tandem::task<int> fetch();

tandem::task<> all(tandem::circuit_breaker& breaker) {
#if defined(FIXED)
  const tandem::policy p(tandem::retry_options{.attempts = 2}, breaker);
#else
  const tandem::policy p(breaker, tandem::retry_options{.attempts = 2});
#endif
  co_await p.run(fetch);
}
