// asio::use_future trips a false alarm of g++ 12.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <tandem/resource_pool.hpp>
#include <tandem/tandem.hpp>

#include "kit/child_process.hpp"
#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(bind_executor.hpp)
#include TANDEM_ASIO_HEADER(local/connect_pair.hpp)
#include TANDEM_ASIO_HEADER(local/stream_protocol.hpp)
#include TANDEM_ASIO_HEADER(post.hpp)
#include TANDEM_ASIO_HEADER(read.hpp)
#include TANDEM_ASIO_HEADER(steady_timer.hpp)
#include TANDEM_ASIO_HEADER(strand.hpp)
#include TANDEM_ASIO_HEADER(thread_pool.hpp)
#include TANDEM_ASIO_HEADER(this_coro.hpp)
#include TANDEM_ASIO_HEADER(use_awaitable.hpp)
#include TANDEM_ASIO_HEADER(use_future.hpp)
#include TANDEM_ASIO_HEADER(write.hpp)
#if TANDEM_ASIO_VERSION >= 102400
#include TANDEM_ASIO_HEADER(deferred.hpp)
#else
#include TANDEM_ASIO_HEADER(experimental/deferred.hpp)
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <future>
#include <new>
#include <optional>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

// ---- memory that runs out ------------------------------------------------------------------------------------------

