// concurrent_queue: across strands, contexts and threads nothing is lost, doubled or overtaken.

// std::optional trips a false alarm of g++ 12 under the thread sanitizer.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <tandem/queue.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/race.hpp>
#include <tandem/run.hpp>
#include <tandem/threads.hpp>

#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(strand.hpp)
#include TANDEM_ASIO_HEADER(thread_pool.hpp)

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using tandem::concurrent_queue;
using tandem::gather;
using tandem::queue_closed;
using tandem::sleep_for;
using tandem::task;
using tandem::unbounded;

namespace {

/// Threads that run a context until it has nothing left to do.
class runners {
 public:
  explicit runners(asio::io_context& c, int n) {
    for (int i = 0; i != n; ++i) threads_.emplace_back([&c] { c.run(); });
  }
  ~runners() {
    for (auto& t : threads_) t.join();
  }

 private:
  std::vector<std::thread> threads_;
};

/// What one producer pushes: it moves only.
class item {
 public:
  item(int producer, int number) noexcept : producer_(producer), number_(number) { ++live_; }
  item(item&& o) noexcept : producer_(o.producer_), number_(o.number_), counts_(std::exchange(o.counts_, false)) {}
  item& operator=(item&&) = delete;
  ~item() {
    if (counts_) --live_;
  }
  int producer() const noexcept { return producer_; }
  int number() const noexcept { return number_; }
  static int live() noexcept { return live_; }

 private:
  int producer_, number_;
  bool counts_ = true;
  static inline std::atomic<int> live_{0};
};

/// What consumers got, each in its order.
class books {
 public:
  explicit books(int producers, int each) : producers_(producers), each_(each) {}

  using got = std::vector<std::pair<int, int>>;
  void add(got&& one) {
    const std::scoped_lock lock(mutex_);
    all_.push_back(std::move(one));
  }
  /// Every item once, and those of one producer in order, for each consumer.
  void check() const {
    std::vector<int> times(static_cast<std::size_t>(producers_ * each_));
    bool in_order = true;
    for (const got& one : all_) {
      std::vector<int> last(static_cast<std::size_t>(producers_), -1);
      for (const auto& [producer, number] : one) {
        ++times[static_cast<std::size_t>(producer * each_ + number)];
        int& before = last[static_cast<std::size_t>(producer)];
        in_order = in_order && before < number;
        before = number;
      }
    }
    CHECK(in_order);
    CHECK(std::count(times.begin(), times.end(), 1) == static_cast<std::ptrdiff_t>(times.size()));
  }

 private:
  int producers_, each_;
  std::mutex mutex_;
  std::vector<got> all_;
};

task<> produces(concurrent_queue<item>& q, int producer, int n) {
  for (int i = 0; i != n; ++i) co_await q.push(item(producer, i));
}
task<> consumes(concurrent_queue<item>& q, books& b) {
  books::got got;
  while (const std::optional<item> one = co_await q.pop()) got.emplace_back(one->producer(), one->number());
  b.add(std::move(got));
}
task<> consumes_some(concurrent_queue<item>& q, books& b, std::size_t most) {
  books::got got;
  for (;;) {
    const std::vector<item> some = co_await q.pop_some(most);
    if (some.empty()) break;
    for (const item& one : some) got.emplace_back(one.producer(), one.number());
  }
  b.add(std::move(got));
}

/// Closes the queue when the last of its producers has ended.
class last_closes {
 public:
  last_closes(concurrent_queue<item>& q, int producers) : queue_(q), left_(producers) {}
  /// What a producer's end calls, on any thread.
  auto handler() {
    return [this](std::exception_ptr e) { one_less(e); };
  }
  void one_less(std::exception_ptr e) {
    if (e) std::rethrow_exception(e);
    if (--left_ == 0) queue_.close();
  }

 private:
  concurrent_queue<item>& queue_;
  std::atomic<int> left_;
};

}  // namespace

// ---- throughput ----------------------------------------------------------------------------------------------------

TEST_CASE("real_ producers and consumers on strands that four threads run lose nothing and overtake nobody") {
  constexpr int producers = 4;
  for (const auto& [capacity, each] :
       {std::pair<std::size_t, int>{8, 25'000}, {0, 2'000}, {1, 2'000}, {unbounded, 2'000}}) {
    asio::io_context context;
    concurrent_queue<item> q(capacity);
    books b(producers, each);
    last_closes closes(q, producers);
    for (int i = 0; i != producers; ++i) {
      tandem::spawn(asio::make_strand(context), produces(q, i, each), closes.handler());
      if (i % 2 == 0)
        tandem::spawn(asio::make_strand(context), consumes(q, b), asio::detached);
      else
        tandem::spawn(asio::make_strand(context), consumes_some(q, b, 3), asio::detached);
    }
    runners(context, 4);
    b.check();
    const tandem::queue_stats s = q.stats();
    CHECK(s.pushed == static_cast<std::uint64_t>(producers * each));
    CHECK(s.popped == s.pushed);
    CHECK(s.size + s.pushing + s.popping == 0);
    CHECK(item::live() == 0);
  }
}

