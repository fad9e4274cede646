#include <tandem/threads.hpp>

#include <tandem/tandem.hpp>

#include TANDEM_ASIO_HEADER(bind_executor.hpp)
#include TANDEM_ASIO_HEADER(ip/tcp.hpp)
#include TANDEM_ASIO_HEADER(read.hpp)
#include TANDEM_ASIO_HEADER(strand.hpp)
#include TANDEM_ASIO_HEADER(system_executor.hpp)
#include TANDEM_ASIO_HEADER(thread_pool.hpp)
#include TANDEM_ASIO_HEADER(use_future.hpp)
#include TANDEM_ASIO_HEADER(write.hpp)

#include "catch.hpp"
#include "kit/child_process.hpp"
#include "kit/kit.hpp"

#include <condition_variable>
#include <future>
#include <latch>
#include <semaphore>
#include <set>
#include <stop_token>
#include <string>
#include <thread>

using namespace std::chrono_literals;
using tandem::abandon_on_cancel;
using tandem::gather;
using tandem::on;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::to_thread;
using tandem::yield;

namespace {

/// Threads that run a context until it has nothing left to do.
class runners {
 public:
  explicit runners(asio::io_context& c, int n = 2) {
    for (int i = 0; i != n; ++i) threads_.emplace_back([&c] { c.run(); });
  }
  runners(const runners&) = delete;
  runners& operator=(const runners&) = delete;
  ~runners() { join(); }
  void join() {
    for (auto& t : threads_) t.join();
    threads_.clear();
  }

 private:
  std::vector<std::thread> threads_;
};

/// Another loop that runs on a thread of its own until this goes.
class elsewhere {
 public:
  elsewhere() : work_(context_.get_executor()), thread_([this] { context_.run(); }) {}
  elsewhere(const elsewhere&) = delete;
  elsewhere& operator=(const elsewhere&) = delete;
  ~elsewhere() {
    work_.reset();
    thread_.join();
  }
  asio::io_context& context() noexcept { return context_; }
  std::thread::id id() const noexcept { return thread_.get_id(); }

 private:
  asio::io_context context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::thread thread_;
};

/// Loops that exist now.
int loops() {
  auto& all = tandem::detail::loops_alive::get();
  const std::scoped_lock lock(all.mutex);
  int n = 0;
  for (const tandem::detail::loop* l = all.first; l; l = tandem::detail::loops_alive::next(*l)) ++n;
  return n;
}

task<int> doubled(int i) {
  co_await yield();
  co_return 2 * i;
}

task<std::thread::id> this_thread() {
  co_await yield();
  co_return std::this_thread::get_id();
}

}  // namespace

// ---- to_thread

TEST_CASE("to_thread makes its call on another thread, and the coroutine goes on where it was") {
  auto main = []() -> task<> {
    const auto here = std::this_thread::get_id();
    const auto there = co_await to_thread([] { return std::this_thread::get_id(); });
    CHECK(there != here);
    CHECK(std::this_thread::get_id() == here);
    const int sum = co_await to_thread([](int a, const std::string& b) { return a + std::stoi(b); }, 40, "2");
    CHECK(sum == 42);
    co_await to_thread([] {});
  };
  tandem::run(main());
  simulate(main());
}

TEST_CASE("what the call throws is thrown from the co_await") {
  auto main = []() -> task<> {
    const std::string said =
        co_await kit::thrown_by(to_thread([]() -> int { throw std::runtime_error("from the thread"); }));
    CHECK(said == "from the thread");
  };
  simulate(main());
}

TEST_CASE("function and arguments are destroyed before the coroutine goes on") {
  auto main = []() -> task<> {
    auto call = [](kit::counted) { return kit::counted::live(); };
    const int during = co_await to_thread(call, kit::counted());
    CHECK(during == 1);
    CHECK(kit::counted::live() == 0);
  };
  simulate(main());
}

TEST_CASE("function and arguments are destroyed on the thread of the call") {
  struct notes_thread {
    explicit notes_thread(std::set<std::thread::id>& s) : seen(&s) {}
    notes_thread(notes_thread&& o) noexcept : seen(std::exchange(o.seen, nullptr)) {}
    ~notes_thread() {
      if (seen) seen->insert(std::this_thread::get_id());
    }
    std::thread::id operator()(const notes_thread&) const { return std::this_thread::get_id(); }
    std::set<std::thread::id>* seen;
  };
  for (bool abandon : {false, true}) {
    std::set<std::thread::id> seen;
    auto main = [&]() -> task<> {
      std::thread::id there;
      if (abandon)
        there = co_await to_thread(abandon_on_cancel, notes_thread(seen), notes_thread(seen));
      else
        there = co_await to_thread(notes_thread(seen), notes_thread(seen));
      CHECK(seen == std::set{there});
    };
    simulate(main());
  }
}

