// What the headers say about allocation, counted. Under the sanitizers every frame counts, elsewhere the free list
// serves.

#include <tandem/measure.hpp>
#include <tandem/tandem.hpp>

#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(ip/tcp.hpp)
#include TANDEM_ASIO_HEADER(read.hpp)
#include TANDEM_ASIO_HEADER(steady_timer.hpp)
#include TANDEM_ASIO_HEADER(write.hpp)

#include <atomic>
#include <cstdlib>
#include <new>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

namespace {
std::atomic<long> allocations{0}, frees{0};
bool fail_next = false;
}  // namespace

[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (std::exchange(fail_next, false)) throw std::bad_alloc();
  if (void* p = std::malloc(size)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size); }
[[gnu::noinline]] void operator delete(void* p) noexcept {
  ++frees;
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { operator delete(p); }
// The standard's would come here, a sanitizer's would not.
[[gnu::noinline]] void* operator new[](std::size_t size) { return operator new(size); }
[[gnu::noinline]] void operator delete[](void* p) noexcept { operator delete(p); }
[[gnu::noinline]] void operator delete[](void* p, std::size_t) noexcept { operator delete(p); }

using namespace std::chrono_literals;
using tandem::task;
using tandem::use_task;

namespace {

/// How many allocations a repetition of `step` makes once it is warm.
template <class Step>
task<long> when_warm(Step step) {
  for (int i = 0; i != 20; ++i) co_await step();
  const long before = allocations;
  for (int i = 0; i != 1000; ++i) co_await step();
  co_return allocations - before;
}

}  // namespace

TEST_CASE("sleep_for, yield and the this_task awaitables allocate nothing") {
  auto main = []() -> task<long> {
    for (int i = 0; i != 20; ++i) co_await tandem::sleep_for(1us);
    const long before = allocations;
    for (int i = 0; i != 1000; ++i) {
      co_await tandem::sleep_for(0us);
      co_await tandem::yield();
      co_await tandem::this_task::executor;
      co_await tandem::this_task::cancel_requested;
      co_await tandem::this_task::checkpoint();
    }
    co_return allocations - before;
  };
  CHECK(tandem::run(main()) == 0);
  CHECK(tandem::simulate(main()) == 0);
}

TEST_CASE("an Asio timer awaited with use_task allocates nothing of ours") {
  auto main = []() -> task<long> {
    asio::steady_timer timer(co_await tandem::this_task::executor);
    long before = 0;
    for (int i = 0; i != 10'000; ++i) {
      if (i == 20) before = allocations;
      timer.expires_after(0s);
      co_await timer.async_wait(use_task);
    }
    co_return allocations - before;
  };
  CHECK(tandem::run(main()) == 0);
}

TEST_CASE("measuring a task allocates nothing beside the task, nor do windows that slide, statistics, process_memory") {
  tandem::call_metrics metrics({.window = 100us, .parts = 5});
  const auto nap = []() -> task<> { co_await tandem::sleep_for(1us); };
  auto main = [&]() -> task<long> {
    const long plain = co_await when_warm([&]() -> task<> {
      co_await nap();
      co_await nap();
    });
    const long measured = co_await when_warm([&]() -> task<> {
      co_await tandem::measure(metrics, nap());
      const auto elapsed = co_await tandem::measure(nap());
      (void)elapsed;
      (void)metrics.stats();
      metrics.start().fail();
    });
    co_return measured - plain;
  };
  CHECK(tandem::simulate(main()) == 0);
  CHECK(metrics.stats().total.count == 2 * 1020);
  const long before = allocations;
  (void)tandem::process_memory();
  CHECK(allocations == before);
}

TEST_CASE("permits, locks, events and conditions allocate nothing, with a wait and without") {
  tandem::semaphore some(2);
  tandem::concurrent_semaphore shared(1);
  tandem::mutex one;
  tandem::event done;
  tandem::condition changed;
  const long before_permits = allocations;
  { const auto p = some.try_acquire(2); }
  CHECK(allocations == before_permits);

  std::vector<long> counts;
  counts.reserve(2);
  bool first_is_next = true;
  auto user = [&](bool is_first) -> task<> {
    for (int i = 0; i != 1000; ++i) {
      if (is_first && (i == 20 || i == 980)) counts.push_back(allocations);
      const auto p = co_await some.acquire(2);
      const auto q = co_await shared.acquire();
      const auto lock = co_await one.lock();
      co_await tandem::yield();
      first_is_next = !is_first;
      changed.notify_one();
      done.set();
      done.reset();
      if (i != 999) co_await changed.wait([&] { return true; });
    }
  };
  auto waits = [&]() -> task<> {
    for (int i = 0; i != 900; ++i) {
      co_await done.wait();
      co_await changed.wait([&] { return first_is_next; });
    }
  };
  auto main = [&]() -> task<> { co_await tandem::gather(user(true), user(false), waits()); };
  tandem::run(main());
  CHECK(counts.at(0) == counts.at(1));
  CHECK(some.stats().waited > 900);
}

TEST_CASE("a round trip over a socket allocates nothing of ours") {
  auto main = []() -> task<long> {
    auto executor = co_await tandem::this_task::executor;
    asio::ip::tcp::acceptor acceptor(executor, {asio::ip::address_v4::loopback(), 0});
    asio::ip::tcp::socket near(executor);
    auto bound1 = co_await tandem::gather(acceptor.async_accept(use_task),
                                          near.async_connect(acceptor.local_endpoint(), use_task));
    auto& [far, nothing] = bound1;
    (void)nothing;
    constexpr int rounds = 2000;
    long before = 0, after = 0;
    auto echo = [&]() -> task<> {
      char b[5];
      for (int i = 0; i != rounds; ++i) {
        co_await asio::async_read(far, asio::buffer(b), use_task);
        co_await asio::async_write(far, asio::buffer(b), use_task);
      }
    };
    auto client = [&]() -> task<> {
      char b[5] = {};
      for (int i = 0; i != rounds; ++i) {
        if (i == 20) before = allocations;
        co_await asio::async_write(near, asio::buffer(b), use_task);
        co_await asio::async_read(near, asio::buffer(b), use_task);
      }
      after = allocations;
    };
    co_await tandem::gather(echo(), client());
    co_return after - before;
  };
  CHECK(tandem::run(main()) == 0);
}

TEST_CASE("a sleep or a time limit for which there is no memory throws bad_alloc, and the coroutine goes on") {
  auto main = []() -> task<int> {
    int failed = 0;
    try {
      auto nap = tandem::sleep_for(1s);
      fail_next = true;
      co_await std::move(nap);
    } catch (const std::bad_alloc&) {
      ++failed;
    }
    try {
      auto limited = tandem::timeout(1s, tandem::sleep_for(2s));
      fail_next = true;
      co_await std::move(limited);
    } catch (const std::bad_alloc&) {
      ++failed;
    }
    fail_next = false;
    co_await tandem::sleep_for(1s);
    co_return failed;
  };
  CHECK(tandem::simulate(main()) == 2);
}

TEST_CASE("a gather for which there is no memory throws bad_alloc and starts nobody") {
  bool started = false;
  auto child = [&]() -> task<int> {
    started = true;
    co_return 1;
  };
  auto main = [&]() -> task<bool> {
    std::vector<task<int>> all;
    all.push_back(child());
    auto gathered = tandem::gather(std::move(all));
    fail_next = true;
    try {
      co_await std::move(gathered);
    } catch (const std::bad_alloc&) {
      co_return true;
    }
    co_return false;
  };
  CHECK(tandem::simulate(main()));
  CHECK_FALSE(started);
}

namespace {
using tandem::detail::frame_memory;

/// What a thread of its own gives.
template <class F>
long on_a_thread(F f) {
  long given = 0;
  std::thread([&] { given = f(frame_memory::of_this_thread()); }).join();
  return given;
}
}  // namespace

TEST_CASE("a frame comes back to the thread that made it, whoever frees it") {
  constexpr std::size_t n = 1000, size = 100;
  const long fetched = on_a_thread([&](frame_memory& maker) {
    std::vector<void*> frames(n);
    for (void*& p : frames) p = maker.allocate(size);
    const auto free_elsewhere = [&] {
      return on_a_thread([&](frame_memory& other) {
        const long before = frees;
        for (void* p : frames) other.deallocate(p, size);
        return frees - before;
      });
    };
    CHECK(free_elsewhere() == 0);
    long before = allocations;
    for (void*& p : frames) p = maker.allocate(size);
    CHECK(allocations == before);
    CHECK(free_elsewhere() == 0);
    on_a_thread([&](frame_memory& other) {  // who has kept none of them
      const long at_first = allocations;
      void* p = other.allocate(size);
      other.deallocate(p, size);
      CHECK(allocations > at_first);
      return 0;
    });
    before = allocations;
    for (void*& p : frames) p = maker.allocate(size);
    const long more = allocations - before;
    for (void* p : frames) maker.deallocate(p, size);
    return more;
  });
  CHECK(fetched == 0);
}

TEST_CASE("frames may outlive the thread that made them, and the next thread has their memory") {
  constexpr std::size_t size = 300;
  std::vector<void*> frames(100);
  frame_memory& here = frame_memory::of_this_thread();
  void* own = here.allocate(size);
  on_a_thread([&](frame_memory& maker) {
    for (void*& p : frames) p = maker.allocate(size);
    return 0;
  });
  for (void* p : frames) here.deallocate(p, size);
  const long fetched = on_a_thread([&](frame_memory& next) {
    const long before = allocations;
    for (void*& p : frames) p = next.allocate(size);
    for (void* p : frames) next.deallocate(p, size);
    return allocations - before;
  });
  CHECK(fetched == 0);
  here.deallocate(own, size);
}

TEST_CASE("a thread keeps 64 MiB of frames, and beyond that gives back those of sizes that it does not ask for") {
  const long freed = on_a_thread([&](frame_memory& own) {
    void* early[10];
    for (void*& p : early) p = own.allocate(500);
    for (void* p : early) own.deallocate(p, 500);
    std::vector<void*> late((frame_memory::limit + (8 << 20)) / 1000);
    long before = frees;
    for (void*& p : late) p = own.allocate(1000);
    const long of_early = frees - before;
    before = frees;
    for (void* p : late) own.deallocate(p, 1000);
    const double kept = double(long(late.size()) - (frees - before)) * 1016;
    CHECK(kept <= double(frame_memory::limit) + 1016);
    CHECK(kept > double(frame_memory::limit) - 2 * 1016);
    std::vector<void*> others(2000);  // there is no room for them until the late ones are given back
    for (void*& p : others) p = own.allocate(500);
    before = frees;
    for (void* p : others) own.deallocate(p, 500);
    CHECK(frees - before < long(others.size()));
    return of_early;
  });
  CHECK(freed == 10);
}

TEST_CASE("a frame of 1 KiB is kept for the next one, and a larger one is the heap's") {
  const long fetched = on_a_thread([](frame_memory& own) {
    own.deallocate(own.allocate(1024), 1024);
    own.deallocate(own.allocate(1025), 1025);
    const long before = allocations;
    own.deallocate(own.allocate(1024), 1024);
    CHECK(allocations == before);
    own.deallocate(own.allocate(1025), 1025);
    return allocations - before;
  });
  CHECK(fetched == 1);
}

TEST_CASE("what a thread keeps goes back to the heap when it ends") {
  const long before_all = frees;
  on_a_thread([&](frame_memory& own) {
    void* p = own.allocate(300);
    const long before = frees;
    own.deallocate(p, 300);
    CHECK(frees == before);
    return 0;
  });
  CHECK(frees > before_all);  // and the leak sanitizer looks, where there is one
}

TEST_CASE("a frame that others have given back goes to the heap with the thread that made it") {
  const long before = frees;
  long freed = 0;
  on_a_thread([&](frame_memory& maker) {
    std::vector<void*> frames(50);
    for (void*& p : frames) p = maker.allocate(700);
    on_a_thread([&](frame_memory& other) {
      for (void* p : frames) other.deallocate(p, 700);
      return 0;
    });
    freed = frees - before;
    return 0;
  });
  CHECK(frees - before >= freed + 50);
}

namespace {
#if defined(TANDEM_PLAIN_FRAMES)
constexpr long a_frame = 1;  // counts as an allocation
#else
constexpr long a_frame = 0;
#endif

task<int> immediate(int i) { co_return i; }
task<int> waits_once(int i) {
  co_await tandem::yield();
  co_return i;
}
std::vector<task<int>> many(task<int> (*make)(int)) {
  std::vector<task<int>> tasks;
  for (int i = 0; i != 100; ++i) tasks.push_back(make(i));
  return tasks;
}
}  // namespace

TEST_CASE("a gather of any number of tasks makes at most two allocations, an as_completed two") {
  auto main = []() -> task<> {
    for (auto make : {&immediate, &waits_once}) {
      auto tasks = many(make);
      long before = allocations;
      const std::vector<int> numbers = co_await tandem::gather(std::move(tasks));
      CHECK(allocations - before <= 2);
      CHECK(numbers.size() == 100);
      tasks = many(make);
      before = allocations;
      const auto outcomes = co_await tandem::gather(tandem::return_exceptions, std::move(tasks));
      CHECK(allocations - before <= 2);
      CHECK(outcomes.size() == 100);
      tasks = many(make);
      before = allocations;
      {
        auto stream = tandem::as_completed(std::move(tasks), 10);
        while (auto one = co_await stream.next()) CHECK(one->outcome);
      }
      CHECK(allocations - before == 2);
    }
  };
  tandem::simulate(main());
}

TEST_CASE("a race allocates nothing for tasks and waits, and one frame for any other arm") {
  kit::gate gate;
  auto main = [&]() -> task<> {
    for (bool warm : {false, true}) {
      auto a = waits_once(1), b = waits_once(2);
      long before = allocations;
      auto mixed = tandem::race(std::move(a), gate.wait(), tandem::sleep_for(1h), std::move(b));
      const auto first = co_await std::move(mixed);
      long made = allocations - before;
      if (warm) CHECK(made == 0);
      CHECK(first.index() == 0);
      before = allocations;
      auto other = tandem::race(tandem::yield(), gate.wait());
      co_await std::move(other);
      made = allocations - before;
      if (warm) CHECK(made == a_frame);
      auto tasks = many(&waits_once);
      before = allocations;
      auto range = tandem::race(std::move(tasks));
      co_await std::move(range);
      made = allocations - before;
      CHECK(made == 0);
    }
  };
  tandem::simulate(main());
}

TEST_CASE("a child of a group makes one allocation, and a frame if it is no task; a time limit that frame alone") {
  auto main = []() -> task<> {
    for (bool warm : {false, true}) {
      auto body = [&](tandem::task_group& group) -> task<> {
        co_await group.spawn(tandem::yield());  // makes room for a child
        auto t = waits_once(1);
        long before = allocations;
        auto child = group.spawn(std::move(t));
        long made = allocations - before;
        if (warm) CHECK(made == a_frame);  // its record, which is kept like a frame
        co_await child;
        before = allocations;
        auto other = group.spawn(tandem::yield());
        made = allocations - before;
        if (warm) CHECK(made == 2 * a_frame);
        co_await other;
      };
      co_await tandem::with_task_group(body);
      auto t = waits_once(1);
      long before = allocations;
      auto limited = tandem::timeout(1h, std::move(t));
      co_await std::move(limited);
      long made = allocations - before;
      if (warm) CHECK(made == 0);
      before = allocations;
      auto nap = tandem::timeout(1h, tandem::yield());
      co_await std::move(nap);
      made = allocations - before;
      if (warm) CHECK(made == a_frame);
    }
  };
  tandem::simulate(main());
}

TEST_CASE("a wait for handles makes one allocation to wait, and one for each of the vectors that it gives") {
  auto main = []() -> task<> {
    auto body = [](tandem::task_group& group) -> task<> {
      std::vector<tandem::task_handle<int>> handles;
      for (int i = 0; i != 100; ++i) handles.push_back(group.spawn(kit::after(i * 1s, i)));
      auto again = handles;
      long before = allocations;
      const auto some = co_await tandem::wait(std::move(handles), tandem::all_completed, 50500ms);
      CHECK(allocations - before == 3);
      CHECK(some.done.size() == 51);
      CHECK(some.pending.size() == 49);
      handles = again;
      before = allocations;
      const auto looked = co_await tandem::wait(std::move(handles), tandem::all_completed, 0s);
      CHECK(allocations - before == 2);
      CHECK(looked.done.size() == 51);
      before = allocations;
      const auto all = co_await tandem::wait(std::move(again));
      CHECK(allocations - before == 2);
      CHECK(all.done.size() == 100);
    };
    co_await tandem::with_task_group(body);
  };
  tandem::simulate(main());
}

TEST_CASE("a call on a thread makes one allocation, one more if it takes a stop_token, and Asio's own") {
  auto plain = []() -> task<> { co_await tandem::to_thread([] {}); };
  auto with_token = []() -> task<> { co_await tandem::to_thread([](std::stop_token) {}); };
  auto main = [&]() -> task<> {
    const long of_plain = co_await when_warm(plain);
    const long of_token = co_await when_warm(with_token);
    CHECK(of_token - of_plain == 1000);
    CHECK(of_plain >= 1000 * (1 + a_frame));
    CHECK(of_plain <= 1000 * (2 + a_frame));
  };
  tandem::run(main());
}

#if !defined(TANDEM_PLAIN_FRAMES)

namespace {
task<int> child(int i) {
  co_await tandem::yield();
  co_return i;
}
}  // namespace

TEST_CASE("awaiting a task, and a gather of a fixed number of tasks, allocate nothing once the free list is warm") {
  CHECK(tandem::run(when_warm([] { return child(1); })) == 0);
  CHECK(tandem::run(when_warm([]() -> task<> { co_await tandem::gather(child(1), child(2)); })) == 0);
  CHECK(tandem::run(when_warm([]() -> task<> { co_await tandem::timeout(1h, child(1)); })) == 0);
}

TEST_CASE("frames of many sizes come back from the free list, and one of more than a KiB from the heap") {
  auto big = []() -> task<int> {
    char room[4096];
    room[0] = 1;
    static char* volatile seen;
    seen = room;  // else clang keeps one byte of it
    co_await tandem::yield();
    co_return *seen;
  };
  CHECK(tandem::run(when_warm(big)) == 1000);
}

#endif
