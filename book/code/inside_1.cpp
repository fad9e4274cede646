// How the machine works, step 1: a lazy task. A frame keeps a coroutine, a task owns a frame.
#include <coroutine>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <utility>

// [frame]
struct task;

struct frame {  // the promise: what the compiler keeps in the memory of a coroutine, for us
  int result = 0;
  std::exception_ptr failure;

  task get_return_object();
  std::suspend_always initial_suspend() noexcept { return {}; }  // lazy: nothing runs before the first resume()
  std::suspend_always final_suspend() noexcept { return {}; }    // the frame stays, so that its result can be taken
  void return_value(int value) noexcept { result = value; }
  void unhandled_exception() noexcept { failure = std::current_exception(); }

  std::coroutine_handle<> handle() noexcept { return std::coroutine_handle<frame>::from_promise(*this); }
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

  // What co_await asks for: is it there already? Then start it. And at last, what did it give?
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<>) {
    child->handle().resume();
    return false;  // it has ended: the awaiter goes on at once
  }
  int await_resume() {
    const task ended = std::move(*this);  // so the frame is gone before the awaiter goes on
    if (ended.child->failure) std::rethrow_exception(ended.child->failure);
    return ended.child->result;
  }

  frame* child;
};

task frame::get_return_object() { return task(*this); }
// [/task]

// [use]
struct thermometer {
  ~thermometer() { std::cout << "  put the thermometer away\n"; }
};

task room(int number) {
  const thermometer t;
  std::cout << "  measure room " << number << '\n';
  if (number == 3) throw std::runtime_error("room 3 is locked");
  co_return 18 + number;
}

task house() {
  task first = room(1);
  std::cout << "room(1) was called\n";
  const int one = co_await std::move(first);
  const int two = co_await room(2);
  std::cout << one << " and " << two << " degrees\n";
  try {
    co_await room(3);
  } catch (const std::runtime_error& e) {
    std::cout << e.what() << '\n';
  }
  co_return one + two;
}

int main() {
  task root = house();
  std::cout << "house() was called\n";
  root.child->handle().resume();
  std::cout << "sum " << root.child->result << '\n';
}
// [/use]
