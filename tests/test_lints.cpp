#include <tandem/lints.hpp>

#include "kit/captured_stderr.hpp"
#include "kit/kit.hpp"

#include <tandem/cancel.hpp>
#include <tandem/event.hpp>
#include <tandem/gather.hpp>
#include <tandem/mutex.hpp>
#include <tandem/priority_scheduler.hpp>
#include <tandem/queue.hpp>
#include <tandem/resource_pool.hpp>
#include <tandem/run.hpp>
#include <tandem/semaphore.hpp>
#include <tandem/trace.hpp>
#include <tandem/wait.hpp>

#include TANDEM_ASIO_HEADER(io_context.hpp)

#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace tandem;
using namespace std::chrono_literals;

namespace {

bool contains(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }
std::string line(int n) { return "(test_lints.cpp:" + std::to_string(n) + ")"; }
void ignore(const lint&) {}

/// What is found while `t` runs.
std::vector<lint> found_in(task<> t, lints_options options = {}) {
  lints watch(options, ignore);
  simulate(std::move(t));
  return watch.found();
}

}  // namespace

namespace post {

task<> deliver(std::string letter) {
  co_await sleep_for(1ms);
  (void)letter;
}
constexpr int forgets_at = __LINE__ + 3;
task<> forgets_a_letter() {
  auto forgotten = deliver("to Ann");
  co_await deliver("to Bob");
}
task<> fails() {
  co_await sleep_for(1ms);
  throw std::runtime_error("no stamp");
}
task<> fails_at_once() {
  throw std::runtime_error("no stamp");
  co_return;
}
task<> at_once() { co_return; }
task<> told_where(std::source_location) { co_await yield(); }
task<> takes(task<> letter) { co_await std::move(letter); }

}  // namespace post

// ---- never awaited -------------------------------------------------------------------------------------------------

TEST_CASE("a task that nobody awaits is named, once for each place, and counted") {
  const auto twice = []() -> task<> {
    co_await post::forgets_a_letter();
    co_await post::forgets_a_letter();
  };
  const std::vector<lint> found = found_in(twice());
  REQUIRE(found.size() == 1);
  CHECK(found[0].kind == lint_kind::never_awaited);
  CHECK(found[0].function == "post::deliver");
  CHECK(found[0].file == "test_lints.cpp");
  CHECK(found[0].line == 0);
  CHECK(found[0].count == 2);
  CHECK(contains(found[0].text,
                 "post::deliver (test_lints.cpp) was never awaited, so it did nothing; dropped by "
                 "post::forgets_a_letter " +
                     line(post::forgets_at) + ";"));
}

TEST_CASE("a task that is made and dropped where no loop runs is named") {
  lints watch({}, ignore);
  { auto forgotten = post::deliver("to Ann"); }
  REQUIRE(watch.found().size() == 1);
  CHECK(watch.found()[0].function == "post::deliver");
}

TEST_CASE("a coroutine that takes a place in the source is called by its own name") {
  lints watch({}, ignore);
  { auto forgotten = post::told_where(std::source_location::current()); }
  REQUIRE(watch.found().size() == 1);
  CHECK(watch.found()[0].function == "post::told_where");
}

TEST_CASE("what tandem makes of an awaitable is no coroutine of the program") {
  const auto forgets = []() -> task<> {
    auto both = gather(sleep_for(1s), yield());
    co_await yield();
  };
  const std::vector<lint> found = found_in(forgets());
  REQUIRE(found.size() == 1);
  CHECK(found[0].function.empty());
  CHECK(contains(found[0].text, "an awaitable was never awaited, so it did nothing; dropped by "));
}

TEST_CASE("a gather that nobody awaits is told by its tasks") {
  const auto forgets_all = []() -> task<> {
    std::vector<task<>> letters;
    letters.push_back(post::deliver("to Ann"));
    letters.push_back(post::deliver("to Bob"));
    auto all = gather(std::move(letters));
    co_await yield();
  };
  const std::vector<lint> found = found_in(forgets_all());
  REQUIRE(found.size() == 1);
  CHECK(found[0].count == 2);
}

