// What crossing threads costs at least: two loops with a thread each, which send each other coroutines. An inbox takes
// one compare-and-swap to send and one exchange for all that has arrived. Frames are made and destroyed on one thread.
#include "floor.hpp"

#include "harness.hpp"

#include <atomic>

namespace {

struct letter {
  std::coroutine_handle<> handle;
  letter* next = nullptr;
};

class inbox {
 public:
  void push(letter& l) noexcept {
    letter* latest = latest_.load(std::memory_order_relaxed);
    do l.next = latest;
    while (!latest_.compare_exchange_weak(latest, &l, std::memory_order_release, std::memory_order_relaxed));
    if (!latest) latest_.notify_one();
  }
  /// Waits until there is something; all of it, in the order in which it was sent.
  letter* take() noexcept {
    latest_.wait(nullptr, std::memory_order_relaxed);
    letter* first = nullptr;
    for (letter* l = latest_.exchange(nullptr, std::memory_order_acquire); l;) {
      letter* next = std::exchange(l->next, first);
      first = std::exchange(l, next);
    }
    return first;
  }

 private:
  alignas(64) std::atomic<letter*> latest_{nullptr};  // a cache line of its own
};

/// Runs what is sent to it.
class other_thread {
 public:
  ~other_thread() {
    in_.push(end_);
    thread_.join();
  }
  void push(letter& l) noexcept { in_.push(l); }

 private:
  void run() noexcept {
    for (;;)
      for (letter* l = in_.take(); l;) {
        if (l == &end_) return;
        letter* next = l->next;  // when it has run it may be on its way back
        l->handle.resume();
        l = next;
      }
  }
  inbox in_;
  letter end_;
  std::thread thread_{[this] { run(); }};
};

/// A coroutine that is sent to a thread, and to `home` when it has ended.
class sent {
 public:
  struct promise_type : letter {
    inbox* home = nullptr;
    int value = 0;
    sent get_return_object() noexcept {
      const auto h = std::coroutine_handle<promise_type>::from_promise(*this);
      handle = h;
      return sent(h);
    }
    std::suspend_always initial_suspend() noexcept { return {}; }
    struct go_home {
      bool await_ready() noexcept { return false; }
      void await_suspend(std::coroutine_handle<promise_type> h) noexcept { h.promise().home->push(h.promise()); }
      void await_resume() noexcept {}
    };
    go_home final_suspend() noexcept { return {}; }
    void return_value(int v) noexcept { value = v; }
    [[noreturn]] void unhandled_exception() { std::abort(); }
    static void* operator new(std::size_t n) { return bare::memory.allocate(n); }
    static void operator delete(void* p, std::size_t n) noexcept { bare::memory.deallocate(p, n); }
  };
  sent(sent&& o) noexcept : h_(std::exchange(o.h_, {})) {}
  ~sent() {
    if (h_) h_.destroy();
  }
  void send(other_thread& there, inbox& home) noexcept {
    h_.promise().home = &home;
    there.push(h_.promise());
  }
  int value() const noexcept { return h_.promise().value; }

 private:
  explicit sent(std::coroutine_handle<promise_type> h) noexcept : h_(h) {}
  std::coroutine_handle<promise_type> h_;
};

void send_and_wait(std::vector<sent>& all, other_thread& there, inbox& home) {
  for (auto& s : all) s.send(there, home);
  for (std::size_t left = all.size(); left != 0;)
    for (const letter* l = home.take(); l; l = l->next) --left;
}

sent immediate(int i) { co_return i; }
void across_threads(items::state& s) {
  constexpr int n = 100'000;
  inbox home;
  other_thread there;
  for (auto _ : s) {
    std::vector<sent> children;
    children.reserve(n);
    for (int i = 0; i != n; ++i) children.push_back(immediate(i));
    send_and_wait(children, there, home);
    benchmark::DoNotOptimize(children.back().value());
  }
  s.SetItemsProcessed(s.iterations() * n);
}

bare::task<int> immediate_child(int i) { co_return i; }
sent await_all(std::vector<bare::task<int>>& children) {
  int last = 0;
  for (auto& c : children) last = co_await c;
  co_return last;
}
void across_threads_batched(items::state& s) {
  constexpr int n = 100'000, batch = 1000;
  inbox home;
  other_thread there;
  for (auto _ : s) {
    std::vector<std::vector<bare::task<int>>> children(n / batch);
    std::vector<sent> batches;
    batches.reserve(children.size());
    for (auto& b : children) {
      b.reserve(batch);
      for (int i = 0; i != batch; ++i) b.push_back(immediate_child(i));
      batches.push_back(await_all(b));
    }
    send_and_wait(batches, there, home);
    benchmark::DoNotOptimize(batches.back().value());
  }
  s.SetItemsProcessed(s.iterations() * n);
}

}  // namespace

void add_thread_items() {
  items::add("across_threads", across_threads);
  items::add("across_threads_batched", across_threads_batched);
}
