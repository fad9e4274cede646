#include <tandem/resource_pool.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/generator.hpp>
#include <tandem/race.hpp>
#include <tandem/run.hpp>

#include "kit/allocations.hpp"
#include "kit/captured_stderr.hpp"
#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(strand.hpp)

#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using kit::allocations;
using kit::at;
using kit::thrown_by;
using tandem::clock;
using tandem::gather;
using tandem::lease;
using tandem::resource_pool;
using tandem::resource_pool_closed;
using tandem::resource_pool_options;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::with_transaction;

namespace {

/// Knows what is done with it, and whether an operation on it was left half way.
class connection : kit::counted {
 public:
  connection(int number, std::string* log = nullptr) noexcept : number_(number), log_(log) {}
  connection(connection&&) noexcept = default;
  int number() const noexcept { return number_; }
  bool is_clean() const noexcept { return !busy_; }

  task<> query(clock::duration d = 0s) {
    CHECK_FALSE(busy_);
    busy_ = true;
    if (d == 0s)
      co_await tandem::yield();
    else
      co_await sleep_for(d);
    busy_ = false;
  }
  task<> begin() { return note("begin "); }
  task<> commit() { return note("commit "); }
  task<> rollback() { return note("rollback "); }

 private:
  task<> note(const char* text) {
    if (log_) *log_ += text;
    if (log_ && log_->ends_with("fails " + std::string(text))) throw std::runtime_error(text);
    co_await query();
  }
  int number_;
  std::string* log_;
  bool busy_ = false;
};

/// Makes connections, numbered from 1.
struct maker {
  clock::duration takes = 0s;
  int made = 0, fails_at = 0;
  task<connection> operator()() {
    const int number = ++made;
    co_await sleep_for(takes);
    if (number == fails_at) throw std::runtime_error("connection " + std::to_string(number) + " refused");
    co_return connection(number);
  }
};
auto by(maker& m) {
  return [&m] { return m(); };
}
using options = tandem::resource_pool_options<connection>;

/// Notes its transaction, which takes a second at each end.
struct account {
  std::string* log;
  bool commit_fails = false, rollback_fails = false;
  task<> begin() {
    *log += "begin ";
    co_return;
  }
  task<> commit() { return ends("commit ", commit_fails); }
  task<> rollback() { return ends("rollback ", rollback_fails); }
  task<> ends(const char* how, bool fails) {
    co_await sleep_for(1s);
    *log += how;
    if (fails) throw std::runtime_error(how);
  }
};

/// Borrows one for so long. Gives its number.
task<int> borrow(resource_pool<connection>& pool, clock::duration d) {
  auto c = co_await pool.acquire();
  co_await c->query(d);
  co_return c->number();
}

}  // namespace

TEST_CASE("resources are made when they are needed, up to max, and the one that came back last is lent first") {
  auto main = []() -> task<> {
    maker makes{1s};
    resource_pool<connection> pool{{.max = 2, .create = by(makes)}};
    CHECK(pool.stats().size == 0);
    const auto three = co_await gather(borrow(pool, 2s), borrow(pool, 3s), borrow(pool, 1s));
    CHECK(std::get<0>(three) + std::get<1>(three) == 3);
    CHECK(std::get<2>(three) == std::get<0>(three));  // who waited got what came back first
    CHECK(makes.made == 2);
    CHECK(clock::now() == at(4s));
    const int latest = co_await borrow(pool, 1s);
    const int again = co_await borrow(pool, 1s);
    CHECK(latest == again);
    const auto s = pool.stats();
    CHECK((s.size == 2 && s.idle == 2 && s.lent == 0 && s.most_lent == 2 && s.acquired == 5 && s.waited == 3));
    CHECK(s.created == 2);
  };
  simulate(main());
  CHECK(kit::counted::live() == 0);
}

TEST_CASE("acquiring what is idle does not suspend, and nobody overtakes those who wait") {
  auto main = []() -> task<> {
    maker makes;
    resource_pool<connection> pool{{.max = 1, .create = by(makes)}};
    co_await borrow(pool, 1s);
    std::string order;
    auto first = [&]() -> task<> {
      auto c = co_await pool.acquire();
      order += "a";
      co_await sleep_for(1s);
      c.release();
      auto again = co_await pool.acquire();
      order += "c";
    };
    auto second = [&]() -> task<> {
      order += "-";
      auto c = co_await pool.acquire();
      order += "b";
    };
    co_await gather(first(), second());
    CHECK(order == "a-bc");
  };
  simulate(main());
}

TEST_CASE("while one is made, who waits takes what comes back earlier, and the new one is the next's") {
  auto main = []() -> task<> {
    maker makes;
    resource_pool<connection> pool{{.max = 2, .create = by(makes)}};
    auto first = co_await pool.acquire();
    makes.takes = 10s;
    auto gives_back = [&]() -> task<> {
      co_await sleep_for(1s);
      first.release();
    };
    const auto both = co_await gather(borrow(pool, 1s), gives_back());
    CHECK(std::get<0>(both) == 1);
    CHECK(clock::now() == at(2s));
    CHECK(pool.stats().looked_after == 1);
    co_await sleep_for(10s);
    CHECK(pool.stats().idle == 2);
    CHECK(pool.stats().created == 2);
  };
  simulate(main());
}

