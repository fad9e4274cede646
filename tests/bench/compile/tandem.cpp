// A hello that gathers and sleeps.
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

#include <chrono>
#include <cstdio>

using namespace std::chrono_literals;

tandem::task<int> after(std::chrono::milliseconds d, int value) {
  co_await tandem::sleep_for(d);
  co_return value;
}

tandem::task<> hello() {
  const auto values = co_await tandem::gather(after(1ms, 1), after(2ms, 2));
  std::printf("hello %d\n", std::get<0>(values) + std::get<1>(values));
}

int main() { tandem::run(hello()); }
