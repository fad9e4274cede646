#include <tandem/retry.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(error.hpp)

#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using kit::at;
using kit::thrown_by;
using tandem::backoff;
using tandem::clock;
using tandem::full;
using tandem::jitter_kind;
using tandem::retry;
using tandem::retry_attempt;
using tandem::retry_budget;
using tandem::retry_decision;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;

namespace {

/// Fails in the ways that it is told, one after the other, and then succeeds.
struct flaky {
  std::vector<std::exception_ptr> failures;
  int calls = 0;
  clock::duration takes{};

  template <class E>
  flaky& fails(E e, int times = 1) {
    for (; times != 0; --times) failures.push_back(std::make_exception_ptr(e));
    return *this;
  }
  task<int> operator()() {
    const auto n = static_cast<std::size_t>(calls++);
    if (takes != 0s) co_await sleep_for(takes);
    if (n < failures.size()) std::rethrow_exception(failures[n]);
    co_return calls;
  }
};

tandem::system_error refused() { return tandem::system_error(asio::error::connection_refused); }
tandem::system_error reset() { return tandem::system_error(asio::error::connection_reset); }

constexpr tandem::retry_options even{.attempts = 4, .base = 100ms, .max = 60s, .jitter = jitter_kind::none};

tandem::retry_options with(tandem::retry_options o, auto change) {
  change(o);
  return o;
}

}  // namespace

// ---- attempts ------------------------------------------------------------------------------------------------------

TEST_CASE("what succeeds at once is called once, and nobody waits") {
  auto main = []() -> task<> {
    flaky f;
    const int n = co_await retry(std::ref(f));
    CHECK(n == 1);
    CHECK(clock::now() == at(0s));
  };
  simulate(main());
}

TEST_CASE("failures that may pass are tried again, after waits that become longer") {
  auto main = []() -> task<> {
    flaky f;
    f.fails(refused()).fails(tandem::timed_out()).fails(reset());
    const int n = co_await retry(std::ref(f), even);
    CHECK(n == 4);
    CHECK(clock::now() == at(100ms + 200ms + 400ms));
  };
  simulate(main());
}

TEST_CASE("the last failure is thrown as it is") {
  auto main = []() -> task<> {
    flaky f;
    f.fails(refused()).fails(reset(), 9);
    const std::string text = co_await thrown_by(retry(std::ref(f), even));
    CHECK(text == reset().what());
    CHECK(f.calls == 4);
    bool is_same = false;
    flaky g;
    g.fails(tandem::unavailable("the very same", 1ms), 9);
    try {
      co_await retry(std::ref(g), even);
    } catch (const tandem::unavailable& e) {
      is_same = std::string("the very same") == e.what();
    }
    CHECK(is_same);
  };
  simulate(main());
}

TEST_CASE("what will not pass is not tried again") {
  auto main = []() -> task<> {
    for (const auto& e :
         {std::make_exception_ptr(std::invalid_argument("no number")),
          std::make_exception_ptr(std::runtime_error("no money")), std::make_exception_ptr(std::bad_alloc()),
          std::make_exception_ptr(std::logic_error("bug"))}) {
      flaky f;
      f.failures.push_back(e);
      co_await thrown_by(retry(std::ref(f), even));
      CHECK(f.calls == 1);
    }
    CHECK(clock::now() == at(0s));
  };
  simulate(main());
}

TEST_CASE("results may be references, nothing, or what can only be moved") {
  auto main = []() -> task<> {
    int number = 1;
    auto by_reference = [&]() -> task<int&> { co_return number; };
    int& r = co_await retry(by_reference);
    CHECK(&r == &number);
    auto nothing = [] { return sleep_for(1ms); };
    co_await retry(nothing);
    auto moves = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(5); };
    const auto p = co_await retry(moves, even);
    CHECK(*p == 5);
  };
  simulate(main());
}

TEST_CASE("a function that throws before it returns something to await is one that fails") {
  auto main = []() -> task<> {
    int calls = 0;
    auto f = [&]() -> task<> {
      if (++calls < 3) throw refused();
      return []() -> task<> { co_return; }();
    };
    co_await retry(f, even);
    CHECK(calls == 3);
  };
  simulate(main());
}

