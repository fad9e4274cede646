#include <tandem/streams.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

#include "kit/kit.hpp"
#include "kit/streams.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using kit::all_of;
using kit::at;
using kit::failure_of;
using kit::thrown_by;
using tandem::clock;
using tandem::gather;
using tandem::generator;
using tandem::moved;
using tandem::on_exit;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
namespace streams = tandem::streams;
using streams::from;

namespace {

/// What happens to a source.
struct ledger {
  int opened = 0, closed = 0, given = 0;
};
/// `n` numbers, one every `interval`.
generator<int> numbers(ledger& l, int n, clock::duration interval = 0s) {
  ++l.opened;
  auto cleanup = [&l]() -> task<> {
    co_await tandem::yield();
    ++l.closed;
  };
  co_await on_exit(cleanup);
  for (int i = 0; i != n; ++i) {
    if (interval != 0s) co_await sleep_for(interval);
    ++l.given;
    co_yield i;
  }
}
/// Ten times the number, after a wait that is the longer the smaller it is.
task<int> slow_tenfold(int i) {
  co_await sleep_for(std::chrono::seconds(5 - i));
  co_return i * 10;
}
task<int> fails_at_two(int i) {
  co_await sleep_for(1s);
  if (i == 2) throw std::runtime_error("two");
  co_return i;
}

}  // namespace

TEST_CASE("map gives what the function gives for each item, awaited or not") {
  auto main = []() -> task<> {
    ledger l;
    const auto plain = co_await all_of(numbers(l, 3) | streams::map([](int i) { return std::to_string(i); }));
    CHECK(plain == std::vector<std::string>{"0", "1", "2"});
    const auto awaited = co_await all_of(numbers(l, 3) | streams::map(slow_tenfold));
    CHECK(awaited == std::vector{0, 10, 20});
    CHECK(clock::now() == at(5s + 4s + 3s));
    CHECK(l.closed == 2);
  };
  simulate(main());
}

