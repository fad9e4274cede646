// Asio both ways: asio::awaitable inside a task, and everything of tandem's behind any completion token.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of Asio 1.22's own, for a slot bound to use_future
#endif

#include <tandem/tandem.hpp>

#include TANDEM_ASIO_HEADER(awaitable.hpp)
#include TANDEM_ASIO_HEADER(bind_cancellation_slot.hpp)
#include TANDEM_ASIO_HEADER(bind_executor.hpp)
#include TANDEM_ASIO_HEADER(co_spawn.hpp)
#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(experimental/awaitable_operators.hpp)
#include TANDEM_ASIO_HEADER(redirect_error.hpp)
#include TANDEM_ASIO_HEADER(steady_timer.hpp)
#include TANDEM_ASIO_HEADER(strand.hpp)
#include TANDEM_ASIO_HEADER(this_coro.hpp)
#include TANDEM_ASIO_HEADER(use_awaitable.hpp)
#include TANDEM_ASIO_HEADER(use_future.hpp)
#if TANDEM_ASIO_VERSION >= 102400
#include TANDEM_ASIO_HEADER(append.hpp)
#include TANDEM_ASIO_HEADER(as_tuple.hpp)
#include TANDEM_ASIO_HEADER(deferred.hpp)
#else
#include TANDEM_ASIO_HEADER(experimental/append.hpp)
#include TANDEM_ASIO_HEADER(experimental/as_tuple.hpp)
#include TANDEM_ASIO_HEADER(experimental/deferred.hpp)
#endif
#if TANDEM_ASIO_VERSION >= 102600
#include TANDEM_ASIO_HEADER(any_completion_handler.hpp)
#endif
#if TANDEM_ASIO_VERSION >= 103100
#include TANDEM_ASIO_HEADER(cancel_after.hpp)
#endif

#include "catch.hpp"
#include "kit/kit.hpp"

#include <future>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>

using namespace std::chrono_literals;
using tandem::simulate;
using tandem::sleep_for;
using tandem::spawn;
using tandem::task;
using tandem::use_task;
using tandem::yield;

#if TANDEM_ASIO_VERSION >= 102400
namespace token = asio;
#else
namespace token = asio::experimental;
#endif

namespace {

struct no_default {
  explicit no_default(int v) : value(v) {}
  int value;
};

/// Waits a little on an Asio timer.
asio::awaitable<void> rest(asio::steady_timer::duration d = 1us) {
  asio::steady_timer timer(co_await asio::this_coro::executor, d);
  co_await timer.async_wait(asio::use_awaitable);
}

template <class T>
asio::awaitable<T> paused(T value) {
  co_await rest();
  co_return value;
}

asio::awaitable<int> throws_after_pause() {
  co_await rest();
  throw std::runtime_error("inside the awaitable");
}

task<int> answer() {
  co_await yield();
  co_return 42;
}

task<int> failure() {
  co_await yield();
  throw std::runtime_error("inside the task");
}

std::string text_of(std::exception_ptr e) {
  try {
    if (e) std::rethrow_exception(e);
  } catch (const std::exception& x) {
    return x.what();
  }
  return "";
}

bool is_cancelled(std::exception_ptr e) {
  try {
    if (e) std::rethrow_exception(e);
  } catch (const tandem::cancelled&) {
    return true;
  } catch (...) {
  }
  return false;
}

}  // namespace

// ---- asio::awaitable inside a task

TEST_CASE("a task awaits asio::awaitable as it is: values, nothing, what only moves, what has no default") {
  auto main = []() -> task<> {
    const int one = co_await paused(1);
    CHECK(one == 1);
    co_await rest();
    const auto moved = co_await paused(std::make_unique<int>(2));
    CHECK(*moved == 2);
    const no_default three = co_await paused(no_default(3));
    CHECK(three.value == 3);
    auto later = paused(std::string("four"));
    const std::string four = co_await std::move(later);
    CHECK(four == "four");
  };
  tandem::run(main());
  simulate(main());
  asio::io_context context;
  bool ended = false;
  spawn(asio::make_strand(context), main(), [&](std::exception_ptr e) { ended = !e; });
  context.run();
  CHECK(ended);
}

