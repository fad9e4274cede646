#include <tandem/cancel.hpp>

#include <tandem/gather.hpp>
#include <tandem/run.hpp>
#include <tandem/task_group.hpp>

#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(steady_timer.hpp)

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using kit::after;
using kit::at;
using kit::thrown_by;
using tandem::clock;
using tandem::deadline;
using tandem::ending;
using tandem::finally;
using tandem::shield;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::timed_out;
using tandem::timeout;
using tandem::try_timeout;
using tandem::with_resource;
using tandem::yield;

namespace {

task<> fail_after(clock::duration d, const char* text) {
  co_await sleep_for(d);
  throw std::runtime_error(text);
}

template <class A>
task<> as_void(A a) {
  co_await std::move(a);
}

}  // namespace

// ---- timeout -------------------------------------------------------------------------------------------------------

TEST_CASE("timeout gives what arrives in time, and throws timed_out when the time is up") {
  auto main = []() -> task<> {
    const int in_time = co_await timeout(2s, after(1s, 7));
    CHECK(in_time == 7);
    CHECK(clock::now() == at(1s));
    kit::counted* none = nullptr;
    bool late = false;
    try {
      co_await timeout(1s, after(1h, none));
    } catch (const timed_out& e) {
      late = e.code() == asio::error::timed_out;
    }
    CHECK(late);
    CHECK(clock::now() == at(2s));
    co_await timeout(1s, yield());
  };
  simulate(main());
}

TEST_CASE("timeout waits until what it stopped has cleaned up") {
  bool cleaned = false;
  auto main = [&]() -> task<> {
    auto slow_to_leave = [&]() -> task<> {
      co_await finally(sleep_for(1h), [&]() -> task<> {
        co_await sleep_for(5s);
        cleaned = true;
      });
    };
    const std::string text = co_await thrown_by(timeout(1s, slow_to_leave()));
    CHECK(text.starts_with("tandem::timed_out"));
    CHECK(cleaned);
    CHECK(clock::now() == at(6s));
  };
  simulate(main());
}

TEST_CASE("a grant at the instant of the timer wins") {
  for (std::uint64_t seed = 0; seed != 100; ++seed) {
    auto main = []() -> task<> {
      const int same_instant = co_await timeout(1s, after(1s, 5));
      CHECK(same_instant == 5);
      co_await timeout(1s, sleep_for(1s));
    };
    simulate(main(), {.seed = seed, .start = {}});
  }
}

TEST_CASE("a value or a failure that comes while the awaitable is being stopped is not dropped") {
  auto main = []() -> task<> {
    const int value = co_await timeout(1s, shield(after(3s, 9)));
    CHECK(value == 9);
    CHECK(clock::now() == at(3s));
    const std::string text = co_await thrown_by(timeout(1s, shield(fail_after(2s, "late failure"))));
    CHECK(text == "late failure");
    const auto optional = co_await try_timeout(1s, shield(after(2s, 3)));
    CHECK(optional == 3);
  };
  simulate(main());
}

TEST_CASE("try_timeout gives an optional, of monostate for void, and throws other failures") {
  auto main = []() -> task<> {
    const std::optional<int> in_time = co_await try_timeout(2s, after(1s, 1));
    CHECK(in_time == 1);
    const std::optional<int> late = co_await try_timeout(1s, after(2s, 1));
    CHECK_FALSE(late);
    const std::optional<std::monostate> nothing = co_await try_timeout(2s, sleep_for(1s));
    CHECK(nothing);
    const std::string text = co_await thrown_by(try_timeout(2s, fail_after(1s, "inside")));
    CHECK(text == "inside");
    int target = 0;
    auto reference = [&]() -> task<int&> { co_return target; };
    const auto r = co_await try_timeout(1s, reference());
    CHECK(&r->get() == &target);
    int& same = co_await timeout(1s, reference());
    CHECK(&same == &target);
  };
  simulate(main());
}

