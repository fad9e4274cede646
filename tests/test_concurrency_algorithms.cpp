#include <tandem/concurrency_algorithms.hpp>

#include "kit/kit.hpp"

#include <chrono>
#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using kit::at;
using tandem::aimd;
using tandem::clock;
using tandem::concurrency_decision;
using tandem::concurrency_window;
using tandem::gradient;
using tandem::knee;
using tandem::vegas;

namespace {

/// The windows that a service of so many workers shows, one each 100 ms, to a crowd that waits for it.
struct service {
  double workers = 20;
  clock::duration time = 10ms;
  double drops = 0;  // the share of the calls
  clock::time_point now = at(0s);

  concurrency_window at_limit(double exact) {
    concurrency_window w;
    w.begin = now;
    w.end = now += 100ms;
    w.limit = static_cast<std::size_t>(exact);
    const double rate = time == 0ns ? 50 : 1e8 / static_cast<double>(time.count());
    const double calls = std::max(20.0, std::min(exact, workers) * rate);
    w.dropped = static_cast<std::size_t>(calls * drops);
    w.succeeded = static_cast<std::size_t>(calls) - w.dropped;
    w.in_flight = static_cast<double>(w.limit);
    w.at_limit = 1;
    if (w.succeeded != 0)
      w.mean = clock::duration(static_cast<clock::rep>(static_cast<double>(time.count()) *
                                                       std::max(1.0, static_cast<double>(w.limit) / workers)));
    return w;
  }
  /// So many in flight, and nobody waits.
  concurrency_window asked_for(double in_flight, double limit) {
    concurrency_window w = at_limit(limit);
    w.in_flight = std::min(in_flight, static_cast<double>(w.limit));
    w.at_limit = in_flight > w.in_flight ? 1 : 0;
    w.mean = time;
    return w;
  }
};

template <class Algorithm>
double after(Algorithm& a, service& s, int windows, double limit) {
  for (int i = 0; i != windows; ++i) limit = std::clamp(a.update(s.at_limit(limit), limit).limit, 1.0, 200.0);
  return limit;
}

}  // namespace

// ---- knee ----------------------------------------------------------------------------------------------------------

TEST_CASE("knee finds what a service works at, and adds its square root, from below and from above") {
  for (const double workers : {1.0, 2.0, 5.0, 20.0, 80.0})
    for (const double initial : {1.0, 10.0, 200.0}) {
      INFO(workers << " workers, from " << initial);
      service s{.workers = workers};
      knee a;
      const double limit = after(a, s, 60, initial);
      CHECK(limit >= workers + 1);
      CHECK(limit <= workers + std::sqrt(workers) + 1);
    }
}

TEST_CASE("knee measures the service time at half of the limit, and says how it comes to its limit") {
  service s;
  knee a;
  concurrency_decision d = a.update(s.at_limit(30), 30);
  CHECK(d.limit == 15);
  CHECK(d.reason == std::string("halved, to measure the service time"));
  d = a.update(s.at_limit(15), 15);
  CHECK(d.service_time == 10ms);
  CHECK(d.limit == Approx(20 + std::sqrt(20)));
  CHECK(d.reason == std::string("the service time was measured"));
  d = a.update(s.at_limit(24), d.limit);
  CHECK(d.limit == Approx(20 + std::sqrt(20)));
  CHECK(d.reason == std::string("the line was long enough"));
}

TEST_CASE("while half of the limit still makes a line, knee halves it again") {
  service s{.workers = 5};
  knee a;
  CHECK(a.update(s.at_limit(100), 100).limit == 50);
  CHECK(a.update(s.at_limit(50), 50).limit == 25);
  CHECK(a.update(s.at_limit(25), 25).limit == 12);
  CHECK(a.update(s.at_limit(12), 12).limit == 6);
  const concurrency_decision d = a.update(s.at_limit(6), 6);
  CHECK(d.limit == 3);  // 6 of 12 is what half of a line would be
  CHECK(a.update(s.at_limit(3), 3).limit == Approx(5 + std::sqrt(5)));
}

TEST_CASE("a service that has become slower keeps its limit, once that has been measured") {
  service s;
  knee a;
  double limit = after(a, s, 20, 10);
  s.time = 30ms;
  int windows = 0;
  double least = limit;
  for (; windows != 50; ++windows) {
    limit = a.update(s.at_limit(limit), limit).limit;
    least = std::min(least, limit);
  }
  CHECK(least == 12);  // the probe
  CHECK(limit == Approx(20 + std::sqrt(20)).margin(1));
}