TEST_CASE("an awaitable runs on the loop's executor") {
  auto main = []() -> task<> {
    const auto mine = co_await tandem::this_task::executor;
    auto ask = []() -> asio::awaitable<asio::any_io_executor> { co_return co_await asio::this_coro::executor; };
    const auto its = co_await ask();
    CHECK(its == mine);
  };
  asio::io_context context;
  tandem::run(context, main());
  tandem::run(main());
}

TEST_CASE("what an awaitable throws is thrown from the co_await") {
  auto main = []() -> task<> {
    const std::string said = co_await kit::thrown_by(throws_after_pause());
    CHECK(said == "inside the awaitable");
  };
  simulate(main());
}

TEST_CASE("awaitables go into gather, timeout and shield like tasks") {
  auto main = []() -> task<> {
    auto bound8 = co_await tandem::gather(paused(1), answer(), paused(std::string("x")));
    auto& [a, b, c] = bound8;
    CHECK(a == 1);
    CHECK(b == 42);
    CHECK(c == "x");
    const int d = co_await tandem::timeout(1h, paused(4));
    CHECK(d == 4);
    const int e = co_await tandem::shield(paused(5));
    CHECK(e == 5);
  };
  tandem::run(main());
}

TEST_CASE("an empty awaitable is refused with logic_error") {
  auto main = []() -> task<> {
    auto a = paused(1);
    co_await std::move(a);
    std::string said;
    try {
      co_await std::move(a);
    } catch (const std::logic_error& e) {
      said = e.what();
    }
    CHECK(said == "tandem: awaiting an empty asio::awaitable: it was moved from, or awaited before");
  };
  simulate(main());
}

namespace {

/// What becomes of a task that awaits `a` and is stopped after a while.
struct stopped_in_awaitable {
  bool went_on = false, stopped = false;
  std::string said;

  template <class A>
  explicit stopped_in_awaitable(A a) {
    asio::io_context context;
    asio::cancellation_signal signal;
    auto body = [&](A x) -> task<> {
      try {
        co_await std::move(x);
        went_on = true;
      } catch (const std::exception& e) {
        said = e.what();
      }
      co_await sleep_for(1h);  // where a stop that was not the end takes effect
    };
    spawn(context, body(std::move(a)), asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) {
            stopped = is_cancelled(e);
          }));
    asio::steady_timer timer(context, 2ms);
    timer.async_wait([&](tandem::error_code) { signal.emit(asio::cancellation_type::terminal); });
    context.run();
  }
};

}  // namespace

TEST_CASE("inside an awaitable cancellation is Asio's exception, and its end in operation_aborted counts as stopped") {
  bool seen = false;
  auto waits = [&]() -> asio::awaitable<void> {
    try {
      co_await rest(1h);
    } catch (const tandem::system_error& e) {
      seen = e.code() == asio::error::operation_aborted;
      throw;
    }
  };
  const stopped_in_awaitable r(waits());
  CHECK(seen);
  CHECK(r.stopped);
  CHECK_FALSE(r.went_on);
  CHECK(r.said.empty());
}

TEST_CASE("an awaitable that swallows its cancellation delivers its value, and the next wait stops") {
  auto swallows = []() -> asio::awaitable<int> {
    try {
      co_await rest(1h);
    } catch (const tandem::system_error&) {
    }
    co_return 1;
  };
  const stopped_in_awaitable r(swallows());
  CHECK(r.went_on);
  CHECK(r.stopped);
}

TEST_CASE("an awaitable that ends in another exception delivers that, and the next wait stops") {
  auto translates = []() -> asio::awaitable<int> {
    try {
      co_await rest(1h);
    } catch (const tandem::system_error&) {
      throw std::runtime_error("translated");
    }
    co_return 1;
  };
  const stopped_in_awaitable r(translates());
  CHECK(r.said == "translated");
  CHECK(r.stopped);
}

