#include <tandem/mutex.hpp>

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
#include <type_traits>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using kit::at;
using kit::thrown_by;
using tandem::clock;
using tandem::gather;
using tandem::mutex;
using tandem::mutex_lock;
using tandem::race;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::yield;

namespace {

constexpr const char* gone = "tandem::mutex: it was destroyed while this coroutine waited for it";

/// Locks `m`, notes `name`, and keeps the lock for `d`.
task<> keeps(mutex& m, clock::duration d, std::string& order, const char* name) {
  mutex_lock lock = co_await m.lock();
  order += name;
  co_await sleep_for(d);
}

/// A mutex, and what the coroutines say they do under it.
struct ledger {
  mutex m;
  int inside = 0, granted = 0;

  auto enters(const mutex_lock& lock) {
    CHECK(lock);
    CHECK(m.is_locked());
    CHECK(++inside == 1);
    ++granted;
    return kit::at_exit([this] { --inside; });
  }
  task<> uses(clock::duration d, kit::counted = {}) {
    mutex_lock lock = co_await m.lock();
    const auto entry = enters(lock);
    co_await sleep_for(d);
  }
  void check_end() const {
    CHECK(inside == 0);
    CHECK_FALSE(m.is_locked());
    CHECK(m.waiting() == 0);
  }
};

}  // namespace

TEST_CASE("a mutex lets one coroutine at a time in, across its waits, in the order in which they came") {
  mutex m;
  auto main = [&]() -> task<> {
    std::string order;
    co_await gather(keeps(m, 1s, order, "a"), keeps(m, 1s, order, "b"), keeps(m, 1s, order, "c"));
    CHECK(order == "abc");
    CHECK(clock::now() == at(3s));
  };
  simulate(main());
  CHECK_FALSE(m.is_locked());
}

TEST_CASE("lock does not suspend while nobody has the mutex, and try_lock gives an empty lock while somebody has") {
  mutex m;
  auto main = [&]() -> task<> {
    std::string order;
    auto first = [&]() -> task<> {
      for (const char* name : {"a", "b"}) {
        mutex_lock lock = co_await m.lock();
        order += name;
      }
    };
    auto second = [&]() -> task<> {
      order += "c";
      co_return;
    };
    co_await gather(first(), second());
    CHECK(order == "abc");
  };
  simulate(main());
  mutex_lock lock = m.try_lock();
  CHECK(lock.owns_lock());
  CHECK(m.is_locked());
  CHECK_FALSE(m.try_lock());
}

TEST_CASE("an unlocked mutex is the first waiter's before anyone else can ask, and he goes on in his turn") {
  mutex m;
  auto main = [&]() -> task<> {
    std::string order;
    auto barges = [&]() -> task<> {
      mutex_lock lock = co_await m.lock();
      co_await yield();
      CHECK(m.waiting() == 1);
      lock.unlock();
      CHECK(order.empty());
      CHECK(m.waiting() == 0);
      CHECK(m.is_locked());
      CHECK_FALSE(m.try_lock());
      lock = co_await m.lock();
      order += "b";
    };
    co_await gather(barges(), keeps(m, 0s, order, "a"));
    CHECK(order == "ab");
  };
  simulate(main());
}

TEST_CASE(
    "a stop takes a waiter out of the line; granted and then stopped, he has the lock and stops at the next wait") {
  mutex m;
  auto main = [&]() -> task<> {
    std::string order;
    auto late = co_await gather(keeps(m, 2s, order, "a"), tandem::try_timeout(1s, keeps(m, 0s, order, "never")));
    CHECK_FALSE(std::get<1>(late));
    CHECK(m.waiting() == 0);
    bool went_on = false;
    auto waits = [&]() -> task<> {
      mutex_lock lock = co_await m.lock();
      order += "b";
      co_await yield();
      went_on = true;
    };
    auto unlocks = [&](mutex_lock lock) -> task<> {
      co_await yield();
      lock.unlock();  // and ends, which stops the other
    };
    co_await race(waits(), unlocks(m.try_lock()));
    CHECK(order == "ab");
    CHECK_FALSE(went_on);
    CHECK_FALSE(m.is_locked());
  };
  simulate(main());
}

TEST_CASE("timeout, shield and gather take a lock as any wait") {
  mutex m, n;
  auto main = [&]() -> task<> {
    {
      mutex_lock lock = co_await tandem::timeout(1s, m.lock());
      std::optional<mutex_lock> late = co_await tandem::try_timeout(1s, m.lock());
      CHECK_FALSE(late.has_value());
      lock.unlock();
      lock = co_await tandem::shield(m.lock());
      CHECK(m.is_locked());
    }
    auto both = co_await gather(m.lock(), n.lock());
    CHECK(std::get<0>(both));
    CHECK(n.is_locked());
  };
  simulate(main());
  CHECK_FALSE(m.is_locked());
  CHECK_FALSE(n.is_locked());
}

