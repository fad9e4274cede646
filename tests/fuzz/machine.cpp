// tests/fuzz/machine.cpp: bytes as programs over the machine, run on virtual time and compared with a model.
//
// A program is a tree of nodes of the kinds in program.hpp. `play`, below, runs it with tandem, one coroutine a node;
// model.hpp computes how it must end. Both write a log, and the logs must be equal, whatever the order of the ready
// coroutines (`seed`) and wherever the program is stopped. Where the contract leaves open what happens, because two
// events of one instant decide it by their order, the model says so, and only the laws in `mark`, `world` and `run` are
// left. They hold for every program, also when its context is destroyed in the middle.
//
// A new primitive takes three steps: a row in TANDEM_FUZZ_KINDS, a case in `play`, a case in `model::act`. One whose
// order of service is not modelled yet returns `exact = false` there; the laws check it all the same.
#include <tandem/cancel.hpp>
#include <tandem/event.hpp>
#include <tandem/gather.hpp>
#include <tandem/inspect.hpp>
#include <tandem/lints.hpp>
#include <tandem/mutex.hpp>
#include <tandem/race.hpp>
#include <tandem/run.hpp>
#include <tandem/semaphore.hpp>
#include <tandem/streams.hpp>
#include <tandem/task_group.hpp>
#include <tandem/trace.hpp>
#include <tandem/wait.hpp>

#include "../kit/json.hpp"
#include "caches.hpp"
#include "driver.hpp"
#include "guards.hpp"
#include "leases.hpp"
#include "limits.hpp"
#include "model.hpp"
#include "pools.hpp"
#include "program.hpp"
#include "queues.hpp"
#include "schedules.hpp"

#include TANDEM_ASIO_HEADER(bind_cancellation_slot.hpp)
#include TANDEM_ASIO_HEADER(cancellation_signal.hpp)
#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(post.hpp)

#include <cstdint>
#include <cstdio>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace fuzz {
namespace {

namespace asio = tandem::asio;
using tandem::clock;
using tandem::return_exceptions;
using tandem::task;
using tandem::task_group;
using tandem::task_handle;

/// An object that knows how many of it exist. One that was moved from no longer counts.
class counted {
 public:
  counted() noexcept { ++live; }
  counted(counted&& o) noexcept : counts_(std::exchange(o.counts_, false)) {}
  counted& operator=(counted&&) = delete;
  ~counted() { live -= counts_; }
  static inline long live = 0;

 private:
  bool counts_ = true;
};

/// What every coroutine gives: it moves only, and cannot be made from nothing.
struct item : counted {
  explicit item(std::uint32_t c) noexcept : code(c) {}
  std::uint32_t code;
};

struct failure : std::exception {
  explicit failure(std::uint32_t c) noexcept : code(c) {}
  std::uint32_t code;
};

std::uint32_t code_of(const std::exception_ptr& e);

std::vector<std::uint32_t> codes_of(const tandem::exception_group& g) {
  std::vector<std::uint32_t> codes;
  for (const auto& one : g.exceptions()) codes.push_back(code_of(one));
  return codes;
}
std::uint32_t code_of(const std::exception_ptr& e) {
  try {
    std::rethrow_exception(e);
  } catch (const failure& f) {
    return f.code;
  } catch (const tandem::timed_out&) {
    return late;
  } catch (const tandem::cancelled&) {
    return was_cancelled;
  } catch (const tandem::exception_group& g) {
    return group_of(codes_of(g));
  } catch (const std::exception& x) {
    broken(std::string("nobody throws this: ") + x.what());
  }
}
std::uint32_t code_of(const item& i) { return i.code; }
std::uint32_t code_of(const tandem::outcome<item>& o) { return o ? o.value().code : code_of(o.error()); }

template <class Results>
std::uint32_t mix_all(std::uint32_t v, const Results& results) {
  for (const auto& r : results) v = mix(v, code_of(r));
  return v;
}

class mark;
class world;

/// The parent of a coroutine, which takes it by value: it lives as long as the frame. Without one, it is a child of its
/// tree alone.
class child_of : counted {
 public:
  child_of(mark* parent);
  child_of(long& frames_of_tree) : tree_(&++frames_of_tree) {}
  mark* parent() const noexcept { return parent_.get(); }
  long& frames_of_tree() const noexcept { return *tree_; }

 private:
  struct one_less {
    void operator()(long* frames) const noexcept { --*frames; }
  };
  struct forget {
    void operator()(mark* parent) const noexcept;
  };
  std::unique_ptr<long, one_less> tree_;
  std::unique_ptr<mark, forget> parent_;
};

/// `to_its_end`: nothing may stop it but the end of the context.
task<item> play(const node& n, world& w, child_of parent, bool to_its_end = false);

/// What one run of a program shares.
class world {
 public:
  asio::io_context* context = nullptr;
  std::vector<entry> log;
  bool closing = false;  // the context goes: no coroutine may run any more
  bool in_order = true;  // ready coroutines are not shuffled
  bool is_watched = false;

  long now() {
    if (is_watched && tandem::detail::loop::current()) look();
    const long t = static_cast<long>(clock::now().time_since_epoch() / std::chrono::seconds(1));
    check(t >= last_, "time never goes back");
    return last_ = t;
  }
  /// A sleeper that began as number `number` of all wakes.
  void wakes(long due, unsigned long number) {
    check(now() == due, "a sleeper wakes when it is due");
    check(!in_order || std::pair(due, number) > last_woken_, "sleepers wake in the order in which they began");
    last_woken_ = {due, number};
  }
  unsigned long sleepers = 0;
  fuzz::queues<counted> queues;
  fuzz::leases<counted> leases;
  fuzz::caches<counted> caches;
  fuzz::limits limits;
  fuzz::guards guards;
  std::deque<roster> rosters;              // of each pool that there was
  std::deque<fuzz::agenda<item>> agendas;  // of each scheduler
  /// Spawns `n` as a tree. Gives its number.
  std::size_t spawn(const node& n) {
    tree& t = trees_.emplace_back();
    auto handler = [this, &n, &t, here = counted()](std::exception_ptr e, std::optional<item> v) {
      check(++t.calls == 1, "a handler is called once");
      check(t.frames == 0, "a tree ends after its last frame");
      check(!closing, "no handler is called while the context goes");
      check(v.has_value() == !e, "a handler gets a value or an error");
      const std::uint32_t code = e ? code_of(e) : v->code;
      const bool stopped = e && code == was_cancelled;
      check(!stopped || t.stop_asked, "a tree is cancelled only if somebody asked");
      const how end = stopped ? how::stopped : e ? how::failed : how::value;
      log.push_back({n.number, true, end, stopped ? 0 : code, now()});
    };
    tandem::spawn(*context, play(n, *this, t.frames),
                  asio::bind_cancellation_slot(t.signal.slot(), std::move(handler)));
    return trees_.size() - 1;
  }
  void stop(std::size_t i) {
    tree& t = trees_[i % trees_.size()];
    t.stop_asked = true;
    t.signal.emit(asio::cancellation_type::terminal);
  }
  void stop_after(std::size_t i, long delay) {
    auto later = [](world& w, std::size_t which, long d) -> task<> {
      co_await tandem::sleep_for(std::chrono::seconds(d));
      w.stop(which);
    };
    tandem::spawn(*context, later(*this, i, delay), asio::detached);
  }
  void check_handlers() const {
    for (const tree& t : trees_) check(t.calls == 1 || closing, "each spawn has its handler called");
    check(out == 0 && some.available() == some.capacity() && some.waiting() == 0, "no permit is lost");
    check(!one.is_locked() && one.waiting() == 0, "no lock is lost");
    for (const roster& r : rosters) r.check_over();
    for (const auto& a : agendas) a.check_over();
  }