TEST_CASE("what create throws goes to the first in line, and the next has it tried again") {
  auto main = []() -> task<> {
    maker makes{1s, 0, 1};
    resource_pool<connection> pool{{.max = 1, .create = by(makes)}};
    const auto two = co_await gather(tandem::return_exceptions, borrow(pool, 1s), borrow(pool, 1s));
    CHECK(std::get<0>(two).error());
    CHECK(std::get<1>(two).value() == 2);
    CHECK(clock::now() == at(3s));
    CHECK(pool.stats().failed_to_create == 1);

    // With nobody in line it is counted.
    makes.made = 0;
    resource_pool<connection> other{{.max = 1, .create = by(makes)}};
    const auto late = co_await tandem::try_timeout(500ms, borrow(other, 1s));
    CHECK_FALSE(late);
    co_await sleep_for(1s);
    CHECK(other.stats().failed_to_create == 1);
    CHECK(other.stats().size == 0);
    const int number = co_await borrow(other, 1s);
    CHECK(number == 2);
    // One that fails before it waits, and one that gives no task.
    auto throws = []() -> task<connection> { throw std::runtime_error("at once"); };
    resource_pool<connection> bad{{.create = throws}};
    const std::string text = co_await thrown_by(borrow(bad, 1s));
    CHECK(text == "at once");
    resource_pool<connection> empty{{.create = [] { return task<connection>(); }}};
    const std::string said = co_await thrown_by(borrow(empty, 1s));
    CHECK(said.find("empty task") != std::string::npos);
  };
  simulate(main());
  CHECK(kit::counted::live() == 0);
}

TEST_CASE("who gives up while one is made leaves the line, and the next gets it") {
  auto main = []() -> task<> {
    maker makes{10s};
    resource_pool<connection> pool{{.max = 1, .create = by(makes)}};
    auto gives_up = [&]() -> task<bool> {
      const auto late = co_await tandem::try_timeout(5s, borrow(pool, 1s));
      co_return !late;
    };
    const auto both = co_await gather(gives_up(), borrow(pool, 1s));
    CHECK(std::get<0>(both));
    CHECK(std::get<1>(both) == 1);
    CHECK(clock::now() == at(11s));
    CHECK(makes.made == 1);
  };
  simulate(main());
}

TEST_CASE("who is first in line hears of no failure while another is on its way for him") {
  auto main = []() -> task<> {
    int made = 0;
    auto create = [&]() -> task<connection> {
      const int number = ++made;
      co_await sleep_for(std::chrono::seconds(1 + number));
      if (number == 1) throw std::runtime_error("refused");
      co_return connection(number);
    };
    resource_pool<connection> pool{{.max = 2, .create = create}};
    auto gives_up = [&]() -> task<> { co_await tandem::try_timeout(1s, borrow(pool, 1s)); };
    const auto both = co_await gather(borrow(pool, 1s), gives_up());
    CHECK(std::get<0>(both) == 2);
    CHECK(clock::now() == at(4s));
    CHECK(pool.stats().failed_to_create == 1);
    CHECK(made == 2);
  };
  simulate(main());
}

TEST_CASE("unless it is told otherwise a pool makes ten, checks what was idle for a second, and lets everyone wait") {
  auto main = []() -> task<> {
    maker makes;
    int checks = 0;
    auto check = [&](connection&) -> task<bool> {
      ++checks;
      co_return true;
    };
    resource_pool<connection> pool{{.create = by(makes), .check = check}};
    std::vector<task<int>> all;
    for (int i = 0; i != 11; ++i) all.push_back(borrow(pool, 1h));
    co_await gather(std::move(all));
    CHECK(makes.made == 10);
    CHECK(clock::now() == at(2h));
    checks = 0;
    co_await sleep_for(1s - 1ns);
    { auto c = co_await pool.acquire(); }
    CHECK(checks == 0);
    co_await sleep_for(1s);
    { auto c = co_await pool.acquire(); }
    CHECK(checks == 1);
  };
  simulate(main());
}

TEST_CASE("stats say how many wait for one, and how many ever did") {
  auto main = []() -> task<> {
    maker makes;
    resource_pool<connection> pool{{.max = 1, .create = by(makes)}};
    auto looks = [&]() -> task<> {
      co_await sleep_for(500ms);
      CHECK(pool.stats().waiting == 2);
    };
    co_await gather(borrow(pool, 1s), borrow(pool, 1s), borrow(pool, 1s), looks());
    const auto s = pool.stats();
    CHECK((s.waiting == 0 && s.most_waiting == 3 && s.acquired == 3 && s.waited == 3));  // the first, for its making
  };
  simulate(main());
}

TEST_CASE("a lease moves; the resource of one that is assigned to goes back") {
  auto main = []() -> task<> {
    maker makes;
    resource_pool<connection> pool{{.max = 2, .create = by(makes)}};
    auto first = co_await pool.acquire();
    auto second = co_await pool.acquire();
    const int number = second->number();
    first = std::move(second);
    CHECK(first->number() == number);
    CHECK_FALSE(second);
    CHECK_THROWS_WITH(*second, "tandem::lease: it is empty: released, discarded, or moved from");
    CHECK((pool.stats().lent == 1 && pool.stats().idle == 1 && pool.stats().discarded == 0));
    auto& same = first;
    first = std::move(same);
    CHECK(first->number() == number);
    first.release();
    first.release();
    first.discard();
    CHECK((pool.stats().lent == 0 && pool.stats().idle == 2 && pool.stats().discarded == 0));
  };
  simulate(main());
}

