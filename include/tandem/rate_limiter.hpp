// tandem/rate_limiter.hpp: so many in so long: rate_limiter, keyed_rate_limiter.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, detail/alarm.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/lru_table.hpp, detail/one_loop.hpp, detail/random.hpp, detail/timer_heap.hpp, detail/tracer.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "exceptions.hpp"

#include "detail/alarm.hpp"
#include "detail/loop.hpp"
#include "detail/lru_table.hpp"
#include "detail/waiting.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>  // std::hash, std::equal_to
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/rate_limiter.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// In any time t at most `burst + rate * t / per` are allowed: tokens come at `rate` each `per`, exactly, and up to
/// `burst` of them are kept for later. (The leaky bucket as a meter: Turner, "New directions in communications", 1986.)
struct token_bucket {
  std::size_t rate = 0, burst = 1;
  clock::duration per = std::chrono::seconds(1);
};

/// The same guarantee in eight bytes: each request has its turn, `per / rate` after the one before, and may come before
/// it by what `burst` allows. That interval is rounded up to whole nanoseconds. (The generic cell rate algorithm: ITU-T
/// I.371.)
struct gcra {
  std::size_t rate = 0, burst = 1;
  clock::duration per = std::chrono::seconds(1);
};

/// In no `window` of time, wherever it begins, are more than `limit` allowed. Exact, and so it remembers when: sixteen
/// bytes for each request in the window.
struct sliding_window {
  std::size_t limit = 0;
  clock::duration window = std::chrono::seconds(1);
};

/// What is said to a request; tests as `allowed`.
struct rate_verdict {
  bool allowed = false;
  std::size_t remaining = 0;      ///< so many more would be allowed now
  clock::duration retry_after{};  ///< exactly then it would be, if nobody else asks meanwhile; zero if it is
  explicit operator bool() const noexcept { return allowed; }
};

struct rate_limiter_stats {
  std::uint64_t allowed = 0, denied = 0;  ///< requests; denied are those of `try_acquire`
  std::uint64_t waited = 0, gave_up = 0;  ///< of `acquire`: those that began to wait; of these, those that were stopped
  std::size_t waiting = 0;
};

namespace detail {
class rate_core;
class rate_request;
class rate_waiter;
class rate_limits;
void disown(rate_core&) noexcept;
}  // namespace detail

/// So many in so long: `co_await limit.acquire()` waits for the turn, `limit.try_acquire()` says whether it is now.
///
/// First come, first served, whatever number is asked for, and `try_acquire` overtakes nobody who waits. One timer
/// wakes the first in line, in its loop's turn. A stop takes a waiter out of the line; nothing was taken for it, or it
/// is given back if it never runs. Whoever waits when the limiter is destroyed gets `cancelled`, if that happens on his
/// loop.
///
/// Of several limits all must allow a request, and none is charged otherwise.
///
/// For the coroutines of one loop, on its clock as of the loop's turn. Elsewhere `try_acquire` throws std::logic_error.
/// Asking costs a few instructions for each limit and allocates nothing (a `sliding_window`: up to `limit` entries); a
/// `try_acquire` while others wait goes through their line, with a copy of the limits.
class rate_limiter {
 public:
  /// Throws std::invalid_argument for a rate, burst or limit of 0, for times that are not positive, and for a burst
  /// that takes more than 292 years to come.
  template <class... Limits>
  explicit rate_limiter(Limits... limits);
  ~rate_limiter();
  rate_limiter(const rate_limiter&) = delete;  // a limiter is shared: pass it by reference
  rate_limiter& operator=(const rate_limiter&) = delete;

  /// `co_await limit.acquire()`, `co_await limit.acquire(3)`: waits until so many are allowed. Does not suspend if they
  /// are now. Throws std::invalid_argument for 0, and for more than could ever be allowed at once.
  [[nodiscard("a wait begins when it is awaited")]] auto acquire(std::size_t count = 1);

  rate_verdict try_acquire(std::size_t count = 1);

  /// How many would be allowed now; 0 while somebody waits.
  std::size_t remaining() const;
  rate_limiter_stats stats() const;

 private:
  std::shared_ptr<detail::rate_core> core_;
};

/// A keyed limiter that has all the keys it may, each of them in use.
class too_many_keys : public std::runtime_error {
 public:
  too_many_keys() : std::runtime_error("tandem::too_many_keys") {}
};

struct keyed_rate_limiter_options {
  std::size_t max_keys = 10'000;  ///< at least 1
};

