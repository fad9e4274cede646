#include <tandem/run.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>

#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(ip/tcp.hpp)
#include TANDEM_ASIO_HEADER(steady_timer.hpp)
#include TANDEM_ASIO_HEADER(write.hpp)

#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using kit::at;
using tandem::clock;
using tandem::run;
using tandem::simulate;
using tandem::sleep_for;
using tandem::spawn;
using tandem::task;
using tandem::use_task;
using tandem::yield;

namespace {

task<int> answer() {
  co_await yield();
  co_return 42;
}

task<> waits_for_ever(kit::gate& g) {
  kit::counted c;
  co_await g.wait();
}

}  // namespace

// ---- run -----------------------------------------------------------------------------------------------------------

TEST_CASE("run gives the result of its task, on its own context and on a given one") {
  CHECK(run(answer()) == 42);
  asio::io_context context;
  CHECK(run(context, answer()) == 42);
  CHECK(run(context, answer()) == 42);  // again, though the context had run out of work
  auto unique = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(3); };
  CHECK(*run(unique()) == 3);
  int target = 0;
  auto reference = [&]() -> task<int&> { co_return target; };
  CHECK(&run(context, reference()) == &target);
}

TEST_CASE("run returns at its task's end, whatever else the context has to do") {
  asio::io_context context;
  asio::steady_timer other(context, 1h);
  bool fired = false;
  other.async_wait([&](tandem::error_code) { fired = true; });
  CHECK(run(context, answer()) == 42);
  CHECK_FALSE(fired);
}

TEST_CASE("run on a context leaves no timer behind that would keep the context running") {
  asio::io_context context;
  auto quick = []() -> task<> { co_await tandem::timeout(1h, yield()); };
  run(context, quick());
  const auto before = std::chrono::steady_clock::now();
  context.restart();
  context.run();
  CHECK(std::chrono::steady_clock::now() - before < 1min);
}

TEST_CASE("run inside a coroutine throws logic_error, and so does simulate") {
  auto main = []() -> task<int> {
    asio::io_context other;
    int errors = 0;
    const auto refused = [&](auto attempt) {
      try {
        attempt();
      } catch (const std::logic_error& e) {
        errors += std::string(e.what()).find("co_await the task") != std::string::npos;
      }
    };
    refused([] { run(answer()); });
    refused([&] { run(other, answer()); });
    refused([] { simulate(answer()); });
    co_await yield();
    co_return errors;
  };
  CHECK(run(main()) == 3);
  CHECK(simulate(main()) == 3);
}

TEST_CASE("run and simulate refuse an empty task") {
  CHECK_THROWS_AS(run(task<>()), std::logic_error);
  CHECK_THROWS_AS(simulate(task<int>()), std::logic_error);
  asio::io_context context;
  CHECK_THROWS_AS(run(context, task<>()), std::logic_error);
}

TEST_CASE("run stops what was spawned on its context, lets it clean up, and returns then") {
  bool cleaned = false, cancelled = false;
  auto background = [&]() -> task<> {
    kit::counted c;
    co_await tandem::finally(sleep_for(1h), [&]() -> task<> {
      co_await sleep_for(1ms);
      cleaned = true;
    });
  };
  auto main = [&]() -> task<> {
    spawn(co_await tandem::this_task::executor, background(), [&](std::exception_ptr e) { cancelled = !!e; });
    co_await sleep_for(1ms);
  };
  for (int i = 0; i != 2; ++i) {
    cleaned = false;
    i == 0 ? run(main()) : simulate(main());
    CHECK(cleaned);
    CHECK(kit::counted::live() == 0);
  }
}

TEST_CASE("what was spawned is stopped when the task has ended, the latest first") {
  for (bool real : {true, false}) {
    std::string order;
    auto background = [&](char name) -> task<> {
      const kit::at_exit note([&] { order += name; });
      co_await sleep_for(1h);
    };
    auto main = [&]() -> task<> {
      const auto executor = co_await tandem::this_task::executor;
      for (char name : {'a', 'b', 'c'}) spawn(executor, background(name), asio::detached);
      co_await yield();
      co_await yield();
      order += "main ";
    };
    real ? run(main()) : simulate(main());
    CHECK(order == "main cba");
  }
}

