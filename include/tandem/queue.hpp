// tandem/queue.hpp: items from those who make them to those who take them: queue, concurrent_queue.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/one_loop.hpp, detail/random.hpp, detail/timer_heap.hpp, detail/tracer.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"

#include "detail/frame.hpp"
#include "detail/gcc12.hpp"
#include "detail/waiting.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/queue.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

namespace detail {
template <class T, class Loops>
class queue_core;
struct give_the_item_a_name;
/// What braces in a push are the initialiser of. g++ 12 would destroy an aggregate twice that they make inside a
/// co_await expression, so there they make none.
template <class T>
using from_braces = std::conditional_t<miscompiled<T>, give_the_item_a_name, T>;
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
  drop_oldest,  ///< the item that would be popped next makes place; if there is none, the pushed item is dropped
  drop_newest,  ///< the pushed item is dropped
  refuse        ///< the push throws `queue_full`
};

/// As a capacity: no limit but memory.
inline constexpr std::size_t unbounded = std::numeric_limits<std::size_t>::max();

struct queue_options {
  std::size_t capacity = 64;
  overflow when_full = overflow::wait;
};

/// What a push throws after `close()`, and a pop too after `cancel()`.
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
/// line; if a popper had been given an item and never runs, the item is the next to be popped again, before all that
/// came later, for a moment beyond the capacity if need be. With a capacity of 0 a push waits until its item is taken.
///
/// Destroying the queue closes it and destroys what is there: if their loop is running, those who wait to push or to
/// join get `queue_closed`, those who wait to pop the end; where it is not, they are left to be destroyed with their
/// context.
///
/// T moves without throwing; its destructor may use the queue, but not that of a T that was moved from. Memory for
/// items grows with their number and is kept; one allocation for the queue, none for a wait. g++ 12 destroys
/// `co_await q.push(item{...})` twice if the item is an aggregate whose members need destructors: give it a name and
/// move that, or give it a constructor.
template <class T, class Loops>
class basic_queue {
  static_assert(std::is_object_v<T> && !std::is_const_v<T>, "a queue holds objects: no references, no const");
  static_assert(!std::is_object_v<T> || std::is_nothrow_move_constructible_v<T>,
                "a queue's items must move without throwing, so that none is lost half way: keep them in unique_ptrs");

 public:
  using value_type = T;

  explicit basic_queue(std::size_t capacity = queue_options().capacity) : basic_queue(queue_options{capacity}) {}
  explicit basic_queue(queue_options options) : core_(new detail::queue_core<T, Loops>(options)) {}
  ~basic_queue() { core_->disown(); }
  basic_queue(const basic_queue&) = delete;
  basic_queue& operator=(const basic_queue&) = delete;

  /// `co_await q.push(item)`: gives true once the item has been accepted, false if it was dropped.
  ///
  /// Throws `queue_closed` after `close()`, also to those who wait then, and `queue_full` if it is full and refuses.
  template <class Item = detail::from_braces<T>>
  auto push(Item&& item);
  /// `co_await q.push_range(items)`: one after the other, with nobody in between. Gives how many were accepted. A stop,
  /// the end of the queue, a refusal or a lack of memory leaves the first of them accepted and destroys the rest. A
  /// range that is handed over is moved from.
  template <std::ranges::input_range Range>
  auto push_range(Range&& items);
  /// `std::optional<T> item = co_await q.pop()`: the next item; empty when the queue is closed and no item is left.
  /// Throws `queue_closed` after `cancel()`.
  auto pop();
  /// Waits for one item and takes as many more as are there, `most` in all; an empty vector at the end. Throws
  /// std::invalid_argument if `most` is 0, else as `pop`.
  auto pop_some(std::size_t most);

