#include <tandem/circuit_breaker.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

#include "kit/allocations.hpp"
#include "kit/kit.hpp"

#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using kit::allocations;
using kit::at;
using kit::thrown_by;
using tandem::circuit_breaker;
using tandem::circuit_breaker_options;
using tandem::circuit_open;
using tandem::circuit_outcome;
using tandem::circuit_state;
using tandem::clock;
using tandem::gather;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::yield;

namespace {

tandem::system_error reset() { return tandem::system_error(asio::error::connection_reset); }

/// A call that ends as it is told: how it did, as one letter: `.` good, `x` failed, `o` not made.
struct caller {
  circuit_breaker breaker;
  std::string calls;

  explicit caller(circuit_breaker_options o) : breaker(o) {}
  task<> calls_once(bool good, clock::duration takes = {}) {
    const auto f = [&]() -> task<> {
      if (takes != 0s) co_await sleep_for(takes);
      if (!good) throw reset();
    };
    try {
      co_await breaker.run(f);
      calls += '.';
    } catch (const circuit_open&) {
      calls += 'o';
    } catch (const tandem::system_error&) {
      calls += 'x';
    }
  }
  task<> calls_often(const char* pattern) {  // x: fails
    for (; *pattern; ++pattern) co_await calls_once(*pattern != 'x');
  }
};

constexpr circuit_breaker_options by_ten{
    .failure_ratio = .5, .window = 10, .min_calls = 4, .cool_down = 5s, .probes = 2};

}  // namespace

// ---- closed --------------------------------------------------------------------------------------------------------

TEST_CASE("it gives what the function gives, and failures go on as they are") {
  auto main = []() -> task<> {
    circuit_breaker breaker;
    int number = 1;
    auto by_reference = [&]() -> task<int&> { co_return number; };
    int& r = co_await breaker.run(by_reference);
    CHECK(&r == &number);
    auto moves = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(5); };
    const auto p = co_await breaker.run(moves);
    CHECK(*p == 5);
    auto fails = []() -> task<int> { throw std::runtime_error("the very same"); };
    const std::string text = co_await thrown_by(breaker.run(fails));
    CHECK(text == "the very same");
    CHECK(breaker.stats().succeeded == 2);
    CHECK(breaker.stats().failed == 1);
    co_return;
  };
  simulate(main());
}

TEST_CASE("it opens when so large a part of the last calls has failed, and not with too few") {
  auto main = []() -> task<> {
    caller few(by_ten);
    co_await few.calls_often("xxx");
    CHECK(few.breaker.state() == circuit_state::closed);
    co_await few.calls_often(".");
    CHECK(few.breaker.state() == circuit_state::open);
    caller many(by_ten);
    co_await many.calls_often("......xxxx");
    CHECK(many.breaker.state() == circuit_state::closed);
    CHECK(many.breaker.stats().calls == 10);
    CHECK(many.breaker.stats().failures == 4);
    co_await many.calls_often("......xxxx.....");
    CHECK(many.breaker.stats().calls == 10);
    CHECK(many.breaker.stats().failures == 4);
    co_await many.calls_often("xxxxx");  // the first of these is half of the last ten
    CHECK(many.calls.ends_with("xoooo"));
    CHECK(many.breaker.stats().refused == 4);
    CHECK(many.breaker.stats().opened == 1);
  };
  simulate(main());
}

TEST_CASE("slow calls count as well") {
  auto main = []() -> task<> {
    auto o = by_ten;
    o.slow_call = 1s;
    o.slow_ratio = 0.75;
    caller c(o);
    co_await c.calls_once(true, 1s);
    for (int i = 0; i != 3; ++i) co_await c.calls_once(true, 1001ms);
    CHECK(c.breaker.state() == circuit_state::open);
    CHECK(c.calls == "....");
  };
  simulate(main());
}