TEST_CASE("run on a context runs what was posted and spawned there, and leaves it as it is when its task has ended") {
  asio::io_context context;
  kit::gate first, second;
  std::string order;
  auto background = [&]() -> task<> {
    order += "spawned ";
    first.open_one();
    co_await second.wait();
    order += "afterwards";
  };
  auto main = [&]() -> task<> {
    co_await first.wait();
    order += "main ";
  };
  asio::post(context, [&] { order += "handler "; });
  spawn(context, background(), asio::detached);
  run(context, main());
  CHECK(order == "handler spawned main ");
  auto opens = [&]() -> task<> {
    second.open_one();
    co_return;
  };
  run(context, opens());
  context.restart();
  context.run();
  CHECK(order == "handler spawned main afterwards");
}

TEST_CASE("real_run does not wait for somebody else's handlers, but runs those of what was spawned") {
  const auto before = std::chrono::steady_clock::now();
  int completions = 0;
  auto main = [&]() -> task<> {
    auto executor = co_await tandem::this_task::executor;
    auto timer = std::make_shared<asio::steady_timer>(executor, 1h);
    timer->async_wait([timer](tandem::error_code) {});
    spawn(executor, answer(), [&](std::exception_ptr, int) { ++completions; });
    spawn(executor, sleep_for(1h), [&](std::exception_ptr) { ++completions; });
    co_await yield();
  };
  run(main());
  simulate(main());
  CHECK(completions == 4);
  CHECK(std::chrono::steady_clock::now() - before < 1min);
}

TEST_CASE("a tree that is spawned while everything is being stopped never starts") {
  bool started = false;
  auto endless = [&]() -> task<> {
    started = true;
    for (;;) co_await sleep_for(1h);
  };
  auto background = [&]() -> task<> {
    kit::counted c;
    const auto executor = co_await tandem::this_task::executor;
    co_await tandem::finally(sleep_for(1h), [&]() -> task<> {
      spawn(executor, endless(), asio::detached);
      co_await yield();
    });
  };
  auto main = [&]() -> task<> {
    spawn(co_await tandem::this_task::executor, background(), asio::detached);
    co_await yield();
    co_await yield();
  };
  simulate(main());
  run(main());
  CHECK_FALSE(started);
  CHECK(kit::counted::live() == 0);
}

TEST_CASE("however a run on a context of its own ends, what was spawned cleans up") {
  kit::gate never;
  int cleaned = 0;
  auto background = [&]() -> task<> {
    co_await tandem::finally(never.wait(), [&]() -> task<> {
      co_await yield();
      ++cleaned;
    });
  };
  auto main = [&](bool handler_throws) -> task<> {
    const auto executor = co_await tandem::this_task::executor;
    spawn(executor, background(), asio::detached);
    co_await yield();
    if (handler_throws) asio::post(executor, [] { throw std::runtime_error("handler"); });
    co_await background();
  };
  CHECK_THROWS_AS(simulate(main(false)), tandem::deadlock);
  CHECK_THROWS_AS(run(main(false)), tandem::deadlock);
  CHECK(cleaned == 4);
  CHECK_THROWS_WITH(simulate(main(true)), "handler");
  CHECK_THROWS_WITH(run(main(true)), "handler");
  CHECK(cleaned == 8);
}

