#include <tandem/adaptive_concurrency.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/race.hpp>
#include <tandem/run.hpp>
#include <tandem/task_group.hpp>

#include "kit/allocations.hpp"
#include "kit/kit.hpp"
#include "kit/service.hpp"

#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(error.hpp)
#include TANDEM_ASIO_HEADER(io_context.hpp)

#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using kit::allocations;
using kit::at;
using kit::thrown_by;
using tandem::adaptive_concurrency;
using tandem::adaptive_concurrency_options;
using tandem::aimd;
using tandem::clock;
using tandem::concurrency_decision;
using tandem::concurrency_outcome;
using tandem::concurrency_slot;
using tandem::concurrency_window;
using tandem::gather;
using tandem::knee;
using tandem::overloaded;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::yield;

namespace {

/// An algorithm that does what it is told.
struct told {
  std::vector<concurrency_window>* seen = nullptr;
  const double* limit = nullptr;
  concurrency_decision update(const concurrency_window& w, double before) noexcept {
    if (seen) seen->push_back(w);
    return {limit ? *limit : before, "it was told so", 7ms};
  }
};
using fixed = adaptive_concurrency<told>;

adaptive_concurrency_options limit_of(std::size_t n) { return {.initial = n, .min = 1, .max = 1000}; }

task<> a_call(clock::duration d) { co_await sleep_for(d); }

/// The first window begins when as many calls have ended as the limit allows.
template <class Control>
void begin_first_window(Control& control) {
  for (std::size_t i = control.limit(); i != 0; --i) control.try_acquire().release();
}

}  // namespace

// ---- calls ---------------------------------------------------------------------------------------------------------

TEST_CASE("run gives what the function gives, and no more calls are in flight than the limit") {
  auto main = []() -> task<> {
    fixed control{limit_of(3)};
    int now = 0, most = 0;
    auto square = [&](int n) -> task<int> {
      auto call = [&]() -> task<int> {
        most = std::max(most, ++now);
        co_await sleep_for(10ms);
        --now;
        co_return n* n;
      };
      co_return co_await control.run(call);
    };
    std::vector<int> numbers{1, 2, 3, 4, 5, 6, 7};
    const auto squares = co_await tandem::transform(numbers, square, {.limit = 7});
    CHECK(squares == std::vector<int>{1, 4, 9, 16, 25, 36, 49});
    CHECK(most == 3);
    CHECK(clock::now() == at(30ms));
    CHECK(control.stats().succeeded == 7);
    CHECK(control.stats().waited == 4);
    CHECK(control.in_flight() == 0);
  };
  simulate(main());
}

TEST_CASE("run gives references, what can only be moved, and what any awaitable gives") {
  auto main = []() -> task<> {
    fixed control{limit_of(1)};
    int number = 1;
    auto by_reference = [&]() -> task<int&> { co_return number; };
    int& r = co_await control.run(by_reference);
    CHECK(&r == &number);
    auto moves = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(5); };
    const auto p = co_await control.run(moves);
    CHECK(*p == 5);
    auto sleeps = [] { return sleep_for(1ms); };
    co_await control.run(sleeps);
    CHECK(control.stats().succeeded == 3);
  };
  simulate(main());
}

TEST_CASE("a failure goes on as it is: timed out and overloaded were dropped, others say nothing") {
  auto main = []() -> task<> {
    fixed control{limit_of(2)};
    auto fails = [](auto e) {
      return [e]() -> task<int> {
        co_await yield();
        throw e;
      };
    };
    auto broken = fails(std::runtime_error("broken"));
    auto times_out = fails(tandem::timed_out());
    auto sheds = fails(overloaded(5ms));
    auto aborted = fails(tandem::cancelled());
    auto at_once = []() -> task<> { throw std::logic_error("before it waits"); };
    const auto no_task = []() -> task<> {
      if (clock::now() == at(0s)) throw std::logic_error("no task");
      return a_call(1ms);
    };
    std::string text = co_await thrown_by(control.run(broken));
    CHECK(text == "broken");
    text = co_await thrown_by(control.run(times_out));
    CHECK(text.starts_with("tandem::timed_out"));
    text = co_await thrown_by(control.run(sheds));
    CHECK(text == "tandem::overloaded: too many calls wait; come back in 5 ms");
    text = co_await thrown_by(control.run(aborted));
    CHECK(text.starts_with("tandem::cancelled"));
    text = co_await thrown_by(control.run(at_once));
    CHECK(text == "before it waits");
    text = co_await thrown_by(control.run(no_task));
    CHECK(text == "no task");
    CHECK(control.stats().dropped == 2);
    CHECK(control.stats().ignored == 4);
    CHECK(control.stats().succeeded == 0);
    CHECK(control.in_flight() == 0);
  };
  simulate(main());
}

TEST_CASE("any error whose code is timed_out was dropped; a stop, and what a classifier throws, are ignored") {
  auto main = []() -> task<> {
    fixed control{limit_of(2)};
    const auto fails = [&](auto e) -> task<> {
      auto call = [&]() -> task<> {
        co_await yield();
        throw e;
      };
      co_await thrown_by(control.run(call));
    };
    co_await fails(tandem::system_error(asio::error::timed_out));
    co_await fails(std::system_error(std::make_error_code(std::errc::timed_out)));
    CHECK(control.stats().dropped == 2);
    co_await fails(tandem::system_error(asio::error::connection_reset));
    CHECK(control.stats().ignored == 1);
    auto never = [] { return sleep_for(1h); };
    co_await tandem::try_timeout(1s, control.run(never));
    CHECK(control.stats().ignored == 2);
    auto answers = [] { return sleep_for(1ms); };
    const auto unclear = [](const tandem::outcome<void>&) -> concurrency_outcome { throw std::logic_error("unclear"); };
    co_await thrown_by(control.run(answers, unclear));
    CHECK(control.stats().ignored == 3);
    CHECK(control.stats().dropped == 2);
    CHECK(control.stats().succeeded == 0);
    CHECK(control.in_flight() == 0);
  };
  simulate(main());
}

