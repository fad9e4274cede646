// asio::use_future trips a false alarm of g++ 12.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <tandem/spawn.hpp>

#include <tandem/cancel.hpp>
#include <tandem/run.hpp>

#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(awaitable.hpp)
#include TANDEM_ASIO_HEADER(bind_executor.hpp)
#include TANDEM_ASIO_HEADER(co_spawn.hpp)
#include TANDEM_ASIO_HEADER(ip/tcp.hpp)
#include TANDEM_ASIO_HEADER(steady_timer.hpp)
#include TANDEM_ASIO_HEADER(strand.hpp)
#include TANDEM_ASIO_HEADER(use_awaitable.hpp)
#include TANDEM_ASIO_HEADER(use_future.hpp)

#include <memory>
#include <optional>
#include <stdexcept>

using namespace std::chrono_literals;
using tandem::sleep_for;
using tandem::spawn;
using tandem::task;
using tandem::use_task;
using tandem::yield;

namespace {

task<int> answer() {
  co_await yield();
  co_return 42;
}

struct no_default {
  explicit no_default(int v) : value(v) {}
  int value;
};

}  // namespace

TEST_CASE("spawn calls its handler with the exception and the value; optional if the value has no default") {
  asio::io_context context;
  int value = 0, optional_value = 0;
  bool nothing = false, failed = false;
  spawn(context, answer(), [&](std::exception_ptr e, int v) { value = e ? -1 : v; });
  auto stubborn = []() -> task<no_default> { co_return no_default(5); };
  spawn(context, stubborn(), [&](std::exception_ptr, std::optional<no_default> v) { optional_value = v->value; });
  auto empty = []() -> task<> { co_return; };
  spawn(context, empty(), [&](std::exception_ptr e) { nothing = !e; });
  auto fails = []() -> task<int> {
    co_await yield();
    throw std::runtime_error("x");
  };
  spawn(context, fails(), [&](std::exception_ptr e, int) { failed = !!e; });
  CHECK(value == 0);  // never inside spawn
  context.run();
  CHECK(value == 42);
  CHECK(optional_value == 5);
  CHECK(nothing);
  CHECK(failed);
}

TEST_CASE("a spawned result that cannot be assigned, or whose move throws") {
  struct constant {
    const int value = 3;
    constant() = default;
    constant(constant&&) = default;
  };
  struct fragile {
    fragile() = default;
    fragile(fragile&& o) : moves(o.moves + 1) {
      if (moves > 1) throw std::runtime_error("move");
    }
    int moves = 0;
  };
  asio::io_context context;
  int value = 0;
  bool failed = false;
  auto make_constant = []() -> task<constant> { co_return constant(); };
  auto make_fragile = []() -> task<fragile> { co_return fragile(); };
  spawn(context, make_constant(), [&](std::exception_ptr, constant c) { value = c.value; });
  spawn(context, make_fragile(), [&](std::exception_ptr e, const fragile&) { failed = !!e; });
  context.run();
  CHECK(value == 3);
  CHECK(failed);
}

TEST_CASE("spawn takes any awaitable, and any completion token") {
  asio::io_context context;
  int fired = 0;
  spawn(context, sleep_for(1ms), [&](std::exception_ptr e) { fired += !e; });
  asio::steady_timer timer(context, 1ms);
  spawn(context.get_executor(), timer.async_wait(use_task), [&](std::exception_ptr e) { fired += !e; });
  asio::any_io_executor any = context.get_executor();
  spawn(any, yield(), asio::detached);
  auto future = spawn(any, answer(), asio::use_future);
  auto awaits = [&]() -> asio::awaitable<void> {
    const int v = co_await tandem::spawn(context, answer(), asio::use_awaitable);
    fired += v == 42;
  };
  asio::co_spawn(context, awaits(), asio::detached);
  auto from_a_task = [&]() -> task<> {
    const int v = co_await tandem::spawn(context, answer(), use_task);
    fired += v == 42;
  };
  spawn(context, from_a_task(), asio::detached);
  context.run();
  CHECK(fired == 4);
  CHECK(future.get() == 42);
}

TEST_CASE("a spawned task's handler runs on its own executor, after the task's frames are gone") {
  asio::io_context context, other;
  bool here = false, there = false;
  auto main = [](kit::counted) -> task<> { co_await yield(); };
  spawn(context, main({}), asio::bind_executor(other.get_executor(), [&](std::exception_ptr) {
          there = other.get_executor().running_in_this_thread();
          CHECK(kit::counted::live() == 0);
        }));
  spawn(context, main({}), [&](std::exception_ptr) { here = context.get_executor().running_in_this_thread(); });
  context.run();
  CHECK(here);
  CHECK_FALSE(there);
  other.run();
  CHECK(there);
}

