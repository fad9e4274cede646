// tandem/queue.hpp: items from those who make them to those who take them: queue, concurrent_queue.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/intrusive_list.hpp, detail/loop.hpp, detail/one_loop.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"

#include "detail/frame.hpp"
#include "detail/gcc12.hpp"
#include "detail/waiting.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tandem::inline TANDEM_CONFIG {

namespace detail {
template <class T, class Loops>
class queue_core;
struct no_braces;
/// What braces in a push are the initialiser of. g++ 12 would destroy an aggregate twice that they make inside a
/// co_await expression, so there they make none.
template <class T>
using from_braces = std::conditional_t<miscompiled<T>, no_braces, T>;
}  // namespace detail

template <class T, class Loops>
class basic_queue;

/// For the coroutines of one loop: no lock, no atomics. A wait on another loop than that of the first waiter throws
/// std::logic_error.
template <class T>
using queue = basic_queue<T, detail::on_one_loop>;

/// For coroutines of any loops, on their threads; each is woken on its own loop. A waiter counts as something that can
/// come from outside: it keeps its context running, and is no deadlock. As an arm of a race it is a task, so of two
/// pops both may take effect, the later one's item going to `on_discard`.
template <class T>
using concurrent_queue = basic_queue<T, detail::on_any_loop>;

/// What a queue does with a push when it is full.
enum class overflow {
  wait,         ///< the push waits for a place
  drop_oldest,  ///< the item that would be popped next makes place
  drop_newest,  ///< the pushed item is dropped
  refuse        ///< the push throws `queue_full`
};

/// As a capacity: no limit but memory.
inline constexpr std::size_t unbounded = std::numeric_limits<std::size_t>::max();

struct queue_options {
  std::size_t capacity = 64;
  overflow when_full = overflow::wait;
};

/// What a push throws after `close()`, and any use after `cancel()`.
class queue_closed : public std::runtime_error {
 public:
  queue_closed() : std::runtime_error("tandem::queue_closed") {}
};
/// What a push throws under `overflow::refuse`.
class queue_full : public std::runtime_error {
 public:
  queue_full() : std::runtime_error("tandem::queue_full") {}
};

struct queue_stats {
  std::size_t capacity = 0, size = 0, most = 0;  ///< `most` items there ever were
  std::size_t pushing = 0, popping = 0;          ///< those who wait to
  std::uint64_t pushed = 0, popped = 0;          ///< items that were accepted, and given out
  std::uint64_t dropped = 0;                     ///< by overflow and by `cancel()`
  std::uint64_t unfinished = 0;                  ///< accepted, and no `task_done()` for them yet
};

/// `queue<T> q{64}`: producers `co_await q.push(item)`, consumers `while (auto item = co_await q.pop())`.
///
/// Items come out in the order in which they were accepted; those who wait to push and those who wait to pop are served
/// in the order in which they came, and nobody overtakes them. An item for somebody who waits is his from the moment of
/// the push. The waiter goes on in its loop's turn, never inside the other's call. A stop takes a waiter out of its
/// line; if a popper had been given an item and never runs, the item is the next to be popped again, for a moment
/// beyond the capacity if need be. With a capacity of 0 a push waits until its item is taken.
///
/// Destroying the queue closes it: if their loop is running, those who wait to push get `queue_closed`, those who wait
/// to pop the end; where it is not, they are left to be destroyed with their context.
///
/// T moves without throwing. Memory for items grows with their number and is kept; one allocation for the queue, none
/// for a wait. g++ 12 destroys `co_await q.push(item{...})` twice if the item is an aggregate whose members need
/// destructors: give it a name and move that, or give it a constructor.
template <class T, class Loops>
class basic_queue {
  static_assert(std::is_object_v<T> && !std::is_const_v<T>, "a queue holds objects: no references, no const");
  static_assert(std::is_nothrow_move_constructible_v<T>,
                "a queue's items must move without throwing, so that none is lost half way: keep them in unique_ptrs");

