// See explorer.hpp. Dynamic partial order reduction with source sets and sleep sets (Abdulla, Aronsson, Jonsson and
// Sagonas, "Optimal dynamic partial order reduction", 2014), or a bound on preemptions (Musuvathi and Qadeer,
// "Iterative context bounding", 2007). Loads give what an interleaving gives and, where their memory order allows it,
// an older value; plain accesses are checked for an order by happens-before. Not instrumented itself.
#include "explorer.hpp"

#include <cxxabi.h>
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <utility>
#include <vector>

extern "C" char __data_start, _end;  // of this program's variables

namespace explorer {
namespace {

constexpr int max_threads = 6;
constexpr std::size_t stack_size = 256 << 10;
constexpr std::size_t max_operations = 4000;
constexpr std::size_t heap_size = 64 << 20;
constexpr std::size_t cells = 1 << 17;

using mask = unsigned;
constexpr mask bit(int t) { return mask(1) << t; }

struct vector_clock {
  std::array<std::uint32_t, max_threads> at{};
  void join(const vector_clock& o) {
    for (std::size_t i = 0; i != at.size(); ++i) at[i] = std::max(at[i], o.at[i]);
  }
  bool knows(int t, std::uint32_t when) const { return at[std::size_t(t)] >= when; }
};

enum class kind : unsigned char {
  start,
  load,
  store,
  exchange,
  add,
  compare,
  fence,
  lock,
  try_lock,
  unlock,
  wait,
  relock,
  notify,
  yield,
  post,
  take,
  close,
  join,
  quiet
};
const char* const kind_names[] = {
    "starts",    "loads",  "stores",        "exchanges",  "adds to",  "compares and exchanges",
    "fence",     "locks",  "tries to lock", "unlocks",    "waits at", "locks again",
    "notifies",  "yields", "posts to",      "takes from", "closes",   "joins",
    "sees quiet"};

struct pending {
  kind what = kind::start;
  const void* object = nullptr;
  int order = 0;
  const void* caller = nullptr;
  const void* other = nullptr;  // the mutex of a wait, the condition of a relock
};

struct event {
  int thread;
  kind what;
  const void* object;
  std::size_t node;
  std::uint32_t when;  // the thread's count in the order of dependence
  vector_clock knows;  // in that order
  const void* caller;
  std::uint64_t value;
};

struct node {
  bool is_choice = false;
  int chosen = 0, choices = 0;  // of a choice
  mask enabled = 0, backtrack = 0, done = 0, sleep = 0;
  int preemptions = 0, previous = -1;
};

struct version {  // of an atomic variable, in modification order
  std::uint64_t value;
  int thread;
  std::uint32_t when;
  std::uint64_t order;  // among all writes
  vector_clock releases;
};
struct reading {
  int thread;
  std::uint32_t when;
  std::size_t index;
};
struct location {
  const void* address = nullptr;
  std::vector<version> versions;
  std::vector<reading> readings;
  std::size_t last_sequential = 0;
  bool additions_commute = false;
  // of a mutex
  int owner = -1;
  vector_clock releases, dependent;
  std::vector<int> events;  // in order
  void reset(const void* a) {
    address = a;
    versions.clear();
    readings.clear();
    last_sequential = 0;
    owner = -1;
    additions_commute = false;
    releases = dependent = {};
    events.clear();
  }
};

struct fibre {
  ucontext_t context;
  unsigned char* stack = nullptr;
  std::vector<unsigned char> locals;  // its thread_local variables
  unsigned char exceptions[16];
  std::function<void()>* body = nullptr;
  pending next;
  bool is_over = false;
  vector_clock happened, dependent;
  vector_clock to_acquire, released;              // for fences
  std::uint64_t writes = 0, writes_at_yield = 0;  // its own; those of others when it last yielded
  std::uint64_t yielded_at = 0;                   // of all writes
  bool is_notified = false, is_timed = false;
  // an operation that is late
  int late = 0;  // in so many steps
  const void* late_object = nullptr;
  std::size_t late_size = 0;
  kind late_kind{};
  int late_order = 0;
  std::uint64_t late_value = 0;
};

struct slot {
  std::uint32_t when;
  unsigned char thread, bytes;
  bool writes, is_atomic;
};
struct cell {
  std::uintptr_t key;
  std::uint32_t run;
  unsigned char count;
  unsigned char freed;  // bytes
  slot slots[10];
};

struct changed {
  const void* object;
  operation what;
  mutation how;
  int thread, steps;
};

struct machine {
  bool active = false, inside = false, failed = false;
  int running = 0, count = 0;
  fibre fibres[max_threads];
  ucontext_t home;
  std::vector<node> path;
  std::size_t depth = 0;
  mask sleep = 0;
  std::vector<event> events;
  std::vector<location*> places, spare;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> place_table;  // run, index
  limits limit{};
  bool aborted = false;
  std::string failure;
  std::vector<changed> mutations;
  std::vector<const void*> disregarded;
  std::vector<std::pair<const void*, const char*>> names;
  std::vector<std::pair<const void*, int>> waiting;  // at conditions
  std::uint64_t writes = 0;
  std::uint32_t run = 0;
  cell* shadow = nullptr;
  unsigned char* heap = nullptr;
  std::size_t heap_used = 0;
  long blocks = 0;
  std::vector<unsigned char> data, locals_at_start;
  unsigned char* locals = nullptr;
  std::uintptr_t base = 0;
  result outcome;
  void (*scenario)(int) = nullptr;
  int mutant = 0;
  std::function<void()> body = [this] { scenario(mutant); };
  std::vector<std::size_t> between;  // of `reverse`
  bool is_verbose = std::getenv("INTERLEAVINGS_TRACE") != nullptr;
};

machine* m = nullptr;  // elsewhere: what is here is restored between two runs

/// While it lives, memory comes from the heap of the process.
struct engine {
  bool was;
  engine() : was(std::exchange(m->inside, true)) {}
  ~engine() { m->inside = was; }
};

bool exploring() { return m && m->active && !m->inside; }
bool is_seen(const void* object) {
  return exploring() && std::find(m->disregarded.begin(), m->disregarded.end(), object) == m->disregarded.end();
}
fibre& self() { return m->fibres[m->running]; }

std::string describe(const void* object) {
  std::string best;
  const auto a = reinterpret_cast<std::uintptr_t>(object);
  for (auto& [p, n] : m->names) {
    if (p == object) return n;
  }
  char text[64];
  std::snprintf(text, sizeof text, "%p", object);
  if (a - reinterpret_cast<std::uintptr_t>(m->heap) < heap_size)
    std::snprintf(text, sizeof text, "heap+%zu", std::size_t(a - reinterpret_cast<std::uintptr_t>(m->heap)));
  return text;
}

std::string source_of(const void* caller) {
  if (!caller) return {};
  char command[256];
  std::snprintf(command, sizeof command, "addr2line -fCpie /proc/%d/exe %zx 2>/dev/null", int(getpid()),
                std::size_t(reinterpret_cast<std::uintptr_t>(caller) - m->base - 1));
  std::string out;
  if (FILE* p = popen(command, "r")) {
    char line[512];
    for (int i = 0; i != 4 && std::fgets(line, sizeof line, p); ++i) {
      std::string s(line);
      while (!s.empty() && s.back() == '\n') s.pop_back();
      const auto at = s.rfind(" at ");
      const auto slash = s.rfind('/');
      if (at == std::string::npos) continue;
      std::string f = s.substr(0, at);
      if (f.starts_with(" (inlined by) ")) f = f.substr(14);
      if (f.size() > 60) f = f.substr(0, 57) + "...";
      if (f.starts_with("std::") || f.starts_with("__gthread")) continue;
      out += "  " + f + " " + s.substr(slash == std::string::npos ? at + 4 : slash + 1);
      break;
    }
    pclose(p);
  }
  return out;
}

[[noreturn]] void leave() {
  m->aborted = true;
  m->active = false;
  setcontext(&m->home);
  std::abort();
}

[[noreturn]] void fail(const std::string& what, const void* caller = nullptr) {
  engine e;
  m->failed = true;
  if (!m->limit.explains) {
    m->failure = what + '\n';
    leave();
  }
  std::string text = what + source_of(caller) + "\n  thread " + std::to_string(m->running) + "; before that:\n";
  const std::size_t from = m->events.size() > 60 ? m->events.size() - 60 : 0;
  for (std::size_t i = m->is_verbose ? 0 : from; i != m->events.size(); ++i) {
    const event& v = m->events[i];
    text += "  " + std::string(static_cast<std::size_t>(v.thread) * 2, ' ') + std::to_string(v.thread) + ' ' +
            kind_names[int(v.what)] + ' ' + describe(v.object) + " = " + std::to_string(v.value) +
            (m->is_verbose ? source_of(v.caller) : std::string()) + '\n';
  }
  for (int t = 0; t != m->count; ++t) {
    const fibre& f = m->fibres[t];
    if (!f.is_over)
      text += "  thread " + std::to_string(t) + " next " + kind_names[int(f.next.what)] + ' ' +
              describe(f.next.object) + source_of(f.next.caller) + '\n';
  }
  m->failure = std::move(text);
  leave();
}

// ---- where things are

std::size_t hash(const void* p) { return (reinterpret_cast<std::uintptr_t>(p) * 0x9e3779b97f4a7c15u) >> 40; }

location& place_of(const void* object) {
  const std::size_t size = m->place_table.size();
  for (std::size_t i = hash(object) % size;; i = (i + 1) % size) {
    const std::size_t at = m->place_table[i].second;
    if (m->place_table[i].first != m->run) {
      if (m->spare.empty()) m->spare.push_back(new location);
      location* l = m->spare.back();
      m->spare.pop_back();
      l->reset(object);
      m->places.push_back(l);
      m->place_table[i] = {m->run, static_cast<std::uint32_t>(m->places.size())};
      if (m->places.size() * 2 > size) fail("too many objects");
      return *l;
    }
    if (m->places[at - 1]->address == object) return *m->places[at - 1];
  }
}

/// Constructed where another one was.
void begins_anew(const void* object) {
  const std::size_t size = m->place_table.size();
  for (std::size_t i = hash(object) % size; m->place_table[i].first == m->run; i = (i + 1) % size) {
    location& l = *m->places[m->place_table[i].second - 1];
    if (l.address != object) continue;
    l.versions.clear();
    l.readings.clear();
    return;
  }
}

// ---- which operations depend on each other

bool reads(kind k) { return k == kind::load || k == kind::relock; }
bool locks(kind k) { return k == kind::lock || k == kind::relock; }
/// Of one object.
bool depend(kind a, kind b, bool additions_commute) {
  if (additions_commute && a == kind::add && b == kind::add) return false;
  if (reads(a) && reads(b) && !locks(a) && !locks(b)) return false;
  return true;
}
bool may_meet(kind a, kind b) {
  if ((locks(a) && b == kind::unlock) || (locks(b) && a == kind::unlock)) return false;
  return true;
}
bool independent(const pending& a, const pending& b) {
  const void* const of_a[] = {a.object, a.other};
  const void* const of_b[] = {b.object, b.other};
  for (const void* x : of_a)
    for (const void* y : of_b)
      if (x && x == y && (depend(a.what, b.what, place_of(x).additions_commute) || x != a.object || y != b.object))
        return false;
  return true;
}

bool is_enabled(int t) {
  const fibre& f = m->fibres[t];
  if (f.is_over) return false;
  switch (f.next.what) {
    case kind::lock:
      return place_of(f.next.object).owner < 0;
    case kind::relock:
      return (f.is_notified || f.is_timed) && place_of(f.next.object).owner < 0;
    case kind::join:
      return m->fibres[reinterpret_cast<std::intptr_t>(f.next.other) - 1].is_over;
    case kind::yield:
      return m->writes - f.writes > f.writes_at_yield;  // or it would find the same again
    case kind::take:
      return *static_cast<const bool*>(f.next.other);
    case kind::quiet:
      return false;
    default:
      return true;
  }
}
mask enabled_threads() {
  mask e = 0;
  for (int t = 0; t != m->count; ++t)
    if (is_enabled(t)) e |= bit(t);
  if (e == 0)
    for (int t = 0; t != m->count && e == 0; ++t)
      if (!m->fibres[t].is_over && m->fibres[t].next.what == kind::quiet) e = bit(t);
  return e;
}

/// `e` could have come before event `i`: a thread that begins that is to be tried there.
void reverse(const event& first, std::size_t at, int thread, kind what, const void* object) {
  node& n = m->path[first.node];
  const vector_clock& knows = m->fibres[thread].dependent;
  mask seen = 0, initial = 0;
  auto& between = m->between;
  between.clear();
  for (std::size_t j = at + 1; j != m->events.size(); ++j) {
    const event& v = m->events[j];
    if (v.knows.knows(first.thread, first.when)) continue;  // after it
    if (!(seen & bit(v.thread))) {
      seen |= bit(v.thread);
      bool is_first = true;
      for (std::size_t k : between)
        if (v.knows.knows(m->events[k].thread, m->events[k].when)) is_first = false;
      if (is_first) initial |= bit(v.thread);
    }
    between.push_back(j);
  }
  if (!(seen & bit(thread))) {
    bool is_first = true;
    for (std::size_t k : between) {
      const event& v = m->events[k];
      if (knows.knows(v.thread, v.when) ||
          (v.object == object && depend(v.what, what, place_of(object).additions_commute)))
        is_first = false;
    }
    if (is_first) initial |= bit(thread);
  }
  if (initial & (n.backtrack | n.sleep | n.done)) return;
  if (initial & n.enabled) {
    const mask chosen = initial & n.enabled;
    n.backtrack |= chosen & bit(thread) ? bit(thread) : chosen & -chosen;
  } else {
    n.backtrack |= n.enabled;
  }
}

/// The thread does this now: which schedules does that ask for, and what has come before it?
void note(int thread, kind what, const void* object, std::size_t at_node, const void* caller, std::uint64_t value = 0) {
  if (m->count == 1) return;  // before everything else
  fibre& f = m->fibres[thread];
  if (object) {
    location& l = place_of(object);
    if (m->limit.preemptions < 0) {
      bool has_read = false;
      for (std::size_t i = l.events.size(); i-- != 0;) {
        const std::size_t at = static_cast<std::size_t>(l.events[i]);
        const event& v = m->events[at];
        if (!depend(v.what, what, l.additions_commute)) continue;
        const bool is_read = reads(v.what) && !locks(v.what);
        if (!may_meet(v.what, what)) continue;
        if (v.thread != thread && !f.dependent.knows(v.thread, v.when)) {
          if (is_read || !has_read) reverse(v, at, thread, what, object);
          has_read = has_read || is_read;
        }
        if (!is_read) break;
      }
    }
    for (std::size_t i = l.events.size(); i-- != 0;) {
      const event& v = m->events[static_cast<std::size_t>(l.events[i])];
      if (depend(v.what, what, l.additions_commute)) f.dependent.join(v.knows);
    }
    l.events.push_back(static_cast<int>(m->events.size()));
  }
  const std::uint32_t when = ++f.dependent.at[std::size_t(thread)];
  m->events.push_back({thread, what, object, at_node, when, f.dependent, caller, value});
}

// ---- threads

void swap_locals(fibre& from, fibre& to) {
  std::memcpy(from.locals.data(), m->locals, from.locals.size());
  std::memcpy(m->locals, to.locals.data(), to.locals.size());
  void* exceptions = static_cast<void*>(abi::__cxa_get_globals());
  std::memcpy(from.exceptions, exceptions, sizeof from.exceptions);
  std::memcpy(exceptions, to.exceptions, sizeof to.exceptions);
}

/// Chooses who goes on. -1: nobody, all are over.
int pick() {
  const int previous = m->running;
  if (m->depth == m->path.size()) {
    const mask enabled = enabled_threads();
    if (enabled == 0) {
      for (int t = 0; t != m->count; ++t)
        if (!m->fibres[t].is_over) fail("nobody can go on");
      return -1;
    }
    if (m->depth >= max_operations) fail("too many operations: it goes on for ever");
    node n;
    n.enabled = enabled;
    n.sleep = m->sleep;
    n.previous = previous;
    mask open = enabled & ~n.sleep;
    if (open == 0) {
      ++m->outcome.cut_short;
      leave();
    }
    int chosen = previous;
    if (!(open & bit(previous)))
      for (chosen = 0; !(open & bit(chosen));) ++chosen;
    n.chosen = chosen;
    n.done = bit(chosen);
    n.backtrack = bit(chosen);
    for (std::size_t d = m->depth; d-- != 0;)
      if (!m->path[d].is_choice) {
        const node& before = m->path[d];
        n.preemptions = before.preemptions + (before.chosen != before.previous &&
                                              (before.enabled & bit(before.previous)) && before.previous >= 0);
        break;
      }
    if (m->limit.preemptions >= 0) {
      n.sleep = 0;
      if (n.preemptions < m->limit.preemptions || !(enabled & bit(previous))) n.backtrack = enabled;
    }
    m->path.push_back(n);
  }
  node& n = m->path[m->depth];
  if (n.is_choice) fail("the scenario is not the same twice");
  const int chosen = n.chosen;
  mask asleep = 0;
  if (m->limit.preemptions < 0)
    for (int t = 0; t != m->count; ++t)
      if (t != chosen && ((n.sleep | n.done) & bit(t)) && independent(m->fibres[t].next, m->fibres[chosen].next))
        asleep |= bit(t);
  m->sleep = asleep;
  ++m->depth;
  return chosen;
}

int choose_inside(int n) {
  if (n <= 1) return 0;
  if (m->depth == m->path.size()) {
    node c;
    c.is_choice = true;
    c.choices = n;
    m->path.push_back(c);
  }
  if (!m->path[m->depth].is_choice) fail("the scenario is not the same twice");
  return m->path[m->depth++].chosen;
}

std::size_t last_node() {
  std::size_t d = m->depth;
  while (m->path[d - 1].is_choice) --d;
  return d - 1;
}

void do_late();
void late_step() {
  if (self().late > 1 && --self().late == 1) do_late();
}

/// The running thread wants to do that; returns when it does.
std::size_t announce(kind what, const void* object, int order, const void* caller, const void* other = nullptr) {
  if (m->count == 1) return 0;  // nobody else yet
  const int me = m->running;
  m->fibres[me].next = {what, object, order, caller, other};
  const int next = pick();
  if (next != me) {
    m->running = next;
    swap_locals(m->fibres[me], m->fibres[next]);
    swapcontext(&m->fibres[me].context, &m->fibres[next].context);
  }
  return last_node();
}

void body_of_fibre() {
  {
    engine e;
    note(m->running, kind::start, nullptr, last_node(), nullptr);
    e.was = false;
  }
  m->inside = false;
  try {
    (*self().body)();
  } catch (...) {
    fail("an exception leaves a thread");
  }
  if (m->running != 0) delete self().body;
  m->inside = true;
  if (self().late != 0) do_late();
  self().is_over = true;
  const int me = m->running, next = pick();
  if (next < 0) {
    m->active = false;
    setcontext(&m->home);
  }
  m->running = next;
  swap_locals(m->fibres[me], m->fibres[next]);
  setcontext(&m->fibres[next].context);
}

int make_fibre(std::function<void()>* body) {
  if (m->count == max_threads) fail("too many threads");
  const int t = m->count++;
  fibre& f = m->fibres[t];
  f.body = body;
  f.is_over = f.is_notified = f.is_timed = false;
  f.late = 0;
  f.next = {};
  f.happened = f.dependent = f.to_acquire = f.released = {};
  f.writes = f.writes_at_yield = f.yielded_at = 0;
  f.locals = m->locals_at_start;
  std::memset(f.exceptions, 0, sizeof f.exceptions);
  if (t != 0) {
    f.happened = self().happened;
    f.dependent = self().dependent;
    ++self().happened.at[std::size_t(m->running)];
  }
  ++f.happened.at[std::size_t(t)];
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = f.stack;
  f.context.uc_stack.ss_size = stack_size;
  f.context.uc_link = nullptr;
  makecontext(&f.context, body_of_fibre, 0);
  return t;
}

// ---- plain accesses

cell& cell_of(std::uintptr_t key) {
  for (std::size_t i = (key * 0x9e3779b97f4a7c15u) >> 40;; ++i) {
    cell& c = m->shadow[i % cells];
    if (c.run != m->run) {
      c.run = m->run;
      c.key = key;
      c.count = 0;
      c.freed = 0;
      return c;
    }
    if (c.key == key) return c;
  }
}

void touch_word(std::uintptr_t key, unsigned char bytes, bool writes, bool is_atomic, bool frees, const void* caller) {
  cell& c = cell_of(key);
  const int me = m->running;
  fibre& f = self();
  const std::uint32_t now = f.happened.at[std::size_t(me)];
  if (c.freed & bytes) fail(std::string("use after free: ") + describe(reinterpret_cast<void*>(key << 3)), caller);
  unsigned char kept = 0;
  for (unsigned char i = 0; i != c.count; ++i) {
    const slot s = c.slots[i];
    const bool overlaps = (s.bytes & bytes) != 0;
    if (s.thread != me && overlaps && (s.writes || writes) && !(s.is_atomic && is_atomic) &&
        !f.happened.knows(s.thread, s.when))
      fail("race: " +
               std::string(is_atomic ? "an atomic "
                           : frees   ? "the end of the memory and a "
                                     : "a ") +
               (writes ? "write" : "read") + " of " + describe(reinterpret_cast<void*>(key << 3)) + " and " +
               (s.is_atomic ? "an atomic " : "a ") + (s.writes ? "write" : "read") + " by thread " +
               std::to_string(s.thread) + " have no order",
           caller);
    const bool superseded =
        (s.bytes & ~bytes) == 0 && ((s.thread == me && (writes || !s.writes) && (!is_atomic || s.is_atomic)) ||
                                    (writes && !is_atomic && f.happened.knows(s.thread, s.when)));
    if (!superseded) c.slots[kept++] = s;
  }
  if (kept == 10) kept = 9;
  c.slots[kept++] = {now, static_cast<unsigned char>(me), bytes, writes, is_atomic};
  c.count = kept;
  if (frees) c.freed = static_cast<unsigned char>(c.freed | bytes);
}

void touch(const void* p, std::size_t n, bool writes, bool is_atomic, const void* caller, bool frees = false) {
  auto a = reinterpret_cast<std::uintptr_t>(p);
  if (a - reinterpret_cast<std::uintptr_t>(m->locals) < m->locals_at_start.size()) return;  // each thread has its own
  while (n != 0) {
    const std::size_t offset = a & 7, part = std::min<std::size_t>(8 - offset, n);
    touch_word(a >> 3, static_cast<unsigned char>(((1u << part) - 1) << offset), writes, is_atomic, frees, caller);
    a += part;
    n -= part;
  }
}

/// Memory that comes from elsewhere: who had it before does not matter.
void comes_anew(const void* p, std::size_t n) {
  const auto a = reinterpret_cast<std::uintptr_t>(p);
  for (std::uintptr_t key = a >> 3; key << 3 < a + n; ++key) {
    cell& c = cell_of(key);
    c.count = c.freed = 0;
  }
}

// ---- atomic operations

bool acquires(int order) { return order != 0 && order != 3; }  // __ATOMIC_RELAXED, __ATOMIC_RELEASE
bool releases(int order) { return order >= 3; }
bool is_sequential(int order) { return order == 5; }

const changed* mutation_of(const void* object, kind k) {
  for (const changed& c : m->mutations) {
    if (c.object != object || (c.thread >= 0 && c.thread != m->running)) continue;
    const bool fits =
        c.what == operation::any || (c.what == operation::load && k == kind::load) ||
        (c.what == operation::store && k == kind::store) || (c.what == operation::exchange && k == kind::exchange) ||
        (c.what == operation::add && k == kind::add) || (c.what == operation::compare && k == kind::compare) ||
        (c.what == operation::lock && (k == kind::lock || k == kind::unlock || k == kind::try_lock));
    if (fits) return &c;
  }
  return nullptr;
}

std::uint64_t raw(const void* p, std::size_t n) {
  std::uint64_t v = 0;
  std::memcpy(&v, p, n);
  return v;
}

location& versions_of(const void* p, std::size_t n) {
  location& l = place_of(p);
  const std::uint64_t now = raw(p, n);
  // What was there before: written by a constructor, whose order is checked as that of a plain write.
  if (l.versions.empty() || l.versions.back().value != now) {
    l.versions.clear();
    l.readings.clear();
    l.last_sequential = 0;
    l.versions.push_back({now, -1, 0, 0, {}});
  }
  return l;
}

void has_read(location& l, std::size_t index, int order) {
  fibre& f = self();
  l.readings.push_back({m->running, f.happened.at[std::size_t(m->running)], index});
  if (acquires(order))
    f.happened.join(l.versions[index].releases);
  else
    f.to_acquire.join(l.versions[index].releases);
}

std::uint64_t load(const void* p, std::size_t n, int order, const void* caller) {
  engine e;
  const changed* c = mutation_of(p, kind::load);
  if (c && c->how == mutation::relaxed) order = 0;
  const std::size_t at = announce(kind::load, p, order, caller);
  touch(p, n, false, true, caller);
  location& l = versions_of(p, n);
  fibre& f = self();
  const std::size_t newest = l.versions.size() - 1;
  std::size_t floor = is_sequential(order) ? l.last_sequential : 0;
  for (std::size_t i = newest; i > floor; --i)
    if (l.versions[i].thread < 0 || f.happened.knows(l.versions[i].thread, l.versions[i].when)) floor = i;
  for (const reading& r : l.readings)
    if (r.index > floor && f.happened.knows(r.thread, r.when)) floor = r.index;
  for (std::size_t i = newest; i > floor; --i)
    if (l.versions[i].order <= f.yielded_at) floor = i;  // once it has yielded, it sees what was there
  const std::size_t index = newest - std::size_t(choose_inside(int(newest - floor) + 1));
  const std::uint64_t value = l.versions[index].value;
  note(m->running, kind::load, p, at, caller, value);
  has_read(l, index, order);
  late_step();
  return value;
}

void write_version(location& l, void* p, std::size_t n, std::uint64_t value, int order, bool reads_too) {
  fibre& f = self();
  vector_clock r = releases(order) ? f.happened : f.released;
  if (reads_too) r.join(l.versions.back().releases);
  l.versions.push_back({value, m->running, f.happened.at[std::size_t(m->running)], ++m->writes, r});
  ++f.writes;
  if (is_sequential(order)) l.last_sequential = l.versions.size() - 1;
  std::memcpy(p, &value, n);
  ++f.happened.at[std::size_t(m->running)];
}

void store(void* p, std::size_t n, std::uint64_t value, int order, const void* caller) {
  engine e;
  if (const changed* c = mutation_of(p, kind::store)) {
    if (c->how == mutation::relaxed) order = 0;
    if (c->how == mutation::lost) return;
    if (c->how == mutation::late && self().late == 0) {
      fibre& f = self();
      f.late = c->steps + 1;
      f.late_object = p, f.late_size = n, f.late_kind = kind::store, f.late_value = value, f.late_order = order;
      return;
    }
  }
  const std::size_t at = announce(kind::store, p, order, caller);
  touch(p, n, true, true, caller);
  location& l = versions_of(p, n);
  note(m->running, kind::store, p, at, caller, value);
  write_version(l, p, n, value, order, false);
  late_step();
}

template <class Change>
std::uint64_t read_and_write(kind k, void* p, std::size_t n, int order, const void* caller, Change change) {
  engine e;
  const std::uint64_t ones = n == 8 ? ~std::uint64_t(0) : (std::uint64_t(1) << (n * 8)) - 1;
  if (const changed* c = mutation_of(p, k)) {
    if (c->how == mutation::relaxed) order = 0;
    if (c->how == mutation::lost || c->how == mutation::torn) {
      const std::uint64_t old = load(p, n, 5, caller);
      if (c->how == mutation::torn) store(p, n, change(old) & ones, order, caller);
      return old;
    }
    if (c->how == mutation::late && self().late == 0) {
      fibre& f = self();
      const std::uint64_t old = raw(p, n);
      f.late = c->steps + 1;
      f.late_object = p, f.late_size = n, f.late_kind = k, f.late_order = order;
      f.late_value = k == kind::add ? (change(old) - old) & ones : change(old) & ones;
      return old;
    }
  }
  const std::size_t at = announce(k, p, order, caller);
  touch(p, n, true, true, caller);
  location& l = versions_of(p, n);
  const std::uint64_t old = l.versions.back().value, value = change(old) & ones;
  note(m->running, k, p, at, caller, value);
  has_read(l, l.versions.size() - 1, order);
  write_version(l, p, n, value, order, true);
  late_step();
  return old;
}

void do_late() {
  fibre& f = self();
  f.late = 0;
  void* p = const_cast<void*>(f.late_object);
  const std::uint64_t v = f.late_value;
  auto kept = std::exchange(m->mutations, {});
  if (f.late_kind == kind::store)
    store(p, f.late_size, v, f.late_order, nullptr);
  else if (f.late_kind == kind::add)
    read_and_write(kind::add, p, f.late_size, f.late_order, nullptr, [v](std::uint64_t old) { return old + v; });
  else
    read_and_write(kind::exchange, p, f.late_size, f.late_order, nullptr, [v](std::uint64_t) { return v; });
  m->mutations = std::move(kept);
}

bool compare_exchange(void* p, std::size_t n, void* expected, std::uint64_t desired, int order, int failing,
                      const void* caller) {
  std::uint64_t want = raw(expected, n);
  bool done = false;
  std::uint64_t old;
  {
    engine e;
    if (const changed* c = mutation_of(p, kind::compare)) {
      if (c->how == mutation::relaxed) order = failing = 0;
      if (c->how == mutation::torn) {
        old = load(p, n, failing, caller);
        if (old == want) store(p, n, desired, order, caller);
        std::memcpy(expected, &old, n);
        return old == want;
      }
    }
    const std::size_t at = announce(kind::compare, p, order, caller);
    location& l = versions_of(p, n);
    old = l.versions.back().value;
    done = old == want;
    touch(p, n, done, true, caller);
    note(m->running, kind::compare, p, at, caller, done ? desired : old);
    has_read(l, l.versions.size() - 1, done ? order : failing);
    if (done) write_version(l, p, n, desired, order, true);
    late_step();
  }
  if (!done) std::memcpy(expected, &old, n);
  return done;
}

// ---- locks

void lock(const void* x, const void* caller) {
  engine e;
  if (const changed* c = mutation_of(x, kind::lock); c && c->how == mutation::lost) return;
  const std::size_t at = announce(kind::lock, x, 0, caller);
  touch(x, 8, false, true, caller);
  note(m->running, kind::lock, x, at, caller);
  location& l = place_of(x);
  l.owner = m->running;
  self().happened.join(l.releases);
  late_step();
}
bool try_lock(const void* x, const void* caller) {
  engine e;
  if (const changed* c = mutation_of(x, kind::lock); c && c->how == mutation::lost) return true;
  const std::size_t at = announce(kind::try_lock, x, 0, caller);
  touch(x, 8, false, true, caller);
  location& l = place_of(x);
  const bool is_free = l.owner < 0;
  note(m->running, kind::try_lock, x, at, caller, is_free);
  if (is_free) {
    l.owner = m->running;
    self().happened.join(l.releases);
  }
  return is_free;
}
void release(const void* x, std::size_t at, const void* caller) {
  note(m->running, kind::unlock, x, at, caller);
  location& l = place_of(x);
  l.owner = -1;
  l.releases = self().happened;
  ++self().happened.at[std::size_t(m->running)];
}
void unlock(const void* x, const void* caller) {
  engine e;
  if (const changed* c = mutation_of(x, kind::unlock); c && c->how == mutation::lost) return;
  const std::size_t at = announce(kind::unlock, x, 0, caller);
  touch(x, 8, false, true, caller);
  release(x, at, caller);
  late_step();
}
/// Somebody gives back his share in what is counted elsewhere; the last one to do so may destroy it.
void give_back(const void* x) {
  engine e;
  location& l = place_of(x);
  l.releases.join(self().happened);
  self().happened.join(l.releases);
  ++self().happened.at[std::size_t(m->running)];
}
bool wait(const void* condition, const void* x, bool is_timed, const void* caller) {
  engine e;
  std::size_t at = announce(kind::wait, condition, 0, caller, x);
  touch(condition, 8, false, true, caller);
  const int me = m->running;
  note(me, kind::wait, condition, at, caller);
  release(x, at, caller);
  self().is_notified = false;
  self().is_timed = is_timed;
  m->waiting.push_back({condition, me});
  at = announce(kind::relock, x, 0, caller, condition);
  touch(condition, 8, false, true, caller);
  if (is_timed) note(me, kind::relock, condition, at, caller);
  note(me, kind::relock, x, at, caller);
  std::erase_if(m->waiting, [me](auto& w) { return w.second == me; });
  location& l = place_of(x);
  l.owner = me;
  self().happened.join(l.releases);
  return self().is_notified;
}
void notify(const void* condition, bool all, const void* caller) {
  engine e;
  const std::size_t at = announce(kind::notify, condition, 0, caller);
  touch(condition, 8, false, true, caller);
  note(m->running, kind::notify, condition, at, caller);
  for (auto& [c, t] : m->waiting) {
    if (c != condition || m->fibres[t].is_notified) continue;
    m->fibres[t].is_notified = true;
    m->fibres[t].dependent.join(self().dependent);
    if (!all) break;
  }
}
void yield(const void* caller) {
  engine e;
  const std::size_t at = announce(kind::yield, nullptr, 0, caller);
  note(m->running, kind::yield, nullptr, at, caller);
  fibre& f = self();
  f.writes_at_yield = m->writes - f.writes;
  f.yielded_at = m->writes;
}

bool of_the_program(const void* p) {
  const auto a = reinterpret_cast<std::uintptr_t>(p);
  if (a - reinterpret_cast<std::uintptr_t>(m->heap) < heap_size) return true;
  if (static_cast<const char*>(p) >= &__data_start && static_cast<const char*>(p) < &_end) return true;
  for (const fibre& f : m->fibres)
    if (a - reinterpret_cast<std::uintptr_t>(f.stack) < stack_size) return true;
  return false;
}

// ---- memory

void* allocate(std::size_t n, std::size_t alignment) {
  if (!exploring()) {
    void* p = alignment <= 16 ? std::malloc(n ? n : 1)
                              : std::aligned_alloc(alignment, (n + alignment - 1) & ~(alignment - 1));
    if (!p) throw std::bad_alloc();
    return p;
  }
  engine e;
  alignment = std::max<std::size_t>(alignment, 16);
  std::size_t at = (m->heap_used + 16 + alignment - 1) & ~(alignment - 1);
  if (at + n > heap_size) fail("the heap of the scenario is full");
  m->heap_used = at + ((n + 15) & ~std::size_t(15));
  std::memcpy(m->heap + at - 8, &n, 8);
  ++m->blocks;
  return m->heap + at;
}
void deallocate(void* p, const void* caller) {
  if (!p) return;
  if (!m || reinterpret_cast<std::uintptr_t>(p) - reinterpret_cast<std::uintptr_t>(m->heap) >= heap_size)
    return std::free(p);
  if (!exploring()) return;
  engine e;
  std::size_t n;
  std::memcpy(&n, static_cast<unsigned char*>(p) - 8, 8);
  touch(p, n, true, false, caller, true);
  --m->blocks;
}

// ---- one run after the other

int find_program(dl_phdr_info* info, std::size_t, void*) {  // the first is the program
  m->base = info->dlpi_addr;
  for (int i = 0; i != info->dlpi_phnum; ++i)
    if (info->dlpi_phdr[i].p_type == PT_TLS && info->dlpi_tls_data) {
      m->locals = static_cast<unsigned char*>(info->dlpi_tls_data);
      m->locals_at_start.assign(m->locals, m->locals + info->dlpi_phdr[i].p_memsz);
    }
  return 1;
}

void run_once() {
  std::memcpy(&__data_start, m->data.data(), m->data.size());
  if (m->locals) std::memcpy(m->locals, m->locals_at_start.data(), m->locals_at_start.size());
  for (location* l : m->places) m->spare.push_back(l);
  m->places.clear();
  m->events.clear();
  m->mutations.clear();
  m->disregarded.clear();
  m->names.clear();
  m->waiting.clear();
  m->heap_used = 0;
  m->writes = 0;
  m->blocks = 0;
  m->depth = 0;
  m->sleep = 0;
  m->count = 0;
  m->running = 0;
  m->aborted = m->failed = false;
  if (++m->run == 0) std::abort();
  m->inside = true;
  make_fibre(&m->body);
  volatile bool left = false;
  getcontext(&m->home);
  if (!left) {
    left = true;
    m->active = true;
    pick();
    setcontext(&m->fibres[0].context);
  }
  m->active = false;
  m->inside = false;
  if (m->locals) std::memcpy(m->locals, m->locals_at_start.data(), m->locals_at_start.size());
  std::memset(static_cast<void*>(abi::__cxa_get_globals()), 0, 16);
}

/// False: there is nothing left.
bool next_path() {
  while (!m->path.empty()) {
    node& n = m->path.back();
    if (n.is_choice) {
      if (++n.chosen != n.choices) return true;
    } else {
      const mask open = n.backtrack & n.enabled & ~n.done & ~n.sleep;
      if (open != 0) {
        n.chosen = 0;
        while (!(open & bit(n.chosen))) ++n.chosen;
        n.done |= bit(n.chosen);
        return true;
      }
    }
    m->path.pop_back();
  }
  return false;
}

}  // namespace

result explore(void (*scenario)(int), int mutant, limits l) {
  if (!m) {
    m = static_cast<machine*>(std::calloc(1, sizeof(machine)));
    ::new (static_cast<void*>(m)) machine;
    m->inside = true;
    const auto map = [](std::size_t n) {
      return static_cast<unsigned char*>(mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    };
    m->shadow = reinterpret_cast<cell*>(map(cells * sizeof(cell)));
    m->heap = map(heap_size);
    for (fibre& f : m->fibres) f.stack = map(stack_size);
    dl_iterate_phdr(find_program, nullptr);
    for (fibre& f : m->fibres) f.locals = m->locals_at_start;
    __libc_single_threaded = 0;  // std::shared_ptr asks
    m->place_table.resize(4096);
    m->data.resize(std::size_t(&_end - &__data_start));
  }
  std::memcpy(m->data.data(), &__data_start, m->data.size());
  m->path.clear();
  m->outcome = {};
  m->limit = l;
  m->scenario = scenario;
  m->mutant = mutant;
  for (;;) {
    run_once();
    m->outcome.threads = std::max(m->outcome.threads, std::size_t(m->count));
    m->outcome.operations = std::max(m->outcome.operations, m->events.size());
    if (!m->aborted || m->failed) ++m->outcome.schedules;
    if (!m->aborted && m->blocks != 0) {
      m->failed = true;
      m->failure = "memory is left: " + std::to_string(m->blocks) + " blocks\n";
    }
    if (m->failed) {
      m->outcome.failed = true;
      m->outcome.failure = m->failure;
      break;
    }
    m->path.resize(m->depth);
    if (!next_path()) {
      m->outcome.complete = true;
      break;
    }
    if (m->outcome.schedules + m->outcome.cut_short >= l.schedules) break;
  }
  std::memcpy(&__data_start, m->data.data(), m->data.size());
  return m->outcome;
}

thread::thread(std::function<void()> body) : index_(0) {
  auto* kept = new std::function<void()>(std::move(body));
  engine e;
  index_ = make_fibre(kept);
}
void thread::join() {
  if (is_joined_) return;
  engine e;
  is_joined_ = true;
  const std::size_t at = announce(kind::join, nullptr, 0, nullptr, reinterpret_cast<void*>(std::intptr_t(index_) + 1));
  self().happened.join(m->fibres[index_].happened);
  self().dependent.join(m->fibres[index_].dependent);
  note(m->running, kind::join, nullptr, at, nullptr);
}
void wait_until_quiet() {
  engine e;
  const std::size_t at = announce(kind::quiet, nullptr, 0, nullptr);
  for (int t = 0; t != m->count; ++t) {
    self().happened.join(m->fibres[t].happened);
    self().dependent.join(m->fibres[t].dependent);
  }
  note(m->running, kind::quiet, nullptr, at, nullptr);
}
int choose(int n) {
  engine e;
  return choose_inside(n);
}
void count(std::uint64_t outcome) {
  engine e;
  ++m->outcome.outcomes[outcome];
}
void expect(bool truth, const char* what) {
  if (!truth) fail(std::string("expected: ") + what, __builtin_return_address(0));
}
void name(const void* object, const char* as) {
  engine e;
  m->names.push_back({object, as});
}
void mutate(const void* object, operation o, mutation h, int thread, int steps) {
  engine e;
  m->mutations.push_back({object, o, h, thread, steps});
}
void additions_commute(const void* object) {
  engine e;
  place_of(object).additions_commute = true;
}
void disregard(const void* object) {
  engine e;
  m->disregarded.push_back(object);
}
int current_thread() { return m->running; }

struct serial_queue::entry {
  std::function<void()> call;
  entry* next = nullptr;
  vector_clock happened, dependent;
};

// Posting and taking depend on each other only in that one makes the other possible.
void serial_queue::post(std::function<void()> f) {
  auto* kept = new entry{std::move(f), nullptr, {}, {}};
  engine e;
  const std::size_t at = announce(kind::post, &first_, 0, __builtin_return_address(0));
  touch(this, sizeof *this, false, true, __builtin_return_address(0));
  note(m->running, kind::post, &first_, at, nullptr);
  kept->happened = self().happened;
  kept->dependent = self().dependent;
  ++self().happened.at[std::size_t(m->running)];
  (last_ ? last_->next : first_) = kept;
  last_ = kept;
  is_ready_ = is_closed_ || runs_on_ < 0;
}
bool serial_queue::run_one() {
  entry* taken;
  {
    engine e;
    const std::size_t at = announce(kind::take, &last_, 0, nullptr, &is_ready_);
    touch(this, sizeof *this, false, true, nullptr);
    fibre& f = self();
    location& l = place_of(&last_);
    if (first_) f.dependent.join(first_->dependent);
    f.dependent.join(l.dependent);
    note(m->running, kind::take, &last_, at, nullptr);
    f.happened.join(l.releases);
    taken = first_;
    if (!taken || is_closed_) return false;
    f.happened.join(taken->happened);
    first_ = taken->next;
    if (!first_) last_ = nullptr;
    runs_on_ = m->running;
    is_ready_ = false;
  }
  taken->call();
  delete taken;
  engine e;
  location& l = place_of(&last_);
  l.releases = self().happened;
  l.dependent = self().dependent;
  ++self().happened.at[std::size_t(m->running)];
  runs_on_ = -1;
  is_ready_ = is_closed_ || first_;
  return true;
}
void serial_queue::close() {
  engine e;
  const std::size_t at = announce(kind::close, &last_, 0, nullptr);
  note(m->running, kind::close, &last_, at, nullptr);
  location& l = place_of(&last_);
  l.releases.join(self().happened);
  ++self().happened.at[std::size_t(m->running)];
  is_closed_ = is_ready_ = true;
}
void serial_queue::clear() {
  while (entry* e = first_) {
    first_ = e->next;
    delete e;
  }
  last_ = nullptr;
}
bool serial_queue::runs_here() const { return runs_on_ == m->running; }

}  // namespace explorer

using namespace explorer;

// ---- what the compiler's instrumentation, the libraries and the library under test call

#define CALLER __builtin_return_address(0)

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

static void plain(const void* p, std::size_t n, bool writes, const void* caller) {
  if (!exploring()) return;
  engine e;
  touch(p, n, writes, false, caller);
  if (writes) begins_anew(p);
}

#define ACCESS(size)                                                           \
  void __tsan_read##size(void* p) { plain(p, size, false, CALLER); }           \
  void __tsan_write##size(void* p) { plain(p, size, true, CALLER); }           \
  void __tsan_unaligned_read##size(void* p) { plain(p, size, false, CALLER); } \
  void __tsan_unaligned_write##size(void* p) { plain(p, size, true, CALLER); } \
  void __tsan_read_write##size(void* p) { plain(p, size, true, CALLER); }      \
  void __tsan_unaligned_read_write##size(void* p) { plain(p, size, true, CALLER); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
void __tsan_read_range(void* p, std::size_t n) { plain(p, n, false, CALLER); }
void __tsan_write_range(void* p, std::size_t n) { plain(p, n, true, CALLER); }
/// A destructor that finds its own class changes nothing, and what it does before it unlinks itself may still be
/// called.
void __tsan_vptr_update(void** p, void* now) {
  if (*p != now) plain(p, sizeof *p, true, CALLER);
}
void __tsan_vptr_read(void** p) { plain(p, sizeof *p, false, CALLER); }
void* __tsan_memcpy(void* to, const void* from, std::size_t n) {
  plain(from, n, false, CALLER);
  plain(to, n, true, CALLER);
  return std::memcpy(to, from, n);
}
void* __tsan_memmove(void* to, const void* from, std::size_t n) {
  plain(from, n, false, CALLER);
  plain(to, n, true, CALLER);
  return std::memmove(to, from, n);
}
void* __tsan_memset(void* to, int c, std::size_t n) {
  plain(to, n, true, CALLER);
  return std::memset(to, c, n);
}

#define ATOMIC(bits, type)                                                                                            \
  type __tsan_atomic##bits##_load(const volatile type* a, int order) {                                                \
    auto* p = const_cast<type*>(a);                                                                                   \
    return is_seen(p) ? static_cast<type>(load(p, sizeof *p, order, CALLER)) : *p;                                    \
  }                                                                                                                   \
  void __tsan_atomic##bits##_store(volatile type* a, type v, int order) {                                             \
    auto* p = const_cast<type*>(a);                                                                                   \
    if (is_seen(p))                                                                                                   \
      store(p, sizeof *p, v, order, CALLER);                                                                          \
    else                                                                                                              \
      *p = v;                                                                                                         \
  }                                                                                                                   \
  READ_AND_WRITE(bits, type, exchange, exchange, v)                                                                   \
  READ_AND_WRITE(bits, type, fetch_add, add, old + v)                                                                 \
  READ_AND_WRITE(bits, type, fetch_sub, add, old - v)                                                                 \
  READ_AND_WRITE(bits, type, fetch_and, add, old& v)                                                                  \
  READ_AND_WRITE(bits, type, fetch_or, add, old | v)                                                                  \
  READ_AND_WRITE(bits, type, fetch_xor, add, old ^ v)                                                                 \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile type* a, type* expected, type v, int order, int other) { \
    return compare(const_cast<type*>(a), expected, v, order, other, CALLER);                                          \
  }                                                                                                                   \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile type* a, type* expected, type v, int order, int other) {   \
    return compare(const_cast<type*>(a), expected, v, order, other, CALLER);                                          \
  }                                                                                                                   \
  type __tsan_atomic##bits##_compare_exchange_val(volatile type* a, type expected, type v, int order, int other) {    \
    compare(const_cast<type*>(a), &expected, v, order, other, CALLER);                                                \
    return expected;                                                                                                  \
  }