TEST_CASE("with a window of time, what is older does not count") {
  auto main = []() -> task<> {
    auto o = by_ten;
    o.window_time = 10s;
    caller c(o);
    co_await c.calls_often("xxx");
    co_await sleep_for(11s);
    CHECK(c.breaker.stats().calls == 0);
    co_await c.calls_often("xxx");
    CHECK(c.breaker.state() == circuit_state::closed);
    co_await sleep_for(11s);
    for (int i = 0; i != 40; ++i) {  // one a second, every third fails
      co_await c.calls_once(i % 3 != 2);
      co_await sleep_for(1s);
      CHECK(c.breaker.stats().calls <= 11);
    }
    CHECK(c.breaker.stats().calls == 9);
    CHECK(c.breaker.state() == circuit_state::closed);
    co_await c.calls_often("xxxxxxxxx");
    CHECK(c.breaker.state() == circuit_state::open);
  };
  simulate(main());
}

namespace {
template <class Error>
task<> fails_with(circuit_breaker& breaker, Error e) {
  auto call = [&]() -> task<> {
    co_await yield();
    throw e;
  };
  co_await thrown_by(breaker.run(call));
}
}  // namespace

TEST_CASE("what the caller did wrong is no failure of the service, and what was stopped says nothing") {
  auto main = []() -> task<> {
    circuit_breaker breaker(by_ten);
    for (int i = 0; i != 5; ++i) co_await fails_with(breaker, std::invalid_argument("yours"));
    CHECK(breaker.stats().succeeded == 5);
    for (int i = 0; i != 5; ++i) co_await fails_with(breaker, tandem::cancelled());
    auto never = [] { return sleep_for(1h); };
    for (int i = 0; i != 5; ++i) co_await tandem::try_timeout(1ms, breaker.run(never));
    CHECK(breaker.stats().ignored == 10);
    CHECK(breaker.state() == circuit_state::closed);
    for (int i = 0; i != 5; ++i) co_await fails_with(breaker, tandem::timed_out());
    CHECK(breaker.state() == circuit_state::open);
  };
  simulate(main());
}

TEST_CASE("failures of the kinds system and unknown are the service's") {
  auto main = []() -> task<> {
    circuit_breaker breaker(by_ten);
    co_await fails_with(breaker, std::bad_alloc());
    co_await fails_with(breaker, std::logic_error("a bug"));
    co_await fails_with(breaker, std::runtime_error("whatever"));
    CHECK(breaker.stats().failures == 3);
    co_await fails_with(breaker, std::out_of_range("yours"));
    CHECK(breaker.stats().failed == 3);
    CHECK(breaker.stats().succeeded == 1);
    CHECK(breaker.state() == circuit_state::open);
  };
  simulate(main());
}

TEST_CASE("calls are counted by how they ended, in the window and all together") {
  auto main = []() -> task<> {
    auto o = by_ten;
    o.slow_call = 1s;
    caller c(o);
    co_await c.calls_often("..x");
    co_await c.calls_once(true, 2s);
    co_await c.calls_once(true, 2s);
    co_await tandem::try_timeout(1s, c.calls_once(true, 1h));
    auto s = c.breaker.stats();
    CHECK(s.state == circuit_state::closed);
    CHECK(s.calls == 5);
    CHECK(s.failures == 1);
    CHECK(s.slow == 2);
    CHECK(s.succeeded == 4);
    CHECK(s.failed == 1);
    CHECK(s.ignored == 1);
    CHECK(s.refused + s.late + s.opened == 0);
    c.breaker.open();
    co_await c.calls_often("..");
    s = c.breaker.stats();
    CHECK(s.state == circuit_state::open);
    CHECK(s.calls + s.failures + s.slow == 0);
    CHECK(s.succeeded == 4);
    CHECK(s.refused == 2);
    CHECK(s.opened == 1);
    co_await sleep_for(5s);
    CHECK(c.breaker.stats().state == circuit_state::half_open);
  };
  simulate(main());
}

