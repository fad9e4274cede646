// tandem/detail/jobs.hpp: functions that are kept until their turn comes: what worker_pool and priority_scheduler
// share.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../clock.hpp"
#include "../task.hpp"
#include "../task_handle.hpp"
#include "failures.hpp"
#include "frame.hpp"
#include "gcc12.hpp"
#include "intrusive_list.hpp"
#include "loop.hpp"
#include "waiting.hpp"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>  // std::invoke
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/detail/jobs.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

class job_keeper;

/// What a keeper knows of a job. It is the owner of the job's record, and belongs to a tree while it is in line or
/// runs.
class any_job : public child_owner, public stray {
 public:
  any_job(const any_job&) = delete;
  any_job& operator=(const any_job&) = delete;

  virtual child_base& record() noexcept = 0;
  /// Calls the function. Null if it throws, which is the job's failure then.
  virtual frame* make() noexcept = 0;
  /// It fails without having run; `record().end()` comes next.
  virtual void refuse(std::exception_ptr) noexcept = 0;
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
  explicit any_job(job_keeper& k) noexcept : keeper_(&k) {}
  ~any_job() = default;
  /// It is to be stopped: if it is in line it never runs.
  void doom() noexcept;
  /// Nobody has a handle any more.
  void record_goes() noexcept;

  job_keeper* keeper_;
  clock::time_point since_{};  // when it got its place in line, until whoever keeps it says otherwise

 private:
  friend job_keeper;
  struct place : list_node {
    explicit place(any_job& j) noexcept : job(j) {}
    any_job& job;
  } place_{*this};  // in the line, among those that have begun, or among the doomed
  root* tree_ = nullptr;
  bool follows_tree_ = true;  // a stop of the tree stops it
  bool is_in_line_ = false, is_running_ = false, has_begun_ = false, is_doomed_ = false;
};

/// `Kind` derives from any_job.
template <class Kind, class T, class Function, class... Args>
class job final : public Kind, public child_of<T> {
 public:
  template <class Keeper, class F, class... A>
  job(Keeper& k, std::string_view name, F&& f, A&&... args)
      : Kind(k), child_of<T>(static_cast<child_owner&>(*this), name) {
    call_.emplace(std::forward<F>(f), std::forward<A>(args)...);
  }
  ~job() { forget_call(); }

