// tandem/trace.hpp: a record of what coroutines did when, and charts of it: timeline. Included by itself: tandem.hpp
// leaves it out, because it would take a tenth longer to compile.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/intrusive_list.hpp, detail/json.hpp, detail/leaf.hpp, detail/loop.hpp, detail/loop_watcher.hpp, detail/place.hpp, detail/random.hpp, detail/terminal.hpp, detail/timer_heap.hpp, detail/trace_drawing.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"

#include "detail/frame.hpp"
#include "detail/loop.hpp"
#include "detail/loop_watcher.hpp"
#include "detail/trace_drawing.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/trace.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// Options of `timeline`.
struct timeline_options {
  /// How many spans are kept, and how many coroutines. A span takes 32 bytes, a coroutine about 140, while it runs 190.
  std::size_t most_spans = 65'536;
};

/// What `timeline::gantt` draws with: characters that every terminal has, or blocks in UTF-8.
enum class glyphs { ascii, blocks };

namespace detail {
class trace_recorder;
}

/// Records what coroutines do while it lives, and draws it: `timeline t; simulate(main()); std::cout << t.gantt();`
///
/// It hears of the loops that are made on its thread during its life, by `run`, `simulate` or the first `spawn` on an
/// executor, on whatever threads they run; so does every timeline there is. Where there is none, a loop pays one
/// predictable branch for each resumption. A coroutine is known by the name of its function, and by the name that was
/// given to it as the child of a group (`child_options::name`), which is copied; it is left out if it never waits, or
/// is one of tandem's own without such a name, whose children are shown below its parent. A simulation has a chart of
/// its own; what ran in real time is in one chart.
///
/// A coroutine that was stopped is marked. Failures look like any other end. When memory runs out, or when
/// `most_spans` are full, recording ends early and the charts say so; the coroutines never notice. A loop may outlive
/// the timeline. Destroy it on the thread that made it.
///
/// Each wait costs two locks of a mutex, two readings of the clock and two look-ups: amortised O(1), and linear in the
/// children that are awaited. Allocates as a vector does.
class timeline {
  friend class live_timeline;

 public:
  explicit timeline(timeline_options options);
  timeline() : timeline(timeline_options()) {}
  timeline(const timeline&) = delete;
  timeline& operator=(const timeline&) = delete;
  ~timeline();

  /// A chart as text, `width` columns wide (at least 40): a line for each coroutine, below the one that awaits it.
  ///
  /// Callable at any time, from any thread; coroutines that have not ended are marked. Time runs from the first start;
  /// a column shows what its middle fell into. The same run under `simulate` gives the same text. Linear in what was
  /// recorded.
  std::string gantt(std::size_t width = 80, glyphs with = glyphs::ascii) const;

  /// The same as an SVG document that needs no other file and is readable on light and dark pages. Names, what was
  /// waited for, and exact times are in the titles of its elements.
  std::string svg() const;

  /// The same for ui.perfetto.dev and chrome://tracing, in the Trace Event Format: a JSON object in UTF-8.
  ///
  /// A chart is a process, a coroutine a thread of it, with its spans one after the other: they never overlap. Times
  /// are microseconds since the first start in the chart, exact to the nanosecond. Linear in what was recorded, and in
  /// the names, which are repeated.
  std::string chrome_trace() const;

 private:
  detail::trace_recorder* recorder_;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// The end of a timeline that loops know.
class trace_recorder final : public loop_watcher {
 public:
  explicit trace_recorder(std::size_t most_spans) noexcept
      : most_spans_(std::min<std::size_t>(most_spans, traced_coroutine::nobody)) {}

  trace_record record() const {
    const std::scoped_lock lock(mutex_);
    return record_;
  }

 private:
  using known_map = std::unordered_map<const frame*, std::uint32_t>;

