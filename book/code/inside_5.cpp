// How the machine works, step 5: stopping, without exceptions, on a loop of Asio's.
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <deque>
#include <exception>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using time_point = std::chrono::steady_clock::time_point;

struct task;
struct loop;
struct frame;

// [scope]
struct scope {  // what the frames share that are stopped together
  loop* runs_on = nullptr;
  bool stopping = false;
};

struct step {  // what the loop does next: resume a frame, or have it destroyed because it was stopped, or nothing
  frame* target = nullptr;
  bool stopped = false;
};

struct wait_node {
  frame* waiter = nullptr;

  wait_node() = default;
  wait_node(const wait_node&) = delete;
  wait_node& operator=(const wait_node&) = delete;
  virtual frame* passes_stop_to() const noexcept { return nullptr; }  // the child of a node that has no scope of its own
  virtual void stop() {}                                              // resumes nothing, destroys nothing
  virtual step child_ended(frame&, bool /*stopped*/) { return {}; }

 protected:
  ~wait_node() = default;
};
// [/scope]

struct frame {
  scope* in = nullptr;
  wait_node* owner = nullptr;
  wait_node* waits_for = nullptr;
  std::size_t index = 0;
  int result = 0;
  std::exception_ptr failure;

  task get_return_object();
  std::suspend_always initial_suspend() noexcept { return {}; }
  std::suspend_always final_suspend() noexcept { return {}; }
  void return_value(int value) noexcept { result = value; }
  void unhandled_exception() noexcept { failure = std::current_exception(); }

  std::coroutine_handle<frame> handle() noexcept { return std::coroutine_handle<frame>::from_promise(*this); }
};

// [stop]
void stop_below(frame& top) {
  frame* f = &top;
  while (wait_node* node = f->waits_for) {
    frame* next = node->passes_stop_to();
    if (!next) return node->stop();  // a leaf or a group
    f = next;
  }  // or f runs, or has been granted what it waited for: it stops at its next wait
}
// [/stop]

// [loop]
struct leaf : wait_node {
  enum { idle, waits, woken } state = idle;
  void park(frame& f);
  void wake();
  void stop() override;
  virtual void leave() {}  // the list or heap in which it waits
};

struct loop {
  explicit loop(asio::io_context& c) : context(c), timer(c) {}

  asio::io_context& context;
  asio::steady_timer timer;  // one for all sleepers
  std::deque<step> ready;
  std::multimap<time_point, leaf*> sleepers;
  bool draining = false, posted = false;

  void queue(step s) {
    ready.push_back(s);
    if (draining || std::exchange(posted, true)) return;
    asio::post(context, [this] { drain(); });
  }

  bool start(frame& child) {
    child.handle().resume();
    return child.handle().done();
  }

  void drain() {
    draining = true;
    posted = false;
    while (!ready.empty()) {
      const step s = ready.front();
      ready.pop_front();
      drive(s);
    }
    draining = false;
    timer.cancel();  // if nobody sleeps any more, the context has nothing left to do and returns
    if (sleepers.empty()) return;
    timer.expires_at(sleepers.begin()->first);
    timer.async_wait([this](std::error_code e) {
      if (!e) fire();
    });
  }

  void fire() {
    draining = true;
    const time_point now = std::chrono::steady_clock::now();
    while (!sleepers.empty() && sleepers.begin()->first <= now) sleepers.begin()->second->wake();
    drain();
  }

  void drive(step s);
};
// [/loop]

// [leaf]
void leaf::park(frame& f) {
  waiter = &f;
  f.waits_for = this;
  state = waits;
  if (f.in->stopping) stop();  // in a stopped scope the next wait stops, here and now
}
void leaf::wake() {
  leave();
  state = woken;
  waiter->in->runs_on->queue({waiter, false});
}
void leaf::stop() {
  if (state != waits) return;  // granted already: the value wins
  leave();
  state = idle;
  waiter->in->runs_on->queue({waiter, true});
}
// [/leaf]

// [drive]
void loop::drive(step s) {
  while (s.target) {
    frame& f = *s.target;
    if (!s.stopped) {
      f.waits_for = nullptr;
      f.handle().resume();
      if (!f.handle().done()) return;
    }
    s = f.owner->child_ended(f, s.stopped);  // which destroys it, if it was stopped
  }
}
// [/drive]

// [task]
struct task final : wait_node {
  using promise_type = frame;