#define READ_AND_WRITE(bits, type, name, what, change)                                                             \
  type __tsan_atomic##bits##_##name(volatile type* a, type v, int order) {                                         \
    auto* p = const_cast<type*>(a);                                                                                \
    if (is_seen(p))                                                                                                \
      return static_cast<type>(read_and_write(kind::what, p, sizeof *p, order, CALLER, [v](std::uint64_t before) { \
        [[maybe_unused]] const type old = static_cast<type>(before);                                               \
        return static_cast<std::uint64_t>(static_cast<type>(change));                                              \
      }));                                                                                                         \
    const type old = *p;                                                                                           \
    *p = static_cast<type>(change);                                                                                \
    return old;                                                                                                    \
  }

}  // extern "C"

template <class T>
static bool compare(T* p, T* expected, T v, int order, int other, const void* caller) {
  if (is_seen(p)) return compare_exchange(p, sizeof *p, expected, v, order, other, caller);
  const bool same = *p == *expected;
  if (same)
    *p = v;
  else
    *expected = *p;
  return same;
}

extern "C" {

ATOMIC(8, std::uint8_t)
ATOMIC(16, std::uint16_t)
ATOMIC(32, std::uint32_t)
ATOMIC(64, std::uint64_t)

void __tsan_atomic_thread_fence(int order) {
  if (!exploring()) return;
  fibre& f = self();
  if (acquires(order)) f.happened.join(f.to_acquire);
  if (releases(order)) {
    f.released = f.happened;
    ++f.happened.at[std::size_t(m->running)];
  }
}
void __tsan_atomic_signal_fence(int) {}

int pthread_mutex_lock(pthread_mutex_t* x) {
  if (exploring() && of_the_program(x)) lock(x, CALLER);
  return 0;
}
int pthread_mutex_trylock(pthread_mutex_t* x) {
  return exploring() && of_the_program(x) && !try_lock(x, CALLER) ? EBUSY : 0;
}
int pthread_mutex_unlock(pthread_mutex_t* x) {
  if (exploring() && of_the_program(x)) unlock(x, CALLER);
  return 0;
}
int pthread_cond_wait(pthread_cond_t* c, pthread_mutex_t* x) {
  if (exploring()) wait(c, x, false, CALLER);
  return 0;
}
/// A minute and more is for ever; less may be over at once.
int pthread_cond_clockwait(pthread_cond_t* c, pthread_mutex_t* x, clockid_t which, const timespec* until) {
  if (!exploring()) return 0;
  timespec now;
  clock_gettime(which, &now);
  return wait(c, x, until->tv_sec - now.tv_sec < 60, CALLER) ? 0 : ETIMEDOUT;
}
int pthread_cond_timedwait(pthread_cond_t* c, pthread_mutex_t* x, const timespec* until) {
  return pthread_cond_clockwait(c, x, CLOCK_REALTIME, until);
}
int pthread_cond_signal(pthread_cond_t* c) {
  if (exploring()) notify(c, false, CALLER);
  return 0;
}
int pthread_cond_broadcast(pthread_cond_t* c) {
  if (exploring()) notify(c, true, CALLER);
  return 0;
}
pthread_t pthread_self() { return static_cast<pthread_t>(m && m->active ? m->running + 1 : 1); }
int pthread_create(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*) { return EAGAIN; }
int sched_yield() {
  if (exploring()) yield(CALLER);
  return 0;
}

}  // extern "C"

void* operator new(std::size_t n) { return allocate(n, 16); }
void* operator new(std::size_t n, std::align_val_t a) { return allocate(n, static_cast<std::size_t>(a)); }
void operator delete(void* p) noexcept { deallocate(p, CALLER); }
void operator delete(void* p, std::size_t) noexcept { deallocate(p, CALLER); }
void operator delete(void* p, std::align_val_t) noexcept { deallocate(p, CALLER); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { deallocate(p, CALLER); }

// The memory of exceptions and the count of their owners are libstdc++'s, which is not compiled with this.

void* __cxxabiv1::__cxa_allocate_exception(std::size_t n) noexcept {
  static const auto theirs = reinterpret_cast<void* (*)(std::size_t)>(dlsym(RTLD_NEXT, "__cxa_allocate_exception"));
  void* const p = theirs(n);
  if (exploring()) comes_anew(p, n);
  return p;
}
void std::__exception_ptr::exception_ptr::_M_release() noexcept {
  static const auto theirs =
      reinterpret_cast<void (*)(void*)>(dlsym(RTLD_NEXT, "_ZNSt15__exception_ptr13exception_ptr10_M_releaseEv"));
  if (exploring()) give_back(_M_exception_object);
  theirs(this);
}
