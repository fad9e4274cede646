// Tasks in hand: wait, as_completed, time limits (A `task_manager`, B 事件循环的常用方法, C 性能测试示例, E 超时控制)
#include <tandem/cancel.hpp>
#include <tandem/run.hpp>
#include <tandem/wait.hpp>

#include <iomanip>
#include <iostream>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using namespace tandem;

// [provider]
std::ostream& say() { return std::cout << std::setw(5) << clock::now().time_since_epoch() / 1ms << " ms  "; }

struct provider {
  const char* name;
  std::chrono::milliseconds thinking_time;
  int euros;  // 0: sold out
};
constexpr provider train{"train", 200ms, 89}, ferry{"ferry", 100ms, 140};
constexpr provider plane{"plane", 300ms, 210}, bus{"bus", 50ms, 0};

struct question {
  ~question() {
    if (!answered) say() << "the " << to << " is no longer asked\n";
  }
  const char* to;
  bool answered = false;
};

task<int> ask(provider p) {
  question q{p.name};
  co_await sleep_for(p.thinking_time);  // a real one would answer over a network
  q.answered = true;
  if (p.euros == 0) throw std::runtime_error("sold out");
  co_return p.euros;
}
// [/provider]

// [handles]
task<> two_by_hand() {
  co_await with_task_group([](task_group& group) -> task<> {
    const task_handle<int> by_train = group.spawn(ask(train));
    const task_handle<int> by_ferry = group.spawn(ask(ferry));
    say() << "both are being asked\n";
    const int euros = co_await by_train;
    say() << "train " << euros << "; ferry " << (by_ferry.done() ? "done" : "not done") << '\n';
    say() << "ferry " << co_await by_ferry << '\n';
  });
}
// [/handles]

// [wait]
void show(const char* which, const std::vector<task_handle<int>>& handles) {
  say() << which;
  for (const auto& h : handles) std::cout << ' ' << h.name();
  std::cout << '\n';
}

task<> whoever_is_first() {
  co_await with_task_group([](task_group& group) -> task<> {
    std::vector<task_handle<int>> asked;
    for (const provider& p : {train, ferry, plane}) asked.push_back(group.spawn(ask(p), {.name = p.name}));

    auto answers = co_await wait(asked, first_completed);
    show("done:", answers.done);
    show("pending:", answers.pending);

    answers = co_await wait(answers.pending, all_completed, 150ms);
    show("done:", answers.done);
    for (const auto& h : answers.pending) h.cancel();
  });
}
// [/wait]

// [as_completed]
task<> good_enough() {
  const std::vector<provider> providers{train, ferry, plane, bus};
  std::vector<task<int>> questions;
  for (const provider& p : providers) questions.push_back(ask(p));

  auto answers = as_completed(std::move(questions), 3);
  while (auto one = co_await answers.next()) {
    const int euros = one->outcome ? one->outcome.value() : 0;
    say() << providers[one->index].name << (euros ? ": " + std::to_string(euros) : " has nothing") << '\n';
    if (euros && euros < 100) break;
  }
}
// [/as_completed]

// [limits]
task<> patience() {
  try {
    co_await timeout(150ms, ask(train));
  } catch (const timed_out&) {
    say() << "the train takes too long\n";
  }
  const std::optional<int> euros = co_await try_timeout(150ms, ask(ferry));
  say() << "ferry " << euros.value_or(0) << '\n';
}
// [/limits]

// [shield]
task<> pay() { co_await sleep_for(200ms); }

task<> book() {
  co_await shield(pay());
  say() << "89 euros are paid\n";
  co_await sleep_for(50ms);
  say() << "the seat is by the window\n";
}

task<> book_in_a_hurry() {
  const auto in_time = co_await try_timeout(100ms, book());
  say() << (in_time ? "booked\n" : "the time was up\n");
}
// [/shield]

// [main]
void act(const char* title, task<> scene) {
  std::cout << title << '\n';
  simulate(std::move(scene));
}

int main() {
  act("two by hand:", two_by_hand());
  act("whoever is first:", whoever_is_first());
  act("good enough:", good_enough());
  act("patience:", patience());
  act("in a hurry:", book_in_a_hurry());
}
// [/main]