 public:
  using value_type = T;

  explicit basic_queue(std::size_t capacity = queue_options().capacity);
  explicit basic_queue(queue_options options);
  ~basic_queue();
  basic_queue(const basic_queue&) = delete;
  basic_queue& operator=(const basic_queue&) = delete;

  /// `co_await q.push(item)`: gives true once the item has been accepted, false if it was dropped (`drop_newest`).
  ///
  /// Throws `queue_closed` after `close()`, also to those who wait then, and `queue_full` if it is full and refuses.
  template <class Item = detail::from_braces<T>>
  requires std::is_convertible_v<Item&&, T>
  auto push(Item&& item);
  /// `co_await q.push_range(items)`: one after the other, with nobody in between. A stop, or the end of the queue,
  /// leaves the first of them accepted and destroys the rest. Gives how many were not dropped.
  template <std::ranges::input_range Range>
  auto push_range(Range&& items);
  /// `std::optional<T> item = co_await q.pop()`: the next item; empty when the queue is closed and no item is left.
  /// Throws `queue_closed` after `cancel()`.
  auto pop();
  /// Waits for one item and takes as many more as are there, `most` in all; an empty vector at the end. Throws
  /// std::invalid_argument if `most` is 0.
  auto pop_some(std::size_t most);

  /// True if the item was accepted, or another dropped for it; if not, it is where it was. From any code. Throws
  /// `queue_closed`.
  bool try_push(T&& item);
  bool try_push(const T& item);
  /// The next item, if one is there for the taking. From any code. Throws `queue_closed` after `cancel()`.
  std::optional<T> try_pop();

  /// Nothing is pushed any more, what is there can still be popped. Who waits to push gets `queue_closed`, who waits to
  /// pop the end.
  void close() noexcept;
  /// Drops what is there and closes; who waits to pop gets `queue_closed` too.
  void cancel() noexcept;
  bool is_closed() const noexcept;

  /// An item that was popped has been dealt with. Throws std::logic_error if there are none left to be.
  void task_done();
  /// `co_await q.join()`: waits until `task_done()` was called for each item that was accepted. Items that are dropped
  /// have been dealt with.
  auto join();

  /// Items that can be popped now.
  std::size_t size() const noexcept;
  bool empty() const noexcept { return size() == 0; }
  std::size_t capacity() const noexcept;
  queue_stats stats() const noexcept;

 private:
  detail::queue_core<T, Loops>* core_;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// The items, numbered from the first ever. Each is taken once by whoever was promised its number; the numbers behind
/// the promised ones are free.
template <class T>
class numbered_items {
 public:
  using number = std::uint64_t;

  numbered_items() = default;
  numbered_items(const numbered_items&) = delete;
  numbered_items& operator=(const numbered_items&) = delete;
  ~numbered_items() {
    for (number n = oldest_; n != end_; ++n)
      if (n >= free_ || at(n).state != gone) std::destroy_at(&at(n).item);
  }

  /// Those that are not promised.
  std::size_t size() const noexcept { return static_cast<std::size_t>(end_ - free_) + returned_; }
  /// So that the next `push_back` cannot fail.
  void make_room() {
    if (end_ - oldest_ == room_) grow();
  }
  void push_back(T&& item) noexcept { std::construct_at(&at(end_++).item, std::move(item)); }
  /// The oldest that is not promised. Precondition: there is one.
  number promise() noexcept {
    if (returned_ != 0) return promise_returned();
    at(free_).state = promised;
    return free_++;
  }
  /// A promised one.
  T take(number n) noexcept {
    slot& s = at(n);
    T item(std::move(s.item));
    std::destroy_at(&s.item);
    s.state = gone;
    while (oldest_ != free_ && at(oldest_).state == gone) ++oldest_;
    return item;
  }
  /// `take(promise())`, without the detour if none is promised.
  T take_first() noexcept {
    if (oldest_ != free_) return take(promise());
    T& first = at(free_).item;
    T item(std::move(first));
    std::destroy_at(&first);
    oldest_ = ++free_;
    return item;
  }
  /// It was promised, and nobody came.
  void give_back(number n) noexcept {
    at(n).state = returned;
    ++returned_;
  }

