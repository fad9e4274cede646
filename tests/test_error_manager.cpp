#include <tandem/error_manager.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(io_context.hpp)

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using kit::at;
using kit::thrown_by;
using tandem::clock;
using tandem::error_info;
using tandem::error_kind;
using tandem::error_manager;
using tandem::gather;
using tandem::jitter_kind;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::yield;

namespace {

tandem::system_error reset() { return tandem::system_error(asio::error::connection_reset); }
tandem::system_error refused() { return tandem::system_error(asio::error::connection_refused); }

constexpr tandem::retry_options thrice{.attempts = 3, .base = 100ms, .max = 60s, .jitter = jitter_kind::none};

/// Fails so often, in one way, and then gives how often it was called.
template <class E>
class flaky {
 public:
  flaky(E e, int failures) : error_(std::move(e)), failures_(failures) {}
  task<int> operator()() {
    co_await yield();
    if (calls++ < failures_) throw error_;
    co_return calls;
  }
  int calls = 0;

 private:
  E error_;
  int failures_;
};

struct insufficient_funds : std::runtime_error {
  insufficient_funds() : std::runtime_error("insufficient funds") {}
};

/// What handlers were told.
struct notes {
  std::string text;
  error_manager::handler writes(std::string name) {
    return [this, name](error_info e) -> task<> {
      text += name + ": " + std::string(e.kind.name()) + ", " + e.message +
              (e.operation.empty() ? "" : ", in " + e.operation) + ", " + std::to_string(e.attempts) + " attempts" +
              (e.suppressed == 0 ? "" : ", " + std::to_string(e.suppressed) + " suppressed") + "\n";
      co_return;
    };
  }
};

}  // namespace

// ---- guard ---------------------------------------------------------------------------------------------------------

TEST_CASE("guard gives what the function gives, and does nothing if it succeeds") {
  auto main = []() -> task<> {
    error_manager errors;
    notes n;
    errors.on_other(n.writes("other"));
    int number = 1;
    auto by_reference = [&]() -> task<int&> { co_return number; };
    int& r = co_await errors.guard(by_reference);
    CHECK(&r == &number);
    auto nothing = [] { return sleep_for(1ms); };
    co_await errors.guard(nothing);
    co_await errors.drain();
    CHECK(errors.stats().empty());
    CHECK(n.text.empty());
  };
  simulate(main());
}

TEST_CASE("without settings a failure goes on as it is, the very same exception") {
  auto main = []() -> task<> {
    error_manager errors;
    const auto original = std::make_exception_ptr(insufficient_funds());
    auto fails = [&]() -> task<> {
      std::rethrow_exception(original);
      co_return;
    };
    std::exception_ptr got;
    try {
      co_await errors.guard(fails);
    } catch (const insufficient_funds&) {
      got = std::current_exception();
    }
    CHECK(got == original);
    CHECK(errors.stats(error_kind::unknown).gave_up == 1);
    CHECK(errors.stats(error_kind::network).seen == 0);
  };
  simulate(main());
}

TEST_CASE("kinds for which there is a retry are tried again as it says, each by its own count") {
  auto main = []() -> task<> {
    error_manager errors;
    errors.retry(error_kind::network, thrice);
    auto slowly = thrice;
    slowly.base = 1s;
    errors.retry(error_kind::timeout, slowly);
    flaky twice(reset(), 2);
    int n = co_await errors.guard(std::ref(twice));
    CHECK(n == 3);
    CHECK(clock::now() == at(300ms));
    int calls = 0;
    auto both = [&]() -> task<> {
      switch (++calls) {
        case 1:
        case 3:
          throw reset();
        case 2:
        case 4:
          throw tandem::timed_out();
      }
      co_return;
    };
    co_await errors.guard(both);
    CHECK(clock::now() == at(300ms + 100ms + 1s + 200ms + 2s));
    flaky wrong(std::invalid_argument("no number"), 1);
    const std::string text = co_await thrown_by(errors.guard(std::ref(wrong)));
    CHECK(text == "no number");
    CHECK(wrong.calls == 1);
    flaky down(reset(), 99);
    const std::string last = co_await thrown_by(errors.guard(std::ref(down)));
    CHECK(last == reset().what());
    CHECK(down.calls == 3);

    const auto s = errors.stats(error_kind::network);
    CHECK(s.seen == 2 + 2 + 3);
    CHECK(s.retried == 2 + 2 + 2);
    CHECK(s.recovered == 2);
    CHECK(s.gave_up == 1);
    CHECK(errors.stats(error_kind::timeout).recovered == 1);
    CHECK(errors.stats(error_kind::validation).gave_up == 1);
    CHECK(errors.stats().size() == 3);
  };
  simulate(main());
}

