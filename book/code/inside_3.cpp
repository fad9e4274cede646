// How the machine works, step 3: time. When nobody is ready, the loop goes to the next timer: it sleeps, or it jumps.
#include <chrono>
#include <coroutine>
#include <deque>
#include <exception>
#include <iostream>
#include <map>
#include <thread>
#include <utility>

using namespace std::chrono_literals;

struct task;
struct loop;

struct frame {
  loop* runs_on = nullptr;
  frame* awaiter = nullptr;
  int result = 0;
  std::exception_ptr failure;

  task get_return_object();
  std::suspend_always initial_suspend() noexcept { return {}; }
  std::suspend_always final_suspend() noexcept { return {}; }
  void return_value(int value) noexcept { result = value; }
  void unhandled_exception() noexcept { failure = std::current_exception(); }

  std::coroutine_handle<frame> handle() noexcept { return std::coroutine_handle<frame>::from_promise(*this); }
};

struct task {
  using promise_type = frame;

  explicit task(frame& f) noexcept : child(&f) {}
  task(task&& other) noexcept : child(std::exchange(other.child, nullptr)) {}
  ~task() {
    if (child) child->handle().destroy();
  }

  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<frame> h) {
    child->awaiter = &h.promise();
    child->runs_on = h.promise().runs_on;
    child->handle().resume();
    return !child->handle().done();
  }
  int await_resume() {
    const task ended = std::move(*this);
    if (ended.child->failure) std::rethrow_exception(ended.child->failure);
    return ended.child->result;
  }

  frame* child;
};

task frame::get_return_object() { return task(*this); }

// [loop]
using time_point = std::chrono::steady_clock::time_point;

struct loop {
  bool virtual_time = false;
  time_point virtual_now{};
  std::deque<frame*> ready;
  std::multimap<time_point, frame*> timers;  // by time; those of one instant in the order in which they came

  time_point now() const { return virtual_time ? virtual_now : std::chrono::steady_clock::now(); }

  void start(task& root) {
    root.child->runs_on = this;
    ready.push_back(root.child);
  }

  void run() {
    for (;;) {
      while (!ready.empty()) {
        frame* f = ready.front();
        ready.pop_front();
        drive(f);
      }
      if (timers.empty()) return;
      const time_point next = timers.begin()->first;
      if (virtual_time)
        virtual_now = next;
      else
        std::this_thread::sleep_until(next);
      fire(now());
    }
  }

  void fire(time_point until) {
    while (!timers.empty() && timers.begin()->first <= until) {
      ready.push_back(timers.begin()->second);
      timers.erase(timers.begin());
    }
  }

  void drive(frame* f) {
    while (f) {
      f->handle().resume();
      if (!f->handle().done()) return;
      f = f->awaiter;
    }
  }
};
// [/loop]

// [sleep]
struct sleep_for {
  explicit sleep_for(std::chrono::milliseconds d) : duration(d) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<frame> h) const {
    loop& l = *h.promise().runs_on;
    l.timers.emplace(l.now() + duration, &h.promise());
  }
  void await_resume() const noexcept {}
  std::chrono::milliseconds duration;
};
// [/sleep]

// [use]
task tower(loop& l, int strokes, std::chrono::milliseconds apart) {
  for (int i = 1; i <= strokes; ++i) {
    co_await sleep_for(apart);
    if (l.virtual_time) std::cout << l.now().time_since_epoch() / 1min << " min: stroke " << i << " of " << strokes << '\n';
  }
  co_return strokes;
}

int main() {
  {
    loop l;
    l.virtual_time = true;
    task hours = tower(l, 2, 1h), quarters = tower(l, 5, 15min);
    l.start(hours);
    l.start(quarters);
    l.run();
  }
  {
    loop l;
    task short_one = tower(l, 2, 10ms);
    const auto begin = l.now();
    l.start(short_one);
    l.run();
    std::cout << "in real time: " << (l.now() - begin >= 20ms ? "20 ms or more" : "too early") << '\n';
  }
}
// [/use]