 private:
  enum : unsigned char { promised, returned, gone };
  struct slot {
    slot() noexcept {}
    ~slot() {}
    union {
      T item;
    };
    unsigned char state;  // of numbers below free_
  };

  slot& at(number n) const noexcept { return slots_[n & (room_ - 1)]; }
  [[gnu::cold, gnu::noinline]] number promise_returned() noexcept {
    number n = oldest_;
    while (at(n).state != returned) ++n;
    at(n).state = promised;
    --returned_;
    return n;
  }
  [[gnu::cold, gnu::noinline]] void grow() {
    const std::size_t room = room_ == 0 ? 8 : 2 * room_;
    std::unique_ptr<slot[]> slots(new slot[room]);
    for (number n = oldest_; n != end_; ++n) {
      slot& from = at(n);
      slot& to = slots[n & (room - 1)];
      to.state = from.state;
      if (n < free_ && from.state == gone) continue;
      std::construct_at(&to.item, std::move(from.item));
      std::destroy_at(&from.item);
    }
    slots_ = std::move(slots);
    room_ = room;
  }

  std::unique_ptr<slot[]> slots_;
  std::size_t room_ = 0;                    // a power of two
  number oldest_ = 0, free_ = 0, end_ = 0;  // that is there; that is not promised; that will be
  std::size_t returned_ = 0;                // below free_, and free all the same
};

/// How a wait for a queue ended.
enum class queue_answer : unsigned char { none, accepted, dropped, item, ended, closed };

template <class Loops>
class queue_waiter : public Loops::waiter {
 public:
  using Loops::waiter::wait_in;
  queue_answer answer = queue_answer::none;
  bool is_user = false;  // counted by the core

 protected:
  queue_waiter() noexcept = default;
  queue_waiter(queue_waiter&&) noexcept = default;
  ~queue_waiter() = default;
};

/// Waits to push some items, one after the other.
template <class T, class Loops>
class pusher : public queue_waiter<Loops> {
 public:
  virtual T& next_item() noexcept = 0;
  /// It was taken, or dropped. True if it was the last.
  virtual bool next_done(bool was_accepted) noexcept = 0;

 protected:
  ~pusher() = default;
};

/// Waits to pop. `number` is what it was promised.
template <class T, class Loops>
class popper : public queue_waiter<Loops> {
 public:
  typename numbered_items<T>::number number = 0;

 protected:
  ~popper() = default;
};

/// It lives as long as the queue or a waiter. The mutex is held in all functions that say nothing else.
template <class T, class Loops>
class queue_core {
 public:
  using mutex_type = typename Loops::mutex;
  using line_type = typename Loops::line;
  using some_pusher = pusher<T, Loops>;
  using some_popper = popper<T, Loops>;
  using joiner = queue_waiter<Loops>;
  using number = typename numbered_items<T>::number;

  explicit queue_core(const queue_options& o) noexcept : capacity_(o.capacity), when_full_(o.when_full) {}

  mutex_type& mutex() noexcept { return mutex_; }

