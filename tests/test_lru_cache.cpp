#include <tandem/lru_cache.hpp>

#include <tandem/cancel.hpp>
#include <tandem/event.hpp>
#include <tandem/race.hpp>
#include <tandem/run.hpp>
#include <tandem/wait.hpp>

#include "kit/allocations.hpp"
#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(strand.hpp)

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using kit::allocations;
using kit::at;
using kit::thrown_by;
using tandem::clock;
using tandem::concurrent_lru_cache;
using tandem::eviction;
using tandem::lru_cache;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::yield;
namespace this_task = tandem::this_task;

namespace {

/// g++ 12 cannot have braces in a co_await.
template <class... I>
std::vector<int> ints(I... i) {
  return {i...};
}

/// A slow source that counts how often it is asked.
struct source {
  int loads = 0;
  std::vector<int> asked;
  task<std::string> load(int key) {
    ++loads;
    asked.push_back(key);
    co_await sleep_for(1s);
    if (key < 0) throw std::runtime_error("no such key");
    co_return "value " + std::to_string(key);
  }
};

}  // namespace

// ---- one load, many who want it ------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("ten thousand who ask for one key at once cause one load", "", (lru_cache<int, std::string>),
                   (concurrent_lru_cache<int, std::string>)) {
  auto main = []() -> task<> {
    source s;
    TestType cache{{.capacity = 10}};
    auto load = [&](int key) { return s.load(key); };
    std::vector<task<std::string>> all;
    auto asks = [&]() -> task<std::string> { co_return co_await cache.get(1, load); };
    for (int i = 0; i != 10'000; ++i) all.push_back(asks());
    auto values = co_await tandem::gather(std::move(all));
    CHECK(s.loads == 1);
    CHECK(clock::now() == at(1s));
    CHECK(std::all_of(values.begin(), values.end(), [](const std::string& v) { return v == "value 1"; }));
    const auto stats = cache.stats();
    CHECK(stats.misses == 10'000);
    CHECK(stats.joined == 9'999);
    CHECK(stats.loads == 1);
    const std::string again = co_await cache.get(1, load);
    CHECK(again == "value 1");
    CHECK(s.loads == 1);
    CHECK(cache.stats().hits == 1);
    CHECK(cache.stats().time_saved == 1s);
  };
  simulate(main());
}

TEST_CASE("those who wait for a load go on in the order in which they came") {
  auto main = []() -> task<> {
    source s;
    lru_cache<int, std::string> cache{{.capacity = 10}};
    auto load = [&](int key) { return s.load(key); };
    std::string order;
    auto asks = [&](char name) -> task<> {
      co_await cache.get(1, load);
      order += name;
    };
    co_await tandem::gather(asks('a'), asks('b'), asks('c'), asks('d'));
    CHECK(order == "abcd");
  };
  simulate(main());
}

TEST_CASE("a hit does not suspend; a false value is a value") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 10}};
    int loads = 0;
    auto zero = [&](int) -> task<int> {
      ++loads;
      co_return 0;
    };
    int first = co_await cache.get(7, zero);
    bool others_ran = false;
    auto other = [&]() -> task<> {
      others_ran = true;
      co_return;
    };
    tandem::spawn(co_await this_task::executor, other(), asio::detached);
    int second = co_await cache.get(7, zero);
    CHECK(!others_ran);
    CHECK(first + second == 0);
    CHECK(loads == 1);
  };
  simulate(main());
}

TEST_CASE("a hit allocates nothing, by get, find or get of a concurrent cache") {
  auto main = []() -> task<> {
    lru_cache<std::string, int> cache{{.capacity = 2, .ttl = 1h}};
    concurrent_lru_cache<int, int> shared{{.capacity = 2}};
    auto load = [](const std::string&) -> task<int> { co_return 1; };
    auto load_int = [](int) -> task<int> { co_return 1; };
    const std::string key = "a key that is too long for the string itself";
    cache.put(key, 1);
    shared.put(1, 1);
    int sum = 0;
    const long before = allocations;
    for (int i = 0; i != 100; ++i) {
      sum += co_await cache.get(key, load);
      sum += *cache.find(key);
      sum += co_await shared.get(1, load_int);
    }
    CHECK(allocations == before);
    CHECK(sum == 300);
  };
  simulate(main());
}

TEST_CASE("a failure reaches everyone who waits, and is not kept") {
  auto main = []() -> task<> {
    source s;
    lru_cache<int, std::string> cache{{.capacity = 10}};
    auto load = [&](int key) { return s.load(key); };
    int failures = 0;
    auto asks = [&]() -> task<> {
      const std::string text = co_await thrown_by(cache.get(-1, load));
      failures += text == "no such key";
    };
    co_await tandem::gather(asks(), asks(), asks());
    CHECK(failures == 3);
    CHECK(s.loads == 1);
    CHECK(cache.size() == 0);
    co_await asks();
    CHECK(s.loads == 2);
    CHECK(cache.stats().load_failures == 2);
  };
  simulate(main());
}

TEST_CASE("a loader that throws before it returns a task fails its caller, and nothing is left of it") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 10}};
    auto throws = [](int) -> task<int> { throw std::runtime_error("not even begun"); };
    auto plain = [](int key) { return kit::after(1s, key); };
    auto refuses = [](int) {
      throw std::runtime_error("not even begun");
      return kit::after(1s, 1);
    };
    std::string text = co_await thrown_by(cache.get(1, throws));
    CHECK(text == "not even begun");
    text = co_await thrown_by(cache.get(1, refuses));
    CHECK(text == "not even begun");
    CHECK(cache.stats().loading == 0);
    int value = co_await cache.get(1, plain);
    CHECK(value == 1);
  };
  simulate(main());
}

TEST_CASE("a loader may take no key, be any awaitable, and give what converts to the value") {
  auto main = []() -> task<> {
    lru_cache<std::string, std::string> cache{{.capacity = 10}};
    const std::string a = co_await cache.get("a", [] { return kit::after(1s, "text"); });
    CHECK(a == "text");
    const std::string b =
        co_await cache.get(std::string_view("b"), [](const std::string& key) { return kit::after(1s, key + "!"); });
    CHECK(b == "b!");
    CHECK(cache.find("a"));
  };
  simulate(main());
}

// ---- who leaves ----------------------------------------------------------------------------------------------------

