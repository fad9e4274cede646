#include <tandem/rate_limiter.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/race.hpp>
#include <tandem/run.hpp>

#include "kit/allocations.hpp"
#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(io_context.hpp)

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using kit::allocations;
using kit::at;
using kit::thrown_by;
using tandem::clock;
using tandem::gather;
using tandem::gcra;
using tandem::keyed_rate_limiter;
using tandem::rate_limiter;
using tandem::rate_verdict;
using tandem::simulate;
using tandem::sleep_for;
using tandem::sliding_window;
using tandem::task;
using tandem::token_bucket;
using tandem::yield;

// ---- what each policy guarantees -----------------------------------------------------------------------------------

TEST_CASE("a token bucket lets a burst through, and then its rate") {
  auto main = []() -> task<> {
    rate_limiter limit{token_bucket{.rate = 10, .burst = 3}};
    std::vector<clock::duration> times;
    for (int i = 0; i != 6; ++i) {
      co_await limit.acquire();
      times.push_back(clock::now() - at(0s));
    }
    CHECK(times == std::vector<clock::duration>{0ms, 0ms, 0ms, 100ms, 200ms, 300ms});
    co_await sleep_for(1h);  // no more than the burst is kept
    CHECK(limit.remaining() == 3);
  };
  simulate(main());
}

