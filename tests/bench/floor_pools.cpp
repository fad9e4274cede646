// A resource taken from a list and put back, an item on its way through generators that cannot wait, and functions from
// a heap.
#include "floor.hpp"
#include "harness.hpp"

#include <cstdint>
#include <queue>

namespace {

struct resource {
  int number = 0;
  resource* next = nullptr;
};
class pool {
 public:
  class lease {
   public:
    lease(pool& p, resource& r) noexcept : pool_(p), resource_(r) {}
    lease(const lease&) = delete;
    lease& operator=(const lease&) = delete;
    ~lease() { pool_.put_back(resource_); }
    resource* operator->() const noexcept { return &resource_; }

   private:
    pool& pool_;
    resource& resource_;
  };
  class taking {
   public:
    explicit taking(pool& p) noexcept : pool_(p) {}
    bool await_ready() const noexcept { return true; }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    lease await_resume() const noexcept { return lease(pool_, *std::exchange(pool_.first_, pool_.first_->next)); }

   private:
    pool& pool_;
  };
  taking acquire() noexcept { return taking(*this); }
  void put_back(resource& r) noexcept {
    r.next = first_;
    first_ = &r;
  }

 private:
  resource* first_ = nullptr;
};

bare::task<> lease(items::state& s) {
  constexpr int n = 1000;
  resource only;
  pool all;
  all.put_back(only);
  for (auto _ : s)
    for (int i = 0; i != n; ++i) {
      const auto borrowed = co_await all.acquire();
      benchmark::DoNotOptimize(borrowed->number);
    }
  s.SetItemsProcessed(s.iterations() * n);
}

class generator {
 public:
  struct promise_type {
    int value = 0;
    generator get_return_object() noexcept { return generator(handle::from_promise(*this)); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    std::suspend_always yield_value(int v) noexcept {
      value = v;
      return {};
    }
    void return_void() noexcept {}
    [[noreturn]] void unhandled_exception() { std::abort(); }
    static void* operator new(std::size_t n) { return bare::memory.allocate(n); }
    static void operator delete(void* p, std::size_t n) noexcept { bare::memory.deallocate(p, n); }
  };
  generator(generator&& o) noexcept : h_(std::exchange(o.h_, {})) {}
  generator& operator=(generator&&) = delete;
  ~generator() {
    if (h_) h_.destroy();
  }
  std::optional<int> next() const {
    h_.resume();
    if (h_.done()) return std::nullopt;
    return h_.promise().value;
  }

 private:
  using handle = std::coroutine_handle<promise_type>;
  explicit generator(handle h) noexcept : h_(h) {}
  handle h_;
};

generator numbers(int n) {
  for (int i = 0; i != n; ++i) co_yield i;
}
generator map(generator source) {
  while (const auto one = source.next()) co_yield *one + 1;
}
generator filter(generator source) {
  while (const auto one = source.next())
    if (*one >= 0) co_yield *one;
}
generator take(generator source, int n) {
  for (; n != 0; --n) {
    const auto one = source.next();
    if (!one) co_return;
    co_yield *one;
  }
}
bare::task<> stream(items::state& s) {
  constexpr int n = 1000;
  for (auto _ : s) {
    const auto all = take(filter(map(numbers(n))), n);
    int sum = 0;
    while (const auto one = all.next()) sum += *one;
    benchmark::DoNotOptimize(sum);
  }
  s.SetItemsProcessed(s.iterations() * n);
  co_return;
}

struct job {
  int priority;
  std::uint32_t number;
  void (*function)(int&);
  int* argument;
  bool operator<(const job& o) const noexcept {  // the greatest is the first
    return priority != o.priority ? priority > o.priority : number > o.number;
  }
};
void work(int& done) { ++done; }
template <unsigned Priorities>
bare::task<> scheduler(items::state& s) {
  const unsigned n = static_cast<unsigned>(s.range(0));
  for (auto _ : s) {
    std::priority_queue<job> jobs;
    int done = 0;
    for (unsigned i = 0; i != n; ++i) jobs.push({items::priority(i, Priorities), i, work, &done});
    for (; !jobs.empty(); jobs.pop()) jobs.top().function(*jobs.top().argument);
    benchmark::DoNotOptimize(done);
  }
  s.SetItemsProcessed(s.iterations() * n);
  co_return;
}

template <auto Item>
void run(items::state& s) {
  bare::run(Item(s));
}

}  // namespace

void add_pool_items() {
  items::add("lease", run<lease>);
  items::add("stream", run<stream>);
  items::add("scheduler", run<scheduler<8>>)->Arg(10)->Arg(1'000)->Arg(100'000);
  items::add("scheduler_distinct", run<scheduler<100'000>>)->Arg(100'000);
}
