#include <tandem/priority_scheduler.hpp>

#include <tandem/cancel.hpp>
#include <tandem/generator.hpp>
#include <tandem/run.hpp>
#include <tandem/wait.hpp>

#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(strand.hpp)

#include <algorithm>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using kit::at;
using kit::thrown_by;
using tandem::clock;
using tandem::job_expired;
using tandem::priority_handle;
using tandem::priority_scheduler;
using tandem::priority_stats;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::task_handle;
using tandem::yield;
namespace this_task = tandem::this_task;

namespace {

/// Says what it does, in one string: "a" starts, "a." has ended.
struct diary {
  std::string text;
  task<int> work(char name, clock::duration d) {
    text += name;
    kit::at_exit ends([this, name] { (text += name) += '.'; });
    co_await sleep_for(d);
    co_return name;
  }
  /// The same in steps of 10 ms, with a checkpoint after each.
  task<> steps(char name, int n) {
    text += name;
    kit::at_exit ends([this, name] { (text += name) += '.'; });
    for (int i = 0; i != n; ++i) {
      co_await sleep_for(10ms);
      co_await this_task::checkpoint();
    }
  }
};

task<int> fails(const char* text) {
  co_await yield();
  throw std::runtime_error(text);
}
task<> stand_by() { co_await sleep_for(1h); }
task<int> my_priority() { co_return co_await this_task::priority; }

const priority_stats& of(const tandem::priority_scheduler_stats& s, int priority) {
  for (const auto& p : s.priorities)
    if (p.priority == priority) return p;
  throw std::logic_error("no such priority");
}

}  // namespace

// ---- order ---------------------------------------------------------------------------------------------------------

TEST_CASE("the example of the article runs in the order that its author expected") {
  auto main = []() -> task<> {
    priority_scheduler scheduler;
    std::string order;
    auto sleeps = [&](clock::duration d, const char* name) -> task<> {
      co_await sleep_for(d);
      order += name;
    };
    scheduler.submit({.priority = 3}, std::ref(sleeps), 1s, "Low ");
    scheduler.submit({.priority = 1}, std::ref(sleeps), 2s, "High ");
    scheduler.submit({.priority = 2}, std::ref(sleeps), 1500ms, "Medium ");
    co_await scheduler.drain();
    CHECK(order == "High Medium Low ");
    CHECK(clock::now() == at(4500ms));
  };
  simulate(main());
}

TEST_CASE("the smaller number comes first; among equals, who came first") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    for (const auto& [name, priority] : {std::pair('a', 2), {'b', -1}, {'c', 2}, {'d', -1}, {'e', 0}})
      scheduler.submit({.priority = priority}, d.work(name, 1s));
    co_await scheduler.drain();
    CHECK(d.text == "bb.dd.ee.aa.cc.");
  };
  simulate(main());
}

TEST_CASE("so many jobs as there are slots run at a time, and each gives its slot to the most urgent") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler{{.slots = 2}};
    scheduler.submit({.priority = 1}, d.work('a', 1s));
    scheduler.submit({.priority = 1}, d.work('b', 3s));
    scheduler.submit({.priority = 2}, d.work('c', 1s));
    co_await sleep_for(500ms);
    CHECK(d.text == "ab");
    scheduler.submit({.priority = 0}, d.work('d', 1s));
    CHECK(scheduler.stats().running == 2);
    CHECK(scheduler.stats().queued == 2);
    co_await scheduler.drain();
    CHECK(d.text == "aba.dd.cb.c.");
  };
  simulate(main());
}

TEST_CASE("who awaits a job goes on before its slot is filled, whatever else ends at that moment") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler{{.slots = 2}};
    scheduler.submit({.priority = 0}, sleep_for(1s));
    auto second = scheduler.submit({.priority = 0}, sleep_for(1s));
    auto dropped = scheduler.submit({.priority = 8}, d.work('y', 1s));
    scheduler.submit({.priority = 9}, d.work('x', 1s));
    scheduler.submit({.priority = 9}, d.work('v', 1s));
    auto cancels = [&]() -> task<> {
      co_await sleep_for(1s);
      dropped.cancel();
    };
    auto waits = [&]() -> task<> {
      co_await second;
      scheduler.submit({.priority = 1}, d.work('u', 1s));
    };
    co_await tandem::gather(cancels(), waits());
    co_await scheduler.drain();
    CHECK(d.text == "uxu.x.vv.");
  };
  simulate(main());
}

TEST_CASE("who awaits a job goes on before the slot is filled again") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    auto first = scheduler.submit(d.work('a', 1s));
    scheduler.submit({.priority = 5}, d.work('b', 1s));
    co_await first;
    scheduler.submit({.priority = 1}, d.work('c', 1s));
    co_await scheduler.drain();
    CHECK(d.text == "aa.cc.bb.");
  };
  simulate(main());
}

TEST_CASE("the ends of the range of priorities are in order, with ageing too") {
  for (const clock::duration ageing :
       {clock::duration(0), clock::duration(1), clock::duration(1h), clock::duration::max()}) {
    auto main = [](clock::duration a) -> task<> {
      diary d;
      priority_scheduler scheduler{{.ageing = a}};
      scheduler.submit({.priority = std::numeric_limits<int>::max()}, d.work('d', 1ns));
      scheduler.submit({.priority = 0}, d.work('c', 1ns));
      scheduler.submit({.priority = -1}, d.work('b', 1ns));
      scheduler.submit({.priority = std::numeric_limits<int>::min()}, d.work('a', 1ns));
      co_await scheduler.drain();
      CHECK(d.text == "aa.bb.cc.dd.");
    };
    simulate(main(ageing));
  }
}