TEST_CASE("a retry keeps to its total, its budget, and to what may be done twice") {
  auto main = []() -> task<> {
    const auto calls_with = [&](auto change, auto failure) -> task<int> {
      error_manager errors;
      auto o = thrice;
      o.attempts = 99;
      change(o);
      errors.retry(error_kind::network, o);
      flaky f(failure, 99);
      co_await thrown_by(errors.guard(std::ref(f)));
      co_return f.calls;
    };
    int calls = co_await calls_with([](auto& o) { o.total_timeout = 650ms; }, reset());
    CHECK(calls == 3);
    tandem::retry_budget budget({.ratio = 0.5, .per_second = 0, .burst = 4});
    calls = co_await calls_with([&](auto& o) { o.budget = &budget; }, reset());
    CHECK(calls == 5);
    CHECK(budget.available() == 0);
    calls = co_await calls_with([](auto& o) { o.idempotent = false; }, reset());
    CHECK(calls == 1);
    calls = co_await calls_with(
        [](auto& o) {
          o.idempotent = false;
          o.attempts = 3;
        },
        refused());
    CHECK(calls == 3);
  };
  simulate(main());
}

TEST_CASE("the total of a retry stops no attempt, and what is given for a kind later replaces it") {
  auto main = []() -> task<> {
    error_manager errors;
    auto o = thrice;
    o.total_timeout = 600ms;
    errors.retry(error_kind::network, o);
    int calls = 0;
    auto slowly = [&]() -> task<int> {
      co_await sleep_for(400ms);
      if (++calls == 1) throw reset();
      co_await sleep_for(1h);
      if (calls == 2) throw reset();
      co_return calls;
    };
    const std::string text = co_await thrown_by(errors.guard(slowly));
    CHECK(text == reset().what());
    CHECK(calls == 2);
    CHECK(clock::now() == at(400ms + 100ms + 400ms + 1h));
    const int three = co_await errors.guard(slowly);
    CHECK(three == 3);

    auto once = thrice;
    once.attempts = 1;
    errors.retry(error_kind::network, once);
    flaky down(reset(), 9);
    co_await thrown_by(errors.guard(std::ref(down)));
    CHECK(down.calls == 1);
  };
  simulate(main());
}

#if defined(TANDEM_PLAIN_FRAMES)
TEST_CASE("a guarded call that succeeds costs two frames") {
  auto main = []() -> task<> {
    error_manager errors;
    long frames = 0;
    auto counts = [&]() -> task<> {
      frames = kit::live_frames();
      co_return;
    };
    co_await counts();
    const long alone = frames;
    co_await errors.guard(counts);
    CHECK(frames - alone == 2);
  };
  simulate(main());
}
#endif

TEST_CASE("a stop and a cancelled are no failures") {
  auto main = []() -> task<> {
    error_manager errors;
    notes n;
    errors.on_other(n.writes("other"));
    errors.retry(error_kind::network, thrice);
    auto never = [] { return sleep_for(1h); };
    co_await tandem::try_timeout(1s, errors.guard(never));
    flaky f(tandem::cancelled(), 9);
    const std::string text = co_await thrown_by(errors.guard(std::ref(f)));
    CHECK(text.starts_with("tandem::cancelled"));
    CHECK(f.calls == 1);
    flaky waits(reset(), 99);
    co_await tandem::try_timeout(150ms, errors.guard(std::ref(waits)));
    CHECK(waits.calls == 2);
    CHECK(errors.stats(error_kind::cancelled).seen == 0);
    CHECK(errors.stats(error_kind::network).gave_up == 0);
    co_await errors.drain();
    CHECK(n.text.empty());
  };
  simulate(main());
}

// ---- kinds ---------------------------------------------------------------------------------------------------------

