// tests/fuzz/pools.hpp: what is known of the jobs of a worker pool, and the laws that hold for them.
#pragma once

#include <tandem/worker_pool.hpp>

#include "program.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace fuzz {

/// The jobs of one pool, numbered in the order in which their submits begin. It outlives the pool, as its jobs may.
class roster {
  struct job {
    bool begun = false, over = false, heard = false;
    how end = how::stopped;
    std::uint32_t code = 0;
  };

 public:
  explicit roster(const node& n) noexcept : workers_(n.workers()), backlog_(n.backlog()) {}

  /// Right before a submit begins.
  unsigned next() {
    jobs_.emplace_back();
    return static_cast<unsigned>(jobs_.size() - 1);
  }

  /// In the frame of a job.
  class shift {
   public:
    shift(roster& r, unsigned number) : roster_(r), number_(number) {
      check(++r.running_ <= r.workers_, "not more jobs at a time than there are workers");
      check(number >= r.least_, "jobs start in the order in which they were submitted, and once");
      r.least_ = number + 1;
      mine().begun = true;
    }
    shift(const shift&) = delete;
    ~shift() {
      --roster_.running_;
      mine().over = true;
    }
    void ends(how h, std::uint32_t code) { mine().end = h, mine().code = code; }

   private:
    job& mine() const { return roster_.jobs_[number_]; }
    roster& roster_;
    unsigned number_;
  };

  bool has_begun(unsigned number) const { return jobs_[number].begun; }
  /// What a handle of the job gave.
  std::uint32_t hears(unsigned number, std::uint32_t code) {
    job& j = jobs_[number];
    check(!j.begun || j.over, "a handle gives nothing before its job has ended");
    check(code == (j.end == how::stopped ? was_cancelled : j.code), "a handle gives what its job gave");
    j.heard = true;
    return code;
  }
  /// The failures that nobody has heard of, who are told now.
  std::vector<std::uint32_t> tell() {
    std::vector<std::uint32_t> codes;
    for (job& j : jobs_)
      if (j.over && j.end == how::failed && !std::exchange(j.heard, true)) codes.push_back(j.code);
    return codes;
  }
  void check_books(const tandem::worker_pool_stats& s) const {
    const auto ended = [&](how h) {
      return std::count_if(jobs_.begin(), jobs_.end(), [&](const job& j) { return j.over && j.end == h; });
    };
    check(s.submitted == s.succeeded + s.failed + s.cancelled + s.queued + s.running, "no job is lost or doubled");
    check(s.submitted + s.submitting <= jobs_.size(), "no job is accepted twice");
    check(s.running <= workers_ && s.running >= running_, "a pool knows how many jobs run");
    check(s.queued <= backlog_, "not more jobs in line than the backlog has places");
    check(s.queued == 0 || s.running == workers_, "no job is in line while a worker is free");
    check(s.submitting == 0 || s.queued == backlog_, "nobody waits for a place while there is one");
    check(std::cmp_equal(s.succeeded, ended(how::value)) && std::cmp_equal(s.failed, ended(how::failed)) &&
              std::cmp_greater_equal(s.cancelled, ended(how::stopped)),
          "a pool knows how its jobs ended");
  }
  /// When the tree is over.
  void check_over() const { check(running_ == 0, "a tree ends after its jobs"); }

 private:
  std::vector<job> jobs_;
  std::size_t workers_, backlog_, running_ = 0;
  unsigned least_ = 0;
};

}  // namespace fuzz
