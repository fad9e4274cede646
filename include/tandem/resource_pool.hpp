// tandem/resource_pool.hpp: resources that are made as they are needed, lent, and used again: resource_pool, lease,
// with_transaction.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, cancel.hpp, clock.hpp, exceptions.hpp, task.hpp, detail/alarm.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/holder.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/one_loop.hpp, detail/place.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "cancel.hpp"
#include "clock.hpp"
#include "exceptions.hpp"
#include "task.hpp"

#include "detail/alarm.hpp"
#include "detail/gcc12.hpp"
#include "detail/holder.hpp"
#include "detail/place.hpp"
#include "detail/random.hpp"
#include "detail/waiting.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/resource_pool.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

namespace detail {
template <class R>
class pool_of;
template <class R>
class pooled;
template <class R>
class lease_request;
template <class R>
class lease_waiter;
}  // namespace detail

template <class R>
struct resource_pool_options {
  std::size_t min = 0;   ///< so many are kept, from the first acquire on
  std::size_t max = 10;  ///< so many there may be, those that are being made included; at least 1
  /// Beyond `min`, one that nobody has used for so long is destroyed, the oldest first.
  clock::duration idle_lifetime = std::chrono::minutes(5);
  /// One that is older is not lent any more.
  clock::duration max_lifetime = clock::duration::max();
  /// `timed_out` for who waits longer.
  clock::duration acquire_timeout = clock::duration::max();
  /// One that nobody has used for so long is checked before it is lent.
  clock::duration check_after = std::chrono::seconds(1);
  /// Lifetimes are shorter by up to this part of them, at random, so that what was made together does not end together.
  double jitter = .1;

  std::function<task<R>()> create = nullptr;
  std::function<task<bool>(R&)> check = nullptr;  ///< is it still good? An exception means that it is not
  std::function<task<>(R&)> reset = nullptr;      ///< after each use; an exception means that it is not good any more
};

/// What acquiring throws after `close()` or `cancel()`.
class resource_pool_closed : public std::runtime_error {
 public:
  resource_pool_closed() : std::runtime_error("tandem::resource_pool_closed") {}
};

struct resource_pool_stats {
  std::size_t size = 0;                            ///< all there are: lent, idle, or looked after
  std::size_t lent = 0, idle = 0;                  ///< in use, and ready to be
  std::size_t looked_after = 0;                    ///< being made, checked or reset
  std::size_t waiting = 0;                         ///< who wait for one
  std::size_t most_lent = 0, most_waiting = 0;     ///< the most there ever were
  std::uint64_t acquired = 0, waited = 0;          ///< leases that were given, and those of them that were waited for
  std::uint64_t timed_out = 0;                     ///< who waited too long
  std::uint64_t created = 0, failed_to_create = 0;
  std::uint64_t discarded = 0;                     ///< after a use that failed or was stopped, or by `discard()`
  std::uint64_t failed_check = 0, failed_reset = 0;
  std::uint64_t expired = 0, reaped = 0;           ///< too old, and idle for too long
};

/// A resource that is lent: what `co_await pool.acquire()` gives. It goes back when the lease is destroyed, or is
/// destroyed then, if the use of it has failed.
///
/// A use has failed if the lease is destroyed by an exception that leaves its scope or the coroutine that it is a
/// parameter of, by a stop, or with a generator that was left before its end: whatever was sent to it may not have been
/// answered yet, and the next borrower would get that answer. An exception or a time limit inside the scope of the
/// lease does not count: `discard()` it there, or put the time limit around all of the use, acquiring included. A lease
/// may outlive its pool; then the resource goes with it.
template <class R>
class [[nodiscard("a lease that is dropped goes back at once")]] lease {
 public:
  lease() noexcept = default;  ///< Of nothing.
  lease(lease&& other) noexcept : entry_(std::exchange(other.entry_, nullptr)) {}
  lease& operator=(lease&& other) noexcept {
    if (this != &other) {
      give_back();
      entry_ = std::exchange(other.entry_, nullptr);
    }
    return *this;
  }
  lease(const lease&) = delete;             // a lease is not copied: hand it on with std::move
  lease& operator=(const lease&) = delete;  // a lease is not copied: hand it on with std::move
  ~lease() { give_back(); }

  /// Throws std::logic_error if it is empty.
  R& operator*() const { return checked().resource; }
  R* operator->() const { return std::addressof(checked().resource); }
  explicit operator bool() const noexcept { return entry_ != nullptr; }