TEST_CASE("operation_aborted from an awaitable that nobody stopped is an ordinary failure") {
  auto main = []() -> task<> {
    auto aborts = []() -> asio::awaitable<void> {
      co_await rest();
      throw tandem::system_error(asio::error::operation_aborted);
    };
    const std::string said = co_await kit::thrown_by(aborts());
    CHECK_FALSE(said.empty());
  };
  simulate(main());
}

TEST_CASE("a stop that comes when the end of an awaitable is on its way leaves nothing behind that refers to it") {
  bool ended = false;
  auto main = [&]() -> task<> {
    const asio::any_io_executor executor = co_await tandem::this_task::executor;
    asio::steady_timer timer(executor, 1h);
    auto waits = [&]() -> asio::awaitable<void> {
      tandem::error_code cancelled;
      co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
      ended = true;
    };
    auto fails = [&]() -> task<> {
      co_await asio::post(executor, use_task);  // the other one waits now
      timer.cancel();
      throw std::runtime_error("meanwhile");
    };
    co_await tandem::gather(waits(), fails());
  };
  CHECK_THROWS_WITH(simulate(main()), "meanwhile");
  CHECK(ended);
}

TEST_CASE("in a stopped scope an awaitable is not started") {
  bool started = false;
  auto awaitable = [&]() -> asio::awaitable<void> {
    started = true;
    co_return;
  };
  asio::io_context context;
  asio::cancellation_signal signal;
  auto body = [&]() -> task<> {
    signal.emit(asio::cancellation_type::terminal);
    co_await awaitable();
  };
  spawn(context, body(), asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr) {}));
  context.run();
  CHECK_FALSE(started);
}

TEST_CASE("awaitables hand over at every stop and every end of the context") {
  struct state {
    int begun = 0, ended = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto inner = [&](kit::counted) -> asio::awaitable<int> {
          ++s.begun;
          const kit::at_exit note([&] { ++s.ended; });
          co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
          co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
          co_return 1;
        };
        auto outer = [&]() -> task<int> {
          const int one = co_await inner({});
          co_return one;
        };
        co_await tandem::gather(outer(), outer(), inner({}));
      },
      [](state& s, kit::end) { CHECK(s.begun == s.ended); });
}

// ---- tandem behind any completion token

TEST_CASE("every awaitable of tandem's can be spawned") {
  asio::io_context context;
  int done = 0;
  auto count = [&](std::exception_ptr e, auto...) { done += !e; };
  asio::steady_timer timer(context, 0s);
  auto one = [](int i) { return kit::after(1us, i); };
  const int numbers[] = {1, 2, 3};
  std::vector<task<int>> many;
  many.push_back(answer());
  spawn(context, answer(), count);
  spawn(context, sleep_for(1us), count);
  spawn(context, yield(), count);
  spawn(context, tandem::gather(answer(), sleep_for(1us)), count);
  spawn(context, tandem::gather(std::move(many)), count);
  spawn(context, tandem::transform(numbers, one), count);
  spawn(context, tandem::for_each(numbers, one), count);
  spawn(context, tandem::timeout(1h, answer()), count);
  spawn(context, tandem::try_timeout(1h, answer()), count);
  spawn(context, tandem::shield(answer()), count);
  spawn(context, tandem::finally(answer(), answer), count);
  spawn(context, tandem::to_thread([] { return 1; }), count);
  spawn(context, tandem::on(context, answer()), count);
  spawn(context, timer.async_wait(tandem::use_task), count);
  spawn(context, timer.async_wait(token::deferred), count);
  spawn(context, paused(1), count);
  context.run();
  CHECK(done == 16);
}

TEST_CASE("callbacks get the exception, or none and the value") {
  asio::io_context context;
  int value = 0;
  std::string said;
  spawn(context, answer(), [&](std::exception_ptr e, int v) { value = e ? -1 : v; });
  spawn(context, failure(), [&](std::exception_ptr e, int v) { said = text_of(e) + std::to_string(v); });
  auto gives = []() -> task<no_default> { co_return no_default(7); };
  int seven = 0;
  spawn(context, gives(), [&](std::exception_ptr, std::optional<no_default> v) { seven = v->value; });
  context.run();
  CHECK(value == 42);
  CHECK(said == "inside the task0");
  CHECK(seven == 7);
}

