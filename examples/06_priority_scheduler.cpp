// The most urgent first: priority_scheduler, in an emergency room (B 异步任务调度和优先级, `PriorityTaskScheduler`)
#include <tandem/priority_scheduler.hpp>
#include <tandem/run.hpp>
#include <tandem/trace.hpp>

#include <iomanip>
#include <iostream>

using namespace std::chrono_literals;
using namespace tandem;

// [article]
task<> waits(clock::duration time) {
  co_await sleep_for(time);
  const int priority = co_await this_task::priority;
  std::cout << "  priority " << priority << " completed, " << clock::now().time_since_epoch() / 1ms << " ms\n";
}

task<> the_article() {
  priority_scheduler scheduler;
  scheduler.submit({.priority = 3}, waits, 1s);
  scheduler.submit({.priority = 1}, waits, 2s);
  scheduler.submit({.priority = 2}, waits, 1500ms);
  co_await scheduler.drain();
}
// [/article]

// [treat]
std::ostream& say() { return std::cout << std::setw(4) << clock::now().time_since_epoch() / 1min << " min  "; }

task<> treat(const char* whom, std::chrono::minutes time) {
  say() << whom << " is treated\n";
  co_await sleep_for(time);
}

task<> sew(int stitches) {  // a long one, which can be left between two stitches
  say() << "cut is treated\n";
  for (int i = 0; i != stitches; ++i) {
    co_await this_task::checkpoint();
    co_await sleep_for(10min);
  }
  say() << "cut is sewn\n";
}
// [/treat]

// [night]
auto comes_in(priority_scheduler& room, int urgency, const char* who, std::chrono::minutes time) {
  say() << who << " comes in, urgency " << urgency << '\n';
  return room.submit({.priority = urgency, .name = who}, treat, who, time);
}

task<> night(priority_scheduler& room) {
  comes_in(room, 5, "cough", 10min);
  comes_in(room, 4, "wrist", 25min);
  room.submit({.priority = 3, .name = "cut"}, sew, 6);
  const auto tourist = room.submit({.priority = 5, .deadline = clock::now() + 50min}, treat, "tourist", 10min);

  co_await sleep_for(5min);
  comes_in(room, 1, "heart", 30min);
  co_await sleep_for(15min);
  const priority_handle<> fever = comes_in(room, 4, "fever", 20min);
  co_await sleep_for(10min);
  say() << "fever is worse\n";
  fever.reprioritize(2);
  co_await sleep_for(15min);
  comes_in(room, 4, "headache", 10min);
  try {
    co_await tourist;
  } catch (const job_expired&) {
    say() << "tourist leaves for his train, not treated\n";
  }
  co_await room.drain();
  say() << "all are gone\n";
}
// [/night]

// [stats]
void show(const priority_scheduler_stats& s) {
  std::cout << s.succeeded << " treated, " << s.expired << " left; gave way " << s.gave_way << " times\n"
            << "urgency  treated  waited, all  longest  others before\n";
  for (const priority_stats& p : s.priorities)
    std::cout << std::setw(7) << p.priority << std::setw(9) << p.started << std::setw(9) << p.waited / 1min << " min"
              << std::setw(5) << p.longest_wait / 1min << " min" << std::setw(15) << p.starved_by << '\n';
}

task<> emergency_room() {
  priority_scheduler room({.slots = 2, .ageing = 30min});
  co_await night(room);
  show(room.stats());
}
// [/stats]

// [main]
int main() {
  std::cout << "the article's three:\n";
  simulate(the_article());
  std::cout << "an emergency room with two doctors:\n";
  const timeline chart;
  simulate(emergency_room());
  std::cout << '\n' << chart.gantt(76);
}
// [/main]