// ---- classifiers ---------------------------------------------------------------------------------------------------

TEST_CASE("a classifier decides on values too, and says how long to wait") {
  auto main = []() -> task<> {
    std::vector<int> answers{503, 429, 200};
    std::size_t i = 0;
    auto asks = [&]() -> task<int> { co_return answers[i++]; };
    auto by_status = [](const tandem::outcome<int>& o) {
      if (!o || o.value() == 200) return retry_decision::stop();
      return o.value() == 429 ? retry_decision::after(7s) : retry_decision::again();
    };
    int status = co_await retry(asks, even, by_status);
    CHECK(status == 200);
    CHECK(clock::now() == at(100ms + 7s));
    answers = {503, 503};
    i = 0;
    status = co_await retry(asks, with(even, [](auto& o) { o.attempts = 2; }), by_status);
    CHECK(status == 503);  // the last value, as it is
  };
  simulate(main());
}

TEST_CASE("what is unavailable is tried again when it said so, even if that is longer than max") {
  auto main = []() -> task<> {
    flaky f;
    f.fails(tandem::unavailable("later", 5min));
    co_await retry(std::ref(f), even);
    CHECK(clock::now() == at(5min));
  };
  simulate(main());
}

TEST_CASE("what a classifier throws is how it ends") {
  auto main = []() -> task<> {
    flaky f;
    auto throws = [](const tandem::outcome<int>&) -> retry_decision { throw std::runtime_error("unclear"); };
    const std::string text = co_await thrown_by(retry(std::ref(f), even, throws));
    CHECK(text == "unclear");
  };
  simulate(main());
}

TEST_CASE("a cancelled is never retried, whatever the classifier says, nor is a stop") {
  auto main = []() -> task<> {
    flaky f;
    f.fails(tandem::cancelled(), 5);
    auto always = [](const tandem::outcome<int>&) { return retry_decision::again(); };
    const std::string text = co_await thrown_by(retry(std::ref(f), even, always));
    CHECK(text.starts_with("tandem::cancelled"));
    CHECK(f.calls == 1);

    flaky slow;
    slow.takes = 1h;
    const auto in_time = co_await tandem::try_timeout(1s, retry(std::ref(slow), even, always));
    CHECK(!in_time);
    CHECK(slow.calls == 1);
    flaky broken;
    broken.fails(refused(), 9);
    const auto meanwhile = co_await tandem::try_timeout(150ms, retry(std::ref(broken), even));
    CHECK(!meanwhile);  // stopped while it waited
    CHECK(broken.calls == 2);
  };
  simulate(main());
}

TEST_CASE("what is not idempotent is only tried again if nothing was done") {
  auto main = []() -> task<> {
    const auto once = with(even, [](auto& o) { o.idempotent = false; });
    flaky f;
    f.fails(refused()).fails(tandem::unavailable("not now", 1s)).fails(reset());
    const std::string text = co_await thrown_by(retry(std::ref(f), once));
    CHECK(text == reset().what());
    CHECK(f.calls == 3);
    flaky g;
    g.fails(reset());
    auto knows = [](const tandem::outcome<int>& o) {
      return o ? retry_decision::stop() : retry_decision::again().nothing_was_done();
    };
    const int n = co_await retry(std::ref(g), once, knows);
    CHECK(n == 2);
  };
  simulate(main());
}

