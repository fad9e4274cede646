// tandem/inspect.hpp: what coroutines are doing now: format_await_tree, also from other threads and on a signal;
// stall_watchdog, for those that do not let others run. Included by itself: tandem.hpp leaves it out.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, detail/await_tree.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/holder.hpp, detail/intrusive_list.hpp, detail/json.hpp, detail/leaf.hpp, detail/loop.hpp, detail/place.hpp, detail/random.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"

#include "detail/await_tree.hpp"
#include "detail/frame.hpp"
#include "detail/holder.hpp"
#include "detail/intrusive_list.hpp"
#include "detail/json.hpp"
#include "detail/loop.hpp"
#include "detail/place.hpp"

#include TANDEM_ASIO_HEADER(io_context.hpp)
#include TANDEM_ASIO_HEADER(signal_set.hpp)

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/inspect.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

enum class tree_format { text, json };

/// The await tree of the loop that runs on this thread: who waits for what, since when, at which line, and who has it.
///
/// For coroutines and what they call. As text a line for each coroutine, below the one that awaits it: "buy
/// (shop.cpp:12) waits for mutex for 1500 ms, held by pay (shop.cpp:30)". As JSON one object:
/// `{"loop":1,"virtual_time":false, "cut_off":false,"trees":[...]}`, and for each coroutine
/// `{"function","file","line","name","state","waits_for", "since_ms","held_by","children"}`, of which all but the
/// children are left out if there is nothing for them; `state` is "waits", "runs" or "not started", and the line of one
/// that has not started is left out too. Frames of tandem's own are passed over. A time is of the loop, as of its turn.
/// Throws std::logic_error where no loop runs. Linear in the number of frames, of which at most 1,000 are shown.
std::string format_await_tree(tree_format format = tree_format::text);

/// The await trees of all loops of the process, from any thread.
///
/// Every loop is asked to write its own in a turn of its own, and this waits until they have; one that does not answer
/// within `patience`, because a coroutine keeps it or nobody runs its context, is said not to. The loop that runs on
/// this thread answers at once; others that only this thread runs cannot. As JSON: `{"loops":[...]}` of what
/// `format_await_tree` gives, or `{"loop":2,"answered":false}`. Throws std::invalid_argument if `patience` is negative.
std::string format_all_await_trees(tree_format format = tree_format::text,
                                   std::chrono::milliseconds patience = std::chrono::seconds(1));

/// While it lives, a signal makes the program write its await trees: `await_trees_on_signal trees(SIGUSR1);`, then
/// `kill -USR1` from outside.
///
/// It has a thread of its own, and writes `format_all_await_trees()` to stderr, or calls `write` with it on that
/// thread; an exception of `write` ends the program. The signal counts as work of no loop; calls of the system that it
/// interrupts are begun again, but for those that never are, such as `poll`. Throws what asio::signal_set throws, for a
/// signal that there is not, or that cannot be caught.
class await_trees_on_signal {
 public:
  explicit await_trees_on_signal(int signal);
  await_trees_on_signal(int signal, std::function<void(const std::string&)> write);
  await_trees_on_signal(const await_trees_on_signal&) = delete;
  await_trees_on_signal& operator=(const await_trees_on_signal&) = delete;
  /// Joins the thread, which may be waiting for a loop: at most a second.
  ~await_trees_on_signal();

 private:
  void listen();
  asio::io_context context_{1};
  asio::signal_set signals_;
  std::function<void(const std::string&)> write_;
  std::thread thread_;
};

/// A coroutine that has kept its loop for longer than the threshold without waiting for anything.
struct stall {
  std::string_view function;     // "shop::buy"; of the program's own text
  std::string_view file;         // the same
  std::uint_least32_t line = 0;  // of the co_await from which it went on; 0: it has not waited since it started
  clock::duration lasted{};      // so far, or in all
  bool is_over = false;
  std::string await_tree{};  // when it was over: who waited meanwhile. Empty before, and if it ended the loop

  /// "shop::buy has blocked its loop for 104 ms and goes on; look at what follows its co_await at shop.cpp:12", and
  /// below the await tree.
  std::string text() const;
};

/// Options of `stall_watchdog`.
struct stall_watchdog_options {
  /// How long a coroutine may run before it waits again. asyncio's `slow_callback_duration`.
  std::chrono::milliseconds threshold{100};
};