  child_base& record() noexcept override { return *this; }
  const wait_node& node_of_stray() const noexcept override { return *this; }
  const char* what() const noexcept override { return Kind::kept_by; }
  std::size_t children() const noexcept override { return 1; }
  frame* child(std::size_t) const noexcept override { return this->running(); }
  void stop(stop_mode m) noexcept override {
    child_of<T>::stop(m);
    this->doom();
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
  void refuse(std::exception_ptr e) noexcept override { this->fail(std::move(e)); }
  void forget_call() noexcept override {
    const not_needed here;
    call_.reset();
  }
  void dispose() noexcept override {
    this->record_goes();
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
template <class Kind, class F, class... Args>
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
  using type = job<Kind, value_type, function, std::decay_t<Args>...>;
};

template <class F, class... Args>
constexpr void check_job() {
  refuse_what_gcc12_miscompiles<F, Args...>();
  static_assert((sizeof...(Args) == 0 && awaitable<std::decay_t<F>>) ||
                    gives_awaitable<std::decay_t<F>&, std::decay_t<Args>...>(),
                "a job is an awaitable, or a callable that takes these arguments as rvalues and returns one, such as a "
                "task; for a function that blocks, submit a coroutine that awaits to_thread");
  static_assert(((alignof(std::decay_t<F>) <= 2 * sizeof(void*)) && ... &&
                 (alignof(std::decay_t<Args>) <= 2 * sizeof(void*))),
                "a job cannot hold over-aligned objects: hand over a std::unique_ptr to one");
}

/// Keeps jobs, and starts them when whoever derives from it says so. It lives as long as its face (the pool), a job of
/// it, or somebody who waits.
class job_keeper {
 public:
  job_keeper(const job_keeper&) = delete;
  job_keeper& operator=(const job_keeper&) = delete;

  bool is_closed() const noexcept { return is_closed_; }
  void check_user(const loop& l) {
    user_.check(l, name_, "make one for each loop, or hand over by a concurrent_queue");
  }

  /// From a coroutine in the scope `s`. The job has a place from now on.
  void accept(any_job& j, const scope& s) noexcept {
    const scope* outermost = &s;
    while (outermost->outer) outermost = outermost->outer;
    root& tree = *s.root;
    const bool follows_tree = outermost == &tree.scope();  // otherwise under a shield, which its stop does not reach
    loop& l = *tree.scope().loop;
    child_base& record = j.record();
    record.enter(l, tree, follows_tree ? &tree.scope() : nullptr);
    record.share();
    ++users_;
    ++submitted_;
    j.tree_ = &tree;
    j.follows_tree_ = follows_tree;
    j.since_ = l.now();
    tree.adopt(j);
    loop_ = &l;
    if (record.is_stopped()) {
      record.end(nullptr, fate::stopped);
      return;
    }
    joins_line(j);
    line_.push_back(j.place_);
    fill();
  }
  on_one_loop::line& drainers() noexcept { return drainers_; }
  virtual bool is_idle() const noexcept { return running_count_ == 0 && queued_ == 0 && doomed_.empty(); }
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
    child_base& record = j.record();
    {
      const loop::in_scope of_the_job(record.own_scope());
      j.forget_call();
    }
    if (j.is_in_line_) leaves_line(j);
    j.place_.unlink();
    if (std::exchange(j.is_running_, false)) --running_count_;
    if (!j.is_doomed_) ++(record.has_value() ? succeeded_ : record.failed() ? failed_ : cancelled_);
    has_ended(j);
    if (is_ownerless_ && record.failed_unseen() && !record.is_shared()) {  // no later drain will tell
      j.tree_->stray_failed(record.failure());
      record.has_been_told();
    }
    fill();
    static_cast<stray&>(j).unlink();
    j.tree_->stray_ended();  // this may be what the tree waited for
  }
  /// The last handle of a job has gone. If nobody has looked at its failure, the next to drain is told, or, if the face
  /// is gone, whoever hears of the end of the tree.
  void record_goes(const child_base& record) noexcept {
    if (record.failed_unseen()) {
      if (!is_ownerless_)
        keep_unseen(record.failure());
      else if (root* tree = tree_to_tell())
        tree->stray_failed(record.failure());
    }
    end_use();
  }
  /// If it has not begun it never will. It is taken out of the line here, and counts as cancelled; it ends in the
  /// loop's turn, since this may be called from anywhere.
  void doom(any_job& j) noexcept {
    if (!j.is_in_line_ || j.has_begun_) return;
    j.is_doomed_ = true;
    ++cancelled_;
    leaves_line(j);
    j.place_.unlink();
    doomed_.push_back(j.place_);
    take_turn();
  }

  void close() noexcept {
    is_closed_ = true;
    has_closed();
  }
  void cancel() noexcept {
    close();
    stop_all();
  }
  /// Its face goes.
  void disown() noexcept {
    is_ownerless_ = true;
    ++users_;
    if (root* tree = tree_to_tell(); tree && unseen_.any())
      tree->stray_failed(std::exchange(unseen_, failures()).together_with(nullptr));
    close();
    while (!drainers_.empty()) drainers_.wake_if_running(drainers_.front());
    stop_all();
    end_use();
  }

 protected:
  explicit job_keeper(const char* name) noexcept : name_(name) {}
  virtual ~job_keeper() = default;

  /// Something may have room now, or has come: start what may be started, here or in a turn of its own.
  virtual void fill() noexcept = 0;
  /// What `take_turn` has asked for: on the bottom of the loop's stack.
  virtual void on_turn() noexcept { fill(); }
  virtual void joins_line(any_job& j) noexcept {
    j.is_in_line_ = true;
    ++queued_;
  }
  virtual void leaves_line(any_job& j) noexcept {
    j.is_in_line_ = false;
    --queued_;
  }
  virtual void has_ended(any_job&) noexcept {}
  virtual void stops_all() noexcept {}
  virtual void has_closed() noexcept {}

  void note_queued() noexcept {
    if (queued_ > most_queued_) most_queued_ = queued_;
  }
  /// Calls `on_turn` in the loop's next turn.
  void take_turn() noexcept {
    if (!turn_.linked() && loop_) turn_.take(*loop_);
  }
  /// If it is to be called: after whatever is ready now.
  void put_turn_off() noexcept {
    if (!turn_.linked()) return;
    turn_.unlink();
    take_turn();
  }
  bool has_begun(const any_job& j) const noexcept { return j.has_begun_; }
  bool is_in_line(const any_job& j) const noexcept { return j.is_in_line_; }
  any_job* first_in_line() const noexcept { return line_.empty() ? nullptr : &line_.front().job; }

  /// Takes it out of the line. It is one of those that run now.
  void begin(any_job& j) noexcept {
    leaves_line(j);
    if (!std::exchange(j.has_begun_, true)) {
      j.place_.unlink();
      begun_.push_back(j.place_);
    }
    counts_as_running(j);
  }
  void counts_as_running(any_job& j) noexcept {
    j.is_running_ = true;
    ++running_count_;
  }
  void counts_not_as_running(any_job& j) noexcept {
    j.is_running_ = false;
    --running_count_;
  }
  /// Runs it until it first waits.
  void run(any_job& j) noexcept {
    child_base& record = j.record();
    const loop::in_scope of_the_job(record.own_scope());  // what runs here may belong to another
    if (frame* f = j.make())
      record.start(*f);
    else
      record.end(nullptr, fate::done);
  }
  /// It has been taken out of the line, and fails with `e` instead of running.
  void refuse(any_job& j, std::exception_ptr e) noexcept {
    j.place_.unlink();
    j.refuse(std::move(e));
    j.record().end(nullptr, fate::done);
  }
  void wake_drainers_if_idle() noexcept {
    if (is_idle())
      while (!drainers_.empty()) drainers_.wake(drainers_.front());
  }

  loop* loop_ = nullptr;   // of the jobs, once there are any
  std::size_t users_ = 0;  // records of jobs, waiters, and functions of this that call out
  std::size_t running_count_ = 0, queued_ = 0, most_queued_ = 0;
  std::uint64_t submitted_ = 0, succeeded_ = 0, failed_ = 0, cancelled_ = 0;

 private:
  class turn final : public leaf {
   public:
    explicit turn(job_keeper& k) noexcept : keeper_(k) {}
    const char* what() const noexcept override { return keeper_.name_; }
    void take(loop& l) noexcept {
      state_ = calls;
      l.queue(*this);
    }

   private:
    step on_turn() noexcept override {
      job_keeper& k = keeper_;
      k.begin_use();
      k.end_doomed();
      k.on_turn();
      k.end_use();
      return step::none();
    }
    job_keeper& keeper_;
  };

  static root* tree_to_tell() noexcept {
    loop* here = loop::current();
    return here ? here->running_or_ending_root() : nullptr;
  }
  void end_doomed() noexcept {
    while (!doomed_.empty()) doomed_.front().job.record().end(nullptr, fate::stopped);
  }
  void stop_all() noexcept {
    stops_all();
    if (!loop_ || (line_.empty() && begun_.empty())) return;
    loop_->ask([this]() noexcept {
      while (!line_.empty()) line_.front().job.record().stop(stop_mode::ask);
      for (auto* p = begun_.empty() ? nullptr : &begun_.front(); p; p = begun_.next(*p))
        p->job.record().stop(stop_mode::ask);
    });
  }
  /// The first so many: a keeper that nobody drains must not grow for ever. The counters have all.
  void keep_unseen(std::exception_ptr e) noexcept {
    constexpr std::size_t most = 64;
    if (unseen_count_ == most) return;
    ++unseen_count_;
    unseen_.add(std::move(e));
  }
  void end_if_over() noexcept {
    if (is_ownerless_ && users_ == 0) delete this;
  }

  const char* name_;
  intrusive_list<any_job::place> line_, begun_, doomed_;
  on_one_loop::line drainers_;
  on_one_loop::user user_;
  bool is_closed_ = false, is_ownerless_ = false;
  failures unseen_;
  std::size_t unseen_count_ = 0;
  turn turn_{*this};
};

inline step any_job::child_done(child_base&) noexcept {
  keeper_->ended(*this);
  return step::none();
}
inline void any_job::record_goes() noexcept {
  if (tree_) keeper_->record_goes(record());  // otherwise it was never accepted
}
inline void any_job::doom() noexcept { keeper_->doom(*this); }

/// Waits until the keeper is idle, and throws what nobody has looked at.
class drain_awaiter final : public on_one_loop::waiter {
 public:
  drain_awaiter(job_keeper& k, const char* what) noexcept : keeper_(&k), what_(what) {}
  drain_awaiter(drain_awaiter&& o) noexcept : keeper_(o.keeper_), what_(o.what_) {}
  ~drain_awaiter() {
    if (is_user_) keeper_->end_use();
  }

  const char* what() const noexcept override { return what_; }
  bool await_ready() const noexcept { return keeper_->is_idle(); }
  bool suspend(frame& f) {
    keeper_->check_user(*f.scope->loop);
    wait_in(keeper_->drainers(), no_lock_, f);
    if (!std::exchange(is_user_, true)) keeper_->begin_use();
    return true;
  }
  void await_resume() {
    consume();
    keeper_->rethrow_unseen();
  }

 private:
  void leave_line() noexcept override { keeper_->drainers().remove(*this); }
  job_keeper* keeper_;
  const char* what_;
  bool is_user_ = false;
  [[no_unique_address]] on_one_loop::mutex no_lock_;
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