TEST_CASE("real_ contexts with a thread each, and a thread_pool, share a queue") {
  constexpr int producers = 3, each = 2'000;
  concurrent_queue<item> q(2);
  books b(producers, each);
  last_closes closes(q, producers);
  asio::thread_pool pool(2);
  std::deque<asio::io_context> contexts(4);
  for (int i = 0; i != 2; ++i) {
    tandem::spawn(contexts[static_cast<std::size_t>(i)], produces(q, i, each), closes.handler());
    tandem::spawn(contexts[static_cast<std::size_t>(i + 2)], consumes(q, b), asio::detached);
  }
  tandem::spawn(pool, consumes(q, b), asio::detached);
  tandem::spawn(asio::make_strand(pool), produces(q, 2, each), closes.handler());
  {
    std::deque<runners> threads;
    for (auto& c : contexts) threads.emplace_back(c, 1);
  }
  pool.join();
  b.check();
  CHECK(item::live() == 0);
}

TEST_CASE("real_ threads without a loop push and pop too, and wake coroutines") {
  constexpr int producers = 3, each = 3'000;
  asio::io_context context;
  concurrent_queue<item> q(4);
  books b(producers, each);
  last_closes closes(q, producers);
  tandem::spawn(context, produces(q, 0, each), closes.handler());
  tandem::spawn(asio::make_strand(context), consumes(q, b), asio::detached);
  const auto pushes = [&](int producer) {
    for (int i = 0; i != each; ++i) {
      item one(producer, i);
      while (!q.try_push(std::move(one))) std::this_thread::yield();
    }
    closes.one_less(nullptr);
  };
  const auto pops = [&] {
    books::got got;
    while (!q.is_closed() || !q.empty())
      if (const auto one = q.try_pop())
        got.emplace_back(one->producer(), one->number());
      else
        std::this_thread::yield();
    b.add(std::move(got));
  };
  {
    std::thread first(pushes, 1), second(pushes, 2), third(pops);
    runners here(context, 2);
    first.join();
    second.join();
    third.join();
  }
  b.check();
  CHECK(item::live() == 0);
}

TEST_CASE("real_ nobody gets between the items of a push_range, on any thread") {
  constexpr int producers = 4, ranges = 1'000, length = 5;
  for (const std::size_t capacity : {std::size_t{0}, std::size_t{3}, std::size_t{16}}) {
    asio::io_context context;
    concurrent_queue<item> q(capacity);
    last_closes closes(q, producers);
    auto pushes_ranges = [&](int producer) -> task<> {
      for (int r = 0; r != ranges; ++r) {
        std::vector<item> items;
        for (int i = 0; i != length; ++i) items.emplace_back(producer, r * length + i);
        const std::size_t accepted = co_await q.push_range(std::move(items));
        if (accepted != length) std::abort();  // CHECK is for one thread
      }
    };
    bool together = true;
    int all = 0;
    auto pops = [&]() -> task<> {
      std::pair<int, int> before{0, -1};
      while (const auto one = co_await q.pop()) {
        ++all;
        if (one->number() % length != 0) together = together && before == std::pair(one->producer(), one->number() - 1);
        before = {one->producer(), one->number()};
      }
    };
    for (int i = 0; i != producers; ++i) tandem::spawn(asio::make_strand(context), pushes_ranges(i), closes.handler());
    tandem::spawn(asio::make_strand(context), pops(), asio::detached);
    runners(context, 4);
    CHECK(together);
    CHECK(all == producers * ranges * length);
  }
}

// ---- stops ---------------------------------------------------------------------------------------------------------