  // For nodes of the kind `lines`.
  tandem::semaphore some{2};
  std::size_t out = 0;  // of its permits
  tandem::mutex one;
  bool is_locked = false;
  tandem::event done;
  tandem::condition changed;
  unsigned stock = 0;

 private:
  /// At the await tree, wherever the program is: in coroutines, handlers and destructors.
  void look() {
    ++looks_;
    if (looks_ % 4 == 0) (void)tandem::format_await_tree();
    if (looks_ % 16 == 0) {
      const kit::json all = kit::json_reader::read(tandem::format_await_tree(tandem::tree_format::json));
      check(all["virtual_time"].text == "true", "the tree is valid JSON");
    }
  }
  unsigned long looks_ = 0;
  struct tree {
    asio::cancellation_signal signal;
    int calls = 0;
    long frames = 0;
    bool stop_asked = false;
  };
  std::deque<tree> trees_;
  long last_ = 0;
  std::pair<long, unsigned long> last_woken_{-1, 0};
};

/// In the frame of every coroutine of the program: logs its ending, and knows the laws that hold for any node.
class mark : counted {
 public:
  mark(world& w, const node& n, const child_of& place, bool to_its_end)
      : world_(w), node_(n), parent_(place.parent()), tree_(&place.frames_of_tree()), to_its_end_(to_its_end) {
    check(!w.closing, "no coroutine starts while the context goes");
    if (parent_) check(++parent_->live_ <= parent_->at_a_time, "not more children at a time than allowed");
  }
  mark(const mark&) = delete;
  ~mark() {
    if (!ended_) ends(how::stopped, 0);
    if (parent_) parent_->child_ended(*this);
  }

  /// First of all: has a stop been asked for?
  void begins(bool stop_asked) {
    stop_asked_ = stop_asked;
    const bool at_once = parent_ && parent_->node_.starts_at_once(node_);
    check(!at_once || !stop_asked || parent_->stop_asked_, "no child starts after a stop came");
  }
  /// After a wait.
  void resumed() const { check(!stop_asked_, "no wait of a stopped scope ends well"); }

  unsigned at_a_time = 1;  // children that may be under way
  long due = 0;            // before then there is no timed_out
  bool leaf_won = false;   // of a race

  item returns(std::uint32_t v) {
    ends(how::value, v);
    return item(v);
  }
  void fails(const std::exception_ptr& e) {
    const std::uint32_t code = code_of(e);
    ends(how::failed, code);
    if (failures_.empty()) {
      const bool is_late = code == late && (node_.what == kind::timeout || node_.what == kind::deadline);
      check(!is_late || (world_.now() >= due && some_stopped_), "timed_out is not thrown before its time");
      const bool of_others = node_.is_a_tree() || node_.has_pool() || node_.what == kind::scheduler;
      check(is_late || node_.what == kind::fail || of_others, "a failure comes from where it was thrown");
    } else if (!node_.gives_outcomes() && !node_.is_a_tree()) {
      std::vector<std::uint32_t> thrown = failures_;
      if (node_.is_first_successful())  // those before a stop no longer count
        while (thrown.size() > 1 && code != group_of(thrown)) thrown.erase(thrown.begin());
      check(code == group_of(thrown), "a scope throws the failures of its children");
      check_order(e, thrown);
    }
  }
  /// Of the function of a fan-out. It counts like a child's.
  failure element_fails(unsigned i) {
    failures_.push_back(of_element + i);
    return failure(of_element + i);
  }
  /// By a race: a value came too late.
  void discards() { ++discarded_; }
  /// For what belongs to the tree and not to this coroutine.
  child_of tree() const { return *tree_; }
  /// By a clean-up.
  void sees(const tandem::ending& e) const {
    const how last = e.stopped() ? how::stopped : e.failed() ? how::failed : how::value;
    check(children_ == 0 || last == last_, "a clean-up is told how the body ended");
    check(live_ == 0, "a body's frames are gone before its clean-up starts");
  }

 private:
  friend child_of;
  void ends(how h, std::uint32_t code) {
    ended_ = true;
    end_ = h, code_ = code;
    check(live_ == 0, "no child outlives its scope");
    check(frames_ == 0, "a child's frame is gone before its awaiter goes on");
    if (world_.closing) return check(h == how::stopped, "no coroutine is resumed while the context goes");
    check(h != how::stopped || !to_its_end_, "a shielded child, or a clean-up, runs to its end");
    const kind k = node_.what;
    const bool passes_over_failures =
        node_.gives_outcomes() || (node_.is_first_successful() && (values_ != 0 || h == how::stopped));
    if (!failures_.empty() && !passes_over_failures)
      check(h == how::failed || (h == how::value && k == kind::try_catch), "no failure vanishes");
    if (some_stopped_) check(h != how::value || node_.stops_children(), "no value comes from a stopped child");
    if (node_.races()) {
      const unsigned given = h == how::value && !leaf_won;
      check(discarded_ + given == values_, "a race gives one value and discards the others");
      const bool has_failed = !failures_.empty() && !node_.is_first_successful();
      check(h != how::stopped || (values_ == 0 && !has_failed), "a race that has something to give gives it");
    }
    if (k == kind::finally || k == kind::shield) check(shielded_ == 1, "what is shielded, or a clean-up, runs once");
    if (k == kind::with_resource) check(shielded_ == acquired_, "what was acquired is released once");
    world_.log.push_back({node_.number, false, h, code, world_.now()});
  }
  void child_ended(const mark& child) {
    --live_;
    if (world_.closing) return;
    if (++children_ == 1 && child.end_ == how::value) acquired_ = 1;
    shielded_ += child.to_its_end_;
    last_ = child.end_;
    some_stopped_ |= last_ == how::stopped;
    values_ += last_ == how::value;
    if (last_ == how::failed) failures_.push_back(child.code_);
  }
  static void check_order(const std::exception_ptr& e, const std::vector<std::uint32_t>& failures) {
    if (failures.size() == 1) return;
    try {
      std::rethrow_exception(e);
    } catch (const tandem::exception_group& g) {
      check(codes_of(g) == failures, "failures are in the order in which they happened");
    } catch (...) {
      broken("several failures are a group");
    }
  }

  world& world_;
  const node& node_;
  mark* parent_;
  long* tree_;
  bool to_its_end_;
  bool stop_asked_ = false, ended_ = false;
  how end_ = how::stopped, last_ = how::value;  // its own; of the child that ended last
  std::uint32_t code_ = 0;
  unsigned live_ = 0, frames_ = 0, children_ = 0, shielded_ = 0, acquired_ = 0;
  unsigned values_ = 0, discarded_ = 0;  // of children
  bool some_stopped_ = false;
  std::vector<std::uint32_t> failures_;  // of children, in the order in which they ended
};

child_of::child_of(mark* parent) : tree_(&++*parent->tree_), parent_(parent) { ++parent->frames_; }
void child_of::forget::operator()(mark* parent) const noexcept { --parent->frames_; }

// ---- the interpreter -----------------------------------------------------------------------------------------------

task<item> nested(unsigned depth, const node& n, world& w, mark* parent) {
  if (depth == 0) co_return co_await play(n, w, parent);
  co_return co_await nested(depth - 1, n, w, parent);
}

task<> without_value(task<item> t) { co_await std::move(t); }

/// What a handle gives, or that its task was cancelled.
task<std::uint32_t> reads(task_handle<item> h) {
  try {
    const item& i = co_await h;
    co_return i.code;
  } catch (const tandem::cancelled&) {
    co_return was_cancelled;
  }
}

/// One of at most `limit` that run at a time.
task<item> limited(std::shared_ptr<unsigned> running, unsigned limit, task<item> t) {
  struct place {
    unsigned& running;
    ~place() { --running; }
  } here{*running};
  check(++*running <= limit, "not more tasks of a stream at a time than allowed");
  co_return co_await std::move(t);
}

/// Counts up to the end of a scope.
template <class Number>
class counts_here {
 public:
  counts_here(Number& number, Number by) noexcept : number_(number), by_(by) { number_ += by; }
  counts_here(const counts_here&) = delete;
  ~counts_here() { number_ -= by_; }