  /// Destroys the resource; another may be made in its place. The lease is empty then.
  void discard() noexcept;
  /// Gives it back now, as one that is good, whatever ends the scope. The lease is empty then.
  void release() noexcept;

 private:
  friend detail::lease_request<R>;
  friend detail::lease_waiter<R>;
  explicit lease(detail::pooled<R>& e) noexcept : entry_(&e) {}
  detail::pooled<R>& checked() const {
    if (!entry_) throw std::logic_error("tandem::lease: it is empty: released, discarded, or moved from");
    return *entry_;
  }
  void give_back() noexcept;
  detail::pooled<R>* entry_ = nullptr;
};

/// `resource_pool<connection> pool{{.max = 8, .create = connect}}`; `auto c = co_await pool.acquire(); co_await
/// c->query(...)`.
///
/// Nothing is made before it is needed. Who acquires gets the resource that came back last; if there is none, and fewer
/// than `max`, one is made for him, and he waits in line, first come, first served, for that or for another that comes
/// back earlier. Resources are made, checked and reset by tasks of the pool, not of who waits: a stop or a time limit
/// takes him out of the line, and the next gets what was made. One that is being reset is in nobody's hands. If making
/// one fails, who is first in line gets the exception, unless another is on its way for him; with nobody in line it is
/// counted, and the next to acquire has it tried again. A `create` that never returns keeps its place among `max`: put
/// a `timeout` into it.
///
/// A pool that nobody uses comes to rest: what is too old or idle for too long is destroyed in its time; `min` are
/// replaced when they are too old, once, and then left as they are until somebody comes.
///
/// For the coroutines of one loop. Destroying the pool is `cancel()`: who waits is told, if that happens in a coroutine
/// or a handler of their loop; leases stay valid; debug builds name on stderr the lines where they were acquired.
/// To end it in order, `co_await pool.close()`: only that waits for the pool's tasks, which use what `create`, `check`
/// and `reset` refer to. A pool is destroyed before the context that its resources belong to.
/// Acquiring and giving back what is idle allocates nothing.
template <class R>
class resource_pool {
  static_assert(std::is_object_v<R> && !std::is_const_v<R>, "a pool lends objects: no references, no const");

 public:
  using options = resource_pool_options<R>;

  /// Throws std::invalid_argument for a `max` of 0, a `min` above it, a negative time, a jitter outside of 0 to 1, and
  /// without `create`.
  explicit resource_pool(options o) : core_(new detail::pool_of<R>(std::move(o))) {}
  ~resource_pool() { core_->disown(); }
  resource_pool(const resource_pool&) = delete;
  resource_pool& operator=(const resource_pool&) = delete;

  /// `auto lease = co_await pool.acquire()`. Does not suspend if one is there. Throws `timed_out`, which says who has
  /// them; `resource_pool_closed`; what `create` has thrown. `where` is for reports.
  [[nodiscard("a wait begins when it is awaited")]] auto acquire(
      std::source_location where = std::source_location::current());

  /// `co_await pool.close()`: nobody gets one any more; who waits gets `resource_pool_closed`. What is idle is
  /// destroyed, what is being made or looked after is stopped, and the wait is over when the last lease has ended. If
  /// that is stopped, the pool stays closed; `timeout(5s, pool.close())` waits so long.
  [[nodiscard("it waits when it is awaited")]] auto close();
  /// The same without waiting.
  void cancel() noexcept { core_->shut(false); }

  resource_pool_stats stats() const noexcept { return core_->stats(); }

 private:
  detail::pool_of<R>* core_;
};

/// What `with_transaction` needs: `begin()`, `commit()` and `rollback()` give something to await.
template <class R>
concept transactional = requires(R& r) {
  { r.begin() } -> detail::awaitable;
  { r.commit() } -> detail::awaitable;
  { r.rollback() } -> detail::awaitable;
};

