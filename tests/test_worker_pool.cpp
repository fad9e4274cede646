#include <tandem/worker_pool.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

#include "kit/allocations.hpp"
#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(executor_work_guard.hpp)
#include TANDEM_ASIO_HEADER(strand.hpp)

#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using kit::allocations;
using kit::at;
using kit::thrown_by;
using tandem::clock;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::task_handle;
using tandem::worker_pool;
using tandem::yield;

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
};

task<int> fails(const char* text) {
  co_await yield();
  throw std::runtime_error(text);
}
task<> stand_by() { co_await sleep_for(1h); }

}  // namespace

// ---- what runs when ------------------------------------------------------------------------------------------------

TEST_CASE("so many jobs as there are workers run at a time, in the order in which they were submitted") {
  auto main = []() -> task<> {
    diary d;
    worker_pool pool{{.workers = 2}};
    for (char name : {'a', 'b', 'c', 'd'}) co_await pool.submit([&d](char n) { return d.work(n, 1s); }, name);
    CHECK(d.text == "ab");
    CHECK(pool.stats().running == 2);
    CHECK(pool.stats().queued == 2);
    co_await pool.drain();
    CHECK(d.text == "aba.cb.dc.d.");
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("a job starts at once if a worker is free, and runs until it first waits") {
  auto main = []() -> task<> {
    diary d;
    worker_pool pool;
    auto h = co_await pool.submit(d.work('a', 1s));
    CHECK(d.text == "a");
    int value = co_await h;
    CHECK(value == 'a');
    CHECK(d.text == "aa.");
  };
  simulate(main());
}

TEST_CASE("a submit that finds no place waits for one, first come, first served") {
  auto main = []() -> task<> {
    diary d;
    worker_pool pool{{.workers = 1, .backlog = 1}};
    std::string order;
    auto submits = [&](char name) -> task<> {
      co_await pool.submit(d.work(name, 1s));
      order += name;
    };
    co_await tandem::gather(submits('a'), submits('b'), submits('c'), submits('d'));
    CHECK(order == "abcd");
    CHECK(clock::now() == at(2s));  // d has a place when b ends
    co_await pool.drain();
    CHECK(d.text == "aa.bb.cc.dd.");
  };
  simulate(main());
}

TEST_CASE("without a backlog a submit waits for a worker") {
  auto main = []() -> task<> {
    worker_pool pool{{.workers = 1, .backlog = 0}};
    diary d;
    co_await pool.submit(d.work('a', 1s));
    CHECK(clock::now() == at(0s));
    co_await pool.submit(d.work('b', 1s));
    CHECK(clock::now() == at(1s));
    CHECK(d.text == "aa.b");
    co_await pool.drain();
  };
  simulate(main());
}

TEST_CASE("a long line of jobs that end at once is no deep stack") {
  auto main = []() -> task<> {
    worker_pool pool{{.workers = 1, .backlog = 100'000}};
    int ended = 0;
    auto quick = [&]() -> task<> {
      ++ended;
      co_return;
    };
    co_await pool.submit(sleep_for(1s));
    for (int i = 0; i != 100'000; ++i) co_await pool.submit(std::ref(quick));
    CHECK(ended == 0);
    co_await pool.drain();
    CHECK(ended == 100'000);
    struct chain {
      worker_pool& pool;
      task<> link(int n) {
        if (n != 0) co_await pool.submit(&chain::link, this, n - 1);
      }
    } c{pool};
    co_await c.link(10'000);
    co_await pool.drain();
  };
  simulate(main());
}

TEST_CASE("the bound holds for a job that submits before it first waits") {
  auto main = []() -> task<> {
    for (const std::size_t backlog : {std::size_t{0}, std::size_t{1}, std::size_t{5}}) {
      worker_pool pool{{.workers = 3, .backlog = backlog}};
      std::size_t accepted = 0;
      auto parent = [&]() -> task<> {
        for (int i = 0; i != 100; ++i) accepted += bool(pool.try_submit(stand_by()));
        CHECK(pool.stats().running == 1);
        CHECK(pool.stats().queued == 2 + backlog);  // two of them find workers when this one waits
        co_await stand_by();
      };
      co_await pool.submit(std::ref(parent));
      CHECK(accepted == 2 + backlog);
      CHECK(pool.stats().running == 3);
      CHECK(pool.stats().queued == backlog);
      CHECK(pool.stats().most_queued == backlog);
      pool.cancel();
      co_await pool.drain();
    }
  };
  simulate(main());
}

TEST_CASE("what a job submits before it first waits starts when it does") {
  auto main = []() -> task<> {
    worker_pool pool{{.workers = 2}};
    diary d;
    auto parent = [&]() -> task<> {
      auto child = co_await pool.submit(d.work('b', 1s));
      d.text += 'a';
      co_await child;
    };
    co_await pool.submit(std::ref(parent));
    CHECK(d.text == "ab");
    co_await pool.drain();
  };
  simulate(main());
}

TEST_CASE("a job that submits while every place is taken waits for ever, and the report says so") {
  auto main = []() -> task<> {
    worker_pool pool{{.workers = 1, .backlog = 0}};
    auto inner = []() -> task<> { co_return; };
    auto outer = [&]() -> task<> { co_await pool.submit(std::ref(inner)); };
    auto h = co_await pool.submit({.name = "outer"}, std::ref(outer));
    co_await h;
  };
  try {
    simulate(main());
    FAIL("no deadlock");
  } catch (const tandem::deadlock& e) {
    const std::string text = e.what();
    CHECK(text.find("waits for worker_pool::submit") != std::string::npos);
    CHECK(text.find("'outer'") != std::string::npos);
  }
}

// ---- endings -------------------------------------------------------------------------------------------------------

TEST_CASE("a failure ends its job and nothing else") {
  auto main = []() -> task<> {
    diary d;
    worker_pool pool{{.workers = 1}};
    auto broken = co_await pool.submit(fails, "broken");
    auto whole = co_await pool.submit(d.work('a', 1s));
    std::string text = co_await thrown_by(broken);
    CHECK(text == "broken");
    int value = co_await whole;
    CHECK(value == 'a');
    CHECK(pool.stats().failed == 1);
    CHECK(pool.stats().succeeded == 1);
    co_await pool.drain();  // a handle was there to see it
  };
  simulate(main());
}

TEST_CASE("a function that throws instead of returning a task is a job that has failed") {
  auto main = []() -> task<> {
    worker_pool pool;
    auto throws = [](int n) -> task<int> {
      if (n == 0) throw std::runtime_error("no task");
      return kit::after(1s, n);
    };
    auto h = co_await pool.submit(throws, 0);
    CHECK(h.done());
    std::string text = co_await thrown_by(h);
    CHECK(text == "no task");
    auto empty = co_await pool.submit([]() { return task<>(); });
    text = co_await thrown_by(empty);
    CHECK(text.find("empty task") != std::string::npos);
  };
  simulate(main());
}

TEST_CASE(
    "a failure that nobody has looked at when the last handle goes is thrown by the next drain, several as a group") {
  auto main = []() -> task<> {
    worker_pool pool;
    co_await pool.submit(fails, "one");
    std::string text = co_await thrown_by(pool.drain());
    CHECK(text == "one");
    co_await pool.drain();  // it is told once
    co_await pool.submit(fails, "one");
    co_await pool.submit(fails, "two");
    std::size_t failures = 0;
    try {
      co_await pool.drain();
    } catch (const tandem::exception_group& g) {
      failures = g.exceptions().size();
    }
    CHECK(failures == 2);
    auto at_once = []() -> task<> { throw std::runtime_error("at once"); };
    co_await pool.submit(at_once);  // it has ended before there is a handle
    text = co_await thrown_by(pool.drain());
    CHECK(text == "at once");
    {
      auto h = co_await pool.submit(fails, "not asked");
      co_await sleep_for(1s);
      CHECK(h.done());
    }
    text = co_await thrown_by(pool.drain());
    CHECK(text == "not asked");
    {
      auto h = co_await pool.submit(fails, "asked");
      co_await sleep_for(1s);
      CHECK(!h.outcome().has_value());
    }
    co_await pool.drain();
  };
  simulate(main());
}

TEST_CASE("a failure that nobody saw when the pool is destroyed is how the tree ends") {
  std::string order;
  auto never_drains = [&]() -> task<> {
    worker_pool pool;
    co_await pool.submit(fails, "before");
    co_await yield();
    co_await yield();
    CHECK(pool.stats().failed == 1);
  };
  auto goes_first = [&]() -> task<> {
    auto cleans = [&]() -> task<> { co_await tandem::finally(stand_by(), [] { return fails("after"); }); };
    auto pool = std::make_unique<worker_pool>();
    co_await pool->submit(cleans());
    pool.reset();
    order += "pool gone, ";
    co_await sleep_for(1s);
  };
  CHECK_THROWS_WITH(simulate(never_drains()), "before");
  CHECK_THROWS_WITH(simulate(goes_first()), "after");
  CHECK(order == "pool gone, ");
}

TEST_CASE("function and arguments are gone before anyone goes on with the job's result") {
  auto main = []() -> task<> {
    worker_pool pool;
    const int before = kit::counted::live();
    const auto captured = std::make_shared<int>();
    auto takes = [captured](kit::counted) -> task<> { co_await yield(); };
    auto h = co_await pool.submit(takes, kit::counted());
    CHECK(kit::counted::live() == before + 1);
    CHECK(captured.use_count() == 3);
    co_await h;
    CHECK(kit::counted::live() == before);
    CHECK(captured.use_count() == 2);
    co_await pool.drain();
  };
  simulate(main());
}

TEST_CASE("a job in line that is cancelled never runs, and its place is free; one that runs is stopped") {
  auto main = []() -> task<> {
    diary d;
    worker_pool pool{{.workers = 1, .backlog = 1}};
    auto running = co_await pool.submit(d.work('a', 1h));
    auto in_line = co_await pool.submit(d.work('b', 1h));
    in_line.cancel();
    auto third = co_await pool.submit(d.work('c', 1s));
    CHECK(clock::now() == at(0s));
    running.cancel();
    co_await third;
    CHECK(d.text == "aa.cc.");
    CHECK(clock::now() == at(1s));
    std::string text = co_await thrown_by(in_line);
    CHECK(text.find("cancelled") != std::string::npos);
    CHECK(running.outcome().error() != nullptr);
    CHECK(pool.stats().cancelled == 2);
  };
  simulate(main());
}

TEST_CASE("drain waits until nothing is in line or running, also for what is submitted meanwhile") {
  auto main = []() -> task<> {
    worker_pool pool{{.workers = 1}};
    co_await pool.drain();  // idle
    CHECK(clock::now() == at(0s));
    auto second = []() -> task<> { co_await sleep_for(1s); };
    auto first = [&]() -> task<> {
      co_await sleep_for(1s);
      co_await pool.submit(std::ref(second));
    };
    co_await pool.submit(std::ref(first));
    co_await pool.drain();
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

// ---- closing -------------------------------------------------------------------------------------------------------

TEST_CASE("after close nothing is accepted, and what was accepted goes on") {
  auto main = []() -> task<> {
    diary d;
    worker_pool pool{{.workers = 1}};
    co_await pool.submit(d.work('a', 1s));
    co_await pool.submit(d.work('b', 1s));
    pool.close();
    std::string text = co_await thrown_by(pool.submit(d.work('c', 1s)));
    CHECK(text == "tandem::worker_pool_closed");
    CHECK_THROWS_AS(pool.try_submit(d.work('c', 1s)), tandem::worker_pool_closed);
    co_await pool.drain();
    CHECK(d.text == "aa.bb.");
  };
  simulate(main());
}

TEST_CASE("who waits for a place when the pool is closed gets worker_pool_closed") {
  auto main = []() -> task<> {
    diary d;
    worker_pool pool{{.workers = 1, .backlog = 0}};
    co_await pool.submit(d.work('a', 2s));
    auto closes = [&]() -> task<> {
      co_await sleep_for(1s);
      pool.close();
    };
    std::string text;
    auto waits = [&]() -> task<> { text = co_await thrown_by(pool.submit(d.work('b', 1s))); };
    co_await tandem::gather(waits(), closes());
    CHECK(text == "tandem::worker_pool_closed");
    CHECK(clock::now() == at(1s));
    co_await pool.drain();
    CHECK(d.text == "aa.");
  };
  simulate(main());
}

TEST_CASE("cancel drops the jobs in line and stops those that run") {
  auto main = []() -> task<> {
    diary d;
    worker_pool pool{{.workers = 1}};
    auto running = co_await pool.submit(d.work('a', 1h));
    auto in_line = co_await pool.submit(d.work('b', 1h));
    pool.cancel();
    co_await pool.drain();
    CHECK(d.text == "aa.");
    CHECK(clock::now() == at(0s));
    CHECK(running.done());
    CHECK(in_line.done());
    CHECK(pool.stats().cancelled == 2);
    std::string text = co_await thrown_by(pool.submit(d.work('c', 1s)));
    CHECK(text == "tandem::worker_pool_closed");
  };
  simulate(main());
}

TEST_CASE("destroying the pool stops its jobs without waiting, and the tree ends after them") {
  std::string text;
  clock::time_point end_of_main;
  auto main = [&]() -> task<> {
    auto cleans = [&](char name) -> task<> {
      auto clean = [&text, name]() -> task<> {
        co_await sleep_for(1s);
        text += name;
      };
      auto body = tandem::finally(stand_by(), std::move(clean));
      co_await body;
    };
    {
      worker_pool pool{{.workers = 1}};
      co_await pool.submit(cleans, 'a');
      co_await pool.submit(cleans, 'b');
    }
    CHECK(text.empty());
    end_of_main = clock::now();
  };
  simulate(main());
  CHECK(text == "a");  // b never ran
  CHECK(end_of_main == at(0s));
}

TEST_CASE("a failure that the tree is told of when the pool is destroyed is not thrown by a drainer as well") {
  std::string drained;
  auto main = [&]() -> task<> {
    auto pool = std::make_unique<worker_pool>();
    co_await pool->submit(stand_by());
    co_await pool->submit(fails, "once");
    auto drains = [&]() -> task<> { drained = co_await thrown_by(pool->drain()) + "."; };
    auto destroys = [&]() -> task<> {
      co_await sleep_for(1s);
      pool.reset();
    };
    co_await tandem::gather(drains(), destroys());
  };
  CHECK_THROWS_WITH(simulate(main()), "once");
  CHECK(drained == ".");
}

TEST_CASE("a pool that goes with the last frame of its tree tells that tree of failures that nobody saw") {
  auto owns = [](std::unique_ptr<worker_pool> pool) -> task<> {
    co_await pool->submit(fails, "of a parameter");
    co_await sleep_for(1s);
  };
  CHECK_THROWS_WITH(simulate(owns(std::make_unique<worker_pool>())), "of a parameter");

  asio::io_context context(1);
  asio::cancellation_signal stop;
  auto stopped = []() -> task<> {
    worker_pool pool;
    co_await pool.submit(fails, "of who was stopped");
    co_await stand_by();
  };
  std::exception_ptr error;
  tandem::spawn(context, stopped(),
                asio::bind_cancellation_slot(stop.slot(), [&](std::exception_ptr e) { error = e; }));
  context.poll();
  stop.emit(asio::cancellation_type::terminal);
  context.run();
  REQUIRE(error);
  CHECK_THROWS_WITH(std::rethrow_exception(error), "of who was stopped");
}

TEST_CASE("drainers of a pool that is destroyed go on") {
  auto main = []() -> task<> {
    auto pool = std::make_unique<worker_pool>();
    co_await pool->submit(stand_by());
    auto drains = [&]() -> task<> { co_await pool->drain(); };
    auto destroys = [&]() -> task<> {
      co_await yield();
      pool.reset();
    };
    co_await tandem::gather(drains(), destroys());
    CHECK(clock::now() == at(0s));
  };
  simulate(main());
}

// ---- trees ---------------------------------------------------------------------------------------------------------

TEST_CASE("jobs run on when their submitter ends, and its tree ends after them") {
  asio::io_context context(1);
  diary d;
  worker_pool pool;
  std::string order;
  auto submits = [&]() -> task<> {
    co_await pool.submit(d.work('a', 1ms));
    order += "submitted ";
  };
  tandem::spawn(context, submits(), [&](std::exception_ptr e) { order += e ? "failed" : "ended " + d.text; });
  context.run();
  CHECK(order == "submitted ended aa.");
}

TEST_CASE("a stop of a tree stops the jobs that were submitted in it, and no others") {
  auto main = []() -> task<> {
    const auto executor = co_await tandem::this_task::executor;
    diary d;
    worker_pool pool{{.workers = 2}};
    auto own = co_await pool.submit(d.work('a', 10s));
    asio::cancellation_signal stop;
    auto other = [&]() -> task<> {
      co_await pool.submit(d.work('b', 10s));
      co_await pool.submit(d.work('c', 10s));  // in line
      co_await stand_by();
    };
    bool ended = false;
    tandem::spawn(executor, other(),
                  asio::bind_cancellation_slot(stop.slot(), [&](std::exception_ptr) { ended = true; }));
    co_await sleep_for(1s);
    stop.emit(asio::cancellation_type::terminal);
    co_await sleep_for(1s);
    CHECK(ended);
    CHECK(d.text == "abb.");
    CHECK(!own.done());
    co_await own;
    CHECK(d.text == "abb.a.");
    CHECK(pool.stats().cancelled == 2);
  };
  simulate(main());
}

TEST_CASE("what a job submits by try_submit belongs to the job's tree, whoever made way for it") {
  auto main = []() -> task<> {
    const auto executor = co_await tandem::this_task::executor;
    worker_pool pool{{.workers = 1}};
    diary d;
    auto first = [&]() -> task<> { co_await pool.submit(sleep_for(1s)); };
    auto job = [&]() -> task<> {  // starts when that of the other tree ends
      pool.try_submit(d.work('a', 10s));
      co_return;
    };
    auto second = [&]() -> task<> { co_await pool.submit(std::ref(job)); };
    clock::time_point first_ended, second_ended;
    tandem::spawn(executor, first(), [&](std::exception_ptr) { first_ended = clock::now(); });
    co_await sleep_for(500ms);
    tandem::spawn(executor, second(), [&](std::exception_ptr) { second_ended = clock::now(); });
    co_await sleep_for(1min);
    CHECK(d.text == "aa.");
    CHECK(first_ended == at(1s));
    CHECK(second_ended == at(11s));
  };
  for (std::uint64_t seed = 0; seed != 10; ++seed) simulate(main(), {.seed = seed});
}

TEST_CASE("what the destructor of a dropped job's argument submits belongs to the job's tree") {
  struct submits_at_end {
    worker_pool* pool;
    explicit submits_at_end(worker_pool& p) : pool(&p) {}
    submits_at_end(submits_at_end&& o) noexcept : pool(std::exchange(o.pool, nullptr)) {}
    ~submits_at_end() {
      if (pool) pool->try_submit(sleep_for(10s));
    }
  };
  auto main = []() -> task<> {
    const auto executor = co_await tandem::this_task::executor;
    worker_pool pool{{.workers = 1}};
    auto running = co_await pool.submit(sleep_for(2s));
    task_handle<> dropped;
    auto submits = [&]() -> task<> {
      auto takes = [](submits_at_end) -> task<> { co_await stand_by(); };
      auto submitting = pool.submit(takes, submits_at_end(pool));
      dropped = co_await submitting;
      co_await sleep_for(1s);
    };
    clock::time_point end;
    tandem::spawn(executor, submits(), [&](std::exception_ptr) { end = clock::now(); });
    auto cancels = [&]() -> task<> {
      co_await sleep_for(500ms);
      dropped.cancel();
    };
    co_await cancels();
    co_await sleep_for(1min);
    CHECK(end == at(12s));
  };
  simulate(main());
}

TEST_CASE("in a tree that is being stopped a job never runs, and its outcome is cancelled") {
  auto main = []() -> task<> {
    diary d;
    worker_pool pool;
    const auto executor = co_await tandem::this_task::executor;
    asio::cancellation_signal stop;
    bool submitted = false;
    auto submits = [&]() -> task<> {
      stop.emit(asio::cancellation_type::terminal);
      auto h = co_await pool.submit(d.work('a', 1s));
      submitted = h.done() && !h.outcome().has_value();
    };
    tandem::spawn(executor, submits(), asio::bind_cancellation_slot(stop.slot(), asio::detached));
    co_await sleep_for(1s);
    CHECK(submitted);
    CHECK(d.text.empty());
    CHECK(pool.stats().cancelled == 1);
  };
  simulate(main());
}

TEST_CASE("jobs that were submitted under a shield are not stopped with the tree") {
  asio::io_context context(1);
  diary d;
  worker_pool pool;
  asio::cancellation_signal stop;
  auto cleans = [&]() -> task<> {
    auto h = co_await pool.submit(d.work('a', 1ms));
    co_await h;
  };
  auto main = [&]() -> task<> { co_await tandem::finally(stand_by(), std::ref(cleans)); };
  tandem::spawn(context, main(), asio::bind_cancellation_slot(stop.slot(), asio::detached));
  context.poll();
  stop.emit(asio::cancellation_type::terminal);
  context.run();
  CHECK(d.text == "aa.");
  CHECK(pool.stats().succeeded == 1);
}

TEST_CASE("a stop of who waits for a place submits nothing") {
  auto main = []() -> task<> {
    diary d;
    worker_pool pool{{.workers = 1, .backlog = 0}};
    co_await pool.submit(d.work('a', 2s));
    const auto late = co_await tandem::try_timeout(1s, pool.submit(d.work('b', 1s)));
    CHECK(!late);
    CHECK(pool.stats().submitting == 0);
    co_await pool.drain();
    CHECK(d.text == "aa.");
    CHECK(pool.stats().submitted == 1);
  };
  simulate(main());
}

TEST_CASE("a pool may go as soon as the run has returned, while other threads run the context") {
  asio::io_context context;
  auto work = asio::make_work_guard(context);
  std::thread other([&] { context.run(); });
  for (int i = 0; i != 200; ++i) {
    worker_pool pool{{.workers = 1}};
    auto quick = []() -> task<int> { co_return 1; };
    auto main = [&]() -> task<task_handle<int>> {
      co_await pool.submit(yield());
      co_await pool.submit(std::ref(quick));
      co_return co_await pool.submit(std::ref(quick));
    };
    const task_handle<int> last = tandem::run(context, main());
    CHECK(last.done());
  }
  work.reset();
  other.join();
}

TEST_CASE("a pool may go before its context, and after it") {
  const long frames = kit::live_frames();
  for (const bool pool_first : {true, false}) {
    diary d;
    auto context = std::make_unique<asio::io_context>(1);
    auto pool = std::make_unique<worker_pool>(tandem::worker_pool_options{.workers = 1, .backlog = 1});
    auto submits = [&]() -> task<> {
      for (char name : {'a', 'b', 'c'}) co_await pool->submit(d.work(name, 1h));
    };
    auto drains = [&]() -> task<> { co_await pool->drain(); };
    tandem::spawn(*context, submits(), asio::detached);
    tandem::spawn(*context, drains(), asio::detached);
    context->poll();
    CHECK(d.text == "a");
    if (pool_first) pool.reset();
    context.reset();
    pool.reset();
    CHECK(d.text == "aa.");
  }
  CHECK(kit::live_frames() == frames);
}

// ---- without waiting; bad input; figures
// -----------------------------------------------------------------------------

TEST_CASE("try_submit gives an empty handle where there is no place") {
  auto main = []() -> task<> {
    diary d;
    worker_pool pool{{.workers = 1, .backlog = 1}};
    auto a = pool.try_submit(d.work('a', 1s));
    auto b = pool.try_submit([&](char name) { return d.work(name, 1s); }, 'b');
    auto c = pool.try_submit(d.work('c', 1s));
    CHECK(a);
    CHECK(b);
    CHECK(!c);
    co_await b;
    CHECK(d.text == "aa.bb.");
  };
  simulate(main());
}

TEST_CASE("a submit that was granted to one coroutine is refused to another") {
  auto main = []() -> task<> {
    worker_pool pool{{.workers = 1, .backlog = 0}};
    co_await pool.submit(sleep_for(1s));
    auto submitting = pool.submit(yield());
    int got = 0, refused = 0;
    auto waits = [&]() -> task<> {
      try {
        co_await submitting;
        ++got;
      } catch (const std::logic_error&) {
        ++refused;
      }
    };
    auto waits_too = [&]() -> task<> {
      co_await sleep_for(1s);
      while (pool.stats().submitting != 0) co_await yield();
      co_await waits();
    };
    co_await tandem::gather(waits(), waits_too());
    CHECK(got == 1);
    CHECK(refused == 1);
    co_await pool.drain();
    CHECK(pool.stats().submitted == 2);
  };
  for (std::uint64_t seed = 0; seed != 50; ++seed) simulate(main(), {.seed = seed});
}

TEST_CASE("a drain may be awaited again") {
  auto main = []() -> task<> {
    worker_pool pool;
    auto drain = pool.drain();
    for (int i = 0; i != 2; ++i) {
      co_await pool.submit(sleep_for(1s));
      co_await drain;
    }
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("unless it is told otherwise a pool has 8 workers, and a line for 64") {
  auto main = []() -> task<> {
    worker_pool pool;
    int accepted = 0;
    for (int i = 0; i != 100; ++i) {
      const auto h = pool.try_submit(stand_by);
      accepted += h ? 1 : 0;
    }
    const auto s = pool.stats();
    CHECK(accepted == 8 + 64);
    CHECK((s.workers == 8 && s.running == 8 && s.queued == 64 && s.most_queued == 64 && s.submitted == 72));
    pool.cancel();
    co_await pool.drain();
  };
  simulate(main());
}

TEST_CASE("of many failures that nobody has looked at drain throws the first 64, once") {
  auto main = []() -> task<> {
    worker_pool pool{{.workers = 1, .backlog = 100}};
    auto fails_with = [](int i) -> task<> {
      co_await yield();
      throw std::runtime_error(std::to_string(i));
    };
    for (int i = 0; i != 70; ++i) co_await pool.submit(fails_with, i);
    std::string first, last;
    std::size_t failures = 0;
    try {
      co_await pool.drain();
    } catch (const tandem::exception_group& g) {
      failures = g.exceptions().size();
      const auto text_of = [](const std::exception_ptr& e) -> std::string {
        try {
          std::rethrow_exception(e);
        } catch (const std::exception& f) {
          return f.what();
        }
      };
      first = text_of(g.exceptions().front());
      last = text_of(g.exceptions().back());
    }
    CHECK(failures == 64);
    CHECK((first == "0" && last == "63"));
    CHECK(pool.stats().failed == 70);
    co_await pool.drain();
  };
  simulate(main());
}

TEST_CASE("the name of a job is in the report of a deadlock") {
  auto main = []() -> task<> {
    worker_pool pool;
    kit::gate never;
    auto waits = [&]() -> task<> { co_await never.wait(); };
    co_await pool.submit({.name = "the stuck one"}, waits);
    co_await pool.drain();
  };
  std::string text;
  try {
    simulate(main());
  } catch (const tandem::deadlock& e) {
    text = e.what();
  }
  CHECK(text.find("the stuck one") != std::string::npos);
}

TEST_CASE("a job costs one allocation beside its frame, of the same memory, and a wait for a place none") {
  auto main = []() -> task<> {
    worker_pool pool{{.workers = 1, .backlog = 0}};
    auto nap = [](int) -> task<> { co_await yield(); };
    co_await nap(0);
    long before = allocations;
    for (int i = 0; i != 100; ++i) co_await nap(i);
    const long frames = allocations - before;  // none, where they come from the free list
    for (int i = 0; i != 20; ++i) co_await pool.submit(nap, i);
    before = allocations;
    for (int i = 0; i != 100; ++i) co_await pool.submit(nap, i);
    CHECK(allocations - before == 2 * frames);
    co_await pool.drain();
  };
  simulate(main());
}

TEST_CASE("a pool of no workers is refused") {
  CHECK_THROWS_WITH(worker_pool({.workers = 0}), "tandem::worker_pool: 0 workers; there must be at least 1");
}

TEST_CASE("try_submit outside a coroutine is refused") {
  worker_pool pool;
  CHECK_THROWS_AS(pool.try_submit(stand_by()), std::logic_error);
}

TEST_CASE("a pool is of one loop") {
  asio::io_context context(1);
  worker_pool pool;
  std::string text;
  auto submits = [&]() -> task<> { co_await pool.submit(yield()); };
  auto submits_too = [&]() -> task<> { text = co_await thrown_by(pool.submit(yield())); };
  tandem::spawn(context, submits(), asio::detached);
  context.run();
  context.restart();
  tandem::spawn(asio::make_strand(context), submits_too(), asio::detached);
  context.run();
  CHECK(text.find("worker_pool") != std::string::npos);
}

TEST_CASE("stats say how long jobs were in line, and how long they ran") {
  auto main = []() -> task<> {
    worker_pool pool{{.workers = 1}};
    for (int i = 0; i != 3; ++i) co_await pool.submit(sleep_for(2s));
    CHECK(pool.stats().most_queued == 2);
    co_await pool.drain();
    const tandem::worker_pool_stats s = pool.stats();
    CHECK(s.workers == 1);
    CHECK(s.submitted == 3);
    CHECK(s.succeeded == 3);
    CHECK(s.queue_time.count == 3);
    CHECK(s.queue_time.min == 0s);
    CHECK(s.queue_time.max == 4s);
    CHECK(s.run_time.min == 2s);
    CHECK(s.run_time.max == 2s);
    CHECK(pool.run_time().count() == 3);
    CHECK(pool.queue_time().max() == 4s);
  };
  simulate(main());
}

TEST_CASE("a job that finds a worker was never in line") {
  auto main = []() -> task<> {
    worker_pool pool{{.workers = 2, .backlog = 1}};
    for (int i = 0; i != 2; ++i) co_await pool.submit(sleep_for(2s));
    CHECK(pool.stats().most_queued == 0);
    co_await pool.submit(sleep_for(2s));
    CHECK(pool.stats().most_queued == 1);
    co_await pool.submit(sleep_for(2s));  // waits for a place in line
    co_await pool.drain();
    CHECK(pool.stats().most_queued == 1);
  };
  simulate(main());
}

// ---- every schedule, every stop
// --------------------------------------------------------------------------------------

namespace {

struct ledger {
  int begun = 0, ended = 0, most = 0;
  worker_pool* pool = nullptr;
  std::optional<tandem::worker_pool_stats> last;
};

}  // namespace

TEST_CASE("whatever the schedule and wherever it is stopped, every job that was accepted ends once") {
  kit::explore<ledger>(
      [](ledger& s) -> task<> {
        worker_pool pool{{.workers = 2, .backlog = 1}};
        kit::at_exit looks([&] { s.last = pool.stats(); });
        auto work = [&s](kit::counted, int i) -> task<int> {
          ++s.begun;
          kit::at_exit count([&s] { ++s.ended; });
          s.most = std::max(s.most, s.begun - s.ended);
          if (i % 3 != 0) co_await sleep_for(i % 2 * 1s);
          if (i % 4 == 3) throw std::runtime_error("work");
          co_return i;
        };
        auto submits = [&](int first) -> task<> {
          std::vector<task_handle<int>> handles;
          for (int i = first; i != first + 3; ++i) {
            auto submitting = pool.submit(work, kit::counted(), i);
            handles.push_back(co_await submitting);
          }
          handles[1].cancel();
          for (auto& h : handles) co_await thrown_by(h);
        };
        co_await tandem::gather(submits(0), submits(3));
        try {
          co_await pool.drain();
        } catch (const std::exception&) {
        }
        const auto now = pool.stats();
        CHECK(now.submitted == 6);
        CHECK(now.succeeded + now.failed + now.cancelled == 6);
        CHECK(now.queued == 0);
        CHECK(now.running == 0);
      },
      [](ledger& s, kit::end) {
        CHECK(s.begun == s.ended);
        CHECK(s.most <= 2);
      });
}

namespace {

/// Two trees share a pool of one worker and a line of one, a third tree drains it, and a fourth ends it while all wait.
struct shared_pool {
  std::unique_ptr<worker_pool> pool =
      std::make_unique<worker_pool>(tandem::worker_pool_options{.workers = 1, .backlog = 1});
  int begun = 0, ended = 0, handles = 0, refused = 0, drained = 0;
  bool is_over = false;

  static task<int> job(shared_pool* s, kit::counted, int i) {
    ++s->begun;
    kit::at_exit count([s] { ++s->ended; });
    co_await sleep_for(1s);
    co_return i;
  }
  task<> submits(int n) {
    for (int i = 0; i != n; ++i) {
      if (is_over) co_return;
      auto submitting = pool->submit(&job, this, kit::counted(), i);
      try {
        auto h = co_await submitting;
        ++handles;
      } catch (const tandem::worker_pool_closed&) {
        ++refused;
      }
    }
  }
  task<> drains() {
    if (is_over) co_return;
    co_await pool->drain();
    ++drained;
  }
};

template <class End>
void explore_the_end(End end) {
  kit::explore<shared_pool>(
      [&](shared_pool& s) -> task<> {
        const auto executor = co_await tandem::this_task::executor;
        auto submits = s.submits(4), drains = s.drains();
        tandem::spawn(executor, std::move(submits), asio::detached);
        tandem::spawn(executor, std::move(drains), asio::detached);
        auto ends = [&]() -> task<> {
          co_await sleep_for(1500ms);
          s.is_over = true;
          end(s.pool);
        };
        co_await tandem::gather(s.submits(4), ends());
        co_await sleep_for(1h);
        CHECK(s.begun == s.ended);
        CHECK(s.handles + s.refused >= 5);
        CHECK(s.refused >= 1);
        CHECK(s.drained == 1);
        if (s.pool) {
          const tandem::worker_pool_stats last = s.pool->stats();
          CHECK(last.submitting == 0);
          CHECK(last.queued == 0);
          CHECK(last.running == 0);
          CHECK(last.submitted == static_cast<std::uint64_t>(s.handles));
          CHECK(last.submitted == last.succeeded + last.cancelled);
        }
      },
      [](shared_pool& s, kit::end) {
        s.pool.reset();
        CHECK(s.begun == s.ended);
      });
}

}  // namespace

TEST_CASE("closed while others wait: whatever the schedule and the stop, everyone hears of it and no job is lost") {
  explore_the_end([](std::unique_ptr<worker_pool>& pool) { pool->close(); });
}
TEST_CASE("cancelled while others wait: whatever the schedule and the stop, everyone hears of it and no job is lost") {
  explore_the_end([](std::unique_ptr<worker_pool>& pool) { pool->cancel(); });
}
TEST_CASE("destroyed while others wait: whatever the schedule and the stop, everyone hears of it and no job is lost") {
  explore_the_end([](std::unique_ptr<worker_pool>& pool) { pool.reset(); });
}
