// tandem/detail/loop.hpp: the loop: ready queue, timers, and the one place where coroutines are resumed and destroyed.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../clock.hpp"
#include "frame.hpp"
#include "intrusive_list.hpp"
#include "leaf.hpp"
#include "random.hpp"
#include "timer_heap.hpp"
#include "tracer.hpp"

#include TANDEM_ASIO_HEADER(execution_context.hpp)
#include TANDEM_ASIO_HEADER(post.hpp)
#include TANDEM_ASIO_HEADER(steady_timer.hpp)
#include TANDEM_ASIO_HEADER(strand.hpp)
#include TANDEM_ASIO_HEADER(system_executor.hpp)
#include TANDEM_ASIO_HEADER(thread_pool.hpp)

#include <atomic>
#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/detail/loop.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

class loop_service;
struct loops_alive;

/// Runs the coroutines of its trees one after the other, on one executor.
///
/// Ready frames are drained in batches by one posted handler; a batch ends after `batch` resumptions, so that sockets
/// and other handlers of the context get their turn. All timers share one Asio timer. Frames are resumed and destroyed
/// here only, from the bottom of the stack.
///
/// The executor is *serial*: the handlers that are posted to it run one after the other, on whatever threads. All of a
/// loop that is not said to be for any thread is touched by such a handler only; `here()` tells whether this is one.
class loop {
 public:
  /// How a loop reaches its executor, which is serial.
  struct access {
    asio::any_io_executor executor;
    void (*post_drain)(loop&);
    bool (*is_here)(const loop&);
  };
  /// A loop that `goes_when_idle` does so when it has nothing left to do. `given`: what it was asked for; its own
  /// executor may be a strand around that.
  loop(loop_service& service, asio::any_io_executor given, access own, bool goes_when_idle);
  loop(const loop&) = delete;
  loop& operator=(const loop&) = delete;
  ~loop();

  /// The one loop of a context, which any number of threads may run; made at the first use.
  template <std::same_as<asio::io_context> Context>
  static loop& of(Context& context);
  /// The same for a new context that one thread alone will run, by `run` or `simulate`: it needs no strand.
  static loop& alone_on(asio::io_context& context);
  /// The loop that runs a coroutine on this thread now, or null.
  static loop* current() noexcept { return current_slot(); }

  /// Serial: what is posted there runs in turn with the coroutines.
  const asio::any_io_executor& executor() const noexcept { return executor_; }
  /// Is this the loop for that executor?
  bool belongs_to(const asio::any_io_executor& e) const noexcept { return e == given_ || e == executor_; }
  /// Does this thread run a handler of the serial executor, or destroy its context? For any thread.
  bool here() const noexcept {
    return current_slot() == this || (closed() ? closer_.load() == std::this_thread::get_id() : is_here_(*this));
  }
  /// It stays as long as its context.
  bool is_permanent() const noexcept { return !goes_when_idle_; }
  /// No other loop of the process has, or had, the same.
  std::uint64_t number() const noexcept { return number_; }
  /// Is there a loop of that number, and has it another executor than `l`? For any thread.
  static bool is_apart_from(const loop& l, std::uint64_t number) noexcept;
  /// Is there a loop of that number? For any thread.
  static bool is_there(std::uint64_t number) noexcept;

  clock::time_point now() const noexcept { return virtual_ ? batch_time_ : real_now(); }
  /// The time at which the current batch began; costs nothing to read.
  random_source& random() noexcept { return random_; }
  clock::time_point batch_time() const noexcept { return batch_time_; }
  /// Of a leaf that begins to wait.
  const leaf_state& waits_from_now() const noexcept { return waits_from_now_; }

  /// Puts `a` into the inbox; `a.arrive()` is called in the loop's turn. For any thread, as long as something (a tree
  /// that has not ended, an `entry`) keeps the loop.
  void push(arrival& a) noexcept;

  /// Keeps a loop that would go when it has nothing left to do. For any thread.
  class entry {
   public:
    explicit entry(loop& l) noexcept : loop_(&l), kept_(l.goes_when_idle_ ? &l : nullptr) { enter(); }
    entry(const entry& o) noexcept : loop_(o.loop_), kept_(o.kept_) { enter(); }
    entry(entry&& o) noexcept : loop_(o.loop_), kept_(std::exchange(o.kept_, nullptr)) {}
    entry& operator=(entry) = delete;
    ~entry() { let_go(); }
    void let_go() noexcept {
      if (kept_) std::exchange(kept_, nullptr)->leave();
    }
    loop& operator*() const noexcept { return *loop_; }
    loop* operator->() const noexcept { return loop_; }

   private:
    void enter() noexcept {
      if (kept_) kept_->entries_.fetch_add(1);
    }
    loop* loop_;
    loop* kept_;  // null for a loop that stays anyway, and may have gone with its context
  };
  /// The loop for an executor: equal executors have the same one. A template, because each type of strand that there
  /// is code for costs every user a large part of a second of compile time.
  template <std::convertible_to<asio::any_io_executor> Executor>
  static entry of(const Executor& executor);
  /// The one for the executor of a context.
  template <class Context>
  static entry of_context(Context& context) {
    if constexpr (std::is_same_v<Context, asio::io_context>)
      return entry(of(context));  // which need not look at executors
    else
      return of(context.get_executor());
  }

  /// Queues a leaf whose state says what is to be done with its frame.
  void queue(leaf& l) noexcept {
    ready_.push_back(l);
    if (!running_) schedule();
  }