  /// Accepts the item, or drops one, or says that the push has to wait. What is dropped is moved to `dropped`, to be
  /// destroyed when the mutex is free.
  queue_answer try_push(T& item, std::optional<T>& dropped) {
    if (is_closed_) throw queue_closed();
    if (is_full()) {
      if (when_full_ == overflow::wait) return queue_answer::none;
      if (when_full_ == overflow::refuse) throw queue_full();
      const bool oldest = when_full_ == overflow::drop_oldest && items_.size() != 0;
      if (oldest) items_.make_room();
      ++dropped_;
      if (!oldest) return queue_answer::dropped;
      dropped.emplace(items_.take_first());
      settled();
    }
    items_.make_room();
    accept(item);
    if (!poppers_.empty()) hand_over();
    return queue_answer::accepted;
  }
  /// The same without a wait or an exception for a full queue: false leaves the item where it is.
  bool offer(T& item, std::optional<T>& dropped) {
    if (is_full() && when_full_ == overflow::refuse && !is_closed_) return false;
    const queue_answer a = try_push(item, dropped);
    return a == queue_answer::accepted;
  }
  /// The next item, if there is one.
  std::optional<T> try_pop() {
    if (is_cancelled_) throw queue_closed();
    if (items_.size() == 0) return pop_from_pusher();
    ++popped_;
    std::optional<T> item(items_.take_first());
    if (!pushers_.empty()) refill();
    return item;
  }
  /// The same for a popper, which takes it later.
  bool try_promise(some_popper& w) {
    if (is_cancelled_) throw queue_closed();
    if (items_.size() == 0) {
      if (pushers_.empty()) return false;
      items_.make_room();
      take_from_pusher();
    }
    promise_to(w);
    use(w);
    refill();
    return true;
  }
  T take_promised(some_popper& w) noexcept {
    ++popped_;
    return items_.take(w.number);
  }
  /// It will not be taken. After `cancel` it is dropped: moved to `dropped`, as above.
  void give_back(some_popper& w, std::optional<T>& dropped) noexcept {
    if (is_cancelled_) {
      dropped.emplace(items_.take(w.number));
      ++dropped_;
      return settled();
    }
    items_.give_back(w.number);
    if (!poppers_.empty()) hand_over();
  }
  bool is_at_end() const noexcept { return is_closed_; }
  bool all_done() const noexcept { return unfinished_ == 0; }

  void wait_to_push(some_pusher& w, frame& f) { wait_in(pushers_, w, f); }
  void wait_to_pop(some_popper& w, frame& f) { wait_in(poppers_, w, f); }
  void wait_to_join(joiner& w, frame& f) { wait_in(joiners_, w, f); }
  void leave_pushers(some_pusher& w) noexcept { pushers_.remove(w); }
  void leave_poppers(some_popper& w) noexcept { poppers_.remove(w); }
  void leave_joiners(joiner& w) noexcept { joiners_.remove(w); }
  void use(queue_waiter<Loops>& w) noexcept {
    if (!std::exchange(w.is_user, true)) ++users_;
  }
  void task_done() {
    if (unfinished_ == 0) throw std::logic_error("tandem::queue::task_done: called more often than items were pushed");
    settled();
  }
  queue_stats stats() const noexcept {
    return {capacity_, items_.size(), most_, pushers_.size(), poppers_.size(), pushed_, popped_, dropped_, unfinished_};
  }

  // -- The mutex is free.

  /// The end of a waiter.
  void drop_waiter(queue_waiter<Loops>& w) noexcept {
    if (!w.is_user) return;
    bool is_over = false;
    {
      const std::scoped_lock lock(mutex_);
      --users_;
      is_over = is_ownerless_ && users_ == 0;
    }
    if (is_over) delete this;
  }
  void close() noexcept {
    const std::scoped_lock lock(mutex_);
    shut(queue_answer::ended);
  }
  void cancel() noexcept {
    {
      const std::scoped_lock lock(mutex_);
      is_cancelled_ = true;
      shut(queue_answer::closed);
    }
    while (drop_one()) {
    }
  }
  /// The queue is gone.
  void disown() noexcept {
    bool is_over = false;
    {
      const std::scoped_lock lock(mutex_);
      is_closed_ = true;
      end_if_running(pushers_, queue_answer::closed);
      end_if_running(poppers_, queue_answer::ended);
      end_if_running(joiners_, queue_answer::closed);
      is_ownerless_ = true;
      is_over = users_ == 0;
    }
    if (is_over) delete this;
  }