TEST_CASE("a call is two frames, and nothing else is allocated") {
  auto main = []() -> task<> {
    circuit_breaker breaker(by_ten);
    auto answers = []() -> task<> { co_return; };
    const auto made_by = [&](bool by_breaker) -> task<long> {
      long before = 0;
      for (int i = 0; i != 120; ++i) {
        if (i == 20) before = allocations;
        if (by_breaker)
          co_await breaker.run(answers);
        else
          co_await answers();
      }
      co_return allocations - before;
    };
    const long alone = co_await made_by(false);
    const long with_breaker = co_await made_by(true);
#if defined(TANDEM_PLAIN_FRAMES)
    CHECK(alone == 100);
    CHECK(with_breaker == 300);
#else
    CHECK(alone == 0);
    CHECK(with_breaker == 0);
#endif
  };
  simulate(main());
}

TEST_CASE("what classifies decides, on values too") {
  auto main = []() -> task<> {
    circuit_breaker breaker(by_ten);
    auto by_status = [](const tandem::outcome<int>& o) {
      return o && o.value() == 503 ? circuit_outcome::failure : circuit_outcome::success;
    };
    auto asks = []() -> task<int> { co_return 503; };
    for (int i = 0; i != 4; ++i) {
      const int status = co_await breaker.run(asks, by_status);
      CHECK(status == 503);
    }
    CHECK(breaker.state() == circuit_state::open);
    auto unclear = [](const tandem::outcome<int>&) -> circuit_outcome { throw std::logic_error("unclear"); };
    breaker.close();
    const std::string text = co_await thrown_by(breaker.run(asks, unclear));
    CHECK(text == "unclear");
    CHECK(breaker.stats().ignored == 1);
  };
  simulate(main());
}

// ---- open and half-open --------------------------------------------------------------------------------------------

TEST_CASE("while it is open nothing is called, and who asks is told when to come back") {
  auto main = []() -> task<> {
    caller c(by_ten);
    co_await c.calls_often("xxxx");
    co_await sleep_for(2s);
    int calls = 0;
    auto counts = [&]() -> task<> {
      ++calls;
      co_return;
    };
    try {
      co_await c.breaker.run(counts);
    } catch (const circuit_open& e) {
      CHECK(e.retry_after() == 3s);
      CHECK(e.what() == std::string("tandem::circuit_open: the service was not called; come back in 3000 ms"));
    }
    CHECK(calls == 0);
    co_await sleep_for(3s);
    CHECK(c.breaker.state() == circuit_state::half_open);
    co_await c.breaker.run(counts);
    CHECK(calls == 1);
  };
  simulate(main());
}

TEST_CASE("half-open, so many probes are made at most, and if all are good it closes") {
  auto main = []() -> task<> {
    caller c(by_ten);
    co_await c.calls_often("xxxx");
    co_await sleep_for(5s);
    c.calls.clear();
    co_await gather(c.calls_once(true, 1s), c.calls_once(true, 2s), c.calls_once(true, 1s), c.calls_once(true, 1s));
    CHECK(c.calls == "oo..");
    CHECK(c.breaker.state() == circuit_state::closed);
    CHECK(c.breaker.stats().calls == 0);
    co_await c.calls_often("xxx");
    CHECK(c.breaker.state() == circuit_state::closed);
  };
  simulate(main());
}

TEST_CASE("who is refused while the probes are under way is told when the next may be made") {
  auto main = []() -> task<> {
    caller c(by_ten);
    co_await c.calls_often("xxxx");
    co_await sleep_for(7s);  // half-open since 5 s, but the probes begin now
    auto asks = [&]() -> task<> {
      co_await sleep_for(1s);
      clock::duration wait{};
      auto nothing = []() -> task<> { co_return; };
      try {
        co_await c.breaker.run(nothing);
      } catch (const circuit_open& e) {
        wait = e.retry_after();
      }
      CHECK(wait == 4s);
      c.calls.clear();
      co_await sleep_for(wait - 1ns);
      co_await c.calls_often(".");
      CHECK(c.calls == "o");
      co_await sleep_for(1ns);
      co_await c.calls_often(".");
      CHECK(c.calls == "o.");
    };
    auto hangs = [&]() -> task<> {
      co_await tandem::try_timeout(20s, gather(c.calls_once(true, 1h), c.calls_once(true, 1h)));
    };
    co_await gather(hangs(), asks());
  };
  simulate(main());
}

