#include <tandem/task.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

#include "kit/kit.hpp"

#include <memory>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using tandem::sleep_for;
using tandem::task;
using tandem::yield;

namespace {

task<int> immediate(int i) { co_return i; }
task<int> after_a_yield(int i) {
  co_await yield();
  co_return i;
}

struct no_default {
  explicit no_default(int v) : value(v) {}
  no_default(no_default&&) = default;
  no_default& operator=(no_default&&) = delete;
  int value;
};

struct throws_when_moved {
  throws_when_moved() = default;
  throws_when_moved(throws_when_moved&&) { throw std::runtime_error("move failed"); }
};

}  // namespace

TEST_CASE("a task does nothing until it is awaited") {
  bool ran = false;
  auto body = [&]() -> task<> {
    ran = true;
    co_return;
  };
  {
    auto t = body();
    CHECK(t);
    CHECK_FALSE(ran);
  }
  CHECK_FALSE(ran);
}

TEST_CASE("a task destroyed unawaited destroys its parameters") {
  auto body = [](kit::counted) -> task<> { co_return; };
  {
    auto t = body({});
    CHECK(kit::counted::live() == 1);
  }
  CHECK(kit::counted::live() == 0);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("a task gives values, references, move-only and non-default-constructible results, and void") {
  auto main = []() -> task<> {
    int target = 1;
    auto reference = [](int& t) -> task<int&> { co_return t; };
    int& r = co_await reference(target);
    CHECK(&r == &target);
    auto const_reference = [](const int& t) -> task<const int&> { co_return t; };
    const int& c = co_await const_reference(target);
    CHECK(&c == &target);

    auto unique = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(7); };
    const auto seven = co_await unique();
    CHECK(*seven == 7);

    auto stubborn = []() -> task<no_default> { co_return no_default(9); };
    const no_default nine = co_await stubborn();
    CHECK(nine.value == 9);

    auto text = []() -> task<std::string> { co_return "converted"; };
    const std::string converted = co_await text();
    CHECK(converted == "converted");

    auto nothing = []() -> task<> { co_return; };
    STATIC_REQUIRE(std::is_void_v<decltype(std::declval<task<>>().make_awaiter().await_resume())>);
    co_await nothing();

    auto flag = []() -> task<bool> { co_return true; };
    const bool yes = co_await flag();
    CHECK(yes);
  };
  tandem::simulate(main());
}

TEST_CASE("what the body throws is thrown from the co_await, as it is") {
  auto main = []() -> task<> {
    auto fails = [](bool wait) -> task<int> {
      if (wait) co_await yield();
      throw std::out_of_range("nothing there");
    };
    for (bool wait : {false, true}) {
      bool caught = false;
      try {
        co_await fails(wait);
      } catch (const std::out_of_range& e) {
        caught = std::string(e.what()) == "nothing there";
      }
      CHECK(caught);
    }
  };
  tandem::simulate(main());
}

TEST_CASE("an exception that no handler meets leaves run and simulate") {
  auto main = []() -> task<int> {
    co_await yield();
    throw std::domain_error("out");
  };
  CHECK_THROWS_AS(tandem::simulate(main()), std::domain_error);
  CHECK_THROWS_AS(tandem::run(main()), std::domain_error);
}

TEST_CASE("a result whose move constructor throws becomes the failure of the task") {
  auto source = []() -> task<throws_when_moved> { co_return throws_when_moved(); };
  auto main = [&]() -> task<> {
    bool caught = false;
    try {
      co_await source();
    } catch (const std::runtime_error& e) {
      caught = std::string(e.what()) == "move failed";
    }
    CHECK(caught);
  };
  tandem::simulate(main());
}

TEST_CASE("an immediate await neither suspends nor lets anyone else run") {
  std::vector<int> order;
  auto first = [&]() -> task<> {
    for (int i = 0; i != 3; ++i) order.push_back(co_await immediate(1));
  };
  auto second = [&]() -> task<> {
    order.push_back(2);
    co_return;
  };
  auto main = [&]() -> task<> { co_await tandem::gather(first(), second()); };
  tandem::simulate(main());
  CHECK(order == std::vector<int>{1, 1, 1, 2});
}