 private:
  /// Nobody waits for an item, and there is no place for one.
  bool is_full() const noexcept { return poppers_.empty() && (items_.size() >= capacity_ || !pushers_.empty()); }
  void accept(T& item) noexcept {
    items_.push_back(std::move(item));
    ++pushed_;
    ++unfinished_;
    if (poppers_.empty() && items_.size() > most_) most_ = items_.size();
  }
  void settled() noexcept {
    if (--unfinished_ != 0) return;
    while (!joiners_.empty()) end(joiners_, queue_answer::accepted);
  }
  void promise_to(some_popper& w) noexcept {
    w.number = items_.promise();
    w.answer = queue_answer::item;
  }
  void hand_over() noexcept {
    while (!poppers_.empty() && items_.size() != 0) {
      auto& w = static_cast<some_popper&>(poppers_.front());
      promise_to(w);
      poppers_.wake(w);
    }
  }
  /// Places have become free for those who wait to push.
  void refill() noexcept {
    try {
      while (!pushers_.empty() && items_.size() < capacity_) {
        items_.make_room();
        take_from_pusher();
      }
    } catch (const std::bad_alloc&) {  // they go on waiting for the next pop
    }
  }
  void take_from_pusher() noexcept {
    auto& w = static_cast<some_pusher&>(pushers_.front());
    accept(w.next_item());
    pushed_one(w);
  }
  void pushed_one(some_pusher& w) noexcept {
    if (!w.next_done(true)) return;
    w.answer = queue_answer::accepted;
    pushers_.wake(w);
  }
  std::optional<T> pop_from_pusher() noexcept {
    if (pushers_.empty()) return std::nullopt;
    auto& w = static_cast<some_pusher&>(pushers_.front());
    std::optional<T> item(std::move(w.next_item()));
    ++pushed_;
    ++popped_;
    ++unfinished_;
    pushed_one(w);
    return item;
  }
  template <class Waiter>
  void wait_in(line_type& line, Waiter& w, frame& f) {
    user_.check(f, "queue", "use a concurrent_queue");
    w.wait_in(line, mutex_, f);
    use(w);
  }
  void end(line_type& line, queue_answer a) noexcept {
    auto& w = static_cast<queue_waiter<Loops>&>(line.front());
    w.answer = a;
    line.wake(w);
  }
  void end_if_running(line_type& line, queue_answer a) noexcept {
    while (!line.empty()) {
      auto& w = static_cast<queue_waiter<Loops>&>(line.front());
      w.answer = a;
      line.wake_if_running(w);
    }
  }
  void shut(queue_answer for_poppers) noexcept {
    is_closed_ = true;
    while (!pushers_.empty()) end(pushers_, queue_answer::closed);
    while (!poppers_.empty()) end(poppers_, for_poppers);
  }
  bool drop_one() noexcept {
    std::optional<T> item;
    const std::scoped_lock lock(mutex_);
    if (items_.size() == 0) return false;
    item.emplace(items_.take_first());
    ++dropped_;
    settled();
    return true;
  }

  numbered_items<T> items_;
  std::size_t capacity_;
  line_type pushers_, poppers_, joiners_;
  overflow when_full_;
  bool is_closed_ = false, is_cancelled_ = false, is_ownerless_ = false;
  std::size_t users_ = 0;
  std::size_t most_ = 0;
  std::uint64_t pushed_ = 0, popped_ = 0, dropped_ = 0, unfinished_ = 0;
  [[no_unique_address]] typename Loops::user user_;
  [[no_unique_address]] mutex_type mutex_;
};

/// What a push has to push: one item, or several.
template <class T>
class one_item {
 public:
  template <class Item>
  explicit one_item(std::in_place_t, Item&& item) : item_(std::forward<Item>(item)) {}
  bool is_done() const noexcept { return is_done_; }
  T& next() noexcept { return item_; }
  bool done(bool was_accepted) noexcept {
    was_accepted_ = was_accepted;
    return is_done_ = true;
  }
  bool result() const noexcept { return was_accepted_; }

