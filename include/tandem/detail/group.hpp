// tandem/detail/group.hpp: a frame that waits for children in a scope of their own: gather, transform, timeout, shield.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "failures.hpp"
#include "frame.hpp"
#include "loop.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/detail/group.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// The common part. What derives from it says which children there are and what their endings mean.
///
/// A child's result is taken and its frame destroyed as soon as it has ended, before anyone is woken. The frame that
/// waits goes on, straight from the loop, when no child is left; it is stopped instead when the group was asked to stop
/// and a child really did.
class group : public stop_target {
 public:
  void stop(stop_mode m) noexcept override {
    if (!waiting() && m == stop_mode::ask) return;
    set_stopping(m);
  }

  std::optional<clock::time_point> since() const noexcept override { return std::nullopt; }

  step child_ended(frame& child, fate how) noexcept override {
    take(child, how);
    return one_less();
  }

 protected:
  group() = default;
  group(group&& o) noexcept : spent_(std::exchange(o.spent_, true)) {}
  ~group() = default;

  /// Takes what a child left behind and destroys its frame. `stopped`: it left nothing.
  virtual void take(frame& child, fate how) noexcept = 0;
  /// No child is left: does the frame that waits go on, with a value or a failure? Otherwise it is stopped.
  virtual bool goes_on() noexcept { return true; }

  /// Between `begin` and `end` children are launched. One more count is held, so that the last child's end is not the
  /// group's before all have started.
  void begin(frame& f) {
    if (std::exchange(spent_, true)) throw_spent();
    waiter = &f;
    scope_.loop = f.scope->loop;
    scope_.outer = f.scope;
    scope_.root = f.scope->root;
    scope_.deadline = f.scope->deadline;
    scope_.job = f.scope->job;
    scope_.state = f.scope->state;
    began_in_ = f.scope->state;
    stops_before_ = scope_.loop->stops();
    pending_ = 1;
  }
  /// Launches `child` as number `index`. It runs until it first waits. True: it has ended, and is to be taken.
  [[gnu::always_inline]] bool launch(frame& child, std::size_t index) noexcept {
    child.owner = this;
    child.scope = &scope_;
    child.index = static_cast<std::uint32_t>(index);
    ++pending_;
    if (!scope_.loop->start(child)) return false;
    --pending_;
    return true;
  }
  /// Then tasks that it still has are not needed.
  bool was_awaited() const noexcept { return spent_; }
  /// A child has been taken: what the loop does next.
  step one_less() noexcept {
    if (--pending_ != 0) return step::none();
    state_ = idle;
    return goes_on() ? step::resume(*waiter) : step::reap(*waiter);
  }
  /// Something else than a child that the frame waits for, and its end: true if nothing is left.
  void hold() noexcept { ++pending_; }
  bool let_go() noexcept { return --pending_ == 0; }
  /// Some that were launched have not ended.
  bool has_children() const noexcept { return pending_ != 0; }
  /// While children are being launched: has the group, or the scope around it, been stopped since it began?
  [[gnu::always_inline]] bool stop_came() const noexcept {
    if (scope_.state != began_in_ || waiter->scope->state != began_in_) return true;
    return scope_.loop->stops() != stops_before_ && stop_came_from_outside();
  }
  /// For `suspend`: true if the frame has to wait.
  bool end() noexcept {
    if (--pending_ == 0) {
      if (goes_on()) return false;
      park_to_be_stopped(*waiter);
      return true;
    }
    waiter->waits_for = this;
    state_ = waits;
    if (waiter->scope->state != began_in_) stop_now();
    return true;
  }

  /// Stops the children: the group's own decision, or passed on from outside.
  void set_stopping(stop_mode m) noexcept {
    const auto state = m == stop_mode::ask ? detail::scope::stopping : detail::scope::abandoned;
    if (scope_.state >= state) return;
    scope_.state = state;
    scope_.loop->stop_children_of(*this);
  }
  void stop_children() noexcept override {
    const stop_mode m = scope_.state == detail::scope::abandoned ? stop_mode::abandon : stop_mode::ask;
    for (std::size_t i = 0, n = children(); i != n; ++i)
      if (frame* c = child(i)) loop::stop_below(*c, m);
  }

  detail::scope scope_;

 private:
  [[noreturn, gnu::cold, gnu::noinline]] void throw_spent() const {
    std::string text = "tandem: awaiting a ";
    text += what();
    text += " that was moved from, or awaited before";
    throw std::logic_error(text);
  }
  [[gnu::cold, gnu::noinline]] bool stop_came_from_outside() const noexcept {
    return began_in_ == detail::scope::running && scope_.stop_asked();
  }
  [[gnu::cold, gnu::noinline]] void stop_now() noexcept { stop(stop_mode::ask); }
  decltype(detail::scope::state) began_in_ = detail::scope::running;
  std::uint64_t stops_before_ = 0;
  bool spent_ = false;
  std::size_t pending_ = 0;
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