TEST_CASE("use_awaitable: an Asio coroutine awaits what tandem's gives, and what it throws") {
  asio::io_context context;
  int sum = 0;
  std::string said;
  auto coroutine = [&]() -> asio::awaitable<void> {
    const auto ex = co_await asio::this_coro::executor;
    sum += co_await spawn(ex, answer(), asio::use_awaitable);
    co_await spawn(ex, sleep_for(1us), asio::use_awaitable);
    try {
      co_await spawn(ex, failure(), asio::use_awaitable);
    } catch (const std::runtime_error& e) {
      said = e.what();
    }
    auto bound9 = co_await spawn(ex, answer(), token::as_tuple(asio::use_awaitable));
    auto& [e, v] = bound9;
    if (!e) sum += v;
  };
  asio::co_spawn(context, coroutine(), asio::detached);
  context.run();
  CHECK(sum == 84);
  CHECK(said == "inside the task");
}

TEST_CASE("the cancellation of an Asio coroutine stops the tree that it awaits") {
  using namespace asio::experimental::awaitable_operators;
  asio::io_context context;
  bool cleaned = false, seen = false;
  auto tree = [&](kit::counted) -> task<> {
    co_await tandem::finally(sleep_for(1h), [&]() -> task<> {
      co_await yield();
      cleaned = true;
    });
  };
  auto coroutine = [&]() -> asio::awaitable<void> {
    const auto ex = co_await asio::this_coro::executor;
    asio::steady_timer timer(ex, 1ms);
    co_await (spawn(ex, tree({}), asio::use_awaitable) || timer.async_wait(asio::use_awaitable));
  };
  asio::cancellation_signal signal;
  auto directly = [&]() -> asio::awaitable<void> {
    try {
      co_await spawn(co_await asio::this_coro::executor, tree({}), asio::use_awaitable);
    } catch (const tandem::system_error& e) {
      seen = e.code() == asio::error::operation_aborted;
    }
  };
  asio::co_spawn(context, coroutine(), asio::detached);
  context.run();
  CHECK(cleaned);
  cleaned = false;
  asio::co_spawn(context, directly(), asio::bind_cancellation_slot(signal.slot(), asio::detached));
  asio::steady_timer timer(context, 1ms);
  timer.async_wait([&](tandem::error_code) { signal.emit(asio::cancellation_type::terminal); });
  context.restart();
  context.run();
  CHECK(cleaned);
  CHECK(seen);
  CHECK(kit::counted::live() == 0);
}

TEST_CASE("use_future: a thread waits for a task") {
  asio::io_context context;
  auto value = spawn(context, answer(), asio::use_future);
  auto nothing = spawn(context, sleep_for(1us), asio::use_future);
  auto failed = spawn(context, failure(), asio::use_future);
  std::thread t([&] { context.run(); });
  CHECK(value.get() == 42);
  nothing.get();
  CHECK_THROWS_WITH(failed.get(), "inside the task");
  t.join();
}

TEST_CASE("deferred: the task starts when the operation does, or is destroyed with it") {
  asio::io_context context;
  int value = 0;
  {
    auto never = spawn(context, [](kit::counted) -> task<> { co_return; }({}), token::deferred);
    (void)never;
    CHECK(kit::counted::live() == 1);
  }
  CHECK(kit::counted::live() == 0);
  auto later = spawn(asio::make_strand(context), answer(), token::deferred);
  context.run();
  CHECK(value == 0);
  std::move(later)([&](std::exception_ptr, int v) { value = v; });
  context.restart();
  context.run();
  CHECK(value == 42);
  auto main = [&]() -> task<> {
    const int v = co_await spawn(co_await tandem::this_task::executor, answer(), token::deferred);
    CHECK(v == 42);
  };
  simulate(main());
}

