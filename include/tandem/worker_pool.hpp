// tandem/worker_pool.hpp: many jobs, so many at a time, and so many in line: worker_pool.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, gather.hpp, metrics.hpp, task.hpp, task_handle.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/intrusive_list.hpp, detail/loop.hpp, detail/one_loop.hpp, detail/result.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "exceptions.hpp"
#include "metrics.hpp"
#include "task.hpp"
#include "task_handle.hpp"

#include "detail/gcc12.hpp"
#include "detail/group.hpp"
#include "detail/waiting.hpp"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>  // std::invoke
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace tandem::inline TANDEM_CONFIG {

namespace detail {
class pool_core;
}  // namespace detail

struct worker_pool_options {
  std::size_t workers = 8;   ///< jobs that run at a time; at least 1
  std::size_t backlog = 64;  ///< jobs that wait for a worker; a submit beyond waits for a place
};

struct job_options {
  /// For reports; the characters must outlive the job.
  std::string_view name = {};
};

/// What submitting to a pool throws after `close()` or `cancel()`.
class worker_pool_closed : public std::runtime_error {
 public:
  worker_pool_closed() : std::runtime_error("tandem::worker_pool_closed") {}
};

struct worker_pool_stats {
  std::size_t workers = 0, running = 0;                    ///< the most that may run, and those that do
  std::size_t queued = 0, most_queued = 0;                 ///< waiting for a worker now, and the most there ever were
  std::size_t submitting = 0;                              ///< waiting for a place in line
  std::uint64_t submitted = 0;                             ///< jobs that were accepted
  std::uint64_t succeeded = 0, failed = 0, cancelled = 0;  ///< those of them that have ended
  latency_summary queue_time{}, run_time{};                ///< from having a place to the start, from there to the end
};

/// Runs jobs, at most so many at a time, in the order in which they were submitted: `auto h = co_await
/// pool.submit(resize, picture);` and later `co_await h`.
///
/// A job is a coroutine function with its arguments, which the pool keeps and calls when a worker is free, or any
/// awaitable. Its task_handle gives its result, its failure, or `cancelled`; a failure ends its job and nothing else.
/// One that nobody has looked at when the job's last handle goes is thrown by the next `drain()`, several (the first
/// 64) as an `exception_group`; if the pool goes before that, in a coroutine, it is how that one's tree ends.
///
/// Jobs belong to the tree in which they were submitted, as children of the pool, not of the submitter: they run on
/// when that goes on or ends, a stop of the tree stops them, and the tree ends after them. Destroying the pool stops
/// those that run and drops those in line, without waiting for their ends. What borrows from a coroutine's frame is
/// drained before that ends: `with_resource` and `drain()`. For the coroutines of one loop; calls that block go to
/// `to_thread`.
///
/// O(1) for each job; one allocation beside its frame.
class worker_pool {
 public:
  /// Throws std::invalid_argument for no workers.
  explicit worker_pool(worker_pool_options options = {});
  ~worker_pool();
  worker_pool(const worker_pool&) = delete;
  worker_pool& operator=(const worker_pool&) = delete;

  /// `co_await pool.submit(function, args...)`: gives the job's task_handle once it has a place; does not suspend if
  /// there is one. With a worker free the job starts at once, and runs until it first waits; what a job itself submits
  /// before it first waits starts when it does.
  ///
  /// Those who wait for a place get it in the order in which they came. A stop while waiting submits nothing. In a tree
  /// that is being stopped the job never runs, and its outcome is `cancelled`. `function` and `args` are copied or
  /// moved into the job, and destroyed when it has ended. Throws `worker_pool_closed`, also to those who wait when the
  /// pool is closed, and std::logic_error on another loop than that of the first submit.
  template <class Function, class... Args>
  auto submit(Function&& function, Args&&... args);
  template <class Function, class... Args>
  auto submit(job_options options, Function&& function, Args&&... args);
  /// The same without waiting: an empty handle, which tests as false, if there is no place. Throws std::logic_error
  /// outside a coroutine.
  template <class Function, class... Args>
  auto try_submit(Function&& function, Args&&... args);
  template <class Function, class... Args>
  auto try_submit(job_options options, Function&& function, Args&&... args);

  /// Waits until no job is in line or running. Throws the failures that nobody has looked at.
  auto drain();

  /// Accepts no more jobs; those it has go on.
  void close() noexcept;
  /// Closes, drops the jobs in line and stops those that run: their handles get `cancelled`.
  void cancel() noexcept;

  worker_pool_stats stats() const noexcept;
  const histogram& queue_time() const noexcept;
  const histogram& run_time() const noexcept;

 private:
  detail::pool_core* core_;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// What a pool knows of a job. It is the owner of the job's record, and belongs to a tree while it is in line or runs.
class any_job : public child_owner, public stray {
 public:
  any_job(const any_job&) = delete;
  any_job& operator=(const any_job&) = delete;

  virtual child_base& record() noexcept = 0;
  /// Calls the function. Null if it throws, which is the job's failure then.
  virtual frame* make() noexcept = 0;
  /// The job has ended: destroys the function and its arguments.
  virtual void forget_call() noexcept = 0;

  step child_done(child_base&) noexcept override;
  const std::string& stop_reason() const noexcept override {
    static const std::string none;
    return none;
  }
  void stop_stray(stop_mode m) noexcept override {
    if (m == stop_mode::abandon || follows_tree_) record().stop(m);
  }

 protected:
  explicit any_job(pool_core& p) noexcept : pool_(&p) {}
  ~any_job() = default;
  /// It is to be stopped: if it is in line it never runs.
  void doom() noexcept;
  /// Nobody has a handle any more.
  void record_goes() noexcept;

 private:
  friend pool_core;
  struct place : list_node {
    explicit place(any_job& j) noexcept : job(j) {}
    any_job& job;
  } place_{*this};  // in the pool's line, or among those that run
  pool_core* pool_;
  root* tree_ = nullptr;
  clock::time_point since_{};  // when it was submitted, then when it started
  bool follows_tree_ = true;   // a stop of the tree stops it
  bool is_in_line_ = false, is_running_ = false, is_doomed_ = false;
};

template <class T, class Function, class... Args>
class job final : public child_of<T>, public any_job {
 public:
  template <class F, class... A>
  job(pool_core& p, std::string_view name, F&& f, A&&... args)
      : child_of<T>(static_cast<child_owner&>(*this), name), any_job(p) {
    call_.emplace(std::forward<F>(f), std::forward<A>(args)...);
  }

  child_base& record() noexcept override { return *this; }
  const wait_node& node_of_stray() const noexcept override { return *this; }
  const char* what() const noexcept override { return "worker_pool"; }
  std::size_t children() const noexcept override { return 1; }
  frame* child(std::size_t) const noexcept override { return this->running(); }
  void stop(stop_mode m) noexcept override {
    child_of<T>::stop(m);
    doom();
  }

 private:
  frame* make() noexcept override {
    try {
      auto t = std::apply([](Function& f, Args&... args) { return as_task(invoke(f, args...)); }, *call_);
      if (!t) throw_empty_task();
      return t.release();
    } catch (...) {
      this->fail(std::current_exception());
      return nullptr;
    }
  }
  void forget_call() noexcept override { call_.reset(); }
  void dispose() noexcept override {
    record_goes();
    delete this;
  }
  static decltype(auto) invoke(Function& f, Args&... args) {
    if constexpr (awaitable<Function>)
      return std::move(f);
    else
      return std::invoke(f, std::move(args)...);
  }
  std::optional<std::tuple<Function, Args...>> call_;
};

/// Which job `submit(f, args...)` makes.
template <class F, class... Args>
struct job_of_call {
  using function = std::decay_t<F>;
  static consteval auto value() {
    if constexpr (sizeof...(Args) == 0 && awaitable<function>)
      return std::type_identity<typename decltype(as_task(std::declval<function>()))::value_type>();
    else
      return std::type_identity<typename decltype(as_task(
          std::invoke(std::declval<function&>(), std::declval<std::decay_t<Args>>()...)))::value_type>();
  }
  using value_type = typename decltype(value())::type;
  using type = job<value_type, function, std::decay_t<Args>...>;
};

/// Somebody who waits for a place in line for his job.
class submission : public on_one_loop::waiter {
 public:
  using on_one_loop::waiter::wait_in;
  explicit submission(any_job* j) noexcept : job(j) {}
  any_job* job;
  bool is_refused = false;

 protected:
  ~submission() = default;
};

/// It lives as long as the pool, a job of it, or somebody who waits.
class pool_core {
 public:
  explicit pool_core(const worker_pool_options& o) : options_(o) {
    if (o.workers == 0) throw std::invalid_argument("tandem::worker_pool: 0 workers; there must be at least 1");
  }
  pool_core(const pool_core&) = delete;
  pool_core& operator=(const pool_core&) = delete;

  void check_open() const {
    if (is_closed_) throw worker_pool_closed();
  }
  bool has_place() const noexcept { return submitters_.empty() && has_room(); }
  void check_user(loop& l) {
    user_.check(l, "worker_pool", "make one for each loop, or hand over by a concurrent_queue");
  }

  /// From a coroutine in the scope `s`. The job has a place from now on.
  void accept(any_job& j, const scope& s) noexcept {
    const scope* outermost = &s;
    while (outermost->outer) outermost = outermost->outer;
    accept(j, *s.root,
           outermost == &s.root->scope());  // otherwise under a shield, which stops of the tree do not reach
  }
  void accept(any_job& j, root& tree, bool follows_tree) noexcept {
    loop& l = *tree.scope().loop;
    child_base& record = j.record();
    record.enter(l, tree, follows_tree ? &tree.scope() : nullptr);
    record.share();
    ++users_;
    ++counts_.submitted;
    j.tree_ = &tree;
    j.follows_tree_ = follows_tree;
    j.since_ = l.now();
    tree.adopt(j);
    loop_ = &l;
    if (record.is_stopped()) {
      record.end(nullptr, fate::stopped);
      return;
    }
    j.is_in_line_ = true;
    line_.push_back(j.place_);
    ++counts_.queued;
    pump();
  }
  void wait(submission& w, frame& f) {
    w.wait_in(submitters_, no_lock_, f);
    ++users_;
  }
  void leave(submission& w) noexcept { submitters_.remove(w); }

  bool is_idle() const noexcept { return counts_.running == 0 && counts_.queued == 0 && submitters_.empty(); }
  on_one_loop::line& drainers() noexcept { return drainers_; }
  void begin_use() noexcept { ++users_; }
  void end_use() noexcept {
    --users_;
    end_if_over();
  }
  void rethrow_unseen() {
    if (!unseen_.any()) return;
    unseen_count_ = 0;
    const failures all = std::exchange(unseen_, failures());
    all.rethrow();
  }

  /// A job has ended, and its frame is gone.
  void ended(any_job& j) noexcept {
    {
      const loop::in_tree of_the_job(*j.tree_);
      j.forget_call();
    }
    j.place_.unlink();
    child_base& record = j.record();
    if (std::exchange(j.is_in_line_, false)) --counts_.queued;
    if (std::exchange(j.is_running_, false)) {
      --counts_.running;
      run_time_.record(loop_->now() - j.since_);
    }
    ++(record.has_value() ? counts_.succeeded : record.failed() ? counts_.failed : counts_.cancelled);
    if (is_ownerless_ && record.failed_unseen() && !record.is_shared()) {  // no later drain will tell
      j.tree_->stray_failed(record.failure());
      record.has_been_told();
    }
    pump();
    static_cast<stray&>(j).unlink();
    j.tree_->stray_ended();  // this may be what the tree waited for
  }
  /// The last handle of a job has gone. If nobody has looked at its failure, the next to drain the pool is told, or, if
  /// the pool is gone, whoever hears of the end of the tree.
  void record_goes(const child_base& record) noexcept {
    if (record.failed_unseen()) {
      if (!is_ownerless_)
        keep_unseen(record.failure());
      else if (root* tree = tree_to_tell())
        tree->stray_failed(record.failure());
    }
    end_use();
  }
  /// Some in line are not to run.
  void sweep_soon() noexcept {
    if (!sweeper_.linked()) sweeper_.take_turn(*loop_);
  }

  void close() noexcept { shut(false); }
  void cancel() noexcept {
    shut(false);
    stop_all();
  }
  void disown() noexcept {
    is_ownerless_ = true;
    ++users_;
    if (root* tree = tree_to_tell(); tree && unseen_.any())
      tree->stray_failed(std::exchange(unseen_, failures()).together_with(nullptr));
    shut(true);
    stop_all();
    end_use();
  }

  worker_pool_stats stats() const {
    worker_pool_stats s = counts_;
    s.workers = options_.workers;
    s.submitting = submitters_.size();
    s.queue_time = queue_time_.summary();
    s.run_time = run_time_.summary();
    return s;
  }
  const histogram& queue_time() const noexcept { return queue_time_; }
  const histogram& run_time() const noexcept { return run_time_; }

  /// The first so many: a pool that nobody drains must not grow for ever. `stats()` counts all.
  void keep_unseen(std::exception_ptr e) noexcept {
    constexpr std::size_t most = 64;
    if (unseen_count_ == most) return;
    ++unseen_count_;
    unseen_.add(std::move(e));
  }

 private:
  /// Drops those in line that were stopped, in the loop's turn: not where they were, which may be anywhere.
  class sweeper final : public leaf {
   public:
    explicit sweeper(pool_core& p) noexcept : pool_(p) {}
    const char* what() const noexcept override { return "worker_pool"; }
    void take_turn(loop& l) noexcept {
      state_ = calls;
      l.queue(*this);
    }

   private:
    step on_turn() noexcept override {
      pool_.sweep();
      return step::none();
    }
    pool_core& pool_;
  };

  static root* tree_to_tell() noexcept {
    loop* here = loop::current();
    return here ? here->running_or_ending_root() : nullptr;
  }
  /// One more fits into the line or to a worker. While jobs are being started a worker may be free for one in line.
  bool has_room() const noexcept {
    return counts_.queued < options_.backlog || counts_.queued - options_.backlog < options_.workers - counts_.running;
  }
  /// Starts what can be started, and lets those in who wait for a place. Called again from a job that ends at once, it
  /// leaves that to the outer call: a long line of such jobs is no deep stack.
  void pump() noexcept {
    if (std::exchange(is_pumping_, true)) return;
    ++users_;
    for (;;) {
      if (counts_.running < options_.workers && !line_.empty())
        start(line_.front().job);
      else if (!submitters_.empty() && has_room())
        admit(static_cast<submission&>(submitters_.front()));
      else
        break;
    }
    is_pumping_ = false;
    if (counts_.queued > counts_.most_queued) counts_.most_queued = counts_.queued;
    if (is_idle())
      while (!drainers_.empty()) drainers_.wake(drainers_.front());
    end_use();
  }
  void start(any_job& j) noexcept {
    child_base& record = j.record();
    if (j.is_doomed_) {
      record.end(nullptr, fate::stopped);
      return;
    }
    j.place_.unlink();
    j.is_in_line_ = false;
    --counts_.queued;
    running_.push_back(j.place_);
    j.is_running_ = true;
    ++counts_.running;
    const clock::time_point now = loop_->now();
    queue_time_.record(now - j.since_);
    j.since_ = now;
    const loop::in_tree of_the_job(*j.tree_);  // what runs here may belong to another
    if (frame* f = j.make())
      record.start(*f);
    else
      record.end(nullptr, fate::done);
  }
  void admit(submission& w) noexcept {
    any_job& j = *w.job;
    const scope& s = w.scope_around();
    submitters_.wake(w);
    accept(j, s);
  }
  void sweep() noexcept {
    ++users_;
    const bool was_pumping = std::exchange(is_pumping_, true);
    for (any_job::place* p = line_.empty() ? nullptr : &line_.front(); p;) {
      any_job& j = p->job;
      p = line_.next(*p);
      if (j.is_doomed_) j.record().end(nullptr, fate::stopped);
    }
    is_pumping_ = was_pumping;
    pump();
    end_use();
  }
  /// Nothing is accepted any more; who waits for a place, and if the pool goes, who waits for its end, is told.
  void shut(bool goes) noexcept {
    is_closed_ = true;
    while (!submitters_.empty()) {
      auto& w = static_cast<submission&>(submitters_.front());
      w.is_refused = true;
      submitters_.wake_if_running(w);
    }
    while (goes && !drainers_.empty()) drainers_.wake_if_running(drainers_.front());
  }
  void stop_all() noexcept {
    if (!loop_ || (line_.empty() && running_.empty())) return;
    loop_->ask([this]() noexcept {
      for (auto* p = line_.empty() ? nullptr : &line_.front(); p; p = line_.next(*p))
        p->job.record().stop(stop_mode::ask);
      for (auto* p = running_.empty() ? nullptr : &running_.front(); p; p = running_.next(*p))
        p->job.record().stop(stop_mode::ask);
    });
  }
  void end_if_over() noexcept {
    if (is_ownerless_ && users_ == 0) delete this;
  }

  worker_pool_options options_;
  intrusive_list<any_job::place> line_, running_;
  on_one_loop::line submitters_, drainers_;
  on_one_loop::user user_;
  [[no_unique_address]] on_one_loop::mutex no_lock_;
  loop* loop_ = nullptr;   // of the jobs, while there are any
  std::size_t users_ = 0;  // records of jobs, waiters, and functions of this that call out
  bool is_closed_ = false, is_ownerless_ = false, is_pumping_ = false;
  worker_pool_stats counts_;
  histogram queue_time_, run_time_;
  failures unseen_;
  std::size_t unseen_count_ = 0;
  sweeper sweeper_{*this};
};

inline step any_job::child_done(child_base&) noexcept {
  pool_->ended(*this);
  return step::none();
}
inline void any_job::record_goes() noexcept {
  if (tree_) pool_->record_goes(record());  // otherwise it was never accepted
}
inline void any_job::doom() noexcept {
  if (!is_in_line_ || std::exchange(is_doomed_, true)) return;
  pool_->sweep_soon();
}

template <class Job, class T>
class submit_awaiter final : public submission {
 public:
  submit_awaiter(pool_core& p, Job* j) noexcept : submission(j), pool_(&p), job_(j) {}
  submit_awaiter(submit_awaiter&& o) noexcept
      : submission(o.job), pool_(o.pool_), job_(std::exchange(o.job_, nullptr)) {}
  ~submit_awaiter() {
    if (job_) job_->release();
    if (is_user_) pool_->end_use();
  }

  const char* what() const noexcept override { return "worker_pool::submit"; }
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    if (!job_ || granted())  // another coroutine may have been granted it, and not have run since
      throw std::logic_error("tandem: awaiting a submit that was moved from, or awaited before");
    pool_->check_open();
    pool_->check_user(*f.scope->loop);
    if (pool_->has_place()) {
      pool_->accept(*job_, *f.scope);
      return false;
    }
    pool_->wait(*this, f);
    is_user_ = true;
    return true;
  }
  task_handle<T> await_resume() {
    consume();
    if (is_refused) throw worker_pool_closed();
    return handle_access::make<T>(*std::exchange(job_, nullptr));
  }

 private:
  void leave_line() noexcept override { pool_->leave(*this); }
  pool_core* pool_;
  Job* job_;
  bool is_user_ = false;
};

class drain_awaiter final : public on_one_loop::waiter {
 public:
  explicit drain_awaiter(pool_core& p) noexcept : pool_(&p) {}
  drain_awaiter(drain_awaiter&& o) noexcept : pool_(o.pool_) {}
  ~drain_awaiter() {
    if (is_user_) pool_->end_use();
  }

  const char* what() const noexcept override { return "worker_pool::drain"; }
  bool await_ready() const noexcept { return pool_->is_idle(); }
  bool suspend(frame& f) {
    pool_->check_user(*f.scope->loop);
    wait_in(pool_->drainers(), no_lock_, f);
    if (!std::exchange(is_user_, true)) pool_->begin_use();
    return true;
  }
  void await_resume() {
    consume();
    pool_->rethrow_unseen();
  }

 private:
  void leave_line() noexcept override { pool_->drainers().remove(*this); }
  pool_core* pool_;
  bool is_user_ = false;
  [[no_unique_address]] on_one_loop::mutex no_lock_;
};

template <class F, class... Args>
constexpr void check_job() {
  refuse_what_gcc12_miscompiles<F, Args...>();
  static_assert((sizeof...(Args) == 0 && awaitable<std::decay_t<F>>) ||
                    gives_awaitable<std::decay_t<F>&, std::decay_t<Args>...>(),
                "a job is an awaitable, or a callable that takes these arguments as rvalues and returns one, such as a "
                "task; for a function that blocks, submit a coroutine that awaits to_thread");
}

}  // namespace detail

