// tests/soak/faults.hpp: memory that runs out now and then, inside loops only.
#pragma once

#include <atomic>
#include <utility>

namespace soak::memory {

/// Of so many allocations by operator new on a thread that runs a loop one fails, by chance; 0: none does. Asio's memory for its
/// operations and its strands comes from elsewhere (std::aligned_alloc) and never fails: a strand that has none keeps
/// its lock for ever (docs/design/failures.md), so a soak on strands would be one of Asio's.
inline std::atomic<long> every{0};
/// Those that failed.
inline std::atomic<long> failed{0};

/// While it lives, no allocation of this thread fails. Nothing may be awaited meanwhile.
class spare {
 public:
  spare() noexcept : outer_(std::exchange(here(), true)) {}
  ~spare() { here() = outer_; }
  spare(const spare&) = delete;
  spare& operator=(const spare&) = delete;

  static bool is_here() noexcept { return here(); }

 private:
  /// Not inlined: see clock.hpp.
  [[gnu::noinline]] static bool& here() noexcept {
    static constinit thread_local bool spared = false;
    return spared;
  }
  bool outer_;
};

}  // namespace soak::memory
