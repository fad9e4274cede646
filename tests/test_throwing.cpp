// What throws at the borders of the machine: initiating functions, moves, destructors, callables, ranges, cancellation
// handlers, executors.

#include <tandem/tandem.hpp>

#include "kit/child_process.hpp"
#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(async_result.hpp)
#include TANDEM_ASIO_HEADER(bind_executor.hpp)
#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(post.hpp)
#include TANDEM_ASIO_HEADER(steady_timer.hpp)

#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using kit::counted;
using kit::thrown_by;
using tandem::task;
using tandem::use_task;

namespace {

/// Throws from the move after `moves` more.
class fragile {
 public:
  explicit fragile(int moves) : moves_(moves) {}
  fragile(fragile&& o) : moves_(o.moves_ - 1) {
    if (moves_ < 0) throw std::runtime_error("move");
  }

 private:
  int moves_;
  counted here_;
};

/// Throws from its destructor, once.
class explosive {
 public:
  explosive() = default;
  explosive(explosive&& o) noexcept : armed_(std::exchange(o.armed_, false)) {}
  ~explosive() noexcept(false) {
    if (std::exchange(armed_, false)) throw std::runtime_error("destructor");
  }

 private:
  bool armed_ = true;
};

/// Awaits `make(n)` for n = 0, 1, ... until nothing is thrown; what was thrown before that must be "move".
template <class Make>
task<int> moves_survived(Make make) {
  for (int n = 0; n != 100; ++n) {
    std::string text;
    try {
      auto awaitable = make(n);
      co_await std::move(awaitable);
    } catch (const std::exception& e) {
      text = e.what();
    }
    if (text.empty()) co_return n;
    if (text != "move") throw std::logic_error(text);
  }
  co_return -1;
}

using handler_kept = std::shared_ptr<void>;

/// An initiating function that keeps its handler in `where`, to be called through `call`, and throws.
struct keeping {
  handler_kept& where;
  std::function<void(tandem::error_code)>& call;
  template <class Handler>
  void operator()(Handler handler) const {
    auto kept = std::make_shared<Handler>(std::move(handler));
    call = [kept = kept.get()](tandem::error_code e) { std::move (*kept)(e); };
    where = std::move(kept);
    throw std::runtime_error("initiation");
  }
};

/// An executor that refuses its next `refusals` functions.
class moody {
 public:
  moody(asio::io_context& context, int& refusals) noexcept : context_(&context), refusals_(&refusals) {}
  asio::execution_context& query(asio::execution::context_t) const noexcept { return *context_; }
  moody require(asio::execution::blocking_t::never_t) const noexcept { return *this; }
  template <class F>
  void execute(F&& f) const {
    if (*refusals_ > 0) {
      --*refusals_;
      throw std::runtime_error("executor");
    }
    asio::post(*context_, std::forward<F>(f));
  }
  bool operator==(const moody&) const noexcept = default;

 private:
  asio::io_context* context_;
  int* refusals_;
};

/// All objects are gone, at the latest when the threads of to_thread have let go of their calls.
bool nothing_is_left() {
  for (int i = 0; i != 1000 && counted::live() != 0; ++i) std::this_thread::sleep_for(1ms);
  return counted::live() == 0 && kit::live_frames() == 0;
}

task<int> one() {
  co_await tandem::yield();
  co_return 1;
}

}  // namespace

// ---- destructors: first, because threads do not survive a fork
// ----------------------------------------------------------------------------------------------------

