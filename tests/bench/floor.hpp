// What the machine charges: the least that coroutines on one thread can cost. Frames from a free list, a ring of ready
// handles, intrusive waiters; no cancellation, no exceptions, no type erasure, no Asio. The ratios of the table are to
// this. It spells its few things as tandem does, so that both run the same items (items.hpp).
#pragma once

#include <bit>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <queue>
#include <thread>
#include <utility>
#include <vector>

namespace bare {

using clock = std::chrono::steady_clock;

class frame_memory {
 public:
  void* allocate(std::size_t size) {
    const std::size_t c = (size + granule - 1) / granule;
    if (c >= classes) return ::operator new(size);
    if (!free_[c]) return ::operator new(c * granule);
    return std::exchange(free_[c], free_[c]->next);
  }
  void deallocate(void* p, std::size_t size) noexcept {
    const std::size_t c = (size + granule - 1) / granule;
    if (c >= classes) return ::operator delete(p);
    free_[c] = ::new (p) block{free_[c]};
  }

 private:
  struct block {
    block* next;
  };
  static constexpr std::size_t granule = 16, classes = 64;
  block* free_[classes]{};
};
inline thread_local frame_memory memory;

class ring {
 public:
  void push(std::coroutine_handle<> h) noexcept {
    handles_[end_++ & mask] = h;
    if (end_ - begin_ > mask) std::abort();
  }
  void run() {
    while (begin_ != end_) handles_[begin_++ & mask].resume();
  }

 private:
  static constexpr std::size_t mask = (std::size_t(1) << 18) - 1;
  std::vector<std::coroutine_handle<>> handles_ = std::vector<std::coroutine_handle<>>(mask + 1);
  std::size_t begin_ = 0, end_ = 0;
};
inline ring ready;

struct promise_base {
  std::coroutine_handle<> continuation = std::noop_coroutine();
  std::size_t* left = nullptr;  // of the siblings that are awaited together

  std::suspend_always initial_suspend() noexcept { return {}; }
  struct go_on {
    bool await_ready() noexcept { return false; }
    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> h) noexcept {
      promise_base& p = h.promise();
      if (p.left && --*p.left != 0) return std::noop_coroutine();
      return p.continuation;
    }
    void await_resume() noexcept {}
  };
  go_on final_suspend() noexcept { return {}; }
  [[noreturn]] void unhandled_exception() { std::abort(); }
  static void* operator new(std::size_t n) { return memory.allocate(n); }
  static void operator delete(void* p, std::size_t n) noexcept { memory.deallocate(p, n); }
};

template <class T = void>
class [[nodiscard]] task {
 public:
  struct promise_type : promise_base {
    T value;
    task get_return_object() noexcept { return task(std::coroutine_handle<promise_type>::from_promise(*this)); }
    void return_value(T v) noexcept { value = v; }
    T result() const noexcept { return value; }
  };

  task(task&& o) noexcept : h_(std::exchange(o.h_, {})) {}
  ~task() {
    if (h_) h_.destroy();
  }
  promise_type& promise() const noexcept { return h_.promise(); }
  void start() const { h_.resume(); }

  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiter) noexcept {
    h_.promise().continuation = awaiter;
    return h_;
  }
  T await_resume() const noexcept { return h_.promise().result(); }

 private:
  explicit task(std::coroutine_handle<promise_type> h) noexcept : h_(h) {}
  std::coroutine_handle<promise_type> h_;
};

template <>
struct task<void>::promise_type : promise_base {
  task get_return_object() noexcept { return task(std::coroutine_handle<promise_type>::from_promise(*this)); }
  void return_void() noexcept {}
  void result() const noexcept {}
};

class yield_awaitable {
 public:
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> h) noexcept { ready.push(h); }
  void await_resume() const noexcept {}
};
inline yield_awaitable yield() noexcept { return {}; }

template <class T>
class gather_awaitable {
 public:
  explicit gather_awaitable(std::vector<task<T>> tasks) noexcept : tasks_(std::move(tasks)) {}
  bool await_ready() const noexcept { return tasks_.empty(); }
  bool await_suspend(std::coroutine_handle<> awaiter) {
    left_ = tasks_.size() + 1;
    for (auto& t : tasks_) {
      t.promise().continuation = awaiter;
      t.promise().left = &left_;
      t.start();
    }
    return --left_ != 0;
  }
  std::vector<T> await_resume() {
    std::vector<T> values;
    values.reserve(tasks_.size());
    for (auto& t : tasks_) values.push_back(t.promise().value);
    return values;
  }

 private:
  std::vector<task<T>> tasks_;
  std::size_t left_ = 0;
};
template <class T>
gather_awaitable<T> gather(std::vector<task<T>>&& tasks) noexcept {
  return gather_awaitable<T>(std::move(tasks));
}