  /// True if the item was accepted; if not, it is where it was. Waits for nothing and drops nothing but, under
  /// `drop_oldest`, another for it. From any code. Throws `queue_closed`.
  bool try_push(T&& item) { return core_->try_push_now(item); }
  bool try_push(const T& item) requires std::is_copy_constructible_v<T> { return try_push(T(item)); }
  /// The next item, if one is there for the taking. From any code. Throws `queue_closed` after `cancel()`.
  std::optional<T> try_pop() { return core_->try_pop_now(); }

  /// Nothing is pushed any more, what is there can still be popped. Who waits to push gets `queue_closed`, who waits to
  /// pop the end.
  void close() noexcept { core_->close(); }
  /// Drops what is there and closes; who waits to pop gets `queue_closed` too.
  void cancel() noexcept { core_->cancel(); }
  bool is_closed() const noexcept { return core_->is_closed_now(); }

  /// An item that was popped has been dealt with. Throws std::logic_error if there are none left to be.
  void task_done() { core_->task_done(); }
  /// `co_await q.join()`: waits until `task_done()` was called for each item that was accepted. Items that are dropped
  /// have been dealt with.
  auto join();

  /// Items that can be popped now.
  std::size_t size() const noexcept { return stats().size; }
  bool empty() const noexcept { return size() == 0; }
  std::size_t capacity() const noexcept { return stats().capacity; }
  queue_stats stats() const noexcept { return core_->stats(); }

 private:
  detail::queue_core<T, Loops>* core_;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// The items that nobody has been given, in order. Each has a number: how many were accepted before it. In front are
/// those that were given back; the others are the last that were accepted, and have no gaps.
template <class T>
class item_ring {
 public:
  using number = std::uint64_t;

  item_ring() noexcept = default;
  item_ring(item_ring&& o) noexcept
      : slots_(std::move(o.slots_)),
        room_(std::exchange(o.room_, 0)),
        begin_(o.begin_),
        size_(std::exchange(o.size_, 0)),
        returned_(std::exchange(o.returned_, 0)) {}
  item_ring& operator=(item_ring&&) = delete;
  ~item_ring() {
    while (size_ != 0) pop_front();
  }

  std::size_t size() const noexcept { return size_; }
  /// So that so many more can be added without fail.
  void make_room(std::size_t more) {
    if (room_ - size_ < more) [[unlikely]]
      grow(size_ + more);
  }
  void push_back(T&& item) noexcept { std::construct_at(&at(size_++).item, std::move(item)); }
  T& front() noexcept { return at(0).item; }
  number number_of_front(number accepted) const noexcept { return returned_ != 0 ? at(0).number : accepted - size_; }
  void pop_front() noexcept {
    T& gone = front();
    ++begin_;
    --size_;
    if (returned_ != 0) [[unlikely]]
      --returned_;
    std::destroy_at(&gone);
  }
  /// Before all with a greater number.
  void put_back(T&& item, number n) noexcept {
    --begin_;
    ++size_;
    std::size_t i = 0;
    for (; i != returned_ && at(i + 1).number < n; ++i) at(i).take(at(i + 1));
    std::construct_at(&at(i).item, std::move(item));
    at(i).number = n;
    ++returned_;
  }

 private:
  struct slot {
    slot() noexcept {}
    ~slot() {}
    void take(slot& from) noexcept {
      std::construct_at(&item, std::move(from.item));
      std::destroy_at(&from.item);
      number = from.number;
    }
    union {
      T item;
    };
    item_ring::number number = 0;  // if it was given back
  };

  slot& at(std::size_t i) const noexcept { return slots_[(begin_ + i) & (room_ - 1)]; }
  [[gnu::cold, gnu::noinline]] void grow(std::size_t size) {
    const std::size_t room = std::bit_ceil(std::max(size, std::size_t(8)));
    std::unique_ptr<slot[]> slots(new slot[room]);
    for (std::size_t i = 0; i != size_; ++i) slots[i].take(at(i));
    slots_ = std::move(slots);
    room_ = room;
    begin_ = 0;
  }

