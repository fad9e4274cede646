// tandem/priority_scheduler.hpp: many jobs, and the most urgent first: priority_scheduler.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, outcome.hpp, task.hpp, task_handle.hpp, detail/alarm.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/intrusive_list.hpp, detail/jobs.hpp, detail/leaf.hpp, detail/loop.hpp, detail/one_loop.hpp, detail/priority.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "exceptions.hpp"
#include "task_handle.hpp"

#include "detail/alarm.hpp"
#include "detail/intrusive_list.hpp"
#include "detail/jobs.hpp"
#include "detail/priority.hpp"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/priority_scheduler.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

namespace detail {
class scheduled_job;
class scheduler_core;
}  // namespace detail

struct priority_scheduler_options {
  std::size_t slots = 1;  ///< jobs that run at a time; at least 1
  /// The waiting time that raises a job by one priority; 0: waiting raises nobody.
  clock::duration ageing{};
};

struct priority_job_options {
  /// The smaller number comes first. Without one: that of the job that submits, or 0 outside of any.
  std::optional<int> priority = {};
  /// Among jobs of one priority the earliest comes first. A job that has not started by then is refused.
  clock::time_point deadline = clock::time_point::max();
  /// For reports; the characters must outlive the job.
  std::string_view name = {};
};

/// What submitting to a scheduler throws after `close()` or `cancel()`.
class priority_scheduler_closed : public std::runtime_error {
 public:
  priority_scheduler_closed() : std::runtime_error("tandem::priority_scheduler_closed") {}
};

/// How a job fails that could not start before its deadline: it never ran.
class job_expired : public timed_out {
 public:
  job_expired() : timed_out({}, "tandem::job_expired: the job's deadline passed before a slot was free") {}
};

/// How the jobs of one priority fared. A job counts under the priority that it has at the time.
struct priority_stats {
  int priority = 0;
  std::size_t queued = 0, running = 0;
  std::uint64_t started = 0;
  clock::duration waited{}, longest_wait{};  ///< of those that have started: all their waiting, and the longest
  /// The slots that went to other priorities while one of these waited: the most for any one that has been in line, the
  /// one that waits longest now included.
  std::uint64_t starved_by = 0;
};

struct priority_scheduler_stats {
  std::size_t slots = 0, running = 0;       ///< the most that may run, and those that do
  std::size_t queued = 0, most_queued = 0;  ///< waiting for a slot now, and the most there ever were
  std::uint64_t submitted = 0;              ///< jobs that were accepted
  std::uint64_t succeeded = 0, failed = 0, cancelled = 0, expired = 0;  ///< those of them that have ended
  std::uint64_t gave_way = 0;              ///< times that a running job left its slot to a more urgent one
  std::vector<priority_stats> priorities;  ///< every priority there ever was, the smallest number first
};

/// A task_handle that knows its job's priority.
template <class T = void>
class priority_handle : public task_handle<T> {
 public:
  priority_handle() noexcept = default;  ///< Empty.

  /// Gives the job another priority of its own, while it waits or runs; nothing if it has ended. It keeps the time that
  /// it has waited. Throws std::bad_alloc, and nothing has changed, if the priority is new and there is no memory.
  /// O(log n).
  void reprioritize(int priority) const;
  /// Its own, or a smaller one that it is lent by a job that waits for it.
  int priority() const;

 private:
  friend class priority_scheduler;
  explicit priority_handle(task_handle<T> h) noexcept : task_handle<T>(std::move(h)) {}
};

