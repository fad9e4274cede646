#include <tandem/semaphore.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/race.hpp>
#include <tandem/run.hpp>

#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(strand.hpp)
#include TANDEM_ASIO_HEADER(thread_pool.hpp)

#include <atomic>
#include <chrono>
#include <latch>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using kit::after;
using kit::at;
using kit::thrown_by;
using tandem::clock;
using tandem::concurrent_permit;
using tandem::concurrent_semaphore;
using tandem::gather;
using tandem::permit;
using tandem::race;
using tandem::semaphore;
using tandem::semaphore_closed;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::yield;

namespace {

constexpr std::size_t most_permits = std::size_t(1) << 61;

/// Asks for `count`, notes `name` when it has them, and keeps them for `d`.
task<> keeps(semaphore& s, std::size_t count, clock::duration d, std::string& order, const char* name) {
  permit p = co_await s.acquire(count);
  order += name;
  co_await sleep_for(d);
}

/// Nothing is out, nobody waits.
void check_all_back(const semaphore& s, std::size_t capacity) {
  const auto stats = s.stats();
  CHECK(stats.available == capacity);
  CHECK(stats.capacity == capacity);
  CHECK(stats.waiting == 0);
}

/// A semaphore, and what the coroutines say they have of it.
struct ledger {
  explicit ledger(std::size_t permits) : s(permits) {}
  semaphore s;
  std::size_t out = 0;
  std::uint64_t granted = 0;

  /// Somebody has these, until what this gives is destroyed.
  auto counts(const permit& p) {
    out += p.count();
    ++granted;
    CHECK(out <= s.capacity());
    CHECK(s.available() + out <= s.capacity());
    return kit::at_exit([this, n = p.count()] { out -= n; });
  }
  task<> uses(std::size_t count, clock::duration d, kit::counted = {}) {
    permit p = co_await s.acquire(count);
    const auto entry = counts(p);
    co_await sleep_for(d);
  }
  void check_end() const {
    CHECK(out == 0);
    check_all_back(s, s.capacity());
    CHECK(s.stats().acquired >= granted);
  }
};

}  // namespace

// ---- acquiring and giving back
// -----------------------------------------------------------------------------------------

TEST_CASE("acquire does not suspend while there are permits, and a permit comes back when it is destroyed") {
  semaphore s(2);
  auto main = [&]() -> task<> {
    std::string order;
    auto takes = [&](const char* name) -> task<> {
      permit p = co_await s.acquire();
      CHECK(p);
      CHECK(p.count() == 1);
      order += name;
    };
    auto first = [&]() -> task<> {
      co_await takes("a");
      co_await takes("b");
      co_await takes("c");
    };
    co_await gather(first(), takes("d"));
    CHECK(order == "abcd");
    CHECK(s.available() == 2);
    permit p = co_await s.acquire();
    CHECK(s.available() == 1);
    CHECK(s.capacity() == 2);
  };
  simulate(main());
  check_all_back(s, 2);
}

TEST_CASE("a permit may stand for several") {
  semaphore s(5);
  auto main = [&]() -> task<> {
    permit p = co_await s.acquire(3);
    CHECK(p.count() == 3);
    CHECK(s.available() == 2);
    permit q = s.try_acquire(2);
    CHECK(q.count() == 2);
    CHECK(s.available() == 0);
    p.release();
    CHECK(p.count() == 0);
    CHECK(s.available() == 3);
  };
  simulate(main());
  check_all_back(s, 5);
}

TEST_CASE("try_acquire gives an empty permit if there are too few, or if somebody waits, and works outside a loop") {
  semaphore s(2);
  {
    permit p = s.try_acquire();
    CHECK(p);
    CHECK_FALSE(s.try_acquire(2));
    CHECK(s.try_acquire());
  }
  auto main = [&]() -> task<> {
    std::string order;
    auto asks = [&]() -> task<> {
      permit p = s.try_acquire();
      co_await yield();
      CHECK(s.waiting() == 1);  // for two, and one is there
      CHECK(s.available() == 1);
      CHECK_FALSE(s.try_acquire());
    };
    co_await gather(asks(), keeps(s, 2, 0s, order, "h"));
  };
  simulate(main());
  check_all_back(s, 2);
}

TEST_CASE("a semaphore of no permits lets everyone wait until resize gives some") {
  semaphore s(0);
  auto main = [&]() -> task<> {
    std::string order;
    auto gives = [&]() -> task<> {
      co_await sleep_for(1s);
      CHECK(order.empty());
      CHECK(s.waiting() == 2);
      s.resize(2);
    };
    co_await gather(keeps(s, 2, 1s, order, "a"), keeps(s, 1, 1s, order, "b"), gives());
    CHECK(order == "ab");
    CHECK(clock::now() == at(3s));
  };
  simulate(main());
  check_all_back(s, 2);
}

// ---- the line
// ----------------------------------------------------------------------------------------------------------

TEST_CASE("those who wait are served in the order in which they came") {
  semaphore s(1);
  auto main = [&]() -> task<> {
    std::string order;
    co_await gather(keeps(s, 1, 1s, order, "a"), keeps(s, 1, 1s, order, "b"), keeps(s, 1, 1s, order, "c"),
                    keeps(s, 1, 1s, order, "d"));
    CHECK(order == "abcd");
    CHECK(clock::now() == at(4s));
  };
  simulate(main());
}

TEST_CASE("who asks for many is not overtaken by those who ask for few") {
  semaphore s(3);
  auto main = [&]() -> task<> {
    std::string order;
    co_await gather(keeps(s, 2, 1s, order, "a"), keeps(s, 3, 1s, order, "H"), keeps(s, 1, 1s, order, "b"),
                    keeps(s, 1, 1s, order, "c"));
    CHECK(order == "aHbc");
    CHECK(clock::now() == at(3s));
  };
  simulate(main());
}

TEST_CASE("a permit that comes back is the first waiter's before anyone else can ask for it") {
  semaphore s(1);
  auto main = [&]() -> task<> {
    std::string order;
    auto barges = [&]() -> task<> {
      permit p = co_await s.acquire();
      co_await yield();
      p.release();
      CHECK(order.empty());  // the waiter goes on in its turn, not inside release
      CHECK(s.waiting() == 0);
      CHECK(s.available() == 0);
      CHECK_FALSE(s.try_acquire());
      p = co_await s.acquire();
      order += "b";
    };
    co_await gather(barges(), keeps(s, 1, 0s, order, "a"));
    CHECK(order == "ab");
  };
  simulate(main());
}