TEST_CASE("who awaits a task that has waited goes on as soon as that has ended, before all that is ready") {
  std::string order;
  auto child = [&]() -> task<> {
    co_await yield();
    order += "child ";
  };
  auto awaits = [&]() -> task<> {
    auto between = [&]() -> task<> { co_await child(); };
    co_await between();
    order += "awaiter ";
  };
  auto other = [&]() -> task<> {
    co_await yield();
    order += "other ";
  };
  auto main = [&]() -> task<> { co_await tandem::gather(awaits(), other()); };
  tandem::simulate(main());
  CHECK(order == "child awaiter other ");
}

TEST_CASE("the frame of a child, with its parameters, is destroyed before its awaiter goes on") {
  auto holder = [](kit::counted, bool wait) -> task<int> {
    if (wait) co_await yield();
    co_return kit::counted::live();
  };
  auto main = [&]() -> task<> {
    for (bool wait : {false, true}) {
      const int while_it_ran = co_await holder({}, wait);
      CHECK(while_it_ran == 1);
      CHECK(kit::counted::live() == 0);
      // within one expression too: when the second child runs, nothing of the first is left
      const int in_the_second = (co_await holder({}, wait), co_await holder({}, wait));
      CHECK(in_the_second == 1);
    }
  };
  tandem::simulate(main());
}

TEST_CASE("awaiting a moved-from or already awaited task throws logic_error") {
  auto main = []() -> task<> {
    auto t = immediate(1);
    auto u = std::move(t);
    CHECK_FALSE(t);
    int errors = 0;
    try {
      co_await std::move(t);
    } catch (const std::logic_error&) {
      ++errors;
    }
    const int one = co_await std::move(u);
    CHECK(one == 1);
    CHECK_FALSE(u);
    try {
      co_await std::move(u);
    } catch (const std::logic_error&) {
      ++errors;
    }
    task<> empty;
    try {
      co_await std::move(empty);
    } catch (const std::logic_error&) {
      ++errors;
    }
    CHECK(errors == 3);
  };
  tandem::simulate(main());
}

TEST_CASE("a task is one pointer, moves without throwing, and is not copied") {
  STATIC_REQUIRE(sizeof(task<>) == sizeof(void*));
  STATIC_REQUIRE(sizeof(task<std::string>) == sizeof(void*));
  STATIC_REQUIRE(std::is_nothrow_move_constructible_v<task<no_default>>);
  STATIC_REQUIRE(std::is_nothrow_move_assignable_v<task<no_default>>);
  STATIC_REQUIRE(!std::is_copy_constructible_v<task<int>>);
  STATIC_REQUIRE(!std::is_convertible_v<task<int>, bool>);
}

