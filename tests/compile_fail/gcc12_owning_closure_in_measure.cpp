// only: g++ 12
// expect: g++ 12 would destroy this temporary twice inside a co_await expression
#include <tandem/measure.hpp>

#include <string>

tandem::task<> mail(std::string);

tandem::task<> f(tandem::call_metrics& metrics, std::string s) {
#if defined(FIXED)
  co_await tandem::measure(metrics, mail, s);
#else
  co_await tandem::measure(metrics, [s] { return mail(s); });
#endif
}