TEST_CASE("nothing was done if a connection was refused, or a host not found or not reached") {
  auto main = []() -> task<> {
    const auto once = with(even, [](auto& o) { o.idempotent = false; });
    namespace error = asio::error;
    for (const tandem::error_code code :
         {tandem::error_code(error::connection_refused), tandem::error_code(error::host_not_found),
          tandem::error_code(error::host_unreachable), tandem::error_code(error::network_unreachable)}) {
      INFO(code.message());
      flaky f;
      f.fails(tandem::system_error(code));
      const int n = co_await retry(std::ref(f), once);
      CHECK(n == 2);
    }
    flaky unreached;
    unreached.fails(std::system_error(std::make_error_code(std::errc::host_unreachable)));
    const int n = co_await retry(std::ref(unreached), once);
    CHECK(n == 2);
    for (const tandem::error_code code : {tandem::error_code(error::timed_out), tandem::error_code(error::eof),
                                          tandem::error_code(error::broken_pipe)}) {
      INFO(code.message());
      flaky f;
      f.fails(tandem::system_error(code));
      co_await thrown_by(retry(std::ref(f), once));
      CHECK(f.calls == 1);
    }
  };
  simulate(main());
}

TEST_CASE("the callables are kept until the end, and no longer") {
  auto main = []() -> task<> {
    const int before = kit::counted::live();
    int calls = 0;
    const auto retries = [&] {  // what it is given is gone when it returns
      const auto one = std::make_shared<kit::counted>(), two = std::make_shared<kit::counted>();
      auto fails_twice = [&calls, one]() -> task<int> {
        co_await sleep_for(1s);
        if (++calls < 3) throw refused();
        co_return calls;
      };
      auto by_kind = [two](const tandem::outcome<int>& o) { return tandem::retry_by_kind()(o); };
      return retry(fails_twice, even, by_kind);
    };
    auto tries = retries();
    CHECK(kit::counted::live() == before + 2);
    auto looks = [&]() -> task<> {
      co_await sleep_for(2500ms);
      CHECK(calls == 2);
      CHECK(kit::counted::live() == before + 2);
    };
    co_await tandem::gather(std::move(tries), looks());
    CHECK(calls == 3);
    CHECK(clock::now() == at(3300ms));
    CHECK(kit::counted::live() == before);
  };
  simulate(main());
}

#if defined(TANDEM_PLAIN_FRAMES)
TEST_CASE("a retry is two frames, whatever the number of attempts") {
  auto main = []() -> task<> {
    long frames = 0;
    int calls = 0;
    auto counts = [&]() -> task<> {
      frames = kit::live_frames();
      if (++calls % 3 != 0) throw refused();
      co_return;
    };
    calls = 2;
    co_await counts();
    const long alone = frames;
    co_await retry(counts, even);
    CHECK(calls == 6);
    CHECK(frames - alone == 2);
  };
  simulate(main());
}
#endif

// ---- time ----------------------------------------------------------------------------------------------------------

TEST_CASE("an attempt that takes too long is stopped, and another begins") {
  auto main = []() -> task<> {
    int calls = 0;
    auto f = [&]() -> task<int> {
      if (++calls < 3) co_await sleep_for(1h);
      co_return calls;
    };
    const int n = co_await retry(f, with(even, [](auto& o) { o.attempt_timeout = 1s; }));
    CHECK(n == 3);
    CHECK(clock::now() == at(1s + 100ms + 1s + 200ms));
  };
  simulate(main());
}

TEST_CASE("the total includes the waits: one that would end too late is not begun") {
  auto main = []() -> task<> {
    flaky f;
    f.fails(refused(), 99);
    const auto total = with(even, [](auto& o) {
      o.attempts = 99;
      o.total_timeout = 650ms;
    });
    const std::string text = co_await thrown_by(retry(std::ref(f), total));
    CHECK(text == refused().what());
    CHECK(f.calls == 3);  // the third wait would end at 700 ms
    CHECK(clock::now() == at(300ms));

    flaky slow;
    slow.takes = 1h;
    const std::string late = co_await thrown_by(retry(std::ref(slow), total));
    CHECK(late.starts_with("tandem::timed_out"));
    CHECK(clock::now() == at(300ms + 650ms));
  };
  simulate(main());
}

TEST_CASE("real_time: a total that is over when an attempt begins leaves it what it can do without waiting") {
  auto at_once = []() -> task<int> { co_return 7; };
  auto waits = []() -> task<> { co_await tandem::sleep_for(1h); };
  auto main = [&]() -> task<> {
    const auto o = with(even, [](auto& x) { x.total_timeout = 1ns; });
    const int seven = co_await retry(at_once, o);
    CHECK(seven == 7);
    const std::string text = co_await thrown_by(retry(waits, o));
    CHECK(text.starts_with("tandem::timed_out"));
  };
  tandem::run(main());
}