TEST_CASE("real_ stops that race with grants lose nothing: each push and each pop took effect or did not") {
  constexpr int producers = 3;
  for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}}) {
    asio::io_context context;
    concurrent_queue<item> q(capacity);
    std::atomic<int> pushed{0}, popped{0}, left{producers};
    auto impatient_pushes = [&](int producer) -> task<> {
      for (int i = 0; i != 500; ++i) {
        const auto in_time =
            co_await tandem::try_timeout(std::chrono::microseconds(i % 5 * 10), q.push(item(producer, i)));
        if (in_time) ++pushed;
      }
    };
    auto impatient_pops = [&]() -> task<> {
      for (int i = 0;; ++i) {
        auto in_time = co_await tandem::try_timeout(std::chrono::microseconds(i % 5 * 10), q.pop());
        if (!in_time) continue;
        if (!*in_time) break;
        ++popped;
      }
    };
    const auto closes = [&](std::exception_ptr) {
      if (--left == 0) q.close();
    };
    for (int i = 0; i != producers; ++i) {
      tandem::spawn(asio::make_strand(context), impatient_pushes(i), closes);
      tandem::spawn(asio::make_strand(context), impatient_pops(), asio::detached);
    }
    runners(context, 4);
    CHECK(pushed == popped);
    CHECK(q.stats().pushed == static_cast<std::uint64_t>(pushed));
    CHECK(q.empty());
    CHECK(item::live() == 0);
  }
}

