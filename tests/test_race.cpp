#include <tandem/race.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>
#include <tandem/task_group.hpp>

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
using tandem::first_successful;
using tandem::race;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::yield;

namespace {

task<int> fail_after(clock::duration d, const char* text) {
  co_await sleep_for(d);
  throw std::runtime_error(text);
}

/// Gives `value` at `d`, even if it was asked to stop meanwhile.
task<int> stubborn_after(clock::duration d, int value) { co_return co_await tandem::shield(after(d, value)); }

}  // namespace

TEST_CASE("the first to end decides, and the others are stopped and gone before the awaiter goes on") {
  int gone = 0;
  auto main = [&]() -> task<> {
    auto slow = [&](clock::duration d) -> task<int> {
      kit::at_exit count([&] { ++gone; });
      co_await sleep_for(d);
      co_return 0;
    };
    auto first = co_await race(slow(3s), after(1s, 7), slow(2s));
    CHECK(first.index() == 1);
    CHECK(first.value() == 7);
    CHECK(gone == 2);
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
}

TEST_CASE("arms of different types are told apart by get") {
  auto main = []() -> task<> {
    auto first = co_await race(after(2s, 1), after(1s, std::string("one")), sleep_for(3s));
    CHECK(first.index() == 1);
    CHECK(first.get<1>() == "one");
    CHECK_THROWS_AS(first.get<0>(), std::bad_variant_access);
    auto second = co_await race(after(2s, 1), sleep_for(1s));
    CHECK(second.index() == 1);
  };
  simulate(main());
}

TEST_CASE("arms of void have an index and a monostate") {
  auto main = []() -> task<> {
    auto first = co_await race(sleep_for(2s), sleep_for(1s));
    CHECK(first.index() == 1);
    STATIC_REQUIRE(std::is_same_v<std::decay_t<decltype(first.value())>, std::monostate>);
  };
  simulate(main());
}

TEST_CASE("the arms start in order, each running until it first waits, and those of a vector too") {
  std::string order;
  auto main = [&]() -> task<> {
    auto arm = [&](char name) -> task<int> {
      order += name;
      co_await yield();
      order += name;
      co_return 1;
    };
    auto first = co_await race(arm('a'), arm('b'), arm('c'));
    CHECK(first.index() == 0);
    CHECK(order == "abca");
    order.clear();
    std::vector<task<int>> arms;
    for (char name : {'d', 'e'}) arms.push_back(arm(name));
    auto second = co_await race(std::move(arms));
    CHECK(second.index() == 0);
    CHECK(order == "ded");
  };
  simulate(main());
}

TEST_CASE("once an arm has ended no further one starts") {
  bool started = false;
  auto main = [&]() -> task<> {
    auto ready = []() -> task<int> { co_return 1; };
    auto later = [&]() -> task<int> {
      started = true;
      co_return 2;
    };
    auto first = co_await race(ready(), later());
    CHECK(first.index() == 0);
  };
  simulate(main());
  CHECK(!started);
}

TEST_CASE("of two waits in a race exactly one takes effect") {
  kit::gate left, right;
  auto main = [&]() -> task<> {
    auto opener = [&]() -> task<> {
      co_await yield();
      left.open_one();
      right.open_one();  // nobody waits there any more: the pass stays
    };
    auto racer = [&]() -> task<> {
      auto first = co_await race(left.wait(), right.wait());
      CHECK(first.index() == 0);
    };
    co_await tandem::gather(racer(), opener());
  };
  simulate(main());
  CHECK(left.passes() == 0);
  CHECK(right.passes() == 1);
}

TEST_CASE("a wait that is ready decides at once, and the next one is not begun") {
  kit::gate left, right;
  left.open_one();
  auto main = [&]() -> task<> {
    auto first = co_await race(left.wait(), right.wait());
    CHECK(first.index() == 0);
    CHECK(!right.has_waiters());
  };
  simulate(main());
}

TEST_CASE("a wait that wins against a task stops it, and one that loses leaves its queue") {
  kit::gate g;
  auto main = [&]() -> task<> {
    auto opener = [&]() -> task<> {
      co_await sleep_for(1s);
      g.open_one();
    };
    auto racer = [&]() -> task<> {
      auto first = co_await race(after(2s, 1), g.wait());
      CHECK(first.index() == 1);
      CHECK(clock::now() == at(1s));
      auto second = co_await race(g.wait(), after(2s, 1));
      CHECK(second.index() == 1);
      CHECK(second.get<1>() == 1);
      CHECK(!g.has_waiters());
    };
    co_await tandem::gather(racer(), opener());
  };
  simulate(main());
  CHECK(g.passes() == 0);
}

TEST_CASE("a failure that comes first decides, and is thrown as it is") {
  auto main = []() -> task<> {
    std::string text = co_await thrown_by(race(after(2s, 1), fail_after(1s, "broken")));
    CHECK(text == "broken");
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
}

TEST_CASE("failures of losers that come while they are stopped join the first in an exception_group") {
  auto main = []() -> task<> {
    auto cleanup = []() -> task<> {
      co_await sleep_for(1s);
      throw std::runtime_error("clean-up");
    };
    auto loser = [&]() -> task<int> { co_return co_await tandem::finally(after(9s, 1), cleanup); };
    bool thrown = false;
    try {
      co_await race(fail_after(1s, "first"), loser());
    } catch (const tandem::exception_group& e) {
      thrown = true;
      CHECK(e.exceptions().size() == 2);
    }
    CHECK(thrown);
    CHECK(clock::now() == at(2s));
    std::string text = co_await thrown_by(race(after(1s, 5), loser()));
    CHECK(text == "clean-up");
  };
  simulate(main());
}

TEST_CASE(
    "a handle that wins with a failure, and a loser that fails in its clean-up, are both told, the winner first") {
  auto main = []() -> task<> {
    auto loser = []() -> task<int> {
      co_return co_await tandem::finally(after(9s, 1), []() -> task<> {
        co_await yield();
        throw std::runtime_error("clean-up");
      });
    };
    std::string told;
    auto races = [&](tandem::task_group& group) -> task<> {
      auto h = group.spawn(fail_after(1s, "winner"));
      auto watch = [&]() -> task<> { told = co_await thrown_by(race(h, loser())); };
      co_await tandem::shield(watch());
    };
    std::string text = co_await thrown_by(tandem::with_task_group(races));
    CHECK(text == "winner");
    CHECK(told == "tandem::exception_group: 2 failures: winner; clean-up");
  };
  simulate(main());
}

TEST_CASE("first_successful passes over failures, and throws all of them if there is nothing else") {
  auto main = []() -> task<> {
    auto first = co_await race(first_successful, fail_after(1s, "a"), after(3s, 7), fail_after(2s, "b"));
    CHECK(first.index() == 1);
    CHECK(first.value() == 7);
    CHECK(clock::now() == at(3s));
    bool thrown = false;
    try {
      co_await race(first_successful, fail_after(2s, "a"), fail_after(1s, "b"));
    } catch (const tandem::exception_group& e) {
      thrown = true;
      CHECK(std::string(e.what()).find("b; a") != std::string::npos);
    }
    CHECK(thrown);
    std::string one = co_await thrown_by(race(first_successful, fail_after(1s, "only")));
    CHECK(one == "only");
    auto slept = co_await race(first_successful, sleep_for(2s), fail_after(1s, "a"));
    CHECK(slept.index() == 0);
  };
  simulate(main());
}

TEST_CASE("a stop wins over failures that did not decide, in a tuple and in a vector, and a time limit is told") {
  auto main = []() -> task<> {
    auto in_time = co_await tandem::try_timeout(2s, race(first_successful, fail_after(1s, "a"), after(9s, 1)));
    CHECK(!in_time);
    CHECK(clock::now() == at(2s));
    std::vector<task<int>> arms;
    arms.push_back(fail_after(1s, "a"));
    arms.push_back(after(9s, 1));
    auto also_in_time = co_await tandem::try_timeout(2s, race(first_successful, std::move(arms)));
    CHECK(!also_in_time);
    std::string text = co_await thrown_by(
        tandem::timeout(2s, race(first_successful, fail_after(1s, "a"), after(9s, 1), fail_after(0s, "b"))));
    CHECK(text.find("timed_out") != std::string::npos);
    CHECK(clock::now() == at(6s));
  };
  simulate(main());
}

TEST_CASE("a failure that comes while a race for the first value is being stopped is thrown, without those before") {
  auto main = []() -> task<> {
    auto cleanup = []() -> task<> {
      co_await sleep_for(1s);
      throw std::runtime_error("clean-up");
    };
    auto cleans = [&]() -> task<int> { co_return co_await tandem::finally(after(9s, 1), cleanup); };
    std::string text = co_await thrown_by(
        tandem::try_timeout(2s, race(first_successful, fail_after(1s, "before"), cleans(), after(9s, 1))));
    CHECK(text == "clean-up");
    CHECK(clock::now() == at(3s));
    auto several = race(first_successful, cleans(), fail_after(1s, "before"), cleans());
    text = co_await thrown_by(tandem::try_timeout(2s, std::move(several)));
    CHECK(text.find("clean-up; clean-up") != std::string::npos);
    CHECK(text.find("before") == std::string::npos);
    auto shielded = [](const char* what) -> task<int> { co_return co_await tandem::shield(fail_after(3s, what)); };
    text = co_await thrown_by(
        tandem::try_timeout(2s, race(first_successful, fail_after(1s, "before"), shielded("after"))));
    CHECK(text == "after");
  };
  simulate(main());
}

TEST_CASE("a stop that an arm asks for wins over the failure of an arm that was started before it") {
  asio::io_context context;
  asio::cancellation_signal signal;
  std::string told;
  auto fails = [](const char* text) -> task<int> {
    throw std::runtime_error(text);
    co_return 0;
  };
  auto stops = [&](bool fail) -> task<int> {
    signal.emit(asio::cancellation_type::terminal);
    if (fail) throw std::runtime_error("after");
    co_return co_await after(1s, 1);
  };
  for (bool fail : {false, true}) {
    auto main = [&]() -> task<> { co_await race(first_successful, fails("before"), stops(fail), fails("late")); };
    tandem::spawn(context, main(), asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) {
                    try {
                      std::rethrow_exception(e);
                    } catch (const std::exception& x) {
                      told = x.what();
                    }
                  }));
    context.run();
    context.restart();
    if (fail)
      CHECK(told == "after");
    else
      CHECK(told.find("cancelled") != std::string::npos);
  }
}

