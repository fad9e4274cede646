#include <tandem/event.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/race.hpp>
#include <tandem/run.hpp>

#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(strand.hpp)

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using kit::at;
using kit::thrown_by;
using tandem::clock;
using tandem::condition;
using tandem::event;
using tandem::gather;
using tandem::race;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::yield;

namespace {

task<> notes(event& e, std::string& order, const char* name) {
  co_await e.wait();
  order += name;
}

/// Runs `f` after the others have had a turn.
template <class F>
task<> later(F f, clock::duration d = 0s) {
  co_await sleep_for(d);
  f();
}

}  // namespace

// ---- event
// -------------------------------------------------------------------------------------------------------------

TEST_CASE("set grants all who wait, in the order in which they came, each in its turn") {
  event e;
  auto main = [&]() -> task<> {
    std::string order;
    auto sets = [&] {
      e.set();
      CHECK(order.empty());
    };
    co_await gather(notes(e, order, "a"), notes(e, order, "b"), notes(e, order, "c"), later(sets));
    CHECK(order == "abc");
  };
  simulate(main());
}

TEST_CASE("an event that is set is not waited for, until it is reset") {
  event e;
  CHECK_FALSE(e.is_set());
  e.set();
  e.set();
  CHECK(e.is_set());
  auto main = [&]() -> task<> {
    std::string order;
    auto first = [&]() -> task<> {
      co_await notes(e, order, "a");
      co_await notes(e, order, "b");
    };
    co_await gather(first(), notes(e, order, "c"));
    CHECK(order == "abc");
    e.reset();
    CHECK_FALSE(e.is_set());
    co_await gather(notes(e, order, "d"), later([&] { e.set(); }, 1s));
    CHECK(order == "abcd");
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
}

TEST_CASE("set and reset in one call wake all who wait, and nobody who comes later") {
  event e;
  auto main = [&]() -> task<> {
    std::string order;
    auto pulses = [&] {
      e.set();
      e.reset();
    };
    auto twice = [&]() -> task<> {
      co_await notes(e, order, "a");
      co_await notes(e, order, "A");
    };
    auto too_late = co_await tandem::try_timeout(2s, gather(twice(), notes(e, order, "b"), later(pulses, 1s)));
    CHECK_FALSE(too_late);
    CHECK(order == "ab");
  };
  simulate(main());
}

TEST_CASE("a stop takes a waiter out; granted and then stopped, it goes on and stops at its next wait") {
  event e;
  auto main = [&]() -> task<> {
    auto late = co_await tandem::try_timeout(1s, e.wait());
    CHECK_FALSE(late);
    std::string order;
    auto waits = [&]() -> task<> {
      co_await notes(e, order, "a");
      co_await notes(e, order, "b");  // it is set, so this is no wait
      co_await yield();
      order += "never";
    };
    co_await race(waits(), later([&] { e.set(); }));
    CHECK(order == "ab");
    auto at_the_limit = [&]() -> task<> { co_await tandem::timeout(1s, e.wait()); };
    e.reset();
    co_await gather(later([&] { e.set(); }, 1s), at_the_limit());
    e.reset();
    auto shielded = [&]() -> task<> {
      co_await tandem::shield(e.wait());
      CHECK(clock::now() == at(4s));
    };
    co_await gather(tandem::try_timeout(1s, shielded()), later([&] { e.set(); }, 2s));
  };
  simulate(main());
}

TEST_CASE("of several events the first to be set decides a race, and the wait for the others is over") {
  event d, e;
  auto main = [&]() -> task<> {
    auto races = [&]() -> task<> {
      auto first = co_await race(sleep_for(1h), d.wait(), e.wait(), e.wait());
      CHECK(first.index() == 2);
    };
    auto sets = [&] {
      e.set();
      d.set();
    };
    co_await gather(races(), later(sets));
    auto at_once = co_await race(sleep_for(1h), d.wait(), e.wait());
    CHECK(at_once.index() == 1);
  };
  simulate(main());
}

TEST_CASE("events under any schedule, stop and end of the context let everyone through who may go") {
  struct state {
    event start, done;
    int ready = 0, through = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto worker = [&](clock::duration before) -> task<> {
          kit::counted here;
          co_await sleep_for(before);
          ++s.ready;
          co_await s.start.wait();
          CHECK(s.start.is_set());
          if (++s.through == 4) s.done.set();
        };
        auto races = [&]() -> task<> {
          auto first = co_await race(s.start.wait(), sleep_for(1s), s.done.wait());
          CHECK((first.index() != 2 || s.done.is_set()));
          if (first.index() == 0) CHECK(s.start.is_set());
        };
        auto starts = [&]() -> task<> {
          co_await sleep_for(1s);
          s.start.set();
          co_await s.done.wait();
          CHECK(s.through == 4);
        };
        co_await gather(worker(0s), worker(1s), races(), worker(0s), starts(), worker(2s));
      },
      [](state& s, kit::end how) {
        if (how == kit::end::returned) CHECK(s.through == 4);
      });
}

