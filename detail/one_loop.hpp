// tandem/detail/one_loop.hpp: notices that coroutines of two loops wait on what is made for one.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "loop.hpp"

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>

static_assert(TANDEM_VERSION == 100, "tandem/detail/one_loop.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// A member of a primitive that has no lock. It remembers the loop of the first waiter. A loop that has gone is
/// forgotten, and loops of equal executors count as one, since their coroutines never run at the same time.
class one_loop {
 public:
  /// Before a coroutine of `l` waits. Throws std::logic_error if it belongs elsewhere. One comparison, as a rule.
  void check(const loop& l, const char* type, const char* instead) {
    if (number_.load(std::memory_order_relaxed) != l.number()) [[unlikely]]
      settle_at(l, type, instead);
  }

 private:
  [[gnu::cold, gnu::noinline]] void settle_at(const loop& l, const char* type, const char* instead) {
    const std::uint64_t mine = number_.load(std::memory_order_relaxed);
    if (mine != 0 && loop::is_apart_from(l, mine))
      throw std::logic_error(std::string("tandem::") + type +
                             ": a coroutine of another loop waits on it, and it has no lock; " + instead);
    number_.store(l.number(), std::memory_order_relaxed);
  }

  std::atomic<std::uint64_t> number_{0};  // atomic for those who break the rule
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