TEST_CASE("acquiring and giving back what is idle allocates nothing") {
  auto main = []() -> task<> {
    maker makes;
    resource_pool<connection> pool{{.create = by(makes)}};
    long before = 0;
    for (int i = 0; i != 1000; ++i) {
      if (i == 20) before = allocations;
      auto c = co_await pool.acquire();
      auto d = std::move(c);
    }
    CHECK(allocations == before);
  };
  simulate(main());
}

TEST_CASE("who waits longer than acquire_timeout is told who has them, and leaves nothing behind") {
  auto main = []() -> task<> {
    maker makes;
    resource_pool<connection> pool{{.max = 1, .acquire_timeout = 5s, .create = by(makes)}};
    {
      auto c = co_await pool.acquire();
      std::string text = co_await thrown_by(pool.acquire());
      CHECK(text.find("no resource at") != std::string::npos);
      CHECK(text.find("of 1 there are 1 lent; held by") != std::string::npos);
      CHECK(text.find("test_resource_pool.cpp:") != std::string::npos);
      CHECK(clock::now() == at(5s));
    }
    CHECK(pool.stats().timed_out == 1);
    CHECK(pool.stats().waiting == 0);
    // One that comes back at that very instant is his.
    auto keeps = [&]() -> task<> {
      auto c = co_await pool.acquire();
      co_await sleep_for(5s);
    };
    const auto both = co_await gather(keeps(), borrow(pool, 1s));
    CHECK(std::get<1>(both) == 1);

    // A create that never ends keeps its place.
    auto never = []() -> task<connection> {
      co_await sleep_for(1000h);
      co_return connection(0);
    };
    resource_pool<connection> stuck{{.max = 1, .acquire_timeout = 1s, .create = never}};
    for (int i = 0; i != 2; ++i) {
      const std::string text = co_await thrown_by(stuck.acquire());
      CHECK(text.find("1 being made") != std::string::npos);
    }
    CHECK(stuck.stats().size == 1);
    co_await stuck.close();
    CHECK(stuck.stats().size == 0);
  };
  simulate(main());
  CHECK(kit::counted::live() == 0);
}

TEST_CASE("one that was idle is checked before it is lent, and replaced if it is not good") {
  enum { says_no, throws };
  for (const auto how : {says_no, throws}) {
    auto main = [&]() -> task<> {
      maker makes;
      int checks = 0;
      auto check = [&](connection& c) -> task<bool> {
        ++checks;
        co_await c.query(1s);
        if (how == throws && c.number() == 1) throw std::runtime_error("broken");
        co_return c.number() != 1;
      };
      resource_pool<connection> pool{{.max = 1, .check_after = 10s, .create = by(makes), .check = check}};
      co_await borrow(pool, 1s);
      co_await sleep_for(5s);
      const int soon = co_await borrow(pool, 1s);
      CHECK((soon == 1 && checks == 0));
      co_await sleep_for(10s);
      const int later = co_await borrow(pool, 1s);
      CHECK((later == 2 && checks == 1));
      CHECK(pool.stats().failed_check == 1);
      co_await sleep_for(10s);
      // Who asked for it has gone: it is idle again, and good.
      const auto late = co_await tandem::try_timeout(500ms, borrow(pool, 1s));
      CHECK_FALSE(late);
      co_await sleep_for(1s);
      CHECK(pool.stats().idle == 1);
      const int last = co_await borrow(pool, 1s);
      CHECK((last == 2 && checks == 2));
    };
    simulate(main());
    CHECK(kit::counted::live() == 0);
  }
}

TEST_CASE("one that comes back is reset before anybody gets it, and destroyed if that fails") {
  auto main = []() -> task<> {
    maker makes;
    int resets = 0;
    auto reset = [&](connection& c) -> task<> {
      ++resets;
      co_await c.query(2s);
      if (resets == 2) throw std::runtime_error("not reset");
    };
    resource_pool<connection> pool{{.max = 1, .create = by(makes), .reset = reset}};
    const auto both = co_await gather(borrow(pool, 1s), borrow(pool, 1s));
    CHECK((std::get<0>(both) == 1 && std::get<1>(both) == 1));
    CHECK(clock::now() == at(4s));
    CHECK(pool.stats().looked_after == 1);
    const int next = co_await borrow(pool, 1s);
    CHECK(next == 2);
    CHECK(pool.stats().failed_reset == 1);
    co_await pool.close();
  };
  simulate(main());
  CHECK(kit::counted::live() == 0);
}