 private:
  Number& number_;
  Number by_;
};

/// At the end of a scope everything is back.
struct books {
  books(const tandem::semaphore& s, const tandem::mutex& m) noexcept : some(s), one(m) {}
  books(const books&) = delete;
  ~books() {
    check(some.available() == some.capacity() && some.waiting() == 0, "no permit is lost");
    check(!one.is_locked() && one.waiting() == 0, "no lock is lost");
  }
  const tandem::semaphore& some;
  const tandem::mutex& one;
};

task<item> with_permits(tandem::semaphore& s, std::size_t count, std::size_t& out, task<item> t) {
  const tandem::permit p = co_await s.acquire(count);
  const counts_here<std::size_t> here(out, p.count());
  check(p.count() == count && out + s.available() <= s.capacity(), "not more permits are out than there are");
  co_return co_await std::move(t);
}
task<item> with_lock(tandem::mutex& m, std::size_t& inside, task<item> t) {
  const tandem::mutex_lock lock = co_await m.lock();
  const counts_here<std::size_t> here(inside, 1);
  check(lock.owns_lock() && inside == 1, "one at a time has a mutex");
  co_return co_await std::move(t);
}
task<item> sets(tandem::event& e, task<item> t) {
  item i = co_await std::move(t);
  e.set();
  co_return i;
}
task<item> when_set(tandem::event& e, task<item> t) {
  co_await e.wait();
  check(e.is_set(), "a wait for an event is over when it is set");
  co_return co_await std::move(t);
}
task<item> notifies(tandem::condition& c, bool& holds, std::size_t one_by_one, task<item> t) {
  item i = co_await std::move(t);
  holds = true;
  for (std::size_t k = 0; k != one_by_one; ++k) c.notify_one();
  if (one_by_one == 0) c.notify_all();
  co_return i;
}
task<item> when_it_holds(tandem::condition& c, const bool& holds, task<item> t) {
  co_await c.wait([&] { return holds; });
  check(holds, "a wait for a condition is over when it holds");
  co_return co_await std::move(t);
}

/// `t` with a resource that the program shares, or without when it is not to be had in time.
task<item> with_lease(const node& n, world& w, task<item> t) {
  const std::chrono::seconds d(n.seconds());
  auto& pool = w.leases[n.a / 8];
  tandem::lease<fuzz::leases<counted>::resource> l;
  try {
    if (n.a / 16 % 2 == 0) {
      auto first = co_await tandem::race(pool.acquire(), tandem::sleep_for(d));
      if (first.index() == 0) l = std::move(first.get<0>());
    } else if (auto in_time = co_await tandem::try_timeout(d, pool.acquire())) {
      l = std::move(*in_time);
    }
  } catch (const std::exception&) {  // it could not be made, or took too long
  }
  if (!l) co_return co_await std::move(t);
  check(!std::exchange(l->is_in_use, true), "a resource is lent to one at a time, and not after a use that failed");
  item r = co_await std::move(t);
  l->is_in_use = false;
  if (n.a / 32 % 4 == 0) l.discard();
  co_return r;
}

/// `t` after some use of a cache that the program shares.
task<item> with_cache(const node& n, world& w, task<item> t) {
  co_await w.caches.use(n.a % 2 == 0, fuzz::dice(n));
  co_return co_await std::move(t);
}

/// `t` in a slot of a controller that the program shares, or without one, after its turn at a rate limiter.
task<item> with_limit(const node& n, world& w, task<item> t) {
  using enum tandem::concurrency_outcome;
  tandem::concurrency_slot slot = co_await w.limits.enter(fuzz::dice(n));
  item r = co_await std::move(t);
  slot.release(n.a % 4 == 0 ? drop : success);
  co_return r;
}

/// The child after some failures that pass, by one of the ways in which a program guards its calls, or without it when
/// there is no way.
template <class Child>
task<item> with_guard(const node& n, world& w, Child child) {
  std::optional<item> r;
  std::exception_ptr failure;
  const auto once = [&]() -> task<> {
    try {
      r.emplace(co_await child());
    } catch (...) {
      failure = std::current_exception();
    }
  };
  co_await w.guards.use(fuzz::dice(n), once);
  if (failure) std::rethrow_exception(failure);
  if (!r) co_return co_await child();
  co_return std::move(*r);
}

/// `t` with something of what the program shares, or without when it is not to be had in time.
task<item> with_lines(const node& n, world& w, task<item> t) {
  const std::chrono::seconds d(n.seconds());
  const std::size_t count = 1 + n.a / 64;
  std::optional<tandem::permit> p;
  std::optional<tandem::mutex_lock> lock;
  try {
    switch (n.a / 8 % 8) {
      case 0:
      case 1:
        p = co_await tandem::try_timeout(d, w.some.acquire(count));
        break;
      case 2:
        lock = co_await tandem::try_timeout(d, w.one.lock());
        break;
      case 3: {
        auto first = co_await tandem::race(w.some.acquire(count), w.one.lock(), w.some.acquire(), w.done.wait(),
                                           tandem::sleep_for(d));
        if (first.index() == 0) p = std::move(first.get<0>());
        if (first.index() == 1) lock = std::move(first.get<1>());
        if (first.index() == 2) p = std::move(first.get<2>());
        break;
      }
      case 4:
        co_await tandem::try_timeout(d, w.done.wait());
        break;
      case 5:
        w.done.set();
        if (count % 2 == 0) w.done.reset();
        break;
      case 6: {
        const auto in_time = co_await tandem::try_timeout(d, w.changed.wait([&] { return w.stock != 0; }));
        check(!in_time || w.stock != 0, "a wait for a condition is over when it holds");
        if (in_time) --w.stock;
        break;
      }
      case 7:
        ++w.stock;
        w.changed.notify_one();
        w.some.resize(count);
        break;
    }
  } catch (const std::invalid_argument&) {  // more than there are now
  }
  const counts_here<std::size_t> has(w.out, p ? p->count() : 0);
  check(w.some.available() == 0 || w.some.available() + w.out <= w.some.capacity(),
        "not more permits are out than there are");
  check(!lock || !std::exchange(w.is_locked, true), "one at a time has a mutex");
  struct unlocks {
    world& w;
    bool has_lock;
    ~unlocks() {
      if (has_lock) w.is_locked = false;
    }
  } last{w, lock.has_value()};
  co_return co_await std::move(t);
}

task<> cancel_after(std::chrono::seconds d, task_group& group) {
  co_await tandem::sleep_for(d);
  group.cancel("enough");
}

/// By one of the kinds that wait at a queue of the world, for so long, or need not.
task<std::uint32_t> uses_queue(const node& n, world& w) {
  auto& all = w.queues;
  auto& q = all[n.a];
  const std::chrono::seconds patience(n.patience());
  const auto take = [&](auto& from, unsigned turn, const auto& got) {
    return got ? all.popped(from, turn, *got) : was_cancelled;
  };
  try {
    switch (n.what) {
      case kind::queue_push: {
        const auto first = co_await tandem::race(q.push(all.next()), tandem::sleep_for(patience));
        co_return first.index() == 0 ? first.get<0>() : late;
      }
      case kind::queue_push_range: {
        const auto pushes = [&]() -> task<std::size_t> { co_return co_await q.push_range(all.next(n.items())); };
        const auto accepted = co_await tandem::try_timeout(patience, pushes());
        check(!accepted || *accepted == n.items(), "all of a range are accepted");
        co_return accepted ? static_cast<std::uint32_t>(*accepted) : late;
      }
      case kind::queue_pop: {
        const unsigned turn = all.turn();
        auto first = co_await tandem::race(q.pop(), tandem::sleep_for(patience));
        co_return first.index() == 0 ? take(q, turn, first.get<0>()) : late;
      }
      case kind::queue_pop_some: {
        std::uint32_t code = 0;
        const auto pops = [&]() -> task<> {
          unsigned turn = all.turn();
          const auto some = co_await q.pop_some(n.items());
          check(some.size() <= n.items(), "not more items than asked for");
          for (const auto& one : some) code = mix(code, all.popped(q, std::exchange(turn, all.turn()), one));
        };
        const auto in_time = co_await tandem::try_timeout(patience, pops());
        co_return in_time ? code : late;
      }
      case kind::queue_try: {
        if (n.way() % 2 == 0) co_return q.try_push(all.next());
        const unsigned turn = all.turn();
        co_return take(q, turn, q.try_pop());
      }
      case kind::queue_race: {
        auto& other = all[n.a + 1];
        const unsigned turn = all.turn();
        auto first = co_await tandem::race(q.pop(), tandem::sleep_for(patience), other.pop());
        if (first.index() == 1) co_return late;
        co_return first.index() == 0 ? take(q, turn, first.get<0>()) : take(other, turn, first.get<2>());
      }
      default:
        if (n.way() == 0) q.close();
        if (n.way() == 1) q.cancel();
        if (n.way() > 1) all.renew(n.a);
        co_return n.way();
    }
  } catch (const tandem::queue_closed&) {
    co_return was_cancelled;
  }
}

/// `t`, as a job of a pool.
task<item> as_job(roster& r, unsigned number, task<item> t) {
  roster::shift here(r, number);
  try {
    item i = co_await std::move(t);
    here.ends(how::value, i.code);
    co_return i;
  } catch (...) {
    here.ends(how::failed, code_of(std::current_exception()));
    throw;
  }
}

task<std::uint32_t> hears(roster& r, unsigned number, task_handle<item> h) {
  if (h.done()) co_return r.hears(number, code_of(h.outcome()));
  std::uint32_t code;
  try {
    const item& i = co_await h;
    code = i.code;
  } catch (...) {
    code = code_of(std::current_exception());
  }
  co_return r.hears(number, code);
}

task<> drains(tandem::worker_pool& pool, roster& r) {
  std::exception_ptr e;
  try {
    co_await pool.drain();
  } catch (...) {
    e = std::current_exception();
  }
  const tandem::worker_pool_stats s = pool.stats();
  check(s.running + s.queued + s.submitting == 0, "a pool that is drained has no jobs");
  r.check_books(s);
  const std::vector<std::uint32_t> untold = r.tell();
  check(e ? code_of(e) == group_of(untold) : untold.empty(), "drain throws the failures that nobody has looked at");
  if (e) std::rethrow_exception(e);
}

/// Several at once submit a job each, in one way or another, and maybe the pool is closed or cancelled meanwhile.
task<> crowds_pool(const node& n, world& w, mark& m, roster& r, tandem::worker_pool& pool) {
  const std::chrono::seconds patience(n.end_of_pool());
  const auto submits = [&](std::size_t i) -> task<> {
    const unsigned way = n.a >> (2 * i) & 3;
    if (way % 2 != i % 2) co_await tandem::yield();
    if (i == 3) co_await tandem::sleep_for(std::chrono::seconds(1));
    task_handle<item> h;
    task<item> t = play(n.children[i], w, m.tree());
    const unsigned number = r.next();
    try {
      if (way == 0) {
        h = co_await pool.submit(as_job, std::ref(r), number, std::move(t));
      } else if (way == 1) {
        const tandem::detail::not_needed if_refused;  // and the lint is told
        h = pool.try_submit(as_job(r, number, std::move(t)));
      } else {
        auto first =
            co_await tandem::race(pool.submit(as_job, std::ref(r), number, std::move(t)), tandem::sleep_for(patience));
        if (first.index() == 0) h = std::move(first.get<0>());
      }
    } catch (const tandem::worker_pool_closed&) {
    }
    r.check_books(pool.stats());
    if (!h || way == 3) co_return;
    if (way == 2 && !co_await tandem::try_timeout(patience, hears(r, number, h))) h.cancel();
    co_await hears(r, number, h);
  };
  const auto ends = [&]() -> task<> {
    co_await tandem::sleep_for(patience);
    n.a % 32 < 16 ? pool.close() : pool.cancel();
  };
  std::vector<task<>> tasks;
  for (std::size_t i = 0; i != n.children.size(); ++i) tasks.push_back(submits(i));
  if (n.a >= 128) tasks.push_back(ends());
  co_await tandem::gather(std::move(tasks));
}

/// The kinds with a worker pool. The jobs are children of the tree alone, since they may outlive this.
task<std::uint32_t> has_jobs_done(const node& n, world& w, mark& m) {
  roster& r = w.rosters.emplace_back(n);
  tandem::worker_pool pool({.workers = n.workers(), .backlog = n.backlog()});
  if (n.what == kind::pool_crowd) {
    co_await crowds_pool(n, w, m, r, pool);
    co_await drains(pool, r);
    co_return 0;
  }
  std::vector<task_handle<item>> handles;
  for (std::size_t i = n.what == kind::pool_beside; i != n.children.size(); ++i) {
    task_handle<item> h;
    task<item> t = play(n.children[i], w, m.tree());
    const unsigned number = r.next();
    if (number % 2 == 0)
      h = co_await pool.submit(as_job(r, number, std::move(t)));
    else
      h = co_await pool.submit(as_job, std::ref(r), number, std::move(t));
    r.check_books(pool.stats());
    if (n.what == kind::pool_handles) handles.push_back(std::move(h));
  }
  auto code = static_cast<std::uint32_t>(n.children.size());
  if (n.what == kind::pool_handles) {
    if (n.cancels_last()) {
      const auto last = static_cast<unsigned>(handles.size() - 1);
      const bool is_in_line = !r.has_begun(last);
      const long then = w.now();
      handles.back().cancel();
      co_await hears(r, last, handles.back());
      check(!is_in_line || w.now() == then, "a job in line that is cancelled ends at once");
    }
    for (unsigned i = 0; i != handles.size(); ++i) code = mix(code, co_await hears(r, i, handles[i]));
  }
  if (n.what == kind::pool_beside) {
    code = (co_await play(n.children[0], w, &m)).code;
    if (n.end_of_pool() == node::is_dropped) co_return code;
    n.end_of_pool() == node::is_closed ? pool.close() : pool.cancel();
  }
  co_await drains(pool, r);
  co_return code;
}

using schedule = agenda<item>;

task<item> scheduled(const node& n, world& w, schedule& a, unsigned number, counted = counted());

/// By a coroutine whose priority is `p`.
void submits(const node& n, world& w, schedule& a, int p) {
  if (!a.scheduler || a.size() == 16) return;
  tandem::priority_job_options o;
  if (a.draws(3) != 0) o.priority = static_cast<int>(a.draws(4)) - 1;
  long deadline = schedule::never;
  if (a.draws(3) == 0) {
    deadline = w.now() + static_cast<long>(a.draws(5));
    o.deadline = clock::time_point(std::chrono::seconds(deadline));
  }
  const unsigned number = a.next(o.priority ? *o.priority : p, deadline);
  try {
    auto h = a.scheduler->submit(o, scheduled, std::cref(n), std::ref(w), std::ref(a), number, counted());
    a.is_accepted(number, std::move(h));
  } catch (const tandem::priority_scheduler_closed&) {
    a.is_refused();
  }
}

task<> passes_checkpoint(schedule& a, unsigned number) {
  schedule::at_checkpoint here(a, number, co_await tandem::this_task::cancel_requested);
  co_await tandem::this_task::checkpoint();
  here.passes();
}

task<std::uint32_t> hears(schedule& a, unsigned from, unsigned number) {
  schedule::wait here(a, from, number, co_await tandem::this_task::cancel_requested);
  if (here.h.done()) co_return a.hears(number, code_of(here.h.outcome()));
  auto answer = here.h.make_awaiter();
  here.at(answer);
  std::uint32_t code;
  try {
    const item& i = co_await answer;
    code = i.code;
  } catch (...) {
    code = code_of(std::current_exception());
  }
  co_return a.hears(number, code);
}

/// What a job does, or nobody's.
task<std::uint32_t> uses_schedule(const node& n, world& w, schedule& a, unsigned from) {
  const std::chrono::seconds patience(a.draws(3));
  const int p = co_await tandem::this_task::priority;
  if (from != schedule::nobody) a.check_priority(from, p);
  switch (a.draws(6)) {
    case 0:
      co_await tandem::sleep_for(patience);
      co_return 1;
    case 1:
      if (const unsigned i = a.some_handle(); i != schedule::nobody) {
        if (from != schedule::nobody && a.would_close_a_circle(from, i)) co_return 0;
        const auto code = co_await tandem::try_timeout(patience, hears(a, from, i));
        co_return code ? *code : late;
      }
      co_return 0;
    case 2:
      if (const unsigned i = a.some_handle(); i != schedule::nobody)
        a.reprioritize(i, static_cast<int>(a.draws(5)) - 2);
      co_return 2;
    case 3:
      if (const unsigned i = a.some_handle(); i != schedule::nobody) a.draws(2) == 0 ? a.cancel(i) : a.drop(i);
      co_return 3;
    default:
      submits(n, w, a, p);
      co_return 4;
  }
}

task<item> scheduled(const node& n, world& w, schedule& a, unsigned number, counted) {
  schedule::shift here(a, number);
  std::uint32_t code = n.number;
  try {
    for (unsigned steps = 1 + a.draws(4); steps != 0; --steps) {
      const std::chrono::seconds patience(a.draws(3));
      switch (a.draws(10)) {
        case 0:
        case 1:
          co_await passes_checkpoint(a, number);
          break;
        case 2:
          co_await tandem::try_timeout(patience, passes_checkpoint(a, number));
          break;
        case 3: {
          schedule::at_checkpoint checkpoint(a, number, co_await tandem::this_task::cancel_requested);
          auto first = co_await tandem::race(tandem::this_task::checkpoint(), tandem::sleep_for(patience));
          if (first.index() == 0) checkpoint.passes();
          break;
        }
        case 4:
          co_await tandem::gather(passes_checkpoint(a, number), passes_checkpoint(a, number));
          break;
        case 5:
          if (a.next_child == n.children.size()) throw failure(of_element + number);
          code = mix(code, (co_await play(n.children[a.next_child++], w, a.frames_of_tree)).code);
          break;
        default:
          code = mix(code, co_await uses_schedule(n, w, a, number));
      }
    }
    here.ends(how::value, code);
    co_return item(code);
  } catch (...) {
    here.ends(how::failed, code_of(std::current_exception()));
    throw;
  }
}

task<> drains(schedule& a) {
  std::exception_ptr e;
  try {
    co_await a.scheduler->drain();
  } catch (...) {
    e = std::current_exception();
  }
  a.check_drained();
  check(a.tells(e ? code_of(e) : 0), "drain throws the failures that nobody has looked at");
  if (e) std::rethrow_exception(e);
}

task<std::uint32_t> has_schedule(const node& n, world& w, mark& m) {
  const bool alone = std::none_of(w.agendas.begin(), w.agendas.end(), [](const auto& a) { return a.has_running(); });
  schedule& a = w.agendas.emplace_back(n, m.tree().frames_of_tree(), w.closing, alone);
  struct scheduler : tandem::priority_scheduler {
    using priority_scheduler::priority_scheduler;
    ~scheduler() { of->has_gone(); }
    schedule* of = nullptr;
  };
  scheduler s({.slots = n.slots(), .ageing = std::chrono::seconds(n.ageing())});
  s.of = &a;
  a.opens(s, n.slots(), n.ageing());
  const int p = co_await tandem::this_task::priority;
  for (unsigned i = 0; i != n.children.size(); ++i) submits(n, w, a, p);
  std::uint32_t code = 0;
  for (unsigned steps = a.draws(8); steps != 0; --steps) switch (a.draws(8)) {
      case 0:
        a.pause();
        break;
      case 1:
        a.resume();
        break;
      case 2:
        a.resize(1 + a.draws(3));
        break;
      default:
        code = mix(code, co_await uses_schedule(n, w, a, schedule::nobody));
    }
  const unsigned end = a.draws(5);
  if (a.draws(2) == 0) a.drop_all();
  if (end == 0) co_return code;
  if (end == 1) a.cancel_all();
  if (end == 2) s.close(), a.is_closed = true;
  a.resume();
  co_await drains(a);
  co_return code;
}

task<item> play(const node& n, world& w, child_of parent, bool to_its_end) {
  mark m(w, n, parent, to_its_end);
  const std::uint32_t v = n.number;
  const std::chrono::seconds d(n.seconds());
  m.begins(co_await tandem::this_task::cancel_requested);
  const auto child = [&](std::size_t i, bool shielded = false) { return play(n.children[i], w, &m, shielded); };
  const auto children = [&] {
    m.at_a_time = static_cast<unsigned>(n.children.size());
    std::vector<task<item>> tasks;
    for (std::size_t i = 0; i != n.children.size(); ++i) tasks.push_back(child(i));
    return tasks;
  };
  const auto elements = [&] {
    m.at_a_time = n.limit();
    std::vector<unsigned> numbers(n.elements());
    std::iota(numbers.begin(), numbers.end(), 0u);
    return numbers;
  };
  const auto element = [&](unsigned i) {
    if (i == n.throws_at()) throw m.element_fails(i);
    return child(i % 2);
  };
  const auto clean_up = [&](const tandem::ending& e) { return m.sees(e), child(1, true); };
  const auto discard = [&](item) { m.discards(); };
  const auto use = [&](item&) { return child(1); };
  const auto release = [&](item&, const tandem::ending& e) { return m.sees(e), child(2, true); };
  try {
    switch (n.what) {
      case kind::value:
        co_return m.returns(v);
      case kind::fail:
        throw failure(v);
      case kind::sleep: {
        const long due = w.now() + n.seconds();
        const unsigned long number = ++w.sleepers;
        co_await tandem::sleep_for(d);
        m.resumed();
        if (d.count() != 0) w.wakes(due, number);
        co_return m.returns(v);
      }
      case kind::sleep_until:
        co_await tandem::sleep_until(clock::time_point(2 * d));
        m.resumed();
        co_return m.returns(v);
      case kind::yield:
        co_await tandem::yield();
        m.resumed();
        co_return m.returns(v);
      case kind::post:
        co_await asio::post(*w.context, tandem::use_task);
        m.resumed();
        co_return m.returns(v);
      case kind::stop:  // of a tree that was spawned; 0 is the whole program
        w.stop(n.a);
        co_return m.returns(v);
      case kind::call:
        co_return m.returns(mix(v, (co_await child(0)).code));
      case kind::deep:  // deeper than children are started on one stack
        co_return m.returns(mix(v, (co_await nested(70 + n.a % 8, n.children[0], w, &m)).code));
      case kind::try_catch: {
        std::uint32_t code;
        try {
          code = (co_await child(0)).code;
        } catch (...) {
          code = code_of(std::current_exception());
        }
        co_return m.returns(mix(v, code));
      }
      case kind::timeout:
        m.due = w.now() + n.seconds();
        co_return m.returns(mix(v, (co_await tandem::timeout(d, child(0))).code));
      case kind::try_timeout: {
        const auto r = co_await tandem::try_timeout(d, child(0));
        co_return m.returns(mix(v, r ? r->code : late));
      }
      case kind::deadline:
        m.due = 2 * n.seconds();
        co_return m.returns(mix(v, (co_await tandem::deadline(clock::time_point(2 * d), child(0))).code));
      case kind::shield:
        co_return m.returns(mix(v, (co_await tandem::shield(child(0, true))).code));
      case kind::on:
        co_return m.returns(mix(v, (co_await tandem::on(*w.context, child(0))).code));
      case kind::await_spawned: {
        const auto r = co_await tandem::spawn(*w.context, child(0), tandem::use_task);
        co_return m.returns(mix(v, r.value().code));
      }
      case kind::spawn:
        w.spawn(n.children[0]);
        co_return m.returns(v);
      case kind::spawn_and_stop:
        w.stop_after(w.spawn(n.children[0]), n.seconds());
        co_return m.returns(v);
      case kind::finally:
        co_return m.returns(mix(v, (co_await tandem::finally(child(0), clean_up)).code));
      case kind::with_resource:
        co_return m.returns(mix(v, (co_await tandem::with_resource(child(0), use, release)).code));
      case kind::sequence: {
        std::uint32_t sum = v;
        for (std::size_t i = 0; i != n.children.size(); ++i) sum = mix(sum, (co_await child(i)).code);
        co_return m.returns(sum);
      }
      case kind::gather: {
        const auto results = co_await tandem::gather(children());
        co_return m.returns(mix_all(v, results));
      }
      case kind::gather_void: {
        std::vector<task<>> tasks;
        for (auto& t : children()) tasks.push_back(without_value(std::move(t)));
        co_await tandem::gather(std::move(tasks));
        co_return m.returns(v);
      }
      case kind::gather_tuple: {
        m.at_a_time = 3;
        const auto results = co_await tandem::gather(child(0), child(1), child(2));
        const auto& [x, y, z] = results;
        co_return m.returns(mix(mix(mix(v, x.code), y.code), z.code));
      }
      case kind::gather_outcomes: {
        const auto results = co_await tandem::gather(return_exceptions, children());
        co_return m.returns(mix_all(v, results));
      }
      case kind::gather_two_outcomes: {
        m.at_a_time = 2;
        const auto results = co_await tandem::gather(return_exceptions, child(0), child(1));
        const auto& [x, y] = results;
        co_return m.returns(mix(mix(v, code_of(x)), code_of(y)));
      }
      case kind::transform: {
        const auto results = co_await tandem::transform(elements(), element, {.limit = n.limit()});
        co_return m.returns(mix_all(v, results));
      }
      case kind::transform_outcomes: {
        const auto results = co_await tandem::transform(return_exceptions, elements(), element, {.limit = n.limit()});
        co_return m.returns(mix_all(v, results));
      }
      case kind::for_each:
        co_await tandem::for_each(elements(), element, {.limit = n.limit()});
        co_return m.returns(v);
      case kind::race: {
        const auto first = co_await tandem::race(children()).on_discard(discard);
        co_return m.returns(mix(mix(v, static_cast<std::uint32_t>(first.index())), first.value().code));
      }
      case kind::race_successful: {
        const auto first = co_await tandem::race(tandem::first_successful, children()).on_discard(discard);
        co_return m.returns(mix(mix(v, static_cast<std::uint32_t>(first.index())), first.value().code));
      }
      case kind::race_tuple: {
        m.at_a_time = 2;
        if (n.is_first_successful()) {
          const auto first = co_await tandem::race(tandem::first_successful, child(0), child(1)).on_discard(discard);
          co_return m.returns(mix(mix(v, static_cast<std::uint32_t>(first.index())), first.value().code));
        }
        const auto first = co_await tandem::race(child(0), child(1)).on_discard(discard);
        co_return m.returns(mix(mix(v, static_cast<std::uint32_t>(first.index())), first.value().code));
      }
      case kind::race_sleep: {
        m.at_a_time = 2;
        const auto first = co_await tandem::race(child(0), tandem::sleep_for(d), child(1)).on_discard(discard);
        m.leaf_won = first.index() == 1;
        const std::uint32_t code = m.leaf_won ? 0 : first.index() == 0 ? first.get<0>().code : first.get<2>().code;
        co_return m.returns(mix(mix(v, static_cast<std::uint32_t>(first.index())), code));
      }
      case kind::race_waits: {
        const auto first =
            co_await tandem::race(tandem::sleep_for(d), tandem::sleep_for(std::chrono::seconds(n.a / 8 % 8)));
        m.resumed();
        co_return m.returns(mix(v, static_cast<std::uint32_t>(first.index())));
      }
      case kind::task_group: {
        m.at_a_time = static_cast<unsigned>(n.children.size());
        const auto body = [&](task_group& group) -> task<item> {
          for (std::size_t i = 1; i != n.children.size(); ++i)
            group.spawn(child(i), {.name = {}, .background = n.is_background(i)});
          item r = co_await child(0);
          if (n.cancels()) group.cancel();
          co_return r;
        };
        co_return m.returns(mix(v, (co_await tandem::with_task_group(body)).code));
      }
      case kind::cancel_group: {
        m.at_a_time = 2;
        m.due = w.now() + n.seconds();
        const auto body = [&](task_group& group) -> task<item> {
          group.spawn(child(1));
          group.spawn(cancel_after(d, group), {.name = {}, .background = true});
          co_return co_await child(0);
        };
        try {
          co_return m.returns(mix(v, (co_await tandem::with_task_group(body)).code));
        } catch (const tandem::cancelled&) {
          check(w.now() >= m.due, "a group is cancelled if somebody asked");
          co_return m.returns(mix(v, was_cancelled));
        }
      }
      case kind::handles: {
        const auto body = [&](task_group& group) -> task<item> {
          const auto h = group.spawn(child(0));
          const auto other = group.spawn(reads(h));
          const std::uint32_t one = co_await reads(h);
          std::uint32_t two = one;
          if (!other.done() || other.outcome()) two = co_await other;  // else it never ran, in a stopped scope
          check(one == two, "everybody who awaits a handle gets the same");
          co_return item(one);
        };
        co_return m.returns(mix(v, (co_await tandem::with_task_group(body)).code));
      }
      case kind::cancel_handle: {
        m.at_a_time = 2;
        const auto body = [&](task_group& group) -> task<item> {
          const auto h = group.spawn(child(0));
          const item r = co_await child(1);
          h.cancel();
          co_return item(mix(r.code, co_await reads(h)));
        };
        co_return m.returns(mix(v, (co_await tandem::with_task_group(body)).code));
      }
      case kind::wait: {
        m.at_a_time = static_cast<unsigned>(n.children.size());
        std::vector<task_handle<item>> handles;
        const auto body = [&](task_group& group) -> task<item> {
          for (std::size_t i = 0; i != n.children.size(); ++i) handles.push_back(group.spawn(child(i)));
          tandem::wait_result<item> r;
          const auto condition = static_cast<tandem::return_when>(n.condition());
          if (n.has_limit())
            r = co_await tandem::wait(handles, condition, d);
          else
            r = co_await tandem::wait(handles, condition);
          check(r.done.size() + r.pending.size() == handles.size(), "wait gives every handle once");
          check(n.has_limit() || !r.done.empty(), "wait goes on when the first has ended, not before");
          auto code = static_cast<std::uint32_t>(r.done.size());
          for (const auto& h : r.done) code += code_of(h.outcome());
          if (n.cancels())
            for (const auto& h : r.pending) h.cancel();
          co_return item(code);
        };
        const std::uint32_t code = (co_await tandem::with_task_group(body)).code;
        for (const auto& h : handles) check(h.done(), "a group ends after its children");
        co_return m.returns(mix(v, code));
      }
      case kind::start: {
        const auto serve = [&](tandem::started<std::uint32_t> ready) -> task<item> {
          const item first = co_await child(0);
          ready(first.code);
          co_return co_await child(1);
        };
        const auto body = [&](task_group& group) -> task<item> {
          if (!n.has_limit()) co_return item(co_await group.start<std::uint32_t>(serve));
          const auto r = co_await tandem::try_timeout(d, group.start<std::uint32_t>(serve));
          co_return item(r ? *r : late);
        };
        co_return m.returns(mix(v, (co_await tandem::with_task_group(body)).code));
      }
      case kind::close: {
        m.at_a_time = static_cast<unsigned>(n.children.size());
        const auto serves = [&](task_group& group, std::size_t i) -> task<item> {
          co_await group.closing();
          co_return co_await child(i);
        };
        const auto close = [&](task_group& group) {
          m.due = w.now() + n.grace();
          n.has_grace() ? group.close(std::chrono::seconds(n.grace())) : group.close();
        };
        const auto body = [&](task_group& group) -> task<item> {
          for (std::size_t i = 1; i != n.children.size(); ++i)
            group.spawn(n.waits_for_closing(i) ? serves(group, i) : child(i));
          if (n.closes_first()) close(group);
          item r = co_await child(0);
          if (!n.closes_first()) close(group);
          co_return r;
        };
        try {
          co_return m.returns(mix(v, (co_await tandem::with_task_group(body)).code));
        } catch (const tandem::cancelled&) {
          check(n.closes_first() && n.has_grace() && w.now() >= m.due, "a group is cancelled if its grace is over");
          co_return m.returns(mix(v, was_cancelled));
        }
      }
      case kind::as_completed:
      case kind::as_completed_some: {
        const auto running_now = std::make_shared<unsigned>(0);
        std::vector<task<item>> tasks;
        for (const node& c : n.children) tasks.push_back(limited(running_now, n.limit(), play(c, w, m.tree())));
        auto stream = tandem::as_completed(std::move(tasks), n.limit());
        std::uint32_t code = 0;
        for (unsigned taken = 0; taken != n.takes(); ++taken) {
          const auto one = co_await stream.next();
          if (!one) break;
          code += mix(static_cast<std::uint32_t>(one->index), code_of(one->outcome));
        }
        co_return m.returns(mix(v, code));
      }
      case kind::permits:
      case kind::weighted:
      case kind::lock: {
        tandem::semaphore s(n.permits());
        tandem::mutex one;
        const books here(s, one);
        std::size_t out = 0;
        std::vector<task<item>> tasks;
        for (std::size_t i = 0; i != n.children.size(); ++i)
          tasks.push_back(n.what == kind::lock ? with_lock(one, out, child(i))
                                               : with_permits(s, n.takes_permits(i), out, child(i)));
        m.at_a_time = n.permits();
        const auto results = co_await tandem::gather(std::move(tasks));
        co_return m.returns(mix_all(v, results));
      }
      case kind::event:
      case kind::condition: {
        m.at_a_time = static_cast<unsigned>(n.children.size());
        tandem::event e;
        tandem::condition c;
        bool holds = false;
        const std::size_t one_by_one = n.a / 32 % 2 * (n.children.size() - 1);
        std::vector<task<item>> tasks;
        for (std::size_t i = 0; i != n.children.size(); ++i)
          if (n.what == kind::event)
            tasks.push_back(i == 0 ? sets(e, child(i)) : when_set(e, child(i)));
          else
            tasks.push_back(i == 0 ? notifies(c, holds, one_by_one, child(i)) : when_it_holds(c, holds, child(i)));
        const auto results = co_await tandem::gather(std::move(tasks));
        co_return m.returns(mix_all(v, results));
      }
      case kind::lines:
        co_return m.returns(mix(v, (co_await with_lines(n, w, child(0))).code));
      case kind::queue_push:
      case kind::queue_push_range:
      case kind::queue_pop:
      case kind::queue_pop_some:
      case kind::queue_try:
      case kind::queue_race:
      case kind::queue_end:
        co_return m.returns(mix(v, co_await uses_queue(n, w)));
      case kind::queue_between: {
        tandem::queue<std::uint32_t> between(n.a % 3);
        const auto pushes = [&]() -> task<> {
          const std::uint32_t code = mix(v, (co_await child(0)).code);
          if (n.way() % 2 == 0)
            for (unsigned i = 0; i != n.items(); ++i) co_await between.push(code);
          else
            co_await between.push_range(std::vector<std::uint32_t>(n.items(), code));
          between.close();
        };
        const auto pops = [&]() -> task<std::uint32_t> {
          std::uint32_t sum = (co_await between.pop()).value();
          if (n.way() / 2 == 0)
            while (const auto code = co_await between.pop()) sum = mix(sum, sum);
          else
            for (std::vector<std::uint32_t> some; !(some = co_await between.pop_some(2)).empty();)
              for (unsigned i = 0; i != some.size(); ++i) sum = mix(sum, sum);
          co_return sum;
        };
        const auto both = co_await tandem::gather(pops(), pushes());
        co_return m.returns(std::get<0>(both));
      }
      case kind::pool:
      case kind::pool_handles:
      case kind::pool_beside:
      case kind::pool_crowd:
        co_return m.returns(mix(v, co_await has_jobs_done(n, w, m)));
      case kind::generator: {
        int begun = 0, cleaned = 0;
        const auto cleanup = [&]() -> task<> {
          ++cleaned;
          co_return;
        };
        const auto yields = [&](counted = counted()) -> tandem::generator<std::uint32_t> {
          ++begun;
          co_await tandem::on_exit(cleanup);
          const item c = co_await child(0);
          co_yield c.code;
          if (n.a % 3 == 0) co_yield c.code;
        };
        auto g = yields();
        const auto one = co_await g.next();
        check(one.has_value() && cleaned == 0, "a generator gives an item");
        if (n.a % 3 == 1) {
          const auto none = co_await g.next();
          check(!none, "a generator has an end");
        } else {
          co_await g.close();
        }
        check(begun == 1 && cleaned == 1, "what a generator opened is closed once");
        co_return m.returns(mix(v, *one));
      }
      case kind::flow: {
        // Its calls are children of the tree alone, since they run beside this.
        const auto plays = [&](unsigned i) -> task<std::uint32_t> {
          try {
            co_return (co_await play(n.children[i], w, m.tree())).code;
          } catch (...) {
            co_return code_of(std::current_exception());
          }
        };
        const auto counts = [&](counted = counted()) -> tandem::generator<unsigned> {
          for (unsigned i = 0; i != n.children.size(); ++i) co_yield i;
        };
        auto results = counts() | tandem::streams::map(plays, {.limit = 1 + n.a % 3, .ordered = n.a % 2 == 0}) |
                       tandem::streams::buffer(1 + n.a / 8 % 3);
        std::size_t seen = 0;
        std::uint32_t code = v;
        const auto sums = [&](std::uint32_t c) -> task<> {
          ++seen;
          code ^= c;
          co_return;
        };
        co_await for_each(std::move(results), sums, {.limit = 1});
        check(seen == n.children.size(), "a stream loses and doubles nothing");
        co_return m.returns(mix(v, code));
      }
      case kind::scheduler:
        co_return m.returns(mix(v, co_await has_schedule(n, w, m)));
      case kind::lease:
        co_return m.returns(mix(v, (co_await with_lease(n, w, child(0))).code));
      case kind::cache:
        co_return m.returns(mix(v, (co_await with_cache(n, w, child(0))).code));
      case kind::guard: {
        const auto first = [&] { return child(0); };
        co_return m.returns(mix(v, (co_await with_guard(n, w, first)).code));
      }
      case kind::limit:
        co_return m.returns(mix(v, (co_await with_limit(n, w, child(0))).code));
    }
  } catch (...) {
    m.fails(std::current_exception());
    throw;
  }
  std::abort();
}

// ---- one program, several ways -------------------------------------------------------------------------------------

struct plan {
  std::uint64_t seed = 0;
  unsigned stop_before = 0;      // the program is stopped before this step, counted from 1; 0: never
  unsigned stop_after = 0;       // the same after so many seconds; 0: never
  unsigned destroy_after = ~0u;  // the context is destroyed after so many steps
  bool is_watched = false;       // by a timeline and lints, and the await tree is looked at
};

struct observation {
  std::vector<entry> log;
  bool to_the_end = false;
  std::optional<long> stopped_at;
  bool operator==(const observation&) const = default;
};

long live_frames() {
#if defined(TANDEM_PLAIN_FRAMES)
  return tandem::detail::live_frames.load();
#else
  return 0;
#endif
}

observation run(const node& program, const plan& p) {
  const long frames = live_frames(), objects = counted::live;
  observation seen;
  std::unique_ptr<tandem::timeline> chart;
  std::optional<tandem::lints> lints;
  if (p.is_watched) {
    chart = std::make_unique<tandem::timeline>();
    lints.emplace(tandem::lints_options{}, [](const tandem::lint& l) {
      if (l.kind == tandem::lint_kind::never_awaited) broken("every task is awaited: " + l.text);
    });
  }
  {
    world w;
    w.in_order = p.seed == 0;
    w.is_watched = p.is_watched;
    {
      asio::io_context context(1);
      auto& loop = tandem::detail::loop::alone_on(context);
      loop.simulate({}, p.seed);
      tandem::detail::virtual_now() = loop.virtual_time();
      w.context = &context;
      w.spawn(program);
      if (p.stop_after != 0) {
        w.stop_after(0, p.stop_after);
        seen.stopped_at = p.stop_after;
      }
      const auto goes_on = [&] { return loop.has_trees() || loop.has_ready(); };
      for (unsigned steps = 0; goes_on() && steps != p.destroy_after;) {
        check(steps < 1'000'000, "a program comes to its end");
        if (loop.has_ready()) {
          if (++steps == p.stop_before) {
            w.stop(0);
            seen.stopped_at = w.now();
          }
          loop.run_one();
          continue;
        }
        if (context.stopped()) context.restart();
        if (context.poll() == 0 && !loop.has_ready()) check(loop.advance(), "nobody waits for ever");
      }
      w.closing = goes_on();
      tandem::detail::virtual_now() = nullptr;
    }
    w.check_handlers();
    w.queues.check_and_empty();
    w.leases.check();
    w.caches.check();
    w.limits.check();
    w.guards.check();
    seen.to_the_end = !w.closing;
    seen.log = std::move(w.log);
  }
  check(live_frames() == frames, "every frame is destroyed");
  check(counted::live == objects, "every object is destroyed");
  if (chart) {
    (void)kit::json_reader::read(chart->chrome_trace());
    check(!chart->gantt().empty() && !chart->svg().empty(), "what happened can be drawn");
  }
  return seen;
}

unsigned long compared = 0, of_runs = 0;

void compare_with_model(const node& program, const observation& seen) {
  ++of_runs;
  if (!seen.to_the_end) return;
  model m;
  const auto tree = [&](stop_at s) { return m.tree(program, 0, s); };
  result expected = seen.stopped_at ? model::either(*seen.stopped_at, {}, tree) : tree({});
  if (!expected.exact) return;
  ++compared;
  std::vector<entry> log = seen.log, missing, unforeseen;
  std::sort(log.begin(), log.end());
  std::sort(expected.log.begin(), expected.log.end());
  if (log == expected.log) return;
  std::set_difference(expected.log.begin(), expected.log.end(), log.begin(), log.end(), std::back_inserter(missing));
  std::set_difference(log.begin(), log.end(), expected.log.begin(), expected.log.end(), std::back_inserter(unforeseen));
  broken("the model expects\n" + text(missing) + " and not\n" + text(unforeseen));
}

observation observe(const node& program, const plan& p) {
  running.text = text(program) + "\nseed " + std::to_string(p.seed) + ", stopped before step " +
                 std::to_string(p.stop_before) + " or after " + std::to_string(p.stop_after) +
                 " s (0: never), context destroyed after " + std::to_string(p.destroy_after) + " steps";
  observation seen = run(program, p);
  compare_with_model(program, seen);
  return seen;
}

}  // namespace

/// Three bytes say how to run the program: small ones leave it alone.
void try_program(std::span<const std::uint8_t> bytes) {
  parser in(bytes);
  const unsigned seed = in.byte(), stop = in.byte(), destroy = in.byte();
  plan p;
  if (stop >= 192)
    p.stop_after = 1 + stop % 16;
  else if (stop >= 96)
    p.stop_before = stop - 95;
  if (destroy >= 128) p.destroy_after = destroy - 128;
  const node program = in.tree();

  observe(program, p);
  p.seed = 1 + seed;
  const observation shuffled = observe(program, p);
  p.is_watched = true;
  check(observe(program, p) == shuffled, "the same seed gives the same run, whoever watches");
}

void tell() { std::printf("%lu of %lu runs compared with the model\n", compared, of_runs); }

}  // namespace fuzz
