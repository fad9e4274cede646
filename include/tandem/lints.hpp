// tandem/lints.hpp: mistakes that a running program shows: lints, of tasks that nobody awaited, of polling, and of what
// is held across long waits. Included by itself: tandem.hpp leaves it out.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, detail/await_tree.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/holder.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/loop_watcher.hpp, detail/place.hpp, detail/random.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"

#include "detail/await_tree.hpp"
#include "detail/frame.hpp"
#include "detail/holder.hpp"
#include "detail/loop.hpp"
#include "detail/loop_watcher.hpp"
#include "detail/place.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <mutex>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/lints.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

enum class lint_kind {
  never_awaited,  ///< a task was destroyed that nobody had awaited: what it was to do was not done
  polling,        ///< a coroutine was woken again and again, only to wait once more at the same line
  long_hold       ///< a lock, a permit or a lease was held while another coroutine waited for it for long
};

/// What `lints` found at one place.
struct lint {
  lint_kind kind;
  std::string_view function, file;  // of the coroutine that is at fault; of the program's own text
  std::uint_least32_t line;         // 0 for one that has not started
  std::string text;                 // a sentence that says it all
  std::uint64_t count;              // how often it was found there
};

/// Options of `lints`.
struct lints_options {
  /// How often in a row a coroutine may be woken from a `yield`, or from a sleep of at most `poll_interval`, and wait
  /// again at the same line, having worked for less than 100 us a time.
  std::uint64_t polls = 100;
  std::chrono::milliseconds poll_interval{20};
  /// How long another may wait for what a coroutine holds.
  std::chrono::milliseconds long_hold{1000};
};

/// While it lives, looks for mistakes in what coroutines do, and reports each place once: `lints watch;` in `main`.
///
/// It hears of the loops that are made on its thread during its life, as a `timeline` does, and of the tasks that are
/// destroyed there and on that thread. Not reported are tasks that go unstarted because something failed or was
/// stopped. Who holds a semaphore is known in debug builds only, who holds a mutex or a lease always. Under `simulate`
/// times are virtual, and the reports of a run are always the same; only what a coroutine works between two polls is
/// real time.
///
/// `report` is called on the loop's thread, between two coroutines or where the task is destroyed, with a lock that all
/// of its calls share: it must not use the `lints`; what else it does is not heard; an exception ends the program. Each
/// resumption costs a lock, a look-up and two readings of the clock, and twice in a `long_hold` the await tree is gone
/// through. When memory runs out nothing more is reported.
class lints {
 public:
  /// Reports to stderr. Throws std::invalid_argument for options that are not positive.
  explicit lints(lints_options options);
  lints() : lints(lints_options()) {}
  lints(lints_options options, std::function<void(const lint&)> report);
  lints(const lints&) = delete;
  lints& operator=(const lints&) = delete;
  /// On the thread that made it.
  ~lints();

  /// All so far, in the order in which they were found first. From any thread.
  std::vector<lint> found() const;

 private:
  class recorder;
  recorder* recorder_;
};

// ---- implementation ------------------------------------------------------------------------------------------------

/// The end of it that loops know.
class lints::recorder final : public detail::loop_watcher {
 public:
  recorder(const lints_options& options, std::function<void(const lint&)> report)
      : options_(options), report_(std::move(report)) {}

  std::vector<lint> found() const {
    const std::scoped_lock lock(mutex_);
    return found_;
  }
  /// Nothing more is reported. What the function owns goes when the caller destroys it, without a lock.
  std::function<void(const lint&)> stop() {
    const std::scoped_lock lock(mutex_);
    give_up();
    return std::exchange(report_, nullptr);
  }

 private:
  using real_time = std::chrono::steady_clock;
  static constexpr std::chrono::microseconds work_of_a_poll{100};

  struct habit {  // of a coroutine
    std::source_location where{};
    clock::time_point slept_at{};
    std::uint64_t times = 0;
    real_time::time_point woken{};
    real_time::duration worked{};
  };

  void starts_or_goes_on(detail::loop& l, detail::frame& f, bool starts) noexcept override {
    if (has_given_up_) return;
    try {
      const clock::time_point now = l.now();
      const auto next = next_look_.emplace(l.number(), now + options_.long_hold / 2).first;
      if (now >= next->second) next->second = look_for_long_holds(l, f, now);
      if (starts) habits_.erase(&f);
      if (const auto h = habits_.find(&f); h != habits_.end()) h->second.woken = real_time::now();
    } catch (...) {
      give_up();
    }
  }
  void waits(detail::loop& l, detail::frame& f) noexcept override {
    if (has_given_up_) return;
    const std::string_view what = f.waits_for ? f.waits_for->what() : "";
    if (what != "yield" && what != "sleep") {
      habits_.erase(&f);
      return;
    }
    try {
      habit& h = habits_[&f];
      const clock::time_point now = l.now();
      const bool again = h.times != 0 && h.where.line() == f.where.line() && h.where.file_name() == f.where.file_name();
      if (!again || (what == "sleep" && now - h.slept_at > options_.poll_interval)) {
        h = {.where = f.where};
      } else {
        h.worked += real_time::now() - h.woken;
        if (h.times == options_.polls && h.worked < work_of_a_poll * static_cast<std::int64_t>(h.times)) {
          add(lint_kind::polling, f, true, [&](std::string& text) {
            text += " polls: it was woken from " + std::string(what) + ' ' + std::to_string(h.times) +
                    " times in a row, only to wait again; if that is for something, let an event, a condition or a "
                    "queue wake it";
          });
          h = {.where = f.where};
        } else if (h.times == options_.polls) {
          h = {.where = f.where};
        }
      }
      ++h.times;
      h.slept_at = now;
    } catch (...) {
      give_up();
    }
  }
  void has_ended(detail::loop&, detail::frame& f, detail::fate) noexcept override { habits_.erase(&f); }
  void never_awaited(detail::loop* l, detail::frame& f) noexcept override {
    if (has_given_up_) return;
    try {
      add(lint_kind::never_awaited, f, false, [l](std::string& text) {
        text += " was never awaited, so it did nothing";
        if (const detail::loop::turn_report* turn = l ? &l->turn() : nullptr; turn && turn->number % 2 != 0) {
          const std::source_location by = turn->where;
          text += "; dropped by ";
          detail::append_place(text, detail::function_name(by.function_name()), by, !turn->starts);
        }
        text += "; co_await the task, or spawn it";
      });
    } catch (...) {
      give_up();
    }
  }
  void forget() noexcept override {
    give_up();
    found_ = {};
    others_ = {};
  }
  void give_up() noexcept {
    has_given_up_ = true;
    habits_ = {};
    next_look_ = {};
  }

