// tandem/detail/beside.hpp: tasks that run beside the coroutine that has started them.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../event.hpp"
#include "../task.hpp"
#include "../task_handle.hpp"
#include "failures.hpp"
#include "intrusive_list.hpp"
#include "loop.hpp"

#include <exception>
#include <string>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/detail/beside.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

class beside;

/// The owner of a task's record, and what the tree knows of it.
class any_beside : public child_owner, public stray {
 public:
  any_beside(const any_beside&) = delete;
  any_beside& operator=(const any_beside&) = delete;
  virtual child_base& record() noexcept = 0;

  step child_done(child_base&) noexcept override;
  const std::string& stop_reason() const noexcept override {
    static const std::string none;
    return none;
  }
  void stop_stray(stop_mode m) noexcept override {
    if (m == stop_mode::abandon || follows_tree_) record().stop(m);
  }

 protected:
  explicit any_beside(beside& b) noexcept : owner_(&b) {}
  ~any_beside() = default;
  void begin(frame& f, frame& around) noexcept;

 private:
  friend beside;
  struct place : list_node {
    explicit place(any_beside& b) noexcept : job(b) {}
    any_beside& job;
  } place_{*this};
  beside* owner_;  // null when it is gone
  root* tree_ = nullptr;
  bool follows_tree_ = true;
};

template <class T>
class beside_task final : public child_of<T>, public any_beside {
 public:
  explicit beside_task(beside& b) : child_of<T>(static_cast<child_owner&>(*this), {}), any_beside(b) {}
  child_base& record() noexcept override { return *this; }
  const wait_node& node_of_stray() const noexcept override { return *this; }
  const char* what() const noexcept override { return "stream"; }
  std::size_t children() const noexcept override { return 1; }
  frame* child(std::size_t) const noexcept override { return this->running(); }
  using any_beside::begin;
};

/// They go on whether or not anybody waits. They are stopped when this is destroyed, and with the tree (under a shield,
/// only when this is), and joined by `join()`, or by the tree, which ends after them. For one loop.
class beside {
 public:
  beside() { none_left_.set(); }
  beside(const beside&) = delete;
  beside& operator=(const beside&) = delete;
  ~beside() {
    stop();
    loop* here = failures_.any() ? loop::current() : nullptr;
    if (root* tree = here ? here->running_or_ending_root() : nullptr)
      tree->stray_failed(failures_.together_with(nullptr));
    while (!running_.empty()) {
      any_beside& job = running_.front().job;
      job.owner_ = nullptr;
      job.place_.unlink();
    }
  }

  /// `co_await b.start(work())`: begins at once. Gives its task_handle.
  template <class T>
  auto start(task<T> t) {
    return starting<T>(*this, std::move(t));
  }
  void stop() noexcept {
    if (running_.empty()) return;
    running_.front().job.record().loop().ask([this]() noexcept {
      for (auto* p = &running_.front(); p; p = running_.next(*p)) p->job.record().stop(stop_mode::ask);
    });
  }
  /// `co_await b.join()`: until all have ended. Throws what failed after it was asked to stop.
  task<> join() {
    co_await none_left_.wait();
    if (failures_.any()) std::exchange(failures_, failures()).rethrow();
  }

 private:
  friend any_beside;
  template <class T>
  class starting {
   public:
    starting(beside& b, task<T> t) : beside_(b), task_(std::move(t)) {}
    bool await_ready() const noexcept { return false; }
    bool suspend(frame& f) {
      auto* job = new beside_task<T>(beside_);
      handle_ = handle_access::make<T>(*job);
      job->begin(*task_.release(), f);
      return false;
    }
    task_handle<T> await_resume() noexcept { return std::move(handle_); }

   private:
    beside& beside_;
    task<T> task_;
    task_handle<T> handle_;
  };

  intrusive_list<any_beside::place> running_;
  event none_left_;
  failures failures_;
};

inline void any_beside::begin(frame& f, frame& around) noexcept {
  const scope* outermost = around.scope;
  while (outermost->outer) outermost = outermost->outer;
  tree_ = around.scope->root;
  follows_tree_ = outermost == &tree_->scope();
  child_base& r = record();
  r.enter(*around.scope->loop, *tree_, follows_tree_ ? outermost : nullptr);
  r.share();  // by the handle, and by this while it runs
  owner_->running_.push_back(place_);
  owner_->none_left_.reset();
  tree_->adopt(*this);
  if (around.scope->stop_asked()) r.stop(stop_mode::ask);  // it stops where it first waits
  r.start(f);
}
inline step any_beside::child_done(child_base& r) noexcept {
  place_.unlink();
  // Of a clean-up that fails somebody must hear; any other failure is the handle's.
  if (r.failed() && r.is_stopped()) {
    if (owner_)
      owner_->failures_.add(r.failure());
    else
      tree_->stray_failed(r.failure());
  }
  if (owner_ && owner_->running_.empty()) owner_->none_left_.set();
  static_cast<stray&>(*this).unlink();
  tree_->stray_ended();  // this may be what the tree waited for
  return step::none();
}

}  // namespace tandem::inline TANDEM_CONFIG::detail