  /// The same from a coroutine, while the loop runs.
  void queue_in_turn(leaf& l) noexcept { ready_.push_back(l); }

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
  /// A frame that does not run is about to be destroyed, though it neither ended nor was stopped.
  static void leaves(frame& f) noexcept {
    if (loop* l = current(); l && l->tracer_) l->tracer_->ends(*l, f, fate::stopped);
  }
  /// Passes a stop on to what `top` waits for.
  static void stop_below(frame& top, stop_mode) noexcept;

  /// An Asio operation of this loop begins. It is over with one of these: its handler ran inside the initiating
  /// function; its handler ran, and the leaf says whether the frame is to be resumed or destroyed; its handler was
  /// destroyed uninvoked; the same while the context is being destroyed, where the last one reaps the trees.
  void operation_begins() noexcept { ++operations_; }
  void operation_ended_inline() noexcept { --operations_; }
  /// The same for what does not keep the context running by itself: the work of a thread, or of another loop.
  void outside_begins();
  void outside_ended() noexcept;
  /// What is waited for may come from outside, or from a coroutine of this loop: virtual time goes on.
  void maybe_outside_begins() {
    outside_begins();
    ++maybe_outside_;
  }
  void maybe_outside_ended() noexcept {
    --maybe_outside_;
    outside_ended();
  }
  /// `l` waits for a thread, which is joined when the context goes.
  void joins(leaf& l) noexcept { joined_.push_back(l); }
  void operation_ended(leaf& l, bool counts) noexcept;
  void operation_lost(leaf& l, bool counts) noexcept;
  void operation_dropped() noexcept;
  bool closed() const noexcept { return closed_.load(std::memory_order_relaxed); }

  /// A completion handler has been posted and has not run yet.
  void completion_posted() noexcept { ++completions_; }
  void completion_ran() noexcept { --completions_; }
  /// Trees that have not ended, or whose handlers have not run.
  bool has_trees() const noexcept { return roots_ || completions_ != 0; }

  /// Nothing is ready, timed or in flight: only somebody else's handler could wake a coroutine.
  bool idle() const noexcept { return !has_ready() && !timed() && operations_ == 0; }
  bool has_ready() const noexcept { return !ready_.empty() || has_arrivals(); }
  /// Virtual time stands still.
  bool busy_with_operations() const noexcept { return operations_ != maybe_outside_; }

  /// Called whenever the loop has nothing left to do, and when it has again; for `run`.
  struct observer {
    virtual void on_idle() noexcept = 0;
    virtual void on_work() noexcept = 0;

   protected:
    ~observer() = default;
  };
  void observe(observer* o) noexcept { observer_ = o; }

  /// What other threads may read: where the coroutine that runs has been resumed, and whether one does. Written by the
  /// loop alone, and only while it is observed.
  struct turn_report {
    std::atomic<std::uint64_t> number{0};  // odd while a coroutine runs
    std::atomic<std::source_location> where{std::source_location()};
    std::atomic<bool> starts{false};  // it has not awaited anything yet, and `where` is the coroutine itself
  };
  const turn_report& turn() const noexcept { return turn_; }
  /// Has somebody asked to be told of every resumption? For any thread.
  bool is_observed() const noexcept { return observed_.load(std::memory_order_relaxed); }
  /// From now on it is, on behalf of other threads, or no longer. For any thread, under the mutex of the loops.
  void observe_from_outside(bool on) noexcept { observed_.store(on || tracer_, std::memory_order_relaxed); }
  /// Asks for a call of `loops_alive::visitor` by the loop, between two resumptions. For any thread, under the mutex of
  /// the loops. It does not come if nobody runs the executor any more. `at_once` wakes the loop for it.
  void ask_for_visit(bool at_once) noexcept;
  /// A task is destroyed that was not awaited. For any thread.
  static void was_never_awaited(frame& f) noexcept;

  /// How often any tree was asked to stop: while it is unchanged, no stop has come from outside the tree.
  std::uint64_t stops() const noexcept { return stops_; }

  root* first_root() const noexcept { return roots_; }
  static root* next_root(const root& r) noexcept { return r.next_root_; }

  /// Asks every tree to stop, and every one that is still spawned.
  void end_all() noexcept;
  /// Asks the tree to stop, from outside a coroutine or inside one.
  void ask_to_stop(root& r) noexcept;
  /// Calls `stop`, which asks something else to stop, in the same way.
  template <class Stop>
  void ask(Stop stop) noexcept;
  /// Runs a coroutine of this loop now?
  bool is_running() const noexcept { return running_; }
  /// The tree of the coroutine that runs now, or whose frames are being destroyed; null if that tree is ending.
  root* running_root() const noexcept { return running_scope_ ? running_scope_->root : nullptr; }
  /// The scope around that coroutine, or one further out under the same shields.
  const scope* running_scope() const noexcept { return running_scope_; }
  /// The same for what the tree is only told of, such as a failure: also if it is ending.
  root* running_or_ending_root() const noexcept { return ending_root_ ? ending_root_ : running_root(); }
  /// For who runs, on the stack of whatever runs now, what belongs to another scope: a coroutine that starts, or
  /// destructors. That scope must not end meanwhile.
  class in_scope {
   public:
    explicit in_scope(const scope& s) noexcept : loop_(*s.loop), outer_(std::exchange(loop_.running_scope_, &s)) {}
    ~in_scope() { loop_.running_scope_ = outer_; }
    in_scope(const in_scope&) = delete;
    in_scope& operator=(const in_scope&) = delete;

   private:
    loop& loop_;
    const scope* outer_;  // which doesn't end before this does
  };
  /// One more than last time.
  std::uint64_t next_number() noexcept { return next_order_++; }
  /// Destroys the tree without resuming any of its frames; its loop must be idle.
  void abandon(root& r) noexcept;