TEST_CASE("real_time: if the wait took longer than there was time, the last failure is thrown") {
  std::string reasons;
  auto tell = [&](const retry_attempt& a) { reasons += a.wait ? "again, " : a.reason; };
  int calls = 0;
  auto main = [&]() -> task<> {
    auto fails = [&]() -> task<> {
      ++calls;
      throw reset();
      co_return;
    };
    auto retries = [&]() -> task<> {
      const auto o = with(even, [&](auto& x) {
        x.base = 20ms;
        x.total_timeout = 50ms;
        x.observer = tell;
      });
      const std::string text = co_await thrown_by(retry(fails, o));
      CHECK(text == reset().what());
    };
    auto blocks = []() -> task<> {
      co_await tandem::yield();
      std::this_thread::sleep_for(100ms);
    };
    co_await tandem::gather(retries(), blocks());
  };
  tandem::run(main());
  CHECK(calls == 1);
  CHECK(reasons == "again, there was no time for another attempt");
}

// ---- waits ---------------------------------------------------------------------------------------------------------

namespace {

struct spread {
  double mean = 0, deviation = 0;
  clock::duration least = clock::duration::max(), most{};
};
/// Of the wait number `n` of many.
spread spread_of(tandem::backoff_options o, int n) {
  constexpr int times = 20'000;
  double sum = 0, squares = 0;
  spread s;
  auto main = [&]() -> task<> {
    for (int i = 0; i != times; ++i) {
      backoff waits(o);
      for (int k = 1; k != n; ++k) waits.next();
      const clock::duration d = waits.next();
      const double x = static_cast<double>(d.count()) / 1e6;
      sum += x;
      squares += x * x;
      s.least = std::min(s.least, d);
      s.most = std::max(s.most, d);
    }
    co_return;
  };
  simulate(main());
  s.mean = sum / times;
  s.deviation = std::sqrt(squares / times - s.mean * s.mean);
  return s;
}

}  // namespace

TEST_CASE("without jitter waits grow by the factor up to the longest") {
  backoff waits({.base = 100ms, .max = 1s, .factor = 3, .jitter = jitter_kind::none});
  for (const auto expected : {100ms, 300ms, 900ms, 1000ms, 1000ms}) CHECK(waits.next() == expected);
  waits.reset();
  CHECK(waits.next() == 100ms);
  backoff none({.base = 0s, .max = 0s});
  CHECK(none.next() == 0s);
  backoff longest({.base = 1h, .max = clock::duration::max(), .factor = 1e9, .jitter = jitter_kind::none});
  for (int i = 0; i != 50; ++i) longest.next();
  CHECK(longest.next() == clock::duration::max());
}

TEST_CASE("full jitter is uniform from 0 to the wait") {
  for (const int n : {1, 3}) {
    const double whole = n == 1 ? 100 : 400;
    const spread s = spread_of({.base = 100ms, .max = 10s, .jitter = full}, n);
    CHECK(s.mean == Approx(whole / 2).epsilon(0.02));
    CHECK(s.deviation == Approx(whole / std::sqrt(12.0)).epsilon(0.02));
    CHECK(s.least < 1ms);
    CHECK(s.most <= std::chrono::milliseconds(static_cast<int>(whole)));
  }
}

TEST_CASE("equal jitter is uniform from half of the wait to all of it") {
  const spread s = spread_of({.base = 100ms, .max = 10s, .jitter = jitter_kind::equal}, 2);
  CHECK(s.mean == Approx(150).epsilon(0.01));
  CHECK(s.deviation == Approx(100 / std::sqrt(12.0)).epsilon(0.02));
  CHECK(s.least >= 100ms);
  CHECK(s.most <= 200ms);
}