/// Holds jobs, and starts the most urgent when a slot is free: `auto h = sched.submit({.priority = 3}, report, day)`
/// and later `co_await h`.
///
/// A job is a coroutine function with its arguments, kept and called when its turn comes, or any awaitable. The smaller
/// number comes first, first come, first served among equals; those with a deadline before the others, the earliest
/// first. A slot that is free is filled in the loop's next turn: what is submitted in one go is ordered before any of
/// it starts, and who awaits a job goes on before the next one starts.
///
/// *Ageing* counts a job that has waited for `n * ageing` as one whose number is smaller by n. A job of priority p is
/// then overtaken by no job of priority q that was submitted `(p - q + 1) * ageing` or more after it (and without
/// deadlines, `(p - q) * ageing`), so nothing waits for ever. Without ageing priority is absolute.
///
/// Nothing is pre-empted: a job keeps its slot until it ends, or awaits `this_task::checkpoint()` while one with a
/// smaller number is in line that comes before it; then it goes on after that, before its equals. It keeps the slot
/// while it waits for something else. A job that waits for a job of the same scheduler lends it its priority, not its
/// slot.
///
/// A handle gives the job's result, its failure, or `cancelled`; `job_expired` if its deadline passed in line. A
/// failure that nobody has looked at when the last handle goes is thrown by the next `drain()`, several (the first 64)
/// as an `exception_group`; if the scheduler goes before that, in a coroutine, it is how that one's tree ends. Jobs
/// belong to the tree in which they were submitted: a stop of the tree stops them, and it ends after them. Destroying
/// the scheduler stops those that run and drops the others, without waiting for their ends. For the coroutines of one
/// loop.
///
/// O(log n) for each job; one allocation beside its frame, and one for each priority that is new, which is kept: a
/// scheduler is made for few priorities and many jobs.
class priority_scheduler {
 public:
  /// Throws std::invalid_argument for no slots and for a negative ageing.
  explicit priority_scheduler(priority_scheduler_options options);
  priority_scheduler() : priority_scheduler(priority_scheduler_options()) {}
  ~priority_scheduler();
  priority_scheduler(const priority_scheduler&) = delete;
  priority_scheduler& operator=(const priority_scheduler&) = delete;

  /// Puts a job in line and gives its priority_handle; never waits. `function` and `args` are copied or moved into the
  /// job, and destroyed when it has ended. In a tree that is being stopped it never runs, and its outcome is
  /// `cancelled`. Throws `priority_scheduler_closed`, and std::logic_error outside a coroutine and on another loop than
  /// that of the first submit.
  template <class Function, class... Args>
  auto submit(Function&& function, Args&&... args);
  template <class Function, class... Args>
  auto submit(priority_job_options options, Function&& function, Args&&... args);

  /// Waits until no job is in line or running. Throws the failures that nobody has looked at.
  auto drain();

  /// No job starts, and none that gave way goes on, until `resume()`. Those that run go on.
  void pause() noexcept;
  void resume() noexcept;
  bool is_paused() const noexcept;
  /// From now on so many run at a time. If more do, they go on, and the next starts when fewer are left. Throws
  /// std::invalid_argument for 0, which is `pause()`.
  void resize(std::size_t slots);

  /// Accepts no more jobs; those it has go on.
  void close() noexcept;
  /// Closes, ends a pause, drops the jobs in line and stops those that run: their handles get `cancelled`.
  void cancel() noexcept;

  priority_scheduler_stats stats() const;

 private:
  detail::scheduler_core* core_;
};

namespace this_task {

/// `co_await this_task::priority`: that of the priority_scheduler's job that this coroutine is part of, lent ones
/// included; 0 outside of any. Tasks that the job does not wait for within itself (`spawn`, `on`, jobs of a pool, the
/// tasks of an `as_completed`) are not part of it. Does not suspend.
struct priority_t;
extern const priority_t priority;

}  // namespace this_task

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

class heap_node {
 public:
  heap_node() = default;
  heap_node(const heap_node&) = delete;
  heap_node& operator=(const heap_node&) = delete;
  bool linked() const noexcept { return rank_ != 0; }

 private:
  template <class Node, class Before>
  friend class leftist_heap;
  heap_node *left_ = nullptr, *right_ = nullptr, *parent_ = nullptr;
  unsigned rank_ = 0;  // nodes on the way right, down to the end; 0 outside a heap
};