TEST_CASE("a long line of jobs that end at once is no deep stack, and leaves turns to others") {
  auto main = []() -> task<> {
    priority_scheduler scheduler{{.slots = 2}};
    int ended = 0;
    auto quick = [&]() -> task<> {
      ++ended;
      co_return;
    };
    for (int i = 0; i != 50'000; ++i) scheduler.submit({.priority = i % 7}, std::ref(quick));
    CHECK(ended == 0);
    co_await yield();
    co_await yield();
    CHECK(ended <= 4);
    co_await scheduler.drain();
    CHECK(ended == 50'000);
    struct chain {
      priority_scheduler& scheduler;
      task<> link(int n) {
        if (n != 0) scheduler.submit(&chain::link, this, n - 1);
        co_return;
      }
    } c{scheduler};
    scheduler.submit(&chain::link, &c, 10'000);
    co_await scheduler.drain();
    CHECK(scheduler.stats().succeeded == 60'001);
  };
  simulate(main());
}

// ---- ageing --------------------------------------------------------------------------------------------------------

TEST_CASE("a job that has waited for n times the ageing counts as one whose number is smaller by n") {
  for (const clock::duration late : {299ms, 300ms, 301ms}) {
    auto main = [](clock::duration after) -> task<> {
      diary d;
      priority_scheduler scheduler{{.ageing = 100ms}};
      scheduler.submit({.priority = -100}, d.work('x', 1s));
      scheduler.submit({.priority = 4}, d.work('a', 1s));
      co_await sleep_for(after);
      scheduler.submit({.priority = 1}, d.work('b', 1s));
      co_await scheduler.drain();
      CHECK(d.text == (after < 300ms ? "xx.bb.aa." : "xx.aa.bb."));
    };
    simulate(main(late));
  }
}

TEST_CASE("without ageing a stream of urgent jobs starves the others; with it a job waits no longer than its bound") {
  for (const clock::duration ageing : {clock::duration(0), clock::duration(50ms)}) {
    auto main = [](clock::duration a) -> task<> {
      priority_scheduler scheduler{{.ageing = a}};
      auto urgent = []() -> task<> { co_await sleep_for(10ms); };
      std::optional<clock::time_point> started;
      auto patient = [&]() -> task<> {
        started = clock::now();
        co_return;
      };
      scheduler.submit({.priority = 0}, std::ref(urgent));
      scheduler.submit({.priority = 3}, std::ref(patient));
      for (int i = 0; i != 200; ++i) {  // there is always one more in line
        scheduler.submit({.priority = 0}, std::ref(urgent));
        co_await sleep_for(10ms);
      }
      if (a == 0ms) {
        CHECK(!started);
        CHECK(of(scheduler.stats(), 3).starved_by >= 199);
      } else {
        REQUIRE(started);
        // Whatever came 3 * 50 ms later or more is behind it; what came before takes a slot of 10 ms each, and so does
        // what runs.
        CHECK(*started - at(0s) >= 150ms);
        CHECK(*started - at(0s) <= 150ms + 2 * 10ms);
        CHECK(of(scheduler.stats(), 3).longest_wait == *started - at(0s));
      }
      scheduler.cancel();
    };
    simulate(main(ageing));
  }
}

// ---- deadlines -----------------------------------------------------------------------------------------------------

TEST_CASE("within a priority the earliest deadline comes first, then those without one") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    scheduler.submit({.priority = 1}, d.work('a', 1s));
    scheduler.submit({.priority = 1, .deadline = at(30s)}, d.work('b', 1s));
    scheduler.submit({.priority = 1, .deadline = at(20s)}, d.work('c', 1s));
    scheduler.submit({.priority = 1, .deadline = at(30s)}, d.work('d', 1s));
    scheduler.submit({.priority = 0}, d.work('e', 1s));
    scheduler.submit({.priority = 2, .deadline = at(10s)}, d.work('f', 1s));
    co_await scheduler.drain();
    CHECK(d.text == "ee.cc.bb.dd.aa.ff.");
  };
  simulate(main());
}

TEST_CASE("with ageing, deadlines pass by nobody who came the ageing before") {
  for (const clock::duration late : {99ms, 100ms}) {
    auto main = [](clock::duration after) -> task<> {
      diary d;
      priority_scheduler scheduler{{.ageing = 100ms}};
      scheduler.submit({.priority = -100}, d.work('x', 1s));
      scheduler.submit({.priority = 1}, d.work('a', 1s));
      co_await sleep_for(after);
      scheduler.submit({.priority = 1, .deadline = at(10s)}, d.work('b', 1s));
      co_await scheduler.drain();
      CHECK(d.text == (after < 100ms ? "xx.bb.aa." : "xx.aa.bb."));
    };
    simulate(main(late));
  }
}

TEST_CASE("a job that has not started by its deadline is refused at that moment, and never runs") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    scheduler.submit({.priority = -1}, d.work('a', 10s));
    auto h = scheduler.submit(
        {.deadline = at(3s)}, [&](int) { return d.work('b', 1s); }, 1);
    const std::string text = co_await thrown_by(h);
    CHECK(text.find("tandem::job_expired: the job's deadline passed before a slot was free") == 0);
    CHECK(clock::now() == at(3s));
    CHECK(scheduler.stats().expired == 1);
    CHECK(scheduler.stats().failed == 0);
    CHECK(scheduler.stats().queued == 0);
    try {
      co_await h;
      FAIL();
    } catch (const tandem::timed_out& e) {
      CHECK(e.code() == tandem::error_code(asio::error::timed_out));
    }
    co_await scheduler.drain();
    CHECK(d.text == "aa.");
  };
  simulate(main());
}

TEST_CASE("a slot at the very instant of the deadline is too late, whatever the order of events") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    scheduler.submit({.priority = -1}, d.work('a', 1s));
    auto in_time = scheduler.submit({.deadline = at(1s) + 1ns}, d.work('b', 1s));
    auto late = scheduler.submit({.deadline = at(1s)}, d.work('c', 1s));
    co_await scheduler.drain();
    CHECK(in_time.outcome().has_value());
    CHECK(!late.outcome().has_value());
    CHECK(d.text == "aa.bb.");
  };
  for (std::uint64_t seed = 0; seed != 50; ++seed) simulate(main(), {.seed = seed});
}

TEST_CASE("a job whose deadline has passed when it is submitted is refused there") {
  auto main = []() -> task<> {
    priority_scheduler scheduler;
    co_await sleep_for(1s);
    auto h = scheduler.submit({.deadline = at(1s)}, stand_by());
    CHECK(h.done());
    CHECK_THROWS_AS(h.outcome().value(), job_expired);
    CHECK(scheduler.stats().submitted == 1);
    CHECK(scheduler.stats().expired == 1);
  };
  simulate(main());
}

TEST_CASE("a deadline says nothing about a job that has started") {
  auto main = []() -> task<> {
    priority_scheduler scheduler;
    auto h = scheduler.submit({.deadline = at(1s)}, kit::after(1min, 7));
    const int value = co_await h;
    CHECK(value == 7);
  };
  simulate(main());
}

TEST_CASE("an expired job that nobody looks at is a failure of the next drain") {
  auto main = []() -> task<> {
    priority_scheduler scheduler;
    scheduler.submit({.priority = -1}, sleep_for(2s));
    scheduler.submit({.deadline = at(1s)}, stand_by());
    const std::string text = co_await thrown_by(scheduler.drain());
    CHECK(text.find("job_expired") != std::string::npos);
  };
  simulate(main());
}

namespace {

/// Does something when it is destroyed.
class at_end {
 public:
  explicit at_end(std::function<void()> f) : f_(std::move(f)) {}
  at_end(at_end&& o) noexcept : f_(std::exchange(o.f_, nullptr)) {}
  ~at_end() {
    if (f_) f_();
  }

 private:
  std::function<void()> f_;
};
task<> takes(at_end) { co_await stand_by(); }

}  // namespace

TEST_CASE("the argument of an expired job may cancel or destroy its scheduler, and look at its figures") {
  for (const char* what : {"cancel", "destroy"}) {
    auto main = [](std::string how) -> task<> {
      std::optional<priority_scheduler> scheduler(std::in_place);
      scheduler->submit({.priority = 0}, sleep_for(1s));
      std::optional<tandem::priority_scheduler_stats> seen;
      at_end ends([&] {
        seen = scheduler->stats();
        if (how == "cancel")
          scheduler->cancel();
        else
          scheduler.reset();
      });
      auto h = scheduler->submit({.priority = 1, .deadline = at(100ms)}, takes, std::move(ends));
      auto other = scheduler->submit({.priority = 1}, stand_by());
      const std::string text = co_await thrown_by(h);
      CHECK(text.find("job_expired") != std::string::npos);
      const std::string dropped = co_await thrown_by(other);
      CHECK(dropped.find("cancelled") != std::string::npos);
      REQUIRE(seen);
      CHECK(seen->failed == 0);
    };
    simulate(main(what));
  }
}

// ---- results, failures, ends ---------------------------------------------------------------------------------------

TEST_CASE("a handle gives its job's value or failure, and is a task_handle") {
  auto main = []() -> task<> {
    priority_scheduler scheduler{{.slots = 3}};
    auto a = scheduler.submit({.name = "a"}, kit::after(1s, std::string("text")));
    task_handle<int> b = scheduler.submit(fails, "went wrong");
    auto c = scheduler.submit([](std::unique_ptr<int> p) -> task<std::unique_ptr<int>> { co_return std::move(p); },
                              std::make_unique<int>(5));
    CHECK(a.name() == "a");
    const std::string& text = co_await a;
    CHECK(text == "text");
    const std::string what = co_await thrown_by(b);
    CHECK(what == "went wrong");
    auto five = co_await std::move(c);
    CHECK(*five == 5);
    std::vector<priority_handle<std::string>> handles(1, a);
    auto waited = co_await tandem::wait(handles);
    CHECK(waited.done.size() == 1);
    co_await scheduler.drain();
    const auto s = scheduler.stats();
    CHECK(s.succeeded == 2);
    CHECK(s.failed == 1);
  };
  simulate(main());
}

TEST_CASE("failures that nobody has looked at are thrown by drain, once") {
  auto main = []() -> task<> {
    priority_scheduler scheduler;
    scheduler.submit(fails, "one");
    scheduler.submit(fails, "two");
    try {
      co_await scheduler.drain();
      FAIL();
    } catch (const tandem::exception_group& e) {
      CHECK(e.exceptions().size() == 2);
    }
    co_await scheduler.drain();
  };
  simulate(main());
}

TEST_CASE("a failure that nobody saw when the scheduler is destroyed is how the tree ends") {
  auto main = []() -> task<> {
    priority_scheduler scheduler;
    scheduler.submit(fails, "went wrong");
    co_await sleep_for(1s);
  };
  CHECK_THROWS_WITH(simulate(main()), "went wrong");
}