TEST_CASE("exceptions of one's own have the kinds that one says, and the first that fits counts") {
  auto main = []() -> task<> {
    constexpr error_kind payment("payment");
    error_manager errors;
    errors.classify<insufficient_funds>(payment);
    errors.classify<std::runtime_error>(error_kind::business);
    errors.classify([](const std::exception_ptr& e) -> std::optional<error_kind> {
      if (tandem::kind_of(e) == error_kind::system) return error_kind::validation;
      return std::nullopt;
    });
    CHECK(errors.kind_of(std::make_exception_ptr(insufficient_funds())) == payment);
    CHECK(errors.kind_of(std::make_exception_ptr(std::range_error(""))) == error_kind::business);
    CHECK(errors.kind_of(std::make_exception_ptr(std::bad_alloc())) == error_kind::validation);
    CHECK(errors.kind_of(std::make_exception_ptr(5)) == error_kind::unknown);
    errors.retry(payment, thrice);
    flaky f(insufficient_funds(), 2);
    const int n = co_await errors.guard(std::ref(f));
    CHECK(n == 3);
    CHECK(errors.stats(payment).recovered == 1);
  };
  simulate(main());
}

// ---- handlers ------------------------------------------------------------------------------------------------------

TEST_CASE("all handlers of the kind are told once, after the last attempt; kinds without one reach the default") {
  auto main = []() -> task<> {
    error_manager errors;
    notes n;
    errors.on(error_kind::network, n.writes("first"));
    errors.on(error_kind::network, n.writes("second"));
    errors.on_other(n.writes("other"));
    errors.retry(error_kind::network, thrice);
    flaky down(tandem::unavailable("away", 1ms), 9);
    co_await thrown_by(errors.guard(std::ref(down), "fetch"));
    flaky broke(insufficient_funds(), 9);
    co_await thrown_by(errors.guard(std::ref(broke)));
    co_await errors.drain();
    CHECK(n.text ==
          "first: network, away, in fetch, 3 attempts\n"
          "second: network, away, in fetch, 3 attempts\n"
          "other: unknown, insufficient funds, 1 attempts\n");
    CHECK(errors.stats(error_kind::network).told == 2);
  };
  simulate(main());
}

TEST_CASE("a handler and a fallback know when the call began, and when its last attempt ended") {
  auto main = []() -> task<> {
    error_manager errors;
    errors.retry(error_kind::network, thrice);
    int told = 0;
    const auto look = [&](const error_info& e) {
      ++told;
      CHECK(e.kind == error_kind::network);
      CHECK(e.operation == "slow");
      CHECK(e.message == reset().what());
      CHECK(tandem::kind_of(e.error) == error_kind::network);
      CHECK(e.attempts == 3);
      CHECK(e.began == at(5s));
      CHECK(e.when == at(5s + 3s + 300ms));
    };
    errors.on(error_kind::network, [&](error_info e) -> task<> {
      look(e);
      co_return;
    });
    errors.fallback<void>(error_kind::network, look);
    auto fails = []() -> task<> {
      co_await sleep_for(1s);
      throw reset();
    };
    co_await sleep_for(5s);
    co_await errors.guard(fails, "slow");
    co_await errors.drain();
    CHECK(told == 2);
  };
  simulate(main());
}

TEST_CASE("no more handlers run at a time than may; the others wait for their turn") {
  auto main = []() -> task<> {
    error_manager errors({.handlers_at_a_time = 2});
    int running = 0, most = 0, ended = 0;
    errors.on_other([&](error_info) -> task<> {
      most = std::max(most, ++running);
      co_await sleep_for(1s);
      --running;
      ++ended;
    });
    for (int i = 0; i != 5; ++i) {
      flaky f(insufficient_funds(), 1);
      co_await thrown_by(errors.guard(std::ref(f)));
    }
    co_await errors.drain();
    CHECK(most == 2);
    CHECK(ended == 5);
    CHECK(clock::now() == at(3s));
  };
  simulate(main());
}

TEST_CASE("the tree of a call ends after the handlers that were told of it, without a drain") {
  error_manager errors;
  clock::time_point ended{};
  errors.on_other([&](error_info) -> task<> {
    co_await sleep_for(10s);
    ended = clock::now();
  });
  auto main = [&]() -> task<> {
    flaky f(insufficient_funds(), 1);
    co_await thrown_by(errors.guard(std::ref(f)));
    CHECK(clock::now() == at(0s));
  };
  simulate(main());
  CHECK(ended == at(10s));
}