/// Nodes in order of `Before`, whose smallest is at hand; allocates nothing. O(log n) (Crane, "Linear lists and
/// priority queues as balanced binary trees", 1972).
template <class Node, class Before>
class leftist_heap {
 public:
  explicit leftist_heap(Before before = {}) noexcept : before_(before) {}
  Node* front() const noexcept { return static_cast<Node*>(root_); }
  void insert(Node& n) noexcept {
    heap_node& h = n;
    h.left_ = h.right_ = nullptr;
    h.rank_ = 1;
    root_ = merge(root_, &h);
    root_->parent_ = nullptr;
  }
  void erase(Node& n) noexcept {
    heap_node& h = n;
    heap_node* above = h.parent_;
    heap_node* below = merge(h.left_, h.right_);
    if (below) below->parent_ = above;
    (!above ? root_ : above->left_ == &h ? above->left_ : above->right_) = below;
    h.rank_ = 0;
    for (; above; above = above->parent_) {
      lean_left(*above);
      const unsigned r = rank(above->right_) + 1;
      if (above->rank_ == r) break;
      above->rank_ = r;
    }
  }

 private:
  static unsigned rank(const heap_node* n) noexcept { return n ? n->rank_ : 0; }
  static void lean_left(heap_node& n) noexcept {
    if (rank(n.left_) < rank(n.right_)) std::swap(n.left_, n.right_);
  }
  /// As deep as the ways to the right, which are short.
  heap_node* merge(heap_node* a, heap_node* b) const noexcept {
    if (!a || !b) return a ? a : b;
    if (before_(static_cast<const Node&>(*b), static_cast<const Node&>(*a))) std::swap(a, b);
    a->right_ = merge(a->right_, b);
    a->right_->parent_ = a;
    lean_left(*a);
    a->rank_ = rank(a->right_) + 1;
    return a;
  }
  heap_node* root_ = nullptr;
  [[no_unique_address]] Before before_;
};

struct priority_level;

class scheduled_job : public any_job, public prioritized {
 public:
  bool gives_way(leaf& checkpoint) noexcept override;
  void checkpoint_left() noexcept override;
  void reprioritize(int p);

 protected:
  static constexpr const char* kept_by = "priority_scheduler";
  explicit scheduled_job(scheduler_core& s) noexcept;
  ~scheduled_job() = default;

 private:
  friend scheduler_core;
  friend alarm<scheduled_job>;
  friend struct priority_level;
  scheduler_core& scheduler() const noexcept;
  bool take_priority(int p) noexcept override;
  void on_alarm() noexcept;

  bool is_older_than(const scheduled_job& o) const noexcept {
    return since_ != o.since_ ? since_ < o.since_ : number_ < o.number_;
  }
  struct arrival : list_node {
    explicit arrival(scheduled_job& j) noexcept : job(j) {}
    scheduled_job& job;
  } arrival_{*this};
  struct by_age : heap_node {
    explicit by_age(scheduled_job& j) noexcept : job(j) {}
    scheduled_job& job;
    struct before {
      bool operator()(const by_age& a, const by_age& b) const noexcept { return a.job.is_older_than(b.job); }
    };
  } by_age_{*this};
  struct by_deadline : heap_node {
    explicit by_deadline(scheduled_job& j) noexcept : job(j) {}
    scheduled_job& job;
    struct before {
      bool operator()(const by_deadline& a, const by_deadline& b) const noexcept {
        return a.job.deadline_ != b.job.deadline_ ? a.job.deadline_ < b.job.deadline_ : a.job.number_ < b.job.number_;
      }
    };
  } by_deadline_{*this};

  priority_level* level_ = nullptr;
  std::uint64_t number_ = 0;  // in order of submission
  clock::time_point deadline_ = clock::time_point::max();
  clock::duration waited_{};  // for the slot that it has; `since_` is when it began to, or would have
  std::uint64_t others_before_ =
      0;  // slots that had gone to other priorities when it joined the line, see `starved_by`
  std::uint64_t starved_by_ = 0;
  std::size_t* counted_in_ = nullptr;  // its level's gauge
  bool has_expired_ = false;
  intrusive_list<leaf> checkpoints_;  // that wait for its turn
  alarm<scheduled_job> expiry_{*this};
};