TEST_CASE("a stop of who waits affects him alone; when the last has left the load is stopped") {
  auto main = []() -> task<> {
    source s;
    lru_cache<int, std::string> cache{{.capacity = 10}};
    bool load_ran_on = false;
    auto load = [&](int key) -> task<std::string> {
      std::string v = co_await s.load(key);
      load_ran_on = true;
      co_return v;
    };
    auto patience = [&](clock::duration d) -> task<bool> {
      const auto v = co_await tandem::try_timeout(d, cache.get(1, load));
      co_return v.has_value();
    };
    auto [a, b, c] = co_await tandem::gather(patience(100ms), patience(2s), patience(200ms));
    CHECK(!a);
    CHECK(b);
    CHECK(!c);
    CHECK(load_ran_on);
    cache.clear();
    load_ran_on = false;
    co_await tandem::gather(patience(100ms), patience(200ms));
    CHECK(cache.stats().load_cancellations == 1);
    co_await sleep_for(5s);
    CHECK(!load_ran_on);
    CHECK(cache.size() == 0);
    CHECK(cache.stats().loading == 0);
  };
  simulate(main());
}

TEST_CASE("who comes when a load is being stopped never joins it, though its clean-up takes time") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 10}};
    int loads = 0, cleaned = 0;
    auto cleans = [&]() -> task<> {
      co_await sleep_for(10s);
      ++cleaned;
    };
    auto load = [&](int) -> task<int> {
      const int n = ++loads;
      co_await tandem::finally(sleep_for(1s), std::ref(cleans));
      co_return n;
    };
    const auto early = co_await tandem::try_timeout(500ms, cache.get(1, load));
    CHECK(!early);
    const int value = co_await cache.get(1, load);
    CHECK(value == 2);
    CHECK(clock::now() == at(11500ms));
    CHECK(cleaned == 2);
  };
  simulate(main());
}

TEST_CASE("the load has nobody's time limit, and outlives who asked first") {
  auto main = []() -> task<> {
    source s;
    lru_cache<int, std::string> cache{{.capacity = 10}};
    auto load = [&](int key) { return s.load(key); };
    auto first = [&]() -> task<> { co_await tandem::try_timeout(500ms, cache.get(1, load)); };
    auto second = [&]() -> task<> {
      co_await sleep_for(100ms);
      const std::string v = co_await cache.get(1, load);
      CHECK(v == "value 1");
    };
    co_await tandem::gather(first(), second());
    CHECK(s.loads == 1);
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
}

TEST_CASE("a cache that goes stops its loads without waiting, and who waits gets cancelled") {
  auto main = []() -> task<> {
    source s;
    auto cache =
        std::make_unique<lru_cache<int, std::string>>(tandem::lru_cache_options<int, std::string>{.capacity = 10});
    auto load = [&](int key) { return s.load(key); };
    int cancelled = 0;
    auto asks = [&](int key) -> task<> {
      try {
        co_await cache->get(key, load);
      } catch (const tandem::cancelled&) {
        ++cancelled;
      }
    };
    auto drops = [&]() -> task<> {
      co_await sleep_for(100ms);
      cache.reset();
    };
    co_await tandem::gather(asks(1), asks(1), asks(2), drops());
    CHECK(cancelled == 3);
    CHECK(clock::now() == at(100ms));
  };
  simulate(main());
}

TEST_CASE("a loader that gets the key that it loads is told, not hung") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 10}};
    struct self {
      lru_cache<int, int>& cache;
      task<int> load(int key) {
        auto again = [this](int k) { return load(k); };
        co_return co_await cache.get(key, again);
      }
      task<int> circle(int key) {  // 0 waits for 1, for 2, for 0
        co_await sleep_for(1ms);
        auto again = [this](int k) { return circle(k); };
        co_return co_await cache.get((key + 1) % 3, again);
      }
    } s{cache};
    auto load = [&](int key) { return s.load(key); };
    auto circle = [&](int key) { return s.circle(key); };
    std::string text = co_await thrown_by(cache.get(1, load));
    CHECK(text.find("a load waits for itself") != std::string::npos);
    text = co_await thrown_by(cache.get(0, circle));
    CHECK(text.find("a load waits for itself") != std::string::npos);
    auto asks = [&](int key) -> task<std::string> { co_return co_await thrown_by(cache.get(key, circle)); };
    auto [a, b] = co_await tandem::gather(asks(0), asks(1));
    CHECK(a.find("a load waits for itself") != std::string::npos);
    CHECK(b.find("a load waits for itself") != std::string::npos);
  };
  simulate(main());
}

TEMPLATE_TEST_CASE("bulk loads that wait for themselves, or for each other, are told, not hung", "",
                   (lru_cache<int, int>), (concurrent_lru_cache<int, int>)) {
  auto main = []() -> task<> {
    TestType cache{{.capacity = 10}};
    auto seven = [](int) { return kit::after(1ms, 7); };
    auto gets_its_own = [&](std::vector<int> keys) -> task<std::vector<int>> {
      co_await yield();
      co_return std::vector<int>(keys.size(), co_await cache.get(keys.back(), seven));
    };
    std::string text = co_await thrown_by(cache.get_many(ints(1, 2, 3), gets_its_own));
    CHECK(text.find("a load waits for itself") != std::string::npos);

    auto many = [](std::vector<int> keys) { return kit::after(1ms, keys); };
    auto gets_the_other = [&](std::vector<int> keys) -> task<std::vector<int>> {
      co_await sleep_for(1ms);
      co_return co_await cache.get_many(ints(10 - keys[0]), many);
    };
    auto asks = [&](int key) -> task<std::string> {
      co_return co_await thrown_by(cache.get_many(ints(key), gets_the_other));
    };
    const auto texts = co_await tandem::gather(asks(4), asks(6));
    CHECK(std::get<0>(texts).find("a load waits for itself") != std::string::npos);
    CHECK(std::get<1>(texts).find("a load waits for itself") != std::string::npos);
  };
  simulate(main());
}

