#include <tandem/this_task.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>
#include <tandem/task_group.hpp>

#include "kit/kit.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using kit::at;
using tandem::clock;
using tandem::run;
using tandem::simulate;
using tandem::sleep_for;
using tandem::spawn;
using tandem::task;
using tandem::yield;

TEST_CASE("sleepers wake at their time, those of one instant in the order in which they began") {
  std::string order;
  auto main = [&]() -> task<> {
    auto one = [&](char name, clock::duration d) -> task<> {
      co_await sleep_for(d);
      order += name;
    };
    std::vector<task<>> all;
    all.push_back(one('c', 2s));
    all.push_back(one('a', 1s));
    all.push_back(one('d', 2s));
    all.push_back(one('b', 1s));
    all.push_back(one('e', 3s));
    co_await tandem::gather(std::move(all));
    CHECK(clock::now() == at(3s));
  };
  simulate(main());
  CHECK(order == "abcde");
}

TEST_CASE("thousands of timers fire in order, also when others are removed between them") {
  auto main = []() -> task<> {
    std::vector<clock::time_point> woken;
    auto one = [&](int i) -> task<> {
      co_await sleep_for(std::chrono::milliseconds(i * 7919 % 5000));
      woken.push_back(clock::now());
    };
    auto removed = [&](int i) -> task<> {
      const auto longest = std::chrono::milliseconds(i * 104729 % 5000);
      co_await tandem::try_timeout(longest, sleep_for(std::chrono::milliseconds(i * 6571 % 7000)));
    };
    std::vector<task<>> all;
    for (int i = 0; i != 3000; ++i) {
      all.push_back(one(i));
      all.push_back(removed(i));
    }
    co_await tandem::gather(std::move(all));
    CHECK(woken.size() == 3000);
    CHECK(std::is_sorted(woken.begin(), woken.end()));
  };
  simulate(main());
}

TEST_CASE("every timer fires at its time, whichever others are removed") {
  auto main = []() -> task<> {
    auto body = [](tandem::task_group& group) -> task<> {
      std::mt19937 drawn(1);
      auto one = [](unsigned long length) -> task<> {
        const auto begin = clock::now();
        co_await sleep_for(std::chrono::milliseconds(length));
        CHECK(clock::now() == begin + std::chrono::milliseconds(length));
      };
      for (int round = 0; round != 20; ++round) {
        std::vector<tandem::task_handle<>> all;
        for (int i = 0; i != 200; ++i) all.push_back(group.spawn(one(1 + drawn() % 1000)));
        for (std::size_t i = 0; i < all.size(); i += 2) all[i].cancel();
        for (std::size_t i = 1; i < all.size(); i += 2) co_await all[i];
      }
    };
    co_await tandem::with_task_group(body);
  };
  simulate(main());
}

TEST_CASE("sleep_until takes a point in time; one that has passed waits for the queue only") {
  auto main = []() -> task<> {
    co_await tandem::sleep_until(at(5s));
    CHECK(clock::now() == at(5s));
    co_await tandem::sleep_until(at(1s));
    CHECK(clock::now() == at(5s));
    co_await sleep_for(0s);
    CHECK(clock::now() == at(5s));
  };
  simulate(main());
}

TEST_CASE("a sleep of no time waits until all that is ready has had its turn") {
  for (bool until : {false, true}) {
    std::string order;
    auto sleeps = [&]() -> task<> {
      if (until)
        co_await tandem::sleep_until(clock::now() - 1h);
      else
        co_await sleep_for(0s);
      order += "slept ";
    };
    auto other = [&](const char* name) -> task<> {
      co_await yield();
      order += name;
    };
    auto main = [&]() -> task<> { co_await tandem::gather(other("a "), sleeps(), other("b ")); };
    simulate(main());
    CHECK(order == "a b slept ");
    order.clear();
    run(main());
    CHECK(order == "a b slept ");
  }
}