  std::unique_ptr<slot[]> slots_;
  std::size_t room_ = 0;  // a power of two
  std::size_t begin_ = 0, size_ = 0;
  std::size_t returned_ = 0;
};

/// An item of a push. A struct, because a vector of bool holds no bools.
template <class T>
struct to_push {
  T item;
};

/// Waits at a queue: to join it, if it is none of those below.
template <class T, class Loops>
class queue_waiter : public Loops::waiter {
 protected:
  explicit queue_waiter(queue_core<T, Loops>& core) noexcept : core_(&core) {}
  queue_waiter(queue_waiter&& o) noexcept : core_(o.core_) {}
  ~queue_waiter() {
    if (is_user_) core_->one_user_less();
  }
  void throw_if_refused() const {
    if (is_refused_) throw queue_closed();
  }
  queue_core<T, Loops>* core_;

 private:
  friend queue_core<T, Loops>;
  bool is_refused_ = false;  // it gets queue_closed
  bool is_user_ = false;     // counted by the core
};
/// To push some items, one after the other.
template <class T, class Loops>
class pusher : public queue_waiter<T, Loops> {
 public:
  to_push<T>*next = nullptr, *end = nullptr;

 protected:
  using queue_waiter<T, Loops>::queue_waiter;
  pusher(pusher&&) noexcept = default;
  ~pusher() = default;
};
/// To pop an item. What it was given comes back by its number if it is not taken.
template <class T, class Loops>
class popper : public queue_waiter<T, Loops> {
 public:
  std::optional<T> item;
  typename item_ring<T>::number number = 0;

  /// In one step: g++ 12 writes what it emplaces piece by piece, and copies it whole, which waits for the pieces.
  std::optional<T> take_item() {
    if (!item) return std::nullopt;
    const taken when_moved{*this};
    return std::optional<T>(std::in_place, std::move(*item));
  }

 protected:
  using queue_waiter<T, Loops>::queue_waiter;
  popper(popper&&) noexcept = default;
  ~popper() {
    if (item) this->core_->take_back(*this);
  }

 private:
  struct taken {
    popper& by;
    ~taken() {
      by.item.reset();
      by.core_->is_taken();
    }
  };
};

/// What the queue and its waiters share; the last of them destroys it.
///
/// Pushers wait if there is no place, poppers if there is no item: never both, so there is one line. Items that poppers
/// have been given and have not taken are lent: each keeps a place in the ring, so that taking it back cannot fail.
template <class T, class Loops>
class queue_core {
 public:
  using waiter = queue_waiter<T, Loops>;
  using some_pusher = pusher<T, Loops>;
  using some_popper = popper<T, Loops>;
  using line_type = typename Loops::line;
  using mutex_type = typename Loops::mutex;

  explicit queue_core(const queue_options& o) noexcept : capacity_(o.capacity), when_full_(o.when_full) {}

  // -- With the mutex held.

  mutex_type& mutex() noexcept { return mutex_; }
  bool is_closed() const noexcept { return phase_ >= closed; }
  bool is_all_done() const noexcept { return settled_ == pushed_; }

  /// False if it has to wait. True: the item was accepted, which is counted, or it was dropped.
  bool push(T& item, std::size_t& count) {
    if (try_push(item) != full) [[likely]]
      return ++count, true;
    if (when_full_ == overflow::wait) return false;
    if (when_full_ == overflow::refuse) throw queue_full();
    ++dropped_;
    return true;
  }
  bool try_pop(std::optional<T>& to) {
    if (!take_next(to)) return false;
    ++popped_;
    return true;
  }
  bool try_pop(some_popper& w) {
    if (phase_ == pushers_wait) items_.make_room(1 + lent_);  // who is let in does not take the place of what is lent
    w.number = items_.number_of_front(pushed_);
    if (!take_next(w.item)) return false;
    ++lent_;
    use(w);
    return true;
  }
  void wait(some_pusher& w, frame& f) { wait_in(line_, w, f, pushers_wait); }
  void wait(some_popper& w, frame& f) { wait_in(line_, w, f, poppers_wait); }
  void wait(waiter& w, frame& f) { wait_in(joiners_, w, f, phase_); }
  void leaves(some_pusher& w) noexcept { leave_line(w); }
  void leaves(some_popper& w) noexcept { leave_line(w); }
  void leaves(waiter& w) noexcept { joiners_.remove(w); }