/// The jobs of one priority that are in line.
struct priority_level : heap_node {
  explicit priority_level(int p) noexcept { stats.priority = p; }
  int priority() const noexcept { return stats.priority; }

  void insert(scheduled_job& j) noexcept {
    if (arrivals.empty() || arrivals.back().job.is_older_than(j))
      arrivals.push_back(j.arrival_);
    else
      by_age.insert(j.by_age_);
    if (j.deadline_ != clock::time_point::max()) by_deadline.insert(j.by_deadline_);
  }
  void erase(scheduled_job& j) noexcept {
    if (j.by_age_.linked()) by_age.erase(j.by_age_);
    j.arrival_.unlink();
    if (j.by_deadline_.linked()) by_deadline.erase(j.by_deadline_);
  }
  scheduled_job* oldest() const noexcept {
    scheduled_job* a = arrivals.empty() ? nullptr : &arrivals.front().job;
    scheduled_job* b = by_age.front() ? &by_age.front()->job : nullptr;
    return !a || (b && b->is_older_than(*a)) ? b : a;
  }
  /// The one whose turn is next: the earliest deadline, unless another has come `ageing` before it.
  scheduled_job* next(clock::duration ageing) const noexcept {
    scheduled_job* o = oldest();
    auto* due = by_deadline.front();
    if (!due || (ageing != clock::duration::zero() && due->job.since_ - o->since_ >= ageing)) return o;
    return &due->job;
  }

  intrusive_list<scheduled_job::arrival> arrivals;                            // those that came in order, as most do,
  leftist_heap<scheduled_job::by_age, scheduled_job::by_age::before> by_age;  // and the others
  leftist_heap<scheduled_job::by_deadline, scheduled_job::by_deadline::before> by_deadline;  // those that have one
  scheduled_job* first = nullptr;
  std::uint64_t slots_given = 0;
  priority_stats stats;
};

class scheduler_core final : public job_keeper {
 public:
  explicit scheduler_core(const priority_scheduler_options& o) : job_keeper("priority_scheduler"), options_(o) {
    check_slots(o.slots);
    refuse_negative(o.ageing, "tandem::priority_scheduler: ageing");
  }

  void check_open() const {
    if (is_closed()) throw priority_scheduler_closed();
  }
  /// In a coroutine of the loop: the scope that submits.
  const scope& check_submit() {
    check_open();
    loop* l = loop::current();
    const scope* around = l ? l->running_scope() : nullptr;
    if (!around) throw std::logic_error("tandem::priority_scheduler::submit: called from outside a coroutine");
    check_user(*l);
    return *around;
  }
  priority_level& level(int p) { return levels_.try_emplace(p, p).first->second; }
  void submit(scheduled_job& j, priority_level& l, clock::time_point deadline, const scope& around) {
    if (deadline != clock::time_point::max()) around.loop->reserve_timer();
    j.level_ = &l;
    j.begin_with(l.priority());
    j.number_ = ++numbers_;
    j.deadline_ = deadline;
    j.record().is_job(j);
    accept(j, around);
    if (!is_in_line(j)) return;  // the tree is being stopped
    if (deadline <= loop_->now())
      expire(j);
    else if (deadline != clock::time_point::max())
      j.expiry_.set(*loop_, deadline);
  }
  /// Its deadline has passed in line.
  void expire(scheduled_job& j) noexcept {
    leaves_line(j);
    j.has_expired_ = true;
    refuse(j, [] {
      try {
        return std::make_exception_ptr(job_expired());
      } catch (...) {
        return std::current_exception();
      }
    }());
  }

  bool move(scheduled_job& j, int p) noexcept try {
    if (j.record().done()) return true;
    priority_level& to = level(p);
    const bool is_queued = is_in_line(j);
    const bool is_counted = j.counted_in_ != nullptr;
    if (is_queued) {
      note_starved(j);
      remove(j);
    }
    j.level_ = &to;
    if (is_queued) insert(j);
    if (is_counted) count(j, is_queued ? &to.stats.queued : &to.stats.running);
    return true;
  } catch (...) {  // no memory for a new level
    return false;
  }

