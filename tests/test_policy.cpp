#include <tandem/policy.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

#include "kit/kit.hpp"

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using kit::at;
using kit::thrown_by;
using tandem::adaptive_concurrency;
using tandem::attempt_timeout;
using tandem::call_trace;
using tandem::circuit_breaker;
using tandem::circuit_state;
using tandem::clock;
using tandem::gather;
using tandem::jitter_kind;
using tandem::policy;
using tandem::rate_limiter;
using tandem::retry_options;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::total_timeout;
using tandem::yield;

namespace {

tandem::system_error reset() { return tandem::system_error(asio::error::connection_reset); }
constexpr retry_options thrice{.attempts = 3, .base = 100ms, .max = 60s, .jitter = jitter_kind::none};

/// All of it.
struct bank {
  circuit_breaker breaker{{.window = 4, .min_calls = 4, .cool_down = 1s, .probes = 1}};
  rate_limiter limit{tandem::token_bucket{.rate = 10, .burst = 2}};
  adaptive_concurrency<> control{{.initial = 1, .min = 1, .max = 1}};
  policy<total_timeout, retry_options, circuit_breaker&, rate_limiter&, adaptive_concurrency<>&, attempt_timeout> to{
      total_timeout{10s}, thrice, breaker, limit, control, attempt_timeout{500ms}};

  int calls = 0, failures = 0;
  clock::duration takes = 20ms;
  task<int> answers() {
    const int n = ++calls;
    co_await sleep_for(takes);
    if (n <= failures) throw reset();
    co_return n;
  }
};

}  // namespace

TEST_CASE("a policy of nothing calls the function") {
  auto main = []() -> task<> {
    const policy nothing;
    int number = 1;
    auto by_reference = [&]() -> task<int&> { co_return number; };
    int& r = co_await nothing.run(by_reference);
    CHECK(&r == &number);
    auto moves = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(5); };
    const auto p = co_await nothing.run(moves);
    CHECK(*p == 5);
    auto sleeps = [] { return sleep_for(1s); };
    co_await nothing.run(sleeps);
    auto fails = []() -> task<> { throw std::runtime_error("the very same"); };
    const std::string text = co_await thrown_by(nothing.run(fails));
    CHECK(text == "the very same");
  };
  simulate(main());
}

TEST_CASE("a trace says what happened to one call") {
  auto main = []() -> task<> {
    bank b;
    b.failures = 2;
    call_trace trace;
    const auto call = [&] { return b.answers(); };
    const int n = co_await b.to.run(call, trace);
    CHECK(n == 3);
    CHECK(trace.text() ==
          "0 ms: it was its turn\n"
          "0 ms: it had a slot\n"
          "0 ms: the service is called\n"
          "20 ms: it failed: " +
              std::string(reset().what()) +
              "\n"
              "20 ms: attempt 1 failed, again in 100 ms\n"
              "120 ms: it was its turn\n"
              "120 ms: it had a slot\n"
              "120 ms: the service is called\n"
              "140 ms: it failed: " +
              std::string(reset().what()) +
              "\n"
              "140 ms: attempt 2 failed, again in 200 ms\n"
              "340 ms: it was its turn\n"
              "340 ms: it had a slot\n"
              "340 ms: the service is called\n"
              "360 ms: it answered\n"
              "360 ms: attempt 3 succeeded: it succeeded\n");
    CHECK(trace.entries().size() == 15);
    CHECK(trace.entries()[3].after == 20ms);
  };
  simulate(main());
}

TEST_CASE("every attempt is one for the breaker, and an open circuit is waited for") {
  auto main = []() -> task<> {
    bank b;
    b.failures = 4;
    const auto call = [&] { return b.answers(); };
    const std::string first = co_await thrown_by(b.to.run(call));
    CHECK(first == reset().what());
    CHECK(b.calls == 3);
    call_trace trace;
    const int n = co_await b.to.run(call, trace);  // the fourth failure opens it
    CHECK(n == 5);
    CHECK(b.breaker.state() == circuit_state::closed);
    CHECK(b.breaker.stats().opened == 1);
    CHECK(b.breaker.stats().refused == 1);
    CHECK(trace.text().find("the circuit is open\n") != std::string::npos);
    CHECK(trace.text().find("attempt 2 failed, again in 900 ms") != std::string::npos);
  };
  simulate(main());
}

TEST_CASE("a call that the breaker refuses takes no turn and no slot") {
  auto main = []() -> task<> {
    bank b;
    b.breaker.open();
    const policy once(b.breaker, b.limit, b.control);
    const auto call = [&] { return b.answers(); };
    co_await thrown_by(once.run(call));
    CHECK(b.limit.remaining() == 2);
    CHECK(b.control.stats().ignored == 0);
    CHECK(b.calls == 0);
  };
  simulate(main());
}