class event {
 public:
  class waiter {
   public:
    explicit waiter(event& e) noexcept : event_(&e) {}
    bool await_ready() const noexcept { return event_->set_; }
    void await_suspend(std::coroutine_handle<> h) noexcept {
      handle_ = h;
      next_ = std::exchange(event_->first_, this);
    }
    void await_resume() const noexcept {}

   private:
    friend class event;
    event* event_;
    waiter* next_ = nullptr;
    std::coroutine_handle<> handle_;
  };
  waiter wait() noexcept { return waiter(*this); }
  void set() noexcept {
    set_ = true;
    for (waiter* w = std::exchange(first_, nullptr); w; w = w->next_) ready.push(w->handle_);
  }

 private:
  waiter* first_ = nullptr;
  bool set_ = false;
};

/// Those who wait for the same, first come, first served.
template <class Waiter>
class line {
 public:
  void push(Waiter& w) noexcept {
    w.next_ = nullptr;
    *end_ = &w;
    end_ = &w.next_;
  }
  Waiter* pop() noexcept {
    Waiter* w = first_;
    if (w && !(first_ = w->next_)) end_ = &first_;
    return w;
  }
  line() = default;
  line(const line&) = delete;
  line& operator=(const line&) = delete;

 private:
  Waiter* first_ = nullptr;
  Waiter** end_ = &first_;
};

class semaphore {
 public:
  explicit semaphore(std::size_t permits) noexcept : free_(permits) {}

  class [[nodiscard]] permit {
   public:
    explicit permit(semaphore& s) noexcept : semaphore_(&s) {}
    permit(permit&& o) noexcept : semaphore_(std::exchange(o.semaphore_, nullptr)) {}
    ~permit() {
      if (semaphore_) semaphore_->release();
    }

   private:
    semaphore* semaphore_;
  };

  class waiter {
   public:
    explicit waiter(semaphore& s) noexcept : semaphore_(&s) {}
    bool await_ready() const noexcept {
      if (semaphore_->free_ == 0) return false;
      --semaphore_->free_;
      return true;
    }
    void await_suspend(std::coroutine_handle<> h) noexcept {
      handle_ = h;
      semaphore_->waiters_.push(*this);
    }
    permit await_resume() const noexcept { return permit(*semaphore_); }

   private:
    friend class semaphore;
    friend class line<waiter>;
    semaphore* semaphore_;
    waiter* next_;
    std::coroutine_handle<> handle_;
  };
  waiter acquire() noexcept { return waiter(*this); }

 private:
  /// What is given back goes to who waits, and is never free meanwhile: nobody overtakes.
  void release() noexcept {
    if (waiter* w = waiters_.pop())
      ready.push(w->handle_);
    else
      ++free_;
  }
  std::size_t free_;
  line<waiter> waiters_;
};

template <class T>
class queue {
 public:
  explicit queue(std::size_t capacity)
      : capacity_(capacity), mask_(std::bit_ceil(capacity) - 1), items_(std::make_unique<T[]>(mask_ + 1)) {}

  class pusher {
   public:
    pusher(queue& q, T v) noexcept : queue_(&q), value_(std::move(v)) {}
    bool await_ready() noexcept {
      if (popper* p = queue_->poppers_.pop()) {
        p->value_ = std::move(value_);
        ready.push(p->handle_);
        return true;
      }
      if (queue_->size() == queue_->capacity_) return false;
      queue_->store(std::move(value_));
      return true;
    }
    void await_suspend(std::coroutine_handle<> h) noexcept {
      handle_ = h;
      queue_->pushers_.push(*this);
    }
    void await_resume() const noexcept {}

   private:
    friend class queue;
    friend class line<pusher>;
    queue* queue_;
    T value_;
    pusher* next_;
    std::coroutine_handle<> handle_;
  };

  class popper {
   public:
    explicit popper(queue& q) noexcept : queue_(&q) {}
    bool await_ready() noexcept {
      if (queue_->size() == 0) return queue_->closed_;
      value_ = queue_->take();
      if (pusher* p = queue_->pushers_.pop()) {
        queue_->store(std::move(p->value_));
        ready.push(p->handle_);
      }
      return true;
    }
    void await_suspend(std::coroutine_handle<> h) noexcept {
      handle_ = h;
      queue_->poppers_.push(*this);
    }
    std::optional<T> await_resume() noexcept { return std::move(value_); }

   private:
    friend class queue;
    friend class line<popper>;
    queue* queue_;
    std::optional<T> value_;
    popper* next_;
    std::coroutine_handle<> handle_;
  };

