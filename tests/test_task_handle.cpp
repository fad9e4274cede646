#include <tandem/task_handle.hpp>

#include <tandem/cancel.hpp>
#include <tandem/run.hpp>
#include <tandem/task_group.hpp>

#include "kit/kit.hpp"

#include <memory>
#include <stdexcept>
#include <string>

using namespace std::chrono_literals;
using kit::after;
using kit::at;
using kit::thrown_by;
using tandem::clock;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::task_group;
using tandem::task_handle;
using tandem::with_task_group;
using tandem::yield;

namespace {

task<> stand_by() { co_await sleep_for(1h); }

}  // namespace

TEST_CASE("a handle is awaited by several waiters, more than once, and after the group") {
  auto main = []() -> task<> {
    task_handle<std::string> kept;
    std::string order;
    auto body = [&](task_group& group) -> task<> {
      auto h = group.spawn(after(1s, std::string("value")));
      kept = h;
      auto waiter = [&](char c) -> task<> {
        const std::string& v = co_await h;
        CHECK(v == "value");
        order += c;
      };
      group.spawn(waiter('a'));
      group.spawn(waiter('b'));
      CHECK(!h.done());
      const std::string& v = co_await h;
      order += 'c';
      CHECK(v == "value");
      CHECK(h.done());
    };
    co_await with_task_group(body);
    CHECK(order == "abc");
    CHECK(kept.outcome().value() == "value");
    const std::string& again = co_await kept;
    CHECK(again == "value");
    std::string moved = co_await std::move(kept);
    CHECK(moved == "value");
  };
  simulate(main());
}

TEST_CASE("the last handle's value is moved out, also if it only moves") {
  auto main = []() -> task<> {
    auto make = []() -> task<std::unique_ptr<int>> {
      co_await yield();
      co_return std::make_unique<int>(7);
    };
    auto body = [&](task_group& group) -> task<> {
      std::unique_ptr<int> p = co_await group.spawn(make());
      CHECK(*p == 7);
      auto h = group.spawn(make());
      auto other = h;
      std::string text =
          co_await thrown_by([](task_handle<std::unique_ptr<int>> mine) -> task<> { co_await std::move(mine); }(h));
      CHECK(text.find("from its last handle alone") != std::string::npos);
      const std::unique_ptr<int>& still = co_await h;
      CHECK(*still == 7);
    };
    co_await with_task_group(body);
  };
  simulate(main());
}

TEST_CASE("a handle awaited as an rvalue gives the value itself, and a copy of it if another handle shares it") {
  auto main = []() -> task<> {
    auto body = [](task_group& group) -> task<> {
      auto last = group.spawn(after(1s, std::string(100, 'a')));
      const std::string& seen = co_await last;
      const char* const characters = seen.data();
      const std::string taken = co_await std::move(last);
      CHECK((taken.data() == characters));
      CHECK_FALSE(last);
      auto shared = group.spawn(after(1s, std::string(100, 'b')));
      const auto other = shared;
      const std::string copy = co_await std::move(shared);
      CHECK(copy == std::string(100, 'b'));
      CHECK(other.outcome().value() == copy);
      CHECK((other.outcome().value().data() != copy.data()));
    };
    co_await with_task_group(body);
  };
  simulate(main());
}

TEST_CASE("handles are equal if they are of one child; copies share it, and one that is empty says so") {
  STATIC_REQUIRE(std::is_nothrow_copy_constructible_v<task_handle<std::string>>);
  auto main = []() -> task<> {
    auto body = [](task_group& group) -> task<> {
      const auto one = group.spawn(after(1s, 1));
      const auto two = group.spawn(after(1s, 1));
      const auto copy = one;
      CHECK((copy == one));
      CHECK_FALSE((one == two));
      CHECK(one);
      task_handle<int> none;
      CHECK_FALSE(none);
      CHECK((none == task_handle<int>()));
      none = one;
      CHECK((none == one));
      co_await one;
      CHECK(copy.done());
      CHECK(&copy.outcome() == &one.outcome());
    };
    co_await with_task_group(body);
  };
  simulate(main());
}

TEST_CASE("handles of void and of references") {
  int target = 0;
  auto main = [&]() -> task<> {
    auto reference = [&]() -> task<int&> { co_return target; };
    auto body = [&](task_group& group) -> task<> {
      auto nothing = group.spawn(yield());
      auto ref = group.spawn(reference());
      co_await nothing;
      int& r = co_await ref;
      CHECK(&r == &target);
      STATIC_REQUIRE(std::is_same_v<decltype(nothing), task_handle<>>);
    };
    co_await with_task_group(body);
  };
  simulate(main());
}