TEST_CASE("loads may get other keys of their cache, as deep as it takes") {
  auto main = []() -> task<> {
    lru_cache<int, std::uint64_t> cache{{.capacity = 100'000}};
    int loads = 0;
    struct recursion {
      lru_cache<int, std::uint64_t>& cache;
      int& loads;
      task<std::uint64_t> fibonacci(int n) {
        ++loads;
        if (n < 2) co_return n;
        auto smaller = [this](int k) { return fibonacci(k); };
        const auto a = co_await cache.get(n - 1, smaller);
        const auto b = co_await cache.get(n - 2, smaller);
        co_return a + b;
      }
    } r{cache, loads};
    auto load = [&](int n) { return r.fibonacci(n); };
    const auto f = co_await cache.get(90, load);
    CHECK(f == 2880067194370816120u);
    CHECK(loads == 91);
    co_await cache.get(5'000, load);
    CHECK(loads == 5'001);
  };
  simulate(main());
}

TEST_CASE("get_many loads what is missing in one go, in the order of the keys, each once") {
  auto main = []() -> task<> {
    source s;
    lru_cache<int, std::string> cache{{.capacity = 10}};
    std::vector<std::vector<int>> bulks;
    auto bulk = [&](std::vector<int> keys) -> task<std::vector<std::string>> {
      bulks.push_back(keys);
      co_await sleep_for(1s);
      std::vector<std::string> values;
      for (int k : keys) values.push_back("bulk " + std::to_string(k));
      co_return values;
    };
    auto load = [&](int key) { return s.load(key); };
    cache.put(1, "put");
    auto one = [&]() -> task<std::string> { co_return co_await cache.get(2, load); };
    std::vector<int> keys;
    for (int k : {3, 1, 2, 4, 3}) keys.push_back(k);
    auto many = [&]() -> task<std::vector<std::string>> { co_return co_await cache.get_many(keys, bulk); };
    auto late = [&]() -> task<std::string> {
      co_await sleep_for(500ms);
      co_return co_await cache.get(4, load);
    };
    auto [two, all, four] = co_await tandem::gather(one(), many(), late());
    CHECK(two == "value 2");
    CHECK(all == std::vector<std::string>{"bulk 3", "put", "value 2", "bulk 4", "bulk 3"});
    CHECK(four == "bulk 4");
    CHECK(bulks == std::vector<std::vector<int>>{{3, 4}});
    CHECK(clock::now() == at(1s));
    CHECK(s.loads == 1);
    auto none = co_await cache.get_many(std::vector<int>(), bulk);
    CHECK(none.empty());
    auto few = [](std::vector<int>) -> task<std::vector<std::string>> { co_return std::vector<std::string>(); };
    const std::string text = co_await thrown_by(cache.get_many(std::vector<int>(2, 9), few));
    CHECK(text == "tandem::lru_cache::get_many: the loader gave 0 values for 1 keys");
  };
  simulate(main());
}

TEST_CASE("a bulk loader and its captures stay until what it returned has cleaned up") {
  auto main = []() -> task<> {
    std::string seen;
    {
      lru_cache<int, int> cache{{.capacity = 10}};
      const auto text = std::make_shared<std::string>("here");
      auto load = [text, &seen](std::vector<int> keys) -> task<std::vector<int>> {
        const auto clean_up = [&]() -> task<> {
          co_await sleep_for(10ms);
          seen += *text;
        };
        co_await tandem::finally(sleep_for(1h), clean_up);
        co_return keys;
      };
      const auto in_time = co_await tandem::try_timeout(1ms, cache.get_many(ints(1, 2), load));
      CHECK(!in_time);
    }
    co_await sleep_for(20ms);
    CHECK(seen == "here");
  };
  simulate(main());
}

TEST_CASE("a bulk loader that fails at once is called once, whatever the schedule, and that is one failure") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 10}};
    int calls = 0;
    auto load = [&](std::vector<int>) -> task<std::vector<int>> {
      ++calls;
      throw std::runtime_error("no");
      co_return {};
    };
    const std::string text = co_await thrown_by(cache.get_many(ints(1, 2, 3, 4), load));
    CHECK(calls <= 1);
    CHECK(text == "no");
    CHECK(cache.stats().loading == 0);
  };
  for (std::uint64_t seed = 1; seed != 100; ++seed) simulate(main(), {.seed = seed});
}

TEST_CASE("a cache that goes is one failure for who waits for many keys") {
  auto main = []() -> task<> {
    auto cache = std::make_unique<lru_cache<int, int>>(tandem::lru_cache_options<int, int>{.capacity = 10});
    auto load = [](std::vector<int> keys) { return kit::after(1h, keys); };
    bool cancelled = false;
    auto asks = [&]() -> task<> {
      try {
        co_await cache->get_many(ints(1, 2, 3), load);
      } catch (const tandem::cancelled&) {
        cancelled = true;
      }
    };
    auto drops = [&]() -> task<> {
      co_await sleep_for(1ms);
      cache.reset();
    };
    co_await tandem::gather(asks(), drops());
    CHECK(cancelled);
  };
  simulate(main());
}

TEST_CASE("get_many of more than the cache holds gives every value all the same") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 2}};
    int bulks = 0;
    auto bulk = [&](std::vector<int> keys) -> task<std::vector<int>> {
      ++bulks;
      co_await sleep_for(1s);
      co_return keys;
    };
    std::vector<int> keys;
    for (int i = 0; i != 100; ++i) keys.push_back(i);
    auto all = co_await cache.get_many(keys, bulk);
    CHECK(all == keys);
    CHECK(bulks == 1);
    CHECK(cache.size() == 2);
  };
  simulate(main());
}

TEST_CASE("a bulk load is stopped when nobody waits for any of its keys, and not before") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 10}};
    bool ran_on = false;
    auto bulk = [&](std::vector<int> keys) -> task<std::vector<int>> {
      co_await sleep_for(1s);
      ran_on = true;
      co_return keys;
    };
    auto many = [&]() -> task<bool> {
      std::vector<int> keys;
      for (int k : {1, 2, 3}) keys.push_back(k);
      auto values = co_await tandem::try_timeout(500ms, cache.get_many(keys, bulk));
      co_return values.has_value();
    };
    auto joins = [&]() -> task<int> {
      co_await sleep_for(100ms);
      co_return co_await cache.get(2, [](int k) { return kit::after(1s, -k); });
    };
    auto [first, joined] = co_await tandem::gather(many(), joins());
    CHECK(!first);
    CHECK(joined == 2);
    CHECK(ran_on);
    cache.clear();
    ran_on = false;
    const bool second = co_await many();
    CHECK(!second);
    co_await sleep_for(2s);
    CHECK(!ran_on);
    CHECK(cache.stats().loading == 0);
  };
  simulate(main());
}

// ---- put, erase, clear ---------------------------------------------------------------------------------------------

TEST_CASE("put, erase and clear during a load win over its result; who waits gets what was loaded") {
  for (const char* what : {"put", "erase", "clear"}) {
    auto main = [](std::string how) -> task<> {
      source s;
      lru_cache<int, std::string> cache{{.capacity = 10}};
      auto load = [&](int key) { return s.load(key); };
      auto asks = [&]() -> task<> {
        const std::string v = co_await cache.get(1, load);
        CHECK(v == "value 1");
      };
      auto changes = [&]() -> task<> {
        co_await sleep_for(500ms);
        if (how == "put") cache.put(1, "put");
        if (how == "erase") CHECK(!cache.erase(1));
        if (how == "clear") cache.clear();
        const std::string v = co_await cache.get(1, load);
        CHECK(v == (how == "put" ? "put" : "value 1"));
        CHECK(clock::now() == (how == "put" ? at(500ms) : at(1500ms)));
      };
      co_await tandem::gather(asks(), changes());
      CHECK(s.loads == (how == "put" ? 1 : 2));
      CHECK(*cache.find(1) == (how == "put" ? "put" : "value 1"));
    };
    simulate(main(what));
  }
}