/// A `rate_limiter` for each key, of which there are never more than `max_keys`.
///
/// A key whose limits are full again, as if it had never asked, need not be remembered: when another comes, up to eight
/// of those that asked the longest time ago are looked at, and those that are so are forgotten. If all keys are in use,
/// a new one is denied (`acquire`: `too_many_keys`), since to forget one would be to let it start anew.
template <class Key, class Hash = std::hash<Key>, class Equal = std::equal_to<>>
class keyed_rate_limiter {
 public:
  /// Throws as `rate_limiter` does, and for `max_keys` of 0.
  template <class... Limits>
  explicit keyed_rate_limiter(keyed_rate_limiter_options options, Limits... limits);
  template <class... Limits>
  requires(!std::is_same_v<std::tuple_element_t<0, std::tuple<Limits..., int>>,
                           keyed_rate_limiter_options>) explicit keyed_rate_limiter(Limits... limits)
      : keyed_rate_limiter(keyed_rate_limiter_options(), limits...) {}

  template <class K = Key>
  [[nodiscard("a wait begins when it is awaited")]] auto acquire(const K& key, std::size_t count = 1);
  template <class K = Key>
  rate_verdict try_acquire(const K& key, std::size_t count = 1);
  /// Keys that are remembered.
  std::size_t size() const noexcept { return keys_.size(); }

 private:
  struct entry : detail::lru_link {
    Key key;
    std::uint64_t hash;
    std::size_t weight = 1;
    std::shared_ptr<detail::rate_core> core;
    entry(Key k, std::uint64_t h) : key(std::move(k)), hash(h) {}
    ~entry() {
      if (core) detail::disown(*core);
    }
  };
  /// Null if there are too many.
  template <class K>
  detail::rate_core* find(const K& key);
  /// When one of those that were looked at can be forgotten, if none could.
  clock::time_point forget_idle(clock::time_point now);

  keyed_rate_limiter_options options_;
  std::unique_ptr<const detail::rate_limits> limits_;  // of a new key
  [[no_unique_address]] Hash hash_;
  detail::lru_table<entry, Equal> keys_;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

[[noreturn, gnu::cold]] inline void refuse_rate(const std::string& what) {
  throw std::invalid_argument("tandem::rate_limiter: " + what);
}
inline void check_rate(std::size_t rate, std::size_t burst, clock::duration per, const char* policy) {
  const std::string name = policy;
  if (rate == 0) refuse_rate(name + ": the rate is 0; it must be at least 1");
  if (burst == 0) refuse_rate(name + ": the burst is 0; it must be at least 1");
  if (per <= clock::duration::zero())
    refuse_rate(name + ": per is " + std::to_string(per.count()) + " ns; it must be positive");
  if (burst > static_cast<std::uint64_t>(clock::duration::max().count() / per.count()))
    refuse_rate(name + ": a burst of " + std::to_string(burst) + " is too large for a period of " +
                std::to_string(per.count()) + " ns");
}
/// Of integers that are not negative.
inline std::int64_t divided_up(std::int64_t a, std::int64_t b) noexcept { return a / b + (a % b != 0); }

// A limit's state. `ready_at(n)` is when n could be taken, maybe in the past; `take` is called at no earlier time. What
// was taken `when` is given back: exactly as if it had not been, or, if that is no longer known, not at all.

/// Integers: a token is `per` parts, and `rate` parts come each nanosecond.
class bucket_state {
 public:
  explicit bucket_state(const token_bucket& b)
      : rate_(static_cast<std::int64_t>(std::min<std::uint64_t>(b.rate, INT64_MAX))), per_(b.per.count()) {
    check_rate(b.rate, b.burst, b.per, "token_bucket");
    level_ = full_ = static_cast<std::int64_t>(b.burst) * per_;
  }
  std::size_t most() const noexcept { return static_cast<std::size_t>(full_ / per_); }
  clock::time_point ready_at(std::size_t n) const noexcept {
    const std::int64_t missing = static_cast<std::int64_t>(n) * per_ - level_;
    return missing <= 0 ? last_ : saturated_sum(last_, clock::duration(divided_up(missing, rate_)));
  }
  std::size_t available(clock::time_point now) const noexcept { return static_cast<std::size_t>(level_at(now) / per_); }
  void take(std::size_t n, clock::time_point now) noexcept {
    level_ = level_at(now) - static_cast<std::int64_t>(n) * per_;
    last_ = std::max(last_, now);
  }
  void give_back(std::size_t n, clock::time_point, bool is_exact) noexcept {
    if (is_exact) level_ = std::min(full_, level_ + static_cast<std::int64_t>(n) * per_);
  }
  clock::time_point idle_at() const noexcept {
    return saturated_sum(last_, clock::duration(divided_up(full_ - level_, rate_)));
  }

