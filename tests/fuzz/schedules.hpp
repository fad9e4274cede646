// tests/fuzz/schedules.hpp: what is known of the jobs of a priority scheduler, and the laws that hold for them.
#pragma once

#include <tandem/clock.hpp>
#include <tandem/priority_scheduler.hpp>

#include "program.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace fuzz {

/// What is drawn from a node, since one byte says too little.
class dice {
 public:
  explicit dice(const node& n) : state_(n.a) {
    for (const node& c : n.children) state_ = mix(mix(state_, static_cast<unsigned>(c.what)), c.a);
  }
  unsigned operator()(unsigned sides) {
    state_ = state_ * 1'664'525 + 1'013'904'223;
    return (state_ >> 16) % sides;
  }

 private:
  std::uint32_t state_;
};

/// The jobs of one scheduler, numbered in the order of their submits, and a naive model of its line. It outlives the
/// scheduler, as its jobs may.
///
/// It sees what the coroutines do, and not when a job that gave way gets its slot back, nor when a stop or a deadline
/// takes one out of the line: so its line has all that is in the scheduler's, and maybe more. They are the same if they
/// are of one size; only then it says what must come next.
template <class Item>
class agenda {
 public:
  using handle = tandem::priority_handle<Item>;
  static constexpr unsigned nobody = ~0u;
  static constexpr long never = std::numeric_limits<long>::max();

 private:
  struct job {
    bool accepted = false, begun = false, over = false;
    bool in_line = false;    // or maybe
    bool cancelled = false;  // by its handle or with all, before it began
    int own = 0;
    long since = 0, waited = 0, deadline = never;
    unsigned checkpoints = 0;  // that wait
    handle h;                  // unless it was dropped
    unsigned holders = 0;      // of further handles
    bool heard = false;
    how end = how::stopped;
    std::uint32_t code = 0;
  };

 public:
  /// `alone`: no job of another scheduler is at work, which could lend its priority to one of these.
  agenda(const node& n, long& frames, const bool& closing, bool alone)
      : draws(n), frames_of_tree(frames), closing_(closing), is_exact_(alone) {}
  agenda(const agenda&) = delete;

  dice draws;
  long& frames_of_tree;
  std::size_t next_child = 0;
  tandem::priority_scheduler* scheduler = nullptr;  // unless it has gone
  bool is_closed = false;

  void opens(tandem::priority_scheduler& s, std::size_t slots, long ageing) {
    scheduler = &s;
    most_slots_ = slots, ageing_ = ageing;
    looked_at_ = now();
  }
  std::size_t size() const { return jobs_.size(); }
  bool has_running() const { return alive_ != 0; }

  // --- What the coroutines do ---

  /// Right before a submit.
  unsigned next(int priority, long deadline) {
    job j;
    j.own = priority;
    j.since = now(), j.deadline = deadline;
    jobs_.push_back(std::move(j));
    return static_cast<unsigned>(jobs_.size() - 1);
  }
  /// Right after it.
  void is_accepted(unsigned number, handle h) {
    check(!is_closed, "a scheduler that is closed accepts nothing");
    job& j = jobs_[number];
    j.accepted = true;
    check(!j.begun, "a job does not start before the next turn");
    check(h.priority() == j.own, "a job has the priority that it was given, or that of who submits");
    if (h.done()) {
      const std::uint32_t code = code_of_job(h);
      check(code == was_cancelled || (code == late && j.deadline <= now()), "a job may end at once, but not well");
      j.heard = true;
    } else {
      check(j.deadline > now(), "a job whose deadline has passed is refused at once");
      j.in_line = true;
    }
    j.h = std::move(h);
    look();
  }
  void is_refused() const { check(is_closed, "a scheduler accepts jobs until it is closed"); }

  /// In the frame of a job.
  class shift {
   public:
    shift(agenda& a, unsigned number) : agenda_(a), number_(number) { a.starts(number); }
    shift(const shift&) = delete;
    ~shift() {
      job& j = agenda_.jobs_[number_];
      --agenda_.alive_;
      j.over = true, j.in_line = false;
      check(j.checkpoints == 0, "no checkpoint is left behind");
      agenda_.look(true);
    }
    void ends(how h, std::uint32_t code) { agenda_.jobs_[number_].end = h, agenda_.jobs_[number_].code = code; }

   private:
    agenda& agenda_;
    unsigned number_;
  };

  /// Around a checkpoint of a job.
  class at_checkpoint {
   public:
    at_checkpoint(agenda& a, unsigned number, bool stop_asked) : agenda_(a), number_(number), waits_(!stop_asked) {
      if (waits_) a.reaches_checkpoint(number);
    }
    at_checkpoint(const at_checkpoint&) = delete;
    void passes() {
      check(waits_, "no checkpoint of a stopped scope ends well");
      leaves(false);
    }
    ~at_checkpoint() {
      if (waits_) leaves(true);
    }