TEST_CASE("the least recently used entry goes first; get and find are uses") {
  lru_cache<int, int> cache{{.capacity = 3}};
  for (int i = 1; i <= 3; ++i) cache.put(i, 10 * i);
  CHECK(*cache.find(1) == 10);
  cache.put(4, 40);
  CHECK(!cache.find(2));
  CHECK(cache.find(3));
  cache.put(3, 31);
  cache.put(5, 50);
  CHECK(!cache.find(1));
  CHECK(*cache.find(3) == 31);
  CHECK(cache.erase(3));
  CHECK(!cache.erase(3));
  CHECK(cache.size() == 2);
  const auto s = cache.stats();
  CHECK(s.evicted == 2);
  CHECK(s.replaced == 1);
  CHECK(s.erased == 1);
  CHECK(s.hits == 3);
  CHECK(s.misses == 2);
  CHECK(s.hit_ratio == 0.6);
}

TEST_CASE("with weights as many go as it takes, and what outweighs the cache is refused, or given and not kept") {
  auto main = []() -> task<> {
    lru_cache<int, std::string> cache{{.capacity = 10, .weight = [](int, const std::string& v) { return v.size(); }}};
    cache.put(1, "aaaa");
    cache.put(2, "bbbb");
    cache.put(3, "cc");
    CHECK(cache.stats().weight == 10);
    cache.put(4, "dddddd");
    CHECK(!cache.find(1));
    CHECK(!cache.find(2));
    CHECK(cache.stats().weight == 8);
    CHECK_THROWS_WITH(cache.put(5, std::string(11, 'e')),
                      "tandem::lru_cache: an entry that weighs 11 is put into a cache whose capacity is 10");
    const std::string v = co_await cache.get(6, [](int) { return kit::after(1s, std::string(11, 'f')); });
    CHECK(v.size() == 11);
    CHECK(!cache.find(6));
    CHECK(cache.stats().too_heavy == 1);
    cache.put(7, "");
    CHECK(cache.size() == 3);
  };
  simulate(main());
}

// ---- time ----------------------------------------------------------------------------------------------------------

TEST_CASE("an entry is gone when its time to live is over, on the loop's clock") {
  auto main = []() -> task<> {
    source s;
    lru_cache<int, std::string> cache{{.capacity = 10, .ttl = 5min}};
    auto load = [&](int key) { return s.load(key); };
    co_await cache.get(1, load);
    co_await sleep_for(5min - 1ns);
    CHECK(cache.find(1));
    co_await sleep_for(1ns);
    CHECK(!cache.find(1));
    CHECK(cache.stats().expired == 1);
    co_await cache.get(1, load);
    CHECK(s.loads == 2);
    cache.put(2, "brief", 1s);
    cache.put(3, "for ever", clock::duration::max());
    co_await sleep_for(1s);
    CHECK(!cache.find(2));
    co_await sleep_for(1h);
    CHECK(cache.find(3));
  };
  simulate(main());
}

TEST_CASE("expires_at says when an entry is gone, the end of time if never, nothing if there is none, and is no use") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 2, .ttl = 60s}};
    CHECK(!cache.expires_at(1));
    co_await sleep_for(1s);
    cache.put(1, 1);
    cache.put(2, 2, 5s);
    CHECK(cache.expires_at(1) == at(61s));
    CHECK(cache.expires_at(2) == at(6s));
    (void)cache.find(2);
    const auto before = cache.stats();
    CHECK(cache.expires_at(1) == at(61s));
    CHECK((cache.stats().hits == before.hits && cache.stats().misses == before.misses));
    cache.put(3, 3);
    CHECK((!cache.expires_at(1) && cache.expires_at(2)));  // 1 was the least recently used
    lru_cache<int, int> forever{{.capacity = 1}};
    forever.put(1, 1);
    CHECK(forever.expires_at(1) == clock::time_point::max());
    lru_cache<int, int> idle{{.capacity = 1, .tti = 10s}};
    idle.put(1, 1);
    co_await sleep_for(4s);
    CHECK(idle.expires_at(1) == at(11s));
    (void)idle.find(1);
    CHECK(idle.expires_at(1) == at(15s));
  };
  simulate(main());
}

TEST_CASE("a time to idle begins anew with each use") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 10, .ttl = 10s, .tti = 3s}};
    cache.put(1, 1);
    for (int i = 0; i != 4; ++i) {
      co_await sleep_for(2s);
      CHECK(cache.find(1));
    }
    co_await sleep_for(2s);
    CHECK(!cache.find(1));  // the time to live
    cache.put(1, 1);
    co_await sleep_for(3s);
    CHECK(!cache.find(1));
  };
  simulate(main());
}

TEST_CASE("real_a use in the turn in which an entry came does not make it older, however long that turn takes") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 10, .tti = 1h}};
    std::this_thread::sleep_for(20ms);
    cache.put(1, 1);
    const auto end = cache.expires_at(1);
    CHECK(cache.find(1));
    CHECK(cache.expires_at(1) == end);
    co_return;
  };
  tandem::run(main());
}

TEST_CASE("real_a time to live of zero is over in the turn in which an entry came, however long that turn takes") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 10, .ttl = 0s}};
    std::this_thread::sleep_for(1ms);
    cache.put(1, 1);
    CHECK(!cache.find(1));
    cache.put(2, 2, 1h);
    CHECK(cache.find(2));
    co_return;
  };
  tandem::run(main());
}

TEST_CASE("what is known not to be there is known for a time of its own") {
  auto main = []() -> task<> {
    lru_cache<int, std::optional<int>> cache{{.capacity = 10, .ttl = 1h, .absent_ttl = 1s}};
    cache.put(1, std::nullopt);
    cache.put(2, 2);
    REQUIRE(cache.find(1));
    CHECK(!cache.find(1)->has_value());
    co_await sleep_for(1s);
    CHECK(!cache.find(1));
    CHECK(cache.find(2));
  };
  simulate(main());
}

TEST_CASE("jitter takes a part off each time to live, never more than it says") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 1000, .ttl = 100s, .jitter = 0.2}};
    for (int i = 0; i != 1000; ++i) cache.put(i, i);
    const auto left = [&] {
      int n = 0;
      for (int i = 0; i != 1000; ++i) n += cache.find(i) != nullptr;
      return n;
    };
    co_await sleep_for(80s - 1ns);
    CHECK(left() == 1000);
    co_await sleep_for(10s);
    CHECK(left() > 400);
    CHECK(left() < 600);
    co_await sleep_for(10s + 1ns);
    CHECK(left() == 0);
  };
  simulate(main());
}

