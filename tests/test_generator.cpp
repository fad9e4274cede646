#include <tandem/generator.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/race.hpp>
#include <tandem/run.hpp>
#include <tandem/wait.hpp>

#include "kit/allocations.hpp"
#include "kit/captured_stderr.hpp"
#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(detached.hpp)

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using kit::allocations;
using kit::at;
using kit::thrown_by;
using tandem::clock;
using tandem::gather;
using tandem::generator;
using tandem::moved;
using tandem::on_exit;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;

namespace {

generator<int> count(int n) {
  for (int i = 0; i != n; ++i) co_yield i;
}
/// An item a second.
generator<int> ticks(int n) {
  for (int i = 0; i != n; ++i) {
    co_await sleep_for(1s);
    co_yield i;
  }
}
/// Items that are there, or need a wait, and a clean-up that takes `last` and says so in `log`.
generator<int> noted(std::string& log, int n, clock::duration between, clock::duration last = 0s) {
  auto cleanup = [&log, last]() -> task<> {
    co_await sleep_for(last);
    log += "closed ";
  };
  co_await on_exit(cleanup);
  const kit::at_exit at_end([&log] { log += "left "; });
  for (int i = 0; i != n; ++i) {
    if (between != 0s) co_await sleep_for(between);
    co_yield i;
  }
}
template <class T>
task<std::vector<T>> all_of(generator<T> g) {
  std::vector<T> all;
  while (auto one = co_await g.next()) all.push_back(*std::move(one));
  co_return all;
}

struct row {  // an aggregate, whose members need destructors
  std::string name;
  std::unique_ptr<int> number;
};

}  // namespace

