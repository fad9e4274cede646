#include <tandem/cached.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

#include "kit/kit.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

using namespace std::chrono_literals;
using kit::at;
using kit::thrown_by;
using tandem::cached;
using tandem::clock;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;

namespace {

int calls = 0;
task<std::string> greet(const std::string& name, int times) {
  ++calls;
  co_await sleep_for(1s);
  co_return name + " x" + std::to_string(times);
}
task<int> square(int x) { co_return x* x; }

}  // namespace

TEST_CASE("a cached function calls once for the same arguments, however many ask") {
  auto main = []() -> task<> {
    calls = 0;
    const auto greeting = cached(greet);
    const auto again = greeting;
    const auto [a, b, c] = co_await tandem::gather(greeting("owl", 2), greeting("owl", 2), again("owl", 3));
    CHECK(a == "owl x2");
    CHECK(b == "owl x2");
    CHECK(c == "owl x3");
    CHECK(calls == 2);
    CHECK(clock::now() == at(1s));
    const std::string d = co_await again("owl", 2);
    CHECK(d == "owl x2");
    CHECK(calls == 2);
    CHECK(greeting.stats().hits == 1);
    greeting.put("owl", 2, "put");
    const std::string e = co_await greeting("owl", 2);
    CHECK(e == "put");
    CHECK(greeting.erase("owl", 2));
    CHECK(!greeting.erase("owl", 2));
    greeting.clear();
    CHECK(greeting.stats().size == 0);
    const auto squares = cached(&square, {.capacity = 2});
    int sum = 0;
    for (int i = 0; i != 10; ++i) sum += co_await squares(i % 2);
    CHECK(sum == 5);
    CHECK(squares.stats().loads == 2);
  };
  simulate(main());
}

TEST_CASE("a result that is about to expire is given, and fetched again meanwhile") {
  auto main = []() -> task<> {
    int version = 0;
    auto load = [&](int) -> task<int> {
      const int v = ++version;
      co_await sleep_for(1s);
      co_return v;
    };
    const auto fetch = cached(load, {.ttl = 60s, .refresh_ahead = 10s});
    int v = co_await fetch(1);
    CHECK(v == 1);
    co_await sleep_for(49s);  // 11 s left
    v = co_await fetch(1);
    CHECK(version == 1);
    co_await sleep_for(2s);
    for (int i = 0; i != 3; ++i) v = co_await fetch(1);
    CHECK(v == 1);
    co_await tandem::yield();
    CHECK(version == 2);
    co_await sleep_for(2s);
    v = co_await fetch(1);
    CHECK(v == 2);
    CHECK(clock::now() == at(54s));
    co_await sleep_for(60s);  // unused meanwhile: it expires
    v = co_await fetch(1);
    CHECK(v == 3);
    CHECK(clock::now() == at(115s));
  };
  simulate(main());
}

TEST_CASE("a refresh that fails leaves the old result, and overrules nothing that was put or erased meanwhile") {
  auto main = []() -> task<> {
    int version = 0;
    bool fails = false;
    auto load = [&](int) -> task<int> {
      const int v = ++version;
      co_await sleep_for(1s);
      if (fails) throw std::runtime_error("no");
      co_return v;
    };
    const auto fetch = cached(load, {.ttl = 60s, .refresh_ahead = 50s});
    co_await fetch(1);
    co_await sleep_for(20s);
    fails = true;
    int v = co_await fetch(1);
    co_await sleep_for(2s);
    CHECK(version == 2);
    v = co_await fetch(1);
    CHECK(v == 1);
    co_await sleep_for(2s);
    CHECK(version == 3);  // it tried again
    fails = false;
    v = co_await fetch(1);
    fetch.put(1, 100);
    co_await sleep_for(2s);
    v = co_await fetch(1);
    CHECK(v == 100);
    co_await sleep_for(20s);
    v = co_await fetch(1);
    fetch.erase(1);
    co_await sleep_for(2s);
    CHECK(fetch.stats().size == 0);
  };
  simulate(main());
}

TEST_CASE("who comes when the old result has gone waits for the refresh that is under way") {
  auto main = []() -> task<> {
    int fetches = 0, at_once = 0, most = 0;
    auto load = [&](int) -> task<int> {
      most = std::max(most, ++at_once);
      const int v = ++fetches;
      co_await sleep_for(8s);
      --at_once;
      co_return v;
    };
    const auto fetch = cached(load, {.ttl = 10s, .refresh_ahead = 5s});
    int v = co_await fetch(1);
    co_await sleep_for(6s);  // 4 s left
    v = co_await fetch(1);
    CHECK(v == 1);
    co_await sleep_for(5s);
    v = co_await fetch(1);
    CHECK(v == 2);
    CHECK(clock::now() == at(22s));
    CHECK(most == 1);
  };
  simulate(main());
}

TEST_CASE("what is under way keeps the function and its captures when the last copy has gone") {
  auto main = []() -> task<> {
    const int before = kit::counted::live();
    int result = 0;
    auto asks = [&]() -> task<> {
      auto load = [captured = std::make_shared<kit::counted>()](int x) -> task<int> {
        co_await sleep_for(1s);
        co_return captured ? x : -1;
      };
      const auto fetch = cached(std::move(load), {.ttl = 60s, .refresh_ahead = 50s});
      result += co_await fetch(1);
      co_await sleep_for(20s);
      result += co_await fetch(1);  // and a refresh begins
    };
    co_await asks();
    CHECK(result == 2);
    CHECK(kit::counted::live() == before + 1);
    co_await sleep_for(2s);
    CHECK(kit::counted::live() == before);
  };
  simulate(main());
}