TEST_CASE("a failure of the call that comes after a stop is thrown, unless it is operation_aborted") {
  auto main = []() -> task<> {
    const auto fails_with = [](auto e) {
      return [e](std::stop_token stop) {
        while (!stop.stop_requested()) std::this_thread::yield();
        throw e;
      };
    };
    auto failure = fails_with(std::runtime_error("after the stop"));
    std::string said = co_await kit::thrown_by(tandem::try_timeout(0s, to_thread(failure)));
    CHECK(said == "after the stop");
    auto refused = fails_with(tandem::system_error(asio::error::connection_refused, "refused"));
    said = co_await kit::thrown_by(tandem::try_timeout(0s, to_thread(refused)));
    CHECK(said.starts_with("refused"));
    auto aborted = fails_with(tandem::system_error(asio::error::operation_aborted));
    said = co_await kit::thrown_by(tandem::timeout(0s, to_thread(aborted)));
    CHECK(said.starts_with("tandem::timed_out"));
  };
  tandem::run(main());
}

TEST_CASE("the pool has min(32, cores + 4) threads, and what is not running yet waits in line") {
  const auto threads = static_cast<std::ptrdiff_t>(std::min(32u, std::thread::hardware_concurrency() + 4));
  std::latch all_busy(threads);
  std::counting_semaphore<> release(0);
  std::atomic<int> from_the_line{0};
  auto blocks = [&] {
    all_busy.count_down();
    release.acquire();
  };
  auto in_line = [&] { ++from_the_line; };
  auto one = [&](bool first) -> task<> {
    if (first)
      co_await to_thread(blocks);
    else
      co_await to_thread(in_line);
  };
  auto looks = [&]() -> task<> {
    while (!all_busy.try_wait()) co_await yield();
    for (int i = 0; i != 1000; ++i) {  // one more thread would take them meanwhile
      std::this_thread::yield();
      co_await yield();
    }
    CHECK(from_the_line == 0);
    release.release(threads);
  };
  auto main = [&]() -> task<> {
    std::vector<task<>> all;
    for (std::ptrdiff_t i = 0; i != threads + 10; ++i) all.push_back(one(i < threads));
    co_await gather(gather(std::move(all)), looks());
  };
  tandem::run(main());
  CHECK(from_the_line == 10);
}

TEST_CASE("a call takes what only moves, gives what only moves, and std::ref passes a reference") {
  auto main = []() -> task<> {
    auto p = std::make_unique<int>(1);
    p = co_await to_thread([](std::unique_ptr<int> q) { return ++*q, std::move(q); }, std::move(p));
    CHECK(*p == 2);
    int n = 0;
    int& r = co_await to_thread([](int& i) -> int& { return ++i, i; }, std::ref(n));
    CHECK(&r == &n);
    CHECK(n == 1);
  };
  simulate(main());
}

TEST_CASE("virtual time stands still while a thread works, and nothing is reported as a deadlock") {
  auto main = []() -> task<> {
    std::string order;
    std::binary_semaphore release(0);
    auto sleeper = [&]() -> task<> {
      co_await sleep_for(1h);
      order += "slept ";
    };
    auto worker = [&]() -> task<> {
      co_await to_thread([&] { release.acquire(); });
      CHECK(tandem::clock::now() == kit::at(0s));
      order += "worked ";
    };
    auto releaser = [&]() -> task<> {
      for (int i = 0; i != 100; ++i) co_await yield();
      release.release();
    };
    co_await gather(sleeper(), worker(), releaser());
    CHECK(order == "worked slept ");
  };
  simulate(main());
}

TEST_CASE("a stop waits for the call, whose value is delivered; the next wait stops") {
  std::binary_semaphore release(0);
  bool delivered = false, went_on = false;
  auto body = [&]() -> task<> {
    delivered = 7 == co_await to_thread([&] {
                  release.acquire();
                  return 7;
                });
    co_await yield();
    went_on = true;
  };
  auto main = [&]() -> task<> {
    auto r = co_await tandem::try_timeout(0s, tandem::finally(body(), [&]() -> task<> { co_return; }));
    CHECK_FALSE(r);
  };
  std::thread later([&] { release.release(); });
  tandem::run(main());
  later.join();
  CHECK(delivered);
  CHECK_FALSE(went_on);
}

