// It only has to compile, where task.hpp is precompiled.
#include <tandem/generator.hpp>
#include <tandem/tandem.hpp>

tandem::generator<int> counts_down(int from) {
  const auto rests = [] { return tandem::sleep_for(std::chrono::seconds(1)); };
  co_await tandem::on_exit(rests);
  for (; from != 0; --from) co_yield from;
}
tandem::task<int> adds_up() {
  int sum = 0;
  tandem::generator<int> items = counts_down(3);
  while (const auto item = co_await items.next()) sum += *item;
  co_await items.close();
  co_return sum;
}