   private:
    void leaves(bool is_stopped) {
      waits_ = false;
      job& j = agenda_.jobs_[number_];
      if (--j.checkpoints == 0 && j.in_line) agenda_.has_its_slot(j);
      agenda_.some_left_ |= is_stopped;
      agenda_.went_on_ += !is_stopped && since_ != now();
      agenda_.look(is_stopped);
    }
    agenda& agenda_;
    unsigned number_;
    long since_ = now();
    bool waits_;
  };

  /// Around the wait of a job, or of nobody, for another.
  class wait {
   public:
    wait(agenda& a, unsigned from, unsigned to, bool stop_asked) : h(a.jobs_[to].h), agenda_(a), to_(to) {
      ++a.jobs_[to].holders;
      if (from == nobody || stop_asked) return;
      a.loans_.push_back(this);
      lends_ = from;
    }
    wait(const wait&) = delete;
    ~wait() {
      --agenda_.jobs_[to_].holders;
      if (lends_ != nobody) std::erase(agenda_.loans_, this);
    }
    /// The awaiter: it lends while it waits.
    void at(const tandem::detail::leaf& l) noexcept { at_ = &l; }
    bool lends() const noexcept { return at_ && at_->waiting(); }
    unsigned from() const noexcept { return lends_; }
    unsigned to() const noexcept { return to_; }
    const handle h;

   private:
    agenda& agenda_;
    unsigned to_, lends_ = nobody;
    const tandem::detail::leaf* at_ = nullptr;
  };
  /// Would they wait for each other?
  bool would_close_a_circle(unsigned from, unsigned to) const {
    if (from == to) return true;
    for (const wait* w : loans_)
      if (w->from() == to && would_close_a_circle(from, w->to())) return true;
    return false;
  }
  /// One of which there is a handle, if the dice find one.
  unsigned some_handle() {
    for (int i = 0; i != 3 && !jobs_.empty(); ++i)
      if (const unsigned n = draws(static_cast<unsigned>(jobs_.size())); jobs_[n].h) return n;
    return nobody;
  }
  const handle& handle_of(unsigned number) const { return jobs_[number].h; }
  std::uint32_t hears(unsigned number, std::uint32_t code) {
    job& j = jobs_[number];
    check(!j.begun || j.over, "a handle gives nothing before its job has ended");
    if (j.begun)
      check(code == (j.end == how::stopped ? was_cancelled : j.code), "a handle gives what its job gave");
    else
      check(code == was_cancelled || (code == late && j.deadline <= now() && !j.cancelled),
            "a job that never ran was cancelled, or its deadline has passed");
    j.in_line = false;
    j.heard = true;
    look();
    return code;
  }
  void reprioritize(unsigned number, int priority) {
    job& j = jobs_[number];
    const bool is_over = j.h.done();
    const int before = j.h.priority();
    j.h.reprioritize(priority);
    if (is_over) return check(j.h.priority() == before, "a job that has ended keeps its priority");
    j.own = priority;
    check(j.h.priority() <= priority, "a priority is one's own or one that is lent, which is smaller");
    look();
  }
  void cancel(unsigned number) {
    job& j = jobs_[number];
    if (!j.begun && !j.h.done()) takes_out(j);
    some_left_ |= j.begun;
    j.h.cancel();
    look();
  }
  void cancel_all() {
    is_closed = some_left_ = true;
    for (job& j : jobs_)
      if (!j.begun && j.in_line && (j.h ? !j.h.done() : j.deadline > now())) takes_out(j);
    scheduler->cancel();
    look();
  }
  void drop(unsigned number) { jobs_[number].h = handle(); }
  void drop_all() {
    for (job& j : jobs_) j.h = handle();
  }
  void resize(std::size_t slots) {
    scheduler->resize(slots);
    most_slots_ = std::max(most_slots_, slots);
    look();
  }
  void pause() {
    scheduler->pause();
    look();
  }
  void resume() {
    scheduler->resume();
    look();
  }
  void check_priority(unsigned number, int p) const {
    if (is_exact_) check(p == priority(number), "a job has its own priority or the smallest that is lent to it");
  }

