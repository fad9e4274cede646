// tandem/detail/random.hpp: random numbers for shuffled schedules and for jitter.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../clock.hpp"

#include <cstdint>

static_assert(TANDEM_VERSION == 100, "tandem/detail/random.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
inline std::uint64_t split_mix(std::uint64_t& state) noexcept {
  std::uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/// Each program draws others, but a simulation the same each time.
class random_source {
 public:
  /// At least 0, and less than 1.
  double part() noexcept {
    if (state_ == 0 && !virtual_now()) state_ = static_cast<std::uint64_t>(real_now().time_since_epoch().count());
    return static_cast<double>(split_mix(state_) >> 11) * 0x1p-53;
  }
  /// `d` without a random part of it, at most that fraction; the longest of all stays as it is.
  clock::duration shortened(clock::duration d, double fraction) noexcept {
    if (fraction == 0 || d == clock::duration::max()) return d;
    return d - std::chrono::duration_cast<clock::duration>(d * (fraction * part()));
  }

 private:
  std::uint64_t state_ = 0;
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