TEST_CASE("a context that is stopped before the task has ended is runtime_error, and the task goes with the context") {
  {
    asio::io_context context;
    auto main = [&]() -> task<> {
      kit::counted c;
      context.stop();
      co_await sleep_for(1h);
    };
    CHECK_THROWS_AS(run(context, main()), std::runtime_error);
    CHECK(kit::counted::live() == 1);
  }
  CHECK(kit::counted::live() == 0);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE(
    "a context that runs out of work with an operation lost is runtime_error, and the task goes with the context") {
  {
    std::shared_ptr<void> keeper;
    asio::io_context context;
    auto loses = [&](kit::counted) -> task<> {
      co_await asio::async_initiate<const tandem::use_task_t, void()>(
          [&](auto handler) { keeper = std::make_shared<decltype(handler)>(std::move(handler)); }, use_task);
    };
    CHECK_THROWS_WITH(run(context, loses({})),
                      "tandem::run: the io_context was stopped, or ran out of work, before the task had ended");
    CHECK(kit::counted::live() == 1);
    keeper.reset();
  }
  CHECK(kit::counted::live() == 0);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("an exception from somebody else's handler leaves run, and the task goes with the context") {
  {
    asio::io_context context;
    kit::gate never;
    asio::post(context, [] { throw std::runtime_error("handler"); });
    CHECK_THROWS_WITH(run(context, waits_for_ever(never)), "handler");
  }
  CHECK(kit::counted::live() == 0);
}

// ---- signals -------------------------------------------------------------------------------------------------------

TEST_CASE("real_SIGINT and SIGTERM stop the task; when it has cleaned up, interrupted is thrown with the signal") {
  for (int signal : {SIGINT, SIGTERM}) {
    bool cleaned = false, went_on = false;
    auto main = [&]() -> task<> {
      kit::counted c;
      asio::post(co_await tandem::this_task::executor, [&] { std::raise(signal); });
      co_await tandem::finally(sleep_for(1h), [&]() -> task<> {
        co_await sleep_for(1ms);
        cleaned = true;
      });
      went_on = true;
    };
    int caught = 0;
    try {
      run(main());
    } catch (const tandem::interrupted& e) {
      caught = e.signal();
    }
    CHECK(caught == signal);
    CHECK(cleaned);
    CHECK_FALSE(went_on);
    CHECK(kit::counted::live() == 0);
  }
}

TEST_CASE("real_a value that the task still returns after a signal is its result") {
  auto main = []() -> task<int> {
    std::raise(SIGTERM);
    while (!co_await tandem::this_task::cancel_requested) co_await tandem::shield(sleep_for(1ms));
    co_return 7;
  };
  CHECK(run(main()) == 7);
}

TEST_CASE("real_a second signal has its default action") {
  const pid_t child = fork();
  if (child == 0) {
    auto main = []() -> task<> {
      std::raise(SIGTERM);
      co_await tandem::finally(sleep_for(1h), []() -> task<> {
        std::raise(SIGTERM);  // ends the process
        co_await sleep_for(1h);
      });
    };
    try {
      run(main());
    } catch (...) {
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGTERM);
}

TEST_CASE("real_a signal that the program ignores stays ignored") {
  const auto old = std::signal(SIGINT, SIG_IGN);
  auto main = []() -> task<int> {
    std::raise(SIGINT);
    co_await sleep_for(1ms);
    co_return 1;
  };
  CHECK(run(main()) == 1);
  CHECK(std::signal(SIGINT, old) == SIG_IGN);
}

namespace {

void heard(int) {}

/// What a signal does now: SIG_DFL, SIG_IGN, or a handler.
auto action_of(int signal) {
  struct sigaction now = {};
  sigaction(signal, nullptr, &now);
  return now.sa_handler;
}

}  // namespace

TEST_CASE("real_after a run a signal has its default action: an earlier handler is not put back") {
  for (int signal : {SIGINT, SIGTERM}) {
    const auto old = std::signal(signal, heard);
    CHECK(run(answer()) == 42);
    CHECK((action_of(signal) == SIG_DFL));
    std::signal(signal, heard);
    auto main = [&]() -> task<> {
      std::raise(signal);
      co_await tandem::finally(sleep_for(1h), [&]() -> task<> {
        CHECK((action_of(signal) == SIG_DFL));
        co_return;
      });
    };
    CHECK_THROWS_AS(run(main()), tandem::interrupted);
    CHECK((action_of(signal) == SIG_DFL));
    std::signal(signal, old);
  }
}

TEST_CASE("real_run on a given context, and simulate, leave signals to the program") {
  for (int signal : {SIGINT, SIGTERM}) {
    const auto old = std::signal(signal, heard);
    auto main = [&]() -> task<int> {
      CHECK((action_of(signal) == heard));
      std::raise(signal);
      co_await yield();
      co_return 1;
    };
    asio::io_context context;
    CHECK(run(context, main()) == 1);
    CHECK(simulate(main()) == 1);
    CHECK((action_of(signal) == heard));
    std::signal(signal, old);
  }
}

TEST_CASE("real_a signal is heard again after the loop had nothing to do for a while") {
  kit::gate gate;
  auto main = [&]() -> task<> {
    asio::steady_timer timer(co_await tandem::this_task::executor, 10ms);
    timer.async_wait([&](tandem::error_code) { gate.open_one(); });
    co_await gate.wait();  // only a plain handler can wake us: the signal wait is withdrawn meanwhile
    asio::post(timer.get_executor(), [] { std::raise(SIGINT); });
    co_await sleep_for(1h);
  };
  CHECK_THROWS_AS(run(main()), tandem::interrupted);
}

// ---- deadlock ------------------------------------------------------------------------------------------------------

TEST_CASE("deadlock names each waiting frame, its line and what it waits for; the task cleans up first") {
  kit::gate never;
  bool cleaned = false;
  int line = 0;
  auto inner = [&]() -> task<> {
    co_await sleep_for(1500ms);
    line = __LINE__ + 1;
    co_await never.wait();
  };
  auto other = [&]() -> task<> { co_await waits_for_ever(never); };
  auto main = [&]() -> task<> {
    auto both = [&]() -> task<> { co_await tandem::gather(inner(), other()); };
    co_await tandem::finally(both(), [&]() -> task<> {
      co_await sleep_for(500ms);
      cleaned = true;
    });
  };
  std::string report;
  try {
    simulate(main());
  } catch (const tandem::deadlock& d) {
    report = d.what();
  }
  INFO(report);
  CHECK(cleaned);
  CHECK(report.find("test_run.cpp:" + std::to_string(line) + ") waits for gate") != std::string::npos);
  CHECK(report.find("waits for gather") != std::string::npos);
  CHECK(report.find("waits_for_ever (test_run.cpp:") != std::string::npos);
  CHECK(report.find("detail::") == std::string::npos);
  CHECK(report.find("gate for 0 ms") != std::string::npos);     // inner has only begun to wait,
  CHECK(report.find("gate for 1500 ms") != std::string::npos);  // the other waits since the beginning
  CHECK(kit::counted::live() == 0);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("the report names a coroutine as its author does, whichever compiler says it") {
  using tandem::detail::function_name;
  CHECK(function_name("void shop::buy(shop::buy(int)::_ZN4shop3buyEi.Frame*)") == "shop::buy");
  CHECK(function_name("task<> shop::buy(int)") == "shop::buy");
  CHECK(function_name("task<int> (anonymous namespace)::waits(kit::gate &)") == "(anonymous namespace)::waits");
  CHECK(function_name("void {anonymous}::waits({anonymous}::waits(int)::F*)") == "{anonymous}::waits");
  CHECK(function_name("tandem::task<std::map<int, char> > shop<a, b>::f(void (*)(int))") == "shop<a, b>::f");
  CHECK(function_name("main") == "main");
  CHECK(function_name("").empty());
}

TEST_CASE("real_run reports a deadlock too, on its own context and on a given one") {
  for (bool own : {true, false}) {
    kit::gate never;
    asio::io_context context;
    CHECK_THROWS_AS(own ? run(waits_for_ever(never)) : run(context, waits_for_ever(never)), tandem::deadlock);
    CHECK(kit::counted::live() == 0);
  }
}

TEST_CASE("a clean-up that deadlocks as well is given up, and its frames are destroyed") {
  kit::gate never;
  auto main = [&]() -> task<> {
    kit::counted c;
    co_await tandem::finally(waits_for_ever(never), [&]() -> task<> { co_await waits_for_ever(never); });
  };
  CHECK_THROWS_AS(simulate(main()), tandem::deadlock);
  CHECK(kit::counted::live() == 0);
  asio::io_context context;
  CHECK_THROWS_AS(run(context, main()), tandem::deadlock);
  CHECK(kit::counted::live() == 0);
}

TEST_CASE("waiting for somebody else's handler is no deadlock") {
  for (bool real : {true, false}) {
    kit::gate gate;
    auto main = [&]() -> task<> {
      asio::steady_timer timer(co_await tandem::this_task::executor, 5ms);
      timer.async_wait([&](tandem::error_code) { gate.open_one(); });
      co_await gate.wait();
    };
    real ? run(main()) : simulate(main());
  }
}

TEST_CASE("the report shows spawned trees, and how a deep tree goes on") {
  kit::gate never;
  auto deep = [&](auto& self, int n) -> task<> {
    if (n == 0) co_await never.wait();
    co_await self(self, n - 1);
  };
  auto main = [&]() -> task<> {
    spawn(co_await tandem::this_task::executor, waits_for_ever(never), asio::detached);
    co_await deep(deep, 5000);
  };
  try {
    simulate(main());
    FAIL("no deadlock");
  } catch (const tandem::deadlock& d) {
    const std::string report = d.what();
    CHECK(report.find("spawned:") != std::string::npos);
    CHECK(report.size() < 200'000);
  }
}

// ---- simulate ------------------------------------------------------------------------------------------------------

TEST_CASE("a year of sleep takes no time under simulate, and every run is the same") {
  const auto before = std::chrono::steady_clock::now();
  auto main = []() -> task<clock::duration> {
    const auto begin = clock::now();
    for (int i = 0; i != 365; ++i) co_await sleep_for(24h);
    co_return clock::now() - begin;
  };
  CHECK(simulate(main()) == 365 * 24h);
  CHECK(std::chrono::steady_clock::now() - before < 10s);
}

namespace {
task<std::string> race_of_equals() {
  std::string order;
  auto one = [&](char name) -> task<> {
    co_await yield();
    order += name;
    co_await sleep_for(1s);
    order += name;
  };
  std::vector<task<>> all;
  for (char name = 'a'; name != 'f'; ++name) all.push_back(one(name));
  co_await tandem::gather(std::move(all));
  co_return order;
}
}  // namespace

TEST_CASE("without a seed the order is that of becoming ready; with one it is shuffled, the same way each time") {
  CHECK(simulate(race_of_equals()) == "abcdeabcde");
  std::vector<std::string> orders;
  for (std::uint64_t seed = 1; seed != 50; ++seed) {
    const std::string order = simulate(race_of_equals(), {.seed = seed, .start = {}});
    CHECK(simulate(race_of_equals(), {.seed = seed, .start = {}}) == order);
    if (std::find(orders.begin(), orders.end(), order) == orders.end()) orders.push_back(order);
  }
  CHECK(orders.size() > 40);
}

TEST_CASE("shuffling reaches every order of three") {
  std::vector<std::string> orders;
  auto three = []() -> task<std::string> {
    std::string order;
    auto one = [&](char name) -> task<> {
      co_await yield();
      order += name;
    };
    co_await tandem::gather(one('a'), one('b'), one('c'));
    co_return order;
  };
  for (std::uint64_t seed = 1; seed != 200; ++seed) orders.push_back(simulate(three(), {.seed = seed, .start = {}}));
  std::sort(orders.begin(), orders.end());
  orders.erase(std::unique(orders.begin(), orders.end()), orders.end());
  CHECK(orders.size() == 6);
}

TEST_CASE("virtual time may start before its epoch") {
  auto main = []() -> task<> {
    co_await sleep_for(3s);
    CHECK(clock::now() == at(-2s));
  };
  simulate(main(), {.seed = 0, .start = at(-5s)});
}

TEST_CASE("virtual time stands still while a real operation is in flight") {
  auto main = []() -> task<> {
    auto executor = co_await tandem::this_task::executor;
    bool slept = false;
    auto sleeps = [&]() -> task<> {
      co_await sleep_for(1h);
      slept = true;
    };
    auto real = [&]() -> task<> {
      asio::steady_timer timer(executor, 20ms);
      co_await timer.async_wait(use_task);
      CHECK_FALSE(slept);
      CHECK(clock::now() == at(0s));
    };
    co_await tandem::gather(sleeps(), real());
    CHECK(clock::now() == at(1h));
  };
  simulate(main());
}

TEST_CASE("a tree of the same simulation that is awaited by use_task does not hold virtual time") {
  auto main = []() -> task<> {
    auto inner = []() -> task<int> {
      co_await sleep_for(1h);
      co_return 5;
    };
    const int value = co_await spawn(co_await tandem::this_task::executor, inner(), use_task);
    CHECK(value == 5);
    CHECK(clock::now() == at(1h));
    const auto late =
        co_await tandem::try_timeout(1h, spawn(co_await tandem::this_task::executor, sleep_for(24h), use_task));
    CHECK_FALSE(late);
    CHECK(clock::now() == at(2h));
  };
  simulate(main());
}

TEST_CASE("timers that are due fire under simulate although coroutines are always ready") {
  auto main = []() -> task<> {
    auto busy = []() -> task<> {
      for (;;) co_await yield();
    };
    const auto late = co_await tandem::try_timeout(0s, busy());
    CHECK_FALSE(late);
  };
  simulate(main());
}

TEST_CASE("under simulate handlers of the context run although coroutines are always ready") {
  auto main = []() -> task<int> {
    bool posted = false;
    asio::post(co_await tandem::this_task::executor, [&] { posted = true; });
    int rounds = 0;
    while (!posted) {
      co_await yield();
      ++rounds;
    }
    co_return rounds;
  };
  CHECK(simulate(main()) < 1000);
}

// ---- the context and its loop ---------------------------------------------------------------------------------------

TEST_CASE("real_coroutines that are always ready starve neither sockets nor timers") {
  auto main = []() -> task<> {
    auto executor = co_await tandem::this_task::executor;
    bool done = false;
    long rounds = 0;
    auto busy = [&]() -> task<> {
      while (!done) {
        ++rounds;
        co_await yield();
      }
    };
    auto talks = [&]() -> task<> {
      kit::at_exit end([&] { done = true; });
      asio::ip::tcp::acceptor acceptor(executor, {asio::ip::address_v4::loopback(), 0});
      asio::ip::tcp::socket near(executor);
      auto bound10 = co_await tandem::gather(acceptor.async_accept(use_task),
                                             near.async_connect(acceptor.local_endpoint(), use_task));
      auto& [far, nothing] = bound10;
      (void)nothing;
      char byte = 'x';
      for (int i = 0; i != 100; ++i) {
        co_await far.async_write_some(asio::buffer(&byte, 1), use_task);
        co_await near.async_read_some(asio::buffer(&byte, 1), use_task);
      }
      for (int i = 0; i != 10; ++i) co_await sleep_for(100us);
    };
    co_await tandem::timeout(1min, tandem::gather(busy(), busy(), talks()));
    CHECK(rounds > 100);
  };
  run(main());
}

TEST_CASE("polling the context inside a coroutine runs handlers, never coroutines") {
  asio::io_context context;
  std::string order;
  auto other = [&]() -> task<> {
    order += "other ";
    co_return;
  };
  auto main = [&]() -> task<> {
    spawn(context, other(), asio::detached);
    asio::post(context, [&] { order += "handler "; });
    context.poll();
    order += "main ";
    co_await yield();
  };
  run(context, main());
  context.restart();
  context.run();
  CHECK(order == "handler main other ");
}
