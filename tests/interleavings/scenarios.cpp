// What several threads do to the library at once, each a small scenario with what must hold in the end, and with
// mutants of the library in which it does not. explorer.hpp says how they are explored.
//
//   interleavings              all, as far as fits into seconds
//   interleavings -deep        with more threads and steps
//   interleavings NAME [-mutant=N] [-bound=N] [-schedules=N]   one, with the steps of the schedule that fails
#include "world.hpp"

namespace {
using namespace tandem;
using namespace tandem::detail;
using explorer::expect;
using explorer::mutate;
using explorer::mutation;
using explorer::operation;
using explorer::serial_queue;

bool is_deep = false;

void run(serial_queue& q) {
  while (q.run_one()) {
  }
}

// ---- the explorer itself: what is known of small programs

void store_buffering(int mutant) {
  std::atomic<int> x{0}, y{0};
  if (mutant == 1) mutate(&x, operation::load, mutation::relaxed), mutate(&y, operation::load, mutation::relaxed);
  int r = 0;
  explorer::thread other([&] {
    x.store(1);
    r = y.load();
  });
  y.store(1);
  const int s = x.load();
  other.join();
  explorer::count(static_cast<std::uint64_t>(r + s));
  expect(r + s != 0, "one of them sees the other");
}

void message_passing(int mutant) {
  int data = 0;
  std::atomic<bool> is_there{false};
  if (mutant == 1) mutate(&is_there, operation::store, mutation::relaxed);
  if (mutant == 2) mutate(&is_there, operation::load, mutation::relaxed);
  explorer::thread other([&] {
    data = 1;
    is_there.store(true, std::memory_order_release);
  });
  const bool seen = is_there.load(std::memory_order_acquire);
  explorer::count(seen);
  if (seen) expect(data == 1, "what was written before is there");
}

void waiting_for_a_change(int mutant) {
  std::mutex m;
  std::condition_variable changed;
  bool is_there = false;
  if (mutant == 1) mutate(&m, operation::lock, mutation::lost, 1);
  explorer::thread other([&] {
    {
      const std::scoped_lock lock(m);
      is_there = true;
    }
    if (mutant != 2) changed.notify_one();
  });
  std::unique_lock lock(m);
  explorer::count(is_there);
  while (!is_there) changed.wait(lock);
}

/// Three threads, one addition each to what they share: 3! orders that differ.
void three_additions(int mutant) {
  std::atomic<int> sum{0}, own[3]{};
  if (mutant == 1) mutate(&sum, operation::add, mutation::torn);
  {
    const auto add = [&](int i) {
      for (int j = 0; j != 3; ++j) own[i].fetch_add(1);
      sum.fetch_add(1);
    };
    explorer::thread a([&] { add(0); }), b([&] { add(1); });
    add(2);
  }
  expect(sum.load() == 3, "none is lost");
}

/// A few operations of three threads on two variables and a mutex, drawn by a seed; what they read is the outcome. What
/// is left out because it leads to the same must not take an outcome away.
void random_program(int seed) {
  constexpr std::memory_order of_loads[] = {std::memory_order_relaxed, std::memory_order_acquire,
                                            std::memory_order_seq_cst};
  constexpr std::memory_order of_stores[] = {std::memory_order_relaxed, std::memory_order_release,
                                             std::memory_order_seq_cst};
  std::atomic<unsigned> variables[2]{};
  std::mutex mutex;
  std::uint64_t seen[3]{};
  const auto body = [&](std::uint64_t thread) {
    std::uint64_t state = static_cast<std::uint64_t>(seed) * 3 + thread;
    bool is_locked = false;
    for (int i = 0; i != (thread == 0 ? 2 : 3); ++i) {
      const std::uint64_t drawn = split_mix(state);
      std::atomic<unsigned>& v = variables[drawn % 2];
      const std::size_t order = drawn / 8 % 3;
      unsigned got = 0;
      switch (drawn / 64 % 6) {
        case 0:
        case 1:
          got = v.load(of_loads[order]);
          break;
        case 2:
          v.store(static_cast<unsigned>(thread) * 4 + static_cast<unsigned>(i) + 1, of_stores[order]);
          break;
        case 3:
          got = v.fetch_add(16, of_loads[order]);
          break;
        case 4:
          v.compare_exchange_strong(got, static_cast<unsigned>(thread) + 60);
          break;
        default:
          if (is_locked)
            mutex.unlock();
          else if (drawn % 3 == 0)
            mutex.lock();
          else if (!mutex.try_lock())
            break;
          is_locked = !is_locked;
          got = is_locked;
      }
      seen[thread] = seen[thread] * 101 + got;
    }
    if (is_locked) mutex.unlock();
  };
  {
    explorer::thread a([&] { body(1); }), b([&] { body(2); });
    body(0);
  }
  std::uint64_t outcome = variables[0] * 101 + variables[1];
  for (const std::uint64_t s : seen) outcome = outcome * 1000003 + s;
  explorer::count(outcome);
}

bool reduction_takes_nothing_away() {
  const auto keys = [](const explorer::result& r) {
    std::vector<std::uint64_t> all;
    for (const auto& [k, n] : r.outcomes) all.push_back(k);
    return all;
  };
  unsigned long few = 0, many = 0, outcomes = 0;
  bool is_same = true;
  const int programs = is_deep ? 100 : 8;
  for (int seed = 0; seed != programs; ++seed) {
    const explorer::result reduced = explorer::explore(random_program, seed, {1000000, -1});
    const explorer::result full = explorer::explore(random_program, seed, {1000000, 1000});
    few += reduced.schedules;
    many += full.schedules;
    outcomes += full.outcomes.size();
    if (reduced.failed || full.failed || !full.complete || keys(reduced) != keys(full)) {
      is_same = false;
      std::printf("random program %d: %zu outcomes of %zu, %s%s\n", seed, reduced.outcomes.size(), full.outcomes.size(),
                  reduced.failure.c_str(), full.failure.c_str());
    }
  }
  std::printf("random programs: %d, with %lu outcomes; %lu schedules show what %lu do\n", programs, outcomes, few,
              many);
  return is_same;
}

// ---- the inbox

template <int Pushes>
void inbox(int mutant) {
  int arrived = 0;
  serial_queue q;
  world w;
  loop& l = w.permanent(q);
  if (mutant == 1) mutate(&l.inbox_, operation::compare, mutation::torn);
  if (mutant == 2) mutate(&l.inbox_, operation::compare, mutation::relaxed);
  if (mutant == 3) mutate(&l.inbox_, operation::exchange, mutation::relaxed);
  if (mutant == 4) mutate(&l.inbox_, operation::load, mutation::relaxed, 1);
  if (mutant == 5) mutate(&l.posting_, operation::load, mutation::relaxed);
  message a(arrived), b(arrived), c(arrived);
  explorer::thread runner([&] { run(q); });
  explorer::thread other([&] { l.push(a); });
  l.push(b);
  if (Pushes == 3) l.push(c);
  other.join();
  explorer::wait_until_quiet();
  expect(arrived == Pushes && !l.has_arrivals(), "no arrival and no wake-up is lost");
  q.close();
}

/// Whoever has pushed may run the context next, and that must not find itself without work: as `spawn(context, ...)` and
/// `context.run()`, while another thread spawns, or asks for a visit.
std::atomic<int> drains_posted;
void (*posts_drain)(loop&);
void posted(int mutant) {
  int arrived = 0;
  serial_queue q;
  world w;
  loop& l = w.permanent(q);
  drains_posted.store(0);
  posts_drain = l.post_drain_;
  l.post_drain_ = [](loop& posted) {
    posts_drain(posted);
    drains_posted.fetch_add(1);
  };
  if (mutant == 1) mutate(&l.posting_, operation::compare, mutation::torn);
  message a(arrived), b(arrived);
  explorer::thread other([&] { l.push(a); });
  l.push(b);
  expect(drains_posted.load() != 0, "who has pushed finds a drain posted");
  other.join();
  for (int i = 0; i != drains_posted.load(); ++i) q.run_one();
  expect(arrived == 2 && drains_posted.load() == 1, "no arrival is lost, and no drain too many is posted");
}

// ---- a loop that goes when it is idle

void going(int mutant) {
  int arrived = 0;
  serial_queue q;
  world w;
  w.owns(q);
  std::optional<loop::entry> e(w.strand(q));
  loop& l = **e;
  if (mutant == 1) mutate(&l.pushers_, operation::add, mutation::lost, 0);
  if (mutant == 2) mutate(&l.pushers_, operation::add, mutation::relaxed);
  if (mutant == 3) mutate(&l.entries_, operation::add, mutation::lost, 2);
  if (mutant == 4) mutate(&l.service_->mutex_, operation::lock, mutation::lost, 1);
  message a(arrived), b(arrived);
  explorer::thread runner([&] { run(q); });
  explorer::thread other([&] {
    const loop::entry mine = w.strand(q);  // the one that is there, or a new one
    mine->push(b);
  });
  l.push(a);
  e.reset();
  other.join();
  explorer::wait_until_quiet();
  expect(arrived == 2, "no arrival is lost");
  expect(!loops_alive::get().first, "a loop that nobody keeps has gone");
  q.close();
}

int visits = 0;
void visited(loop&) noexcept { ++visits; }

/// Another thread looks at all loops and asks each for a visit, while the only one goes.
void visit_of_going(int mutant) {
  int arrived = 0;
  serial_queue q;
  world w;
  w.owns(q);
  visits = 0;
  loops_alive& all = loops_alive::get();
  all.visitor.store(&visited);
  std::optional<loop::entry> e(w.strand(q));
  loop& l = **e;
  if (mutant == 1) mutate(&all.mutex, operation::lock, mutation::lost, 2);
  if (mutant == 2) mutate(&l.visit_wanted_, operation::store, mutation::late, 2, 4);
  if (mutant == 3) mutate(&l.visit_wanted_, operation::load, mutation::relaxed, 1);
  message a(arrived);
  bool has_asked = false;
  explorer::thread runner([&] { run(q); });
  explorer::thread other([&] {
    const std::scoped_lock lock(all.mutex);
    if (all.first) {
      has_asked = true;
      all.first->ask_for_visit(true);
    }
  });
  l.push(a);
  e.reset();
  other.join();
  explorer::wait_until_quiet();
  expect(arrived == 1, "no arrival is lost");
  explorer::count(has_asked);
  expect(!has_asked || visits != 0, "who asked for a visit gets one");
  expect(!all.first, "a loop that nobody keeps has gone");
  q.close();
}

/// The same while the context goes.
void visit_of_closing(int mutant) {
  serial_queue q;
  loops_alive& all = loops_alive::get();
  all.visitor.store(&visited);
  std::optional<world> w(std::in_place);
  loop& l = w->permanent(q);
  if (mutant == 1) mutate(&all.mutex, operation::lock, mutation::lost, 1);
  if (mutant == 2) mutate(&l.pushers_, operation::add, mutation::lost, 1);
  if (mutant == 3) mutate(&l.closed_, operation::store, mutation::late, 0);
  if (mutant == 4) mutate(&l.pushers_, operation::add, mutation::late, 1);
  explorer::thread other([&] {
    const std::scoped_lock lock(all.mutex);
    if (all.first) all.first->ask_for_visit(true);
  });
  w.reset();
  other.join();
  expect(!all.first, "the loop goes with its context");
}

/// Lets the tree come to its first wait. What happens meanwhile is explored in the deep form only.
void start(tree& t, task<int> body, serial_queue& q) {
  t.begin(std::move(body));
  if (!is_deep) q.run_one();
}

// ---- to_thread

/// An argument of a call, which is destroyed before the coroutine goes on.
class argument {
 public:
  explicit argument(int& alive) noexcept : alive_(&alive) {}
  argument(argument&& o) noexcept : alive_(std::exchange(o.alive_, nullptr)) {}
  ~argument() {
    if (alive_) *alive_ = 0;
  }