  // -- With the mutex free.

  bool try_push_now(T& item) {
    std::optional<T> dropped;  // destroyed when the mutex is free
    const std::scoped_lock lock(mutex_);
    const verdict v = try_push(item);
    if (v == replaced) dropped.emplace(std::move(item));
    return v != full;
  }
  std::optional<T> try_pop_now() {
    std::optional<T> item;
    const std::scoped_lock lock(mutex_);
    try_pop(item);
    return item;
  }
  void close() noexcept { end(closed); }
  void cancel() noexcept { end(cancelled); }
  /// The queue goes.
  void disown() noexcept {
    end(cancelled, true);
    one_user_less();
  }
  bool is_closed_now() const noexcept {
    const std::scoped_lock lock(mutex_);
    return is_closed();
  }
  void task_done() {
    const std::scoped_lock lock(mutex_);
    if (is_all_done()) throw std::logic_error("tandem::queue::task_done: called more often than items were pushed");
    settle(1);
  }
  queue_stats stats() const noexcept {
    const std::scoped_lock lock(mutex_);
    const std::size_t pushing = phase_ == pushers_wait ? line_.size() : 0;
    const std::size_t popping = phase_ == poppers_wait ? line_.size() : 0;
    return {capacity_, items_.size(), most_, pushing, popping, pushed_, popped_, dropped_, pushed_ - settled_};
  }
  /// A popper has the item that it was given.
  void is_taken() noexcept {
    const std::scoped_lock lock(mutex_);
    --lent_;
    ++popped_;
  }
  /// A popper goes without.
  [[gnu::cold, gnu::noinline]] void take_back(some_popper& w) noexcept {
    const std::scoped_lock lock(mutex_);
    --lent_;
    if (phase_ == cancelled) {  // it is destroyed with the waiter
      ++dropped_;
      settle(1);
    } else if (phase_ == poppers_wait) {
      give(*w.item, w.number);
    } else {
      items_.put_back(std::move(*w.item), w.number);
      note_size();
    }
  }
  void one_user_less() noexcept {
    bool is_last = false;
    {
      const std::scoped_lock lock(mutex_);
      is_last = --users_ == 0;
    }
    if (is_last) destroy();
  }

 private:
  enum phase : unsigned char { open, pushers_wait, poppers_wait, closed, cancelled };

  enum verdict : unsigned char { full, accepted, replaced };
  /// `replaced`: another item was dropped for it, and is where it was, to be destroyed when the mutex is free.
  verdict try_push(T& item) {
    if (phase_ == open && items_.size() < capacity_) [[likely]] {
      items_.make_room(1 + lent_);
      add(item);
      return accepted;
    }
    if (phase_ > pushers_wait) return hand_over(item);
    return when_full_ == overflow::drop_oldest && items_.size() != 0 ? replace_oldest(item) : full;
  }
  [[gnu::noinline]] verdict hand_over(T& item) {
    if (is_closed()) throw queue_closed();
    items_.make_room(1 + lent_);
    give(item, pushed_++);
    return accepted;
  }
  [[gnu::cold, gnu::noinline]] verdict replace_oldest(T& item) noexcept {
    T oldest(std::move(items_.front()));
    items_.pop_front();
    add(item);
    std::destroy_at(&item);
    std::construct_at(&item, std::move(oldest));
    ++dropped_;
    settle(1);
    return replaced;
  }
  void add(T& item) noexcept {
    items_.push_back(std::move(item));
    ++pushed_;
    note_size();
  }
  void note_size() noexcept {
    if (items_.size() > most_) most_ = items_.size();
  }
  /// To the first popper in line.
  void give(T& item, typename item_ring<T>::number n) noexcept {
    auto& w = static_cast<some_popper&>(line_.front());
    w.item.emplace(std::move(item));
    w.number = n;
    ++lent_;
    wake(w);
  }