TEST_CASE("a probe that fails or is slow opens it again, and those that come later do not count") {
  auto main = []() -> task<> {
    auto o = by_ten;
    o.slow_call = 3s;
    caller c(o);
    co_await c.calls_often("xxxx");
    co_await sleep_for(5s);
    co_await gather(c.calls_once(false, 1s), c.calls_once(true, 2s));
    CHECK(c.breaker.state() == circuit_state::open);
    CHECK(c.breaker.stats().late == 1);
    co_await sleep_for(3999ms);
    CHECK(c.breaker.state() == circuit_state::open);  // until 5 s after the failure
    co_await sleep_for(1ms);
    co_await c.calls_once(true, 4s);
    CHECK(c.breaker.state() == circuit_state::open);
    CHECK(c.breaker.stats().opened == 3);
  };
  simulate(main());
}

TEST_CASE("results of calls that began before it opened do not count when it is closed again") {
  auto main = []() -> task<> {
    caller c(by_ten);
    auto slow_failures = [&]() -> task<> {
      co_await gather(c.calls_once(false, 20s), c.calls_once(false, 20s), c.calls_once(false, 20s),
                      c.calls_once(false, 20s));
    };
    auto meanwhile = [&]() -> task<> {
      co_await yield();
      co_await c.calls_often("xxxx");
      co_await sleep_for(6s);
      co_await c.calls_often("....");
      CHECK(c.breaker.state() == circuit_state::closed);
    };
    co_await gather(slow_failures(), meanwhile());
    CHECK(c.breaker.state() == circuit_state::closed);
    CHECK(c.breaker.stats().late == 4);
  };
  simulate(main());
}

TEST_CASE("it cannot stick: a probe that is stopped leaves its place, and those that hang are replaced") {
  auto main = []() -> task<> {
    caller c(by_ten);
    co_await c.calls_often("xxxx");
    co_await sleep_for(5s);
    for (int i = 0; i != 5; ++i) co_await tandem::try_timeout(100ms, c.calls_once(true, 1h));
    CHECK(c.breaker.state() == circuit_state::half_open);
    c.calls.clear();
    auto hangs = [&]() -> task<> {
      co_await tandem::try_timeout(20s, gather(c.calls_once(true, 1h), c.calls_once(true, 1h)));
    };
    auto others = [&]() -> task<> {
      co_await sleep_for(4s);
      co_await c.calls_often(".");  // the probes are under way
      co_await sleep_for(1s);
      co_await c.calls_often("..");
      CHECK(c.breaker.state() == circuit_state::closed);
    };
    co_await gather(hangs(), others());
    CHECK(c.calls == "o..");
  };
  simulate(main());
}

TEST_CASE("probes that take longer than cool_down, and are good, close it") {
  auto main = []() -> task<> {
    auto o = by_ten;
    o.cool_down = 1s;
    caller c(o);
    co_await c.calls_often("xxxx");
    auto calls = [&](int i) -> task<> {
      co_await sleep_for(i * 100ms);
      co_await c.calls_once(true, 1500ms);
    };
    std::vector<int> all(100);
    for (int i = 0; i != 100; ++i) all[static_cast<std::size_t>(i)] = i;
    co_await tandem::for_each(all, calls, {.limit = 100});
    CHECK(c.breaker.state() == circuit_state::closed);
    CHECK(c.breaker.stats().refused <= 30);
    CHECK(c.breaker.stats().late <= 3);  // those under way when it closed
  };
  simulate(main());
}

