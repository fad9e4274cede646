#include <tandem/wait.hpp>

#include <tandem/cancel.hpp>
#include <tandem/run.hpp>

#include "kit/kit.hpp"

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using kit::after;
using kit::at;
using kit::thrown_by;
using tandem::all_completed;
using tandem::as_completed;
using tandem::clock;
using tandem::first_completed;
using tandem::first_exception;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::task_group;
using tandem::task_handle;
using tandem::with_task_group;
using tandem::yield;

namespace {

task<int> fail_after(clock::duration d, const char* text) {
  co_await sleep_for(d);
  throw std::runtime_error(text);
}
task<> stand_by() { co_await sleep_for(1h); }

using handles = std::vector<task_handle<int>>;

/// Children that take 3, 1, and 2 seconds.
handles three(task_group& group) {
  handles all;
  for (int s : {3, 1, 2}) all.push_back(group.spawn(after(s * 1s, s)));
  return all;
}

template <class Body>
void in_a_group(Body body) {
  simulate([](Body& b) -> task<> { co_await with_task_group(b); }(body));
}

}  // namespace

// ---- wait ----------------------------------------------------------------------------------------------------------

TEST_CASE("wait for all gives the handles in the order in which their tasks ended") {
  in_a_group([](task_group& group) -> task<> {
    auto result = co_await tandem::wait(three(group));
    CHECK(clock::now() == at(3s));
    REQUIRE(result.done.size() == 3);
    for (int i = 0; i != 3; ++i) CHECK(result.done[static_cast<std::size_t>(i)].outcome().value() == i + 1);
    CHECK(result.pending.empty());
  });
}

TEST_CASE("wait for the first cancels nothing, and the pending may be waited for again") {
  in_a_group([](task_group& group) -> task<> {
    auto result = co_await tandem::wait(three(group), first_completed);
    CHECK(clock::now() == at(1s));
    REQUIRE(result.done.size() == 1);
    CHECK(result.done[0].outcome().value() == 1);
    REQUIRE(result.pending.size() == 2);
    result = co_await tandem::wait(std::move(result.pending), first_completed);
    CHECK(clock::now() == at(2s));
    CHECK(result.done[0].outcome().value() == 2);
    result = co_await tandem::wait(std::move(result.pending));
    CHECK(clock::now() == at(3s));
    CHECK(result.pending.empty());
  });
}

TEST_CASE("wait for the first exception goes on at a failure, not at a cancellation; without one when all are done") {
  auto body = [](task_group& group) -> task<> {
    handles all = three(group);
    all[1].cancel();
    auto result = co_await tandem::wait(all, first_exception);
    CHECK(clock::now() == at(3s));
    CHECK(result.done.size() == 3);
    handles mixed;
    mixed.push_back(group.spawn(after(3s, 1)));
    mixed.push_back(group.spawn(fail_after(1s, "broken"), {.background = true}));
    auto watch = [&]() -> task<> {
      auto r = co_await tandem::wait(mixed, first_exception);
      CHECK(clock::now() == at(4s));
      CHECK(r.done.size() == 1);
      CHECK(r.pending.size() == 1);
    };
    co_await tandem::shield(watch());
  };
  simulate([](auto& b) -> task<> {
    std::string text = co_await thrown_by(with_task_group(b));
    CHECK(text == "broken");
  }(body));
}

TEST_CASE("wait with a time limit goes on with what is done") {
  in_a_group([](task_group& group) -> task<> {
    auto result = co_await tandem::wait(three(group), all_completed, 2500ms);
    CHECK(clock::now() == at(2500ms));
    CHECK(result.done.size() == 2);
    CHECK(result.pending.size() == 1);
    result = co_await tandem::wait(std::move(result.pending), all_completed, 0s);
    CHECK(clock::now() == at(2500ms));
    CHECK(result.done.empty());
    result = co_await tandem::wait(std::move(result.pending), all_completed, 1h);
    CHECK(clock::now() == at(3s));
    CHECK(result.done.size() == 1);
  });
}

TEST_CASE("wait for what is done already does not wait") {
  in_a_group([](task_group& group) -> task<> {
    handles all = three(group);
    co_await all[0];
    auto result = co_await tandem::wait(all, first_completed);
    CHECK(result.done.size() == 3);
    CHECK(result.done.front().outcome().value() == 1);
    handles twice{all[0], all[0]};
    result = co_await tandem::wait(twice);
    CHECK(result.done.size() == 2);
  });
}