TEST_CASE("the time to live of each entry can be computed from it") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 10, .expiry = [](int, int v) { return v * 1s; }}};
    cache.put(1, 1);
    cache.put(2, 2);
    co_await sleep_for(1s);
    CHECK(!cache.find(1));
    CHECK(cache.find(2));
  };
  simulate(main());
}

// ---- refresh -------------------------------------------------------------------------------------------------------

TEST_CASE("a refresh keeps the old value until the new one comes, and for good if it fails") {
  auto main = []() -> task<> {
    int version = 0;
    lru_cache<int, int> cache{{.capacity = 10, .ttl = 60s}};
    auto load = [&](int) -> task<int> {
      const int v = ++version;
      co_await sleep_for(1s);
      if (v == 3) throw std::runtime_error("no");
      co_return v;
    };
    int v = co_await cache.get(1, load);
    cache.refresh(1, load);
    cache.refresh(1, load);  // one is under way
    v = co_await cache.get(1, load);
    CHECK(v == 1);
    co_await sleep_for(2s);
    CHECK(*cache.find(1) == 2);
    CHECK(cache.expires_at(1) == at(62s));
    cache.refresh(1, load);
    co_await sleep_for(2s);
    CHECK(*cache.find(1) == 2);
    CHECK(cache.stats().load_failures == 1);
    cache.refresh(2, load);  // of what is not there
    v = co_await cache.get(2, load);
    CHECK(v == 4);
    CHECK(version == 4);
  };
  simulate(main());
}

TEST_CASE("who comes when the old value has gone waits for the refresh; put and erase win over it") {
  auto main = []() -> task<> {
    int version = 0;
    lru_cache<int, int> cache{{.capacity = 10, .ttl = 60s}};
    auto load = [&](int) -> task<int> {
      const int v = ++version;
      co_await sleep_for(10s);
      co_return v;
    };
    int v = co_await cache.get(1, load);
    co_await sleep_for(55s);
    cache.refresh(1, load);
    co_await sleep_for(6s);
    CHECK(!cache.find(1));
    v = co_await cache.get(1, load);
    CHECK(v == 2);
    CHECK(clock::now() == at(75s));
    cache.refresh(1, load);
    cache.put(1, 100);
    co_await sleep_for(11s);
    CHECK(*cache.find(1) == 100);
    cache.refresh(1, load);
    cache.erase(1);
    co_await sleep_for(11s);
    CHECK(!cache.find(1));
  };
  simulate(main());
}

TEST_CASE("a refresh is wanted by the cache: who joins it and leaves does not stop it") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 10}};
    auto load = [](int) { return kit::after(10s, 7); };
    cache.refresh(1, load);
    const auto in_time = co_await tandem::try_timeout(1s, cache.get(1, load));
    CHECK(!in_time);
    co_await sleep_for(10s);
    CHECK(*cache.find(1) == 7);
  };
  simulate(main());
}

TEST_CASE("a refresh that brings what outweighs the cache leaves nothing outdated behind") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 10, .weight = [](int, int v) { return std::size_t(v); }}};
    cache.put(1, 5);
    auto load = [](int) { return kit::after(1ms, 11); };
    cache.refresh(1, load);
    co_await sleep_for(2ms);
    CHECK(!cache.find(1));
    CHECK(cache.stats().too_heavy == 1);
  };
  simulate(main());
}

TEST_CASE("a refresh of what is being loaded is the load that nobody's leaving stops") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 10}};
    auto load = [](int) { return kit::after(10s, 7); };
    auto asks = [&]() -> task<> {
      const auto in_time = co_await tandem::try_timeout(1s, cache.get(1, load));
      CHECK(!in_time);
    };
    auto refreshes = [&]() -> task<> {
      co_await yield();
      cache.refresh(1, load);
    };
    co_await tandem::gather(asks(), refreshes());
    co_await sleep_for(10s);
    CHECK(*cache.find(1) == 7);
  };
  simulate(main());
}

TEST_CASE("a refresh needs a loop") {
  lru_cache<int, int> cache{{.capacity = 10}};
  auto load = [](int) { return kit::after(1ms, 1); };
  CHECK_THROWS_WITH(cache.refresh(1, load), "tandem::lru_cache::refresh: called where no loop runs");
}

// ---- what may throw, and what the user's functions may do ----------------------------------------------------------

TEST_CASE("what throws leaves the cache as it was") {
  static bool does_throw = false;
  struct equal {
    bool operator()(int a, int b) const {
      if (does_throw) throw std::runtime_error("equal");
      return a == b;
    }
  };
  auto main = []() -> task<> {
    lru_cache<int, int, std::hash<int>, equal> cache{{.capacity = 2}};
    int loads = 0;
    auto load = [&](int) -> task<int> {
      ++loads;
      co_await sleep_for(1s);
      co_return 1;
    };
    auto changes = [&]() -> task<> {
      co_await sleep_for(1ms);
      does_throw = true;
      CHECK_THROWS_AS(cache.put(1, 2), std::runtime_error);
      CHECK_THROWS_AS(cache.erase(1), std::runtime_error);
      does_throw = false;
    };
    co_await tandem::gather(cache.get(1, load), changes());
    const int v = co_await cache.get(1, load);
    CHECK(v == 1);
    CHECK(loads == 1);
  };
  simulate(main());
}

TEST_CASE("a value that throws when it is copied is no hit, and not used") {
  static bool throws = false;
  struct fragile {
    explicit fragile(int v) : value(v) {}
    fragile(const fragile& o) : value(o.value) {
      if (throws) throw std::runtime_error("copy");
    }
    int value;
  };
  auto main = []() -> task<> {
    lru_cache<int, fragile> cache{{.capacity = 2}};
    cache.put(1, fragile(1));
    cache.put(2, fragile(2));
    auto load = []() -> task<fragile> { co_return fragile(3); };
    throws = true;
    CHECK_THROWS_AS(cache.get(1, load), std::runtime_error);
    throws = false;
    CHECK(cache.stats().hits == 0);
    cache.put(3, fragile(3));
    CHECK(!cache.find(1));
    co_return;
  };
  simulate(main());
}

TEST_CASE("weight and expiry are asked about nothing that is not kept") {
  auto main = []() -> task<> {
    int asked = 0;
    auto cache = std::make_unique<lru_cache<int, int>>(
        tandem::lru_cache_options<int, int>{.capacity = 10, .weight = [&](int, int) { return std::size_t(++asked); }});
    auto load = [](int) { return kit::after(1ms, 1); };
    auto asks = [&](int key) -> task<> { co_await thrown_by(cache->get(key, load)); };
    auto changes = [&]() -> task<> {
      cache->erase(1);
      co_await sleep_for(1ms);  // 1 and 2 have come, and their trees end in this turn or the next
      cache.reset();
    };
    co_await tandem::gather(asks(1), asks(2), changes());
    co_await sleep_for(1ms);
    CHECK(asked <= 1);
  };
  simulate(main());
}