 private:
  std::int64_t level_at(clock::time_point now) const noexcept {
    if (now <= last_) return level_;
    if (level_ == full_ || now >= idle_at()) return full_;
    return level_ + (now - last_).count() * rate_;
  }
  std::int64_t rate_, per_, full_ = 0, level_ = 0;
  clock::time_point last_ = clock::time_point::min();  // since then `level_` has grown
};

class gcra_state {
 public:
  explicit gcra_state(const gcra& g) {
    check_rate(g.rate, g.burst, g.per, "gcra");
    interval_ = clock::duration(
        divided_up(g.per.count(), static_cast<std::int64_t>(std::min<std::uint64_t>(g.rate, INT64_MAX))));
    burst_ = g.burst;
  }
  std::size_t most() const noexcept { return burst_; }
  clock::time_point ready_at(std::size_t n) const noexcept {
    const clock::duration early = times(burst_ - n);
    return turn_ < clock::time_point::min() + early ? clock::time_point::min() : turn_ - early;
  }
  std::size_t available(clock::time_point now) const noexcept {
    if (turn_ <= now) return burst_;
    const clock::duration free = times(burst_) - (turn_ - now);
    return free <= clock::duration::zero() ? 0 : static_cast<std::size_t>(free / interval_);
  }
  void take(std::size_t n, clock::time_point now) noexcept { turn_ = saturated_sum(std::max(turn_, now), times(n)); }
  void give_back(std::size_t n, clock::time_point, bool is_exact) noexcept {
    if (is_exact) turn_ -= times(n);
  }
  clock::time_point idle_at() const noexcept { return turn_; }

 private:
  clock::duration times(std::size_t n) const noexcept { return interval_ * static_cast<std::int64_t>(n); }
  clock::duration interval_;
  std::size_t burst_;
  clock::time_point turn_ = clock::time_point::min();  // of the next one
};

class window_state {
 public:
  explicit window_state(const sliding_window& w) : limit_(w.limit), window_(w.window) {
    if (w.limit == 0) refuse_rate("sliding_window: the limit is 0; it must be at least 1");
    if (w.window <= clock::duration::zero())
      refuse_rate("sliding_window: the window is " + std::to_string(w.window.count()) + " ns; it must be positive");
  }
  std::size_t most() const noexcept { return limit_; }
  clock::time_point ready_at(std::size_t n) const noexcept {
    std::size_t used = used_;
    clock::time_point at = clock::time_point::min();
    for (const event& e : events_) {
      if (n <= limit_ - used) break;
      used -= e.count;
      at = saturated_sum(e.when, window_);
    }
    return at;
  }
  std::size_t available(clock::time_point now) const noexcept {
    std::size_t used = used_;
    for (const event& e : events_) {
      if (saturated_sum(e.when, window_) > now) break;
      used -= e.count;
    }
    return limit_ - used;
  }
  /// May throw std::bad_alloc, and has taken nothing then.
  void take(std::size_t n, clock::time_point now) {
    while (!events_.empty() && saturated_sum(events_.front().when, window_) <= now) {
      used_ -= events_.front().count;
      events_.pop_front();
    }
    if (!events_.empty() && events_.back().when == now)
      events_.back().count += n;
    else
      events_.push_back({now, n});
    used_ += n;
  }
  void give_back(std::size_t n, clock::time_point when, bool) noexcept {
    for (event& e : events_)
      if (e.when == when) {  // otherwise its window is over
        e.count -= n;
        used_ -= n;
      }
  }
  clock::time_point idle_at() const noexcept {
    return events_.empty() ? clock::time_point::min() : saturated_sum(events_.back().when, window_);
  }

 private:
  struct event {
    clock::time_point when;
    std::size_t count;
  };
  std::size_t limit_, used_ = 0;
  clock::duration window_;
  std::deque<event> events_;
};

class any_rate {
 public:
  any_rate(const token_bucket& b) : state_(bucket_state(b)) {}
  any_rate(const gcra& g) : state_(gcra_state(g)) {}
  any_rate(const sliding_window& w) : state_(window_state(w)) {}
  template <class Function>
  decltype(auto) with(Function f) {
    return std::visit(f, state_);
  }
  template <class Function>
  decltype(auto) with(Function f) const {
    return std::visit(f, state_);
  }