/// `co_await with_transaction(*lease, [&](connection& c) -> task<> { ... })`: begins, runs the body, and commits if it
/// returned, or rolls back if it threw or was stopped, shielded; then the body's ending goes on. Gives what the body
/// gives.
///
/// After a stop the rollback runs on a resource that may still owe an answer, and nothing limits its time but itself:
/// let `rollback()` give up after a while. If the commit fails, the transaction is rolled back and the failure thrown;
/// if the rollback fails too, or after the body, an `exception_group` is. The body's frames are destroyed before. The
/// callable is kept; on g++ 12 it must not be a temporary that owns its captures.
template <transactional R, class Body>
auto with_transaction(R& resource, Body&& body);
/// The same with a resource of the pool. It goes back after a commit, and after a rollback of a body that threw; in any
/// other case, a body that was stopped among them, it is discarded.
template <transactional R, class Body>
auto with_transaction(resource_pool<R>& pool, Body&& body);

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// A resource of a pool: in its list of those that are idle, or in somebody's hands.
template <class R>
class pooled : public list_node {
 public:
  explicit pooled(R&& r) : resource(std::move(r)) {}
  R resource;
  pool_of<R>* pool = nullptr;
  clock::time_point expires = clock::time_point::max(), idle_since{};
  clock::duration idle_lifetime{};
  bool was_lent = false;
  holder borrower;
};

/// A tree of the pool's own, which makes a resource or looks after one.
template <class R>
class pool_work final : public root {
 public:
  using entry = std::unique_ptr<pooled<R>>;
  enum kind : unsigned char { creates, checks, resets };

  pool_work(loop& l, pool_of<R>& p, kind k) noexcept : root(l), pool_(p), kind_(k) {}
  void begin(task<entry> t) noexcept { start(*t.release()); }
  void ask_to_stop() noexcept { scope().loop->ask_to_stop(*this); }

  struct place : list_node {
    explicit place(pool_work& w) noexcept : work(w) {}
    pool_work& work;
  } in_pool{*this};

 private:
  void ended(frame& body, fate how) noexcept override {
    result<entry> r;
    if (how == fate::done) r.take_from(static_cast<promise<entry>&>(body).result);
    body.destroy();
    join_failures_of_strays(r);
    pool_of<R>& pool = pool_;
    const kind k = kind_;
    delete this;
    pool.work_ended(k, r);
  }
  pool_of<R>& pool_;
  kind kind_;
};

/// It lives as long as the pool, a resource of it, its work, or somebody who waits.
template <class R>
class pool_of {
 public:
  using entry = std::unique_ptr<pooled<R>>;
  using work = pool_work<R>;

  explicit pool_of(resource_pool_options<R> o) : options_(checked(std::move(o))) {}
  pool_of(const pool_of&) = delete;
  pool_of& operator=(const pool_of&) = delete;

  // -- lending

  /// One that is there, good, and that nobody waits for; or null.
  pooled<R>* take_now(const std::source_location& where) noexcept {
    if (idle_.empty() || !line_.empty()) return nullptr;
    pooled<R>& e = idle_.back();
    const clock::time_point t = turn_time();
    if (e.expires <= t || has_to_be_checked(e, t)) return nullptr;
    if (loop* here = loop::current()) settle_at(*here);
    take_out(e).release();
    lend(e, where);
    return &e;
  }
  void wait(lease_waiter<R>& w, frame& f) {
    if (is_closed_) throw resource_pool_closed();
    user_.check(f, "resource_pool", "make one for each loop");
    const bool limited = options_.acquire_timeout != clock::duration::max();
    loop& l = *f.scope->loop;
    if (limited) l.reserve_timer();
    const bool is_in_line = w.wait_in(line_, no_lock_, f);
    ++users_;
    if (!is_in_line) return;
    settle_at(l);
    may_refill_ = true;
    if (line_.size() > counts_.most_waiting) counts_.most_waiting = line_.size();
    if (limited) w.limit(l, saturated_sum(l.now(), options_.acquire_timeout));
    serve();
  }
  void leave(lease_waiter<R>& w) noexcept { line_.remove(w); }
  void time_out(lease_waiter<R>& w) noexcept {
    ++counts_.timed_out;
    w.refuse(make_timed_out(w.where()));
    line_.wake(w);
  }
  /// It was given to somebody who never ran: it is as it was.
  void take_back(pooled<R>& e) noexcept {
    end_lease(e);
    offer(entry(&e));
  }
  void give_back(pooled<R>& e, bool failed) noexcept {
    ++users_;
    end_lease(e);
    may_refill_ = true;
    entry owned(&e);
    if (failed) {
      ++counts_.discarded;
      drop(std::move(owned));
      serve();
    } else if (is_closed_ || !options_.reset) {
      offer(std::move(owned));
    } else if (loop* l = usable_loop()) {
      begin(*l, work::resets, std::move(owned));
      serve();  // without memory it is gone
    } else {  // nobody is there to reset it
      drop(std::move(owned));
      serve();
    }
    end_use();
  }

  // -- what works for the pool