TEST_CASE("a stop takes a waiter out of the line; who asked for many lets those behind him through") {
  semaphore s(3);
  auto main = [&]() -> task<> {
    std::string order;
    auto gives_up = [&]() -> task<> {
      auto in_time = co_await tandem::try_timeout(1s, keeps(s, 3, 1s, order, "H"));
      CHECK_FALSE(in_time);
      CHECK(s.waiting() == 0);
    };
    auto last = [&]() -> task<> {
      permit p = co_await s.acquire();
      order += "c";
      CHECK(clock::now() == at(1s));
    };
    co_await gather(keeps(s, 1, 5s, order, "a"), gives_up(), keeps(s, 1, 1s, order, "b"), last());
    CHECK(order == "abc");
    CHECK(s.stats().gave_up == 1);
  };
  simulate(main());
  check_all_back(s, 3);
}

TEST_CASE("one permit and a loop of acquire, spawn and move ends: a child's permit is back before anyone is woken") {
  semaphore s(1);
  auto main = [&]() -> task<> {
    int done = 0;
    auto work = [&](permit) -> task<> {
      co_await sleep_for(1s);
      ++done;
    };
    const auto here = co_await tandem::this_task::executor;
    for (int i = 0; i != 5; ++i) {
      auto p = co_await s.acquire();
      tandem::spawn(here, work(std::move(p)), asio::detached);
    }
    auto last = co_await s.acquire();
    CHECK(done == 5);
  };
  simulate(main());
  check_all_back(s, 1);
}

TEST_CASE("permits are handed over in the order of arrival under any schedule, and none is lost or doubled") {
  struct state : ledger {
    state() : ledger(1) {}
    int arrived = 0, last = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto one = [&](clock::duration before) -> task<> {
          kit::counted here;
          co_await sleep_for(before);
          const int number = ++s.arrived;
          permit p = co_await s.s.acquire();
          const auto entry = s.counts(p);
          CHECK(number > s.last);
          s.last = number;
          co_await yield();
        };
        auto twice = [&]() -> task<> {
          co_await one(0s);
          co_await one(0s);
        };
        co_await gather(twice(), one(0s), one(1s), tandem::try_timeout(1s, one(0s)), twice());
      },
      [](state& s, kit::end how) {
        s.check_end();
        if (how == kit::end::returned) CHECK(s.granted >= 6);
      });
}

TEST_CASE("permits of any number are handed over under any schedule, stop and end of the context") {
  struct state : ledger {
    state() : ledger(3) {}
    int heavy_arrived = 0, heavy_gone = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto heavy = [&]() -> task<> {
          kit::counted here;
          ++s.heavy_arrived;
          bool is_served = false;
          const kit::at_exit gone([&] { s.heavy_gone += !is_served; });
          permit p = co_await s.s.acquire(3);
          const auto entry = s.counts(p);
          is_served = true;
          ++s.heavy_gone;
          co_await yield();
        };
        auto light = [&](std::size_t count) -> task<> {
          const int before = s.heavy_arrived;
          permit p = co_await s.s.acquire(count);
          const auto entry = s.counts(p);
          const bool is_stopped = co_await tandem::this_task::cancel_requested;
          CHECK((is_stopped || s.heavy_gone >= before));  // nobody who came later is first
          co_await sleep_for(1s);
        };
        co_await gather(light(1), heavy(), light(2), tandem::try_timeout(1s, s.uses(3, 1s)), light(1), heavy());
      },
      [](state& s, kit::end) { s.check_end(); });
}

// ---- stops
// -------------------------------------------------------------------------------------------------------------

TEST_CASE("granted, then stopped: the permit is given, and the next wait stops") {
  semaphore s(1);
  auto main = [&]() -> task<> {
    bool had_it = false, went_on = false;
    auto waits = [&]() -> task<> {
      permit p = co_await s.acquire();
      had_it = true;
      co_await yield();
      went_on = true;
    };
    auto releases = [&](permit p) -> task<> {
      co_await yield();
      p.release();  // and ends, which stops the other
    };
    auto first = co_await race(waits(), releases(s.try_acquire()));
    CHECK(first.index() == 1);
    CHECK(had_it);
    CHECK_FALSE(went_on);
  };
  simulate(main());
  check_all_back(s, 1);
}

TEST_CASE("in a stopped scope a permit that is there is given, and one that is not stops") {
  semaphore s(1);
  auto main = [&]() -> task<> {
    bool had_it = false, had_two = false;
    auto stopped = [&]() -> task<> {
      while (!co_await tandem::this_task::cancel_requested) co_await tandem::shield(sleep_for(1s));
      permit p = co_await s.acquire();
      had_it = true;
      permit q = co_await s.acquire();
      had_two = true;
    };
    co_await tandem::try_timeout(500ms, stopped());
    CHECK(had_it);
    CHECK_FALSE(had_two);
    CHECK(s.stats().waited == 0);
  };
  simulate(main());
  check_all_back(s, 1);
}

TEST_CASE("timeout, try_timeout and deadline around acquire give the permit or leave the line") {
  semaphore s(1);
  auto main = [&]() -> task<> {
    permit p = co_await tandem::timeout(1s, s.acquire());
    CHECK(p);
    const std::string late = co_await thrown_by(tandem::timeout(1s, s.acquire()));
    CHECK(late.find("timed_out") != std::string::npos);
    std::optional<permit> q = co_await tandem::try_timeout(1s, s.acquire());
    CHECK_FALSE(q.has_value());
    CHECK(s.waiting() == 0);
    CHECK(clock::now() == at(2s));
    auto releases = [&]() -> task<> {
      co_await sleep_for(1s);
      p.release();  // at the instant of the limit
    };
    auto waits = [&]() -> task<> {
      permit r = co_await tandem::deadline(at(3s), s.acquire());
      CHECK(r);
    };
    co_await gather(releases(), waits());
  };
  simulate(main());
  check_all_back(s, 1);
}