TEST_CASE("a probe that was replaced gives no place back") {
  auto main = []() -> task<> {
    auto o = by_ten;
    o.probes = 1;
    caller c(o);
    co_await c.calls_often("xxxx");
    co_await sleep_for(5s);
    c.calls.clear();
    auto stopped = [&]() -> task<> { co_await tandem::try_timeout(6s, c.calls_once(true, 1h)); };  // replaced at 10 s
    auto second = [&]() -> task<> {
      co_await sleep_for(5500ms);
      co_await c.calls_once(true, 3s);
    };
    auto third = [&]() -> task<> {
      co_await sleep_for(6500ms);  // the first was stopped at 11 s: the second still has the place
      co_await c.calls_once(true);
    };
    co_await gather(stopped(), second(), third());
    CHECK(c.calls == "o.");
  };
  simulate(main());
}

TEST_CASE("a hook that closes it when it becomes half-open lets the call through") {
  auto main = []() -> task<> {
    caller c(by_ten);
    co_await c.calls_often("xxxx");
    c.breaker.on_change([&](circuit_state, circuit_state to) {
      if (to == circuit_state::half_open) c.breaker.close();
    });
    co_await sleep_for(5s);
    co_await c.calls_often(".");
    CHECK(c.calls == "xxxx.");
    int told = 0;
    c.breaker.on_change([&](circuit_state, circuit_state) {
      ++told;
      c.breaker.on_change(nullptr);
    });
    c.breaker.open();
    c.breaker.close();
    CHECK(told == 1);
  };
  simulate(main());
}

TEST_CASE("under another clock, what was counted before does not count") {
  auto o = by_ten;
  o.window_time = 10s;
  caller c(o);
  simulate(c.calls_often("xxx"), {.start = at(1000h)});
  simulate(c.calls_often("x"));
  CHECK(c.breaker.state() == circuit_state::closed);
  c.breaker.open();
  simulate(c.calls_often("."), {.start = at(500h)});
  CHECK(c.calls.ends_with("."));
}

TEST_CASE("probes that come seldom close it as well") {
  auto main = []() -> task<> {
    auto o = by_ten;
    o.probes = 3;
    caller c(o);
    co_await c.calls_often("xxxx");
    for (int i = 0; i != 3; ++i) {
      co_await sleep_for(1min);
      co_await c.calls_often(".");
    }
    CHECK(c.breaker.state() == circuit_state::closed);
  };
  simulate(main());
}

// ---- by hand, and told
// -----------------------------------------------------------------------------------------------

TEST_CASE("it is opened and closed by hand, and every change is told") {
  auto main = []() -> task<> {
    caller c(by_ten);
    std::string told;
    const auto letter = [](circuit_state s) {
      return s == circuit_state::closed ? 'c' : s == circuit_state::open ? 'o' : 'h';
    };
    c.breaker.on_change([&](circuit_state from, circuit_state to) {
      told += letter(from);
      told += letter(to);
      told += std::to_string((clock::now() - at(0s)) / 1s) + ' ';
    });
    c.breaker.open();
    c.breaker.open();
    co_await c.calls_often(".");
    c.breaker.close();
    co_await c.calls_often("xxxx");
    co_await sleep_for(7s);
    co_await c.calls_often("..");
    CHECK(told == "co0 oc0 co0 oh7 hc7 ");
    CHECK(c.breaker.stats().opened == 2);
    CHECK(c.calls == "oxxxx..");
  };
  simulate(main());
}

TEST_CASE("opened by hand it is half-open after cool_down; a hook sees the state that it is told") {
  auto main = []() -> task<> {
    caller c(by_ten);
    int told = 0;
    c.breaker.on_change([&](circuit_state, circuit_state to) {
      ++told;
      CHECK(c.breaker.state() == to);
    });
    co_await sleep_for(1s);
    c.breaker.open();
    CHECK(told == 1);
    co_await sleep_for(5s - 1ns);
    CHECK(c.breaker.state() == circuit_state::open);
    co_await c.calls_often(".");
    co_await sleep_for(1ns);
    CHECK(c.breaker.state() == circuit_state::half_open);
    CHECK(told == 1);
    co_await c.calls_often("..");
    CHECK(c.breaker.state() == circuit_state::closed);
    CHECK(c.calls == "o..");
    CHECK(told == 3);
  };
  simulate(main());
}

