// expect: the body of a transaction is a callable that takes the resource and returns an awaitable
#include <tandem/resource_pool.hpp>

struct account {
  tandem::task<> begin(), commit(), rollback();
};

tandem::task<> pays(account&);
void pays_at_once(account&);

tandem::task<> parent(account& a) {
#if defined(FIXED)
  co_await tandem::with_transaction(a, pays);
#else
  co_await tandem::with_transaction(a, pays_at_once);
#endif
}