TEST_CASE("a job that is cancelled in line never runs, and gives cancelled; one that runs is stopped") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    auto a = scheduler.submit(d.work('a', 1h));
    auto b = scheduler.submit(d.work('b', 1h));
    auto c = scheduler.submit(d.work('c', 1s));
    co_await sleep_for(1s);
    b.cancel();
    CHECK(scheduler.stats().queued == 1);
    CHECK(scheduler.stats().cancelled == 1);
    CHECK(!b.done());
    co_await yield();
    CHECK(b.done());
    a.cancel();
    co_await c;
    CHECK(d.text == "aa.cc.");
    CHECK_THROWS_AS(a.outcome().value(), tandem::cancelled);
    CHECK_THROWS_AS(b.outcome().value(), tandem::cancelled);
    CHECK(scheduler.stats().cancelled == 2);
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("function and arguments are gone before anyone goes on with the job's result") {
  auto main = []() -> task<> {
    priority_scheduler scheduler;
    const int before = kit::counted::live();
    auto takes = [](kit::counted) -> task<> { co_await yield(); };
    auto h = scheduler.submit(takes, kit::counted());
    CHECK(kit::counted::live() == before + 1);
    co_await h;
    CHECK(kit::counted::live() == before);
    auto dropped = scheduler.submit(takes, kit::counted());
    dropped.cancel();
    co_await scheduler.drain();
    CHECK(kit::counted::live() == before);
  };
  simulate(main());
}

TEST_CASE("drain waits for what is submitted meanwhile, and the scheduler goes on afterwards") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    auto adds = [&]() -> task<> {
      co_await sleep_for(1s);
      scheduler.submit(d.work('b', 1s));
    };
    scheduler.submit(std::ref(adds));
    co_await scheduler.drain();
    CHECK(clock::now() == at(2s));
    scheduler.submit(d.work('c', 1s));
    co_await scheduler.drain();
    CHECK(d.text == "bb.cc.");
  };
  simulate(main());
}

TEST_CASE("after close nothing is accepted, and what was accepted goes on") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    scheduler.submit(d.work('a', 1s));
    scheduler.submit(d.work('b', 1s));
    scheduler.close();
    CHECK_THROWS_AS(scheduler.submit(d.work('c', 1s)), tandem::priority_scheduler_closed);
    co_await scheduler.drain();
    CHECK(d.text == "aa.bb.");
  };
  simulate(main());
}

TEST_CASE("cancel drops the jobs in line and stops those that run") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    auto a = scheduler.submit(d.work('a', 1h));
    auto b = scheduler.submit(d.work('b', 1h));
    co_await sleep_for(1s);
    scheduler.cancel();
    co_await scheduler.drain();
    CHECK(clock::now() == at(1s));
    CHECK(d.text == "aa.");
    CHECK(scheduler.stats().cancelled == 2);
    CHECK_THROWS_AS(b.outcome().value(), tandem::cancelled);
  };
  simulate(main());
}

TEST_CASE("destroying the scheduler stops its jobs without waiting, and the tree ends after them") {
  bool cleaned = false;
  auto main = [&]() -> task<> {
    priority_scheduler scheduler;
    auto cleans = [&]() -> task<> {
      co_await sleep_for(1s);
      cleaned = true;
    };
    auto works = [&]() -> task<> { co_await tandem::finally(stand_by(), std::ref(cleans)); };
    scheduler.submit(works);
    scheduler.submit(stand_by());
    co_await sleep_for(1s);
  };
  auto outer = [&]() -> task<> {
    const auto executor = co_await this_task::executor;
    co_await tandem::on(executor, main());
    CHECK(clock::now() == at(2s));
  };
  simulate(outer());
  CHECK(cleaned);
}

TEST_CASE("a stop of a tree stops the jobs that were submitted in it, and no others") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler{{.slots = 2}};
    const auto executor = co_await this_task::executor;
    asio::cancellation_signal stop;
    auto submits = [&]() -> task<> {
      scheduler.submit(d.work('a', 1h));
      scheduler.submit(d.work('b', 1h));
      scheduler.submit(d.work('c', 1h));
      co_await stand_by();
    };
    tandem::spawn(executor, submits(), asio::bind_cancellation_slot(stop.slot(), asio::detached));
    co_await sleep_for(1s);
    scheduler.submit(d.work('d', 1s));
    stop.emit(asio::cancellation_type::terminal);
    co_await scheduler.drain();
    CHECK(d.text == "aba.b.dd.");
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("in a tree that is being stopped a job never runs, and its outcome is cancelled") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    const auto executor = co_await this_task::executor;
    asio::cancellation_signal stop;
    bool was_cancelled = false;
    auto submits = [&]() -> task<> {
      stop.emit(asio::cancellation_type::terminal);
      auto h = scheduler.submit({.deadline = at(0s)}, d.work('a', 1s));
      was_cancelled = h.done() && !h.outcome().has_value();
      co_return;
    };
    tandem::spawn(executor, submits(), asio::bind_cancellation_slot(stop.slot(), asio::detached));
    co_await sleep_for(1s);
    CHECK(was_cancelled);
    CHECK(d.text.empty());
    CHECK(scheduler.stats().cancelled == 1);
  };
  simulate(main());
}

TEST_CASE("jobs that were submitted under a shield are not stopped with the tree, however early") {
  for (const bool waits_first : {false, true}) {
    asio::io_context context(1);
    diary d;
    priority_scheduler scheduler;
    asio::cancellation_signal stop;
    auto cleans = [&]() -> task<> {
      if (waits_first) co_await yield();
      auto h = scheduler.submit(d.work('a', 1ms));
      co_await h;
    };
    auto main = [&]() -> task<> { co_await tandem::shield(cleans()); };
    tandem::spawn(context, main(), asio::bind_cancellation_slot(stop.slot(), asio::detached));
    context.poll();
    stop.emit(asio::cancellation_type::terminal);
    context.run();
    CHECK(d.text == "aa.");
    CHECK(scheduler.stats().succeeded == 1);
  }
}

TEST_CASE("what the clean-up of a generator submits is not stopped with the tree, from its first line on") {
  auto main = []() -> task<> {
    priority_scheduler scheduler;
    const auto executor = co_await this_task::executor;
    asio::cancellation_signal stop;
    auto cleans = [&]() -> task<> {
      scheduler.submit(yield());
      co_return;
    };
    auto numbers = [&]() -> tandem::generator<int> {
      co_await tandem::on_exit(std::ref(cleans));
      co_await stand_by();
      co_yield 1;
    };
    auto consumes = [&]() -> task<> {
      auto g = numbers();
      co_await g.next();
    };
    tandem::spawn(executor, consumes(), asio::bind_cancellation_slot(stop.slot(), asio::detached));
    co_await sleep_for(1s);
    stop.emit(asio::cancellation_type::terminal);
    co_await sleep_for(1s);
    CHECK(scheduler.stats().submitted == 1);
    CHECK(scheduler.stats().succeeded == 1);
  };
  simulate(main());
}

TEST_CASE("a scheduler may go before its context, and after it") {
  const long frames = kit::live_frames();
  for (const bool scheduler_first : {true, false}) {
    diary d;
    auto context = std::make_unique<asio::io_context>(1);
    auto scheduler = std::make_unique<priority_scheduler>();
    auto submits = [&]() -> task<> {
      for (char name : {'a', 'b', 'c'}) scheduler->submit({.deadline = clock::now() + 1h}, d.work(name, 1h));
      co_return;
    };
    auto drains = [&]() -> task<> { co_await scheduler->drain(); };
    tandem::spawn(*context, submits(), asio::detached);
    tandem::spawn(*context, drains(), asio::detached);
    context->poll();
    CHECK(d.text == "a");
    if (scheduler_first) scheduler.reset();
    context.reset();
    scheduler.reset();
    CHECK(d.text == "aa.");
  }
  CHECK(kit::live_frames() == frames);
}

TEST_CASE("a scheduler outlives its trees, and serves the next loop") {
  priority_scheduler scheduler;
  for (int i = 0; i != 3; ++i) {
    diary d;
    auto main = [&]() -> task<> {
      scheduler.submit({.priority = i}, d.work('a', 1s));
      co_await scheduler.drain();
    };
    simulate(main());
    CHECK(d.text == "aa.");
    scheduler.pause();
    scheduler.resume();
    scheduler.resize(1);
  }
  scheduler.cancel();
  CHECK(scheduler.stats().succeeded == 3);
}