  /// Visits the await tree.
  struct long_waits {
    recorder& owner;
    const detail::frame& granted;  // goes on now
    clock::time_point now, next;
    void begin(const detail::await_tree_node& node) {
      if (node.state != detail::await_tree_node::waits || &node.f == &granted) return;
      const detail::wait_node& n = *node.f.waits_for;
      const auto since = n.since();
      const detail::holder* h = since && n.children() == 0 ? n.held_by() : nullptr;
      if (!h || detail::is_ours(detail::function_name(h->where().function_name()))) return;
      if (now - *since < owner.options_.long_hold) {
        next = std::min(next, *since + owner.options_.long_hold);
        return;
      }
      owner.add(lint_kind::long_hold, h->where(), true, node.f.where.line(), [&](std::string& text) {
        text += std::string(" holds what another waits for (") + n.what() + "): ";
        if (node.function.empty())
          text += "it";
        else
          detail::append_place(text, node.function, node.f.where, true);
        text += " has waited for " + std::to_string((now - *since).count() / 1'000'000) +
                " ms; let go of it before a long wait";
      });
    }
    void end() noexcept {}
  };
  /// Gives when to look again: half a `long_hold` later, or when a wait that there is now will have taken one.
  clock::time_point look_for_long_holds(detail::loop& l, const detail::frame& granted, clock::time_point now) {
    long_waits visitor{*this, granted, now, now + options_.long_hold / 2};
    detail::await_tree_walk walk(visitor);
    for (const detail::root* r = l.first_root(); r; r = detail::loop::next_root(*r)) walk.visit(*r, 0);
    return visitor.next;
  }

  template <class Write>
  void add(lint_kind kind, const detail::frame& f, bool has_line, Write write) {
    add(kind, f.where, has_line, f.where.line(), write);  // of two lambdas of a function too
  }
  /// `other`: what tells it from others at that place, as the line of somebody else that it is about too.
  template <class Write>
  void add(lint_kind kind, const std::source_location& where, bool has_line, std::uint_least32_t other, Write write) {
    std::string_view function = detail::function_name(where.function_name()),
                     file = detail::file_name(where.file_name());
    if (detail::is_ours(function)) function = file = {};
    const std::uint_least32_t line = has_line ? where.line() : 0;
    for (std::size_t i = 0; i != found_.size(); ++i)
      if (lint& l = found_[i];
          l.kind == kind && l.line == line && l.function == function && l.file == file && others_[i] == other) {
        ++l.count;
        return;
      }
    std::string text;
    if (function.empty())
      text += "an awaitable";
    else
      detail::append_place(text, function, where, has_line);
    write(text);
    others_.push_back(other);
    found_.push_back({kind, function, file, line, std::move(text), 1});
    const auto report = [this]() noexcept { report_(found_.back()); };
    report();
  }

  const lints_options options_;
  std::function<void(const lint&)> report_;
  bool has_given_up_ = false;
  std::unordered_map<const detail::frame*, habit> habits_;          // that wait by polling, so far
  std::unordered_map<std::uint64_t, clock::time_point> next_look_;  // by the number of the loop
  std::vector<lint> found_;
  std::vector<std::uint_least32_t> others_;
};

inline lints::lints(lints_options options)
    : lints(options, [](const lint& l) { std::fputs(("tandem: " + l.text + '\n').c_str(), stderr); }) {}
inline lints::lints(lints_options options, std::function<void(const lint&)> report) {
  const auto check = [](const char* what, std::int64_t value) {
    if (value <= 0)
      throw std::invalid_argument(std::string("tandem::lints: ") + what + " is " + std::to_string(value) +
                                  "; it must be positive");
  };
  check("polls", static_cast<std::int64_t>(options.polls));
  check("poll_interval in ms", options.poll_interval.count());
  check("long_hold in ms", options.long_hold.count());
  recorder_ = new recorder(options, std::move(report));
  recorder_->open();
}
inline lints::~lints() {
  const std::function<void(const lint&)> report = recorder_->stop();
  recorder_->close();
}
inline std::vector<lint> lints::found() const { return recorder_->found(); }

}  // namespace tandem::inline TANDEM_CONFIG
