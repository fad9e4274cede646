// expect: the acquisition gives nothing that could be released: give the resource, or use finally
#include <tandem/cancel.hpp>

tandem::task<int> make_key();
tandem::task<> log_in();

tandem::task<> parent() {
  auto nothing = [](auto&&...) { return tandem::yield(); };
#if defined(FIXED)
  co_await tandem::with_resource(make_key(), nothing, nothing);
#else
  co_await tandem::with_resource(log_in(), nothing, nothing);
#endif
}