TEST_CASE("a call that takes a stop_token is asked to stop") {
  auto main = []() -> task<> {
    auto until_stopped = [](std::stop_token stop, int value) {
      std::mutex m;
      std::condition_variable_any changed;
      std::unique_lock lock(m);
      changed.wait(lock, stop, [] { return false; });
      return value;
    };
    const int got = co_await tandem::timeout(0s, to_thread(until_stopped, 5));
    CHECK(got == 5);
  };
  tandem::run(main());
}

TEST_CASE("a call that ends in operation_aborted after a stop counts as stopped, without one it is a failure") {
  auto main = []() -> task<> {
    auto aborts = [](std::stop_token stop) {
      while (!stop.stop_requested()) std::this_thread::yield();
      throw tandem::cancelled();
    };
    const auto r = co_await tandem::try_timeout(0s, to_thread(aborts));
    CHECK_FALSE(r);
    const std::string said = co_await kit::thrown_by(to_thread([] { throw tandem::cancelled(); }));
    CHECK(said.find("cancelled") != std::string::npos);
  };
  tandem::run(main());
}

TEST_CASE("abandon_on_cancel leaves the call behind at once, and what it gives is destroyed on its thread") {
  struct shared {
    std::binary_semaphore begun{0}, release{0}, over{0};
    std::atomic<int> live{0};
  };
  struct result {
    explicit result(std::shared_ptr<shared> s) : s_(std::move(s)) { ++s_->live; }
    result(result&& o) noexcept : s_(std::move(o.s_)) {}
    result& operator=(result&&) = delete;
    ~result() {
      if (!s_) return;
      --s_->live;
      s_->over.release();
    }
    std::shared_ptr<shared> s_;
  };
  auto s = std::make_shared<shared>();
  auto call = [](std::shared_ptr<shared> p) {
    p->begun.release();
    p->release.acquire();
    return result(p);
  };
  asio::io_context context;
  asio::cancellation_signal signal;
  bool cancelled = false;
  auto main = [&]() -> task<> {
    const auto got = co_await to_thread(abandon_on_cancel, call, s);
    CHECK(got.s_ == nullptr);
  };
  tandem::spawn(context, main(),
                asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) { cancelled = e != nullptr; }));
  std::thread t([&] { context.run(); });
  s->begun.acquire();
  asio::post(context, [&] { signal.emit(asio::cancellation_type::terminal); });
  t.join();  // though the call has not returned
  CHECK(cancelled);
  CHECK(s->live == 0);
  s->release.release();
  s->over.acquire();
  CHECK(s->live == 0);
}

TEST_CASE("in a stopped scope nothing is called") {
  bool called = false;
  asio::io_context context;
  asio::cancellation_signal signal;
  auto body = [&]() -> task<> {
    signal.emit(asio::cancellation_type::terminal);
    co_await to_thread([&] { called = true; });
  };
  bool cancelled = false;
  tandem::spawn(context, body(),
                asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) { cancelled = e != nullptr; }));
  context.run();
  CHECK(cancelled);
  CHECK_FALSE(called);
}

TEST_CASE("destroying the context waits for the calls of its tasks") {
  std::atomic<bool> ended{false};
  std::latch begun(1);
  {
    asio::io_context context;
    auto call = [&](std::stop_token stop) {
      begun.count_down();
      while (!stop.stop_requested()) std::this_thread::yield();
      ended = true;
    };
    auto main = [&](kit::counted) -> task<> { co_await to_thread(call); };
    tandem::spawn(context, main({}), asio::detached);
    while (!begun.try_wait()) context.poll();
  }
  CHECK(ended);
  CHECK(kit::counted::live() == 0);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("destroying the context does not wait for a call that may be left behind") {
  struct shared {
    std::binary_semaphore begun{0}, release{0}, over{0};
  };
  const auto s = std::make_shared<shared>();
  auto call = [](std::shared_ptr<shared> p) {
    p->begun.release();
    p->release.acquire();
    p->over.release();
  };
  {
    asio::io_context context;
    auto main = [&](kit::counted) -> task<> { co_await to_thread(abandon_on_cancel, call, s); };
    tandem::spawn(context, main({}), asio::detached);
    context.poll();
    s->begun.acquire();
    CHECK(kit::counted::live() == 1);
  }
  CHECK(kit::counted::live() == 0);
  CHECK(kit::live_frames() == 0);
  s->release.release();
  s->over.acquire();
}

TEST_CASE("a to_thread is awaited once") {
  auto main = []() -> task<> {
    auto t = to_thread([] {});
    auto u = std::move(t);
    co_await u;
    const std::string again = co_await kit::thrown_by(std::move(u));
    CHECK(again == "tandem: awaiting a to_thread that was moved from, or awaited before");
    const std::string empty = co_await kit::thrown_by(std::move(t));
    CHECK(empty == again);
  };
  simulate(main());
}

TEST_CASE("threads hand their results over at every stop and every end of the context") {
  struct state {
    int begun = 0, ended = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto one = [&](kit::counted) -> task<> {
          ++s.begun;
          const kit::at_exit note([&] { ++s.ended; });
          co_await to_thread([] {});
          co_await to_thread(abandon_on_cancel, [] {});
          co_await yield();
          co_await to_thread([](std::stop_token) {});
        };
        co_await gather(one({}), one({}), one({}));
      },
      [](state& s, kit::end) { CHECK(s.begun == s.ended); });
}

