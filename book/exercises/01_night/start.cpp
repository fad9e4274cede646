// Exercise 01, a night in no time. ring_every holds an alarm clock and rings it `times` times, `period` apart, the
// first time after one period. night starts "the snooze", every 10 minutes, 3 times, and "the church tower", every 60
// minutes, 24 times; it waits for neither, sleeps for 150 minutes, and ends. To check it: ./examples/run check 01
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
  // TODO
  co_return;
}

task<> night() {
  // TODO
  co_return;
}

#include "check.hpp"