// ---- pause, resume, resize -----------------------------------------------------------------------------------------

TEST_CASE("while it is paused nothing starts, and what runs goes on") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    scheduler.submit(d.work('a', 1s));
    scheduler.submit({.priority = 2}, d.work('b', 1s));
    co_await yield();
    scheduler.pause();
    CHECK(scheduler.is_paused());
    co_await sleep_for(5s);
    CHECK(d.text == "aa.");
    scheduler.submit({.priority = 1}, d.work('c', 1s));
    scheduler.resume();
    CHECK(d.text == "aa.");
    co_await scheduler.drain();
    CHECK(d.text == "aa.cc.bb.");
    CHECK(clock::now() == at(7s));
  };
  simulate(main());
}

TEST_CASE("a job can be paused before it starts in the turn that would start it") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    scheduler.submit(d.work('a', 1s));
    scheduler.pause();
    co_await sleep_for(1s);
    CHECK(d.text.empty());
    scheduler.resume();
    co_await scheduler.drain();
    CHECK(d.text == "aa.");
  };
  simulate(main());
}

TEST_CASE("a drain of a scheduler that is paused waits, and if nobody resumes it the report says so") {
  auto main = []() -> task<> {
    priority_scheduler scheduler;
    scheduler.pause();
    scheduler.submit(stand_by());
    co_await scheduler.drain();
  };
  std::string report;
  try {
    simulate(main());
  } catch (const tandem::deadlock& e) {
    report = e.what();
  }
  CHECK(report.find("priority_scheduler::drain") != std::string::npos);
}

TEST_CASE("more slots are filled in the next turn; fewer let those that run go on") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    for (char name : {'a', 'b', 'c', 'd', 'e'}) scheduler.submit(d.work(name, 1s));
    co_await yield();
    co_await yield();
    CHECK(d.text == "a");
    scheduler.resize(3);
    co_await sleep_for(500ms);
    CHECK(d.text == "abc");
    scheduler.resize(1);
    co_await sleep_for(600ms);
    CHECK(d.text == "abca.b.c.d");
    CHECK(scheduler.stats().slots == 1);
    co_await scheduler.drain();
    CHECK(d.text == "abca.b.c.dd.ee.");
  };
  simulate(main());
}

// ---- priorities that change, and travel ----------------------------------------------------------------------------

TEST_CASE("a job in line that is reprioritized changes its place, and keeps the time that it has waited") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    scheduler.submit(d.work('x', 1s));
    auto a = scheduler.submit({.priority = 5}, d.work('a', 1s));
    scheduler.submit({.priority = 3}, d.work('b', 1s));
    auto c = scheduler.submit({.priority = 3}, d.work('c', 1s));
    CHECK(a.priority() == 5);
    a.reprioritize(3);
    CHECK(a.priority() == 3);
    c.reprioritize(7);
    co_await scheduler.drain();
    CHECK(d.text == "xx.aa.bb.cc.");
    a.reprioritize(1);
    CHECK(of(scheduler.stats(), 5).queued == 0);
    CHECK(of(scheduler.stats(), 3).started == 2);
    CHECK(of(scheduler.stats(), 7).longest_wait == 3s);
  };
  simulate(main());
}

TEST_CASE("a job can read its priority, and what it submits inherits it") {
  auto main = []() -> task<> {
    priority_scheduler scheduler;
    int outside = co_await this_task::priority;
    CHECK(outside == 0);
    auto plain = scheduler.submit(my_priority());
    CHECK(plain.priority() == 0);
    priority_handle<int> inherited, own;
    auto submits = [&]() -> task<int> {
      inherited = scheduler.submit(my_priority());
      own = scheduler.submit({.priority = 9}, my_priority());
      co_await yield();
      co_return co_await this_task::priority;
    };
    auto h = scheduler.submit({.priority = 4}, std::ref(submits));
    co_await scheduler.drain();
    CHECK(h.outcome().value() == 4);
    CHECK(inherited.outcome().value() == 4);
    CHECK(own.outcome().value() == 9);
    CHECK(plain.outcome().value() == 0);
  };
  simulate(main());
}

TEST_CASE("the priority reaches whatever a job waits for within itself") {
  auto main = []() -> task<> {
    priority_scheduler scheduler;
    std::vector<int> seen;
    auto looks = [&]() -> task<> {
      int before = co_await this_task::priority;
      co_await yield();
      int after = co_await this_task::priority;
      seen.push_back(before == after ? after : -1);
    };
    auto everything = [&]() -> task<> {
      co_await looks();
      co_await tandem::gather(looks(), looks());
      co_await tandem::timeout(1s, looks());
      co_await tandem::shield(looks());
      co_await tandem::finally(looks(), std::ref(looks));
      co_await tandem::race(looks(), stand_by());
      co_await tandem::with_task_group([&](tandem::task_group& group) -> task<> {
        group.spawn(looks());
        co_return;
      });
    };
    scheduler.submit({.priority = 6}, std::ref(everything));
    co_await scheduler.drain();
    CHECK(seen == std::vector<int>(9, 6));
  };
  simulate(main());
}

TEST_CASE("a child of an outer group that a job spawns is not part of the job, from its first line on") {
  auto main = []() -> task<> {
    priority_scheduler scheduler;
    std::vector<int> seen;
    auto child = [&]() -> task<> {
      seen.push_back(scheduler.submit(yield()).priority());
      co_await yield();
      seen.push_back(scheduler.submit(yield()).priority());
    };
    co_await tandem::with_task_group([&](tandem::task_group& group) -> task<> {
      auto job = [&]() -> task<> {
        group.spawn(child());
        co_return;
      };
      auto h = scheduler.submit({.priority = -5}, std::ref(job));
      co_await h;
    });
    co_await scheduler.drain();
    CHECK(seen == std::vector<int>(2, 0));
  };
  simulate(main());
}

TEST_CASE("tasks of an as_completed, which may outlive the job that starts them, are not part of it") {
  auto main = []() -> task<> {
    priority_scheduler scheduler{{.slots = 3}};
    std::vector<int> seen;
    auto submits = [&]() -> task<> {
      seen.push_back(co_await this_task::priority);
      seen.push_back(scheduler.submit(yield()).priority());
      co_await yield();
      seen.push_back(scheduler.submit(yield()).priority());
    };
    auto job = [&]() -> task<> {
      std::vector<task<>> tasks;
      tasks.push_back(submits());
      auto all = tandem::as_completed(std::move(tasks));
      while (co_await all.next()) {
      }
    };
    scheduler.submit({.priority = 5}, std::ref(job));
    co_await scheduler.drain();
    CHECK(seen == std::vector<int>(3, 0));
  };
  simulate(main());
}

TEST_CASE("what a job submits in a callback of its own tree, not in its coroutines, does not inherit") {
  auto main = []() -> task<> {
    priority_scheduler scheduler{{.slots = 2}};
    priority_handle<int> h;
    auto job = [&]() -> task<> {
      const auto executor = co_await this_task::executor;
      auto other = [&]() -> task<> {
        h = scheduler.submit(my_priority());
        co_return;
      };
      co_await tandem::on(executor, other());
    };
    scheduler.submit({.priority = 6}, std::ref(job));
    co_await scheduler.drain();
    CHECK(h.outcome().value() == 0);
  };
  simulate(main());
}

TEST_CASE("a job that waits for another lends it its priority, as long as it waits") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler{{.slots = 2}};
    auto blocker = scheduler.submit({.priority = 0}, d.work('x', 1s));
    scheduler.submit({.priority = 4}, d.work('m', 1s));
    auto low = scheduler.submit({.priority = 9}, d.work('l', 1s));
    auto waits = [&]() -> task<> { co_await low; };
    scheduler.submit({.priority = 1}, std::ref(waits));
    co_await yield();
    co_await yield();
    CHECK(low.priority() == 1);
    co_await scheduler.drain();
    CHECK(d.text == "xx.ll.mm.");
    CHECK(blocker.priority() == 0);
    CHECK(low.priority() == 9);
  };
  simulate(main());
}

