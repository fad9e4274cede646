// expect: what classifies takes the outcome of the call and gives a concurrency_outcome
#include <tandem/adaptive_concurrency.hpp>

tandem::task<int> fetch();
tandem::concurrency_outcome by_value(int status);
tandem::concurrency_outcome by_outcome(const tandem::outcome<int>& o);

tandem::task<> all(tandem::adaptive_concurrency<>& control) {
#if defined(FIXED)
  co_await control.run(fetch, by_outcome);
#else
  co_await control.run(fetch, by_value);
#endif
}