TEST_CASE("a call that is abandoned before it begins is not made") {
  std::counting_semaphore<> release(0);
  std::latch all_busy(static_cast<std::ptrdiff_t>(std::min(32u, std::thread::hardware_concurrency() + 4)));
  bool called = false;
  auto blocks = [&] {
    all_busy.count_down();
    release.acquire();
  };
  auto main = [&]() -> task<> {
    std::vector<task<>> busy;
    auto block = [&]() -> task<> { co_await to_thread(blocks); };
    for (std::ptrdiff_t i = 0, n = std::min(32u, std::thread::hardware_concurrency() + 4); i != n; ++i)
      busy.push_back(block());
    auto abandoned = [&]() -> task<> {
      while (!all_busy.try_wait()) co_await yield();
      const auto r = co_await tandem::try_timeout(1us, to_thread(abandon_on_cancel, [&] { called = true; }));
      CHECK_FALSE(r);
      release.release(64);
    };
    co_await gather(gather(std::move(busy)), abandoned());
    co_await to_thread([] {});
  };
  tandem::run(main());
  CHECK_FALSE(called);
}

TEST_CASE("spawn and on take a context too, such as a thread_pool") {
  asio::thread_pool pool(1);
  int four = 0;
  auto main = [&]() -> task<> { four = co_await on(pool, doubled(2)); };
  tandem::spawn(pool, main(), asio::detached);
  pool.join();
  CHECK(four == 4);
}

TEST_CASE("run refuses to wait in a handler of the loop that it would run") {
  asio::io_context context;
  bool refused = false;
  tandem::spawn(context, doubled(1), [&](std::exception_ptr, int) {
    try {
      tandem::run(context, doubled(1));
    } catch (const std::logic_error&) {
      refused = true;
    }
  });
  context.run();
  CHECK(refused);
}

TEST_CASE("two threads run tasks on one context, and each hears of its deadlock") {
  for (int i = 0; i != 20; ++i) {
    asio::io_context context;
    kit::gate gate;
    std::atomic<int> reported{0};
    auto waits = [&]() -> task<> { co_await gate.wait(); };
    auto runs = [&] {
      try {
        tandem::run(context, waits());
      } catch (const tandem::deadlock&) {
        ++reported;
      } catch (const std::runtime_error&) {  // the other one's end stopped the context first
        ++reported;
      }
    };
    std::thread other(runs);
    runs();
    other.join();
    CHECK(reported == 2);
  }
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("a stop in the middle of a launch keeps an operation from starting") {
  asio::io_context context;
  asio::cancellation_signal signal;
  bool cancelled = false, went_on = false;
  auto child = [&]() -> task<> {
    signal.emit(asio::cancellation_type::terminal);
    co_await asio::post(context, tandem::use_task);
    went_on = true;
  };
  auto main = [&]() -> task<> { co_await gather(child()); };
  tandem::spawn(context, main(),
                asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) { cancelled = e != nullptr; }));
  context.run();
  CHECK(cancelled);
  CHECK_FALSE(went_on);
}

TEST_CASE("a context goes after its strands, whoever made the first one") {
  {
    asio::io_context context;
    auto main = [&]() -> task<> { co_await on(asio::make_strand(context), sleep_for(1h)); };
    tandem::spawn(context, main(), asio::detached);
    context.poll();
  }
  CHECK(kit::live_frames() == 0);
}

// ---- on