/// While it lives, a coroutine that keeps a loop for longer than `threshold`, by a call that blocks or by calculating,
/// is reported with its name and line: `stall_watchdog watchdog;` in `main`.
///
/// It watches every loop of the process, whenever and wherever made, from a thread of its own, in real time, under
/// `simulate` too. A stall is reported twice, on that thread: when it has lasted for the threshold, so that one that
/// never ends is heard of as well, and when it is over, with how long it took and who waited meanwhile. Named is the
/// coroutine that ran for the longest part of it, even if it has ended with the stall. Handlers of Asio, destructors of
/// stopped coroutines and predicates of a `condition` are not watched.
///
/// It looks four times in a threshold, but not more than once a millisecond: a stall is noticed when it has lasted for
/// one threshold to one and a quarter, and one that is shorter never is. Loops pay for it with some ten instructions
/// for each resumption; without a watchdog with one predictable branch. When memory runs out a report may come late. An
/// exception of `report` ends the program.
class stall_watchdog {
 public:
  /// Reports to stderr. Throws std::invalid_argument unless the threshold is positive.
  explicit stall_watchdog(stall_watchdog_options options);
  stall_watchdog() : stall_watchdog(stall_watchdog_options()) {}
  /// Calls `report` on the watchdog's thread.
  stall_watchdog(stall_watchdog_options options, std::function<void(const stall&)> report);
  stall_watchdog(const stall_watchdog&) = delete;
  stall_watchdog& operator=(const stall_watchdog&) = delete;
  /// Reports what is over by now, and joins the thread.
  ~stall_watchdog();

  /// How many stalls there were, those included that go on. From any thread.
  std::uint64_t stalls() const;

 private:
  class watched;
  void watch();
  void look(std::vector<stall>& reports);
  std::chrono::milliseconds threshold_;
  std::function<void(const stall&)> report_;
  mutable std::mutex mutex_;  // of what follows
  std::condition_variable wake_;
  bool ends_ = false;
  std::uint64_t stalls_ = 0;
  std::vector<std::unique_ptr<watched>> loops_;  // of the watchdog's thread alone
  std::thread thread_;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

class await_tree_json {
 public:
  explicit await_tree_json(clock::time_point now) noexcept : now_(now) {}

  void begin(const await_tree_node& node) {
    static constexpr const char* states[] = {"not started", "runs", "waits"};
    if (!text_.empty() && text_.back() == '}') text_ += ',';
    text_ += "{\"state\":\"";
    text_.append(states[node.state]) += '"';
    if (!node.function.empty()) add_place(node.function, node.f.where, node.state != await_tree_node::not_started);
    if (!node.name.empty()) text_ += ",\"name\":" + json_text(node.name);
    if (node.state == await_tree_node::waits) {
      const wait_node& n = *node.f.waits_for;
      text_ += ",\"waits_for\":" + json_text(n.what());
      if (const auto since = n.since(); since && n.children() == 0) {
        text_ += ",\"since_ms\":" + std::to_string((now_ - *since).count() / 1'000'000);
        add_holders(holders_by_place(n.held_by()));
      }
    }
    text_ += ",\"children\":[";
  }
  void end() { text_ += "]}"; }
  const std::string& text() const noexcept { return text_; }

 private:
  void add_place(std::string_view function, const std::source_location& where, bool has_line) {
    text_ += ",\"function\":" + json_text(function) + ",\"file\":" + json_text(file_name(where.file_name()));
    if (has_line) text_ += ",\"line\":" + std::to_string(where.line());
  }
  void add_holders(const holders_by_place& by) {
    if (by.places == 0) return;
    text_ += ",\"held_by\":[";
    for (std::size_t i = 0; i != by.places; ++i) {
      text_ += i == 0 ? "{\"count\":" : ",{\"count\":";
      text_ += std::to_string(by.count[i]);
      const std::source_location& where = by.place[i]->where();
      add_place(function_name(where.function_name()), where, true);
      text_ += '}';
    }
    if (by.more != 0) text_ += ",{\"count\":" + std::to_string(by.more) + '}';
    text_ += ']';
  }

  clock::time_point now_;
  std::string text_;
};

template <class Visitor>
bool walk_all_trees(const loop& l, Visitor& visitor, std::size_t depth) {
  await_tree_walk walk(visitor);
  for (const root* r = l.first_root(); r; r = loop::next_root(*r)) walk.visit(*r, depth);
  return walk.is_cut_off();
}

/// On the loop's thread.
inline std::string format_await_tree_of(const loop& l, tree_format format) {
  if (format == tree_format::text) {
    await_tree_text text(l.now());
    const bool is_cut_off = walk_all_trees(l, text, 1);
    return text.take(is_cut_off);
  }
  await_tree_json json(l.now());
  const bool is_cut_off = walk_all_trees(l, json, 0);
  const auto truth = [](bool b) { return b ? "true" : "false"; };
  return "{\"loop\":" + std::to_string(l.number()) + ",\"virtual_time\":" + truth(l.is_virtual()) +
         ",\"cut_off\":" + truth(is_cut_off) + ",\"trees\":[" + json.text() + "]}";
}

/// What somebody on another thread wants of a loop.
class loop_request : public list_node {
 public:
  std::uint64_t loop = 0;
  /// In a turn of the loop, under the mutex of the requests.
  virtual void answer(const detail::loop& l) noexcept = 0;

