// tandem/detail/frame_memory.hpp: where coroutine frames live: free lists of the thread that makes them.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"

#include <atomic>
#include <cstddef>
#include <mutex>
#include <new>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/detail/frame_memory.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// Where the frames of a thread come back to. It is there for good, since they may outlive the thread: the next thread
/// that needs one takes it over.
struct frame_home {
  struct block {
    block* next;
    std::size_t size_class;  // while it is on its way home
  };
  std::atomic<block*> returned{nullptr};
  std::size_t bytes = 0;  // of all its frames
  frame_home* next_empty = nullptr;
};
/// That of frames that go to the heap.
inline constinit frame_home no_home;

/// Freed frames by size class, kept for the next frame of that size on this thread. Every frame comes back to the thread
/// that made it: another one that frees it puts it on a list, which the maker takes when it has no more of a size. So a
/// thread keeps at most what it has had in use at one time, and at most `limit` bytes; frames beyond that, and those
/// above 1 KiB, are the heap's. A hit costs a few instructions where the heap costs 6 to 50 ns.
class frame_memory {
 public:
  [[gnu::always_inline]] void* allocate(std::size_t size) {
    const std::size_t c = size_class(size);
    if (c >= classes) return ::operator new(size);
    block* b = kept_[c];
    if (!b) return fetch(c);
    kept_[c] = b->next;
    return b;
  }
  [[gnu::always_inline]] void deallocate(void* p, std::size_t size) noexcept {
    const std::size_t c = size_class(size);
    if (c >= classes) return ::operator delete(p);
    if (home_of(p, c) != home_) return send_home(p, c);
    keep(p, c);
  }

  /// This thread's. Trivially constructed, so that reaching it is one address computation.
  static frame_memory& of_this_thread() noexcept {
    static constinit thread_local frame_memory memory;
    return memory;
  }

  static constexpr std::size_t limit = std::size_t(64) << 20;

 private:
  using home = frame_home;
  using block = home::block;
  static constexpr std::size_t granule = 16;
  static constexpr std::size_t classes = 1024 / granule + 1;

  // Behind a frame is its home. Odd multiples of 8 fit into the chunks of malloc, whose header is 8.
  static constexpr std::size_t size_class(std::size_t size) noexcept { return (size + granule - 1) / granule; }
  static constexpr std::size_t bytes_of(std::size_t c) noexcept { return c * granule + sizeof(home*); }
  static home*& home_of(void* p, std::size_t c) noexcept {
    return *reinterpret_cast<home**>(static_cast<char*>(p) + c * granule);
  }

  [[gnu::always_inline]] void keep(void* p, std::size_t c) noexcept {
    block* b = ::new (p) block;
    b->next = kept_[c];
    kept_[c] = b;
  }

  // A miss.
  [[gnu::noinline]] void* fetch(std::size_t c) {
    if (!home_ && !ended_) move_in();
    if (home_) {
      take_returned();
      if (block* b = kept_[c]) {
        kept_[c] = b->next;
        return b;
      }
      if (home_->bytes >= limit && misses_beyond_limit_++ % 1024 == 0) give_back();  // of sizes that are not asked for
    }
    void* p = ::operator new(bytes_of(c));
    const bool is_ours = home_ && home_->bytes < limit;
    ::new (&home_of(p, c)) home*(is_ours ? home_ : &no_home);
    if (is_ours) home_->bytes += bytes_of(c);
    return p;
  }

  // The frame of another thread, or one that goes to the heap.
  [[gnu::noinline]] static void send_home(void* p, std::size_t c) noexcept {
    home* h = home_of(p, c);
    if (h == &no_home) return ::operator delete(p);
    block* b = ::new (p) block{h->returned.load(std::memory_order_relaxed), c};
    while (!h->returned.compare_exchange_weak(b->next, b, std::memory_order_release, std::memory_order_relaxed)) {
    }
  }
  void take_returned() noexcept {
    if (!home_->returned.load(std::memory_order_relaxed)) return;
    for (block* b = home_->returned.exchange(nullptr, std::memory_order_acquire); b;) {
      block* next = b->next;
      keep(b, b->size_class);
      b = next;
    }
  }
  void give_back() noexcept {
    for (std::size_t c = 0; c != classes; ++c)
      while (block* b = kept_[c]) {
        kept_[c] = b->next;
        home_->bytes -= bytes_of(c);
        ::operator delete(b);
      }
  }

  struct empty_homes {
    std::mutex mutex;
    home* first = nullptr;
    /// Never destroyed: threads may end after the statics are gone.
    static empty_homes& get() {
      static empty_homes& all = *new empty_homes;
      return all;
    }
  };
  void move_in() {
    empty_homes& all = empty_homes::get();
    static thread_local const at_thread_exit cleaner(*this);
    const std::scoped_lock lock(all.mutex);
    if (!all.first) all.first = new home;
    home_ = std::exchange(all.first, all.first->next_empty);
  }
  // Thread-locals that are destroyed after it may still make and free frames: they are the heap's.
  struct at_thread_exit {
    explicit at_thread_exit(frame_memory& memory) noexcept : memory_(memory) {}
    ~at_thread_exit() { memory_.move_out(); }
    frame_memory& memory_;
  };
  void move_out() noexcept {
    ended_ = true;
    if (!home_) return;
    take_returned();
    give_back();
    empty_homes& all = empty_homes::get();
    const std::scoped_lock lock(all.mutex);
    home_->next_empty = all.first;
    all.first = std::exchange(home_, nullptr);
  }

  block* kept_[classes]{};
  home* home_ = nullptr;  // from the first frame to the end of the thread
  std::size_t misses_beyond_limit_ = 0;
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