TEST_CASE("on runs its tree on the other loop and goes on here with the result") {
  elsewhere other;
  auto main = [&]() -> task<> {
    const auto here = std::this_thread::get_id();
    const auto there = co_await on(other.context(), this_thread());
    CHECK(there == other.id());
    CHECK(std::this_thread::get_id() == here);
    const int four = co_await on(other.context().get_executor(), doubled(2));
    CHECK(four == 4);
    co_await on(other.context(), sleep_for(1ms));
    const auto executor = co_await on(other.context(), [](auto) -> task<asio::any_io_executor> {
      co_return co_await tandem::this_task::executor;
    }(0));
    CHECK(&asio::query(executor, asio::execution::context) == &other.context());
  };
  tandem::run(main());
  simulate(main());
}

TEST_CASE("under simulate virtual time stands still for the other loop, so that no time limit fires") {
  elsewhere other;
  auto main = [&]() -> task<> {
    bool other_ended = false;
    auto away = [&]() -> task<> {
      const int two = co_await tandem::timeout(1ns, on(other.context(), doubled(1)));
      CHECK(two == 2);
      CHECK(tandem::clock::now() == kit::at(0s));
      other_ended = true;
    };
    auto sleeps = [&]() -> task<> {
      co_await sleep_for(1ns);
      CHECK(other_ended);
    };
    co_await gather(sleeps(), away());
  };
  for (int i = 0; i != 20; ++i) simulate(main());
}

TEST_CASE("a value that is on its way home when the stop comes is delivered, and the next wait stops") {
  for (bool in_a_turn : {false, true}) {
    asio::io_context here, there;
    asio::cancellation_signal signal;
    int delivered = 0;
    bool went_on = false, cancelled = false;
    auto seven = []() -> task<int> { co_return 7; };
    auto main = [&]() -> task<> {
      delivered = co_await on(there, seven());
      co_await yield();
      went_on = true;
    };
    auto stops = [&]() -> task<> {
      there.poll();  // the value is there now, and not yet here
      signal.emit(asio::cancellation_type::terminal);
      co_return;
    };
    tandem::spawn(here, main(),
                  asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) { cancelled = e != nullptr; }));
    if (in_a_turn) tandem::spawn(here, stops(), asio::detached);
    here.poll();
    if (!in_a_turn) {
      CHECK(delivered == 0);
      there.poll();
      signal.emit(asio::cancellation_type::terminal);
      here.restart();
      here.poll();
    }
    CHECK(delivered == 7);
    CHECK(cancelled);
    CHECK_FALSE(went_on);
  }
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("what the other tree throws is thrown here") {
  elsewhere other;
  auto fails = []() -> task<int> {
    co_await yield();
    throw std::runtime_error("over there");
  };
  auto main = [&]() -> task<> {
    const std::string said = co_await kit::thrown_by(on(other.context(), fails()));
    CHECK(said == "over there");
  };
  tandem::run(main());
}

TEST_CASE("a stop travels to the other loop, whose frames are destroyed there") {
  elsewhere other;
  asio::io_context context;
  asio::cancellation_signal signal;
  std::thread::id destroyed_on;
  bool cleaned = false, cancelled = false;
  auto body = [&]() -> task<> {
    const kit::at_exit note([&] { destroyed_on = std::this_thread::get_id(); });
    asio::post(context, [&] { signal.emit(asio::cancellation_type::terminal); });
    co_await tandem::finally(sleep_for(1h), [&]() -> task<> {
      co_await yield();
      cleaned = true;
    });
  };
  tandem::spawn(context, on(other.context(), body()),
                asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) { cancelled = e != nullptr; }));
  context.run();
  CHECK(cancelled);
  CHECK(destroyed_on == other.id());
  CHECK(cleaned);
}