TEST_CASE("a hook may change the state, set another hook, or destroy the breaker") {
  auto main = []() -> task<> {
    auto breaker = std::make_unique<circuit_breaker>(by_ten);
    std::string told;
    breaker->on_change([&](circuit_state, circuit_state to) {
      told += 'a';
      if (to == circuit_state::open) breaker->close();
      breaker->on_change([&](circuit_state, circuit_state) {
        told += 'b';
        breaker.reset();
      });
    });
    auto fails = []() -> task<> { throw reset(); };
    for (int i = 0; i != 4; ++i) co_await thrown_by(breaker->run(fails));
    CHECK(told == "a");
    CHECK(breaker->state() == circuit_state::closed);
    for (int i = 0; i != 4; ++i) co_await thrown_by(breaker->run(fails));
    CHECK(told == "ab");
    CHECK(!breaker);
  };
  simulate(main());
}

namespace {
struct crossing {
  caller c{circuit_breaker_options{
      .failure_ratio = .5, .window = 4, .min_calls = 2, .slow_call = 4ms, .cool_down = 2ms, .probes = 2}};
};
}  // namespace

TEST_CASE("whatever the schedule and wherever it is stopped, it comes back") {
  kit::explore<crossing>(
      [](crossing& x) -> task<> {
        auto several = [&](bool good, clock::duration takes) -> task<> {
          kit::counted object;
          for (int i = 0; i != 3; ++i) {
            co_await x.c.calls_once(good, takes);
            co_await sleep_for(1ms);
          }
        };
        co_await gather(several(false, 1ms), several(true, 3ms), several(true, 5ms), several(false, 2ms));
      },
      [](crossing& x, kit::end how) {
        if (how == kit::end::returned) CHECK(x.c.calls.size() == 12);
        x.c.calls.clear();
        auto later = [&]() -> task<> {
          for (int i = 0; i != 2; ++i) {  // the first may find it about to open
            co_await sleep_for(1s);
            co_await x.c.calls_often("..");
          }
        };
        simulate(later(), {.start = at(1h)});
        CHECK(x.c.calls.ends_with(".."));
        CHECK(x.c.breaker.state() == circuit_state::closed);
      });
}

// ---- bad input -----------------------------------------------------------------------------------------------------

TEST_CASE("options that make no sense are refused, each with its name and value") {
  const auto text = [](auto change) -> std::string {
    auto o = by_ten;
    change(o);
    try {
      circuit_breaker breaker(o);
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "";
  };
  CHECK(text([](auto& o) { o.failure_ratio = 0; }) ==
        "tandem::circuit_breaker: failure_ratio is 0.000000; it must be more than 0 and at most 1");
  CHECK(text([](auto& o) { o.slow_ratio = std::nan(""); }) ==
        "tandem::circuit_breaker: slow_ratio is nan; it must be more than 0 and at most 1");
  CHECK(text([](auto& o) { o.slow_call = 0s; }) == "tandem::circuit_breaker: slow_call is 0 ns; it must be positive");
  CHECK(text([](auto& o) { o.cool_down = 0s; }) == "tandem::circuit_breaker: cool_down is 0 ns; it must be positive");
  CHECK(text([](auto& o) { o.window_time = -1ns; }) ==
        "tandem::circuit_breaker: window_time is -1 ns; it must not be negative");
  CHECK(text([](auto& o) { o.window = 0; }) == "tandem::circuit_breaker: window is 0; it must be at least 1");
  CHECK(text([](auto& o) { o.probes = 0; }) == "tandem::circuit_breaker: probes is 0; it must be at least 1");
  CHECK(text([](auto& o) { o.min_calls = 0; }) == "tandem::circuit_breaker: min_calls is 0; it must be at least 1");
  CHECK(text([](auto& o) { o.min_calls = 11; }) == "tandem::circuit_breaker: min_calls is 11, more than window, 10");
  CHECK(text([](auto&) {}).empty());
}