  explicit task(frame& f) noexcept : child(&f) {}
  task(task&& other) noexcept : child(std::exchange(other.child, nullptr)) {}
  ~task() { destroy(); }
  void destroy() {
    if (child) std::exchange(child, nullptr)->handle().destroy();
  }

  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<frame> h) {
    waiter = &h.promise();
    child->owner = this;
    child->in = waiter->in;  // the same scope
    waiter->waits_for = this;
    if (!child->in->runs_on->start(*child)) return true;
    waiter->waits_for = nullptr;
    return false;
  }
  int await_resume() {
    const task ended = std::move(*this);
    if (ended.child->failure) std::rethrow_exception(ended.child->failure);
    return ended.child->result;
  }

  frame* passes_stop_to() const noexcept override { return child; }
  step child_ended(frame&, bool stopped) override {
    if (stopped) destroy();     // the inner one goes first,
    return {waiter, stopped};  // and then the loop asks the owner of the waiter
  }

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
    below.runs_on = waiter->in->runs_on;
    pending = 1;
    for (std::size_t i = 0; i != tasks.size() && !below.stopping; ++i) {
      frame& child = *tasks[i].child;
      child.owner = this;
      child.in = &below;
      child.index = i;
      ++pending;
      if (below.runs_on->start(child)) child_ended(child, false);
    }
    if (--pending == 0) return false;
    waiter->waits_for = this;
    if (waiter->in->stopping) stop();  // it was asked for meanwhile
    return true;
  }
  std::vector<int> await_resume() {
    if (failure) std::rethrow_exception(failure);
    return std::move(results);
  }

  void stop() override {
    if (std::exchange(below.stopping, true)) return;
    for (const task& t : tasks)
      if (t.child) stop_below(*t.child);
  }
  step child_ended(frame& child, bool stopped) override {
    const task ended = std::move(tasks[child.index]);
    if (stopped) was_stopped = true;
    if (!stopped) results[child.index] = child.result;
    if (child.failure && !failure) {
      failure = child.failure;
      stop();  // the first failure stops the others
    }
    if (--pending != 0) return {};
    return {waiter, was_stopped && !failure};
  }

  scope below;
  std::vector<task> tasks;
  std::vector<int> results;
  std::exception_ptr failure;
  std::size_t pending = 0;
  bool was_stopped = false;
};
// [/gather]

// [leaves]
struct sleep_for : leaf {
  explicit sleep_for(std::chrono::milliseconds d) : duration(d) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<frame> h) {
    sleepers = &h.promise().in->runs_on->sleepers;
    at = sleepers->emplace(std::chrono::steady_clock::now() + duration, this);
    park(h.promise());
  }
  void await_resume() const noexcept {}
  void leave() override { sleepers->erase(at); }

  std::chrono::milliseconds duration;
  std::multimap<time_point, leaf*>* sleepers = nullptr;
  std::multimap<time_point, leaf*>::iterator at;
};
// [/leaves]

// [root]
struct root : wait_node {
  root(loop& l, task t) : body(std::move(t)) {
    in.runs_on = &l;
    body.child->owner = this;
    body.child->in = &in;
    l.queue({body.child, false});
  }
  void stop() override {
    if (std::exchange(in.stopping, true) || !body.child) return;
    stop_below(*body.child);
  }
  step child_ended(frame& f, bool stopped) override {
    const int result = f.result;
    body.destroy();
    std::cout << "the root " << (stopped ? "was stopped" : "gave " + std::to_string(result)) << '\n';
    return {};
  }

  scope in;
  task body;
};
// [/root]

// [use]
struct bag {
  ~bag() { std::cout << "  " << owner << " puts the bag down\n"; }
  const char* owner;
};

task climb(const char* who, std::chrono::milliseconds takes, bool slips) {
  const bag b{who};
  co_await sleep_for(takes);
  if (slips) throw std::runtime_error("a climber slips");
  co_return 1;
}

task a_failure() {
  std::vector<task> rope;
  rope.push_back(climb("Ann", 10ms, true));
  rope.push_back(climb("Bob", 12h, false));
  rope.push_back(climb("Cem", 12h, false));
  int up = 0;
  try {
    const std::vector<int> all = co_await gather(std::move(rope));
    up = static_cast<int>(all.size());
  } catch (const std::runtime_error& e) {
    std::cout << e.what() << ", and everybody is down\n";
  }
  co_return up;
}

task camp(const char* who) {
  const bag b{who};
  std::vector<task> rope;
  rope.push_back(climb("Dee", 12h, false));
  rope.push_back(climb("Eve", 12h, false));
  const std::vector<int> up = co_await gather(std::move(rope));
  co_return up[0] + up[1];
}

task expedition() {
  const bag b{"the guide"};
  int up = 0;
  try {
    up = co_await camp("the cook");
  } catch (...) {
    std::cout << "never printed: a stop is not an exception\n";
  }
  co_return up;
}

int main() {
  {
    asio::io_context context;
    loop l(context);
    root r(l, a_failure());
    context.run();
  }
  {
    asio::io_context context;
    loop l(context);
    root r(l, expedition());
    asio::steady_timer bad_weather(context, 10ms);
    bad_weather.async_wait([&](std::error_code) {
      r.stop();
      std::cout << "stop() has returned\n";
    });
    context.run();
  }
}
// [/use]