  /// A checkpoint of one that runs: true if it waits for its turn.
  bool gives_way(scheduled_job& j, leaf& checkpoint) noexcept {
    if (!is_in_line(j)) {  // it has its slot
      const priority_level* front = by_urgency_.front();
      if (!front || is_paused_ || running_count_ < options_.slots) return false;
      if (options_.ageing == clock::duration::zero() && front->priority() >= j.level_->priority()) return false;
      j.since_ = loop_->now() - j.waited_;
      if (!is_preceded(j)) return false;
      j.deadline_ = clock::time_point::min();  // it has begun: it goes on before its equals
      ++gave_way_;
      counts_not_as_running(j);
      joins_line(j);
      take_turn();
    }
    j.checkpoints_.push_back(checkpoint);
    return true;
  }
  /// If that was the last, the job goes on elsewhere, without having waited for a slot.
  void checkpoint_left(scheduled_job& j) noexcept {
    if (!j.checkpoints_.empty() || !is_in_line(j)) return;
    leaves_line(j);
    j.waited_ = loop_->now() - j.since_;
    counts_as_running(j);
    count(j, &j.level_->stats.running);
  }

  void pause() noexcept { is_paused_ = true; }
  void resume() noexcept {
    is_paused_ = false;
    fill();
  }
  bool is_paused() const noexcept { return is_paused_; }
  void resize(std::size_t slots) {
    check_slots(slots);
    options_.slots = slots;
    fill();
  }

  priority_scheduler_stats stats() const {
    priority_scheduler_stats s;
    s.slots = options_.slots;
    s.running = running_count_;
    s.queued = queued_;
    s.most_queued = most_queued_;
    s.submitted = submitted_;
    s.succeeded = succeeded_;
    s.failed = failed_ - expired_;
    s.cancelled = cancelled_;
    s.expired = expired_;
    s.gave_way = gave_way_;
    s.priorities.reserve(levels_.size());
    for (const auto& [priority, l] : levels_) {
      s.priorities.push_back(l.stats);
      if (const scheduled_job* oldest = l.oldest())
        if (const std::uint64_t n = starved_by(*oldest); n > s.priorities.back().starved_by)
          s.priorities.back().starved_by = n;
    }
    return s;
  }

 private:
  ~scheduler_core() override = default;
  static void check_slots(std::size_t n) {
    if (n == 0)
      throw std::invalid_argument(
          "tandem::priority_scheduler: 0 slots; there must be at least 1, and pause() holds all");
  }

  // --- The line ---

