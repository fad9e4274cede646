// The check of exercise 11: a meter that notes what was read, and when it was switched off.
#include "../checking.hpp"

using namespace checking;

int numbers_read;
std::vector<duration> off;

task<> switch_off() {
  co_await sleep_for(1s);
  off.push_back(checking::now());
}

generator<int> meter(int last, bool breaks) {
  co_await on_exit(switch_off);
  for (int i = 0; i != last; ++i) {
    goes_on();
    co_await sleep_for(100ms);
    ++numbers_read;
    const int square = i * i;
    co_yield square;
  }
  if (breaks) throw std::runtime_error("the meter is broken");
}

std::string numbers(const std::vector<int>& n) { return n.empty() ? "nothing" : list(n); }

/// Reads so many, or all, and leaves.
task<> read(const char* who, std::size_t most, int last, bool breaks, std::vector<int> expected,
            duration expected_off) {
  numbers_read = 0;
  off.clear();
  std::vector<int> got;
  bool failed = false;
  {
    auto d = differences(meter(last, breaks));
    try {
      while (got.size() != most) {
        const auto one = co_await d.next();
        if (!one) break;
        got.push_back(*one);
      }
    } catch (const std::runtime_error&) {
      failed = true;
    }
    co_await d.close();
  }
  expect(got == expected, who, ": differences gave ", numbers(got), "; it should give ", numbers(expected));
  const int needed = static_cast<int>(expected.size()) + 1;
  expect(most != expected.size() || numbers_read == needed, who, ": ", numbers_read, " numbers were read; ", needed,
         " are enough");
  expect(failed == breaks, who, failed ? ": it ended with an exception" : ": the meter's exception was lost");
  if (expect(!off.empty(), who, ": the meter was not switched off")) {
    expect(off.size() == 1, who, ": the meter was switched off ", off.size(), " times");
    expect(off[0] == expected_off && checking::now() >= off[0], who, ": the meter was switched off at ", off[0],
           ", not at ", expected_off);
  }
}

int main() {
  return verdict("the right differences, and the meter is off, whoever leaves", [] {
    run("four of many", read("four of many", 4, 1000, false, {1, 3, 5, 7}, 1500ms));
    run("all of three", read("all of three", 100, 3, false, {1, 3}, 1300ms));
    run("one of many", read("one of many", 1, 1000, false, {1}, 1200ms));
    run("a meter that breaks", read("a meter that breaks", 100, 3, true, {1, 3}, 1300ms));
  });
}