TEST_CASE("a local whose destructor throws when the body ends: that is how the task ends") {
  auto returns = []() -> task<std::string> {
    explosive local;
    co_await tandem::yield();
    co_return "a value that is dropped";
  };
  auto main = [&]() -> task<> {
    std::string text = co_await thrown_by(returns());
    CHECK(text == "destructor");
    text = co_await thrown_by(tandem::gather(returns(), one()));
    CHECK(text == "destructor");
  };
  tandem::simulate(main());
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("a local whose destructor throws while a stopped frame is destroyed: std::terminate") {
  const int code = kit::in_child([] {
    auto stopped = []() -> task<> {
      explosive local;
      co_await tandem::sleep_for(1h);
    };
    auto main = [&]() -> task<> { co_await tandem::try_timeout(1s, stopped()); };
    tandem::simulate(main());
  });
  CHECK(code == kit::terminated);
}

TEST_CASE("a local whose destructor throws while an exception passes: std::terminate, as everywhere in C++") {
  const int code = kit::in_child([] {
    auto fails = []() -> task<> {
      explosive local;
      co_await tandem::yield();
      throw std::runtime_error("x");
    };
    tandem::simulate(fails());
  });
  CHECK(code == kit::terminated);
}

// g++ 14.2 itself crashes on a coroutine with such a parameter.
#if defined(__clang__) || __GNUC__ != 14
TEST_CASE("a parameter whose destructor throws: std::terminate") {
  const int code = kit::in_child([] {
    auto takes = [](explosive) -> task<> { co_await tandem::yield(); };
    auto main = [&]() -> task<> {
      co_await takes(explosive());
    };
    try {
      tandem::simulate(main());
    } catch (...) {
    }
  });
  CHECK(code == kit::terminated);
}
#endif

TEST_CASE("a result whose destructor throws: std::terminate") {
  const int code = kit::in_child([] {
    struct result {
      counted c;
      bool armed = true;
      result() = default;
      result(result&&) = default;  // the one that was moved from throws as well
      ~result() noexcept(false) { throw std::runtime_error("destructor"); }
    };
    auto gives = []() -> task<result> { co_return result(); };
    auto main = [&]() -> task<> { [[maybe_unused]] const result r = co_await gives(); };  // named for g++ 14: it crashes
    try {
      tandem::simulate(main());
    } catch (...) {
    }
  });
  CHECK(code == kit::terminated);
}

TEST_CASE("a callable of to_thread whose destructor throws: std::terminate") {
  const int code = kit::in_child([] {
    auto takes = [](const explosive&) { return 1; };
    auto main = [&]() -> task<> {
      auto call = tandem::to_thread(takes, explosive());
      co_await std::move(call);
    };
    tandem::simulate(main());
  });
  CHECK(code == kit::terminated);
}

// ---- initiating functions -------------------------------------------------------------------------------------------

TEST_CASE("an initiating function that keeps its handler and throws: thrown when the handler has ended") {
  auto main = []() -> task<> {
    for (const bool is_called : {true, false}) {
      handler_kept where;
      std::function<void(tandem::error_code)> call;
      bool ended = false, thrown_before = false;
      auto ends_it = [&]() -> task<> {
        for (int i = 0; i != 5; ++i) co_await tandem::yield();
        ended = true;
        if (is_called) call({});
        where.reset();
      };
      auto initiates = [&]() -> task<std::string> {
        counted here;
        auto operation =
            asio::async_initiate<const tandem::use_task_t, void(tandem::error_code)>(keeping{where, call}, use_task);
        std::string text = co_await thrown_by(std::move(operation));
        thrown_before = !ended;
        co_return text;
      };
      auto [text, nothing] = co_await tandem::gather(initiates(), ends_it());
      (void)nothing;
      CHECK(text == "initiation");
      CHECK(ended);
      CHECK_FALSE(thrown_before);
    }
  };
  tandem::simulate(main());
  CHECK(counted::live() == 0);
}

TEST_CASE("an initiating function that calls its handler and throws: thrown at once") {
  auto main = []() -> task<> {
    auto operation = asio::async_initiate<const tandem::use_task_t, void(tandem::error_code)>(
        [](auto handler) {
          std::move(handler)(tandem::error_code());
          throw std::runtime_error("initiation");
        },
        use_task);
    const std::string text = co_await thrown_by(std::move(operation));
    CHECK(text == "initiation");
    co_await tandem::sleep_for(1s);
  };
  tandem::simulate(main());
}

TEST_CASE("an initiating function that keeps its handler and throws, with a stop, and with the context destroyed") {
  for (const bool stopped : {true, false}) {
    handler_kept where;
    std::function<void(tandem::error_code)> call;
    bool went_on = false;
    {
      asio::io_context context(1);
      asio::cancellation_signal stop;
      auto initiates = [&]() -> task<> {
        counted here;
        auto operation =
            asio::async_initiate<const tandem::use_task_t, void(tandem::error_code)>(keeping{where, call}, use_task);
        co_await std::move(operation);
        went_on = true;
      };
      std::exception_ptr error;
      tandem::spawn(context, initiates(),
                    asio::bind_cancellation_slot(stop.slot(), [&](std::exception_ptr e) { error = e; }));
      context.poll();
      CHECK(counted::live() == 1);
      if (stopped) {
        stop.emit(asio::cancellation_type::terminal);
        CHECK(counted::live() == 1);  // the handler refers to the frame
        call(asio::error::operation_aborted);
        context.restart();
        context.poll();
        REQUIRE(error);
        CHECK_THROWS_WITH(std::rethrow_exception(error), "initiation");  // a failure is not swallowed by a stop
      } else {
        asio::post(context, [kept = std::move(where)] {});  // goes with the context
      }
      where.reset();
    }
    CHECK(counted::live() == 0);
    CHECK_FALSE(went_on);
  }
}

// ---- moves ----------------------------------------------------------------------------------------------------------

TEST_CASE("a result whose move throws is thrown from the co_await, and nothing is left of it") {
  auto makes = [](int n) -> task<fragile> {
    co_await tandem::yield();
    co_return fragile(n);
  };
  auto main = [&]() -> task<> {
    std::vector<int> survived;
    survived.push_back(co_await moves_survived([&](int n) { return makes(n); }));
    survived.push_back(co_await moves_survived([&](int n) { return tandem::gather(makes(n), one()); }));
    survived.push_back(co_await moves_survived([&](int n) {
      std::vector<task<fragile>> all;
      for (int i = 0; i != 3; ++i) all.push_back(makes(n));
      return tandem::gather(std::move(all));
    }));
    survived.push_back(co_await moves_survived([&](int n) {
      return tandem::transform(std::vector<int>{n, n, n}, makes, {.limit = 2});
    }));
    auto racers = [&](int n, int count) {
      std::vector<task<fragile>> all;
      for (int i = 0; i != count; ++i) all.push_back(makes(n));
      return all;
    };
    survived.push_back(co_await moves_survived([&](int n) { return tandem::race(racers(n, 2)); }));
    survived.push_back(co_await moves_survived([&](int n) {
      return tandem::race(racers(n, 2)).on_discard([](fragile) {});
    }));
    survived.push_back(co_await moves_survived([&](int n) {
      return tandem::race(tandem::first_successful, racers(n, 1));
    }));
    survived.push_back(co_await moves_survived([&](int n) { return tandem::timeout(1s, makes(n)); }));
    survived.push_back(co_await moves_survived([&](int n) { return tandem::try_timeout(1s, makes(n)); }));
    survived.push_back(co_await moves_survived([&](int n) { return tandem::shield(makes(n)); }));
    auto cleans = []() -> task<> { co_await tandem::yield(); };
    survived.push_back(co_await moves_survived([&](int n) { return tandem::finally(makes(n), cleans); }));
    survived.push_back(co_await moves_survived([&](int n) { return tandem::to_thread([n] { return fragile(n); }); }));
    auto executor = co_await tandem::this_task::executor;
    survived.push_back(co_await moves_survived([&](int n) { return tandem::on(executor, makes(n)); }));
    survived.push_back(co_await moves_survived([&](int n) {
      return asio::async_initiate<const tandem::use_task_t, void(tandem::error_code, fragile)>(
          [n](auto handler) { std::move(handler)(tandem::error_code(), fragile(n)); }, use_task);
    }));
    for (const int n : survived) CHECK(n > 0);
  };
  tandem::simulate(main());
  CHECK(nothing_is_left());
}

TEST_CASE("outcomes hold the failed move of a result or throw it from the co_await") {
  auto makes = [](int n) -> task<fragile> {
    co_await tandem::yield();
    co_return fragile(n);
  };
  auto main = [&]() -> task<> {
    for (int n = 0; n != 10; ++n) {
      std::string text;
      try {
        auto [outcome] = co_await tandem::gather(tandem::return_exceptions, makes(n));
        if (!outcome) std::rethrow_exception(outcome.error());
      } catch (const std::exception& e) {
        text = e.what();
      }
      CHECK((text.empty() || text == "move"));
      if (n == 0) CHECK(text == "move");
      if (n == 9) CHECK(text.empty());
    }
  };
  tandem::simulate(main());
  CHECK(counted::live() == 0);
}

TEST_CASE("a resource whose move throws is destroyed, not released, and no body runs") {
  auto main = [&]() -> task<> {
    int bodies = 0, released = 0, survived = 0;
    for (; survived != 20; ++survived) {
      auto acquire = [&]() -> task<fragile> {
        co_await tandem::yield();
        co_return fragile(survived);
      };
      auto body = [&](fragile&) -> task<> {
        ++bodies;
        co_return;
      };
      auto release = [&](fragile&) -> task<> {
        ++released;
        co_return;
      };
      auto used = tandem::with_resource(acquire, body, release);
      const std::string text = co_await thrown_by(std::move(used));
      CHECK(bodies == released);
      if (text.empty()) break;
      CHECK(text == "move");
    }
    CHECK(survived > 0);
    CHECK(bodies == 1);
  };
  tandem::simulate(main());
  CHECK(counted::live() == 0);
}

TEST_CASE("a handler whose move throws: thrown from spawn or out of the context, and never called twice") {
  bool ran = false;
  for (int n = 0; !ran; ++n) {
    REQUIRE(n < 50);
    int called = 0;
    std::string text;
    {
      asio::io_context context;
      try {
        auto handler = [&called, f = std::make_unique<fragile>(n)](std::exception_ptr, int) { ++called; };
        struct fragile_handler {
          decltype(handler) h;
          fragile moves;
          fragile_handler(decltype(handler) x, int m) : h(std::move(x)), moves(m) {}
          void operator()(std::exception_ptr e, int i) { h(e, i); }
        };
        tandem::spawn(context, one(), fragile_handler(std::move(handler), n));
        context.run();
      } catch (const std::exception& e) {
        text = e.what();
      }
      context.restart();
      context.poll();  // what is left goes on
    }
    CHECK((text == "move" || text.empty()));
    CHECK(called == (text.empty() ? 1 : 0));
    CHECK(counted::live() == 0);
    CHECK(kit::live_frames() == 0);
    ran = text.empty();
  }
}

TEST_CASE("a parameter, a callable or an argument that cannot be moved is thrown from the call") {
  auto takes = [](fragile) -> task<int> { co_return 1; };
  auto make_call = [](fragile) { return 1; };
  struct callable {
    fragile f;
    explicit callable(int n) : f(n) {}
    task<> operator()() { co_return; }
  };
  auto main = [&]() -> task<> {
    int survived = co_await moves_survived([&](int n) { return takes(fragile(n)); });
    CHECK(survived > 0);
    survived = co_await moves_survived([&](int n) { return tandem::to_thread(make_call, fragile(n)); });
    CHECK(survived > 0);
    survived = co_await moves_survived([&](int n) {
      callable c(n);
      return tandem::finally(one(), std::move(c));
    });
    CHECK(survived > 0);
  };
  tandem::simulate(main());
  CHECK(nothing_is_left());
}

// ---- callables and ranges -------------------------------------------------------------------------------------------

TEST_CASE("whatever of a range throws is thrown from the co_await, and all children are joined") {
  enum where { nowhere, at_begin, at_end, at_increment, at_compare, at_element, at_size };
  struct range {
    where throws;
    struct iterator {
      where throws;
      int i;
      static void check(bool b) {
        if (b) throw std::runtime_error("range");
      }
      int operator*() const { return check(throws == at_element && i == 2), i; }
      iterator& operator++() { return check(throws == at_increment && i == 1), ++i, *this; }
      bool operator==(const iterator& o) const { return check(throws == at_compare && i == 3), i == o.i; }
    };
    iterator begin() { return iterator::check(throws == at_begin), iterator{throws, 0}; }
    iterator end() { return iterator::check(throws == at_end), iterator{throws, 5}; }
    std::size_t size() const { return iterator::check(throws == at_size), 5u; }
  };
  auto main = [&]() -> task<> {
    for (const where throws : {nowhere, at_begin, at_end, at_increment, at_compare, at_element}) {
      auto work = [](int i, counted = counted()) -> task<int> {
        co_await tandem::sleep_for(1s);
        co_return i;
      };
      range r{throws};
      std::string text = co_await thrown_by(tandem::transform(r, work, {.limit = 2}));
      CHECK(text == (throws == nowhere ? "" : "range"));
      CHECK(counted::live() == 0);
      text = co_await thrown_by(tandem::for_each(r, work, {.limit = 2}));
      CHECK(text == (throws == nowhere ? "" : "range"));
      CHECK(counted::live() == 0);
    }
    // The size is asked for when all that were started have ended and a stop came.
    range r{at_size};
    auto shielded = [](int i) -> task<> { co_await tandem::shield(tandem::sleep_for(std::chrono::seconds(i + 1))); };
    std::string text = co_await thrown_by(tandem::timeout(500ms, tandem::for_each(r, shielded, {.limit = 2})));
    CHECK(text == "range");
  };
  tandem::simulate(main());
}

TEST_CASE("a callable that throws instead of returning an awaitable counts as what it should have returned") {
  auto main = [&]() -> task<> {
    auto refuses = []() -> task<> { throw std::runtime_error("call"); };
    auto throws = [&]() {
      if (counted::live() == 0) throw std::runtime_error("call");
      return refuses();
    };
    std::string text = co_await thrown_by(tandem::finally(one(), throws));
    CHECK(text == "call");
    auto never = tandem::try_timeout(1s, tandem::finally(tandem::sleep_for(1h), throws));
    text = co_await thrown_by(std::move(never));
    CHECK(text == "call");

    int released = 0;
    auto acquire = [] { return one(); };
    auto body = [](int&) -> task<int> { throw std::runtime_error("body"); };
    auto direct_body = [&](int& i) {
      if (i == 1) throw std::runtime_error("body");
      return body(i);
    };
    auto release = [&](int&) -> task<> {
      ++released;
      co_return;
    };
    auto used = tandem::with_resource(acquire, direct_body, release);
    text = co_await thrown_by(std::move(used));
    CHECK(text == "body");
    CHECK(released == 1);
  };
  tandem::simulate(main());
}

// ---- cancellation handlers, handlers, executors
// -----------------------------------------------------------------------

TEST_CASE("a cancellation handler that throws: the operation goes on, and its result decides") {
  auto main = []() -> task<> {
    auto executor = co_await tandem::this_task::executor;
    asio::steady_timer timer(executor, 0s);
    int emitted = 0;
    auto operation = asio::async_initiate<const tandem::use_task_t, void(tandem::error_code, int)>(
        [&](auto handler) {
          asio::get_associated_cancellation_slot(handler).assign([&](asio::cancellation_type_t) {
            ++emitted;
            throw std::runtime_error("cancellation handler");
          });
          timer.async_wait(
              [h = std::move(handler)](tandem::error_code) mutable { std::move(h)(tandem::error_code(), 42); });
        },
        use_task);
    int value = 0;
    auto awaits = [&]() -> task<> { value = co_await std::move(operation); };
    auto fails = []() -> task<> {
      co_await tandem::yield();
      throw std::runtime_error("stop");
    };
    const std::string text = co_await thrown_by(tandem::gather(awaits(), fails()));
    CHECK(text == "stop");
    CHECK(emitted == 1);
    CHECK(value == 42);
  };
  tandem::simulate(main());
}

TEST_CASE("after a handler that throws, the context goes on with the other trees") {
  asio::io_context context;
  int called = 0;
  for (int i = 0; i != 3; ++i)
    tandem::spawn(context, one(), [&](std::exception_ptr, int) {
      ++called;
      throw std::runtime_error("handler");
    });
  for (int i = 1; i != 4; ++i) {
    CHECK_THROWS_WITH(context.run(), "handler");
    CHECK(called == i);
  }
  context.run();
  CHECK(called == 3);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("an executor that refuses a handler is asked again in the loop's next turn") {
  asio::io_context context;
  int refusals = 3, called = 0;
  tandem::spawn(context, one(),
                asio::bind_executor(moody(context, refusals), [&](std::exception_ptr, int) { ++called; }));
  context.run();
  CHECK(called == 1);
  CHECK(refusals == 0);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("an executor that refuses to run its loop: std::terminate, since its trees would wait for ever") {
  const int code = kit::in_child([] {
    asio::io_context context;
    int refusals = 1;
    try {
      tandem::spawn(moody(context, refusals), one(), asio::detached);
      context.run();
    } catch (...) {
    }
  });
  CHECK(code == kit::terminated);
}

TEST_CASE("an executor that accepts runs a loop like any other") {
  asio::io_context context;
  int refusals = 0, called = 0;
  tandem::spawn(moody(context, refusals), one(), [&](std::exception_ptr, int) { ++called; });
  context.run();
  CHECK(called == 1);
}
