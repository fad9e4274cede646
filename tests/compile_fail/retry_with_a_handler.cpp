// expect: a classifier takes the outcome of an attempt and gives a retry_decision
#include <tandem/retry.hpp>

tandem::task<int> fetch();
bool is_worth_it(const tandem::outcome<int>& o);
tandem::retry_decision decides(const tandem::outcome<int>& o);

tandem::task<> all() {
#if defined(FIXED)
  co_await tandem::retry(fetch, {.attempts = 2}, decides);
#else
  co_await tandem::retry(fetch, {.attempts = 2}, is_worth_it);
#endif
}