TEST_CASE("the loader's plain part may drop the cache") {
  auto main = []() -> task<> {
    auto cache = std::make_unique<lru_cache<int, int>>(tandem::lru_cache_options<int, int>{.capacity = 10});
    auto load = [&](int) {
      cache.reset();
      return kit::after(1ms, 1);
    };
    const std::string text = co_await thrown_by(cache->get(1, load));
    CHECK(text.starts_with("tandem::cancelled"));
  };
  simulate(main());
}

TEST_CASE("what a loader does where it is called may decide the race in which it is called") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 10}};
    tandem::event e;
    auto sets = [&](int) {
      e.set();
      return kit::after(5s, 1);
    };
    const auto first = co_await tandem::race(e.wait(), cache.get(1, sets));
    CHECK(first.index() == 0);
    CHECK(clock::now() == at(0s));
    co_await yield();
    CHECK(cache.stats().load_cancellations == 1);
  };
  simulate(main());
}

TEST_CASE("a loader may stop who asks where it is called; in a race the other arm is stopped and cleaned up") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 10}};
    int cleaned = 0;
    auto body = [&](tandem::task_group& g) -> task<> {
      auto stops = [&](int) {
        g.cancel();
        return kit::after(5s, 1);
      };
      const auto clean_up = [&] { return ++cleaned, kit::after(1s, 1); };
      auto waits = [&]() -> task<int> { co_return co_await tandem::finally(kit::after(1h, 1), clean_up); };
      auto asks = [&]() -> task<> { co_await tandem::race(waits(), cache.get(1, stops)); };
      auto asks_alone = [&]() -> task<> { co_await cache.get(2, stops); };
      g.spawn(asks());
      g.spawn(asks_alone());
      co_return;
    };
    co_await tandem::with_task_group(body);
    CHECK(cleaned == 1);
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
}