TEST_CASE("use_task: a task awaits another tree, and a stop of the waiter stops that") {
  auto main = []() -> task<> {
    const auto ex = co_await tandem::this_task::executor;
    const int v = co_await spawn(ex, answer(), tandem::use_task);
    CHECK(v == 42);
    const auto late = co_await tandem::try_timeout(1s, spawn(ex, sleep_for(1h), tandem::use_task));
    CHECK_FALSE(late);
    CHECK(tandem::clock::now() == kit::at(1s));
  };
  simulate(main());
}

TEST_CASE("detached, append and bound executors") {
  asio::io_context context, other;
  int value = 0, appended = 0;
  bool there = false;
  spawn(context, answer(), asio::detached);
  spawn(context, failure(), asio::detached);
  spawn(context, answer(), token::append([&](std::exception_ptr, int v, int more) { value = v + (appended = more); }, 1));
  spawn(context, answer(), asio::bind_executor(other, [&](std::exception_ptr, int) {
          there = other.get_executor().running_in_this_thread();
        }));
  context.run();
  CHECK(value == 43);
  CHECK_FALSE(there);
  other.run();
  CHECK(there);
}

TEST_CASE("a slot bound inside or outside a bound executor stops the tree") {
  asio::io_context context;
  asio::cancellation_signal inside, outside, of_future;
  int cancelled = 0;
  auto handler = [&](std::exception_ptr e) { cancelled += is_cancelled(e); };
  spawn(context, sleep_for(1h),
        asio::bind_executor(context.get_executor(), asio::bind_cancellation_slot(inside.slot(), handler)));
  spawn(asio::make_strand(context), sleep_for(1h),
        asio::bind_cancellation_slot(outside.slot(), asio::bind_executor(context.get_executor(), handler)));
  auto future = spawn(context, sleep_for(1h), asio::bind_cancellation_slot(of_future.slot(), asio::use_future));
  context.poll();
  inside.emit(asio::cancellation_type::total);
  outside.emit(asio::cancellation_type::partial);
  of_future.emit(asio::cancellation_type::terminal);
  context.restart();
  context.run();
  CHECK(cancelled == 2);
  CHECK_THROWS_AS(future.get(), tandem::cancelled);
}

#if TANDEM_ASIO_VERSION >= 102600
TEST_CASE("any_completion_handler keeps the slot") {
  asio::io_context context;
  asio::cancellation_signal signal;
  bool cancelled = false;
  asio::any_completion_handler<void(std::exception_ptr)> handler(asio::bind_cancellation_slot(
      signal.slot(), [&](std::exception_ptr e) { cancelled = is_cancelled(e); }));
  spawn(context, sleep_for(1h), std::move(handler));
  context.poll();
  signal.emit(asio::cancellation_type::terminal);
  context.restart();
  context.run();
  CHECK(cancelled);
}
#endif

#if TANDEM_ASIO_VERSION >= 103100
TEST_CASE("cancel_after stops a tree when its time is up") {
  asio::io_context context;
  bool cancelled = false, in_time = false;
  spawn(context, sleep_for(1h), asio::cancel_after(1ms, [&](std::exception_ptr e) { cancelled = is_cancelled(e); }));
  spawn(asio::make_strand(context), answer(), asio::cancel_after(1h, [&](std::exception_ptr e, int) { in_time = !e; }));
  context.run();
  CHECK(cancelled);
  CHECK(in_time);
}
#endif

TEST_CASE("a spawned tree inherits no stop: the end of its spawner does not reach it") {
  bool ended = false;
  auto child = [&]() -> task<> {
    co_await sleep_for(2s);
    ended = true;
  };
  auto spawner = [&]() -> task<> {
    spawn(co_await tandem::this_task::executor, child(), asio::detached);
    co_await sleep_for(1h);
  };
  auto main = [&]() -> task<> {
    const auto r = co_await tandem::try_timeout(1s, spawner());
    CHECK_FALSE(r);
    co_await sleep_for(2s);
  };
  simulate(main());
  CHECK(ended);
}