 private:
  int* alive_;
};
int seven(const argument&) { return 7; }
int mutant_of_call = 0;
template <bool Abandon>
task<int> calls() {
  static int left_behind = 0;  // the other one may be gone
  int alive = Abandon ? 0 : 1;
  auto call = make_call<Abandon>(seven, argument(Abandon ? left_behind : alive));
  if (mutant_of_call == 1) mutate(&call.call_->mutex_, operation::lock, mutation::lost, 1);
  if (mutant_of_call == 2) mutate(&call.call_->mutex_, operation::lock, mutation::lost, 2);
  const int value = co_await std::move(call);
  expect(alive == 0, "its arguments are gone when a call has ended");
  co_return value;
}

template <bool Abandon>
void call_or_stop(int mutant) {
  serial_queue q, pool;
  asio::queue_as_pool::queue = &pool;
  ending e;
  world w;
  loop& l = w.permanent(q);
  mutant_of_call = Abandon ? mutant : 0;
  if (mutant == 3 || (mutant == 1 && !Abandon)) mutate(&l.inbox_, operation::compare, mutation::relaxed, 2);
  tree t(l, e);
  stop_message stop(t, e.is_over);
  start(t, calls<Abandon>(), q);
  explorer::thread runner([&] { run(q); });
  explorer::thread caller([&] { run(pool); });
  l.push(stop);
  explorer::wait_until_quiet();
  explorer::count(e.was_stopped);
  expect(e.is_over, "the tree ends");
  expect(e.was_stopped ? (Abandon || is_deep) && e.value == 0 : e.value == 7, "with the value, or left behind");
  expect(l.operations_ == 0 && l.outside_ == 0 && l.joined_.empty(), "nothing is counted any more");
  q.close();
  pool.close();
}

/// The context goes while the call is under way.
template <bool Abandon>
void call_or_close(int mutant) {
  serial_queue q, pool;
  asio::queue_as_pool::queue = &pool;
  ending e;
  std::optional<world> w(std::in_place);
  loop& l = w->permanent(q);
  mutant_of_call = 0;
  if (mutant == 1) mutate(&l.pushers_, operation::add, mutation::lost, 1);
  if (mutant == 2) mutate(&loops_alive::get().mutex, operation::lock, mutation::lost, 1);
  tree t(l, e);
  t.begin(calls<Abandon>());
  q.run_one();  // it waits for the call
  explorer::thread caller([&] { run(pool); });
  w.reset();
  expect(e.is_over && e.was_stopped, "the tree is abandoned");
  explorer::wait_until_quiet();
  pool.close();
}

// ---- on

task<int> gives(bool waits) {
  if (waits) co_await forever();
  co_return 7;
}
task<int> goes_elsewhere(world& w, serial_queue& q, bool waits) {
  auto e = w.strand(q);
  auto work = make_on(std::move(e), gives(waits));
  explorer::additions_commute(&work.other_->pushers_);
  co_return co_await std::move(work);
}

template <bool Waits>
void on_or_stop(int mutant) {
  serial_queue here, there;
  ending e;
  world w, other;
  other.owns(there);
  loop& l = w.permanent(here);
  if (mutant == 1) mutate(&l.inbox_, operation::compare, mutation::relaxed, 2);
  if (mutant == 2) mutate(&l.inbox_, operation::exchange, mutation::relaxed);
  tree t(l, e);
  stop_message stop(t, e.is_over);
  start(t, goes_elsewhere(other, there, Waits), here);
  explorer::thread runner([&] { run(here); });
  explorer::thread elsewhere([&] { run(there); });
  l.push(stop);
  explorer::wait_until_quiet();
  explorer::count(e.was_stopped);
  expect(e.is_over, "the tree ends");
  expect(e.was_stopped ? e.value == 0 : !Waits && e.value == 7, "with the value, or stopped");
  expect(l.operations_ == 0 && l.outside_ == 0, "nothing is counted any more");
  expect(loops_alive::get().first == &l && !l.next_alive_, "the other loop has gone");
  here.close();
  there.close();
}

/// The other context goes.
void on_or_close(int mutant) {
  serial_queue here, there;
  ending e;
  world w;
  std::optional<world> other(std::in_place);
  other->owns(there);
  loop& l = w.permanent(here);
  if (mutant == 1) mutate(&l.inbox_, operation::compare, mutation::relaxed, 2);
  tree t(l, e);
  stop_message stop(t, e.is_over);
  t.begin(goes_elsewhere(*other, there, true));
  here.run_one();
  explorer::thread runner([&] { run(here); });
  explorer::thread elsewhere([&] {
    there.run_one();
    other.reset();
  });
  l.push(stop);
  explorer::wait_until_quiet();
  expect(e.is_over, "the tree ends");
  here.close();
}

// ---- primitives of several loops

task<int> acquires(concurrent_semaphore& s) {
  const auto p = co_await s.acquire();
  co_return 7;
}

void grant_or_stop(int mutant) {
  serial_queue here, there;
  ending e, f;
  world w, other;
  loop& l = w.permanent(here);
  loop& m = other.permanent(there);
  concurrent_semaphore s(1);
  if (mutant == 1) mutate(&s.core_->mutex_, operation::lock, mutation::lost, 1);
  if (mutant == 2) mutate(&s.core_->mutex_, operation::lock, mutation::lost, 0);
  tree t(l, e), u(m, f);
  stop_message stop(t, e.is_over);
  {
    auto held = s.try_acquire();
    t.begin(acquires(s));
    here.run_one();
    explorer::thread runner([&] { run(here); });
    explorer::thread elsewhere([&] { run(there); });
    if (is_deep) u.begin(acquires(s));
    l.push(stop);
    held = {};
    explorer::wait_until_quiet();
    here.close();
    there.close();
  }
  explorer::count(e.was_stopped);
  expect(e.is_over && f.is_over == is_deep, "the trees end");
  expect(e.was_stopped ? e.value == 0 : e.value == 7, "with a permit, or stopped");
  expect(s.stats().available == 1 && s.stats().waiting == 0, "no permit is lost");
  expect(l.operations_ == 0 && l.outside_ == 0 && l.joined_.empty(), "nothing is counted any more");
}

/// Given back between the look and the wait.
void acquire_or_release(int mutant) {
  serial_queue here;
  ending e;
  world w;
  loop& l = w.permanent(here);
  concurrent_semaphore s(1);
  if (mutant == 1) mutate(&s.core_->mutex_, operation::lock, mutation::lost, 1);
  tree t(l, e);
  auto held = s.try_acquire();
  explorer::thread runner([&] { run(here); });
  t.begin(acquires(s));
  held = {};
  explorer::wait_until_quiet();
  here.close();
  expect(e.is_over && e.value == 7, "who waits gets the permit");
  expect(s.stats().available == 1, "no permit is lost");
}

/// The semaphore goes while somebody waits for it on another loop.
void disown_or_stop(int mutant) {
  serial_queue here;
  ending e;
  world w;
  loop& l = w.permanent(here);
  std::optional<concurrent_semaphore> s(std::in_place, 1);
  if (mutant == 1) mutate(&s->core_->mutex_, operation::lock, mutation::lost, 1);
  tree t(l, e);
  stop_message stop(t, e.is_over);
  auto held = s->try_acquire();
  t.begin(acquires(*s));
  here.run_one();
  explorer::thread runner([&] { run(here); });
  l.push(stop);
  s.reset();
  held = {};
  explorer::wait_until_quiet();
  expect(e.is_over && e.value == 0, "the tree ends");
  here.close();
}

/// The context of who waits goes, and the grant comes.
void grant_or_close(int mutant) {
  serial_queue here;
  ending e;
  std::optional<world> w(std::in_place);
  loop& l = w->permanent(here);
  concurrent_semaphore s(1);
  if (mutant == 1) mutate(&s.core_->mutex_, operation::lock, mutation::lost, 0);
  tree t(l, e);
  auto held = s.try_acquire();
  t.begin(acquires(s));
  here.run_one();
  explorer::thread other([&] { held = {}; });
  w.reset();
  other.join();
  expect(e.is_over && e.was_stopped, "the tree is abandoned");
  expect(s.stats().available == 1 && s.stats().waiting == 0, "no permit is lost");
}

task<int> gets(concurrent_queue<int>& q) {
  const auto item = co_await q.pop();
  co_return item.value_or(0);
}

void item_or_stop(int mutant) {
  serial_queue here;
  ending e;
  world w;
  loop& l = w.permanent(here);
  concurrent_queue<int> q(1);
  tree t(l, e);
  stop_message stop(t, e.is_over);
  if (mutant == 1) mutate(&q.core_->mutex_, operation::lock, mutation::lost, 1);
  t.begin(gets(q));
  here.run_one();
  explorer::thread runner([&] { run(here); });
  explorer::thread other([&] { expect(q.try_push(7), "there is room"); });
  l.push(stop);
  other.join();
  explorer::wait_until_quiet();
  here.close();
  explorer::count(e.was_stopped);
  expect(e.is_over, "the tree ends");
  const auto left = q.try_pop();
  expect(e.was_stopped ? left && *left == 7 : !left && e.value == 7, "no item is lost");
}

using cache = concurrent_lru_cache<int, int>;

task<int> just_seven() { co_return 7; }
task<int> never() {
  co_await forever();
  co_return 0;
}
task<int> asks(cache& c) {
  const int value = co_await c.get(1, just_seven);
  co_return value;
}
task<int> asks_in_vain(cache& c) {
  const int value = co_await c.get(1, never);
  co_return value;
}

/// Two loops ask for the same key, and one of them is stopped.
void load_or_stop(int mutant) {
  serial_queue here, there;
  ending e, f;
  world w, other;
  loop& l = w.permanent(here);
  loop& m = other.permanent(there);
  cache c({.capacity = 1});
  explorer::name(&c.core_->mutex_, "mutex of the cache");
  if (mutant == 1) mutate(&c.core_->mutex_, operation::lock, mutation::lost, 1);
  if (mutant == 2) mutate(&c.core_->mutex_, operation::lock, mutation::lost, 2);
  tree t(l, e), u(m, f);
  stop_message stop(t, e.is_over);
  t.begin(asks(c));
  u.begin(asks(c));
  {
    explorer::thread runner([&] { run(here); });
    explorer::thread elsewhere([&] { run(there); });
    l.push(stop);
    explorer::wait_until_quiet();
    here.close();
    there.close();
  }
  const lru_cache_stats s = c.stats();
  explorer::count(e.was_stopped + 2u * (s.loads == 2) + 4u * (s.joined == 1));
  expect(e.is_over && f.is_over, "the trees end");
  expect(f.value == 7 && (e.was_stopped || e.value == 7), "with the value, or stopped");
  expect(s.size == 1 && s.loading == 0, "the value is kept");
  expect(l.operations_ == 0 && l.outside_ == 0 && l.joined_.empty() && m.operations_ == 0, "nothing is counted any more");
}

/// The context of a load goes while another loop asks for its key.
void load_or_close(int mutant) {
  serial_queue here, there;
  ending e, f;
  std::optional<world> w(std::in_place);
  world other;
  loop& l = w->permanent(here);
  loop& m = other.permanent(there);
  cache c({.capacity = 1});
  explorer::name(&c.core_->mutex_, "mutex of the cache");
  if (mutant == 1) mutate(&c.core_->mutex_, operation::lock, mutation::lost, 0);
  tree t(l, e), u(m, f);
  t.begin(asks_in_vain(c));
  here.run_one();
  u.begin(asks(c));
  {
    explorer::thread elsewhere([&] { run(there); });
    w.reset();
    explorer::wait_until_quiet();
    there.close();
  }
  explorer::count(f.value == 7);
  expect(e.is_over && e.was_stopped, "the tree is abandoned");
  expect(f.is_over && !f.was_stopped, "the other one ends");
  expect(c.stats().loading == 0, "no load is left");
  expect(m.operations_ == 0 && m.outside_ == 0 && m.joined_.empty(), "nothing is counted any more");
}

/// The cache goes while a load of it runs on another thread, with somebody who waits for it, and who is stopped.
void load_or_end(int mutant) {
  serial_queue here;
  ending e;
  world w;
  loop& l = w.permanent(here);
  std::optional<cache> c(std::in_place, lru_cache_options<int, int>{.capacity = 1});
  if (mutant == 1) mutate(&c->core_->mutex_, operation::lock, mutation::lost, 1);
  tree t(l, e);
  stop_message stop(t, e.is_over);
  t.begin(asks_in_vain(*c));
  here.run_one();
  {
    explorer::thread runner([&] { run(here); });
    l.push(stop);
    c.reset();
    explorer::wait_until_quiet();
    here.close();
  }
  explorer::count(e.was_stopped);
  expect(e.is_over && e.value == 0, "the tree ends");
  expect(!l.has_trees(), "and so does the load");
  expect(l.operations_ == 0 && l.outside_ == 0 && l.joined_.empty(), "nothing is counted any more");
}

// ---- run

void leave_or_end(int mutant) {
  serial_queue q;
  world w;
  loop& l = w.permanent(q);
  auto* r = new main_root_of<int>(l, nullptr);
  if (mutant == 1) mutate(&r->state_of_run_, operation::exchange, mutation::torn);
  if (mutant == 2) mutate(&r->state_of_run_, operation::exchange, mutation::relaxed);
  if (mutant == 3) mutate(&r->state_of_run_, operation::load, mutation::relaxed);
  explorer::thread runner([&] { run(q); });
  r->begin(just_seven());
  const bool has_ended = r->ended();
  explorer::count(has_ended);
  if (has_ended) expect(r->get().take() == 7, "the value is there");
  r->leave();
  explorer::wait_until_quiet();
  q.close();
}

task<int> seven_of_guest(int mutant) {
  auto& r = static_cast<guest_root_of<int>&>(*loop::current()->running_root());
  if (mutant == 1) r.runner_has_seen_->store(true);  // so that nobody wakes the runner
  co_return 7;
}

/// On the real thing: two threads run one io_context, and the task ends on either.
void guest_run(int mutant) {
  asio::io_context context(2);
  const auto work = asio::make_work_guard(context);  // so that it does not come to its end
  int value = 0;
  {
    explorer::thread other([&] {  // not for ever: it would have to be fair
      for (int i = 0; i != 3; ++i) context.poll_one();
    });
    value = tandem::run(context, seven_of_guest(mutant));
  }
  expect(value == 7, "the value is there");
}

// ---- inspection

void watchdog(int mutant) {
  serial_queue q;
  ending e;
  world w;
  loop& l = w.permanent(q);
  loops_alive& all = loops_alive::get();
  all.visitor.store(&loop_requests::answer_all);
  l.observe_from_outside(true);
  if (mutant == 1) mutate(&loop_requests::get().mutex, operation::lock, mutation::lost, 1);
  if (mutant == 2) mutate(&loop_requests::get().mutex, operation::lock, mutation::lost, 0);
  tree t(l, e);
  std::vector<stall> reports;
  bool ends = false;
  {
    explorer::thread runner([&] { run(q); });
    t.begin(just_seven());
    auto watched = std::make_unique<stall_watchdog::watched>(l.number());
    for (int i = 0; i != (is_deep ? 3 : 2); ++i) {
      const std::scoped_lock lock(all.mutex);
      if (watched->look(running_coroutine(l.turn()), std::chrono::steady_clock::time_point(), clock::duration::zero(),
                        reports))
        l.ask_for_visit(false);
    }
    ends = explorer::choose(2) == 0;  // or the watchdog goes meanwhile
    if (ends) watched->end(std::chrono::steady_clock::time_point(), reports);
    watched.reset();
    explorer::wait_until_quiet();
    q.close();
  }
  expect(e.is_over, "the tree ends");
  explorer::count(!reports.empty());
  int under_way = 0;
  for (const stall& s : reports) under_way += s.is_over ? -1 : 1;
  expect(!ends || under_way == 0, "every stall that is reported is reported to be over");
}

/// format_all_await_trees, with and without patience.
template <int Patience>
void all_trees(int mutant) {
  serial_queue q;
  ending e;
  world w;
  loop& l = w.permanent(q);
  if (mutant == 1) mutate(&loop_requests::get().mutex, operation::lock, mutation::lost, 1);
  if (mutant == 2 && Patience != 0) mutate(&l.visit_wanted_, operation::store, mutation::late, 0, 4);
  if (mutant == 2 && Patience == 0) mutate(&loop_requests::get().mutex, operation::lock, mutation::lost, 0);
  tree t(l, e);
  {
    explorer::thread runner([&] { run(q); });
    t.begin(just_seven());
    const std::string text = format_all_await_trees(tree_format::text, std::chrono::hours(Patience));
    expect(Patience == 0 || text.find("did not answer") == std::string::npos, "a loop that is run answers");
    explorer::wait_until_quiet();
    q.close();
  }
  expect(e.is_over, "the tree ends");
}

// ---- memory of frames

/// Two threads free frames of a third, which makes new ones meanwhile.
void frames_come_home(int mutant) {
  constexpr std::size_t size = 100;
  frame_home home;
  frame_memory maker, others[2];
  maker.home_ = &home;
  if (mutant == 1) mutate(&home.returned, operation::exchange, mutation::relaxed);
  if (mutant == 2) mutate(&home.returned, operation::compare, mutation::relaxed);
  if (mutant == 3) mutate(&home.returned, operation::exchange, mutation::torn);
  const auto make = [&] {
    int* frame = static_cast<int*>(maker.allocate(size));
    *frame = 1;
    return frame;
  };
  int* made[3] = {make(), make(), make()};
  int* again[2];
  {
    const auto free_them = [&](int i) {
      *made[i] = 2;
      others[i].deallocate(made[i], size);
      if (i == 1 && is_deep) others[i].deallocate(made[2], size);
    };
    explorer::thread a([&] { free_them(0); }), b([&] { free_them(1); });
    for (int*& frame : again) frame = make();
    expect(again[0] != again[1], "no frame is given out twice");
  }
  explorer::count((again[0] == made[0] || again[0] == made[1]) + 2u * (again[1] == made[0] || again[1] == made[1]));
  for (int* frame : again) maker.deallocate(frame, size);
  if (!is_deep) maker.deallocate(made[2], size);
  maker.take_returned();
  maker.give_back();
  expect(home.bytes == 0, "every frame has come home");
}

struct scenario {
  const char* name;
  const char* says;
  void (*body)(int);
  int mutants;
  std::size_t outcomes = 0;  // that are counted; all of them must be seen
  int bound = -1, deep_bound = -1;
};
const scenario scenarios[] = {
    {"store_buffering", "the explorer: two threads write, and read what the other writes", store_buffering, 1, 2},
    {"message_passing", "the explorer: one thread writes and tells another", message_passing, 2, 2},
    {"waiting_for_a_change", "the explorer: a condition variable", waiting_for_a_change, 2, 2},
    {"three_additions", "the explorer: three threads that meet once", three_additions, 1},
    {"inbox", "two threads push while the loop drains", inbox<2>, 3},
    {"inbox_of_three", "the same, one of them twice", inbox<3>, 5, 0, 2, 3},
    {"posted", "two threads push, and one runs the loop then", posted, 1},
    {"going", "an idle loop goes; one lets go of it, one asks for it anew", going, 4, 0, 2, 3},
    {"visit_of_going", "an idle loop goes; another thread asks it for a visit", visit_of_going, 3, 2},
    {"visit_of_closing", "a context goes; another thread asks its loop for a visit", visit_of_closing, 4},
    {"call_or_stop", "to_thread: the call ends; a stop", call_or_stop<false>, 1, 0, -1, 3},
    {"abandoned_call_or_stop", "to_thread(abandon_on_cancel): the call ends; a stop", call_or_stop<true>, 3, 2, -1, 3},
    {"call_or_close", "to_thread: the call ends; its context goes", call_or_close<false>, 2},
    {"abandoned_call_or_close", "to_thread(abandon_on_cancel): the same", call_or_close<true>, 1},
    {"on_or_stop", "on: the other tree ends; a stop", on_or_stop<false>, 2, 2, 2, 3},
    {"waiting_on_or_stop", "on: the other tree waits; a stop", on_or_stop<true>, 1, 0, 2, 3},
    {"on_or_close", "on: the other context goes; a stop", on_or_close, 1, 0, 2, 3},
    {"grant_or_stop", "concurrent_semaphore: a grant; a stop", grant_or_stop, 2, 2},
    {"acquire_or_release", "concurrent_semaphore: an acquire begins; a release", acquire_or_release, 1},
    {"disown_or_stop", "concurrent_semaphore: its end; a stop", disown_or_stop, 1},
    {"grant_or_close", "concurrent_semaphore: a grant; the context of who waits goes", grant_or_close, 1},
    {"item_or_stop", "concurrent_queue: an item; a stop", item_or_stop, 1, 2},
    {"load_or_stop", "concurrent_lru_cache: two loops ask for a key; a stop of one", load_or_stop, 2, 4, 2, 3},
    {"load_or_close", "concurrent_lru_cache: the context of a load goes; another loop asks", load_or_close, 1, 2, 2},
    {"load_or_end", "concurrent_lru_cache: its end; a stop of who waits for a load", load_or_end, 1, 2},
    {"leave_or_end", "run: the runner leaves; the tree ends", leave_or_end, 3, 2},
    {"guest_run", "run on an io_context that another thread runs as well", guest_run, 1, 0, 2},
    {"frames_come_home", "frame_memory: two threads free what a third has made, and makes anew", frames_come_home, 3, 3},
    {"watchdog", "stall_watchdog: a request; its answer", watchdog, 2, 2},
    {"all_trees", "format_all_await_trees without patience", all_trees<0>, 2},
    {"all_trees_patiently", "format_all_await_trees with patience", all_trees<1>, 2},
};

}  // namespace

