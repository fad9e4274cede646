// tandem/detail/loop.hpp: the loop: ready queue, timers, and the one place where coroutines are resumed and destroyed.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../clock.hpp"
#include "frame.hpp"
#include "intrusive_list.hpp"

#include TANDEM_ASIO_HEADER(execution_context.hpp)
#include TANDEM_ASIO_HEADER(post.hpp)
#include TANDEM_ASIO_HEADER(steady_timer.hpp)

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace tandem::inline TANDEM_CONFIG::detail {

/// A wait_node that other code wakes, and that the loop has in its queue then: a timer, a waiter of a semaphore, a
/// group whose last child has ended. While it waits it may be linked into a list of whoever will wake it.
class leaf : public wait_node, public list_node {
 public:
  /// From `suspend`: lets the frame wait here. False in a stopped scope: it stops here and now, so join no list. Throws
  /// std::logic_error if another frame waits here already.
  bool park(frame& f);
  /// Grants what is waited for. The frame is resumed in its turn, never from here.
  void wake() noexcept;
  /// Still waiting: neither woken nor stopped.
  bool waiting() const noexcept { return state_ == waits; }
  /// Granted, and the frame has not run yet. A leaf destroyed in this state gives back what it was granted.
  bool granted() const noexcept { return state_ == woken; }
  void consume() noexcept { state_ = idle; }

  void stop(stop_mode) noexcept override;
  const clock::time_point* since() const noexcept override { return &since_; }

 protected:
  leaf() = default;
  leaf(leaf&&) noexcept : leaf() {}  // awaitables move until they are awaited; there is no state to take along
  ~leaf() = default;

  /// What the loop does when a leaf of state `calls` gets its turn.
  virtual step on_turn() noexcept { return step::none(); }

  detail::loop& loop_of_waiter() const noexcept { return *waiter->scope->loop; }

  friend class loop;
  enum : unsigned char {
    idle,     // before, or after the frame took what it was granted
    waits,    // the frame waits
    woken,    // in the ready queue, to be resumed
    stopped,  // in the ready queue, to be destroyed
    calls     // in the ready queue, for on_turn
  } state_ = idle;
  clock::time_point since_{};
};

/// A leaf that time wakes. Removing and adding cost O(log n) of the loop's timers.
class timer_leaf : public leaf {
 public:
  void stop(stop_mode) noexcept override;

 protected:
  timer_leaf() = default;
  timer_leaf(timer_leaf&&) noexcept : timer_leaf() {}
  ~timer_leaf() { remove_from_timers(); }
  void remove_from_timers() noexcept;

 private:
  friend class loop;
  static constexpr std::size_t not_in_heap = std::numeric_limits<std::size_t>::max();
  std::size_t at_ = not_in_heap;
  detail::loop* timers_ = nullptr;
};

/// The top of a task tree. The loop knows every root, and nothing else of a tree.
class root : public leaf {
 public:
  const char* what() const noexcept override { return "root"; }
  std::size_t children() const noexcept override { return 1; }
  frame* child(std::size_t) const noexcept override { return body_; }
  void stop(stop_mode) noexcept override;
  step child_ended(frame&, fate) noexcept override;
  detail::scope& scope() noexcept { return scope_; }

 protected:
  explicit root(detail::loop& l) noexcept { scope_.loop = &l; }
  ~root() { unregister(); }
  /// Registers the tree and queues its start.
  void start(frame& body);
  /// The tree has ended and its last frame is still there, for its result. May destroy the root.
  virtual void ended(frame& body, fate) noexcept = 0;

 private:
  friend class loop;
  void unregister() noexcept;
  detail::scope scope_;
  frame* body_ = nullptr;
  root* next_root_ = nullptr;
  root** previous_root_ = nullptr;
};

/// A group of children is a node of the tree that several stops may reach: see group.hpp.
class stop_target : public leaf {
 protected:
  friend class loop;
  virtual void stop_children() noexcept = 0;
};

/// Runs the coroutines of its trees one after the other, on one executor.
///
/// Ready frames are drained in batches by one posted handler; a batch ends after `batch` resumptions, so that sockets
/// and other handlers of the context get their turn. All timers share one Asio timer. Frames are resumed and destroyed
/// here only, from the bottom of the stack.
class loop {
 public:
  explicit loop(asio::io_context& context) : context_(&context), executor_(context.get_executor()) {
    timer_.emplace(context);
  }
  loop(const loop&) = delete;
  loop& operator=(const loop&) = delete;

  /// The one loop of a context; made at the first use.
  static loop& of(asio::io_context& context);
  /// The loop that runs a coroutine on this thread now, or null.
  static loop* current() noexcept { return current_slot(); }

  const asio::any_io_executor& executor() const noexcept { return executor_; }
  clock::time_point now() const noexcept { return virtual_ ? batch_time_ : real_now(); }
  /// The time at which the current batch began; costs nothing to read.
  clock::time_point batch_time() const noexcept { return batch_time_; }

  /// Queues a leaf whose state says what is to be done with its frame.
  void queue(leaf& l) noexcept {
    ready_.push_back(l);
    if (!running_) schedule();
  }

  /// Makes room for one more timer, so that adding it cannot fail.
  void reserve_timer();
  void add_timer(timer_leaf& t, clock::time_point due) noexcept;
  void remove_timer(timer_leaf& t) noexcept;

  /// Starts a child on the stack of whoever awaits it. True: it has ended already. Beyond a bounded depth it is left to
  /// the loop, which goes on with it before anything else.
  bool start(frame& child) noexcept;

  /// Stops the children of `g`; called again from below (a group among the children), it only notes the group, so that
  /// depth of the tree is not depth of the stack.
  void stop_children_of(stop_target& g) noexcept;
  /// Passes a stop on to what `top` waits for.
  static void stop_below(frame& top, stop_mode) noexcept;

  /// An Asio operation of this loop begins. It is over with one of these: its handler ran inside the initiating
  /// function; its handler ran, and the leaf says whether the frame is to be resumed or destroyed; its handler was
  /// destroyed uninvoked; the same while the context is being destroyed, where the last one reaps the trees.
  void operation_begins() noexcept { ++operations_; }
  void operation_ended_inline() noexcept { --operations_; }
  void operation_ended(leaf& l, bool counts) noexcept;
  void operation_lost(leaf& l, bool counts) noexcept;
  void operation_dropped() noexcept;
  bool closed() const noexcept { return closed_; }

  /// A completion handler has been posted and has not run yet.
  void completion_posted() noexcept { ++completions_; }
  void completion_ran() noexcept { --completions_; }
  /// Trees that have not ended, or whose handlers have not run.
  bool has_trees() const noexcept { return roots_ || completions_ != 0; }

  /// Nothing is ready, timed or in flight: only somebody else's handler could wake a coroutine.
  bool idle() const noexcept { return ready_.empty() && !timed() && operations_ == 0; }
  bool has_ready() const noexcept { return !ready_.empty(); }
  bool busy_with_operations() const noexcept { return operations_ != 0; }

  /// Called whenever the loop has nothing left to do, and when it has again; for `run`.
  struct observer {
    virtual void on_idle() noexcept = 0;
    virtual void on_work() noexcept = 0;

   protected:
    ~observer() = default;
  };
  void observe(observer* o) noexcept { observer_ = o; }

  /// How often any tree was asked to stop: while it is unchanged, no stop has come from outside the tree.
  std::uint64_t stops() const noexcept { return stops_; }

  root* first_root() const noexcept { return roots_; }
  static root* next_root(const root& r) noexcept { return r.next_root_; }

  /// Asks every tree to stop, and every one that is still spawned.
  void end_all() noexcept;
  /// Asks the tree to stop, from outside a coroutine or inside one.
  void ask_to_stop(root& r) noexcept;
  /// Destroys the tree without resuming any of its frames; its loop must be idle.
  void abandon(root& r) noexcept;

  // -- for simulate, which drives the loop itself
  void simulate(clock::time_point start, std::uint64_t seed) noexcept;
  const clock::time_point* virtual_time() const noexcept { return &batch_time_; }
  /// Runs one ready entry; false if there is none.
  bool run_one() noexcept;
  /// Timers that are due at this virtual instant become ready.
  void fire_due_timers() noexcept { fire_timers(batch_time_); }
  /// Virtual time goes on to the next timer, whose leaf becomes ready; false if there is none.
  bool advance() noexcept;

  /// The context goes: its handlers are about to be destroyed uninvoked.
  void shut_down() noexcept;
  void outlives_context() noexcept { context_ = nullptr; }

 private:
  friend class root;
  friend class timer_leaf;

  struct heap_entry {
    clock::time_point due;
    std::uint64_t order;  // timers of one instant fire in the order in which they were added
    timer_leaf* timer;
    bool before(const heap_entry& o) const noexcept { return due != o.due ? due < o.due : order < o.order; }
  };

  /// Marks this thread as running coroutines of this loop.
  class running_here {
   public:
    explicit running_here(loop& l) noexcept : loop_(l), outer_(std::exchange(current_slot(), &l)) {
      l.running_ = true;
      outer_time_ = std::exchange(virtual_now(), l.virtual_ ? &l.batch_time_ : nullptr);
    }
    ~running_here() {
      virtual_now() = outer_time_;
      loop_.running_ = false;
      current_slot() = outer_;
    }
    running_here(const running_here&) = delete;
    running_here& operator=(const running_here&) = delete;

   private:
    loop& loop_;
    loop* outer_;
    const clock::time_point* outer_time_ = nullptr;
  };

  /// Storage for the one drain that can be posted at a time, so that waking never allocates.
  struct drain_memory {
    alignas(std::max_align_t) unsigned char bytes[256];
    bool used = false;
  };
  template <class T>
  class drain_allocator {
   public:
    using value_type = T;
    explicit drain_allocator(drain_memory& m) noexcept : memory_(&m) {}
    template <class U>
    drain_allocator(const drain_allocator<U>& o) noexcept : memory_(o.memory_) {}
    T* allocate(std::size_t n) {
      if (memory_->used || n * sizeof(T) > sizeof(memory_->bytes)) return std::allocator<T>().allocate(n);
      memory_->used = true;
      return reinterpret_cast<T*>(memory_->bytes);
    }
    void deallocate(T* p, std::size_t n) noexcept {
      if (static_cast<void*>(p) == memory_->bytes)
        memory_->used = false;
      else
        std::allocator<T>().deallocate(p, n);
    }
    template <class U>
    bool operator==(const drain_allocator<U>& o) const noexcept {
      return memory_ == o.memory_;
    }

   private:
    template <class U>
    friend class drain_allocator;
    drain_memory* memory_;
  };
  struct drain_handler {
    loop* l;
    using allocator_type = drain_allocator<void>;
    allocator_type get_allocator() const noexcept { return allocator_type(l->drain_memory_); }
    void operator()() const noexcept {
      l->scheduled_ = false;
      l->drain();
    }
  };

  [[gnu::noinline]] static loop*& current_slot() noexcept {
    static constinit thread_local loop* current = nullptr;
    return current;
  }

  void schedule() noexcept;
  void drain() noexcept;
  void run_entry(leaf& l) noexcept;
  void drive(step s) noexcept;
  leaf& next_entry() noexcept;
  void fire_timers(clock::time_point now) noexcept;
  void arm_timer() noexcept;
  void abandon_all() noexcept;
  void place(std::size_t i, heap_entry e) noexcept;
  void sift_up(std::size_t i, heap_entry e) noexcept;
  void sift_down(std::size_t i, heap_entry e) noexcept;
  std::uint64_t random() noexcept;

  /// Some timer will fire. In real time one that never does counts too: a program may sleep until it gets a signal.
  bool timed() const noexcept {
    return !timers_.empty() && !(virtual_ && timers_.front().due == clock::time_point::max());
  }

  static constexpr std::size_t batch = 512;         // resumptions before the context has its turn
  static constexpr unsigned max_depth = 64;         // of children started on one stack
  static constexpr std::size_t shuffle_width = 64;  // the next entry is one of the first so many

  asio::io_context* context_;
  asio::any_io_executor executor_;
  intrusive_list<leaf> ready_;
  unsigned depth_ = 0;
  bool running_ = false, scheduled_ = false, closed_ = false, ending_ = false, virtual_ = false, walking_ = false,
       reported_idle_ = false;
  std::uint64_t stops_ = 0;
  std::size_t operations_ = 0;
  std::size_t completions_ = 0;
  observer* observer_ = nullptr;
  root* roots_ = nullptr;
  struct postponed_child {
    frame* child;
    bool scope_ran;  // when it was put off
  };
  std::vector<postponed_child> postponed_;
  intrusive_list<leaf> stopping_;
  clock::time_point batch_time_{};  // under simulate: the virtual time
  std::uint64_t seed_ = 0;
  std::vector<heap_entry> timers_;
  std::uint64_t next_order_ = 0;
  std::optional<asio::steady_timer> timer_;  // none any more once the context goes
  clock::time_point armed_for_{};
  bool armed_ = false;
  drain_memory drain_memory_;
};

/// Ties a loop to its context, and destroys the trees that are left when the context goes.
class loop_service : public asio::execution_context::service {
 public:
  using key_type = loop_service;
  static inline asio::execution_context::id id;
  explicit loop_service(asio::execution_context& context)
      : service(context), loop_(std::make_unique<loop>(static_cast<asio::io_context&>(context))) {}
  loop& get() noexcept { return *loop_; }

  /// A handler that somebody keeps beyond its context still points to the loop and to its frame, and the frame may own
  /// sockets of the context that is gone: both are left alone for ever.
  ~loop_service() override {
    if (loop_->busy_with_operations())
      loop_.release()->outlives_context();
    else
      loop_->shut_down();  // for what a handler's destructor has spawned since
  }

 private:
  void shutdown() noexcept override { loop_->shut_down(); }
  std::unique_ptr<loop> loop_;
};

// ---- leaves
// ----------------------------------------------------------------------------------------------------------

inline bool leaf::park(frame& f) {
  if (state_ != idle)
    throw std::logic_error(std::string("tandem: two coroutines await the same ") + what() + "; make one for each");
  waiter = &f;
  f.waits_for = this;
  loop& l = *f.scope->loop;
  since_ = l.batch_time();
  if (f.scope->state == scope::running) {
    state_ = waits;
    return true;
  }
  state_ = stopped;
  l.queue(*this);
  return false;
}

inline void leaf::wake() noexcept {
  unlink();
  state_ = woken;
  loop_of_waiter().queue(*this);
}

inline void leaf::stop(stop_mode) noexcept {
  if (state_ != waits) return;  // woken already: the value wins, and the next wait stops
  unlink();
  state_ = stopped;
  loop_of_waiter().queue(*this);
}

inline void timer_leaf::stop(stop_mode m) noexcept {
  if (!waiting()) return;
  remove_from_timers();
  leaf::stop(m);
}

inline void timer_leaf::remove_from_timers() noexcept {
  if (timers_) timers_->remove_timer(*this);
}

// ---- roots
// -----------------------------------------------------------------------------------------------------------

inline void root::start(frame& body) {
  body_ = &body;
  body.owner = this;
  body.scope = &scope_;
  loop& l = *scope_.loop;
  next_root_ = l.roots_;
  previous_root_ = &l.roots_;
  if (next_root_) next_root_->previous_root_ = &next_root_;
  l.roots_ = this;
  waiter = &body;
  state_ = woken;
  if (l.closed_ || l.ending_) {  // it never starts
    scope_.state = l.closed_ ? scope::abandoned : scope::stopping;
    state_ = stopped;
  }
  l.queue(*this);
}

inline void root::unregister() noexcept {
  if (!previous_root_) return;
  *previous_root_ = next_root_;
  if (next_root_) next_root_->previous_root_ = previous_root_;
  previous_root_ = nullptr;
}

inline void root::stop(stop_mode m) noexcept {
  if (!body_) return;
  if (m == stop_mode::ask && scope_.state != scope::running) return;
  scope_.state = m == stop_mode::ask ? scope::stopping : scope::abandoned;
  if (linked())  // not started yet: it never will be
    state_ = stopped;
  else
    loop::stop_below(*body_, m);
}

inline step root::child_ended(frame& body, fate how) noexcept {
  body_ = nullptr;
  unregister();
  ended(body, how);
  return step::none();
}

// ---- the loop
// --------------------------------------------------------------------------------------------------------

inline loop& loop::of(asio::io_context& context) { return asio::use_service<loop_service>(context).get(); }

inline void loop::schedule() noexcept {
  if (scheduled_ || virtual_ || closed_) return;
  scheduled_ = true;
  asio::post(context_->get_executor(), drain_handler{this});
}

inline void loop::drain() noexcept {
  if (closed_ || running_) return;
  if (std::exchange(reported_idle_, false) && observer_) observer_->on_work();
  {
    running_here here(*this);
    batch_time_ = real_now();
    std::size_t budget = batch;
    do {
      while (budget != 0 && !ready_.empty()) {
        --budget;
        run_entry(next_entry());
      }
      if (!timers_.empty()) fire_timers(real_now());
    } while (budget != 0 && !ready_.empty());
  }
  if (!ready_.empty()) return schedule();
  arm_timer();
  if (armed_ && idle()) {  // left over from a timer that was removed: let the context end
    armed_ = false;
    timer_->cancel();
  }
  if (observer_ && !reported_idle_ && idle()) {
    reported_idle_ = true;
    observer_->on_idle();
  }
}

inline leaf& loop::next_entry() noexcept {
  leaf* chosen = &ready_.front();
  if (seed_ != 0) {  // reservoir sampling: every entry within reach is equally likely
    std::uint64_t seen = 1;
    for (leaf* l = ready_.next(*chosen); l && seen < shuffle_width; l = ready_.next(*l))
      if (random() % ++seen == 0) chosen = l;
  }
  return *chosen;
}

inline void loop::run_entry(leaf& l) noexcept {
  l.unlink();
  switch (l.state_) {
    case leaf::woken:
      drive(step::resume(*l.waiter));
      break;
    case leaf::stopped:
      drive(step::reap(*l.waiter));
      break;
    default:
      drive(l.on_turn());
      break;
  }
  for (std::size_t i = 0; i != postponed_.size(); ++i) {  // what is postponed meanwhile is appended, and comes after
    const auto [child, scope_ran] = postponed_[i];
    const bool stopped = scope_ran && child->scope->state != scope::running;  // meanwhile: it never starts
    drive(stopped ? step::reap(*child) : step::resume(*child));
  }
  postponed_.clear();
}

/// The heart: resumes a frame; if that ends it, asks its owner what comes next, and so on up the tree. A stopped frame
/// is destroyed by its owner, innermost first. One stack frame deep, however long the chain.
inline void loop::drive(step s) noexcept {
  while (s.target) {
    frame& f = *s.target;
    if (s.how == fate::done && f.scope->state != scope::abandoned) {
      f.waits_for = nullptr;
      f.handle().resume();
      if (!f.handle().done()) return;
      s = f.owner->child_ended(f, fate::done);
    } else {
      s = f.owner->child_ended(f, fate::stopped);
    }
  }
}

inline bool loop::start(frame& child) noexcept {
  if (depth_ == max_depth) {
    bool kept = true;
    try {
      postponed_.push_back({&child, child.scope->state == scope::running});
    } catch (...) {
      kept = false;  // no memory for the list: go on, deeper down the stack
    }
    if (kept) return false;
  }
  ++depth_;
  child.handle().resume();
  --depth_;
  return child.handle().done();
}

inline void loop::stop_below(frame& top, stop_mode m) noexcept {
  frame* f = &top;
  while (wait_node* n = f->waits_for) {
    frame* next = n->passes_stop_to();
    if (!next) return n->stop(m);
    f = next;
  }
}

inline void loop::stop_children_of(stop_target& g) noexcept {
  if (g.linked()) return;
  stopping_.push_back(g);
  if (walking_) return;
  walking_ = true;
  while (!stopping_.empty()) static_cast<stop_target&>(stopping_.pop_front()).stop_children();
  walking_ = false;
}

inline void loop::operation_ended(leaf& l, bool counts) noexcept {
  operations_ -= counts;
  ready_.push_back(l);
  if (!running_ && !virtual_) drain();  // virtual: simulate looks at the queue itself
}

inline void loop::operation_lost(leaf& l, bool counts) noexcept {
  operations_ -= counts;
  queue(l);  // from a destructor, so nothing runs here
  if (closed_ && !running_ && operations_ == 0 && context_) abandon_all();
}

inline void loop::operation_dropped() noexcept {
  if (--operations_ == 0 && context_) abandon_all();
}

inline void loop::shut_down() noexcept {
  closed_ = true;
  observer_ = nullptr;
  timer_.reset();
  if (operations_ == 0) abandon_all();
}

inline void loop::end_all() noexcept {
  ending_ = true;
  for (root* r = roots_; r; r = r->next_root_) ask_to_stop(*r);
}

inline void loop::ask_to_stop(root& r) noexcept {
  ++stops_;
  if (running_) return r.stop(stop_mode::ask);
  {
    running_here here(*this);  // an operation that completes inside its cancellation must not run its coroutine there
    r.stop(stop_mode::ask);
  }
  if (!ready_.empty()) schedule();
}

inline void loop::abandon_all() noexcept {
  running_here here(*this);
  for (bool some_left = true; some_left;) {  // a destructor may spawn one more
    for (root* r = roots_; r; r = r->next_root_) r->stop(stop_mode::abandon);
    some_left = !ready_.empty();
    while (!ready_.empty()) run_entry(ready_.front());
  }
}

inline void loop::abandon(root& r) noexcept {
  running_here here(*this);
  r.stop(stop_mode::abandon);
  while (!ready_.empty()) run_entry(ready_.front());
}

inline bool loop::run_one() noexcept {
  if (ready_.empty()) return false;
  running_here here(*this);
  run_entry(next_entry());
  return true;
}

// ---- timers: a 4-ary heap in front of one Asio timer
// -------------------------------------------------------------------

inline void loop::reserve_timer() {
  if (timers_.size() == timers_.capacity()) timers_.reserve(timers_.empty() ? 16 : 2 * timers_.size());
}

inline void loop::add_timer(timer_leaf& t, clock::time_point due) noexcept {
  timers_.emplace_back();
  t.timers_ = this;
  sift_up(timers_.size() - 1, {due, next_order_++, &t});
  if (t.at_ == 0 && !running_) arm_timer();
}

inline void loop::remove_timer(timer_leaf& t) noexcept {
  const std::size_t i = t.at_;
  t.timers_ = nullptr;
  t.at_ = timer_leaf::not_in_heap;
  const heap_entry last = timers_.back();
  timers_.pop_back();
  if (i == timers_.size()) return;
  if (i > 0 && last.before(timers_[(i - 1) / 4]))
    sift_up(i, last);
  else
    sift_down(i, last);
}

inline void loop::place(std::size_t i, heap_entry e) noexcept {
  timers_[i] = e;
  e.timer->at_ = i;
}

inline void loop::sift_up(std::size_t i, heap_entry e) noexcept {
  for (std::size_t parent; i > 0 && e.before(timers_[parent = (i - 1) / 4]); i = parent) place(i, timers_[parent]);
  place(i, e);
}

inline void loop::sift_down(std::size_t i, heap_entry e) noexcept {
  for (;;) {
    const std::size_t first = i * 4 + 1;
    if (first >= timers_.size()) break;
    std::size_t best = first;
    for (std::size_t k = first + 1; k < first + 4 && k < timers_.size(); ++k)
      if (timers_[k].before(timers_[best])) best = k;
    if (!timers_[best].before(e)) break;
    place(i, timers_[best]);
    i = best;
  }
  place(i, e);
}

inline void loop::fire_timers(clock::time_point now) noexcept {
  while (!timers_.empty() && timers_.front().due <= now) {
    timer_leaf& t = *timers_.front().timer;
    remove_timer(t);
    if (t.state_ == leaf::calls)
      queue(t);
    else
      t.wake();
  }
}

inline void loop::arm_timer() noexcept {
  if (virtual_ || closed_ || timers_.empty()) return;
  const clock::time_point due = timers_.front().due;
  if (armed_ && armed_for_ <= due) return;  // it fires in time; should it fire early, it is armed again
  armed_ = true;
  armed_for_ = due;
  timer_->expires_at(std::chrono::steady_clock::time_point(
      std::chrono::duration_cast<std::chrono::steady_clock::duration>(due.time_since_epoch())));
  try {
    timer_->async_wait([this](const error_code& error) {
      if (error) return;
      armed_ = false;
      drain();
    });
  } catch (...) {  // no memory for the wait: look at the clock again and again, which needs none
    armed_ = false;
    schedule();
  }
}

// ---- simulation
// --------------------------------------------------------------------------------------------------------

inline void loop::simulate(clock::time_point start, std::uint64_t seed) noexcept {
  virtual_ = true;
  batch_time_ = start;
  seed_ = seed;
}

inline bool loop::advance() noexcept {
  if (!timed()) return false;
  if (timers_.front().due > batch_time_) batch_time_ = timers_.front().due;
  fire_timers(batch_time_);
  return true;
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
inline std::uint64_t loop::random() noexcept {
  std::uint64_t z = (seed_ += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

}  // namespace tandem::inline TANDEM_CONFIG::detail