TEST_CASE("locks are handed over in the order of arrival under any schedule, stop and end of the context") {
  struct state : ledger {
    int arrived = 0, last = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto one = [&](clock::duration before) -> task<> {
          kit::counted here;
          co_await sleep_for(before);
          const int number = ++s.arrived;
          mutex_lock lock = co_await s.m.lock();
          const auto entry = s.enters(lock);
          CHECK(number > s.last);
          s.last = number;
          co_await yield();
        };
        auto twice = [&]() -> task<> {
          co_await one(0s);
          co_await one(0s);
        };
        co_await gather(twice(), one(1s), tandem::try_timeout(1s, one(1s)), s.uses(1s), twice());
      },
      [](state& s, kit::end how) {
        s.check_end();
        if (how == kit::end::returned) CHECK(s.granted >= 6);
      });
}

// ---- locks

TEST_CASE("a lock moves, unlocks once, and may be unlocked early, assigned to itself or to another") {
  STATIC_REQUIRE_FALSE(std::is_copy_constructible_v<mutex_lock>);
  STATIC_REQUIRE_FALSE(std::is_copy_assignable_v<mutex_lock>);
  STATIC_REQUIRE(std::is_nothrow_move_constructible_v<mutex_lock>);
  STATIC_REQUIRE(std::is_nothrow_move_assignable_v<mutex_lock>);
  mutex m, n;
  mutex_lock none;
  CHECK_FALSE(none);
  none.unlock();
  mutex_lock a = m.try_lock();
  mutex_lock b = std::move(a);
  CHECK_FALSE(a);
  CHECK(b);
  mutex_lock& self = b;
  b = std::move(self);
  CHECK(b.owns_lock());
  CHECK(m.is_locked());
  mutex_lock c = n.try_lock();
  b = std::move(c);
  CHECK_FALSE(m.is_locked());
  CHECK(n.is_locked());
  b.unlock();
  b.unlock();
  CHECK_FALSE(b);
  CHECK_FALSE(n.is_locked());
}

TEST_CASE("several mutexes are unlocked in any order") {
  mutex m, n, o;
  auto main = [&]() -> task<> {
    std::string order;
    auto locks_all = [&]() -> task<> {
      mutex_lock a = co_await m.lock(), b = co_await n.lock(), c = co_await o.lock();
      co_await yield();
      b.unlock();
      co_await yield();
      a.unlock();
      co_await yield();
    };
    co_await gather(locks_all(), keeps(m, 0s, order, "m"), keeps(n, 0s, order, "n"), keeps(o, 0s, order, "o"));
    CHECK(order == "nmo");
  };
  simulate(main());
}

TEST_CASE("a lock may outlive its mutex; then it owns nothing") {
  auto m = std::make_unique<mutex>();
  mutex_lock lock = m->try_lock();
  mutex_lock moved = std::move(lock);
  m.reset();
  CHECK_FALSE(moved.owns_lock());
  moved.unlock();
  lock = std::move(moved);
}

// ---- the end of a mutex