#if defined(TANDEM_PLAIN_FRAMES)
TEST_CASE("a call by run costs two frames, and one by acquire none") {
  auto main = []() -> task<> {
    fixed control{limit_of(2)};
    long frames = 0;
    auto counts = [&]() -> task<> {
      frames = kit::live_frames();
      co_return;
    };
    co_await counts();
    const long alone = frames;
    co_await control.run(counts);
    CHECK(frames - alone == 2);
    const concurrency_slot slot = co_await control.acquire();
    co_await counts();
    CHECK(frames == alone);
  };
  simulate(main());
}
#endif

TEST_CASE("a priority that is new is one allocation, and is kept; a call by acquire allocates nothing else") {
  auto main = []() -> task<> {
    fixed control{limit_of(1)};
    concurrency_slot held = control.try_acquire();
    auto releases = [&]() -> task<> {
      for (int i = 0; i != 40; ++i) {
        co_await sleep_for(1ms);
        held.release();
      }
    };
    std::vector<long> made;
    made.reserve(40);
    auto waits = [&]() -> task<> {
      for (int i = 0; i != 40; ++i) {
        const int priority = i < 20 ? 0 : i % 2;
        const long before = allocations;
        held = co_await control.acquire({.priority = priority});
        made.push_back(allocations - before);
      }
    };
    co_await gather(waits(), releases());
    CHECK(control.stats().waited == 40);
    std::vector<long> expected(20, 0);
    expected[1] = 1;
    CHECK(std::vector<long>(made.begin() + 20, made.end()) == expected);
  };
  simulate(main());
}

TEST_CASE("try_acquire takes nothing from somebody who waits") {
  auto main = []() -> task<> {
    fixed control{limit_of(1)};
    concurrency_slot held = control.try_acquire();
    std::string order;
    auto waits = [&]() -> task<> {
      const concurrency_slot s = co_await control.acquire();
      CHECK(s);
      order += "waited ";
    };
    auto gives = [&]() -> task<> {
      co_await yield();
      CHECK(!control.try_acquire());
      held.release();
      CHECK(!control.try_acquire());
      order += "released ";
    };
    co_await gather(waits(), gives());
    CHECK(order == "released waited ");  // in its loop's turn
    CHECK(control.try_acquire());
    CHECK(control.stats().gave_up == 0);
  };
  simulate(main());
}

TEST_CASE("a coroutine of another loop that would wait is refused") {
  fixed control{limit_of(1)};
  asio::io_context one, two;
  std::string text;
  bool is_logic_error = false;
  auto waits = [&]() -> task<> {
    const concurrency_slot first = co_await control.acquire();
    const concurrency_slot second = co_await control.acquire();
  };
  auto other = [&]() -> task<> {
    try {
      const concurrency_slot slot = co_await control.acquire();
    } catch (const std::logic_error& e) {
      is_logic_error = true;
      text = e.what();
    }
  };
  tandem::spawn(one, waits(), asio::detached);
  one.poll();
  tandem::spawn(two, other(), asio::detached);
  two.poll();
  CHECK(is_logic_error);
  CHECK(text.starts_with("tandem::adaptive_concurrency: "));
  CHECK(control.stats().waiting == 1);
}

TEST_CASE("what classifies is told how the call ended, and decides") {
  auto main = []() -> task<> {
    fixed control{limit_of(2)};
    const auto by_status = [](const tandem::outcome<int>& o) {
      if (!o) return concurrency_outcome::drop;
      return o.value() == 503   ? concurrency_outcome::drop
             : o.value() == 404 ? concurrency_outcome::ignore
                                : concurrency_outcome::success;
    };
    auto answers = [&](int status) -> task<int> {
      auto call = [&]() -> task<int> {
        co_await yield();
        if (status == 0) throw std::runtime_error("refused");
        co_return status;
      };
      co_return co_await control.run(call, by_status);
    };
    for (const int status : {200, 404, 503, 503}) {
      const int got = co_await answers(status);
      CHECK(got == status);
    }
    const std::string text = co_await thrown_by(answers(0));
    CHECK(text == "refused");
    CHECK(control.stats().succeeded == 1);
    CHECK(control.stats().ignored == 1);
    CHECK(control.stats().dropped == 3);

    const auto fails = [](const tandem::outcome<void>&) -> concurrency_outcome { throw std::logic_error("unclear"); };
    auto call = [] { return sleep_for(1ms); };
    const std::string unclear = co_await thrown_by(control.run({.priority = 1}, call, fails));
    CHECK(unclear == "unclear");
    CHECK(control.in_flight() == 0);
  };
  simulate(main());
}