TEST_CASE("a value that comes too late is handed to on_discard") {
  std::vector<int> discarded;
  auto main = [&]() -> task<> {
    auto keep = [&](int v) { discarded.push_back(v); };
    auto first = co_await race(stubborn_after(3s, 30), after(1s, 10), stubborn_after(2s, 20)).on_discard(keep);
    CHECK(first.value() == 10);
    CHECK(clock::now() == at(3s));
    std::vector<task<int>> arms;
    arms.push_back(after(1s, 1));
    arms.push_back(stubborn_after(2s, 2));
    auto second = co_await race(std::move(arms)).on_discard(keep);
    CHECK(second.value() == 1);
  };
  simulate(main());
  CHECK(discarded == std::vector{20, 30, 2});
}

TEST_CASE("a value that had decided is discarded too if a loser fails in its clean-up, which is thrown") {
  std::vector<int> discarded;
  auto main = [&]() -> task<> {
    auto keep = [&](int v) { discarded.push_back(v); };
    auto loser = []() -> task<int> {
      auto cleanup = [] { return fail_after(1s, "clean-up"); };
      co_return co_await tandem::finally(after(9s, 1), cleanup);
    };
    std::string text =
        co_await thrown_by(race(after(1s, 10), loser(), stubborn_after(3s, 30), after(9s, 2)).on_discard(keep));
    CHECK(text == "clean-up");
    CHECK(clock::now() == at(3s));
    CHECK(discarded == std::vector{30, 10});
    std::vector<task<int>> arms;
    arms.push_back(loser());
    arms.push_back(after(1s, 20));
    text = co_await thrown_by(race(std::move(arms)).on_discard(keep));
    CHECK(text == "clean-up");
    CHECK(discarded == std::vector{30, 10, 20});
  };
  simulate(main());
}