TEST_CASE("who waits for a turn holds no slot, and the time of an attempt is that of the service alone") {
  auto main = []() -> task<> {
    bank b;
    b.takes = 400ms;  // of 500; with the waits it would be more
    const auto call = [&] { return b.answers(); };
    co_await gather(b.to.run(call), b.to.run(call), b.to.run(call), b.to.run(call));
    CHECK(b.calls == 4);
    CHECK(b.control.stats().dropped == 0);
    CHECK(clock::now() == at(1600ms));
    b.takes = 600ms;
    const policy without_breaker(thrice, b.control, attempt_timeout{500ms});
    const std::string late = co_await thrown_by(without_breaker.run(call));
    CHECK(late.starts_with("tandem::timed_out"));
    CHECK(b.control.stats().dropped == 3);
  };
  simulate(main());
}

TEST_CASE("while it waits for its turn a call neither holds a slot nor waits for one") {
  auto main = []() -> task<> {
    rate_limiter limit{tandem::gcra{.rate = 1}};
    adaptive_concurrency<> control{{.initial = 1, .max = 1}};
    const policy p(limit, control);
    const auto call = [] { return sleep_for(10ms); };
    auto looks = [&]() -> task<> {
      for (const std::size_t waiting : {2u, 1u, 0u}) {
        co_await sleep_for(500ms);
        CHECK(limit.stats().waiting == waiting);
        CHECK(control.in_flight() == 0);
        CHECK(control.stats().waiting == 0);
        co_await sleep_for(500ms);
      }
    };
    co_await gather(p.run(call), p.run(call), p.run(call), looks());
    CHECK(control.stats().succeeded == 3);
    CHECK(control.stats().waited == 0);
  };
  simulate(main());
}

TEST_CASE("the breaker's slow_call has the waits for turn and slot in it") {
  auto main = []() -> task<> {
    circuit_breaker breaker{{.slow_call = 500ms}};
    rate_limiter limit{tandem::gcra{.rate = 1}};
    adaptive_concurrency<> control{{.initial = 1, .max = 1}};
    const policy with_turns(breaker, limit);
    const policy with_slots(breaker, control);
    const auto quick = [] { return sleep_for(1ms); };
    co_await gather(with_turns.run(quick), with_turns.run(quick));
    CHECK(clock::now() == at(1001ms));
    CHECK(breaker.stats().calls == 2);
    CHECK(breaker.stats().slow == 1);
    const auto half = [] { return sleep_for(300ms); };
    co_await gather(with_slots.run(half), with_slots.run(half));
    CHECK(breaker.stats().calls == 4);
    CHECK(breaker.stats().slow == 2);
  };
  simulate(main());
}

TEST_CASE("an attempt that runs out of its time is a failure and a drop; what a total ends, or a stop, says nothing") {
  auto main = []() -> task<> {
    circuit_breaker breaker;
    adaptive_concurrency<> control;
    const auto hangs = [] { return sleep_for(1h); };
    const policy total(total_timeout{100ms}, breaker, control);
    std::string text = co_await thrown_by(total.run(hangs));
    CHECK(text.starts_with("tandem::timed_out"));
    co_await tandem::try_timeout(50ms, total.run(hangs));
    CHECK(clock::now() == at(150ms));
    CHECK(breaker.stats().ignored == 2);
    CHECK(breaker.stats().failed == 0);
    CHECK(breaker.stats().calls == 0);
    CHECK(control.stats().ignored == 2);
    CHECK(control.stats().dropped == 0);
    const policy each(breaker, control, attempt_timeout{100ms});
    text = co_await thrown_by(each.run(hangs));
    CHECK(text.starts_with("tandem::timed_out"));
    CHECK(clock::now() == at(250ms));
    CHECK(breaker.stats().failed == 1);
    CHECK(control.stats().dropped == 1);
  };
  simulate(main());
}

TEST_CASE("without a retry an open circuit is how the call ends, and the total holds while a call waits for its turn") {
  auto main = []() -> task<> {
    circuit_breaker breaker{{.cool_down = 3s}};
    breaker.open();
    int calls = 0;
    const auto call = [&] {
      ++calls;
      return sleep_for(1ms);
    };
    const policy once(total_timeout{1s}, breaker, attempt_timeout{1s});
    clock::duration retry_after{};
    try {
      co_await once.run(call);
    } catch (const tandem::circuit_open& e) {
      retry_after = e.retry_after();
    }
    CHECK(retry_after == 3s);
    CHECK(calls == 0);
    rate_limiter limit{tandem::gcra{.rate = 1, .per = 1h}};
    const policy p(total_timeout{1s}, limit);
    co_await p.run(call);
    const std::string text = co_await thrown_by(p.run(call));
    CHECK(text.starts_with("tandem::timed_out"));
    CHECK(clock::now() == at(1001ms));
    CHECK(calls == 1);
    CHECK(limit.stats().waiting == 0);
  };
  simulate(main());
}