TEST_CASE("a slot is leave for a call that is no one function") {
  auto main = []() -> task<> {
    std::vector<concurrency_window> seen;
    fixed control{{.initial = 2, .window = 1ms, .samples = 2}, told{&seen}};
    begin_first_window(control);
    concurrency_slot a = co_await control.acquire();
    co_await sleep_for(5ms);
    concurrency_slot b = control.try_acquire();
    CHECK(b);
    CHECK(!control.try_acquire());
    CHECK(control.in_flight() == 2);
    co_await sleep_for(5ms);
    a.release(concurrency_outcome::success);
    CHECK(!a);
    a.release(concurrency_outcome::drop);  // nothing
    b = concurrency_slot();                // ignored
    concurrency_slot c = control.try_acquire();
    concurrency_slot d = std::move(c);
    co_await sleep_for(10ms);
    d.release(concurrency_outcome::success);
    CHECK(control.stats().succeeded == 2);
    CHECK(control.stats().ignored == 2 + 1);
    CHECK(control.stats().dropped == 0);
    REQUIRE(seen.size() == 1);
    CHECK(seen[0].mean == 10ms);
    CHECK(seen[0].succeeded == 2);
    CHECK(seen[0].end - seen[0].begin == 20ms);
    CHECK(seen[0].in_flight == Approx((5 * 1 + 5 * 2 + 10 * 1) / 20.0));
    CHECK(seen[0].at_limit == Approx(5 / 20.0));
  };
  simulate(main());
}

TEST_CASE("the wait for leave is no part of a call's time") {
  auto main = []() -> task<> {
    std::vector<concurrency_window> seen;
    fixed control{{.initial = 1, .window = 1ms, .samples = 20}, told{&seen}};
    begin_first_window(control);
    auto call = [] { return sleep_for(10ms); };
    std::vector<task<>> all;
    for (int i = 0; i != 20; ++i) all.push_back(control.run(call));
    co_await gather(std::move(all));
    REQUIRE(seen.size() == 1);
    CHECK(seen[0].mean == 10ms);
    CHECK(seen[0].at_limit == 1);
  };
  simulate(main());
}

// ---- windows and limits --------------------------------------------------------------------------------------------

TEST_CASE("a window has one limit: it begins when no more are in flight, and two mean times after that") {
  auto main = []() -> task<> {
    std::vector<concurrency_window> seen;
    double limit = 4;
    fixed control{{.initial = 10, .window = 50ms, .samples = 10}, told{&seen, &limit}};
    auto call = [] { return sleep_for(20ms); };
    auto client = [&]() -> task<> {
      for (;;) co_await control.run(call);
    };
    auto crowd = [&]() -> task<> {
      std::vector<task<>> all;
      for (int i = 0; i != 30; ++i) all.push_back(client());
      auto whole = gather(std::move(all));
      co_await std::move(whole);
    };
    co_await tandem::try_timeout(1s, crowd());
    REQUIRE(seen.size() >= 3);
    CHECK(seen[0].limit == 10);
    CHECK(seen[0].begin == at(20ms));  // the first ten have ended
    CHECK(seen[0].end == at(80ms));    // 50 ms, and calls end every 20
    CHECK(seen[0].succeeded == 21);
    CHECK(seen[1].limit == 4);
    CHECK(seen[1].begin == at(120ms));  // all ten end at 80 ms, and four begin
    CHECK(seen[1].in_flight == Approx(4));
    CHECK(seen[2].begin == seen[1].end);  // the limit was not changed
  };
  simulate(main());
}

TEST_CASE("a lower limit stops nothing: nobody is let through until enough have ended") {
  auto main = []() -> task<> {
    double limit = 2;
    fixed control{{.initial = 6, .window = 1ms, .samples = 1}, told{nullptr, &limit}};
    begin_first_window(control);
    std::vector<concurrency_slot> slots;
    for (int i = 0; i != 6; ++i) slots.push_back(control.try_acquire());
    co_await sleep_for(10ms);
    slots.back().release(concurrency_outcome::success);
    slots.pop_back();
    CHECK(control.limit() == 2);
    CHECK(control.in_flight() == 5);
    auto waits = [&]() -> task<> {
      concurrency_slot s = co_await control.acquire();
      CHECK(control.in_flight() == 2);
    };
    auto ends = [&]() -> task<> {
      for (; !slots.empty(); slots.pop_back()) co_await yield();
    };
    co_await gather(waits(), ends());
    CHECK(control.in_flight() == 0);
  };
  simulate(main());
}

TEST_CASE("a higher limit lets those in who wait") {
  auto main = []() -> task<> {
    double limit = 3;
    fixed control{{.initial = 1, .window = 1ms, .samples = 1}, told{nullptr, &limit}};
    begin_first_window(control);
    auto call = [] { return sleep_for(10ms); };
    co_await gather(control.run(call), control.run(call), control.run(call), control.run(call));
    CHECK(clock::now() == at(20ms));
  };
  simulate(main());
}

TEST_CASE("whatever an algorithm says, the limit stays from min to max") {
  auto main = []() -> task<> {
    double limit = 0;
    fixed control{{.initial = 5, .min = 2, .max = 9, .window = 1ms, .samples = 1}, told{nullptr, &limit}};
    begin_first_window(control);
    auto call = [] { return sleep_for(10ms); };
    for (const double says : {1e300, -5.0, std::nan(""), 7.9, std::numeric_limits<double>::infinity()}) {
      limit = says;
      for (int i = 0; i != 3; ++i) co_await control.run(call);
      CHECK(control.limit() == (says > 9 ? 9u : says > 2 ? 7u : 2u));
    }
    CHECK(control.log().size() == 4);  // a NaN is as little as -5
  };
  simulate(main());
}

TEST_CASE("the mean is that of the last window, and nothing is known before there was one") {
  auto main = []() -> task<> {
    fixed control{{.initial = 2, .window = 1ms, .samples = 1}};
    CHECK(control.stats().mean == 0s);
    CHECK(control.stats().service_time == 0s);
    CHECK(control.stats().limit == 2);
    begin_first_window(control);
    const auto calls = [&](clock::duration takes) -> task<> {
      auto call = [&] { return sleep_for(takes); };
      for (int i = 0; i != 9; ++i) co_await control.run(call);
    };
    co_await calls(10ms);
    CHECK(control.stats().mean == 10ms);
    CHECK(control.stats().service_time == 7ms);
    co_await calls(30ms);
    CHECK(control.stats().mean == 30ms);
    concurrency_slot nothing;
    CHECK(!nothing);
    nothing.release(concurrency_outcome::drop);
    CHECK(control.stats().dropped == 0);
  };
  simulate(main());
}

