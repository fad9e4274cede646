// expect: the observer comes first: gather(observed_by(x), return_exceptions, ...)
#include <tandem/gather.hpp>
#include <tandem/progress.hpp>

tandem::task<> child();

tandem::task<> parent(tandem::progress_counter& counter) {
#if defined(FIXED)
  (void)co_await tandem::gather(tandem::observed_by(counter), tandem::return_exceptions, child());
#else
  (void)co_await tandem::gather(tandem::return_exceptions, tandem::observed_by(counter), child());
#endif
}
