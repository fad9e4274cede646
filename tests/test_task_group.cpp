#include <tandem/task_group.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

#include "kit/kit.hpp"

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using kit::after;
using kit::at;
using kit::thrown_by;
using tandem::clock;
using tandem::simulate;
using tandem::sleep_for;
using tandem::started;
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

}  // namespace

// ---- the scope -----------------------------------------------------------------------------------------------------

TEST_CASE("a group ends when its body and all children have ended, and gives what the body gives") {
  auto main = []() -> task<> {
    int ended = 0;
    auto child = [&](clock::duration d) -> task<> {
      co_await sleep_for(d);
      ++ended;
    };
    auto body = [&](task_group& group) -> task<std::string> {
      group.spawn(child(3s));
      group.spawn(child(1s));
      CHECK(group.size() == 2);
      co_await sleep_for(2s);
      CHECK(group.size() == 1);
      co_return "body";
    };
    std::string text = co_await with_task_group(body);
    CHECK(text == "body");
    CHECK(ended == 2);
    CHECK(clock::now() == at(3s));
  };
  simulate(main());
}

TEST_CASE("a group without children ends with its body") {
  auto main = []() -> task<> {
    int n = co_await with_task_group([](task_group&) -> task<int> { co_return 3; });
    CHECK(n == 3);
  };
  simulate(main());
}

TEST_CASE("spawn starts the child at once, and it runs until it first waits") {
  std::string order;
  auto main = [&]() -> task<> {
    auto child = [&](char c) -> task<> {
      order += c;
      co_await yield();
      order += c;
    };
    auto body = [&](task_group& group) -> task<> {
      group.spawn(child('a'));
      order += '1';
      group.spawn(child('b'));
      order += '2';
      co_await yield();
      order += '3';
    };
    co_await with_task_group(body);
  };
  simulate(main());
  CHECK(order == "a1b2ab3");
}