TEST_CASE("decorrelated jitter is uniform from the base to three times the last wait, and no longer than max") {
  const spread first = spread_of({.base = 100ms, .max = 10s, .jitter = jitter_kind::decorrelated}, 1);
  CHECK(first.mean == Approx(200).epsilon(0.02));
  CHECK(first.least >= 100ms);
  CHECK(first.most <= 300ms);
  const spread second = spread_of({.base = 100ms, .max = 10s, .jitter = jitter_kind::decorrelated}, 2);
  CHECK(second.mean == Approx(350).epsilon(0.02));  // (100 + 3 * 200) / 2
  CHECK(second.most <= 900ms);
  CHECK(spread_of({.base = 100ms, .max = 500ms, .jitter = jitter_kind::decorrelated}, 9).most == 500ms);
}

TEST_CASE("callers who fail together do not come back together, and a simulation is the same each time") {
  std::vector<clock::duration> first, second;
  for (auto* times : {&first, &second}) {
    auto caller = [&](int) -> task<> {
      flaky f;
      f.fails(refused(), 2);
      co_await retry(std::ref(f));
      times->push_back(clock::now() - at(0s));
    };
    auto main = [&]() -> task<> {
      std::vector<int> callers(50);
      co_await tandem::for_each(callers, caller, {.limit = 50});
    };
    simulate(main());
    std::vector<clock::duration> sorted = *times;
    std::sort(sorted.begin(), sorted.end());
    CHECK(std::unique(sorted.begin(), sorted.end()) == sorted.end());
  }
  CHECK(first == second);
}

// ---- budgets -------------------------------------------------------------------------------------------------------

