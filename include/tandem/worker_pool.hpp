// tandem/worker_pool.hpp: many jobs, so many at a time, and so many in line: worker_pool.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, metrics.hpp, outcome.hpp, task.hpp, task_handle.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/intrusive_list.hpp, detail/jobs.hpp, detail/leaf.hpp, detail/loop.hpp, detail/one_loop.hpp, detail/priority.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "exceptions.hpp"
#include "metrics.hpp"
#include "task_handle.hpp"

#include "detail/jobs.hpp"
#include "detail/waiting.hpp"

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/worker_pool.hpp is of version 0.1.0, asio.hpp is not");

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
/// O(1) for each job; one allocation beside its frame, of the memory that frames come from.
class worker_pool {
 public:
  /// Throws std::invalid_argument for no workers.
  explicit worker_pool(worker_pool_options options);
  worker_pool() : worker_pool(worker_pool_options()) {}
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

class pool_job : public any_job {
 protected:
  static constexpr const char* kept_by = "worker_pool";
  using any_job::any_job;
  ~pool_job() = default;

 private:
  friend pool_core;
  clock::time_point& since() noexcept { return since_; }
};

/// Somebody who waits for a place in line for his job.
class submission : public on_one_loop::waiter {
 public:
  using on_one_loop::waiter::wait_in;
  explicit submission(pool_job* j) noexcept : job(j) {}
  pool_job* job;
  bool is_refused = false;

 protected:
  ~submission() = default;
};

class pool_core final : public job_keeper {
 public:
  explicit pool_core(const worker_pool_options& o) : job_keeper("worker_pool"), options_(o) {
    if (o.workers == 0) throw std::invalid_argument("tandem::worker_pool: 0 workers; there must be at least 1");
  }

  void check_open() const {
    if (is_closed()) throw worker_pool_closed();
  }
  bool has_place() const noexcept { return submitters_.empty() && has_room(); }
  void wait(submission& w, frame& f) {
    w.wait_in(submitters_, no_lock_, f);
    ++users_;
  }
  void leave(submission& w) noexcept { submitters_.remove(w); }
  bool is_idle() const noexcept override { return job_keeper::is_idle() && submitters_.empty(); }

  worker_pool_stats stats() const {
    worker_pool_stats s;
    s.workers = options_.workers;
    s.running = running_count_;
    s.queued = queued_;
    s.most_queued = most_queued_;
    s.submitting = submitters_.size();
    s.submitted = submitted_;
    s.succeeded = succeeded_;
    s.failed = failed_;
    s.cancelled = cancelled_;
    s.queue_time = queue_time_.summary();
    s.run_time = run_time_.summary();
    return s;
  }
  const histogram& queue_time() const noexcept { return queue_time_; }
  const histogram& run_time() const noexcept { return run_time_; }

 private:
  ~pool_core() override = default;
  /// One more fits into the line or to a worker. While jobs are being started a worker may be free for one in line.
  bool has_room() const noexcept {
    return queued_ < options_.backlog || queued_ - options_.backlog < options_.workers - running_count_;
  }
  /// Starts what can be started, and lets those in who wait for a place. Called again from a job that ends at once, it
  /// leaves that to the outer call: a long line of such jobs is no deep stack.
  void fill() noexcept override {
    if (std::exchange(is_filling_, true)) return;
    begin_use();
    for (;;) {
      any_job* next = running_count_ < options_.workers ? first_in_line() : nullptr;
      if (next)
        start(static_cast<pool_job&>(*next));
      else if (!submitters_.empty() && has_room())
        admit(static_cast<submission&>(submitters_.front()));
      else
        break;
    }
    is_filling_ = false;
    note_queued();
    wake_drainers_if_idle();
    end_use();
  }
  void start(pool_job& j) noexcept {
    begin(j);
    const clock::time_point now = loop_->now();
    queue_time_.record(now - j.since());
    j.since() = now;
    run(j);
  }
  void admit(submission& w) noexcept {
    pool_job& j = *w.job;
    const scope& s = w.scope_around();
    submitters_.wake(w);
    accept(j, s);
  }
  void has_ended(any_job& j) noexcept override {
    if (has_begun(j)) run_time_.record(loop_->now() - static_cast<pool_job&>(j).since());
  }
  /// Nothing is accepted any more: who waits for a place is told.
  void has_closed() noexcept override {
    while (!submitters_.empty()) {
      auto& w = static_cast<submission&>(submitters_.front());
      w.is_refused = true;
      submitters_.wake_if_running(w);
    }
  }

  worker_pool_options options_;
  on_one_loop::line submitters_;
  [[no_unique_address]] on_one_loop::mutex no_lock_;
  bool is_filling_ = false;
  histogram queue_time_, run_time_;
};

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
  using made = detail::job_of_call<detail::pool_job, Function, Args...>;
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
  using made = detail::job_of_call<detail::pool_job, Function, Args...>;
  core_->check_open();
  detail::loop* l = detail::loop::current();
  const detail::scope* around = l ? l->running_scope() : nullptr;
  if (!around) throw std::logic_error("tandem::worker_pool::try_submit: called from outside a coroutine");
  core_->check_user(*l);
  if (!core_->has_place()) return task_handle<typename made::value_type>();
  auto* j =
      new typename made::type(*core_, options.name, std::forward<Function>(function), std::forward<Args>(args)...);
  auto handle = detail::handle_access::make<typename made::value_type>(*j);
  core_->check_open();  // what has been copied may have closed it
  core_->accept(*j, *around);
  return handle;
}
inline auto worker_pool::drain() { return detail::drain_awaiter(*core_, "worker_pool::drain"); }
inline void worker_pool::close() noexcept { core_->close(); }
inline void worker_pool::cancel() noexcept { core_->cancel(); }
inline worker_pool_stats worker_pool::stats() const noexcept { return core_->stats(); }
inline const histogram& worker_pool::queue_time() const noexcept { return core_->queue_time(); }
inline const histogram& worker_pool::run_time() const noexcept { return core_->run_time(); }

}  // namespace tandem::inline TANDEM_CONFIG
