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
/// What a thread of its own gives.
template <class F>
long on_a_thread(F f) {
  long given = 0;
  std::thread([&] { given = f(tandem::detail::frame_memory::of_this_thread()); }).join();
  return given;
}
}  // namespace

TEST_CASE("a thread that only frees the frames of others keeps none of them") {
  constexpr std::size_t n = 1000, size = 100;
  std::vector<void*> frames(n);
  const long kept = on_a_thread([&](tandem::detail::frame_memory& maker) {
    for (void*& p : frames) p = maker.allocate(size);
    on_a_thread([&](tandem::detail::frame_memory& other) {
      const long before = frees;
      for (void* p : frames) other.deallocate(p, size);
      CHECK(frees - before == long(n));
      return 0;
    });
    const long before = allocations;
    for (void*& p : frames) p = maker.allocate(size);  // it had made as many, and has none
    CHECK(allocations - before == long(n));
    for (void* p : frames) maker.deallocate(p, size);
    const long in_the_end = frees;
    for (void*& p : frames) p = maker.allocate(size);
    for (void* p : frames) maker.deallocate(p, size);
    return frees - in_the_end;
  });
  CHECK(kept == 0);
}

TEST_CASE("a thread keeps no frames of a size beyond those that it had to fetch") {
  constexpr std::size_t size = 200;
  std::vector<void*> foreign(100);
  for (void*& p : foreign) p = ::operator new(size + 8);
  const long freed = on_a_thread([&](tandem::detail::frame_memory& own) {
    void* one = own.allocate(size);
    void* other_size = own.allocate(2 * size);
    const long before = frees;
    own.deallocate(one, size);
    for (void* p : foreign) own.deallocate(p, size);
    own.deallocate(other_size, 2 * size);
    return frees - before;
  });
  CHECK(freed == 100);
}

TEST_CASE("after 32 MiB of frames from the heap a thread gives back those of the sizes that it no longer makes") {
  const long freed = on_a_thread([&](tandem::detail::frame_memory& own) {
    void* early[10];
    for (void*& p : early) p = own.allocate(500);
    for (void* p : early) own.deallocate(p, 500);
    const long before = frees;
    std::vector<void*> late((33 << 20) / 1000);
    for (void*& p : late) p = own.allocate(1000);
    const long of_early = frees - before;
    const long in_between = frees;
    for (void* p : late) own.deallocate(p, 1000);
    CHECK(frees - in_between >= long(late.size()) - 2000);  // but for what it has fetched since it began anew
    CHECK(frees - in_between < long(late.size()));
    return of_early;
  });
  CHECK(freed == 10);
}

TEST_CASE("what a thread keeps goes back to the heap when it ends") {
  const long before_all = frees;
  on_a_thread([&](tandem::detail::frame_memory& own) {
    void* p = own.allocate(300);
    const long before = frees;
    own.deallocate(p, 300);
    CHECK(frees == before);
    return 0;
  });
  CHECK(frees > before_all);  // and the leak sanitizer looks, where there is one
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