 protected:
  ~loop_request() = default;
};

struct loop_requests {
  std::mutex mutex;
  std::condition_variable answered;
  intrusive_list<loop_request> all;

  static loop_requests& get() noexcept {
    alignas(loop_requests) static unsigned char memory[sizeof(loop_requests)];
    static loop_requests& requests = *::new (memory) loop_requests;  // as loops_alive
    return requests;
  }
  /// The visitor of all loops.
  static void answer_all(loop& l) noexcept {
    loop_requests& requests = get();
    const std::scoped_lock lock(requests.mutex);
    for (loop_request* r = requests.all.empty() ? nullptr : &requests.all.front(); r;) {
      loop_request* next = requests.all.next(*r);
      if (r->loop == l.number()) r->answer(l);
      r = next;
    }
    requests.answered.notify_all();
  }
};

/// What can be seen from another thread of the coroutine that runs.
struct running_coroutine {
  std::uint64_t turn;  // even: none runs
  std::source_location where;
  bool starts;

  explicit running_coroutine(const loop::turn_report& t) noexcept
      : turn(t.number.load(std::memory_order_acquire)),
        where(t.where.load(std::memory_order_relaxed)),
        starts(t.starts.load(std::memory_order_relaxed)) {}
  void append_to(std::string& text) const { append_place(text, function_name(where.function_name()), where, !starts); }
};

class await_tree_request final : public loop_request {
 public:
  explicit await_tree_request(tree_format format) noexcept : format_(format) {}
  void answer(const detail::loop& l) noexcept override {
    unlink();
    is_answered = true;
    try {
      tree = format_await_tree_of(l, format_);
    } catch (...) {
      is_answered = false;  // no memory for it
    }
  }
  std::string tree, kept_by;
  bool is_answered = false;

 private:
  tree_format format_;
};

inline void append_answer(std::string& out, const await_tree_request& r, tree_format format,
                          std::chrono::milliseconds patience) {
  const std::string number = std::to_string(r.loop);
  if (format == tree_format::json) {
    out += out.back() == '[' ? "\n" : ",\n";
    out += r.is_answered ? r.tree : "{\"loop\":" + number + ",\"answered\":false}";
    return;
  }
  out += "loop " + number + ':';
  if (!r.is_answered)
    out += " did not answer within " + std::to_string(patience.count()) +
           " ms: " + (r.kept_by.empty() ? "nobody runs it, or something keeps it" : "kept by " + r.kept_by);
  else
    out += r.tree.empty() ? " no coroutines" : r.tree;
  out += '\n';
}

}  // namespace detail

inline std::string format_await_tree(tree_format format) {
  const detail::loop* here = detail::loop::current();
  if (!here)
    throw std::logic_error("tandem::format_await_tree: no loop runs on this thread; format_all_await_trees asks all");
  return detail::format_await_tree_of(*here, format);
}