  // -- for simulate, which drives the loop itself
  void simulate(clock::time_point start, std::uint64_t seed) noexcept;
  bool is_virtual() const noexcept { return virtual_; }
  const clock::time_point* virtual_time() const noexcept { return &batch_time_; }
  /// Runs one ready entry; false if there is none.
  bool run_one() noexcept;
  /// Timers that are due at this virtual instant become ready.
  void fire_due_timers() noexcept { fire_timers(batch_time_); }
  /// Virtual time goes on to the next timer, whose leaf becomes ready; false if there is none.
  bool advance() noexcept;

  /// The context goes: its handlers are about to be destroyed uninvoked.
  void shut_down() noexcept;
  void close() noexcept {
    closer_.store(std::this_thread::get_id());
    closed_.store(true);
  }
  void outlives_context() noexcept { service_ = nullptr; }

 private:
  friend class root;
  friend class timer_leaf;
  friend class loop_service;
  friend struct loops_alive;

  template <class Executor>
  static void post_drain_to(const Executor& e, loop& l) {
    asio::post(e, drain_handler{&l});
  }
  template <class Serial>
  static access directly(Serial serial) {
    return {std::move(serial),
            [](loop& l) { post_drain_to(*l.executor_.target<Serial>(), l); },
            [](const loop& l) { return l.executor_.target<Serial>()->running_in_this_thread(); }};
  }
  template <class Strand>
  static bool reach_by_type_erasure(access& a, const asio::any_io_executor& given) {
    if (given.target_type() != typeid(Strand)) return false;
    a = {given, [](loop& l) { post_drain_to(l.executor_, l); },
         [](const loop& l) { return l.executor_.target<Strand>()->running_in_this_thread(); }};
    return true;
  }
  template <class Executor>
  static access access_to(const asio::any_io_executor& given);

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

  /// Storage for the one drain that can be posted at a time, so that waking never allocates: a block for the handler,
  /// and one for what the strand of an io_context or a thread_pool posts to run it. A strand's own second post, and the
  /// executors of others, take memory from Asio; where there is none, the program ends (`post_drain`).
  struct drain_memory {
    struct block {
      alignas(std::max_align_t) unsigned char bytes[256];
      bool used = false;
    };
    block blocks[2];
  };
  template <class T>
  class drain_allocator {
   public:
    using value_type = T;
    explicit drain_allocator(drain_memory& m) noexcept : memory_(&m) {}
    template <class U>
    drain_allocator(const drain_allocator<U>& o) noexcept : memory_(o.memory_) {}
    T* allocate(std::size_t n) {
      for (auto& b : memory_->blocks) {
        if (b.used || n * sizeof(T) > sizeof(b.bytes)) continue;
        b.used = true;
        return reinterpret_cast<T*>(b.bytes);
      }
      return std::allocator<T>().allocate(n);
    }
    void deallocate(T* p, std::size_t n) noexcept {
      for (auto& b : memory_->blocks)
        if (static_cast<void*>(p) == b.bytes) {
          b.used = false;
          return;
        }
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
      l->drain_begins();
      l->drain();
    }
  };

  /// The low bits of `posting_`: whether the next drain has been posted. The rest counts those that have begun.
  enum : std::uint64_t { not_posted = 0, being_posted = 1, posted = 2, phases = 3 };
  void drain_begins() noexcept {
    std::uint64_t p = posting_.load();
    while (!posting_.compare_exchange_weak(p, (p | phases) + 1)) {
    }
  }

  [[gnu::noinline]] static loop*& current_slot() noexcept {
    static constinit thread_local loop* current = nullptr;
    return current;
  }

  void schedule() noexcept;
  void post_drain() noexcept;
  bool is_posted() const noexcept { return (posting_.load() & phases) != not_posted; }
  void drain() noexcept;
  bool has_arrivals() const noexcept { return inbox_.load(std::memory_order_relaxed) != nullptr; }
  void collect() noexcept;
  void tell_closer() noexcept;
  void wait_for_arrivals() noexcept;
  void leave() noexcept;
  bool may_go() const noexcept {
    return goes_when_idle_ && !roots_ && ready_.empty() && waits_ == 0 && operations_ == 0;
  }
  [[gnu::always_inline]] void run_entry(leaf& l) noexcept;
  bool start_observed(frame& child) noexcept;
  void turn_begins(frame& f) noexcept;
  void turn_ends() noexcept;
  void be_visited() noexcept;
  void put_off(frame& child) noexcept;
  void run_put_off() noexcept;
  [[gnu::always_inline]] void drive(step s) noexcept;
  template <bool Observed>
  [[gnu::always_inline]] void drive(step s) noexcept;
  void drive_observed(step s) noexcept;
  leaf& take_next_entry() noexcept { return seed_ == 0 ? ready_.pop_front() : take_random_entry(); }
  leaf& take_random_entry() noexcept;
  void fire_timers(clock::time_point now) noexcept;
  void set_batch_time(clock::time_point now) noexcept {
    batch_time_ = now;
    waits_from_now_ = leaf_state(now);
  }
  void arm_timer() noexcept;
  void abandon_all() noexcept;

  /// Some timer will fire. In real time one that never does counts too: a program may sleep until it gets a signal.
  bool timed() const noexcept {
    return !timers_.empty() && !(virtual_ && timers_.first_due() == clock::time_point::max());
  }

  static constexpr std::size_t batch = 512;         // resumptions before the context has its turn
  static constexpr unsigned max_depth = 64;         // of children started on one stack
  static constexpr std::size_t shuffle_width = 64;  // the next entry is one of the first so many

  loop_service* service_;  // null when its context is gone
  asio::any_io_executor given_, executor_;
  void (*post_drain_)(loop&);
  bool (*is_here_)(const loop&);
  const bool goes_when_idle_;
  std::uint64_t number_;

