// expect: the observer outlives what it observes: give it a name, observed_by(name)
#include <tandem/gather.hpp>
#include <tandem/progress.hpp>

tandem::task<> child();

tandem::task<> parent() {
  tandem::progress_counter counter;
#if defined(FIXED)
  co_await tandem::gather(tandem::observed_by(counter), child());
#else
  co_await tandem::gather(tandem::observed_by(tandem::progress_counter()), child());
#endif
}