  /// Of jobs of two priorities: each counts as if it had come earlier by `ageing` for each priority that its number is
  /// smaller by. That does not depend on the time at which one asks.
  bool precedes(const scheduled_job& a, const scheduled_job& b) const noexcept {
    const std::int64_t apart = std::int64_t(b.level_->priority()) - a.level_->priority();
    const std::int64_t ageing = options_.ageing.count();
    if (ageing == 0 || (apart < 0 ? -apart : apart) > std::numeric_limits<std::int64_t>::max() / ageing)
      return apart > 0;
    const clock::duration later = a.since_ - b.since_, lead(apart * ageing);
    return later != lead ? later < lead : a.number_ < b.number_;
  }
  /// By one in line whose number is smaller. Linear in the priorities, but only if an aged job is first in line.
  bool is_preceded(const scheduled_job& j) const noexcept {
    const priority_level* front = by_urgency_.front();
    if (!front || !precedes(*front->first, j)) return false;
    if (front->priority() < j.level_->priority()) return true;
    for (const auto& [priority, l] : levels_) {
      if (priority >= j.level_->priority()) break;
      if (l.first && precedes(*l.first, j)) return true;
    }
    return false;
  }
  struct more_urgent {
    const scheduler_core* core;
    bool operator()(const priority_level& a, const priority_level& b) const noexcept {
      return core->precedes(*a.first, *b.first);
    }
  };
  void insert(scheduled_job& j) noexcept {
    j.others_before_ = slots_given_ - j.level_->slots_given;
    j.level_->insert(j);
    update(*j.level_);
  }
  void remove(scheduled_job& j) noexcept {
    j.level_->erase(j);
    update(*j.level_);
  }
  void update(priority_level& l) noexcept {
    scheduled_job* first = l.next(options_.ageing);
    if (first == l.first) return;
    if (l.linked()) by_urgency_.erase(l);
    l.first = first;
    if (first) by_urgency_.insert(l);
  }
  void joins_line(any_job& x) noexcept override {
    auto& j = static_cast<scheduled_job&>(x);
    job_keeper::joins_line(j);
    note_queued();
    insert(j);
    count(j, &j.level_->stats.queued);
  }
  void leaves_line(any_job& x) noexcept override {
    auto& j = static_cast<scheduled_job&>(x);
    job_keeper::leaves_line(j);
    j.expiry_.cancel();
    note_starved(j);
    remove(j);
    count(j, nullptr);
  }
  void has_ended(any_job& x) noexcept override {
    auto& j = static_cast<scheduled_job&>(x);
    if (j.has_expired_) ++expired_;
    put_turn_off();  // who awaits it goes on before another has its slot
    count(j, nullptr);
    j.repay();
  }
  /// What cleans up may have to go on.
  void stops_all() noexcept override { resume(); }

  // --- Slots ---

  void fill() noexcept override {
    if (!is_paused_ && queued_ != 0 && running_count_ < options_.slots) take_turn();
    wake_drainers_if_idle();
  }
  void on_turn() noexcept override {
    const std::size_t free = options_.slots > running_count_ ? options_.slots - running_count_ : 0;
    for (std::size_t i = 0; i != free && running_count_ < options_.slots && !is_paused_; ++i) {
      scheduled_job* j = next();
      if (!j) break;
      give_slot(*j);
    }
    fill();
  }
  scheduled_job* next() noexcept {
    for (;;) {
      const priority_level* l = by_urgency_.front();
      if (!l) return nullptr;
      scheduled_job& j = *l->first;
      if (has_begun(j) || j.deadline_ > loop_->now()) return &j;
      expire(j);
    }
  }
  void give_slot(scheduled_job& j) noexcept {
    const bool is_new = !has_begun(j);
    begin(j);
    has_slot(j);
    if (!is_new) {
      while (!j.checkpoints_.empty()) j.checkpoints_.front().wake();
      return;
    }
    priority_stats& s = j.level_->stats;
    ++s.started;
    s.waited = j.waited_ > clock::duration::max() - s.waited ? clock::duration::max() : s.waited + j.waited_;
    if (j.waited_ > s.longest_wait) s.longest_wait = j.waited_;
    run(j);
  }
  void has_slot(scheduled_job& j) noexcept {
    j.waited_ = loop_->now() - j.since_;
    ++slots_given_;
    ++j.level_->slots_given;
    count(j, &j.level_->stats.running);
  }

  // --- Figures ---

  void count(scheduled_job& j, std::size_t* gauge) noexcept {
    if (j.counted_in_) --*j.counted_in_;
    j.counted_in_ = gauge;
    if (gauge) ++*gauge;
  }
  /// Of one that is in line.
  std::uint64_t starved_by(const scheduled_job& j) const noexcept {
    return j.starved_by_ + (slots_given_ - j.level_->slots_given - j.others_before_);
  }
  void note_starved(scheduled_job& j) noexcept {
    j.starved_by_ = starved_by(j);
    if (j.starved_by_ > j.level_->stats.starved_by) j.level_->stats.starved_by = j.starved_by_;
  }

