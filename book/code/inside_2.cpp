// How the machine works, step 2: a loop. It resumes what is ready, and follows the ends of frames up to their awaiters.
#include <coroutine>
#include <deque>
#include <exception>
#include <iostream>
#include <utility>

struct task;
struct loop;

// [frame]
struct frame {
  loop* runs_on = nullptr;   // set when the frame starts
  frame* awaiter = nullptr;  // who goes on when this one has ended; null for a root
  int result = 0;
  std::exception_ptr failure;

  task get_return_object();
  std::suspend_always initial_suspend() noexcept { return {}; }
  std::suspend_always final_suspend() noexcept { return {}; }
  void return_value(int value) noexcept { result = value; }
  void unhandled_exception() noexcept { failure = std::current_exception(); }

  std::coroutine_handle<frame> handle() noexcept { return std::coroutine_handle<frame>::from_promise(*this); }
};
// [/frame]

// [task]
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
    child->handle().resume();        // until it ends, or first waits
    return !child->handle().done();  // true: the awaiter waits as well
  }
  int await_resume() {
    const task ended = std::move(*this);
    if (ended.child->failure) std::rethrow_exception(ended.child->failure);
    return ended.child->result;
  }

  frame* child;
};

task frame::get_return_object() { return task(*this); }
// [/task]

// [loop]
struct loop {
  std::deque<frame*> ready;

  void start(task& root) {
    root.child->runs_on = this;
    ready.push_back(root.child);
  }

  void run() {
    while (!ready.empty()) {
      frame* f = ready.front();
      ready.pop_front();
      drive(f);
    }
  }

  void drive(frame* f) {
    while (f) {
      f->handle().resume();
      if (!f->handle().done()) return;  // it waits again
      f = f->awaiter;                   // it has ended: its awaiter is next
    }
  }
};
// [/loop]

// [yield]
struct yield {
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<frame> h) const { h.promise().runs_on->ready.push_back(&h.promise()); }
  void await_resume() const noexcept {}
};
// [/yield]

// [use]
task step(const char* who, int number) {
  co_await yield();
  std::cout << who << " takes step " << number << '\n';
  co_return 1;
}

task walk(const char* who, int steps) {
  int taken = 0;
  for (int i = 1; i <= steps; ++i) {
    const int one = co_await step(who, i);
    taken += one;
  }
  std::cout << who << " has arrived\n";
  co_return taken;
}

task at_once(int n) { co_return n; }

task many() {
  int sum = 0;
  for (int i = 0; i != 1'000'000; ++i) {
    const int n = co_await at_once(1);
    sum += n;
  }
  co_return sum;
}

int main() {
  loop l;
  task ann = walk("Ann", 3), bob = walk("Bob", 2), counting = many();
  l.start(ann);
  l.start(bob);
  l.start(counting);
  l.run();
  std::cout << "Ann " << ann.child->result << ", Bob " << bob.child->result << ", counted "
            << counting.child->result << '\n';
}
// [/use]