  void work_ended(typename work::kind kind, result<entry>& r) noexcept {
    --works_under_way_;
    if (kind != work::resets) --on_their_way_;
    entry e = r.has_value() ? std::move(r.get_value()) : nullptr;
    ++users_;
    if (kind == work::creates && e) {
      ++counts_.created;
      begin_life(*e);
    }
    if (e) {
      offer(std::move(e));
    } else {
      --size_;
      if (kind == work::creates)
        creation_failed(r.has_error() ? r.get_error() : made<cancelled>());
      else if (!is_closed_)
        ++(kind == work::checks ? counts_.failed_check : counts_.failed_reset);
      serve();
    }
    end_use();
  }
  void keeper_ended() noexcept {
    keeper_ = nullptr;
    keeper_wakes_ = clock::time_point::max();
    end_use();
  }

  // -- the end

  void shut(bool goes) noexcept {
    ++users_;
    is_closed_ = true;
    while (!line_.empty()) {
      auto& w = first();
      w.refuse(made<resource_pool_closed>());
      if (goes)
        line_.wake_if_running(w);
      else
        line_.wake(w);
    }
    while (goes && !closers_.empty()) closers_.wake_if_running(closers_.front());
    while (!idle_.empty()) drop(take_out(idle_.front()));
    if (loop* l = works_under_way_ != 0 || keeper_ ? usable_loop() : nullptr) {
      l->ask([this]() noexcept {
        for (auto* p = works_.empty() ? nullptr : &works_.front(); p; p = works_.next(*p)) p->work.ask_to_stop();
        if (keeper_) keeper_->ask_to_stop();
      });
    }
    end_use();
  }
  void disown() noexcept {
    ++users_;
    is_ownerless_ = true;
#if !defined(NDEBUG)
    if (lent_ != 0) report_leases();
#endif
    shut(true);
    end_use();
  }
  bool is_at_end() const noexcept { return is_closed_ && size_ == 0 && works_under_way_ == 0 && !keeper_; }
  on_one_loop::line& closers() noexcept { return closers_; }
  void begin_use() noexcept { ++users_; }
  void end_use() noexcept {
    --users_;
    end_if_over();
  }
  void check_user(const frame& f) { user_.check(f, "resource_pool", "make one for each loop"); }

  holder*& borrowers() noexcept { return borrowers_; }
  resource_pool_stats stats() const noexcept {
    resource_pool_stats s = counts_;
    s.size = size_;
    s.lent = lent_;
    s.idle = idle_count_;
    s.looked_after = works_under_way_;
    s.waiting = line_.size();
    return s;
  }

 private:
  static resource_pool_options<R> checked(resource_pool_options<R> o) {
    const auto refuse = [](const std::string& what) { throw std::invalid_argument("tandem::resource_pool: " + what); };
    if (o.max == 0) refuse("max is 0; it must be at least 1");
    if (o.min > o.max) refuse("min is " + std::to_string(o.min) + ", more than max, " + std::to_string(o.max));
    if (!(o.jitter >= 0 && o.jitter <= 1)) refuse("jitter is " + std::to_string(o.jitter) + "; it must be from 0 to 1");
    if (!o.create) refuse("create is missing");
    const auto time = [&](clock::duration d, const char* name) {
      if (d < clock::duration::zero()) refuse(std::string(name) + " is negative");
    };
    time(o.idle_lifetime, "idle_lifetime");
    time(o.max_lifetime, "max_lifetime");
    time(o.acquire_timeout, "acquire_timeout");
    time(o.check_after, "check_after");
    return o;
  }

  /// The pool's loop, if this is a coroutine or a handler of it.
  loop* usable_loop() const noexcept {
    loop* here = loop::current();
    if (here && here->number() == loop_number_) return here;
    if (loop_number_ == 0 || !loop::is_there(loop_number_)) return nullptr;
    return loop_->here() ? loop_ : nullptr;
  }
  void settle_at(loop& l) noexcept {
    loop_ = &l;
    loop_number_ = l.number();
  }
  lease_waiter<R>& first() noexcept { return static_cast<lease_waiter<R>&>(line_.front()); }
  bool has_to_be_checked(const pooled<R>& e, clock::time_point t) const noexcept {
    return options_.check && t - e.idle_since >= options_.check_after;
  }

