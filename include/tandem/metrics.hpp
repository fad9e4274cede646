// tandem/metrics.hpp: what a service measures about itself: histogram, counter, gauge, process_memory.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"

#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <string_view>

#if __has_include(<sys/resource.h>)
#include <sys/resource.h>
#endif
#if defined(__linux__)
#include <fcntl.h>
#include <unistd.h>
#endif

static_assert(TANDEM_VERSION == 100, "tandem/metrics.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// What `histogram::summary` gives: a plain aggregate, to be a member of a `stats()`. All zero if nothing was recorded.
struct latency_summary {
  std::uint64_t count = 0;
  clock::duration min{}, mean{}, p50{}, p95{}, p99{}, max{};

  friend bool operator==(const latency_summary&, const latency_summary&) = default;
};

/// Counts durations in buckets of bounded relative width, and tells their quantiles: `latency.record(clock::now() -
/// begin)`, then `latency.quantile(0.99)`.
///
/// Every duration from zero to `clock::duration::max()` has its bucket; none is clamped. A quantile is at most 1/64
/// (1.6 %) away from the duration that was recorded, exact up to 63 ns, and never outside `min()` and `max()`. Count,
/// sum, minimum and maximum are exact. With nothing recorded every one of them is zero: look at `count()`.
///
/// It never allocates: the buckets, 15 KiB, are part of it, so a stack or a coroutine's frame is not the best place for
/// many. A plain value: copied, compared, merged. For one loop; no atomics.
class histogram {
 public:
  /// How far a quantile may be from the recorded duration, as a part of that duration.
  static constexpr double relative_error = 1.0 / 64;

  /// Counts one duration: O(1), about 5 ns. Throws std::invalid_argument if it is negative, which the difference of two
  /// readings of `clock` in their order never is; nothing is counted then.
  void record(clock::duration d) {
    if (d < clock::duration::zero()) throw_negative(d);
    const auto n = static_cast<std::uint64_t>(d.count());
    ++counts_[bucket_of(n)];
    ++count_;
    add_to_sum(0, n);
    span(d, d);
  }

  std::uint64_t count() const noexcept { return count_; }
  clock::duration min() const noexcept { return count_ != 0 ? min_ : clock::duration::zero(); }
  clock::duration max() const noexcept { return max_; }
  /// Of all of them, or `clock::duration::max()` if that is less: 292 years.
  clock::duration sum() const noexcept;
  /// The exact sum by the count, rounded to a nanosecond.
  clock::duration mean() const noexcept;

  /// The least duration that a part `q` of all those recorded does not exceed: 0 gives the minimum, 0.5 the median, 1
  /// the maximum. O(buckets): at most 1,888 additions. Throws std::invalid_argument unless q is between 0 and 1.
  clock::duration quantile(double q) const;

  latency_summary summary() const noexcept;

  /// Counts everything that the other one has counted: the same as if it had been recorded here.
  void merge(const histogram& other) noexcept;
  /// As new.
  void reset() noexcept { *this = histogram(); }

  /// Whether the same was counted: as many in every bucket, with the same sum, minimum and maximum.
  friend bool operator==(const histogram&, const histogram&) = default;

 private:
  // A power of two is divided into 32 buckets of equal width, and the middle of a bucket stands for it: half of 1/32.
  static constexpr std::size_t bits = 5;
  static constexpr std::size_t buckets = (64 - bits) << bits;  // of 2^63 numbers

  /// Up to 63 every number has a bucket of its own. Above, the six highest bits of n are kept and `shift` are dropped.
  static constexpr std::size_t bucket_of(std::uint64_t n) noexcept {
    const std::size_t width = static_cast<std::size_t>(std::bit_width(n));
    const std::size_t shift = width > bits + 1 ? width - bits - 1 : 0;
    return (shift << bits) + static_cast<std::size_t>(n >> shift);
  }
  static constexpr std::uint64_t middle_of(std::size_t bucket) noexcept {
    const std::size_t shift = bucket >> bits > 1 ? (bucket >> bits) - 1 : 0;
    const std::uint64_t first = static_cast<std::uint64_t>(bucket - (shift << bits)) << shift;
    return first + ((std::uint64_t(1) << shift) >> 1);
  }

  [[noreturn, gnu::cold]] static void throw_negative(clock::duration d);
  clock::duration of_rank(std::uint64_t rank) const noexcept;
  std::uint64_t rank_of(double q) const noexcept;
  void add_to_sum(std::uint64_t high, std::uint64_t low) noexcept {
    sum_low_ += low;
    sum_high_ += high + (sum_low_ < low);
  }
  void span(clock::duration least, clock::duration greatest) noexcept {
    if (least < min_) min_ = least;
    if (greatest > max_) max_ = greatest;
  }

  std::array<std::uint64_t, buckets> counts_{};
  std::uint64_t count_ = 0;
  std::uint64_t sum_high_ = 0, sum_low_ = 0;  // one number of 128 bits: a billion of ten seconds do not fit into 64
  clock::duration min_ = clock::duration::max();
  clock::duration max_ = clock::duration::zero();
};

/// Counts what only becomes more: `requests.add()`. Whoever reads it twice has the rate of the time between.
///
/// From zero; beyond 64 bits it begins at zero again. A plain value: copied, compared, assigned a new one to begin
/// anew. For one loop; no atomics.
class counter {
 public:
  void add(std::uint64_t n = 1) noexcept { value_ += n; }
  std::uint64_t value() const noexcept { return value_; }

  friend bool operator==(const counter&, const counter&) = default;

 private:
  std::uint64_t value_ = 0;
};

/// A number that goes up and down, and the highest that it has been: connections, bytes kept, calls in flight.
///
/// From zero; a sum beyond 64 bits is the end of their range. A plain value: copied, compared. For one loop; no
/// atomics.
class gauge {
 public:
  void set(std::int64_t value) noexcept {
    value_ = value;
    if (value > max_) max_ = value;
  }
  void add(std::int64_t n = 1) noexcept;
  void sub(std::int64_t n = 1) noexcept;
  std::int64_t value() const noexcept { return value_; }
  /// The high-water mark: at least zero, since that is where it began.
  std::int64_t max() const noexcept { return max_; }
  /// Forgets what was: the mark is the value of now.
  void reset_max() noexcept { max_ = value_; }

  friend bool operator==(const gauge&, const gauge&) = default;

 private:
  std::int64_t value_ = 0, max_ = 0;
};

/// What `process_memory` gives: a plain aggregate, of bytes. Zero is what the system does not tell.
struct memory_usage {
  std::uint64_t resident = 0;       ///< in physical memory now
  std::uint64_t peak_resident = 0;  ///< the most of it that there has been
  std::uint64_t virtual_size = 0;   ///< addresses in use, whether or not there is memory behind them

  friend bool operator==(const memory_usage&, const memory_usage&) = default;
};

/// The memory of this process, as the system counts it. Linux tells all of it, in /proc/self/status; other systems of
/// POSIX tell the peak alone; elsewhere nothing is known. Some system calls, about 10 us: for a report, not for each
/// request. Allocates nothing. From any thread.
memory_usage process_memory() noexcept;

// ---- implementation ------------------------------------------------------------------------------------------------

inline clock::duration histogram::sum() const noexcept {
  constexpr auto most = static_cast<std::uint64_t>(clock::duration::max().count());
  if (sum_high_ != 0 || sum_low_ > most) return clock::duration::max();
  return clock::duration(static_cast<clock::rep>(sum_low_));
}

inline clock::duration histogram::mean() const noexcept {
  if (count_ == 0) return clock::duration::zero();
  if (sum_high_ == 0) {
    const std::uint64_t rest = sum_low_ % count_;
    return clock::duration(static_cast<clock::rep>(sum_low_ / count_ + (rest >= count_ - rest)));
  }
  const long double exact = (static_cast<long double>(sum_high_) * 0x1p64L + static_cast<long double>(sum_low_)) /
                            static_cast<long double>(count_);
  if (exact >= static_cast<long double>(max_.count())) return max_;  // where a long double has no more digits
  return clock::duration(static_cast<clock::rep>(exact + 0.5L));
}

inline clock::duration histogram::quantile(double q) const {
  if (!(q >= 0 && q <= 1)) {
    char text[128];
    std::snprintf(text, sizeof text, "tandem::histogram::quantile: q is %g; it must be between 0 and 1", q);
    throw std::invalid_argument(text);
  }
  return of_rank(rank_of(q));
}

inline latency_summary histogram::summary() const noexcept {
  return {.count = count(),
          .min = min(),
          .mean = mean(),
          .p50 = of_rank(rank_of(0.50)),
          .p95 = of_rank(rank_of(0.95)),
          .p99 = of_rank(rank_of(0.99)),
          .max = max()};
}

/// How many of those recorded make a part q. A q that was meant to be 7/100 is a little more than that as a double;
/// times 100 it must give 7, not 8.
inline std::uint64_t histogram::rank_of(double q) const noexcept {
  if (q >= 1) return count_;
  constexpr long double exactly = 1 - std::numeric_limits<double>::epsilon();
  const long double rank = static_cast<long double>(q) * exactly * static_cast<long double>(count_);
  const auto whole = static_cast<std::uint64_t>(rank);
  return whole + (static_cast<long double>(whole) < rank);
}

inline clock::duration histogram::of_rank(std::uint64_t rank) const noexcept {
  if (rank <= 1) return min();
  if (rank >= count_) return max();
  std::size_t bucket = bucket_of(static_cast<std::uint64_t>(min_.count()));
  for (std::uint64_t passed = counts_[bucket]; passed < rank;) passed += counts_[++bucket];
  const clock::duration middle(static_cast<clock::rep>(middle_of(bucket)));
  return middle < min_ ? min_ : middle > max_ ? max_ : middle;
}

inline void histogram::merge(const histogram& other) noexcept {
  for (std::size_t i = 0; i != buckets; ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  add_to_sum(other.sum_high_, other.sum_low_);
  span(other.min_, other.max_);
}

inline void histogram::throw_negative(clock::duration d) {
  char text[128];
  std::snprintf(text, sizeof text, "tandem::histogram::record: the duration is %lld ns; it must not be negative",
                static_cast<long long>(d.count()));
  throw std::invalid_argument(text);
}

inline void gauge::add(std::int64_t n) noexcept {
  std::int64_t sum = 0;
  if (__builtin_add_overflow(value_, n, &sum))
    sum = n > 0 ? std::numeric_limits<std::int64_t>::max() : std::numeric_limits<std::int64_t>::min();
  set(sum);
}
inline void gauge::sub(std::int64_t n) noexcept {
  std::int64_t rest = 0;
  if (__builtin_sub_overflow(value_, n, &rest))
    rest = n < 0 ? std::numeric_limits<std::int64_t>::max() : std::numeric_limits<std::int64_t>::min();
  set(rest);
}

namespace detail {

/// Reads the lines of /proc/self/status as they come: the list of groups before those that matter may be long.
class memory_reader {
 public:
  void read(std::string_view text) noexcept {
    for (const char c : text) {
      if (c == '\n')
        end_line();
      else if (length_ != sizeof line_)
        line_[length_++] = c;
    }
  }
  memory_usage found;

 private:
  void end_line() noexcept {
    const std::string_view line(line_, length_);
    length_ = 0;
    if (line.starts_with("VmRSS:"))
      found.resident = bytes(line);
    else if (line.starts_with("VmHWM:"))
      found.peak_resident = bytes(line);
    else if (line.starts_with("VmSize:"))
      found.virtual_size = bytes(line);
  }
  /// "VmRSS:	    1416 kB"
  static std::uint64_t bytes(std::string_view line) noexcept {
    std::uint64_t n = 0;
    for (const char c : line)
      if (c >= '0' && c <= '9') n = n * 10 + static_cast<std::uint64_t>(c - '0');
    return n * 1'024;
  }
  char line_[64];
  std::size_t length_ = 0;
};

}  // namespace detail

inline memory_usage process_memory() noexcept {
  memory_usage m;
#if defined(__linux__)
  // Not getrusage: its peak is that of the program which was replaced by this one, if that was larger.
  if (const int file = ::open("/proc/self/status", O_RDONLY | O_CLOEXEC); file >= 0) {
    detail::memory_reader reader;
    char text[1'024];
    for (auto n = ::read(file, text, sizeof text); n > 0; n = ::read(file, text, sizeof text))
      reader.read({text, static_cast<std::size_t>(n)});
    ::close(file);
    m = reader.found;
  }
#endif
#if __has_include(<sys/resource.h>)
#if defined(__APPLE__)
  constexpr std::uint64_t unit = 1;
#else
  constexpr std::uint64_t unit = 1'024;
#endif
  if (rusage used{}; m.peak_resident == 0 && ::getrusage(RUSAGE_SELF, &used) == 0)
    m.peak_resident = static_cast<std::uint64_t>(used.ru_maxrss) * unit;
#endif
  return m;
}

}  // namespace tandem::inline TANDEM_CONFIG
