// A long mixed load on several threads, with and without faults; in the end a ledger says whether anything was lost.
//
//     soak --seconds 3600 --faults --seed 7
//
// See "How it is soaked" in docs/design/machine.md.
#include "world.hpp"

#include <tandem/inspect.hpp>
#include <tandem/metrics.hpp>

#include TANDEM_ASIO_HEADER(bind_cancellation_slot.hpp)
#include TANDEM_ASIO_HEADER(executor_work_guard.hpp)
#include TANDEM_ASIO_HEADER(post.hpp)
#include TANDEM_ASIO_HEADER(steady_timer.hpp)

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <utility>

namespace soak {

// ---- failures ------------------------------------------------------------------------------------------------------

verdict judge(const std::exception_ptr& e) noexcept {
  try {
    std::rethrow_exception(e);
  } catch (const std::bad_alloc&) {
    return memory::every == 0 ? verdict::wrong : verdict::no_memory;
  } catch (const tandem::exception_group& group) {
    verdict all = verdict::as_expected;
    for (const auto& one : group.exceptions()) all = std::max(all, judge(one));
    return all;
  } catch (const failure&) {
  } catch (const tandem::unavailable&) {
  } catch (const tandem::system_error&) {  // timed_out and cancelled among them
  } catch (...) {
    return verdict::wrong;
  }
  return verdict::as_expected;
}

verdict note_failure(const std::exception_ptr& e, const char* of_what) noexcept {
  const verdict v = judge(e);
  if (v != verdict::wrong) return v;
  try {
    std::rethrow_exception(e);
  } catch (const std::exception& x) {
    complain("%s: %s", of_what, x.what());
  } catch (...) {
    complain("%s: an exception of unknown type", of_what);
  }
  return v;
}

// ---- the world -----------------------------------------------------------------------------------------------------

world::world(const options& o) : chosen(o) {
  add_waits(load);
  add_scopes(load);
  add_services(load);
  add_threads(load);
  add_network(load);
  for (const auto& one : load) all_weights += one->weight;
  for (const char* name : {"io_context", "strand", "another strand", "thread_pool"})
    places.push_back(std::make_unique<place>(*this, name));
  for (const std::size_t i : {1u, 2u}) {
    places[i]->kind = place::of_strand;
    places[i]->strand = asio::make_strand(context);
  }
  places[3]->kind = place::of_pool;
  for (auto& p : places)
    for (std::size_t i = 0; i != o.clients; ++i) p->clients.push_back(std::make_unique<place::client>());
  trade_ = new_trade();
}
world::~world() = default;

std::shared_ptr<tandem::concurrent_queue<item>> world::new_trade() {
  // The last who uses it finds what nobody has popped.
  const auto ends = [](tandem::concurrent_queue<item>* q) {
    while (auto i = q->try_pop()) i->consume(ledger::shared_items);
    delete q;
  };
  return {new tandem::concurrent_queue<item>(3), ends};
}
std::shared_ptr<tandem::concurrent_queue<item>> world::trade() {
  const std::scoped_lock lock(mutex_);
  return trade_;
}
void world::reopen_trade() {
  auto next = new_trade();
  {
    const std::scoped_lock lock(mutex_);
    std::swap(trade_, next);
  }
  next->close();
}

namespace {

using steady = std::chrono::steady_clock;

// ---- clients -------------------------------------------------------------------------------------------------------

operation& choose(world& w, dice& d) noexcept {
  auto n = static_cast<unsigned>(d.below(w.all_weights));
  for (auto& o : w.load) {
    if (n < o->weight) return *o;
    n -= o->weight;
  }
  return *w.load.front();
}

/// An operation that is under way; if nothing says how it ended, its client was stopped.
class attempt {
 public:
  explicit attempt(operation& o) noexcept : operation_(o) { ++o.begun; }
  attempt(const attempt&) = delete;
  attempt& operator=(const attempt&) = delete;
  ~attempt() { ++(how_ ? *how_ : operation_.stopped); }
  void ended() noexcept { how_ = &operation_.ended; }
  void failed(const std::exception_ptr& e) noexcept {
    how_ = note_failure(e, operation_.name) == verdict::no_memory ? &operation_.no_memory : &operation_.failed;
  }