  /// Whether `code`, 0 for none, is what a drain must throw that comes now.
  bool tells(std::uint32_t code) {
    std::vector<std::uint32_t> codes;
    unsigned maybe_expired = 0;
    for (job& j : jobs_) {
      if (!j.accepted || j.h || j.holders != 0 || j.heard) continue;
      if (j.begun && j.end == how::failed) codes.push_back(j.code), j.heard = true;
      if (!j.begun && j.deadline <= now()) ++maybe_expired, j.heard = true;
    }
    for (unsigned n = 0; n <= maybe_expired; ++n, codes.push_back(late))
      if (code == (codes.empty() ? 0 : group_of(codes))) return true;
    return false;
  }
  void check_drained() {
    const tandem::priority_scheduler_stats s = scheduler->stats();
    check(s.running + s.queued == 0, "a scheduler that is drained has no jobs");
    check(s.submitted == s.succeeded + s.failed + s.cancelled + s.expired, "every job has ended in one way");
    for (job& j : jobs_) j.in_line = false;
    look();
  }
  void has_gone() {
    scheduler = nullptr;
    is_closed = true;
  }
  /// When the tree is over.
  void check_over() const { check(alive_ == 0, "a tree ends after its jobs"); }

  /// After anything has happened.
  void look(bool in_a_destructor = false) {
    if (!scheduler || closing_) return;
    const tandem::priority_scheduler_stats s = scheduler->stats();
    const auto ended = [&](how h) {
      return std::count_if(jobs_.begin(), jobs_.end(), [&](const job& j) { return j.begun && j.over && j.end == h; });
    };
    const std::uint64_t known = s.succeeded + s.failed + s.cancelled + s.expired + s.queued + s.running;
    check(known <= s.submitted && s.submitted - known + begun_ <= s.submitted, "no job is lost or doubled");
    check(std::cmp_equal(s.submitted, accepted()), "a scheduler knows how many jobs it has accepted");
    check(s.queued <= line_size(), "nobody is in line who should not be");
    check(s.queued <= s.most_queued, "the most in line is not fewer than are");
    check(s.gave_way >= least_gave_way_ && s.gave_way <= most_gave_way_,
          "jobs give way at checkpoints, to more urgent ones only");
    if (!in_a_destructor) {  // which comes before the scheduler hears of the end
      check(s.running <= alive_ && alive_ <= s.running + s.queued, "a scheduler knows how many jobs run");
      check(std::cmp_equal(s.succeeded, ended(how::value)) && std::cmp_equal(s.failed, ended(how::failed)) &&
                std::cmp_greater_equal(s.cancelled, ended(how::stopped)),
            "a scheduler knows how its jobs ended");
    }
    std::size_t in_line = 0, at_work = 0;
    std::uint64_t started = 0;
    for (const tandem::priority_stats& p : s.priorities) {
      in_line += p.queued, at_work += p.running, started += p.started;
      check(p.longest_wait <= p.waited && p.waited <= p.longest_wait * static_cast<long>(p.started),
            "the longest wait is one of them");
      check(&p == &s.priorities.front() || (&p - 1)->priority < p.priority, "priorities are in order");
    }
    check(in_line == s.queued && at_work == s.running, "the priorities have all jobs between them");
    check(started == begun_, "a job starts once");
    for (unsigned i = 0; i != jobs_.size(); ++i)
      if (const job& j = jobs_[i]; j.h && !j.h.done()) check_priority(i, j.h.priority());
    // Who was in line may have gone without anybody's looking, since its time was up.
    const bool all_gave_up = s.queued == 0 && begun_ + went_on_ == had_gone_on_;
    check(!has_room_ || looked_at_ == now() || all_gave_up, "no slot is free while a job is in line");
    had_gone_on_ = begun_ + went_on_;
    has_room_ = s.running < s.slots && s.queued != 0 && !scheduler->is_paused();
    looked_at_ = now();
  }

 private:
  static long now() { return static_cast<long>(tandem::clock::now().time_since_epoch() / std::chrono::seconds(1)); }
  static std::uint32_t code_of_job(const handle& h) {
    try {
      std::rethrow_exception(h.outcome().error());
    } catch (const tandem::job_expired&) {
      return late;
    } catch (const tandem::cancelled&) {
      return was_cancelled;
    }
  }
  void takes_out(job& j) {
    j.cancelled = true;
    j.in_line = false;
  }
  void has_its_slot(job& j) {
    j.waited = now() - j.since;
    j.in_line = false;
  }
  std::size_t accepted() const {
    return static_cast<std::size_t>(std::count_if(jobs_.begin(), jobs_.end(), [](const job& j) { return j.accepted; }));
  }
  std::size_t line_size() const {
    return static_cast<std::size_t>(std::count_if(jobs_.begin(), jobs_.end(), [](const job& j) { return j.in_line; }));
  }