 private:
  std::variant<bucket_state, gcra_state, window_state> state_;
};

/// Several limits as one.
class rate_limits {
 public:
  explicit rate_limits(std::vector<any_rate> all) : all_(std::move(all)) {}
  std::size_t most() const noexcept {
    return least([](const auto& l) { return l.most(); });
  }
  std::size_t available(clock::time_point now) const noexcept {
    return least([now](const auto& l) { return l.available(now); });
  }
  clock::time_point ready_at(std::size_t n) const noexcept {
    return latest([n](const auto& l) { return l.ready_at(n); });
  }
  clock::time_point idle_at() const noexcept {
    return latest([](const auto& l) { return l.idle_at(); });
  }
  /// All or none, if there is no memory.
  void take(std::size_t n, clock::time_point now) {
    const clock::time_point when = std::max(now, last_);  // whoever looks at the turn's time may be behind
    std::size_t taken = 0;
    try {
      for (; taken != all_.size(); ++taken) all_[taken].with([=](auto& l) { l.take(n, when); });
    } catch (...) {
      while (taken != 0) all_[--taken].with([=](auto& l) { l.give_back(n, when, true); });
      throw;
    }
    last_ = when;
    ++takes_;
  }
  /// Which take was the last, and when.
  std::uint64_t takes() const noexcept { return takes_; }
  clock::time_point last() const noexcept { return last_; }
  void give_back(std::size_t n, clock::time_point when, std::uint64_t take, clock::time_point now) noexcept {
    const bool is_exact = now <= when || take == takes_;
    for (any_rate& r : all_) r.with([=](auto& l) { l.give_back(n, when, is_exact); });
  }
  void check(std::size_t count) const {
    if (count == 0) refuse_rate("acquiring 0; it must be at least 1");
    if (count > most())
      refuse_rate("acquiring " + std::to_string(count) + " of at most " + std::to_string(most()) +
                  " would wait for ever");
  }

 private:
  template <class Function>
  std::size_t least(Function f) const noexcept {
    std::size_t n = all_.front().with(f);
    for (const any_rate& r : all_) n = std::min(n, r.with(f));
    return n;
  }
  template <class Function>
  clock::time_point latest(Function f) const noexcept {
    clock::time_point t = clock::time_point::min();
    for (const any_rate& r : all_) t = std::max(t, r.with(f));
    return t;
  }
  std::vector<any_rate> all_;
  clock::time_point last_ = clock::time_point::min();
  std::uint64_t takes_ = 0;
};

/// It lives as long as the limiter, or somebody who waits.
class rate_core : public std::enable_shared_from_this<rate_core> {
 public:
  explicit rate_core(rate_limits limits) : limits_(std::move(limits)) {}
  rate_core(const rate_core&) = delete;
  rate_core& operator=(const rate_core&) = delete;

  static loop& this_loop() {
    loop* l = loop::current();
    if (!l) throw std::logic_error("tandem::rate_limiter: used where no loop runs, and so there is no time");
    return *l;
  }
  void check(std::size_t count) const { limits_.check(count); }
  bool take(std::size_t count) {
    if (is_closed_) std::rethrow_exception(make_cancelled());
    const clock::time_point now = this_loop().batch_time();
    if (!line_.empty() || limits_.ready_at(count) > now) return false;
    limits_.take(count, now);
    ++stats_.allowed;
    return true;
  }
  rate_verdict ask(std::size_t count) {
    if (take(count)) return {true, remaining(), {}};
    ++stats_.denied;
    return {false, remaining(), retry_after(count)};
  }
  std::size_t remaining() const { return line_.empty() ? limits_.available(this_loop().batch_time()) : 0; }
  bool is_idle(clock::time_point now) const noexcept { return line_.empty() && limits_.idle_at() <= now; }
  clock::time_point idle_at() const noexcept { return limits_.idle_at(); }
  rate_limiter_stats stats() const noexcept {
    rate_limiter_stats s = stats_;
    s.waiting = line_.size();
    return s;
  }

  // For those who wait.
  void waits(rate_waiter& w, frame& f);
  void leaves(rate_waiter& w) noexcept;
  /// What was granted is not used.
  void gives_up(rate_waiter& w) noexcept;
  /// The limiter is gone.
  void disown() noexcept;