  priority_scheduler_options options_;
  std::map<int, priority_level> levels_;
  leftist_heap<priority_level, more_urgent> by_urgency_{more_urgent{this}};  // those that have jobs in line
  std::uint64_t numbers_ = 0, slots_given_ = 0, expired_ = 0, gave_way_ = 0;
  bool is_paused_ = false;
};

inline scheduled_job::scheduled_job(scheduler_core& s) noexcept : any_job(s) {}
inline scheduler_core& scheduled_job::scheduler() const noexcept { return static_cast<scheduler_core&>(*keeper_); }
inline bool scheduled_job::gives_way(leaf& checkpoint) noexcept { return scheduler().gives_way(*this, checkpoint); }
inline void scheduled_job::checkpoint_left() noexcept { scheduler().checkpoint_left(*this); }
inline bool scheduled_job::take_priority(int p) noexcept { return scheduler().move(*this, p); }
inline void scheduled_job::on_alarm() noexcept { scheduler().expire(*this); }
inline void scheduled_job::reprioritize(int p) {
  if (record().done()) return;
  scheduler().level(p);  // which may throw
  set_own_priority(p);
}

template <class T>
scheduled_job& job_of(const task_handle<T>& h) {
  child_base& c = handle_access::child(h);
  auto* j = static_cast<scheduled_job*>(c.job());
  if (!j || &j->record() != &c)
    throw std::logic_error("tandem: a priority_handle was given the handle of a task that is no scheduler's job");
  return *j;
}

}  // namespace detail

template <class T>
void priority_handle<T>::reprioritize(int priority) const {
  detail::job_of(*this).reprioritize(priority);
}
template <class T>
int priority_handle<T>::priority() const {
  return detail::job_of(*this).priority();
}

inline priority_scheduler::priority_scheduler(priority_scheduler_options options)
    : core_(new detail::scheduler_core(options)) {}
inline priority_scheduler::~priority_scheduler() { core_->disown(); }

template <class Function, class... Args>
auto priority_scheduler::submit(Function&& function, Args&&... args) {
  return submit(priority_job_options{}, std::forward<Function>(function), std::forward<Args>(args)...);
}
template <class Function, class... Args>
auto priority_scheduler::submit(priority_job_options options, Function&& function, Args&&... args) {
  detail::check_job<Function, Args...>();
  using made = detail::job_of_call<detail::scheduled_job, Function, Args...>;
  const detail::scope& around = core_->check_submit();
  const int priority = options.priority ? *options.priority : around.job ? around.job->priority() : 0;
  detail::priority_level& level = core_->level(priority);
  auto* j =
      new typename made::type(*core_, options.name, std::forward<Function>(function), std::forward<Args>(args)...);
  priority_handle<typename made::value_type> handle(detail::handle_access::make<typename made::value_type>(*j));
  core_->check_open();  // what has been copied may have closed it
  core_->submit(*j, level, options.deadline, around);
  return handle;
}
inline auto priority_scheduler::drain() { return detail::drain_awaiter(*core_, "priority_scheduler::drain"); }
inline void priority_scheduler::pause() noexcept { core_->pause(); }
inline void priority_scheduler::resume() noexcept { core_->resume(); }
inline bool priority_scheduler::is_paused() const noexcept { return core_->is_paused(); }
inline void priority_scheduler::resize(std::size_t slots) { core_->resize(slots); }
inline void priority_scheduler::close() noexcept { core_->close(); }
inline void priority_scheduler::cancel() noexcept { core_->cancel(); }
inline priority_scheduler_stats priority_scheduler::stats() const { return core_->stats(); }

namespace this_task {

struct priority_t {
  class awaiter {
   public:
    bool await_ready() const noexcept { return false; }
    bool suspend(detail::frame& f) noexcept {
      if (f.scope->job) priority_ = f.scope->job->priority();
      return false;
    }
    int await_resume() const noexcept { return priority_; }

   private:
    int priority_ = 0;
  };
  awaiter make_awaiter() const noexcept { return {}; }
};
inline constexpr priority_t priority{};

}  // namespace this_task

}  // namespace tandem::inline TANDEM_CONFIG