TEST_CASE("cancelling a handle stops that child alone, which is no failure; who awaits it gets cancelled") {
  auto main = []() -> task<> {
    auto body = [&](task_group& group) -> task<> {
      auto one = group.spawn(stand_by(), {.name = "one"});
      auto two = group.spawn(after(2s, 2));
      CHECK(one.name() == "one");
      co_await sleep_for(1s);
      one.cancel();
      one.cancel();
      bool thrown = false;
      try {
        co_await one;
      } catch (const tandem::cancelled& e) {
        thrown = true;
        CHECK(e.code() == asio::error::operation_aborted);
      }
      CHECK(thrown);
      CHECK(one.done());
      CHECK_THROWS_AS(one.outcome().value(), tandem::cancelled);
      int v = co_await two;
      CHECK(v == 2);
      two.cancel();
      CHECK(two.outcome().has_value());
    };
    co_await with_task_group(body);
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("a shield around a handle keeps out no cancellation of its task") {
  auto main = []() -> task<> {
    auto body = [](task_group& group) -> task<> {
      auto h = group.spawn(after(1h, 1));
      auto canceller = [](task_handle<int> other) -> task<> {
        co_await sleep_for(1s);
        other.cancel();
      };
      group.spawn(canceller(h));
      bool thrown = false;
      try {
        co_await tandem::shield(h);
      } catch (const tandem::cancelled&) {
        thrown = true;
      }
      CHECK(thrown);
      CHECK(clock::now() == at(1s));
    };
    co_await with_task_group(body);
  };
  simulate(main());
}

TEST_CASE("a stop of a waiter detaches that waiter only") {
  auto main = []() -> task<> {
    auto body = [&](task_group& group) -> task<> {
      auto h = group.spawn(after(2s, 5));
      auto late =
          co_await tandem::try_timeout(1s, [](task_handle<int> mine) -> task<int> { co_return co_await mine; }(h));
      CHECK(!late);
      CHECK(!h.done());
      int v = co_await h;
      CHECK(v == 5);
    };
    co_await with_task_group(body);
  };
  simulate(main());
}

TEST_CASE("bad use of handles is refused with logic_error") {
  auto main = []() -> task<> {
    task_handle<int> empty;
    CHECK_THROWS_AS(empty.done(), std::logic_error);
    CHECK_THROWS_AS(empty.outcome(), std::logic_error);
    auto body = [&](task_group& group) -> task<> {
      auto h = group.spawn(after(1s, 1));
      CHECK_THROWS_WITH(h.outcome(), "tandem::task_handle::outcome: the task has not ended");
      auto moved = std::move(h);
      CHECK_THROWS_AS(h.cancel(), std::logic_error);
      CHECK_THROWS_AS(group.spawn(task<int>()), std::invalid_argument);
      task_handle<> self;
      auto awaits_itself = [&]() -> task<> {
        co_await yield();
        co_await self;
      };
      self = group.spawn(awaits_itself());
      std::string text = co_await thrown_by([](task_handle<> other) -> task<> { co_await other; }(self));
      CHECK(text == "tandem: a task awaits its own handle, so it would wait for ever");
    };
    std::string text = co_await thrown_by(with_task_group(body));
    CHECK(text.find("its own handle") != std::string::npos);
  };
  simulate(main());
}

TEST_CASE("awaiting a handle that is empty is logic_error, as it is and as an rvalue, alone and in a scope") {
  auto main = []() -> task<> {
    int refused = 0;
    auto awaits = [&](int how) -> task<> {
      task_handle<int> empty;
      try {
        if (how == 0) co_await empty;
        if (how == 1) co_await std::move(empty);
        if (how == 2) co_await tandem::timeout(1s, empty);
      } catch (const std::logic_error& e) {
        refused += std::string(e.what()).find("a task_handle is used that is empty") != std::string::npos;
      }
    };
    for (int how = 0; how != 3; ++how) co_await awaits(how);
    CHECK(refused == 3);
  };
  simulate(main());
}

TEST_CASE("a handle is awaited on its group's loop only") {
  auto main = []() -> task<> {
    asio::io_context other(1);
    std::exception_ptr error;
    auto body = [&](task_group& group) -> task<> {
      auto h = group.spawn(after(1s, 1));
      auto stranger = [](task_handle<int> mine) -> task<> { co_await mine; };
      tandem::spawn(other, stranger(h), [&](std::exception_ptr e) { error = e; });
      other.run();
      co_return;
    };
    co_await with_task_group(body);
    CHECK_THROWS_AS(std::rethrow_exception(error), std::logic_error);
  };
  simulate(main());
}
