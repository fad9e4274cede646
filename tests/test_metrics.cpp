#include <tandem/metrics.hpp>

#include "catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

using namespace std::chrono_literals;
using tandem::counter;
using tandem::gauge;
using tandem::histogram;
using tandem::memory_usage;
using tandem::process_memory;
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

// ---- counter and gauge ----------------------------------------------------------------------------------------------

TEST_CASE("a counter adds up, and a new one assigned begins anew") {
  counter c;
  CHECK(c.value() == 0);
  c.add();
  c.add(41);
  c.add(0);
  CHECK(c.value() == 42);
  const counter copy = c;
  CHECK(copy == c);
  c.add(std::numeric_limits<std::uint64_t>::max() - 42);
  CHECK(c.value() == std::numeric_limits<std::uint64_t>::max());
  c.add(3);
  CHECK(c.value() == 2);
  c = {};
  CHECK(c == counter());
  CHECK(copy != c);
  STATIC_REQUIRE(std::is_trivially_copyable_v<counter>);
  STATIC_REQUIRE(sizeof(counter) == 8);
}

TEST_CASE("a gauge goes up and down, and remembers the highest") {
  gauge g;
  CHECK(g.value() == 0);
  CHECK(g.max() == 0);
  g.add();
  g.add(4);
  g.sub();
  CHECK(g.value() == 4);
  CHECK(g.max() == 5);
  g.sub(10);
  CHECK(g.value() == -6);
  CHECK(g.max() == 5);
  g.sub(-13);
  CHECK(g.value() == 7);
  CHECK(g.max() == 7);
  g.set(3);
  CHECK(g.value() == 3);
  CHECK(g.max() == 7);
  g.set(9);
  g.set(-2);
  CHECK(g.max() == 9);
  g.reset_max();
  CHECK(g.value() == -2);
  CHECK(g.max() == -2);
  g.add();
  CHECK(g.max() == -1);
  STATIC_REQUIRE(std::is_trivially_copyable_v<gauge>);
}

TEST_CASE("a gauge that never was above zero has its high-water mark there") {
  gauge g;
  g.set(-5);
  g.sub();
  CHECK(g.value() == -6);
  CHECK(g.max() == 0);
}

TEST_CASE("a gauge stays at the end of its range") {
  constexpr auto most = std::numeric_limits<std::int64_t>::max(), least = std::numeric_limits<std::int64_t>::min();
  gauge g;
  g.set(most);
  g.add();
  CHECK(g.value() == most);
  g.sub(least);
  CHECK(g.value() == most);
  g.set(least);
  g.sub();
  CHECK(g.value() == least);
  g.add(least);
  CHECK(g.value() == least);
  CHECK(g.max() == most);
  g.set(-1);
  g.sub(least);
  CHECK(g.value() == most);
}

// ---- memory ---------------------------------------------------------------------------------------------------------

TEST_CASE("the memory of the process is read out of the system's text, wherever it is cut") {
  std::string text = "Name:\tVmRSS: 7 kB\nGroups:\t";
  for (int i = 0; i != 2'000; ++i) text += std::to_string(i) + ' ';
  text +=
      "\nVmPeak:\t    9999 kB\nVmSize:\t    2476 kB\nVmLck:\t       0 kB\nVmHWM:\t    1416 kB\n"
      "VmRSS:\t 123456789012 kB\nRssAnon:\t       1 kB\nnonvoluntary_ctxt_switches:\t8\n";
  constexpr std::uint64_t kib = 1'024;
  const memory_usage expected{
      .resident = 123'456'789'012 * kib, .peak_resident = 1'416 * kib, .virtual_size = 2'476 * kib};
  for (const std::size_t size : {std::size_t(1), std::size_t(7), std::size_t(1'024), text.size()}) {
    CAPTURE(size);
    tandem::detail::memory_reader reader;
    for (std::size_t at = 0; at < text.size(); at += size) reader.read(std::string_view(text).substr(at, size));
    CHECK(reader.found == expected);
  }
  tandem::detail::memory_reader of_a_kernel_thread;
  of_a_kernel_thread.read("Name:\tkthreadd\nThreads:\t1\n");
  CHECK(of_a_kernel_thread.found == memory_usage{});
}

TEST_CASE("the memory of the process grows with what is used, and its peak stays") {
  STATIC_REQUIRE(noexcept(process_memory()));
  STATIC_REQUIRE(std::is_aggregate_v<memory_usage>);
#if defined(__linux__)
  constexpr std::size_t size = 64 << 20;
  const memory_usage before = process_memory();
  CHECK(before.resident > 1 << 20);
  CHECK(before.peak_resident >= before.resident);
  CHECK(before.virtual_size >= before.resident);
  {
    const std::vector<char> used(size, 'x');
    const memory_usage meanwhile = process_memory();
    CHECK(used[size / 2] == 'x');
    // Counters of the kernel may be some pages late.
    CHECK(meanwhile.resident > before.resident + size / 10 * 9);
    CHECK(meanwhile.peak_resident >= meanwhile.resident);
  }
  CHECK(process_memory().peak_resident > before.resident + size / 10 * 9);
#else
  CHECK(process_memory().resident == 0);
#endif
}

#if defined(__linux__)
TEST_CASE("the peak is this program's own, not that of a larger one which started it") {
  if (std::getenv("TANDEM_TEST_PEAK")) {  // started below
    std::printf("\npeak %llu\n", static_cast<unsigned long long>(process_memory().peak_resident));
    return;
  }
  // getrusage in the new program would tell of all this.
  const std::vector<char> used(256 << 20, 'x');
  CHECK(used.back() == 'x');
  setenv("TANDEM_TEST_PEAK", "1", 1);
  const std::string command = "exec " + std::filesystem::read_symlink("/proc/self/exe").string() + " 'the peak is*'";
  FILE* const output = popen(command.c_str(), "r");
  unsetenv("TANDEM_TEST_PEAK");
  REQUIRE(output);
  unsigned long long peak = 0;
  for (char line[128]; std::fgets(line, sizeof line, output);) std::sscanf(line, "peak %llu", &peak);
  CHECK(pclose(output) == 0);
  CHECK(peak > 0);
  CHECK(peak < used.size());
}
#endif