TEST_CASE("a concurrent cache that goes while its last load ends on another thread") {
  for (int i = 0; i != 20; ++i) {
    auto cache = std::make_unique<concurrent_lru_cache<int, int>>(
        tandem::lru_cache_options<int, int>{.capacity = 10'000, .on_evict = [](int, int, eviction) {}});
    for (int k = 0; k != 3'000; ++k) cache->put(k, k);
    std::atomic<bool> waits = false;
    std::thread other([&] {
      auto load = [](int) { return kit::after(1h, 1); };
      auto asks = [&]() -> task<> {
        auto getting = cache->get(-1, load);
        waits = true;
        co_await thrown_by(std::move(getting));
      };
      tandem::run(asks());
    });
    while (!waits) std::this_thread::yield();
    while (cache->stats().loading == 0) std::this_thread::yield();
    cache.reset();
    other.join();
  }
}

TEST_CASE("a load that is stopped, because nobody wants it, is no failure") {
  auto main = []() -> task<> {
    lru_cache<int, int> cache{{.capacity = 10}};
    auto load = [](int) { return kit::after(1h, 1); };
    co_await tandem::try_timeout(1ms, cache.get(1, load));
    co_await sleep_for(1ms);
    const tandem::lru_cache_stats s = cache.stats();
    CHECK(s.load_cancellations == 1);
    CHECK(s.load_failures == 0);
    CHECK(s.loading == 0);
  };
  simulate(main());
}

TEST_CASE("a get that was moved from says so") {
  auto main = []() -> task<> {
    lru_cache<std::string, std::string> cache{{.capacity = 10}};
    cache.put("a", "b");
    auto load = []() -> task<std::string> { co_return "c"; };
    for (const char* key : {"a", "x"}) {
      auto one = cache.get(key, load);
      auto other = std::move(one);
      const std::string text = co_await thrown_by(std::move(one));
      CHECK(text == "tandem::lru_cache: awaiting a get that was moved from, or awaited before");
      const std::string v = co_await std::move(other);
      CHECK(v == (key[0] == 'a' ? "b" : "c"));
    }
    CHECK(cache.size() == 2);
  };
  simulate(main());
}

TEST_CASE("a key of another type is converted first, unless the hash takes it; one that does not fit is refused") {
  lru_cache<float, int> floats{{.capacity = 10}};
  floats.put(0.1f, 7);
  CHECK(floats.find(0.1));
  CHECK(floats.erase(0.1));
  lru_cache<int, int> ints{{.capacity = 10}};
  ints.put(5, 1);
  CHECK(ints.find(5L));
  CHECK_THROWS_WITH(ints.find((1LL << 32) + 5), "tandem: the key 4294967301 does not fit its type");
  CHECK(ints.find(5.0));
  for (const double none : {5.7, 2'147'483'648.0, -2'147'483'649.0, 1e300, std::nan("")})
    CHECK_THROWS_AS(ints.find(none), std::invalid_argument);
  lru_cache<unsigned, int> positive{{.capacity = 10}};
  CHECK_THROWS_AS(positive.erase(-1), std::invalid_argument);
  auto load = [](std::vector<unsigned> keys) { return kit::after(1ms, std::vector<int>(keys.size())); };
  CHECK_THROWS_AS(positive.get_many(std::vector<int>(1, -1), load), std::invalid_argument);
}

TEST_CASE("an entry has the alignment that its value needs") {
  struct alignas(64) wide {
    int x = 1;
  };
  lru_cache<int, wide> cache{{.capacity = 10}};
  cache.put(1, wide());
  CHECK(reinterpret_cast<std::uintptr_t>(cache.find(1)) % 64 == 0);
}

TEST_CASE("hashes that differ in their high or their low bits alone are spread") {
  for (const int shift : {0, 4, 12, 32, 48}) {
    std::set<std::size_t> places;
    for (std::size_t i = 0; i != 4096; ++i) places.insert(tandem::detail::spread(i << shift) >> 50);
    CHECK(places.size() > 3'000);
  }
}

// ---- the hook; bad input -------------------------------------------------------------------------------------------

TEST_CASE("the hook is told of every entry that goes, and why") {
  auto main = []() -> task<> {
    std::string text;
    lru_cache<int, int> cache{{.capacity = 2, .ttl = 10s, .on_evict = [&](int key, int value, eviction why) {
                                 text += std::to_string(key) + "=" + std::to_string(value) + "cxer"[int(why)] + " ";
                               }}};
    cache.put(1, 10);
    cache.put(2, 20);
    cache.put(3, 30);
    cache.put(3, 31);
    cache.erase(2);
    co_await sleep_for(10s);
    CHECK(!cache.find(3));
    cache.put(4, 40);
    cache.clear();
    CHECK(text == "1=10c 3=30r 2=20e 3=31x 4=40e ");
  };
  simulate(main());
}

TEST_CASE("a hook that uses its cache is refused, and the cache is none the worse") {
  lru_cache<int, int>* c = nullptr;
  std::string text;
  lru_cache<int, int> cache{{.capacity = 1, .on_evict = [&](int, int, eviction) {
                               try {
                                 c->find(1);
                               } catch (const std::logic_error& e) {
                                 text = e.what();
                               }
                             }}};
  c = &cache;
  cache.put(1, 1);
  cache.put(2, 2);
  CHECK(text == "tandem::lru_cache: an on_evict hook uses its own cache");
  CHECK(cache.find(2));
}

TEST_CASE("a hook is refused its own cache through get_many, and through the hook of another cache") {
  lru_cache<int, int>* first = nullptr;
  std::vector<std::string> texts;
  const auto note = [&](auto use) {
    try {
      use();
    } catch (const std::logic_error& e) {
      texts.push_back(e.what());
    }
  };
  auto load = [](std::vector<int> keys) { return kit::after(1ms, keys); };
  lru_cache<int, int> second{{.capacity = 1, .on_evict = [&](int, int, eviction) { note([&] { first->find(1); }); }}};
  lru_cache<int, int> cache{{.capacity = 1, .on_evict = [&](int, int, eviction) {
                               note([&] { auto t = first->get_many(ints(1), load); });
                               second.put(1, 1);
                             }}};
  first = &cache;
  second.put(0, 0);
  cache.put(1, 1);
  cache.put(2, 2);
  CHECK(texts == std::vector<std::string>(2, "tandem::lru_cache: an on_evict hook uses its own cache"));
}

TEST_CASE("bad options are refused, each with its name and value") {
  using cache = lru_cache<int, int>;
  CHECK_THROWS_WITH(cache({}), "tandem::lru_cache: the capacity is 0; it must be at least 1");
  CHECK_THROWS_WITH(cache({.capacity = 1, .ttl = -1ns}), "tandem::lru_cache: ttl is -1 ns; it must not be negative");
  CHECK_THROWS_WITH(cache({.capacity = 1, .tti = -2ns}), "tandem::lru_cache: tti is -2 ns; it must not be negative");
  CHECK_THROWS_AS(cache({.capacity = 1, .absent_ttl = -1s}), std::invalid_argument);
  CHECK_THROWS_AS(cache({.capacity = 1, .jitter = 1.5}), std::invalid_argument);
  CHECK_THROWS_AS(cache({.capacity = 1, .jitter = std::nan("")}), std::invalid_argument);
  cache some({.capacity = 1});
  CHECK_THROWS_WITH(some.put(1, 1, -5ns), "tandem::lru_cache::put: ttl is -5 ns; it must not be negative");
}

TEST_CASE("a cache is of one loop") {
  asio::io_context context(1);
  lru_cache<int, int> cache{{.capacity = 1}};
  std::string text;
  auto load = [](int) { return kit::after(1ms, 1); };
  auto asks = [&]() -> task<> { text = co_await thrown_by(cache.get(1, load)); };
  tandem::spawn(context, asks(), asio::detached);
  context.run();
  CHECK(text.empty());
  cache.clear();
  context.restart();
  tandem::spawn(asio::make_strand(context), asks(), asio::detached);
  context.run();
  CHECK(text.find("concurrent_lru_cache") != std::string::npos);
}

// ---- against a reference -------------------------------------------------------------------------------------------

TEST_CASE("a concurrent cache loads each key once, whichever threads ask for it, and wakes each on its own loop") {
  asio::io_context context;
  constexpr int askers = 8, rounds = 200, keys = 20;
  std::atomic<int> loads{0}, wrong{0}, answered{0};
  {
    concurrent_lru_cache<int, int> cache{{.capacity = 1000}};
    auto load = [&](int key) -> task<int> {
      ++loads;
      co_await yield();
      co_return key * 7;
    };
    auto asks = [&](int seed) -> task<> {
      std::mt19937 random(static_cast<unsigned>(seed));
      for (int i = 0; i != rounds; ++i) {
        const int key = static_cast<int>(random() % keys);
        const int value = co_await cache.get(key, load);
        if (value != key * 7) ++wrong;
        if (i % 50 == 49) cache.find(key);
        co_await yield();
      }
      ++answered;
    };
    for (int i = 0; i != askers; ++i) tandem::spawn(asio::make_strand(context), asks(i), asio::detached);
    std::vector<std::thread> threads;
    for (int i = 0; i != 4; ++i) threads.emplace_back([&] { context.run(); });
    for (auto& t : threads) t.join();
  }
  CHECK(answered == askers);
  CHECK(wrong == 0);
  CHECK(loads == keys);
}

TEST_CASE("a concurrent cache under stops, evictions and changes from several threads loses nobody") {
  asio::io_context context;
  std::atomic<int> wrong{0}, answered{0}, asked{0};
  {
    concurrent_lru_cache<int, int> cache{{.capacity = 4}};
    auto load = [&](int key) -> task<int> {
      co_await sleep_for(std::chrono::microseconds(key * 10));
      if (key == 7) throw std::runtime_error("no");
      co_return key;
    };
    auto asks = [&](int seed) -> task<> {
      std::mt19937 random(static_cast<unsigned>(seed));
      for (int i = 0; i != 150; ++i) {
        const int key = static_cast<int>(random() % 10);
        ++asked;
        try {
          auto getting = cache.get(key, load);
          const auto value =
              co_await tandem::try_timeout(std::chrono::microseconds(random() % 150), std::move(getting));
          if (value && *value != key) ++wrong;
        } catch (const std::runtime_error&) {
          if (key != 7) ++wrong;
        }
        ++answered;
        if (random() % 8 == 0) cache.erase(static_cast<int>(random() % 10));
        if (random() % 16 == 0) cache.put(3, 3);
        if (random() % 32 == 0) cache.clear();
      }
    };
    for (int i = 0; i != 6; ++i) tandem::spawn(asio::make_strand(context), asks(i), asio::detached);
    std::vector<std::thread> threads;
    for (int i = 0; i != 4; ++i) threads.emplace_back([&] { context.run(); });
    for (auto& t : threads) t.join();
    CHECK(cache.stats().loading == 0);
  }
  CHECK(asked == 6 * 150);
  CHECK(answered == asked);
  CHECK(wrong == 0);
}

namespace {

/// The textbook: a list and a map.
class reference_lru {
 public:
  explicit reference_lru(std::size_t capacity) : capacity_(capacity) {}
  bool use(int key) {
    const auto it = where_.find(key);
    const bool hit = it != where_.end();
    if (hit) order_.erase(it->second);
    order_.push_front(key);
    where_[key] = order_.begin();
    if (order_.size() > capacity_) {
      where_.erase(order_.back());
      order_.pop_back();
    }
    return hit;
  }
  void erase(int key) {
    const auto it = where_.find(key);
    if (it == where_.end()) return;
    order_.erase(it->second);
    where_.erase(it);
  }

 private:
  std::size_t capacity_;
  std::list<int> order_;
  std::map<int, std::list<int>::iterator> where_;
};

template <class Next>
void same_as_reference(std::size_t capacity, int n, Next next) {
  lru_cache<int, int> cache{{.capacity = capacity}};
  reference_lru reference(capacity);
  int different = 0;
  for (int i = 0; i != n; ++i) {
    const int key = next(i);
    if (i % 97 == 96) {
      cache.erase(key);
      reference.erase(key);
      continue;
    }
    const int* v = cache.find(key);
    different += (v != nullptr) != reference.use(key);
    if (!v) cache.put(key, key);
    if (v && *v != key) ++different;
  }
  CHECK(different == 0);
}

}  // namespace

TEST_CASE("hits and misses are those of a reference LRU: Zipf, scans, and a set that shifts") {
  std::mt19937_64 random(1);
  std::vector<double> weights;
  for (int i = 1; i <= 5'000; ++i) weights.push_back(1.0 / i);
  std::discrete_distribution<int> zipf(weights.begin(), weights.end());
  for (const std::size_t capacity : {1u, 2u, 100u, 1'000u}) {
    same_as_reference(capacity, 50'000, [&](int) { return zipf(random); });
    same_as_reference(capacity, 50'000, [&](int i) { return i % 1'500; });
    same_as_reference(capacity, 50'000, [&](int i) { return i / 500 + static_cast<int>(random() % 1'200); });
    same_as_reference(capacity, 50'000, [&](int) { return static_cast<int>(random() % 3'000) * 65'536; });
  }
}

namespace {

/// Most keys share their hash with many others.
struct poor_hash {
  std::size_t operator()(int key) const { return static_cast<std::size_t>(key % 3); }
  std::size_t operator()(const std::string& key) const { return key.size(); }
};
template <class Key>
Key nth_key(int i) {
  if constexpr (std::is_same_v<Key, int>)
    return i;
  else
    return std::to_string(i);
}

}  // namespace

TEMPLATE_TEST_CASE("keys whose hashes collide are told apart, and whoever goes leaves the others where they are found", "",
                   int, std::string) {
  std::mt19937 random(1);
  lru_cache<TestType, int, poor_hash> cache{{.capacity = 1'000}};
  std::map<int, int> expected;
  for (int i = 0; i != 20'000; ++i) {
    const int n = static_cast<int>(random() % 300);
    if (random() % 2 == 0) {
      cache.put(nth_key<TestType>(n), i);
      expected[n] = i;
    } else if (cache.erase(nth_key<TestType>(n)) != (expected.erase(n) == 1)) {
      FAIL("erase(" << n << ") gave the wrong answer");
    }
    const int other = static_cast<int>(random() % 300);
    const auto found = cache.find(nth_key<TestType>(other));
    const auto e = expected.find(other);
    if (e == expected.end() ? bool(found) : !found || *found != e->second) FAIL("find(" << other << ") at step " << i);
  }
  CHECK(cache.size() == expected.size());
}

// ---- every schedule, every stop ------------------------------------------------------------------------------------

namespace {

struct traffic {
  int asked = 0, answered = 0, loads_now = 0, most_loads = 0, begun = 0, ended = 0;
};

template <class Cache>
void explore_traffic() {
  kit::explore<traffic>(
      [](traffic& t) -> task<> {
        std::optional<Cache> cache(std::in_place, tandem::lru_cache_options<int, int>{.capacity = 2});
        auto load = [&t](kit::counted, int key) -> task<int> {
          ++t.begun;
          ++t.loads_now;
          kit::at_exit counts([&t] {
            ++t.ended;
            --t.loads_now;
          });
          co_await sleep_for(key * 1ms);
          if (key == 3) throw std::runtime_error("no");
          co_await yield();
          co_return key;
        };
        auto loader = [&](int key) { return load(kit::counted(), key); };
        auto asks = [&](int key, clock::duration patience) -> task<> {
          for (int i = 0; i != 2; ++i) {
            ++t.asked;
            try {
              auto g = cache->get(key, loader);
              auto v = co_await tandem::try_timeout(patience, std::move(g));
              if (v && *v != key) FAIL();
            } catch (const std::runtime_error&) {
            }
            ++t.answered;
          }
        };
        auto changes = [&]() -> task<> {
          co_await sleep_for(1ms);
          cache->erase(1);
          co_await yield();
          cache->put(2, 2);
          co_await sleep_for(2ms);
          cache->clear();
        };
        co_await tandem::gather(asks(1, 1h), asks(1, 1ms), asks(2, 1h), asks(3, 1h), asks(3, 2ms), changes());
        CHECK(cache->stats().loading == 0);
      },
      [](traffic& t, kit::end how) {
        CHECK(t.begun == t.ended);
        if (how == kit::end::returned) CHECK(t.asked == t.answered);
      });
}

template <class Cache>
void explore_end() {
  struct state {
    std::optional<Cache> cache{std::in_place, tandem::lru_cache_options<int, int>{.capacity = 2}};
    int begun = 0, ended = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto load = [&s](kit::counted, int key) -> task<int> {
          ++s.begun;
          kit::at_exit counts([&s] { ++s.ended; });
          co_await sleep_for(key * 1ms);
          co_return key;
        };
        auto loader = [&](int key) { return load(kit::counted(), key); };
        auto asks = [&](int key) -> task<> {
          if (!s.cache) co_return;
          try {
            co_await s.cache->get(key, loader);
          } catch (const tandem::cancelled&) {
          }
        };
        auto drops = [&]() -> task<> {
          co_await sleep_for(2ms);
          s.cache.reset();
        };
        co_await tandem::gather(asks(1), asks(2), asks(2), asks(3), drops());
      },
      [](state& s, kit::end) {
        s.cache.reset();
        CHECK(s.begun == s.ended);
      });
}

}  // namespace

TEST_CASE("whatever the schedule and wherever it is stopped, every load that began ends, and everyone is answered") {
  explore_traffic<lru_cache<int, int>>();
}
TEST_CASE("the same of a concurrent cache") { explore_traffic<concurrent_lru_cache<int, int>>(); }
TEST_CASE("a cache that goes while others wait: whatever the schedule and the stop, everyone hears of it") {
  explore_end<lru_cache<int, int>>();
}
TEST_CASE("a concurrent cache that goes while others wait: whatever the schedule and the stop, everyone hears of it") {
  explore_end<concurrent_lru_cache<int, int>>();
}
