// tests/fuzz/program.hpp: what bytes mean as a program, and the log that says how it went.
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace fuzz {

// Name, fewest children, most children. What `node::a` means to each is said in machine.cpp.
#define TANDEM_FUZZ_KINDS(X)   \
  X(value, 0, 0)               \
  X(fail, 0, 0)                \
  X(sleep, 0, 0)               \
  X(sleep_until, 0, 0)         \
  X(yield, 0, 0)               \
  X(post, 0, 0)                \
  X(stop, 0, 0)                \
  X(call, 1, 1)                \
  X(deep, 1, 1)                \
  X(try_catch, 1, 1)           \
  X(timeout, 1, 1)             \
  X(try_timeout, 1, 1)         \
  X(deadline, 1, 1)            \
  X(shield, 1, 1)              \
  X(on, 1, 1)                  \
  X(await_spawned, 1, 1)       \
  X(spawn, 1, 1)               \
  X(spawn_and_stop, 1, 1)      \
  X(finally, 2, 2)             \
  X(with_resource, 3, 3)       \
  X(sequence, 0, 4)            \
  X(gather, 0, 4)              \
  X(gather_void, 0, 4)         \
  X(gather_tuple, 3, 3)        \
  X(gather_outcomes, 0, 4)     \
  X(gather_two_outcomes, 2, 2) \
  X(transform, 2, 2)           \
  X(transform_outcomes, 2, 2)  \
  X(for_each, 2, 2)            \
  X(race, 1, 4)                \
  X(race_successful, 1, 4)     \
  X(race_tuple, 2, 2)          \
  X(race_sleep, 2, 2)          \
  X(task_group, 1, 4)          \
  X(cancel_group, 2, 2)        \
  X(handles, 1, 1)             \
  X(cancel_handle, 2, 2)       \
  X(wait, 1, 4)                \
  X(as_completed, 0, 4)        \
  X(as_completed_some, 1, 4)   \
  X(race_waits, 0, 0)          \
  X(start, 2, 2)               \
  X(close, 1, 4)               \
  X(permits, 2, 4)             \
  X(weighted, 2, 4)            \
  X(lock, 2, 4)                \
  X(event, 2, 4)               \
  X(condition, 2, 4)           \
  X(lines, 1, 1)               \
  X(queue_push, 0, 0)          \
  X(queue_push_range, 0, 0)    \
  X(queue_pop, 0, 0)           \
  X(queue_pop_some, 0, 0)      \
  X(queue_try, 0, 0)           \
  X(queue_race, 0, 0)          \
  X(queue_end, 0, 0)           \
  X(queue_between, 1, 1)       \
  X(pool, 1, 4)                \
  X(pool_handles, 1, 4)        \
  X(pool_beside, 2, 4)         \
  X(pool_crowd, 1, 4)          \
  X(generator, 1, 1)           \
  X(flow, 1, 4)                \
  X(lease, 1, 1)               \
  X(scheduler, 1, 4)           \
  X(cache, 1, 1)               \
  X(limit, 1, 1)               \
  X(guard, 1, 1)

#define TANDEM_FUZZ_NAME(name, fewest, most) name,
#define TANDEM_FUZZ_ROW(name, fewest, most) {#name, fewest, most},
enum class kind : unsigned char { TANDEM_FUZZ_KINDS(TANDEM_FUZZ_NAME) };
struct kind_row {
  const char* name;
  unsigned fewest, most;
};
inline constexpr kind_row kinds[] = {TANDEM_FUZZ_KINDS(TANDEM_FUZZ_ROW)};

struct node {
  kind what = kind::value;
  unsigned number = 0;
  unsigned a = 0;
  std::vector<node> children;

  /// Seconds of those kinds that wait.
  long seconds() const { return a % 8; }
  /// Of the fan-outs: the elements, which take their turns with the two children; how many at a time; the element at
  /// which the function throws instead of returning a task.
  unsigned elements() const { return a % 6; }
  unsigned limit() const { return 1 + a / 6 % 3; }
  unsigned throws_at() const { return a / 18 % 4 == 3 ? a / 72 : ~0u; }
  /// Of those whose children wait in line: how many permits there are, and how many child `i` takes.
  bool waits_in_line() const { return what == kind::permits || what == kind::weighted || what == kind::lock; }
  unsigned permits() const { return what == kind::lock ? 1 : what == kind::weighted ? 3 : 1 + a / 32 % 3; }
  unsigned takes_permits(std::size_t i) const { return what == kind::weighted ? 1 + (a >> (i + 2)) % 3 : 1; }
  bool fans_out() const {
    return what == kind::transform || what == kind::transform_outcomes || what == kind::for_each;
  }
  /// Of a task group: is child `i` in the background; does the body cancel the group, or what it waited for in vain?
  bool is_background(std::size_t i) const { return i != 0 && (a >> (i + 2)) % 2 != 0; }
  bool cancels() const { return a / 4 % 2 != 0; }
  /// Of `close`: does child `i` wait until the group is closing; does the body close it before it runs child 0, or
  /// afterwards; after how many seconds is what is left stopped, if at all?
  bool waits_for_closing(std::size_t i) const { return i != 0 && (a >> (i + 2)) % 2 != 0; }
  bool closes_first() const { return a / 4 % 2 != 0; }
  bool has_grace() const { return a / 64 != 3; }
  long grace() const { return a / 64 * 2; }
  bool is_first_successful() const { return what == kind::race_successful || (what == kind::race_tuple && a % 2 != 0); }
  /// Of `wait`: the condition, as a return_when; has it, or the start, a time limit, in seconds?
  unsigned condition() const { return a / 8 % 3; }
  bool has_limit() const { return a / 24 % 2 != 0; }
  /// Of those that use a queue, which one `a` says: how long they wait, in seconds; how many items; which of their
  /// ways.
  long patience() const { return a / 3 % 4; }
  unsigned items() const { return 1 + a / 12 % 4; }
  unsigned way() const { return a / 48 % 4; }
  /// Of those with a worker pool, whose jobs are the children, but for the first of `pool_beside`: its workers and its
  /// backlog; what comes of it in the end; is the last job cancelled by its handle?
  bool has_pool() const {
    return what == kind::pool || what == kind::pool_handles || what == kind::pool_beside || what == kind::pool_crowd;
  }
  unsigned workers() const { return 1 + a / 4 % 3; }
  unsigned backlog() const { return a / 12 % 3; }
  enum : unsigned { is_cancelled, is_dropped, is_closed };
  unsigned end_of_pool() const { return a / 36 % 3; }
  bool cancels_last() const { return a / 36 % 2 != 0; }
  /// Of a scheduler, whose jobs also are the children: the rest is drawn.
  std::size_t slots() const { return 1 + a / 4 % 3; }
  long ageing() const { return a / 12 % 4; }
  /// Of `as_completed_some`: after so many the stream is dropped.
  unsigned takes() const { return what == kind::as_completed ? ~0u : 1 + a / 18 % 2; }
  bool races() const {
    return what == kind::race || what == kind::race_successful || what == kind::race_tuple || what == kind::race_sleep;
  }
  /// Is `child` one that a scope starts by itself, so that it does not once a stop came? Others are awaited one by one.
  bool starts_at_once(const node& child) const {
    const bool is_first = &child == &children.front();
    switch (what) {
      case kind::sequence:
      case kind::with_resource:
        return false;
      case kind::task_group:
      case kind::cancel_group:
        return !is_first;
      case kind::permits:  // granted a permit, and then stopped, its holder goes on as far as he need not wait
      case kind::weighted:
      case kind::lock:
      case kind::lines:
      case kind::lease:
      case kind::cache:
      case kind::limit:
      case kind::guard:
      case kind::flow:
      case kind::pool_beside:
        return false;
      case kind::cancel_handle:
      case kind::start:
      case kind::event:
      case kind::condition:
        return is_first;
      case kind::close:
        return !is_first && !waits_for_closing(static_cast<std::size_t>(&child - &children.front()));
      default:
        return true;
    }
  }
  /// May it have a value although a child was stopped?
  bool stops_children() const {
    return races() || what == kind::try_timeout || what == kind::task_group || what == kind::cancel_group ||
           what == kind::cancel_handle || what == kind::wait || what == kind::start || what == kind::close;
  }
  /// Awaits a tree, which may also end with what a stream in it has left behind.
  bool is_a_tree() const { return what == kind::on || what == kind::await_spawned; }
  bool gives_outcomes() const {
    return what == kind::gather_outcomes || what == kind::gather_two_outcomes || what == kind::transform_outcomes;
  }
};

/// Reads two bytes a node, kind and `a`, then its children. Where the bytes end, every node is a value.
class parser {
 public:
  explicit parser(std::span<const std::uint8_t> bytes) : left_(bytes) {}
  unsigned byte() {
    if (left_.empty()) return 0;
    const unsigned b = left_.front();
    left_ = left_.subspan(1);
    return b;
  }
  /// `times`: how often the node may be run.
  node tree(unsigned depth = 0, unsigned times = 1) {
    node n{static_cast<kind>(byte() % std::size(kinds)), ++nodes_, byte(), {}};
    runs_ += times;
    if ((depth == 7 || runs_ > 150) && kinds[static_cast<unsigned>(n.what)].most != 0) n.what = kind::value;
    const kind_row& k = kinds[static_cast<unsigned>(n.what)];
    const unsigned count = k.fewest + n.a % (k.most - k.fewest + 1);
    for (unsigned i = 0; i != count; ++i)
      n.children.push_back(tree(depth + 1, n.fans_out() ? times * (n.elements() + 1) / 2 : times));
    return n;
  }

 private:
  std::span<const std::uint8_t> left_;
  unsigned nodes_ = 0, runs_ = 0;
};

inline std::string text(const node& n) {
  std::string s = std::to_string(n.number) + ":" + kinds[static_cast<unsigned>(n.what)].name + " " +
                  std::to_string(n.a) + (n.children.empty() ? "" : "(");
  for (const node& c : n.children) s += text(c) + (&c == &n.children.back() ? ")" : ", ");
  return s;
}

// ---- the log -------------------------------------------------------------------------------------------------------

enum class how : unsigned char { value, failed, stopped };

/// The ending of a node, or of a tree that was spawned: then it is what its handler got. `code`: the value, or which
/// failure.
struct entry {
  unsigned node;
  bool of_tree;
  how end;
  std::uint32_t code;
  long at;
  auto operator<=>(const entry&) const = default;
};

inline std::string text(const std::vector<entry>& log) {
  static constexpr const char* words[] = {"value", "failed", "stopped"};
  std::string s;
  for (const entry& e : log)
    s += (e.of_tree ? "  tree " : "  node ") + std::to_string(e.node) + " " + words[static_cast<unsigned>(e.end)] +
         " " + std::to_string(e.code) + " at " + std::to_string(e.at) + "\n";
  return s;
}

inline constexpr std::uint32_t late = 10'001, was_cancelled = 10'002, of_group = 20'000, of_element = 30'000;

/// A value made of others.
inline std::uint32_t mix(std::uint32_t a, std::uint32_t b) { return a * 31 + b; }
/// An exception_group; whatever the order, since failures of one instant may come in any.
inline std::uint32_t group_of(std::vector<std::uint32_t> codes) {
  std::sort(codes.begin(), codes.end());
  return codes.size() == 1 ? codes[0] : std::accumulate(codes.begin(), codes.end(), of_group, mix);
}

// ---- laws ----------------------------------------------------------------------------------------------------------

/// What is being run, for the message when a law is broken.
struct {
  const char* name = "the input";
  std::span<const std::uint8_t> bytes;
  std::string text;
} inline running;

[[noreturn]] inline void broken(const std::string& law) {
  std::fprintf(stderr, "%s: broken: %s\n%s\nbytes:", running.name, law.c_str(), running.text.c_str());
  for (const std::uint8_t byte : running.bytes) std::fprintf(stderr, " %02x", byte);
  std::fputc('\n', stderr);
  std::abort();
}
inline void check(bool holds, const char* law) {
  if (!holds) broken(law);
}

}  // namespace fuzz
