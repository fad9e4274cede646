#include <tandem/tandem.hpp>

#include "catch.hpp"
#include "kit/second_unit.hpp"

namespace {
tandem::task<int> here(int i) {
  co_await tandem::yield();
  co_return i;
}
}  // namespace

TEST_CASE("two translation units share one tandem: tasks cross between them, and both run on one loop") {
  auto main = []() -> tandem::task<int> {
    auto bound13 = co_await tandem::gather(here(1), second_unit::there(2));
    auto& [a, b] = bound13;
    co_return a + b;
  };
  CHECK(tandem::simulate(main()) == 3);
  CHECK(second_unit::simulate_there(here(4)) == 4);
}
