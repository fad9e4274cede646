// tandem/detail/frame_memory.hpp: where coroutine frames live: a bounded free list per thread and size.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"

#include <atomic>
#include <cstddef>
#include <new>

namespace tandem::inline TANDEM_CONFIG::detail {

/// Freed frames by size class, kept for the next frame of that size on this thread. It keeps at most as many as it had
/// to fetch from the heap, so a thread that only frees what others make keeps none, and nobody's lists grow with time.
/// When it has fetched `limit` bytes, it gives back what it keeps and starts anew. Frames of 1 KiB and more are the
/// heap's. A hit costs a few instructions where the heap costs 6 to 50 ns.
class frame_memory {
 public:
  [[gnu::always_inline]] void* allocate(std::size_t size) {
    const std::size_t c = size_class(size);
    if (c >= classes) return ::operator new(size);
    shelf& s = shelves_[c];
    block* b = s.first;
    if (!b) return fetch(c);
    s.first = b->next;
    ++s.room;
    return b;
  }
  [[gnu::always_inline]] void deallocate(void* p, std::size_t size) noexcept {
    const std::size_t c = size_class(size);
    if (c >= classes || shelves_[c].room == 0) return ::operator delete(p);
    shelf& s = shelves_[c];
    s.first = ::new (p) block{s.first};
    --s.room;
  }

  /// This thread's. Trivially constructed, so that reaching it is one address computation.
  static frame_memory& of_this_thread() noexcept {
    static constinit thread_local frame_memory memory;
    return memory;
  }

 private:
  struct block {
    block* next;
  };
  struct shelf {
    block* first = nullptr;
    std::size_t room = 0;  // for how many more
  };
  static constexpr std::size_t granule = 16;
  static constexpr std::size_t classes = 1024 / granule;
  static constexpr std::size_t limit = std::size_t(32) << 20;

  // Odd multiples of 8: that is what fits into the chunks of malloc, whose header is 8.
  static constexpr std::size_t size_class(std::size_t size) noexcept { return (size + 7) / granule; }
  static constexpr std::size_t bytes_of(std::size_t c) noexcept { return c * granule + 8; }

  [[gnu::noinline]] void* fetch(std::size_t c) {
    void* p = ::operator new(bytes_of(c));
    if (ended_) return p;
    static thread_local const at_thread_exit cleaner(*this);
    if (fetched_ >= limit) give_back();
    fetched_ += bytes_of(c);
    ++shelves_[c].room;
    return p;
  }
  void give_back() noexcept {
    for (shelf& s : shelves_) {
      while (block* b = s.first) {
        s.first = b->next;
        ::operator delete(b);
      }
      s.room = 0;
    }
    fetched_ = 0;
  }

  // Thread-locals that are destroyed after it may still make and free frames: they are the heap's.
  struct at_thread_exit {
    explicit at_thread_exit(frame_memory& memory) noexcept : memory_(memory) {}
    ~at_thread_exit() {
      memory_.give_back();
      memory_.ended_ = true;
    }
    frame_memory& memory_;
  };

  shelf shelves_[classes]{};
  std::size_t fetched_ = 0;  // bytes, since it began anew
  bool ended_ = false;
};

#if defined(TANDEM_PLAIN_FRAMES)

/// How many frames there are: tests see with it that none outlives its scope.
inline std::atomic<long> live_frames{0};

inline void* allocate_frame(std::size_t size) {
  void* p = ::operator new(size);
  live_frames.fetch_add(1, std::memory_order_relaxed);
  return p;
}
inline void deallocate_frame(void* p, std::size_t) noexcept {
  live_frames.fetch_sub(1, std::memory_order_relaxed);
  ::operator delete(p);
}

#else

// Not inlined by clang, which may keep the address of a thread-local across a suspension.
#if defined(__clang__)
#define TANDEM_THREAD_LOCAL_ACCESS [[gnu::noinline]]
#else
#define TANDEM_THREAD_LOCAL_ACCESS [[gnu::always_inline]]
#endif

TANDEM_THREAD_LOCAL_ACCESS inline void* allocate_frame(std::size_t size) {
  return frame_memory::of_this_thread().allocate(size);
}
TANDEM_THREAD_LOCAL_ACCESS inline void deallocate_frame(void* p, std::size_t size) noexcept {
  frame_memory::of_this_thread().deallocate(p, size);
}

#endif

}  // namespace tandem::inline TANDEM_CONFIG::detail