 private:
  T item_;
  bool is_done_ = false, was_accepted_ = false;
};
template <class T>
class some_items {
 public:
  explicit some_items(std::vector<T> items) noexcept : items_(std::move(items)) {}
  bool is_done() const noexcept { return at_ == items_.size(); }
  T& next() noexcept { return items_[at_]; }
  bool done(bool was_accepted) noexcept {
    accepted_ += was_accepted;
    return ++at_ == items_.size();
  }
  std::size_t result() const noexcept { return accepted_; }

 private:
  std::vector<T> items_;
  std::size_t at_ = 0, accepted_ = 0;
};

template <class T, class Loops, class Items>
class push_request {
 public:
  push_request(queue_core<T, Loops>& core, Items items) : core_(&core), items_(std::move(items)) {}
  bool try_now() {
    while (!items_.is_done()) {
      std::optional<T> dropped;
      const std::scoped_lock lock(core_->mutex());
      const queue_answer a = core_->try_push(items_.next(), dropped);
      if (a == queue_answer::none) return false;
      items_.done(a == queue_answer::accepted);
    }
    return true;
  }
  auto take() const noexcept { return items_.result(); }

 protected:
  queue_core<T, Loops>* core_;
  Items items_;
};

template <class T, class Loops, class Items>
class push_waiter final : public pusher<T, Loops>, push_request<T, Loops, Items> {
  using request = push_request<T, Loops, Items>;
  using request::core_, request::items_;

 public:
  explicit push_waiter(request&& r) : request(std::move(r)) {}
  push_waiter(push_waiter&& o) : request(std::move(o)) {}
  ~push_waiter() { core_->drop_waiter(*this); }

  const char* what() const noexcept override { return "queue::push"; }
  bool await_ready() { return this->try_now(); }
  bool suspend(frame& f) {
    const std::scoped_lock lock(core_->mutex());
    for (std::optional<T> none; !items_.is_done();) {  // some may have been popped meanwhile, on another thread
      const queue_answer a = core_->try_push(items_.next(), none);  // full queues that wait drop nothing
      if (a == queue_answer::none) {
        core_->wait_to_push(*this, f);
        return true;
      }
      items_.done(true);
    }
    return false;
  }
  auto await_resume() {
    this->consume();
    if (this->answer == queue_answer::closed) throw queue_closed();
    return this->take();
  }

 private:
  T& next_item() noexcept override { return items_.next(); }
  bool next_done(bool was_accepted) noexcept override { return items_.done(was_accepted); }
  void leave_line() noexcept override { core_->leave_pushers(*this); }
};

template <class T, class Loops>
class pop_request {
 public:
  explicit pop_request(queue_core<T, Loops>& core) noexcept : core_(&core) {}
  pop_request(pop_request&& o) noexcept : core_(o.core_) {}
  bool try_now() {
    const std::scoped_lock lock(core_->mutex());
    item_ = core_->try_pop();
    return item_.has_value() || core_->is_at_end();
  }
  std::optional<T> take() noexcept { return std::move(item_); }
  queue_core<T, Loops>& core() const noexcept { return *core_; }

 private:
  queue_core<T, Loops>* core_;
  std::optional<T> item_;
};
template <class T, class Loops>
class some_request {
 public:
  some_request(queue_core<T, Loops>& core, std::size_t most) noexcept : core_(&core), most_(most) {}
  some_request(some_request&& o) noexcept : core_(o.core_), most_(o.most_), items_(std::move(o.items_)) {}
  bool try_now() { return fill() || !items_.empty(); }
  std::vector<T> take() noexcept { return std::move(items_); }
  queue_core<T, Loops>& core() const noexcept { return *core_; }