TEST_CASE("a use that failed or was stopped discards the resource; one that ended well, or was caught, does not") {
  auto main = []() -> task<> {
    maker makes;
    resource_pool<connection> pool{{.max = 1, .create = by(makes)}};
    auto discarded = [&, before = std::uint64_t{0}]() mutable {
      return std::exchange(before, pool.stats().discarded) != pool.stats().discarded;
    };
    auto throws = [&]() -> task<> {
      auto c = co_await pool.acquire();
      throw std::runtime_error("failed");
    };
    co_await thrown_by(throws());
    CHECK(discarded());
    auto below = [&]() -> task<> {  // the exception comes from a child
      auto c = co_await pool.acquire();
      auto child = [&]() -> task<> {
        co_await c->query();
        throw std::runtime_error("failed");
      };
      co_await child();
    };
    co_await thrown_by(below());
    CHECK(discarded());
    auto takes = [](lease<connection> c, bool fails) -> task<> {  // a parameter, which goes with the frame
      co_await c->query();
      if (fails) throw std::runtime_error("failed");
    };
    for (const bool fails : {true, false}) {
      auto c = co_await pool.acquire();
      co_await thrown_by(takes(std::move(c), fails));
      CHECK(discarded() == fails);
    }
    { auto never_run = takes(co_await pool.acquire(), true); }
    CHECK_FALSE(discarded());
    const auto stopped = co_await tandem::try_timeout(1s, borrow(pool, 2s));
    CHECK_FALSE(stopped);
    CHECK(discarded());
    auto owner = [&]() -> task<> {  // far from the frame that was stopped
      auto c = std::make_unique<std::vector<lease<connection>>>();
      c->push_back(co_await pool.acquire());
      co_await sleep_for(1h);
    };
    co_await tandem::try_timeout(1s, owner());
    CHECK(discarded());
    auto catches = [&]() -> task<> {
      auto c = co_await pool.acquire();
      co_await thrown_by(kit::after(0s, 0));
      try {
        throw 1;
      } catch (int) {
      }
    };
    co_await catches();
    CHECK_FALSE(discarded());
    auto items = [&]() -> tandem::generator<int> {
      auto c = co_await pool.acquire();
      co_yield 1;
    };
    for (const bool to_its_end : {false, true}) {
      auto g = items();
      co_await g.next();
      if (to_its_end) co_await g.next();
      g = {};
      CHECK(discarded() == !to_its_end);
    }
    {
      auto c = co_await pool.acquire();
      c.discard();
      CHECK_FALSE(c);
      CHECK_THROWS_AS(c->number(), std::logic_error);
      CHECK(pool.stats().lent == 0);
    }
    CHECK(discarded());
    auto keeps = [&]() -> task<> {
      auto c = co_await pool.acquire();
      c.release();
      throw std::runtime_error("failed");
    };
    co_await thrown_by(keeps());
    CHECK_FALSE(discarded());
  };
  simulate(main());
  CHECK(kit::counted::live() == 0);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("what nobody uses is destroyed, the oldest first, down to min; what is too old is not lent") {
  auto main = []() -> task<> {
    maker makes;
    resource_pool<connection> pool{{.min = 1, .max = 3, .idle_lifetime = 10s, .jitter = 0, .create = by(makes)}};
    co_await gather(borrow(pool, 1s), borrow(pool, 2s), borrow(pool, 3s));
    CHECK(pool.stats().idle == 3);
    co_await sleep_for(8500ms);
    CHECK(pool.stats().idle == 2);
    co_await sleep_for(1s);
    CHECK(pool.stats().idle == 1);
    CHECK(pool.stats().reaped == 2);
    co_await sleep_for(1h);
    CHECK(pool.stats().idle == 1);
    co_await pool.close();

    makes.made = 0;
    resource_pool<connection> old{{.max = 1, .max_lifetime = 10s, .jitter = 0, .create = by(makes)}};
    for (int i = 0; i != 3; ++i) {
      const int number = co_await borrow(old, 4s);
      CHECK(number == 1);
    }
    CHECK(old.stats().expired == 1);  // when it came back
    CHECK(old.stats().size == 0);
    co_await borrow(old, 1s);
    co_await sleep_for(10s);
    CHECK(old.stats().expired == 2);  // where it was
    CHECK(old.stats().size == 0);
  };
  simulate(main());
  CHECK(kit::counted::live() == 0);
}

TEST_CASE("of those that nobody uses the one that came back last is left, and the jitter shortens max_lifetime too") {
  auto main = []() -> task<> {
    maker makes;
    resource_pool<connection> pool{{.min = 1, .max = 3, .idle_lifetime = 10s, .create = by(makes)}};
    co_await gather(borrow(pool, 3s), borrow(pool, 1s), borrow(pool, 2s));
    co_await sleep_for(1h);
    CHECK((pool.stats().idle == 1 && pool.stats().reaped == 2));
    const int left = co_await borrow(pool, 1s);
    CHECK(left == 1);

    const auto begin = clock::now();
    const auto never = clock::duration::max();
    resource_pool<connection> old{
        {.max = 50, .idle_lifetime = never, .max_lifetime = 100s, .jitter = .5, .create = by(makes)}};
    std::vector<task<int>> all;
    for (int i = 0; i != 50; ++i) all.push_back(borrow(old, 1s));
    co_await gather(std::move(all));
    co_await tandem::sleep_until(begin + 49s);
    CHECK(old.stats().idle == 50);
    co_await tandem::sleep_until(begin + 75s);
    CHECK((old.stats().idle > 10 && old.stats().idle < 40));
    co_await tandem::sleep_until(begin + 101s);
    CHECK((old.stats().idle == 0 && old.stats().expired == 50));
  };
  simulate(main());
}

TEST_CASE("min are made when the pool is first used, replaced once when they are too old, and then left as they are") {
  auto main = []() -> task<> {
    maker makes;
    resource_pool<connection> pool{{.min = 3, .max = 5, .max_lifetime = 1min, .jitter = 0, .create = by(makes)}};
    co_await sleep_for(1s);
    CHECK(makes.made == 0);
    co_await borrow(pool, 1s);
    CHECK(pool.stats().idle == 3);
    co_await sleep_for(1min);
    CHECK(pool.stats().idle == 3);
    CHECK(makes.made == 4);  // the one that was used is another
    co_await sleep_for(100h);
    CHECK(makes.made == 4);
    auto c = co_await pool.acquire();  // they are too old by now
    CHECK(c->number() > 4);
  };
  simulate(main());
  // A pool at rest does not keep a deadlock from being found.
  auto waits_for_ever = []() -> task<> {
    maker makes;
    resource_pool<connection> pool{{.min = 2, .max = 2, .max_lifetime = 1min, .create = by(makes)}};
    co_await borrow(pool, 1s);
    kit::gate never;
    co_await never.wait();
  };
  CHECK_THROWS_AS(simulate(waits_for_ever()), tandem::deadlock);
}

TEST_CASE("lifetimes differ by the jitter, so that what was made together does not end together") {
  auto main = []() -> task<> {
    maker makes;
    resource_pool<connection> pool{{.max = 50, .idle_lifetime = 100s, .jitter = .5, .create = by(makes)}};
    std::vector<task<int>> all;
    for (int i = 0; i != 50; ++i) all.push_back(borrow(pool, 1s));
    co_await gather(std::move(all));
    co_await sleep_for(49s);
    CHECK(pool.stats().idle == 50);
    co_await sleep_for(26s);
    CHECK((pool.stats().idle > 10 && pool.stats().idle < 40));
    co_await sleep_for(26s);
    CHECK(pool.stats().idle == 0);
  };
  simulate(main());
}

TEST_CASE("close tells those who wait, stops what works for the pool, and waits for the last lease") {
  auto main = []() -> task<> {
    maker makes;
    resource_pool<connection> pool{{.max = 2, .create = by(makes)}};
    auto c = co_await pool.acquire();
    makes.takes = 1h;
    auto closes = [&]() -> task<clock::time_point> {
      co_await sleep_for(1s);
      co_await pool.close();
      co_return clock::now();
    };
    auto gives_back = [&]() -> task<> {
      co_await sleep_for(2s);
      const auto refused = co_await thrown_by(pool.acquire());
      CHECK(refused == "tandem::resource_pool_closed");
      co_await sleep_for(3s);
      c.release();
    };
    auto waits = [&]() -> task<> {
      const auto told = co_await thrown_by(borrow(pool, 1s));
      CHECK(told == "tandem::resource_pool_closed");
      CHECK(clock::now() == at(1s));
    };
    const auto all = co_await gather(closes(), gives_back(), waits());
    CHECK(std::get<0>(all) == at(5s));
    CHECK((pool.stats().size == 0 && pool.stats().idle == 0));
    CHECK(kit::counted::live() == 0);
    co_await pool.close();

    resource_pool<connection> other{{.create = by(makes)}};
    makes.takes = 0s;
    auto kept = co_await other.acquire();
    const auto late = co_await tandem::try_timeout(1s, other.close());
    CHECK_FALSE(late);
    const auto refused = co_await thrown_by(other.acquire());
    CHECK(refused == "tandem::resource_pool_closed");
    kept.release();
    CHECK(other.stats().size == 0);
  };
  simulate(main());
  CHECK(kit::counted::live() == 0);
}

TEST_CASE("cancel tells those who wait, stops what is made and destroys what is idle, and waits for nothing") {
  auto main = []() -> task<> {
    maker makes;
    resource_pool<connection> pool{{.max = 2, .create = by(makes)}};
    auto c = co_await pool.acquire();
    makes.takes = 1h;
    auto cancels = [&]() -> task<> {
      co_await sleep_for(1s);
      CHECK((pool.stats().waiting == 1 && pool.stats().looked_after == 1));
      pool.cancel();
      CHECK(pool.stats().lent == 1);
    };
    const auto both = co_await gather(thrown_by(borrow(pool, 1s)), cancels());
    CHECK(std::get<0>(both) == "tandem::resource_pool_closed");
    CHECK(clock::now() == at(1s));
    co_await tandem::yield();
    CHECK((pool.stats().looked_after == 0 && pool.stats().size == 1));
    co_await c->query();  // what is out stays valid
    const std::string refused = co_await thrown_by(pool.acquire());
    CHECK(refused == "tandem::resource_pool_closed");
    c.release();
    CHECK((pool.stats().size == 0 && kit::counted::live() == 0));

    makes.takes = 0s;
    resource_pool<connection> other{{.create = by(makes)}};
    co_await borrow(other, 1s);
    CHECK(other.stats().idle == 1);
    other.cancel();
    CHECK((other.stats().idle == 0 && kit::counted::live() == 0));
  };
  simulate(main());
}

TEST_CASE("a pool that is destroyed tells those who wait; a lease outlives it") {
  auto main = []() -> task<> {
    maker makes;
    std::optional<resource_pool<connection>> pool;
    pool.emplace(options{.max = 1, .create = by(makes)});
    auto c = co_await pool->acquire();
    auto waits = [&]() -> task<std::string> { co_return co_await thrown_by(borrow(*pool, 1s)); };
    auto closes = [&]() -> task<> { co_await pool->close(); };
    auto destroys = [&]() -> task<> {
      co_await tandem::yield();
      pool.reset();
    };
    const auto all = co_await gather(waits(), closes(), destroys());
    CHECK(std::get<0>(all) == "tandem::resource_pool_closed");
    CHECK(c->number() == 1);
    co_await c->query();
    CHECK(kit::counted::live() == 1);
    c = {};
    CHECK(kit::counted::live() == 0);
    // While one is made, and while one is reset.
    makes.takes = 1h;
    pool.emplace(options{.max = 1, .create = by(makes)});
    const auto late = co_await tandem::try_timeout(1s, borrow(*pool, 1s));
    CHECK_FALSE(late);
    pool.reset();
    makes.takes = 0s;
    pool.emplace(options{.max = 1, .create = by(makes), .reset = [](connection& one) { return one.query(1h); }});
    co_await borrow(*pool, 1s);
    pool.reset();
    co_await tandem::yield();
    co_await tandem::yield();
    CHECK(kit::counted::live() == 0);
  };
  simulate(main());
  CHECK(kit::counted::live() == 0);
  CHECK(kit::live_frames() == 0);
}

#if !defined(NDEBUG)
TEST_CASE("debug builds name the line of a lease that is out when its pool is destroyed") {
  std::string said;
  unsigned line = 0;
  auto main = [&]() -> task<> {
    maker makes;
    std::optional<resource_pool<connection>> pool;
    pool.emplace(options{.create = by(makes)});
    line = __LINE__ + 1;
    auto c = co_await pool->acquire();
    const kit::captured_stderr captured;
    pool.reset();
    said = captured.text();
  };
  simulate(main());
  CHECK(said.find("destroyed while a resource is lent: at ") != std::string::npos);
  CHECK(said.find("test_resource_pool.cpp:" + std::to_string(line)) != std::string::npos);
}
#endif

TEST_CASE("a pool and a lease may outlive the loop") {
  maker makes;
  resource_pool<connection> pool{
      {.min = 2, .max = 2, .create = by(makes), .reset = [](connection& c) { return c.query(); }}};
  for (int round = 0; round != 3; ++round) {
    lease<connection> kept;
    auto main = [&]() -> task<> { kept = co_await pool.acquire(); };
    simulate(main());
    CHECK(kept);
  }
  CHECK(pool.stats().lent == 0);
}

TEST_CASE("a pool that outlives its loop resets, and destroys what is idle, on the next one") {
  maker makes;
  resource_pool<connection> pool{{.create = by(makes), .reset = [](connection& c) { return c.query(); }}};
  for (int round = 0; round != 3; ++round) {
    auto main = [&]() -> task<> {
      co_await borrow(pool, 1s);
      co_await sleep_for(round == 2 ? 1h : 1s);
    };
    simulate(main());
    CHECK(makes.made == 1);
    CHECK(pool.stats().idle == (round == 2 ? 0 : 1));
  }
  CHECK(pool.stats().reaped == 1);
}

TEST_CASE("a resource that cannot be reset, since its lease ends outside of the loop, is replaced for who waits") {
  maker makes;
  resource_pool<connection> pool{{.max = 1, .create = by(makes), .reset = [](connection& c) { return c.query(); }}};
  lease<connection> kept;
  int got = 0;
  asio::io_context context;
  auto main = [&]() -> task<> {
    kept = co_await pool.acquire();
    got = co_await borrow(pool, 0s);
  };
  tandem::spawn(context, main(), asio::detached);
  context.poll();
  CHECK(got == 0);
  kept = {};
  context.restart();
  context.poll();
  CHECK(got == 2);
}

TEST_CASE("the destructor of a resource may cancel its pool, or destroy it") {
  struct calls {
    calls(std::function<void()>* f) noexcept : function(f) {}
    calls(calls&& o) noexcept : function(std::exchange(o.function, nullptr)) {}
    ~calls() {
      if (function && *function) std::exchange(*function, nullptr)();
    }
    std::function<void()>* function;
  };
  for (const bool destroys : {false, true}) {
    for (const bool closes : {false, true}) {
      auto main = [&]() -> task<> {
        std::function<void()> called;
        auto create = [&]() -> task<calls> { co_return calls(&called); };
        auto pool = std::make_unique<resource_pool<calls>>(resource_pool_options<calls>{
            .idle_lifetime = closes ? clock::duration::max() : clock::duration(1min), .create = create});
        auto use = [&]() -> task<> {
          auto one = co_await pool->acquire();
          co_await sleep_for(1s);
        };
        co_await gather(use(), use(), use());
        CHECK(pool->stats().idle == 3);
        called = [&] { destroys ? pool.reset() : pool->cancel(); };
        if (closes)
          co_await pool->close();
        else
          co_await sleep_for(1h);
        CHECK(!called);
        CHECK(!pool == destroys);
        if (pool) CHECK((pool->stats().size == 0 && pool->stats().idle == 0));
      };
      simulate(main());
    }
  }
}

TEST_CASE("bad options are told: no max, a min above it, no create, negative times, a jitter that is no part") {
  maker makes;
  const auto said = [](options o) -> std::string {
    try {
      const resource_pool<connection> pool(std::move(o));
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "";
  };
  CHECK(said({.max = 0, .create = by(makes)}) == "tandem::resource_pool: max is 0; it must be at least 1");
  CHECK(said({.min = 3, .max = 2, .create = by(makes)}) == "tandem::resource_pool: min is 3, more than max, 2");
  CHECK(said({.max = 1}) == "tandem::resource_pool: create is missing");
  CHECK(said({.idle_lifetime = -1s, .create = by(makes)}) == "tandem::resource_pool: idle_lifetime is negative");
  CHECK(said({.max_lifetime = -1s, .create = by(makes)}) == "tandem::resource_pool: max_lifetime is negative");
  CHECK(said({.acquire_timeout = -1s, .create = by(makes)}) == "tandem::resource_pool: acquire_timeout is negative");
  CHECK(said({.check_after = -1s, .create = by(makes)}) == "tandem::resource_pool: check_after is negative");
  CHECK(said({.jitter = 1.5, .create = by(makes)}).starts_with("tandem::resource_pool: jitter is 1.5"));
}

TEST_CASE("the report of a deadlock names the lines of those who have the resources") {
  auto main = []() -> task<> {
    maker makes;
    resource_pool<connection> pool{{.max = 1, .create = by(makes)}};
    auto first = co_await pool.acquire();
    auto second = co_await pool.acquire();
  };
  std::string text;
  try {
    simulate(main());
  } catch (const tandem::deadlock& e) {
    text = e.what();
  }
  CHECK(text.find("waits for resource_pool for 0 ms, held by") != std::string::npos);
  CHECK(text.find("test_resource_pool.cpp:") != std::string::npos);
}

TEST_CASE("of a race of two acquires exactly one takes effect") {
  auto main = []() -> task<> {
    maker makes;
    resource_pool<connection> one{{.max = 1, .create = by(makes)}}, other{{.max = 1, .create = by(makes)}};
    auto held = co_await one.acquire();
    auto also = co_await other.acquire();
    auto gives_back = [&]() -> task<> {
      co_await tandem::yield();
      held.release();
      also.release();
    };
    auto races = [&]() -> task<> {
      auto first = co_await tandem::race(one.acquire(), other.acquire());
      CHECK(first.index() == 0);
      CHECK(one.stats().lent == 1);
      CHECK(other.stats().lent == 0);
    };
    co_await gather(races(), gives_back());
    CHECK(one.stats().idle + other.stats().idle == 2);
  };
  simulate(main());
}

TEST_CASE("real_ waiting for a pool on two loops is a std::logic_error") {
  asio::io_context context;
  maker makes;
  resource_pool<connection> pool{{.max = 1, .create = by(makes)}};
  std::string text;
  auto first = [&]() -> task<> {
    auto c = co_await pool.acquire();
    auto other = [&]() -> task<> { text = co_await thrown_by(borrow(pool, 0s)); };
    co_await tandem::spawn(asio::make_strand(context), other(), tandem::use_task);
  };
  tandem::run(context, first());
  CHECK(text ==
        "tandem::resource_pool: a coroutine of another loop waits on it, and it has no lock; make one for each "
        "loop");
}

// ---- transactions
// --------------------------------------------------------------------------------------------------------

TEST_CASE("a transaction commits if its body returned, and rolls back if it threw or was stopped") {
  auto main = []() -> task<> {
    std::string log;
    connection c(1, &log);
    auto returns = [&](connection& r) -> task<int> {
      co_await r.query();
      log += "body ";
      co_return r.number();
    };
    const int value = co_await with_transaction(c, returns);
    CHECK(value == 1);
    CHECK(std::exchange(log, "") == "begin body commit ");
    auto throws = [&](connection&) -> task<> {
      throw std::runtime_error("no");
      co_return;
    };
    const std::string text = co_await thrown_by(with_transaction(c, throws));
    CHECK(text == "no");
    CHECK(std::exchange(log, "") == "begin rollback ");
    auto throws_at_once = [&](connection&) -> task<> { throw std::runtime_error("no task"); };
    const std::string at_once = co_await thrown_by(with_transaction(c, throws_at_once));
    CHECK(at_once == "no task");
    CHECK(std::exchange(log, "") == "begin rollback ");
    auto waits = [&](connection&) -> task<> { co_await sleep_for(1h); };
    const auto late = co_await tandem::try_timeout(1s, with_transaction(c, waits));
    CHECK_FALSE(late);
    CHECK(std::exchange(log, "") == "begin rollback ");
  };
  simulate(main());
}

TEST_CASE("a commit that fails is rolled back and thrown, with the failure of the rollback if that fails too") {
  auto main = []() -> task<> {
    std::string log;
    connection c(1, &log);
    auto body = [&](connection&) -> task<> {
      log += "fails ";
      co_return;
    };
    const std::string text = co_await thrown_by(with_transaction(c, body));
    CHECK(text == "commit ");
    CHECK(std::exchange(log, "") == "begin fails commit rollback ");
    auto throws = [&](connection&) -> task<> {
      log += "fails ";
      throw std::runtime_error("body");
      co_return;
    };
    std::size_t failures = 0;
    try {
      co_await with_transaction(c, throws);
    } catch (const tandem::exception_group& e) {
      failures = e.exceptions().size();
    }
    CHECK(failures == 2);
    log = "fails ";
    const std::string begin = co_await thrown_by(with_transaction(c, body));
    CHECK(begin == "begin ");
    CHECK(log == "fails begin ");  // there is nothing to end
  };
  simulate(main());
}

TEST_CASE("the frames of a transaction's body are gone before it ends; the rollback after a stop is shielded") {
  auto main = []() -> task<> {
    std::string log;
    account a{&log};
    enum { returns, throws, waits };
    for (const auto how : {returns, throws, waits}) {
      log.clear();
      auto body = [&](account&) -> task<> {
        const kit::at_exit ends([&] { log += "body "; });
        if (how == waits) co_await sleep_for(1h);
        if (how == throws) throw std::runtime_error("no");
      };
      const auto begin = clock::now();
      const std::string text = co_await thrown_by(tandem::try_timeout(500ms, with_transaction(a, body)));
      CHECK(text == (how == throws ? "no" : ""));
      CHECK(log == (how == returns ? "begin body commit " : "begin body rollback "));
      CHECK(clock::now() - begin == (how == waits ? 1500ms : 1s));
    }
  };
  simulate(main());
}

TEST_CASE("a commit and its rollback that both fail are thrown together; the resource of a pool is discarded") {
  auto main = []() -> task<> {
    std::string log;
    bool commit_fails = true, rollback_fails = true;
    auto create = [&]() -> task<account> { co_return account{&log, commit_fails, rollback_fails}; };
    resource_pool<account> pool{{.max = 1, .create = create}};
    auto returns = [](account&) -> task<> { co_return; };
    std::vector<std::string> failures;
    auto transacts = [&]() -> task<> {
      auto whole = with_transaction(pool, returns);
      co_await std::move(whole);
    };
    try {
      co_await transacts();
    } catch (const tandem::exception_group& e) {
      for (const auto& one : e.exceptions()) {
        try {
          std::rethrow_exception(one);
        } catch (const std::exception& f) {
          failures.push_back(f.what());
        }
      }
    }
    CHECK(failures == std::vector<std::string>{"commit ", "rollback "});
    CHECK(std::exchange(log, "") == "begin commit rollback ");
    CHECK((pool.stats().discarded == 1 && pool.stats().idle == 0));
    rollback_fails = false;  // of the next one
    const std::string text = co_await thrown_by(transacts());
    CHECK(text == "commit ");
    CHECK(std::exchange(log, "") == "begin commit rollback ");
    CHECK((pool.stats().discarded == 2 && pool.stats().idle == 0));
    commit_fails = false, rollback_fails = true;
    auto throws = [](account&) -> task<> {
      throw std::runtime_error("body");
      co_return;
    };
    const std::string both = co_await thrown_by(with_transaction(pool, throws));
    CHECK(both == "tandem::exception_group: 2 failures: body; rollback ");
    CHECK((pool.stats().discarded == 3 && pool.stats().idle == 0));
  };
  simulate(main());
}

TEST_CASE("a resource of a pool goes back after a commit or a rollback, and is discarded after a stop") {
  auto main = []() -> task<> {
    std::string log;
    auto create = [&]() -> task<connection> { co_return connection(1, &log); };
    resource_pool<connection> pool{{.max = 1, .create = create}};
    auto returns = [](connection& c) -> task<> { co_await c.query(); };
    co_await with_transaction(pool, returns);
    CHECK((pool.stats().idle == 1 && pool.stats().discarded == 0));
    auto throws = [](connection& c) -> task<> {
      co_await c.query();
      throw std::runtime_error("no");
    };
    co_await thrown_by(with_transaction(pool, throws));
    CHECK((pool.stats().idle == 1 && pool.stats().discarded == 0));
    auto waits = [](connection&) -> task<> { co_await sleep_for(1h); };
    co_await tandem::try_timeout(1s, with_transaction(pool, waits));
    CHECK((pool.stats().size == 0 && pool.stats().discarded == 1));
    log += "fails ";
    co_await thrown_by(with_transaction(pool, returns));
    CHECK((pool.stats().size == 0 && pool.stats().discarded == 2));
  };
  simulate(main());
}

// ---- all schedules
// -------------------------------------------------------------------------------------------------------

TEST_CASE("under any schedule, stop and end of the context no resource is lost, doubled, or lent while it is in use") {
  struct state {
    int made = 0, in_use = 0;
    bool checks = false, resets = false;
    std::optional<resource_pool<connection>> pool;
    task<> uses(int times) {
      for (int i = 0; i != times; ++i) {
        try {
          auto c = co_await pool->acquire();
          CHECK(c->is_clean());
          CHECK(++in_use <= 2);
          const kit::at_exit at_end([this] { --in_use; });
          co_await c->query();
          if (c->number() == 2) c.discard();
        } catch (const std::runtime_error& e) {
          CHECK(std::string(e.what()) == "refused");
        }
      }
    }
    task<> gives_up() {
      for (int i = 0; i != 2; ++i) {
        try {
          auto first = co_await tandem::race(pool->acquire(), tandem::yield());
          if (first.index() != 0) continue;
          CHECK(first.get<0>()->is_clean());
          co_await first.get<0>()->query();
        } catch (const std::runtime_error& e) {
          CHECK(std::string(e.what()) == "refused");
        }
      }
    }
  };
  for (int kind = 0; kind != 4; ++kind) {
    kit::explore<state>(
        [kind](state& s) -> task<> {
          auto create = [&s]() -> task<connection> {
            const int number = ++s.made;
            co_await tandem::yield();
            if (number == 3) throw std::runtime_error("refused");
            co_return connection(number);
          };
          options o{.min = static_cast<std::size_t>(kind % 2), .max = 2, .check_after = 0s, .create = create};
          auto check = [](connection& c) -> task<bool> {
            CHECK(c.is_clean());
            co_await c.query();
            co_return c.number() != 1;
          };
          auto reset = [](connection& c) -> task<> {
            CHECK(c.is_clean());
            co_await c.query();
            if (c.number() == 4) throw std::runtime_error("not reset");
          };
          if (kind / 2 == 1) o.check = check, o.reset = reset;
          s.pool.emplace(std::move(o));
          co_await gather(s.uses(2), s.uses(1), s.gives_up());
          co_await s.pool->close();
          CHECK(s.pool->stats().size == 0);
        },
        [](state& s, kit::end how) {
          CHECK(how != kit::end::failed);
          CHECK(s.in_use == 0);
          if (!s.pool) return;
          const auto stats = s.pool->stats();
          CHECK(stats.lent == 0);
          CHECK(stats.waiting == 0);
          if (how == kit::end::returned) CHECK(stats.size == 0);
        });
  }
}