TEST_CASE("what on_discard throws is thrown") {
  auto main = []() -> task<> {
    auto refuse = [](int v) {
      if (v == 2) throw std::runtime_error("full");
    };
    std::string text = co_await thrown_by(race(after(1s, 1), stubborn_after(2s, 2)).on_discard(refuse));
    CHECK(text == "full");
  };
  simulate(main());
}

TEST_CASE("a range of tasks is raced, one arm too") {
  auto main = []() -> task<> {
    for (int n : {1, 2, 100}) {
      std::vector<task<int>> arms;
      for (int i = 0; i != n; ++i) arms.push_back(after((n - i) * 1s, i));
      const auto begin = clock::now();
      auto first = co_await race(std::move(arms));
      CHECK(first.index() == static_cast<std::size_t>(n - 1));
      CHECK(first.value() == n - 1);
      CHECK(clock::now() - begin == 1s);
    }
    auto alone = co_await race(after(1s, 3));
    CHECK(alone.value() == 3);
  };
  simulate(main());
}

TEST_CASE("of a range of tasks a failure decides as of single ones, and first_successful passes over it") {
  auto main = []() -> task<> {
    const auto range = [](auto... tasks) {
      std::vector<task<int>> arms;
      (arms.push_back(std::move(tasks)), ...);
      return arms;
    };
    auto arms = range(after(2s, 1), fail_after(1s, "broken"));
    std::string text = co_await thrown_by(race(std::move(arms)));
    CHECK(text == "broken");
    CHECK(clock::now() == at(1s));
    arms = range(fail_after(1s, "a"), after(2s, 7), after(9s, 1));
    auto first = co_await race(first_successful, std::move(arms));
    CHECK(first.index() == 1);
    CHECK(first.value() == 7);
    CHECK(clock::now() == at(3s));
    arms = range(fail_after(2s, "a"), fail_after(1s, "b"));
    text = co_await thrown_by(race(first_successful, std::move(arms)));
    CHECK(text == "tandem::exception_group: 2 failures: b; a");
    CHECK(clock::now() == at(5s));
  };
  simulate(main());
}

