// only: g++ 12
// expect: g++ 12 would destroy this temporary twice inside a co_await expression
#include <tandem/priority_scheduler.hpp>

#include <string>

tandem::task<> mail(std::string);

tandem::task<> f(tandem::priority_scheduler& scheduler, std::string s) {
#if defined(FIXED)
  auto mails = [s] { return mail(s); };
  co_await scheduler.submit({.priority = 3}, mails);
  co_await scheduler.submit({.priority = 3}, mail, s);
#else
  co_await scheduler.submit({.priority = 3}, [s] { return mail(s); });
#endif
}
