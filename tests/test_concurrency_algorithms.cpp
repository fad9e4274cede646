#include <tandem/concurrency_algorithms.hpp>

#include "kit/kit.hpp"

#include <chrono>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>

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
  double drops = 0;  // the share of a hundred calls
  clock::time_point now = at(0s);

  concurrency_window at_limit(double exact) {
    concurrency_window w;
    w.begin = now;
    w.end = now += 100ms;
    w.limit = static_cast<std::size_t>(exact);
    w.dropped = static_cast<std::size_t>(100 * drops);
    w.succeeded = 100 - w.dropped;
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
    w.in_flight = in_flight;
    w.at_limit = 0;
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

TEST_CASE("a limit that is not used is not probed") {
  service s;
  knee a;
  for (int i = 0; i != 1'000; ++i) CHECK(a.update(s.asked_for(3, 24), 24).limit == 24);
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
  s.drops = 0.01;
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
