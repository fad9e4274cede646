// How the machine works, step 4: many children. A node stands between a frame and what it waits for.
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <deque>
#include <exception>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

struct task;
struct loop;
struct frame;

// [node]
struct wait_node {  // what a suspended frame waits for
  frame* waiter = nullptr;

  wait_node() = default;
  wait_node(const wait_node&) = delete;
  wait_node& operator=(const wait_node&) = delete;
  virtual const char* what() const noexcept = 0;
  virtual std::size_t children() const noexcept { return 0; }
  virtual frame* child_at(std::size_t) const noexcept { return nullptr; }  // null: it has ended
  virtual frame* child_ended(frame&) { return nullptr; }                   // gives who goes on now, or null

 protected:
  ~wait_node() = default;
};

struct frame {
  loop* runs_on = nullptr;
  wait_node* owner = nullptr;      // is told when this frame ends; null for a root
  wait_node* waits_for = nullptr;  // null while it runs
  std::size_t index = 0;           // which child of its owner it is
  int result = 0;
  std::exception_ptr failure;

  task get_return_object();
  std::suspend_always initial_suspend() noexcept { return {}; }
  std::suspend_always final_suspend() noexcept { return {}; }
  void return_value(int value) noexcept { result = value; }
  void unhandled_exception() noexcept { failure = std::current_exception(); }

  std::coroutine_handle<frame> handle() noexcept { return std::coroutine_handle<frame>::from_promise(*this); }
};
// [/node]

// [loop]
using time_point = std::chrono::steady_clock::time_point;

struct loop {
  time_point now{};  // virtual
  std::deque<frame*> ready;
  std::multimap<time_point, frame*> timers;

  bool start(frame& child) {  // true: it has ended
    child.handle().resume();
    return child.handle().done();
  }

  void drive(frame* f) {
    while (f) {
      f->waits_for = nullptr;
      f->handle().resume();
      if (!f->handle().done()) return;
      f = f->owner ? f->owner->child_ended(*f) : nullptr;
    }
  }

  void run() {
    while (!ready.empty() || !timers.empty()) {
      if (ready.empty()) now = timers.begin()->first;
      while (!timers.empty() && timers.begin()->first <= now) {
        ready.push_back(timers.begin()->second);
        timers.erase(timers.begin());
      }
      frame* f = ready.front();
      ready.pop_front();
      drive(f);
    }
  }
};
// [/loop]

// [task]
struct task final : wait_node {  // as an awaiter it is the node that waits for one child
  using promise_type = frame;

  explicit task(frame& f) noexcept : child(&f) {}
  task(task&& other) noexcept : child(std::exchange(other.child, nullptr)) {}
  ~task() {
    if (child) child->handle().destroy();
  }

  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<frame> h) {
    waiter = &h.promise();
    child->owner = this;
    child->runs_on = waiter->runs_on;
    waiter->waits_for = this;
    if (!child->runs_on->start(*child)) return true;
    waiter->waits_for = nullptr;
    return false;
  }
  int await_resume() {
    const task ended = std::move(*this);
    if (ended.child->failure) std::rethrow_exception(ended.child->failure);
    return ended.child->result;
  }

  const char* what() const noexcept override { return "task"; }
  std::size_t children() const noexcept override { return 1; }
  frame* child_at(std::size_t) const noexcept override { return child; }
  frame* child_ended(frame&) override { return waiter; }

  frame* child;
};

task frame::get_return_object() { return task(*this); }
// [/task]

// [gather]
struct gather : wait_node {
  explicit gather(std::vector<task> t) : tasks(std::move(t)), results(tasks.size()) {}

  bool await_ready() const noexcept { return tasks.empty(); }
  bool await_suspend(std::coroutine_handle<frame> h) {
    waiter = &h.promise();
    pending = 1;  // one more, so that the last child's end is not the group's before all have started
    for (std::size_t i = 0; i != tasks.size(); ++i) {
      frame& child = *tasks[i].child;
      child.owner = this;
      child.runs_on = waiter->runs_on;
      child.index = i;
      ++pending;
      if (child.runs_on->start(child)) child_ended(child);
    }
    if (--pending == 0) return false;
    waiter->waits_for = this;
    return true;
  }
  std::vector<int> await_resume() {
    if (failure) std::rethrow_exception(failure);
    return std::move(results);
  }