  /// Before an item is taken, which then has a place.
  void make_room() {
    if (items_.size() != items_.capacity()) return;
    items_.reserve(std::min(most_, items_.empty() ? std::size_t(8) : 2 * items_.size()));
  }
  void add(T&& item) noexcept { items_.push_back(std::move(item)); }
  /// As many as are there. True if none will come any more. What it has is not lost if it can't get more.
  bool fill() {
    try {
      while (items_.size() != most_) {
        make_room();
        const std::scoped_lock lock(core_->mutex());
        std::optional<T> item = core_->try_pop();
        if (!item) return core_->is_at_end();
        add(std::move(*item));
      }
    } catch (...) {
      if (items_.empty()) throw;
    }
    return false;
  }

 private:
  queue_core<T, Loops>* core_;
  std::size_t most_;
  std::vector<T> items_;
};

/// What `pop` and `pop_some` have in common: a wait for one item.
template <class T, class Loops, class Request>
class pop_waiter final : public popper<T, Loops> {
 public:
  explicit pop_waiter(Request&& r) noexcept : request_(std::move(r)) {}
  pop_waiter(pop_waiter&& o) noexcept : request_(std::move(o.request_)) {}
  ~pop_waiter() {
    if (this->answer == queue_answer::item) {
      std::optional<T> dropped;
      const std::scoped_lock lock(core().mutex());
      core().give_back(*this, dropped);
    }
    core().drop_waiter(*this);
  }

  const char* what() const noexcept override { return "queue::pop"; }
  bool await_ready() { return answered(nullptr); }
  bool suspend(frame& f) { return !answered(&f); }
  auto await_resume() {
    this->consume();
    if (this->answer == queue_answer::closed) throw queue_closed();
    return result();
  }

 private:
  queue_core<T, Loops>& core() const noexcept { return request_.core(); }
  /// Is there an answer now? If not, `f` waits for one.
  bool answered(frame* f) {
    const std::scoped_lock lock(core().mutex());
    if (core().try_promise(*this)) return true;
    if (core().is_at_end()) {
      this->answer = queue_answer::ended;
      return true;
    }
    if (f) core().wait_to_pop(*this, *f);
    return false;
  }
  std::optional<T> take_item() noexcept {
    if (this->answer != queue_answer::item) return std::nullopt;
    const std::scoped_lock lock(core().mutex());
    this->answer = queue_answer::none;
    return core().take_promised(*this);
  }
  auto result() {
    if constexpr (std::is_same_v<Request, pop_request<T, Loops>>) {
      return take_item();
    } else {
      request_.make_room();
      if (std::optional<T> first = take_item()) {
        request_.add(std::move(*first));
        request_.fill();
      }
      return request_.take();
    }
  }
  void leave_line() noexcept override { core().leave_poppers(*this); }

  Request request_;
};

template <class T, class Loops>
class join_waiter final : public queue_waiter<Loops> {
 public:
  explicit join_waiter(queue_core<T, Loops>& core) noexcept : core_(&core) {}
  join_waiter(join_waiter&& o) noexcept : core_(o.core_) {}
  ~join_waiter() { core_->drop_waiter(*this); }

  const char* what() const noexcept override { return "queue::join"; }
  bool await_ready() {
    const std::scoped_lock lock(core_->mutex());
    return core_->all_done();
  }
  bool suspend(frame& f) {
    const std::scoped_lock lock(core_->mutex());
    if (core_->all_done()) return false;
    core_->wait_to_join(*this, f);
    return true;
  }
  void await_resume() {
    this->consume();
    if (this->answer == queue_answer::closed) throw queue_closed();
  }

 private:
  void leave_line() noexcept override { core_->leave_joiners(*this); }
  queue_core<T, Loops>* core_;
};

}  // namespace detail