TEST_CASE("in an outage the attempts are bounded by the budget, however many callers there are") {
  auto main = []() -> task<> {
    retry_budget budget({.ratio = 0.1, .per_second = 2, .burst = 20});
    int attempts = 0, calls = 0;
    auto down = [&]() -> task<int> {
      ++attempts;
      co_await sleep_for(5ms);
      throw refused();
    };
    auto caller = [&](int) -> task<> {
      for (int i = 0; i != 60; ++i) {
        ++calls;
        co_await thrown_by(retry(down, {.attempts = 5, .base = 10ms, .budget = &budget}));
        co_await sleep_for(500ms);
      }
    };
    std::vector<int> callers(100);
    co_await tandem::for_each(callers, caller, {.limit = 100});
    const double seconds = std::chrono::duration<double>(clock::now() - at(0s)).count();
    CHECK(calls == 6'000);
    CHECK(attempts - calls <= 20 + 0.1 * calls + 2 * seconds);
    CHECK(attempts - calls >= 0.1 * calls);  // what there is is used
    attempts = 0;
    co_await thrown_by(retry(down, {.attempts = 5, .base = 10ms}));
    CHECK(attempts == 5);  // without a budget
  };
  simulate(main());
}

TEST_CASE("a budget fills up by calls and by time, to its burst") {
  auto main = []() -> task<> {
    retry_budget budget({.ratio = 0.5, .per_second = 1, .burst = 3});
    CHECK(budget.available() == 3);
    for (int i = 0; i != 3; ++i) CHECK(budget.withdraw());
    CHECK(!budget.withdraw());
    budget.deposit();
    CHECK(!budget.withdraw());
    budget.deposit();
    CHECK(budget.withdraw());
    co_await sleep_for(2500ms);
    CHECK(budget.available() == 2);
    co_await sleep_for(1h);
    CHECK(budget.available() == 3);
  };
  simulate(main());
}

// ---- what is told --------------------------------------------------------------------------------------------------

TEST_CASE("an observer is told of each attempt, and why there is no other") {
  std::string told;
  auto tell = [&](const retry_attempt& a) {
    told += std::to_string(a.number) + (a.error ? " failed" : " succeeded") + " after " + std::to_string(a.took / 1ms) +
            " ms: ";
    told += a.wait ? "again in " + std::to_string(*a.wait / 1ms) + " ms\n" : a.reason + std::string("\n");
  };
  auto main = [&]() -> task<> {
    const auto options = with(even, [&](auto& o) { o.observer = tell; });
    flaky f;
    f.takes = 20ms;
    f.fails(refused());
    co_await retry(std::ref(f), options);
    const auto goes_wrong = [&](auto change, auto failure) -> task<> {
      flaky g;
      g.fails(failure, 9);
      co_await thrown_by(retry(std::ref(g), with(options, change)));
    };
    retry_budget none({.burst = 0});
    co_await goes_wrong([](auto&) {}, std::invalid_argument("x"));
    co_await goes_wrong([](auto& o) { o.attempts = 1; }, refused());
    co_await goes_wrong([](auto& o) { o.total_timeout = 50ms; }, refused());
    co_await goes_wrong([&](auto& o) { o.budget = &none; }, refused());
    co_await goes_wrong([](auto& o) { o.idempotent = false; }, reset());
  };
  simulate(main());
  CHECK(told ==
        "1 failed after 20 ms: again in 100 ms\n"
        "2 succeeded after 20 ms: it succeeded\n"
        "1 failed after 0 ms: this failure is not tried again\n"
        "1 failed after 0 ms: there are no more attempts\n"
        "1 failed after 0 ms: there is no time for another attempt\n"
        "1 failed after 0 ms: the budget has no retry left\n"
        "1 failed after 0 ms: it may have been done, and must not be done twice\n");
}

namespace {
struct outage {
  retry_budget budget{{.ratio = 0.5, .per_second = 0, .burst = 2}};
  int done = 0;
};
}  // namespace

TEST_CASE("whatever the schedule and wherever it is stopped, nothing is left") {
  kit::explore<outage>(
      [](outage& o) -> task<> {
        auto caller = [&](int failures) -> task<> {
          flaky f;
          f.takes = 1ms;
          f.fails(refused(), failures);
          auto calls = [&f](kit::counted = {}) { return f(); };
          try {
            co_await retry(calls, {.attempts = 3, .base = 1ms, .budget = &o.budget, .attempt_timeout = 5ms});
            ++o.done;
          } catch (const tandem::system_error&) {
          }
        };
        co_await tandem::gather(caller(0), caller(1), caller(2), caller(3));
      },
      [](outage& o, kit::end how) {
        if (how == kit::end::returned) CHECK(o.done >= 1);
      });
}

// ---- bad input -----------------------------------------------------------------------------------------------------

TEST_CASE("options that make no sense are refused by the call, each with its name and value") {
  auto f = []() -> task<> { co_return; };
  const auto text = [&](auto change) -> std::string {
    try {
      (void)retry(f, with(even, change));
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "";
  };
  CHECK(text([](auto& o) { o.attempts = 0; }) == "tandem::retry: attempts is 0; it must be at least 1");
  CHECK(text([](auto& o) { o.base = -1ns; }) == "tandem::backoff: base is -1 ns; it must not be negative");
  CHECK(text([](auto& o) { o.max = 1ns; }) == "tandem::backoff: max is 1 ns; it must be at least base, 100000000 ns");
  CHECK(text([](auto& o) { o.factor = 0.5; }) ==
        "tandem::backoff: factor is 0.500000; it must be at least 1, and finite");
  CHECK(text([](auto& o) { o.total_timeout = 0s; }) == "tandem::retry: total_timeout is 0 ns; it must be positive");
  CHECK(text([](auto& o) { o.attempt_timeout = 0s; }) == "tandem::retry: attempt_timeout is 0 ns; it must be positive");
  CHECK(text([](auto&) {}).empty());
  CHECK_THROWS_WITH(retry_budget({.ratio = -1}),
                    "tandem::retry_budget: ratio is -1.000000; it must be finite, and not negative");
  CHECK_THROWS_WITH(retry_budget({.per_second = std::nan("")}),
                    "tandem::retry_budget: per_second is nan; it must be finite, and not negative");
  CHECK_THROWS_AS(retry_budget({.ratio = -1}), std::invalid_argument);
  CHECK_THROWS_AS(retry_budget({.per_second = -1}), std::invalid_argument);
  CHECK_THROWS_AS(backoff({.base = -1ns}), std::invalid_argument);
}
