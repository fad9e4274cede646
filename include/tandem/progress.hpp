// tandem/progress.hpp: who is told how far a gather, transform, for_each or as_completed is: progress_observer.
// Version 0.1.0. Needs C++20.
// needs: asio.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"

#include <cstddef>
#include <optional>
#include <type_traits>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/progress.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// How a child ended: with a value, with an error, or stopped.
enum class progress_ending : unsigned char { succeeded, failed, stopped };

/// Is told what the children of an awaiting do, while they do it: `co_await gather(observed_by(bar), a(), b())`.
///
/// It hears `on_begin`, then of each child that starts `on_start` and later `on_end`, and last `on_finish`, in the
/// order in which these things happen. However it ends: failures, a stop from outside, the context destroyed. Children
/// that never start are not mentioned: they are the total less those that started, so that after `on_finish`
///
///   total = succeeded + failed + stopped + never started.
///
/// `index` is the place among the arguments, in the vector, or in the range, counted from 0. The functions are called
/// on the loop, between resumptions of coroutines, and should be quick. They may ask for a stop, which takes effect
/// after they have returned; they must not destroy what is observed. The observer must outlive the awaiting, or the
/// stream of an `as_completed`. It may observe one thing after the other; of several at once it cannot tell whose child
/// it hears of.
class progress_observer {
 public:
  /// The first is about to start. `total` is how many there are, if that is known.
  virtual void on_begin(std::optional<std::size_t> total) noexcept = 0;
  /// There are `total`: a range or a stream that could not tell before has come to its end, or has another size by now.
  virtual void on_total(std::size_t total) noexcept;
  /// A child starts; the function of a `transform` or `for_each` is about to be called.
  virtual void on_start(std::size_t index) noexcept;
  /// It has ended, and its frame is gone.
  virtual void on_end(std::size_t index, progress_ending how) noexcept = 0;
  /// All have ended; nothing more will be told.
  virtual void on_finish() noexcept;

  virtual ~progress_observer() = default;
};

/// The first argument of what is to be observed; the others are as they would be without it.
class observed_by {
 public:
  explicit observed_by(progress_observer& observer) noexcept : observer_(&observer) {}
  template <class Observer>
  requires(!std::is_lvalue_reference_v<Observer> &&
           std::is_base_of_v<progress_observer, Observer>) explicit observed_by(Observer&&) {
    static_assert(std::is_void_v<Observer>,
                  "the observer outlives what it observes: give it a name, observed_by(name)");
  }
  progress_observer& observer() const noexcept { return *observer_; }

 private:
  progress_observer* observer_ = nullptr;
};

/// What an observer has heard, added up.
struct progress_counts {
  std::optional<std::size_t> total;
  std::size_t started = 0, succeeded = 0, failed = 0, stopped = 0;

  std::size_t ended() const noexcept { return succeeded + failed + stopped; }
  std::size_t under_way() const noexcept { return started - ended(); }
  /// Not yet, or, after the end, never. Unknown without a total.
  std::optional<std::size_t> not_started() const noexcept {
    return total ? std::optional(*total > started ? *total - started : 0) : std::nullopt;
  }
  friend bool operator==(const progress_counts&, const progress_counts&) = default;
};

/// An observer that counts. What it observes after something has finished, it counts from zero again; of several things
/// at once it counts the sum, and knows a total if all of them knew theirs when they began and none has changed it.
class progress_counter : public progress_observer {
 public:
  const progress_counts& counts() const noexcept { return counts_; }
  /// Something has begun that has not finished.
  bool is_active() const noexcept { return active_ != 0; }

  void on_begin(std::optional<std::size_t> total) noexcept override;
  void on_total(std::size_t total) noexcept override;
  void on_start(std::size_t index) noexcept override;
  void on_end(std::size_t index, progress_ending how) noexcept override;
  void on_finish() noexcept override;

 private:
  progress_counts counts_;
  std::size_t active_ = 0;
  bool several_ = false;  // since it last began from zero
};

// ---- implementation ------------------------------------------------------------------------------------------------

inline void progress_observer::on_total(std::size_t) noexcept {}
inline void progress_observer::on_start(std::size_t) noexcept {}
inline void progress_observer::on_finish() noexcept {}

inline void progress_counter::on_begin(std::optional<std::size_t> total) noexcept {
  several_ = active_++ != 0;
  if (!several_)
    counts_ = {.total = total};
  else
    counts_.total = total && counts_.total ? std::optional(*counts_.total + *total) : std::nullopt;
}
inline void progress_counter::on_total(std::size_t total) noexcept {
  counts_.total = several_ ? std::nullopt : std::optional(total);
}
inline void progress_counter::on_start(std::size_t) noexcept { ++counts_.started; }
inline void progress_counter::on_end(std::size_t, progress_ending how) noexcept {
  ++(how == progress_ending::succeeded ? counts_.succeeded
     : how == progress_ending::failed  ? counts_.failed
                                       : counts_.stopped);
}
inline void progress_counter::on_finish() noexcept { --active_; }

namespace detail {

/// A gather and its like have one of these two. What is not observed does not pay for it.
struct unobserved {
  static constexpr bool tells = false;
  static constexpr bool has_begun() noexcept { return false; }
  void begin(std::size_t) noexcept {}
  void total(std::size_t) noexcept {}
  void start(std::size_t) noexcept {}
  void end(std::size_t, progress_ending) noexcept {}
  void finish() noexcept {}
};

class observed {
 public:
  static constexpr bool tells = true;

  explicit observed(observed_by o) noexcept : observer_(&o.observer()) {}

  void begin(std::optional<std::size_t> total) noexcept {
    state_ = begun;
    total_ = total;
    observer_->on_begin(total);
  }
  void total(std::size_t n) noexcept {
    if (std::exchange(total_, n) != n) observer_->on_total(n);
  }
  void start(std::size_t index) noexcept { observer_->on_start(index); }
  void end(std::size_t index, progress_ending how) noexcept { observer_->on_end(index, how); }
  void end(std::size_t index, bool was_stopped, bool has_failed) noexcept {
    end(index, was_stopped  ? progress_ending::stopped
               : has_failed ? progress_ending::failed
                            : progress_ending::succeeded);
  }
  /// Once, if it has begun.
  void finish() noexcept {
    if (std::exchange(state_, finished) == begun) observer_->on_finish();
  }
  bool has_begun() const noexcept { return state_ == begun; }

 private:
  progress_observer* observer_;
  std::optional<std::size_t> total_;
  enum : unsigned char { idle, begun, finished } state_ = idle;
};

}  // namespace detail

}  // namespace tandem::inline TANDEM_CONFIG