// Every way to allocate that tandem, Asio and the standard library take counts and may fail: operator new in all its
// forms, and aligned_alloc, which Asio prefers. Only threads that take part are counted, so that the numbers mean the
// same allocations in every run. What a throw allocates comes from malloc and always succeeds.
namespace memory {

std::atomic<long> asked{0}, first_to_fail{0}, first_to_succeed{0};  // none fails while the latter two are equal
std::atomic<long> blocks{0};                                        // from operator new, not yet deleted
constinit thread_local bool takes_part = false;

bool fails() noexcept {
  if (!takes_part) return false;
  const long n = asked.fetch_add(1);
  return n >= first_to_fail.load() && n < first_to_succeed.load();
}

[[gnu::noinline]] void* take(std::size_t size, std::size_t alignment) noexcept {
  void* p = nullptr;
  if (fails() || posix_memalign(&p, alignment, size == 0 ? 1 : size) != 0) return nullptr;
  ++blocks;
  return p;
}
[[gnu::noinline]] void* take_or_throw(std::size_t size, std::size_t alignment = alignof(std::max_align_t)) {
  if (void* p = take(size, alignment)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void give_back(void* p) noexcept {
  if (!p) return;
  --blocks;
  std::free(p);
}

/// While it lives, this thread takes part, and its allocations `n` to `n + width - 1`, counted from zero, fail.
class failing {
 public:
  failing(long n, long width) noexcept {
    asked = 0;
    first_to_fail = n;
    first_to_succeed = n + width;
    takes_part = true;
  }
  ~failing() { stop(); }
  failing(const failing&) = delete;
  failing& operator=(const failing&) = delete;
  void stop() noexcept {
    takes_part = false;
    first_to_fail = first_to_succeed.load();
  }
  bool has_happened(long n) const noexcept { return asked > n; }
};

/// While it lives, this thread does not take part.
class spare {
 public:
  spare() noexcept : took_part_(std::exchange(takes_part, false)) {}
  ~spare() { end(); }
  spare(const spare&) = delete;
  spare& operator=(const spare&) = delete;
  void end() noexcept { takes_part = takes_part || std::exchange(took_part_, false); }

 private:
  bool took_part_;
};

}  // namespace memory

void* operator new(std::size_t n) { return memory::take_or_throw(n); }
void* operator new[](std::size_t n) { return memory::take_or_throw(n); }
void* operator new(std::size_t n, std::align_val_t a) { return memory::take_or_throw(n, std::size_t(a)); }
void* operator new[](std::size_t n, std::align_val_t a) { return memory::take_or_throw(n, std::size_t(a)); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return memory::take(n, alignof(std::max_align_t)); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept {
  return memory::take(n, alignof(std::max_align_t));
}
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return memory::take(n, std::size_t(a));
}
void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return memory::take(n, std::size_t(a));
}
void operator delete(void* p) noexcept { memory::give_back(p); }
void operator delete[](void* p) noexcept { memory::give_back(p); }
void operator delete(void* p, std::size_t) noexcept { memory::give_back(p); }
void operator delete[](void* p, std::size_t) noexcept { memory::give_back(p); }
void operator delete(void* p, std::align_val_t) noexcept { memory::give_back(p); }
void operator delete[](void* p, std::align_val_t) noexcept { memory::give_back(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { memory::give_back(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { memory::give_back(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { memory::give_back(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { memory::give_back(p); }
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { memory::give_back(p); }
void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept { memory::give_back(p); }

// Freed with free(), so it is no block.
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  void* p = nullptr;
  return memory::fails() || posix_memalign(&p, alignment, size) != 0 ? nullptr : p;
}

using namespace std::chrono_literals;
using kit::counted;
using tandem::task;
using tandem::use_task;

namespace {

#if TANDEM_ASIO_VERSION >= 102400
constexpr auto& deferred = asio::deferred;
#else
constexpr auto& deferred = asio::experimental::deferred;
#endif

/// What a program finds wrong with itself; reported without allocating.
struct broken {
  const char* what;
};
void expect(bool condition, const char* what) {
  if (!condition) throw broken{what};
}

struct failure {};  // what programs throw themselves

/// bad_alloc, maybe together with what the program threw itself.
bool is_no_memory(const std::exception_ptr& e) {
  try {
    std::rethrow_exception(e);
  } catch (const std::bad_alloc&) {
    return true;
  } catch (const tandem::exception_group& group) {
    bool some = false;
    for (const auto& one : group.exceptions()) some = some || is_no_memory(one);
    return some;
  } catch (...) {
    return false;
  }
}
/// What a gather has caught itself unless a stop comes first.
bool is_own_failure(const std::exception_ptr& e) {
  try {
    std::rethrow_exception(e);
  } catch (const failure&) {
    return true;
  } catch (...) {
    return false;
  }
}
/// Allocates nothing.
template <std::size_t N>
void copy_text(const std::exception_ptr& e, char (&to)[N]) {
  const auto copy = [&](const char* text) { std::snprintf(to, N, "%s", text); };
  try {
    std::rethrow_exception(e);
  } catch (const broken& b) {
    copy(b.what);
  } catch (const std::exception& x) {
    copy(x.what());
  } catch (...) {
    copy("an exception of unknown type");
  }
}

/// Balance of everything that a run may leave behind.
struct balance {
  long frames = kit::live_frames();
  int objects = counted::live();
#if defined(TANDEM_PLAIN_FRAMES)  // elsewhere the free list keeps blocks
  long blocks = memory::blocks;
#endif

  /// Nothing of ours was left behind in between.
  bool has_all_of_ours(const balance& before) const { return frames == before.frames && objects == before.objects; }
  /// Nor any memory.
  bool has_all(const balance& before) const {
#if defined(TANDEM_PLAIN_FRAMES)
    if (blocks != before.blocks) return false;
#endif
    return has_all_of_ours(before);
  }
};

/// How a run went in which an allocation failed.
struct verdict {
  bool failed = false;                                       // the allocation was asked for
  enum { all_well, no_memory, lost, wrong } end = all_well;  // what was thrown
  char text[100] = "";                                       // of what was wrong
  balance before, after;
  bool other_threads = false;  // which keep memory of Asio's for their next operation

  bool clean() const { return other_threads ? after.has_all_of_ours(before) : after.has_all(before); }
  bool good() const { return clean() && (end == all_well || (failed && end == no_memory)); }
};

/// A strand of Asio that has no memory to go on keeps its lock, and whatever waits for it waits for ever.
struct lost_strand {};

template <class Run>
verdict attempt(Run& run, long n, long width, bool other_threads) {
  verdict v;
  v.other_threads = other_threads;
  std::exception_ptr error;
  {
    memory::failing fails(n, width);
    try {
      run();
    } catch (const lost_strand&) {
      v.end = verdict::lost;
    } catch (...) {
      error = std::current_exception();
    }
    fails.stop();
    v.failed = fails.has_happened(n);
  }
  if (error) v.end = is_no_memory(error) ? verdict::no_memory : verdict::wrong;
  if (v.end == verdict::wrong) copy_text(error, v.text);
  error = nullptr;
  v.after = balance();
  const auto patience = std::chrono::steady_clock::now() + 1s;  // other threads may still be at it
  while (!v.clean() && std::chrono::steady_clock::now() < patience) {
    std::this_thread::yield();
    v.after = balance();
  }
  return v;
}

template <class Run>
void warm_up(Run& run) {  // makes what is made once in a program
  for (int i = 0; i != 2; ++i) {
    try {
      run();
    } catch (const broken& b) {
      FAIL(b.what);
    }
  }
}

constexpr long widths[] = {1, 2, 5};  // how many allocations fail in a row

/// Fails every allocation of `run()` in turn, and a few in a row, until it needs no more. Each time it must either do
/// all that it should or throw std::bad_alloc, and leave nothing behind.
template <class Run>
void fail_each_allocation(Run run, bool other_threads = false) {
  warm_up(run);
  for (const long width : widths) {
    for (long n = 0;; ++n) {
      const verdict v = attempt(run, n, width, other_threads);
      if (!v.good()) {
        INFO("allocation " << n << " and " << width - 1 << " more fail: " << v.text);
        CHECK(v.after.frames == v.before.frames);
        CHECK(v.after.objects == v.before.objects);
        CHECK(v.clean());
        REQUIRE(v.good());
      }
      if (v.failed) continue;
      CHECK(n > 0);
      break;
    }
  }
}

/// For programs in which Asio may terminate: each run is a process of its own. How many terminated, lost a strand, or
/// left memory behind, though no frame.
struct casualties {
  int terminated = 0, lost = 0, leaks_of_asio = 0;
};
template <class Run>
casualties fail_each_allocation_in_a_child(Run run) {
  warm_up(run);
  casualties c;
  enum : int { needed_no_more = 10, good, lost, leaks_of_asio, leaks, wrong_error };
  for (long n = 0;; ++n) {
    const int code = kit::in_child([&]() -> int {
      const verdict v = attempt(run, n, 1, false);
      if (v.end == verdict::lost) return lost;
      if (!v.after.has_all_of_ours(v.before)) return leaks;
      if (!v.clean()) return leaks_of_asio;
      return !v.good() ? wrong_error : v.failed ? good : needed_no_more;
    });
    INFO("allocation " << n << " fails");
    CAPTURE(code);
    if (code == kit::terminated)
      ++c.terminated;
    else if (code == lost)
      ++c.lost;
    else if (code == leaks_of_asio)
      ++c.leaks_of_asio;
    else
      REQUIRE((code == good || code == needed_no_more));
    if (code == needed_no_more) return c;
  }
}

/// The same on virtual time for a program `main(state)`, each time as it is, asked to stop before every resumption,
/// and with its context destroyed after every one. `check(state, how)`: what must hold afterwards.
template <class State, class Main, class Check>
void fail_each_allocation_at_every_step(Main main, Check check) {
  struct made final : kit::scenario {
    explicit made(Main& m) : main_(m) {}
    task<> main() override { return main_(state); }
    void check(kit::end) override {}
    State state{};
    Main& main_;
  };
  const auto run = [&](long n, long width, kit::run_plan plan) {
    const balance before;
    kit::run_result r{kit::end::failed, 0, nullptr};
    bool failed;
    {
      made m(main);
      {
        memory::failing fails(n, width);
        try {
          r = kit::run_once(m, plan);
        } catch (...) {
          r.error = std::current_exception();
        }
        fails.stop();
        failed = fails.has_happened(n);
      }
      const bool stopped = plan.stop_before != 0;
      const bool as_planned = r.how == kit::end::returned || r.how == kit::end::destroyed ||
                              (r.how == kit::end::cancelled && stopped) ||
                              (r.how == kit::end::failed && r.error &&
                               ((failed && is_no_memory(r.error)) || (stopped && is_own_failure(r.error))));
      if (!as_planned || !check(m.state, r.how)) {
        char text[100] = "";
        if (r.error) copy_text(r.error, text);
        INFO("allocation " << n << " and " << width - 1 << " more fail, stopped before resumption " << plan.stop_before
                           << ", context destroyed after " << plan.destroy_after << ": " << text);
        CHECK(as_planned);
        REQUIRE(check(m.state, r.how));
      }
    }
    r.error = nullptr;
    if (const balance after; !after.has_all(before)) {
      INFO("allocation " << n << " and " << width - 1 << " more fail, stopped before resumption " << plan.stop_before
                         << ", context destroyed after " << plan.destroy_after);
      CHECK(after.frames == before.frames);
      CHECK(after.objects == before.objects);
      REQUIRE(after.has_all(before));
    }
    return std::pair(failed, r.steps);
  };
  const auto once = [&] {
    made m(main);
    kit::run_once(m, {});
  };
  warm_up(once);
  // With few schedules every third step, others for each allocation, so that all have their turn.
  const std::uint64_t every = kit::schedules() < 1'000 ? 3 : 1;
  for (const long width : {1, 3}) {
    for (long n = 0;; ++n) {
      const auto [failed, steps] = run(n, width, {});
      const auto first = static_cast<std::uint64_t>(n) % every;
      for (std::uint64_t at = 1 + first; at <= steps; at += every) run(n, width, {.seed = 0, .stop_before = at});
      for (std::uint64_t at = first; at <= steps; at += every)
        run(n, width, {.seed = 0, .stop_before = 0, .destroy_after = at});
      if (!failed) break;
    }
  }
}

// ---- programs ------------------------------------------------------------------------------------------------------

task<int> worker(int i, counted = counted()) {
  counted here;
  co_await tandem::sleep_for(std::chrono::milliseconds(i));
  co_return i;
}
task<int> gives(int i, counted = counted()) {
  counted here;
  co_await tandem::yield();
  co_return i;
}
task<> sleeper(counted = counted()) {
  counted here;
  co_await tandem::sleep_for(1ms);
}
task<int> failer(counted = counted()) {
  counted here;
  co_await tandem::sleep_for(1ms);
  throw failure();
}

task<> sleeps() {
  counted here;
  co_await tandem::sleep_for(1s);
  co_await tandem::yield();
  co_await tandem::sleep_until(tandem::clock::now() + 1s);
  std::vector<task<>> many;  // more timers than there is room for at first
  for (int i = 0; i != 20; ++i) many.push_back(sleeper());
  co_await tandem::gather(std::move(many));
  co_await tandem::this_task::checkpoint();
}

task<int> chain(int depth, counted = counted()) {
  counted here;
  if (depth == 0) {
    co_await tandem::yield();
    co_return 0;
  }
  co_return 1 + co_await chain(depth - 1);
}

task<> gathers() {
  auto [a, b, c] = co_await tandem::gather(worker(2), sleeper(), tandem::sleep_for(1ms));
  (void)b;
  (void)c;
  expect(a == 2, "gather of a few");

  std::vector<task<int>> many;
  for (int i = 0; i != 5; ++i) many.push_back(worker(i));
  auto all = co_await tandem::gather(std::move(many));
  expect(all.size() == 5 && all[4] == 4, "gather of many");

  auto [ok, bad] = co_await tandem::gather(tandem::return_exceptions, worker(1), failer());
  expect(ok || is_no_memory(ok.error()), "outcome of a value");
  expect(!bad, "outcome of a failure");

  std::vector<task<int>> some;
  for (int i = 0; i != 3; ++i) some.push_back(i == 1 ? failer() : worker(i));
  auto outcomes = co_await tandem::gather(tandem::return_exceptions, std::move(some));
  expect(outcomes.size() == 3 && !outcomes[1], "outcomes of many");

  bool thrown = false;
  try {
    co_await tandem::gather(worker(1), failer(), worker(5));
  } catch (const failure&) {
    thrown = true;
  }
  expect(thrown, "a failing gather");
}

task<> fans_out() {
  std::vector<int> ids{1, 2, 3, 4, 5, 6};
  auto fetch = [](int i) { return worker(i); };
  auto values = co_await tandem::transform(ids, fetch, {.limit = 2});
  expect(values == ids, "transform");
  auto some_fail = [](int i) { return i == 3 ? failer() : worker(i); };
  auto outcomes = co_await tandem::transform(tandem::return_exceptions, ids, some_fail, {.limit = 3});
  expect(outcomes.size() == ids.size() && !outcomes[2], "transform to outcomes");
  co_await tandem::for_each(std::move(ids), fetch);
}

task<> limits() {
  expect(co_await tandem::timeout(1s, worker(1)) == 1, "timeout in time");
  bool late = false;
  try {
    co_await tandem::timeout(1ms, worker(100));
  } catch (const tandem::timed_out&) {
    late = true;
  }
  expect(late, "timeout");
  auto in_time = co_await tandem::try_timeout(1s, worker(1));
  expect(in_time == 1, "try_timeout in time");
  auto too_late = co_await tandem::try_timeout(1ms, tandem::sleep_for(1s));
  expect(!too_late, "try_timeout");
  co_await tandem::deadline(tandem::clock::now() + 1s, sleeper());
}

/// What must come in pairs, whatever happens.
struct pairs {
  int bodies = 0, clean_ups = 0;
  int acquired = 0, released = 0;
  void check() const {
    expect(bodies == clean_ups, "a clean-up was lost");
    expect(acquired == released, "a resource was lost");
  }
};
class resource {
 public:
  explicit resource(pairs& p) : pairs_(&p) { ++p.acquired; }
  pairs& of() const { return *pairs_; }

 private:
  counted here_;
  pairs* pairs_;
};

task<> clean_up() {
  counted here;
  co_await tandem::sleep_for(1ms);
}
task<int> body(pairs& p, int i, counted = counted()) {
  ++p.bodies;
  co_return co_await worker(i);
}

task<> protections(pairs& p) {
  expect(co_await tandem::shield(worker(1)) == 1, "shield");

  auto cleans = [&](const tandem::ending&) {
    ++p.clean_ups;  // before the frame of the clean-up is made: its failing is reported, not a loss
    return clean_up();
  };
  expect(co_await tandem::finally(body(p, 2), cleans) == 2, "finally");
  bool late = false;
  try {
    co_await tandem::timeout(1ms, tandem::finally(body(p, 100), cleans));
  } catch (const tandem::timed_out&) {
    late = true;
  }
  expect(late, "timeout around finally");

  auto acquire = [&]() -> task<resource> {
    co_await tandem::sleep_for(1ms);
    co_return resource(p);
  };
  auto use = [](resource& r) -> task<int> {
    expect(r.of().acquired > 0, "the resource");
    co_return co_await worker(3);
  };
  auto release = [](resource& r, const tandem::ending&) {
    ++r.of().released;
    return clean_up();
  };
  expect(co_await tandem::with_resource(acquire, use, release) == 3, "with_resource");
}

task<> operations() {
  counted here;
  const asio::any_io_executor executor = co_await tandem::this_task::executor;
  co_await asio::post(executor, use_task);
  asio::steady_timer timer(executor, 0s);
  co_await timer.async_wait(use_task);
  auto later = timer.async_wait(deferred);
  co_await std::move(later);

  asio::local::stream_protocol::socket near(executor), far(executor);
  asio::local::connect_pair(near, far);
  std::array<char, 3> sent{'a', 'b', 'c'}, received{};
  auto writes = asio::async_write(near, asio::buffer(sent), use_task);
  auto reads = asio::async_read(far, asio::buffer(received), use_task);
  auto [written, read] = co_await tandem::gather(std::move(writes), std::move(reads));
  expect(written == 3 && read == 3 && received == sent, "a round trip");
  auto fails_later = []() -> task<> {
    co_await tandem::yield();
    throw failure();
  };
  bool stopped = false;
  try {
    co_await tandem::gather(far.async_read_some(asio::buffer(received), use_task), fails_later());
  } catch (const failure&) {
    stopped = true;
  }
  expect(stopped, "a read that is stopped");
}

task<> asio_coroutines() {
  auto other = [](int i) -> asio::awaitable<int> {
    counted here;
    asio::steady_timer timer(co_await asio::this_coro::executor, 0s);
    co_await timer.async_wait(asio::use_awaitable);
    co_return i;
  };
  expect(co_await other(3) == 3, "asio::awaitable");
}

task<> spawns() {
  const asio::any_io_executor executor = co_await tandem::this_task::executor;
  expect(co_await tandem::spawn(executor, worker(1), use_task) == 1, "spawn with use_task");
  auto operation = tandem::spawn(executor, worker(2), deferred);
  expect(co_await std::move(operation) == 2, "spawn with deferred");
  auto too_late = co_await tandem::try_timeout(1ms, tandem::spawn(executor, worker(100), use_task));
  expect(!too_late, "a spawn that is stopped");
  tandem::spawn(executor, sleeper(), asio::detached);
  co_await tandem::sleep_for(1s);
}

task<> futures() {
  const asio::any_io_executor executor = co_await tandem::this_task::executor;
  auto future = tandem::spawn(executor, worker(1), asio::use_future);
  co_await tandem::sleep_for(1s);
  expect(future.get() == 1, "spawn with use_future");  // a thread of Asio's sets it
}

task<> calls() {
  auto twice = [](int i, const counted&) { return 2 * i; };
  auto call = tandem::to_thread(twice, 21, counted());
  expect(co_await std::move(call) == 42, "to_thread");
  auto fails = [](std::stop_token) -> int { throw failure(); };
  bool thrown = false;
  try {
    co_await tandem::to_thread(fails);
  } catch (const failure&) {
    thrown = true;
  }
  expect(thrown, "to_thread that throws");
  auto left_behind = tandem::to_thread(tandem::abandon_on_cancel, twice, 1, counted());
  expect(co_await std::move(left_behind) == 2, "to_thread with abandon_on_cancel");
}

task<> on_its_own_loop() {
  const asio::any_io_executor executor = co_await tandem::this_task::executor;
  expect(co_await tandem::on(executor, worker(4)) == 4, "on its own loop");
  auto too_late = co_await tandem::try_timeout(1ms, tandem::on(executor, worker(100)));
  expect(!too_late, "on its own loop, stopped");
}

/// What coroutines wait in line for.
struct lines {
  tandem::semaphore some{2};
  tandem::concurrent_semaphore shared{1};
  tandem::mutex one;
  tandem::event done;
  tandem::condition changed;
  int stock = 0;
  bool all_back() const {
    return some.available() == 2 && some.waiting() == 0 && shared.available() == 1 && shared.waiting() == 0 &&
           !one.is_locked() && one.waiting() == 0;
  }
};

task<> hand_overs(lines& l) {
  auto uses = [&](std::size_t n, counted = counted()) -> task<> {
    tandem::permit p = co_await l.some.acquire(n);
    tandem::concurrent_permit q = co_await l.shared.acquire();
    tandem::mutex_lock lock = co_await l.one.lock();
    co_await tandem::yield();
  };
  auto races = [&](counted = counted()) -> task<> {
    auto first = co_await tandem::race(l.some.acquire(2), l.one.lock(), l.done.wait(), tandem::sleep_for(9s));
    expect(first.index() < 3, "a race of waits");
  };
  auto buys = [&](counted = counted()) -> task<> {
    co_await l.changed.wait([&] { return l.stock != 0; });
    --l.stock;
  };
  auto sells = [&](counted = counted()) -> task<> {
    co_await tandem::sleep_for(1s);
    ++l.stock;
    l.changed.notify_one();
    l.done.set();
  };
  auto late = co_await tandem::try_timeout(0s, l.changed.wait());
  expect(!late, "nobody notifies");
  co_await tandem::gather(uses(1), uses(2), races(), uses(1), buys(), sells(), l.done.wait());
  expect(l.stock == 0 && l.all_back(), "hand-overs");
}

/// Queues, and what has become of each item.
struct shop {
  class parcel {
   public:
    explicit parcel(unsigned number) noexcept : number_(number) {}
    unsigned number() const noexcept { return number_; }

   private:
    counted here_;
    unsigned number_;
  };
  tandem::queue<parcel> meets{0}, small{1}, eight{8}, endless{tandem::unbounded};
  tandem::concurrent_queue<parcel> shared{1};
  std::array<bool, 64> accepted{}, popped{};

  void pops(const parcel& p) { expect(!std::exchange(popped[p.number()], true), "an item comes out once"); }
  /// Takes out what is left, so that it can be seen whether all that was accepted is there.
  bool nothing_is_lost() {
    const auto is_whole = [&](auto& q) {
      const tandem::queue_stats s = q.stats();
      while (const auto p = q.try_pop()) pops(*p);
      return s.pushed == s.popped + s.size && s.pushing + s.popping == 0;
    };
    bool all = is_whole(meets) && is_whole(small) && is_whole(eight) && is_whole(endless) && is_whole(shared);
    for (std::size_t i = 0; i != accepted.size(); ++i) all = all && (popped[i] || !accepted[i]);
    return all;
  }
};

/// No generic lambda, as those below: clang 18 crashes on that.
template <class Queue>
task<> sells_all(shop& s, Queue& q, unsigned from, unsigned to, counted = counted()) {
  std::vector<shop::parcel> some;
  for (unsigned i = from; i != to; ++i) some.emplace_back(i);
  const std::size_t count = co_await q.push_range(std::move(some));
  expect(count == to - from, "a range that is pushed");
  for (unsigned i = from; i != to; ++i) s.accepted[i] = true;
}

task<> trades(shop& s) {
  auto sells = [&](auto& q, unsigned from, unsigned to, counted = counted()) -> task<> {
    for (unsigned i = from; i != to; ++i) s.accepted[i] = co_await q.push(shop::parcel(i));
  };
  auto buys = [&](auto& q, unsigned count, counted = counted()) -> task<> {
    for (unsigned i = 0; i != count; ++i) {
      const std::optional<shop::parcel> p = co_await q.pop();
      s.pops(p.value());
    }
  };
  auto buys_some = [&](auto& q, std::size_t count, std::size_t most, counted = counted()) -> task<> {
    while (count != 0) {
      const auto some = co_await q.pop_some(most);
      expect(!some.empty() && some.size() <= std::min(count, most), "some that are popped");
      for (const auto& p : some) s.pops(p);
      count -= some.size();
    }
  };
  auto buys_one = [&](auto& one, auto& other, counted = counted()) -> task<> {
    auto first = co_await tandem::race(one.pop(), other.pop(), tandem::sleep_for(9s));
    expect(first.index() < 2, "a race of pops");
    s.pops((first.index() == 0 ? first.template get<0>() : first.template get<1>()).value());
  };
  auto finishes = [&](auto& q, unsigned count, counted = counted()) -> task<> {
    co_await tandem::yield();
    for (unsigned i = 0; i != count; ++i) q.task_done();
  };
  auto late = co_await tandem::try_timeout(0s, s.small.pop());
  expect(!late, "nothing is there");
  co_await tandem::gather(sells(s.meets, 0, 2), buys_one(s.small, s.meets), buys_some(s.meets, 1, 2));
  co_await tandem::gather(buys(s.small, 3), buys_one(s.meets, s.small), sells(s.small, 2, 6));
  co_await tandem::gather(s.small.join(), finishes(s.small, 4));
  co_await tandem::gather(sells_all(s, s.eight, 6, 15), buys_one(s.eight, s.small));  // the ninth waits
  co_await tandem::gather(sells_all(s, s.endless, 15, 35), buys_some(s.eight, 8, 3), buys_some(s.endless, 20, 12));
  co_await tandem::gather(buys(s.shared, 1), sells_all(s, s.shared, 35, 38), buys_some(s.shared, 2, 2));
  const auto pops_late = [&](std::optional<shop::parcel> p) { s.pops(p.value()); };
  auto both = tandem::race(s.shared.pop(), s.shared.pop()).on_discard(pops_late);
  auto waits_for_either = [&](counted = counted()) -> task<> {
    const auto first = co_await std::move(both);
    s.pops(first.value().value());
  };
  // Not noted as accepted: an arm that has popped it is destroyed with it if the context goes before the race is over.
  co_await tandem::gather(waits_for_either(), s.shared.push(shop::parcel(38)));
  s.endless.close();
  const auto last = co_await s.endless.pop();
  expect(!last, "the end of a queue");
  for (unsigned i = 0; i != 39; ++i) expect(s.popped[i], "trades");
}

/// A pool, and the handles of jobs that it accepted.
struct crew {
  tandem::worker_pool pool{{.workers = 1, .backlog = 1}};
  std::array<tandem::task_handle<int>, 8> handles;
  int begun = 0, ended = 0;

  bool all_have_ended() const {
    const tandem::worker_pool_stats s = pool.stats();
    bool all = s.running + s.queued + s.submitting == 0 && s.submitted == s.succeeded + s.failed + s.cancelled;
    for (const auto& h : handles) all = all && (!h || h.done());
    return all && begun == ended;
  }
};

task<int> job(crew& c, int i, counted = counted()) {
  ++c.begun;
  const kit::at_exit ends([&] { ++c.ended; });
  co_return co_await worker(i);
}
task<int> failing_job(crew& c, counted = counted()) {
  co_await job(c, 1);
  throw failure();
}

task<> jobs(crew& c) {
  auto& h = c.handles;
  for (std::size_t i = 0; i != 3; ++i)  // the third waits
    h[i] = co_await c.pool.submit(job, std::ref(c), static_cast<int>(i) + 1, counted());
  {
    const auto none = c.pool.try_submit(job, std::ref(c), 4, counted());
    const bool is_stopped = co_await tandem::this_task::cancel_requested;  // who was in line has left it then
    expect(!none || (is_stopped && none.done()) || c.pool.stats().failed != 0,
           "no place is left, unless a job has no memory to begin, or a stop lets none begin any more");
  }
  for (std::size_t i = 0; i != 3; ++i) expect(co_await h[i] == static_cast<int>(i) + 1, "what a job gives");
  h[3] = c.pool.try_submit(job, std::ref(c), 4, counted());
  co_await c.pool.drain();
  expect(co_await h[3] == 4, "what a job gives that has found a place");

  h[4] = co_await c.pool.submit(failing_job, std::ref(c), counted());
  bool thrown = false;
  try {
    co_await h[4];
  } catch (const failure&) {
    thrown = true;
  }
  expect(thrown, "a job fails");
  for (int i = 0; i != 2; ++i) co_await c.pool.submit(failing_job, std::ref(c), counted());
  thrown = false;
  try {
    co_await c.pool.drain();
  } catch (const failure&) {
    thrown = true;  // one alone, if there is no memory for the group
  } catch (const tandem::exception_group& group) {
    if (is_no_memory(std::current_exception())) throw;
    thrown = group.exceptions().size() == 2;
  }
  expect(thrown || co_await tandem::this_task::cancel_requested, "jobs fail that nobody has looked at");

  {
    tandem::worker_pool brief{{.workers = 1}};
    for (int i = 0; i != 2; ++i) co_await brief.submit(job, std::ref(c), 100, counted());
    co_await tandem::yield();
  }
  h[5] = co_await c.pool.submit(job, std::ref(c), 100, counted());
  h[6] = co_await c.pool.submit(job, std::ref(c), 100, counted());
  auto waits = [&](counted = counted()) -> task<> {
    bool refused = c.pool.stats().queued == 0;  // a job has ended for want of memory, or a stop
    try {
      h[7] = co_await c.pool.submit(job, std::ref(c), 1, counted());
    } catch (const tandem::worker_pool_closed&) {
      refused = true;
    }
    expect(refused, "nobody has a place after a cancel");
  };
  auto cancels = [&](counted = counted()) -> task<> {
    co_await tandem::yield();
    c.pool.cancel();
  };
  co_await tandem::gather(waits(), cancels());
  co_await c.pool.drain();
  for (std::size_t i = 5; i != 7; ++i) {
    bool stopped = false;
    try {
      co_await h[i];
    } catch (const tandem::cancelled&) {
      stopped = true;
    }
    expect(stopped, "a job is cancelled");
  }
}

/// A scheduler, and the handles of jobs that it accepted.
struct office {
  tandem::priority_scheduler scheduler{{.ageing = 1h}};
  std::array<tandem::priority_handle<int>, 10> handles;
  int begun = 0, ended = 0;

  bool all_have_ended() const {
    memory::spare spare;
    const tandem::priority_scheduler_stats s = scheduler.stats();
    bool all = s.running + s.queued == 0 && s.submitted == s.succeeded + s.failed + s.cancelled + s.expired;
    for (const tandem::priority_stats& p : s.priorities) all = all && p.running + p.queued == 0;
    for (const auto& h : handles) all = all && (!h || h.done());
    return all && begun == ended;
  }
};

task<int> piece(office& o, int i, counted = counted()) {
  ++o.begun;
  const kit::at_exit ends([&] { ++o.ended; });
  co_await tandem::this_task::checkpoint();
  co_return co_await worker(i);
}
task<int> failing_piece(office& o, counted = counted()) {
  co_await piece(o, 1);
  throw failure();
}
/// Submits another of its own priority, and one less urgent, to which it lends its own: without memory for that nothing
/// is lent. It makes room for them, since it keeps its slot.
task<int> needs_others(office& o, counted = counted()) {
  ++o.begun;
  const kit::at_exit ends([&] { ++o.ended; });
  const int mine = co_await tandem::this_task::priority;
  o.scheduler.resize(2);
  auto inherits = o.scheduler.submit(piece, std::ref(o), 1, counted());
  expect(inherits.done() || inherits.priority() == mine, "a job's job has its priority");
  auto other = o.scheduler.submit({.priority = 40}, piece, std::ref(o), 2, counted());
  const int sum = co_await other + co_await inherits;
  expect(other.priority() == 40 || other.priority() == mine, "what is lent");
  o.scheduler.resize(1);
  co_return sum;
}

/// A submit for which there is no memory changes nothing: no figure, and no handle.
template <class Function>
void puts_in_line(office& o, std::size_t i, tandem::priority_job_options options, Function&& function, int argument) {
  const auto figures = [&] {
    memory::spare spare;
    tandem::priority_scheduler_stats s = o.scheduler.stats();
    return std::array<std::uint64_t, 4>{s.submitted, s.queued, s.running, s.failed};
  };
  const auto before = figures();
  try {
    if constexpr (std::is_invocable_v<Function, office&, int, counted>)
      o.handles[i] = o.scheduler.submit(options, function, std::ref(o), argument, counted());
    else
      o.handles[i] = o.scheduler.submit(options, function, std::ref(o), counted());
  } catch (const std::bad_alloc&) {
    expect(figures() == before && !o.handles[i], "a submit that throws");
    throw;
  }
}

task<> errands(office& o) {
  auto& h = o.handles;
  auto& scheduler = o.scheduler;
  const auto soon = tandem::clock::now() + 1h;
  puts_in_line(o, 0, {.priority = 3}, piece, 1);
  puts_in_line(o, 1, {.priority = -1, .deadline = soon}, piece, 2);
  puts_in_line(o, 2, {.priority = 3, .deadline = soon}, piece, 3);
  const int before = h[2].priority();
  try {
    h[2].reprioritize(17);
    expect(h[2].priority() == 17, "another priority");
  } catch (const std::bad_alloc&) {
    expect(h[2].priority() == before, "no other priority");
    throw;
  }
  for (std::size_t i = 0; i != 3; ++i) expect(co_await h[i] == static_cast<int>(i) + 1, "what a job gives");

  puts_in_line(o, 3, {.priority = 5}, needs_others, 0);
  expect(co_await h[3] == 3, "what a job gives that waits for others");
  co_await scheduler.drain();

  puts_in_line(o, 4, {.priority = 6, .deadline = tandem::clock::now() + 1s}, piece, 4);
  puts_in_line(o, 5, {.priority = 7, .deadline = tandem::clock::now()}, piece, 5);
  scheduler.pause();
  co_await tandem::sleep_for(2s);
  scheduler.resume();
  for (std::size_t i = 4; i != 6; ++i) {
    bool refused = false;
    try {
      co_await h[i];
    } catch (const tandem::job_expired&) {
      refused = true;
    }
    expect(refused, "a deadline");
  }

  for (int i = 0; i != 2; ++i) scheduler.submit({.priority = i}, failing_piece, std::ref(o), counted());
  bool thrown = false;
  try {
    co_await scheduler.drain();
  } catch (const failure&) {
    thrown = true;  // one alone, if there is no memory for the group
  } catch (const tandem::exception_group& group) {
    if (is_no_memory(std::current_exception())) throw;
    thrown = group.exceptions().size() == 2;
  }
  expect(thrown || co_await tandem::this_task::cancel_requested, "jobs fail that nobody has looked at");

  {
    tandem::priority_scheduler brief;
    for (int i = 0; i != 2; ++i) brief.submit({.priority = i}, piece, std::ref(o), 100, counted());
    co_await tandem::yield();
  }
  puts_in_line(o, 6, {.priority = 8}, piece, 100);
  co_await tandem::yield();
  puts_in_line(o, 7, {.priority = 1}, piece, 100);  // for which the other leaves its slot
  co_await tandem::yield();
  scheduler.cancel();
  co_await scheduler.drain();
  for (std::size_t i = 6; i != 8; ++i) {
    bool stopped = false;
    try {
      co_await h[i];
    } catch (const tandem::cancelled&) {
      stopped = true;
    }
    expect(stopped, "a job is cancelled");
  }
}

tandem::generator<int> numbers(int n, counted = counted()) {
  const auto closes = []() -> task<> { co_await tandem::yield(); };
  co_await tandem::on_exit(closes);
  for (int i = 0; i != n; ++i) {
    co_await tandem::yield();
    co_yield i;
  }
}
tandem::generator<int> silence(counted = counted()) {
  const auto closes = []() -> task<> { co_await tandem::yield(); };
  co_await tandem::on_exit(closes);
  co_await tandem::sleep_for(1h);
  co_yield 1;
}
task<int> twice_as_much(int i) {
  co_await tandem::yield();
  co_return 2 * i;
}

task<> flows() {
  namespace streams = tandem::streams;
  int sum = 0;
  auto adds = [&](int i) -> task<> {
    sum += i;
    co_return;
  };
  auto is_small = [](int i) { return i < 8; };
  co_await for_each(numbers(4) | streams::map(twice_as_much) | streams::filter(is_small), adds, {.limit = 1});
  expect(std::exchange(sum, 0) == 12, "a stream");
  co_await for_each(numbers(4) | streams::map(twice_as_much, {.limit = 2}) | streams::take(3), adds, {.limit = 2});
  expect(std::exchange(sum, 0) == 6, "a stream that works ahead, and is left early");
  auto unordered = numbers(4) | streams::map(twice_as_much, {.limit = 2, .ordered = false});
  auto both = streams::merge(std::move(unordered), numbers(2)) | streams::chunk(2, 1s);
  while (const auto some = co_await both.next())
    for (const int i : *some) sum += i;
  expect(sum == 13, "streams that are merged");
  auto left = numbers(4) | streams::buffer(2);
  co_await left.next();
  co_await left.close();
  auto late = co_await tandem::try_timeout(1s, silence().next());
  expect(!late, "a generator, stopped");
}

task<> gives_way() { co_await tandem::yield(); }
/// Boats for hire.
struct harbour {
  class boat {
   public:
    task<> begin() { return gives_way(); }
    task<> commit() { return gives_way(); }
    task<> rollback() { return gives_way(); }

   private:
    counted here_;
  };
  static task<boat> build() {
    co_await tandem::yield();
    co_return boat();
  }
  static task<bool> looks_good(boat&) {
    co_await tandem::yield();
    co_return true;
  }
  static task<> clean(boat&) { co_await tandem::yield(); }
  tandem::resource_pool<boat> pool{
      {.min = 1, .max = 2, .check_after = 0s, .create = build, .check = looks_good, .reset = clean}};
  bool is_quiet() const {
    const auto s = pool.stats();
    return s.lent == 0 && s.waiting == 0 && s.size == s.idle + s.looked_after;
  }
};

task<> hires(harbour& h) {
  auto sails = [&](counted = counted()) -> task<> {
    auto boat = co_await h.pool.acquire();
    co_await tandem::yield();
  };
  auto waits_a_little = [&](counted = counted()) -> task<> {
    auto first = co_await tandem::race(h.pool.acquire(), tandem::yield());
    if (first.index() == 0) first.get<0>().discard();
  };
  co_await tandem::gather(sails(), sails(), waits_a_little(), sails());
  auto trip = [&](harbour::boat&) -> task<> { co_await tandem::yield(); };
  co_await tandem::with_transaction(h.pool, trip);
  co_await h.pool.close();
  expect(h.pool.stats().size == 0, "a pool that is closed");
}

/// Books that somebody fetches once.
template <template <class...> class Cache>
struct library {
  struct book {
    explicit book(int n) : number(n) {}
    book(const book& o) : number(o.number) {}
    int number;
    counted here{};
  };
  Cache<int, book> shelf{{.capacity = 3, .ttl = 1h}};
  bool is_quiet() const { return shelf.stats().loading == 0 && shelf.size() <= 3; }
};

template <class Library>
task<> reads(Library& l) {
  using book = typename Library::book;
  auto fetch = [](int n, counted = counted()) -> task<book> {
    co_await tandem::yield();
    co_return book(n);
  };
  auto fetch_all = [](std::vector<int> all, counted = counted()) -> task<std::vector<book>> {
    co_await tandem::yield();
    std::vector<book> books;
    for (const int n : all) books.emplace_back(n);
    co_return books;
  };
  auto asks = [&](int n) -> task<> {
    const book b = co_await l.shelf.get(n, fetch);
    expect(b.number == n, "a book");
  };
  auto leaves = [&](int n) -> task<> {
    auto first = co_await tandem::race(l.shelf.get(n, fetch), tandem::yield());
    if (first.index() == 0) expect(first.template get<0>().number == n, "a book in time");
  };
  auto changes = [&]() -> task<> {
    l.shelf.put(2, book(2));
    co_await tandem::yield();
    l.shelf.erase(1);
  };
  co_await tandem::gather(asks(1), asks(1), leaves(4), asks(2), changes());
  l.shelf.refresh(2, fetch);
  const std::vector<int> some{1, 2, 3, 4, 1};
  const std::vector<book> books = co_await l.shelf.get_many(some, fetch_all);
  expect(books.size() == 5 && books[4].number == 1, "many books");
  const auto fetch_alone = [&](int n) { return fetch(n); };
  const auto remembers = tandem::cached(fetch_alone, {.ttl = 10s, .refresh_ahead = 9s});
  for (int i = 0; i != 3; ++i) {
    const book b = co_await remembers(5);
    expect(b.number == 5, "a book that is remembered");
    co_await tandem::sleep_for(2s);
  }
}

/// Limits that several go through.
struct gates {
  tandem::rate_limiter turns{tandem::sliding_window{.limit = 2, .window = 1s},
                             tandem::token_bucket{.rate = 5, .burst = 3}};
  tandem::keyed_rate_limiter<int> each{tandem::gcra{.rate = 2}};
  tandem::adaptive_concurrency<> calls{{.initial = 1,
                                        .max = 2,
                                        .window = 1ms,
                                        .samples = 1,
                                        .max_waiting = 3,
                                        .max_wait = 1s,
                                        .max_wait_overloaded = 20ms}};
  bool is_quiet() const {
    const auto c = calls.stats();
    return turns.stats().waiting == 0 && c.waiting == 0 && c.in_flight == 0;
  }
};

task<> passes(gates& g) {
  auto takes_turn = [&](std::size_t n, counted = counted()) -> task<> {
    co_await g.turns.acquire(n);
    co_await g.each.acquire(static_cast<int>(n));
  };
  auto leaves = [&](counted = counted()) -> task<> {
    auto first = co_await tandem::race(g.turns.acquire(), tandem::sleep_for(100ms), g.calls.acquire());
    if (first.index() == 2) first.get<2>().release(tandem::concurrency_outcome::success);
  };
  auto calls = [&](int priority, counted = counted()) -> task<> {
    const auto call = [] { return tandem::sleep_for(10ms); };
    try {
      co_await g.calls.run({.priority = priority}, call);
    } catch (const tandem::overloaded&) {
    }
  };
  co_await tandem::gather(takes_turn(1), takes_turn(2), leaves(), takes_turn(2));
  co_await tandem::gather(calls(0), calls(1), calls(2), leaves(), calls(1), calls(0));
  expect(g.turns.try_acquire().retry_after >= 0s, "a verdict");
}

/// Calls that are guarded in every way.
struct guarded_calls {
  tandem::circuit_breaker breaker{{.window = 8, .min_calls = 8, .cool_down = 1s}};
  tandem::rate_limiter turns{tandem::token_bucket{.rate = 100, .burst = 3}};
  tandem::adaptive_concurrency<> control{{.initial = 2, .max = 2}};
  tandem::policy<tandem::total_timeout, tandem::retry_options, tandem::circuit_breaker&, tandem::rate_limiter&,
                 tandem::adaptive_concurrency<>&, tandem::attempt_timeout>
      all{tandem::total_timeout{1h}, tandem::retry_options{.base = 1ms}, breaker, turns, control, tandem::attempt_timeout{1s}};
  tandem::error_manager errors{tandem::error_manager_options{}};
  bool is_quiet() const { return control.in_flight() == 0 && control.stats().waiting == 0; }
};

task<> guards(guarded_calls& g) {
  g.errors.retry(tandem::error_kind::network, {.attempts = 2, .base = 1ms});
  g.errors.on(tandem::error_kind::network, [](tandem::error_info) -> task<> { co_await tandem::sleep_for(1ms); },
              {.deduplicate = 1s, .limit = 5});
  g.errors.fallback<int>(tandem::error_kind::network, [](const tandem::error_info&) { return 7; });
  auto fails = [&](int times) -> task<> {
    auto call = [&, here = std::make_shared<counted>()]() -> task<int> {
      co_await tandem::yield();
      if (times-- > 0) throw tandem::unavailable("not yet", 1ms);
      co_return 7;
    };
    auto guarded = [&] { return g.errors.guard(call, "call"); };
    tandem::call_trace trace;
    const int seven = co_await g.all.run(guarded, trace);
    expect(seven == 7, "a guarded call");
  };
  co_await tandem::gather(fails(0), fails(1), fails(5));
  co_await g.errors.drain();
}

/// Each part by itself; one for which there is no memory is left out, and the others must not notice.
task<> everything(pairs& p) {
  std::vector<task<>> parts;
  parts.reserve(8);
  parts.push_back(sleeps());
  parts.push_back(gathers());
  parts.push_back(fans_out());
  parts.push_back(limits());
  parts.push_back(protections(p));
  parts.push_back(operations());
  parts.push_back(spawns());
  parts.push_back(on_its_own_loop());
  int failed = 0;
  for (auto& part : parts) {
    try {
      co_await std::move(part);
    } catch (...) {
      if (!is_no_memory(std::current_exception())) throw;
      ++failed;
    }
  }
  expect(failed <= 5, "as many as allocations that failed");
}

/// Runs what is ready on all of the contexts, in turn, until nothing is.
template <class... Contexts>
void poll(Contexts&... contexts) {
  const auto once = [](asio::io_context& c) {
    c.restart();
    return c.poll();
  };
  for (int idle = 0; idle != 2;) idle = (once(contexts) + ...) == 0 ? idle + 1 : 0;
}

template <task<> (*Part)()>
void fail_part(bool other_threads = false) {
  fail_each_allocation([] { tandem::simulate(Part()); }, other_threads);
}
template <task<> (*Part)()>
void fail_part_at_every_step() {
  struct nothing {};
  fail_each_allocation_at_every_step<nothing>([](nothing&) { return Part(); }, [](nothing&, kit::end) { return true; });
}

}  // namespace

TEST_CASE("no memory for the threads of the pool: fewer threads, or bad_alloc if there is none") {
  // First, because threads do not survive a fork.
  int thrown = 0;
  for (long n = 0;; ++n) {
    enum : int { needed_no_more, good, threw, wrong };
    const int code = kit::in_child([n] {
      memory::failing fails(n, 1);
      try {
        tandem::simulate(calls());
      } catch (...) {
        return is_no_memory(std::current_exception()) ? threw : wrong;
      }
      return fails.has_happened(n) ? good : needed_no_more;
    });
    CAPTURE(n);
    REQUIRE((code == needed_no_more || code == good || code == threw));
    thrown += code == threw;
    if (code == needed_no_more) break;
  }
  CHECK(thrown > 0);
}

TEST_CASE("real_no memory for the Asio timer: sleepers wake all the same") {
  fail_each_allocation([] {
    asio::io_context context(1);
    tandem::detail::loop::alone_on(context);
    tandem::run(context, sleeper());
  });
}

TEST_CASE("no memory for a sleep: bad_alloc from the co_await or from simulate") { fail_part<sleeps>(); }
TEST_CASE("no memory for a chain of tasks: bad_alloc from the co_await") {
  fail_each_allocation([] { tandem::simulate(chain(200)); });
}
TEST_CASE("no memory in a gather: bad_alloc from the co_await, all children joined") { fail_part<gathers>(); }
TEST_CASE("no memory in transform and for_each: bad_alloc from the co_await, all children joined") {
  fail_part<fans_out>();
}
TEST_CASE("no memory for a time limit: bad_alloc from the co_await") { fail_part<limits>(); }
TEST_CASE("no memory in shield, finally and with_resource: bad_alloc, and every clean-up has been called") {
  fail_each_allocation([] {
    pairs p;
    try {
      tandem::simulate(protections(p));
    } catch (...) {
      p.check();
      throw;
    }
    p.check();
  });
}
TEST_CASE("no memory while waiting in lines: bad_alloc from where a frame was to be made, and everything is back") {
  fail_each_allocation([] {
    lines l;
    try {
      tandem::simulate(hand_overs(l));
    } catch (...) {
      expect(l.all_back(), "hand-overs without memory");
      throw;
    }
  });
}
TEST_CASE("no memory for items in queues: bad_alloc from where an item or a frame was to go, and no item is lost") {
  fail_each_allocation([] {
    shop s;
    try {
      tandem::simulate(trades(s));
    } catch (...) {
      expect(s.nothing_is_lost(), "trades without memory");
      throw;
    }
    expect(s.nothing_is_lost(), "trades");
  });
}
TEST_CASE("no memory for jobs: bad_alloc from submit, a handle or drain, and every job that was accepted has ended") {
  fail_each_allocation([] {
    crew c;
    try {
      tandem::simulate(jobs(c));
    } catch (...) {
      expect(c.all_have_ended(), "jobs without memory");
      throw;
    }
    expect(c.all_have_ended(), "jobs");
  });
}
TEST_CASE("no memory for jobs in order: bad_alloc from where they are used, and nothing is half done") {
  fail_each_allocation([] {
    office o;
    try {
      tandem::simulate(errands(o));
    } catch (...) {
      expect(o.all_have_ended(), "errands without memory");
      throw;
    }
    expect(o.all_have_ended(), "errands");
  });
}
TEST_CASE("no memory for generators and streams: bad_alloc from next() or for_each, all closed and joined") {
  fail_part<flows>();
}
TEST_CASE("no memory in a pool of resources: bad_alloc from acquire, or one resource less; none is lost") {
  fail_each_allocation([] {
    harbour h;
    tandem::simulate(hires(h));
    expect(h.is_quiet(), "a harbour");
  });
}
TEST_CASE("no memory in a cache: bad_alloc from get, get_many, put or refresh, and no load is left") {
  fail_each_allocation([] {
    library<tandem::lru_cache> l;
    tandem::simulate(reads(l));
    expect(l.is_quiet(), "a library");
  });
  fail_each_allocation([] {
    library<tandem::concurrent_lru_cache> l;
    tandem::simulate(reads(l));
    expect(l.is_quiet(), "a library for several loops");
  });
}
TEST_CASE("no memory at a limit: bad_alloc from acquire or run; no turn and no slot is lost") {
  fail_each_allocation([] {
    gates g;
    tandem::simulate(passes(g));
    expect(g.is_quiet(), "limits");
  });
}
TEST_CASE("no memory in a guarded call: bad_alloc from it, or a handler that is not told; nothing is lost") {
  fail_each_allocation([] {
    guarded_calls g;
    tandem::simulate(guards(g));
    expect(g.is_quiet(), "guards");
  });
}
TEST_CASE("no memory for an Asio operation: bad_alloc from the co_await") { fail_part<operations>(); }
TEST_CASE("no memory to spawn: bad_alloc from spawn or in the handler") { fail_part<spawns>(); }
TEST_CASE("no memory to run elsewhere: bad_alloc from on, or from the co_await") { fail_part<on_its_own_loop>(); }
TEST_CASE("no memory for a call on a thread: bad_alloc from to_thread or from the co_await") { fail_part<calls>(true); }
TEST_CASE("no memory for a future: bad_alloc from spawn or from the future") { fail_part<futures>(true); }

TEST_CASE("no memory for an asio::awaitable: bad_alloc from the co_await, or Asio terminates") {
  const auto run = [] { tandem::simulate(asio_coroutines()); };
  const casualties c = fail_each_allocation_in_a_child(run);
  CHECK(c.lost == 0);
}

TEST_CASE("no memory to run: bad_alloc from run") {
  // In a process each: a signal_set that Asio could not make leaves it a dangling pointer.
  const casualties c = fail_each_allocation_in_a_child([] { expect(tandem::run(gives(3)) == 3, "run"); });
  CHECK(c.terminated == 0);
  CHECK(c.lost == 0);
  CHECK(c.leaks_of_asio <= 1);  // of that signal_set
}

TEST_CASE("no memory for a spawn with a handler: bad_alloc from spawn, or the handler is called") {
  enum { here, elsewhere, stopped };
  for (const auto kind : {here, elsewhere, stopped}) {
    fail_each_allocation([kind] {
      asio::io_context context(1), other(1);
      tandem::detail::loop::alone_on(context);
      asio::cancellation_signal stop;
      int called = 0;
      std::exception_ptr error;
      auto handler = [&, mine = counted()](std::exception_ptr e, int) {
        ++called;
        error = e;
      };
      auto stoppable = asio::bind_cancellation_slot(stop.slot(), std::move(handler));
      if (kind == elsewhere)
        tandem::spawn(context, gives(1), asio::bind_executor(other.get_executor(), std::move(stoppable)));
      else
        tandem::spawn(context, gives(1), std::move(stoppable));
      context.poll_one();
      if (kind == stopped) stop.emit(asio::cancellation_type::terminal);
      poll(context, other);
      expect(called == 1, "the handler is called once");
      try {
        if (error) std::rethrow_exception(error);
      } catch (const tandem::cancelled&) {
        expect(kind == stopped, "nobody stopped it");
      }
    });
  }
}

TEST_CASE("no memory for a spawn whose handler belongs to the strand of a thread_pool: bad_alloc from spawn") {
  // An any_io_executor that large takes memory when it is told of work. What comes later is the strand's.
  asio::thread_pool pool(1);
  const asio::any_io_executor strand = asio::make_strand(pool);
  fail_each_allocation(
      [&] {
        memory::spare spare;
        asio::io_context context(1);
        tandem::detail::loop::alone_on(context);
        std::atomic<int> called{0};
        auto handler = [&, mine = counted()](std::exception_ptr, int) { ++called; };
        spare.end();
        tandem::spawn(context, gives(1), asio::bind_executor(strand, std::move(handler)));
        const memory::spare from_here_on;
        poll(context);
        while (called == 0) std::this_thread::yield();
      },
      true);
}

TEST_CASE("no memory for a tree on another context: bad_alloc from on, or from the co_await") {
  fail_each_allocation([] {
    asio::io_context context(1), other(1);
    tandem::detail::loop::alone_on(context);
    tandem::detail::loop::alone_on(other);
    std::exception_ptr error;
    int called = 0;
    auto main = [&]() -> task<> {
      expect(co_await tandem::on(other, gives(1)) == 1, "on another context");
      auto endless = []() -> task<> {
        for (;;) co_await tandem::yield();
      };
      auto fails_later = []() -> task<> {
        co_await tandem::yield();
        throw failure();
      };
      bool stopped = false;
      try {
        co_await tandem::gather(tandem::on(other, endless()), fails_later());
      } catch (const failure&) {
        stopped = true;
      }
      expect(stopped, "on another context, stopped");
    };
    tandem::spawn(context, main(), [&](std::exception_ptr e) {
      ++called;
      error = e;
    });
    poll(context, other);
    expect(called == 1, "the handler is called once");
    if (error) std::rethrow_exception(error);
  });
}

TEST_CASE("no memory for a tree on a thread_pool: bad_alloc from on, or from the co_await") {
  // Only this thread's allocations fail. The loop is there already: Asio cannot make a strand without memory.
  asio::thread_pool pool(1);
  const tandem::detail::loop::entry keeps_loop = tandem::detail::loop::of(pool.get_executor());
  fail_each_allocation(
      [&] {
        asio::io_context context(1);
        tandem::detail::loop::alone_on(context);
        auto main = [&]() -> task<> { expect(co_await tandem::on(pool.get_executor(), gives(1)) == 1, "on a pool"); };
        tandem::run(context, main());
      },
      true);
}

TEST_CASE("no memory on a strand: bad_alloc, or Asio terminates, or its strand never runs again") {
  SECTION("of a context that any number of threads may run") {
    const casualties c = fail_each_allocation_in_a_child([] {
      memory::spare spare;
      asio::io_context context;
      tandem::detail::loop::of(context);
      spare.end();
      int called = 0;
      std::exception_ptr error;
      tandem::spawn(context, gives(1), [&](std::exception_ptr e, int) {
        ++called;
        error = e;
      });
      poll(context);
      if (called == 0) throw lost_strand();
      if (error) std::rethrow_exception(error);
    });
    CAPTURE(c.terminated, c.lost);
    CHECK(c.terminated <= 2);
    CHECK(c.lost <= 2);
  }
  SECTION("of its own, whose loops come and go") {
    const casualties c = fail_each_allocation_in_a_child([] {
      memory::spare spare;
      asio::io_context context;
      auto strand = asio::make_strand(context);
      spare.end();
      int called = 0;
      std::exception_ptr error;
      for (int i = 0; i != 2; ++i)
        tandem::spawn(strand, gives(1), [&](std::exception_ptr e, int) {
          ++called;
          error = e;
        });
      poll(context);
      if (called != 2) throw lost_strand();
      if (error) std::rethrow_exception(error);
    });
    CAPTURE(c.terminated, c.lost);
    CHECK(c.terminated <= 2);
    CHECK(c.lost <= 2);
  }
}

TEST_CASE("a program that goes on after bad_alloc, while each allocation fails") {
  fail_each_allocation([] {
    pairs p;
    tandem::simulate(everything(p));
    p.check();
  });
}

TEST_CASE("stops and teardown at every step while each allocation fails") {
  SECTION("sleeping") { fail_part_at_every_step<limits>(); }
  SECTION("gather") { fail_part_at_every_step<gathers>(); }
  SECTION("transform") { fail_part_at_every_step<fans_out>(); }
  SECTION("operations") { fail_part_at_every_step<operations>(); }
  SECTION("spawn") { fail_part_at_every_step<spawns>(); }
  SECTION("on") { fail_part_at_every_step<on_its_own_loop>(); }
  SECTION("hand-overs") {
    fail_each_allocation_at_every_step<lines>([](lines& l) { return hand_overs(l); },
                                              [](lines& l, kit::end) { return l.all_back(); });
  }
  SECTION("queues") {
    fail_each_allocation_at_every_step<shop>([](shop& s) { return trades(s); },
                                             [](shop& s, kit::end) { return s.nothing_is_lost(); });
  }
  SECTION("jobs") {
    fail_each_allocation_at_every_step<crew>([](crew& c) { return jobs(c); },
                                             [](crew& c, kit::end) { return c.all_have_ended(); });
  }
  SECTION("jobs in order") {
    fail_each_allocation_at_every_step<office>([](office& o) { return errands(o); },
                                               [](office& o, kit::end) { return o.all_have_ended(); });
  }
  SECTION("streams") { fail_part_at_every_step<flows>(); }
  SECTION("leases") {
    fail_each_allocation_at_every_step<harbour>([](harbour& h) { return hires(h); },
                                                [](harbour& h, kit::end) { return h.is_quiet(); });
  }
  SECTION("caches") {
    using library = ::library<tandem::lru_cache>;
    fail_each_allocation_at_every_step<library>([](library& l) { return reads(l); },
                                                [](library& l, kit::end) { return l.is_quiet(); });
  }
  SECTION("limits") {
    fail_each_allocation_at_every_step<gates>([](gates& g) { return passes(g); },
                                              [](gates& g, kit::end) { return g.is_quiet(); });
  }
  SECTION("guards") {
    fail_each_allocation_at_every_step<guarded_calls>([](guarded_calls& g) { return guards(g); },
                                                      [](guarded_calls& g, kit::end) { return g.is_quiet(); });
  }
  SECTION("clean-ups") {
    fail_each_allocation_at_every_step<pairs>([](pairs& p) { return protections(p); },
                                              [](pairs& p, kit::end how) {
                                                return how == kit::end::destroyed ||
                                                       (p.bodies == p.clean_ups && p.acquired == p.released);
                                              });
  }
}