TEST_CASE("sleep_for takes any duration: it rounds up, and what is beyond the clock waits for ever") {
  auto main = []() -> task<> {
    co_await sleep_for(std::chrono::duration<double>(0.25));
    CHECK(clock::now() == at(250ms));
    co_await sleep_for(std::chrono::duration<int, std::pico>(1));
    CHECK(clock::now() == at(250ms + 1ns));
    auto forever = sleep_for(std::chrono::hours::max());
    const auto woken = co_await tandem::try_timeout(1h, std::move(forever));
    CHECK_FALSE(woken);
    auto infinite = sleep_for(std::chrono::duration<double>(std::numeric_limits<double>::infinity()));
    const auto woken_too = co_await tandem::try_timeout(1h, std::move(infinite));
    CHECK_FALSE(woken_too);
  };
  simulate(main());
}

TEST_CASE(
    "real_a sleep beyond the clock's range waits for ever: until it is stopped; under simulate it is a deadlock") {
  asio::io_context context;
  bool ended = false;
  spawn(context, sleep_for(std::chrono::hours::max()), [&](std::exception_ptr) { ended = true; });
  context.run_for(5ms);
  CHECK_FALSE(ended);
  CHECK_FALSE(context.stopped());
  auto main = []() -> task<> { co_await sleep_for(std::chrono::nanoseconds::max()); };
  CHECK_THROWS_AS(simulate(main()), tandem::deadlock);
}

TEST_CASE("a negative duration or a NaN is invalid_argument that names the function and the value") {
  CHECK_THROWS_AS(sleep_for(-1ns), std::invalid_argument);
  CHECK_THROWS_WITH(sleep_for(-2s), "tandem::sleep_for: the duration is -2.000000 s; it must not be negative");
  CHECK_THROWS_AS(sleep_for(std::chrono::duration<double>(std::numeric_limits<double>::quiet_NaN())),
                  std::invalid_argument);
}

TEST_CASE("real_a sleep is never shorter than asked for") {
  auto main = []() -> task<> {
    for (auto d : {0us, 1us, 137us, 1500us}) {
      const auto begin = clock::now();
      co_await sleep_for(d);
      CHECK(clock::now() - begin >= d);
    }
  };
  run(main());
}

TEST_CASE("real_an earlier timer that is added later fires first") {
  auto main = []() -> task<std::string> {
    std::string order;
    auto one = [&](char name, clock::duration d) -> task<> {
      co_await sleep_for(d);
      order += name;
    };
    co_await tandem::gather(one('b', 40ms), one('a', 5ms));
    co_return order;
  };
  CHECK(run(main()) == "ab");
}

TEST_CASE("two coroutines that await one and the same sleep are logic_error") {
  auto main = []() -> task<int> {
    auto shared = sleep_for(1s);
    int errors = 0;
    auto waits = [&]() -> task<> {
      try {
        co_await shared;
      } catch (const std::logic_error&) {
        ++errors;
      }
    };
    co_await tandem::gather(waits(), waits());
    co_await shared;  // one after the other is fine
    co_return errors;
  };
  CHECK(simulate(main()) == 1);
}

TEST_CASE("yield lets every other ready coroutine have its turn") {
  std::string order;
  auto main = [&]() -> task<> {
    auto one = [&](char name) -> task<> {
      for (int i = 0; i != 3; ++i) {
        order += name;
        co_await yield();
      }
    };
    co_await tandem::gather(one('a'), one('b'), one('c'));
  };
  simulate(main());
  CHECK(order == "abcabcabc");
}

namespace {
enum class rest { sleep_for, sleep_until, yield, checkpoint };
constexpr rest rests[] = {rest::sleep_for, rest::sleep_until, rest::yield, rest::checkpoint};

/// For ever, in one way.
task<> rests_for_ever(rest how) {
  for (;;) {
    if (how == rest::sleep_for) co_await sleep_for(1h);
    if (how == rest::sleep_until) co_await tandem::sleep_until(at(24h));
    if (how == rest::yield) co_await yield();
    if (how == rest::checkpoint) co_await tandem::this_task::checkpoint();
  }
}
}  // namespace