TEST_CASE("gather of two acquires gives both, and shield finishes its wait before it stops") {
  semaphore s(2);
  auto main = [&]() -> task<> {
    {
      auto both = co_await gather(s.acquire(), s.acquire());
      CHECK(s.available() == 0);
      auto& [p, q] = both;
      auto shielded = [&]() -> task<> {
        permit r = co_await tandem::shield(s.acquire(2));
        CHECK(r.count() == 2);
        CHECK(clock::now() == at(2s));
        co_await yield();
        CHECK(false);
      };
      auto releases = [&]() -> task<> {
        co_await sleep_for(2s);
        p.release();
        q.release();
      };
      auto limited = [&]() -> task<> { co_await tandem::try_timeout(1s, shielded()); };
      co_await gather(limited(), releases());
    }
    check_all_back(s, 2);
  };
  simulate(main());
}

// ---- the ends of a semaphore
// -------------------------------------------------------------------------------------------

TEST_CASE("the context goes before the semaphore: waiters and holders are destroyed, and every permit is back") {
  semaphore s(2);
  {
    asio::io_context io;
    std::string order;
    tandem::spawn(io, keeps(s, 2, 1h, order, "a"), asio::detached);
    for (int i = 0; i != 3; ++i) tandem::spawn(io, keeps(s, 1, 1h, order, "b"), asio::detached);
    io.poll();
    CHECK(order == "a");
    CHECK(s.waiting() == 3);
  }
  check_all_back(s, 2);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("the context goes while a permit is on its way: it comes back") {
  semaphore s(1);
  for (int i = 0; i != 2; ++i) {
    asio::io_context io;
    std::string order;
    permit p = s.try_acquire();
    tandem::spawn(io, keeps(s, 1, 1h, order, "a"), asio::detached);
    tandem::spawn(io, keeps(s, 1, 1h, order, "b"), asio::detached);
    io.poll();
    if (i == 0) p.release();
    CHECK(s.waiting() == (i == 0 ? 1 : 2));
    CHECK(order.empty());
  }
  check_all_back(s, 1);
}

TEST_CASE("the semaphore goes before the context: its waiters are left where they are, its permits stay valid") {
  {
    asio::io_context io;
    auto s = std::make_unique<semaphore>(1);
    std::string order;
    permit kept;
    kit::gate gate;
    auto holds = [&]() -> task<> {
      kept = co_await s->acquire();
      co_await gate.wait();
      kept.release();
      order += "released ";
    };
    auto races = [&]() -> task<> {
      co_await race(s->acquire(), sleep_for(1h));
      order += "raced ";
    };
    tandem::spawn(io, holds(), asio::detached);
    tandem::spawn(io, keeps(*s, 1, 0s, order, "waiter "), asio::detached);
    tandem::spawn(io, races(), asio::detached);
    io.poll();
    CHECK(kept);
    CHECK(s->waiting() == 2);
    s.reset();
    CHECK(kept);
    gate.open();
    io.restart();
    io.poll();
    CHECK(order == "released ");
  }
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("destroyed by a coroutine, or by a handler of its waiters' loop, it ends their waits with semaphore_closed") {
  for (const bool by_handler : {false, true}) {
    CAPTURE(by_handler);
    asio::io_context io;
    auto s = std::make_unique<semaphore>(1);
    permit kept = s->try_acquire();
    std::vector<std::string> said;
    asio::any_io_executor serial;
    auto waits = [&]() -> task<> {
      serial = co_await tandem::this_task::executor;
      said.push_back(co_await thrown_by(s->acquire()));
    };
    auto races = [&]() -> task<> { said.push_back(co_await thrown_by(race(sleep_for(1h), s->acquire()))); };
    auto destroys = [&]() -> task<> {
      co_await yield();
      s.reset();
      CHECK(said.empty());
    };
    tandem::spawn(io, waits(), asio::detached);
    tandem::spawn(io, races(), asio::detached);
    if (by_handler) {
      io.poll();
      asio::post(serial, [&] { s.reset(); });
    } else {
      tandem::spawn(io, destroys(), asio::detached);
    }
    io.restart();
    io.run();
    CHECK(said == std::vector<std::string>(2, "tandem::semaphore_closed"));
    CHECK(kept.count() == 1);
  }
}

TEST_CASE("destroyed after it granted a permit, the waiter gets it all the same") {
  auto main = []() -> task<> {
    auto s = std::make_unique<semaphore>(1);
    permit p = co_await s->acquire();
    bool had_it = false;
    auto waits = [&]() -> task<> {
      permit q = co_await s->acquire();
      had_it = q.count() == 1;
    };
    auto destroys = [&]() -> task<> {
      co_await yield();
      p.release();
      s.reset();
    };
    co_await gather(waits(), destroys());
    CHECK(had_it);
  };
  simulate(main());
}

TEST_CASE("a semaphore in a frame, with workers spawned beside it, goes with its frame") {
  std::string order;
  auto main = [&]() -> task<> {
    semaphore s(1);
    const auto here = co_await tandem::this_task::executor;
    auto p = co_await s.acquire();
    for (int i = 0; i != 3; ++i) tandem::spawn(here, keeps(s, 1, 1h, order, "got it "), asio::detached);
    co_await yield();
    CHECK(s.waiting() == 3);
  };
  simulate(main());
  tandem::run(main());
  CHECK(order == "got it got it ");  // the first in line, when p went before s
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("a semaphore destroyed among waiters, holders and races under any schedule loses nothing") {
  struct state {
    std::optional<semaphore> s{2};
    int closed = 0, had = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto uses = [&](std::size_t count, clock::duration before) -> task<> {
          kit::counted here;
          co_await sleep_for(before);
          if (!s.s) co_return;
          try {
            permit p = co_await s.s->acquire(count);
            ++s.had;
            co_await sleep_for(2s);
          } catch (const semaphore_closed&) {
            ++s.closed;
          }
        };
        auto races = [&]() -> task<> {
          try {
            auto first = co_await race(s.s->acquire(2), s.s->acquire(1), sleep_for(9s));
            s.had += first.index() != 2;
          } catch (const semaphore_closed&) {
            ++s.closed;
          }
        };
        auto destroys = [&]() -> task<> {
          co_await sleep_for(1s);
          s.s.reset();
        };
        co_await gather(uses(1, 0s), uses(2, 0s), races(), uses(1, 1s), destroys());
      },
      [](state& s, kit::end how) {
        if (how == kit::end::returned) {
          CHECK(s.had >= 1);
          CHECK(s.had + s.closed >= 3);
        }
      });
}

TEST_CASE("close ends every wait with semaphore_closed, now and later, and permits that are out stay valid") {
  semaphore s(2);
  auto main = [&]() -> task<> {
    permit p = co_await s.acquire();
    std::string said;
    auto waits = [&]() -> task<> { said = co_await thrown_by(s.acquire(2)); };
    auto closes = [&]() -> task<> {
      co_await yield();
      s.close();
      CHECK(said.empty());
      CHECK(s.waiting() == 0);
      CHECK(s.available() == 1);
      s.close();
    };
    co_await gather(waits(), closes());
    CHECK(said == "tandem::semaphore_closed");
    const std::string later = co_await thrown_by(s.acquire());
    CHECK(later == said);
    CHECK_THROWS_AS(s.try_acquire(), semaphore_closed);
    CHECK(p.count() == 1);
    p.release();
    CHECK(s.available() == 2);
    s.resize(3);
    CHECK(s.available() == 3);
    const std::string still = co_await thrown_by(s.acquire());
    CHECK(still == said);
  };
  simulate(main());
  check_all_back(s, 3);
}

TEST_CASE("nothing is granted by what a race leaves behind when its semaphore is closed") {
  semaphore s(2);
  auto main = [&]() -> task<> {
    permit p = co_await s.acquire();
    std::string said, behind;
    auto races = [&]() -> task<> { said = co_await thrown_by(race(s.acquire(2), s.acquire(1))); };
    auto waits = [&]() -> task<> { behind = co_await thrown_by(s.acquire(1)); };
    auto closes = [&]() -> task<> {
      co_await yield();
      s.close();
    };
    co_await gather(races(), waits(), closes());
    CHECK(said == "tandem::semaphore_closed");
    CHECK(behind == said);
  };
  simulate(main());
  check_all_back(s, 2);
}

// ---- resize
// ------------------------------------------------------------------------------------------------------------

TEST_CASE("a larger number serves those who wait at once, in order") {
  semaphore s(1);
  auto main = [&]() -> task<> {
    std::string order;
    auto grows = [&]() -> task<> {
      co_await sleep_for(1s);
      s.resize(4);
      CHECK(s.available() == 0);
      CHECK(s.capacity() == 4);
      CHECK(s.waiting() == 1);
    };
    co_await gather(keeps(s, 1, 9s, order, "a"), keeps(s, 1, 9s, order, "b"), keeps(s, 1, 1s, order, "c"),
                    keeps(s, 1, 9s, order, "d"), keeps(s, 1, 0s, order, "e"), grows());
    CHECK(order == "abcde");
    CHECK(clock::now() == at(10s));
  };
  simulate(main());
  check_all_back(s, 4);
}

TEST_CASE("a smaller number takes a debt, which what comes back pays first") {
  semaphore s(4);
  auto main = [&]() -> task<> {
    permit a = co_await s.acquire(), b = co_await s.acquire(2), c = co_await s.acquire();
    s.resize(1);
    CHECK(s.available() == 0);
    CHECK(s.capacity() == 1);
    a.release();
    CHECK(s.available() == 0);
    CHECK_FALSE(s.try_acquire());
    std::string order;
    auto pays = [&]() -> task<> {
      co_await yield();
      CHECK(s.waiting() == 1);
      b.release();
      CHECK(s.waiting() == 1);
      c.release();
      CHECK(s.waiting() == 0);
    };
    co_await gather(keeps(s, 1, 0s, order, "w"), pays());
    CHECK(order == "w");
    CHECK(s.available() == 1);
    s.resize(3);
    CHECK(s.available() == 3);
  };
  simulate(main());
  check_all_back(s, 3);
}

TEST_CASE("a debt without waiters is paid too, and growing forgives it") {
  semaphore s(3);
  permit a = s.try_acquire(3);
  s.resize(1);
  s.resize(2);
  CHECK(s.available() == 0);
  a.release();
  check_all_back(s, 2);
  a = s.try_acquire(2);
  s.resize(1);
  s.resize(5);
  CHECK(s.available() == 3);
  a.release();
  check_all_back(s, 5);
}

TEST_CASE("0 is a pause: nobody is refused, and all go on in order afterwards") {
  semaphore s(2);
  auto main = [&]() -> task<> {
    std::string order;
    auto pauses = [&]() -> task<> {
      s.resize(0);
      co_await sleep_for(1s);
      CHECK(order.empty());
      CHECK_FALSE(s.try_acquire());
      CHECK(s.waiting() == 3);
      s.resize(2);
    };
    co_await gather(pauses(), keeps(s, 1, 1s, order, "a"), keeps(s, 2, 1s, order, "b"), keeps(s, 1, 1s, order, "c"));
    CHECK(order == "abc");
    CHECK(clock::now() == at(4s));
  };
  simulate(main());
  check_all_back(s, 2);
}

TEST_CASE("who is first in line and asks for more than there are now is refused, and those behind go on") {
  semaphore s(5);
  auto main = [&]() -> task<> {
    std::string order, said;
    auto asks = [&]() -> task<> { said = co_await thrown_by(s.acquire(5)); };
    auto shrinks = [&]() -> task<> {
      co_await sleep_for(1s);
      s.resize(3);
      CHECK(s.waiting() == 0);
    };
    co_await gather(keeps(s, 1, 5s, order, "a"), asks(), keeps(s, 2, 1s, order, "b"), shrinks());
    CHECK(said == "tandem::semaphore: acquiring 5 permits of 3 would wait for ever");
    CHECK(order == "ab");
    auto made_before = s.acquire(3);
    s.resize(2);
    const std::string late = co_await thrown_by(std::move(made_before));
    CHECK(late == "tandem::semaphore: acquiring 3 permits of 2 would wait for ever");

    // Behind another he waits on, and is served if there are enough again when he is first.
    s.resize(5);
    permit p = s.try_acquire(4);
    auto changes = [&]() -> task<> {
      co_await yield();
      s.resize(4);
      CHECK(s.waiting() == 2);
      s.resize(5);
      p.release();
    };
    order.clear();
    co_await gather(keeps(s, 2, 0s, order, "c"), keeps(s, 5, 0s, order, "d"), changes());
    CHECK(order == "cd");
  };
  simulate(main());
  check_all_back(s, 5);
}

TEST_CASE("a semaphore resized and closed among waiters under any schedule keeps its books") {
  struct state : ledger {
    state() : ledger(3) {}
    int refused = 0, closed = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto uses = [&](std::size_t count, clock::duration d) -> task<> {
          kit::counted here;
          try {
            permit p = co_await s.s.acquire(count);
            s.out += count;
            const kit::at_exit entry([&s, count] { s.out -= count; });
            CHECK((s.s.available() == 0 || s.s.available() + s.out <= s.s.capacity()));
            co_await sleep_for(d);
          } catch (const std::invalid_argument&) {
            ++s.refused;
          } catch (const semaphore_closed&) {
            ++s.closed;
          }
        };
        auto resizes = [&]() -> task<> {
          for (const std::size_t n : {1u, 0u, 2u, 3u, 1u}) {
            co_await sleep_for(1s);
            s.s.resize(n);
          }
          co_await sleep_for(1s);
          s.s.close();
        };
        co_await gather(uses(1, 2s), uses(2, 1s), uses(3, 2s), uses(1, 1s), uses(2, 9s), uses(2, 1s), resizes());
      },
      [](state& s, kit::end) { s.check_end(); });
}

// ---- permits
// -----------------------------------------------------------------------------------------------------------

TEST_CASE("a permit moves, gives back once, and may be released early, assigned to itself or to another") {
  STATIC_REQUIRE_FALSE(std::is_copy_constructible_v<permit>);
  STATIC_REQUIRE_FALSE(std::is_copy_assignable_v<permit>);
  STATIC_REQUIRE(std::is_nothrow_move_constructible_v<permit>);
  STATIC_REQUIRE(std::is_nothrow_move_assignable_v<permit>);
  semaphore s(6);
  permit none;
  CHECK_FALSE(none);
  CHECK(none.count() == 0);
  none.release();

  permit a = s.try_acquire(2);
  permit b = std::move(a);
  CHECK_FALSE(a);
  CHECK(a.count() == 0);
  CHECK(b.count() == 2);
  CHECK(s.available() == 4);
  permit& self = b;
  b = std::move(self);
  CHECK(b.count() == 2);
  permit c = s.try_acquire(3);
  b = std::move(c);  // gives back the two
  CHECK(b.count() == 3);
  CHECK(s.available() == 3);
  b.release();
  b.release();
  CHECK(s.available() == 6);
  b = s.try_acquire();
  CHECK(s.available() == 5);
  b = permit();
  CHECK(s.available() == 6);
}

TEST_CASE("a permit may outlive its semaphore, and so may the last of several and one of another") {
  permit a, b;
  semaphore other(1);
  {
    semaphore s(3);
    a = s.try_acquire(2);
    b = s.try_acquire();
  }
  CHECK(a.count() == 2);
  a = other.try_acquire();
  CHECK(other.available() == 0);
  b = std::move(a);
  CHECK(other.available() == 0);
  b.release();
  CHECK(other.available() == 1);
}

TEST_CASE("permits are kept in containers and given back in any order") {
  semaphore s(10);
  std::vector<permit> all;
  for (int i = 0; i != 10; ++i) all.push_back(s.try_acquire());
  CHECK_FALSE(s.try_acquire());
  all.erase(all.begin() + 3);
  CHECK(s.available() == 1);
  all.clear();
  check_all_back(s, 10);
}

// ---- races
// -------------------------------------------------------------------------------------------------------------

TEST_CASE("of two acquires in a race exactly one takes effect") {
  semaphore left(1), right(1);
  auto main = [&]() -> task<> {
    {
      auto first = co_await race(left.acquire(), right.acquire());  // both could
      CHECK(first.index() == 0);
      CHECK(first.value().count() == 1);
      CHECK(right.available() == 1);
    }
    permit p = co_await left.acquire(), q = co_await right.acquire();
    auto releases = [&]() -> task<> {
      co_await yield();
      q.release();
      p.release();  // nobody waits there any more
      CHECK(left.available() == 1);
      CHECK(right.available() == 0);
    };
    auto races = [&]() -> task<> {
      auto first = co_await race(left.acquire(), right.acquire());
      CHECK(first.index() == 1);
    };
    co_await gather(races(), releases());
  };
  simulate(main());
  check_all_back(left, 1);
  check_all_back(right, 1);
  CHECK(left.stats().gave_up == 1);  // the loser of the second race
}

TEST_CASE("both arms of a race may wait for one semaphore") {
  semaphore s(3);
  auto main = [&]() -> task<> {
    permit p = co_await s.acquire(3);
    std::string order;
    auto releases = [&]() -> task<> {
      co_await yield();
      p.release();
    };
    auto races = [&]() -> task<> {
      auto first = co_await race(s.acquire(2), s.acquire(1));
      CHECK(first.index() == 0);
      CHECK(s.waiting() == 0);
      order += "r";
    };
    co_await gather(races(), releases(), keeps(s, 1, 0s, order, "a"));
    CHECK(order == "ra");
  };
  simulate(main());
  check_all_back(s, 3);
}

TEST_CASE("races that wait for two semaphores crosswise let each other through") {
  semaphore left(2), right(2);
  auto main = [&]() -> task<> {
    std::string order;
    permit p = co_await left.acquire(2), q = co_await right.acquire();
    auto one = [&](semaphore& a, std::size_t n, semaphore& b, std::size_t m, const char* name) -> task<> {
      auto first = co_await race(a.acquire(n), b.acquire(m));
      order += name;
      order += first.index() == 0 ? "0" : "1";
      co_await sleep_for(1s);
    };
    auto releases = [&]() -> task<> {
      co_await yield();
      CHECK(order.empty());
      p.release();
    };
    // a gets two of left and leaves the head of right, which b gets and leaves the head of left, and so on.
    co_await gather(one(left, 2, right, 2, "a"), one(right, 1, left, 2, "b"), one(left, 1, right, 2, "c"), releases());
    CHECK(order == "b0a0c0");
  };
  simulate(main());
  check_all_back(left, 2);
  check_all_back(right, 2);
}

TEST_CASE("what a race has won and cannot give, because a loser fails, goes to the next in line") {
  semaphore s(1);
  auto main = [&]() -> task<> {
    std::string order;
    auto cleans_up = []() -> task<> {
      co_await sleep_for(1s);
      throw std::runtime_error("clean-up");
    };
    auto loser = [&]() -> task<> { co_await tandem::finally(sleep_for(1h), cleans_up); };
    auto races = [&]() -> task<> {
      const std::string said = co_await thrown_by(race(loser(), s.acquire()));
      CHECK(said == "clean-up");
    };
    co_await gather(races(), keeps(s, 1, 0s, order, "a"));
    CHECK(order == "a");
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
  check_all_back(s, 1);
}

TEST_CASE("races of acquires, decided at once, later or never, lose nothing under any schedule and stop") {
  struct state {
    ledger left{2}, right{1};
    int timed_out = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto cleans_up = [&]() -> task<> {
          kit::counted here;
          co_await tandem::finally(sleep_for(5s), [&]() -> task<> { co_await yield(); });
        };
        auto races = [&](std::size_t n) -> task<> {
          kit::counted here;
          auto first = co_await race(s.left.s.acquire(n), s.right.s.acquire(), cleans_up());
          if (first.index() == 0) {
            const auto entry = s.left.counts(first.get<0>());
            co_await yield();
          } else if (first.index() == 1) {
            const auto entry = s.right.counts(first.get<1>());
            co_await sleep_for(1s);
          }
        };
        auto of_one = [&]() -> task<> {
          auto first = co_await race(s.left.s.acquire(2), s.left.s.acquire(1), sleep_for(2s));
          s.timed_out += first.index() == 2;
        };
        co_await gather(races(1), races(2), of_one(), s.left.uses(2, 1s), s.right.uses(1, 1s), of_one());
      },
      [](state& s, kit::end) {
        s.left.check_end();
        s.right.check_end();
      });
}

// ---- what is refused, and what is told
// ---------------------------------------------------------------------------------

TEST_CASE("numbers that can never be had are refused") {
  semaphore s(3);
  CHECK_THROWS_WITH(s.acquire(0), "tandem::semaphore: acquiring 0 permits; it must be at least 1");
  CHECK_THROWS_AS(s.try_acquire(0), std::invalid_argument);
  CHECK_THROWS_WITH(s.acquire(4), "tandem::semaphore: acquiring 4 permits of 3 would wait for ever");
  CHECK_THROWS_AS(s.try_acquire(4), std::invalid_argument);
  CHECK_THROWS_WITH(s.acquire(most_permits + 1), "tandem::semaphore: 2305843009213693953 permits are more than 2^61");
  CHECK_THROWS_AS(semaphore(most_permits + 1), std::invalid_argument);
  CHECK_THROWS_AS(s.resize(std::numeric_limits<std::size_t>::max()), std::invalid_argument);
  check_all_back(s, 3);

  semaphore empty(0), full(most_permits);
  CHECK_THROWS_AS(empty.try_acquire(std::numeric_limits<std::size_t>::max()), std::invalid_argument);
  CHECK_THROWS_AS(empty.try_acquire(std::size_t(1) << 63), std::invalid_argument);
  CHECK_FALSE(empty.try_acquire(most_permits));
  permit p = full.try_acquire(most_permits);
  CHECK(p.count() == most_permits);
  full.resize(0);
  CHECK(full.available() == 0);
  full.close();
  p.release();
  check_all_back(full, 0);
}

TEST_CASE("a wait on another loop than that of the first waiter throws logic_error that names concurrent_semaphore") {
  semaphore s(1);
  asio::io_context io;
  permit p = s.try_acquire();
  std::string order, said;
  auto refused = [&]() -> task<> { said = co_await thrown_by(s.acquire()); };
  tandem::spawn(asio::make_strand(io), keeps(s, 1, 0s, order, "a"), asio::detached);
  io.poll();
  tandem::spawn(asio::make_strand(io), refused(), asio::detached);
  io.restart();
  io.poll();
  CHECK(said.find("tandem::semaphore: a coroutine of another loop waits on it") == 0);
  CHECK(said.find("concurrent_semaphore") != std::string::npos);
  p.release();
  io.restart();
  io.run();
  CHECK(order == "a");
  check_all_back(s, 1);
}

TEST_CASE("one acquire awaited by two coroutines, or again after a wait, throws logic_error, and no permit is lost") {
  semaphore s(2);
  auto main = [&]() -> task<> {
    std::string said;
    {
      permit p = co_await s.acquire(2);
      auto wait = s.acquire();
      auto first = [&]() -> task<> {
        permit q = co_await wait;
        CHECK(q.count() == 1);
      };
      auto second = [&](clock::duration d) -> task<> {
        co_await sleep_for(d);
        try {
          permit q = co_await wait;
        } catch (const std::logic_error& e) {
          said += e.what();
        }
        p.release();
        if (d == 0s) said += ", ";
      };
      co_await gather(first(), second(0s), second(1s));
    }
    const std::string twice = "tandem: an operation of a primitive is awaited twice; make one for each co_await";
    CHECK(said == twice + ", " + twice);
  };
  simulate(main());
  check_all_back(s, 2);
}

TEST_CASE("stats count what happened") {
  semaphore s(2);
  auto main = [&]() -> task<> {
    std::string order;
    auto gives_up = [&]() -> task<> { co_await tandem::try_timeout(1s, s.acquire(2)); };
    co_await gather(keeps(s, 2, 2s, order, "a"), keeps(s, 1, 1s, order, "b"), gives_up(), keeps(s, 1, 1s, order, "c"));
    permit p = s.try_acquire();
    const auto stats = s.stats();
    CHECK(stats.capacity == 2);
    CHECK(stats.available == 1);
    CHECK(stats.waiting == 0);
    CHECK(stats.most_waiting == 3);
    CHECK(stats.acquired == 4);
    CHECK(stats.waited == 3);
    CHECK(stats.gave_up == 1);
  };
  simulate(main());
  STATIC_REQUIRE(std::is_aggregate_v<tandem::semaphore_stats>);
}

namespace {

std::string report_of(task<> t) {
  try {
    simulate(std::move(t));
  } catch (const tandem::deadlock& d) {
    return d.what();
  }
  return "";
}

}  // namespace

TEST_CASE("the report of a deadlock says who waits, and in debug builds where those acquired who hold the permits") {
  semaphore s(6);
  unsigned first = 0;
  auto main = [&]() -> task<> {
    first = __LINE__;
    permit a = co_await s.acquire();
    permit b = std::move(a);
    permit c = s.try_acquire();
    permit d = co_await s.acquire();
    d.release();
    c = s.try_acquire(1);
    permit e = s.try_acquire(1);
    permit f = s.try_acquire(2);
    (void)co_await s.acquire(6);
  };
  const std::string report = report_of(main());
  CAPTURE(report);
  CHECK(report.find("waits for semaphore for 0 ms") != std::string::npos);
#if defined(TANDEM_DEBUG)
  std::string expected = "held by";
  for (const unsigned n : {8u, 7u, 6u}) {  // the latest first
    const std::size_t at = report.find("test_semaphore.cpp:" + std::to_string(first + n) + ")");
    CAPTURE(n);
    CHECK(at > report.find(expected));
    CHECK(at != std::string::npos);
  }
  CHECK(report.find(" and 1 more") != std::string::npos);
#else
  CHECK(report.find("held by") == std::string::npos);
#endif
  check_all_back(s, 6);
}

// ---- concurrent_semaphore
// ----------------------------------------------------------------------------------------------

namespace {

/// Permits of a concurrent_semaphore that are out, counted by those who have them.
struct shared_ledger {
  explicit shared_ledger(std::size_t permits) : shared_ledger(permits, permits) {}
  shared_ledger(std::size_t permits, std::size_t most) : s(permits), most_out(most) {}
  concurrent_semaphore s;
  std::size_t most_out;
  std::atomic<std::size_t> out{0};
  std::atomic<std::uint64_t> granted{0}, stopped{0};

  auto counts(const concurrent_permit& p) {
    const std::size_t now = out.fetch_add(p.count()) + p.count();
    if (now > most_out) FAIL("more permits are out than there are");
    ++granted;
    return kit::at_exit([this, n = p.count()] { out -= n; });
  }
  void check_end() const {
    CHECK(out == 0);
    const auto stats = s.stats();
    CHECK(stats.available == stats.capacity);
    CHECK(stats.waiting == 0);
    CHECK(stats.acquired >= granted);
  }
};

/// Uses the permits over and over, one to three at a time.
task<> works(shared_ledger& l, int rounds) {
  for (int i = 0; i != rounds; ++i) {
    auto p = co_await l.s.acquire(static_cast<std::size_t>(1 + i % 3));
    const auto entry = l.counts(p);
    if (i % 4 == 0) co_await yield();
  }
}

/// The same, with little patience.
task<> works_in_a_hurry(shared_ledger& l, int rounds) {
  for (int i = 0; i != rounds; ++i) {
    std::optional<concurrent_permit> p = co_await tandem::try_timeout(std::chrono::microseconds(i % 40),
                                                                      l.s.acquire(static_cast<std::size_t>(1 + i % 3)));
    if (!p) {
      ++l.stopped;
      continue;
    }
    const auto entry = l.counts(*p);
    if (i % 2 == 0) co_await yield();
  }
}

/// A context and a thread that runs it.
class host {
 public:
  explicit host() : work_(context_.get_executor()), thread_([this] { context_.run(); }) {}
  host(const host&) = delete;
  host& operator=(const host&) = delete;
  ~host() { finish(); }
  asio::io_context& context() noexcept { return context_; }
  /// Lets everything come to its end.
  void finish() {
    work_.reset();
    if (thread_.joinable()) thread_.join();
  }
  /// Ends in the middle of whatever is going on.
  void abort() {
    context_.stop();
    finish();
  }

 private:
  asio::io_context context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::thread thread_;
};

}  // namespace

TEST_CASE("on one loop a concurrent_semaphore does what a semaphore does") {
  concurrent_semaphore s(3);
  auto main = [&]() -> task<> {
    std::string order;
    auto one = [&](std::size_t count, const char* name) -> task<> {
      auto p = co_await s.acquire(count);
      order += name;
      co_await sleep_for(1s);
    };
    auto gives_up = [&]() -> task<> {
      auto p = co_await tandem::try_timeout(500ms, s.acquire(3));
      CHECK_FALSE(p);
    };
    co_await gather(one(2, "a"), gives_up(), one(1, "b"), one(3, "H"), one(1, "c"));
    CHECK(order == "abHc");
    CHECK(clock::now() == at(3500ms));
    auto resizes = [&]() -> task<> {
      co_await sleep_for(1s);
      CHECK(s.waiting() == 1);
      s.resize(2);
    };
    auto p = co_await s.acquire();
    std::string said;
    auto asks_too_much = [&]() -> task<> { said = co_await thrown_by(s.acquire(3)); };
    co_await gather(asks_too_much(), resizes());
    CHECK(said == "tandem::semaphore: acquiring 3 permits of 2 would wait for ever");
    auto closes = [&]() -> task<> {
      co_await yield();
      s.close();
    };
    auto waits = [&]() -> task<> { said = co_await thrown_by(s.acquire(2)); };
    co_await gather(waits(), closes());
    CHECK(said == "tandem::semaphore_closed");
  };
  simulate(main());
  CHECK(s.stats().gave_up == 1);
  CHECK(s.available() == 2);
}

TEST_CASE("a waiter of a concurrent_semaphore is no deadlock under simulate, and virtual time goes on") {
  concurrent_semaphore s(1);
  auto main = [&]() -> task<> {
    auto p = co_await s.acquire();
    auto waits = [&]() -> task<> {
      auto q = co_await s.acquire();
      CHECK(clock::now() == at(1h));
    };
    auto releases = [&]() -> task<> {
      co_await sleep_for(1h);
      p.release();
    };
    co_await gather(waits(), releases());
  };
  simulate(main());

  auto from_outside = [&]() -> task<> { auto p = co_await s.acquire(); };
  auto p = s.try_acquire();
  std::thread other([&] {
    while (s.waiting() == 0) std::this_thread::yield();
    p.release();
  });
  simulate(from_outside());
  other.join();
}

TEST_CASE("a waiter of a concurrent_semaphore is no deadlock for run, and keeps its context running") {
  concurrent_semaphore s(1);
  auto waits = [&]() -> task<> { auto p = co_await s.acquire(); };
  for (const bool of_its_own : {true, false}) {
    auto p = s.try_acquire();
    CHECK(p);
    std::thread other([&] {
      while (s.waiting() == 0) std::this_thread::yield();
      p.release();
    });
    if (of_its_own) {
      tandem::run(waits());
    } else {
      asio::io_context io;
      bool ended = false;
      tandem::spawn(io, waits(), [&](std::exception_ptr e) { ended = !e; });
      io.run();
      CHECK(ended);
    }
    other.join();
  }
  CHECK(s.available() == 1);
}

TEST_CASE("as an arm of a race an acquire of a concurrent_semaphore is a task: both may take effect") {
  concurrent_semaphore left(1), right(1);
  auto main = [&]() -> task<> {
    auto p = left.try_acquire(), q = right.try_acquire();
    int discarded = 0;
    auto keep = [&](concurrent_permit late) { discarded += static_cast<int>(late.count()); };
    auto races = [&]() -> task<> {
      auto first = co_await race(left.acquire(), right.acquire()).on_discard(keep);
      CHECK(first.index() == 0);
      CHECK(discarded == 1);
    };
    auto releases = [&]() -> task<> {
      co_await yield();
      p.release();
      q.release();
    };
    co_await gather(races(), releases());
  };
  simulate(main());
  CHECK(left.available() == 1);
  CHECK(right.available() == 1);
}

TEST_CASE("concurrent permits are handed over under any schedule, stop and end of the context") {
  struct state {
    shared_ledger l{2};
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto uses = [&](std::size_t count, clock::duration d) -> task<> {
          kit::counted here;
          auto p = co_await s.l.s.acquire(count);
          const auto entry = s.l.counts(p);
          co_await sleep_for(d);
        };
        co_await gather(uses(1, 1s), uses(2, 0s), tandem::try_timeout(1s, uses(2, 1s)), uses(1, 0s), uses(1, 1s));
      },
      [](state& s, kit::end) { s.l.check_end(); });
}