  bool take_next(std::optional<T>& to) {
    if (items_.size() != 0) [[likely]] {
      to.emplace(std::move(items_.front()));
      items_.pop_front();
    } else {
      if (phase_ == cancelled) throw queue_closed();
      if (phase_ != pushers_wait) return false;
      to.emplace(std::move(first_pusher().next->item));
      ++pushed_;
      is_pushed();
    }
    if (phase_ == pushers_wait) let_in();
    return true;
  }
  /// Who waits first to push, unless there are more items than places. There is room where the popped item was, or, if
  /// that is lent, `try_pop` has made some.
  [[gnu::noinline]] void let_in() noexcept {
    if (items_.size() >= capacity_) return;
    add(first_pusher().next->item);
    is_pushed();
  }
  some_pusher& first_pusher() noexcept { return static_cast<some_pusher&>(line_.front()); }
  /// The item of the first pusher.
  void is_pushed() noexcept {
    some_pusher& w = first_pusher();
    if (++w.next == w.end) wake(w);
  }
  void settle(std::size_t n) noexcept {
    settled_ += n;
    if (is_all_done()) end_waits(joiners_, false);
  }

  void wait_in(line_type& line, waiter& w, frame& f, phase p) {
    user_.check(f, "queue", "use a concurrent_queue");
    if (w.wait_in(line, mutex_, f)) phase_ = p;
    use(w);
  }
  void use(waiter& w) noexcept {
    w.is_user_ = true;
    ++users_;
  }
  void leave_line(waiter& w) noexcept {
    line_.remove(w);
    look_at_line();
  }
  void wake(waiter& w) noexcept {
    line_.wake(w);
    look_at_line();
  }
  void look_at_line() noexcept {
    if (line_.empty() && !is_closed()) phase_ = open;
  }
  void end(phase p, bool is_going = false) noexcept {
    std::optional<item_ring<T>> dropped;  // destroyed when the mutex is free
    const std::scoped_lock lock(mutex_);
    const bool refuses = phase_ == pushers_wait || (p == cancelled && !is_going);
    phase_ = std::max(phase_, p);
    end_waits(line_, refuses, is_going);
    if (is_going) end_waits(joiners_, true, is_going);
    if (p != cancelled) return;
    dropped.emplace(std::move(items_));
    dropped_ += dropped->size();
    settle(dropped->size());
  }
  void end_waits(line_type& line, bool refuses, bool is_going = false) noexcept {
    while (!line.empty()) {
      auto& w = static_cast<waiter&>(line.front());
      w.is_refused_ = refuses;
      if (is_going)
        line.wake_if_running(w);
      else
        line.wake(w);
    }
  }
  [[gnu::cold, gnu::noinline]] void destroy() noexcept { delete this; }

  item_ring<T> items_;
  std::size_t capacity_;
  overflow when_full_;
  phase phase_ = open;
  std::size_t lent_ = 0;
  std::size_t most_ = 0;
  std::uint64_t pushed_ = 0, popped_ = 0, dropped_ = 0, settled_ = 0;
  std::size_t users_ = 1;  // the queue, and who has waited
  line_type line_, joiners_;
  [[no_unique_address]] typename Loops::user user_;
  [[no_unique_address]] mutable mutex_type mutex_;
};

/// What somebody asks of a queue. A `Request` has, beside what `asks_first` wants: `name`; the `waiter` that it becomes
/// if it has to wait; and `ask`, `wait` and `take` for that one, the mutex held in the first two.
template <class Request>
class queue_leaf final : public Request::waiter, Request {
 public:
  explicit queue_leaf(Request&& r) noexcept : Request::waiter(r.core()), Request(std::move(r)) {}
  queue_leaf(queue_leaf&&) noexcept = default;