TEST_CASE("tasks that go unstarted because something failed or was stopped are no mistake") {
  const auto all_kinds = []() -> task<> {
    const std::string none = "";
    for (int kind = 0; kind != 11; ++kind) {
      try {
        std::vector<task<>> letters;
        letters.push_back(post::fails_at_once());
        letters.push_back(post::deliver("to Ann"));
        letters.push_back(post::takes(post::takes(post::deliver("to Bob"))));
        if (kind == 0) co_await gather(std::move(letters));
        if (kind == 1) co_await gather(post::fails_at_once(), post::takes(post::deliver("to Ann")));
        if (kind == 2) (void)co_await race(std::move(letters));
        if (kind == 3) (void)co_await race(post::takes(post::deliver("to Ann")), post::deliver("to Bob"));
        if (kind == 4) {
          auto stream = as_completed(std::move(letters), 1);
          (void)co_await stream.next();
        }
        if (kind == 5)
          co_await with_task_group([&](task_group& group) -> task<> {
            for (auto& l : letters) group.spawn(std::move(l));
            co_await yield();
          });
        if (kind == 6) co_await timeout(1ms, post::takes(post::takes(post::deliver("late"))));
        if (kind == 7) {
          co_await post::fails();  // with the letters here
        }
        if (kind == 8) (void)co_await race(post::at_once(), post::takes(post::deliver("to Ann")));
        if (kind == 9) {
          std::vector<task<>> arms;
          arms.push_back(post::at_once());
          arms.push_back(post::deliver("to Ann"));
          (void)co_await race(std::move(arms));
        }
        if (kind == 10) {
          priority_scheduler desk({.slots = 1});
          desk.submit({}, post::deliver("first"));
          desk.submit({.deadline = clock::now()}, post::deliver("too late"));
          co_await desk.drain();
        }
        for (auto& l : letters)
          if (l) co_await std::move(l);
      } catch (const std::exception&) {
      }
    }
  };
  for (const lint& l : found_in(all_kinds())) FAIL_CHECK(l.text);
}

TEST_CASE("a tree that is stopped at whatever step has no lint") {
  const auto work = []() -> task<> {
    auto later = post::deliver("to Ann");
    co_await gather(post::takes(post::deliver("to Bob")), post::deliver("to Cy"));
    co_await std::move(later);
  };
  lints watch({}, ignore);
  for (auto limit = 0ms; limit != 5ms; limit += 1ms) {
    const auto limited = [&]() -> task<> { (void)co_await try_timeout(limit, work()); };
    simulate(limited());
  }
  for (const lint& l : watch.found()) FAIL_CHECK(l.text);
}

// ---- polling -------------------------------------------------------------------------------------------------------

namespace post {

constexpr int polls_at = __LINE__ + 2;
task<> polls(const bool& arrived) {
  while (!arrived) co_await sleep_for(5ms);
}
constexpr int spins_at = __LINE__ + 2;
task<> spins(const bool& arrived) {
  while (!arrived) co_await yield();
}
task<> sets_after(bool& arrived, clock::duration d) {
  co_await sleep_for(d);
  arrived = true;
}
task<> ticks(int n, clock::duration d) {
  for (int i = 0; i != n; ++i) co_await sleep_for(d);
}
task<> calculates(int chunks) {
  for (int i = 0; i != chunks; ++i) {
    const auto until = std::chrono::steady_clock::now() + 300us;
    while (std::chrono::steady_clock::now() < until) {
    }
    co_await yield();
  }
}
task<> gives_way(int n) {
  for (int i = 0; i != n; ++i) co_await this_task::checkpoint();
}
task<> two_steps(int n) {
  for (int i = 0; i != n; ++i) {
    co_await sleep_for(1ms);
    co_await sleep_for(1ms);
  }
}

}  // namespace post

TEST_CASE("a coroutine that sleeps again and again at one line is told that it polls, and may go on") {
  bool arrived = false;
  const auto both = [&]() -> task<> { co_await gather(post::polls(arrived), post::sets_after(arrived, 10s)); };
  const std::vector<lint> found = found_in(both());
  REQUIRE(found.size() == 1);
  CHECK(found[0].kind == lint_kind::polling);
  CHECK(contains(found[0].text, "post::polls " + line(post::polls_at) + " polls: it was woken from sleep 100 times"));
  CHECK(found[0].count >= 15);  // of 19; less if the machine was busy
}