TEST_CASE("the total is for everything, and a stop stops it wherever it is") {
  auto main = []() -> task<> {
    bank b;
    b.failures = 99;
    const policy total(total_timeout{150ms}, thrice, b.breaker);
    const auto call = [&] { return b.answers(); };
    const std::string text = co_await thrown_by(total.run(call));
    CHECK(text.starts_with("tandem::timed_out"));
    CHECK(clock::now() == at(150ms));
    for (const auto d : {1ms, 50ms, 130ms, 300ms}) co_await tandem::try_timeout(d, b.to.run(call));
    CHECK(b.control.in_flight() == 0);
    CHECK(b.limit.stats().waiting == 0);
  };
  simulate(main());
}

TEST_CASE("what a controller refuses is said, and tried again when it said") {
  auto main = []() -> task<> {
    adaptive_concurrency<> control{{.initial = 1, .max_waiting = 0}};
    const tandem::concurrency_slot taken = control.try_acquire();
    const policy once(control);
    call_trace trace;
    const auto call = [] { return sleep_for(1ms); };
    const std::string text = co_await thrown_by(once.run(call, trace));
    CHECK(text.starts_with("tandem::overloaded"));
    CHECK(trace.text() == "0 ms: the controller refused it\n");
  };
  simulate(main());
}

TEST_CASE("a trace says how long was waited, and that a time was up; an observer is told as well") {
  auto main = []() -> task<> {
    rate_limiter limit{tandem::gcra{.rate = 10}};
    adaptive_concurrency<> control{{.initial = 1, .max = 1}};
    int told = 0;
    auto tell = [&](const tandem::retry_attempt&) { ++told; };
    retry_options twice{.attempts = 2, .base = 50ms, .jitter = jitter_kind::none};
    twice.observer = tell;
    const policy p(total_timeout{1s}, twice, limit, control, attempt_timeout{20ms});
    const auto hangs = [] { return sleep_for(1h); };
    call_trace trace;
    co_await thrown_by(p.run(hangs, trace));
    CHECK(told == 2);
    CHECK(trace.text() ==
          "0 ms: it was its turn\n"
          "0 ms: it had a slot\n"
          "0 ms: the service is called\n"
          "20 ms: the time of the attempt was up\n"
          "20 ms: attempt 1 failed, again in 50 ms\n"
          "100 ms: it was its turn after 30 ms\n"
          "100 ms: it had a slot\n"
          "100 ms: the service is called\n"
          "120 ms: the time of the attempt was up\n"
          "120 ms: attempt 2 failed: there are no more attempts\n");
    const policy short_one(total_timeout{30ms}, control);
    co_await thrown_by(short_one.run(hangs, trace));
    CHECK(trace.text() == "0 ms: it had a slot\n0 ms: the service is called\n30 ms: the total time was up\n");
  };
  simulate(main());
}

TEST_CASE("a policy is copied, and its shared parts are not") {
  auto main = []() -> task<> {
    bank b;
    const auto copy = b.to;
    const auto call = [&] { return b.answers(); };
    co_await copy.run(call);
    CHECK(b.breaker.stats().succeeded == 1);
  };
  simulate(main());
}

TEST_CASE("whatever the schedule and wherever it is stopped, nothing is left") {
  kit::explore<bank>(
      [](bank& b) -> task<> {
        b.failures = 3;
        b.takes = 1ms;
        auto caller = [&]() -> task<> {
          kit::counted object;
          const auto call = [&b](kit::counted = {}) { return b.answers(); };
          try {
            co_await b.to.run(call);
          } catch (const std::exception&) {
          }
        };
        co_await gather(caller(), caller(), caller());
      },
      [](bank& b, kit::end) {
        CHECK(b.control.in_flight() == 0);
        CHECK(b.control.stats().waiting == 0);
        CHECK(b.limit.stats().waiting == 0);
      });
}

TEST_CASE("parts that make no sense are refused") {
  const auto text = [](auto make) -> std::string {
    try {
      make();
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "";
  };
  CHECK(text([] { policy p(total_timeout{0s}); }) == "tandem::policy: total_timeout is 0 ns; it must be positive");
  CHECK(text([] { policy p(attempt_timeout{-1ns}); }) ==
        "tandem::policy: attempt_timeout is -1 ns; it must be positive");
  CHECK(text([] { policy p(retry_options{.attempt_timeout = 1s}); }).starts_with("tandem::policy: retry_options have"));
  CHECK(text([] { policy p(retry_options{.attempts = 0}); }) == "tandem::retry: attempts is 0; it must be at least 1");
}
