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

TEST_CASE("times that make no sense are refused") {
  CHECK_THROWS_WITH(cached(square, {.ttl = 1s, .refresh_ahead = 1s}),
                    "tandem::cached: refresh_ahead is 1000000000 ns; it must not be negative, and shorter than ttl");
  CHECK_THROWS_AS(cached(square, {.refresh_ahead = -1s}), std::invalid_argument);
  CHECK_THROWS_AS(cached(square, {.capacity = 0}), std::invalid_argument);
}