template <class T, class Loops>
basic_queue<T, Loops>::basic_queue(std::size_t capacity) : basic_queue(queue_options{.capacity = capacity}) {}
template <class T, class Loops>
basic_queue<T, Loops>::basic_queue(queue_options options) : core_(new detail::queue_core<T, Loops>(options)) {}
template <class T, class Loops>
basic_queue<T, Loops>::~basic_queue() {
  core_->disown();
}
template <class T, class Loops>
template <class Item>
requires std::is_convertible_v<Item&&, T>
auto basic_queue<T, Loops>::push(Item&& item) {
  using items = detail::one_item<T>;
  using request = detail::push_request<T, Loops, items>;
  return detail::asks_first<request, detail::push_waiter<T, Loops, items>>(
      request(*core_, items(std::in_place, std::forward<Item>(item))));
}
template <class T, class Loops>
template <std::ranges::input_range Range>
auto basic_queue<T, Loops>::push_range(Range&& range) {
  detail::refuse_what_gcc12_miscompiles<Range>();
  static_assert(std::is_convertible_v<std::ranges::range_reference_t<Range>, T>,
                "push_range takes a range of what the queue holds");
  std::vector<T> all;
  if constexpr (std::is_same_v<Range, std::vector<T>>) {
    all = std::move(range);
  } else {
    if constexpr (std::ranges::sized_range<Range>) all.reserve(std::ranges::size(range));
    for (auto&& one : range) all.push_back(std::forward<decltype(one)>(one));
  }
  using items = detail::some_items<T>;
  using request = detail::push_request<T, Loops, items>;
  return detail::asks_first<request, detail::push_waiter<T, Loops, items>>(request(*core_, items(std::move(all))));
}
template <class T, class Loops>
auto basic_queue<T, Loops>::pop() {
  using request = detail::pop_request<T, Loops>;
  return detail::asks_first<request, detail::pop_waiter<T, Loops, request>>(request(*core_));
}
template <class T, class Loops>
auto basic_queue<T, Loops>::pop_some(std::size_t most) {
  if (most == 0) throw std::invalid_argument("tandem::queue::pop_some: at most 0 items; it must be at least 1");
  using request = detail::some_request<T, Loops>;
  return detail::asks_first<request, detail::pop_waiter<T, Loops, request>>(request(*core_, most));
}
template <class T, class Loops>
bool basic_queue<T, Loops>::try_push(T&& item) {
  std::optional<T> dropped;
  const std::scoped_lock lock(core_->mutex());
  return core_->offer(item, dropped);
}
template <class T, class Loops>
bool basic_queue<T, Loops>::try_push(const T& item) {
  T copy(item);
  return try_push(std::move(copy));
}
template <class T, class Loops>
std::optional<T> basic_queue<T, Loops>::try_pop() {
  const std::scoped_lock lock(core_->mutex());
  return core_->try_pop();
}
template <class T, class Loops>
void basic_queue<T, Loops>::close() noexcept {
  core_->close();
}
template <class T, class Loops>
void basic_queue<T, Loops>::cancel() noexcept {
  core_->cancel();
}
template <class T, class Loops>
bool basic_queue<T, Loops>::is_closed() const noexcept {
  const std::scoped_lock lock(core_->mutex());
  return core_->is_at_end();
}
template <class T, class Loops>
void basic_queue<T, Loops>::task_done() {
  const std::scoped_lock lock(core_->mutex());
  core_->task_done();
}
template <class T, class Loops>
auto basic_queue<T, Loops>::join() {
  return detail::join_waiter<T, Loops>(*core_);
}
template <class T, class Loops>
std::size_t basic_queue<T, Loops>::size() const noexcept {
  return stats().size;
}
template <class T, class Loops>
std::size_t basic_queue<T, Loops>::capacity() const noexcept {
  return stats().capacity;
}
template <class T, class Loops>
queue_stats basic_queue<T, Loops>::stats() const noexcept {
  const std::scoped_lock lock(core_->mutex());
  return core_->stats();
}

}  // namespace tandem::inline TANDEM_CONFIG