 private:
  operation& operation_;
  std::atomic<long>* how_ = nullptr;
};

task<> loads(place& p, std::uint64_t seed) {
  const held here(ledger::frames);
  dice d(seed);
  while (!p.all.ends) {
    operation& o = choose(p.all, d);
    attempt a(o);
    try {
      if (p.all.chosen.faults && d.chance(10)) {
        const auto in_time = co_await tandem::try_timeout(d.moment(), o.run(p, d));
        if (!in_time) ++p.all.made.limits_over;
      } else {
        co_await o.run(p, d);
      }
      a.ended();
    } catch (...) {
      a.failed(std::current_exception());
    }
    ++p.all.progress;
    co_await tandem::yield();  // not every operation waits
  }
}

void start(place& p, std::size_t i) {
  const memory::spare spare;
  place::client& c = *p.clients[i];
  c.runs = true;
  ++p.clients_running;
  dice seed(p.all.chosen.seed * 1'000'003 + i * 1'009 + ++c.lives);
  held tree(ledger::trees);
  auto ended = [&p, &c, t = std::move(tree)](std::exception_ptr e) mutable {
    const held ends(std::move(t));
    if (!c.runs) complain("a handler was called twice");
    c.runs = false;
    --p.clients_running;
    ++p.all.progress;
    if (e) note_failure(e, "a client");  // what its pools and schedulers have left, or `cancelled`
    p.client_ended.set();
  };
  p.at([&](const auto& executor) {
    tandem::spawn(executor, loads(p, seed.next()), asio::bind_cancellation_slot(c.stop.slot(), std::move(ended)));
  });
}

// ---- the end of a place --------------------------------------------------------------------------------------------

/// Awaits what `make()` returns until that fails no more. Failures of jobs that nobody has looked at come out of it.
template <class Make>
task<> insists(Make& make, const char* what) {
  for (bool done = false; !done;) {
    try {
      co_await make();
      done = true;
    } catch (...) {
      note_failure(std::current_exception(), what);
    }
    co_await tandem::yield();
  }
}

/// What is left in a queue that nobody uses any more.
void take_rest(tandem::queue<item>& q, account& a) {
  q.close();
  while (auto i = q.try_pop()) i->consume(a);
}

void audit(tools& t, const char* name) {
  const memory::spare spare;
  const auto expect = [&](bool holds, const char* what) {
    if (!holds) complain("%s: %s", name, what);
  };
  expect(t.permits.available() == tools::most_permits && t.permits.waiting() == 0, "permits are missing");
  expect(t.elastic.available() == 3 && t.elastic.waiting() == 0, "permits of the resized semaphore are missing");
  expect(!t.mutex.is_locked() && t.mutex.waiting() == 0, "the mutex is locked");
  const auto pool = t.pool.stats();
  expect(pool.running + pool.queued + pool.submitting == 0, "the pool has jobs");
  expect(pool.submitted == pool.succeeded + pool.failed + pool.cancelled, "jobs of the pool were lost");
  const auto s = t.scheduler.stats();
  expect(s.running + s.queued == 0, "the scheduler has jobs");
  expect(s.submitted == s.succeeded + s.failed + s.cancelled + s.expired, "jobs of the scheduler were lost");
  for (const auto& p : s.priorities) expect(p.running + p.queued == 0, "a priority has jobs");
  expect(t.cache.stats().loading == 0, "the cache loads");
  const auto things = t.things.stats();
  expect(things.size + things.lent + things.waiting == 0, "the pool of resources is not empty");
  expect(t.limit.stats().waiting == 0, "somebody waits for the limiter");
  const auto control = t.control.stats();
  expect(control.in_flight + control.waiting == 0, "slots of the controller are missing");
  for (const auto* q : {&t.items, &t.other_items, &t.ranges, &t.refuses, &t.drops_oldest, &t.drops_newest}) {
    const auto f = q->stats();
    expect(f.pushing + f.popping + f.size == 0, "a queue is not empty");
  }
}

task<> settles(place& p) {
  const held here(ledger::frames);
  tools& t = *p.own;
  t.elastic.resize(3);
  const auto drains_pool = [&] { return t.pool.drain(); };
  co_await insists(drains_pool, "drain of a pool");
  const auto drains_scheduler = [&] { return t.scheduler.drain(); };
  co_await insists(drains_scheduler, "drain of a scheduler");
  const auto drains_errors = [&] { return t.errors.drain(); };
  co_await insists(drains_errors, "drain of an error_manager");
  const auto closes = [&] { return t.things.close(); };
  co_await insists(closes, "close of a pool of resources");
  const auto sleeps = [] { return tandem::sleep_for(1ms); };
  while (t.cache.stats().loading != 0) co_await insists(sleeps, "a sleep");

  take_rest(t.items, ledger::items);
  take_rest(t.other_items, ledger::items);
  take_rest(t.ranges, ledger::range_items);
  ledger::range_items.take(static_cast<long>(t.ranges.stats().pushed));
  for (auto* q : {&t.refuses, &t.drops_oldest, &t.drops_newest}) {
    take_rest(*q, ledger::picky_items);
    ledger::picky_items.take(static_cast<long>(q->stats().pushed));
  }
  ledger::picky_items.give_back(static_cast<long>(t.drops_oldest.stats().dropped));
  ledger::stock.give_back(std::exchange(t.stock, 0));
  audit(t, p.name);
}

task<> runs(place& p) {
  const held here(ledger::frames);
  {
    const memory::spare spare;
    p.own = std::make_unique<tools>(p);
    p.serial = co_await tandem::this_task::executor;
    p.is_ready = true;
  }
  while (!p.all.ends || p.clients_running != 0) {
    for (std::size_t i = 0; i != p.clients.size() && !p.all.ends; ++i)
      if (!p.clients[i]->runs) start(p, i);
    p.client_ended.reset();
    co_await p.client_ended.wait();
  }
  const auto all = [&] { return settles(p); };
  const auto begins = [&] {
    const memory::spare spare;  // who insists needs a frame too
    return insists(all, p.name);
  };
  auto settled = begins();
  co_await std::move(settled);
  p.own.reset();
}

// ---- who watches ---------------------------------------------------------------------------------------------------

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool has_sanitizer = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool has_sanitizer = true;
#else
constexpr bool has_sanitizer = false;
#endif
#else
constexpr bool has_sanitizer = false;
#endif

double megabytes(std::uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[v.size() / 2];
}

/// The resident memory, second by second. Its median in the last quarter of the time must not be more than that in the
/// second quarter by a twentieth and 4 MB, since the heap's own pieces move by that much.
class memory_record {
 public:
  void sample() { seconds_.push_back(megabytes(tandem::process_memory().resident)); }
  void judge() const {
    const auto n = static_cast<std::ptrdiff_t>(seconds_.size());
    if (n == 0 || seconds_.back() == 0) return;
    const auto part = [&](std::ptrdiff_t from, std::ptrdiff_t to) {
      return median({seconds_.begin() + from, seconds_.begin() + to});
    };
    const double before = part(n / 4, n / 2), after = part(n - n / 4, n);
    const double most = before * 1.05 + 4;
    std::printf(
        "resident memory, medians: %.1f MB in the second quarter, %.1f MB in the last; %.1f MB would be allowed\n",
        before, after, most);
    if (has_sanitizer || n < 60)
      std::printf("  (not judged: %s)\n", has_sanitizer ? "a sanitizer keeps what is freed" : "less than a minute");
    else if (after > most)
      complain("resident memory has grown from %.1f to %.1f MB; %.1f would be allowed", before, after, most);
  }

 private:
  std::vector<double> seconds_;
};

/// Ends the program if nothing goes on for half a minute.
class progress_watch {
 public:
  explicit progress_watch(world& w) noexcept : world_(w) {}
  void look() {
    const long now = world_.progress;
    if (now != last_) {
      last_ = now;
      since_ = steady::now();
    } else if (steady::now() - since_ > 30s) {
      std::fprintf(stderr, "soak: WRONG: nothing goes on for 30 s\n%s\n", tandem::format_all_await_trees().c_str());
      for (const account* a = account::first(); a; a = a->next())
        if (a->taken() != a->back()) std::fprintf(stderr, "  %-36s %12ld %12ld\n", a->name(), a->taken(), a->back());
      std::_Exit(1);
    }
  }
  /// Looks until something holds.
  template <class Condition>
  void until(Condition holds) {
    for (since_ = steady::now(); !holds(); look()) std::this_thread::sleep_for(1ms);
  }

 private:
  world& world_;
  long last_ = -1;
  steady::time_point since_ = steady::now();
};

void report_minute(world& w, double seconds) {
  std::printf(
      "%6.0f s: %ld operations, %.1f MB, %ld coroutines of the load, %ld allocations failed, "
      "%ld clients stopped\n",
      seconds, w.progress.load(), megabytes(tandem::process_memory().resident),
      ledger::frames.taken() - ledger::frames.back(), memory::failed.load(), w.made.clients_stopped.load());
}

void report_operations(const world& w) {
  std::printf("%-32s %11s %11s %9s %9s %9s\n", "operation", "begun", "ended well", "failed", "no memory", "stopped");
  for (const auto& o : w.load) {
    std::printf("%-32s %11ld %11ld %9ld %9ld %9ld\n", o->name, o->begun.load(), o->ended.load(), o->failed.load(),
                o->no_memory.load(), o->stopped.load());
    if (o->begun != o->ended + o->failed + o->no_memory + o->stopped) complain("%s: not all have ended", o->name);
  }
}
void report_faults(const world& w) {
  const faults& f = w.made;
  const std::pair<const char*, long> all[] = {{"allocations failed", memory::failed},
                                              {"clients stopped", f.clients_stopped},
                                              {"trees stopped", f.trees_stopped},
                                              {"time limits over", f.limits_over},
                                              {"connections reset", f.resets},
                                              {"half lines", f.half_lines},
                                              {"slow peers", f.slow_peers},
                                              {"silent peers", f.silent_peers},
                                              {"lines given up", f.lines_given_up},
                                              {"pushes refused", f.refused},
                                              {"pushes dropped", f.dropped},
                                              {"pushes and pops of closed queues", f.closed},
                                              {"on_exit without memory", f.lost_exits}};
  for (const auto& [name, n] : all) std::printf("%-36s %12ld\n", name, n);
}
void report_ledger() {
  std::printf("%-36s %12s %12s\n", "ledger", "taken", "given back");
  for (const account* a = account::first(); a; a = a->next()) {
    std::printf("%-36s %12ld %12ld\n", a->name(), a->taken(), a->back());
    if (a->taken() != a->back()) complain("%s: %ld taken, %ld given back", a->name(), a->taken(), a->back());
  }
}

/// Makes what Asio makes once in a context. Without memory for a strand's mutex it would leave a dangling pointer.
template <class Context>
void warm_up(Context& c) {
  std::vector<asio::any_io_executor> strands;
  for (int i = 0; i != 4000; ++i) strands.push_back(asio::make_strand(c));
  asio::steady_timer timer(c);
}

void stop_a_client(world& w, dice& d) {
  place& p = w.any_place(d);
  if (!p.is_ready || p.clients.empty()) return;
  place::client& c = *p.clients[d.below(p.clients.size())];
  asio::post(p.serial, [&w, &c] {
    if (!c.runs) return;
    ++w.made.clients_stopped;
    c.stop.emit(asio::cancellation_type::terminal);
  });
}

void run(const options& o) {
  world w(o);
  warm_up(w.context);
  warm_up(w.pool);
  const auto pool_of_calls = [] { return 0; };
  tandem::run([&]() -> task<> { co_await tandem::to_thread(pool_of_calls); }());
  listen(w);

  std::atomic<std::size_t> trees{0};
  const auto spawned = [&](std::exception_ptr e) {
    if (e) note_failure(e, "a main tree");
    --trees;
    ++w.progress;
  };
  for (auto& p : w.places) {
    ++trees;
    const auto settled = [&](std::exception_ptr e) {
      if (e) complain("a place ended before it had settled");
      spawned(e);
    };
    p->at([&](const auto& executor) { tandem::spawn(executor, runs(*p), settled); });
  }
  ++trees;
  const strand its = asio::make_strand(w.context);
  asio::cancellation_signal stop;
  tandem::spawn(its, serve(w), asio::bind_cancellation_slot(stop.slot(), spawned));

  std::optional work(asio::make_work_guard(w.context));
  std::vector<std::thread> threads;
  for (int i = 0; i != 2; ++i)
    threads.emplace_back([&] {
      try {
        w.context.run();
      } catch (...) {
        complain("an exception came out of the context");
        note_failure(std::current_exception(), "io_context::run");
      }
    });
  if (o.faults) memory::every = o.fail_every;

  progress_watch watch(w);
  memory_record resident;
  std::uint64_t stalls = 0;
  std::optional<tandem::stall_watchdog> stall_watch;
  dice d(o.seed);
  const auto begin = steady::now();
  const auto passed = [&] { return std::chrono::duration<double>(steady::now() - begin).count(); };
  double next_sample = 0, next_report = 60;
  while (passed() < o.seconds) {
    std::this_thread::sleep_for(5ms);
    watch.look();
    if (o.faults) stop_a_client(w, d);
    // Loops are watched two thirds of the time, since a loop that is not runs other code.
    const bool is_watched = static_cast<long>(passed()) % 3 != 2;
    if (is_watched && !stall_watch) {
      stall_watch.emplace(tandem::stall_watchdog_options{1s});
    } else if (!is_watched && stall_watch) {
      stalls += stall_watch->stalls();
      stall_watch.reset();
    }
    if (passed() >= next_sample) {
      resident.sample();
      next_sample += 1;
    }
    if (passed() >= next_report) {
      report_minute(w, passed());
      next_report += 60;
    }
  }
  if (stall_watch) stalls += stall_watch->stalls();
  stall_watch.reset();
  const double load_lasted = passed();

  w.ends = true;
  watch.until([&] { return trees == 1; });  // the server goes last: it would reset whom it has not accepted yet
  asio::post(its, [&] { stop.emit(asio::cancellation_type::terminal); });
  watch.until([&] { return trees == 0; });
  watch.until([&] { return ledger::trees.taken() == ledger::trees.back(); });
  watch.until([&] { return ledger::abandoned_calls.taken() == ledger::abandoned_calls.back(); });
  watch.until([&] { return w.cache.stats().loading == 0; });
  memory::every = 0;
  work.reset();
  for (auto& t : threads) t.join();
  w.pool.join();
  {
    const auto s = w.permits.stats();
    if (s.available != s.capacity || s.waiting != 0) complain("shared permits are missing");
  }
  w.reopen_trade();  // so that what is in it comes out

  std::printf("%ld operations in %.1f s, %.0f a second; seed %llu, %s\n", w.progress.load(), load_lasted,
              static_cast<double>(w.progress) / load_lasted, static_cast<unsigned long long>(o.seed),
              o.faults ? "with faults" : "without faults");
  report_operations(w);
  report_faults(w);
  std::printf("%-36s %12llu\n", "stalls of a second", static_cast<unsigned long long>(stalls));
  if (!o.faults && w.made.lost_exits != 0) complain("what was registered with on_exit was lost");
  if (w.made.lost_exits > memory::failed) complain("more was lost of on_exit than there were allocations that failed");
  resident.judge();
}

bool is_number(const char* text, double& to) {
  char* end = nullptr;
  to = std::strtod(text, &end);
  return end != text && *end == '\0' && to >= 0;
}

bool read(int count, char** arguments, options& o) {
  for (int i = 1; i != count; ++i) {
    const std::string name = arguments[i];
    double n = 0;
    if (name == "--faults") {
      o.faults = true;
      continue;
    }
    if (i + 1 == count || !is_number(arguments[++i], n)) return false;
    if (name == "--seconds")
      o.seconds = n;
    else if (name == "--seed")
      o.seed = static_cast<std::uint64_t>(n);
    else if (name == "--clients")
      o.clients = static_cast<std::size_t>(n);
    else if (name == "--fail-every")
      o.fail_every = static_cast<long>(n);
    else
      return false;
  }
  return true;
}

long live_frames() {
#if defined(TANDEM_PLAIN_FRAMES)
  return tandem::detail::live_frames;
#else
  return 0;
#endif
}

}  // namespace
}  // namespace soak

int main(int count, char** arguments) {
  soak::options o;
  if (!soak::read(count, arguments, o)) {
    std::fprintf(stderr,
                 "usage: soak [--seconds 3] [--faults] [--seed 1] [--clients 12] [--fail-every 397]\n"
                 "  clients of each loop; of so many allocations in a loop one fails\n");
    return 2;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // in order with stderr
  const long frames = soak::live_frames();
  soak::run(o);
  soak::report_ledger();
  if (soak::live_frames() != frames) soak::complain("%ld frames are left", soak::live_frames() - frames);
  const long wrong = soak::complaints;
  std::printf("%s\n", wrong == 0 ? "nothing was lost" : "WRONG, see above");
  return wrong == 0 ? 0 : 1;
}