TEST_CASE("so is one that yields, by the number that was asked for") {
  int turns = 0;
  bool arrived = false;
  const auto other = [&]() -> task<> {
    for (; turns != 50; ++turns) co_await sleep_for(0ms);
    arrived = true;
  };
  const auto both = [&]() -> task<> { co_await gather(post::spins(arrived), other()); };
  bool seen = false;
  for (const lint& l : found_in(both(), {.polls = 20}))
    seen = seen || contains(l.text, "post::spins " + line(post::spins_at) + " polls: it was woken from yield 20 times");
  CHECK(seen);
}

TEST_CASE("a sleep of poll_interval is a poll, a longer one is not") {
  CHECK(found_in(post::ticks(2000, 20ms)).size() == 1);
  CHECK(found_in(post::ticks(2000, 20ms + 1ns)).empty());
  CHECK(found_in(post::ticks(2000, 5ms), {.poll_interval = 5ms}).size() == 1);
  CHECK(found_in(post::ticks(2000, 6ms), {.poll_interval = 5ms}).empty());
}

TEST_CASE("ticking slowly, calculating in pieces, checkpoints, and waits at two lines are no polling") {
  const auto all = []() -> task<> {
    co_await post::ticks(1000, 21ms);
    co_await post::calculates(201);
    co_await post::gives_way(1000);
    co_await post::two_steps(1000);
    co_await post::ticks(99, 1ms);
  };
  for (const lint& l : found_in(all())) FAIL_CHECK(l.text);
}

// ---- held across a long wait ---------------------------------------------------------------------------------------

namespace post {

constexpr int locks_at = __LINE__ + 2;
task<> sorts(mutex& desk, clock::duration d) {
  auto lock = co_await desk.lock();
  co_await sleep_for(d);
}
constexpr int waits_at = __LINE__ + 3;
task<> wants(mutex& desk) {
  co_await sleep_for(1ms);
  auto lock = co_await desk.lock();
}
task<> office(clock::duration d) {
  mutex desk;
  co_await gather(sorts(desk, d), wants(desk));
}

}  // namespace post

TEST_CASE("what is held across a long wait of another is told, with both lines") {
  const std::vector<lint> found = found_in(post::office(5s));
  REQUIRE(found.size() == 1);
  CHECK(found[0].kind == lint_kind::long_hold);
  CHECK(found[0].function == "post::sorts");
  CHECK(found[0].line == static_cast<std::uint_least32_t>(post::locks_at));
  CHECK(contains(found[0].text, "post::sorts " + line(post::locks_at) +
                                    " holds what another waits for (mutex): post::wants " + line(post::waits_at) +
                                    " has waited for 4999 ms"));
  CHECK(found_in(post::office(900ms)).empty());
  CHECK(found_in(post::office(900ms), {.long_hold = 500ms}).size() == 1);
}

TEST_CASE("a hold is found as soon as it is long and something goes on") {
  const auto while_others_tick = []() -> task<> { co_await gather(post::office(1100ms), post::ticks(100, 30ms)); };
  CHECK(found_in(while_others_tick()).size() == 1);
}

TEST_CASE("a permit is told of in debug builds, a lease always") {
  const auto with_permit = []() -> task<> {
    semaphore s(1);
    const auto holds = [&]() -> task<> {
      auto permit = co_await s.acquire();
      co_await sleep_for(5s);
    };
    const auto waits = [&]() -> task<> { auto permit = co_await s.acquire(); };
    co_await gather(holds(), waits());
  };
#if defined(NDEBUG)
  CHECK(found_in(with_permit()).empty());
#else
  CHECK(found_in(with_permit()).size() == 1);
#endif
}

TEST_CASE("one who waits in a long line of short holders is no mistake of theirs before the time is up") {
  const auto line_of = []() -> task<> {
    mutex desk;
    std::vector<task<>> all;
    for (int i = 0; i != 9; ++i) all.push_back(post::sorts(desk, 100ms));
    co_await gather(std::move(all));
  };
  CHECK(found_in(line_of()).empty());
}