  void starts_or_goes_on(loop& l, frame& f, bool starts) noexcept override {
    note([&] {
      const auto known = known_.find(&f);
      if (!starts) return change(known, l.now(), nullptr, doing::runs);
      // One that was destroyed with its tree may have had the same place in memory.
      end(known, l.now(), traced_coroutine::stopped);
      start(l, f);
    });
  }
  void waits(loop& l, frame& f) noexcept override {
    note([&] {
      const auto known = known_.find(&f);
      if (known == known_.end()) return;
      if (const char*& name = record_.coroutines[known->second].function; !name) name = f.where.function_name();
      if (f.waits_for)
        change(known, l.now(), f.waits_for->what(), kind_of(*f.waits_for));
      else  // a generator, at an item that nobody has asked to go on from
        change(known, l.now(), "co_yield", doing::waits);
    });
  }
  void has_ended(loop& l, frame& f, fate how) noexcept override {
    note([&] {
      end(known_.find(&f), l.now(), how == fate::done ? traced_coroutine::ended : traced_coroutine::stopped);
    });
  }
  void forget() noexcept override {
    record_ = {};
    known_ = {};
  }

  template <class Event>
  void note(Event event) noexcept {
    if (record_.ended_early) return;
    try {
      event();
    } catch (...) {
      record_.ended_early = "there was no more memory";
    }
  }
  void start(loop& l, const frame& f) {
    auto& coroutines = record_.coroutines;
    if (coroutines.size() >= most_spans_) {
      record_.ended_early = "no more coroutines than timeline_options::most_spans are kept";
      return;
    }
    const frame* parent = f.owner->waiter;          // of a root: itself
    if (!parent) parent = f.scope->root->child(0);  // of what as_completed runs: the tree
    const auto known = known_.find(parent);
    const clock::time_point now = l.now();
    coroutines.push_back({.parent = known != known_.end() ? known->second : traced_coroutine::nobody,
                          .axis = l.is_virtual() ? l.number() : 0,
                          .start = now,
                          .now = {now, now, nullptr, doing::runs},
                          .name = std::string(f.owner->name_of_child())});
    known_.emplace(&f, static_cast<std::uint32_t>(coroutines.size() - 1));
  }
  void change(known_map::const_iterator known, clock::time_point now, const char* what, doing kind) {
    if (known == known_.end()) return;
    traced_coroutine& c = record_.coroutines[known->second];
    c.now.end = now;
    if (c.now.begin != now) {
      if (spans_ == most_spans_) {
        record_.ended_early = "no more spans than timeline_options::most_spans are kept";
        return;
      }
      c.spans.push_back(c.now);
      ++spans_;
    }
    c.now = {now, now, what, kind};
  }
  void end(known_map::const_iterator known, clock::time_point now, decltype(traced_coroutine::state) how) {
    change(known, now, nullptr, doing::runs);
    if (known == known_.end() || record_.ended_early) return;
    auto& coroutines = record_.coroutines;
    traced_coroutine& c = coroutines[known->second];
    known_.erase(known);
    c.state = how;
    if (!c.function && &c == &coroutines.back()) coroutines.pop_back();  // it never waited
  }
  static doing kind_of(const wait_node& n) noexcept {
    for (std::size_t i = 0; i != n.children(); ++i)
      if (n.child(i)) return doing::waits_for_children;
    return std::string_view(n.what()) == "sleep" ? doing::sleeps : doing::waits;
  }

  const std::size_t most_spans_;
  std::size_t spans_ = 0;
  trace_record record_;
  known_map known_;  // the coroutines that have not ended
};

}  // namespace detail

inline timeline::timeline(timeline_options options) : recorder_(new detail::trace_recorder(options.most_spans)) {
  recorder_->open();
}
inline timeline::~timeline() { recorder_->close(); }
inline std::string timeline::gantt(std::size_t width, glyphs with) const {
  return detail::draw_text(recorder_->record(), width, with == glyphs::blocks);
}
inline std::string timeline::svg() const { return detail::draw_svg(recorder_->record()); }
inline std::string timeline::chrome_trace() const { return detail::draw_chrome_trace(recorder_->record()); }

}  // namespace tandem::inline TANDEM_CONFIG