  void lend(pooled<R>& e, const std::source_location& where) noexcept {
    e.was_lent = true;
    e.borrower.hold(borrowers_, where);
    ++counts_.acquired;
    if (++lent_ > counts_.most_lent) counts_.most_lent = lent_;
  }
  void end_lease(pooled<R>& e) noexcept {
    e.borrower.let_go();
    --lent_;
  }
  /// It is good, and nobody has it.
  void offer(entry e) noexcept {
    const clock::time_point t = turn_time();
    if (is_closed_ || e->expires <= t) {
      counts_.expired += !is_closed_;
      drop(std::move(e));
      return serve();
    }
    if (!line_.empty()) return give_first(std::move(e));
    e->idle_since = t;
    pooled<R>& idle = *e.release();
    idle_.push_back(idle);
    ++idle_count_;
    if (const clock::time_point due = due_of(idle); due < keeper_wakes_) wake_keeper_at(due);
  }
  /// It is idle no more.
  entry take_out(pooled<R>& idle) noexcept {
    idle.unlink();
    --idle_count_;
    return entry(&idle);
  }
  void give_first(entry e) noexcept {
    lease_waiter<R>& w = first();
    ++counts_.waited;
    pooled<R>& given = *e.release();
    lend(given, w.where());
    w.grant(given);
    line_.wake(w);
  }
  /// Sees to it that something is on its way for each who waits, and that there are `min`.
  void serve() noexcept {
    if (std::exchange(is_serving_, true)) return;
    while (!line_.empty() && on_their_way_ < line_.size()) {
      if (!idle_.empty()) {
        entry owned = take_out(idle_.back());
        const clock::time_point t = turn_time();
        if (owned->expires <= t) {
          ++counts_.expired;
          drop(std::move(owned));
        } else if (has_to_be_checked(*owned, t)) {
          begin(*loop_, work::checks, std::move(owned));
        } else {
          give_first(std::move(owned));
        }
      } else if (size_ < options_.max) {
        ++size_;
        begin(*loop_, work::creates, nullptr);
      } else {
        break;
      }
    }
    if (!is_closed_ && may_refill_ && size_ < options_.min)
      if (loop* l = usable_loop())
        while (may_refill_ && size_ < options_.min) ++size_, begin(*l, work::creates, nullptr);
    is_serving_ = false;
  }
  void creation_failed(std::exception_ptr e) noexcept {
    if (is_closed_) return;
    ++counts_.failed_to_create;
    may_refill_ = false;  // not again and again
    if (line_.size() <= on_their_way_) return;
    lease_waiter<R>& w = first();
    w.refuse(std::move(e));
    line_.wake(w);
  }
  void drop(entry e) noexcept {
    --size_;
    e.reset();  // may call the pool
  }

  /// `size_` counts what it works on. Without memory it has failed.
  void begin(loop& l, typename work::kind kind, entry e) noexcept {
    ++works_under_way_;
    if (kind != work::resets) ++on_their_way_;
    try {
      auto w = std::make_unique<work>(l, *this, kind);
      task<entry> body = kind == work::creates  ? create(*this)
                         : kind == work::checks ? check(*this, std::move(e))
                                                : reset(*this, std::move(e));
      works_.push_back(w->in_pool);
      w.release()->begin(std::move(body));
    } catch (...) {
      e.reset();
      --works_under_way_;
      if (kind != work::resets) --on_their_way_;
      --size_;
      if (kind == work::creates) creation_failed(std::current_exception());
    }
  }
  static task<entry> create(pool_of& p) {
    auto making = p.options_.create();
    auto made = co_await std::move(making);
    co_return std::make_unique<pooled<R>>(std::move(made));
  }
  static task<entry> check(pool_of& p, entry e) {
    auto checking = p.options_.check(e->resource);
    const bool is_good = co_await std::move(checking);
    if (!is_good) co_return entry();
    co_return std::move(e);
  }
  static task<entry> reset(pool_of& p, entry e) {
    auto resetting = p.options_.reset(e->resource);
    co_await std::move(resetting);
    co_return std::move(e);
  }

  // -- lifetimes