TEST_CASE("deadline counts to a point in time; one that has passed leaves what needs no waiting") {
  auto main = []() -> task<> {
    const int in_time = co_await deadline(at(5s), after(4s, 1));
    CHECK(in_time == 1);
    const std::string text = co_await thrown_by(deadline(at(5s), after(4s, 1)));
    CHECK(text.starts_with("tandem::timed_out"));
    CHECK(clock::now() == at(5s));
    auto immediate = []() -> task<int> { co_return 2; };
    const int at_once = co_await deadline(at(1s), immediate());
    CHECK(at_once == 2);
    const int zero = co_await timeout(0s, immediate());
    CHECK(zero == 2);
    const std::string none = co_await thrown_by(timeout(0s, sleep_for(1ns)));
    CHECK(none.starts_with("tandem::timed_out"));
  };
  simulate(main());
}

TEST_CASE("the time of a limit counts from the co_await, that of a deadline from nowhere") {
  auto main = []() -> task<> {
    auto limited = timeout(2s, after(1s, 1));
    auto optional = try_timeout(2s, after(1s, 2));
    auto due = deadline(at(2s), after(1s, 3));
    co_await sleep_for(5s);
    const int one = co_await std::move(limited);
    CHECK(one == 1);
    const std::optional<int> two = co_await std::move(optional);
    CHECK(two == 2);
    CHECK(clock::now() == at(7s));
    const std::string text = co_await thrown_by(std::move(due));
    CHECK(text.starts_with("tandem::timed_out"));
    CHECK(clock::now() == at(7s));
  };
  simulate(main());
}

