// tandem/detail/loop_watcher.hpp: what records, on behalf of a user's object, what the coroutines of loops do.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "frame.hpp"
#include "loop.hpp"

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/detail/loop_watcher.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// The end of a timeline, or of its like, that loops know: of those made on its thread between `open` and `close`.
///
/// They keep a plain pointer to it and may live longer than what it records for, so it stays until every loop that was
/// made meanwhile has gone. Of two on one thread the loops know the later one, which passes on to the earlier one.
/// Derived classes are told by `starts_or_goes_on` and so on, one call at a time, until it is closed.
class loop_watcher : public tracer {
 public:
  /// Makes it the one of this thread.
  void open() noexcept {
    loops_alive& loops = loops_alive::get();
    const std::scoped_lock lock(loops.mutex);
    first_loop_ = loops.last_number + 1;
    passes_on_to_ = outer_ = std::exchange(of_this_thread(), this);
    next_ = std::exchange(all(), this);
  }
  /// On the thread that opened it. Destroys every watcher that no loop can know any more.
  void close() noexcept {
    {
      const std::scoped_lock lock(mutex_);
      is_closed_ = true;
      forget();
    }
    loop_watcher* unknown = nullptr;
    {
      loops_alive& loops = loops_alive::get();
      const std::scoped_lock lock(loops.mutex);
      last_loop_ = loops.last_number;
      if (of_this_thread() == this) leave(of_this_thread());
      for (loop_watcher* w = all(); w; w = w->next_)  // not the latest one: they may go in any order
        if (w->outer_ == this) leave(w->outer_);
      for (loop_watcher** place = &all(); loop_watcher* w = *place;) {  // the later one comes first
        if (w->is_known(loops)) {
          place = &w->next_;
        } else {
          *place = w->next_;
          w->next_ = std::exchange(unknown, w);
        }
      }
    }
    while (unknown) delete std::exchange(unknown, unknown->next_);
  }
  /// How many there are, those included that only loops know; for tests.
  static std::size_t count() noexcept {
    const std::scoped_lock lock(loops_alive::get().mutex);
    std::size_t n = 0;
    for (const loop_watcher* w = all(); w; w = w->next_) ++n;
    return n;
  }

 protected:
  loop_watcher() = default;
  virtual ~loop_watcher() = default;

  virtual void starts_or_goes_on(loop&, frame&, bool starts) noexcept = 0;
  virtual void waits(loop&, frame&) noexcept = 0;
  virtual void has_ended(loop&, frame&, fate) noexcept = 0;
  virtual void never_awaited(loop*, frame&) noexcept {}
  /// Gives up its memory.
  virtual void forget() noexcept = 0;

  mutable std::mutex mutex_;  // loops of one thread may run on others

 private:
  void resumes(loop& l, frame& f, bool starts) noexcept final {
    note([&] { starts_or_goes_on(l, f, starts); });
    if (passes_on_to_) passes_on_to_->resumes(l, f, starts);
  }
  void suspends(loop& l, frame& f) noexcept final {
    note([&] { waits(l, f); });
    if (passes_on_to_) passes_on_to_->suspends(l, f);
  }
  void ends(loop& l, frame& f, fate how) noexcept final {
    note([&] { has_ended(l, f, how); });
    if (passes_on_to_) passes_on_to_->ends(l, f, how);
  }
  void was_never_awaited(loop* l, frame& f) noexcept final {
    note([&] { never_awaited(l, f); });
    if (passes_on_to_) passes_on_to_->was_never_awaited(l, f);
  }
  /// What a user's function does that is called from there is not noted.
  template <class Event>
  void note(Event event) noexcept {
    bool& notes = this_thread_notes();
    if (notes) return;
    const std::scoped_lock lock(mutex_);
    if (is_closed_) return;
    notes = true;
    event();
    notes = false;
  }
  /// Not inlined: see clock.hpp.
  [[gnu::noinline]] static bool& this_thread_notes() noexcept {
    static constinit thread_local bool notes = false;
    return notes;
  }

  bool is_known(const loops_alive& loops) const noexcept {
    if (!has_left_) return true;
    for (const loop* l = loops.first; l; l = loops_alive::next(*l))
      if (l->number() >= first_loop_ && l->number() <= last_loop_) return true;
    for (const loop_watcher* w = all(); w != this; w = w->next_)
      if (w->passes_on_to_ == this) return true;
    return false;
  }
  /// `latest` is where a thread, or a later watcher, points to this one.
  void leave(tracer*& latest) noexcept {
    latest = outer_;
    has_left_ = true;
  }

  /// Like all that is below but `is_closed_`, under the mutex of the loops.
  static loop_watcher*& all() noexcept {
    static constinit loop_watcher* first = nullptr;
    return first;
  }
  tracer* outer_ = nullptr;         // who is the thread's again when this one leaves
  tracer* passes_on_to_ = nullptr;  // who was the thread's when this one was opened; loops read it
  loop_watcher* next_ = nullptr;
  std::uint64_t first_loop_ = 0, last_loop_ = 0;
  bool has_left_ = false;  // closed, and no thread gives it to new loops
  bool is_closed_ = false;
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