  // For any thread. Cache lines of their own: who sends something does not take away what the loop works with.
  alignas(64) std::atomic<arrival*> inbox_{nullptr};
  std::atomic<std::uint64_t> posting_{not_posted};
  std::atomic<bool> closed_{false};
  std::atomic<std::thread::id> closer_{};  // set before closed_
  std::atomic<std::size_t> pushers_{0};  // who is about to touch the loop
  std::atomic<std::size_t> entries_{0};
  std::size_t place_ = 0;  // in the service's list, under its mutex
  loop* next_alive_ = nullptr;
  loop** previous_alive_ = nullptr;  // null when it is no longer in the list

  alignas(64) intrusive_list<leaf> ready_;
  intrusive_list<leaf> joined_;
  unsigned depth_ = 0;
  bool running_ = false, ending_ = false, virtual_ = false, walking_ = false, reported_idle_ = false;
  std::uint64_t stops_ = 0;
  std::atomic<bool> observed_{false}, visit_wanted_{false};  // for any thread, hardly ever written
  turn_report turn_;
  std::size_t operations_ = 0;
  std::size_t outside_ = 0, maybe_outside_ = 0;
  asio::any_io_executor work_;  // while something is outside: ours, and it keeps its context running
  std::size_t completions_ = 0;
  observer* observer_ = nullptr;
  tracer* const tracer_ = tracer::of_this_thread();  // if there is one, it is observed
  const scope* running_scope_ = nullptr;  // null between two turns
  root* ending_root_ = nullptr;  // whose last frame is being destroyed
  root* roots_ = nullptr;
  frame* put_off_ = nullptr;  // the first of those that are to start before anything else
  frame** put_off_end_ = &put_off_;
  intrusive_list<leaf> stopping_;
  clock::time_point batch_time_{};  // under simulate: the virtual time
  leaf_state waits_from_now_{batch_time_};
  std::uint64_t seed_ = 0;
  random_source random_;  // for jitter
  timer_heap timers_;
  std::uint64_t next_order_ = 0;
  asio::steady_timer* timer_ = nullptr;  // owned; none before the first timer, nor once the context goes
  clock::time_point armed_for_{};
  bool armed_ = false;
  std::size_t waits_ = 0;  // handlers of timer_ that have not run
  drain_memory drain_memory_;
};

/// The loops of a context. It destroys the trees that are left when the context goes.
class loop_service : public asio::execution_context::service {
 public:
  using key_type = loop_service;
  static inline asio::execution_context::id id;
  explicit loop_service(asio::execution_context& context) : service(context) {
    asio::use_service<asio::detail::strand_executor_service>(context);  // made earlier, it goes later than our strands
  }

  using access_to = loop::access (*)(const asio::any_io_executor&);

  loop& of(asio::io_context& context, access_to reach) {
    const std::scoped_lock lock(mutex_);
    if (!main_) {
      const asio::any_io_executor executor(context.get_executor());
      main_ = new loop(*this, executor, reach(executor), false);
      if (closed_) main_->close();
    }
    return *main_;
  }
  /// A template, so that only a program with more than the context's own loop is compiled with it.
  template <class Reach>
  loop::entry of(const asio::any_io_executor& executor, Reach reach) {
    const std::scoped_lock lock(mutex_);
    if (main_ && main_->belongs_to(executor)) return loop::entry(*main_);
    for (std::size_t i = others_.size(); i-- != 0;)
      if (others_[i].given == executor || (others_[i].wrapped && others_[i].wrapped == executor))
        return loop::entry(*others_[i].l);
    auto l = std::make_unique<loop>(*this, executor, reach(executor), true);
    l->place_ = others_.size();
    if (closed_) l->close();
    const bool is_wrapped = l->executor() != executor;
    others_.push_back({executor, is_wrapped ? l->executor() : asio::any_io_executor(), l.get()});
    return loop::entry(*l.release());
  }
  /// Destroys a loop that has nothing left to do, unless somebody is about to give it something.
  bool retire(loop& l) noexcept;

  /// A handler that somebody keeps beyond its context still points to the loop and to its frame, and the frame may own
  /// sockets of the context that is gone: both are left alone for ever.
  ~loop_service() override {
    shut_down_all();  // for what a handler's destructor has spawned since
    for (auto& p : others_) forget(*p.l);
    if (main_) forget(*main_);
  }

 private:
  void shutdown() noexcept override {
    closed_ = true;
    shut_down_all();
  }
  void shut_down_all() noexcept {
    if (main_) main_->shut_down();
    for (std::size_t i = 0; i != others_.size(); ++i) others_[i].l->shut_down();  // a destructor may add one more
  }
  static void forget(loop& l) noexcept {
    if (l.operations_ != 0)
      l.outlives_context();
    else
      delete &l;
  }

  std::mutex mutex_;
  bool closed_ = false;
  loop* main_ = nullptr;  // of the executor of an io_context
  struct place {
    asio::any_io_executor given, wrapped;  // beside the loop, so that a search goes through memory in order
    loop* l;
  };
  std::vector<place> others_;
};

// ---- leaves
// ----------------------------------------------------------------------------------------------------------

[[gnu::always_inline]] inline void leaf::settle_in() noexcept {
  waiter->waits_for = this;
  state_ = waiter->scope->loop->waits_from_now();
}

[[gnu::cold, gnu::noinline]] inline void leaf::park_to_be_stopped(frame& f) noexcept {
  waiter = &f;
  settle_in();
  state_ = stopped;
  f.scope->loop->queue(*this);
}

