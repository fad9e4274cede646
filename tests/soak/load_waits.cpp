// Permits, locks, events and queues: of one loop, and shared by several.
#include "world.hpp"

#include <optional>
#include <utility>
#include <vector>

namespace soak {
namespace {

/// A permit that is in use; it stops being so before it is given back.
template <class Permit>
class used {
 public:
  used(Permit p, account& a, std::atomic<long>& out, long most, const char* what)
      : permit_(std::move(p)),
        held_(a, static_cast<long>(permit_.count())),
        inside_(out, static_cast<long>(permit_.count()), most, what) {}
  used(used&&) noexcept = default;

 private:
  Permit permit_;
  held held_;
  inside inside_;
};

template <class Permit>
task<> carries(used<Permit>, std::uint64_t chance) {
  const held here(ledger::frames);
  co_await rest(chance);
}

template <class Semaphore>
auto acquire_somehow(Semaphore& s, dice& d) -> task<decltype(s.try_acquire())> {
  using permit = decltype(s.try_acquire());
  const held here(ledger::frames);
  const std::size_t n = 1 + d.below(2);
  permit p;
  switch (d.below(4)) {
    case 0:
      p = s.try_acquire(n);
      break;
    case 1: {
      auto in_time = co_await tandem::try_timeout(d.moment(), s.acquire(n));
      if (in_time) p = std::move(*in_time);
      break;
    }
    case 2: {
      auto either = tandem::race(s.acquire(n), s.acquire(1), tandem::sleep_for(1ms));
      auto first = co_await std::move(either);
      if (first.index() == 0) p = std::move(first.template get<0>());
      if (first.index() == 1) p = std::move(first.template get<1>());
      break;
    }
    default:
      p = co_await s.acquire(n);
  }
  co_return p;
}

task<> takes_permits(place& p, dice& d) {
  const held here(ledger::frames);
  tools& t = *p.own;
  auto got = co_await acquire_somehow(t.permits, d);
  if (!got) co_return;
  used<tandem::permit> u(std::move(got), ledger::permits, t.permits_out, tools::most_permits, "permits");
  co_await rest(d.next());
  if (d.chance(30)) co_await carries(std::move(u), d.next());
}

task<> takes_shared_permits(place& p, dice& d) {
  const held here(ledger::frames);
  world& w = p.all;
  auto got = co_await acquire_somehow(w.permits, d);
  if (!got) co_return;
  used<tandem::concurrent_permit> u(std::move(got), ledger::shared_permits, w.permits_out, world::most_shared,
                                    "shared permits");
  co_await rest(d.next());
  if (d.chance(30)) co_await carries(std::move(u), d.next());
  if (d.chance(20)) {  // goes back on another loop
    used<tandem::concurrent_permit> there(std::move(u));
    auto sent = p.all.any_place(d).at(
        [&](const auto& executor) { return tandem::on(executor, carries(std::move(there), d.next())); });
    co_await std::move(sent);
  }
}

task<> resizes(place& p, dice& d) {
  const held here(ledger::frames);
  auto& s = p.own->elastic;
  if (d.chance(30)) s.resize(1 + d.below(5));
  const auto in_time = co_await tandem::try_timeout(2ms, s.acquire());
  if (!in_time) co_return;
  const held permit(ledger::permits);
  co_await rest(d.next());
}

task<> waits_till_closed(tandem::semaphore& s) {
  const held here(ledger::frames);
  try {
    const auto permit = co_await s.acquire();
    complain("a semaphore without permits gave one");
  } catch (const tandem::semaphore_closed&) {
  }
}
task<> closes_a_semaphore(place&, dice& d) {
  const held here(ledger::frames);
  tandem::semaphore s(0);
  const auto closes = [&]() -> task<> {
    co_await rest(d.next());
    s.close();
  };
  co_await tandem::gather(waits_till_closed(s), waits_till_closed(s), closes());
}

task<> locks(place& p, dice& d) {
  const held here(ledger::frames);
  tools& t = *p.own;
  tandem::mutex_lock lock;
  if (d.chance(30)) {
    auto in_time = co_await tandem::try_timeout(d.moment(), t.mutex.lock());
    if (!in_time) co_return;
    lock = std::move(*in_time);
  } else if (d.chance(20)) {
    lock = t.mutex.try_lock();
    if (!lock) co_return;
  } else {
    lock = co_await t.mutex.lock();
  }
  const held owned(ledger::locks);
  const inside alone(t.locks_out, 1, 1, "locks");
  co_await rest(d.next());
}

task<> waits_for_events(place& p, dice& d) {
  const held here(ledger::frames), waits(ledger::events);
  tools& t = *p.own;
  switch (d.below(3)) {
    case 0:
      t.event.set();
      break;
    case 1:
      t.event.reset();
      break;
    default: {
      tandem::event mine;
      const auto sets = [&]() -> task<> {
        const held here_too(ledger::frames);
        co_await rest(d.next());
        mine.set();
        t.event.set();
      };
      co_await tandem::gather(sets(), mine.wait(), mine.wait());
    }
  }
  co_await tandem::try_timeout(d.moment(), t.event.wait());
}

task<> buys(place& p) {
  const held here(ledger::frames);
  tools& t = *p.own;
  co_await t.sold.wait([&t] { return t.stock != 0; });
  if (t.stock == 0) complain("a condition was waited for and does not hold");
  --t.stock;
  ledger::stock.give_back();
}
task<> trades_stock(place& p, dice& d) {
  const held here(ledger::frames);
  tools& t = *p.own;
  if (d.chance(50)) {
    ++t.stock;
    ledger::stock.take();
    if (d.chance(80))
      t.sold.notify_one();
    else
      t.sold.notify_all();
  } else {
    co_await tandem::try_timeout(d.moment(), buys(p));
  }
}

/// A push that is noted if it was accepted.
template <class Queue>
task<bool> pushes(Queue& q, account& a) {
  const held here(ledger::frames);
  const bool accepted = co_await q.push(item(0));
  if (accepted) a.take();
  co_return accepted;
}
template <class Queue>
task<bool> pops(Queue& q, account& a) {
  const held here(ledger::frames);
  std::optional<item> i = co_await q.pop();
  if (!i) co_return false;
  i->consume(a);
  co_return true;
}
template <class Queue>
task<> pops_some(Queue& q, account& a, std::size_t most) {
  const held here(ledger::frames);
  auto some = co_await q.pop_some(most);
  for (item& i : some) i.consume(a);
}

task<> uses_queues(place& p, dice& d) {
  const held here(ledger::frames);
  tools& t = *p.own;
  auto& q = d.chance(70) ? t.items : t.other_items;
  switch (d.below(8)) {
    case 0:
      if (q.try_push(item(0))) ledger::items.take();
      break;
    case 1:
      if (auto i = q.try_pop()) i->consume(ledger::items);
      break;
    case 2: {
      auto either = tandem::race(t.items.pop(), t.other_items.pop(), tandem::sleep_for(1ms));
      auto first = co_await std::move(either);
      if (first.index() == 0) first.get<0>().value().consume(ledger::items);
      if (first.index() == 1) first.get<1>().value().consume(ledger::items);
      break;
    }
    case 3: {
      auto in_time = co_await tandem::try_timeout(d.moment(), q.pop());
      if (in_time && *in_time) (*in_time)->consume(ledger::items);
      break;
    }
    case 4:
      co_await tandem::try_timeout(d.moment(), pops_some(q, ledger::items, 1 + d.below(4)));
      break;
    case 5:
      co_await tandem::try_timeout(d.moment(), pops(q, ledger::items));
      break;
    default:
      co_await tandem::try_timeout(d.moment(), pushes(q, ledger::items));
  }
}

/// Of a push_range that is stopped the first items may have been accepted: the queue's own figures say how many.
task<> uses_ranges(place& p, dice& d) {
  const held here(ledger::frames);
  auto& q = p.own->ranges;
  if (d.chance(70)) {
    co_await tandem::try_timeout(d.moment(), pops_some(q, ledger::range_items, 1 + d.below(6)));
    co_return;
  }
  std::vector<item> many;
  const std::size_t n = 1 + d.below(8);
  many.reserve(n);
  for (std::size_t i = 0; i != n; ++i) many.emplace_back(0);
  auto pushed = co_await tandem::try_timeout(d.moment(), q.push_range(std::move(many)));
  if (pushed && *pushed > n) complain("more of a range was accepted than there was");
}

task<> fills_queues(place& p, dice& d) {
  const held here(ledger::frames);
  tools& t = *p.own;
  auto& q = d.chance(33) ? t.refuses : d.chance(50) ? t.drops_oldest : t.drops_newest;
  if (d.chance(30)) {
    if (auto i = q.try_pop()) i->consume(ledger::picky_items);
    co_return;
  }
  try {
    const bool accepted = co_await q.push(item(0));
    if (!accepted) ++p.all.made.dropped;
  } catch (const tandem::queue_full&) {
    ++p.all.made.refused;
  }
}

task<> joins_a_queue(place&, dice& d) {
  const held here(ledger::frames);
  tandem::queue<item> q(1 + d.below(3));
  const std::size_t n = 1 + d.below(10);
  const auto fills = [&]() -> task<> {
    const held here_too(ledger::frames);
    for (std::size_t i = 0; i != n; ++i) co_await q.push(item(0));
    co_await q.join();
    q.close();
  };
  std::size_t popped = 0;
  const auto works = [&]() -> task<> {
    const held here_too(ledger::frames);
    while (auto i = co_await q.pop()) {
      co_await tandem::yield();
      ++popped;
      q.task_done();
    }
  };
  co_await tandem::gather(works(), fills(), works());
  if (popped != n) complain("%zu items of %zu came out of a queue", popped, n);
}

task<> trades_across_loops(place& p, dice& d) {
  const held here(ledger::frames);
  world& w = p.all;
  const auto q = w.trade();
  try {
    switch (d.below(10)) {
      case 0:
        if (q->try_push(item(0))) ledger::shared_items.take();
        break;
      case 1:
        if (auto i = q->try_pop()) i->consume(ledger::shared_items);
        break;
      case 2: {
        auto in_time = co_await tandem::try_timeout(d.moment(), q->pop());
        if (in_time && *in_time) (*in_time)->consume(ledger::shared_items);
        break;
      }
      case 3: {
        const auto too_late = [](std::optional<item> i) {
          if (i) i->consume(ledger::shared_items);
        };
        auto both = tandem::race(q->pop(), q->pop()).on_discard(too_late);
        const auto waits = [&]() -> task<> {
          const held here_too(ledger::frames);
          auto first = co_await std::move(both);
          if (first.value()) first.value()->consume(ledger::shared_items);
        };
        co_await tandem::try_timeout(d.moment(), waits());
        break;
      }
      case 4:
        co_await tandem::try_timeout(d.moment(), pops_some(*q, ledger::shared_items, 1 + d.below(4)));
        break;
      case 5:
      case 6:
        co_await tandem::try_timeout(d.moment(), pops(*q, ledger::shared_items));
        break;
      case 7:
        if (d.chance(20)) w.reopen_trade();
        [[fallthrough]];
      default:
        co_await tandem::try_timeout(d.moment(), pushes(*q, ledger::shared_items));
    }
  } catch (const tandem::queue_closed&) {
    ++w.made.closed;
  }
}

}  // namespace

void add_waits(operations& all) {
  const auto add = [&](const char* name, unsigned weight, task<> (*run)(place&, dice&)) {
    all.push_back(std::make_unique<operation>(name, weight, run));
  };
  add("semaphore", 10, takes_permits);
  add("concurrent_semaphore", 10, takes_shared_permits);
  add("semaphore, resized", 4, resizes);
  add("semaphore, closed", 2, closes_a_semaphore);
  add("mutex", 6, locks);
  add("event", 4, waits_for_events);
  add("condition", 6, trades_stock);
  add("queue", 12, uses_queues);
  add("queue, ranges", 6, uses_ranges);
  add("queue, full", 6, fills_queues);
  add("queue, joined", 2, joins_a_queue);
  add("concurrent_queue", 14, trades_across_loops);
}

}  // namespace soak