  int priority(unsigned number) const {
    int p = jobs_[number].own;
    for (const wait* w : loans_)
      if (w->to() == number && w->lends() && !jobs_[w->from()].over) p = std::min(p, priority(w->from()));
    return p;
  }

  /// The rule: is `a` ahead of `b`, which is of another priority?
  bool precedes(unsigned a, unsigned b) const {
    const long pa = priority(a), pb = priority(b);
    if (ageing_ == 0) return pa < pb;
    const long ka = jobs_[a].since + pa * ageing_, kb = jobs_[b].since + pb * ageing_;
    return ka != kb ? ka < kb : a < b;
  }
  /// Among those in line of one priority.
  unsigned first_of(int p) const {
    unsigned oldest = nobody, due = nobody;
    for (unsigned i = 0; i != jobs_.size(); ++i) {
      const job& j = jobs_[i];
      if (!may_come(j) || priority(i) != p) continue;
      if (oldest == nobody || j.since < jobs_[oldest].since) oldest = i;
      if (j.deadline != never && (due == nobody || j.deadline < jobs_[due].deadline)) due = i;
    }
    if (due == nobody) return oldest;
    return ageing_ != 0 && jobs_[due].since - jobs_[oldest].since >= ageing_ ? oldest : due;
  }
  bool may_come(const job& j) const { return j.in_line && (j.begun || j.deadline > now()); }
  bool some_are_late() const {
    return std::any_of(jobs_.begin(), jobs_.end(), [&](const job& j) { return j.in_line && !may_come(j); });
  }
  /// Whose turn it is.
  unsigned front() const {
    unsigned best = nobody;
    for (unsigned i = 0; i != jobs_.size(); ++i) {
      if (!may_come(jobs_[i])) continue;
      const unsigned first = first_of(priority(i));
      if (best == nobody || (priority(first) != priority(best) && precedes(first, best))) best = first;
    }
    return best;
  }

  void starts(unsigned number) {
    job& j = jobs_[number];
    check(j.accepted && !j.begun && !j.cancelled, "a job starts once, and not after it was cancelled");
    check(j.deadline > now(), "no job starts after its deadline");
    check(scheduler != nullptr, "no job starts when the scheduler has gone");
    check(!scheduler->is_paused(), "no job starts during a pause");
    const tandem::priority_scheduler_stats s = scheduler->stats();
    std::size_t left = line_size() - s.queued - 1;  // have left the line unseen
    check(some_left_ || left != 0 || s.running <= s.slots, "not more jobs at a time than there are slots");
    while (is_exact_ && front() != number) {
      check(left != 0, "the most urgent job starts");
      --left;
      has_its_slot(jobs_[front()]);  // or it was stopped; if not, it starts and is found not to be in line
    }
    check(j.in_line, "the most urgent job starts, and only when it is its turn");
    has_its_slot(j);
    j.begun = true;
    ++begun_, ++alive_;
    check(some_left_ || left != 0 || holding() <= most_slots_, "not more jobs hold slots than there are");
    look();
  }
  std::size_t holding() const {
    return static_cast<std::size_t>(
        std::count_if(jobs_.begin(), jobs_.end(), [](const job& j) { return j.begun && !j.over && !j.in_line; }));
  }

  void reaches_checkpoint(unsigned number) {
    job& j = jobs_[number];
    ++j.checkpoints;
    if (!scheduler) return;  // nobody is in line
    const tandem::priority_scheduler_stats s = scheduler->stats();
    const bool is_known = !j.in_line && is_exact_ && s.queued == line_size() && !some_are_late();
    if (is_known && (scheduler->is_paused() || s.running < s.slots)) return;
    if (!j.in_line) j.since = now() - j.waited;
    if (is_known && !is_preceded(number)) return;
    j.in_line = true;  // or maybe
    j.deadline = std::numeric_limits<long>::min();
    least_gave_way_ += is_known;
    ++most_gave_way_;
  }
  /// By the first in line of a smaller number.
  bool is_preceded(unsigned number) const {
    for (unsigned i = 0; i != jobs_.size(); ++i)
      if (may_come(jobs_[i]) && priority(i) < priority(number) && precedes(first_of(priority(i)), number)) return true;
    return false;
  }

  std::vector<job> jobs_;
  std::vector<const wait*> loans_;
  const bool& closing_;
  bool is_exact_;
  bool some_left_ = false;  // their checkpoints, without a slot
  std::size_t alive_ = 0, begun_ = 0, went_on_ = 0, had_gone_on_ = 0, most_slots_ = 0;
  long ageing_ = 0;  // seconds
  std::uint64_t least_gave_way_ = 0, most_gave_way_ = 0;
  bool has_room_ = false;
  long looked_at_ = 0;
};

}  // namespace fuzz