// ---- all of them ---------------------------------------------------------------------------------------------------

TEST_CASE("reports are made once for each place, as they are found, and without a function on stderr") {
  std::vector<std::string> reported;
  {
    lints watch({}, [&](const lint& l) { reported.push_back(l.text); });
    simulate(post::forgets_a_letter());
    simulate(post::forgets_a_letter());
    CHECK(reported.size() == 1);
    CHECK(watch.found().size() == 1);
    CHECK(watch.found()[0].count == 2);
  }
  const kit::captured_stderr captured;
  {
    lints watch;
    simulate(post::forgets_a_letter());
  }
  CHECK(contains(captured.text(), "tandem: post::deliver (test_lints.cpp) was never awaited"));
}

TEST_CASE("lints and timelines of one thread hear the same") {
  lints watch({}, ignore);
  timeline chart;
  lints inner({}, ignore);
  simulate(post::forgets_a_letter());
  CHECK(watch.found().size() == 1);
  CHECK(inner.found().size() == 1);
  CHECK(contains(chart.gantt(), "post::deliver"));
}

TEST_CASE("the function may own what has a loop, and may drop tasks and simulate") {
  {
    struct desk {
      asio::io_context context;
    };
    auto owned = std::make_shared<desk>();
    tandem::run(owned->context, post::at_once());
    lints watch({}, [owned](const lint&) {});
    owned.reset();
  }
  int reports = 0;
  lints watch({}, [&](const lint&) {
    ++reports;
    auto forgotten = post::deliver("one more");
    simulate(post::at_once());
  });
  { auto forgotten = post::deliver("to Ann"); }
  CHECK(reports == 1);
}

TEST_CASE("a loop may outlive them, and then hears nothing") {
  asio::io_context context;
  {
    lints watch({}, ignore);
    tandem::run(context, post::deliver("to Ann"));
  }
  tandem::run(context, post::forgets_a_letter());
}

TEST_CASE("loops that were made before or on another thread are not heard, nor tasks that are destroyed there") {
  asio::io_context before;
  tandem::run(before, post::at_once());
  lints watch({}, ignore);
  std::thread other([] {
    simulate(post::forgets_a_letter());
    simulate(post::ticks(2000, 1ms));
    auto forgotten = post::deliver("to nobody");
  });
  other.join();
  const auto yields = []() -> task<> {
    for (int i = 0; i != 2000; ++i) co_await yield();
  };
  tandem::run(before, yields());
  for (const lint& l : watch.found()) FAIL_CHECK(l.text);
  asio::io_context later;
  tandem::run(later, yields());
  CHECK(watch.found().size() == 1);
  std::size_t seen = 0;
  std::thread([&] { seen = watch.found().size(); }).join();  // from any thread
  CHECK(seen == 1);
}

TEST_CASE("what was found is in the order in which it was found first") {
  const auto all = []() -> task<> {
    co_await post::office(2s);
    co_await post::forgets_a_letter();
    co_await post::ticks(2000, 1ms);
    co_await post::forgets_a_letter();
    co_await post::office(2s);
  };
  const std::vector<lint> found = found_in(all());
  REQUIRE(found.size() == 3);
  CHECK(found[0].kind == lint_kind::long_hold);
  CHECK(found[1].kind == lint_kind::never_awaited);
  CHECK(found[2].kind == lint_kind::polling);
  CHECK(found[1].count == 2);
}

TEST_CASE("options that are not positive are refused") {
  CHECK_THROWS_AS(lints({.polls = 0}), std::invalid_argument);
  CHECK_THROWS_AS(lints({.poll_interval = -1ms}), std::invalid_argument);
  CHECK_THROWS_AS(lints({.long_hold = 0ms}, ignore), std::invalid_argument);
  CHECK_THROWS_WITH(lints({.polls = 0}), containing("polls is 0; it must be positive"));
  CHECK_THROWS_WITH(lints({.poll_interval = -1ms}), containing("poll_interval in ms is -1"));
  CHECK_THROWS_WITH(lints({.long_hold = 0ms}), containing("long_hold in ms is 0"));
}