inline void leaf::wake() noexcept {
  unlink();
  const bool alone = state_ != competes;
  state_ = woken;
  if (alone)
    loop_of_waiter().queue(*this);
  else
    waiter->waits_for->arm_woken(*this);
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

inline void root::start(frame& body) noexcept {
  body_ = &body;
  body.owner = this;
  body.scope = &scope_;
  waiter = &body;
  loop& l = *scope_.loop;
  if (l.here())
    arrive();
  else
    l.push(*this);
}

inline void root::arrive() noexcept {
  loop& l = *scope_.loop;
  next_root_ = l.roots_;
  previous_root_ = &l.roots_;
  if (next_root_) next_root_->previous_root_ = &next_root_;
  l.roots_ = this;
  if (l.closed())
    scope_.state = scope::abandoned;
  else if (l.ending_)
    scope_.state = scope::stopping;
  state_ = scope_.state == scope::running ? woken : stopped;  // stopped: it never starts
  l.queue(*this);
}

inline void root::unregister() noexcept {
  if (!previous_root_) return;
  *previous_root_ = next_root_;
  if (next_root_) next_root_->previous_root_ = previous_root_;
  previous_root_ = nullptr;
  if (scope_.loop->running_root() == this) scope_.loop->running_scope_ = nullptr;
}

inline void root::stop(stop_mode m) noexcept {
  if (!body_ && strays_.empty()) return;
  if (m == stop_mode::ask && scope_.state != scope::running) return;
  scope_.state = m == stop_mode::ask ? scope::stopping : scope::abandoned;
  if (body_ && linked())  // not started yet: it never will be
    state_ = stopped;
  else if (body_)
    loop::stop_below(*body_, m);
  for (stray* s = strays_.empty() ? nullptr : &strays_.front(); s; s = strays_.next(*s)) s->stop_stray(m);
}

inline step root::child_ended(frame& body, fate how) noexcept {
  body_ = nullptr;
  if (strays_.empty()) {
    end(body, how);
  } else {
    ended_body_ = &body;
    ended_how_ = how;
  }
  return step::none();
}

inline void root::stray_ended() noexcept {
  if (!ended_body_ || !strays_.empty() || linked()) return;
  state_ = calls;
  scope_.loop->queue(*this);
}

inline step root::on_turn() noexcept {
  if (!ended_body_)
    on_turn_after_end();
  else if (strays_.empty())  // otherwise it has got one more
    end(*std::exchange(ended_body_, nullptr), ended_how_);
  return step::none();
}

inline void root::end(frame& body, fate how) noexcept {
  loop& l = *scope_.loop;
  unregister();
  l.running_scope_ = nullptr;
  l.ending_root_ = this;
  ended(body, how);
  l.ending_root_ = nullptr;
}

// ---- the loop
// --------------------------------------------------------------------------------------------------------

/// All loops of the process, so that a primitive can ask whether the one that it remembers is still there.
struct loops_alive {
  std::mutex mutex;
  std::condition_variable arrived;  // something, at a loop whose context goes
  loop* first = nullptr;
  std::uint64_t last_number = 0;
  std::size_t observers = 0;                          // of other threads, who want every loop observed
  std::atomic<void (*)(loop&) noexcept> visitor{nullptr};

  static loops_alive& get() noexcept {
    alignas(loops_alive) static unsigned char memory[sizeof(loops_alive)];
    static loops_alive& all = *::new (memory) loops_alive;  // never destroyed, for loops that outlive static objects
    return all;
  }
  static loop* next(const loop& l) noexcept { return l.next_alive_; }
  /// Under the mutex. Whoever finds a loop in the list may keep it by an `entry`.
  static void take_out(loop& l) noexcept {
    if (!l.previous_alive_) return;
    *l.previous_alive_ = l.next_alive_;
    if (l.next_alive_) l.next_alive_->previous_alive_ = l.previous_alive_;
    l.previous_alive_ = nullptr;
  }
};

inline loop::loop(loop_service& service, asio::any_io_executor given, access own, bool goes_when_idle)
    : service_(&service),
      given_(std::move(given)),
      executor_(std::move(own.executor)),
      post_drain_(own.post_drain),
      is_here_(own.is_here),
      goes_when_idle_(goes_when_idle) {
  loops_alive& all = loops_alive::get();
  const std::scoped_lock lock(all.mutex);
  number_ = ++all.last_number;
  next_alive_ = all.first;
  previous_alive_ = &all.first;
  if (next_alive_) next_alive_->previous_alive_ = &next_alive_;
  all.first = this;
  observe_from_outside(all.observers != 0);
}

inline loop::~loop() {
  delete timer_;
  while (pushers_.load() != 0) std::this_thread::yield();
  const std::scoped_lock lock(loops_alive::get().mutex);
  loops_alive::take_out(*this);
}

inline bool loop_service::retire(loop& l) noexcept {
  {
    const std::scoped_lock lock(mutex_, loops_alive::get().mutex);
    if (l.entries_.load() != 0) return false;  // whoever leaves last posts a drain
    while (l.pushers_.load() != 0) std::this_thread::yield();  // he may be about to, for a few instructions
    if (l.is_posted() || l.has_arrivals()) return false;
    loops_alive::take_out(l);
    const std::size_t at = l.place_;
    if (at + 1 != others_.size()) {
      others_[at] = std::move(others_.back());
      others_[at].l->place_ = at;
    }
    others_.pop_back();
  }
  delete &l;
  return true;
}

inline bool loop::is_apart_from(const loop& l, std::uint64_t number) noexcept {
  loops_alive& all = loops_alive::get();
  const std::scoped_lock lock(all.mutex);
  for (const loop* other = all.first; other; other = other->next_alive_)
    if (other->number_ == number) return !other->belongs_to(l.executor_);
  return false;
}

inline bool loop::is_there(std::uint64_t number) noexcept {
  loops_alive& all = loops_alive::get();
  const std::scoped_lock lock(all.mutex);
  for (const loop* other = all.first; other; other = other->next_alive_)
    if (other->number_ == number) return true;
  return false;
}

template <class Executor>
loop::access loop::access_to(const asio::any_io_executor& given) {
  using strand_of_context = asio::strand<asio::io_context::executor_type>;
  using strand_of_pool = asio::strand<asio::thread_pool::executor_type>;
  if constexpr (std::is_same_v<Executor, asio::any_io_executor>) {
    access a{};
    const bool is_serial = reach_by_type_erasure<strand_of_context>(a, given) ||
                           reach_by_type_erasure<strand_of_pool>(a, given) ||
                           reach_by_type_erasure<asio::strand<asio::system_executor>>(a, given) ||
                           reach_by_type_erasure<asio::strand<asio::any_io_executor>>(a, given);
    return is_serial ? a : directly(asio::make_strand(given));  // or it is serial, and that can't be seen
  } else if constexpr (std::is_same_v<Executor, strand_of_context> || std::is_same_v<Executor, strand_of_pool>) {
    return directly(*given.target<Executor>());
  } else {
    return directly(asio::make_strand(*given.target<Executor>()));
  }
}

template <std::same_as<asio::io_context> Context>
loop& loop::of(Context& context) {
  return asio::use_service<loop_service>(context).of(context, &access_to<asio::io_context::executor_type>);
}
inline loop& loop::alone_on(asio::io_context& context) {
  return asio::use_service<loop_service>(context).of(context, [](const asio::any_io_executor& executor) {
    return directly(*executor.target<asio::io_context::executor_type>());
  });
}

template <std::convertible_to<asio::any_io_executor> Executor>
loop::entry loop::of(const Executor& executor) {
  using on_context = asio::io_context::executor_type;
  using on_pool = asio::thread_pool::executor_type;
  constexpr bool is_named = std::is_same_v<Executor, on_context> || std::is_same_v<Executor, asio::strand<on_context>> ||
                            std::is_same_v<Executor, on_pool> || std::is_same_v<Executor, asio::strand<on_pool>>;
  const auto reach = &access_to<std::conditional_t<is_named, Executor, asio::any_io_executor>>;

  const asio::any_io_executor given(executor);
  if (loop* l = current(); l && l->belongs_to(given)) return entry(*l);
  // Executors that differ in these properties only are the same here.
  const asio::any_io_executor plain =
      asio::prefer(asio::prefer(asio::prefer(given, asio::execution::blocking.possibly),
                                asio::execution::relationship.fork),
                   asio::execution::outstanding_work.untracked);
  asio::execution_context& context = asio::query(plain, asio::execution::context);
  loop_service& service = asio::use_service<loop_service>(context);
  if (plain.target_type() == typeid(on_context))
    return entry(service.of(static_cast<asio::io_context&>(context), reach));
  return service.of(plain, reach);
}

/// A drain is posted unless one is already. Out of line: what queues a leaf is inlined, and hardly ever posts.
[[gnu::noinline]] inline void loop::schedule() noexcept {
  if (!virtual_ && !closed()) post_drain();
}
/// When it returns one has been posted, by whomever, that has not begun: whoever runs the context next finds it there.
[[gnu::noinline]] inline void loop::post_drain() noexcept {
  std::uint64_t p = posting_.load();
  do {
    while ((p & phases) == being_posted) {  // by another thread, a few instructions ago
      std::this_thread::yield();
      p = posting_.load();
    }
    if ((p & phases) == posted) return;
  } while (!posting_.compare_exchange_weak(p, p | being_posted));
  post_drain_(*this);
  p |= being_posted;
  posting_.compare_exchange_strong(p, (p & ~std::uint64_t(phases)) | posted);  // unless it has begun
}

inline void loop::push(arrival& a) noexcept {
  pushers_.fetch_add(1);
  arrival* head = inbox_.load(std::memory_order_relaxed);
  do a.next_arrival_ = head;
  while (!inbox_.compare_exchange_weak(head, &a));
  if (closed_.load())
    tell_closer();
  else
    post_drain();  // under simulate this only wakes the context
  pushers_.fetch_sub(1);
}

/// shut_down waits.
[[gnu::cold]] inline void loop::tell_closer() noexcept {
  loops_alive& all = loops_alive::get();
  { const std::scoped_lock lock(all.mutex); }
  all.arrived.notify_all();
}
[[gnu::cold]] inline void loop::wait_for_arrivals() noexcept {
  loops_alive& all = loops_alive::get();
  std::unique_lock lock(all.mutex);
  while (!has_arrivals()) all.arrived.wait(lock);
}

inline void loop::collect() noexcept {
  if (!inbox_.load()) return;  // in one order with `posting_`
  arrival* first = nullptr;
  for (arrival* a = inbox_.exchange(nullptr); a;) {  // latest first
    arrival* next = a->next_arrival_;
    a->next_arrival_ = first;
    first = a;
    a = next;
  }
  while (first) {
    arrival& a = *first;
    first = a.next_arrival_;
    a.arrive();
  }
}

inline void loop::leave() noexcept {
  pushers_.fetch_add(1);
  if (entries_.fetch_sub(1) == 1 && current_slot() != this && !closed()) post_drain();  // it may have waited to go
  pushers_.fetch_sub(1);
}

inline void loop::drain() noexcept {
  if (visit_wanted_.load()) [[unlikely]] be_visited();  // in one order with `posting_`
  if (closed() || running_ || virtual_) return;
  if (std::exchange(reported_idle_, false) && observer_) observer_->on_work();
  {
    running_here here(*this);
    set_batch_time(real_now());
    std::size_t budget = batch;
    do {
      collect();
      while (budget != 0 && !ready_.empty()) {
        --budget;
        run_entry(take_next_entry());
      }
      if (!timers_.empty()) fire_timers(real_now());
    } while (budget != 0 && has_ready());
  }
  if (has_ready()) return schedule();
  arm_timer();
  if (armed_ && idle()) {  // left over from a timer that was removed: let the context end
    armed_ = false;
    timer_->cancel();
  }
  if (observer_ && !reported_idle_ && idle()) {
    reported_idle_ = true;
    observer_->on_idle();
  }
  if (may_go()) service_->retire(*this);  // nothing may come after this
}

/// Reservoir sampling: every entry within reach is equally likely.
inline leaf& loop::take_random_entry() noexcept {
  leaf* chosen = &ready_.front();
  std::uint64_t seen = 1;
  for (leaf* l = ready_.next(*chosen); l && seen < shuffle_width; l = ready_.next(*l))
    if (split_mix(seed_) % ++seen == 0) chosen = l;
  chosen->unlink();
  return *chosen;
}

inline void loop::run_entry(leaf& l) noexcept {
  if (l.state_ == leaf::woken) [[likely]]
    drive(step::resume(*l.waiter));
  else
    drive(l.state_ == leaf::stopped ? step::reap(*l.waiter) : l.on_turn());
  if (put_off_) [[unlikely]] run_put_off();
}

[[gnu::cold]] inline void loop::run_put_off() noexcept {
  while (frame* child = put_off_) {  // what is put off meanwhile is appended, and comes after
    put_off_ = child->next_put_off;
    if (!put_off_) put_off_end_ = &put_off_;
    child->where = {};
    const bool ran = std::exchange(child->start, frame::in_turn) == frame::put_off;
    const bool stopped = ran && child->scope->state != scope::running;  // meanwhile: it never starts
    drive(stopped ? step::reap(*child) : step::resume(*child));
  }
}

/// The heart: resumes a frame; if that ends it, asks its owner what comes next, and so on up the tree. A stopped frame
/// is destroyed by its owner, innermost first. One stack frame deep, however long the chain.
template <bool Observed>
inline void loop::drive(step s) noexcept {
  while (s.target) {
    frame& f = *s.target;
    running_scope_ = f.scope;
    if (s.how == fate::done && f.scope->state != scope::abandoned) {
      if constexpr (Observed) turn_begins(f);
      f.waits_for = nullptr;
      f.handle().resume();
      if constexpr (Observed) turn_ends();
      if (!f.handle().done()) {
        if constexpr (Observed)
          if (tracer_) tracer_->suspends(*this, f);
        break;
      }
      if constexpr (Observed)
        if (tracer_) tracer_->ends(*this, f, fate::done);
      s = f.owner->child_ended(f, fate::done);
    } else {
      if constexpr (Observed)
        if (tracer_) tracer_->ends(*this, f, fate::stopped);
      f.has_failed();
      s = f.owner->child_ended(f, fate::stopped);
    }
  }
  running_scope_ = nullptr;
}
inline void loop::drive(step s) noexcept {
  if (is_observed()) [[unlikely]] return drive_observed(s);
  drive<false>(s);
}
[[gnu::cold]] inline void loop::drive_observed(step s) noexcept { drive<true>(s); }

inline void loop::turn_begins(frame& f) noexcept {
  const bool starts = !std::exchange(f.known_to_loop, true);
  if (tracer_) tracer_->resumes(*this, f, starts);
  turn_.where.store(f.where, std::memory_order_relaxed);
  turn_.starts.store(starts, std::memory_order_relaxed);
  turn_.number.store(turn_.number.load(std::memory_order_relaxed) | 1, std::memory_order_release);
}
inline void loop::turn_ends() noexcept {
  turn_.number.store((turn_.number.load(std::memory_order_relaxed) | 1) + 1, std::memory_order_release);
  if (visit_wanted_.load(std::memory_order_relaxed)) [[unlikely]] be_visited();
}

inline void loop::ask_for_visit(bool at_once) noexcept {
  visit_wanted_.store(true);
  pushers_.fetch_add(1);  // as in push
  if (at_once && !closed_.load()) post_drain();
  pushers_.fetch_sub(1);
}
[[gnu::cold]] inline void loop::be_visited() noexcept {
  visit_wanted_.store(false);
  if (const auto visit = loops_alive::get().visitor.load()) visit(*this);
}

[[gnu::cold]] inline void was_never_awaited(frame& f) noexcept { loop::was_never_awaited(f); }
[[gnu::cold]] inline void loop::was_never_awaited(frame& f) noexcept {
  loop* l = current();
  tracer* t = l ? l->tracer_ : tracer::of_this_thread();
  if (t && !use_failed() && !(l && l->running_scope_ && l->running_scope_->stop_asked())) t->was_never_awaited(l, f);
}

[[gnu::cold]] inline void loop::put_off(frame& child) noexcept {
  child.start = child.scope->state == scope::running ? frame::put_off : frame::put_off_stopped;
  child.next_put_off = nullptr;
  *put_off_end_ = &child;
  put_off_end_ = &child.next_put_off;
}

inline bool loop::start(frame& child) noexcept {
  if (depth_ == max_depth) {
    put_off(child);
    return false;
  }
  if (is_observed()) return start_observed(child);
  ++depth_;
  child.handle().resume();
  --depth_;
  return child.handle().done();
}

[[gnu::cold]] inline bool loop::start_observed(frame& child) noexcept {
  const bool starts = !std::exchange(child.known_to_loop, true);  // or it is a generator, which goes on
  if (tracer_) tracer_->resumes(*this, child, starts);
  const std::source_location parent = turn_.where.load(std::memory_order_relaxed);
  const bool parent_starts = turn_.starts.load(std::memory_order_relaxed);
  turn_.where.store(child.where, std::memory_order_relaxed);
  turn_.starts.store(starts, std::memory_order_relaxed);
  ++depth_;
  child.handle().resume();
  --depth_;
  turn_.where.store(parent, std::memory_order_relaxed);
  turn_.starts.store(parent_starts, std::memory_order_relaxed);
  const bool done = child.handle().done();
  if (tracer_ && done)
    tracer_->ends(*this, child, fate::done);
  else if (tracer_)
    tracer_->suspends(*this, child);
  return done;
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
  if (!running_) drain();
}

inline void loop::operation_lost(leaf& l, bool counts) noexcept {
  operations_ -= counts;
  queue(l);  // from a destructor, so nothing runs here
  if (closed() && !running_ && operations_ == 0 && service_) abandon_all();
}

inline void loop::operation_dropped() noexcept {
  if (--operations_ == 0 && service_) abandon_all();
}

inline void loop::outside_begins() {
  if (outside_ == 0) work_ = asio::prefer(executor_, asio::execution::outstanding_work.tracked);
  ++outside_;
  ++operations_;
}

inline void loop::outside_ended() noexcept {
  --operations_;
  if (--outside_ == 0) work_ = asio::any_io_executor();
}

inline void loop::shut_down() noexcept {
  close();
  while (pushers_.load() != 0) std::this_thread::yield();  // they may still hold the executor
  observer_ = nullptr;
  delete std::exchange(timer_, nullptr);
  {
    running_here here(*this);
    collect();
    for (leaf* l = joined_.empty() ? nullptr : &joined_.front(); l;) {
      leaf* next = joined_.next(*l);
      l->stop(stop_mode::ask);
      l = next;
    }
    while (!joined_.empty()) {
      wait_for_arrivals();
      collect();
    }
  }
  if (operations_ == 0) abandon_all();
}

inline void loop::end_all() noexcept {
  ending_ = true;
  for (root* r = roots_; r; r = r->next_root_) ask_to_stop(*r);
}

template <class Stop>
void loop::ask(Stop stop) noexcept {
  ++stops_;
  if (running_) return stop();
  {
    running_here here(*this);  // an operation that completes inside its cancellation must not run its coroutine there
    stop();
  }
  if (!ready_.empty()) schedule();
}
inline void loop::ask_to_stop(root& r) noexcept {
  ask([&]() noexcept { r.stop(stop_mode::ask); });
}

inline void loop::abandon_all() noexcept {
  running_here here(*this);
  for (bool some_left = true; some_left;) {  // a destructor may spawn one more
    for (root* r = roots_; r; r = r->next_root_) r->stop(stop_mode::abandon);
    collect();
    some_left = !ready_.empty();
    while (!ready_.empty()) run_entry(ready_.pop_front());
  }
}

inline void loop::abandon(root& r) noexcept {
  running_here here(*this);
  r.stop(stop_mode::abandon);
  for (collect(); !ready_.empty(); collect()) run_entry(ready_.pop_front());
}

inline bool loop::run_one() noexcept {
  running_here here(*this);
  collect();
  if (ready_.empty()) return false;
  run_entry(take_next_entry());
  return true;
}

// ---- timers
// ----------------------------------------------------------------------------------------------------------

inline void loop::reserve_timer() {
  if (!timer_ && !virtual_) timer_ = new asio::steady_timer(executor_);
  timers_.reserve_one();
}

inline void loop::add_timer(timer_leaf& t, clock::time_point due) noexcept {
  t.timers_ = this;
  timers_.add(t, due, next_order_++);
  if (timers_.is_first(t) && !running_) arm_timer();
}

inline void loop::remove_timer(timer_leaf& t) noexcept {
  t.timers_ = nullptr;
  timers_.remove(t);
}

inline void loop::fire_timers(clock::time_point now) noexcept {
  while (!timers_.empty() && timers_.first_due() <= now) {
    timer_leaf& t = timers_.first();
    remove_timer(t);
    if (t.state_ == leaf::calls)
      queue(t);
    else
      t.wake();
  }
}

inline void loop::arm_timer() noexcept {
  if (virtual_ || closed() || timers_.empty()) return;
  const clock::time_point due = timers_.first_due();
  if (armed_ && armed_for_ <= due) return;  // it fires in time; should it fire early, it is armed again
  armed_ = true;
  armed_for_ = due;
  timer_->expires_at(std::chrono::steady_clock::time_point(
      std::chrono::duration_cast<std::chrono::steady_clock::duration>(due.time_since_epoch())));
  try {
    timer_->async_wait([this](const error_code& error) {
      --waits_;
      if (!error) armed_ = false;
      if (!error || may_go()) drain();
    });
    ++waits_;
  } catch (...) {  // no memory for the wait: look at the clock again and again, which needs none
    armed_ = false;
    schedule();
  }
}

// ---- simulation
// --------------------------------------------------------------------------------------------------------

inline void loop::simulate(clock::time_point start, std::uint64_t seed) noexcept {
  virtual_ = true;
  set_batch_time(start);
  seed_ = seed;
}

/// Of the loop that runs on this thread, as of its turn; without one, now.
inline clock::time_point turn_time() noexcept {
  const loop* here = loop::current();
  return here ? here->batch_time() : clock::now();
}

inline bool loop::advance() noexcept {
  if (!timed()) return false;
  if (timers_.first_due() > batch_time_) set_batch_time(timers_.first_due());
  fire_timers(batch_time_);
  return true;
}

}  // namespace tandem::inline TANDEM_CONFIG::detail