TEST_CASE("any awaitable can be spawned") {
  auto main = []() -> task<> {
    auto body = [](task_group& group) -> task<> {
      auto slept = group.spawn(sleep_for(1s));
      asio::steady_timer timer(co_await tandem::this_task::executor, 0s);
      auto waited = group.spawn(timer.async_wait(tandem::use_task));
      co_await slept;
      co_await waited;
    };
    co_await with_task_group(body);
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
}

TEST_CASE("children may spawn into their own group") {
  auto main = []() -> task<> {
    int ended = 0;
    auto child = [&](task_group& group, int depth, auto& self) -> task<> {
      co_await sleep_for(1s);
      if (depth != 0) group.spawn(self(group, depth - 1, self));
      ++ended;
    };
    auto body = [&](task_group& group) -> task<> {
      group.spawn(child(group, 4, child));
      co_return;
    };
    co_await with_task_group(body);
    CHECK(ended == 5);
    CHECK(clock::now() == at(5s));
  };
  simulate(main());
}

TEST_CASE("a child's frame, with what it took by value, is gone before anyone is woken") {
  kit::gate permits;
  permits.open_one();
  auto main = [&]() -> task<> {
    struct permit {
      explicit permit(kit::gate& g) : gate(&g) {}
      permit(permit&& o) noexcept : gate(std::exchange(o.gate, nullptr)) {}
      ~permit() {
        if (gate) gate->open_one();
      }
      kit::gate* gate;
    };
    auto work = [](permit) -> task<> { co_await sleep_for(1s); };
    auto body = [&](task_group& group) -> task<> {
      for (int i = 0; i != 3; ++i) {
        co_await permits.wait();
        group.spawn(work(permit(permits)));
      }
    };
    co_await with_task_group(body);
    CHECK(clock::now() == at(3s));
  };
  simulate(main());
}

// ---- failures ------------------------------------------------------------------------------------------------------

TEST_CASE("the failure of a child stops the body and the other children, and is thrown as it is") {
  auto main = []() -> task<> {
    int stopped = 0;
    auto child = [&]() -> task<> {
      kit::at_exit count([&] { ++stopped; });
      co_await stand_by();
    };
    auto body = [&](task_group& group) -> task<> {
      kit::at_exit count([&] { ++stopped; });
      group.spawn(child());
      group.spawn(fail_after(1s, "broken"));
      group.spawn(child());
      co_await stand_by();
    };
    std::string text = co_await thrown_by(with_task_group(body));
    CHECK(text == "broken");
    CHECK(stopped == 3);
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
}

TEST_CASE("the failure of the body stops the children, and is thrown as it is") {
  auto main = []() -> task<> {
    auto body = [&](task_group& group) -> task<> {
      group.spawn(stand_by());
      co_await sleep_for(1s);
      throw std::runtime_error("body");
    };
    std::string text = co_await thrown_by(with_task_group(body));
    CHECK(text == "body");
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
}

TEST_CASE("failures that come while the rest is stopped join the first in an exception_group") {
  auto main = []() -> task<> {
    auto cleanup_fails = []() -> task<> {
      co_await sleep_for(1s);
      throw std::runtime_error("clean-up");
    };
    auto child = [&]() -> task<> { co_await tandem::finally(stand_by(), cleanup_fails); };
    auto body = [&](task_group& group) -> task<> {
      group.spawn(child());
      group.spawn(fail_after(1s, "first"));
      co_await child();
    };
    bool thrown = false;
    try {
      co_await with_task_group(body);
    } catch (const tandem::exception_group& e) {
      thrown = true;
      CHECK(e.exceptions().size() == 3);
      CHECK(std::string(e.what()).find("first; clean-up; clean-up") != std::string::npos);
    }
    CHECK(thrown);
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("a failure that the body gets from a handle and passes on counts once") {
  auto main = []() -> task<> {
    auto body = [&](task_group& group) -> task<> {
      auto h = group.spawn(fail_after(1s, "once"));
      co_await h;
    };
    std::string text = co_await thrown_by(with_task_group(body));
    CHECK(text == "once");
  };
  simulate(main());
}

TEST_CASE("a failure that comes at once, in the body or a child, is the group's") {
  auto main = []() -> task<> {
    auto fails = []() -> task<> {
      throw std::runtime_error("at once");
      co_return;
    };
    auto spawns = [&](task_group& group) -> task<> {
      auto h = group.spawn(fails());
      CHECK(h.done());
      auto late = group.spawn(stand_by());  // into a group that is stopping
      CHECK(late.done());
      CHECK_THROWS_AS(late.outcome().value(), tandem::cancelled);
      co_await stand_by();
    };
    std::string text = co_await thrown_by(with_task_group(spawns));
    CHECK(text == "at once");
    auto body = [&](task_group&) -> task<> { return fails(); };
    text = co_await thrown_by(with_task_group(body));
    CHECK(text == "at once");
    auto refuses = [&](task_group&) -> task<> { throw std::runtime_error("no task"); };
    text = co_await thrown_by(with_task_group(refuses));
    CHECK(text == "no task");
  };
  simulate(main());
}

// ---- cancelling, closing, background, start -------------------------------------------------------------------------

TEST_CASE("cancelling a group stops body and children, and the awaiter goes on") {
  auto main = []() -> task<> {
    task_handle<> child;
    auto body = [&](task_group& group) -> task<> {
      child = group.spawn(stand_by());
      auto canceller = [](task_group& g) -> task<> {
        co_await sleep_for(1s);
        g.cancel("enough");
      };
      group.spawn(canceller(group));
      co_await stand_by();
    };
    co_await with_task_group(body);
    CHECK(clock::now() == at(1s));
    std::string reason = co_await thrown_by([](task_handle<> h) -> task<> { co_await h; }(child));
    CHECK(reason.find("enough") != std::string::npos);
    auto gives = [](task_group& group) -> task<int> {
      group.cancel("no value");
      co_await stand_by();
      co_return 1;
    };
    std::string text = co_await thrown_by(with_task_group(gives));
    CHECK(text.find("no value") != std::string::npos);
    auto has_value = [](task_group& group) -> task<int> {
      group.cancel();
      co_return 1;
    };
    int v = co_await with_task_group(has_value);
    CHECK(v == 1);
  };
  simulate(main());
}

TEST_CASE("a background child does not keep the group open; its failure counts") {
  auto main = []() -> task<> {
    bool stopped = false;
    auto heartbeat = [&]() -> task<> {
      kit::at_exit note([&] { stopped = true; });
      for (;;) co_await sleep_for(100ms);
    };
    auto body = [&](task_group& group) -> task<> {
      group.spawn(heartbeat(), {.background = true});
      group.spawn(after(1s, 1));
      co_return;
    };
    co_await with_task_group(body);
    CHECK(stopped);
    CHECK(clock::now() == at(1s));
    auto fails = [&](task_group& group) -> task<> {
      group.spawn(fail_after(1s, "background"), {.background = true});
      co_await stand_by();
    };
    std::string text = co_await thrown_by(with_task_group(fails));
    CHECK(text == "background");
  };
  simulate(main());
}

TEST_CASE("close asks the children to finish, and stops what is left after the grace") {
  auto main = []() -> task<> {
    std::string log;
    auto polite = [&](task_group& group) -> task<> {
      co_await group.closing();
      co_await sleep_for(1s);
      log += "polite ";
    };
    auto deaf = [&]() -> task<> {
      kit::at_exit note([&] { log += "deaf "; });
      co_await stand_by();
    };
    auto body = [&](task_group& group) -> task<> {
      group.spawn(polite(group));
      group.spawn(deaf());
      co_await sleep_for(1s);
      CHECK(!group.is_closing());
      group.close(3s);
      CHECK(group.is_closing());
      co_await group.closing();
      CHECK_THROWS_WITH(group.spawn(stand_by()), "tandem::task_group::spawn: the group has been closed");
      CHECK_THROWS_AS(group.close(-1s), std::invalid_argument);
    };
    co_await with_task_group(body);
    CHECK(log == "polite deaf ");
    CHECK(clock::now() == at(4s));
    auto in_time = [&](task_group& group) -> task<> {
      group.spawn(polite(group));
      group.close(1h);
      co_return;
    };
    co_await with_task_group(in_time);
    CHECK(clock::now() == at(5s));
  };
  simulate(main());
}

TEST_CASE("a close without a grace has no end: what is left has all the time it needs") {
  auto main = []() -> task<> {
    auto body = [](task_group& group) -> task<int> {
      auto child = group.spawn(after(1'000'000h, 7));
      group.close();
      CHECK(group.is_closing());
      co_await group.closing();
      CHECK(clock::now() == at(0s));
      co_return co_await child;
    };
    const int seven = co_await with_task_group(body);
    CHECK(seven == 7);
    CHECK(clock::now() == at(1'000'000h));
  };
  simulate(main());
}

TEST_CASE("size counts the children that have not ended, background ones and those that clean up included") {
  auto main = []() -> task<> {
    auto body = [](task_group& group) -> task<> {
      CHECK(group.size() == 0);
      group.spawn(after(1s, 1), {.background = true});
      auto slow = group.spawn(tandem::finally(stand_by(), [] { return sleep_for(3s); }));
      auto at_once = []() -> task<> { co_return; };
      group.spawn(at_once());
      CHECK(group.size() == 2);
      slow.cancel();
      CHECK(group.size() == 2);
      co_await sleep_for(2s);
      CHECK(group.size() == 1);
      co_await sleep_for(2s);
      CHECK(group.size() == 0);
    };
    co_await with_task_group(body);
  };
  simulate(main());
}

TEST_CASE("the callable of a group is kept until the group has ended, though its body has") {
  auto main = []() -> task<> {
    int seen = 0;
    auto make = [&] {
      auto body = [&seen, kept = std::make_shared<int>(7)](task_group& group) -> task<> {
        auto child = [](int& to, const std::shared_ptr<int>& from) -> task<> {
          co_await sleep_for(1s);
          to = *from;
        };
        group.spawn(child(seen, kept));
        co_return;
      };
      return with_task_group(body);
    };
    auto group = make();
    co_await std::move(group);
    CHECK(seen == 7);
  };
  simulate(main());
}

TEST_CASE("start goes on once the child says that it is ready") {
  auto main = []() -> task<> {
    auto serve = [](started<int> ready) -> task<> {
      co_await sleep_for(1s);
      ready(8080);
      co_await sleep_for(2s);
    };
    auto body = [&](task_group& group) -> task<> {
      int port = co_await group.start<int>(serve);
      CHECK(port == 8080);
      CHECK(clock::now() == at(1s));
      auto at_once = [](started<> ready) -> task<> {
        ready();
        CHECK_THROWS_AS(ready(), std::logic_error);
        co_await yield();
      };
      co_await group.start(at_once);
      CHECK(clock::now() == at(1s));
    };
    co_await with_task_group(body);
    CHECK(clock::now() == at(3s));
  };
  simulate(main());
}

TEST_CASE("a child that is started in the background does not keep its group open") {
  auto main = []() -> task<> {
    bool stopped = false;
    auto serve = [&](started<> ready) -> task<> {
      kit::at_exit note([&] { stopped = true; });
      co_await sleep_for(1s);
      ready();
      co_await stand_by();
    };
    auto body = [&](task_group& group) -> task<> {
      co_await group.start(serve, {.background = true});
      co_await sleep_for(1s);
      CHECK_FALSE(stopped);
    };
    co_await with_task_group(body);
    CHECK(stopped);
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("copies of a started share what they report to, and no second call is heard through any of them") {
  auto main = []() -> task<> {
    auto reports = [](started<int> ready) -> task<> {
      co_await sleep_for(1s);
      ready(1);
    };
    auto serve = [&](started<int> ready) -> task<> {
      co_await reports(ready);
      CHECK_THROWS_AS(ready(2), std::logic_error);
      const auto copy = ready;
      CHECK_THROWS_AS(copy(3), std::logic_error);
    };
    auto forgets = [](started<>) -> task<> { co_await yield(); };
    auto body = [&](task_group& group) -> task<> {
      const int one = co_await group.start<int>(serve);
      CHECK(one == 1);
      CHECK(clock::now() == at(1s));
      bool is_logic_error = false;
      try {
        co_await group.start(forgets);
      } catch (const std::logic_error&) {
        is_logic_error = true;
      }
      CHECK(is_logic_error);
    };
    co_await with_task_group(body);
  };
  simulate(main());
}

TEST_CASE("a child that fails or ends before it is ready: start throws, and the group goes on") {
  auto main = []() -> task<> {
    auto fails = [](started<>) -> task<> {
      co_await sleep_for(1s);
      throw std::runtime_error("no port");
    };
    auto forgets = [](started<>) -> task<> { co_await sleep_for(1s); };
    auto fails_later = [](started<> ready) -> task<> {
      ready();
      co_await sleep_for(1s);
      throw std::runtime_error("later");
    };
    auto body = [&](task_group& group) -> task<> {
      std::string text = co_await thrown_by(group.start(fails));
      CHECK(text == "no port");
      text = co_await thrown_by(group.start(forgets));
      CHECK(text.find("without having called started") != std::string::npos);
      co_await group.start(fails_later);
      co_await stand_by();
    };
    std::string text = co_await thrown_by(with_task_group(body));
    CHECK(text == "later");
    CHECK(clock::now() == at(3s));
  };
  simulate(main());
}

TEST_CASE("if whoever waits for a start is stopped, so is the child") {
  auto main = []() -> task<> {
    bool stopped = false;
    auto slow = [&](started<>) -> task<> {
      kit::at_exit note([&] { stopped = true; });
      co_await stand_by();
    };
    auto body = [&](task_group& group) -> task<> {
      auto wait = [&]() -> task<> { co_await group.start(slow); };
      auto in_time = co_await tandem::try_timeout(1s, wait());
      CHECK(!in_time);
    };
    co_await with_task_group(body);
    CHECK(stopped);
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
}

TEST_CASE("a stop from outside reaches body, children and awaiter, also if the body has returned") {
  auto main = []() -> task<> {
    int stopped = 0;
    auto child = [&]() -> task<> {
      kit::at_exit count([&] { ++stopped; });
      co_await stand_by();
    };
    auto waits = [&](task_group& group) -> task<> {
      group.spawn(child());
      co_await child();
    };
    auto in_time = co_await tandem::try_timeout(1s, with_task_group(waits));
    CHECK(!in_time);
    CHECK(stopped == 2);

    auto has_returned = [&](task_group& group) -> task<int> {
      group.spawn(child());
      group.spawn(child());
      co_return 5;
    };
    bool is_late = false;
    try {
      co_await tandem::timeout(1s, with_task_group(has_returned));
    } catch (const tandem::timed_out&) {
      is_late = true;
    }
    CHECK(is_late);
    CHECK(stopped == 4);
  };
  simulate(main());
}

TEST_CASE(
    "a value of the body is given in spite of a stop from outside if all that was to be waited for has ended well") {
  auto main = []() -> task<> {
    int value = 0;
    auto gives_5 = [](auto body) -> task<std::optional<int>> {
      std::optional<int> given;
      auto asks = [&]() -> task<> {
        given = co_await with_task_group(body);
        co_await stand_by();
        given = -1;
      };
      co_await tandem::try_timeout(1s, asks());
      co_return given;
    };
    auto stubborn = [&](task_group& group) -> task<int> {
      group.spawn(tandem::shield(after(3s, 1)));
      group.spawn(stand_by(), {.background = true});
      auto unwanted = group.spawn(tandem::finally(stand_by(), [] { return tandem::sleep_for(1500ms); }));
      co_await tandem::sleep_for(500ms);
      unwanted.cancel();  // its clean-up lasts beyond the stop
      co_return co_await tandem::shield(after(2s, 5));
    };
    auto given = co_await gives_5(stubborn);
    CHECK(given == 5);
    CHECK(clock::now() == at(3s));

    auto cut_short = [&](task_group& group) -> task<int> {
      group.spawn(tandem::shield(after(3s, 1)));
      group.spawn(stand_by());
      value = co_await tandem::shield(after(2s, 5));
      co_return value;
    };
    given = co_await gives_5(cut_short);
    CHECK_FALSE(given);
    CHECK(value == 5);
  };
  simulate(main());
}

TEST_CASE("a child whose failure goes to who waited for its start is cut short like any other") {
  auto main = []() -> task<> {
    auto fails = []() -> task<> {
      co_await tandem::sleep_for(1s);
      throw std::runtime_error("cannot clean up");
    };
    auto serve = [&](tandem::started<int> ready) -> task<> {
      co_await tandem::finally(stand_by(), fails);
      ready(1);
    };
    bool was_told = false;
    auto body = [&](task_group& group) -> task<int> {
      try {
        co_await tandem::shield(group.start<int>(serve));
      } catch (const std::runtime_error&) {
        was_told = true;
      }
      co_return 5;
    };
    auto in_time = co_await tandem::try_timeout(1s, with_task_group(body));
    CHECK_FALSE(in_time);
    CHECK(was_told);
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("when a stop from outside takes a child, the cancelled that its handle gives to a sibling is no failure") {
  auto main = []() -> task<> {
    auto asks_in_clean_up = [](task_group& group) -> task<> {
      auto taken = group.spawn(stand_by());
      auto asks = [taken]() -> task<> { co_await taken; };
      group.spawn(tandem::finally(stand_by(), asks));
      co_return;
    };
    auto in_time = co_await tandem::try_timeout(1s, with_task_group(asks_in_clean_up));
    CHECK_FALSE(in_time);
    auto asks_in_the_body = [](task_group& group) -> task<> {
      auto taken = group.spawn(stand_by());
      co_await tandem::shield(taken);
    };
    in_time = co_await tandem::try_timeout(1s, with_task_group(asks_in_the_body));
    CHECK_FALSE(in_time);
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("in a scope that is stopped, a body that spawns and returns is stopped, and its child never runs") {
  auto main = []() -> task<> {
    bool ran = false, went_on = false;
    auto child = [&]() -> task<> {
      ran = true;
      co_return;
    };
    auto spawns = [&](task_group& group) -> task<int> {
      group.spawn(child());
      co_return 5;
    };
    auto spawns_behind = [&](task_group& group) -> task<int> {
      group.spawn(child(), {.background = true});
      co_return 5;
    };
    int behind = 0;
    auto stopped = [&]() -> task<> {
      co_await tandem::shield(tandem::sleep_for(2s));
      behind = co_await with_task_group(spawns_behind);
      co_await with_task_group(spawns);
      went_on = true;
    };
    co_await tandem::try_timeout(1s, stopped());
    CHECK(behind == 5);
    CHECK_FALSE(ran);
    CHECK_FALSE(went_on);
  };
  simulate(main());
}

TEST_CASE("a spawn from outside the group's loop is refused") {
  auto main = []() -> task<> {
    auto body = [](task_group& group) -> task<> {
      const asio::any_io_executor executor = co_await tandem::this_task::executor;
      bool refused = false;
      asio::post(executor, [&] {
        try {
          group.spawn(stand_by());
        } catch (const std::logic_error&) {
          refused = true;
        }
      });
      co_await asio::post(executor, tandem::use_task);
      CHECK(refused);
    };
    co_await with_task_group(body);
  };
  simulate(main());
}

TEST_CASE("the deadlock report names a child that ignores cancellation") {
  auto main = []() -> task<> {
    kit::gate never;
    auto deaf = [&]() -> task<> { co_await tandem::shield(never.wait()); };
    auto body = [&](task_group& group) -> task<> {
      group.spawn(deaf(), {.name = "deaf child"});
      co_await sleep_for(1s);
      throw std::runtime_error("stop the rest");
    };
    co_await with_task_group(body);
  };
  std::string report;
  try {
    simulate(main());
  } catch (const tandem::deadlock& e) {
    report = e.what();
  }
  CHECK(report.find("'deaf child'") != std::string::npos);
  CHECK(report.find("waits for gate") != std::string::npos);
}

TEST_CASE("a reference from a handle stays when the outcome is asked for, and the other way round") {
  auto main = []() -> task<> {
    auto body = [](task_group& group) -> task<> {
      auto h = group.spawn(after(1s, std::string("a value that is long enough to be on the heap")));
      const std::string& v = co_await h;
      const std::string& w = h.outcome().value();
      CHECK(&v == &w);
      CHECK(v.size() > 20);
    };
    co_await with_task_group(body);
  };
  simulate(main());
}

TEST_CASE("start in a scope that is stopped already stops its child, unless that is ready at once") {
  auto main = []() -> task<> {
    bool stopped = false, went_on = false;
    auto slow = [&](started<>) -> task<> {
      kit::at_exit note([&] { stopped = true; });
      co_await stand_by();
    };
    auto quick = [](started<> ready) -> task<> {
      ready();
      co_return;
    };
    auto body = [&](task_group& group) -> task<> {
      auto late = [&]() -> task<> {
        while (!co_await tandem::this_task::cancel_requested) co_await tandem::shield(sleep_for(1s));
        co_await group.start(quick);
        went_on = true;
        co_await group.start(slow);
      };
      co_await tandem::try_timeout(500ms, late());
    };
    co_await with_task_group(body);
    CHECK(stopped);
    CHECK(went_on);
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
}

TEST_CASE("after its own cancel a group counts no cancelled that comes of it as a failure") {
  auto main = []() -> task<> {
    auto body = [](task_group& group) -> task<> {
      group.cancel("why");
      co_await group.spawn(stand_by());
    };
    co_await with_task_group(body);
    auto fails = [](task_group& group) -> task<> {
      group.cancel();
      throw std::runtime_error("own failure");
      co_return;
    };
    std::string text = co_await thrown_by(with_task_group(fails));
    CHECK(text == "own failure");
  };
  simulate(main());
}

// ---- what the suites of asyncio's TaskGroup and Trio's nursery pin down besides: see docs/design/parity.md
// -----------

TEST_CASE("children and a body that fail at one instant are all in the exception_group, under any schedule") {
  for (std::uint64_t seed = 0; seed != kit::schedules(); ++seed) {
    auto main = []() -> task<> {
      auto body = [](task_group& group) -> task<> {
        for (const char* name : {"a", "b", "c"}) group.spawn(fail_after(1s, name));
        group.spawn(stand_by());
        co_await fail_after(1s, "body");
      };
      std::size_t failures = 0;
      try {
        co_await with_task_group(body);
      } catch (const tandem::exception_group& e) {
        failures = e.exceptions().size();
      }
      CHECK(failures == 4);
      CHECK(clock::now() == at(1s));
    };
    simulate(main(), {.seed = seed});
  }
}

TEST_CASE(
    "clean-ups that fail turn a stop from outside into their failures, which go through an outer group as they are") {
  auto main = []() -> task<> {
    auto cleanup_fails = []() -> task<> {
      co_await yield();
      throw std::runtime_error("clean-up");
    };
    auto child = [&]() -> task<> { co_await tandem::finally(stand_by(), cleanup_fails); };
    std::size_t children = 0;
    auto inner = [&](task_group& group) -> task<> {
      for (std::size_t i = 0; i != children; ++i) group.spawn(child());
      co_await stand_by();
    };
    auto outer = [&](task_group& group) -> task<> {
      group.spawn(stand_by());
      co_await with_task_group(inner);
    };
    for (children = 1; children != 4; ++children) {
      std::size_t failures = 0;
      try {
        co_await tandem::timeout(1s, with_task_group(outer));
      } catch (const tandem::exception_group& e) {
        failures = e.exceptions().size();
      } catch (const std::runtime_error& e) {
        if (std::string(e.what()) == "clean-up") failures = 1;
      }
      CHECK(failures == children);
    }
    CHECK(clock::now() == at(3s));
  };
  simulate(main());
}

TEST_CASE("a failure in an outer group stops the groups inside it; one inside goes through the outer group") {
  auto main = []() -> task<> {
    for (bool inside : {false, true}) {
      int stopped = 0;
      auto child = [&]() -> task<> {
        kit::at_exit count([&] { ++stopped; });
        co_await stand_by();
      };
      auto inner = [&](task_group& group) -> task<> {
        if (inside) group.spawn(fail_after(1s, "broken"));
        group.spawn(child());
        co_await child();
      };
      auto outer = [&](task_group& group) -> task<> {
        if (!inside) group.spawn(fail_after(1s, "broken"));
        group.spawn(child());
        co_await with_task_group(inner);
      };
      const auto begin = clock::now();
      std::string text = co_await thrown_by(with_task_group(outer));
      CHECK(text == "broken");
      CHECK(stopped == 3);
      CHECK(clock::now() - begin == 1s);
    }
  };
  simulate(main());
}

TEST_CASE(
    "groups that fail one inside the other at one instant: who catches the inner failure stops at the next wait") {
  for (std::uint64_t seed = 0; seed != kit::schedules(); ++seed) {
    auto main = []() -> task<> {
      bool caught = false, went_on = false;
      auto outer = [&](task_group& group) -> task<> {
        group.spawn(fail_after(1s, "outer"));
        auto inner = [](task_group& g) -> task<> {
          g.spawn(fail_after(1s, "inner"));
          co_await stand_by();
        };
        std::string text = co_await thrown_by(with_task_group(inner));
        caught = text == "inner";
        co_await stand_by();
        went_on = true;
      };
      std::string text = co_await thrown_by(with_task_group(outer));
      CHECK(text == "outer");
      CHECK(caught);
      CHECK(!went_on);
    };
    simulate(main(), {.seed = seed});
  }
}

TEST_CASE("a failure and a stop at one instant: the failure is thrown, and the next wait stops") {
  for (std::uint64_t seed = 0; seed != kit::schedules(); ++seed) {
    auto main = []() -> task<> {
      std::string text;
      bool went_on = false;
      auto work = [&]() -> task<> {
        auto body = [](task_group& group) -> task<> {
          group.spawn(fail_after(1s, "broken"));
          co_await stand_by();
        };
        text = co_await thrown_by(with_task_group(body));
        co_await stand_by();
        went_on = true;
      };
      auto in_time = co_await tandem::try_timeout(1s, work());
      CHECK(!in_time);
      CHECK(text == "broken");
      CHECK(!went_on);
      CHECK(clock::now() == at(1s));
    };
    simulate(main(), {.seed = seed});
  }
}

TEST_CASE("children that spawn without end are stopped by a failure") {
  auto main = []() -> task<> {
    int heads = 0;
    auto hydra = [&](task_group& group, auto& self) -> task<> {
      kit::counted here;
      ++heads;
      co_await sleep_for(1s);
      group.spawn(self(group, self));
      group.spawn(self(group, self));
    };
    auto hercules = [&]() -> task<> {
      while (heads < 100) co_await sleep_for(1s);
      throw std::runtime_error("enough");
    };
    auto body = [&](task_group& group) -> task<> {
      group.spawn(hydra(group, hydra));
      group.spawn(hercules());
      co_return;
    };
    std::string text = co_await thrown_by(with_task_group(body));
    CHECK(text == "enough");
    CHECK(heads >= 100);
    CHECK(kit::counted::live() == 0);
  };
  simulate(main());
}

TEST_CASE("a failure may be anything that can be thrown") {
  auto main = []() -> task<> {
    auto fails = []() -> task<> {
      co_await yield();
      throw 5;
    };
    auto body = [&](task_group& group) -> task<> {
      group.spawn(fails());
      co_await stand_by();
    };
    int thrown = 0;
    try {
      co_await with_task_group(body);
    } catch (int i) {
      thrown = i;
    }
    CHECK(thrown == 5);
  };
  simulate(main());
}

TEST_CASE("a group is awaited once") {
  auto main = []() -> task<> {
    auto body = [](task_group&) -> task<> { co_return; };
    auto group = with_task_group(body);
    co_await std::move(group);
    std::string text;
    try {
      co_await std::move(group);
    } catch (const std::logic_error& e) {
      text = e.what();
    }
    CHECK(text.find("awaited before") != std::string::npos);
  };
  simulate(main());
}

TEST_CASE("a task that is refused or never runs is destroyed with its parameters, at once") {
  auto main = []() -> task<> {
    auto work = [](kit::counted) -> task<> { co_await stand_by(); };
    auto closed = [&](task_group& group) -> task<> {
      group.close();
      CHECK_THROWS_AS(group.spawn(work(kit::counted())), std::logic_error);
      auto starts = [&](started<>) -> task<> { return work(kit::counted()); };
      std::string text = co_await thrown_by(group.start(starts));
      CHECK(text == "tandem::task_group::spawn: the group has been closed");
      CHECK(kit::counted::live() == 0);
    };
    co_await with_task_group(closed);
    auto cancelled = [&](task_group& group) -> task<> {
      group.cancel();
      auto h = group.spawn(work(kit::counted()));
      CHECK(h.done());
      CHECK(kit::counted::live() == 0);
      co_return;
    };
    co_await with_task_group(cancelled);
  };
  simulate(main());
}

TEST_CASE("a child that is spawned after a stop came never runs, also while the group has not begun to wait") {
  for (bool in_timeout : {false, true}) {
    asio::io_context context;
    asio::cancellation_signal signal;
    bool ran = false, is_done = false;
    auto stops = [&]() -> task<> {
      signal.emit(asio::cancellation_type::terminal);
      co_return;
    };
    auto second = [&]() -> task<> {
      ran = true;
      co_return;
    };
    auto body = [&](task_group& group) -> task<> {
      group.spawn(stops());
      auto h = group.spawn(second());
      is_done = h.done() && !h.outcome();
      co_return;
    };
    auto main = [&]() -> task<> {
      if (in_timeout)
        co_await tandem::timeout(1h, with_task_group(body));
      else
        co_await with_task_group(body);
    };
    tandem::spawn(context, main(), asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr) {}));
    context.run();
    CHECK(!ran);
    CHECK(is_done);
  }
}

TEST_CASE("cancelling a group reaches the children of its children; a failure is thrown all the same") {
  auto main = []() -> task<> {
    int stopped = 0;
    bool fail = false;
    auto leaf = [&]() -> task<> {
      kit::at_exit count([&] { ++stopped; });
      co_await stand_by();
    };
    auto worker = [&](task_group& group) -> task<> {
      group.spawn(leaf());
      group.spawn(leaf());
      co_return;
    };
    auto body = [&](task_group& group) -> task<> {
      group.spawn(with_task_group(worker));
      group.spawn(with_task_group(worker));
      co_await sleep_for(1s);
      group.cancel();
      if (fail) throw std::runtime_error("after cancel");
    };
    co_await with_task_group(body);
    CHECK(stopped == 4);
    CHECK(clock::now() == at(1s));
    fail = true;
    std::string text = co_await thrown_by(with_task_group(body));
    CHECK(text == "after cancel");
    CHECK(stopped == 8);
  };
  simulate(main());
}

TEST_CASE(
    "of children that are cancelled, by the group or from outside, and one that fails, the failure is all that is "
    "told") {
  auto main = []() -> task<> {
    auto fails_late = []() -> task<> {
      co_await tandem::finally(stand_by(), []() -> task<> {
        co_await sleep_for(1s);
        throw std::runtime_error("alone");
      });
    };
    auto body = [&](task_group& group) -> task<> {
      group.spawn(stand_by());
      group.spawn(fails_late());
      group.spawn(stand_by()).cancel();
      co_await sleep_for(1s);
      group.cancel();
      co_await stand_by();
    };
    std::string text = co_await thrown_by(tandem::timeout(1500ms, with_task_group(body)));
    CHECK(text == "alone");
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("a child that is starting keeps its group open, whoever waits for the start, and also if it fails") {
  auto main = []() -> task<> {
    auto slow = [](started<> ready) -> task<> {
      co_await sleep_for(2s);
      ready();
      co_await sleep_for(3s);
    };
    auto crashes = [](started<>) -> task<> {
      co_await sleep_for(7s);
      throw std::runtime_error("no start");
    };
    std::string text;
    auto starts = [&](task_group& group) -> task<> { co_await group.start(slow); };
    auto fails = [&](task_group& group) -> task<> { text = co_await thrown_by(group.start(crashes)); };
    auto outer = [&](task_group& around) -> task<> {
      auto inner = [&](task_group& group) -> task<> {
        around.spawn(starts(group));
        co_await sleep_for(1s);
        around.spawn(starts(group));
      };
      co_await with_task_group(inner);
      CHECK(clock::now() == at(6s));
      auto lonely = [&](task_group& group) -> task<> {
        around.spawn(fails(group));
        co_return;
      };
      co_await with_task_group(lonely);
      CHECK(clock::now() == at(13s));
    };
    co_await with_task_group(outer);
    CHECK(text == "no start");
  };
  simulate(main());
}

TEST_CASE("cancelling a group stops a child that is starting; who waits for it from outside gets cancelled") {
  auto main = []() -> task<> {
    bool stopped = false, told = false;
    auto never_ready = [&](started<>) -> task<> {
      kit::at_exit note([&] { stopped = true; });
      co_await stand_by();
    };
    auto starts = [&](task_group& group) -> task<> {
      try {
        co_await group.start(never_ready);
      } catch (const tandem::cancelled&) {
        told = true;
      }
    };
    auto outer = [&](task_group& around) -> task<> {
      auto inner = [&](task_group& group) -> task<> {
        around.spawn(starts(group));
        co_await sleep_for(1s);
        group.cancel();
      };
      co_await with_task_group(inner);
    };
    co_await with_task_group(outer);
    CHECK(stopped);
    CHECK(told);
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
}

TEST_CASE("a clean-up that fails in a group whose time limit is over is thrown instead of timed_out") {
  auto main = []() -> task<> {
    auto cleanup_fails = []() -> task<> {
      co_await yield();
      throw std::runtime_error("clean-up");
    };
    auto body = [&](task_group& group) -> task<> {
      group.spawn(tandem::finally(stand_by(), cleanup_fails));
      co_await stand_by();
    };
    std::string text = co_await thrown_by(tandem::timeout(1s, with_task_group(body)));
    CHECK(text == "clean-up");
  };
  simulate(main());
}

// ---- at the edges --------------------------------------------------------------------------------------------------

TEST_CASE("a child that fails after it was ready is the group's failure, also if all that happens at once") {
  auto main = []() -> task<> {
    auto serve = [](started<int> ready) -> task<> {
      ready(7);
      throw std::runtime_error("after the start");
      co_return;
    };
    int port = 0;
    bool went_on = false;
    auto body = [&](task_group& group) -> task<> {
      port = co_await group.start<int>(serve);
      co_await yield();
      went_on = true;
    };
    std::string text = co_await thrown_by(with_task_group(body));
    CHECK(text == "after the start");
    CHECK(port == 7);
    CHECK(!went_on);
  };
  simulate(main());
}

TEST_CASE("a start in a scope that is stopped stops there, and throws nothing into its own coroutine") {
  auto main = []() -> task<> {
    bool ran = false, thrown = false, went_on = false;
    auto serve = [&](started<> ready) -> task<> {
      ran = true;
      ready();
      co_return;
    };
    auto starts = [&](task_group& group) -> task<> {
      try {
        co_await group.start(serve);
        went_on = true;
      } catch (const tandem::cancelled&) {
        thrown = true;
      }
    };
    auto cancels = [&](task_group& group) -> task<> {
      group.cancel();
      co_await starts(group);
    };
    co_await with_task_group(cancels);
    auto inside_a_limit = [&](task_group& group) -> task<> {
      auto both = [&]() -> task<> {
        group.cancel();
        co_await starts(group);
      };
      co_await tandem::timeout(1h, both());
    };
    co_await with_task_group(inside_a_limit);
    auto in_stopped_scope = [&]() -> task<> {
      while (!co_await tandem::this_task::cancel_requested) co_await tandem::shield(sleep_for(1s));
      co_await with_task_group(starts);
    };
    auto in_time = co_await tandem::try_timeout(500ms, in_stopped_scope());
    CHECK(!in_time);
    CHECK(!ran);
    CHECK(!thrown);
    CHECK(!went_on);
  };
  simulate(main());
}

TEST_CASE("a function that is no coroutine may spawn before it returns the body") {
  auto main = []() -> task<> {
    int ran = 0;
    auto child = [&]() -> task<> {
      co_await sleep_for(1s);
      ++ran;
    };
    auto plain = [&](task_group& group) -> task<> {
      group.spawn(child());
      group.spawn(child());
      return child();
    };
    co_await with_task_group(plain);
    CHECK(ran == 3);
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
}

TEST_CASE(
    "a function that spawns and then throws fails like a body: its children are stopped, clean up and are joined") {
  auto main = []() -> task<> {
    bool cleaned = false;
    auto child = [&]() -> task<> {
      co_await tandem::finally(stand_by(), [&]() -> task<> {
        co_await sleep_for(1s);
        cleaned = true;
      });
    };
    auto plain = [&](task_group& group) -> task<> {
      group.spawn(child());
      throw std::runtime_error("no body");
    };
    std::string text = co_await thrown_by(with_task_group(plain));
    CHECK(text == "no body");
    CHECK(cleaned);
    CHECK(clock::now() == at(1s));
    auto gives_nothing = [&](task_group& group) -> task<> {
      group.spawn(child());
      return {};
    };
    text = co_await thrown_by(with_task_group(gives_nothing));
    CHECK(text.find("empty task") != std::string::npos);
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("once a child has failed at once, no child of a scope inside the group starts any more") {
  auto main = []() -> task<> {
    bool started_late = false;
    auto fails = []() -> task<> {
      throw std::runtime_error("at once");
      co_return;
    };
    auto late = [&]() -> task<> {
      started_late = true;
      co_return;
    };
    auto body = [&](task_group& group) -> task<> {
      auto spawns = [&]() -> task<> {
        group.spawn(fails());
        co_return;
      };
      co_await tandem::timeout(1h, tandem::gather(spawns(), late()));
    };
    std::string text = co_await thrown_by(with_task_group(body));
    CHECK(text == "at once");
    CHECK(!started_late);
  };
  simulate(main());
}

namespace {

/// Waits until it is stopped, and does something then.
template <class F>
class when_stopped final : public tandem::detail::leaf {
 public:
  explicit when_stopped(F f) : f_(std::move(f)) {}
  when_stopped(when_stopped&& o) : f_(std::move(o.f_)) {}
  const char* what() const noexcept override { return "when_stopped"; }
  bool await_ready() const noexcept { return false; }
  bool suspend(tandem::detail::frame& f) {
    park(f);
    return true;
  }
  void await_resume() noexcept { consume(); }
  void stop(tandem::detail::stop_mode m) noexcept override {
    if (waiting()) f_();
    leaf::stop(m);
  }

 private:
  F f_;
};

}  // namespace

TEST_CASE("whoever is called by a stop may spawn into the group that is being stopped; nothing runs") {
  auto main = []() -> task<> {
    bool ran = false;
    auto child = [&]() -> task<> {
      ran = true;
      co_return;
    };
    for (bool background : {false, true}) {
      auto body = [&](task_group& group) -> task<> {
        auto more = [&] {
          for (int i = 0; i != 100; ++i) group.spawn(child());
        };
        auto waits = [&]() -> task<> { co_await when_stopped(more); };
        for (int i = 0; i != 4; ++i) group.spawn(waits(), {.name = {}, .background = background});
        co_await sleep_for(1s);
        if (!background) group.cancel();
      };
      co_await with_task_group(body);
    }
    CHECK(!ran);
  };
  simulate(main());
}

TEST_CASE("a grace counts from any moment, before the clock's epoch too, and may be as long as can be") {
  auto main = []() -> task<> {
    auto closes = [](auto grace) {
      return [grace](task_group& group) -> task<> {
        group.spawn(after(10s, 1));
        group.close(grace);
        co_return;
      };
    };
    auto endless = closes(std::chrono::nanoseconds::max());
    auto short_one = closes(std::chrono::nanoseconds(2s));
    const auto begin = clock::now();
    co_await with_task_group(endless);
    CHECK(clock::now() - begin == 10s);
    co_await with_task_group(short_one);
    CHECK(clock::now() - begin == 12s);
  };
  simulate(main(), {.start = at(-1h)});
}

// ---- under every schedule ------------------------------------------------------------------------------------------

TEST_CASE("groups hand over at every stop and every end of the context") {
  struct state {
    kit::gate permits;
    int begun = 0, ended = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto worker = [&](int i) -> task<int> {
          kit::counted here;
          ++s.begun;
          kit::at_exit count([&] { ++s.ended; });
          co_await sleep_for(i % 2 * 1s);
          co_await yield();
          co_return i;
        };
        auto body = [&](task_group& group) -> task<> {
          kit::counted here;
          auto first = group.spawn(worker(1));
          auto second = group.spawn(worker(2));
          group.spawn(worker(3), {.background = true});
          auto waiter = [](task_handle<int> h) -> task<> { co_await h; };
          group.spawn(waiter(first));
          co_await second;
          second.cancel();
          co_await group.start([&](started<> ready) -> task<> {
            co_await yield();
            ready();
            co_await worker(4);
          });
        };
        co_await with_task_group(body);
      },
      [](state& s, kit::end) { CHECK(s.begun == s.ended); });
}

TEST_CASE("failing and cancelled groups hand over at every stop and every end of the context") {
  struct state {
    int thrown = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto fails = []() -> task<> {
          kit::counted here;
          co_await yield();
          throw std::runtime_error("child");
        };
        auto waits = []() -> task<> {
          kit::counted here;
          co_await tandem::finally(stand_by(), []() -> task<> { co_await yield(); });
        };
        auto body = [&](task_group& group) -> task<> {
          auto h = group.spawn(waits());
          group.spawn(fails());
          co_await h;
        };
        try {
          co_await with_task_group(body);
        } catch (const std::exception&) {
          ++s.thrown;
        }
        auto closes = [&](task_group& group) -> task<> {
          group.spawn(waits());
          group.close(1s);
          co_await group.closing();
          co_await stand_by();
        };
        co_await with_task_group(closes);
      },
      [](state& s, kit::end how) {
        if (how == kit::end::returned) CHECK(s.thrown == 1);
      });
}

TEST_CASE("a group of 100,000 children, and one of 10,000 groups inside each other") {
  auto main = []() -> task<> {
    long sum = 0;
    auto child = [&](int i) -> task<> {
      co_await yield();
      sum += i;
    };
    auto body = [&](task_group& group) -> task<> {
      for (int i = 0; i != 100'000; ++i) group.spawn(child(1));
      co_return;
    };
    co_await with_task_group(body);
    CHECK(sum == 100'000);
    auto deep = [](int depth, auto& self) -> task<> {
      auto inside = [&](task_group& group) -> task<> {
        if (depth != 0) group.spawn(self(depth - 1, self));
        co_await stand_by();
      };
      co_await with_task_group(inside);
    };
    auto in_time = co_await tandem::try_timeout(1s, deep(10'000, deep));
    CHECK(!in_time);
  };
  simulate(main());
}

TEST_CASE(
    "groups inside groups that fail, are cancelled, start and wait keep every promise under any schedule and stop") {
  struct state {
    int begun = 0, ended = 0, cleaned = 0, to_clean = 0, inner_failures = 0;
    bool went_on = false;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto work = [&](clock::duration d, bool fail) -> task<int> {
          kit::counted here;
          ++s.begun;
          kit::at_exit count([&] { ++s.ended; });
          co_await sleep_for(d);
          if (fail) throw std::runtime_error("work");
          co_return 1;
        };
        auto cleans = [&](clock::duration d) -> task<> {
          ++s.to_clean;
          auto clean = [&]() -> task<> {
            co_await yield();
            ++s.cleaned;
          };
          co_await tandem::finally(sleep_for(d), clean);
        };
        auto inner = [&](task_group& group) -> task<> {
          group.spawn(work(1s, true));
          group.spawn(cleans(1h));
          group.spawn(work(1s, false), {.background = true});
          co_await sleep_for(1s);
        };
        auto serve = [&](started<int> ready) -> task<> {
          co_await sleep_for(1s);
          ready(7);
          co_await cleans(1h);
        };
        auto outer = [&](task_group& group) -> task<> {
          auto h = group.spawn(work(2s, false));
          group.spawn(cleans(1s));
          try {
            co_await with_task_group(inner);
          } catch (const std::runtime_error&) {
            ++s.inner_failures;
          }
          int port = co_await group.start<int>(serve);
          CHECK(port == 7);
          co_await h;
          group.cancel();
        };
        co_await with_task_group(outer);
        s.went_on = true;
      },
      [](state& s, kit::end how) {
        CHECK(s.begun == s.ended);
        CHECK(how != kit::end::failed);
        if (how != kit::end::destroyed) CHECK(s.cleaned == s.to_clean);
        if (how == kit::end::returned) CHECK((s.went_on && s.inner_failures == 1));
      });
}