TEST_CASE("an algorithm is asked with the limit as it said it the last time, within min and max") {
  struct remembers {
    std::vector<double>* asked;
    double says[5] = {7.9, 1e300, -5, 3.5, 3.25};
    std::size_t next = 0;
    concurrency_decision update(const concurrency_window&, double before) noexcept {
      asked->push_back(before);
      return {says[next++ % 5], "it was told so"};
    }
  };
  auto main = []() -> task<> {
    std::vector<double> asked;
    adaptive_concurrency<remembers> control{{.initial = 5, .min = 2, .max = 9, .window = 1ms, .samples = 1},
                                            remembers{&asked}};
    begin_first_window(control);
    auto call = [] { return sleep_for(10ms); };
    for (int i = 0; asked.size() != 6 && i != 100; ++i) co_await control.run(call);
    CHECK(asked == std::vector<double>{5, 7.9, 9, 2, 3.5, 3.25});
    CHECK(control.limit() == 7);  // the whole part of 7.9
  };
  simulate(main());
}

TEST_CASE("a window lasts until the mean is known: the longer the more the times differ") {
  const auto first_window = [](auto time_of) {
    std::vector<concurrency_window> seen;
    auto main = [&]() -> task<> {
      fixed control{{.initial = 16, .window = 100ms}, told{&seen}};
      int i = 0;
      auto call = [&] { return sleep_for(time_of(i++)); };
      auto client = [&]() -> task<> {
        for (;;) co_await control.run(call);
      };
      auto crowd = [&]() -> task<> {
        std::vector<task<>> all;
        for (int n = 0; n != 16; ++n) all.push_back(client());
        auto whole = gather(std::move(all));
        co_await std::move(whole);
      };
      co_await tandem::try_timeout(2s, crowd());
    };
    simulate(main());
    return seen.at(0);
  };
  const auto even = first_window([](int) { return clock::duration(10ms); });
  CHECK(even.end - even.begin == 100ms);
  const auto uneven = first_window([](int i) { return clock::duration(i % 10 == 0 ? 91ms : 1ms); });
  CHECK(uneven.succeeded > 256);
  CHECK(uneven.end - uneven.begin <= 300ms);  // 30 mean times
}

