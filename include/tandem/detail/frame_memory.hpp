// tandem/detail/frame_memory.hpp: where coroutine frames live: a bounded free list per thread and size.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"

#include <atomic>
#include <cstddef>
#include <new>

namespace tandem::inline TANDEM_CONFIG::detail {

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

/// Freed frames by size class, kept for the next frame of that size on this thread. At most `limit` bytes; what exceeds
/// it, and every frame above 1 KiB, goes back to the heap. A frame may be freed by another thread than the one that
/// made it. A hit costs a few instructions where the heap costs 6 to 50 ns.
class frame_memory {
 public:
  [[gnu::always_inline]] void* allocate(std::size_t size) {
    const std::size_t c = size_class(size);
    if (c >= classes) return ::operator new(size);
    block* b = free_[c];
    if (!b) return ::operator new(bytes_of(c));
    free_[c] = b->next;
    room_ += bytes_of(c);
    return b;
  }
  [[gnu::always_inline]] void deallocate(void* p, std::size_t size) noexcept {
    const std::size_t c = size_class(size);
    if (c >= classes || room_ < bytes_of(c)) return give_back(p, c);
    free_[c] = ::new (p) block{free_[c]};
    room_ -= bytes_of(c);
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
  static constexpr std::size_t granule = 16;
  static constexpr std::size_t classes = 1024 / granule;
  static constexpr std::size_t limit = std::size_t(32) << 20;

  // Odd multiples of 8: that is what fits into the chunks of malloc, whose header is 8.
  static constexpr std::size_t size_class(std::size_t size) noexcept { return (size + 7) / granule; }
  static constexpr std::size_t bytes_of(std::size_t c) noexcept { return c * granule + 8; }

  // The slow path: the first frame that this thread gives back (there is no room yet), and those beyond the limit.
  [[gnu::noinline]] void give_back(void* p, std::size_t c) noexcept {
    ::operator delete(p);
    if (cleaned_ || c >= classes) return;
    cleaned_ = true;
    room_ = limit;
    static thread_local at_thread_exit cleaner;
    cleaner.memory = this;
  }
  struct at_thread_exit {
    frame_memory* memory = nullptr;
    ~at_thread_exit() { memory->end(); }
  };
  void end() noexcept {
    for (block*& head : free_)
      while (block* b = head) {
        head = b->next;
        ::operator delete(b);
      }
    room_ = 0;  // thread-locals destroyed after this one may still free frames: they go to the heap
  }

  block* free_[classes]{};
  std::size_t room_ = 0;  // for more, in bytes
  bool cleaned_ = false;  // by now, or when the thread ends
};

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
