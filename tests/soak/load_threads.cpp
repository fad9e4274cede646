// Other loops, threads, and trees that are stopped from elsewhere.
#include "world.hpp"

#include TANDEM_ASIO_HEADER(bind_cancellation_slot.hpp)
#include TANDEM_ASIO_HEADER(bind_executor.hpp)
#include TANDEM_ASIO_HEADER(steady_timer.hpp)

#include <chrono>
#include <exception>
#include <memory>
#include <stop_token>
#include <thread>
#include <utility>

namespace soak {
namespace {

task<int> works_there(std::uint64_t chance) {
  const held here(ledger::frames), there(ledger::elsewhere);
  dice d(chance);
  co_await rest(d.next());
  if (d.chance(10)) throw failure();
  co_await rest(d.next());
  co_return 5;
}

/// A strand of the context, whose loop comes and goes. Asio without memory for one is not what is soaked.
strand new_strand(world& w) {
  const memory::spare spare;
  return asio::make_strand(w.context);
}

task<int> is_sent(place& p, std::uint64_t chance) {
  const held here(ledger::frames);
  dice d(chance);
  if (d.chance(30)) co_return co_await tandem::on(new_strand(p.all), works_there(d.next()));
  auto sent = p.all.any_place(d).at([&](const auto& there) { return tandem::on(there, works_there(d.next())); });
  co_return co_await std::move(sent);
}
task<> goes_elsewhere(place& p, dice& d) {
  const held here(ledger::frames);
  if (d.chance(50)) {
    const int five = co_await is_sent(p, d.next());
    if (five != 5) complain("what `on` gives");
  } else {
    co_await tandem::try_timeout(d.moment(), is_sent(p, d.next()));
  }
}

template <class Executor>
task<> is_spawned(Executor there, std::uint64_t chance) {
  const held here(ledger::frames);
  const int five = co_await tandem::spawn(there, works_there(chance), use_task);
  if (five != 5) complain("what a spawned tree gives");
}
task<> spawns_elsewhere(place& p, dice& d) {
  const held here(ledger::frames);
  auto spawned = d.chance(30) ? is_spawned(new_strand(p.all), d.next())
                              : p.all.any_place(d).at([&](const auto& there) { return is_spawned(there, d.next()); });
  if (d.chance(50))
    co_await std::move(spawned);
  else
    co_await tandem::try_timeout(d.moment(), std::move(spawned));
}

/// The tree runs there, its handler here, and it is stopped from here by a signal.
task<> stops_by_signal(place& p, dice& d) {
  const held here(ledger::frames);
  struct state {
    asio::cancellation_signal stop;
    tandem::event ended;
    int handlers = 0;
  };
  const auto s = std::make_shared<state>();  // the handler may come when this coroutine has been stopped
  {
    held tree(ledger::trees);
    auto handler = [s, t = std::move(tree)](std::exception_ptr, int) mutable {
      const held ends(std::move(t));
      ++s->handlers;
      s->ended.set();
    };
    const asio::any_io_executor mine = co_await tandem::this_task::executor;
    p.all.any_place(d).at([&](const auto& there) {
      tandem::spawn(there, works_there(d.next()),
                    asio::bind_executor(mine, asio::bind_cancellation_slot(s->stop.slot(), std::move(handler))));
    });
  }
  co_await rest(d.next());
  if (d.chance(70)) {
    ++p.all.made.trees_stopped;
    s->stop.emit(asio::cancellation_type::terminal);
  }
  co_await s->ended.wait();
  if (s->handlers != 1) complain("a handler was called %d times", s->handlers);
}

int blocks(account* a, std::uint64_t chance) {
  const held call(*a);
  dice d(chance);
  if (d.chance(50)) std::this_thread::sleep_for(std::chrono::microseconds(d.below(500)));
  if (d.chance(10)) throw failure();
  return 3;
}
int blocks_until_asked(std::stop_token stop, account* a, std::uint64_t chance) {
  const held call(*a);
  for (std::uint64_t i = 0; i != chance % 10 && !stop.stop_requested(); ++i) std::this_thread::sleep_for(100us);
  return 3;
}
task<> calls_threads(place&, dice& d) {
  const held here(ledger::frames);
  switch (d.below(4)) {
    case 0: {
      const int three = co_await tandem::to_thread(blocks, &ledger::thread_calls, d.next());
      if (three != 3) complain("what a thread gives");
      break;
    }
    case 1:
      co_await tandem::try_timeout(d.moment(), tandem::to_thread(blocks, &ledger::thread_calls, d.next()));
      break;
    case 2:
      co_await tandem::try_timeout(d.moment(), tandem::to_thread(blocks_until_asked, &ledger::thread_calls, d.next()));
      break;
    default:
      co_await tandem::try_timeout(
          d.moment(), tandem::to_thread(tandem::abandon_on_cancel, blocks, &ledger::abandoned_calls, d.next()));
  }
}

/// Takes what loops share, as long as it may.
task<> takes_shared(world& w, std::uint64_t chance) {
  const held here(ledger::frames);
  dice d(chance);
  for (;;) {
    if (d.chance(50)) {
      const auto permit = co_await w.permits.acquire(1 + d.below(2));
      const auto n = static_cast<long>(permit.count());
      const held owned(ledger::shared_permits, n);
      const inside in(w.permits_out, n, world::most_shared, "shared permits");
      co_await rest(d.next());
    } else {
      const auto q = w.trade();
      if (auto i = co_await q->pop()) i->consume(ledger::shared_items);
    }
    co_await tandem::yield();
  }
}
/// A context that is destroyed while its trees wait: what they had been granted goes to others.
void makes_a_context_that_goes(world* w, std::uint64_t chance) {
  dice d(chance);
  asio::io_context context;
  for (int i = 0; i != 6; ++i) {
    held tree(ledger::trees);
    auto ended = [t = std::move(tree)](std::exception_ptr e) mutable {
      const held ends(std::move(t));
      if (e) note_failure(e, "a tree of a context that goes");
    };
    tandem::spawn(context, takes_shared(*w, d.next()), std::move(ended));
  }
  context.run_for(d.moment());
}
task<> destroys_a_context(place& p, dice& d) {
  const held here(ledger::frames);
  co_await tandem::to_thread(makes_a_context_that_goes, &p.all, d.next());
}

task<> waits_for_timers(place&, dice& d) {
  const held here(ledger::frames);
  asio::steady_timer timer(co_await tandem::this_task::executor);
  timer.expires_after(d.moment());
  auto begins = [&](auto handler) { timer.async_wait(std::move(handler)); };
  co_await tandem::try_timeout(d.moment(), spared<void(tandem::error_code)>(begins));
  co_await tandem::sleep_until(tandem::clock::now() + d.moment());
}

}  // namespace

void add_threads(operations& all) {
  const auto add = [&](const char* name, unsigned weight, task<> (*run)(place&, dice&)) {
    all.push_back(std::make_unique<operation>(name, weight, run));
  };
  add("on", 6, goes_elsewhere);
  add("spawn", 4, spawns_elsewhere);
  add("spawn, stopped by a signal", 6, stops_by_signal);
  add("to_thread", 4, calls_threads);
  add("context, destroyed", 2, destroys_a_context);
  add("timers", 4, waits_for_timers);
}

}  // namespace soak