TEST_CASE("real_ contexts that go while their waiters are in line, or a grant is under way, lose nothing") {
  for (int round = 0; round != 300; ++round) {
    concurrent_queue<item> q(1);
    std::atomic<int> popped{0}, accepted{0};
    std::atomic<bool> waits{false};
    auto pops = [&]() -> task<> {
      while (const auto one = co_await q.pop()) ++popped;
    };
    auto pushes = [&]() -> task<> {
      for (int i = 0; i != 20; ++i) {
        co_await q.push(item(0, i));
        ++accepted;
      }
    };
    std::thread goes([&] {
      asio::io_context context;
      for (int i = 0; i != 3; ++i) tandem::spawn(context, pops(), asio::detached);
      if (round % 3 == 0) tandem::spawn(context, pushes(), asio::detached);
      context.poll();
      waits = true;
      for (int i = 0; i != round % 7; ++i) context.poll();
    });
    while (!waits) std::this_thread::yield();
    int pushed = 0;
    for (int i = 0; i != 5; ++i) {
      item one(1, i);
      pushed += q.try_push(std::move(one));
    }
    goes.join();
    int left = 0;
    while (q.try_pop()) ++left;
    const tandem::queue_stats s = q.stats();
    CHECK(s.pushing + s.popping == 0);
    CHECK(s.popped == static_cast<std::uint64_t>(popped + left));
    CHECK(s.pushed == s.popped);
    CHECK(s.pushed >= static_cast<std::uint64_t>(pushed + accepted));
    REQUIRE(item::live() == 0);
  }
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("real_ close, cancel and the end of a queue reach those who wait on other threads") {
  enum { by_close, by_cancel, by_destruction };
  for (const auto how : {by_close, by_cancel, by_destruction}) {
    for (int round = 0; round != 50; ++round) {
      asio::io_context context;
      auto full = std::make_unique<concurrent_queue<item>>(0), empty = std::make_unique<concurrent_queue<item>>(1);
      CHECK(full->stats().unfinished == 0);
      std::atomic<int> waiting{0}, refused{0}, ended{0};
      auto pushes = [&]() -> task<> {
        ++waiting;
        try {
          co_await full->push(item(0, 0));
        } catch (const queue_closed&) {
          ++refused;
        }
      };
      auto pops = [&]() -> task<> {
        ++waiting;
        try {
          const auto end = co_await empty->pop();
          ended += !end;
        } catch (const queue_closed&) {
          ++refused;
        }
      };
      for (int i = 0; i != 3; ++i) {
        tandem::spawn(asio::make_strand(context), pushes(), asio::detached);
        tandem::spawn(asio::make_strand(context), pops(), asio::detached);
      }
      runners threads(context, 2);
      while (waiting != 6 || full->stats().pushing + empty->stats().popping != 6) std::this_thread::yield();
      if (how == by_close) full->close(), empty->close();
      if (how == by_cancel) full->cancel(), empty->cancel();
      full.reset(), empty.reset();
      while (refused + ended != 6) std::this_thread::yield();
      CHECK(refused == (how == by_cancel ? 6 : 3));
    }
  }
  CHECK(item::live() == 0);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("real_ join hears of task_done on other threads") {
  asio::io_context context;
  concurrent_queue<item> q(4);
  std::atomic<int> done{0};
  auto works = [&]() -> task<> {
    while (const auto one = co_await q.pop()) {
      ++done;
      q.task_done();
    }
  };
  auto feeds = [&]() -> task<> {
    for (int round = 1; round != 101; ++round) {
      co_await produces(q, 0, 10);
      co_await q.join();
      CHECK(done == round * 10);
    }
    q.close();
  };
  for (int i = 0; i != 3; ++i) tandem::spawn(asio::make_strand(context), works(), asio::detached);
  tandem::spawn(asio::make_strand(context), feeds(), asio::detached);
  runners(context, 4);
  CHECK(done == 1000);
}

// ---- one loop, and others outside ----------------------------------------------------------------------------------

TEST_CASE("real_ a wait for another thread is no deadlock, and keeps the context running") {
  concurrent_queue<int> q(1);
  std::thread other([&] {
    std::this_thread::sleep_for(20ms);
    q.try_push(1);
  });
  auto pops = [&]() -> task<int> { co_return (co_await q.pop()).value(); };
  CHECK(tandem::run(pops()) == 1);
  other.join();

  std::thread again([&] {
    std::this_thread::sleep_for(20ms);
    q.try_push(2);
  });
  asio::io_context context;
  int got = 0;
  tandem::spawn(context, pops(), [&](std::exception_ptr, int i) { got = i; });
  context.run();
  CHECK(got == 2);
  again.join();

  std::thread once_more([&] {
    std::this_thread::sleep_for(20ms);
    q.try_push(3);
  });
  CHECK(tandem::simulate(pops()) == 3);
  once_more.join();
}

TEST_CASE("virtual time goes on while coroutines wait at a concurrent_queue") {
  auto main = []() -> task<> {
    concurrent_queue<int> q(1);
    auto pops = [&]() -> task<> {
      const auto one = co_await q.pop();
      CHECK(one == 1);
      CHECK(tandem::clock::now() == kit::at(1h));
      const auto nothing = co_await tandem::try_timeout(1h, q.pop());
      CHECK(!nothing);
      CHECK(tandem::clock::now() == kit::at(2h));
      CHECK(q.stats().popping == 0);
    };
    auto pushes = [&]() -> task<> {
      co_await sleep_for(1h);
      co_await q.push(1);
    };
    co_await gather(pops(), pushes());
  };
  tandem::simulate(main());
}

TEST_CASE("in a race the pops of concurrent queues are tasks: what comes too late goes to on_discard") {
  auto main = []() -> task<> {
    concurrent_queue<int> left(1), right(1);
    std::vector<int> late;
    auto racer = [&]() -> task<> {
      auto keep = [&](std::optional<int> i) { late.push_back(i.value()); };
      auto first = co_await tandem::race(left.pop(), right.pop()).on_discard(keep);
      CHECK(first.index() == 0);
      CHECK(first.value() == 1);
    };
    auto pushes = [&]() -> task<> {
      CHECK(left.try_push(1));
      CHECK(right.try_push(2));  // that pop is granted before anybody hears of the first
      co_return;
    };
    co_await gather(racer(), pushes());
    CHECK(late == std::vector{2});
  };
  tandem::simulate(main());
}

TEST_CASE("a concurrent queue serves one loop in order too, under any schedule, stop and end of the context") {
  for (const std::size_t capacity : {std::size_t{0}, std::size_t{2}}) {
    struct made final : kit::scenario {
      explicit made(std::size_t c) : q(c) {}
      task<> main() override {
        auto pushes = [&](int n) -> task<> {
          for (int i = 0; i != n; ++i) {
            const int number = made_++;
            co_await q.push(item(0, number));
            ++accepted;
          }
        };
        auto pops = [&]() -> task<> {
          for (;;) {
            const int turn = asked++;
            const auto one = co_await q.pop();
            if (!one) break;
            got.emplace_back(turn, one->number());
          }
        };
        auto range = [&]() -> task<> {
          std::vector<item> items;
          for (int i = 0; i != 3; ++i) items.emplace_back(0, made_++);
          co_await q.push_range(std::move(items));
          accepted += 3;
        };
        auto closes = [&]() -> task<> {
          co_await sleep_for(1s);
          q.close();
        };
        co_await gather(pushes(4), pops(), range(), pops(), pushes(3), closes());
      }
      void check(kit::end how) override {
        CHECK(how != kit::end::failed);
        std::sort(got.begin(), got.end());
        CHECK(std::is_sorted(got.begin(), got.end(), [](auto& a, auto& b) { return a.second < b.second; }));
        const tandem::queue_stats s = q.stats();
        std::size_t left = 0;
        for (int last = -1; const auto one = q.try_pop(); ++left)
          CHECK(std::exchange(last, one->number()) < one->number());
        CHECK(s.popped == got.size());
        CHECK(s.pushed == got.size() + left);
        CHECK(s.pushed >= static_cast<std::uint64_t>(accepted));
        CHECK(s.pushing + s.popping == 0);
        if (how == kit::end::returned) CHECK(got.size() == 10);
        CHECK(item::live() == 0);
      }
      concurrent_queue<item> q;
      int made_ = 0, asked = 0, accepted = 0;
      std::vector<std::pair<int, int>> got;
    };
    kit::explore([&] { return std::make_unique<made>(capacity); });
  }
}