TEST_CASE("a handler keeps the context of its executor running until it is called") {
  asio::io_context context, other;
  kit::gate gate;
  bool called = false;
  auto waits = [&]() -> task<> { co_await gate.wait(); };
  auto opens = [&]() -> task<> {
    gate.open_one();
    co_return;
  };
  spawn(context, waits(), asio::bind_executor(other.get_executor(), [&](std::exception_ptr e) { called = !e; }));
  context.run();
  other.poll();
  CHECK_FALSE(other.stopped());
  CHECK_FALSE(called);
  spawn(context, opens(), asio::detached);
  context.restart();
  context.run();
  other.poll();
  CHECK(called);
  CHECK(other.stopped());
}

TEST_CASE("a handler that names no executor is called on that of its task's loop") {
  asio::io_context context;
  const auto strand = asio::make_strand(context);
  int on_strand = 0;
  auto main = [&]() -> task<> {
    const auto executor = co_await tandem::this_task::executor;
    CHECK((executor == asio::any_io_executor(strand)));
  };
  spawn(strand, main(), [&](std::exception_ptr) { on_strand += strand.running_in_this_thread(); });
  spawn(context, yield(), [&](std::exception_ptr) { on_strand += strand.running_in_this_thread() ? 10 : 100; });
  context.run();
  CHECK(on_strand == 101);
}

TEST_CASE("the cancellation slot of a spawn stops the task, and its handler gets cancelled") {
  asio::io_context context;
  asio::cancellation_signal signal;
  bool cancelled = false, cleaned = false;
  auto main = [&]() -> task<> {
    kit::counted c;
    co_await tandem::finally(sleep_for(1h), [&]() -> task<> {
      co_await yield();
      cleaned = true;
    });
  };
  spawn(context, main(), asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) {
          try {
            std::rethrow_exception(e);
          } catch (const tandem::cancelled& c) {
            cancelled = c.code() == asio::error::operation_aborted;
          }
        }));
  context.run_for(5ms);
  signal.emit(asio::cancellation_type::terminal);
  context.run();
  CHECK(cancelled);
  CHECK(cleaned);
  CHECK(kit::counted::live() == 0);
  signal.emit(asio::cancellation_type::terminal);  // late: nothing there any more
}

TEST_CASE("the signal of a spawn may be owned by its task, go before its context, or outlive it") {
  asio::cancellation_signal outlives;
  {
    asio::io_context context;
    auto owns = [](std::shared_ptr<asio::cancellation_signal>) -> task<> { co_await yield(); };
    auto owned = std::make_shared<asio::cancellation_signal>();
    auto slot = owned->slot();
    spawn(context, owns(std::move(owned)), asio::bind_cancellation_slot(slot, asio::detached));
    context.run();
    auto sleeps = []() -> task<> { co_await sleep_for(1h); };
    spawn(context, sleeps(), asio::bind_cancellation_slot(outlives.slot(), asio::detached));
    asio::cancellation_signal goes_before;
    spawn(context, sleeps(), asio::bind_cancellation_slot(goes_before.slot(), asio::detached));
    context.restart();
    context.poll();
  }
  outlives.emit(asio::cancellation_type::terminal);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("an exception thrown by a completion handler leaves context.run, as in Asio") {
  asio::io_context context;
  spawn(context, answer(), [](std::exception_ptr, int) { throw std::runtime_error("from the handler"); });
  CHECK_THROWS_WITH(context.run(), "from the handler");
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("spawn takes every executor of an io_context") {
  asio::io_context context;
  int ran = 0;
  auto count = [&](std::exception_ptr e, int) { ran += !e; };
  const asio::any_io_executor any = context.get_executor();
  spawn(asio::require(context.get_executor(), asio::execution::blocking.never), answer(), count);
  spawn(asio::prefer(context.get_executor(), asio::execution::outstanding_work.tracked), answer(), count);
  spawn(asio::prefer(any, asio::execution::outstanding_work.tracked), answer(), count);
  spawn(use_task.as_default_on(asio::ip::tcp::socket(context)).get_executor(), answer(), count);
  context.run();
  CHECK(ran == 4);
}

TEST_CASE("spawn refuses an empty executor, and an empty task") {
  CHECK_THROWS_AS(spawn(asio::any_io_executor(), answer(), asio::detached), std::invalid_argument);
  CHECK_THROWS_WITH(spawn(asio::any_io_executor(), answer(), asio::detached), "tandem::spawn: the executor is empty");
  asio::io_context context;
  CHECK_THROWS_AS(spawn(context, task<>(), asio::detached), std::logic_error);
}

TEST_CASE("tasks wake each other across trees of one context") {
  asio::io_context context;
  kit::gate there, back;
  int rounds = 0;
  auto ping = [&]() -> task<> {
    for (int i = 0; i != 1000; ++i) {
      there.open_one();
      co_await back.wait();
      ++rounds;
    }
  };
  auto pong = [&]() -> task<> {
    for (int i = 0; i != 1000; ++i) {
      co_await there.wait();
      back.open_one();
    }
  };
  spawn(context, ping(), asio::detached);
  spawn(context, pong(), asio::detached);
  context.run();
  CHECK(rounds == 1000);
}