TEST_CASE("when the waiting ends, by a time limit or a stop, so does the loan") {
  auto main = []() -> task<> {
    priority_scheduler scheduler{{.slots = 3}};
    scheduler.submit({.priority = 0}, stand_by());
    auto impatient = [](priority_handle<> h) -> task<> { co_await tandem::try_timeout(1s, h); };
    auto patient = [](priority_handle<> h) -> task<> { co_await h; };
    auto a = scheduler.submit({.priority = 9}, stand_by());
    scheduler.submit({.priority = 2}, impatient, a);
    auto b = scheduler.submit({.priority = 3}, patient, a);
    co_await sleep_for(500ms);
    CHECK(a.priority() == 2);
    co_await sleep_for(600ms);
    CHECK(a.priority() == 3);
    b.cancel();
    co_await yield();
    co_await yield();
    CHECK(a.priority() == 9);
    scheduler.cancel();
  };
  simulate(main());
}

TEST_CASE("a loan goes through wait, race and gather too") {
  auto main = []() -> task<> {
    priority_scheduler scheduler;
    scheduler.pause();
    auto a = scheduler.submit({.priority = 9}, yield());
    auto b = scheduler.submit({.priority = 8}, yield());
    priority_scheduler others{{.slots = 3}};
    auto waits = [&]() -> task<> {
      std::vector<task_handle<>> both;
      both.push_back(a);
      both.push_back(b);
      co_await tandem::wait(both, tandem::all_completed, 1s);
    };
    auto races = [&]() -> task<> { co_await tandem::race(a, b, sleep_for(2s)); };
    auto gathers = [&]() -> task<> { co_await tandem::try_timeout(3s, tandem::gather(a, b)); };
    others.submit({.priority = 1}, std::ref(waits));
    others.submit({.priority = 2}, std::ref(races));
    others.submit({.priority = 3}, std::ref(gathers));
    for (int i = 0; i != 3; ++i) {
      co_await sleep_for(500ms);
      CHECK(a.priority() == i + 1);
      CHECK(b.priority() == i + 1);
      co_await sleep_for(500ms);
      co_await yield();
    }
    co_await sleep_for(500ms);
    CHECK(a.priority() == 9);
    CHECK(b.priority() == 8);
    scheduler.resume();
    co_await scheduler.drain();
    co_await others.drain();
  };
  simulate(main());
}

TEST_CASE("loans are passed on along a chain of waiters, and taken back along it") {
  auto main = []() -> task<> {
    constexpr int n = 2'000;
    priority_scheduler scheduler{{.slots = n + 2}};
    std::vector<priority_handle<>> chain;
    chain.push_back(scheduler.submit({.priority = 100}, stand_by()));
    auto follows = [](priority_handle<> h) -> task<> { co_await h; };
    for (int i = 0; i != n; ++i) chain.push_back(scheduler.submit({.priority = 100}, follows, chain.back()));
    co_await sleep_for(1ms);
    auto urgent = scheduler.submit({.priority = 1}, follows, chain.back());
    co_await sleep_for(1ms);
    CHECK(std::all_of(chain.begin(), chain.end(), [](const auto& h) { return h.priority() == 1; }));
    urgent.reprioritize(7);
    CHECK(chain.front().priority() == 7);
    urgent.cancel();
    co_await sleep_for(1ms);
    CHECK(std::all_of(chain.begin(), chain.end(), [](const auto& h) { return h.priority() == 100; }));
    scheduler.cancel();
  };
  simulate(main());
}

TEST_CASE("who waits for a child of a job lends to the job") {
  auto main = []() -> task<> {
    priority_scheduler scheduler{{.slots = 2}};
    task_handle<> child;
    auto parent = [&]() -> task<> {
      co_await tandem::with_task_group([&](tandem::task_group& group) -> task<> {
        child = group.spawn(sleep_for(1s));
        co_return;
      });
    };
    auto h = scheduler.submit({.priority = 5}, std::ref(parent));
    auto waits = [&]() -> task<> { co_await child; };
    co_await yield();
    scheduler.submit({.priority = 2}, std::ref(waits));
    co_await sleep_for(500ms);
    CHECK(h.priority() == 2);
    co_await scheduler.drain();
    child = {};
  };
  simulate(main());
}

TEST_CASE("jobs that wait for each other in a circle keep no loan of a third when that has ended") {
  auto main = []() -> task<> {
    priority_scheduler scheduler{{.slots = 3}};
    priority_handle<> a, b;
    task_handle<> child;
    auto first = [&]() -> task<> {  // whose child works on while it waits
      co_await tandem::with_task_group([&](tandem::task_group& group) -> task<> {
        child = group.spawn(sleep_for(1h));
        co_await yield();
        co_await b;
      });
    };
    auto second = [&]() -> task<> {
      co_await sleep_for(1ms);
      co_await child;
    };
    auto third = [&]() -> task<> { co_await tandem::try_timeout(1s, a); };
    a = scheduler.submit({.priority = 5}, std::ref(first));
    b = scheduler.submit({.priority = 6}, std::ref(second));
    co_await sleep_for(10ms);
    CHECK(a.priority() == 5);
    CHECK(b.priority() == 5);
    scheduler.submit({.priority = 1}, std::ref(third));
    co_await sleep_for(10ms);
    CHECK(a.priority() == 1);
    CHECK(b.priority() == 1);
    co_await sleep_for(2s);
    CHECK(a.priority() == 5);
    CHECK(b.priority() == 5);
    a.reprioritize(8);
    CHECK(a.priority() == 6);
    CHECK(b.priority() == 6);
    b.reprioritize(9);
    CHECK(a.priority() == 8);
    CHECK(b.priority() == 8);
    co_await scheduler.drain();
    child = {};
  };
  simulate(main());
}

TEST_CASE("a loan ends with the waiting, wherever the awaitable lives on, and with the job that lends") {
  auto main = []() -> task<> {
    priority_scheduler scheduler{{.slots = 3}};
    scheduler.submit({.priority = 0}, stand_by());
    auto low = scheduler.submit({.priority = 9}, stand_by());
    auto r = tandem::race(low, sleep_for(1h));
    auto waits = [](decltype(r)* w) -> task<> { (void)co_await *w; };
    {
      auto h = scheduler.submit({.priority = 1}, waits, &r);
      co_await sleep_for(1s);
      CHECK(low.priority() == 1);
      h.cancel();
      co_await sleep_for(1s);
    }
    CHECK(low.priority() == 9);
    low.reprioritize(20);
    CHECK(low.priority() == 20);
    auto loses = [&]() -> task<> {
      auto arm = tandem::race(low, sleep_for(1s));
      (void)co_await arm;
      co_await sleep_for(1s);
    };
    scheduler.submit({.priority = 2}, std::ref(loses));
    co_await sleep_for(500ms);
    CHECK(low.priority() == 2);
    co_await sleep_for(1s);
    CHECK(low.priority() == 20);
    scheduler.cancel();
  };
  simulate(main());
}

TEST_CASE("thousands may wait for one job, and leave it again") {
  auto main = []() -> task<> {
    constexpr int n = 20'000;
    priority_scheduler scheduler{{.slots = n + 1}};
    auto shared = scheduler.submit({.priority = 100}, stand_by());
    auto waits = [](priority_handle<> h) -> task<> { co_await tandem::try_timeout(1s, h); };
    for (int i = 0; i != n; ++i) scheduler.submit({.priority = 50 + i % 5}, waits, shared);
    co_await sleep_for(500ms);
    CHECK(shared.priority() == 50);
    co_await sleep_for(1s);
    CHECK(shared.priority() == 100);
    scheduler.cancel();
  };
  simulate(main());
}

TEST_CASE("jobs that wait for each other in a circle keep no loan of others, nor loop for ever") {
  auto main = []() -> task<> {
    priority_scheduler scheduler{{.slots = 3}};
    priority_handle<> a, b;
    auto waits = [](priority_handle<>* h) -> task<> {
      co_await yield();
      co_await *h;
    };
    a = scheduler.submit({.priority = 5}, waits, &b);
    b = scheduler.submit({.priority = 6}, waits, &a);
    co_await sleep_for(1ms);
    CHECK(a.priority() == 5);
    CHECK(b.priority() == 5);
    a.cancel();
    co_await scheduler.drain();
    CHECK(scheduler.stats().cancelled == 1);
  };
  CHECK_THROWS_AS(simulate(main()), tandem::cancelled);  // b's wait for a failed, and nobody looked
}