TEST_CASE("a result that has as long to live as refresh_ahead says is fetched again, and one with more is not") {
  auto main = []() -> task<> {
    int fetches = 0;
    auto load = [&](int) { return kit::after(0s, ++fetches); };
    const auto fetch = cached(load, {.ttl = 60s, .refresh_ahead = 10s});
    co_await fetch(1);
    co_await sleep_for(50s - 1ns);
    co_await fetch(1);
    CHECK(fetches == 1);
    co_await sleep_for(1ns);
    const int v = co_await fetch(1);
    CHECK(v == 1);
    CHECK(fetches == 2);
  };
  simulate(main());
}

TEST_CASE("the look-up, and the start of a refresh, are made by the call, not when it is awaited") {
  auto main = []() -> task<> {
    int fetches = 0;
    auto load = [&](int) { return kit::after(0s, ++fetches); };
    const auto fetch = cached(load, {.ttl = 60s, .refresh_ahead = 10s});
    fetch.put(1, 100);
    co_await sleep_for(55s);
    auto looked_up = fetch(1);
    CHECK(fetches == 1);
    co_await sleep_for(1s);  // the refresh is over
    const int newer = co_await fetch(1);
    CHECK(newer == 1);
    const int v = co_await std::move(looked_up);
    CHECK(v == 100);
    CHECK(fetch.stats().hits == 2);
  };
  simulate(main());
}

TEST_CASE("as many results as the capacity says are kept, the least recently used goes first; no ttl is for ever") {
  auto main = []() -> task<> {
    std::string loaded;
    auto load = [&](int x) -> task<int> {
      loaded += std::to_string(x);
      co_return x;
    };
    const auto fetch = cached(load, {.capacity = 2});
    for (const int x : {1, 2, 1, 3, 1, 2}) co_await fetch(x);
    CHECK(loaded == "1232");
    loaded.clear();
    const auto many = cached(load);
    for (int i = 0; i != 1001; ++i) co_await many(i);
    CHECK(many.stats().capacity == 1000);
    CHECK(many.stats().evicted == 1);
    co_await sleep_for(100'000h);
    loaded.clear();
    for (int i = 1; i != 1001; ++i) co_await many(i);
    CHECK(loaded.empty());
  };
  simulate(main());
}

TEST_CASE("jitter takes a part off the time to live of each result, at most the part that it says") {
  auto main = []() -> task<> {
    int loads = 0;
    auto load = [&](int) -> task<int> { co_return ++loads; };
    const auto fetch = cached(load, {.ttl = 100s, .jitter = .5});
    auto loads_of_fifty = [&]() -> task<int> {
      loads = 0;
      for (int i = 0; i != 50; ++i) co_await fetch(i);
      co_return loads;
    };
    int n = co_await loads_of_fifty();
    CHECK(n == 50);
    co_await sleep_for(49s);
    n = co_await loads_of_fifty();
    CHECK(n == 0);
    co_await sleep_for(26s);
    const int early = co_await loads_of_fifty();
    CHECK((early > 10 && early < 40));
    co_await sleep_for(25s);
    n = co_await loads_of_fifty();
    CHECK(n == 50 - early);
  };
  simulate(main());
}

TEST_CASE("a failure reaches all who wait and is not kept; who is stopped takes nothing from the others") {
  auto main = []() -> task<> {
    int fetches = 0;
    auto load = [&](int x) -> task<int> {
      const bool is_first = ++fetches == 1;
      co_await sleep_for(2s);
      if (is_first) throw std::runtime_error("no");
      co_return x;
    };
    const auto fetch = cached(load);
    const auto both = co_await tandem::gather(tandem::return_exceptions, fetch(7), fetch(7));
    CHECK((std::get<0>(both).error() && std::get<1>(both).error()));
    CHECK(fetches == 1);
    auto leaves = [&]() -> task<bool> {
      const auto late = co_await tandem::try_timeout(1s, fetch(7));
      co_return !late;
    };
    const auto after = co_await tandem::gather(leaves(), fetch(7));
    CHECK(std::get<0>(after));
    CHECK(std::get<1>(after) == 7);
    CHECK(fetches == 2);
    CHECK(clock::now() == at(4s));
  };
  simulate(main());
}

TEST_CASE("functions, and objects with any one call operator, that return any awaitable can be cached") {
  struct adds {
    int n;
    auto operator()(int x) const noexcept { return square(x + n); }
  };
  auto main = []() -> task<> {
    auto counts = [n = 0](const std::string& text) mutable {
      return tandem::timeout(1s, square(static_cast<int>(text.size()) + n++));
    };
    const auto limited = cached(counts);
    std::string text = "four";
    int v = co_await limited(text);
    CHECK(v == 16);
    text[0] = 'F';
    v = co_await limited(text);
    CHECK(v == 25);
    v = co_await limited("four");  // the key was a copy
    CHECK(v == 16);
    const auto added = cached(adds{2});
    v = co_await added(3);
    CHECK(v == 25);
    const auto reference = cached(square);
    v = co_await reference(3);
    CHECK(v == 9);
  };
  simulate(main());
}

TEST_CASE("times that make no sense are refused") {
  CHECK_THROWS_WITH(cached(square, {.ttl = 1s, .refresh_ahead = 1s}),
                    "tandem::cached: refresh_ahead is 1000000000 ns; it must not be negative, and shorter than ttl");
  CHECK_THROWS_AS(cached(square, {.refresh_ahead = -1s}), std::invalid_argument);
  CHECK_THROWS_AS(cached(square, {.capacity = 0}), std::invalid_argument);
  CHECK_THROWS_AS(cached(square, {.ttl = -1s}), std::invalid_argument);
  CHECK_THROWS_AS(cached(square, {.jitter = 1.5}), std::invalid_argument);
}