TEST_CASE("wait gives what is done in the order of the ends, and what is pending in the order in which it was given") {
  in_a_group([](task_group& group) -> task<> {
    handles all;
    for (int s : {5, 2, 4, 1, 3}) all.push_back(group.spawn(after(s * 1s, s)));
    const handles done{all[3], all[1]}, pending{all[0], all[2], all[4]};
    auto result = co_await tandem::wait(all, all_completed, 2500ms);
    CHECK((result.done == done));
    CHECK((result.pending == pending));
  });
}

TEST_CASE("a wait whose condition holds already, and one with a limit of zero, let nobody run meanwhile") {
  in_a_group([](task_group& group) -> task<> {
    handles all = three(group);
    co_await all[1];
    bool others_ran = false;
    auto other = [&]() -> task<> {
      co_await yield();
      others_ran = true;
    };
    auto ready = group.spawn(other());
    auto result = co_await tandem::wait(all, first_completed);
    CHECK(result.done.size() == 1);
    result = co_await tandem::wait(all, all_completed, 0s);
    CHECK(result.done.size() == 1);
    result = co_await tandem::wait(handles(1, all[1]));
    CHECK(result.done.size() == 1);
    CHECK_FALSE(others_ran);
    co_await ready;
    CHECK(others_ran);
  });
}

TEST_CASE("several may wait for the same handles, and a stopped waiter leaves the others alone") {
  in_a_group([](task_group& group) -> task<> {
    handles all = three(group);
    int went_on = 0;
    auto watcher = [&]() -> task<> {
      co_await tandem::wait(all);
      ++went_on;
    };
    auto first = group.spawn(watcher());
    auto second = group.spawn(watcher());
    co_await sleep_for(1s);
    first.cancel();
    co_await second;
    CHECK(went_on == 1);
    CHECK(clock::now() == at(3s));
  });
}

TEST_CASE("bad arguments of wait are refused") {
  CHECK_THROWS_WITH(tandem::wait(handles()), "tandem::wait: there are no handles to wait for");
  CHECK_THROWS_AS(tandem::wait(handles(1)), std::logic_error);
  in_a_group([](task_group& group) -> task<> {
    CHECK_THROWS_WITH(tandem::wait(three(group), first_completed, -1s),
                      "tandem::wait: the duration is -1.000000 s; it must not be negative");
    auto forever = co_await tandem::wait(three(group), all_completed, std::chrono::hours::max());
    CHECK(forever.done.size() == 3);
    co_return;
  });
  auto body = [](task_group& group) -> task<> {
    task_handle<int> self;
    auto awaits_itself = [&]() -> task<int> {
      co_await yield();
      auto result = co_await tandem::wait(handles(1, self));
      co_return static_cast<int>(result.done.size());
    };
    self = group.spawn(awaits_itself());
    co_await stand_by();
  };
  simulate([](auto& b) -> task<> {
    std::string text = co_await thrown_by(with_task_group(b));
    CHECK(text == "tandem: a task awaits its own handle, so it would wait for ever");
  }(body));
}

TEST_CASE("wait for a handle of another loop is logic_error, also if it would not have to wait") {
  in_a_group([](task_group& group) -> task<> {
    handles all = three(group);
    co_await all[1];
    for (auto condition : {first_completed, all_completed}) {
      asio::io_context other(1);
      std::exception_ptr error;
      auto stranger = [&]() -> task<> { co_await tandem::wait(all, condition); };
      tandem::spawn(other, stranger(), [&](std::exception_ptr e) { error = e; });
      other.run();
      REQUIRE(error);
      CHECK_THROWS_AS(std::rethrow_exception(error), std::logic_error);
    }
  });
}

TEST_CASE("handles go into gather, timeout and race as they are, and stay with their group") {
  in_a_group([](task_group& group) -> task<> {
    handles all = three(group);
    auto first = co_await tandem::race(all[0], all[1], sleep_for(1h));
    CHECK(first.index() == 1);
    CHECK(clock::now() == at(1s));
    CHECK(!all[0].done());
    auto late = co_await tandem::try_timeout(500ms, all[0]);
    CHECK(!late);
    CHECK(!all[0].done());
    auto both = co_await tandem::gather(all[0], all[2]);
    CHECK(std::get<0>(both) == 3);
    CHECK(std::get<1>(both) == 2);
    CHECK(clock::now() == at(3s));
  });
}