  void begin_life(pooled<R>& e) noexcept {
    e.pool = this;
    e.idle_lifetime = random_.shortened(options_.idle_lifetime, options_.jitter);
    e.expires = saturated_sum(turn_time(), random_.shortened(options_.max_lifetime, options_.jitter));
  }
  /// When an idle one is to be destroyed, if nobody comes. Where `min` are left, one that nobody has used stays.
  clock::time_point due_of(const pooled<R>& e) const noexcept {
    const bool is_spare = size_ > options_.min;
    const clock::time_point idle = is_spare ? saturated_sum(e.idle_since, e.idle_lifetime) : clock::time_point::max();
    return is_spare || e.was_lent ? std::min(idle, e.expires) : idle;
  }
  void reap() noexcept {
    const clock::time_point t = turn_time();
    intrusive_list<pooled<R>> due;  // taken out first: a destructor may call the pool
    for (pooled<R>* p = idle_.empty() ? nullptr : &idle_.front(); p;) {  // the oldest first
      pooled<R>& e = *p;
      p = idle_.next(e);
      if (due_of(e) > t) continue;
      ++(e.expires <= t ? counts_.expired : counts_.reaped);
      due.push_back(*take_out(e).release());
      --size_;
    }
    while (!due.empty()) entry(&due.pop_front()).reset();
    serve();
  }

  /// Sleeps until the first idle resource is due; it can be woken earlier.
  class nap final : public timer_leaf {
   public:
    nap(pool_of& p, clock::time_point due) noexcept : pool_(p), due_(due) {}
    ~nap() { pool_.nap_ = nullptr; }
    const char* what() const noexcept override { return "resource_pool"; }
    bool await_ready() const noexcept { return false; }
    bool suspend(frame& f) {
      loop& l = *f.scope->loop;
      l.reserve_timer();
      pool_.keeper_wakes_ = due_;
      if (!park(f)) return true;
      pool_.nap_ = this;
      l.add_timer(*this, due_);
      return true;
    }
    void await_resume() noexcept { consume(); }
    void end_at(clock::time_point due) noexcept {
      if (!waiting()) return;
      loop& l = loop_of_waiter();
      remove_from_timers();
      l.add_timer(*this, due);
    }

   private:
    pool_of& pool_;
    clock::time_point due_;
  };
  class keeper final : public root {
   public:
    keeper(loop& l, pool_of& p) noexcept : root(l), pool_(p) {}
    void begin(task<> t) noexcept { start(*t.release()); }
    void ask_to_stop() noexcept { scope().loop->ask_to_stop(*this); }

   private:
    void ended(frame& body, fate) noexcept override {
      body.destroy();
      pool_of& pool = pool_;
      delete this;
      pool.keeper_ended();
    }
    pool_of& pool_;
  };
  static task<> keep(pool_of& p) {
    for (;;) {
      clock::time_point due = clock::time_point::max();
      for (pooled<R>* e = p.idle_.empty() ? nullptr : &p.idle_.front(); e; e = p.idle_.next(*e))
        due = std::min(due, p.due_of(*e));
      if (due == clock::time_point::max()) co_return;
      nap until(p, due);
      co_await until;
      p.reap();
    }
  }
  void wake_keeper_at(clock::time_point due) noexcept {
    if (keeper_) {
      if (!nap_) return;  // it is awake
      keeper_wakes_ = due;
      return nap_->end_at(due);
    }
    loop* l = usable_loop();
    if (!l) return;
    try {
      auto k = std::make_unique<keeper>(*l, *this);
      auto body = keep(*this);
      ++users_;
      keeper_wakes_ = due;
      keeper_ = k.release();
      keeper_->begin(std::move(body));
    } catch (...) {  // no memory: the next that comes back has it tried again
    }
  }

  // -- what is said

  [[gnu::cold]] std::exception_ptr make_timed_out(const std::source_location& where) const noexcept {
    try {
      std::string text = "tandem::timed_out: no resource at " + place(where) + ": of " + std::to_string(options_.max) +
                         " there are " + std::to_string(lent_) + " lent";
      if (works_under_way_ != 0) text += ", " + std::to_string(works_under_way_) + " being made or looked after";
      std::size_t named = 0;
      for (const holder* h = borrowers_; h && named != 3; h = h->next(), ++named)
        text += (named == 0 ? "; held by " : ", ") + place(h->where());
      return std::make_exception_ptr(timed_out(where, text));
    } catch (...) {
      return std::current_exception();
    }
  }
  /// Or bad_alloc, if there is no memory for it.
  template <class E>
  [[gnu::cold]] static std::exception_ptr made() noexcept {
    try {
      throw E();
    } catch (...) {
      return std::current_exception();
    }
  }
  static std::string place(const std::source_location& where) {
    return std::string(function_name(where.function_name())) + " (" + std::string(file_name(where.file_name())) + ":" +
           std::to_string(where.line()) + ")";
  }
#if !defined(NDEBUG)
  [[gnu::cold]] void report_leases() const noexcept {
    for (const holder* h = borrowers_; h; h = h->next())
      std::fprintf(stderr, "tandem::resource_pool: destroyed while a resource is lent: at %s:%u\n",
                   h->where().file_name(), static_cast<unsigned>(h->where().line()));
  }
#endif
  void end_if_over() noexcept {
    if (is_at_end())
      while (!closers_.empty()) closers_.wake(closers_.front());
    if (is_ownerless_ && users_ == 0 && size_ == 0 && works_under_way_ == 0) delete this;
  }