TEST_CASE("a race of none, and an empty task, are refused") {
  CHECK_THROWS_WITH(race(std::vector<task<int>>()), "tandem::race: there are no tasks, so none can be first");
  std::vector<task<int>> arms(2);
  CHECK_THROWS_AS(race(std::move(arms)), std::invalid_argument);
  CHECK_THROWS_AS(race(task<int>(), sleep_for(1s)), std::invalid_argument);
}

TEST_CASE("what only moves, and references, come through") {
  int target = 0;
  auto main = [&]() -> task<> {
    auto pointer = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(4); };
    auto reference = [&]() -> task<int&> { co_return target; };
    auto first = co_await race(pointer(), after(1s, 0));
    std::unique_ptr<int> p = std::move(first.get<0>());
    CHECK(*p == 4);
    auto second = co_await race(reference());
    CHECK(&second.value().get() == &target);
  };
  simulate(main());
}

TEST_CASE("a stop reaches every arm; a value that one has all the same is returned") {
  auto main = []() -> task<> {
    int value = 0;
    auto racer = [&]() -> task<> {
      auto first = co_await race(stubborn_after(2s, 5), after(9s, 1));
      value = first.value();
      co_await sleep_for(1s);
      value = -1;
    };
    co_await tandem::try_timeout(1s, racer());
    CHECK(value == 5);
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("races of nothing but waits leave their queues when a stop comes down to several of them at once") {
  kit::gate g;
  auto main = [&]() -> task<> {
    auto racer = [&]() -> task<> {
      kit::counted here;
      co_await race(g.wait(), sleep_for(1h));
    };
    auto all = [&]() -> task<> { co_await tandem::gather(racer(), racer(), racer()); };
    auto in_time = co_await tandem::try_timeout(1s, all());
    CHECK(!in_time);
    CHECK(!g.has_waiters());
    CHECK(kit::counted::live() == 0);
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
}

TEST_CASE("in a stopped scope only what is ready decides") {
  kit::gate ready, shut;
  ready.open_one();
  bool went_on = false, passed = false;
  auto main = [&]() -> task<> {
    auto stopped = [&]() -> task<> { co_await tandem::finally(sleep_for(9s), [&]() -> task<> { co_return; }); };
    auto in_stopped_scope = [&]() -> task<> {
      struct releases {
        kit::gate& g;
        ~releases() { g.open_one(); }
      };
      while (!co_await tandem::this_task::cancel_requested) co_await tandem::shield(sleep_for(1s));
      auto first = co_await race(shut.wait(), ready.wait());
      went_on = first.index() == 1;
      co_await race(shut.wait(), after(1s, 1));
      passed = true;
    };
    co_await tandem::try_timeout(500ms, in_stopped_scope());
    co_await tandem::try_timeout(1ms, stopped());
  };
  simulate(main());
  CHECK(went_on);
  CHECK(!passed);
  CHECK(!shut.has_waiters());
}

TEST_CASE("races hand over at every stop and every end of the context") {
  struct state {
    kit::gate left, right;
    int used = 0, opened = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto racer = [&]() -> task<> {
          kit::counted here;
          auto first = co_await race(s.left.wait(), s.right.wait(), after(3s, 1));
          if (first.index() != 2) ++s.used;
          co_await yield();
        };
        auto opener = [&]() -> task<> {
          co_await yield();
          ++s.opened;
          s.left.open_one();
          co_await sleep_for(1s);
          ++s.opened;
          s.right.open_one();
        };
        co_await tandem::gather(racer(), racer(), racer(), opener());
      },
      [](state& s, kit::end) {
        CHECK(s.used + s.left.passes() + s.right.passes() == s.opened);
        CHECK(!s.left.has_waiters());
        CHECK(!s.right.has_waiters());
      });
}

TEST_CASE("races of tasks hand over at every stop and every end of the context") {
  struct state {
    int made = 0, won = 0, discarded = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto make = [&](clock::duration d) -> task<int> {
          kit::counted here;
          co_await sleep_for(d);
          co_await tandem::shield(yield());
          ++s.made;
          co_return 1;
        };
        auto put_back = [&](int) { ++s.discarded; };
        auto racer = [&]() -> task<> {
          auto first = co_await race(make(1s), make(1s), make(2s)).on_discard(put_back);
          s.won += first.value();
        };
        co_await tandem::gather(racer(), racer());
      },
      [](state& s, kit::end how) {
        if (how != kit::end::destroyed) CHECK(s.made == s.won + s.discarded);
      });
}

TEST_CASE(
    "races of every kind, with failures and values that come too late, lose nothing under any schedule and stop") {
  struct state {
    kit::gate gate;
    int made = 0, won = 0, discarded = 0, failed = 0, used = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto make = [&](clock::duration d) -> task<int> {
          kit::counted here;
          co_await sleep_for(d);
          co_await tandem::shield(yield());
          ++s.made;
          co_return 1;
        };
        auto put_back = [&](int) { ++s.discarded; };
        auto lucky = [&]() -> task<> {
          try {
            auto first = co_await race(first_successful, fail_after(1s, "a"), make(1s), make(2s), fail_after(0s, "b"))
                             .on_discard(put_back);
            s.won += first.value();
            CHECK((first.index() == 1 || first.index() == 2));
          } catch (const std::runtime_error&) {  // one that came while it was being stopped
            ++s.failed;
          }
        };
        auto unlucky = [&]() -> task<> {
          try {
            auto first = co_await race(make(1s), fail_after(1s, "c")).on_discard(put_back);
            s.won += first.value();
          } catch (const std::runtime_error&) {
            ++s.failed;
          }
        };
        auto waits = [&]() -> task<> {
          auto first = co_await race(s.gate.wait(), sleep_for(1s));
          s.used += first.index() == 0;
        };
        auto opens = [&]() -> task<> {
          co_await sleep_for(1s);
          s.gate.open_one();
        };
        co_await tandem::gather(lucky(), unlucky(), waits(), waits(), opens());
      },
      [](state& s, kit::end how) {
        if (how != kit::end::destroyed) CHECK(s.made == s.won + s.discarded);
        CHECK(how != kit::end::failed);
        CHECK(s.used + s.gate.passes() <= 1);
        if (how == kit::end::returned) CHECK(s.used + s.gate.passes() == 1);
        CHECK(!s.gate.has_waiters());
      });
}

TEST_CASE("a race for the first value that is stopped throws what failed after the stop, under any schedule and stop") {
  struct state {
    int before = 0, after = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto fails = [&](clock::duration d) -> task<int> {
          kit::counted here;
          co_await sleep_for(d);
          const bool late = co_await tandem::this_task::cancel_requested;
          ++(late ? s.after : s.before);
          throw std::runtime_error("arm");
        };
        auto cleans = [&]() -> task<int> {
          kit::counted here;
          co_return co_await tandem::finally(after(1h, 1), [&](const tandem::ending& how) -> task<> {
            co_await yield();
            if (how.stopped()) ++s.after;
            throw std::runtime_error("clean-up");
          });
        };
        auto racer = [&]() -> task<> { co_await race(first_successful, fails(1s), fails(1s), cleans(), fails(2s)); };
        co_await racer();
      },
      [](state& s, kit::end how) {
        if (how == kit::end::cancelled) CHECK(s.after == 0);
        if (how == kit::end::failed) CHECK((s.after != 0 || s.before == 3));
      });
}