TEST_CASE("the context goes before the mutex: waiters and owner are destroyed, and nobody has it") {
  mutex m;
  for (const bool is_on_its_way : {false, true}) {
    asio::io_context io;
    std::string order;
    mutex_lock lock = m.try_lock();
    tandem::spawn(io, keeps(m, 1h, order, "a"), asio::detached);
    tandem::spawn(io, keeps(m, 1h, order, "b"), asio::detached);
    io.poll();
    CHECK(m.waiting() == 2);
    if (is_on_its_way) lock.unlock();
  }
  CHECK_FALSE(m.is_locked());
  CHECK(m.waiting() == 0);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("the mutex goes before the context: its waiters are left where they are") {
  {
    asio::io_context io;
    auto m = std::make_unique<mutex>();
    std::string order;
    mutex_lock lock = m->try_lock();
    auto races = [&]() -> task<> { co_await race(m->lock(), sleep_for(1h)); };
    tandem::spawn(io, keeps(*m, 0s, order, "a"), asio::detached);
    tandem::spawn(io, races(), asio::detached);
    io.poll();
    CHECK(m->waiting() == 2);
    m.reset();
    CHECK_FALSE(lock);
    io.restart();
    io.poll();
    CHECK(order.empty());
  }
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("destroyed by a coroutine, or by a handler of its waiters' loop, it ends their waits with logic_error") {
  for (const bool by_handler : {false, true}) {
    CAPTURE(by_handler);
    asio::io_context io;
    auto m = std::make_unique<mutex>();
    mutex_lock lock = m->try_lock();
    std::vector<std::string> said;
    asio::any_io_executor serial;
    auto waits = [&]() -> task<> {
      serial = co_await tandem::this_task::executor;
      said.push_back(co_await thrown_by(m->lock()));
    };
    auto races = [&]() -> task<> { said.push_back(co_await thrown_by(race(sleep_for(1h), m->lock()))); };
    auto destroys = [&]() -> task<> {
      co_await yield();
      m.reset();
      CHECK(said.empty());
    };
    tandem::spawn(io, waits(), asio::detached);
    tandem::spawn(io, races(), asio::detached);
    if (by_handler) {
      io.poll();
      asio::post(serial, [&] { m.reset(); });
    } else {
      tandem::spawn(io, destroys(), asio::detached);
    }
    io.restart();
    io.run();
    CHECK(said == std::vector<std::string>(2, gone));
    CHECK_FALSE(lock);
  }
}

TEST_CASE("destroyed after it was handed over, before the new owner has run, it ends his wait with logic_error") {
  auto main = []() -> task<> {
    auto m = std::make_unique<mutex>();
    mutex_lock lock = co_await m->lock();
    std::string said;
    auto waits = [&]() -> task<> { said = co_await thrown_by(m->lock()); };
    auto destroys = [&]() -> task<> {
      co_await yield();
      lock.unlock();
      m.reset();
    };
    co_await gather(waits(), destroys());
    CHECK(said == gone);
  };
  simulate(main());
}

TEST_CASE("a mutex destroyed among owner, waiters and races under any schedule leaves nothing behind") {
  struct state {
    std::optional<mutex> m{std::in_place};
    int had = 0, ended = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto uses = [&](clock::duration before) -> task<> {
          kit::counted here;
          co_await sleep_for(before);
          if (!s.m) co_return;
          try {
            mutex_lock lock = co_await s.m->lock();
            ++s.had;
            co_await sleep_for(1s);
          } catch (const std::logic_error&) {
            ++s.ended;
          }
        };
        auto races = [&]() -> task<> {
          try {
            co_await race(s.m->lock(), s.m->lock(), sleep_for(9s));
          } catch (const std::logic_error&) {
            ++s.ended;
          }
        };
        auto destroys = [&]() -> task<> {
          co_await sleep_for(1s);
          s.m.reset();
        };
        co_await gather(uses(0s), races(), uses(0s), uses(1s), destroys());
      },
      [](state& s, kit::end how) {
        if (how == kit::end::returned) CHECK(s.had >= 1);
      });
}

// ---- races

TEST_CASE("of two locks in a race exactly one is taken, and both may be of one mutex") {
  mutex m, n;
  auto main = [&]() -> task<> {
    {
      auto first = co_await race(m.lock(), n.lock());
      CHECK(first.index() == 0);
      CHECK(first.value().owns_lock());
      CHECK_FALSE(n.is_locked());
    }
    std::string order;
    auto races = [&](mutex& a, mutex& b, std::size_t index) -> task<> {
      auto first = co_await race(a.lock(), b.lock());
      CHECK(first.index() == index);
      CHECK(a.waiting() == (&a == &b ? 1 : 0));  // the one behind
      order += "r";
    };
    auto unlocks = [&](mutex_lock a, mutex_lock b) -> task<> {
      co_await yield();
      b.unlock();
      a.unlock();
    };
    co_await gather(races(m, n, 1), unlocks(m.try_lock(), n.try_lock()));
    CHECK_FALSE(m.is_locked());
    CHECK_FALSE(n.is_locked());
    co_await gather(races(m, m, 0), keeps(m, 0s, order, "k"), unlocks({}, m.try_lock()));
    CHECK(order == "rrk");
  };
  simulate(main());
  CHECK_FALSE(m.is_locked());
}

TEST_CASE("a lock that a race has won and cannot give, because a loser fails, goes to the next in line") {
  mutex m;
  auto main = [&]() -> task<> {
    std::string order;
    auto cleans_up = []() -> task<> {
      co_await sleep_for(1s);
      throw std::runtime_error("clean-up");
    };
    auto loser = [&]() -> task<> { co_await tandem::finally(sleep_for(1h), cleans_up); };
    auto races = [&]() -> task<> {
      const std::string said = co_await thrown_by(race(loser(), m.lock()));
      CHECK(said == "clean-up");
    };
    co_await gather(races(), keeps(m, 0s, order, "a"));
    CHECK(order == "a");
    CHECK(clock::now() == at(1s));
  };
  simulate(main());
}

TEST_CASE("races of locks, decided at once, later or never, lose nothing under any schedule and stop") {
  struct state {
    ledger left, right;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto cleans_up = [&]() -> task<> {
          kit::counted here;
          co_await tandem::finally(sleep_for(5s), [&]() -> task<> { co_await yield(); });
        };
        auto races = [&]() -> task<> {
          auto first = co_await race(s.left.m.lock(), s.right.m.lock(), cleans_up());
          if (first.index() == 2) co_return;
          const bool is_left = first.index() == 0;
          const auto entry = (is_left ? s.left : s.right).enters(is_left ? first.get<0>() : first.get<1>());
          co_await sleep_for(1s);
        };
        co_await gather(races(), races(), s.left.uses(1s), s.right.uses(1s), races());
      },
      [](state& s, kit::end) {
        s.left.check_end();
        s.right.check_end();
      });
}