// ---- as_completed --------------------------------------------------------------------------------------------------

TEST_CASE("as_completed gives each task as it ends, with its index and its outcome") {
  auto main = []() -> task<> {
    std::vector<task<int>> tasks;
    tasks.push_back(after(3s, 30));
    tasks.push_back(fail_after(1s, "broken"));
    tasks.push_back(after(2s, 20));
    auto stream = as_completed(std::move(tasks));
    std::string order;
    while (auto one = co_await stream.next()) {
      order += std::to_string(one->index) + (one->outcome ? "=" + std::to_string(one->outcome.value()) : "!") + " ";
      CHECK((clock::now() - at(0s)) / 1s == static_cast<long>(order.size() > 3 ? (one->index == 2 ? 2 : 3) : 1));
    }
    CHECK(order == "1! 2=20 0=30 ");
    auto none = co_await stream.next();
    CHECK(!none);
    auto empty = as_completed(std::vector<task<int>>());
    none = co_await empty.next();
    CHECK(!none);
  };
  simulate(main());
}

TEST_CASE("nothing starts before the first next, and at most the limit runs at a time, with nobody waiting too") {
  int running = 0, most = 0, ended = 0;
  auto main = [&]() -> task<> {
    auto work = [&](int i) -> task<int> {
      most = std::max(most, ++running);
      co_await sleep_for(1s);
      --running;
      ++ended;
      co_return i;
    };
    std::vector<task<int>> tasks;
    for (int i = 0; i != 6; ++i) tasks.push_back(work(i));
    auto stream = as_completed(std::move(tasks), 2);
    CHECK(running == 0);
    auto first = co_await stream.next();
    CHECK(first->index == 0);
    co_await sleep_for(10s);
    CHECK(ended == 6);
    int left = 0;
    while (auto one = co_await stream.next()) ++left;
    CHECK(left == 5);
  };
  simulate(main());
  CHECK(most == 2);
}