  const resource_pool_options<R> options_;
  intrusive_list<pooled<R>> idle_;  // the oldest first
  on_one_loop::line line_, closers_;
  on_one_loop::user user_;
  [[no_unique_address]] on_one_loop::mutex no_lock_;
  loop* loop_ = nullptr;  // of who acquired last
  std::uint64_t loop_number_ = 0;
  std::size_t size_ = 0, lent_ = 0, idle_count_ = 0;
  std::size_t works_under_way_ = 0;
  std::size_t on_their_way_ = 0;  // those that make or check one
  intrusive_list<typename work::place> works_;
  keeper* keeper_ = nullptr;
  nap* nap_ = nullptr;  // while it sleeps
  clock::time_point keeper_wakes_ = clock::time_point::max();
  random_source random_;
  std::size_t users_ = 0;  // who waits, the keeper, and functions of this that call out
  bool is_closed_ = false, is_ownerless_ = false, is_serving_ = false;
  bool may_refill_ = true;  // nothing has failed since somebody came
  holder* borrowers_ = nullptr;
  resource_pool_stats counts_;
};

template <class R>
class lease_request {
 public:
  lease_request(pool_of<R>& p, const std::source_location& where) noexcept : pool_(&p), where_(where) {}
  bool try_now() noexcept {
    entry_ = pool_->take_now(where_);
    return entry_ != nullptr;
  }
  lease<R> take() noexcept { return lease<R>(*entry_); }

 protected:
  pool_of<R>* pool_;
  pooled<R>* entry_ = nullptr;
  std::source_location where_;
};

template <class R>
class lease_waiter final : public on_one_loop::waiter, lease_request<R> {
 public:
  using request = lease_request<R>;
  using on_one_loop::waiter::wait_in;
  explicit lease_waiter(const request& r) noexcept : request(r) {}
  lease_waiter(lease_waiter&& o) noexcept : request(o) {}
  ~lease_waiter() {
    if (entry_) this->pool_->take_back(*entry_);
    if (is_user_) this->pool_->end_use();
  }

  const char* what() const noexcept override { return "resource_pool"; }
  const holder* held_by() const noexcept override { return this->pool_->borrowers(); }
  bool await_ready() noexcept { return this->try_now(); }
  bool suspend(frame& f) {
    this->pool_->wait(*this, f);
    is_user_ = true;
    return true;
  }
  lease<R> await_resume() {
    this->consume();
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    return lease<R>(*std::exchange(entry_, nullptr));
  }
  /// For race: what `await_resume` would throw.
  std::exception_ptr failure() const noexcept { return error_; }

  const std::source_location& where() const noexcept { return this->where_; }
  void limit(loop& l, clock::time_point due) noexcept { alarm_.set(l, due); }
  void grant(pooled<R>& e) noexcept {
    alarm_.cancel();
    entry_ = &e;
  }
  void refuse(std::exception_ptr e) noexcept {
    alarm_.cancel();
    error_ = std::move(e);
  }

 private:
  friend alarm<lease_waiter>;
  void on_alarm() noexcept { this->pool_->time_out(*this); }
  void leave_line() noexcept override {
    alarm_.cancel();
    this->pool_->leave(*this);
  }

  using request::entry_;
  std::exception_ptr error_;
  bool is_user_ = false;
  alarm<lease_waiter> alarm_{*this};
};

template <class R>
class close_pool final : public on_one_loop::waiter {
 public:
  explicit close_pool(pool_of<R>& p) noexcept : pool_(&p) {}
  close_pool(close_pool&& o) noexcept : pool_(o.pool_) {}
  ~close_pool() {
    if (is_user_) pool_->end_use();
  }

  const char* what() const noexcept override { return "resource_pool::close"; }
  const holder* held_by() const noexcept override { return pool_->borrowers(); }
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    pool_->check_user(f);
    if (!std::exchange(is_user_, true)) pool_->begin_use();  // the destructor of a resource may destroy the pool
    pool_->shut(false);
    if (pool_->is_at_end()) return false;
    wait_in(pool_->closers(), no_lock_, f);
    return true;
  }
  void await_resume() noexcept { consume(); }

 private:
  void leave_line() noexcept override { pool_->closers().remove(*this); }
  pool_of<R>* pool_;
  bool is_user_ = false;
  [[no_unique_address]] on_one_loop::mutex no_lock_;
};