int main(int argc, char** argv) {
  std::string only;
  int bound = -2, mutant = -1;
  unsigned long schedules = 0;
  for (int i = 1; i != argc; ++i) {
    const std::string a = argv[i];
    if (a == "-deep")
      is_deep = true;
    else if (a.starts_with("-bound="))
      bound = std::stoi(a.substr(7));
    else if (a.starts_with("-mutant="))
      mutant = std::stoi(a.substr(8));
    else if (a.starts_with("-schedules="))
      schedules = std::stoul(a.substr(11));
    else
      only = a;
  }
  if (schedules == 0) schedules = is_deep ? 5000000 : 100000;
  call_threads<asio::queue_as_pool>();  // made here, static objects are there in every run
  loop_requests::get();
  { const world warm; }

  bool all_well = !only.empty() && only != "random_programs" ? true : reduction_takes_nothing_away();
  for (const scenario& s : scenarios) {
    if (!only.empty() && only != s.name) continue;
    for (int k = mutant < 0 ? 0 : mutant; k <= (mutant < 0 ? s.mutants : mutant); ++k) {
      const auto start = std::chrono::steady_clock::now();
      const int allowed = bound != -2 ? bound : is_deep ? s.deep_bound : s.bound;
      const bool explains = k == 0 || mutant >= 0;
      auto r = explorer::explore(s.body, k, {schedules, allowed, explains});
      if (k != 0 && !r.failed && allowed >= 0) r = explorer::explore(s.body, k, {schedules, -1, explains});
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      const bool is_well = k != 0 ? r.failed : !r.failed && r.complete && r.outcomes.size() >= s.outcomes;
      all_well = all_well && is_well;
      if (k == 0)
        std::printf("%s: %s\n", s.name, s.says);
      else
        std::printf("  mutant %d: ", k);
      if (k == 0)
        std::printf("  %lu schedules, %s, of %zu threads with up to %zu steps; %lu cut short; %.1f s%s\n", r.schedules,
                    r.failed       ? "the last one fails"
                    : !r.complete  ? "and more are left"
                    : allowed < 0  ? "all"
                    : allowed == 1 ? "all with one preemption at most"
                                   : ("all with up to " + std::to_string(allowed) + " preemptions").c_str(),
                    r.threads, r.operations, r.cut_short, seconds, is_well ? "" : "  NOT AS IT SHOULD BE");
      else
        std::printf("%s after %lu schedules%s%s\n", r.failed ? "found" : "NOT FOUND", r.schedules, r.failed ? ": " : "",
                    r.failed ? r.failure.substr(0, r.failure.find('\n')).c_str() : "");
      if (r.failed && explains) std::puts(r.failure.c_str());
      std::fflush(stdout);
    }
  }
  std::puts(all_well ? "All well." : "Something is not as it should be.");
  return all_well ? 0 : 1;
}