  const char* what() const noexcept override { return Request::name; }
  bool await_ready() {
    const std::scoped_lock lock(this->core().mutex());
    return this->ask(*this);
  }
  bool suspend(frame& f) {
    const std::scoped_lock lock(this->core().mutex());
    if (Request::is_concurrent && this->ask(*this)) return false;  // it may have changed since
    this->wait(*this, f);
    return true;
  }
  auto await_resume() {
    this->consume();
    this->throw_if_refused();
    return this->take(*this);
  }

 private:
  void leave_line() noexcept override { this->core().leaves(static_cast<typename Request::waiter&>(*this)); }
};

template <class T, class Loops>
class queue_request {
 public:
  static constexpr bool is_concurrent = Loops::is_concurrent;
  explicit queue_request(queue_core<T, Loops>& core) noexcept : core_(&core) {}
  queue_request(const queue_request& o) noexcept : core_(by_itself(o.core_)) {}
  queue_core<T, Loops>& core() const noexcept { return *core_; }

 private:
  queue_core<T, Loops>* core_;
};

/// `Items`: an array of one, or a vector.
template <class T, class Loops, class Items>
class push_request : public queue_request<T, Loops> {
 public:
  using waiter = pusher<T, Loops>;
  static constexpr const char* name = "queue::push";

  template <class Item>
  push_request(queue_core<T, Loops>& core, std::in_place_t, Item&& item)
      : queue_request<T, Loops>(core), items_{{{static_cast<T>(std::forward<Item>(item))}}} {}
  push_request(queue_core<T, Loops>& core, Items&& items) noexcept
      : queue_request<T, Loops>(core), items_(std::move(items)) {}
  bool try_now() {
    if constexpr (is_range && Loops::is_concurrent) return items_.empty();  // else somebody might get in between
    const std::scoped_lock lock(this->core().mutex());
    return push_on();
  }
  bool ask(waiter&) { return push_on(); }
  void wait(waiter& w, frame& f) {
    w.next = items_.data() + at_;
    w.end = items_.data() + items_.size();
    accepted_ += items_.size() - at_;  // or it throws
    this->core().wait(w, f);
  }
  auto take() const noexcept {
    if constexpr (is_range)
      return accepted_;
    else
      return accepted_ != 0;
  }
  auto take(waiter&) const noexcept { return take(); }

 private:
  static constexpr bool is_range = !std::is_same_v<Items, std::array<to_push<T>, 1>>;
  /// True if all are through.
  bool push_on() {
    if constexpr (!is_range) return this->core().push(items_[0].item, accepted_);
    for (; at_ != items_.size(); ++at_)
      if (!this->core().push(items_[at_].item, accepted_)) return false;
    return true;
  }
  Items items_;
  std::size_t at_ = 0, accepted_ = 0;
};

template <class T, class Loops>
class pop_request : public queue_request<T, Loops> {
 public:
  using waiter = popper<T, Loops>;
  static constexpr const char* name = "queue::pop";

  using queue_request<T, Loops>::queue_request;
  pop_request(pop_request&& o) noexcept : queue_request<T, Loops>(o.core()) {}
  bool try_now() {
    const std::scoped_lock lock(this->core().mutex());
    return this->core().try_pop(item_) || this->core().is_closed();
  }
  bool ask(waiter& w) { return this->core().try_pop(w) || this->core().is_closed(); }
  void wait(waiter& w, frame& f) { this->core().wait(w, f); }
  std::optional<T> take() noexcept {
    if (!item_) return std::nullopt;
    return std::optional<T>(std::in_place, std::move(*item_));
  }
  std::optional<T> take(waiter& w) { return w.take_item(); }