TEST_CASE("an event destroyed on its waiters' loop ends their waits with logic_error; elsewhere they are left") {
  constexpr const char* gone = "tandem::event: it was destroyed while this coroutine waited for it";
  enum { by_coroutine, by_handler, elsewhere };
  for (const auto how : {by_coroutine, by_handler, elsewhere}) {
    CAPTURE(how);
    asio::io_context io;
    auto e = std::make_unique<event>();
    std::vector<std::string> said;
    asio::any_io_executor serial;
    auto waits = [&]() -> task<> {
      serial = co_await tandem::this_task::executor;
      said.push_back(co_await thrown_by(e->wait()));
    };
    auto races = [&]() -> task<> { said.push_back(co_await thrown_by(race(sleep_for(1h), e->wait()))); };
    auto destroys = [&] {
      e.reset();
      CHECK(said.empty());
    };
    tandem::spawn(io, waits(), asio::detached);
    tandem::spawn(io, races(), asio::detached);
    io.poll();
    if (how == by_coroutine)
      tandem::spawn(io, later(destroys), asio::detached);
    else if (how == by_handler)
      asio::post(serial, destroys);
    else
      destroys();
    io.restart();
    if (how == elsewhere)
      io.poll();
    else
      io.run();
    CHECK(said == std::vector<std::string>(how == elsewhere ? 0 : 2, gone));
  }
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("an event destroyed after it was set lets those go on whom it granted") {
  auto main = []() -> task<> {
    auto e = std::make_unique<event>();
    std::string order;
    auto destroys = [&] {
      e->set();
      e.reset();
    };
    co_await gather(notes(*e, order, "a"), notes(*e, order, "b"), later(destroys));
    CHECK(order == "ab");
  };
  simulate(main());
}

TEST_CASE("an event waited for on a second loop throws logic_error; one wait awaited by two does too") {
  event e;
  asio::io_context io;
  std::string order, said;
  auto refused = [&]() -> task<> { said = co_await thrown_by(e.wait()); };
  tandem::spawn(asio::make_strand(io), notes(e, order, "a"), asio::detached);
  io.poll();
  tandem::spawn(asio::make_strand(io), refused(), asio::detached);
  io.restart();
  io.poll();
  CHECK(said.find("tandem::event: a coroutine of another loop waits on it") == 0);
  e.set();
  io.restart();
  io.run();
  CHECK(order == "a");

  event f;
  auto main = [&]() -> task<> {
    auto wait = f.wait();
    auto first = [&]() -> task<> {
      co_await wait;
      order += "b";
    };
    auto second = [&](bool is_set) -> task<> {
      co_await yield();
      if (is_set) f.set();  // the first goes on all the same
      try {
        co_await wait;
      } catch (const std::logic_error& x) {
        said = x.what();
      }
      CHECK(said == "tandem: two coroutines await the same event; make one for each");
    };
    co_await gather(first(), second(false), second(true));
    CHECK(order == "ab");
    co_await wait;
  };
  simulate(main());
}

TEST_CASE("who waits for an event or a condition that nobody sets is named in the report of the deadlock") {
  event e;
  condition c;
  auto waits = [&]() -> task<> { co_await c.wait([] { return false; }); };
  auto main = [&]() -> task<> { co_await gather(e.wait(), waits(), c.wait()); };
  std::string report;
  try {
    simulate(main());
  } catch (const tandem::deadlock& d) {
    report = d.what();
  }
  CAPTURE(report);
  CHECK(report.find("waits for event for 0 ms") != std::string::npos);
  CHECK(report.find("waits for condition for 0 ms") != std::string::npos);
}

// ---- condition
// ---------------------------------------------------------------------------------------------------------

namespace {

/// A predicate that only moves.
struct owner {
  explicit owner(std::unique_ptr<bool> b) : value(std::move(b)) {}
  bool operator()() const { return *value; }
  std::unique_ptr<bool> value;
};

/// Takes one as soon as there is one.
struct shop {
  condition changed;
  int stock = 0, sold = 0, asked = 0;

  task<> buys(std::string* order = nullptr, const char* name = "", kit::counted = {}) {
    co_await changed.wait([&] {
      ++asked;
      return stock != 0;
    });
    CHECK(stock != 0);
    --stock;
    ++sold;
    if (order) *order += name;
  }
  void delivers(int n = 1) {
    stock += n;
    for (int i = 0; i != n; ++i) changed.notify_one();
  }
};

}  // namespace

TEST_CASE("a predicate that holds is not waited for; it is asked once") {
  shop s;
  s.stock = 1;
  auto main = [&]() -> task<> {
    std::string order;
    co_await gather(s.buys(&order, "a"), later([&] { order += "b"; }));
    CHECK(order == "ab");
    CHECK(s.asked == 1);
  };
  simulate(main());
}

TEST_CASE(
    "who waits is asked in his turn after a notification, not inside it, and goes on waiting if it does not hold") {
  shop s;
  auto main = [&]() -> task<> {
    std::string order;
    auto empty_notice = [&] {
      s.changed.notify_one();
      CHECK(s.asked == 1);
    };
    auto delivers = [&] {
      CHECK(s.asked == 2);
      CHECK(order.empty());
      s.delivers();
      CHECK(s.asked == 2);
    };
    co_await gather(s.buys(&order, "a"), later(empty_notice, 1s), later(delivers, 2s));
    CHECK(order == "a");
    CHECK(s.asked == 3);
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("when the wait is over the predicate holds, though others ran between the notification and the turn") {
  shop s;
  auto main = [&]() -> task<> {
    std::string order;
    auto takes_it = [&] {
      s.delivers();
      s.stock = 0;  // before the waiter had his turn
    };
    co_await gather(s.buys(&order, "a"), later(takes_it, 1s), later([&] { s.delivers(); }, 2s));
    CHECK(order == "a");
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("notify_one lets the first in line go on whose predicate holds, notify_all everyone's, in order") {
  condition c;
  auto main = [&]() -> task<> {
    std::string order;
    int limit = 0;
    auto waits = [&](int mine, const char* name) -> task<> {
      co_await c.wait([&] { return mine <= limit; });
      order += name;
    };
    auto one = [&] {
      limit = 2;
      c.notify_one();
    };
    auto all = [&] {
      CHECK(order == "c");
      limit = 4;
      c.notify_all();
    };
    auto rest = [&] {
      CHECK(order == "cbde");
      limit = 9;
      c.notify_all();
    };
    co_await gather(waits(9, "a"), waits(3, "b"), waits(2, "c"), waits(2, "d"), waits(4, "e"), later(one, 1s),
                    later(all, 2s), later(rest, 3s));
    CHECK(order == "cbdea");
  };
  simulate(main());
}

TEST_CASE("without a predicate a wait is for the next notification") {
  condition c;
  c.notify_one();
  c.notify_all();  // for nobody
  auto main = [&]() -> task<> {
    std::string order;
    auto waits = [&](const char* name) -> task<> {
      co_await c.wait();
      order += name;
    };
    auto two = [&] {
      c.notify_one();
      c.notify_one();
    };
    co_await gather(waits("a"), waits("b"), waits("c"), later(two, 1s), later([&] { order += "-"; }, 2s),
                    later([&] { c.notify_all(); }, 3s));
    CHECK(order == "ab-c");
  };
  simulate(main());
}

TEST_CASE("what notify_one had for one who is stopped, or whose predicate throws, passes to the next in line") {
  shop s;
  auto main = [&]() -> task<> {
    std::string order;
    {
      auto stopped = [&]() -> task<> { co_await race(s.buys(&order, "never"), later([&] { s.delivers(); }, 1s)); };
      co_await gather(stopped(), s.buys(&order, "a"));
      CHECK(order == "a");
      CHECK(clock::now() == at(1s));
    }
    {
      std::string said;
      auto throws = [&] { return s.stock == 0 ? false : throw std::runtime_error("predicate"); };
      auto waits = [&]() -> task<> { said = co_await thrown_by(s.changed.wait(throws)); };
      co_await gather(waits(), s.buys(&order, "b"), later([&] { s.delivers(); }, 1s));
      CHECK(said == "predicate");
      CHECK(order == "ab");
      CHECK(clock::now() == at(2s));
    }
  };
  simulate(main());
}

TEST_CASE("an exception of the predicate is thrown from the co_await, the first time and later") {
  condition c;
  auto main = [&]() -> task<> {
    bool broken = true;
    auto predicate = [&]() -> bool {
      if (broken) throw std::runtime_error("predicate");
      return false;
    };
    const std::string at_once = co_await thrown_by(c.wait(predicate));
    CHECK(at_once == "predicate");
    broken = false;
    auto breaks = [&] {
      broken = true;
      c.notify_all();
    };
    std::string said;
    auto waits = [&]() -> task<> {
      auto wait = c.wait(predicate);
      try {
        co_await wait;
      } catch (const std::runtime_error& e) {
        said = e.what();
      }
      broken = false;
      auto again = co_await tandem::try_timeout(1s, std::move(wait));  // what it threw is not kept
      CHECK_FALSE(again);
    };
    co_await gather(waits(), later(breaks, 1s));
    CHECK(said == "predicate");
  };
  simulate(main());
}

TEST_CASE("a predicate may notify its own condition, and is not asked again once it held") {
  condition c;
  auto main = [&]() -> task<> {
    std::string order;
    bool holds = false;
    auto notifies = [&]() -> task<> {
      auto wait = c.wait([&] {
        if (holds) c.notify_all();
        return holds;
      });
      co_await wait;
      order += "a";
      co_await sleep_for(1s);  // though the wait is still there
      order += "b";
    };
    auto other = [&]() -> task<> {
      co_await c.wait([&] { return holds; });
      order += "o";
    };
    auto begins = [&] {
      holds = true;
      c.notify_one();
    };
    co_await gather(notifies(), other(), later(begins, 1s));
    CHECK(order == "aob");
    CHECK(clock::now() == at(2s));
  };
  simulate(main());
}

TEST_CASE("a predicate may destroy its condition") {
  auto c = std::make_unique<condition>();
  bool destroys = false;
  std::vector<std::string> said;
  auto main = [&]() -> task<> {
    auto waits = [&](bool answer) -> task<> {
      auto predicate = [&] { return destroys && (c.reset(), answer); };
      auto wait = c->wait(predicate);
      said.push_back(co_await thrown_by(std::move(wait)));
    };
    auto begins = [&] {
      destroys = true;
      c->notify_one();
    };
    for (const bool answer : {true, false}) {
      destroys = false;
      c = std::make_unique<condition>();
      co_await gather(waits(answer), waits(answer), later(begins));
    }
  };
  simulate(main());
  CHECK(said == std::vector<std::string>(4, "tandem::condition: it was destroyed while this coroutine waited for it"));
}

TEST_CASE("a predicate may stop its own coroutine: the notification passes to the next in line") {
  for (const bool answer : {true, false}) {
    shop s;
    asio::io_context io;
    asio::cancellation_signal stop;
    bool cancelled = false;
    auto stopped = [&]() -> task<> {
      auto predicate = [&] {
        if (s.stock == 0) return false;
        stop.emit(asio::cancellation_type::terminal);
        return answer;
      };
      co_await s.changed.wait(predicate);
      FAIL("it was stopped before it had an answer");
    };
    tandem::spawn(io, stopped(),
                  asio::bind_cancellation_slot(stop.slot(), [&](std::exception_ptr e) { cancelled = e != nullptr; }));
    tandem::spawn(io, s.buys(), asio::detached);
    tandem::spawn(io, later([&] { s.delivers(); }), asio::detached);
    io.run();
    CHECK(cancelled);
    CHECK(s.sold == 1);
  }
}

TEST_CASE("a predicate is kept by value, may only move, and std::ref passes it by reference") {
  condition c;
  auto main = [&]() -> task<> {
    auto p = std::make_unique<bool>(false);
    bool* value = p.get();
    auto sets = [&] {
      *value = true;
      c.notify_all();
    };
    co_await gather(c.wait(owner(std::move(p))), later(sets));
    int asked = 0;
    auto counts = [asked]() mutable { return ++asked == 2; };
    auto wait = c.wait(counts);  // a copy
    co_await gather(std::move(wait), later([&] { c.notify_one(); }));
    CHECK(asked == 0);
    auto counts_here = [&asked]() { return ++asked == 2; };
    co_await gather(c.wait(std::ref(counts_here)), later([&] { c.notify_one(); }));
    CHECK(asked == 2);
  };
  simulate(main());
}

TEST_CASE("in a stopped scope a predicate is asked once, and a wait stops") {
  condition c;
  auto main = [&]() -> task<> {
    std::string order;
    auto stopped = [&]() -> task<> {
      while (!co_await tandem::this_task::cancel_requested) co_await tandem::shield(sleep_for(1s));
      co_await c.wait([&] { return true; });
      order += "a";
      co_await c.wait([&] {
        order += "b";
        return false;
      });
      order += "never";
    };
    co_await tandem::try_timeout(500ms, stopped());
    CHECK(order == "ab");
    c.notify_all();
  };
  simulate(main());
}

TEST_CASE("a wait for a condition goes into races, time limits and shields") {
  shop s;
  auto main = [&]() -> task<> {
    auto holds = [&] { return s.stock != 0; };
    auto first = co_await race(s.changed.wait(holds), sleep_for(1s));
    CHECK(first.index() == 1);
    auto late = co_await tandem::try_timeout(1s, s.changed.wait(holds));
    CHECK_FALSE(late);
    auto second = [&]() -> task<> {
      auto one = co_await race(sleep_for(1h), s.changed.wait(holds), s.changed.wait());
      CHECK(one.index() == 1);
    };
    co_await gather(second(), later([&] { s.delivers(); }));
    co_await tandem::shield(s.changed.wait(holds));
  };
  simulate(main());
}

TEST_CASE("no notification is lost: as many go on as there is something for, under any schedule and stop") {
  struct state {
    shop s;
    int delivered = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto impatient = [&](clock::duration d) -> task<> { co_await tandem::try_timeout(d, s.s.buys()); };
        auto races = [&]() -> task<> { co_await race(s.s.buys(), sleep_for(1s)); };
        auto delivers = [&](clock::duration d, int n) -> task<> {
          co_await sleep_for(d);
          s.delivered += n;
          s.s.delivers(n);
        };
        // There is something for everybody who waits for ever, whatever the others do: else kit finds a deadlock.
        co_await gather(impatient(1s), s.s.buys(), races(), s.s.buys(), impatient(2s), s.s.buys(), delivers(1s, 3),
                        delivers(2s, 2), delivers(2s, 1));
      },
      [](state& s, kit::end how) {
        CHECK(s.s.stock + s.s.sold == s.delivered);
        if (how == kit::end::returned) CHECK(s.s.sold >= 3);
      });
}

TEST_CASE("notify_all and predicates of every kind lose nothing under any schedule, stop and end of the context") {
  struct state {
    condition c;
    int phase = 0, through = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto waits = [&](int phase) -> task<> {
          kit::counted here;
          co_await s.c.wait([&s, phase] { return s.phase >= phase; });
          CHECK(s.phase >= phase);
          ++s.through;
        };
        auto advances = [&]() -> task<> {
          for (int i = 0; i != 3; ++i) {
            co_await sleep_for(1s);
            ++s.phase;
            if (i == 1)
              s.c.notify_one();
            else
              s.c.notify_all();
          }
        };
        co_await gather(waits(1), waits(3), waits(2), tandem::try_timeout(2s, waits(2)), advances(), waits(3));
      },
      [](state& s, kit::end how) {
        if (how == kit::end::returned) CHECK(s.through >= 4);
      });
}

TEST_CASE("a condition destroyed on its waiters' loop ends their waits with logic_error; elsewhere they are left") {
  constexpr const char* gone = "tandem::condition: it was destroyed while this coroutine waited for it";
  enum { by_coroutine, by_handler, elsewhere };
  for (const auto how : {by_coroutine, by_handler, elsewhere}) {
    CAPTURE(how);
    asio::io_context io;
    auto c = std::make_unique<condition>();
    std::vector<std::string> said;
    asio::any_io_executor serial;
    int asked = 0;
    auto waits = [&](int n) -> task<> {
      serial = co_await tandem::this_task::executor;
      if (n == 0) {
        said.push_back(co_await thrown_by(c->wait()));
      } else {
        auto predicate = [&] { return ++asked < 0; };
        said.push_back(co_await thrown_by(c->wait(predicate)));
      }
    };
    auto destroys = [&] {
      if (how != elsewhere) c->notify_one();  // the first is to be asked when it goes
      c.reset();
      CHECK(said.empty());
    };
    for (int n : {1, 0, 1}) tandem::spawn(io, waits(n), asio::detached);
    io.poll();
    CHECK(asked == 2);
    if (how == by_coroutine)
      tandem::spawn(io, later(destroys), asio::detached);
    else if (how == by_handler)
      asio::post(serial, destroys);
    else
      destroys();
    io.restart();
    if (how == elsewhere)
      io.poll();
    else
      io.run();
    CHECK(said == std::vector<std::string>(how == elsewhere ? 0 : 3, gone));
    CHECK(asked == 2);
  }
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("a condition destroyed among waiters that are notified or not, under any schedule, leaves nothing behind") {
  struct state {
    std::optional<condition> c{std::in_place};
    bool holds = false;
    int through = 0, ended = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto waits = [&](bool with_predicate) -> task<> {
          kit::counted here;
          try {
            if (with_predicate)
              co_await s.c->wait([&] { return s.holds; });
            else
              co_await s.c->wait();
            ++s.through;
          } catch (const std::logic_error&) {
            ++s.ended;
          }
        };
        auto destroys = [&]() -> task<> {
          co_await sleep_for(1s);
          s.c->notify_one();
          co_await yield();
          s.holds = true;
          s.c->notify_one();
          s.c->notify_one();
          s.c.reset();
        };
        co_await gather(waits(true), waits(false), tandem::try_timeout(1s, waits(true)), waits(true), destroys());
      },
      [](state& s, kit::end how) {
        if (how == kit::end::returned) CHECK(s.through + s.ended >= 3);
      });
}

TEST_CASE("a condition waited for on a second loop throws logic_error; one wait awaited by two does too") {
  condition c;
  asio::io_context io;
  std::string said;
  auto waits = [&]() -> task<> { co_await c.wait(); };
  auto refused = [&]() -> task<> { said = co_await thrown_by(c.wait()); };
  tandem::spawn(asio::make_strand(io), waits(), asio::detached);
  io.poll();
  tandem::spawn(asio::make_strand(io), refused(), asio::detached);
  io.restart();
  io.poll();
  CHECK(said.find("tandem::condition: a coroutine of another loop waits on it") == 0);
  c.notify_all();
  io.restart();
  io.run();

  condition d;
  auto main = [&]() -> task<> {
    bool holds = false, went_on = false;
    auto predicate = [&] { return holds; };
    auto wait = d.wait(predicate);
    auto first = [&]() -> task<> {
      co_await wait;
      went_on = true;
    };
    auto second = [&]() -> task<> {
      for (const bool h : {false, true}) {
        co_await yield();
        holds = h;
        d.notify_one();
        try {
          co_await wait;
        } catch (const std::logic_error& x) {
          said = x.what();
        }
        CHECK(said == "tandem: two coroutines await the same condition; make one for each");
      }
    };
    co_await gather(first(), second());
    CHECK(went_on);
  };
  simulate(main());
}