TEST_CASE("a rate that does not divide the period is exact over time") {
  auto main = []() -> task<> {
    rate_limiter limit{token_bucket{.rate = 3, .burst = 2}};
    for (int i = 0; i != 3'002; ++i) co_await limit.acquire();
    CHECK((clock::now() == at(1'000s)));
    rate_limiter slow{token_bucket{.rate = 7, .burst = 2, .per = 24h}};
    for (int i = 0; i != 9; ++i) co_await slow.acquire();
    CHECK((clock::now() == at(1'000s + 24h)));
  };
  simulate(main());
}

TEST_CASE("gcra spaces requests evenly, with a burst as long as it is early") {
  auto main = []() -> task<> {
    rate_limiter even{gcra{.rate = 4}};
    for (int i = 0; i != 3; ++i) co_await even.acquire();
    CHECK(clock::now() == at(500ms));
    rate_limiter bursts{gcra{.rate = 4, .burst = 3}};
    CHECK(bursts.remaining() == 3);
    for (int i = 0; i != 4; ++i) co_await bursts.acquire();
    CHECK(clock::now() == at(750ms));
    CHECK(bursts.remaining() == 0);
    co_await sleep_for(300ms);
    CHECK(bursts.remaining() == 1);
  };
  simulate(main());
}

TEST_CASE("the interval of gcra is rounded up to a whole nanosecond") {
  auto main = []() -> task<> {
    rate_limiter thirds{gcra{.rate = 3}};
    for (int i = 0; i != 4; ++i) co_await thirds.acquire();
    CHECK(clock::now() == at(3 * 333'333'334ns));
  };
  simulate(main());
}

TEST_CASE("in no window of time are more than the limit allowed, wherever it begins") {
  auto main = []() -> task<> {
    rate_limiter limit{sliding_window{.limit = 5, .window = 1s}};
    std::mt19937 random(7);
    std::vector<clock::time_point> allowed;
    for (int i = 0; i != 5'000; ++i) {
      const std::size_t n = 1 + random() % 3;
      const rate_verdict v = limit.try_acquire(n);
      if (v) allowed.insert(allowed.end(), n, clock::now());
      co_await sleep_for(std::chrono::milliseconds(random() % 150));
    }
    CHECK(allowed.size() > 1'000);
    bool holds = true;
    for (std::size_t i = 5; i < allowed.size(); ++i) holds = holds && allowed[i] - allowed[i - 5] >= 1s;
    CHECK(holds);
  };
  simulate(main());
}

TEST_CASE("a bucket and gcra of the same numbers decide alike, whatever is asked when") {
  auto main = []() -> task<> {
    rate_limiter bucket{token_bucket{.rate = 8, .burst = 6}}, cells{gcra{.rate = 8, .burst = 6}};
    std::mt19937 random(3);
    bool same = true;
    for (int i = 0; i != 20'000; ++i) {
      const std::size_t n = 1 + random() % 6;
      const rate_verdict a = bucket.try_acquire(n), b = cells.try_acquire(n);
      same = same && a.allowed == b.allowed && a.remaining == b.remaining && a.retry_after == b.retry_after;
      co_await sleep_for(std::chrono::milliseconds(random() % 400));
    }
    CHECK(same);
  };
  simulate(main());
}

// ---- verdicts ------------------------------------------------------------------------------------------------------

TEST_CASE("retry_after is exact: a nanosecond before it is too early") {
  auto main = []() -> task<> {
    std::mt19937 random(11);
    const auto try_out = [&](rate_limiter& limit, std::size_t most) -> task<bool> {
      bool exact = true;
      for (int i = 0; i != 500; ++i) {
        const std::size_t n = 1 + random() % most;
        const rate_verdict v = limit.try_acquire(n);
        if (v) continue;
        exact = exact && v.retry_after > 0ns && v.remaining < n;
        co_await sleep_for(v.retry_after - 1ns);
        exact = exact && !limit.try_acquire(n) && limit.try_acquire(n).retry_after == 1ns;
        co_await sleep_for(1ns);
        exact = exact && limit.try_acquire(n).allowed;
      }
      co_return exact;
    };
    rate_limiter a{token_bucket{.rate = 7, .burst = 5}}, b{gcra{.rate = 7, .burst = 5}},
        c{sliding_window{.limit = 5, .window = 333ms}},
        all{token_bucket{.rate = 7, .burst = 5}, sliding_window{.limit = 6, .window = 2s}};
    for (rate_limiter* l : {&a, &b, &c, &all}) {
      const bool exact = co_await try_out(*l, 5);
      CHECK(exact);
    }
  };
  simulate(main());
}

TEST_CASE("a request that is allowed has no time to wait, and what remains is what would be allowed after it") {
  auto main = []() -> task<> {
    for (const bool with_cells : {false, true}) {
      rate_limiter bucket{token_bucket{.rate = 10, .burst = 5}}, cells{gcra{.rate = 10, .burst = 5}};
      rate_limiter& limit = with_cells ? cells : bucket;
      rate_verdict v = limit.try_acquire(2);
      CHECK(v.allowed);
      CHECK(v.remaining == 3);
      CHECK(v.retry_after == 0s);
      v = limit.try_acquire(4);
      CHECK(!v.allowed);
      CHECK(v.remaining == 3);
      CHECK(v.retry_after == 100ms);
      CHECK(limit.remaining() == 3);
    }
    co_return;
  };
  simulate(main());
}

TEST_CASE("requests are counted by how they ended, and one that was let through but never ran is none that was") {
  auto main = []() -> task<> {
    rate_limiter limit{token_bucket{.rate = 1, .burst = 3}};
    CHECK(limit.try_acquire(2));
    CHECK(!limit.try_acquire(2));
    CHECK(!limit.try_acquire(3));
    co_await limit.acquire();  // does not wait
    auto waits = [&]() -> task<> { co_await limit.acquire(); };
    auto leaves = [&]() -> task<> { co_await tandem::try_timeout(500ms, limit.acquire(3)); };
    co_await gather(waits(), leaves());
    auto s = limit.stats();
    CHECK(s.allowed == 3);
    CHECK(s.denied == 2);
    CHECK(s.waited == 2);
    CHECK(s.gave_up == 1);
    CHECK(s.waiting == 0);
    auto fails = []() -> task<> {
      co_await sleep_for(1s);
      throw std::runtime_error("in the turn in which the other is let through");
    };
    co_await thrown_by(gather(fails(), waits()));
    s = limit.stats();
    CHECK(s.waited == 3);
    CHECK(s.allowed == 3);
    CHECK(s.gave_up == 2);
    CHECK(limit.remaining() == 1);
  };
  simulate(main());
}

TEST_CASE("who did not wait has not given up, though he never ran") {
  auto main = []() -> task<> {
    rate_limiter limit{token_bucket{.rate = 1, .burst = 3}};
    const auto fails = []() -> task<> {
      co_await sleep_for(1s);
      throw std::runtime_error("clean-up");
    };
    auto other = [&]() -> task<> { co_await tandem::finally(sleep_for(1h), fails); };
    co_await thrown_by(tandem::race(other(), limit.acquire()));
    CHECK(limit.stats().waited == 0);
    CHECK(limit.stats().gave_up == 0);
    CHECK(limit.stats().allowed == 0);
    CHECK(limit.remaining() == 3);
  };
  simulate(main());
}

TEST_CASE("an acquire that is allowed now does not suspend") {
  auto main = []() -> task<> {
    rate_limiter limit{token_bucket{.rate = 1, .burst = 3}};
    std::string order;
    auto asks = [&](char name) -> task<> {
      co_await limit.acquire();
      order += name;
      co_await limit.acquire();
      order += name;
    };
    co_await gather(asks('a'), asks('b'));
    CHECK(order == "aabb");
    CHECK(limit.stats().waited == 1);
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
}

TEST_CASE("asking allocates nothing, with a wait and without") {
  auto main = []() -> task<> {
    rate_limiter limit{token_bucket{.rate = 1'000'000, .burst = 2}, gcra{.rate = 1'000'000, .burst = 2}};
    long before = 0;
    for (int i = 0; i != 1'020; ++i) {
      if (i == 20) before = allocations;
      co_await limit.acquire();
      (void)limit.try_acquire();
      (void)limit.try_acquire(2);
    }
    const long made = allocations - before;
    CHECK(made == 0);
    CHECK(limit.stats().waited > 500);
    CHECK(limit.stats().denied > 500);
  };
  simulate(main());
}

TEST_CASE("try_acquire overtakes nobody who waits, and says when its turn would be after theirs") {
  auto main = []() -> task<> {
    rate_limiter limit{token_bucket{.rate = 10, .burst = 4}};
    rate_verdict v;
    auto waits = [&](std::size_t n) -> task<> { co_await limit.acquire(n); };
    auto asks = [&]() -> task<> {
      co_await yield();
      co_await sleep_for(100ms);  // one token is there, and three are waited for
      CHECK(limit.remaining() == 0);
      v = limit.try_acquire(1);
      CHECK(!v);
      CHECK(v.retry_after == 500ms);  // 2 for the first, 3 for the second, 1 for this
      CHECK(limit.stats().waiting == 2);
    };
    co_await limit.acquire(4);
    co_await gather(waits(3), waits(2), asks());
    CHECK(clock::now() == at(500ms));
  };
  simulate(main());
}

// ---- the line ------------------------------------------------------------------------------------------------------

TEST_CASE("those who wait are served in the order in which they came, whatever they ask for") {
  auto main = []() -> task<> {
    rate_limiter limit{token_bucket{.rate = 1, .burst = 5}};
    std::string order;
    auto asks = [&](char name, std::size_t n) -> task<> {
      co_await limit.acquire(n);
      order += name;
      order += std::to_string((clock::now() - at(0s)) / 1s) + ' ';
    };
    co_await gather(asks('a', 5), asks('b', 4), asks('c', 1), asks('d', 2), asks('e', 1));
    CHECK(order == "a0 b4 c5 d7 e8 ");
  };
  simulate(main());
}

TEST_CASE("who leaves the line gives his place away, and nothing was taken for him") {
  auto main = []() -> task<> {
    rate_limiter limit{token_bucket{.rate = 1, .burst = 5}};
    co_await limit.acquire(5);
    auto leaves = [&]() -> task<> {
      const auto in_time = co_await tandem::try_timeout(1500ms, limit.acquire(5));
      CHECK(!in_time);
    };
    auto waits = [&]() -> task<> {
      co_await limit.acquire(2);
      CHECK(clock::now() == at(2s));
    };
    co_await gather(leaves(), waits());
    CHECK(limit.remaining() == 0);
    CHECK(limit.stats().gave_up == 1);
  };
  simulate(main());
}

TEST_CASE("a limiter that goes tells those who wait") {
  auto main = []() -> task<> {
    auto limit = std::make_unique<rate_limiter>(gcra{.rate = 1, .per = 1h});
    co_await limit->acquire();
    std::string text;
    auto waits = [&]() -> task<> { text = co_await thrown_by(limit->acquire()); };
    auto drops = [&]() -> task<> {
      co_await yield();
      limit.reset();
    };
    co_await gather(waits(), drops());
    CHECK(text.starts_with("tandem::cancelled"));
  };
  simulate(main());
}

TEST_CASE("of several limits all allow a request, or none is charged") {
  auto main = []() -> task<> {
    rate_limiter limit{token_bucket{.rate = 100, .burst = 10}, sliding_window{.limit = 3, .window = 1s}};
    for (int i = 0; i != 3; ++i) CHECK(limit.try_acquire());
    for (int i = 0; i != 100; ++i) CHECK(!limit.try_acquire());
    co_await sleep_for(1s);
    CHECK(limit.remaining() == 3);  // had the bucket been charged, it would be empty
    CHECK(limit.try_acquire().remaining == 2);
  };
  simulate(main());
}

namespace {
struct crossing {
  rate_limiter limit{token_bucket{.rate = 2, .burst = 2}, sliding_window{.limit = 5, .window = 3s}};
  std::size_t used = 0;
};
}  // namespace

TEST_CASE("whatever the schedule and wherever it is stopped, what was not used is given back") {
  kit::explore<crossing>(
      [](crossing& c) -> task<> {
        auto passes = [&](std::size_t n) -> task<> {
          co_await c.limit.acquire(n);
          c.used += n;
          co_await yield();
        };
        auto hurries = [&]() -> task<> {
          auto first = co_await tandem::race(c.limit.acquire(), sleep_for(500ms), c.limit.acquire(2));
          if (first.index() != 1) c.used += first.index() == 0 ? 1 : 2;
        };
        co_await gather(passes(1), passes(2), hurries(), passes(1), passes(1), hurries());
      },
      [](crossing& c, kit::end how) {
        const tandem::rate_limiter_stats s = c.limit.stats();
        CHECK(s.waiting == 0);
        if (how == kit::end::returned) CHECK(c.used >= 5);
      });
}

TEST_CASE("what comes back late is given back as if it had not been taken, or not at all") {
  auto main = []() -> task<> {
    // A race that is won by a turn that nobody uses, because the clean-up of the other arm fails.
    const auto wasted = [](rate_limiter& limit, std::size_t n, clock::duration clean_up) -> task<> {
      const auto fails = [&]() -> task<> {
        co_await sleep_for(clean_up);
        throw std::runtime_error("clean-up");
      };
      auto waits = [&]() -> task<> { co_await tandem::finally(sleep_for(1h), fails); };
      co_await thrown_by(tandem::race(waits(), limit.acquire(n)));
    };
    rate_limiter window{sliding_window{.limit = 2, .window = 10s}};
    co_await wasted(window, 1, 1s);  // taken at 0, given back at 1
    CHECK(window.remaining() == 2);
    co_await wasted(window, 1, 11s);  // its window is over
    CHECK(window.remaining() == 2);
    const auto uses_both = [&]() -> task<> {
      co_await sleep_for(10'500ms);
      CHECK(window.try_acquire(2));
    };
    co_await gather(wasted(window, 1, 11s), uses_both());  // it must not take away from what came after it
    CHECK(window.remaining() == 0);
    rate_limiter bucket{token_bucket{.rate = 1, .burst = 10}}, cells{gcra{.rate = 1, .burst = 10}};
    for (rate_limiter* l : {&bucket, &cells}) {
      co_await wasted(*l, 10, 1s);
      CHECK(l->remaining() == 10);
      const auto uses = [&]() -> task<> {
        co_await sleep_for(15s);
        CHECK(l->try_acquire(10));
      };
      co_await gather(wasted(*l, 10, 16s), uses());  // what was taken has come again, and has been used
      CHECK(l->remaining() <= 1);
    }
  };
  simulate(main());
}

TEST_CASE("an acquire that is awaited when its limiter has gone is told") {
  auto main = []() -> task<> {
    auto limit = std::make_unique<rate_limiter>(gcra{.rate = 1, .per = 1h});
    auto late = limit->acquire();
    limit.reset();
    const std::string text = co_await thrown_by(std::move(late));
    CHECK(text.starts_with("tandem::cancelled"));
  };
  simulate(main());
}

TEST_CASE("a coroutine of another loop that would wait is refused, and the one that waits goes on waiting") {
  rate_limiter limit{gcra{.rate = 1, .per = 1h}};
  asio::io_context one, two;
  std::string text;
  bool is_logic_error = false;
  auto waits = [&]() -> task<> {
    co_await limit.acquire();
    co_await limit.acquire();
  };
  auto other = [&]() -> task<> {
    try {
      co_await limit.acquire();
    } catch (const std::logic_error& e) {
      is_logic_error = true;
      text = e.what();
    }
  };
  tandem::spawn(one, waits(), asio::detached);
  one.poll();
  tandem::spawn(two, other(), asio::detached);
  two.poll();
  CHECK(is_logic_error);
  CHECK(text.starts_with("tandem::rate_limiter: "));
  CHECK(text.ends_with("make one for each loop"));
  CHECK(limit.stats().waiting == 1);
}

// ---- keys ----------------------------------------------------------------------------------------------------------

TEST_CASE("each key has limits of its own, and there are never more keys than there may be") {
  auto main = []() -> task<> {
    keyed_rate_limiter<std::string> limit{tandem::keyed_rate_limiter_options{.max_keys = 3},
                                          token_bucket{.rate = 1, .burst = 2}};
    CHECK(limit.try_acquire("ann", 2));
    CHECK(!limit.try_acquire("ann"));
    CHECK(limit.try_acquire("ben"));
    CHECK(limit.try_acquire("cleo"));
    rate_verdict v = limit.try_acquire("dora");  // all are in use
    CHECK(!v);
    CHECK(v.retry_after == 1s);
    CHECK(limit.size() == 3);
    CHECK_THROWS_AS(limit.acquire("dora"), tandem::too_many_keys);
    co_await sleep_for(1s);
    CHECK(limit.try_acquire("dora"));  // ben and cleo are as if they had never asked, ann is not
    CHECK(limit.size() == 2);
    v = limit.try_acquire("ann", 2);
    CHECK(v.retry_after == 1s);
    for (int i = 0; i != 1'000; ++i) limit.try_acquire(std::to_string(i));
    CHECK(limit.size() == 3);
    co_await limit.acquire("ann", 2);
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("for a new key up to eight of those that asked the longest time ago are looked at, not more") {
  auto main = []() -> task<> {
    keyed_rate_limiter<int> limit{tandem::keyed_rate_limiter_options{.max_keys = 12}, gcra{.rate = 1}};
    for (int key = 0; key != 12; ++key) CHECK(limit.try_acquire(key));
    co_await sleep_for(1s);  // all are as if they had never asked
    CHECK(limit.try_acquire(0));
    CHECK(limit.try_acquire(100));
    CHECK(limit.size() == 12 - 8 + 1);  // 1 to 8 are forgotten
    CHECK(!limit.try_acquire(0));
    for (int key = 101; key != 108; ++key) CHECK(limit.try_acquire(key));
    CHECK(limit.size() == 1 + 8);  // and 9 to 11 for the first of these

    keyed_rate_limiter<int> full{tandem::keyed_rate_limiter_options{.max_keys = 9}, gcra{.rate = 1, .burst = 9}};
    for (int key = 0; key != 8; ++key) CHECK(full.try_acquire(key, 9));
    CHECK(full.try_acquire(8));
    co_await sleep_for(1s);
    CHECK(!full.try_acquire(9));  // 8 could be forgotten, but is the ninth
    CHECK(full.size() == 9);
    CHECK(!full.try_acquire(0, 9));
    CHECK(full.try_acquire(9));  // now it is the eighth
    CHECK(full.size() == 9);
  };
  simulate(main());
}

TEST_CASE("a keyed limiter that goes tells those who wait") {
  auto main = []() -> task<> {
    auto limit = std::make_unique<keyed_rate_limiter<int>>(gcra{.rate = 1, .per = 1h});
    co_await limit->acquire(1);
    std::string text;
    auto waits = [&]() -> task<> { text = co_await thrown_by(limit->acquire(1)); };
    auto drops = [&]() -> task<> {
      co_await yield();
      limit.reset();
    };
    co_await gather(waits(), drops());
    CHECK(text.starts_with("tandem::cancelled"));
    CHECK(clock::now() == at(0s));
  };
  simulate(main());
}

TEST_CASE("a count that is refused makes no key, and an acquire that is over keeps none") {
  auto main = []() -> task<> {
    keyed_rate_limiter<int> limit{tandem::keyed_rate_limiter_options{.max_keys = 1}, gcra{.rate = 1}};
    CHECK_THROWS_AS(limit.try_acquire(1, 5), std::invalid_argument);
    CHECK_THROWS_AS(limit.acquire(1, 0), std::invalid_argument);
    CHECK(limit.size() == 0);
    auto once = limit.acquire(1);
    co_await std::move(once);
    co_await sleep_for(1s);
    CHECK(limit.try_acquire(2));
  };
  simulate(main());
}

TEST_CASE("a key that somebody waits for is not forgotten") {
  auto main = []() -> task<> {
    keyed_rate_limiter<int> limit{tandem::keyed_rate_limiter_options{.max_keys = 1}, gcra{.rate = 1}};
    auto waits = [&]() -> task<> {
      for (int i = 0; i != 3; ++i) co_await limit.acquire(1);
      CHECK(clock::now() == at(2s));
    };
    auto others = [&]() -> task<> {
      for (int i = 0; i != 20; ++i) {
        co_await sleep_for(100ms);
        CHECK(!limit.try_acquire(2));
      }
    };
    co_await gather(waits(), others());
  };
  simulate(main());
}

// ---- bad input -----------------------------------------------------------------------------------------------------

TEST_CASE("limits that make no sense are refused, each with its name and value") {
  CHECK_THROWS_WITH(rate_limiter(token_bucket{}),
                    "tandem::rate_limiter: token_bucket: the rate is 0; it must be at least 1");
  CHECK_THROWS_WITH(rate_limiter(gcra{.rate = 1, .burst = 0}),
                    "tandem::rate_limiter: gcra: the burst is 0; it must be at least 1");
  CHECK_THROWS_WITH(rate_limiter(gcra{.rate = 1, .per = 0s}),
                    "tandem::rate_limiter: gcra: per is 0 ns; it must be positive");
  CHECK_THROWS_WITH(rate_limiter(sliding_window{.limit = 0}),
                    "tandem::rate_limiter: sliding_window: the limit is 0; it must be at least 1");
  CHECK_THROWS_WITH(rate_limiter(sliding_window{.limit = 1, .window = -1s}),
                    "tandem::rate_limiter: sliding_window: the window is -1000000000 ns; it must be positive");
  CHECK_THROWS_WITH(rate_limiter(token_bucket{.rate = 1, .burst = 1'000'000, .per = 24h}),
                    "tandem::rate_limiter: token_bucket: a burst of 1000000 is too large for a period of "
                    "86400000000000 ns");
  rate_limiter limit{gcra{.rate = 1, .burst = 3}};
  CHECK_THROWS_WITH(limit.acquire(0), "tandem::rate_limiter: acquiring 0; it must be at least 1");
  CHECK_THROWS_WITH(limit.acquire(4), "tandem::rate_limiter: acquiring 4 of at most 3 would wait for ever");
  CHECK_THROWS_WITH(limit.try_acquire(), "tandem::rate_limiter: used where no loop runs, and so there is no time");
  using keyed = keyed_rate_limiter<int>;
  CHECK_THROWS_WITH(keyed(tandem::keyed_rate_limiter_options{.max_keys = 0}, gcra{.rate = 1}),
                    "tandem::keyed_rate_limiter: max_keys is 0; it must be at least 1");
  CHECK_THROWS_WITH(keyed(gcra{.rate = 0}), "tandem::rate_limiter: gcra: the rate is 0; it must be at least 1");

  CHECK_THROWS_AS(rate_limiter(token_bucket{}), std::invalid_argument);
  CHECK_THROWS_AS(limit.acquire(4), std::invalid_argument);
  CHECK_THROWS_AS(keyed(tandem::keyed_rate_limiter_options{.max_keys = 0}, gcra{.rate = 1}), std::invalid_argument);
  CHECK_THROWS_AS(limit.try_acquire(), std::logic_error);
  CHECK_THROWS_AS(limit.remaining(), std::logic_error);
}

TEST_CASE("limits hold before time 0") {
  auto main = []() -> task<> {
    rate_limiter cells{gcra{.rate = 1, .burst = 9'000'000'000}}, window{sliding_window{.limit = 2}};
    CHECK(cells.try_acquire(9'000'000'000));
    CHECK(cells.remaining() == 0);
    CHECK(cells.try_acquire().retry_after == 1s);
    CHECK(window.try_acquire(2));
    CHECK(window.try_acquire().retry_after == 1s);
    co_return;
  };
  simulate(main(), {.start = clock::time_point(-24h * 365 * 200)});
}

TEST_CASE("a limit that is at the end of what can be counted holds") {
  auto main = []() -> task<> {
    rate_limiter fast{token_bucket{.rate = SIZE_MAX, .burst = 1'000'000'000}};
    for (int i = 0; i != 100; ++i) co_await fast.acquire(1'000'000'000);
    CHECK(clock::now() < at(1s));
    rate_limiter slow{token_bucket{.rate = 1, .burst = 2, .per = clock::duration::max() / 2}};
    CHECK(slow.try_acquire(2));
    CHECK(slow.try_acquire(1).retry_after == clock::duration::max() / 2);
    co_await sleep_for(24h * 365 * 200);
    CHECK(slow.remaining() == 1);
  };
  simulate(main());
}