TEST_CASE("breaking off early stops the rest, and the tree ends after them") {
  int stopped = 0;
  bool went_on = false;
  auto main = [&]() -> task<> {
    auto slow = [&](clock::duration d) -> task<int> {
      kit::at_exit count([&] { ++stopped; });
      co_await tandem::finally(sleep_for(d), []() -> task<> { co_await sleep_for(1s); });
      co_return 0;
    };
    {
      std::vector<task<int>> tasks;
      tasks.push_back(after(1s, 1));
      tasks.push_back(slow(1h));
      tasks.push_back(slow(1h));
      auto stream = as_completed(std::move(tasks));
      auto first = co_await stream.next();
      CHECK(first->index == 0);
    }
    CHECK(stopped == 0);  // asked to, and cleaning up
    went_on = true;
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
  CHECK(went_on);
  CHECK(stopped == 2);
}

namespace {

/// Runs until it is stopped; then cleans up for a second, and fails.
task<int> fails_in_its_clean_up(const char* text) {
  auto cleanup = [](const char* what) -> task<> {
    co_await sleep_for(1s);
    throw std::runtime_error(what);
  };
  co_await tandem::finally(stand_by(), [&] { return cleanup(text); });
  co_return 0;
}

/// Takes the first of several tasks and drops the stream; one or two of the others fail while they clean up.
task<> takes_the_first_of(int failing) {
  std::vector<task<int>> tasks;
  tasks.push_back(after(1ms, 1));
  for (int i = 0; i != failing; ++i) tasks.push_back(fails_in_its_clean_up(i == 0 ? "one" : "two"));
  auto stream = as_completed(std::move(tasks));
  auto first = co_await stream.next();
  CHECK(first->index == 0);
}

}  // namespace

TEST_CASE("the failure of a clean-up after the stream was dropped is how its tree ends, not how its coroutine does") {
  bool went_on = false;
  auto main = [&](int failing) -> task<int> {
    co_await takes_the_first_of(failing);
    co_await sleep_for(3s);
    went_on = true;
    co_return 7;
  };
  CHECK_THROWS_WITH(simulate(main(1)), "one");
  CHECK(went_on);
  CHECK_THROWS_WITH(simulate(main(2)), "tandem::exception_group: 2 failures: one; two");
  CHECK(simulate(main(0)) == 7);

  auto spawned = [&](int failing) -> task<std::string> {
    co_return co_await thrown_by(tandem::spawn(co_await tandem::this_task::executor, main(failing), tandem::use_task));
  };
  CHECK(simulate(spawned(1)) == "one");
  CHECK(simulate(spawned(2)) == "tandem::exception_group: 2 failures: one; two");
  auto elsewhere = [&](int failing) -> task<std::string> {
    co_return co_await thrown_by(tandem::on(co_await tandem::this_task::executor, main(failing)));
  };
  CHECK(simulate(elsewhere(1)) == "one");
  CHECK(simulate(elsewhere(2)) == "tandem::exception_group: 2 failures: one; two");
}

TEST_CASE("real_run, on its own context and on a given one, ends with the failure of a stream that was dropped") {
  auto fails = []() -> task<int> {
    co_await tandem::finally(stand_by(), []() -> task<> {
      co_await yield();
      throw std::runtime_error("clean-up");
    });
    co_return 0;
  };
  auto main = [&]() -> task<int> {
    std::vector<task<int>> tasks;
    tasks.push_back(after(1ms, 1));
    tasks.push_back(fails());
    auto stream = as_completed(std::move(tasks));
    co_await stream.next();
    co_return 7;
  };
  CHECK_THROWS_WITH(tandem::run(main()), "clean-up");
  asio::io_context context;
  CHECK_THROWS_WITH(tandem::run(context, main()), "clean-up");
}

TEST_CASE("if the body of the tree fails too, its failure is the first of an exception_group") {
  auto main = []() -> task<> {
    co_await takes_the_first_of(2);
    throw std::runtime_error("body");
  };
  CHECK_THROWS_WITH(simulate(main()), "tandem::exception_group: 3 failures: body; one; two");
}

TEST_CASE("a task of a stream that fails while it is being stopped turns the stop of its tree into that failure") {
  for (bool slow_body : {false, true}) {
    std::string told;
    auto work = [&]() -> task<int> {
      std::vector<task<int>> tasks;
      tasks.push_back(fails_in_its_clean_up("clean-up"));
      auto stream = as_completed(std::move(tasks));
      auto nothing = co_await tandem::try_timeout(1s, stream.next());
      CHECK(!nothing);
      auto slow = [&]() -> task<> { co_await sleep_for(slow_body ? 5s : 0s); };
      co_await tandem::finally(stand_by(), slow);
      co_return 1;
    };
    auto main = [&]() -> task<> {
      told = co_await thrown_by(tandem::timeout(2s, tandem::on(co_await tandem::this_task::executor, work())));
      CHECK(clock::now() == at(slow_body ? 7s : 3s));
    };
    simulate(main());
    CHECK(told == "clean-up");
  }
}

TEST_CASE(
    "a failure that came before the stream was dropped, and that nobody has asked for, is no failure of the tree") {
  auto main = []() -> task<int> {
    std::vector<task<int>> tasks;
    tasks.push_back(after(1s, 1));
    tasks.push_back(fail_after(2s, "unasked"));
    auto stream = as_completed(std::move(tasks));
    co_await stream.next();
    co_await sleep_for(5s);
    co_return 7;
  };
  CHECK(simulate(main()) == 7);
}

TEST_CASE("a stop between two next reaches the tasks through the stream's destructor") {
  int stopped = 0;
  auto main = [&]() -> task<> {
    auto slow = [&]() -> task<int> {
      kit::at_exit count([&] { ++stopped; });
      co_await stand_by();
      co_return 0;
    };
    auto consumer = [&]() -> task<> {
      std::vector<task<int>> tasks;
      tasks.push_back(after(1s, 1));
      tasks.push_back(slow());
      auto stream = as_completed(std::move(tasks));
      co_await stream.next();
      co_await stand_by();
    };
    co_await tandem::try_timeout(2s, consumer());
  };
  simulate(main());
  CHECK(stopped == 2 - 1);
}

TEST_CASE("bad use of as_completed is refused") {
  CHECK_THROWS_WITH(as_completed(std::vector<task<int>>(), 0),
                    "tandem::as_completed: the limit is 0; it must be at least 1");
  CHECK_THROWS_AS(as_completed(std::vector<task<int>>(1)), std::invalid_argument);
  auto main = []() -> task<> {
    std::vector<task<int>> tasks;
    tasks.push_back(after(1s, 1));
    auto stream = as_completed(std::move(tasks));
    auto taker = [&]() -> task<> { co_await stream.next(); };
    std::string text = co_await thrown_by(tandem::gather(taker(), taker()));
    CHECK(text.find("two coroutines await next()") != std::string::npos);
    auto moved = std::move(stream);
    CHECK_THROWS_AS(stream.next(), std::logic_error);
  };
  simulate(main());
}

TEST_CASE("a stream that is given another one drops its own, whose tasks are stopped") {
  std::string ended;
  auto main = [&]() -> task<> {
    auto work = [&](const char* name, clock::duration d) -> task<int> {
      kit::at_exit note([&] { ended += name; });
      co_await sleep_for(d);
      co_return 1;
    };
    std::vector<task<int>> first, second;
    first.push_back(after(1s, 1));
    first.push_back(work("first ", 1h));
    second.push_back(work("second ", 2s));
    auto stream = as_completed(std::move(first));
    co_await stream.next();
    stream = as_completed(std::move(second));
    auto one = co_await stream.next();
    CHECK(one->index == 0);
    CHECK(one->outcome.value() == 1);
    CHECK(clock::now() == at(3s));
    CHECK(ended == "first second ");
    one = co_await stream.next();
    CHECK(!one);
  };
  simulate(main());
}

TEST_CASE("a race may take the next of a stream") {
  auto main = []() -> task<> {
    std::vector<task<int>> tasks;
    tasks.push_back(after(2s, 1));
    auto stream = as_completed(std::move(tasks));
    auto first = co_await tandem::race(stream.next(), sleep_for(1s));
    CHECK(first.index() == 1);
    auto second = co_await tandem::race(stream.next(), sleep_for(5s));
    CHECK(second.index() == 0);
    CHECK(second.get<0>()->index == 0);
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

// ---- what asyncio's suites pin down besides, and what fuzzing found: see docs/design/parity.md
// -----------------------

TEST_CASE("tasks that end after the first, but before the waiter has its turn, are done too") {
  in_a_group([](task_group& group) -> task<> {
    auto twice = []() -> task<int> {
      co_await yield();
      co_return 1;
    };
    handles all;
    for (int i = 0; i != 3; ++i) all.push_back(group.spawn(twice()));
    auto result = co_await tandem::wait(all, first_completed);
    CHECK(result.done.size() == 3);
    CHECK(result.pending.empty());
  });
}

TEST_CASE("a task that ends at the instant of the time limit is done") {
  in_a_group([](task_group& group) -> task<> {
    auto result = co_await tandem::wait(three(group), all_completed, 2s);
    CHECK(clock::now() == at(2s));
    CHECK(result.done.size() == 2);
    CHECK(result.pending.size() == 1);
  });
}

TEST_CASE("wait throws no failure: all have ended, one of them with it, and a second wait does not wait") {
  auto body = [](task_group& group) -> task<> {
    handles all = three(group);
    all.push_back(group.spawn(fail_after(4s, "broken")));
    auto watch = [&]() -> task<> {
      for (int i = 0; i != 2; ++i) {
        auto result = co_await tandem::wait(all);
        CHECK(clock::now() == at(4s));
        CHECK(result.done.size() == 4);
        CHECK_THROWS_WITH(result.done.back().outcome().value(), "broken");
      }
      auto result = co_await tandem::wait(all, first_exception);  // it has failed already
      CHECK(result.done.size() == 4);
      CHECK(clock::now() == at(4s));
    };
    co_await tandem::shield(watch());
  };
  simulate([](auto& b) -> task<> {
    std::string text = co_await thrown_by(with_task_group(b));
    CHECK(text == "broken");
  }(body));
}

TEST_CASE("a time limit on next leaves the tasks running, and taking goes on where it was") {
  auto main = []() -> task<> {
    std::vector<task<int>> tasks;
    for (int s : {3, 1}) tasks.push_back(after(s * 1s, s));
    auto stream = as_completed(std::move(tasks));
    auto first = co_await stream.next();
    CHECK(first->index == 1);
    auto late = co_await tandem::try_timeout(1s, stream.next());
    CHECK(!late);
    CHECK(clock::now() == at(2s));
    auto second = co_await tandem::timeout(5s, stream.next());
    CHECK(second->index == 0);
    CHECK(second->outcome.value() == 3);
    CHECK(clock::now() == at(3s));
  };
  simulate(main());
}

TEST_CASE("an as_completed in a clean-up is shielded like the rest of it, whenever the stop comes") {
  for (clock::duration stop : {1s, 3s}) {
    std::string taken;
    auto main = [&]() -> task<> {
      auto work = [&](clock::duration d) -> task<int> {
        co_await sleep_for(d);
        if (co_await tandem::this_task::cancel_requested) taken += "asked ";
        co_return 7;
      };
      auto clean_up = [&]() -> task<> {
        std::vector<task<int>> tasks;
        tasks.push_back(work(1s));
        tasks.push_back(work(2s));
        auto stream = as_completed(std::move(tasks));
        while (auto one = co_await stream.next()) taken += one->outcome ? "7 " : "cancelled ";
      };
      co_await tandem::finally(sleep_for(2s), clean_up);
    };
    asio::io_context context;
    bool was_cancelled = false;
    tandem::simulate([](auto& body, clock::duration d, bool& told) -> task<> {
      asio::cancellation_signal signal;
      const asio::any_io_executor executor = co_await tandem::this_task::executor;
      kit::gate ended;
      auto handler = [&](std::exception_ptr e) {
        told = e != nullptr;
        ended.open_one();
      };
      tandem::spawn(executor, body(), asio::bind_cancellation_slot(signal.slot(), handler));
      co_await sleep_for(d);
      signal.emit(asio::cancellation_type::terminal);
      co_await ended.wait();
    }(main, stop, was_cancelled));
    CHECK(taken == "7 7 ");
    CHECK(was_cancelled == (stop == 1s));  // a stop in the clean-up finds nothing left to stop
  }
}

TEST_CASE("an as_completed starts nothing once a stop was asked for, also while that has not come down to it") {
  asio::io_context context;
  asio::cancellation_signal signal;
  bool started = false;
  auto stops = [&]() -> task<> {
    signal.emit(asio::cancellation_type::terminal);
    co_return;
  };
  auto work = [&]() -> task<int> {
    started = true;
    co_return 1;
  };
  auto body = [&](task_group& group) -> task<> {
    group.spawn(stops());
    std::vector<task<int>> tasks;
    tasks.push_back(work());
    auto stream = as_completed(std::move(tasks));
    co_await stream.next();
  };
  auto main = [&]() -> task<> { co_await with_task_group(body); };
  tandem::spawn(context, main(), asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr) {}));
  context.run();
  CHECK(!started);
}

TEST_CASE("the deadlock report shows the tasks of a stream that was dropped") {
  kit::gate never;
  auto main = [&]() -> task<> {
    auto deaf = [&]() -> task<int> {
      co_await tandem::shield(never.wait());
      co_return 0;
    };
    std::vector<task<int>> tasks;
    tasks.push_back(after(1s, 1));
    tasks.push_back(deaf());
    auto stream = as_completed(std::move(tasks));
    co_await stream.next();
  };
  std::string report;
  try {
    simulate(main());
  } catch (const tandem::deadlock& e) {
    report = e.what();
  }
  CHECK(report.find("waits for shield") != std::string::npos);
  CHECK(report.find("waits for gate") != std::string::npos);
}

TEST_CASE("a wait that is over is not heard of again, though it is still there") {
  in_a_group([](task_group& group) -> task<> {
    handles all = three(group);
    auto first = tandem::wait(all, first_completed);
    auto answers = co_await std::move(first);
    CHECK(clock::now() == at(1s));
    auto rest = tandem::wait(std::move(answers.pending), all_completed);
    answers = co_await std::move(rest);
    CHECK(clock::now() == at(3s));
    CHECK(answers.done.size() == 2);
    CHECK(answers.pending.empty());

    handles again = three(group);
    auto limited = tandem::wait(again, all_completed, 500ms);
    co_await std::move(limited);
    for (int i = 0; i != 30; ++i) co_await tandem::race(yield(), sleep_for(100ms));
    co_await sleep_for(3s);
    CHECK(again[0].done());
  });
}

TEST_CASE("a limit of wait counts from any moment, before the clock's epoch too, and may be as long as can be") {
  auto body = [](task_group& group) -> task<> {
    const auto begin = clock::now();
    handles all = three(group);
    auto answers = co_await tandem::wait(all, all_completed, std::chrono::nanoseconds::max());
    CHECK(answers.done.size() == 3);
    answers = co_await tandem::wait(three(group), all_completed, 2500ms);
    CHECK(answers.done.size() == 2);
    CHECK(clock::now() - begin == 5500ms);
  };
  simulate([](auto& b) -> task<> { co_await with_task_group(b); }(body), {.start = at(-1h)});
}

TEST_CASE("who waits for the next of a stream that is destroyed gets nothing, and goes on") {
  auto main = []() -> task<> {
    for (bool in_race : {false, true}) {
      const auto begin = clock::now();
      std::vector<task<int>> tasks;
      tasks.push_back(after(5s, 1));
      auto stream = std::make_unique<tandem::completion_stream<int>>(as_completed(std::move(tasks)));
      bool went_on = false;
      auto takes = [&]() -> task<> {
        std::optional<tandem::completed<int>> one;
        if (in_race) {
          auto first = co_await tandem::race(stream->next(), sleep_for(1h));
          CHECK(first.index() == 0);
          one = std::move(first.get<0>());
        } else {
          one = co_await stream->next();
        }
        CHECK(!one);
        CHECK(clock::now() - begin == 1s);
        went_on = true;
      };
      auto drops = [&]() -> task<> {
        co_await sleep_for(1s);
        stream.reset();
      };
      co_await tandem::gather(takes(), drops());
      CHECK(went_on);
    }
  };
  simulate(main());
}

TEST_CASE("who was granted the next of a stream is unharmed if somebody else asks, or destroys it, before his turn") {
  for (bool destroys : {false, true}) {
    auto main = [&]() -> task<> {
      std::vector<task<int>> tasks;
      kit::gate open;
      auto opened = [&]() -> task<int> {
        co_await open.wait();
        co_return 1;
      };
      tasks.push_back(opened());
      tasks.push_back(after(1h, 2));
      auto stream = std::make_unique<tandem::completion_stream<int>>(as_completed(std::move(tasks)));
      std::optional<tandem::completed<int>> mine;
      std::string refused;
      auto takes = [&]() -> task<> { mine = co_await stream->next(); };
      auto meddles = [&]() -> task<> {
        open.open_one();
        co_await yield();  // the task has ended, and who waits for it has not run yet
        if (destroys)
          stream.reset();
        else
          refused = co_await thrown_by([](auto& s) -> task<> { co_await s->next(); }(stream));
      };
      co_await tandem::gather(takes(), meddles());
      CHECK(mine.has_value() == !destroys);
      CHECK((refused.find("two coroutines await next()") != std::string::npos) == !destroys);
    };
    simulate(main());
  }
}

TEST_CASE("a stream may go before its context, though a coroutine waits for its next") {
  for (bool runs_on : {false, true}) {
    asio::io_context context;
    {
      std::vector<task<int>> tasks;
      tasks.push_back(after(1h, 1));
      auto stream = as_completed(std::move(tasks));
      auto takes = [&]() -> task<> {
        kit::counted here;
        co_await stream.next();
      };
      tandem::spawn(context, takes(), asio::detached);
      context.poll();
    }
    if (runs_on) context.poll();
  }
  CHECK(kit::counted::live() == 0);
}

// ---- under every schedule ------------------------------------------------------------------------------------------

TEST_CASE("wait hands over at every stop and every end of the context") {
  struct state {
    int ended = 0, begun = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto work = [&](int i) -> task<int> {
          kit::counted here;
          ++s.begun;
          kit::at_exit count([&] { ++s.ended; });
          co_await sleep_for(i * 1s);
          co_return i;
        };
        auto body = [&](task_group& group) -> task<> {
          handles all;
          for (int i : {1, 1, 2}) all.push_back(group.spawn(work(i)));
          auto result = co_await tandem::wait(all, first_completed, 1s);
          CHECK(result.done.size() + result.pending.size() == 3);
          if (!result.pending.empty()) co_await tandem::wait(std::move(result.pending));
        };
        co_await with_task_group(body);
      },
      [](state& s, kit::end) { CHECK(s.begun == s.ended); });
}

