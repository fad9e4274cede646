// What surprises people who come from asyncio (book/en/asyncio.md). It runs on virtual time.
#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/queue.hpp>
#include <tandem/run.hpp>
#include <tandem/wait.hpp>

#include <chrono>
#include <iomanip>
#include <iostream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <asio/detached.hpp>

using namespace std::chrono_literals;
using namespace tandem;

std::ostream& say() { return std::cout << std::setw(5) << clock::now().time_since_epoch() / 1ms << " ms  "; }

// [price]
task<int> price(std::string shop, std::chrono::milliseconds takes) {
  say() << "ask " << shop << '\n';
  co_await sleep_for(takes);
  co_return static_cast<int>(shop.size());
}
// [/price]

// [lazy]
task<> lazy() {
  task<int> first = price("Ada's", 100ms);  // nothing is asked yet
  task<int> second = price("Bob's", 100ms);
  say() << "two tasks\n";
  const int a = co_await std::move(first);  // asks Ada, and waits
  const int b = co_await std::move(second);  // asks Bob, only now
  say() << "one after the other: " << a + b << '\n';

  auto [c, d] = co_await gather(price("Ada's", 100ms), price("Bob's", 100ms));
  say() << "together: " << c + d << '\n';

  co_await with_task_group([](task_group& group) -> task<> {
    const auto h = group.spawn(price("Cem's", 100ms));  // as create_task, but it runs here and now, until it waits
    say() << "spawned\n";
    const int e = co_await h;
    say() << "by its handle: " << e << '\n';
  });
}
// [/lazy]

// [stop]
struct door {
  door() { say() << "the door is open\n"; }
  ~door() { say() << "the door is shut\n"; }
};

task<> stubborn() {
  const door d;
  for (;;) {
    try {
      co_await sleep_for(1h);
    } catch (...) {
      say() << "never printed\n";
    }
  }
}

task<> saved() {
  co_await sleep_for(30ms);
  say() << "saved\n";
}

task<> stop() {
  co_await try_timeout(100ms, stubborn());
  say() << "it has gone\n";
  co_await try_timeout(100ms, finally(stubborn(), saved));
  say() << "and what it did is saved\n";
}
// [/stop]

// [siblings]
task<> fails() {
  co_await sleep_for(100ms);
  throw std::runtime_error("out of stock");
}

task<> siblings() {
  try {
    co_await gather(fails(), finally(stubborn(), saved), stubborn());
  } catch (const std::runtime_error& e) {
    say() << e.what() << ", and nobody is left\n";
  }
}
// [/siblings]

// [scopes]
task<> heartbeat(const char* whose) {
  const door d;
  for (int i = 1;; ++i) {
    co_await sleep_for(100ms);
    say() << whose << ' ' << i << '\n';
  }
}

task<> scopes() {
  co_await with_task_group([](task_group& group) -> task<> {
    group.spawn(heartbeat("in the group"), {.background = true});
    co_await sleep_for(250ms);
  });
  say() << "the group has ended\n";

  tandem::spawn(co_await this_task::executor, heartbeat("on its own"), asio::detached);
  co_await sleep_for(250ms);
  say() << "the main task has ended\n";
}
// [/scopes]

// [wrong]
task<> greet(const std::string& name) {  // a reference: who keeps the string while the coroutine waits?
  co_await sleep_for(10ms);
  say() << "hello " << name << '\n';
}

void wrong(task_group& group, int id) {
  group.spawn(greet("Ada"));  // the string is gone when spawn returns, and greet has not ended

  auto call = [id]() -> task<> {
    co_await sleep_for(10ms);
    say() << "hello " << id << '\n';  // id is not in the frame but in the closure,
  };
  group.spawn(call());  // which is gone when this function returns
}
// [/wrong]

// [right]
task<> greet_by_value(std::string name) {
  co_await sleep_for(10ms);
  say() << "hello " << name << '\n';
}

task<> references() {
  const std::string name = "Bob";
  co_await greet(name);  // right: name outlives the co_await

  std::vector<int> ids{1, 2};
  const std::string word = "number ";
  const auto print = [&](int id) -> task<> {  // right: named, and for_each is awaited while it is there
    co_await sleep_for(10ms);
    say() << word << id << '\n';
  };
  co_await with_task_group([&](task_group& group) -> task<> {
    group.spawn(greet_by_value("Cem"));  // right: the frame has a string of its own
    co_await for_each(ids, print);
  });
}
// [/right]

// [gcc12]
struct letter {
  std::string to, text;
};

task<> post(queue<letter>& box) {
  letter l{"Ada", "see you on Friday"};  // named: as a temporary in the co_await expression g++ 12 destroys it twice
  const bool sent = co_await box.push(std::move(l));
  if (sent) say() << "posted\n";  // a name for the result first, no co_await in the condition
  box.close();
  while (auto next = co_await box.pop()) {  // right as well, since it declares a variable
    say() << "to " << next->to << ": " << next->text << '\n';
  }
}
// [/gcc12]

// [main]
task<> mail() {
  queue<letter> box{4};
  co_await post(box);
}

void act(const char* title, task<> scene) {
  std::cout << title << '\n';
  simulate(std::move(scene));  // asyncio.run(scene), on virtual time
}

int main() {
  act("lazy:", lazy());
  act("stop:", stop());
  act("siblings:", siblings());
  act("scopes:", scopes());
  act("references:", references());
  act("mail:", mail());
}
// [/main]