// ---- checkpoints ---------------------------------------------------------------------------------------------------

TEST_CASE("at a checkpoint a job leaves its slot to a more urgent one, and goes on after it") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    auto a = scheduler.submit({.priority = 5}, d.steps('a', 4));
    co_await sleep_for(15ms);
    scheduler.submit({.priority = 1}, d.work('b', 1s));
    co_await sleep_for(4ms);
    CHECK(d.text == "a");
    co_await sleep_for(2ms);
    CHECK(d.text == "ab");
    auto s = scheduler.stats();
    CHECK(s.running == 1);
    CHECK(s.queued == 1);
    CHECK(s.gave_way == 1);
    CHECK(of(s, 5).queued == 1);
    co_await a;
    CHECK(d.text == "abb.a.");
    CHECK(clock::now() == at(1040ms));
    CHECK(of(scheduler.stats(), 5).started == 1);
  };
  simulate(main());
}

TEST_CASE("nobody gives way to an equal or a less urgent job, nor while there is a slot or a pause") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler{{.ageing = 1ms}};
    auto a = scheduler.submit({.priority = 5}, d.steps('a', 4));
    scheduler.submit({.priority = 5}, d.work('b', 1s));
    scheduler.submit({.priority = 6}, d.work('c', 1s));
    co_await sleep_for(15ms);
    scheduler.pause();
    scheduler.submit({.priority = 1}, d.work('d', 1s));
    co_await a;
    CHECK(clock::now() == at(40ms));
    CHECK(scheduler.stats().gave_way == 0);
    scheduler.cancel();
  };
  simulate(main());
}

TEST_CASE("a job that has waited long gives way only to one that would start before it") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler{{.ageing = 100ms}};
    scheduler.submit({.priority = 0}, d.work('x', 300ms));
    auto a = scheduler.submit({.priority = 4}, d.steps('a', 60));  // starts as one of priority 1
    co_await sleep_for(305ms);
    scheduler.submit({.priority = 2}, d.work('b', 10ms));  // 100 ms later it would have been before a
    auto c = scheduler.submit({.priority = 0}, d.work('c', 10ms));
    co_await c;
    CHECK(clock::now() == at(320ms));
    CHECK(d.text == "xx.acc.");
    co_await a;
    CHECK(d.text == "xx.acc.bb.a.");
    CHECK(scheduler.stats().gave_way == 2);
  };
  simulate(main());
}

TEST_CASE("an aged job first in line does not hide an urgent one behind it") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler{{.ageing = 10ms}};
    scheduler.submit({.priority = 3}, d.steps('a', 40));
    scheduler.submit({.priority = 9}, d.work('x', 10ms));
    co_await sleep_for(205ms);
    CHECK(scheduler.stats().gave_way == 0);  // to x, which counts as -11 by now
    scheduler.submit({.priority = 1}, d.work('b', 10ms));
    co_await scheduler.drain();
    CHECK(d.text == "axx.bb.a.");
    CHECK(scheduler.stats().gave_way == 1);
  };
  simulate(main());
}

TEST_CASE("a job that gave way goes on before its equals, whatever their deadlines") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    scheduler.submit({.priority = 3, .deadline = at(1ms)}, d.steps('a', 3));
    co_await sleep_for(5ms);
    scheduler.submit({.priority = 3}, d.work('b', 10ms));
    scheduler.submit({.priority = 3, .deadline = at(10s)}, d.work('c', 10ms));
    scheduler.submit({.priority = 1}, d.work('d', 1s));
    co_await scheduler.drain();
    CHECK(d.text == "add.a.cc.bb.");
  };
  simulate(main());
}

TEST_CASE("outside a scheduler, and where nobody waits, a checkpoint is a yield") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    co_await this_task::checkpoint();
    scheduler.submit({.priority = 5}, d.steps('a', 3));
    co_await scheduler.drain();
    CHECK(clock::now() == at(30ms));
    CHECK(scheduler.stats().gave_way == 0);
  };
  simulate(main());
}

TEST_CASE("only the coroutine at the checkpoint waits; the others of its job come to theirs") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    std::string text;
    auto branch = [&](char name, clock::duration step) -> task<> {
      for (int i = 0; i != 2; ++i) {
        co_await sleep_for(step);
        text += name;
        co_await this_task::checkpoint();
      }
      (text += name) += '.';
    };
    auto job = [&]() -> task<> { co_await tandem::gather(branch('a', 10ms), branch('b', 25ms)); };
    auto h = scheduler.submit({.priority = 5}, std::ref(job));
    co_await sleep_for(5ms);
    auto urgent = scheduler.submit({.priority = 1}, sleep_for(100ms));
    co_await urgent;
    CHECK(text == "ab");
    CHECK(clock::now() == at(110ms));
    co_await h;
    CHECK(text == "abaa.bb.");
    CHECK(scheduler.stats().gave_way == 1);
  };
  simulate(main());
}

TEST_CASE("a job whose waiting checkpoint runs into a time limit has its slot again, one more than there are") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    auto job = [&]() -> task<> {
      co_await tandem::try_timeout(50ms, d.steps('a', 100));
      co_await d.work('z', 100ms);
    };
    auto h = scheduler.submit({.priority = 5}, std::ref(job));
    co_await sleep_for(5ms);
    scheduler.submit({.priority = 1}, d.work('b', 1s));
    scheduler.submit({.priority = 1}, d.work('c', 1s));
    co_await sleep_for(60ms);
    CHECK(d.text == "aba.z");
    CHECK(scheduler.stats().running == 2);
    CHECK(scheduler.stats().queued == 1);
    co_await h;
    CHECK(scheduler.stats().running == 1);
    CHECK(d.text == "aba.zz.");
    co_await scheduler.drain();
    CHECK(clock::now() == at(2010ms));
  };
  simulate(main());
}

TEST_CASE("a job that is cancelled while it has given way cleans up and ends") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler;
    auto a = scheduler.submit({.priority = 5}, d.steps('a', 100));
    co_await sleep_for(5ms);
    scheduler.submit({.priority = 1}, d.work('b', 1s));
    co_await sleep_for(50ms);
    a.cancel();
    co_await yield();
    CHECK(a.done());
    CHECK(d.text == "aba.");
    CHECK(scheduler.stats().running == 1);
    CHECK(scheduler.stats().queued == 0);
    co_await scheduler.drain();
  };
  simulate(main());
}

TEST_CASE("cancel and the destructor end a pause, so that what has given way can clean up") {
  for (const bool destroys : {false, true}) {
    auto main = [](bool d) -> task<> {
      std::optional<priority_scheduler> scheduler(std::in_place);
      auto inner = []() -> task<> {
        co_await sleep_for(10ms);
        co_await this_task::checkpoint();
      };
      auto low = [&]() -> task<> { co_await tandem::shield(inner()); };
      auto h = scheduler->submit({.priority = 5}, low);
      co_await sleep_for(5ms);
      scheduler->submit({.priority = 1}, stand_by());
      co_await sleep_for(10ms);
      CHECK(scheduler->stats().gave_way == 1);
      scheduler->pause();
      if (d)
        scheduler.reset();
      else
        scheduler->cancel();
      co_await h;
      CHECK(clock::now() == at(15ms));
    };
    simulate(main(destroys));
  }
}

TEST_CASE("a job that starts and takes back a slot by cancelling another leaves no more running than there are slots") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler{{.slots = 2}};
    auto cleans = [&]() -> task<> { co_await d.work('z', 50ms); };
    auto gives_way = [&]() -> task<> {
      auto steps = [&]() -> task<> {
        for (;;) {
          co_await sleep_for(10ms);
          co_await this_task::checkpoint();
        }
      };
      co_await tandem::finally(steps(), std::ref(cleans));
    };
    auto a = scheduler.submit({.priority = 5}, std::ref(gives_way));
    auto b = scheduler.submit({.priority = 0}, sleep_for(35ms));
    co_await sleep_for(5ms);
    auto c = scheduler.submit({.priority = 1}, sleep_for(25ms));
    auto cancels = [&]() -> task<> {
      a.cancel();
      co_await sleep_for(20ms);
    };
    scheduler.submit({.priority = 1}, std::ref(cancels));
    scheduler.submit({.priority = 1}, d.work('x', 1ms));
    std::size_t most = 0;
    while (scheduler.stats().running + scheduler.stats().queued != 0) {
      most = std::max(most, scheduler.stats().running);
      co_await sleep_for(1ms);
    }
    CHECK(most == 2);
  };
  simulate(main());
}