TEST_CASE("a stop that meets the end of the other tree is decided once") {
  elsewhere other;
  int values = 0, stopped = 0;
  auto brief = [](int i) -> task<int> {
    for (int k = 0; k != i % 7; ++k) co_await yield();
    co_return i;
  };
  auto main = [&]() -> task<> {
    for (int i = 0; i != 500; ++i) {
      auto r = co_await tandem::try_timeout(std::chrono::microseconds(i % 50), on(other.context(), brief(i)));
      if (r) CHECK(*r == i);
      ++(r ? values : stopped);
    }
  };
  tandem::run(main());
  CHECK(values + stopped == 500);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("if the other context goes first, cancelled is thrown here") {
  std::string said;
  {
    asio::io_context context;
    auto main = [&](asio::io_context& other) -> task<> { said = co_await kit::thrown_by(on(other, sleep_for(1h))); };
    {
      asio::io_context other;
      tandem::spawn(context, main(other), asio::detached);
      context.poll();
      other.poll();
    }
    context.run();
  }
  CHECK(said.find("cancelled") != std::string::npos);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE(
    "if this context goes first, the other tree still finds what it refers to, runs to its end, and nobody hears") {
  const int how = kit::in_child([] {  // the frames are given up on purpose; here nobody counts them as a leak
    asio::io_context there;
    kit::gate open;
    bool ended = false, went_on = false;
    auto away = [&](const std::string& text) -> task<> {
      co_await open.wait();
      ended = text == std::string(100, 'a');
    };
    auto main = [&]() -> task<> {
      const std::string text(100, 'a');
      co_await on(there, away(text));
      went_on = true;
    };
    auto opens = [&]() -> task<> {
      open.open_one();
      co_return;
    };
    {
      asio::io_context here;
      tandem::spawn(here, main(), asio::detached);
      here.poll();
      there.poll();
    }
    tandem::spawn(there, opens(), asio::detached);
    there.restart();
    there.poll();
    return ended && !went_on ? 0 : 1;
  });
  CHECK(how == 0);
}

TEST_CASE("on the own loop it is one more tree, which a deadlock names") {
  kit::gate gate;
  auto waits = [&]() -> task<> { co_await gate.wait(); };
  auto main = [&]() -> task<> {
    const auto here = co_await tandem::this_task::executor;
    const int six = co_await on(here, doubled(3));
    CHECK(six == 6);
    co_await on(here, waits());
  };
  try {
    simulate(main());
    FAIL("a deadlock must be reported");
  } catch (const tandem::deadlock& d) {
    const std::string report = d.what();
    CHECK(report.find("waits for on") != std::string::npos);
    CHECK(report.find("waits for gate") != std::string::npos);
  }
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("on hands over at every stop and every end of the context") {
  struct state {
    int begun = 0, ended = 0, cleaned = 0;
  };
  elsewhere other;
  kit::explore<state>(
      [](state& s) -> task<> {
        auto one = [&](kit::counted) -> task<> {
          ++s.begun;
          const kit::at_exit note([&] { ++s.ended; });
          co_await yield();
          co_await tandem::finally(sleep_for(1ms), [&]() -> task<> {
            co_await yield();
            ++s.cleaned;
          });
        };
        const auto here = co_await tandem::this_task::executor;
        co_await gather(on(here, one({})), on(here, one({})), doubled(1));
      },
      [](state& s, kit::end how) {
        CHECK(s.begun == s.ended);
        if (how == kit::end::returned) CHECK(s.cleaned == 2);
      });
}

TEST_CASE("on refuses an empty executor and an empty task, and is awaited once") {
  CHECK_THROWS_AS(on(asio::any_io_executor(), doubled(1)), std::invalid_argument);
  CHECK_THROWS_WITH(on(asio::any_io_executor(), doubled(1)), "tandem::on: the executor is empty");
  asio::io_context context;
  CHECK_THROWS_AS(on(context, task<>()), std::logic_error);
  auto main = [&]() -> task<> {
    auto x = on(co_await tandem::this_task::executor, doubled(1));
    co_await x;
    const std::string again = co_await kit::thrown_by(std::move(x));
    CHECK(again == "tandem: awaiting an `on` that was moved from, or awaited before");
  };
  simulate(main());
}

// ---- loops under any executor

namespace {

/// A counter that is wrong, and reported by the thread sanitizer, if two coroutines ever run at the same time.
task<> counts(int& plain, int rounds) {
  for (int i = 0; i != rounds; ++i) {
    ++plain;
    if (i % 5 == 0)
      co_await sleep_for(std::chrono::microseconds(i % 3));
    else
      co_await yield();
  }
}

}  // namespace

TEST_CASE("a context run by four threads runs its coroutines one at a time") {
  asio::io_context context;
  int plain = 0;
  std::atomic<int> ended{0};
  {
    std::vector<std::thread> spawners;
    for (int t = 0; t != 2; ++t)
      spawners.emplace_back([&] {
        for (int i = 0; i != 20; ++i) tandem::spawn(context, counts(plain, 100), [&](std::exception_ptr) { ++ended; });
      });
    for (auto& t : spawners) t.join();
  }
  auto work = asio::make_work_guard(context);
  runners threads(context, 4);
  for (int i = 0; i != 10; ++i) tandem::spawn(context, counts(plain, 100), [&](std::exception_ptr) { ++ended; });
  work.reset();
  threads.join();
  CHECK(ended == 50);
  CHECK(plain == 5000);
}

TEST_CASE("handlers of a spawn run in turn with the coroutines, unless they name an executor") {
  asio::io_context context;
  int plain = 0;
  for (int i = 0; i != 50; ++i) tandem::spawn(context, counts(plain, 20), [&](std::exception_ptr) { ++plain; });
  runners(context, 4).join();
  CHECK(plain == 50 * 21);
}

TEST_CASE("this_task::executor is serial: what is posted there runs in turn with the coroutines") {
  asio::io_context context;
  int plain = 0;
  auto posts = [&]() -> task<> {
    const auto executor = co_await tandem::this_task::executor;
    for (int i = 0; i != 100; ++i) {
      asio::post(executor, [&] { ++plain; });
      co_await yield();
      ++plain;
    }
  };
  for (int i = 0; i != 8; ++i) tandem::spawn(context, posts(), asio::detached);
  runners(context, 4).join();
  CHECK(plain == 1600);
}

TEST_CASE("every strand has a loop of its own, which goes when nothing is left to do") {
  asio::io_context context;
  const int before = loops();
  std::vector<int> plain(8);
  for (int& p : plain) tandem::spawn(asio::make_strand(context), counts(p, 100), asio::detached);
  CHECK(loops() == before + 8);
  runners(context, 4).join();
  CHECK(loops() == before);
  for (int p : plain) CHECK(p == 100);
}

TEST_CASE("equal strands share one loop") {
  asio::io_context context;
  const auto strand = asio::make_strand(context);
  std::string order;
  auto says = [&](const char* what) -> task<> {
    for (int i = 0; i != 3; ++i) {
      order += what;
      co_await yield();
    }
  };
  const int before = loops();
  tandem::spawn(strand, says("a"), asio::detached);
  tandem::spawn(asio::any_io_executor(strand), says("b"), asio::detached);
  tandem::spawn(asio::prefer(asio::any_io_executor(strand), asio::execution::outstanding_work.tracked), says("c"),
                asio::detached);
  CHECK(loops() == before + 1);
  context.run();
  CHECK(order == "abcabcabc");
}

TEST_CASE("a thread_pool's executor counts as a context's; strands on it run in parallel") {
  const int before = loops();
  {
    asio::thread_pool pool(4);
    int plain = 0;
    std::vector<int> more(4);
    for (int i = 0; i != 20; ++i) tandem::spawn(pool.get_executor(), counts(plain, 50), asio::detached);
    for (int& m : more) tandem::spawn(asio::make_strand(pool), counts(m, 50), asio::detached);
    pool.join();
    CHECK(plain == 1000);
    for (int m : more) CHECK(m == 50);
  }
  CHECK(loops() == before);
}

TEST_CASE("the system_executor runs coroutines one at a time too") {
  int plain = 0;
  std::vector<std::future<void>> all;
  for (int i = 0; i != 10; ++i)
    all.push_back(tandem::spawn(asio::system_executor(), counts(plain, 50), asio::use_future));
  for (auto& f : all) f.get();
  CHECK(plain == 500);
}

TEST_CASE("run on a context that another thread runs too returns when the task has ended there") {
  asio::io_context context;
  auto work = asio::make_work_guard(context);
  std::thread other([&] { context.run(); });
  for (int i = 0; i != 200; ++i) CHECK(tandem::run(context, doubled(i)) == 2 * i);
  work.reset();
  other.join();
}

TEST_CASE("an operation may complete on a thread that has nothing to do with its executor") {
  std::vector<std::thread> threads;
  auto elsewhere_completed = [&](int value, auto token) {
    return asio::async_initiate<decltype(token), void(int)>(
        [&](auto h, int v) { threads.emplace_back([h = std::move(h), v]() mutable { std::move(h)(v); }); }, token,
        value);
  };
  auto elsewhere_dropped = [&](auto token) {
    return asio::async_initiate<decltype(token), void(int)>(
        [&](auto h) { threads.emplace_back([h = std::move(h)]() mutable { auto gone = std::move(h); }); }, token);
  };
  auto main = [&]() -> task<> {
    const auto work = asio::make_work_guard(co_await tandem::this_task::executor);
    const int got = co_await elsewhere_completed(3, tandem::use_task);
    CHECK(got == 3);
    const std::string said = co_await kit::thrown_by(elsewhere_dropped(tandem::use_task));
    CHECK(said.find("handler destroyed without a call") != std::string::npos);
  };
  tandem::run(main());
  asio::io_context context;
  tandem::run(context, main());
  for (auto& t : threads) t.join();
}

TEST_CASE("a cancellation signal may be emitted on another thread than the loop's, where the handler runs") {
  elsewhere handlers;
  for (int i = 0; i != 100; ++i) {
    asio::io_context context;
    asio::cancellation_signal signal;
    std::atomic<bool> cancelled{false};
    tandem::spawn(context, sleep_for(1h),
                  asio::bind_cancellation_slot(
                      signal.slot(), asio::bind_executor(handlers.context().get_executor(),
                                                         [&](std::exception_ptr e) { cancelled = e != nullptr; })));
    std::thread t([&] { context.run(); });
    std::promise<void> emitted;
    asio::post(handlers.context(), [&] {
      signal.emit(asio::cancellation_type::terminal);
      emitted.set_value();
    });
    emitted.get_future().wait();
    t.join();
    std::promise<void> called;
    asio::post(handlers.context(), [&] { called.set_value(); });
    called.get_future().wait();
    CHECK(cancelled);
  }
}

// ---- one loop for what has no lock

TEST_CASE("waiting on a default primitive from a second loop throws logic_error that names the concurrent type") {
  asio::io_context context;
  kit::gate gate;
  std::string said;
  auto waits = [&]() -> task<> { co_await gate.wait(); };
  auto refused = [&]() -> task<> { said = co_await kit::thrown_by(gate.wait()); };
  tandem::spawn(asio::make_strand(context), waits(), asio::detached);
  context.poll();
  tandem::spawn(asio::make_strand(context), refused(), asio::detached);
  context.restart();
  context.poll();
  CHECK(said == "tandem::gate: a coroutine of another loop waits on it, and it has no lock; use concurrent_gate");
}

TEST_CASE("a default primitive may move on when its loop has gone, and serves every tree of equal executors") {
  kit::gate gate;
  auto passes = [&]() -> task<> {
    auto opens = [&]() -> task<> {
      gate.open();
      co_return;
    };
    auto waits = [&]() -> task<> { co_await gate.wait(); };
    co_await gather(waits(), opens());
  };
  for (int i = 0; i != 3; ++i) simulate(passes());
  asio::io_context context;
  const auto strand = asio::make_strand(context);
  int passed = 0;
  for (int i = 0; i != 3; ++i) {
    tandem::spawn(strand, passes(), [&](std::exception_ptr e) { passed += !e; });
    context.restart();
    context.run();
  }
  tandem::spawn(context, passes(), [&](std::exception_ptr e) { passed += !e; });
  tandem::spawn(context.get_executor(), passes(), [&](std::exception_ptr e) { passed += !e; });
  context.restart();
  context.run();
  CHECK(passed == 5);
}

// ---- everything at once

TEST_CASE("real_ sessions on strands of a pooled server echo, time out and are cancelled") {
  asio::io_context context;
  asio::ip::tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), 0});
  const auto port = acceptor.local_endpoint();
  std::atomic<int> echoed{0}, timed_out{0}, served{0};
  using socket = asio::ip::tcp::socket;

  auto session = [&](socket s) -> task<> {
    char data[16];
    for (;;) {
      const std::size_t n = co_await s.async_read_some(asio::buffer(data), tandem::use_task);
      co_await asio::async_write(s, asio::buffer(data, n), tandem::use_task);
    }
  };
  auto server = [&]() -> task<> {
    for (int i = 0; i != 40; ++i) {
      socket s(asio::make_strand(context));
      co_await acceptor.async_accept(s, tandem::use_task);
      const auto executor = s.get_executor();
      tandem::spawn(executor, session(std::move(s)), [&](std::exception_ptr) { ++served; });
    }
  };
  auto client = [&](int number) -> task<> {
    socket s(co_await tandem::this_task::executor);
    co_await s.async_connect(port, tandem::use_task);
    char data[4] = {'p', 'i', 'n', 'g'};
    for (int i = 0; i != 20; ++i) {
      co_await asio::async_write(s, asio::buffer(data), tandem::use_task);
      co_await asio::async_read(s, asio::buffer(data), tandem::use_task);
      ++echoed;
    }
    if (number % 2 == 0) {  // nothing comes any more
      const auto r = co_await tandem::try_timeout(2ms, asio::async_read(s, asio::buffer(data), tandem::use_task));
      timed_out += !r;
    }
  };
  tandem::spawn(context, server(), asio::detached);
  for (int i = 0; i != 40; ++i) tandem::spawn(asio::make_strand(context), client(i), asio::detached);
  runners(context, 4).join();
  CHECK(echoed == 800);
  CHECK(timed_out == 20);
  CHECK(served == 40);
  CHECK(kit::live_frames() == 0);
}
