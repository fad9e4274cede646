#include <tandem/metrics.hpp>

#include "catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

using namespace std::chrono_literals;
using tandem::histogram;
using duration = tandem::clock::duration;

namespace {

constexpr duration longest = duration::max();

histogram of(const std::vector<duration>& all) {
  histogram h;
  for (const duration d : all) h.record(d);
  return h;
}

/// Whether `found` is as near to `exact` as the histogram promises.
bool is_near(duration found, duration exact) {
  const long double error = std::abs(static_cast<long double>(found.count()) - static_cast<long double>(exact.count()));
  return error <= static_cast<long double>(exact.count()) * static_cast<long double>(histogram::relative_error);
}

/// Every quantile that is a different element, and those between, against the sorted elements.
void compare_with_sorted(std::vector<duration> all) {
  const histogram h = of(all);
  std::sort(all.begin(), all.end());
  const std::size_t n = all.size();
  REQUIRE(h.count() == n);
  REQUIRE(h.min() == all.front());
  REQUIRE(h.max() == all.back());
  REQUIRE(h.quantile(0) == all.front());
  REQUIRE(h.quantile(1) == all.back());
  std::size_t wrong = 0;
  for (std::size_t rank = 1; rank <= n; ++rank) {
    const double q = static_cast<double>(rank) / static_cast<double>(n);
    const double between = (static_cast<double>(rank) - 0.5) / static_cast<double>(n);
    for (const duration found : {h.quantile(q), h.quantile(between)})
      wrong += !is_near(found, all[rank - 1]) || found < all.front() || found > all.back();
  }
  CHECK(wrong == 0);
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("every quantile is within the stated error of the element of that rank, whatever the distribution") {
  std::mt19937_64 random(2'026);
  auto uniform = [&](std::int64_t below) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(below));
  };
  auto unit = [&] { return static_cast<double>(random() >> 11) * 0x1p-53; };
  const std::vector<std::function<duration()>> distributions = {
      [&] { return duration(uniform(64)); },
      [&] { return duration(uniform(1'000)); },
      [&] { return 5ms + duration(uniform(40'000)); },
      [&] { return duration(uniform(longest.count())); },
      [&] { return duration(static_cast<std::int64_t>(random() >> (1 + uniform(63)))); },  // every power of two alike
      [&] { return duration(static_cast<std::int64_t>(-std::log(1 - unit()) * 1e6)); },    // exponential
      [&] { return duration(static_cast<std::int64_t>(std::exp(unit() * 12 + unit() * 12))); },
      [&] { return uniform(100) == 0 ? duration(2s) + duration(uniform(1'000'000)) : duration(uniform(10'000)); },
      [&] { return uniform(2) == 0 ? 0ns : longest; },
      [] { return duration(123'456'789); },
  };
  for (std::size_t i = 0; i != distributions.size(); ++i) {
    for (const std::size_t n : {1u, 2u, 7u, 100u, 1'000u, 20'000u}) {
      CAPTURE(i, n);
      std::vector<duration> all(n);
      for (duration& d : all) d = distributions[i]();
      compare_with_sorted(all);
    }
  }
}

TEST_CASE("durations at the edges of the buckets are found again") {
  for (int power = 0; power != 63; ++power) {
    const std::int64_t edge = std::int64_t(1) << power;
    for (const std::int64_t near : {edge - 1, edge, edge + 1, edge + edge / 32 - 1, edge + edge / 32, edge / 2 * 3}) {
      CAPTURE(power, near);
      // Amid others, because the least and the greatest are exact anyway.
      const histogram h = of({0ns, duration(near), longest});
      const duration found = h.quantile(0.5);
      CHECK(is_near(found, duration(near)));
      if (near < 64) CHECK(found == duration(near));
    }
  }
}

TEST_CASE("a histogram covers all of the clock's durations from zero on") {
  const histogram h = of({0ns, 1ns, longest - 1ns, longest});
  CHECK(h.min() == 0ns);
  CHECK(h.max() == longest);
  CHECK(h.quantile(0.25) == 0ns);
  CHECK(h.quantile(0.5) == 1ns);
  CHECK(is_near(h.quantile(0.75), longest - 1ns));
  CHECK(h.quantile(0.75) <= longest);
  CHECK(h.quantile(1) == longest);
}

TEST_CASE("a single duration is every quantile of its histogram") {
  for (const duration d : {0ns, 1ns, 63ns, 64ns, 65ns, duration(1'234'567), longest}) {
    const histogram h = of({d});
    for (const double q : {0.0, 1e-300, 0.5, 0.999, 1.0}) CHECK(h.quantile(q) == d);
    CHECK(h.summary() == tandem::latency_summary{1, d, d, d, d, d, d});
    CHECK(h.sum() == d);
  }
}

TEST_CASE("a quantile that is a whole number of elements takes no element more, though 0.07 is no binary number") {
  histogram h;
  for (int i = 1; i <= 50; ++i) h.record(duration(i));
  for (int i = 1; i <= 50; ++i) CHECK(h.quantile(i / 50.0) == duration(i));
  CHECK(h.quantile(0.14) == 7ns);
  CHECK(h.quantile(0.140001) == 8ns);
  CHECK(h.quantile(0.28) == 14ns);
}

TEST_CASE("an empty histogram is zero in everything") {
  histogram h;
  CHECK(h.count() == 0);
  CHECK(h.min() == 0ns);
  CHECK(h.max() == 0ns);
  CHECK(h.sum() == 0ns);
  CHECK(h.mean() == 0ns);
  for (const double q : {0.0, 0.5, 1.0}) CHECK(h.quantile(q) == 0ns);
  CHECK(h.summary() == tandem::latency_summary{});

  h.record(3ms);
  h.reset();
  CHECK(h == histogram());
  h.merge(histogram());
  CHECK(h == histogram());
}

TEST_CASE("merging is the same as recording everything in one") {
  std::mt19937_64 random(7);
  histogram together;
  histogram merged;
  for (int part = 0; part != 5; ++part) {
    histogram h;
    for (int i = 0; i != 1'000; ++i) {
      const duration d(static_cast<std::int64_t>(random() >> (1 + random() % 63)));
      h.record(d);
      together.record(d);
    }
    merged.merge(h);
  }
  CHECK(merged == together);

  const histogram empty;
  merged.merge(empty);
  CHECK(merged == together);
  histogram copy;
  copy.merge(together);
  CHECK(copy == together);

  copy.merge(copy);
  CHECK(copy.count() == 2 * together.count());
  CHECK(copy.mean() == together.mean());
  CHECK(copy.quantile(0.3) == together.quantile(0.3));
  CHECK(copy != together);
}

TEST_CASE("count, sum and mean are exact; a sum beyond the clock's durations is the longest, its mean stays right") {
  histogram h;
  for (int i = 1; i <= 1'000; ++i) h.record(duration(i) * 1'000'003);
  CHECK(h.count() == 1'000);
  CHECK(h.sum() == duration(500'500) * 1'000'003);
  CHECK(h.mean() == duration(500'501'502));  // 500'501'501.5
  CHECK(of({1ns, 1ns, 2ns}).mean() == 1ns);
  CHECK(of({1ns, 2ns, 2ns}).mean() == 2ns);

  histogram long_lived;
  for (int i = 0; i != 10; ++i) long_lived.record(longest);
  CHECK(long_lived.sum() == longest);
  CHECK(long_lived.mean() == longest);
  for (int i = 0; i != 30; ++i) long_lived.record(0ns);
  CHECK(long_lived.sum() == longest);
  const duration quarter = longest / 4;
  CHECK(long_lived.mean() >= quarter - 1us);
  CHECK(long_lived.mean() <= quarter + 1us);

  histogram other = long_lived;
  for (int i = 0; i != 4; ++i) other.merge(other);
  CHECK(other.count() == 640);
  for (int i = 0; i != 50; ++i) other.merge(other);  // more than a double has digits
  CHECK(other.count() == std::uint64_t(640) << 50);
  CHECK(other.mean() >= quarter - 1us);
  CHECK(other.mean() <= quarter + 1us);
  CHECK(other.quantile(0.74) == 0ns);
  CHECK(is_near(other.quantile(0.76), longest));
  CHECK(other.quantile(1) == longest);
}

TEST_CASE("a negative duration is refused, and nothing is counted") {
  histogram h;
  CHECK(message_of([&] { h.record(-1ns); }) ==
        "tandem::histogram::record: the duration is -1 ns; it must not be negative");
  CHECK_THROWS_AS(h.record(duration::min()), std::invalid_argument);
  CHECK(h == histogram());
}

TEST_CASE("a quantile is asked for between 0 and 1") {
  const histogram h = of({1ms});
  CHECK(message_of([&] { h.quantile(1.5); }) == "tandem::histogram::quantile: q is 1.5; it must be between 0 and 1");
  CHECK(message_of([&] { h.quantile(-0.01); }) ==
        "tandem::histogram::quantile: q is -0.01; it must be between 0 and 1");
  CHECK(message_of([&] { h.quantile(std::numeric_limits<double>::quiet_NaN()); }) ==
        "tandem::histogram::quantile: q is nan; it must be between 0 and 1");
  CHECK_THROWS_AS(histogram().quantile(2), std::invalid_argument);
}

TEST_CASE("a histogram is a value, a summary an aggregate") {
  STATIC_REQUIRE(std::is_trivially_copyable_v<histogram>);
  STATIC_REQUIRE(std::is_nothrow_default_constructible_v<histogram>);
  STATIC_REQUIRE(sizeof(histogram) < 15 * 1'024);
  STATIC_REQUIRE(std::is_aggregate_v<tandem::latency_summary>);
  STATIC_REQUIRE(std::is_trivially_destructible_v<tandem::latency_summary>);

  const histogram one = of({1ms, 2ms});
  histogram two = one;
  CHECK(two == one);
  two.record(3ms);
  CHECK(two != one);
  CHECK(one.count() == 2);
  CHECK(of({1ms, 2ms}) == of({2ms, 1ms}));
}

TEST_CASE("a summary is what the histogram says one by one") {
  histogram h;
  for (int i = 1; i <= 1'000; ++i) h.record(i * 1us);
  const tandem::latency_summary s = h.summary();
  CHECK(s.count == 1'000);
  CHECK(s.min == 1us);
  CHECK(s.max == 1ms);
  CHECK(s.mean == 500us + 500ns);
  CHECK(s.p50 == h.quantile(0.5));
  CHECK(s.p95 == h.quantile(0.95));
  CHECK(s.p99 == h.quantile(0.99));
  CHECK(is_near(s.p99, 990us));
}