  pusher push(T value) noexcept { return pusher(*this, std::move(value)); }
  /// Nothing once the queue is closed and empty.
  popper pop() noexcept { return popper(*this); }
  void close() noexcept {
    closed_ = true;
    while (popper* p = poppers_.pop()) ready.push(p->handle_);
  }

 private:
  std::size_t size() const noexcept { return end_ - begin_; }
  void store(T&& v) noexcept { items_[end_++ & mask_] = std::move(v); }
  T take() noexcept { return std::move(items_[begin_++ & mask_]); }

  std::size_t capacity_, mask_;
  std::unique_ptr<T[]> items_;  // a ring
  std::size_t begin_ = 0, end_ = 0;
  bool closed_ = false;
  line<pusher> pushers_;
  line<popper> poppers_;
};

struct timer {
  clock::time_point due;
  std::coroutine_handle<> handle;
  bool operator<(const timer& o) const noexcept { return o.due < due; }  // the earliest is on top
};
inline std::priority_queue<timer> timers;

class sleep_awaitable {
 public:
  explicit sleep_awaitable(clock::duration d) noexcept : length_(d) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> h) { timers.push({clock::now() + length_, h}); }
  void await_resume() const noexcept {}

 private:
  clock::duration length_;
};
inline sleep_awaitable sleep_for(clock::duration d) noexcept { return sleep_awaitable(d); }

/// Tasks that can be cancelled while they wait, and the first of several.
class race_arm {
 public:
  struct promise_type : promise_base {
    class cancellable_wait* waits_for = nullptr;
    class race_awaitable* race = nullptr;
    int value = 0;
    race_arm get_return_object() noexcept { return race_arm(std::coroutine_handle<promise_type>::from_promise(*this)); }
    void return_value(int v) noexcept { value = v; }
    struct report {
      bool await_ready() noexcept { return false; }
      std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> h) noexcept;
      void await_resume() noexcept {}
    };
    report final_suspend() noexcept { return {}; }
  };
  race_arm(race_arm&& o) noexcept : h_(std::exchange(o.h_, {})) {}
  ~race_arm() {
    if (h_) h_.destroy();
  }
  promise_type& promise() const noexcept { return h_.promise(); }
  void start() const { h_.resume(); }

 private:
  explicit race_arm(std::coroutine_handle<promise_type> h) noexcept : h_(h) {}
  std::coroutine_handle<promise_type> h_;
};

class cancellable_wait {
 public:
  explicit cancellable_wait(cancellable_wait*& list) noexcept : link_(&list) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<race_arm::promise_type> h) noexcept {
    handle_ = h;
    h.promise().waits_for = this;
    next_ = *link_;
    if (next_) next_->link_ = &next_;
    *link_ = this;
  }
  bool await_resume() const noexcept { return !cancelled_; }
  void cancel() {
    cancelled_ = true;
    *link_ = next_;
    if (next_) next_->link_ = link_;
    handle_.promise().waits_for = nullptr;
    handle_.resume();
  }

 private:
  cancellable_wait* next_ = nullptr;
  cancellable_wait** link_;
  std::coroutine_handle<race_arm::promise_type> handle_;
  bool cancelled_ = false;
};

class race_awaitable {
 public:
  explicit race_awaitable(std::vector<race_arm> arms) noexcept : arms_(std::move(arms)) {}
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> awaiter) {
    awaiter_ = awaiter;
    left_ = arms_.size() + 1;
    for (auto& a : arms_) {
      a.promise().race = this;
      a.start();
    }
    if (winner_)
      for (auto& a : arms_)
        if (auto* w = a.promise().waits_for) w->cancel();
    return --left_ != 0;
  }
  int await_resume() const noexcept { return winner_->value; }
  std::coroutine_handle<> ended(race_arm::promise_type& p) noexcept {
    if (!winner_) winner_ = &p;
    return --left_ == 0 ? awaiter_ : std::noop_coroutine();
  }

 private:
  std::vector<race_arm> arms_;
  race_arm::promise_type* winner_ = nullptr;
  std::size_t left_ = 0;
  std::coroutine_handle<> awaiter_;
};
inline std::coroutine_handle<> race_arm::promise_type::report::await_suspend(
    std::coroutine_handle<promise_type> h) noexcept {
  return h.promise().race->ended(h.promise());
}
inline race_awaitable race(std::vector<race_arm>&& arms) noexcept { return race_awaitable(std::move(arms)); }

inline void run(task<> main) {
  main.start();
  for (;;) {
    ready.run();
    if (timers.empty()) return;
    std::this_thread::sleep_until(timers.top().due);
    for (const auto now = clock::now(); !timers.empty() && timers.top().due <= now; timers.pop())
      ready.push(timers.top().handle);
  }
}

}  // namespace bare
