// Hello, sleeping, and the loop: soon, later, time (A asyncio基础, B and E 事件循环, C, D `EventLoopInsight`)
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

#include <asio/detached.hpp>
#include <asio/post.hpp>

#include <iostream>
#include <string>

using namespace std::chrono_literals;
using namespace tandem;

// [hello]
task<> hello() {
  std::cout << "Hello\n";
  co_await sleep_for(200ms);
  std::cout << "World\n";
}
// [/hello]

// [thermometer]
task<int> read_thermometer(std::string room, int degrees) {
  std::cout << "  asking the " << room << '\n';
  co_await sleep_for(200ms);  // a real one would answer over a network
  co_return degrees;
}
// [/thermometer]

// [time]
task<> measure() {
  const clock::time_point start = clock::now();
  const int kitchen = co_await read_thermometer("kitchen", 21);
  const int cellar = co_await read_thermometer("cellar", 12);
  const int attic = co_await read_thermometer("attic", 27);
  const clock::time_point middle = clock::now();
  std::cout << kitchen << ", " << cellar << " and " << attic
            << " degrees, one after the other: " << (middle - start) / 200ms << " waits long\n";

  const auto [k, c, a] =
      co_await gather(read_thermometer("kitchen", 21), read_thermometer("cellar", 12), read_thermometer("attic", 27));
  std::cout << k << ", " << c << " and " << a << " degrees, all at once: " << (clock::now() - middle) / 200ms
            << " wait long\n";
}
// [/time]

// [alarm]
class alarm_clock {
 public:
  explicit alarm_clock(std::string name) : name_(std::move(name)) {}
  ~alarm_clock() { std::cout << "  " << name_ << ": put away\n"; }
  void ring() const { std::cout << "  " << name_ << ": rings\n"; }

 private:
  std::string name_;
};

task<> ring_after(std::chrono::milliseconds delay, std::string name) {
  const alarm_clock alarm(name);
  co_await sleep_for(delay);
  alarm.ring();
}
// [/alarm]

// [loop]
task<> use_the_loop() {
  const auto loop = co_await this_task::executor;
  asio::post(loop, [] { std::cout << "  soon: called while this task waits\n"; });
  tandem::spawn(loop, ring_after(200ms, "the egg timer"), asio::detached);
  tandem::spawn(loop, ring_after(24h, "tomorrow's alarm"), asio::detached);
  std::cout << "  now: this task still runs\n";
  co_await sleep_for(400ms);
  std::cout << "  now: this task ends\n";
}
// [/loop]

// [main]
task<> day() {
  co_await hello();
  co_await measure();
  std::cout << "soon and later:\n";
  co_await use_the_loop();
}

int main() { run(day()); }
// [/main]