TEST_CASE("where no time passes no window ends") {
  auto main = []() -> task<> {
    std::vector<concurrency_window> seen;
    fixed control{limit_of(1), told{&seen}};
    auto call = [] { return yield(); };
    for (int i = 0; i != 20'000; ++i) co_await control.run(call);
    CHECK(seen.empty());
    CHECK(control.stats().succeeded == 20'000);
  };
  simulate(main());
}

TEST_CASE("a controller may be used under one clock after another") {
  adaptive_concurrency<> control;
  auto main = [&]() -> task<> {
    auto call = [] { return sleep_for(1ms); };
    for (int i = 0; i != 1'000; ++i) co_await control.run(call);
  };
  simulate(main(), {.start = at(1000h)});
  simulate(main());
  CHECK(control.stats().succeeded == 2'000);
  CHECK(control.in_flight() == 0);
  CHECK(control.stats().mean == 1ms);
}

TEST_CASE("the log says why the limit is what it is, and forgets the oldest") {
  auto main = []() -> task<> {
    double limit = 10;
    fixed control{{.initial = 10, .window = 1ms, .samples = 1, .log = 3}, told{nullptr, &limit}};
    begin_first_window(control);
    CHECK(control.explain() == "the limit is 10 (from 1 to 1000)\nas it was in the beginning: no window has ended\n");
    auto call = [] { return sleep_for(10ms); };
    for (limit = 11; limit != 16; ++limit)
      for (int i = 0; i != 3; ++i) co_await control.run(call);
    limit = 15;
    const std::vector<tandem::concurrency_change> log = control.log();
    REQUIRE(log.size() == 3);
    CHECK(log[0].before == 12);
    CHECK(log[2].before == 14);
    CHECK(log[2].after == 15);
    CHECK(log[2].reason == std::string("it was told so"));
    CHECK(log[2].service_time == 7ms);
    CHECK(log[2].window.succeeded == 1);
    co_await control.run(call);
    CHECK(
        control.explain() ==
        "the limit is 15 (from 1 to 1000)\n"
        "at 0.130 s: 14 -> 15, it was told so (in 10 ms 1 calls succeeded and 0 were dropped; mean 10.00 ms, service "
        "time 7.00 ms; 1.0 in flight, 0 % of the time at the limit)\n"
        "and last at 0.160 s: 15 -> 15, it was told so (in 10 ms 1 calls succeeded and 0 were dropped; mean 10.00 ms, "
        "service time 7.00 ms; 1.0 in flight, 0 % of the time at the limit)\n");
    CHECK(control.stats().service_time == 7ms);
  };
  simulate(main());
}

TEST_CASE("without a log the last change is told all the same") {
  auto main = []() -> task<> {
    double limit = 3;
    fixed control{{.initial = 2, .window = 1ms, .samples = 1, .log = 0}, told{nullptr, &limit}};
    begin_first_window(control);
    auto call = [] { return sleep_for(10ms); };
    for (int i = 0; i != 5; ++i) co_await control.run(call);
    CHECK(control.log().empty());
    CHECK(control.explain().find(": 2 -> 3, it was told so (in") != std::string::npos);
    CHECK(control.explain().find("and last at") != std::string::npos);
  };
  simulate(main());
}

TEST_CASE("the first window begins when as many calls have ended as the limit, since those found an empty service") {
  auto main = []() -> task<> {
    std::vector<concurrency_window> seen;
    fixed control{{.initial = 5, .window = 1ms, .samples = 1}, told{&seen}};
    auto call = [] { return sleep_for(10ms); };
    for (int i = 0; i != 5; ++i) co_await control.run(call);
    CHECK(seen.empty());
    co_await control.run(call);
    CHECK(seen.size() == 1);
  };
  simulate(main());
}

TEST_CASE("a call that began under another limit is no part of a window") {
  auto main = []() -> task<> {
    std::vector<concurrency_window> seen;
    double limit = 4;
    fixed control{{.initial = 2, .window = 1ms, .samples = 1}, told{&seen, &limit}};
    begin_first_window(control);
    concurrency_slot is_long = control.try_acquire();
    auto call = [] { return sleep_for(10ms); };
    co_await control.run(call);  // from now on the limit is 4
    co_await sleep_for(100ms);
    co_await control.run(call);
    CHECK(control.limit() == 4);
    const std::size_t windows = seen.size();
    co_await sleep_for(10ms);
    is_long.release(concurrency_outcome::success);
    CHECK(seen.size() == windows);
    for (const concurrency_window& w : seen) CHECK(w.mean == 10ms);
  };
  simulate(main());
}

// ---- the line ------------------------------------------------------------------------------------------------------

namespace {

/// Names in the order in which they are let through, with the time, and those that are refused in brackets.
struct door {
  fixed control;
  std::string order;

  task<> enters(char name, int priority, clock::duration stays = 10ms) {
    try {
      const concurrency_slot s = co_await control.acquire({.priority = priority});
      order += name + std::to_string(clock::now().time_since_epoch() / 1ms) + ' ';
      co_await sleep_for(stays);
    } catch (const overloaded& e) {
      CHECK(e.retry_after() > 0ns);
      order += '(' + std::string(1, name) + std::to_string(clock::now().time_since_epoch() / 1ms) + ") ";
    }
  }
  task<> comes(clock::duration when, char name, int priority = 0) {
    co_await sleep_for(when);
    co_await enters(name, priority);
  }
};

}  // namespace

TEST_CASE("first come, first served among equals, and the smaller number before the greater") {
  auto main = []() -> task<> {
    door d{fixed(limit_of(1)), {}};
    co_await gather(d.enters('a', 0), d.enters('b', 5), d.enters('c', 1), d.enters('d', 5), d.enters('e', 1),
                    d.enters('f', -1));
    CHECK(d.order == "a0 f10 c20 e30 b40 d50 ");
  };
  simulate(main());
}

TEST_CASE("nobody is refused unless that is asked for") {
  auto main = []() -> task<> {
    fixed control{limit_of(1)};
    auto call = [] { return sleep_for(1s); };
    std::vector<task<>> all;
    for (int i = 0; i != 1'000; ++i) all.push_back(control.run(call));
    co_await gather(std::move(all));
    CHECK(clock::now() == at(1'000s));
    CHECK(control.stats().shed == 0);
    CHECK(control.stats().most_waiting == 999);
  };
  simulate(main());
}

TEST_CASE("a line that is full refuses whoever comes, or the last of the less urgent") {
  auto main = []() -> task<> {
    adaptive_concurrency_options o = limit_of(1);
    o.max_waiting = 2;
    door d{fixed(o), {}};
    co_await gather(d.comes(0ms, 'a'), d.comes(1ms, 'b', 2), d.comes(2ms, 'c', 2), d.comes(3ms, 'd', 2),
                    d.comes(4ms, 'e', 1), d.comes(5ms, 'f', 1), d.comes(6ms, 'g', 1));
    CHECK(d.order == "a0 (d3) (c4) (b5) (g6) e10 f20 ");
    CHECK(d.control.stats().shed == 4);
  };
  simulate(main());
}

TEST_CASE("with no places in line nobody waits") {
  auto main = []() -> task<> {
    adaptive_concurrency_options o = limit_of(1);
    o.max_waiting = 0;
    door d{fixed(o), {}};
    co_await gather(d.comes(0ms, 'a'), d.comes(1ms, 'b'), d.comes(11ms, 'c'));
    CHECK(d.order == "a0 (b1) c11 ");
  };
  simulate(main());
}

TEST_CASE("nobody waits longer than max_wait, even if nothing ends") {
  auto main = []() -> task<> {
    adaptive_concurrency_options o = limit_of(1);
    o.max_wait = 25ms;
    door d{fixed(o), {}};
    co_await gather(d.enters('a', 0, 100ms), d.comes(1ms, 'b', 1), d.comes(2ms, 'c', 0), d.comes(90ms, 'd'),
                    d.comes(200ms, 'e'));
    CHECK(d.order == "a0 (b26) (c27) d100 e200 ");
  };
  simulate(main());
}

TEST_CASE("while the line never empties, nobody waits longer than max_wait_overloaded") {
  auto main = []() -> task<> {
    adaptive_concurrency_options o = limit_of(1);
    o.max_wait = 1s;
    o.max_wait_overloaded = 15ms;
    o.overload = 50ms;
    door d{fixed(o), {}};
    std::vector<task<>> all;  // one every 5 ms, of which every second can be served
    for (int i = 0; i != 26; ++i) all.push_back(d.comes(i * 5ms, static_cast<char>('a' + i)));
    co_await gather(std::move(all));
    // From 55 ms on the line counts as standing: who has waited 15 ms goes, and every second one is served sooner.
    CHECK(d.order ==
          "a0 b10 c20 d30 e40 f50 (g55) (h55) (i55) j60 (k65) l70 (m75) n80 (o85) p90 (q95) r100 (s105) t110 (u115) "
          "v120 (w125) x130 (y135) z140 ");
  };
  simulate(main());
}

TEST_CASE("a burst that is over before the line counts as standing loses nobody") {
  auto main = []() -> task<> {
    adaptive_concurrency_options o = limit_of(1);
    o.max_wait_overloaded = 1ms;
    o.overload = 100ms;
    door d{fixed(o), {}};
    for (int burst = 0; burst != 3; ++burst) {
      co_await gather(d.enters('a', 0), d.enters('b', 0), d.enters('c', 0), d.enters('d', 0));
      co_await sleep_for(60ms);
    }
    CHECK(d.control.stats().shed == 0);
  };
  simulate(main());
}

TEST_CASE("while overloaded the newest may come first, and a full line refuses the oldest") {
  auto main = []() -> task<> {
    adaptive_concurrency_options o = limit_of(1);
    o.newest_first_overloaded = true;
    o.overload = 15ms;
    o.max_waiting = 3;
    door d{fixed(o), {}};
    co_await gather(d.comes(0ms, 'a'), d.comes(1ms, 'b'), d.comes(2ms, 'c'), d.comes(3ms, 'd'), d.comes(4ms, 'e'),
                    d.comes(17ms, 'f'), d.comes(18ms, 'g'));
    CHECK(d.order == "a0 (e4) b10 (c18) g20 f30 d40 ");
  };
  simulate(main());
}

TEST_CASE("who is refused is told when to come back: the line by what the service takes") {
  auto main = []() -> task<> {
    adaptive_concurrency_options o = limit_of(2);
    o.max_waiting = 5;
    o.window = 10ms;
    o.samples = 1;
    fixed control{o};
    begin_first_window(control);
    auto call = [] { return sleep_for(40ms); };
    co_await control.run(call);
    std::vector<task<>> all;
    for (int i = 0; i != 7; ++i) all.push_back(control.run(call));
    auto late = [&]() -> task<> {
      co_await yield();
      try {
        const concurrency_slot slot = co_await control.acquire();
      } catch (const overloaded& e) {
        CHECK(e.retry_after() == 40ms * 6 / 2);
      }
    };
    all.push_back(late());
    co_await gather(std::move(all));
    CHECK(control.stats().shed == 1);
  };
  simulate(main());
}

TEST_CASE("who leaves the line gives his place away") {
  auto main = []() -> task<> {
    adaptive_concurrency_options o = limit_of(1);
    o.max_wait = 1min;
    fixed control{o};
    const concurrency_slot s = control.try_acquire();
    const auto in_time = co_await tandem::try_timeout(5ms, control.acquire());
    CHECK(!in_time);
    CHECK(control.stats().gave_up == 1);
    CHECK(control.stats().waiting == 0);
  };
  simulate(main());  // with no alarm left that would keep it going
}

TEST_CASE("who did not wait has not given up, though he never ran; who waited has") {
  auto main = []() -> task<> {
    fixed control{limit_of(1)};
    const auto fails = []() -> task<> {
      co_await sleep_for(1s);
      throw std::runtime_error("clean-up");
    };
    auto other = [&]() -> task<> { co_await tandem::finally(sleep_for(1h), fails); };
    co_await thrown_by(tandem::race(other(), control.acquire()));
    CHECK(control.stats().waited == 0);
    CHECK(control.stats().gave_up == 0);
    CHECK(control.in_flight() == 0);
    concurrency_slot held = control.try_acquire();
    auto wastes = [&]() -> task<> { co_await thrown_by(tandem::race(other(), control.acquire())); };
    auto gives = [&]() -> task<> {
      co_await yield();
      held.release();
    };
    co_await gather(wastes(), gives());
    CHECK(control.stats().waited == 1);
    CHECK(control.stats().gave_up == 1);
    CHECK(control.in_flight() == 0);
  };
  simulate(main());
}

TEST_CASE("who is let through and never runs gives the slot to the next") {
  auto main = []() -> task<> {
    fixed control{limit_of(1)};
    concurrency_slot held = control.try_acquire();
    // A race that is won by a slot that nobody uses, because the clean-up of the other arm fails.
    const auto fails = []() -> task<> {
      co_await sleep_for(1s);
      throw std::runtime_error("clean-up");
    };
    auto other = [&]() -> task<> { co_await tandem::finally(sleep_for(1h), fails); };
    auto wastes = [&]() -> task<> { co_await thrown_by(tandem::race(other(), control.acquire())); };
    auto waits = [&]() -> task<> {
      const concurrency_slot s = co_await control.acquire();
      CHECK(clock::now() == at(1s));
    };
    auto gives = [&]() -> task<> {
      co_await yield();
      held.release();
    };
    co_await gather(wastes(), waits(), gives());
    CHECK(control.in_flight() == 0);
    CHECK(control.stats().gave_up == 1);
  };
  simulate(main());
}

TEST_CASE("a coroutine that is being stopped takes nobody's place in line, and leaves no alarm") {
  auto main = []() -> task<> {
    adaptive_concurrency_options o = limit_of(1);
    o.max_waiting = 1;
    o.max_wait = 1h;
    fixed control{o};
    concurrency_slot held = control.try_acquire();
    bool was_served = false;
    auto patient = [&]() -> task<> {
      const concurrency_slot s = co_await control.acquire({.priority = 1});
      was_served = true;
    };
    tandem::task_handle<> itself;
    auto stops_itself = [&]() -> task<> {
      co_await yield();
      itself.cancel();
      const concurrency_slot s = co_await control.acquire({.priority = 0});
      CHECK(false);
    };
    auto body = [&](tandem::task_group& g) -> task<> {
      g.spawn(patient());
      itself = g.spawn(stops_itself());
      co_await sleep_for(1s);
      held.release();
    };
    co_await tandem::with_task_group(body);
    CHECK(was_served);
    CHECK(control.stats().shed == 0);
  };
  simulate(main());
}

TEST_CASE("a controller that goes leaves no alarm") {
  auto main = []() -> task<> {
    adaptive_concurrency_options o = limit_of(1);
    o.max_wait = 1h;
    auto control = std::make_unique<fixed>(o);
    const concurrency_slot held = control->try_acquire();
    auto waits = [&]() -> task<> { co_await thrown_by(control->acquire()); };
    auto drops = [&]() -> task<> {
      co_await yield();
      control.reset();
    };
    co_await gather(waits(), drops());
    CHECK(clock::now() == at(0s));
  };
  simulate(main());
}

TEST_CASE("a controller that goes tells those who wait, and a slot may outlive it") {
  auto main = []() -> task<> {
    auto control = std::make_unique<fixed>(limit_of(1));
    concurrency_slot s = control->try_acquire();
    std::string text;
    auto waits = [&]() -> task<> { text = co_await thrown_by(control->acquire()); };
    auto drops = [&]() -> task<> {
      co_await yield();
      control.reset();
    };
    co_await gather(waits(), drops());
    CHECK(text.starts_with("tandem::cancelled"));
    s.release(concurrency_outcome::success);
  };
  simulate(main());
}

TEST_CASE("a run that goes on when its controller has gone comes to its end") {
  auto main = []() -> task<> {
    auto control = std::make_unique<fixed>(limit_of(1));
    auto call = [] { return sleep_for(10ms); };
    auto drops = [&]() -> task<> {
      co_await yield();
      control.reset();
    };
    co_await gather(control->run(call), drops());
    CHECK(clock::now() == at(10ms));
  };
  simulate(main());
}

namespace {
struct crossing {
  fixed control{[] {
    adaptive_concurrency_options o{.initial = 2};
    o.max_waiting = 4;
    o.max_wait = 12ms;
    o.max_wait_overloaded = 4ms;
    o.overload = 6ms;
    o.newest_first_overloaded = true;
    return o;
  }()};
  int in_flight = 0, done = 0, shed = 0;
};
}  // namespace

TEST_CASE("whatever the schedule and wherever it is stopped, no slot is lost and the limit holds") {
  kit::explore<crossing>(
      [](crossing& c) -> task<> {
        auto calls = [&]() -> task<> {
          kit::counted object;
          ++c.in_flight;
          const kit::at_exit ends([&] { --c.in_flight; });
          CHECK(c.in_flight <= 2);
          co_await sleep_for(3ms);
        };
        auto enters = [&](int priority) -> task<> {
          try {
            co_await c.control.run({.priority = priority}, calls);
            ++c.done;
          } catch (const overloaded&) {
            ++c.shed;
          }
        };
        auto hurries = [&]() -> task<> {
          try {
            auto first = co_await tandem::race(c.control.acquire(), sleep_for(2ms), c.control.acquire({.priority = 2}));
            if (first.index() != 1) co_await yield();
          } catch (const overloaded&) {
          }
        };
        co_await gather(enters(0), enters(1), hurries(), enters(0), enters(1), enters(0), hurries(), enters(2));
      },
      [](crossing& c, kit::end how) {
        const tandem::adaptive_concurrency_stats s = c.control.stats();
        CHECK(s.waiting == 0);
        CHECK(s.in_flight == 0);
        if (how == kit::end::returned) CHECK(c.done + c.shed == 6);
      });
}

// ---- before a service ----------------------------------------------------------------------------------------------

namespace {

template <class Algorithm = knee>
std::vector<kit::service_figures> figures(kit::workload s) {
  return kit::simulated_service<Algorithm>(s, {.initial = 10, .min = 1, .max = 200}).run();
}

}  // namespace

TEST_CASE("before 5, 20 and 80 workers: 95 % of what they can do, at a p99 of no more than 2.5 service times") {
  for (auto workers : {+[](double) { return 5.0; }, +[](double) { return 20.0; }, +[](double) { return 80.0; }}) {
    const auto f = figures({.workers = workers, .seconds = 12, .from = 2}).front();
    INFO(workers(0) << " workers");
    CHECK(f.throughput >= 0.95);
    CHECK(f.p99 <= 25);
  }
}

TEST_CASE("times that differ cost it little") {
  for (const auto spread : {kit::times::uniform, kit::times::exponential, kit::times::lognormal}) {
    const auto f = figures({.spread = spread, .seconds = 22, .from = 7}).front();
    CHECK(f.throughput >= 0.95);
    CHECK(f.most <= 45);
  }
}

TEST_CASE("within 10 s of a change it is at the new knee") {
  kit::workload s{.seconds = 20, .from = 14};
  SECTION("more workers") {
    s.workers = [](double t) { return t < 6 ? 5.0 : 80.0; };
    s.seconds = 18;
  }
  SECTION("fewer") {
    s.workers = [](double t) { return t < 6 ? 80.0 : 5.0; };
  }
  SECTION("slower ones") {
    s.milliseconds = [](double t) { return t < 6 ? 10.0 : 25.0; };
  }
  SECTION("faster ones") {
    s.milliseconds = [](double t) { return t < 6 ? 25.0 : 10.0; };
  }
  const auto f = figures(s).front();
  CHECK(f.throughput >= 0.95);
  CHECK(f.p99 <= 2.5 * s.milliseconds(20));
}

TEST_CASE("a slow drift is followed") {
  const auto slower = figures({.milliseconds = [](double t) { return 10 + t; }, .seconds = 20, .from = 5}).front();
  CHECK(slower.throughput >= 0.95);
  CHECK(slower.most <= 30);
  const auto fewer = figures({.workers = [](double t) { return 50 - 2 * t; }, .seconds = 20, .from = 5}).front();
  CHECK(fewer.throughput >= 0.93);
  CHECK(fewer.last <= 20);
}

TEST_CASE("bursts, idle times and few clients do not make it grow") {
  const auto bursts =
      figures({.busy = [](double t) { return std::fmod(t, 5) < 1 ? 1.0 : 0.01; }, .seconds = 20, .from = 5}).front();
  CHECK(bursts.most <= 30);
  CHECK(bursts.p99 <= 25);
  const auto idle = figures({.busy = [](double t) { return t < 5 || t > 20 ? 1.0 : 0.0; }, .seconds = 26, .from = 20});
  CHECK(idle.front().throughput >= 0.95);
  CHECK(idle.front().most <= 30);
  const auto few = figures({.clients = 10, .seconds = 15}).front();
  CHECK(few.most <= 16);
  CHECK(few.throughput >= 0.49);  // of what 20 workers could
}

TEST_CASE("bursts before few workers do not pass for the service's time") {
  for (auto workers : {+[](double) { return 2.0; }, +[](double) { return 5.0; }}) {
    const auto f = figures({.workers = workers,
                            .clients = 100,
                            .busy = [](double t) { return std::fmod(t, 5) < 1 ? 1.0 : 0.0; },
                            .seconds = 60,
                            .from = 10})
                       .front();
    CHECK(f.p50 <= 10.1);
    CHECK(f.most <= workers(0) + 3);
  }
}

TEST_CASE("a line of fewer clients than the limit is ended too") {
  kit::workload s{.workers = [](double t) { return t < 10 ? 80.0 : 5.0; }, .clients = 60, .seconds = 60, .from = 40};
  const auto f = figures(s).front();
  CHECK(f.p50 <= 11);
  CHECK(f.throughput >= 0.95);
}

TEST_CASE("10,000 clients are served as 300 are") {
  const auto f = figures({.clients = 10'000, .seconds = 10}).front();
  CHECK(f.throughput >= 0.95);
  CHECK(f.p99 <= 25);
}

TEST_CASE("calls that fail all the time neither raise the limit nor, unless all do, lower it") {
  const auto some = figures({.drops = [](double) { return 0.1; }, .seconds = 18, .from = 5}).front();
  CHECK(some.throughput >= 0.86);  // of 0.9
  CHECK(some.most <= 30);
  const auto all = figures({.drops = [](double) { return 1.0; }, .seconds = 10, .from = 5}).front();
  CHECK(all.most <= 10);
  const auto for_a_time =
      figures({.drops = [](double t) { return t > 4 && t < 8 ? 1.0 : 0.0; }, .seconds = 18, .from = 11}).front();
  CHECK(for_a_time.throughput >= 0.95);
}

TEST_CASE("two controllers before one service share it, and keep its line short") {
  const auto f = figures({.seconds = 20, .from = 10, .controllers = 2});
  REQUIRE(f.size() == 2);
  CHECK(f[0].throughput + f[1].throughput >= 0.95);
  for (const auto& one : f) {
    CHECK(one.throughput >= 0.4);
    CHECK(one.p99 <= 25);
  }
}

// ---- bad input -----------------------------------------------------------------------------------------------------

TEST_CASE("options that make no sense are refused, each with its name and value") {
  const auto text = [](adaptive_concurrency_options o) -> std::string {
    try {
      adaptive_concurrency<>{o};
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "";
  };
  CHECK(text({.min = 0}) == "tandem::adaptive_concurrency: min is 0; it must be at least 1");
  CHECK(text({.min = 20, .max = 10}) == "tandem::adaptive_concurrency: min is 20, more than max, 10");
  CHECK(text({.initial = 5, .min = 10, .max = 20}) ==
        "tandem::adaptive_concurrency: initial is 5; it must be from min, 10, to max, 20");
  CHECK(text({.initial = 0}) == "tandem::adaptive_concurrency: initial is 0; it must be from min, 1, to max, 1000");
  CHECK(text({.window = 0s}) == "tandem::adaptive_concurrency: window is 0 ns; it must be positive");
  CHECK(text({.samples = 0}) == "tandem::adaptive_concurrency: samples is 0; it must be at least 1");
  CHECK(text({.max_wait = -1ns}) == "tandem::adaptive_concurrency: max_wait is -1 ns; it must not be negative");
  CHECK(text({.max_wait_overloaded = -1ns}) ==
        "tandem::adaptive_concurrency: max_wait_overloaded is -1 ns; it must not be negative");
  CHECK(text({.log = 2'000'000}) == "tandem::adaptive_concurrency: log is 2000000; it must be at most 1,000,000");
  CHECK(text({.overload = -1ns}) == "tandem::adaptive_concurrency: overload is -1 ns; it must not be negative");
  CHECK(text({.initial = 1, .max = 1, .log = 0}).empty());
  adaptive_concurrency<> control;
  CHECK_THROWS_WITH(control.try_acquire(),
                    "tandem::adaptive_concurrency: used where no loop runs, and so there is no time");
}