 private:
  friend alarm<rate_core>;
  friend rate_waiter;
  void on_alarm() noexcept { serve(); }
  rate_waiter& first() const noexcept;
  void serve() noexcept;
  /// As if those in line were served first.
  clock::duration retry_after(std::size_t count) const;

  rate_limits limits_;
  on_one_loop::line line_;
  alarm<rate_core> turn_{*this};  // of the first in line
  rate_limiter_stats stats_;
  on_one_loop::user user_;
  on_one_loop::mutex mutex_;
  bool is_serving_ = false, is_closed_ = false;
};

class rate_request {
 public:
  rate_request(std::shared_ptr<rate_core> c, std::size_t count) noexcept : core_(std::move(c)), count_(count) {}
  bool try_now() { return core_->take(count_); }
  void take() noexcept { core_.reset(); }

 protected:
  std::shared_ptr<rate_core> core_;
  std::size_t count_;
};

class rate_waiter final : public on_one_loop::waiter, rate_request {
 public:
  explicit rate_waiter(rate_request r) noexcept : rate_request(std::move(r)) {}
  rate_waiter(rate_waiter&& o) noexcept : rate_request(std::move(static_cast<rate_request&>(o))) {}
  ~rate_waiter() {
    if (wait_ == taken) core_->gives_up(*this);
  }
  const char* what() const noexcept override { return "rate_limiter"; }
  bool await_ready() {
    if (!this->try_now()) return false;
    grant();
    return true;
  }
  bool suspend(frame& f) {
    core_->waits(*this, f);
    return true;
  }
  void await_resume() {
    this->consume();
    core_.reset();
    if (failure_) std::rethrow_exception(failure_);
    wait_ = over;
  }
  std::exception_ptr failure() const noexcept { return failure_; }

 private:
  friend rate_core;
  void leave_line() noexcept override { core_->leaves(*this); }
  void grant() noexcept {
    wait_ = taken;
    when_ = core_->limits_.last();
    take_ = core_->limits_.takes();
  }
  enum : unsigned char { undecided, taken, over } wait_ = undecided;
  bool has_waited_ = false;
  clock::time_point when_{};  // it was taken
  std::uint64_t take_ = 0;
  std::exception_ptr failure_;
};

inline rate_waiter& rate_core::first() const noexcept { return static_cast<rate_waiter&>(line_.front()); }

inline void rate_core::waits(rate_waiter& w, frame& f) {
  user_.check(f, "rate_limiter", "make one for each loop");
  if (is_closed_) std::rethrow_exception(make_cancelled());
  if (line_.empty()) f.scope->loop->reserve_timer();
  if (!w.wait_in(line_, mutex_, f)) return;
  ++stats_.waited;
  w.has_waited_ = true;
  if (line_.size() == 1) turn_.set(*f.scope->loop, limits_.ready_at(w.count_));
}

inline void rate_core::gives_up(rate_waiter& w) noexcept {
  const loop* l = loop::current();
  limits_.give_back(w.count_, w.when_, w.take_, l ? l->now() : w.when_);
  --stats_.allowed;
  stats_.gave_up += w.has_waited_;
  if (!is_closed_) serve();
}

inline void rate_core::leaves(rate_waiter& w) noexcept {
  line_.remove(w);
  ++stats_.gave_up;
  serve();
}

inline void rate_core::serve() noexcept {
  if (std::exchange(is_serving_, true)) return;  // a race that is granted its turn leaves other lines in the same call
  turn_.cancel();
  while (!line_.empty()) {
    rate_waiter& w = first();
    loop& l = *w.scope_around().loop;
    try {
      const clock::time_point now = l.now(), due = limits_.ready_at(w.count_);
      if (due > now) {
        l.reserve_timer();
        turn_.set(l, due);
        break;
      }
      limits_.take(w.count_, now);
      ++stats_.allowed;
      w.grant();
    } catch (...) {  // no memory
      w.failure_ = std::current_exception();
    }
    line_.wake(w);
  }
  is_serving_ = false;
}

inline clock::duration rate_core::retry_after(std::size_t count) const {
  const clock::time_point now = this_loop().batch_time();
  if (line_.empty()) return limits_.ready_at(count) - now;
  rate_limits later = limits_;
  clock::time_point t = now;
  for (auto* w = &line_.front(); w; w = line_.next(*w)) {
    const std::size_t n = static_cast<rate_waiter*>(w)->count_;
    t = std::max(t, later.ready_at(n));
    later.take(n, t);
  }
  return std::max(t, later.ready_at(count)) - now;
}

inline void disown(rate_core& c) noexcept { c.disown(); }
inline void rate_core::disown() noexcept {
  is_closed_ = true;
  turn_.cancel();
  const std::exception_ptr gone = line_.empty() ? nullptr : make_cancelled();
  is_serving_ = true;  // nobody else
  while (!line_.empty()) {
    rate_waiter& w = first();
    w.failure_ = gone;
    line_.wake_if_running(w);
  }
}

}  // namespace detail