TEST_CASE("one that gave way is raised by whoever waits for it") {
  auto main = []() -> task<> {
    diary d;
    priority_scheduler scheduler{{.slots = 2}};
    auto a = scheduler.submit({.priority = 5}, d.steps('a', 2));
    scheduler.submit({.priority = 0}, d.work('x', 10s));
    co_await sleep_for(5ms);
    scheduler.submit({.priority = 2}, d.work('b', 1s));
    scheduler.submit({.priority = 2}, d.work('c', 1s));
    co_await sleep_for(10ms);
    CHECK(d.text == "xab");
    a.reprioritize(1);
    co_await a;
    CHECK(d.text == "xabb.a.");
    scheduler.cancel();
  };
  simulate(main());
}

// ---- bad input; figures --------------------------------------------------------------------------------------------

TEST_CASE("no slots and a negative ageing are refused") {
  CHECK_THROWS_WITH(priority_scheduler({.slots = 0}),
                    "tandem::priority_scheduler: 0 slots; there must be at least 1, and pause() holds all");
  CHECK_THROWS_WITH(priority_scheduler({.ageing = -1s}),
                    "tandem::priority_scheduler: ageing is -1000000000 ns; it must not be negative");
  priority_scheduler scheduler;
  CHECK_THROWS_AS(scheduler.resize(0), std::invalid_argument);
}

TEST_CASE("submit outside a coroutine is refused") {
  priority_scheduler scheduler;
  CHECK_THROWS_WITH(scheduler.submit(stand_by()),
                    "tandem::priority_scheduler::submit: called from outside a coroutine");
}

TEST_CASE("a scheduler that is closed while an argument is copied refuses the job") {
  auto main = []() -> task<> {
    struct closes {
      explicit closes(priority_scheduler& s) : scheduler(s) {}
      closes(const closes& o) : scheduler(o.scheduler) { scheduler.close(); }
      priority_scheduler& scheduler;
    };
    priority_scheduler scheduler;
    auto job = [](const closes&) -> task<> { co_return; };
    const closes argument(scheduler);
    CHECK_THROWS_AS(scheduler.submit(job, argument), tandem::priority_scheduler_closed);
    co_await scheduler.drain();
    CHECK(scheduler.stats().submitted == 0);
  };
  simulate(main());
}

TEST_CASE("a priority_handle that was given another task says so") {
  auto main = []() -> task<> {
    priority_scheduler scheduler;
    auto h = scheduler.submit(yield());
    task_handle<>& base = h;
    auto inside = [&](tandem::task_group& group) -> task<> {
      base = group.spawn(yield());
      CHECK_THROWS_AS(h.priority(), std::logic_error);
      co_return;
    };
    co_await tandem::with_task_group(inside);
    CHECK_THROWS_AS(priority_handle<>().priority(), std::logic_error);
    co_await scheduler.drain();
  };
  simulate(main());
}

TEST_CASE("a scheduler is of one loop") {
  asio::io_context context(1);
  priority_scheduler scheduler;
  std::string text;
  auto submits = [&]() -> task<> {
    scheduler.submit(yield());
    co_return;
  };
  auto submits_too = [&]() -> task<> {
    try {
      scheduler.submit(yield());
    } catch (const std::logic_error& e) {
      text = e.what();
    }
    co_return;
  };
  tandem::spawn(context, submits(), asio::detached);
  context.run();
  context.restart();
  tandem::spawn(asio::make_strand(context), submits_too(), asio::detached);
  context.run();
  CHECK(text.find("priority_scheduler") != std::string::npos);
}

TEST_CASE("stats say for each priority how many wait and run, how long they waited, and for how many others") {
  auto main = []() -> task<> {
    priority_scheduler scheduler;
    for (int i = 0; i != 3; ++i) scheduler.submit({.priority = 1}, sleep_for(1s));
    for (int i = 0; i != 2; ++i) scheduler.submit({.priority = 2}, sleep_for(1s));
    co_await sleep_for(1500ms);
    auto s = scheduler.stats();
    CHECK(s.most_queued == 5);
    REQUIRE(s.priorities.size() == 2);
    CHECK(s.priorities[0].priority == 1);
    CHECK(s.priorities[0].queued == 1);
    CHECK(s.priorities[0].running == 1);
    CHECK(s.priorities[1].queued == 2);
    CHECK(s.priorities[1].running == 0);
    CHECK(s.priorities[1].starved_by == 2);
    CHECK(s.priorities[0].starved_by == 0);
    co_await scheduler.drain();
    s = scheduler.stats();
    CHECK(s.priorities[0].started == 3);
    CHECK(s.priorities[0].waited == 3s);
    CHECK(s.priorities[0].longest_wait == 2s);
    CHECK(s.priorities[1].waited == 7s);
    CHECK(s.priorities[1].longest_wait == 4s);
    CHECK(s.priorities[1].starved_by == 3);
    CHECK(s.priorities[1].queued == 0);
    CHECK(s.succeeded == 5);
  };
  simulate(main());
}

// ---- every schedule, every stop ------------------------------------------------------------------------------------

namespace {

/// Knows what the scheduler is to do, by looking at every job that waits.
struct model {
  struct job {
    int priority;
    clock::time_point arrival, deadline;
    enum { waits, started, gone } state = waits;
  };
  clock::duration ageing{};
  std::vector<job> jobs;

  const job* next(clock::time_point now) const {
    const job* best = nullptr;
    std::vector<int> priorities;
    for (const job& j : jobs)
      if (j.state == job::waits && j.deadline > now) priorities.push_back(j.priority);
    for (const int p : priorities) {
      const job *oldest = nullptr, *due = nullptr;
      for (const job& j : jobs) {
        if (j.state != job::waits || j.deadline <= now || j.priority != p) continue;
        if (!oldest || j.arrival < oldest->arrival) oldest = &j;
        if (j.deadline != clock::time_point::max() && (!due || j.deadline < due->deadline)) due = &j;
      }
      const job* first = due && !(ageing != 0s && due->arrival - oldest->arrival >= ageing) ? due : oldest;
      if (!best || precedes(*first, *best)) best = first;
    }
    return best;
  }
  bool precedes(const job& a, const job& b) const {
    if (ageing == 0s) return a.priority < b.priority;
    const auto x = a.priority * ageing + (a.arrival - at(0s)), y = b.priority * ageing + (b.arrival - at(0s));
    return x != y ? x < y : &a < &b;
  }
};

struct random_day {
  explicit random_day(std::uint64_t seed) : random(seed) {}
  std::mt19937_64 random;
  model expected;
  std::size_t running = 0, slots = 0;
  int wrong = 0;
  int upto(int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); }

  /// At this instant, and the scheduler may not have been told yet.
  bool some_just_expired() const {
    return std::any_of(expected.jobs.begin(), expected.jobs.end(),
                       [](const model::job& j) { return j.state == model::job::waits && j.deadline == clock::now(); });
  }
  task<> job(std::size_t i, clock::duration d) {
    auto& own = expected.jobs[i];
    if (++running > slots || (!some_just_expired() && expected.next(clock::now()) != &own)) ++wrong;
    own.state = model::job::started;
    kit::at_exit ends([this] { --running; });
    if (d == 0ms) co_return;
    co_await sleep_for(d);
  }