TEST_CASE("a generator gives its items in order, then nothing, ever after") {
  auto main = []() -> task<> {
    auto g = count(3);
    CHECK(g);
    for (int i = 0; i != 3; ++i) {
      const auto one = co_await g.next();
      CHECK(one == i);
    }
    for (int i = 0; i != 2; ++i) {
      const auto none = co_await g.next();
      CHECK_FALSE(none);
      CHECK_FALSE(g);
    }
    generator<int> empty;
    const auto none = co_await empty.next();
    CHECK_FALSE(none);
    co_await empty.close();
  };
  simulate(main());
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("a generator runs only while its next() is awaited, and an item that is there suspends nobody") {
  auto main = []() -> task<> {
    std::string log;
    auto says = [](std::string& l) -> generator<int> {
      l += "a";
      co_yield 1;
      l += "b";
      co_yield 2;
      l += "c";
    };
    auto g = says(log);
    CHECK(log.empty());
    auto other = [&]() -> task<> {
      log += "-";
      co_return;
    };
    auto pulls = [&]() -> task<> {
      while (const auto one = co_await g.next()) log += std::to_string(*one);
    };
    co_await gather(pulls(), other());
    CHECK(log == "a1b2c-");
  };
  simulate(main());
}

TEST_CASE("a generator waits between its items, in the scope and under the time limits of who asks") {
  auto main = []() -> task<> {
    const auto all = co_await all_of(ticks(3));
    CHECK(all == std::vector{0, 1, 2});
    CHECK(clock::now() == at(3s));
    auto asks = []() -> generator<clock::time_point> {
      for (;;) {
        const auto due = co_await tandem::this_task::deadline;
        co_yield due;
      }
    };
    auto g = asks();
    const auto limited = co_await tandem::timeout(5s, g.next());
    CHECK(limited == at(8s));
    const auto free = co_await g.next();
    CHECK(free == clock::time_point::max());
    co_await g.close();
  };
  simulate(main());
}

TEST_CASE("100,000 items, and a generator in a generator a thousand deep, need no deep stack") {
  auto main = []() -> task<> {
    int sum = 0;
    auto many = count(100'000);
    while (const auto one = co_await many.next()) ++sum;
    CHECK(sum == 100'000);
    std::function<generator<int>(int)> nested = [&](int depth) -> generator<int> {
      if (depth == 0) co_await tandem::yield();
      if (depth == 0) co_return;
      auto inner = nested(depth - 1);
      while (auto one = co_await inner.next()) co_yield *one + 1;
      co_yield 0;
    };
    const auto all = co_await all_of(nested(1000));
    CHECK(all.size() == 1000);
    CHECK(all.front() == 999);
  };
  simulate(main());
}

TEST_CASE("what the body throws comes out of next(), and the generator is over") {
  auto main = []() -> task<> {
    auto fails = [](bool waits) -> generator<int> {
      co_yield 1;
      if (waits) co_await tandem::yield();
      throw std::runtime_error("torn");
    };
    for (const bool waits : {false, true}) {
      auto g = fails(waits);
      co_await g.next();
      const std::string text = co_await thrown_by(g.next());
      CHECK(text == "torn");
      CHECK_FALSE(g);
      const auto none = co_await g.next();
      CHECK_FALSE(none);
    }
  };
  simulate(main());
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("items may move only, be references, be made of something else, or be aggregates") {
  auto main = []() -> task<> {
    auto pointers = []() -> generator<std::unique_ptr<int>> {
      co_yield std::make_unique<int>(1);
      auto two = std::make_unique<int>(2);
      co_yield std::move(two);
    };
    auto p = pointers();
    for (int i = 1; i != 3; ++i) {
      const auto one = co_await p.next();
      CHECK(**one == i);
    }
    int there = 5;
    auto references = [](int& x) -> generator<int&> {
      co_yield x;
      co_yield x;
    };
    auto r = references(there);
    while (const auto one = co_await r.next()) ++one->get();
    CHECK(there == 7);

    auto texts = []() -> generator<std::string> {
      std::string kept = "a text that is too long for the string itself";
      co_yield kept;
      co_yield kept;  // it was copied
      co_yield "short";
    };
    const auto t = co_await all_of(texts());
    CHECK(t == std::vector<std::string>{t[0], t[0], "short"});
    CHECK(t[0].size() == 45);

    auto rows = []() -> generator<row> {
      for (int i = 0; i != 2; ++i) {
        row one{"a name that is too long for the string itself", std::make_unique<int>(i)};
        co_yield moved(one);
      }
    };
    const auto all = co_await all_of(rows());
    CHECK(*all[1].number == 1);
  };
  simulate(main());
}

TEST_CASE("what was registered with on_exit runs at the end, latest first, before who asked goes on") {
  auto main = []() -> task<> {
    std::string log;
    auto says = [](std::string& l) -> generator<int> {
      auto first = [&l]() -> task<> {
        co_await sleep_for(1s);
        l += "first ";
      };
      co_await on_exit(first);
      auto second = [&l]() -> task<int> {
        l += "second ";
        co_return 1;
      };
      co_await on_exit(second);
      co_yield 1;
    };
    auto g = says(log);
    co_await g.next();
    CHECK(log.empty());
    const auto none = co_await g.next();
    CHECK_FALSE(none);
    CHECK(log == "second first ");
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("parameters of a generator are destroyed after its clean-up, and before who asked goes on") {
  auto main = []() -> task<> {
    int during = -1;
    auto keeps = [](kit::counted, int& d) -> generator<int> {
      auto looks = [&d]() -> task<> {
        co_await tandem::yield();
        d = kit::counted::live();
      };
      co_await on_exit(looks);
      co_yield 1;
    };
    auto g = keeps(kit::counted(), during);
    co_await g.next();
    CHECK(kit::counted::live() == 1);
    co_await g.next();
    CHECK(during == 1);
    CHECK(kit::counted::live() == 0);
  };
  simulate(main());
}

TEST_CASE("a clean-up that fails is thrown from next() or close(), together with what the body threw") {
  auto main = []() -> task<> {
    auto fails = [](bool body_too) -> generator<int> {
      auto cleanup = []() -> task<> {
        throw std::runtime_error("cleanup");
        co_return;
      };
      co_await on_exit(cleanup);
      auto other = []() -> task<> {
        throw std::runtime_error("other");
        co_return;
      };
      co_await on_exit(other);
      co_yield 1;
      if (body_too) throw std::runtime_error("body");
    };
    for (const bool body_too : {false, true}) {
      auto g = fails(body_too);
      co_await g.next();
      std::size_t count = 0;
      try {
        co_await g.next();
      } catch (const tandem::exception_group& e) {
        count = e.exceptions().size();
      }
      CHECK(count == (body_too ? 3u : 2u));
    }
    auto closed = fails(false);
    co_await closed.next();
    std::size_t count = 0;
    try {
      co_await closed.close();
    } catch (const tandem::exception_group& e) {
      count = e.exceptions().size();
    }
    CHECK(count == 2);
  };
  simulate(main());
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("close ends a generator where it is: before it began, at an item, or after its end") {
  auto main = []() -> task<> {
    std::string log;
    auto fresh = noted(log, 3, 0s);
    co_await fresh.close();
    CHECK(log.empty());
    CHECK_FALSE(fresh);

    auto begun = noted(log, 3, 0s, 1s);
    co_await begun.next();
    co_await begun.close();
    CHECK(log == "closed left ");  // its local variables go with the frame
    CHECK(clock::now() == at(1s));
    co_await begun.close();
    const auto none = co_await begun.next();
    CHECK_FALSE(none);
    CHECK(log == "closed left ");
  };
  simulate(main());
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("a stopped next() ends the generator, and its clean-up runs before the stop goes on") {
  auto main = []() -> task<> {
    std::string log;
    auto g = noted(log, 3, 1s, 5s);
    co_await g.next();
    const auto late = co_await tandem::try_timeout(500ms, g.next());
    CHECK_FALSE(late);
    CHECK(clock::now() == at(6500ms));
    CHECK(log == "closed left ");
    const auto none = co_await g.next();
    CHECK_FALSE(none);

    // One that fails there turns the stop into its failure.
    auto fails = []() -> generator<int> {
      auto cleanup = []() -> task<> {
        throw std::runtime_error("not closed");
        co_return;
      };
      co_await on_exit(cleanup);
      co_await sleep_for(1h);
      co_yield 1;
    };
    auto f = fails();
    const std::string text = co_await thrown_by(tandem::try_timeout(1s, f.next()));
    CHECK(text == "not closed");
  };
  simulate(main());
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("an item that was granted at the instant of a stop is given, and the next wait stops") {
  auto main = []() -> task<> {
    auto g = ticks(3);
    const auto in_time = co_await tandem::try_timeout(1s, g.next());
    CHECK(in_time);
    const auto late = co_await tandem::try_timeout(999ms, g.next());
    CHECK_FALSE(late);
  };
  simulate(main());
}

TEST_CASE("next() as an arm of a race: the loser's generator is over") {
  auto main = []() -> task<> {
    auto fast = ticks(3);
    std::string log;
    auto slow = noted(log, 3, 3s);
    const auto first = co_await tandem::race(slow.next(), fast.next());
    CHECK(first.index() == 1);
    CHECK(log == "closed left ");
    CHECK_FALSE(slow);
    CHECK(fast);
    co_await fast.close();
  };
  simulate(main());
}

TEST_CASE("a generator that is dropped destroys what it holds and runs no clean-up") {
  auto main = []() -> task<> {
    std::string log;
    {
      auto g = noted(log, 3, 0s);
      co_await g.next();
    }
    CHECK(log == "left ");
    auto g = noted(log, 3, 0s);
    auto other = noted(log, 3, 0s);
    co_await g.next();
    g = std::move(other);
    CHECK(log == "left left ");
    co_await g.next();
    auto moved_to = std::move(g);
    const auto second = co_await moved_to.next();
    CHECK(second == 1);
    co_await moved_to.close();
  };
  simulate(main());
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("a generator may be replaced by one that it owns, and dropped with 100,000 clean-ups") {
  auto owns = [](std::unique_ptr<generator<int>> inner) -> generator<int> {
    co_yield 1;
    co_await inner->close();
  };
  auto registers = [](int n) -> generator<int> {
    auto nothing = []() -> task<> { co_return; };
    for (int i = 0; i != n; ++i) co_await on_exit(nothing);
    co_yield 3;
  };
  auto main = [&]() -> task<> {
    auto inner = std::make_unique<generator<int>>(count(3));
    auto& other = *inner;
    auto g = owns(std::move(inner));
    co_await g.next();
    g = std::move(other);
    const auto first = co_await g.next();
    CHECK(first == 0);
    auto many = registers(100'000);
    co_await many.next();
  };
  simulate(main());
  CHECK(kit::live_frames() == 0);
}

#if !defined(NDEBUG)
TEST_CASE("debug builds name the line of an on_exit that a dropped generator never ran, and say nothing otherwise") {
  std::string dropped, closed;
  auto main = [&]() -> task<> {
    std::string log;
    auto g = noted(log, 3, 0s);
    co_await g.next();
    {
      const kit::captured_stderr captured;
      g = {};
      dropped = captured.text();
    }
    auto other = noted(log, 3, 0s);
    co_await other.next();
    co_await other.close();
    auto plain = count(3);
    co_await plain.next();
    const kit::captured_stderr captured;
    other = {}, plain = {};
    closed = captured.text();
  };
  simulate(main());
  CHECK(dropped.find("tandem::generator: dropped before its end") != std::string::npos);
  CHECK(dropped.find("test_generator.cpp:") != std::string::npos);
  CHECK(closed.empty());
}
#endif

TEST_CASE("a generator that is destroyed while somebody waits for its next item is stopped, and he is told") {
  auto main = []() -> task<> {
    std::string log;
    std::optional<generator<int>> g(noted(log, 3, 1h));
    std::string text;
    auto waits = [&]() -> task<> { text = co_await thrown_by(g->next()); };
    auto destroys = [&]() -> task<> {
      co_await sleep_for(1s);
      g.reset();
    };
    co_await gather(waits(), destroys());
    CHECK(text == "tandem::generator: it was destroyed while this coroutine waited for its next item");
    CHECK(log == "closed left ");
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("two who await the same generator, and an awaitable awaited twice, are std::logic_errors") {
  auto main = []() -> task<> {
    auto g = ticks(3);
    auto waits = [&]() -> task<std::optional<int>> { co_return co_await g.next(); };
    auto two = co_await gather(tandem::return_exceptions, waits(), waits(), thrown_by(g.close()));
    CHECK(std::get<0>(two).value() == 0);
    CHECK(std::get<1>(two).error());
    CHECK(std::get<2>(two).value() == "tandem::generator: it is awaited already; one next() or close() at a time");
    const auto next = co_await g.next();
    CHECK(next == 1);
    auto once = g.next();
    co_await once;
    std::string text;
    try {
      co_await once;
    } catch (const std::logic_error& e) {
      text = e.what();
    }
    CHECK(text == "tandem::generator: awaiting a next() or close() that was awaited before");
  };
  simulate(main());
}

TEST_CASE("who waited for an item goes on in his loop's turn, not inside the generator's") {
  auto main = []() -> task<> {
    std::string log;
    kit::gate gate;
    auto gated = [&]() -> generator<int> {
      co_await gate.wait();
      log += "generator ";
      co_yield 1;
    };
    auto pulls = [&]() -> task<> {
      auto g = gated();
      co_await g.next();
      log += "puller ";
      co_await g.close();
    };
    auto opens = [&]() -> task<> {
      gate.open_one();
      log += "opener ";
      co_await tandem::yield();
      log += "other ";
    };
    co_await gather(pulls(), opens());
    CHECK(log == "opener generator other puller ");
  };
  simulate(main());
}

TEST_CASE("a generator is over once it was moved from, and is one pointer") {
  STATIC_REQUIRE(sizeof(generator<std::string>) == sizeof(void*));
  auto main = []() -> task<> {
    auto g = count(3);
    auto other = std::move(g);
    CHECK_FALSE(g);
    CHECK(other);
    const auto none = co_await g.next();
    CHECK_FALSE(none);
    const auto first = co_await other.next();
    CHECK(first == 0);
  };
  simulate(main());
}

TEST_CASE("an item allocates nothing, whether it is there or is waited for; an on_exit allocates once") {
  auto main = []() -> task<> {
    auto there = count(1000);
    auto late = ticks(1000);
    long before = 0;
    for (int i = 0; i != 1000; ++i) {
      if (i == 20) before = allocations;
      co_await there.next();
      co_await late.next();
    }
    CHECK(allocations == before);
    auto registers = [](int n) -> generator<long> {
      auto nothing = []() -> task<> { co_return; };
      const long first = allocations;
      for (int i = 0; i != n; ++i) co_await on_exit(nothing);
      co_yield allocations - first;
    };
    auto g = registers(100);
    const auto allocated = co_await g.next();
    CHECK(allocated == 100);
    co_await g.close();
  };
  simulate(main());
}

TEST_CASE("of several clean-ups each is awaited, though a later one has failed, and shielded") {
  auto main = []() -> task<> {
    std::string log;
    auto opens = [](std::string& l) -> generator<int> {
      auto first = [&l]() -> task<> {
        co_await sleep_for(1s);
        l += "first ";
      };
      co_await on_exit(first);
      auto second = [&l]() -> task<> {
        co_await sleep_for(1s);
        l += "second ";
        throw std::runtime_error("second");
      };
      co_await on_exit(second);
      co_await sleep_for(1h);
      co_yield 1;
    };
    auto g = opens(log);
    const std::string text = co_await thrown_by(tandem::timeout(1s, g.next()));
    CHECK(text == "second");
    CHECK(log == "second first ");
    CHECK(clock::now() == at(3s));
  };
  simulate(main());
}

TEST_CASE("destroying the whole context runs the destructors of a generator, and no clean-up") {
  std::string log;
  {
    asio::io_context context;
    auto waits = [&]() -> task<> {
      auto g = noted(log, 3, 0s);
      auto other = noted(log, 3, 1h);
      co_await g.next();
      co_await other.next();
    };
    tandem::spawn(context, waits(), asio::detached);
    context.poll();
    CHECK(log.empty());
  }
  CHECK(log == "left left ");
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("for_each awaits the function for each item, so many at a time, and closes the stream") {
  auto main = []() -> task<> {
    for (const std::size_t limit : {std::size_t{1}, std::size_t{2}, std::size_t{16}}) {
      const auto begin = clock::now();
      std::string log;
      int running = 0, most = 0, sum = 0;
      auto use = [&](int i) -> task<> {
        most = std::max(most, ++running);
        co_await sleep_for(1s);
        --running;
        sum += i;
      };
      co_await for_each(noted(log, 6, 0s), use, {.limit = limit});
      CHECK(sum == 15);
      CHECK(most == static_cast<int>(std::min(limit, std::size_t{6})));
      CHECK(clock::now() - begin == (limit == 1 ? 6s : limit == 2 ? 3s : 1s));
      CHECK(log == "left closed ");
    }
  };
  simulate(main());
}

TEST_CASE("for_each closes the stream when the function fails, and when it is stopped") {
  auto main = []() -> task<> {
    for (const std::size_t limit : {std::size_t{1}, std::size_t{4}}) {
      std::string log;
      auto fails = [&](int i) -> task<> {
        co_await sleep_for(10ms);
        if (i == 2) throw std::runtime_error("two");
      };
      const std::string text = co_await thrown_by(for_each(noted(log, 9, 1ms, 1s), fails, {.limit = limit}));
      CHECK(text == "two");
      CHECK(log == "closed left ");
      log.clear();
      auto slow = [&](int) -> task<> { co_await sleep_for(1h); };
      const auto late = co_await tandem::try_timeout(1s, for_each(noted(log, 99, 1ms, 1s), slow, {.limit = limit}));
      CHECK_FALSE(late);
      CHECK(log == "closed left ");
    }
    CHECK_THROWS_AS((void)for_each(count(1), [](int) -> task<> { co_return; }, {.limit = 0}), std::invalid_argument);
  };
  simulate(main());
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("a for_each that is stopped begins no more calls, also where neither the stream nor the calls wait for it") {
  auto main = []() -> task<> {
    for (const std::size_t limit : {std::size_t{1}, std::size_t{2}}) {
      std::size_t begun = 0;
      auto unstoppable = [&](int) -> task<> {
        ++begun;
        co_await tandem::shield(sleep_for(200ms));
      };
      const auto start = clock::now();
      const auto late = co_await tandem::try_timeout(450ms, for_each(count(9), unstoppable, {.limit = limit}));
      CHECK_FALSE(late);
      CHECK(begun == 3 * limit);
      CHECK(clock::now() - start == 600ms);
    }
  };
  simulate(main());
}

TEST_CASE("for_each has 16 under way unless it is told otherwise, and asks for an item when there is a place") {
  auto main = []() -> task<> {
    int asked = 0;
    auto source = [&]() -> generator<int> {
      for (int i = 0; i != 40; ++i) {
        ++asked;
        co_yield i;
      }
    };
    int running = 0, most = 0;
    std::vector<int> asked_when_it_began;
    auto use = [&](int) -> task<> {
      most = std::max(most, ++running);
      asked_when_it_began.push_back(asked);
      co_await sleep_for(1s);
      --running;
    };
    co_await for_each(source(), use);
    CHECK(most == 16);
    CHECK(clock::now() == at(3s));
    for (int i = 0; i != 40; ++i) CHECK(asked_when_it_began[static_cast<std::size_t>(i)] <= i + 1);
    std::string text;
    auto nothing = [](int) -> task<> { co_return; };
    try {
      (void)for_each(count(1), nothing, {.limit = 0});
    } catch (const std::invalid_argument& e) {
      text = e.what();
    }
    CHECK(text == "tandem::for_each: the limit is 0; it must be at least 1");
  };
  simulate(main());
}

TEST_CASE("for_each throws the first failure when all that were under way have ended, and asks for no more items") {
  auto main = []() -> task<> {
    std::string log;
    int asked = 0;
    auto source = [&]() -> generator<int> {  // all are there
      auto cleanup = [&]() -> task<> {
        log += "closed ";
        co_return;
      };
      co_await on_exit(cleanup);
      while (asked != 1000) {
        ++asked;
        co_yield asked;
      }
    };
    auto cleans_up = [&]() -> task<> {
      co_await sleep_for(1s);
      log += "cleaned ";
    };
    auto use = [&](int i) -> task<> {
      if (i == 3) {
        co_await sleep_for(1s);
        throw std::runtime_error("three");
      }
      co_await tandem::finally(sleep_for(1h), cleans_up);
    };
    const std::string text = co_await thrown_by(for_each(source(), use, {.limit = 3}));
    CHECK(text == "three");
    CHECK(log == "cleaned cleaned closed ");
    CHECK(asked == 3);
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("whatever has a next() that gives something like an optional is a stream; it need not have a close()") {
  struct three {
    int n = 0;
    task<int*> next() { co_return n == 3 ? nullptr : &++n; }
  };
  STATIC_REQUIRE(tandem::stream<three>);
  STATIC_REQUIRE(std::is_same_v<tandem::stream_item_t<three>, int>);
  STATIC_REQUIRE(std::is_same_v<tandem::stream_item_t<generator<int&>>, std::reference_wrapper<int>>);
  STATIC_REQUIRE(!tandem::stream<int> && !tandem::stream<task<int>>);
  auto main = []() -> task<> {
    int sum = 0;
    auto adds = [&](int i) -> task<> {
      sum = sum * 10 + i;
      co_return;
    };
    co_await tandem::for_each(three(), adds, {.limit = 1});
    CHECK(sum == 123);
  };
  simulate(main());
}

TEST_CASE("the stream of an as_completed is one, too") {
  auto main = []() -> task<> {
    std::vector<task<int>> tasks;
    for (int i = 3; i != 0; --i) tasks.push_back(kit::after(std::chrono::seconds(i), i));
    int sum = 0;
    auto adds = [&](tandem::completed<int> one) -> task<> {
      sum = sum * 10 + one.outcome.value();
      co_return;
    };
    co_await for_each(tandem::as_completed(std::move(tasks)), adds, {.limit = 1});
    CHECK(sum == 123);
  };
  simulate(main());
}

TEST_CASE("under any schedule, stop and end of the context, what a generator opened is closed once") {
  struct source {
    kit::gate items;
    int open = 0, opened = 0, closed = 0, used = 0;
    generator<kit::counted> opens(int n) {
      ++opened, ++open;
      const kit::at_exit at_end([this] { --open; });
      auto cleanup = [this]() -> task<> {
        co_await tandem::yield();
        ++closed;
      };
      co_await on_exit(cleanup);
      for (int i = 0; i != n; ++i) {
        co_await items.wait();
        co_yield kit::counted();
      }
    }
  };
  for (const std::size_t limit : {std::size_t{1}, std::size_t{2}}) {
    kit::explore<source>(
        [limit](source& s) -> task<> {
          auto uses = [&](kit::counted one) -> task<> {
            co_await tandem::yield();
            ++s.used;
            (void)one;
          };
          auto feeds = [&]() -> task<> {
            for (int i = 0; i != 6; ++i) {
              co_await tandem::yield();
              s.items.open_one();
            }
          };
          auto both = [&]() -> task<> {
            co_await gather(for_each(s.opens(3), uses, {.limit = limit}), for_each(s.opens(3), uses, {.limit = limit}),
                            feeds());
          };
          co_await both();
        },
        [](source& s, kit::end how) {
          CHECK(how != kit::end::failed);
          CHECK(s.open == 0);
          if (how == kit::end::returned) CHECK(s.used == 6);
          if (how != kit::end::destroyed) CHECK(s.closed == s.opened);
        });
  }
}

TEST_CASE("under any schedule, who pulls from a generator that another destroys gets an item, the end, or is told") {
  struct state {
    kit::gate items;
    int told = 0, got = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto makes = [](kit::gate& g) -> generator<kit::counted> {
          for (;;) {
            co_await g.wait();
            co_yield kit::counted();
          }
        };
        std::optional<generator<kit::counted>> g(makes(s.items));
        auto pulls = [&]() -> task<> {
          try {
            while (g) {
              const auto one = co_await g->next();
              ++s.got;
            }
          } catch (const std::logic_error&) {
            ++s.told;
          }
        };
        auto destroys = [&]() -> task<> {
          s.items.open_one();
          co_await tandem::yield();
          s.items.open_one();
          g.reset();
        };
        co_await gather(pulls(), destroys());
      },
      [](state& s, kit::end how) {
        CHECK(how != kit::end::failed);
        CHECK(s.told <= 1);
        if (how == kit::end::returned) CHECK(s.got + s.told >= 1);
      });
}