TEST_CASE("a task is moved by assignment and by swap, also onto itself") {
  auto main = []() -> task<> {
    auto a = immediate(1);
    auto b = immediate(2);
    a.swap(b);
    b = std::move(a);
    auto& self = b;
    b = std::move(self);
    const int two = co_await std::move(b);
    CHECK(two == 2);
  };
  tandem::simulate(main());
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("a million immediate awaits need no more stack than one") {
  auto main = []() -> task<long> {
    long sum = 0;
    for (int i = 0; i != 1'000'000; ++i) sum += co_await immediate(1);
    co_return sum;
  };
  CHECK(tandem::simulate(main()) == 1'000'000);
}

namespace {
task<int> chain(int n, kit::gate* bottom = nullptr) {
  kit::counted c;
  if (n == 0) {
    if (bottom) co_await bottom->wait();
    co_return 0;
  }
  co_return 1 + co_await chain(n - 1, bottom);
}
task<int> chain_of_gathers(int n, kit::gate* bottom = nullptr) {
  kit::counted c;
  if (n == 0) {
    if (bottom) co_await bottom->wait();
    co_return 0;
  }
  auto bound14 = co_await tandem::gather(chain_of_gathers(n - 1, bottom));
  auto& [depth] = bound14;
  co_return 1 + depth;
}
task<int> chain_of_scopes(int n, kit::gate* bottom) {
  kit::counted c;
  if (n == 0) {
    co_await bottom->wait();
    co_return 0;
  }
  auto none = []() -> task<> { co_return; };
  int depth = 0;
  if (n % 2 == 0)
    depth = co_await tandem::timeout(std::chrono::hours(1), chain_of_scopes(n - 1, bottom));
  else
    depth = co_await tandem::finally(chain_of_scopes(n - 1, bottom), none);
  co_return 1 + depth;
}
constexpr int deep = 100'000;
}  // namespace

TEST_CASE("a chain 100,000 frames deep starts and completes on a small stack") {
  CHECK(tandem::simulate(chain(deep)) == deep);
  CHECK(tandem::run(chain(deep)) == deep);
}

TEST_CASE("a chain of 100,000 tasks that hold each other and never ran is destroyed on a small stack") {
  auto hold = [](kit::counted, task<> inner) -> task<> { co_await std::move(inner); };
  task<> outermost;
  for (int i = 0; i != deep; ++i) outermost = hold({}, std::move(outermost));
  CHECK(kit::counted::live() == deep);
  outermost = {};
  CHECK(kit::counted::live() == 0);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("a chain 100,000 frames deep that waits at its bottom completes on a small stack") {
  kit::gate gate;
  auto main = [&]() -> task<int> {
    auto open = [&]() -> task<> {
      co_await yield();
      gate.open();
    };
    auto bound15 = co_await tandem::gather(chain(deep, &gate), open());
    auto& [depth, nothing] = bound15;
    (void)nothing;
    co_return depth;
  };
  CHECK(tandem::simulate(main()) == deep);
}

TEST_CASE("100,000 nested gathers start and complete on a small stack") {
  CHECK(tandem::simulate(chain_of_gathers(deep)) == deep);
}

TEST_CASE("a deep chain does not let others run where nothing waits") {
  std::vector<int> order;
  auto deep_one = [&]() -> task<> {
    co_await chain(1000);
    order.push_back(1);
  };
  auto other = [&](int i) -> task<> {
    co_await yield();
    order.push_back(i);
  };
  auto main = [&]() -> task<> { co_await tandem::gather(other(2), deep_one()); };
  tandem::simulate(main());
  CHECK(order == std::vector<int>{1, 2});
}

TEST_CASE("a chain 100,000 frames deep comes apart without overflowing the stack") {
  for (auto make : {&chain, &chain_of_gathers, &chain_of_scopes}) {
    kit::gate never;
    auto stopped = [&]() -> task<> {
      auto fails = []() -> task<int> {
        co_await yield();
        throw std::runtime_error("stop the rest");
      };
      co_await tandem::gather(make(deep, &never), fails());
    };
    CHECK_THROWS_WITH(tandem::simulate(stopped()), "stop the rest");
    CHECK(kit::counted::live() == 0);
    {
      asio::io_context context;
      tandem::spawn(context, make(deep, &never), asio::detached);
      context.poll();
      CHECK(kit::counted::live() == deep + 1);
    }
    CHECK(kit::counted::live() == 0);
  }
}

TEST_CASE("a child that was put off at great depth and whose scope is stopped meanwhile never starts") {
  for (int depth : {0, 10, 62, 63, 64, 65, 200}) {
    bool started = false;
    auto fails = []() -> task<> {
      throw std::runtime_error("first");
      co_return;
    };
    auto second = [&](kit::counted) -> task<> {
      started = true;
      co_return;
    };
    auto descend = [&](auto& self, int n) -> task<> {
      if (n != 0)
        co_await self(self, n - 1);
      else
        co_await tandem::gather(fails(), second({}));
    };
    CHECK_THROWS_WITH(tandem::simulate(descend(descend, depth)), "first");
    CHECK_FALSE(started);
    CHECK(kit::counted::live() == 0);
  }
}

TEST_CASE("a tree of awaits loses nothing under any schedule, stop or teardown") {
  struct state {
    int sum = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        kit::counted c;
        s.sum += co_await after_a_yield(1);
        auto inner = [&](int n) -> task<int> {
          kit::counted d;
          int r = 0;
          for (int i = 0; i != n; ++i) r += co_await after_a_yield(i);
          co_await sleep_for(1s);
          co_return r;
        };
        s.sum += co_await inner(4);
      },
      [](state& s, kit::end how) {
        if (how == kit::end::returned) CHECK(s.sum == 7);
        CHECK(how != kit::end::failed);
      });
}