TEST_CASE("map with a limit has so many calls under way, and gives results in order, or as they come") {
  auto main = []() -> task<> {
    for (const bool ordered : {true, false}) {
      ledger l;
      const auto begin = clock::now();
      const auto all = co_await all_of(numbers(l, 5) | streams::map(slow_tenfold, {.limit = 3, .ordered = ordered}));
      CHECK(all == (ordered ? std::vector{0, 10, 20, 30, 40} : std::vector{20, 10, 0, 30, 40}));
      CHECK(clock::now() - begin <= 8s);
      CHECK(l.closed == 1);

      ledger ahead;
      auto g = numbers(ahead, 100) | streams::map(slow_tenfold, {.limit = 4, .ordered = ordered});
      co_await g.next();
      co_await sleep_for(1h);
      CHECK(ahead.given <= 5);  // results that nobody takes hold up the rest
      co_await g.close();
      CHECK(ahead.closed == 1);
    }
  };
  simulate(main());
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("the first failure of a map is thrown from next(), ends the stream and closes what is before it") {
  auto main = []() -> task<> {
    for (const std::size_t limit : {std::size_t{1}, std::size_t{3}}) {
      for (const bool ordered : {true, false}) {
        ledger l;
        auto g = numbers(l, 9) | streams::map(fails_at_two, {.limit = limit, .ordered = ordered});
        const auto first = co_await g.next();
        CHECK(first);
        co_await g.next();
        const std::string text = co_await thrown_by(g.next());
        CHECK(text == "two");
        CHECK(l.closed == 1);
        CHECK_FALSE(g);
      }
    }
    auto breaks = []() -> generator<int> {
      co_yield 1;
      throw std::runtime_error("source");
    };
    for (const std::size_t limit : {std::size_t{1}, std::size_t{3}}) {
      auto g = breaks() | streams::map([](int i) { return i; }, {.limit = limit});
      co_await g.next();
      const std::string text = co_await thrown_by(g.next());
      CHECK(text == "source");
    }
  };
  simulate(main());
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("filter keeps the items for which the predicate holds, awaited or not") {
  auto main = []() -> task<> {
    ledger l;
    const auto is_odd = [](int i) { return i % 2 != 0; };
    auto waits = [&](const int& i) -> task<bool> {
      co_await sleep_for(1s);
      co_return i > 2;
    };
    const auto kept = co_await all_of(numbers(l, 8) | streams::filter(is_odd) | streams::filter(waits));
    CHECK(kept == std::vector{3, 5, 7});
    CHECK(l.closed == 1);
  };
  simulate(main());
}

TEST_CASE("take asks for so many items and no more, and then closes") {
  auto main = []() -> task<> {
    ledger l;
    const auto all = co_await all_of(numbers(l, 100) | streams::take(3));
    CHECK(all == std::vector{0, 1, 2});
    CHECK(l.given == 3);
    CHECK(l.closed == 1);
    const auto none = co_await all_of(numbers(l, 100) | streams::take(0));
    CHECK(none.empty());
    CHECK(l.opened == 1);
    const auto fewer = co_await all_of(numbers(l, 2) | streams::take(3));
    CHECK(fewer.size() == 2);
  };
  simulate(main());
}

TEST_CASE("chunk gives vectors of so many items, or of fewer when the first has waited for so long") {
  auto main = []() -> task<> {
    ledger l;
    const auto by_count = co_await all_of(numbers(l, 7) | streams::chunk(3));
    CHECK(by_count == std::vector<std::vector<int>>{{0, 1, 2}, {3, 4, 5}, {6}});
    const auto begin = clock::now();
    auto g = numbers(l, 6, 1s) | streams::chunk(4, 2500ms);
    const auto first = co_await g.next();
    CHECK(first == std::vector{0, 1, 2});
    CHECK(clock::now() - begin == 3500ms);
    co_await sleep_for(10s);
    const auto second = co_await g.next();
    CHECK(second == std::vector{3, 4, 5});  // they were collected meanwhile
    const auto end = co_await g.next();
    CHECK_FALSE(end);
    CHECK(l.closed == 2);
  };
  simulate(main());
}

TEST_CASE("what came before a failure is given before it, in chunks of a count or a time") {
  auto main = []() -> task<> {
    for (const bool in_time : {false, true}) {
      ledger l;
      auto fails = [](int i) {
        if (i == 5) throw std::runtime_error("five");
        return i;
      };
      auto before = numbers(l, 9) | streams::map(fails);
      auto g = in_time ? std::move(before) | streams::chunk(3, 1h) : std::move(before) | streams::chunk(3);
      const auto first = co_await g.next();
      CHECK(first == std::vector{0, 1, 2});
      const auto second = co_await g.next();
      CHECK(second == std::vector{3, 4});
      const std::string text = co_await thrown_by(g.next());
      CHECK(text == "five");
      CHECK(l.closed == 1);
    }
  };
  simulate(main());
}

TEST_CASE("buffer asks ahead for so many items, merge gives those of all as they come") {
  auto main = []() -> task<> {
    ledger l;
    auto ahead = numbers(l, 100) | streams::buffer(4);
    co_await ahead.next();
    co_await sleep_for(1s);
    CHECK(l.given <= 1 + 4 + 1 + 1);
    const auto second = co_await ahead.next();
    CHECK(second == 1);
    co_await ahead.close();
    CHECK(l.closed == 1);

    const auto begin = clock::now();
    const auto both = co_await all_of(streams::merge(numbers(l, 3, 3s), numbers(l, 3, 2s)));
    CHECK(both == std::vector{0, 0, 1, 1, 2, 2});
    CHECK(clock::now() - begin == 9s);
    std::vector<generator<int>> many;
    for (int i = 0; i != 5; ++i) many.push_back(numbers(l, 2, 1s));
    const auto all = co_await all_of(streams::merge(std::move(many)));
    CHECK(all.size() == 10);
    const auto none = co_await all_of(streams::merge(std::vector<generator<int>>()));
    CHECK(none.empty());
    CHECK(l.opened == l.closed);
    auto breaks = []() -> generator<int> {
      co_await sleep_for(2s);
      throw std::runtime_error("broken");
      co_return;
    };
    const std::string text = co_await failure_of(streams::merge(numbers(l, 9, 1s), breaks()));
    CHECK(text == "broken");
    CHECK(l.opened == l.closed);
  };
  simulate(main());
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("throttle holds items back, timeout ends a stream that is too slow") {
  auto main = []() -> task<> {
    ledger l;
    const auto all = co_await all_of(numbers(l, 4) | streams::throttle(1s));
    CHECK(all.size() == 4);
    CHECK(clock::now() == at(3s));
    auto g = numbers(l, 4, 2s) | streams::timeout(3s);
    co_await g.next();
    bool in_time = true;
    auto late = numbers(l, 4, 4s) | streams::timeout(3s);
    try {
      co_await late.next();
    } catch (const tandem::timed_out&) {
      in_time = false;
    }
    CHECK_FALSE(in_time);
    CHECK_FALSE(late);
    CHECK(l.closed == 2);
    co_await g.close();
    CHECK(l.closed == 3);
  };
  simulate(main());
}

TEST_CASE("from makes a stream of a range and of a queue, which carries what only moves") {
  auto main = []() -> task<> {
    const std::vector three = {1, 2, 3};
    const auto all = co_await all_of(from(three));
    CHECK(all == std::vector{1, 2, 3});
    tandem::queue<std::unique_ptr<int>> q(2);
    auto pushes = [&]() -> task<> {
      for (int i = 0; i != 5; ++i) co_await q.push(std::make_unique<int>(i));
      q.close();
    };
    auto sums = [&]() -> task<int> {
      int sum = 0;
      auto g = from(q) | streams::buffer(2) | streams::filter([](const std::unique_ptr<int>& p) { return *p != 2; });
      while (const auto one = co_await g.next()) sum += **one;
      co_return sum;
    };
    const auto both = co_await gather(pushes(), sums());
    CHECK(std::get<1>(both) == 8);
  };
  simulate(main());
}

TEST_CASE("operators refuse a limit or a size of zero, and a negative time") {
  CHECK_THROWS_AS((void)streams::map(slow_tenfold, {.limit = 0}), std::invalid_argument);
  CHECK_THROWS_AS((void)streams::chunk(0), std::invalid_argument);
  CHECK_THROWS_AS((void)streams::chunk(0, 1s), std::invalid_argument);
  CHECK_THROWS_AS((void)streams::chunk(1, -1s), std::invalid_argument);
  CHECK_THROWS_AS((void)streams::buffer(0), std::invalid_argument);
  CHECK_THROWS_AS((void)streams::throttle(-1s), std::invalid_argument);
  CHECK_THROWS_AS((void)streams::timeout(-1s), std::invalid_argument);
}

TEST_CASE("no operator asks for anything before the first next()") {
  auto main = []() -> task<> {
    ledger l;
    auto same = [](int i) -> task<int> { co_return i; };
    auto any = [](int) { return true; };
    std::vector<generator<int>> all;
    all.push_back(numbers(l, 3) | streams::map(same));
    all.push_back(numbers(l, 3) | streams::map(same, {.limit = 2}));
    all.push_back(numbers(l, 3) | streams::map(same, {.limit = 2, .ordered = false}));
    all.push_back(numbers(l, 3) | streams::filter(any));
    all.push_back(numbers(l, 3) | streams::take(2));
    all.push_back(numbers(l, 3) | streams::buffer(2));
    all.push_back(numbers(l, 3) | streams::throttle(1s));
    all.push_back(numbers(l, 3) | streams::timeout(1s));
    all.push_back(streams::merge(numbers(l, 3)));
    auto chunks = numbers(l, 3) | streams::chunk(2);
    auto in_time = numbers(l, 3) | streams::chunk(2, 1s);
    co_await sleep_for(1h);
    CHECK(l.opened == 0);
    int opened = 0;
    for (auto& g : all) {
      const auto first = co_await g.next();
      CHECK(first == 0);
      CHECK(l.opened == ++opened);
    }
    co_await chunks.next();
    co_await in_time.next();
    CHECK(l.opened == opened + 2);
    for (auto& g : all) co_await g.close();
    co_await chunks.close();
    co_await in_time.close();
    CHECK(l.closed == l.opened);
  };
  simulate(main());
}

TEST_CASE("close() closes a chain the last first: its calls under way have ended before what it reads is closed") {
  auto main = []() -> task<> {
    std::string log;
    auto source = [&]() -> generator<int> {
      auto cleanup = [&]() -> task<> {
        co_await sleep_for(1s);
        log += "source ";
      };
      co_await on_exit(cleanup);
      for (int i = 0;; ++i) co_yield i;
    };
    auto first_ends = [&]() -> task<> {
      co_await sleep_for(1s);
      log += "first ";
    };
    auto first = [&](int i) -> task<int> {
      if (i > 2) co_await tandem::finally(sleep_for(1h), first_ends);
      co_return i;
    };
    auto second_ends = [&]() -> task<> {
      co_await sleep_for(3s);
      log += "second ";
    };
    auto second = [&](int i) -> task<int> {
      if (i > 0) co_await tandem::finally(sleep_for(1h), second_ends);
      co_return i;
    };
    auto g = source() | streams::map(first, {.limit = 2}) | streams::map(second, {.limit = 2});
    co_await g.next();
    co_await sleep_for(1s);
    co_await g.close();
    CHECK(log == "second second first first source ");
    CHECK(clock::now() == at(1s + 3s + 1s + 1s));
  };
  simulate(main());
}

TEST_CASE("map has as many calls under way as its limit says, results that nobody has taken counted, and no more") {
  auto main = []() -> task<> {
    for (const bool ordered : {true, false}) {
      ledger l;
      int under_way = 0, most = 0;
      auto call = [&](int i) -> task<int> {
        most = std::max(most, ++under_way);
        co_await sleep_for(1s);
        --under_way;
        co_return i;
      };
      auto g = numbers(l, 100) | streams::map(call, {.limit = 3, .ordered = ordered});
      const auto begin = clock::now();
      co_await g.next();
      CHECK(clock::now() - begin == 1s);
      co_await sleep_for(1h);
      CHECK(most == 3);
      CHECK(under_way == 0);
      CHECK(l.given == 1 + 3);
      for (int i = 0; i != 3; ++i) co_await g.next();  // they are there
      CHECK(clock::now() - begin == 1s + 1h);
      co_await g.close();
    }
  };
  simulate(main());
}

TEST_CASE(
    "of several failures an ordered map throws that of the first item, in its turn; otherwise the first to come") {
  auto main = []() -> task<> {
    for (const bool ordered : {true, false}) {
      auto call = [](int i) -> task<int> {  // the later the item, the earlier it fails
        co_await sleep_for(std::chrono::seconds(10 - i));
        if (i >= 2) throw std::runtime_error(std::to_string(i));
        co_return i;
      };
      ledger l;
      auto g = numbers(l, 9) | streams::map(call, {.limit = 4, .ordered = ordered});
      const auto begin = clock::now();
      std::vector<int> before;
      std::string text;
      try {
        while (const auto one = co_await g.next()) before.push_back(*one);
      } catch (const std::runtime_error& e) {
        text = e.what();
      }
      CHECK(before == (ordered ? std::vector{0, 1} : std::vector<int>()));
      CHECK(text == (ordered ? "2" : "3"));
      CHECK(clock::now() - begin == (ordered ? 10s : 7s));
      CHECK(l.closed == 1);
    }
  };
  simulate(main());
}

TEST_CASE("chunk gives no empty vector: not after a full one, and not of nothing") {
  auto main = []() -> task<> {
    for (const int n : {0, 6}) {
      ledger l;
      const auto by_count = co_await all_of(numbers(l, n) | streams::chunk(3));
      CHECK(by_count.size() == static_cast<std::size_t>(n / 3));
      const auto in_time = co_await all_of(numbers(l, n) | streams::chunk(3, 1s));
      CHECK(in_time.size() == static_cast<std::size_t>(n / 3));
    }
  };
  simulate(main());
}

TEST_CASE("buffer asks for exactly so many items ahead of who takes them, from the first next() on") {
  auto main = []() -> task<> {
    for (const int size : {1, 2, 4}) {
      ledger l;
      auto g = numbers(l, 100) | streams::buffer(static_cast<std::size_t>(size));
      for (int taken = 1; taken != 4; ++taken) {
        const auto one = co_await g.next();
        CHECK(one == taken - 1);
        co_await sleep_for(1s);
        CHECK(l.given == taken + size);
      }
      co_await g.close();
      ledger few;
      const auto all = co_await all_of(numbers(few, 5) | streams::buffer(static_cast<std::size_t>(size)));
      CHECK(all == std::vector{0, 1, 2, 3, 4});
    }
  };
  simulate(main());
}

TEST_CASE("throttle gives the first item at once, holds back the next from when one was given, and no slow one") {
  auto main = []() -> task<> {
    ledger l;
    auto g = numbers(l, 9) | streams::throttle(10s);
    std::vector<clock::duration> times;
    for (const clock::duration work : {0s, 4s, 25s, 0s, 0s}) {
      const auto one = co_await g.next();
      CHECK(one == static_cast<int>(times.size()));
      times.push_back(clock::now() - at(0s));
      co_await sleep_for(work);
    }
    CHECK(times == std::vector<clock::duration>{0s, 10s, 20s, 45s, 55s});
    co_await g.close();
    auto slow = numbers(l, 3, 11s) | streams::throttle(10s);
    const auto begin = clock::now();
    co_await all_of(std::move(slow));
    CHECK(clock::now() - begin == 33s);
  };
  simulate(main());
}

TEST_CASE("timeout counts from when an item is asked for: who takes his time ends no stream") {
  auto main = []() -> task<> {
    ledger l;
    auto g = numbers(l, 3, 2s) | streams::timeout(3s);
    for (int i = 0; i != 3; ++i) {
      const auto one = co_await g.next();
      CHECK(one == i);
      co_await sleep_for(1h);
    }
    const auto none = co_await g.next();
    CHECK_FALSE(none);
    auto late = numbers(l, 3, 4s) | streams::timeout(3s);
    const auto begin = clock::now();
    const std::string text = co_await thrown_by(late.next());
    CHECK(text.starts_with("tandem::timed_out"));
    CHECK(clock::now() - begin == 3s);
  };
  simulate(main());
}

TEST_CASE(
    "merge gives each item when it comes, streams of several types as their common type, and ends when all have") {
  auto main = []() -> task<> {
    ledger l;
    auto halves = [](int n) -> generator<double> {
      for (int i = 0; i != n; ++i) {
        co_await sleep_for(3s);
        co_yield i + .5;
      }
    };
    auto g = streams::merge(numbers(l, 2, 2s), halves(3));
    std::vector<double> items;
    std::vector<clock::duration> times;
    while (const auto one = co_await g.next()) {
      items.push_back(*one);
      times.push_back(clock::now() - at(0s));
    }
    CHECK(items == std::vector<double>{0, .5, 1, 1.5, 2.5});
    CHECK(times == std::vector<clock::duration>{2s, 3s, 4s, 6s, 9s});

    auto breaks = []() -> generator<int> {
      co_await sleep_for(2s);
      throw std::runtime_error("broken");
      co_return;
    };
    auto both = streams::merge(numbers(l, 9, 5s), breaks());
    const auto begin = clock::now();
    const std::string text = co_await thrown_by(both.next());
    CHECK(text == "broken");
    CHECK(clock::now() - begin == 2s);
    CHECK_FALSE(both);
    CHECK(l.closed == l.opened);
  };
  simulate(main());
}

TEST_CASE("what a stream that works ahead has under way is stopped when it is dropped, not when the tree ends") {
  auto main = []() -> task<> {
    for (const bool mapped : {true, false}) {
      ledger l;
      int stopped = 0;
      auto call = [&](int i) -> task<int> {
        const kit::at_exit ends([&] { stopped += i != 0; });
        if (i != 0) co_await sleep_for(1h);
        co_return i;
      };
      {
        auto g = mapped ? numbers(l, 100) | streams::map(call, {.limit = 3}) : numbers(l, 100, 1s) | streams::buffer(9);
        co_await g.next();
        co_await sleep_for(1500ms);
      }
      const int given = l.given;
      co_await sleep_for(10s);
      CHECK(l.given == given);
      CHECK(stopped == (mapped ? 3 : 0));
    }
  };
  simulate(main());
}

TEST_CASE("an operator that refuses says which number, and what it is") {
  const auto said = [](auto make) -> std::string {
    try {
      (void)make();
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "";
  };
  CHECK(said([] { return streams::map(slow_tenfold, {.limit = 0}); }) ==
        "tandem::streams::map: the limit is 0; it must be at least 1");
  CHECK(said([] { return streams::chunk(0); }) == "tandem::streams::chunk: the size is 0; it must be at least 1");
  CHECK(said([] { return streams::buffer(0); }) == "tandem::streams::buffer: the size is 0; it must be at least 1");
  CHECK(said([] { return streams::throttle(-1s); }) ==
        "tandem::streams::throttle: the duration is -1.000000 s; it must not be negative");
  CHECK(said([] { return streams::timeout(-2ms); }) ==
        "tandem::streams::timeout: the duration is -0.002000 s; it must not be negative");
  CHECK(said([] { return streams::chunk(1, -1s); }) ==
        "tandem::streams::chunk: the duration is -1.000000 s; it must not be negative");
}

TEST_CASE("chunk with a time gives at once what has waited for so long while nobody asked") {
  auto main = []() -> task<> {
    ledger l;
    auto g = numbers(l, 100, 1s) | streams::chunk(50, 2500ms);
    co_await g.next();
    CHECK(clock::now() == at(3500ms));
    co_await sleep_for(1s);  // the first has waited for 500 ms
    const auto second = co_await g.next();
    CHECK(second == std::vector{3, 4, 5});
    CHECK(clock::now() == at(6500ms));
    co_await sleep_for(10s);
    const auto third = co_await g.next();
    CHECK(third == std::vector{6, 7, 8, 9, 10, 11, 12, 13, 14, 15});
    CHECK(clock::now() == at(16500ms));
    co_await g.close();
  };
  simulate(main());
}

TEST_CASE("a stream that works ahead and is dropped is stopped and joined by its tree") {
  ledger l;
  auto main = [&]() -> task<> {
    auto g = numbers(l, 100, 1s) | streams::map(slow_tenfold, {.limit = 3, .ordered = false}) | streams::buffer(2);
    co_await g.next();
  };
  simulate(main());
  CHECK(l.given < 100);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("a queue_closed of a source or of a function is a failure like any other") {
  auto main = []() -> task<> {
    tandem::queue<int> cancelled(4), closed(4);
    cancelled.cancel();
    closed.close();
    const std::string of_source = co_await failure_of(from(cancelled) | streams::buffer(2));
    CHECK(of_source == "tandem::queue_closed");
    auto pushes = [&](int i) -> task<int> {
      co_await closed.push(i);
      co_return i;
    };
    ledger l;
    const std::string of_function =
        co_await failure_of(numbers(l, 3) | streams::map(pushes, {.limit = 2, .ordered = false}));
    CHECK(of_function == "tandem::queue_closed");
    CHECK(l.closed == 1);
  };
  simulate(main());
}

TEST_CASE("a clean-up that fails while a stream that works ahead is closed is thrown by close, or ends the tree") {
  auto source = []() -> generator<int> {
    auto fails = []() -> task<> {
      co_await tandem::yield();
      throw std::runtime_error("clean-up");
    };
    co_await on_exit(fails);
    for (int i = 0;; ++i) {
      co_await sleep_for(1s);
      co_yield i;
    }
  };
  enum { buffered, mapped, merged };
  for (const auto kind : {buffered, mapped, merged}) {
    for (const bool closes : {true, false}) {
      std::string text;
      auto main = [&]() -> task<> {
        auto g = kind == buffered ? source() | streams::buffer(100)
                 : kind == mapped ? source() | streams::map(slow_tenfold, {.limit = 9})
                                  : streams::merge(source(), source()) | streams::buffer(100);
        co_await g.next();
        if (closes) text = co_await thrown_by(g.close());
      };
      try {
        simulate(main());
      } catch (const std::exception& e) {
        text = e.what();
      }
      CHECK(text.find("clean-up") != std::string::npos);
      CHECK(kit::live_frames() == 0);
    }
  }
}

TEST_CASE("a call for an item that comes when the stream is being closed is stopped too") {
  for (const bool ordered : {true, false}) {
    auto main = [ordered]() -> task<> {
      kit::gate gate;
      auto source = [&]() -> generator<int> {
        co_yield 0;
        co_await gate.wait();
        co_yield 1;
      };
      auto call = [](int i) -> task<int> {
        if (i == 1) co_await sleep_for(1h);
        co_return i;
      };
      auto g = source() | streams::map(call, {.limit = 4, .ordered = ordered});
      co_await g.next();
      gate.open_one();
      co_await g.close();
      CHECK(clock::now() == at(0s));
    };
    simulate(main());
  }
}

TEST_CASE("the function of a map is there until its last call has ended, though the stream was dropped") {
  for (const bool ordered : {true, false}) {
    auto ended = std::make_shared<int>(0);
    auto main = [&]() -> task<> {
      auto call = [ended](int i) -> task<int> {
        const kit::at_exit ends([&] { ++*ended; });
        co_await tandem::shield(sleep_for(1s));
        co_return i + *ended;
      };
      ledger l;
      auto g = numbers(l, 100, 1ms) | streams::map(call, {.limit = 3, .ordered = ordered});
      co_await tandem::try_timeout(10ms, g.next());
      auto h = numbers(l, 100, 1ms) | streams::map(call, {.limit = 3, .ordered = ordered}) | streams::buffer(1);
      co_await h.next();
    };
    simulate(main());
    CHECK(ended.use_count() == 1);
    CHECK(*ended == 6);
  }
}

TEST_CASE("under any schedule and stop, chained streams that work ahead end in the failure of a source, only") {
  struct state {
    int opened = 0, closed = 0;
    generator<int> fails_after(int n) {
      ++opened;
      auto cleanup = [this]() -> task<> {
        co_await tandem::yield();
        ++closed;
      };
      co_await on_exit(cleanup);
      for (int i = 0; i != n; ++i) {
        co_await tandem::yield();
        co_yield i;
      }
      if (n == 2) throw std::runtime_error("source");
    }
  };
  for (const bool shielded : {false, true}) {
    kit::explore<state>(
        [shielded](state& s) -> task<> {
          auto call = [](int i) -> task<int> {
            co_await tandem::yield();
            co_return i;
          };
          auto uses = [](std::vector<int>) -> task<> { co_await tandem::yield(); };
          auto all = [&]() -> task<> {
            auto g = streams::merge(s.fails_after(2), s.fails_after(3) | streams::buffer(1)) |
                     streams::map(call, {.limit = 3}) | streams::chunk(2, 1s);
            co_await for_each(std::move(g), uses, {.limit = 2});
          };
          std::string text;
          if (shielded)
            text = co_await thrown_by(tandem::shield(all()));
          else
            text = co_await thrown_by(all());
          CHECK(text == "source");
        },
        [](state& s, kit::end how) {
          CHECK(how != kit::end::failed);
          if (how != kit::end::destroyed) CHECK(s.closed == s.opened);
        });
  }
}

TEST_CASE("who asks in a clean-up for the items of a stream whose tasks were stopped gets cancelled after the last") {
  enum { ordered, unordered, buffered, in_time };
  for (const auto kind : {ordered, unordered, buffered, in_time}) {
    struct state {
      ledger numbers;
      int asked = 0;
      std::string text;
    };
    kit::explore<state>(
        [kind](state& s) -> task<> {
          auto first = [](std::vector<int> some) { return some.front(); };
          auto call = [](int i) -> task<int> {
            co_await tandem::yield();
            co_return i;
          };
          auto g = kind == ordered     ? numbers(s.numbers, 8, 1s) | streams::map(call, {.limit = 2})
                   : kind == unordered ? numbers(s.numbers, 8, 1s) | streams::map(call, {.limit = 2, .ordered = false})
                   : kind == buffered  ? numbers(s.numbers, 8, 1s) | streams::buffer(2)
                                       : numbers(s.numbers, 8, 1s) | streams::chunk(1, 1s) | streams::map(first);
          auto asks = [&]() -> task<> {
            for (;; ++s.asked)
              if (!co_await g.next()) co_return;
          };
          auto drains = [&]() -> task<> {
            s.text = co_await thrown_by(asks());
            co_await g.close();
          };
          co_await g.next();
          co_await tandem::finally(sleep_for(3s), drains);
        },
        [](state& s, kit::end how) {
          CHECK((how != kit::end::failed && how != kit::end::deadlocked));
          if (how == kit::end::returned && s.text.empty()) CHECK(s.asked == 7);
          if (how == kit::end::returned || how == kit::end::cancelled) CHECK(s.numbers.closed == s.numbers.opened);
          if (!s.text.empty()) CHECK(s.text.starts_with("tandem::cancelled"));
        });
  }
}

TEST_CASE("under any schedule, stop and end of the context, streams that work ahead lose nothing and close all") {
  struct state {
    kit::gate gate;
    int opened = 0, closed = 0, taken = 0;
    generator<int> opens(int n) {
      ++opened;
      auto cleanup = [this]() -> task<> {
        co_await tandem::yield();
        ++closed;
      };
      co_await on_exit(cleanup);
      for (int i = 0; i != n; ++i) {
        co_await gate.wait();
        co_yield i;
      }
    }
  };
  enum { ordered, unordered, merged, buffered, in_time };
  for (const auto kind : {ordered, unordered, merged, buffered, in_time}) {
    kit::explore<state>(
        [kind](state& s) -> task<> {
          auto keeps = [&](int i) -> task<kit::counted> {
            co_await tandem::yield();
            (void)i;
            co_return kit::counted();
          };
          auto takes = [&](kit::counted one) -> task<> {
            ++s.taken;
            (void)one;
            co_return;
          };
          auto takes_some = [&](std::vector<int> some) -> task<> {
            s.taken += static_cast<int>(some.size());
            co_return;
          };
          auto feeds = [&]() -> task<> {
            for (int i = 0; i != 4; ++i) {
              co_await tandem::yield();
              s.gate.open_one();
            }
          };
          auto uses = [&]() -> task<> {
            if (kind == in_time) {
              co_await for_each(s.opens(4) | streams::chunk(3, 1s), takes_some);
              co_return;
            }
            auto g = kind == ordered     ? s.opens(4) | streams::map(keeps, {.limit = 2})
                     : kind == unordered ? s.opens(4) | streams::map(keeps, {.limit = 2, .ordered = false})
                     : kind == merged    ? streams::merge(s.opens(2), s.opens(2)) | streams::map(keeps)
                                         : s.opens(4) | streams::map(keeps) | streams::buffer(2);
            co_await for_each(std::move(g), takes, {.limit = 1});
          };
          co_await gather(uses(), feeds());
        },
        [](state& s, kit::end how) {
          CHECK(how != kit::end::failed);
          if (how == kit::end::returned) CHECK(s.taken == 4);
          if (how != kit::end::destroyed) CHECK(s.closed == s.opened);
        });
  }
}