 protected:
  std::optional<T> item_;
};

template <class T, class Loops>
class pop_some_request : public pop_request<T, Loops> {
 public:
  using typename pop_request<T, Loops>::waiter;
  pop_some_request(queue_core<T, Loops>& core, std::size_t most) noexcept : pop_request<T, Loops>(core), most_(most) {}
  bool try_now() {
    const std::scoped_lock lock(this->core().mutex());
    fill();
    return !items_.empty() || this->core().is_closed();
  }
  std::vector<T> take() noexcept { return std::move(items_); }
  std::vector<T> take(waiter& w) {
    make_room();
    if (std::optional<T> first = w.take_item()) {
      items_.push_back(std::move(*first));
      const std::scoped_lock lock(this->core().mutex());
      fill();
    }
    return take();
  }

 private:
  /// Before an item is taken, which then has a place.
  void make_room() {
    if (items_.size() == items_.capacity()) items_.reserve(std::min(most_, 2 * items_.size() + 8));
  }
  /// Takes what is there. If it can't take more, what it has is enough.
  void fill() {
    try {
      while (items_.size() != most_) {
        make_room();
        if (!this->core().try_pop(this->item_)) return;
        items_.push_back(std::move(*this->item_));
      }
    } catch (...) {
      if (items_.empty()) throw;
    }
  }
  std::size_t most_;
  std::vector<T> items_;
};

template <class T, class Loops>
class join_request : public queue_request<T, Loops> {
 public:
  using waiter = queue_waiter<T, Loops>;
  static constexpr const char* name = "queue::join";

  using queue_request<T, Loops>::queue_request;
  bool try_now() const noexcept {
    const std::scoped_lock lock(this->core().mutex());
    return this->core().is_all_done();
  }
  bool ask(waiter&) const noexcept { return this->core().is_all_done(); }
  void wait(waiter& w, frame& f) { this->core().wait(w, f); }
  void take() const noexcept {}
  void take(waiter&) const noexcept {}
};

template <class Request, class... Arguments>
auto asks_queue(Arguments&&... arguments) {
  return asks_first<Request, queue_leaf<Request>>(std::in_place, std::forward<Arguments>(arguments)...);
}

}  // namespace detail

template <class T, class Loops>
template <class Item>
auto basic_queue<T, Loops>::push(Item&& item) {
  static_assert(std::is_convertible_v<Item&&, T>, "push takes what converts to the queue's items");
  using one = std::array<detail::to_push<T>, 1>;
  return detail::asks_queue<detail::push_request<T, Loops, one>>(*core_, std::in_place, std::forward<Item>(item));
}
template <class T, class Loops>
template <std::ranges::input_range Range>
auto basic_queue<T, Loops>::push_range(Range&& range) {
  detail::refuse_what_gcc12_miscompiles<Range>();
  // A container that is handed over gives its elements away; a view has none of its own.
  constexpr bool gives = !std::is_lvalue_reference_v<Range> && !std::ranges::view<Range>;
  using element =
      std::conditional_t<gives, std::ranges::range_rvalue_reference_t<Range>, std::ranges::range_reference_t<Range>>;
  static_assert(std::is_convertible_v<element, T>, "push_range takes a range of what converts to the queue's items");
  std::vector<detail::to_push<T>> items;
  if constexpr (std::ranges::sized_range<Range>) items.reserve(std::ranges::size(range));
  for (auto&& one : range) items.push_back({static_cast<T>(static_cast<element>(one))});
  return detail::asks_queue<detail::push_request<T, Loops, decltype(items)>>(*core_, std::move(items));
}
template <class T, class Loops>
auto basic_queue<T, Loops>::pop() {
  return detail::asks_queue<detail::pop_request<T, Loops>>(*core_);
}
template <class T, class Loops>
auto basic_queue<T, Loops>::pop_some(std::size_t most) {
  if (most == 0) throw std::invalid_argument("tandem::queue::pop_some: at most 0 items; it must be at least 1");
  return detail::asks_queue<detail::pop_some_request<T, Loops>>(*core_, most);
}
template <class T, class Loops>
auto basic_queue<T, Loops>::join() {
  return detail::asks_queue<detail::join_request<T, Loops>>(*core_);
}

}  // namespace tandem::inline TANDEM_CONFIG