TEST_CASE("real_ threads, strands, contexts and a pool share a concurrent_semaphore, and no permit is lost") {
  shared_ledger l(3);
  {
    host one, two;
    asio::thread_pool pool(2);
    for (int i = 0; i != 2; ++i) {
      tandem::spawn(one.context(), works(l, 10'000), asio::detached);
      tandem::spawn(two.context(), works(l, 10'000), asio::detached);
      tandem::spawn(asio::make_strand(one.context()), works(l, 10'000), asio::detached);
      tandem::spawn(asio::make_strand(pool), works(l, 10'000), asio::detached);
      tandem::spawn(pool.get_executor(), works(l, 10'000), asio::detached);
    }
    one.finish();
    two.finish();
    pool.join();
  }
  l.check_end();
  CHECK(l.granted == 100'000);
  CHECK(l.s.stats().acquired == 100'000);
}

TEST_CASE("real_ stops that race with grants lose no permit") {
  shared_ledger l(3);
  {
    host one;
    asio::thread_pool pool(2);
    for (int i = 0; i != 3; ++i) {
      tandem::spawn(one.context(), works_in_a_hurry(l, 2'000), asio::detached);
      tandem::spawn(asio::make_strand(pool), works_in_a_hurry(l, 2'000), asio::detached);
      tandem::spawn(asio::make_strand(pool), works(l, 2'000), asio::detached);
    }
    one.finish();
    pool.join();
  }
  l.check_end();
  CHECK(l.granted + l.stopped == 18'000);
}

TEST_CASE("real_ resizing and asking from threads without a loop keeps the books") {
  shared_ledger l(3, 5);
  {
    host one;
    asio::thread_pool pool(1);
    tandem::spawn(one.context(), works(l, 3'000), asio::detached);
    tandem::spawn(pool.get_executor(), works(l, 3'000), asio::detached);
    for (int i = 0; i != 3'000; ++i) {
      auto p = l.s.try_acquire();
      l.s.resize(static_cast<std::size_t>(3 + i % 3));
      if (i % 64 == 0) std::this_thread::yield();
      p.release();
      (void)l.s.available();
    }
    one.finish();
    pool.join();
  }
  CHECK(l.out == 0);
  CHECK(l.s.available() == l.s.capacity());
}

TEST_CASE("real_ a context destroyed while its coroutines are in line, or a grant is on its way, loses no permit") {
  const long frames = kit::live_frames();
  shared_ledger l(3);
  host other;
  std::atomic<bool> enough{false};
  auto goes_on = [&]() -> task<> {
    while (!enough) co_await works(l, 10);
  };
  std::atomic<int> ended{0};
  for (int i = 0; i != 2; ++i) tandem::spawn(other.context(), goes_on(), [&](std::exception_ptr) { ++ended; });
  for (int i = 0; i != 150; ++i) {
    host goes;
    for (int k = 0; k != 3; ++k) tandem::spawn(goes.context(), works(l, 1'000'000), asio::detached);
    tandem::spawn(asio::make_strand(goes.context()), works(l, 1'000'000), asio::detached);
    while (l.s.waiting() == 0) std::this_thread::yield();
    for (int k = 0; k != i % 50; ++k) (void)l.s.available();
    goes.abort();
  }
  enough = true;
  other.finish();
  CHECK(ended == 2);
  l.check_end();
  CHECK(kit::live_frames() == frames);
}

TEST_CASE("real_ destroying or closing a concurrent_semaphore ends the waits on every loop") {
  for (int i = 0; i != 50; ++i) {
    auto s = std::make_unique<concurrent_semaphore>(1);
    auto kept = s->try_acquire();
    std::atomic<int> closed{0};
    auto waits = [&]() -> task<> {
      try {
        auto p = co_await s->acquire();
      } catch (const semaphore_closed&) {
        ++closed;
      }
    };
    host one;
    asio::thread_pool pool(1);
    tandem::spawn(one.context(), waits(), asio::detached);
    tandem::spawn(pool.get_executor(), waits(), asio::detached);
    while (s->waiting() != 2) std::this_thread::yield();
    if (i % 2 == 0) s->close();
    s.reset();
    one.finish();
    pool.join();
    CHECK(closed == 2);
    CHECK(kept.count() == 1);
  }
}

TEST_CASE("real_ concurrent permits are given back on any thread, after their semaphore too") {
  auto s = std::make_unique<concurrent_semaphore>(64);
  std::vector<concurrent_permit> all;
  for (int i = 0; i != 64; ++i) all.push_back(s->try_acquire());
  std::vector<std::thread> threads;
  std::latch begin(3);
  for (std::size_t t = 0; t != 2; ++t)
    threads.emplace_back([&, t] {
      begin.arrive_and_wait();
      for (std::size_t i = t; i < all.size(); i += 2) all[i].release();
    });
  begin.arrive_and_wait();
  s.reset();
  for (auto& t : threads) t.join();
}