// ---- what is refused, and what is told

TEST_CASE("not recursive: the report of the deadlock names the line of the owner, in every build") {
  mutex m;
  unsigned first = 0;
  auto main = [&]() -> task<> {
    first = __LINE__;
    mutex_lock lock = co_await m.lock();
    mutex_lock moved = std::move(lock);
    mutex_lock again = co_await m.lock();
  };
  std::string report;
  try {
    simulate(main());
  } catch (const tandem::deadlock& d) {
    report = d.what();
  }
  CAPTURE(report);
  CHECK(report.find("waits for mutex for 0 ms, held by ") != std::string::npos);
  const std::size_t owner = report.find("test_mutex.cpp:" + std::to_string(first + 1) + ")");
  CHECK(owner != std::string::npos);
  CHECK(owner > report.find("held by"));
  CHECK_FALSE(m.is_locked());
}

TEST_CASE("two who lock two mutexes crosswise are named, each with the owner he waits for") {
  mutex m, n;
  auto locks = [](mutex& a, mutex& b) -> task<> {
    mutex_lock first = co_await a.lock();
    co_await yield();
    mutex_lock second = co_await b.lock();
  };
  auto main = [&]() -> task<> { co_await gather(locks(m, n), locks(n, m)); };
  std::string report;
  try {
    simulate(main());
  } catch (const tandem::deadlock& d) {
    report = d.what();
  }
  std::size_t held = 0;
  for (std::size_t i = report.find("held by"); i != std::string::npos; i = report.find("held by", i + 1)) ++held;
  CHECK(held == 2);
  CHECK_FALSE(m.is_locked());
  CHECK_FALSE(n.is_locked());
}

TEST_CASE("a wait on another loop than that of the first waiter throws logic_error that names what to use") {
  mutex m;
  asio::io_context io;
  mutex_lock lock = m.try_lock();
  std::string order, said;
  auto refused = [&]() -> task<> { said = co_await thrown_by(m.lock()); };
  tandem::spawn(asio::make_strand(io), keeps(m, 0s, order, "a"), asio::detached);
  io.poll();
  tandem::spawn(asio::make_strand(io), refused(), asio::detached);
  io.restart();
  io.poll();
  CHECK(said.find("tandem::mutex: a coroutine of another loop waits on it") == 0);
  CHECK(said.find("use a concurrent_semaphore of one permit") != std::string::npos);
  lock.unlock();
  io.restart();
  io.run();
  CHECK(order == "a");
}

TEST_CASE("one lock awaited by two coroutines, or again after a wait, throws logic_error, and the mutex goes on") {
  mutex m;
  auto main = [&]() -> task<> {
    std::string said;
    mutex_lock lock = co_await m.lock();
    auto wait = m.lock();
    auto first = [&]() -> task<> {
      mutex_lock mine = co_await wait;
      CHECK(mine);
    };
    auto second = [&](clock::duration d) -> task<> {
      co_await sleep_for(d);
      try {
        mutex_lock mine = co_await wait;
      } catch (const std::logic_error& e) {
        said = e.what();
      }
      CHECK(said == "tandem: an operation of a primitive is awaited twice; make one for each co_await");
      said.clear();
      lock.unlock();
    };
    co_await gather(first(), second(0s), second(1s));
    CHECK_FALSE(m.is_locked());
  };
  simulate(main());
}