TEST_CASE("nobody waits for a handler, and the tree ends after it") {
  bool has_ended = false;
  auto main = [&]() -> task<> {
    error_manager errors;
    errors.on_other([&](error_info) -> task<> {
      co_await sleep_for(10s);
      has_ended = true;
    });
    flaky f(insufficient_funds(), 1);
    co_await thrown_by(errors.guard(std::ref(f)));
    CHECK(clock::now() == at(0s));
    co_await errors.drain();
    CHECK(clock::now() == at(10s));
    CHECK(has_ended);
  };
  simulate(main());
}

TEST_CASE("a handler that fails hides nothing, and the others are told") {
  auto main = []() -> task<> {
    error_manager errors;
    notes n;
    errors.on_other([](error_info) -> task<> { throw std::runtime_error("the handler"); });
    errors.on_other([](error_info e) -> task<> {
      co_await yield();
      std::rethrow_exception(e.error);
    });
    errors.on_other(n.writes("third"));
    flaky f(insufficient_funds(), 1);
    const std::string text = co_await thrown_by(errors.guard(std::ref(f)));
    CHECK(text == "insufficient funds");
    co_await errors.drain();
    CHECK(n.text == "third: unknown, insufficient funds, 1 attempts\n");
    CHECK(errors.stats(error_kind::unknown).handler_failures == 2);
  };
  simulate(main());
}

TEST_CASE("a handler is not told the same again so soon, nor more often than it wants") {
  auto main = []() -> task<> {
    error_manager errors;
    notes once, seldom;
    errors.on(error_kind::unknown, once.writes("once"), {.deduplicate = 10s});
    errors.on(error_kind::unknown, seldom.writes("seldom"), {.limit = 2, .per = 1min});
    for (int second = 0; second != 21; ++second) {
      flaky f(std::runtime_error(second % 10 == 3 ? "rare" : "often"), 1);
      co_await thrown_by(errors.guard(std::ref(f)));
      co_await sleep_for(1s);
    }
    co_await errors.drain();
    CHECK(once.text ==
          "once: unknown, often, 1 attempts\n"
          "once: unknown, rare, 1 attempts, 2 suppressed\n"
          "once: unknown, often, 1 attempts, 6 suppressed\n"
          "once: unknown, rare, 1 attempts, 2 suppressed\n"
          "once: unknown, often, 1 attempts, 6 suppressed\n");
    CHECK(seldom.text == "seldom: unknown, often, 1 attempts\nseldom: unknown, often, 1 attempts\n");
    const auto s = errors.stats(error_kind::unknown);
    CHECK(s.told == 5 + 2);
    CHECK(s.told + s.suppressed == 2 * 21);
  };
  simulate(main());
}