// -- transactions

/// Commits or rolls back.
template <class R>
task<> end_transaction(R& r, bool body_returned) {
  std::exception_ptr failed_commit;
  if (body_returned) {
    try {
      auto commit = r.commit();
      co_await std::move(commit);
      co_return;
    } catch (...) {
      failed_commit = std::current_exception();
    }
  }
  failures all;
  if (failed_commit) all.add(failed_commit);
  try {
    auto rollback = r.rollback();
    co_await std::move(rollback);
  } catch (...) {
    all.add(std::current_exception());
  }
  if (all.any()) all.rethrow();
}

template <class R>
struct ends_transaction {
  R* resource;
  lease<R>* borrowed;  // or null
  task<> operator()(const ending& e) const { return end(*resource, borrowed, e.returned(), e.failed()); }
  static task<> end(R& r, lease<R>* borrowed, bool returned, bool failed) {
    auto ends = end_transaction(r, returned);
    co_await std::move(ends);
    if (borrowed && (returned || failed)) borrowed->release();  // as good as new
  }
};

template <class R, class Body>
using transaction_value = typename decltype(as_task(std::declval<Body&>()(std::declval<R&>())))::value_type;

template <class R, class Body>
task<transaction_value<R, Body>> call_transaction_body(R& r, Body& body) {
  auto t = as_task(body(r));
  co_return co_await std::move(t);
}
template <class R, class Body>
task<transaction_value<R, Body>> in_transaction(R& r, lease<R>* borrowed, Body& body) {
  // Whatever can fail is made before there is something to roll back.
  auto all = finally(call_transaction_body<R, Body>(r, body), ends_transaction<R>{&r, borrowed});
  auto begin = r.begin();
  co_await std::move(begin);
  co_return co_await std::move(all);
}
template <class R, class Body>
task<transaction_value<R, Body>> transaction_with(R& r, Body body) {
  auto t = in_transaction<R, Body>(r, nullptr, body);
  co_return co_await std::move(t);
}
template <class R, class Body>
task<transaction_value<R, Body>> transaction_in_pool(resource_pool<R>& pool, Body body, std::source_location where) {
  auto borrowed = co_await pool.acquire(where);
  auto t = in_transaction<R, Body>(*borrowed, &borrowed, body);
  co_return co_await std::move(t);
}

template <class Body, class R>
constexpr void check_transaction_body() {
  refuse_what_gcc12_miscompiles<Body>();
  static_assert(gives_awaitable<std::decay_t<Body>&, R&>(),
                "the body of a transaction is a callable that takes the resource and returns an awaitable, such as a "
                "task");
}

}  // namespace detail

template <class R>
void lease<R>::give_back() noexcept {
  if (!entry_) return;
  detail::pooled<R>& e = *std::exchange(entry_, nullptr);
  e.pool->give_back(e, detail::use_failed());
}
template <class R>
void lease<R>::discard() noexcept {
  if (!entry_) return;
  detail::pooled<R>& e = *std::exchange(entry_, nullptr);
  e.pool->give_back(e, true);
}
template <class R>
void lease<R>::release() noexcept {
  if (!entry_) return;
  detail::pooled<R>& e = *std::exchange(entry_, nullptr);
  e.pool->give_back(e, false);
}

template <class R>
auto resource_pool<R>::acquire(std::source_location where) {
  using request = detail::lease_request<R>;
  return detail::asks_first<request, detail::lease_waiter<R>>(request(*core_, where));
}
template <class R>
auto resource_pool<R>::close() {
  return detail::close_pool<R>(*core_);
}

template <transactional R, class Body>
auto with_transaction(R& resource, Body&& body) {
  detail::check_transaction_body<Body, R>();
  return detail::transaction_with<R, std::decay_t<Body>>(resource, std::forward<Body>(body));
}
template <transactional R, class Body>
auto with_transaction(resource_pool<R>& pool, Body&& body) {
  detail::check_transaction_body<Body, R>();
  return detail::transaction_in_pool<R, std::decay_t<Body>>(pool, std::forward<Body>(body),
                                                            std::source_location::current());
}

}  // namespace tandem::inline TANDEM_CONFIG