inline std::string format_all_await_trees(tree_format format, std::chrono::milliseconds patience) {
  if (patience < std::chrono::milliseconds::zero())
    throw std::invalid_argument("tandem::format_all_await_trees: patience is " + std::to_string(patience.count()) +
                                " ms; it must not be negative");
  const auto deadline = std::chrono::steady_clock::now() + patience;
  std::vector<std::unique_ptr<detail::await_tree_request>> asked;
  detail::loops_alive& loops = detail::loops_alive::get();
  auto& requests = detail::loop_requests::get();
  struct withdraw {  // whatever happens
    std::vector<std::unique_ptr<detail::await_tree_request>>& asked;
    ~withdraw() {
      const std::scoped_lock lock(detail::loop_requests::get().mutex);
      for (auto& r : asked) r->unlink();
    }
  } const at_exit{asked};
  {
    const std::scoped_lock lock(loops.mutex);
    loops.visitor.store(&detail::loop_requests::answer_all);
    for (detail::loop* l = loops.first; l; l = detail::loops_alive::next(*l)) {
      auto& r = *asked.emplace_back(std::make_unique<detail::await_tree_request>(format));
      r.loop = l->number();
      const std::scoped_lock lock_requests(requests.mutex);
      if (l == detail::loop::current()) {
        r.answer(*l);
      } else {
        requests.all.push_back(r);
        l->ask_for_visit(true);
      }
    }
  }
  {
    std::unique_lock lock(requests.mutex);
    requests.answered.wait_until(lock, deadline, [&] {
      for (const auto& r : asked)
        if (r->linked()) return false;
      return true;
    });
    for (auto& r : asked) r->unlink();
  }
  {
    const std::scoped_lock lock(loops.mutex);
    for (const detail::loop* l = loops.first; l; l = detail::loops_alive::next(*l))
      for (auto& r : asked)
        if (const detail::running_coroutine c(l->turn()); r->loop == l->number() && !r->is_answered && c.turn % 2 != 0)
          c.append_to(r->kept_by);
  }
  std::string out = format == tree_format::json ? "{\"loops\":[" : "";
  for (std::size_t i = asked.size(); i-- != 0;)  // oldest first
    detail::append_answer(out, *asked[i], format, patience);
  if (format == tree_format::json) return out += "\n]}\n";
  return out.empty() ? "no loops\n" : out;
}

inline await_trees_on_signal::await_trees_on_signal(int signal)
    : await_trees_on_signal(signal, [](const std::string& trees) { std::fputs(trees.c_str(), stderr); }) {}
inline await_trees_on_signal::await_trees_on_signal(int signal, std::function<void(const std::string&)> write)
    : signals_(context_, signal), write_(std::move(write)) {
#if defined(SA_RESTART)
  struct sigaction action;
  if (sigaction(signal, nullptr, &action) == 0) {
    action.sa_flags |= SA_RESTART;
    sigaction(signal, &action, nullptr);
  }
#endif
  listen();
  thread_ = std::thread([this] { context_.run(); });
}
inline await_trees_on_signal::~await_trees_on_signal() {
  context_.stop();
  thread_.join();
}
inline void await_trees_on_signal::listen() {
  signals_.async_wait([this](const error_code& error, int) {
    if (error) return;
    std::optional<std::string> trees;
    try {
      trees = format_all_await_trees();
    } catch (const std::bad_alloc&) {  // perhaps the next time
    }
    if (trees) write_(*trees);
    listen();
  });
}

inline std::string stall::text() const {
  std::string out(function.empty() ? std::string_view("a coroutine") : function);
  const std::string time = std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(lasted).count());
  out += is_over ? " blocked its loop for " + time + " ms" : " has blocked its loop for " + time + " ms and goes on";
  if (!file.empty()) {
    out += line != 0 ? "; look at what follows its co_await at " : "; look at its beginning, in ";
    out.append(file);
    if (line != 0) out += ':' + std::to_string(line);
  }
  if (!await_tree.empty()) out += "; then:" + await_tree;
  return out += '\n';
}

/// A loop, as the watchdog last saw it.
class stall_watchdog::watched final : public detail::loop_request {
 public:
  explicit watched(std::uint64_t number) noexcept { loop = number; }
  ~watched() {
    const std::scoped_lock lock(detail::loop_requests::get().mutex);
    unlink();
  }
  bool is_there = true;

  /// Whether to ask the loop for a visit when this is over.
  bool look(detail::running_coroutine c, std::chrono::steady_clock::time_point now, clock::duration threshold,
            std::vector<stall>& reports) {
    if (c.turn != turn_) {
      end(now, reports);
      turn_ = c.turn;
      since_ = part_since_ = now;
      where_ = longest_ = part{c.where, c.starts};
      longest_part_ = clock::duration::zero();
    }
    if (turn_ % 2 == 0) return false;
    if (!(part{c.where, c.starts} == where_)) {
      part_since_ = now;
      where_ = {c.where, c.starts};
    }
    if (now - part_since_ > longest_part_) {
      longest_part_ = now - part_since_;
      longest_ = where_;
    }
    if (is_reported_ || now - since_ < threshold) return false;
    reports.push_back(report(now));
    is_reported_ = true;
    const std::scoped_lock lock(detail::loop_requests::get().mutex);
    detail::loop_requests::get().all.push_back(*this);
    return true;
  }
  /// The stall that was reported is over, if there was one.
  void end(std::chrono::steady_clock::time_point now, std::vector<stall>& reports) {
    if (!std::exchange(is_reported_, false)) return;
    const std::scoped_lock lock(detail::loop_requests::get().mutex);
    unlink();
    stall s = report(ended_ ? *std::exchange(ended_, std::nullopt) : now);
    s.is_over = true;
    s.await_tree = std::exchange(tree_, {});
    reports.push_back(std::move(s));
  }