TEST_CASE("time limits nest: the nearer one fires, and an outer stop is not hidden by an inner limit") {
  auto main = []() -> task<> {
    const std::string inner = co_await thrown_by(timeout(10s, timeout(1s, sleep_for(1h))));
    CHECK(inner.starts_with("tandem::timed_out"));
    CHECK(clock::now() == at(1s));
    bool inner_caught = false;
    auto catches = [&]() -> task<> {
      try {
        co_await timeout(1h, sleep_for(2h));
      } catch (const timed_out&) {
        inner_caught = true;
      }
    };
    const std::string outer = co_await thrown_by(timeout(1s, catches()));
    CHECK(outer.starts_with("tandem::timed_out"));
    CHECK_FALSE(inner_caught);
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("a time limit that was not needed leaves no timer behind") {
  kit::gate never;
  auto main = [&]() -> task<> {
    auto limited = timeout(1h, yield());
    co_await limited;
    co_await finally(never.wait(), []() -> task<> {
      CHECK(clock::now() == at(0s));  // a deadlock at once, not when the timer would have fired
      co_return;
    });
  };
  CHECK_THROWS_AS(simulate(main()), tandem::deadlock);
}

TEST_CASE("a time limit that fires is not heard in a scope that is stopped before the clean-up has ended") {
  bool heard = false;
  auto main = [&]() -> task<> {
    auto body = [&]() -> task<> {
      try {
        co_await timeout(1s, finally(sleep_for(1h), [] { return sleep_for(10s); }));
      } catch (const timed_out&) {
        heard = true;
      }
    };
    const auto late = co_await try_timeout(5s, body());
    CHECK_FALSE(late);
    CHECK(clock::now() == at(11s));
  };
  simulate(main());
  CHECK_FALSE(heard);
}

TEST_CASE("timers that are removed from the middle of many leave the others in order") {
  auto main = []() -> task<> {
    // A heap of four children a node; removing one whose place is taken by an earlier timer of another branch.
    std::vector<clock::time_point> woken;
    auto sleeper = [&](int s) -> task<> {
      co_await sleep_for(std::chrono::seconds(s));
      woken.push_back(clock::now());
    };
    for (int removed = 0; removed != 40; ++removed) {
      woken.clear();
      const auto begin = clock::now();
      std::vector<task<>> all;
      for (int i = 0; i != 40; ++i) {
        const int due = i % 4 == 0 ? 1000 + i : 100 + i % 7;  // long branches beside short ones
        if (i == removed)
          all.push_back([](int s) -> task<> { co_await try_timeout(std::chrono::seconds(s), sleep_for(1s)); }(due));
        else
          all.push_back(sleeper(due));
      }
      co_await tandem::gather(std::move(all));
      CHECK(std::is_sorted(woken.begin(), woken.end()));
      CHECK(woken.size() == 39);
      CHECK(woken.back() - begin <= 1036s);
    }
  };
  simulate(main());
}

TEST_CASE("a negative duration is invalid_argument, an empty task logic_error, before anything starts") {
  CHECK_THROWS_WITH(timeout(-1s, yield()), "tandem::timeout: the duration is -1.000000 s; it must not be negative");
  CHECK_THROWS_AS(try_timeout(-1ns, yield()), std::invalid_argument);
  CHECK_THROWS_AS(timeout(1s, task<>()), std::logic_error);
  CHECK_THROWS_AS(shield(task<int>()), std::logic_error);
  CHECK_THROWS_AS(finally(task<int>(), [] { return yield(); }), std::logic_error);
}

TEST_CASE("an awaitable may be moved until it is awaited") {
  auto main = []() -> task<> {
    auto a = timeout(2s, after(1s, 1));
    auto b = std::move(a);
    auto c = shield(std::move(b));
    auto d = finally(std::move(c), [] { return yield(); });
    auto e = std::move(d);
    const int value = co_await std::move(e);
    CHECK(value == 1);
  };
  simulate(main());
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("timeouts lose nothing under any schedule, stop or teardown") {
  struct state {
    int ended = 0;
    kit::gate gate;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto one = [&](int i) -> task<> {
          kit::counted c;
          co_await try_timeout(std::chrono::seconds(i), s.gate.wait());
          s.gate.open_one();
          co_await try_timeout(2s, after(std::chrono::seconds(i), i));
          ++s.ended;
        };
        co_await tandem::gather(one(1), one(2), one(3), timeout(3s, sleep_for(2s)));
      },
      [](state& s, kit::end how) {
        if (how == kit::end::returned) CHECK(s.ended == 3);
        CHECK(how != kit::end::failed);
      });
}

// ---- shield --------------------------------------------------------------------------------------------------------

TEST_CASE("timed_out says which time limit it was, and where the innermost coroutine waited") {
  auto main = []() -> task<> {
    auto pay = []() -> task<> { co_await sleep_for(1h); };
    auto buy = [&]() -> task<> { co_await pay(); };
    unsigned line = 0;
    try {
      line = __LINE__ + 1;
      co_await timeout(2s, timeout(5s, buy()));
    } catch (const timed_out& e) {
      CHECK(e.where().line() == line);
      const std::string text = e.what();
      CHECK(text.find("the time limit at ") != std::string::npos);
      CHECK(text.find("test_cancel.cpp:" + std::to_string(line) + ")") != std::string::npos);
      CHECK(text.find("test_cancel.cpp:" + std::to_string(line - 5) + ") waited for sleep") != std::string::npos);
    }
    CHECK(line != 0);
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("of two time limits that are over at one instant the outer one is told") {
  auto main = []() -> task<> {
    bool inner_told = false;
    for (int turns : {0, 1}) {
      unsigned outer_line = 0;
      auto inside = [&]() -> task<> {
        for (int i = 0; i != turns; ++i) co_await yield();
        const std::string text = co_await thrown_by(timeout(1s, sleep_for(1h)));
        inner_told = !text.empty();
        co_await sleep_for(1h);
      };
      try {
        outer_line = __LINE__ + 1;
        co_await timeout(1s, inside());
      } catch (const timed_out& e) {
        CHECK(e.where().line() == outer_line);
      }
    }
    CHECK(!inner_told);
  };
  simulate(main());
}

TEST_CASE("the deadline around a coroutine can be read: the earliest of the time limits, none under a shield") {
  auto main = []() -> task<> {
    const auto read = []() -> task<clock::time_point> { co_return co_await tandem::this_task::deadline; };
    clock::time_point t = co_await read();
    CHECK(t == clock::time_point::max());
    t = co_await timeout(2s, read());
    CHECK(t == at(2s));
    t = co_await timeout(2s, timeout(5s, read()));
    CHECK(t == at(2s));
    t = co_await timeout(5s, timeout(2s, read()));
    CHECK(t == at(2s));
    t = co_await deadline(at(7s), read());
    CHECK(t == at(7s));
    t = co_await timeout(2s, shield(read()));
    CHECK(t == clock::time_point::max());
    auto both = co_await timeout(3s, tandem::gather(read(), read()));
    CHECK(std::get<1>(both) == at(3s));
    auto in_cleanup = [&]() -> task<> { t = co_await read(); };
    co_await timeout(3s, finally(yield(), in_cleanup));
    CHECK(t == clock::time_point::max());
  };
  simulate(main());
}

TEST_CASE("a child of a group has the deadline around the group, or a nearer one of its own; a spawned tree has none") {
  auto main = []() -> task<> {
    const auto read = []() -> task<clock::time_point> { co_return co_await tandem::this_task::deadline; };
    auto body = [&](tandem::task_group& group) -> task<clock::time_point> {
      auto nearer = group.spawn(timeout(1s, read()));
      auto further = group.spawn(timeout(9s, read()));
      auto child = group.spawn(read());
      const clock::time_point own = co_await nearer;
      CHECK(own == at(1s));
      const clock::time_point around = co_await further;
      CHECK(around == at(2s));
      co_return co_await child;
    };
    clock::time_point t = co_await timeout(2s, tandem::with_task_group(body));
    CHECK(t == at(2s));
    const asio::any_io_executor executor = co_await tandem::this_task::executor;
    t = co_await timeout(2s, tandem::spawn(executor, read(), tandem::use_task));
    CHECK(t == clock::time_point::max());
  };
  simulate(main());
}

TEST_CASE("shield finishes its work although the scope is stopped, delivers it, and the next wait stops") {
  int delivered = 0;
  bool went_on = false;
  auto main = [&]() -> task<> {
    auto body = [&]() -> task<> {
      delivered = co_await shield(after(5s, 8));
      co_await yield();
      went_on = true;
    };
    const auto in_time = co_await try_timeout(1s, body());
    CHECK_FALSE(in_time);
    CHECK(clock::now() == at(5s));
  };
  simulate(main());
  CHECK(delivered == 8);
  CHECK_FALSE(went_on);
}

TEST_CASE("a shield entered in a stopped scope still does its work") {
  int done = 0;
  auto main = [&]() -> task<> {
    auto body = [&]() -> task<> {
      co_await shield(sleep_for(2s));
      done = co_await shield(after(1s, 1));
      co_await yield();
      done = 2;
    };
    co_await try_timeout(1s, body());
  };
  simulate(main());
  CHECK(done == 1);
}

TEST_CASE("shields in a gather, and a gather in a shield, run to their end though the scope is stopped") {
  auto main = []() -> task<> {
    int ended = 0;
    auto work = [&](clock::duration d) -> task<int> {
      co_await sleep_for(d);
      co_return ++ended;
    };
    auto shields = [&]() -> task<int> {
      auto [x, y] = co_await tandem::gather(shield(work(2s)), shield(work(3s)));
      co_return x + y;
    };
    int sum = co_await timeout(1s, shields());  // what arrives is not dropped
    CHECK(sum == 3);
    CHECK(clock::now() == at(3s));
    auto gathers = [&]() -> task<int> {
      auto inside = tandem::gather(work(2s), work(3s));
      auto [x, y] = co_await shield(std::move(inside));
      co_return x + y;
    };
    sum = co_await timeout(1s, gathers());
    CHECK(sum == 7);
    CHECK(clock::now() == at(6s));
  };
  simulate(main());
}

TEST_CASE("a shielded awaitable that need not wait does not wait") {
  auto main = []() -> task<> {
    bool other_ran = false;
    auto other = [&]() -> task<> {
      other_ran = true;
      co_return;
    };
    auto at_once = [&]() -> task<> {
      auto ready = []() -> task<int> { co_return 42; };
      int v = co_await shield(ready());
      CHECK(v == 42);
      CHECK(!other_ran);
    };
    co_await tandem::gather(at_once(), other());
  };
  simulate(main());
}

TEST_CASE("a time limit of duration::max is none") {
  auto main = []() -> task<> {
    int v = co_await timeout(clock::duration::max(), after(24h * 365, 1));
    CHECK(v == 1);
  };
  simulate(main());
}

TEST_CASE("what a shielded awaitable throws goes through") {
  auto main = []() -> task<> {
    const std::string text = co_await thrown_by(shield(fail_after(1s, "x")));
    CHECK(text == "x");
  };
  simulate(main());
}

// ---- finally -------------------------------------------------------------------------------------------------------

TEST_CASE("finally runs its clean-up after a value, a failure and a stop, and passes the ending on") {
  std::vector<std::string> endings;
  auto cleanup = [&](const ending& e) -> task<> {
    co_await sleep_for(1s);
    endings.push_back(e.returned() ? "returned" : e.failed() ? "failed" : "stopped");
    CHECK(int(e.returned()) + int(e.failed()) + int(e.stopped()) == 1);
    CHECK((e.error() != nullptr) == e.failed());
  };
  auto main = [&]() -> task<> {
    const int value = co_await finally(after(1s, 4), cleanup);
    CHECK(value == 4);
    const std::string text = co_await thrown_by(finally(fail_after(1s, "body"), cleanup));
    CHECK(text == "body");
    const auto late = co_await try_timeout(1s, finally(after(1h, 1), cleanup));
    CHECK_FALSE(late);
  };
  simulate(main());
  CHECK(endings == std::vector<std::string>{"returned", "failed", "stopped"});
}

TEST_CASE("a clean-up that fails: alone, together with its body, and instead of a stop") {
  auto broken = [] { return fail_after(1s, "clean-up"); };
  auto main = [&]() -> task<> {
    const std::string alone = co_await thrown_by(finally(after(1s, 4), broken));
    CHECK(alone == "clean-up");
    const std::string both = co_await thrown_by(finally(fail_after(1s, "body"), broken));
    CHECK(both == "tandem::exception_group: 2 failures: body; clean-up");
    const std::string instead = co_await thrown_by(timeout(1s, finally(after(1h, 4), broken)));
    CHECK(instead == "clean-up");
    auto throws_at_once = []() -> task<> {
      throw std::runtime_error("not even started");
      co_return;
    };
    const std::string at_once = co_await thrown_by(finally(yield(), throws_at_once));
    CHECK(at_once == "not even started");
    auto throws_plainly = []() -> task<> { throw std::runtime_error("no task"); };
    const std::string plainly = co_await thrown_by(finally(yield(), throws_plainly));
    CHECK(plainly == "no task");
  };
  simulate(main());
}

TEST_CASE("a clean-up may be any callable that returns an awaitable") {
  auto main = []() -> task<> {
    co_await finally(sleep_for(1s), [] { return sleep_for(2s); });
    CHECK(clock::now() == at(3s));
    auto owning = [kept = std::make_unique<int>(1)]() -> task<> {
      CHECK(*kept == 1);
      co_return;
    };
    auto awaitable = finally(yield(), std::ref(owning));
    co_await std::move(awaitable);
  };
  simulate(main());
}

TEST_CASE("a clean-up, and what with_resource is given, are kept until they have ended") {
  std::string used;
  auto uses = [&](const char* text) {
    return [&used, name = std::make_shared<std::string>(text)](auto&...) -> task<> {
      co_await sleep_for(1s);
      used += *name + " ";
    };
  };
  auto make = [&] {
    auto cleanup = [&used, name = std::make_shared<std::string>("clean-up")]() -> task<> {
      co_await sleep_for(1s);
      used += *name + " ";
    };
    return finally(yield(), cleanup);
  };
  auto make_another = [&] {
    auto acquire = [n = std::make_shared<int>(7)]() -> task<int> {
      co_await sleep_for(1s);
      co_return *n;
    };
    auto body = uses("body"), release = uses("release");
    return with_resource(acquire, body, release);
  };
  auto main = [&]() -> task<> {
    auto one = make();
    co_await std::move(one);
    auto another = make_another();
    co_await std::move(another);
    CHECK(clock::now() == at(4s));
  };
  simulate(main());
  CHECK(used == "clean-up body release ");
}

TEST_CASE("a stop that comes during the clean-up does not cut it short; the value is delivered") {
  bool cleaned = false, went_on = false;
  int value = 0;
  auto main = [&]() -> task<> {
    auto body = [&]() -> task<> {
      value = co_await finally(after(1s, 6), [&]() -> task<> {
        co_await sleep_for(10s);
        cleaned = true;
      });
      co_await yield();
      went_on = true;
    };
    co_await try_timeout(2s, body());
    CHECK(clock::now() == at(11s));
  };
  simulate(main());
  CHECK(cleaned);
  CHECK(value == 6);
  CHECK_FALSE(went_on);
}

TEST_CASE("a clean-up is not being stopped itself: cancel_requested is false in it") {
  bool asked = true;
  auto main = [&]() -> task<> {
    co_await try_timeout(1s, finally(sleep_for(1h), [&]() -> task<> {
                           co_await yield();
                           asked = co_await tandem::this_task::cancel_requested;
                         }));
  };
  simulate(main());
  CHECK_FALSE(asked);
}

TEST_CASE("nested finally clean up from the inside out") {
  std::vector<int> order;
  auto note = [&](int i) {
    return [&order, i]() -> task<> {
      co_await sleep_for(1s);
      order.push_back(i);
    };
  };
  auto main = [&]() -> task<> {
    auto n1 = note(1), n2 = note(2), n3 = note(3);
    auto nested = finally(finally(finally(sleep_for(1h), n1), n2), n3);
    co_await try_timeout(1s, std::move(nested));
  };
  simulate(main());
  CHECK(order == std::vector<int>{1, 2, 3});
}

TEST_CASE("time limits work in a clean-up, though the limit around its body is over") {
  for (clock::duration inside : {0s, 1s}) {
    bool was_late = false;
    auto main = [&]() -> task<> {
      auto clean_up = [&]() -> task<> {
        auto in_time = co_await try_timeout(inside, sleep_for(1h));
        was_late = !in_time;
      };
      std::string text = co_await thrown_by(timeout(1s, finally(sleep_for(1h), clean_up)));
      CHECK(text.find("timed_out") != std::string::npos);
      CHECK(clock::now() == at(1s + inside));
    };
    simulate(main());
    CHECK(was_late);
  }
}

TEST_CASE("clean-ups run to their end under every schedule and stop") {
  struct state {
    int opened = 0, closed = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto session = [&](int i) -> task<> {
          kit::counted c;
          co_await yield();
          ++s.opened;
          auto body = [&]() -> task<> {
            kit::counted d;
            for (int k = 0; k != i; ++k) co_await sleep_for(1s);
          };
          co_await finally(body(), [&]() -> task<> {
            co_await sleep_for(1s);
            co_await yield();
            ++s.closed;
          });
        };
        co_await tandem::gather(session(1), session(2), try_timeout(1s, session(3)));
      },
      [](state& s, kit::end how) {
        if (how != kit::end::destroyed) CHECK(s.opened == s.closed);
        CHECK(how != kit::end::failed);
      });
}

// ---- with_resource -------------------------------------------------------------------------------------------------

namespace {

struct connection {
  explicit connection(int n) : number(n) {}
  connection(connection&&) = default;
  int number;
};

task<connection> connect(int n) {
  co_await sleep_for(1s);
  co_return connection(n);
}

}  // namespace

TEST_CASE("with_resource acquires, uses and releases on every exit, and gives what the body gives") {
  std::vector<std::string> log;
  auto release = [&](connection& c, const ending& e) -> task<> {
    co_await sleep_for(1s);
    log.push_back(std::to_string(c.number) + (e.returned() ? " returned" : e.failed() ? " failed" : " stopped"));
  };
  auto main = [&]() -> task<> {
    const int value = co_await with_resource(
        connect(1), [](connection& c) { return after(1s, c.number * 10); }, release);
    CHECK(value == 10);
    const std::string text = co_await thrown_by(
        with_resource([] { return connect(2); }, [](connection&) { return fail_after(1s, "body"); }, release));
    CHECK(text == "body");
    const auto late = co_await try_timeout(5s, with_resource(
                                                   connect(3), [](connection&) { return sleep_for(1h); }, release));
    CHECK_FALSE(late);
  };
  simulate(main());
  CHECK(log == std::vector<std::string>{"1 returned", "2 failed", "3 stopped"});
}

TEST_CASE("a resource may be a reference to what somebody else owns") {
  connection shared(1);
  int released = 0;
  auto borrow = [&]() -> task<connection&> { co_return shared; };
  auto release = [&](auto& c) -> task<> {
    released += &c == &shared;
    co_return;
  };
  auto main = [&]() -> task<> {
    const int value = co_await with_resource(
        borrow, [](auto& c) { return after(1s, ++c.number); }, release);
    CHECK(value == 2);
  };
  simulate(main());
  CHECK(released == 1);
  CHECK(shared.number == 2);
}

TEST_CASE("a stop that comes during the acquisition, or while something is released, cuts neither short") {
  std::string log;
  auto acquire = []() -> task<connection> { co_return co_await shield(connect(1)); };
  auto body = [&](connection&) -> task<> {
    log += "body ";
    co_await sleep_for(1s);
    log += "to its end ";
  };
  auto release = [&](connection&) -> task<> {
    log += "release ";
    co_await sleep_for(1s);
    const bool asked = co_await tandem::this_task::cancel_requested;
    log += asked ? "asked to stop " : "to its end ";
  };
  auto main = [&]() -> task<> {
    auto late = co_await try_timeout(500ms, with_resource(acquire, body, release));
    CHECK_FALSE(late);
    CHECK(log == "body release to its end ");
    CHECK(clock::now() == at(2s));
    log.clear();
    auto in_spite = co_await try_timeout(2500ms, with_resource(connect(2), body, release));
    CHECK(in_spite);
    CHECK(log == "body to its end release to its end ");
    CHECK(clock::now() == at(5s));
  };
  simulate(main());
}

TEST_CASE("with_resource releases nothing if nothing was acquired") {
  int released = 0;
  auto release = [&](connection&) -> task<> {
    ++released;
    co_return;
  };
  auto use = [](connection&) { return yield(); };
  auto fails = []() -> task<connection> {
    co_await yield();
    throw std::runtime_error("no connection");
  };
  auto main = [&]() -> task<> {
    const std::string text = co_await thrown_by(with_resource(fails(), use, release));
    CHECK(text == "no connection");
    const auto late = co_await try_timeout(500ms, with_resource(connect(1), use, release));
    CHECK_FALSE(late);
  };
  simulate(main());
  CHECK(released == 0);
}

TEST_CASE("with_resource releases if its body cannot even be made") {
  int released = 0;
  auto release = [&](connection&) -> task<> {
    ++released;
    co_return;
  };
  auto broken = [](connection& c) -> task<> {
    if (c.number == 1) throw std::runtime_error("no body");
    return as_void(yield());
  };
  auto main = [&]() -> task<> {
    const std::string text = co_await thrown_by(with_resource(connect(1), broken, release));
    CHECK(text == "no body");
  };
  simulate(main());
  CHECK(released == 1);
}

TEST_CASE("a release may take the resource by value") {
  int released = 0;
  auto release = [&](connection c, ending e) -> task<> {
    released = e.returned() ? c.number : -1;
    co_return;
  };
  auto main = [&]() -> task<> {
    co_await with_resource(
        connect(4), [](connection&) { return yield(); }, release);
  };
  simulate(main());
  CHECK(released == 4);
}

TEST_CASE("every acquired resource is released once under every schedule and stop") {
  struct state {
    int acquired = 0, released = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto acquire = [&]() -> task<connection> {
          co_await sleep_for(1s);
          ++s.acquired;
          co_return connection(s.acquired);
        };
        auto use = [](connection&) -> task<> {
          kit::counted c;
          co_await sleep_for(1s);
          co_await yield();
        };
        auto release = [&](connection&) -> task<> {
          co_await yield();
          ++s.released;
        };
        std::vector<task<>> all;
        for (int i = 0; i != 3; ++i) all.push_back(with_resource(acquire, use, release));
        co_await tandem::gather(std::move(all));
      },
      [](state& s, kit::end how) {
        if (how != kit::end::destroyed) CHECK(s.acquired == s.released);
        if (how == kit::end::returned) CHECK(s.released == 3);
      });
}
