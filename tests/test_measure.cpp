#include <tandem/measure.hpp>

#include <tandem/cancel.hpp>
#include <tandem/event.hpp>
#include <tandem/gather.hpp>
#include <tandem/race.hpp>
#include <tandem/reflect.hpp>
#include <tandem/run.hpp>
#include <tandem/semaphore.hpp>
#include <tandem/task_group.hpp>

#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(steady_timer.hpp)

#include <algorithm>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using kit::after;
using kit::counted;
using kit::thrown_by;
using tandem::call_metrics;
using tandem::call_metrics_options;
using tandem::call_metrics_stats;
using tandem::call_summary;
using tandem::clock;
using tandem::gather;
using tandem::histogram;
using tandem::latency_summary;
using tandem::measure;
using tandem::measured;
using tandem::simulate;
using tandem::sleep_for;
using tandem::sleep_until;
using tandem::task;
using tandem::yield;

namespace {

constexpr call_metrics_options ten_seconds{.window = 10s, .parts = 10};

task<> fails_after(clock::duration d, std::exception_ptr e) {
  co_await sleep_for(d);
  std::rethrow_exception(e);
}
task<> takes(clock::duration d) { co_await sleep_for(d); }

bool is_near(clock::duration found, clock::duration exact) {
  return found >= exact - exact / 64 && found <= exact + exact / 64;
}

std::string message_of(call_metrics_options o) {
  try {
    call_metrics m(o);
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

/// One call that succeeds at once, of no length.
void record(call_metrics& m) { m.start().succeed(); }

}  // namespace

// ---- measure without metrics ----------------------------------------------------------------------------------------

TEST_CASE("it gives the value, and how long it took on the loop's clock") {
  auto main = []() -> task<> {
    const auto text = co_await measure(after(3s, std::string("a text that is too long to be kept in place")));
    CHECK(text.value == "a text that is too long to be kept in place");
    CHECK(text.elapsed == 3s);
    auto [pointer, elapsed] = co_await measure(after(1h, std::make_unique<int>(5)));
    CHECK(*pointer == 5);
    CHECK(elapsed == 1h);
    const auto nothing = co_await measure(takes(250ms));
    CHECK(nothing.elapsed == 250ms);
    const auto at_once = co_await measure([]() -> task<int> { co_return 7; }());
    CHECK(at_once.value == 7);
    CHECK(at_once.elapsed == 0s);
    int number = 1;
    auto by_reference = [&]() -> task<int&> {
      co_await sleep_for(1ns);
      co_return number;
    };
    const auto reference = co_await measure(by_reference());
    CHECK(&reference.value == &number);
    CHECK(reference.elapsed == 1ns);
    const std::string moved_on = (co_await measure(after(1s, std::string(100, 'x')))).value;
    CHECK(moved_on == std::string(100, 'x'));
    CHECK(clock::now() == kit::at(1h + 4s + 250ms + 1ns));
  };
  simulate(main());
}

TEST_CASE("anything that can be awaited can be measured") {
  auto main = []() -> task<> {
    const auto slept = co_await measure(sleep_for(2s));
    CHECK(slept.elapsed == 2s);
    tandem::semaphore s(1);
    std::optional<tandem::permit> held = co_await s.acquire();
    auto release = [&]() -> task<> {
      co_await sleep_for(5s);
      held.reset();
    };
    auto acquire = [&]() -> task<> {
      const auto got = co_await measure(s.acquire());
      CHECK(got.elapsed == 5s);
      CHECK(s.available() == 0);
    };
    co_await gather(release(), acquire());
    CHECK(s.available() == 1);
    const auto both = co_await measure(gather(after(1s, 1), after(3s, 2)));
    CHECK(std::get<1>(both.value) == 2);
    CHECK(both.elapsed == 3s);
    const auto twice = co_await measure(measure(after(1s, 4)));
    CHECK(twice.value.value == 4);
    CHECK(twice.value.elapsed == twice.elapsed);
    auto of_handle = [](tandem::task_group& group) -> task<> {
      const auto h = group.spawn(after(2s, 9));
      const auto first = co_await measure(h);  // a handle may be awaited more than once
      CHECK(first.value == 9);
      CHECK(first.elapsed == 2s);
      const auto again = co_await measure(h);
      CHECK(again.elapsed == 0s);
    };
    co_await tandem::with_task_group(of_handle);
    const auto handed_over = measure(takes(1s));
    STATIC_REQUIRE(!std::is_copy_constructible_v<decltype(handed_over)>);
  };
  simulate(main());
}

#if defined(TANDEM_PLAIN_FRAMES)
TEST_CASE("measuring costs one frame for what is no task, and none for a task") {
  auto main = []() -> task<> {
    call_metrics m;
    auto sleeps = []() -> task<> { co_await sleep_for(2s); };
    auto measures_a_sleep = []() -> task<> { (void)co_await measure(sleep_for(2s)); };
    auto counts_a_sleep = [&]() -> task<> { co_await measure(m, sleep_for(2s)); };
    auto sleeps_in_a_task = []() -> task<> { co_await takes(2s); };
    auto measures_a_task = []() -> task<> { (void)co_await measure(takes(2s)); };
    auto counts_a_task = [&]() -> task<> { co_await measure(m, takes(2s)); };
    const auto frames_during = [](auto& some) -> task<long> {
      long frames = 0;
      auto looks = [&]() -> task<> {
        co_await sleep_for(1s);
        frames = kit::live_frames();
      };
      co_await gather(some(), looks());
      co_return frames;
    };
    const long plain = co_await frames_during(sleeps);
    long frames = co_await frames_during(measures_a_sleep);
    CHECK(frames - plain == 1);
    frames = co_await frames_during(counts_a_sleep);
    CHECK(frames - plain == 1);
    const long with_task = co_await frames_during(sleeps_in_a_task);
    frames = co_await frames_during(measures_a_task);
    CHECK(frames == with_task);
    frames = co_await frames_during(counts_a_task);
    CHECK(frames == with_task);
  };
  simulate(main());
}
#endif

TEST_CASE("time counts from the co_await, not from when the measurement was made") {
  auto main = []() -> task<> {
    call_metrics m;
    auto later = measure(takes(1s));
    auto with_metrics = measure(m, takes(2s));
    co_await sleep_for(1h);
    const auto one = co_await std::move(later);
    CHECK(one.elapsed == 1s);
    co_await std::move(with_metrics);
    CHECK(m.stats().total.latency.max == 2s);
    CHECK(m.stats().span == 2s);
  };
  simulate(main());
}

TEST_CASE("time in which the loop was busy with others counts: it is the awaiter's") {
  auto main = []() -> task<> {
    tandem::event e;
    auto waits = [&]() -> task<> {
      const auto waited = co_await measure(e.wait());
      CHECK(waited.elapsed == 3s);
    };
    auto sets = [&]() -> task<> {
      co_await sleep_for(3s);
      e.set();
    };
    co_await gather(waits(), sets());
  };
  simulate(main());
}

TEST_CASE("an Asio operation is measured in real time") {
  auto main = []() -> task<> {
    asio::steady_timer timer(co_await tandem::this_task::executor);
    timer.expires_after(1ms);
    const auto waited = co_await measure(timer.async_wait(tandem::use_task));
    CHECK(waited.elapsed >= 1ms);
  };
  tandem::run(main());
}

TEST_CASE("a callable is called with its arguments when it is awaited, and they are kept until it ends") {
  auto main = []() -> task<> {
    int calls = 0;
    auto fetch = [&](const std::string& url, std::unique_ptr<int> times, int& sum) -> task<std::size_t> {
      ++calls;
      co_await sleep_for(*times * 1s);
      sum += *times;
      co_return url.size();
    };
    int sum = 0;
    auto waits = measure(fetch, std::string("/page/that/has/a/long/name"), std::make_unique<int>(4), std::ref(sum));
    CHECK(calls == 0);
    const auto page = co_await std::move(waits);
    CHECK(calls == 1);
    CHECK(sum == 4);
    CHECK(page.value == 26);
    CHECK(page.elapsed == 4s);
    call_metrics m;
    // A string is made of the literal, and lives as long as the call.
    const std::size_t size = co_await measure(m, fetch, "/", std::make_unique<int>(2), std::ref(sum));
    CHECK(size == 1);
    CHECK(m.stats().total.latency.max == 2s);
    struct server {
      task<int> answer(int i) {
        co_await sleep_for(1s);
        co_return i;
      }
    };
    server here;
    const int forty_two = co_await measure(m, &server::answer, &here, 42);
    CHECK(forty_two == 42);
    const auto plain = [](clock::duration d) { return sleep_for(d); };
    co_await measure(m, plain, 3s);
    CHECK(m.stats().total.latency.max == 3s);
    co_await measure(m, [&]() -> task<> { co_await sleep_for(1h); });
    CHECK(m.stats().total.latency.max == 1h);
    CHECK(m.stats().total.succeeded == 4);
  };
  simulate(main());
}

TEST_CASE("a callable that throws before it has returned anything has failed") {
  auto main = []() -> task<> {
    call_metrics m;
    const auto refuses = [](int i) -> task<> { throw std::invalid_argument("not " + std::to_string(i)); };
    auto no_coroutine = [&](int i) {
      if (i != 0) throw std::invalid_argument("not even " + std::to_string(i));
      return refuses(i);
    };
    const std::string text = co_await thrown_by(measure(m, no_coroutine, 3));
    CHECK(text == "not even 3");
    CHECK(m.stats().total.failed == 1);
  };
  simulate(main());
}

TEST_CASE("a failure goes on as it is, the very same") {
  auto main = []() -> task<> {
    const std::exception_ptr e = std::make_exception_ptr(std::runtime_error("the very same"));
    call_metrics m;
    for (const bool with_metrics : {false, true}) {
      std::exception_ptr caught;
      try {
        if (with_metrics)
          co_await measure(m, fails_after(1s, e));
        else
          co_await measure(fails_after(1s, e));
      } catch (...) {
        caught = std::current_exception();
      }
      CHECK(caught == e);
    }
    const call_summary s = m.stats().total;
    CHECK(s.failed == 1);
    CHECK(s.latency.max == 1s);
    CHECK(s.success_ratio == 0);
  };
  simulate(main());
}

TEST_CASE("what is never awaited never began, and what is empty is refused and not counted") {
  auto main = []() -> task<> {
    call_metrics m;
    {
      auto dropped = measure(m, takes(1s));
      auto moved = std::move(dropped);
      CHECK(m.in_flight() == 0);
      const std::string text = co_await thrown_by(std::move(dropped));
      CHECK(text.find("awaiting an empty task") != std::string::npos);
    }
    const std::string text = co_await thrown_by(measure(task<int>()));
    CHECK(text.find("awaiting an empty task") != std::string::npos);
    CHECK(m.stats() == call_metrics_stats{});
  };
  simulate(main());
}

// ---- what is counted ------------------------------------------------------------------------------------------------

TEST_CASE("with nothing recorded all is zero, and nothing has failed") {
  auto main = []() -> task<> {
    call_metrics m;
    CHECK(m.stats() == call_metrics_stats{});
    CHECK(m.stats().window.success_ratio == 1);
    co_await sleep_for(24h);
    call_metrics_stats s = m.stats();
    CHECK(s.rate == 0);
    CHECK(s.window == call_summary{});
    CHECK(s.total == call_summary{});
    CHECK(m.latency() == histogram());
  };
  simulate(main());
}

TEST_CASE("successes, failures, stops, times, ratio and rate: in the window and all together") {
  auto main = []() -> task<> {
    call_metrics m(ten_seconds);
    for (int i = 1; i <= 3; ++i) co_await measure(m, takes(i * 1s));
    const auto down = std::make_exception_ptr(std::runtime_error("down"));
    (void)co_await thrown_by(measure(m, fails_after(2s, down)));
    const auto late = co_await tandem::try_timeout(1s, measure(m, takes(1h)));
    CHECK(!late);
    const call_metrics_stats s = m.stats();
    CHECK(clock::now() == kit::at(9s));
    CHECK(s.window.count == 4);
    CHECK(s.window.succeeded == 3);
    CHECK(s.window.failed == 1);
    CHECK(s.window.cancelled == 1);
    CHECK(s.window.success_ratio == 0.75);
    CHECK(s.window.latency.count == 4);
    CHECK(s.window.latency.min == 1s);
    CHECK(s.window.latency.max == 3s);
    CHECK(s.window.latency.mean == 2s);
    CHECK(is_near(s.window.latency.p50, 2s));
    CHECK(s.span == 9s);
    CHECK(s.rate == 4.0 / 9);
    CHECK(s.total == s.window);
    CHECK(s.in_flight == 0);
    CHECK(s.most_in_flight == 1);
    co_await sleep_for(10s);
    const call_metrics_stats later = m.stats();
    CHECK(later.window == call_summary{});
    CHECK(later.rate == 0);
    CHECK(later.span == 9s);
    CHECK(later.total == s.total);
    CHECK(m.latency().summary() == s.total.latency);
  };
  simulate(main());
}

TEST_CASE("what ends with an error of the kind cancelled is no failure") {
  auto main = []() -> task<> {
    call_metrics m;
    auto awaits_a_cancelled_task = [&](tandem::task_group& group) -> task<> {
      auto h = group.spawn(takes(1h));
      h.cancel();
      const std::string text = co_await thrown_by(measure(m, h));
      CHECK(text.starts_with("tandem::cancelled"));
    };
    co_await tandem::with_task_group(awaits_a_cancelled_task);
    const auto aborted =
        std::make_exception_ptr(tandem::system_error(tandem::error_code(asio::error::operation_aborted)));
    (void)co_await thrown_by(measure(m, fails_after(1s, aborted)));
    CHECK(m.stats().total.cancelled == 2);
    CHECK(m.stats().total.count == 0);
    CHECK(m.stats().total.success_ratio == 1);
    CHECK(m.latency() == histogram());
  };
  simulate(main());
}

TEST_CASE("calls in flight are counted from the co_await to the end, and the most there were") {
  auto main = []() -> task<> {
    call_metrics m(ten_seconds);
    std::vector<task<>> calls;
    auto call = [&](int i) -> task<> {
      co_await sleep_for(i * 1s);
      co_await measure(m, takes(2700ms));
    };
    auto looks = [&]() -> task<> {
      for (const std::uint64_t expected : {1u, 2u, 3u, 3u, 2u, 1u, 0u}) {
        co_await sleep_for(500ms);
        CHECK(m.in_flight() == expected);
        CHECK(m.stats().in_flight == expected);
        co_await sleep_for(500ms);
      }
    };
    calls.push_back(looks());
    for (int i = 0; i != 4; ++i) calls.push_back(call(i));
    co_await gather(std::move(calls));
    CHECK(m.stats().most_in_flight == 3);
    CHECK(m.stats().total.succeeded == 4);
    CHECK(m.stats().total.latency.p50 == 2700ms);
  };
  simulate(main());
}

TEST_CASE("the loser of a race was cancelled, its winner succeeded") {
  auto main = []() -> task<> {
    call_metrics m;
    const auto r = co_await tandem::race(measure(m, after(1s, 1)), measure(m, after(2s, 2)), measure(m, takes(3s)));
    CHECK(r.index() == 0);
    CHECK(m.stats().total.succeeded == 1);
    CHECK(m.stats().total.cancelled == 2);
    CHECK(m.in_flight() == 0);
  };
  simulate(main());
}

TEST_CASE("a stopped call is in flight until the last of its frames is gone, clean-up included") {
  auto main = []() -> task<> {
    call_metrics m;
    std::uint64_t in_flight_at_the_end = 0;
    auto cleans_up = [&]() -> task<> {
      const kit::at_exit look([&] { in_flight_at_the_end = m.in_flight(); });
      const auto rests = [] { return sleep_for(5s); };
      co_await tandem::finally(takes(1h), rests);
    };
    const auto nothing = co_await tandem::try_timeout(1s, measure(m, cleans_up()));
    CHECK(!nothing);
    CHECK(clock::now() == kit::at(6s));
    CHECK(in_flight_at_the_end == 1);
    CHECK(m.in_flight() == 0);
    CHECK(m.stats().total.cancelled == 1);
  };
  simulate(main());
}

TEST_CASE("a value that had been granted when the stop came has succeeded") {
  auto main = []() -> task<> {
    call_metrics m;
    tandem::event e;
    auto waits = [&]() -> task<> { co_await measure(m, e.wait()); };
    auto ends = [&](tandem::task_group& group) -> task<> {
      auto h = group.spawn(waits());
      co_await yield();
      e.set();
      h.cancel();
      co_await yield();
      co_await yield();
      CHECK(h.done());
    };
    co_await tandem::with_task_group(ends);
    CHECK(m.stats().total.succeeded == 1);
    CHECK(m.stats().total.cancelled == 0);
  };
  simulate(main());
}

TEST_CASE("every call is counted once, wherever it is stopped and whatever the schedule") {
  struct state {
    call_metrics m{{.window = 1s, .parts = 2}};
    std::uint64_t begun = 0, returned = 0, failed = 0;
    tandem::semaphore permits{2};
  };
  const auto main = [](state& s) -> task<> {
    auto work = [&](int i, counted = counted()) -> task<int> {
      const auto permit = co_await s.permits.acquire();
      co_await sleep_for(i * 100ms);
      if (i % 3 == 2) throw std::runtime_error("every third");
      co_await yield();
      co_return i;
    };
    auto call = [&](int i, counted = counted()) -> task<> {
      ++s.begun;
      try {
        const int same = co_await measure(s.m, work(i));
        CHECK(same == i);
        ++s.returned;
      } catch (const std::runtime_error&) {
        ++s.failed;
      }
      const auto nested = co_await tandem::try_timeout(250ms, measure(s.m, measure(work(i))));
      (void)nested;
    };
    co_await gather(call(0), call(1), call(3), call(4));
    co_await gather(call(2), call(0));
  };
  kit::explore<state>(main, [](state& s, kit::end how) {
    const call_summary total = s.m.stats().total;
    CHECK(s.m.in_flight() == 0);
    CHECK(total.succeeded >= s.returned);
    CHECK(total.failed >= s.failed);
    CHECK(total.count + total.cancelled >= s.begun);
    CHECK(total.count == s.m.latency().count());
    CHECK(s.m.stats().most_in_flight <= 4);
    if (how == kit::end::returned) FAIL("the third always fails, in its second call");
  });
}

TEST_CASE("metrics may be destroyed while calls are under way") {
  const long frames = kit::live_frames();
  {
    asio::io_context context(1);
    call_metrics m;
    tandem::spawn(context, measure(m, takes(1h)), asio::detached);
    context.poll();
    CHECK(m.in_flight() == 1);
  }
  CHECK(kit::live_frames() == frames);

  auto main = []() -> task<> {
    auto m = std::make_unique<call_metrics>(ten_seconds);
    auto takes_it_away = [&]() -> task<> {
      co_await sleep_for(1s);
      m.reset();
    };
    co_await gather(measure(*m, takes(2s)), takes_it_away());
  };
  simulate(main());
}

TEST_CASE("a coroutine of another loop is refused, and not counted") {
  call_metrics m;
  asio::io_context one, two;
  std::string text;
  auto call = [&]() -> task<> { co_await measure(m, takes(1h)); };
  auto other = [&]() -> task<> { text = co_await thrown_by(call()); };
  tandem::spawn(one, call(), asio::detached);
  one.poll();
  tandem::spawn(two, other(), asio::detached);
  two.poll();
  CHECK(text.starts_with("tandem::call_metrics: "));
  CHECK(text.ends_with("make one for each loop"));
  CHECK(m.in_flight() == 1);

  bool is_refused = false;
  auto begins = [&]() -> task<> {
    try {
      const auto by_hand = m.start();
    } catch (const std::logic_error&) {
      is_refused = true;
    }
    co_return;
  };
  tandem::spawn(two, begins(), asio::detached);
  two.restart();
  two.poll();
  CHECK(is_refused);
  CHECK(m.in_flight() == 1);
  CHECK(m.stats().total.cancelled == 0);
}

// ---- by hand --------------------------------------------------------------------------------------------------------

TEST_CASE("by hand: it succeeds, fails, or is dropped and was cancelled; what is said first counts") {
  auto main = []() -> task<> {
    call_metrics m;
    auto one = m.start();
    auto two = m.start();
    CHECK(m.in_flight() == 2);
    co_await sleep_for(1s);
    one.succeed();
    CHECK(!one);
    one.fail();
    CHECK(m.in_flight() == 1);
    co_await sleep_for(1s);
    two.fail();
    two.succeed();
    CHECK(m.stats().total.succeeded == 1);
    CHECK(m.stats().total.failed == 1);
    CHECK(m.stats().total.latency.min == 1s);
    CHECK(m.stats().total.latency.max == 2s);
    { const auto dropped = m.start(); }
    CHECK(m.stats().total.cancelled == 1);

    auto three = m.start();
    auto moved = std::move(three);
    CHECK(m.in_flight() == 1);
    CHECK(moved);
    three.succeed();
    CHECK(m.in_flight() == 1);
    moved = m.start();  // the one before is over
    CHECK(m.in_flight() == 1);
    CHECK(m.stats().total.cancelled == 2);
    auto& same = moved;
    moved = std::move(same);
    CHECK(m.in_flight() == 1);
    moved = {};
    CHECK(m.in_flight() == 0);
    CHECK(m.stats().total.cancelled == 3);
    CHECK(m.stats().total.count == 2);
  };
  simulate(main());
}

TEST_CASE("where no loop runs, it is real time") {
  call_metrics m;
  record(m);
  CHECK(m.stats().window.succeeded == 1);
}

TEST_CASE("reset: as new, but for the calls in flight") {
  auto main = []() -> task<> {
    call_metrics m(ten_seconds);
    auto first = m.start();
    auto second = m.start();
    co_await sleep_for(1s);
    second.fail();
    { const auto dropped = m.start(); }
    m.reset();
    call_metrics_stats s = m.stats();
    CHECK(s.in_flight == 1);
    CHECK(s.most_in_flight == 1);
    CHECK(s.window == call_summary{});
    CHECK(s.total == call_summary{});
    CHECK(s.span == 0s);
    co_await sleep_for(2s);
    first.succeed();
    s = m.stats();
    CHECK(s.in_flight == 0);
    CHECK(s.window.latency.max == 3s);
    CHECK(s.window.failed == 0);
    CHECK(s.span == 2s);
    CHECK(s.rate == 0.5);
    CHECK(s.total == s.window);
  };
  simulate(main());
}

// ---- the window -----------------------------------------------------------------------------------------------------

TEST_CASE("what is as old as the window is forgotten, at that very moment") {
  auto main = []() -> task<> {
    call_metrics m(ten_seconds);
    record(m);  // at the beginning of the first part
    co_await sleep_until(kit::at(1s - 1ns));
    record(m);  // at its end
    co_await sleep_until(kit::at(1s));
    record(m);  // at the beginning of the second
    co_await sleep_until(kit::at(10s - 1ns));
    CHECK(m.stats().window.count == 3);
    CHECK(m.stats().span == 10s - 1ns);
    co_await sleep_until(kit::at(10s));
    CHECK(m.stats().window.count == 1);
    CHECK(m.stats().span == 9s);
    CHECK(m.stats().rate == 1.0 / 9);
    co_await sleep_until(kit::at(11s - 1ns));
    CHECK(m.stats().window.count == 1);
    co_await sleep_until(kit::at(11s));
    CHECK(m.stats().window.count == 0);
    CHECK(m.stats().total.count == 3);
  };
  simulate(main());
}

TEST_CASE("the window begins with the first call, whatever time it is, and not when it was made") {
  for (const clock::duration start : {clock::duration(0), clock::duration::min(), -3s + 1ns, clock::duration(90'000h),
                                      clock::duration::max() - 3min}) {
    CAPTURE(start.count());
    call_metrics m(ten_seconds);
    auto main = [&]() -> task<> {
      co_await sleep_for(100s);
      const clock::time_point begin = clock::now();
      auto call = m.start();
      co_await sleep_for(4s);
      call.succeed();
      CHECK(m.stats().span == 4s);
      CHECK(m.stats().rate == 0.25);
      co_await sleep_until(begin + 14s - 1ns);
      CHECK(m.stats().window.count == 1);
      co_await sleep_until(begin + 14s);
      CHECK(m.stats().window.count == 0);
    };
    simulate(main(), {.start = kit::at(start)});
  }
}

TEST_CASE(
    "against a list of all calls: the window has whatever is younger than it by a part, and nothing older than it") {
  struct ended {
    clock::time_point at;
    clock::duration took;
    bool failed;
  };
  for (std::uint64_t seed = 0; seed != 20; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const auto up_to = [&](std::uint64_t n) { return static_cast<std::int64_t>(random() % (n + 1)); };
    const std::size_t parts = 2 + static_cast<std::size_t>(up_to(10));
    const clock::duration window(1 + up_to(seed % 2 == 0 ? 50 : 1'000'000));
    const clock::duration part((window.count() - 1) / static_cast<std::int64_t>(parts) + 1);
    auto main = [&]() -> task<> {
      call_metrics m({.window = window, .parts = parts});
      std::vector<ended> all;
      std::optional<clock::time_point> first;
      std::uint64_t wrong = 0;
      for (int i = 0; i != 2'000; ++i) {
        co_await sleep_for(
            clock::duration(up_to(static_cast<std::uint64_t>(window.count()) / (i % 100 < 90 ? 10 : 1))));
        if (!first) first = clock::now();
        auto call = m.start();
        const clock::duration took(up_to(5));
        co_await sleep_for(took);
        const bool failed = up_to(3) == 0;
        all.push_back({clock::now(), took, failed});
        failed ? call.fail() : call.succeed();
        const clock::duration more(up_to(static_cast<std::uint64_t>(part.count())));
        co_await sleep_for(more);

        const clock::time_point now = clock::now();
        const call_metrics_stats s = m.stats();
        // Parts begin where the first call did.
        const std::int64_t part_of_now = (now - *first) / part;
        const auto in_window = [&](const ended& e) {
          return (e.at - *first) / part > part_of_now - static_cast<std::int64_t>(parts);
        };
        histogram latency;
        std::uint64_t failures = 0;
        for (auto e = all.rbegin(); e != all.rend() && in_window(*e); ++e) {
          latency.record(e->took);
          failures += e->failed;
          wrong += now - e->at >= part * static_cast<std::int64_t>(parts);
        }
        const auto forgotten = all.size() - latency.count();
        if (forgotten != 0) wrong += now - all[forgotten - 1].at <= part * static_cast<std::int64_t>(parts - 1);
        wrong += s.window.latency != latency.summary() || s.window.failed != failures ||
                 s.window.succeeded != latency.count() - failures;
        wrong += s.total.count != all.size();
        const clock::duration whole =
            (now - *first) % part + part * std::min<std::int64_t>(part_of_now, static_cast<std::int64_t>(parts) - 1);
        wrong += s.span != whole;
      }
      CHECK(wrong == 0);
    };
    simulate(main());
  }
}

TEST_CASE("windows of every length: a nanosecond, and all the time there is") {
  auto main = []() -> task<> {
    call_metrics shortest({.window = 1ns, .parts = 10});  // ten parts of one nanosecond
    record(shortest);
    co_await sleep_for(9ns);
    CHECK(shortest.stats().window.count == 1);
    co_await sleep_for(1ns);
    CHECK(shortest.stats().window.count == 0);

    call_metrics longest({.window = clock::duration::max(), .parts = 1000});
    record(longest);
    co_await sleep_for(100'000h);
    record(longest);
    CHECK(longest.stats().window.count == 2);
    CHECK(longest.stats().span == 100'000h + 0ns);
    co_await sleep_until(clock::time_point::max() - 1h);
    CHECK(longest.stats().total.count == 2);
    CHECK(longest.stats().span > 100'000h);
  };
  simulate(main());
}

TEST_CASE("after centuries without a call the window is empty, and the next call is the only one in it") {
  auto main = []() -> task<> {
    call_metrics m(ten_seconds);
    for (int i = 0; i != 50; ++i) {
      record(m);
      co_await sleep_for(1s);
    }
    CHECK(m.stats().window.count == 9);  // that of 10 s ago is forgotten
    co_await sleep_for(2'000'000h);
    auto call = m.start();
    co_await sleep_for(1s);
    call.fail();
    const call_metrics_stats s = m.stats();
    CHECK(s.window.count == 1);
    CHECK(s.window.failed == 1);
    CHECK(s.window.success_ratio == 0);
    CHECK(s.total.count == 51);
  };
  simulate(main(), {.start = clock::time_point::min()});
}

TEST_CASE("in another simulation the window begins anew, and the totals stay") {
  call_metrics m(ten_seconds);
  std::optional<call_metrics::call> left_over;
  auto main = [&]() -> task<> {
    co_await sleep_for(1h);
    for (int i = 0; i != 3; ++i) co_await measure(m, takes(1s));
    left_over = m.start();
  };
  simulate(main());
  auto again = [&]() -> task<> {
    co_await sleep_for(1min);
    CHECK(m.stats().window == call_summary{});
    co_await measure(m, takes(1s));
    CHECK(m.stats().window.count == 1);
    CHECK(m.stats().span == 1s);
    CHECK(m.stats().total.count == 4);
    left_over->succeed();  // it began later than now
    CHECK(m.stats().window.count == 2);
    CHECK(m.stats().window.latency.min == 0s);
  };
  simulate(again());
}

TEST_CASE("options outside their range are refused by name") {
  CHECK(message_of({.window = 0s}) == "tandem::call_metrics: window is 0 ns; it must be positive");
  CHECK(message_of({.window = -1s}) == "tandem::call_metrics: window is -1000000000 ns; it must be positive");
  CHECK(message_of({.parts = 0}) == "tandem::call_metrics: parts is 0; it must be at least 2 and at most 1000");
  CHECK(message_of({.parts = 1}) == "tandem::call_metrics: parts is 1; it must be at least 2 and at most 1000");
  CHECK(message_of({.parts = 1'001}) == "tandem::call_metrics: parts is 1001; it must be at least 2 and at most 1000");
  CHECK(message_of({.window = 1ns, .parts = 2}).empty());
}

// ---- as text --------------------------------------------------------------------------------------------------------

TEST_CASE("the statistics are plain aggregates, which reflect prints") {
  STATIC_REQUIRE(std::is_aggregate_v<call_metrics_stats>);
  STATIC_REQUIRE(std::is_aggregate_v<measured<int>>);
  STATIC_REQUIRE(std::is_aggregate_v<measured<>>);
  STATIC_REQUIRE(std::is_trivially_destructible_v<call_metrics_options>);
  auto main = []() -> task<> {
    call_metrics m(ten_seconds);
    co_await measure(m, takes(2s));
    const std::string text = tandem::describe(m.stats());
    INFO(text);
    CHECK(text.find("in_flight") != std::string::npos);
    CHECK(text.find("rate") != std::string::npos);
    CHECK(text.find("success_ratio") != std::string::npos);
    CHECK(text.find("p99") != std::string::npos);
    const auto nine = co_await measure(after(1s, 9));
    CHECK(tandem::describe(nine).find("elapsed") != std::string::npos);
  };
  simulate(main());
}