inline worker_pool::worker_pool(worker_pool_options options) : core_(new detail::pool_core(options)) {}
inline worker_pool::~worker_pool() { core_->disown(); }

template <class Function, class... Args>
auto worker_pool::submit(Function&& function, Args&&... args) {
  return submit(job_options{}, std::forward<Function>(function), std::forward<Args>(args)...);
}
template <class Function, class... Args>
auto worker_pool::submit(job_options options, Function&& function, Args&&... args) {
  detail::check_job<Function, Args...>();
  using made = detail::job_of_call<Function, Args...>;
  using job = typename made::type;
  return detail::submit_awaiter<job, typename made::value_type>(
      *core_, new job(*core_, options.name, std::forward<Function>(function), std::forward<Args>(args)...));
}
template <class Function, class... Args>
auto worker_pool::try_submit(Function&& function, Args&&... args) {
  return try_submit(job_options{}, std::forward<Function>(function), std::forward<Args>(args)...);
}
template <class Function, class... Args>
auto worker_pool::try_submit(job_options options, Function&& function, Args&&... args) {
  detail::check_job<Function, Args...>();
  using made = detail::job_of_call<Function, Args...>;
  core_->check_open();
  detail::loop* l = detail::loop::current();
  detail::root* tree = l ? l->running_root() : nullptr;
  if (!tree) throw std::logic_error("tandem::worker_pool::try_submit: called from outside a coroutine");
  core_->check_user(*l);
  if (!core_->has_place()) return task_handle<typename made::value_type>();
  auto* j =
      new typename made::type(*core_, options.name, std::forward<Function>(function), std::forward<Args>(args)...);
  auto handle = detail::handle_access::make<typename made::value_type>(*j);
  core_->accept(*j, *tree, true);
  return handle;
}
inline auto worker_pool::drain() { return detail::drain_awaiter(*core_); }
inline void worker_pool::close() noexcept { core_->close(); }
inline void worker_pool::cancel() noexcept { core_->cancel(); }
inline worker_pool_stats worker_pool::stats() const noexcept { return core_->stats(); }
inline const histogram& worker_pool::queue_time() const noexcept { return core_->queue_time(); }
inline const histogram& worker_pool::run_time() const noexcept { return core_->run_time(); }

}  // namespace tandem::inline TANDEM_CONFIG