  const char* what() const noexcept override { return "gather"; }
  std::size_t children() const noexcept override { return tasks.size(); }
  frame* child_at(std::size_t i) const noexcept override { return tasks[i].child; }
  frame* child_ended(frame& child) override {
    const task ended = std::move(tasks[child.index]);  // destroys the frame, before anybody goes on
    results[child.index] = child.result;
    if (child.failure && !failure) failure = child.failure;
    return --pending == 0 ? waiter : nullptr;
  }

  std::vector<task> tasks;
  std::vector<int> results;
  std::exception_ptr failure;
  std::size_t pending = 0;
};
// [/gather]

// [leaves]
struct sleep_for : wait_node {
  explicit sleep_for(std::chrono::milliseconds d) : duration(d) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<frame> h) {
    waiter = &h.promise();
    waiter->waits_for = this;
    waiter->runs_on->timers.emplace(waiter->runs_on->now + duration, waiter);
  }
  void await_resume() const noexcept {}
  const char* what() const noexcept override { return "sleep"; }
  std::chrono::milliseconds duration;
};

struct event : wait_node {  // for one waiter
  bool await_ready() const noexcept { return is_set; }
  void await_suspend(std::coroutine_handle<frame> h) {
    waiter = &h.promise();
    waiter->waits_for = this;
  }
  void await_resume() const noexcept {}
  void set() {
    is_set = true;
    if (waiter) waiter->runs_on->ready.push_back(waiter);  // goes on in its turn, never inside set()
  }
  const char* what() const noexcept override { return "event"; }
  bool is_set = false;
};
// [/leaves]

// [tree]
void print_tree(const frame& f, std::string indent = "  ") {
  if (!f.waits_for) return;
  const wait_node& node = *f.waits_for;
  std::cout << indent << "waits for " << node.what() << '\n';
  for (std::size_t i = 0; i != node.children(); ++i)
    if (const frame* child = node.child_at(i)) print_tree(*child, indent + "  ");
}
// [/tree]

// [use]
task ship(int tons, std::chrono::milliseconds takes) {
  co_await sleep_for(takes);
  if (tons < 0) throw std::runtime_error("a ship is lost");
  co_return tons;
}

task harbour(loop& l, event& lighthouse) {
  std::vector<task> ships;
  ships.push_back(ship(300, 30ms));
  ships.push_back(ship(100, 10ms));
  const std::vector<int> tons = co_await gather(std::move(ships));
  std::cout << l.now.time_since_epoch() / 1ms << " ms: " << tons[0] << " and " << tons[1] << " tons\n";

  std::vector<task> fleet;
  fleet.push_back(ship(-1, 5ms));
  fleet.push_back(ship(200, 50ms));
  try {
    co_await gather(std::move(fleet));
  } catch (const std::runtime_error& e) {
    std::cout << l.now.time_since_epoch() / 1ms << " ms: " << e.what() << '\n';
  }
  co_await lighthouse;
  co_return tons[0] + tons[1];
}

task pilot(loop& l, event& lighthouse) {
  std::vector<task> both;
  both.push_back(harbour(l, lighthouse));
  both.push_back(ship(1, 20ms));
  const std::vector<int> tons = co_await gather(std::move(both));
  co_return tons[0] + tons[1];
}

int main() {
  loop l;
  event lighthouse;
  task root = pilot(l, lighthouse);
  root.child->runs_on = &l;
  l.ready.push_back(root.child);
  l.run();
  if (!root.child->handle().done()) {
    std::cout << "nobody is ready, and nothing will happen any more:\n";
    print_tree(*root.child);
  }
  lighthouse.set();
  l.run();
  std::cout << "all in: " << root.child->result << " tons\n";
}
// [/use]
