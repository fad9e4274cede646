// Exercise 01, a night in no time: a solution.
#include <tandem/run.hpp>

#include <asio/detached.hpp>

#include <string>

using namespace std::chrono_literals;
using namespace tandem;

class alarm_clock {  // the check hears it
 public:
  explicit alarm_clock(std::string name);
  ~alarm_clock();
  void ring() const;

 private:
  std::string name_;
};

task<> ring_every(std::chrono::minutes period, int times, std::string name) {
  const alarm_clock alarm(name);
  for (int i = 0; i != times; ++i) {
    co_await sleep_for(period);
    alarm.ring();
  }
}

task<> night() {
  const auto loop = co_await this_task::executor;
  tandem::spawn(loop, ring_every(10min, 3, "the snooze"), asio::detached);
  tandem::spawn(loop, ring_every(60min, 24, "the church tower"), asio::detached);
  co_await sleep_for(150min);
}

#include "check.hpp"