TEST_CASE("as_completed hands over at every stop and every end of the context") {
  struct state {
    int ended = 0, begun = 0, given = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto work = [&](int i) -> task<int> {
          kit::counted here;
          ++s.begun;
          kit::at_exit count([&] { ++s.ended; });
          co_await sleep_for(i % 3 * 1s);
          co_await yield();
          co_return i;
        };
        std::vector<task<int>> tasks;
        for (int i = 0; i != 5; ++i) tasks.push_back(work(i));
        auto stream = as_completed(std::move(tasks), 3);
        while (s.given != 4) {
          auto one = co_await stream.next();
          ++s.given;
        }
      },
      [](state& s, kit::end how) {
        CHECK(s.begun == s.ended);
        if (how == kit::end::returned) CHECK(s.given == 4);
      });
}

TEST_CASE("waits of every kind, streams that are dropped, and cancels keep every promise under any schedule and stop") {
  struct state {
    int ended = 0, begun = 0, cleaned = 0, to_clean = 0;
    bool failed_late = false;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto work = [&](int i) -> task<int> {
          kit::counted here;
          ++s.begun;
          kit::at_exit count([&] { ++s.ended; });
          co_await sleep_for(i * 1s);
          if (i == 2) throw std::runtime_error("work");
          co_return i;
        };
        auto cleans = [&](int i) -> task<int> {
          ++s.to_clean;
          auto clean = [&]() -> task<> {
            co_await yield();
            ++s.cleaned;
          };
          std::exception_ptr failure;
          try {
            co_return co_await tandem::finally(work(i), clean);
          } catch (...) {
            failure = std::current_exception();
          }
          s.failed_late |= co_await tandem::this_task::cancel_requested;
          std::rethrow_exception(failure);
        };
        auto body = [&](task_group& group) -> task<> {
          handles all;
          for (int i : {1, 3, 1}) all.push_back(group.spawn(cleans(i)));
          auto result = co_await tandem::wait(all, first_completed);
          CHECK(!result.done.empty());
          result = co_await tandem::wait(all, all_completed, 1s);
          for (const auto& h : result.pending) h.cancel();
          result = co_await tandem::wait(all, first_exception);
          CHECK(result.pending.empty());
          {
            std::vector<task<int>> tasks;
            for (int i : {1, 2, 3, 3}) tasks.push_back(cleans(i));
            auto stream = as_completed(std::move(tasks), 3);
            int failed = 0;
            for (int i = 0; i != 2; ++i) {
              auto one = co_await stream.next();
              failed += !one->outcome;
            }
            CHECK(failed == 1);
          }
          co_await sleep_for(1s);
        };
        co_await with_task_group(body);
      },
      [](state& s, kit::end how) {
        CHECK(s.begun == s.ended);
        if (how != kit::end::destroyed) {
          CHECK((how == kit::end::failed) == s.failed_late);
          CHECK(s.cleaned == s.to_clean);
        }
      });
}

TEST_CASE("what fails in the clean-ups of a stream that was dropped is told by its tree, under any schedule and stop") {
  struct state {
    int failed = 0, broke_off = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto cleans = [&](int i) -> task<int> {
          kit::counted here;
          auto clean = [&](const tandem::ending& how) -> task<> {
            for (int n = 0; n != i; ++n) co_await yield();
            if (!how.stopped()) co_return;
            ++s.failed;
            throw std::runtime_error("clean-up");
          };
          co_return co_await tandem::finally(after(i * 1s, i), clean);
        };
        auto takes = [&]() -> task<> {
          kit::counted here;
          std::vector<task<int>> tasks;
          for (int i : {1, 2, 3}) tasks.push_back(cleans(i));
          auto stream = as_completed(std::move(tasks), 2);
          co_await stream.next();
        };
        co_await tandem::gather(takes(), takes());
        ++s.broke_off;
      },
      [](state& s, kit::end how) {
        if (how != kit::end::destroyed) CHECK((s.failed != 0) == (how == kit::end::failed));
        CHECK(how != kit::end::returned);
      });
}