 private:
  struct part {
    std::source_location where{};
    bool starts = false;
    bool operator==(const part& o) const noexcept {
      return where.line() == o.where.line() && where.file_name() == o.where.file_name() && starts == o.starts;
    }
  };
  stall report(std::chrono::steady_clock::time_point now) const {
    return {.function = detail::function_name(longest_.where.function_name()),
            .file = detail::file_name(longest_.where.file_name()),
            .line = longest_.starts ? 0 : longest_.where.line(),
            .lasted = now - since_};
  }
  void answer(const detail::loop& l) noexcept override {
    if (l.turn().number.load() != turn_ + 1) return;  // it still lasts, or other coroutines have run since
    unlink();
    ended_ = std::chrono::steady_clock::now();
    try {
      tree_ = detail::format_await_tree_of(l, tree_format::text);
    } catch (...) {  // no memory: it is reported without
    }
  }

  std::uint64_t turn_ = 0;
  std::chrono::steady_clock::time_point since_{}, part_since_{};
  part where_, longest_;
  clock::duration longest_part_{};
  bool is_reported_ = false;
  // Under the mutex of the requests.
  std::optional<std::chrono::steady_clock::time_point> ended_;
  std::string tree_;
};

inline stall_watchdog::stall_watchdog(stall_watchdog_options options)
    : stall_watchdog(options, [](const stall& s) { std::fputs(("tandem: " + s.text()).c_str(), stderr); }) {}
inline stall_watchdog::stall_watchdog(stall_watchdog_options options, std::function<void(const stall&)> report)
    : threshold_(options.threshold), report_(std::move(report)) {
  if (threshold_ <= std::chrono::milliseconds::zero())
    throw std::invalid_argument("tandem::stall_watchdog: the threshold is " + std::to_string(threshold_.count()) +
                                " ms; it must be positive");
  thread_ = std::thread([this] { watch(); });
  detail::loops_alive& loops = detail::loops_alive::get();
  const std::scoped_lock lock(loops.mutex);
  loops.visitor.store(&detail::loop_requests::answer_all);
  ++loops.observers;
  for (detail::loop* l = loops.first; l; l = detail::loops_alive::next(*l)) l->observe_from_outside(true);
}
inline stall_watchdog::~stall_watchdog() {
  {
    const std::scoped_lock lock(mutex_);
    ends_ = true;
  }
  wake_.notify_all();
  thread_.join();
  detail::loops_alive& loops = detail::loops_alive::get();
  const std::scoped_lock lock(loops.mutex);
  if (--loops.observers != 0) return;
  for (detail::loop* l = loops.first; l; l = detail::loops_alive::next(*l)) l->observe_from_outside(false);
}
inline std::uint64_t stall_watchdog::stalls() const {
  const std::scoped_lock lock(mutex_);
  return stalls_;
}
inline void stall_watchdog::watch() {
  const auto period = std::max(threshold_ / 4, std::chrono::milliseconds(1));
  std::unique_lock lock(mutex_);
  for (bool is_last = false; !is_last;) {
    wake_.wait_for(lock, period, [this] { return ends_; });
    is_last = ends_;
    lock.unlock();
    std::vector<stall> reports;
    try {
      look(reports);
    } catch (const std::bad_alloc&) {  // what is missing is found the next time, or told when it is over
    }
    for (const stall& s : reports) report_(s);
    lock.lock();
    for (const stall& s : reports) stalls_ += !s.is_over;
  }
}
inline void stall_watchdog::look(std::vector<stall>& reports) {
  const auto now = std::chrono::steady_clock::now();
  detail::loops_alive& loops = detail::loops_alive::get();
  for (auto& w : loops_) w->is_there = false;
  {
    const std::scoped_lock lock(loops.mutex);
    for (detail::loop* l = loops.first; l; l = detail::loops_alive::next(*l)) {
      auto w = std::find_if(loops_.begin(), loops_.end(), [&](auto& x) { return x->loop == l->number(); });
      if (w == loops_.end()) w = loops_.insert(w, std::make_unique<watched>(l->number()));
      (*w)->is_there = true;
      if ((*w)->look(detail::running_coroutine(l->turn()), now, threshold_, reports)) l->ask_for_visit(false);
    }
  }
  for (auto& w : loops_)
    if (!w->is_there) w->end(now, reports);
  std::erase_if(loops_, [](const auto& w) { return !w->is_there; });
}

}  // namespace tandem::inline TANDEM_CONFIG