TEST_CASE("the same message of another kind is told, and one that is not among the last thousand") {
  auto main = []() -> task<> {
    error_manager errors;
    std::vector<std::string> told;
    errors.on_other(
        [&](error_info e) -> task<> {
          told.push_back(std::string(e.kind.name()) + ' ' + e.message);
          co_return;
        },
        {.deduplicate = 1h});
    const auto fail = [&](auto error) -> task<> {
      flaky f(error, 1);
      co_await thrown_by(errors.guard(std::ref(f)));
      co_await errors.drain();
    };
    co_await fail(std::runtime_error("no"));
    co_await fail(std::invalid_argument("no"));
    co_await fail(std::runtime_error("no"));
    CHECK(told == std::vector<std::string>{"unknown no", "validation no"});
    for (int i = 0; i != 1'001; ++i) co_await fail(std::runtime_error(std::to_string(i)));
    CHECK(told.size() == 2 + 1'001);
    co_await fail(std::runtime_error("0"));
    CHECK(told.back() == "unknown 0");
    CHECK(told.size() == 2 + 1'002);
    co_await fail(std::runtime_error("2"));  // 1 had to go for 0; this is the first of the last thousand
    CHECK(told.size() == 2 + 1'002);
  };
  simulate(main());
}

TEST_CASE("statistics are of each kind that was seen, in the order in which they were") {
  auto main = []() -> task<> {
    error_manager errors;
    for (int i = 0; i != 2; ++i) {
      flaky late(tandem::timed_out(), 1);
      flaky broke(insufficient_funds(), 1);
      flaky down(reset(), 1);
      co_await thrown_by(errors.guard(std::ref(late)));
      co_await thrown_by(errors.guard(std::ref(broke)));
      co_await thrown_by(errors.guard(std::ref(down)));
    }
    const auto all = errors.stats();
    REQUIRE(all.size() == 3);
    CHECK(all[0].kind == error_kind::timeout);
    CHECK(all[1].kind == error_kind::unknown);
    CHECK(all[2].kind == error_kind::network);
    for (const auto& s : all) CHECK(s.seen == 2);
  };
  simulate(main());
}

TEST_CASE("more failures than may wait are not told, and are counted") {
  auto main = []() -> task<> {
    error_manager errors({.handlers_at_a_time = 1, .max_pending = 3});
    int told = 0;
    errors.on_other([&](error_info) -> task<> {
      ++told;
      co_await sleep_for(1s);
    });
    for (int i = 0; i != 10; ++i) {
      flaky f(insufficient_funds(), 1);
      co_await thrown_by(errors.guard(std::ref(f)));
    }
    co_await errors.drain();
    CHECK(told == 3);
    CHECK(errors.stats(error_kind::unknown).suppressed == 7);
  };
  simulate(main());
}

TEST_CASE("a handler may use the manager") {
  auto main = []() -> task<> {
    error_manager errors;
    notes n;
    errors.on(error_kind::unknown, [&](error_info) -> task<> {
      errors.on(error_kind::timeout, n.writes("late"));
      flaky f(tandem::timed_out(), 1);
      co_await thrown_by(errors.guard(std::ref(f), "alert"));
    });
    flaky f(insufficient_funds(), 1);
    co_await thrown_by(errors.guard(std::ref(f)));
    co_await errors.drain();
    CHECK(n.text.starts_with("late: timeout, tandem::timed_out"));
  };
  simulate(main());
}

TEST_CASE("a handler that never ends, since its tree was stopped, takes nobody's place") {
  error_manager errors({.max_pending = 2});
  int told = 0;
  errors.on_other([&](error_info) -> task<> {
    ++told;
    co_await sleep_for(1h);
  });
  auto one = [&]() -> task<> {
    flaky f(insufficient_funds(), 1);
    co_await thrown_by(errors.guard(std::ref(f)));
    co_await yield();
    co_await sleep_for(2h);
  };
  for (int i = 0; i != 5; ++i) {
    auto main = [&]() -> task<> {
      tandem::asio::io_context other(1);
      tandem::spawn(other, one(), tandem::asio::detached);
      other.poll();
      co_return;
    };
    tandem::run(main());
  }
  CHECK(told == 5);
  CHECK(errors.stats(error_kind::unknown).suppressed == 0);
}

TEST_CASE("what a classifier throws, a null text, and cancellation that it covers change nothing") {
  struct without_text : std::exception {
    const char* what() const noexcept override { return nullptr; }
  };
  auto main = []() -> task<> {
    error_manager errors;
    errors.classify([&](const std::exception_ptr&) -> std::optional<error_kind> {
      errors.classify<std::bad_alloc>(error_kind::business);
      throw std::logic_error("classifier");
    });
    errors.classify<tandem::system_error>(error_kind::network);
    errors.retry(error_kind::network, thrice);
    flaky f(insufficient_funds(), 1);
    std::string text = co_await thrown_by(errors.guard(std::ref(f)));
    CHECK(text == "insufficient funds");
    flaky g(tandem::cancelled(), 9);
    text = co_await thrown_by(errors.guard(std::ref(g)));
    CHECK(g.calls == 1);
    CHECK(errors.kind_of(nullptr) == error_kind::unknown);
    notes n;
    errors.on_other(n.writes("other"));
    auto h = []() -> task<> { throw without_text(); };
    bool is_same = false;
    try {
      co_await errors.guard(h);
    } catch (const without_text&) {
      is_same = true;
    }
    CHECK(is_same);
    co_await errors.drain();
    CHECK(n.text == "other: unknown, , 1 attempts\n");
  };
  simulate(main());
}

TEST_CASE("a budget of several kinds has one deposit for each call") {
  auto main = []() -> task<> {
    tandem::retry_budget budget({.ratio = 1, .per_second = 0, .burst = 10});
    for (int i = 0; i != 10; ++i) budget.withdraw();
    error_manager errors;
    auto o = thrice;
    o.budget = &budget;
    errors.retry(error_kind::network, o);
    errors.retry(error_kind::timeout, o);
    auto f = [] { return sleep_for(1ms); };
    for (int i = 0; i != 3; ++i) co_await errors.guard(f);
    CHECK(budget.available() == 3);
  };
  simulate(main());
}

// ---- fallbacks -----------------------------------------------------------------------------------------------------

TEST_CASE("a fallback is given only for its kind and its type, and after the handlers were told") {
  auto main = []() -> task<> {
    error_manager errors;
    notes n;
    errors.on_other(n.writes("other"));
    errors.fallback<int>(error_kind::network, [](const error_info& e) { return static_cast<int>(e.attempts) + 40; });
    errors.fallback<std::string>(error_kind::network, [](error_info e) -> task<std::string> {
      co_await sleep_for(1s);
      co_return e.message;
    });
    flaky down(reset(), 9);
    const int n42 = co_await errors.guard(std::ref(down));
    CHECK(n42 == 41);
    auto asks = []() -> task<std::string> { throw reset(); };
    const std::string text = co_await errors.guard(asks);
    CHECK(text == reset().what());
    auto counts = []() -> task<long> { throw reset(); };
    const std::string thrown = co_await thrown_by(errors.guard(counts));
    CHECK(thrown == reset().what());  // no fallback of long
    flaky broke(insufficient_funds(), 9);
    const std::string other = co_await thrown_by(errors.guard(std::ref(broke)));
    CHECK(other == "insufficient funds");
    co_await errors.drain();
    const auto s = errors.stats(error_kind::network);
    CHECK(s.gave_up == 3);
    CHECK(s.fell_back == 2);
    CHECK(s.told == 3);
    errors.fallback<int>(error_kind::network, [](const error_info&) { return 7; });
    const int n7 = co_await errors.guard(std::ref(down));
    CHECK(n7 == 7);
  };
  simulate(main());
}

TEST_CASE("a fallback that fails hides nothing") {
  auto main = []() -> task<> {
    error_manager errors;
    errors.fallback<int>(error_kind::network, [](const error_info&) -> int { throw std::logic_error("fallback"); });
    flaky down(reset(), 9);
    const std::string text = co_await thrown_by(errors.guard(std::ref(down)));
    CHECK(text == reset().what());
    CHECK(errors.stats(error_kind::network).fell_back == 0);
  };
  simulate(main());
}

TEST_CASE("void and references may have fallbacks") {
  auto main = []() -> task<> {
    error_manager errors;
    int number = 5;
    errors.fallback<void>(error_kind::network, [&](const error_info&) { ++number; });
    errors.fallback<int&>(error_kind::network, [&](const error_info&) -> int& { return number; });
    auto nothing = []() -> task<> { throw reset(); };
    co_await errors.guard(nothing);
    CHECK(number == 6);
    auto by_reference = []() -> task<int&> { throw reset(); };
    int& r = co_await errors.guard(by_reference);
    CHECK(&r == &number);
  };
  simulate(main());
}

// ---- the end -------------------------------------------------------------------------------------------------------

TEST_CASE("a manager that goes stops its handlers, and calls under way come to their ends") {
  bool has_ended = false, has_begun = false;
  auto main = [&]() -> task<> {
    auto errors = std::make_unique<error_manager>();
    errors->on_other([&](error_info) -> task<> {
      has_begun = true;
      co_await sleep_for(1h);
      has_ended = true;
    });
    flaky f(insufficient_funds(), 1);
    co_await thrown_by(errors->guard(std::ref(f)));
    co_await yield();
    errors->retry(error_kind::network, thrice);
    flaky again(reset(), 9);
    auto call = errors->guard(std::ref(again));
    errors.reset();
    const std::string text = co_await thrown_by(std::move(call));
    CHECK(text == reset().what());
    CHECK(again.calls == 3);
    CHECK(clock::now() == at(300ms));
  };
  simulate(main());
  CHECK(has_begun);
  CHECK(!has_ended);
}

TEST_CASE("a manager that goes drops the handlers that have not begun") {
  int begun = 0, ended = 0;
  auto main = [&]() -> task<> {
    auto errors = std::make_unique<error_manager>(tandem::error_manager_options{.handlers_at_a_time = 1});
    errors->on_other([&](error_info) -> task<> {
      ++begun;
      co_await sleep_for(1s);
      ++ended;
    });
    for (int i = 0; i != 3; ++i) {
      flaky f(insufficient_funds(), 1);
      co_await thrown_by(errors->guard(std::ref(f)));
    }
    co_await sleep_for(1500ms);
    errors.reset();
    co_await sleep_for(1h);
  };
  simulate(main());
  CHECK(begun == 2);
  CHECK(ended == 1);
}

namespace {
struct office {
  error_manager errors{{.handlers_at_a_time = 1, .max_pending = 2}};
  int told = 0, done = 0;
  office() {
    errors.on(error_kind::network, [this](error_info) -> task<> {
      kit::counted object;
      ++told;
      co_await sleep_for(2ms);
    });
    errors.retry(error_kind::network, {.attempts = 2, .base = 1ms, .jitter = jitter_kind::none});
    errors.fallback<int>(error_kind::network, [](error_info) -> task<int> {
      kit::counted object;
      co_await yield();
      co_return 0;
    });
  }
};
}  // namespace

TEST_CASE("whatever the schedule and wherever it is stopped, nothing is left") {
  kit::explore<office>(
      [](office& o) -> task<> {
        auto caller = [&](int failures) -> task<> {
          flaky f(reset(), failures);
          auto calls = [&f](kit::counted = {}) { return f(); };
          co_await o.errors.guard(calls);
          ++o.done;
        };
        co_await gather(caller(0), caller(1), caller(5), caller(5), caller(5));
      },
      [](office& o, kit::end how) {
        if (how == kit::end::returned) {
          CHECK(o.done == 5);
          const auto s = o.errors.stats(error_kind::network);
          CHECK(s.told + s.suppressed == 3);
          CHECK(s.fell_back == 3);
        }
      });
}

// ---- bad input -----------------------------------------------------------------------------------------------------

TEST_CASE("settings that make no sense are refused") {
  error_manager errors;
  CHECK_THROWS_WITH(errors.retry(error_kind::network, {.attempts = 0}),
                    "tandem::retry: attempts is 0; it must be at least 1");
  CHECK_THROWS_WITH(errors.retry(error_kind::cancelled, {}),
                    "tandem::error_manager: what was cancelled is not retried");
  CHECK_THROWS_WITH(
      errors.retry(error_kind::network, {.attempt_timeout = 1s}),
      "tandem::error_manager: an attempt_timeout is for every kind; put tandem::timeout into the function");
  CHECK_THROWS_WITH(errors.on_other(nullptr), "tandem::error_manager: the handler is empty");
  auto handler = [](error_info) -> task<> { co_return; };
  CHECK_THROWS_WITH(errors.on_other(handler, {.deduplicate = -1ns}),
                    "tandem::error_manager: deduplicate is -1 ns; it must not be negative");
  CHECK_THROWS_WITH(errors.on_other(handler, {.limit = 1, .per = 0s}),
                    "tandem::rate_limiter: sliding_window: the window is 0 ns; it must be positive");
  CHECK_THROWS_WITH(error_manager({.handlers_at_a_time = 0}),
                    "tandem::error_manager: handlers_at_a_time is 0; it must be at least 1");

  CHECK_THROWS_AS(errors.retry(error_kind::network, {.attempts = 0}), std::invalid_argument);
  CHECK_THROWS_AS(errors.retry(error_kind::cancelled, {}), std::invalid_argument);
  CHECK_THROWS_AS(errors.retry(error_kind::network, {.attempt_timeout = 1s}), std::invalid_argument);
  CHECK_THROWS_AS(errors.on_other(nullptr), std::invalid_argument);
  CHECK_THROWS_AS(errors.on_other(handler, {.deduplicate = -1ns}), std::invalid_argument);
  CHECK_THROWS_AS(errors.on(error_kind::network, handler, {.limit = 1, .per = 0s}), std::invalid_argument);
  CHECK_THROWS_AS(error_manager({.handlers_at_a_time = 0}), std::invalid_argument);
}