template <class... Limits>
rate_limiter::rate_limiter(Limits... limits)
    : core_(std::make_shared<detail::rate_core>(
          detail::rate_limits(std::vector<detail::any_rate>{detail::any_rate(limits)...}))) {
  static_assert(sizeof...(Limits) != 0, "a rate_limiter needs a limit: token_bucket, gcra or sliding_window");
}
inline rate_limiter::~rate_limiter() { detail::disown(*core_); }
inline auto rate_limiter::acquire(std::size_t count) {
  core_->check(count);
  return detail::asks_first<detail::rate_request, detail::rate_waiter>(detail::rate_request(core_, count));
}
inline rate_verdict rate_limiter::try_acquire(std::size_t count) {
  core_->check(count);
  return core_->ask(count);
}
inline std::size_t rate_limiter::remaining() const { return core_->remaining(); }
inline rate_limiter_stats rate_limiter::stats() const { return core_->stats(); }

template <class Key, class Hash, class Equal>
template <class... Limits>
keyed_rate_limiter<Key, Hash, Equal>::keyed_rate_limiter(keyed_rate_limiter_options options, Limits... limits)
    : options_(options),
      limits_(std::make_unique<detail::rate_limits>(std::vector<detail::any_rate>{detail::any_rate(limits)...})) {
  static_assert(sizeof...(Limits) != 0, "a keyed_rate_limiter needs a limit: token_bucket, gcra or sliding_window");
  if (options.max_keys == 0)
    throw std::invalid_argument("tandem::keyed_rate_limiter: max_keys is 0; it must be at least 1");
}

template <class Key, class Hash, class Equal>
clock::time_point keyed_rate_limiter<Key, Hash, Equal>::forget_idle(clock::time_point now) {
  clock::time_point first = clock::time_point::max();
  entry* e = keys_.size() == 0 ? nullptr : &keys_.oldest();
  for (int i = 0; e && i != 8; ++i) {
    entry* newer = keys_.newer(*e);
    if (e->core.use_count() == 1 && e->core->is_idle(now)) {
      keys_.erase(*e);
      delete e;
    } else {
      first = std::min(first, e->core->idle_at());
    }
    e = newer;
  }
  return first;
}

template <class Key, class Hash, class Equal>
template <class K>
detail::rate_core* keyed_rate_limiter<Key, Hash, Equal>::find(const K& key) {
  const auto& k = detail::key_to_find<Key, Hash>(key);
  const std::uint64_t hash = detail::spread(static_cast<std::size_t>(hash_(k)));
  if (entry* e = keys_.find(k, hash)) {
    keys_.use(*e);
    return e->core.get();
  }
  forget_idle(detail::rate_core::this_loop().batch_time());
  if (keys_.size() >= options_.max_keys) return nullptr;
  auto e = std::make_unique<entry>(Key(k), hash);
  e->core = std::make_shared<detail::rate_core>(*limits_);
  keys_.reserve();
  keys_.insert(*e);
  return e.release()->core.get();
}

template <class Key, class Hash, class Equal>
template <class K>
auto keyed_rate_limiter<Key, Hash, Equal>::acquire(const K& key, std::size_t count) {
  limits_->check(count);
  detail::rate_core* core = find(key);
  if (!core) throw too_many_keys();
  return detail::asks_first<detail::rate_request, detail::rate_waiter>(
      detail::rate_request(core->shared_from_this(), count));
}

template <class Key, class Hash, class Equal>
template <class K>
rate_verdict keyed_rate_limiter<Key, Hash, Equal>::try_acquire(const K& key, std::size_t count) {
  limits_->check(count);
  if (detail::rate_core* core = find(key)) return core->ask(count);
  const clock::time_point now = detail::rate_core::this_loop().batch_time();
  return {false, 0, std::max(forget_idle(now) - now, clock::duration(1))};
}

}  // namespace tandem::inline TANDEM_CONFIG