TEST_CASE("a sleep, a yield and a checkpoint stop when their scope is stopped") {
  for (const rest how : rests) {
    bool cleaned_up = false;
    auto one = [&]() -> task<> {
      kit::at_exit end([&] { cleaned_up = true; });
      co_await rests_for_ever(how);
    };
    auto fails = []() -> task<> {
      for (int i = 0; i != 3; ++i) co_await yield();
      throw std::runtime_error("stop");
    };
    auto main = [&]() -> task<> {
      const std::string said = co_await kit::thrown_by(tandem::gather(one(), fails()));
      CHECK(said == "stop");
      CHECK(cleaned_up);
      CHECK(clock::now() == at(0s));
    };
    simulate(main());
  }
}

TEST_CASE("a coroutine that has given way when the stop comes does not go on") {
  for (const rest how : {rest::yield, rest::checkpoint}) {
    std::string order;
    auto gives_way = [&]() -> task<> {
      order += "gives way ";
      if (how == rest::yield) co_await yield();
      if (how == rest::checkpoint) co_await tandem::this_task::checkpoint();
      order += "never";
    };
    auto fails = []() -> task<> {
      throw std::runtime_error("stop");
      co_return;
    };
    auto main = [&]() -> task<> {
      const std::string said = co_await kit::thrown_by(tandem::gather(gives_way(), fails()));
      CHECK(said == "stop");
    };
    simulate(main());
    CHECK(order == "gives way ");
  }
}

TEST_CASE("a sleep, a yield and a checkpoint stop at once in a scope that was stopped before") {
  for (const rest how : rests) {
    std::string order;
    auto one = [&]() -> task<> {
      co_await tandem::shield(sleep_for(2s));  // the stop comes meanwhile
      order += "shielded ";
      if (how == rest::sleep_for) co_await sleep_for(0s);
      if (how == rest::sleep_until) co_await tandem::sleep_until(at(0s));
      if (how == rest::yield) co_await yield();
      if (how == rest::checkpoint) co_await tandem::this_task::checkpoint();
      order += "never";
    };
    auto main = [&]() -> task<> {
      const auto late = co_await tandem::try_timeout(1s, one());
      CHECK_FALSE(late);
      CHECK(clock::now() == at(2s));
    };
    simulate(main());
    CHECK(order == "shielded ");
  }
}

TEST_CASE("a sleeper whose time had come before the stop goes on, and stops at its next wait") {
  auto main = []() -> task<> {
    std::string order;
    auto sleeper = [&]() -> task<> {
      co_await sleep_for(1s);
      order += "woken ";
      co_await yield();
      order += "never ";
    };
    auto fails = [&]() -> task<> {  // when it is woken, so is the sleeper
      co_await sleep_for(1s);
      throw std::runtime_error("stop");
    };
    const std::string said = co_await kit::thrown_by(tandem::gather(fails(), sleeper()));
    CHECK(said == "stop");
    CHECK(order == "woken ");
  };
  simulate(main());
}

TEST_CASE("cancel_requested says that the next wait stops; in a shield it does not") {
  auto main = []() -> task<> {
    std::string seen;
    auto asks = [&]() -> task<> {
      auto in_shield = [&]() -> task<> {
        co_await sleep_for(2s);
        const bool asked = co_await tandem::this_task::cancel_requested;
        seen += asked ? "in a shield: yes " : "in a shield: no ";
      };
      const bool before = co_await tandem::this_task::cancel_requested;
      seen += before ? "before: yes " : "before: no ";
      co_await tandem::shield(in_shield());
      const bool after = co_await tandem::this_task::cancel_requested;
      seen += after ? "after: yes" : "after: no";
    };
    co_await tandem::try_timeout(1s, asks());
    CHECK(seen == "before: no in a shield: no after: yes");
  };
  simulate(main());
}

TEST_CASE("this_task::executor is the loop's, and neither it nor cancel_requested suspends") {
  asio::io_context context;
  std::string order;
  auto a = [&]() -> task<> {
    const auto executor = co_await tandem::this_task::executor;
    const bool asked = co_await tandem::this_task::cancel_requested;
    CHECK(&asio::query(executor, asio::execution::context) == &context);
    CHECK_FALSE(asked);
    order += 'a';
  };
  auto b = [&]() -> task<> {
    order += 'b';
    co_return;
  };
  auto main = [&]() -> task<> { co_await tandem::gather(a(), b()); };
  run(context, main());
  CHECK(order == "ab");
}