  task<> main() {
    slots = 1 + random() % 3;
    expected.ageing = upto(2) * 7ms;
    expected.jobs.reserve(200);  // by address
    priority_scheduler scheduler{{.slots = slots, .ageing = expected.ageing}};
    std::vector<priority_handle<>> handles;
    for (int i = 0; i != 60; ++i) {
      model::job j{.priority = upto(4), .arrival = clock::now(), .deadline = clock::time_point::max()};
      if (upto(3) == 0) j.deadline = clock::now() + upto(40) * 1ms;
      const std::size_t n = expected.jobs.size();
      expected.jobs.push_back(j);
      handles.push_back(
          scheduler.submit({.priority = j.priority, .deadline = j.deadline}, &random_day::job, this, n, upto(6) * 1ms));
      if (upto(8) == 0) {
        const auto k = static_cast<std::size_t>(upto(static_cast<int>(n) + 1));
        if (auto& x = expected.jobs[k]; x.state == model::job::waits && !handles[k].done()) x.state = model::job::gone;
        handles[k].cancel();
      }
      if (upto(8) == 0) {
        const auto k = static_cast<std::size_t>(upto(static_cast<int>(n) + 1));
        expected.jobs[k].priority = upto(4);
        handles[k].reprioritize(expected.jobs[k].priority);
      }
      if (upto(2) == 0) co_await sleep_for(upto(4) * 1ms);
    }
    co_await scheduler.drain();
    for (std::size_t i = 0; i != handles.size(); ++i) {
      if (!handles[i].done()) ++wrong;
      const bool expired = expected.jobs[i].state == model::job::waits;  // never started, never cancelled
      try {
        handles[i].outcome().value();
        if (expired) ++wrong;
      } catch (const job_expired&) {
        if (!expired) ++wrong;
      } catch (const tandem::cancelled&) {
        if (expired) ++wrong;
      }
    }
    const auto s = scheduler.stats();
    if (s.submitted != 60 || s.succeeded + s.failed + s.cancelled + s.expired != 60 || s.queued + s.running != 0)
      ++wrong;
  }
};

}  // namespace

TEST_CASE("whatever comes, and whatever the schedule, the next to start is the one that the rule says") {
  for (std::uint64_t seed = 0; seed != 2 * kit::schedules(); ++seed) {
    INFO("seed " << seed);
    random_day day(seed);
    simulate(day.main(), {.seed = seed});
    REQUIRE(day.wrong == 0);
  }
}

namespace {

struct overtaking {
  struct job {
    int priority;
    clock::time_point arrival;
    bool has_deadline;
  };
  std::vector<job> waiting;
  clock::duration ageing{};
  clock::duration closest = 1h;  // to the bound
  int broken = 0;

  task<> run(job own, clock::duration d) {
    waiting.erase(std::find_if(waiting.begin(), waiting.end(), [&](const job& j) {
      return j.priority == own.priority && j.arrival == own.arrival && j.has_deadline == own.has_deadline;
    }));
    for (const job& passed : waiting) {
      const clock::duration later = own.arrival - passed.arrival;
      const clock::duration bound = (passed.priority - own.priority + 1) * ageing;
      if (later > 0ms && later >= bound) ++broken;
      if (later > 0ms) closest = std::min(closest, bound - later);
    }
    co_await sleep_for(d);
  }
};

}  // namespace

TEST_CASE("no job is overtaken by one that came as much later as the ageing allows, or more") {
  clock::duration closest = 1h;
  for (std::uint64_t seed = 0; seed != kit::schedules(); ++seed) {
    INFO("seed " << seed);
    auto main = [](overtaking* o, std::uint64_t n) -> task<> {
      std::mt19937_64 random(n);
      priority_scheduler scheduler{{.slots = 1 + random() % 2, .ageing = o->ageing}};
      for (int i = 0; i != 100; ++i) {
        overtaking::job j{static_cast<int>(random() % 5), clock::now(), random() % 3 == 0};
        o->waiting.push_back(j);
        scheduler.submit(
            {.priority = j.priority, .deadline = j.has_deadline ? clock::now() + 1h : clock::time_point::max()},
            &overtaking::run, o, j, (1 + random() % 4) * 1ms);
        co_await sleep_for((1 + random() % 3) * 1ms);
      }
      co_await scheduler.drain();
    };
    overtaking o;
    o.ageing = 10ms;
    simulate(main(&o, seed), {.seed = seed});
    REQUIRE(o.broken == 0);
    closest = std::min(closest, o.closest);
  }
  CHECK(closest == 1ms);  // so the bound is no wider than it has to be
}

namespace {

struct ledger {
  int accepted = 0, begun = 0, ended = 0, looked_at = 0;
  std::optional<tandem::priority_scheduler_stats> last;
};

}  // namespace

TEST_CASE(
    "whatever the schedule and wherever it is stopped, every job that was accepted ends once, and no slot is lost") {
  kit::explore<ledger>(
      [](ledger& s) -> task<> {
        priority_scheduler scheduler{{.slots = 2, .ageing = 10ms}};
        kit::at_exit looks([&] { s.last = scheduler.stats(); });
        auto work = [&s](kit::counted, int i) -> task<int> {
          ++s.begun;
          kit::at_exit count([&s] { ++s.ended; });
          co_await sleep_for(i * 1ms);
          co_await this_task::checkpoint();
          co_await sleep_for(i * 1ms);
          co_return i;
        };
        std::vector<priority_handle<int>> handles;
        for (int i = 0; i != 5; ++i) {
          handles.push_back(scheduler.submit(
              {.priority = 4 - i, .deadline = i == 1 ? at(3ms) : clock::time_point::max()}, work, kit::counted(), i));
          ++s.accepted;
          co_await yield();
        }
        auto waits = [](priority_handle<int> h) -> task<int> { co_return co_await h; };
        handles.push_back(scheduler.submit({.priority = 0}, waits, handles[0]));
        ++s.accepted;
        handles[2].cancel();
        handles[3].reprioritize(0);
        for (const auto& h : handles) {
          try {
            co_await h;
          } catch (const job_expired&) {
          } catch (const tandem::cancelled&) {
          }
          ++s.looked_at;
        }
        co_await scheduler.drain();
        CHECK(scheduler.stats().running == 0);
        CHECK(scheduler.stats().queued == 0);
      },
      [](ledger& s, kit::end how) {
        CHECK(s.begun == s.ended);
        if (how != kit::end::returned) return;
        REQUIRE(s.last);
        CHECK(s.looked_at == 6);
        CHECK(s.last->submitted == 6);
        CHECK(s.last->succeeded + s.last->failed + s.last->cancelled + s.last->expired == 6);
        for (const auto& p : s.last->priorities) CHECK(p.queued + p.running == 0);
      });
}

namespace {

/// A scheduler that several trees use, and that goes one way or another.
struct shared_scheduler {
  std::optional<priority_scheduler> scheduler{std::in_place, tandem::priority_scheduler_options{.slots = 2}};
  int begun = 0, ended = 0, refused = 0;
  static task<> job(shared_scheduler* s, kit::counted, int i) {
    ++s->begun;
    kit::at_exit count([s] { ++s->ended; });
    for (int k = 0; k != 2; ++k) {
      co_await sleep_for(i * 1ms);
      co_await this_task::checkpoint();
    }
    if (s->scheduler && i == 3) s->scheduler->submit({.priority = 0}, yield());
  }
  task<> submits(int first) {
    for (int i = first; i != first + 3; ++i) {
      if (!scheduler) co_return;
      try {
        scheduler->submit({.priority = i % 2}, &job, this, kit::counted(), i);
      } catch (const tandem::priority_scheduler_closed&) {
        ++refused;
      }
      co_await yield();
    }
  }
};

template <class End>
void several_trees(End ends) {
  kit::explore<shared_scheduler>(
      [ends](shared_scheduler& s) -> task<> {
        const auto executor = co_await this_task::executor;
        auto end = [&]() -> task<> {
          co_await sleep_for(2ms);
          ends(s);
          co_await yield();
        };
        co_await tandem::gather(s.submits(1), tandem::on(executor, s.submits(3)), end());
        co_await sleep_for(1ms);
      },
      [](shared_scheduler& s, kit::end) {
        CHECK(s.begun == s.ended);
        s.scheduler.reset();
      });
}

}  // namespace

TEST_CASE("closed while others use it: whatever the schedule and the stop, every job ends") {
  several_trees([](shared_scheduler& s) { s.scheduler->close(); });
}
TEST_CASE("cancelled while others use it: whatever the schedule and the stop, every job ends") {
  several_trees([](shared_scheduler& s) { s.scheduler->cancel(); });
}
TEST_CASE("destroyed while others use it: whatever the schedule and the stop, every job ends") {
  several_trees([](shared_scheduler& s) { s.scheduler.reset(); });
}
TEST_CASE("paused and resized while others use it: whatever the schedule and the stop, every job ends") {
  several_trees([](shared_scheduler& s) {
    s.scheduler->pause();
    s.scheduler->resize(1);
    s.scheduler->resume();
  });
}