TEST_CASE("a service that has lost workers gets a lower limit within a few windows") {
  service s{.workers = 80};
  knee a;
  double limit = after(a, s, 30, 10);
  s.workers = 5;
  limit = after(a, s, 12, limit);
  CHECK(limit <= 5 + std::sqrt(5) + 1);
}

TEST_CASE("knee does not grow while no more is asked for") {
  service s;
  knee a;
  double limit = 10;
  for (int i = 0; i != 1'000; ++i) limit = a.update(s.asked_for(8, limit), limit).limit;
  CHECK(limit == 10);
  for (int i = 0; i != 1'000; ++i) limit = a.update(s.asked_for(2, limit), limit).limit;
  CHECK(limit == 10);
}

TEST_CASE("a limit that is not used is probed once, to know the service time") {
  service s;
  knee a;
  int changes = 0;
  double limit = 24;
  for (int i = 0; i != 1'000; ++i) {
    const double before = std::exchange(limit, a.update(s.asked_for(3, limit), limit).limit);
    changes += limit != before;
  }
  CHECK(changes == 2);
  CHECK(limit == 24);
}

TEST_CASE("knee probes at whole multiples of its interval, so that several do it together") {
  service s, other;
  other.now = at(730ms);
  knee a, b;
  double x = after(a, s, 98, 10), y = after(b, other, 91, 10);
  std::string when;
  for (int i = 0; i != 400; ++i) {
    const double before_x = x, before_y = y;
    x = a.update(s.at_limit(x), x).limit;
    y = b.update(other.at_limit(y), y).limit;
    if (x < before_x * 0.6) when += 'a' + std::to_string(s.now.time_since_epoch() / 1s) + ' ';
    if (y < before_y * 0.6) when += 'b' + std::to_string(other.now.time_since_epoch() / 1s) + ' ';
  }
  CHECK(when == "a10 b10 a20 b20 a30 b30 a40 b40 ");
}

TEST_CASE("drops that half of the limit makes fewer keep it there; others are let be") {
  knee a;
  service s{.workers = 80};
  double limit = after(a, s, 20, 80);
  s.drops = 0.2;
  CHECK(a.update(s.at_limit(limit), limit).limit == std::floor(std::floor(limit) / 2));
  s.drops = 0.02;
  const double half = std::floor(std::floor(limit) / 2);
  CHECK(a.update(s.at_limit(half), half).limit == half);

  knee b;
  service fails{.workers = 20};
  limit = after(b, fails, 20, 10);
  fails.drops = 0.3;
  const double later = after(b, fails, 50, limit);
  CHECK(later == Approx(limit).margin(1));
}

TEST_CASE("a service that refuses quickly what is too much is left the limit at which it does not") {
  knee a;
  double limit = 100, least = 1'000, most = 0;
  clock::time_point now = at(0s);
  for (int i = 0; i != 200; ++i) {  // it works at 20 calls, 11 ms each; a refusal takes 1 ms
    concurrency_window w;
    w.begin = now;
    w.end = now += 100ms;
    w.limit = static_cast<std::size_t>(limit);
    const std::size_t served = std::min<std::size_t>(w.limit, 20);
    w.succeeded = served * 9;
    w.dropped = (w.limit - served) * 100;
    w.mean = 11ms;
    w.in_flight = static_cast<double>(w.limit);
    w.at_limit = 1;
    limit = std::clamp(a.update(w, limit).limit, 1.0, 100.0);
    if (i < 50) continue;
    least = std::min(least, limit);
    most = std::max(most, limit);
  }
  CHECK(most <= 25);
  CHECK(least >= 9);  // a probe
}

TEST_CASE("a few drops that come by chance change nothing") {
  std::uint64_t state = 3;
  for (const double share : {0.02, 0.04, 0.06, 0.1, 0.5}) {
    INFO(share);
    service s;
    knee a;
    double limit = after(a, s, 40, 10), sum = 0;
    for (int i = 0; i != 1'000; ++i) {
      concurrency_window w = s.at_limit(limit);
      for (std::size_t n = w.succeeded; n != 0; --n)
        if (static_cast<double>(tandem::detail::split_mix(state) >> 11) * 0x1p-53 < share) --w.succeeded, ++w.dropped;
      limit = std::clamp(a.update(w, limit).limit, 1.0, 200.0);
      sum += limit;
    }
    CHECK(sum / 1'000 >= 22);
    CHECK(sum / 1'000 <= 26);
  }
}

TEST_CASE("a line that does not reach the limit is seen as well") {
  service s{.workers = 5};
  knee a;
  double limit = 100;
  for (int i = 0; i != 60; ++i) {
    concurrency_window w = s.at_limit(std::min(limit, 40.0));  // of 40 clients
    w.limit = static_cast<std::size_t>(limit);
    if (limit > 40) w.at_limit = 0;
    limit = std::clamp(a.update(w, limit).limit, 1.0, 200.0);
  }
  CHECK(limit <= 8);
}

TEST_CASE("a min above the knee is passed by its square root at most, and left when the service is better") {
  service s{.workers = 1};
  knee a;
  double limit = 5;
  for (int i = 0; i != 300; ++i) limit = std::max(5.0, a.update(s.at_limit(limit), limit).limit);
  CHECK(limit <= 5 + std::sqrt(5) + 1);
  s.workers = 20;
  for (int i = 0; i != 60; ++i) limit = std::max(5.0, a.update(s.at_limit(limit), limit).limit);
  CHECK(limit == Approx(20 + std::sqrt(20)).margin(1));
}

TEST_CASE("under another clock knee probes again") {
  knee a;
  service s;
  s.now = at(1000h);
  double limit = after(a, s, 300, 10);
  s.now = at(0s);
  int probes = 0;
  for (int i = 0; i != 300; ++i) {
    const double before = limit;
    limit = a.update(s.at_limit(limit), limit).limit;
    probes += limit < before * 0.6;
  }
  CHECK(probes >= 3);
}

TEST_CASE("a new service time is measured again soon, and then more and more seldom") {
  knee a;
  service s;
  double limit = 10;
  std::vector<double> when;
  for (int i = 0; i != 450; ++i) {
    const double before = limit;
    limit = std::clamp(a.update(s.at_limit(limit), limit).limit, 1.0, 200.0);
    if (limit < before * 0.6) when.push_back(std::chrono::duration<double>(s.now - at(0s)).count());
  }
  REQUIRE(when.size() >= 7);
  CHECK(when[1] == Approx(1.25).margin(0.3));
  CHECK(when[2] == Approx(2.5).margin(0.3));
  CHECK(when[3] == Approx(5).margin(0.3));
  CHECK(when[4] == Approx(10).margin(0.3));
  CHECK(when[5] == Approx(20).margin(0.3));
}

TEST_CASE("a probe that takes long is made seldom") {
  knee a;
  clock::time_point now = at(0s);
  double limit = 20;
  int probes = 0;
  for (int i = 0; i != 400; ++i) {  // windows of a minute: a probe is one
    concurrency_window w;
    w.begin = now;
    w.end = now += 1min;
    w.limit = static_cast<std::size_t>(limit);
    w.succeeded = 100;
    w.mean = clock::duration(10s) * std::max<std::size_t>(10, w.limit) / 10;
    w.in_flight = static_cast<double>(w.limit);
    w.at_limit = 1;
    const double before = limit;
    limit = a.update(w, limit).limit;
    probes += limit < before * 0.6;
  }
  CHECK(probes >= 5);
  CHECK(probes <= 400 / 25);
}

TEST_CASE("while every call is dropped the limit goes down, and it comes back afterwards") {
  service s;
  knee a;
  double limit = after(a, s, 20, 10);
  s.drops = 1;
  limit = after(a, s, 20, limit);
  CHECK(limit == 1);
  s.drops = 0;
  limit = after(a, s, 30, limit);
  CHECK(limit == Approx(20 + std::sqrt(20)).margin(1));
}

TEST_CASE("while all calls are dropped, each window halves the limit") {
  service s;
  knee a;
  after(a, s, 20, 10);
  s.drops = 1;
  const concurrency_decision d = a.update(s.at_limit(40), 40);
  CHECK(d.limit == 20);
  CHECK(d.reason == std::string("every call was dropped"));
  CHECK(a.update(s.at_limit(20), 20).limit == 10);
  CHECK(a.update(s.at_limit(10), 10).limit == 5);
}

TEST_CASE("knee grows by the square root, and twice as much each time while no line is seen, by a half at most") {
  service s{.workers = 10'000};
  knee a;
  CHECK(a.update(s.at_limit(64), 64).limit == 32);
  double limit = a.update(s.at_limit(32), 32).limit;
  CHECK(limit == 64 + 8);
  limit = 100;
  for (const double step : {10.0, 2 * std::sqrt(110.0), 4 * std::sqrt(110 + 2 * std::sqrt(110.0))}) {
    s.now = at(100ms);  // before the next probe
    const concurrency_window w = s.at_limit(limit);
    const concurrency_decision d = a.update(w, limit);
    CHECK(d.reason == std::string("no line was seen"));
    CHECK(d.limit == Approx(limit + step).margin(5));
    limit = d.limit;
  }
  for (int i = 0; i != 3; ++i) {
    s.now = at(100ms);
    const concurrency_decision d = a.update(s.at_limit(limit), limit);
    CHECK(d.limit <= limit * 1.5);
    limit = d.limit;
  }
}

TEST_CASE("where fewer calls were dropped at half of the limit, it gives way by a tenth when they are dropped again") {
  knee a;
  service s{.workers = 80};
  const double limit = after(a, s, 20, 80);
  s.drops = 0.2;
  const double half = a.update(s.at_limit(limit), limit).limit;
  s.drops = 0.02;
  REQUIRE(a.update(s.at_limit(half), half).limit == half);
  s.drops = 0.2;
  const concurrency_decision d = a.update(s.at_limit(60), 60);
  CHECK(d.limit == Approx(54));
  CHECK(d.reason == std::string("calls were dropped again"));
  s.drops = 0;
  const concurrency_decision back = a.update(s.at_limit(54), 54);
  CHECK(back.limit == Approx(55));  // slowly
}

TEST_CASE("the share of drops is of all calls that ended") {
  concurrency_window w;
  w.succeeded = 15;
  w.dropped = 5;
  CHECK(w.drop_share() == 0.25);
  w.succeeded = 0;
  CHECK(w.drop_share() == 1);
}

TEST_CASE("knee stands calls that take no time") {
  knee a;
  service s{.time = 0ns};
  double limit = 10;
  for (int i = 0; i != 100; ++i) {
    const concurrency_decision d = a.update(s.at_limit(limit), limit);
    limit = std::clamp(d.limit, 1.0, 200.0);
    REQUIRE(std::isfinite(d.limit));
  }
  CHECK(limit == 200);
}

TEST_CASE("an interval of knee must be positive") {
  CHECK_THROWS_WITH(knee({.probe_interval = 0s}), "tandem::knee: probe_interval is 0 ns; it must be positive");
}

// ---- the others ----------------------------------------------------------------------------------------------------

TEST_CASE("aimd adds one, and takes a tenth away when a call was dropped or was slow") {
  aimd a({.slow = 1s});
  service s;
  CHECK(a.update(s.at_limit(10), 10).limit == 11);
  CHECK(a.update(s.asked_for(5, 10), 10).limit == 10);
  s.drops = 0.05;
  CHECK(a.update(s.at_limit(40), 40).limit == 36);
  CHECK(a.update(s.at_limit(4), 4).limit == 3);
  s.drops = 0;
  s.time = 2s;
  CHECK(a.update(s.at_limit(20), 20).limit == 18);
  CHECK_THROWS_WITH(aimd({.decrease = 1}),
                    "tandem::aimd: decrease is 1.000000; it must be more than 0 and less than 1");
  CHECK_THROWS_WITH(aimd({.decrease = std::nan("")}),
                    "tandem::aimd: decrease is nan; it must be more than 0 and less than 1");
  CHECK_THROWS_WITH(aimd({.slow = 0s}), "tandem::aimd: slow is 0 ns; it must be positive");
}

TEST_CASE("aimd multiplies by what it was told to, grows without end, and drops at any load bring it down") {
  aimd a({.decrease = 0.5});
  service s{.workers = 5};
  CHECK(after(a, s, 300, 1) == 200);  // far beyond the workers: it does not look for lines
  s.drops = 0.05;
  const concurrency_decision d = a.update(s.at_limit(100), 100);
  CHECK(d.limit == 50);
  CHECK(d.reason == std::string("calls were dropped"));
  CHECK(after(a, s, 20, 200) == 1);
  CHECK_THROWS_AS(aimd({.decrease = 0}), std::invalid_argument);
  CHECK_THROWS_AS(aimd({.slow = -1ns}), std::invalid_argument);
  CHECK_THROWS_AS(knee({.probe_interval = -1ns}), std::invalid_argument);
}

TEST_CASE("the line of vegas is 3 to 6 times the logarithm of the limit") {
  for (const double limit : {50.0, 500.0, 5000.0}) {
    const double unit = std::floor(std::log10(limit));
    INFO(limit);
    vegas a;
    service s;
    const auto with_line = [&](double line) {
      concurrency_window w = s.asked_for(limit, limit);
      w.at_limit = 1;
      w.mean = clock::duration(static_cast<clock::rep>(1e7 / (1 - (line - 0.5) / limit)));  // rounded up, it is `line`
      return a.update(w, limit);
    };
    concurrency_window alone = s.asked_for(limit, limit);
    alone.at_limit = 1;
    CHECK(a.update(alone, limit).limit == limit + 6 * unit);
    CHECK(a.update(alone, limit).service_time == 10ms);
    CHECK(with_line(unit).limit == limit + 6 * unit);
    CHECK(with_line(3 * unit).limit == limit);
    CHECK(with_line(6 * unit).limit == limit);
    CHECK(with_line(6 * unit + 1).limit == limit - unit);
    if (unit > 1) CHECK(with_line(3 * unit - 1).limit == limit + unit);
  }
}

TEST_CASE("vegas knows the least time of the last 30 to 60 seconds") {
  vegas a;
  service s;
  const auto time_after = [&](clock::duration mean, clock::duration pause) {
    s.now += pause;
    concurrency_window w = s.at_limit(10);
    w.mean = mean;
    return a.update(w, 10).service_time;
  };
  CHECK(time_after(10ms, 0s) == 10ms);      // at 0.1 s
  CHECK(time_after(20ms, 29s) == 10ms);     // at 29.2 s
  CHECK(time_after(20ms, 30s) == 10ms);     // at 59.3 s: of the half minute before
  CHECK(time_after(20ms, 1700ms) == 20ms);  // at 61.1 s it is over
  CHECK(time_after(30ms, 1h) == 30ms);      // after a pause nothing is left of it
}

TEST_CASE("gradient lets a mean time be half as long again as the average") {
  gradient a;
  service s;
  for (int i = 0; i != 50; ++i) a.update(s.asked_for(10, 10), 10);
  s.time = 14'900us;
  concurrency_decision d = a.update(s.asked_for(10, 10), 10);
  CHECK(d.limit == Approx(10 * 0.8 + (10 + 4) * 0.2));
  CHECK(d.reason == std::string("as fast as on the average"));
  s.time = 20ms;
  d = a.update(s.asked_for(10, 10), 10);
  CHECK(d.limit == Approx(10 * 0.8 + (7.5 + 4) * 0.2).margin(0.1));
  CHECK(d.reason == std::string("slower than on the average"));
  CHECK(d.service_time >= 10ms);
  CHECK(d.service_time < 11ms);
}

TEST_CASE("vegas keeps a short line, and believes a slower service after a minute") {
  vegas a;
  service s{.workers = 50};
  double limit = after(a, s, 100, 10);
  CHECK(limit >= 50);
  CHECK(limit <= 56);
  s.time = 20ms;
  limit = after(a, s, 100, limit);
  CHECK(limit < 50);
  limit = after(a, s, 700, limit);
  CHECK(limit >= 50);
  CHECK(limit <= 56);
  CHECK(a.update(s.asked_for(5, 52), 52).limit == 52);
  s.drops = 0.01;
  CHECK(a.update(s.at_limit(52), 52).limit == 51);
}

TEST_CASE("gradient shrinks as calls take longer than on the average, and drifts up under a load that never ceases") {
  gradient a;
  service s{.workers = 5};
  for (int i = 0; i != 20; ++i) a.update(s.asked_for(4, 5), 5);
  CHECK(a.update(s.asked_for(4, 5), 5).limit == Approx(5 * 0.8 + (5 + 4) * 0.2));
  CHECK(a.update(s.asked_for(1, 5), 5).limit == 5);
  CHECK(a.update(s.at_limit(30), 30).limit < 30);
  CHECK(after(a, s, 600, 10) > 20);
  s.drops = 1;
  CHECK(a.update(s.at_limit(30), 30).limit == 30);
}

TEST_CASE("no algorithm says what is no number, whatever the windows are") {
  const auto try_out = [](auto a) {
    std::uint64_t state = 1;
    const auto draw = [&](std::uint64_t n) { return tandem::detail::split_mix(state) % n; };
    clock::time_point now = at(0s);
    double limit = 10;
    for (int i = 0; i != 20'000; ++i) {
      concurrency_window w;
      w.begin = now;
      w.end = now += clock::duration(1 + draw(3) * draw(1'000'000'000));
      w.limit = static_cast<std::size_t>(limit);
      w.dropped = draw(3) * draw(20);
      w.succeeded = draw(2) * draw(100) + (w.dropped == 0 ? 1 : 0);
      if (w.succeeded != 0) w.mean = clock::duration(draw(2) * draw(10'000'000'000));
      w.at_limit = static_cast<double>(draw(11)) / 10;
      w.in_flight = limit * static_cast<double>(draw(11)) / 10;
      const concurrency_decision d = a.update(w, limit);
      REQUIRE(std::isfinite(d.limit));
      REQUIRE(d.service_time >= 0ns);
      REQUIRE(d.reason[0] != '\0');
      limit = std::clamp(d.limit, 1.0, 500.0);
    }
  };
  try_out(knee());
  try_out(aimd());
  try_out(vegas());
  try_out(gradient());
}
