#include <tandem/queue.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/race.hpp>
#include <tandem/run.hpp>
#include <tandem/task_group.hpp>

#include "kit/allocations.hpp"
#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(strand.hpp)

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <list>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using kit::allocations;
using kit::at;
using kit::thrown_by;
using tandem::clock;
using tandem::concurrent_queue;
using tandem::gather;
using tandem::overflow;
using tandem::queue;
using tandem::queue_closed;
using tandem::queue_options;
using tandem::race;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::unbounded;
using tandem::yield;

namespace {

/// Where every item is. Items are numbered in the order in which they are made, pops in the order in which they are
/// asked for.
struct ledger {
  int made = 0, live = 0, asked = 0, pushed = 0;
  struct pop {
    int turn, item;
  };
  std::vector<pop> pops;

  std::vector<int> popped() const {
    std::vector<int> numbers;
    for (const pop& p : pops) numbers.push_back(p.item);
    return numbers;
  }
};

class item {
 public:
  explicit item(ledger& l) noexcept : ledger_(&l), number_(l.made++) { ++l.live; }
  item(item&& o) noexcept : ledger_(std::exchange(o.ledger_, nullptr)), number_(o.number_) {}
  item& operator=(item&&) = delete;
  ~item() {
    if (ledger_) --ledger_->live;
  }
  int number() const noexcept { return number_; }

 private:
  ledger* ledger_;
  int number_;
};

template <class Queue>
task<> pushes(Queue& q, ledger& l, int n) {
  for (int i = 0; i != n; ++i) l.pushed += co_await q.push(item(l));
}
template <class Queue>
task<> pops(Queue& q, ledger& l, int n) {
  for (int i = 0; i != n; ++i) {
    const int turn = l.asked++;
    if (const std::optional<item> got = co_await q.pop()) l.pops.push_back({turn, got->number()});
  }
}
/// Up to the end.
template <class Queue>
task<> pops_all(Queue& q, ledger& l) {
  for (;;) {
    const int turn = l.asked++;
    const std::optional<item> got = co_await q.pop();
    if (!got) co_return;
    l.pops.push_back({turn, got->number()});
  }
}

/// What is left in the queue, in order.
template <class Queue>
std::vector<int> drain(Queue& q) {
  std::vector<int> numbers;
  while (const std::optional<item> got = q.try_pop()) numbers.push_back(got->number());
  return numbers;
}

/// Every item that was accepted has been popped, or dropped, or is still there, once; what is there is in order.
template <class Queue>
void check_books(Queue& q, const ledger& l, kit::end how) {
  const tandem::queue_stats s = q.stats();
  CHECK(s.pushing == 0);
  CHECK(s.popping == 0);
  const std::vector<int> left = drain(q);
  CHECK(s.size == left.size());
  CHECK(std::is_sorted(left.begin(), left.end()));
  std::vector<int> all = l.popped();
  all.insert(all.end(), left.begin(), left.end());
  std::sort(all.begin(), all.end());
  CHECK(std::adjacent_find(all.begin(), all.end()) == all.end());
  CHECK(s.popped == l.pops.size());
  CHECK(s.pushed == all.size());
  CHECK(l.live == 0);
  if (how != kit::end::destroyed) CHECK(static_cast<std::size_t>(l.pushed) == all.size());
}
/// Who asked earlier got what was pushed earlier.
void check_order(const ledger& l) {
  std::vector<ledger::pop> pops = l.pops;
  std::sort(pops.begin(), pops.end(), [](auto& a, auto& b) { return a.turn < b.turn; });
  CHECK(std::is_sorted(pops.begin(), pops.end(), [](auto& a, auto& b) { return a.item < b.item; }));
}

constexpr std::size_t capacities[] = {0, 1, 3, unbounded};

/// Holds an item back, and gives it up a while after its race was decided, by a failure: whoever was promised the other
/// arm's item never gets it.
task<> spoils_race(clock::duration cleans_up_for) {
  auto clean_up = [&]() -> task<> {
    co_await sleep_for(cleans_up_for);
    throw std::runtime_error("spoilt");
  };
  co_await tandem::finally(sleep_for(1h), clean_up);
}
/// Is promised an item, and does not take it.
template <class Queue>
task<> declines(Queue& q, clock::duration after) {
  const std::string said = co_await thrown_by(race(spoils_race(after), q.pop()));
  CHECK(said == "spoilt");
}

}  // namespace

// ---- pushing and popping -------------------------------------------------------------------------------------------

TEST_CASE("items come out in the order in which they were accepted, through queues of every capacity") {
  for (const std::size_t capacity : capacities) {
    ledger l;
    queue<item> q(capacity);
    auto main = [&]() -> task<> { co_await gather(pushes(q, l, 100), pops(q, l, 100)); };
    simulate(main());
    std::vector<int> expected(100);
    for (int i = 0; i != 100; ++i) expected[static_cast<std::size_t>(i)] = i;
    CHECK(l.popped() == expected);
    check_books(q, l, kit::end::returned);
  }
}

TEST_CASE("a push that finds a place, and a pop that finds an item, do not suspend") {
  bool other_ran = false;
  auto main = [&]() -> task<> {
    auto other = [&]() -> task<> {
      co_await yield();
      other_ran = true;
    };
    auto does_not_wait = [&]() -> task<> {
      co_await yield();  // the other one is next
      queue<int> q(2);
      co_await q.push(1);
      co_await q.push(2);
      const auto one = co_await q.pop();
      const auto two = co_await q.pop();
      CHECK(one == 1);
      CHECK(two == 2);
      CHECK(!other_ran);
    };
    co_await gather(does_not_wait(), other());
  };
  simulate(main());
  CHECK(other_ran);
}

TEST_CASE("a full queue lets a push wait; its item is accepted when another is popped") {
  queue<int> q(1);
  std::string order;
  auto main = [&]() -> task<> {
    auto pushes = [&]() -> task<> {
      co_await q.push(1);
      order += "pushed 1, ";
      co_await q.push(2);
      order += "pushed 2, ";
    };
    auto pops = [&]() -> task<> {
      co_await sleep_for(1s);
      CHECK(q.stats().pushing == 1);
      const auto one = co_await q.pop();
      CHECK(one == 1);
      CHECK(q.size() == 1);
      order += "popped 1, ";
      co_await yield();
      order += "end";
    };
    co_await gather(pushes(), pops());
  };
  simulate(main());
  CHECK(order == "pushed 1, popped 1, pushed 2, end");
}

TEST_CASE("with a capacity of 0 a push waits until its item is taken") {
  queue<int> q(0);
  auto main = [&]() -> task<> {
    auto pushes = [&]() -> task<> {
      co_await q.push(1);
      CHECK(clock::now() == at(1s));
      co_await sleep_for(1s);
      co_await q.push(2);  // somebody waits for it
      CHECK(clock::now() == at(2s));
    };
    auto pops = [&]() -> task<> {
      co_await sleep_for(1s);
      CHECK(q.empty());
      const auto one = co_await q.pop();
      CHECK(one == 1);
      const auto two = co_await q.pop();
      CHECK(two == 2);
      CHECK(clock::now() == at(2s));
    };
    co_await gather(pushes(), pops());
  };
  simulate(main());
}

TEST_CASE("who waits goes on in its turn, never inside the call that lets it") {
  queue<int> q(1);
  int resumed = 0;
  auto main = [&]() -> task<> {
    auto pops = [&]() -> task<> {
      const auto got = co_await q.pop();
      CHECK(got.has_value());
      ++resumed;
    };
    auto other = [&]() -> task<> {
      CHECK(q.try_push(1));
      co_await q.push(2);
      CHECK(resumed == 0);
      co_await yield();
      CHECK(resumed == 2);
    };
    co_await gather(pops(), pops(), other());
    auto pushes = [&]() -> task<> {
      co_await q.push(3);
      ++resumed;
    };
    auto takes = [&]() -> task<> {
      CHECK(q.try_pop() == 3);
      const auto got = co_await q.pop();
      CHECK(got == 3);
      CHECK(resumed == 3);
      q.close();
      CHECK(resumed == 3);
      co_return;
    };
    co_await gather(pushes(), pushes(), takes());
  };
  simulate(main());
  CHECK(resumed == 4);
}

TEST_CASE("pushers and poppers are each served in the order in which they came, under any schedule") {
  for (const std::size_t capacity : capacities) {
    struct state {
      queue<item> q;
      ledger l;
    };
    auto make = [&] {
      struct made final : kit::scenario {
        explicit made(std::size_t c) : q(c) {}
        task<> main() override {
          co_await gather(pushes(q, l, 5), pops(q, l, 4), pushes(q, l, 3), pops(q, l, 3), pushes(q, l, 2),
                          pops(q, l, 3));
        }
        void check(kit::end how) override {
          CHECK(how != kit::end::failed);
          check_order(l);
          if (how == kit::end::returned)
            for (const ledger::pop& p : l.pops) CHECK(p.item == p.turn);
          check_books(q, l, how);
        }
        queue<item> q;
        ledger l;
      };
      return std::make_unique<made>(capacity);
    };
    kit::explore(make);
  }
}

TEST_CASE("nobody overtakes: try_push and try_pop leave those who wait their turn") {
  queue<int> q(1);
  std::vector<int> got;
  auto main = [&]() -> task<> {
    auto pushes = [&](int i) -> task<> { co_await q.push(i); };
    auto pops = [&]() -> task<> {
      while (const auto i = co_await q.pop()) got.push_back(*i);
    };
    auto tries = [&]() -> task<> {
      CHECK(!q.try_push(9));
      CHECK(q.try_pop() == 1);
      CHECK(!q.try_push(9));  // the place is the second push's from the moment it became free
      CHECK(q.try_pop() == 2);
      CHECK(q.try_pop() == 3);
      CHECK(!q.try_pop());
      co_return;
    };
    co_await gather(pushes(1), pushes(2), pushes(3), tries());
    auto hands_over = [&]() -> task<> {
      CHECK(q.try_push(4));
      CHECK(!q.try_pop());  // it is the popper's
      CHECK(q.empty());
      co_await yield();
      q.close();
    };
    co_await gather(pops(), hands_over());
  };
  simulate(main());
  CHECK(got == std::vector{4});
}

TEST_CASE("what cannot be pushed by try_push is where it was") {
  queue<std::unique_ptr<int>> q(1);
  auto one = std::make_unique<int>(1), two = std::make_unique<int>(2);
  CHECK(q.try_push(std::move(one)));
  CHECK(one == nullptr);
  CHECK(!q.try_push(std::move(two)));
  CHECK(*two == 2);
  q.close();
  CHECK_THROWS_AS(q.try_push(std::move(two)), queue_closed);
  CHECK(*two == 2);
}

// ---- when it is full -----------------------------------------------------------------------------------------------

TEST_CASE("a full queue that drops the oldest item accepts each push") {
  auto main = []() -> task<> {
    queue<int> q({.capacity = 2, .when_full = overflow::drop_oldest});
    for (int i = 0; i != 4; ++i) {
      const bool accepted = co_await q.push(i);
      CHECK(accepted);
    }
    CHECK(q.try_push(4));
    CHECK(q.stats().dropped == 3);
    CHECK(q.stats().pushed == 5);
    CHECK(q.stats().unfinished == 2);
    CHECK(q.try_pop() == 3);
    CHECK(q.try_pop() == 4);
    CHECK(!q.try_pop());
  };
  simulate(main());
}

TEST_CASE("a full queue that drops the newest says so, and try_push leaves it with the caller") {
  auto main = []() -> task<> {
    queue<int> q({.capacity = 2, .when_full = overflow::drop_newest});
    for (int i = 0; i != 4; ++i) {
      const bool accepted = co_await q.push(i);
      CHECK(accepted == (i < 2));
    }
    CHECK(q.stats().dropped == 2);
    CHECK(!q.try_push(4));
    CHECK(q.stats().dropped == 2);
    CHECK(q.stats().pushed == 2);
    CHECK(q.try_pop() == 0);
    CHECK(q.try_pop() == 1);
  };
  simulate(main());
}

TEST_CASE("a full queue that refuses throws queue_full") {
  auto main = []() -> task<> {
    queue<int> q({.capacity = 1, .when_full = overflow::refuse});
    co_await q.push(1);
    const std::string said = co_await thrown_by(q.push(2));
    CHECK(said == "tandem::queue_full");
    CHECK(!q.try_push(2));
    q.close();
    const std::string closed = co_await thrown_by(q.push(3));
    CHECK(closed == "tandem::queue_closed");
    CHECK(q.stats().dropped == 0);
  };
  simulate(main());
}

TEST_CASE("without a place at all, a push that does not wait is taken by who waits, and dropped or refused otherwise") {
  auto main = []() -> task<> {
    for (const overflow policy : {overflow::drop_oldest, overflow::drop_newest, overflow::refuse}) {
      queue<int> q({.capacity = 0, .when_full = policy});
      std::string said;
      auto first = [&]() -> task<> {
        const auto got = co_await q.pop();
        CHECK(got == 1);
      };
      auto second = [&]() -> task<> {
        const bool accepted = co_await q.push(1);
        CHECK(accepted);
        CHECK(!q.try_push(2));
        bool dropped = false;
        try {
          dropped = !co_await q.push(3);
        } catch (const tandem::queue_full&) {
          said = "refused";
        }
        CHECK(dropped == (policy != overflow::refuse));
      };
      co_await gather(first(), second());
      CHECK((said == "refused") == (policy == overflow::refuse));
      CHECK(q.stats().dropped == (policy == overflow::refuse ? 0 : 1));
      CHECK(q.empty());
    }
  };
  simulate(main());
}

TEST_CASE("no policy but the first lets a push wait, and none loses count of an item, under any schedule") {
  for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}, std::size_t{3}}) {
    for (const overflow policy : {overflow::drop_oldest, overflow::drop_newest, overflow::refuse}) {
      struct made final : kit::scenario {
        made(std::size_t c, overflow p) : q({.capacity = c, .when_full = p}) {}
        task<> main() override {
          auto pushes = [&](int n) -> task<> {
            for (int i = 0; i != n; ++i) {
              try {
                if (co_await q.push(item(l)))
                  ++l.pushed;
                else
                  ++dropped_newest;
              } catch (const tandem::queue_full&) {
                ++refused;
              }
              if (i % 2 == 0) co_await yield();
            }
          };
          co_await gather(pushes(4), pops_all(q, l), pushes(4), closes());
        }
        task<> closes() {
          co_await sleep_for(1s);
          q.close();
        }
        void check(kit::end how) override {
          CHECK(how != kit::end::failed);
          check_order(l);
          const tandem::queue_stats s = q.stats();
          const std::vector<int> left = drain(q);
          CHECK(s.pushed == static_cast<std::uint64_t>(l.pushed));
          CHECK(s.dropped >= static_cast<std::uint64_t>(dropped_newest));
          CHECK(s.pushed == s.popped + left.size() + s.dropped - static_cast<std::uint64_t>(dropped_newest));
          CHECK(l.made == l.pushed + dropped_newest + refused);
          CHECK(l.live == 0);
        }
        queue<item> q;
        ledger l;
        int dropped_newest = 0, refused = 0;
      };
      kit::explore([&] { return std::make_unique<made>(capacity, policy); });
    }
  }
}

// ---- several at a time ---------------------------------------------------------------------------------------------

TEST_CASE("push_range pushes all of them, and nobody gets in between") {
  for (const std::size_t capacity : capacities) {
    queue<int> q(capacity);
    std::vector<int> got;
    auto main = [&]() -> task<> {
      auto range = [&](int from) -> task<> {
        std::vector<int> items;
        for (int i = 0; i != 5; ++i) items.push_back(from + i);
        const std::size_t pushed = co_await q.push_range(std::move(items));
        CHECK(pushed == 5);
      };
      auto single = [&](int i) -> task<> { co_await q.push(i); };
      auto takes = [&]() -> task<> {
        for (int i = 0; i != 12; ++i) {
          if (i % 3 == 0) co_await yield();
          const auto one = co_await q.pop();
          got.push_back(*one);
        }
      };
      co_await gather(range(10), single(1), range(20), single(2), takes());
    };
    simulate(main());
    CHECK(got == std::vector{10, 11, 12, 13, 14, 1, 20, 21, 22, 23, 24, 2});
  }
}

TEST_CASE("push_range takes any range of what the queue holds: copies from an lvalue, moves from what is handed over") {
  auto main = []() -> task<> {
    queue<std::string> q;
    const std::array<const char*, 2> words{"a", "b"};
    std::size_t pushed = co_await q.push_range(words);
    CHECK(pushed == 2);
    std::vector<std::string> lvalue{"c", "d"};
    co_await q.push_range(lvalue);
    CHECK(lvalue == std::vector<std::string>{"c", "d"});
    co_await q.push_range(std::move(lvalue));
    std::list<std::string> list{"e"};
    co_await q.push_range(std::move(list));
    auto even = [](int i) { return i % 2 == 0; };
    auto letter = [](int i) { return std::to_string(i); };
    co_await q.push_range(std::views::iota(0, 5) | std::views::filter(even) | std::views::transform(letter));
    pushed = co_await q.push_range(std::vector<std::string>());
    CHECK(pushed == 0);
    const auto all = co_await q.pop_some(100);
    CHECK(all == std::vector<std::string>{"a", "b", "c", "d", "c", "d", "e", "0", "2", "4"});

    queue<std::unique_ptr<int>> owners;
    std::list<std::unique_ptr<int>> owned;
    owned.push_back(std::make_unique<int>(7));
    co_await owners.push_range(std::move(owned));
    const auto seven = co_await owners.pop();
    CHECK(**seven == 7);
  };
  simulate(main());
}

TEST_CASE("a push_range that is stopped leaves the first of its items accepted, and destroys the rest") {
  queue<item> q(2);
  ledger l;
  auto main = [&]() -> task<> {
    auto ranges = [&]() -> task<> {
      std::vector<item> items;
      for (int i = 0; i != 5; ++i) items.emplace_back(l);
      co_await q.push_range(std::move(items));
    };
    auto takes = [&]() -> task<> {
      co_await sleep_for(500ms);
      CHECK(q.try_pop()->number() == 0);
    };
    co_await gather(tandem::try_timeout(1s, ranges()), takes());
    CHECK(q.size() == 2);
    CHECK(l.live == 2);
    CHECK(drain(q) == std::vector{1, 2});
    CHECK(q.stats().pushing == 0);
  };
  simulate(main());
  CHECK(l.live == 0);
}

TEST_CASE("a push_range that the end of the queue meets, or a refusal, leaves the first of its items accepted") {
  ledger l;
  auto main = [&]() -> task<> {
    auto five = [&] {
      std::vector<item> items;
      for (int i = 0; i != 5; ++i) items.emplace_back(l);
      return items;
    };
    queue<item> q(2);
    auto ranges = [&]() -> task<> {
      const std::string said = co_await thrown_by(q.push_range(five()));
      CHECK(said == "tandem::queue_closed");
      CHECK(l.live == 2);
    };
    auto closes = [&]() -> task<> {
      q.close();
      co_return;
    };
    co_await gather(ranges(), closes());
    CHECK(drain(q) == std::vector{0, 1});
    queue<item> refuses({.capacity = 3, .when_full = overflow::refuse});
    const std::string said = co_await thrown_by(refuses.push_range(five()));
    CHECK(said == "tandem::queue_full");
    CHECK(drain(refuses) == std::vector{5, 6, 7});
    queue<item> newest({.capacity = 3, .when_full = overflow::drop_newest});
    std::size_t accepted = co_await newest.push_range(five());
    CHECK(accepted == 3);
    CHECK(drain(newest) == std::vector{10, 11, 12});
    queue<item> oldest({.capacity = 3, .when_full = overflow::drop_oldest});
    accepted = co_await oldest.push_range(five());
    CHECK(accepted == 5);
    CHECK(drain(oldest) == std::vector{17, 18, 19});
  };
  simulate(main());
  CHECK(l.live == 0);
}

TEST_CASE("pop_some waits for one and takes what else is there, at most as many as asked for") {
  queue<int> q;
  auto main = [&]() -> task<> {
    auto takes = [&]() -> task<> {
      auto some = co_await q.pop_some(3);
      CHECK(some == std::vector{1, 2});
      CHECK(clock::now() == at(1s));
      co_await sleep_for(2s);
      some = co_await q.pop_some(3);
      CHECK(some == std::vector{3, 4, 5});
      some = co_await q.pop_some(1);
      CHECK(some == std::vector{6});
      some = co_await q.pop_some(unbounded);
      CHECK(some == std::vector{7});
      some = co_await q.pop_some(3);
      CHECK(some.empty());
      some = co_await q.pop_some(3);
      CHECK(some.empty());
    };
    auto gives = [&]() -> task<> {
      co_await sleep_for(1s);
      co_await q.push(1);
      co_await q.push(2);
      co_await sleep_for(1s);
      for (int i = 3; i != 8; ++i) co_await q.push(i);
      co_await sleep_for(2s);
      q.close();
    };
    co_await gather(takes(), gives());
  };
  simulate(main());
  CHECK_THROWS_WITH(q.pop_some(0), "tandem::queue::pop_some: at most 0 items; it must be at least 1");
}

TEST_CASE("pop_some takes from those who wait to push too") {
  auto main = []() -> task<> {
    for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}}) {
      queue<int> q(capacity);
      auto pushes = [&](int i) -> task<> { co_await q.push(i); };
      auto takes = [&]() -> task<> {
        const auto some = co_await q.pop_some(10);
        CHECK(some == std::vector{1, 2, 3});
      };
      co_await gather(pushes(1), pushes(2), pushes(3), takes());
    }
  };
  simulate(main());
}

TEST_CASE("ranges are never mixed, and no item of one is lost, under any schedule, stop and end of the context") {
  for (const std::size_t capacity : capacities) {
    struct made final : kit::scenario {
      explicit made(std::size_t c) : q(c) {}
      task<> main() override {
        auto range = [&](int n) -> task<> {
          std::vector<item> items;
          for (int i = 0; i != n; ++i) items.emplace_back(l);
          const auto accepted = co_await q.push_range(std::move(items));
          l.pushed += static_cast<int>(accepted);
        };
        auto some = [&](std::size_t most) -> task<> {
          for (;;) {
            const int turn = l.asked++;
            const auto got = co_await q.pop_some(most);
            if (got.empty()) break;
            CHECK(got.size() <= most);
            for (const item& i : got) l.pops.push_back({turn, i.number()});
          }
        };
        auto closes = [&]() -> task<> {
          co_await sleep_for(1s);
          q.close();
        };
        co_await gather(range(4), some(3), range(2), range(5), some(1), closes());
      }
      void check(kit::end how) override {
        CHECK(how != kit::end::failed);
        if (how == kit::end::returned) CHECK(l.pushed == l.made);
        l.pushed = static_cast<int>(q.stats().pushed);  // those of a range that was stopped count too
        check_books(q, l, how);
      }
      queue<item> q;
      ledger l;
    };
    kit::explore([&] { return std::make_unique<made>(capacity); });
  }
}

// ---- promised, and not taken ---------------------------------------------------------------------------------------

TEST_CASE("a popper that was promised an item and never runs gives it back: it is the next to be popped") {
  queue<int> q(1);
  auto main = [&]() -> task<> {
    auto pushes = [&]() -> task<> {
      CHECK(q.try_push(1));
      CHECK(q.empty());
      CHECK(q.try_push(2));
      CHECK(!q.try_push(3));
      co_await sleep_for(2s);
      CHECK(q.size() == 2);  // beyond its capacity
      CHECK(!q.try_push(3));
      CHECK(q.try_pop() == 1);
      CHECK(!q.try_push(3));
      CHECK(q.try_pop() == 2);
      CHECK(q.stats().popped == 2);
      CHECK(q.stats().most == 2);
    };
    co_await gather(declines(q, 1s), pushes());
  };
  simulate(main());
}

TEST_CASE("promised items come back into their places, in whatever order their poppers go") {
  std::vector<int> order{1, 2, 3, 4};
  do {
    queue<int> q(0);
    auto main = [&]() -> task<> {
      auto pushes = [&]() -> task<> {
        for (int i = 1; i != 5; ++i) CHECK(q.try_push(std::move(i)));
        co_await sleep_for(10s);
        CHECK(q.size() == 4);
        for (int i = 1; i != 5; ++i) CHECK(q.try_pop() == i);
      };
      co_await gather(declines(q, order[0] * 1s), declines(q, order[1] * 1s), declines(q, order[2] * 1s),
                      declines(q, order[3] * 1s), pushes());
    };
    simulate(main());
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_CASE("an item that comes back goes to the first who waits, before later ones") {
  queue<int> q(2);
  std::vector<int> got;
  auto main = [&]() -> task<> {
    auto takes = [&]() -> task<> {
      co_await sleep_for(2s);
      while (const auto i = co_await q.pop()) got.push_back(*i);
    };
    auto waits_for_it = [&]() -> task<> {
      const auto i = co_await q.pop();
      CHECK(i == 1);
      CHECK(clock::now() == at(1s));
    };
    auto pushes = [&]() -> task<> {
      CHECK(q.try_push(1));
      co_await sleep_for(1500ms);
      for (int i = 2; i != 4; ++i) CHECK(q.try_push(std::move(i)));
      co_await sleep_for(1s);
      q.close();
    };
    co_await gather(declines(q, 1s), waits_for_it(), takes(), pushes());
  };
  simulate(main());
  CHECK(got == std::vector{2, 3});
}

TEST_CASE("items that come back stand before later ones, between those that came back before") {
  queue<int> q(1);
  auto main = [&]() -> task<> {
    auto pushes = [&]() -> task<> {
      for (int i = 1; i != 5; ++i) CHECK(q.try_push(std::move(i)));  // three are promised
      co_await sleep_for(1500ms);
      CHECK(q.try_pop() == 2);  // back after 1 s
      CHECK(q.try_push(5) == false);
      co_await sleep_for(1s);
      CHECK(q.size() == 2);  // 3 is back after 2 s, before 4
      co_await sleep_for(1s);
      CHECK(q.try_pop() == 1);
      CHECK(q.try_pop() == 3);
      CHECK(q.try_pop() == 4);
    };
    co_await gather(declines(q, 3s), declines(q, 1s), declines(q, 2s), pushes());
  };
  simulate(main());
}

TEST_CASE("an item that comes back has its place, also when a push that waited has been let in for it") {
  queue<int> q(8);  // as many as there is memory for at first
  auto main = [&]() -> task<> {
    auto pushes = [&]() -> task<> {
      for (int i = 0; i != 9; ++i) co_await q.push(i);
    };
    auto pops = [&]() -> task<> {
      CHECK(q.size() == 8);
      co_await sleep_for(2s);
      CHECK(q.size() == 9);
      for (int i = 0; i != 9; ++i) {
        const auto got = co_await q.pop();
        CHECK(got == i);
      }
    };
    co_await gather(pushes(), declines(q, 1s), pops());
  };
  simulate(main());
}

TEST_CASE("a promised item can still be popped after close if it comes back, and cancel drops it") {
  for (const bool cancels : {false, true}) {
    queue<item> q(1);
    ledger l;
    auto main = [&]() -> task<> {
      auto pushes = [&]() -> task<> {
        CHECK(q.try_push(item(l)));
        CHECK(q.try_push(item(l)));
        if (cancels)
          q.cancel();
        else
          q.close();
        CHECK(q.stats().unfinished == (cancels ? 1 : 2));
        co_await sleep_for(2s);
        if (cancels) {
          CHECK(q.stats().unfinished == 0);
          CHECK(q.stats().dropped == 2);
          CHECK_THROWS_AS(q.try_pop(), queue_closed);
        } else {
          CHECK(q.size() == 2);
          const auto first = co_await q.pop();
          CHECK(first->number() == 0);
          const auto second = co_await q.pop();
          CHECK(second->number() == 1);
          const auto end = co_await q.pop();
          CHECK(!end);
        }
        CHECK(l.live == 0);
      };
      co_await gather(declines(q, 1s), pushes());
    };
    simulate(main());
  }
}

TEST_CASE("promised items that come back keep their order under any schedule, stop and end of the context") {
  struct state {
    queue<item> q{2};
    ledger l;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto closes = [&]() -> task<> {
          co_await sleep_for(5s);
          s.q.close();
        };
        auto slow = [&]() -> task<> {
          co_await sleep_for(3s);
          co_await pops_all(s.q, s.l);
        };
        auto declines = [&](clock::duration after) -> task<> {
          try {
            co_await race(spoils_race(after), s.q.pop());
          } catch (const std::runtime_error&) {
          }
        };
        co_await gather(declines(1s), declines(2s), declines(0s), pushes(s.q, s.l, 5), slow(), closes());
      },
      [](state& s, kit::end how) {
        if (how == kit::end::returned) CHECK(s.l.pops.size() == 5);
        check_order(s.l);
        check_books(s.q, s.l, how);
      });
}

// ---- the end -------------------------------------------------------------------------------------------------------

TEST_CASE("after close what is there can be popped, then comes the end; nothing can be pushed") {
  auto main = []() -> task<> {
    queue<int> q(3);
    co_await q.push(1);
    co_await q.push(2);
    CHECK(!q.is_closed());
    q.close();
    q.close();
    CHECK(q.is_closed());
    const std::string said = co_await thrown_by(q.push(3));
    CHECK(said == "tandem::queue_closed");
    CHECK_THROWS_AS(q.try_push(3), queue_closed);
    const auto one = co_await q.pop();
    CHECK(one == 1);
    CHECK(q.try_pop() == 2);
    const auto end = co_await q.pop();
    CHECK(!end);
    CHECK(!q.try_pop());
    CHECK(q.stats().dropped == 0);
  };
  simulate(main());
}

TEST_CASE("close ends the waits: queue_closed for those who push, the end for those who pop") {
  ledger l;
  auto main = [&]() -> task<> {
    queue<item> full(1), empty(1);
    int refused = 0, ended = 0;
    auto pushes = [&]() -> task<> {
      try {
        co_await full.push(item(l));
      } catch (const queue_closed&) {
        ++refused;
      }
    };
    auto pops = [&]() -> task<> {
      const auto got = co_await empty.pop();
      ended += !got;
    };
    auto closes = [&]() -> task<> {
      full.close();
      empty.close();
      CHECK(full.size() == 1);
      co_return;
    };
    co_await gather(pushes(), pushes(), pushes(), pops(), pops(), closes());
    CHECK(refused == 2);
    CHECK(ended == 2);
    CHECK(l.live == 1);
  };
  simulate(main());
  CHECK(l.live == 0);
}

TEST_CASE("cancel drops what is there; queue_closed for those who wait and those who come") {
  ledger l;
  auto main = [&]() -> task<> {
    queue<item> full(2), empty(1);
    int refused = 0;
    auto pushes = [&]() -> task<> {
      try {
        co_await full.push(item(l));
      } catch (const queue_closed&) {
        ++refused;
      }
    };
    auto pops = [&]() -> task<> {
      try {
        co_await empty.pop();
      } catch (const queue_closed&) {
        ++refused;
      }
    };
    auto cancels = [&]() -> task<> {
      full.cancel();
      CHECK(full.stats().dropped == 2);
      CHECK(full.stats().unfinished == 0);
      CHECK(full.empty());
      CHECK(full.is_closed());
      CHECK(l.live == 1);  // a push's that has not run yet
      empty.cancel();
      empty.cancel();
      empty.close();
      co_return;
    };
    co_await gather(pushes(), pushes(), pushes(), pops(), cancels());
    CHECK(refused == 2);
    CHECK(l.live == 0);
    std::string said = co_await thrown_by(empty.pop());
    CHECK(said == "tandem::queue_closed");
    said = co_await thrown_by(empty.pop_some(3));
    CHECK(said == "tandem::queue_closed");
    said = co_await thrown_by(empty.push(item(l)));
    CHECK(said == "tandem::queue_closed");
    CHECK_THROWS_AS(empty.try_pop(), queue_closed);
    CHECK_THROWS_AS(empty.try_push(item(l)), queue_closed);
  };
  simulate(main());
}

TEST_CASE("cancel after close drops what was left to be popped") {
  ledger l;
  queue<item> q(2);
  CHECK(q.try_push(item(l)));
  q.close();
  q.cancel();
  CHECK(l.live == 0);
  CHECK_THROWS_AS(q.try_pop(), queue_closed);
}

TEST_CASE("an item that was promised before cancel is still its popper's") {
  queue<int> q(1);
  auto main = [&]() -> task<> {
    auto pops = [&]() -> task<> {
      const auto got = co_await q.pop();
      CHECK(got == 1);
    };
    auto cancels = [&]() -> task<> {
      CHECK(q.try_push(1));
      q.cancel();
      co_return;
    };
    co_await gather(pops(), cancels());
    CHECK(q.stats().popped == 1);
    CHECK(q.stats().dropped == 0);
  };
  simulate(main());
}

TEST_CASE("close and cancel lose nothing and leave nobody waiting, under any schedule, stop and end of the context") {
  for (const bool cancels : {false, true}) {
    for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}, std::size_t{3}}) {
      struct made final : kit::scenario {
        made(std::size_t c, bool k) : q(c), cancels_(k) {}
        task<> main() override {
          auto tries = [&](task<> t) -> task<> {
            try {
              co_await std::move(t);
            } catch (const queue_closed&) {
            }
          };
          auto ends = [&]() -> task<> {
            for (int i = 0; i != 3; ++i) co_await yield();
            if (cancels_)
              q.cancel();
            else
              q.close();
          };
          co_await gather(tries(pushes(q, l, 4)), tries(pops_all(q, l)), tries(pushes(q, l, 4)), ends(),
                          tries(pops(q, l, 2)));
        }
        void check(kit::end how) override {
          CHECK(how != kit::end::failed);
          check_order(l);
          const tandem::queue_stats s = q.stats();
          CHECK(s.pushed == s.popped + s.size + s.dropped);
          if (s.dropped != 0) {
            CHECK(cancels_);
            CHECK(s.size == 0);
          } else if (!q.is_closed() || !cancels_) {
            check_books(q, l, how);
          }
          if (how == kit::end::returned) CHECK((cancels_ || s.size == 0));
          if (q.is_closed()) CHECK(s.unfinished == s.popped + s.size);
        }
        queue<item> q;
        ledger l;
        bool cancels_;
      };
      kit::explore([&] { return std::make_unique<made>(capacity, cancels); });
    }
  }
}

// ---- task_done and join --------------------------------------------------------------------------------------------

TEST_CASE("join waits until every item that was accepted has been dealt with") {
  queue<int> q(2);
  auto main = [&]() -> task<> {
    co_await q.join();  // nothing to wait for
    auto works = [&]() -> task<> {
      while (const auto i = co_await q.pop()) {
        co_await sleep_for(*i * 1s);
        q.task_done();
      }
    };
    auto feeds = [&]() -> task<> {
      for (int i = 1; i != 5; ++i) co_await q.push(i);
      co_await q.join();
      CHECK(clock::now() == at(6s));  // 1 and 3, 2 and 4
      CHECK(q.stats().unfinished == 0);
      co_await q.join();
      q.close();
    };
    auto joins = [&]() -> task<> {
      co_await sleep_for(1ms);
      co_await q.join();
      CHECK(clock::now() == at(6s));
    };
    co_await gather(works(), works(), feeds(), joins());
  };
  simulate(main());
}

TEST_CASE("items that are dropped have been dealt with") {
  auto main = []() -> task<> {
    queue<int> oldest({.capacity = 1, .when_full = overflow::drop_oldest});
    co_await oldest.push(1);
    co_await oldest.push(2);
    CHECK(oldest.stats().unfinished == 1);
    CHECK(oldest.try_pop() == 2);
    oldest.task_done();
    co_await oldest.join();

    queue<int> q(2);
    co_await q.push(1);
    co_await q.push(2);
    CHECK(q.try_pop() == 1);
    auto joins = [&]() -> task<> {
      co_await q.join();
      CHECK(clock::now() == at(1s));
    };
    auto cancels = [&]() -> task<> {
      q.cancel();
      co_await sleep_for(1s);
      q.task_done();
    };
    co_await gather(joins(), cancels());
  };
  simulate(main());
}

TEST_CASE("task_done more often than there were items is refused") {
  queue<int> q(1);
  const char* text = "tandem::queue::task_done: called more often than items were pushed";
  CHECK_THROWS_WITH(q.task_done(), text);
  CHECK(q.try_push(1));
  q.task_done();
  CHECK_THROWS_WITH(q.task_done(), text);
}

TEST_CASE("a join that is stopped leaves its line, and others go on, under any schedule and end of the context") {
  struct state {
    queue<item> q{1};
    ledger l;
    int joined = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto works = [&]() -> task<> {
          while (const auto i = co_await s.q.pop()) {
            s.l.pops.push_back({s.l.asked++, i->number()});
            co_await yield();
            s.q.task_done();
          }
        };
        auto feeds = [&]() -> task<> {
          co_await pushes(s.q, s.l, 3);
          co_await s.q.join();
          CHECK(s.q.stats().unfinished == 0);
          ++s.joined;
          s.q.close();
        };
        auto joins = [&]() -> task<> {
          co_await yield();
          co_await s.q.join();
          ++s.joined;
        };
        auto gives_up = [&]() -> task<> { co_await tandem::try_timeout(0s, s.q.join()); };
        co_await gather(works(), feeds(), joins(), works(), gives_up());
      },
      [](state& s, kit::end how) {
        if (how == kit::end::returned) CHECK(s.joined == 2);
        check_books(s.q, s.l, how);
      });
}

// ---- races and time limits -----------------------------------------------------------------------------------------

TEST_CASE("a race of two pops takes exactly one item") {
  queue<int> left(1), right(1);
  auto main = [&]() -> task<> {
    CHECK(left.try_push(1));
    CHECK(right.try_push(2));
    auto ready = co_await race(left.pop(), right.pop());
    CHECK(ready.index() == 0);
    CHECK(ready.value() == 1);
    CHECK(right.size() == 1);
    CHECK(right.try_pop() == 2);
    auto racer = [&]() -> task<> {
      auto first = co_await race(left.pop(), right.pop());
      CHECK(first.index() == 1);
      CHECK(first.value() == 3);
      CHECK(left.stats().popping == 0);
    };
    auto pushes = [&]() -> task<> {
      CHECK(right.try_push(3));
      CHECK(left.try_push(4));  // nobody waits there any more
      co_return;
    };
    co_await gather(racer(), pushes());
    CHECK(left.try_pop() == 4);
  };
  simulate(main());
}

TEST_CASE("a race of two pops of one queue takes one item") {
  queue<int> q(2);
  auto main = [&]() -> task<> {
    auto racer = [&]() -> task<> {
      auto first = co_await race(q.pop(), q.pop(), q.pop_some(2));
      CHECK(first.index() == 0);
    };
    auto pushes = [&]() -> task<> {
      CHECK(q.try_push(1));
      CHECK(q.try_push(2));
      CHECK(q.size() == 1);
      co_return;
    };
    co_await gather(racer(), pushes());
    auto closes = [&]() -> task<> {
      auto both = [&]() -> task<> {
        auto first = co_await race(q.pop_some(5), q.pop());
        CHECK(first.index() == 0);
        CHECK(first.get<0>() == std::vector{2});
        auto ended = co_await race(q.pop(), q.pop());
        CHECK(!ended.value());
      };
      auto end = [&]() -> task<> {
        co_await yield();
        q.close();
      };
      co_await gather(both(), end());
    };
    co_await closes();
  };
  simulate(main());
}

TEST_CASE("of a race of pushes one takes effect, and the items of the others are destroyed") {
  ledger l;
  queue<item> left(1), right(1);
  auto main = [&]() -> task<> {
    auto first = co_await race(left.push(item(l)), right.push(item(l)));
    CHECK(first.index() == 0);
    CHECK(first.value());
    CHECK(l.live == 1);
    auto waits = [&]() -> task<> {
      auto second = co_await race(left.push(item(l)), left.push(item(l)));
      CHECK(second.index() == 0);
      CHECK(left.stats().pushing == 0);
    };
    auto takes = [&]() -> task<> {
      CHECK(left.try_pop()->number() == 0);
      CHECK(left.size() == 1);
      co_return;
    };
    co_await gather(waits(), takes());
    CHECK(l.live == 1);
    auto timed = co_await race(left.push(item(l)), sleep_for(1s));
    CHECK(timed.index() == 1);
    CHECK(l.live == 1);
    queue<item> newest({.capacity = 0, .when_full = overflow::drop_newest});
    auto dropped = co_await race(newest.push(item(l)), sleep_for(1s));
    CHECK(dropped.index() == 0);
    CHECK(!dropped.get<0>());
    auto of_a_range = co_await race(sleep_for(1s), right.push_range(std::vector<item>()));
    CHECK(of_a_range.index() == 1);
    CHECK(of_a_range.get<1>() == 0);
  };
  simulate(main());
  CHECK(drain(left) == std::vector{2});
}

TEST_CASE("a race that is won elsewhere, or whose winner is not taken, loses no item, under any schedule and end") {
  struct state {
    queue<item> left{1}, right{0};
    ledger l;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto racer = [&](int n) -> task<> {
          for (int i = 0; i != n; ++i) {
            auto first = co_await race(s.left.pop(), s.right.pop(), sleep_for(2s));
            std::optional<item> got;
            if (first.index() == 0) got.emplace(std::move(*first.get<0>()));
            if (first.index() == 1) got.emplace(std::move(*first.get<1>()));
            if (got) s.l.pops.push_back({0, got->number()});
          }
        };
        auto spoilt = [&]() -> task<> {
          try {
            co_await race(spoils_race(1s), s.left.pop());
          } catch (const std::runtime_error&) {
          }
        };
        auto pusher = [&]() -> task<> {
          for (int i = 0; i != 4; ++i) {
            auto first = co_await race(s.left.push(item(s.l)), s.right.push(item(s.l)), sleep_for(3s));
            if (first.index() != 2) ++s.l.pushed;
            co_await yield();
          }
        };
        co_await gather(racer(2), pusher(), spoilt(), racer(3));
      },
      [](state& s, kit::end how) {
        const std::size_t pushed = s.left.stats().pushed + s.right.stats().pushed;
        const auto left = drain(s.left), right = drain(s.right);
        CHECK(pushed == s.l.pops.size() + left.size() + right.size());
        CHECK(s.l.live == 0);
        if (how != kit::end::destroyed) CHECK(pushed == static_cast<std::size_t>(s.l.pushed));
        CHECK(s.left.stats().popping + s.left.stats().pushing == 0);
        CHECK(s.right.stats().popping + s.right.stats().pushing == 0);
      });
}

TEST_CASE("a time limit around a push or a pop takes it out of the line, or it took effect") {
  ledger l;
  queue<item> q(1);
  auto main = [&]() -> task<> {
    auto nothing = co_await tandem::try_timeout(1s, q.pop());
    CHECK(!nothing);
    CHECK(q.stats().popping == 0);
    bool late = false;
    try {
      co_await tandem::timeout(1s, q.pop());
    } catch (const tandem::timed_out&) {
      late = true;
    }
    CHECK(late);
    const auto pushed = co_await tandem::try_timeout(1s, q.push(item(l)));
    CHECK(pushed == true);
    const auto not_pushed = co_await tandem::try_timeout(1s, q.push(item(l)));
    CHECK(!not_pushed);
    CHECK(q.stats().pushing == 0);
    CHECK(l.live == 1);
    const std::optional<item> got = co_await tandem::timeout(0s, q.pop());  // it need not wait
    CHECK(got->number() == 0);
  };
  simulate(main());
  CHECK(l.live == 0);
}

TEST_CASE(
    "time limits that are over when an item comes lose nothing, under any schedule, stop and end of the context") {
  for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}}) {
    struct made final : kit::scenario {
      explicit made(std::size_t c) : q(c) {}
      task<> main() override {
        auto impatient = [&](int n) -> task<> {
          for (int i = 0; i != n; ++i) {
            const int turn = l.asked++;
            auto got = co_await tandem::try_timeout(1s, q.pop());
            if (got && *got) l.pops.push_back({turn, (*got)->number()});
          }
        };
        auto pushes = [&](int n) -> task<> {
          for (int i = 0; i != n; ++i) {
            const auto accepted = co_await tandem::try_timeout(1s, q.push(item(l)));
            l.pushed += accepted.has_value();
            co_await sleep_for(1s);
          }
        };
        co_await gather(impatient(3), pushes(3), impatient(2), pushes(2));
      }
      void check(kit::end how) override {
        CHECK(how != kit::end::failed);
        check_order(l);
        check_books(q, l, how);
      }
      queue<item> q;
      ledger l;
    };
    kit::explore([&] { return std::make_unique<made>(capacity); });
  }
}

TEST_CASE("in a stopped scope a push and a pop that need not wait take effect, and one that must does not") {
  queue<int> q(1);
  int came_to = 0;
  auto main = [&]() -> task<> {
    auto body = [&]() -> task<> {
      while (!co_await tandem::this_task::cancel_requested) co_await tandem::shield(sleep_for(1s));
      co_await q.push(1);
      ++came_to;
      const auto got = co_await q.pop();
      came_to += *got;
      co_await q.pop();
      ++came_to;
    };
    co_await tandem::try_timeout(500ms, body());
    auto full = [&]() -> task<> {
      while (!co_await tandem::this_task::cancel_requested) co_await tandem::shield(sleep_for(1s));
      co_await q.push_range(std::vector<int>(3, 5));
      ++came_to;
    };
    co_await tandem::try_timeout(500ms, full());
    CHECK(q.size() <= 1);
    CHECK(q.stats().pushing == 0);
  };
  simulate(main());
  CHECK(came_to == 2);
}

// ---- destruction ---------------------------------------------------------------------------------------------------

TEST_CASE("destroying a queue while its loop runs ends the waits: queue_closed to push and to join, the end to pop") {
  ledger l;
  std::string said;
  auto main = [&]() -> task<> {
    auto q = std::make_unique<queue<item>>(1);
    auto empty = std::make_unique<queue<item>>(1);
    auto pushes = [&]() -> task<> { said += co_await thrown_by(q->push(item(l))) + " "; };
    auto joins = [&]() -> task<> { said += co_await thrown_by(q->join()) + " "; };
    auto pops = [&]() -> task<> {
      const auto end = co_await empty->pop();
      said += end ? "an item " : "the end ";
    };
    auto pops_some = [&]() -> task<> {
      const auto end = co_await empty->pop_some(2);
      said += end.empty() ? "the end " : "items ";
    };
    auto destroys = [&]() -> task<> {
      q.reset();
      CHECK(l.live == 1);  // the waiting push's
      empty.reset();
      co_return;
    };
    co_await gather(pushes(), pushes(), joins(), pops(), pops_some(), destroys());
    CHECK(l.live == 0);
  };
  simulate(main());
  CHECK(said == " tandem::queue_closed tandem::queue_closed the end the end ");
}

TEST_CASE("what was promised before the queue went is its popper's all the same") {
  ledger l;
  auto main = [&]() -> task<> {
    auto q = std::make_unique<queue<item>>(1);
    auto pops = [&]() -> task<> {
      const auto got = co_await q->pop();
      CHECK(got->number() == 0);
    };
    auto pops_some = [&]() -> task<> {
      const auto got = co_await q->pop_some(3);
      CHECK(got.size() == 1);
    };
    auto destroys = [&]() -> task<> {
      CHECK(q->try_push(item(l)));
      CHECK(q->try_push(item(l)));
      CHECK(q->try_push(item(l)));
      q.reset();
      CHECK(l.live == 3);  // two that were promised, and one that this popper will not get
      co_return;
    };
    co_await gather(pops(), pops_some(), declines(*q, 1s), destroys());
    CHECK(l.live == 0);
  };
  simulate(main());
}

TEST_CASE("a queue that is destroyed before its context leaves those who wait to be destroyed with that") {
  ledger l;
  {
    asio::io_context context;
    queue<item> full(1), empty(1);
    tandem::spawn(context, pushes(full, l, 3), asio::detached);
    tandem::spawn(context, pops(empty, l, 3), asio::detached);
    auto joins = [&]() -> task<> { co_await full.join(); };
    tandem::spawn(context, joins(), asio::detached);
    auto races = [&]() -> task<> { co_await race(empty.pop(), full.push(item(l)), full.join()); };
    tandem::spawn(context, races(), asio::detached);
    context.poll();
    CHECK(full.stats().pushing == 2);
    CHECK(empty.stats().popping == 2);
    CHECK(l.live == 3);
  }
  CHECK(l.live == 0);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("a queue may outlive its context: what was promised to those who went with it comes back") {
  ledger l;
  queue<item> full(1), empty(1);
  {
    asio::io_context context;
    tandem::spawn(context, pushes(full, l, 3), asio::detached);
    tandem::spawn(context, pops(empty, l, 3), asio::detached);
    context.poll();
    CHECK(empty.try_push(item(l)));
    CHECK(empty.empty());
  }
  CHECK(full.stats().pushing == 0);
  CHECK(drain(full) == std::vector{0});
  CHECK(drain(empty) == std::vector{2});
  CHECK(l.live == 0);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("a queue in a frame goes with it, at every stop and every end of the context") {
  struct state {
    ledger l;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto inner = [&](queue<item>& q) -> task<> {
          co_await gather(pushes(q, s.l, 4), pops(q, s.l, 2), pops(q, s.l, 2));
        };
        queue<item> q(1);
        co_await inner(q);
        auto leaves_them_waiting = [&]() -> task<> {
          queue<item> own(0);
          auto body = [&](tandem::task_group& g) -> task<> {
            g.spawn(pushes(own, s.l, 3), {.name = "pushes", .background = true});
            g.spawn(pops_all(own, s.l), {.name = "pops", .background = true});
            co_await sleep_for(1s);
          };
          co_await tandem::with_task_group(body);
        };
        co_await leaves_them_waiting();
      },
      [](state& s, kit::end) { CHECK(s.l.live == 0); });
}

// ---- items that use their queue when they are destroyed -------------------------------------------------------------

namespace {

/// Does something to its queue when it is destroyed.
template <template <class> class Queue>
class meddler {
 public:
  enum what { pushes, pops, closes, cancels };
  meddler(Queue<meddler>& q, what w, int& left) noexcept : queue_(&q), what_(w), left_(&left) {}
  meddler(meddler&& o) noexcept : queue_(std::exchange(o.queue_, nullptr)), what_(o.what_), left_(o.left_) {}
  meddler& operator=(meddler&&) = delete;
  ~meddler() {
    if (!queue_ || *left_ == 0) return;
    --*left_;
    try {
      if (what_ == pushes) queue_->try_push(meddler(*queue_, what_, *left_));
      if (what_ == pops) queue_->try_pop();
      if (what_ == closes) queue_->close();
      if (what_ == cancels) queue_->cancel();
    } catch (const queue_closed&) {
    }
  }

 private:
  Queue<meddler>* queue_;
  what what_;
  int* left_;
};

template <template <class> class Queue>
void meddle() {
  using tool = meddler<Queue>;
  for (const auto what : {tool::pushes, tool::pops, tool::closes, tool::cancels}) {
    for (const overflow policy : {overflow::drop_oldest, overflow::drop_newest, overflow::wait}) {
      CAPTURE(what, policy);
      int left = 20;
      {
        Queue<tool> q({.capacity = 3, .when_full = policy});
        auto main = [&]() -> task<> {
          for (int i = 0; i != 6 && !q.is_closed(); ++i) {
            if (policy == overflow::wait)
              q.try_push(tool(q, what, left));
            else
              co_await q.push(tool(q, what, left));
          }
          if (!q.is_closed()) {
            std::vector<tool> some;
            for (int i = 0; i != 6; ++i) some.emplace_back(q, what, left);
            co_await tandem::try_timeout(1s, q.push_range(std::move(some)));
          }
          left = 20;
          if (what != tool::cancels) co_await race(q.pop(), sleep_for(1s));
        };
        try {
          simulate(main());
        } catch (const queue_closed&) {
        }
        left = 20;
        q.cancel();
        Queue<tool> other(unbounded);
        for (int i = 0; i != 5; ++i) other.try_push(tool(other, what, left));
      }
    }
  }
}

}  // namespace

TEST_CASE("an item's destructor may push into its queue, pop from it, close and cancel it") {
  meddle<queue>();
  meddle<concurrent_queue>();
}

// ---- what a queue may hold -----------------------------------------------------------------------------------------

TEST_CASE("a queue holds what moves without throwing: what cannot be copied, assigned or made from nothing") {
  auto main = []() -> task<> {
    queue<kit::counted> objects(1);
    co_await objects.push(kit::counted());
    const auto one = co_await objects.pop();
    CHECK(one.has_value());
    co_await objects.push_range(std::vector<kit::counted>(1));
    const auto some = co_await objects.pop_some(1);
    CHECK(some.size() == 1);
    CHECK(kit::counted::live() == 2);

    queue<std::reference_wrapper<const std::string>> references;
    const std::string text = "text";
    co_await references.push(text);
    const auto reference = co_await references.pop();
    CHECK(&reference->get() == &text);

    queue<bool> bits;
    co_await bits.push(true);
    const std::array more{false, true};
    co_await bits.push_range(more);
    const auto all = co_await bits.pop_some(5);
    CHECK(all == std::vector{true, false, true});

    queue<std::vector<int>> vectors;
    co_await vectors.push(std::vector<int>(2, 1));
    co_await vectors.push_range(std::vector<std::vector<int>>(2));
    const auto ints = co_await vectors.pop();
    CHECK(ints == std::vector{1, 1});
    CHECK(vectors.size() == 2);

    queue<std::optional<int>> optionals;
    co_await optionals.push(std::nullopt);
    const auto nothing = co_await optionals.pop();
    CHECK(nothing.has_value());
    CHECK(!*nothing);
  };
  simulate(main());
  CHECK(kit::counted::live() == 0);
}

namespace {

struct counts_moves {
  counts_moves() = default;
  counts_moves(counts_moves&& o) noexcept : moves(o.moves + 1) {}
  counts_moves& operator=(counts_moves&&) = delete;
  int moves = 0;
};
struct job {  // an aggregate, whose members need destructors
  std::string name;
  std::unique_ptr<int> number;
};

}  // namespace

TEST_CASE("an item is moved three times on its way, once more if its push waits, once less if its pop does") {
  auto main = []() -> task<> {
    queue<counts_moves> q(1);
    co_await q.push(counts_moves());
    const auto got = co_await q.pop();
    CHECK(got->moves == 1 + 3);
    auto pushes = [&]() -> task<> {
      co_await q.push(counts_moves());
      co_await q.push(counts_moves());
    };
    auto pops = [&]() -> task<> {
      CHECK(q.try_pop()->moves == 1 + 2);
      const auto waited = co_await q.pop();
      CHECK(waited->moves == 1 + 4);
    };
    co_await gather(pushes(), pops());
    auto pops_first = [&]() -> task<> {
      const auto given = co_await q.pop();
      CHECK(given->moves == 1 + 2);
    };
    auto pushes_then = [&]() -> task<> { co_await q.push(counts_moves()); };
    co_await gather(pops_first(), pushes_then());
  };
  simulate(main());
}

TEST_CASE("a queue allocates once, and nothing for a push or a pop, with a wait and without") {
  auto main = []() -> task<> {
    const long none = allocations;
    queue<int> met(0), small(1);
    CHECK(allocations == none + 2);
    long before = 0, after = 0;
    auto asks = [&]() -> task<> {
      for (int i = 0; i != 1000; ++i) {
        if (i == 20) before = allocations;
        if (i == 980) after = allocations;
        co_await met.push(i);
        co_await small.pop();
      }
    };
    auto answers = [&]() -> task<> {
      for (int i = 0; i != 1000; ++i) {
        if (i % 2 == 0) co_await yield();  // now the one waits, now the other
        co_await met.pop();
        co_await small.push(i);
        if (i % 3 == 0) co_await yield();
      }
    };
    co_await gather(asks(), answers());
    CHECK(after == before);
  };
  simulate(main());
}

TEST_CASE("an aggregate is pushed by its name, on g++ 12 too") {
  auto main = []() -> task<> {
    queue<job> jobs;
    job one{"a name that is too long for the string itself", std::make_unique<int>(1)};
    co_await jobs.push(std::move(one));
    std::vector<job> more(2);
    co_await jobs.push_range(std::move(more));
    const auto first = co_await jobs.pop();
    CHECK(*first->number == 1);
    const auto rest = co_await jobs.pop_some(5);
    CHECK(rest.size() == 2);
  };
  simulate(main());
}

TEST_CASE("what is pushed is converted where the push is made") {
  struct base {
    virtual ~base() = default;
  };
  struct derived : base {};
  auto main = []() -> task<> {
    queue<std::string> strings;
    std::string lvalue(40, 'l');
    co_await strings.push("literal");
    co_await strings.push(lvalue);
    auto later = strings.push(lvalue);
    lvalue = "changed";
    co_await later;
    CHECK(strings.try_push("tried"));
    CHECK(strings.try_push(lvalue));
    const auto all = co_await strings.pop_some(9);
    CHECK(all == std::vector<std::string>{"literal", std::string(40, 'l'), std::string(40, 'l'), "tried", "changed"});
    queue<std::unique_ptr<base>> bases;
    co_await bases.push(std::make_unique<derived>());
    CHECK(bases.size() == 1);
  };
  simulate(main());
}

TEST_CASE("a copy that throws leaves the queue as it was") {
  struct fragile {
    fragile() = default;
    fragile(const fragile& o) : number(o.number) {
      if (number == 3) throw std::runtime_error("no copy");
    }
    fragile(fragile&&) noexcept = default;
    fragile& operator=(const fragile&) = default;
    ~fragile() = default;
    int number = 0;
  };
  auto main = []() -> task<> {
    queue<fragile> q(4);
    std::vector<fragile> three(3);
    three[2].number = 3;
    CHECK_THROWS_WITH(q.push(three[2]), "no copy");
    CHECK_THROWS_WITH(q.try_push(three[2]), "no copy");
    CHECK_THROWS_WITH(q.push_range(three), "no copy");
    CHECK(q.stats().pushed == 0);
    co_await q.push_range(std::move(three));
    const auto all = co_await q.pop_some(3);
    CHECK(all[2].number == 3);
  };
  simulate(main());
}

namespace {

struct alignas(128) wide {
  explicit wide(int i) : number(i) { check(); }
  wide(wide&& o) noexcept : number(o.number) { check(); }
  wide& operator=(wide&&) = delete;
  void check() const { is_aligned = is_aligned && reinterpret_cast<std::uintptr_t>(this) % 128 == 0; }
  int number;
  static inline bool is_aligned = true;
};

}  // namespace

TEST_CASE("big and over-aligned items have their places") {
  queue<wide> q(unbounded);  // outside coroutines, whose frames compilers do not align
  for (int i = 0; i != 100; ++i) CHECK(q.try_push(wide(i)));
  for (int i = 0; i != 100; ++i) CHECK(q.try_pop()->number == i);
  CHECK(wide::is_aligned);

  auto main = []() -> task<> {
    queue<std::array<char, 5000>> big(0);
    auto pushes = [&]() -> task<> {
      std::array<char, 5000> text;
      text.fill('x');
      co_await big.push(text);
    };
    auto pops = [&]() -> task<> {
      const auto text = co_await big.pop();
      CHECK(text->back() == 'x');
    };
    co_await gather(pushes(), pops(), pops(), pushes());
  };
  simulate(main());
}

TEST_CASE("a queue that grows keeps the order of what is in it, however it has been used before") {
  queue<int> q(unbounded);
  int in = 0, out = 0;
  for (int round = 1; round != 60; ++round) {
    for (int i = 0; i != 3 * round; ++i) CHECK(q.try_push(in++));
    for (int i = 0; i != 2 * round; ++i) CHECK(q.try_pop() == out++);
  }
  while (const auto i = q.try_pop()) CHECK(*i == out++);
  CHECK(in == out);
}

// ---- bad use -------------------------------------------------------------------------------------------------------

TEST_CASE("waiting on a queue from a second loop throws logic_error that names concurrent_queue") {
  asio::io_context context;
  queue<int> q(0);
  auto waits = [&]() -> task<> { co_await q.pop(); };
  tandem::spawn(asio::make_strand(context), waits(), asio::detached);
  context.poll();
  std::string pop, push, join;
  auto refused = [&]() -> task<> {
    pop = co_await thrown_by(q.pop());
    q.close();
    co_return;
  };
  tandem::spawn(asio::make_strand(context), refused(), asio::detached);
  context.restart();
  context.poll();
  CHECK(pop == "tandem::queue: a coroutine of another loop waits on it, and it has no lock; use a concurrent_queue");

  queue<int> full(0);
  auto pushes = [&]() -> task<> { co_await full.push(1); };
  tandem::spawn(asio::make_strand(context), pushes(), asio::detached);
  context.restart();
  context.poll();
  auto also_refused = [&]() -> task<> {
    push = co_await thrown_by(full.push(2));
    const auto got = full.try_pop();
    CHECK(got == 1);
    join = co_await thrown_by(full.join());
  };
  tandem::spawn(asio::make_strand(context), also_refused(), asio::detached);
  context.restart();
  context.poll();
  CHECK(push == pop);
  CHECK(join == pop);
}

TEST_CASE("a push or a pop is awaited once") {
  queue<int> q(1);
  auto main = [&]() -> task<> {
    auto pop = q.pop();
    auto waits = [&]() -> task<> {
      const auto got = co_await pop;
      CHECK(got == 1);
    };
    auto again = [&]() -> task<> {
      std::string said;
      try {
        co_await pop;
      } catch (const std::logic_error& e) {
        said = e.what();
      }
      CHECK(said.find("awaited") != std::string::npos);
      CHECK(q.try_push(1));
      co_await yield();
      CHECK(q.try_push(2));
      said.clear();
      try {
        co_await pop;
      } catch (const std::logic_error& e) {
        said = e.what();
      }
      CHECK(said.find("awaited") != std::string::npos);
      CHECK(q.try_pop() == 2);
    };
    co_await gather(waits(), again());
  };
  simulate(main());
}

TEST_CASE("a deadlock names who waits to push, to pop and to join") {
  queue<int> q(0);
  auto pushes = [&]() -> task<> { co_await q.push(1); };
  queue<int> empty;
  auto pops = [&]() -> task<> { co_await empty.pop(); };
  auto joins_one = [&]() -> task<> {
    CHECK(empty.try_push(1));
    (void)empty.try_pop();
    co_await empty.join();
  };
  auto main = [&]() -> task<> { co_await gather(pushes(), joins_one(), pops()); };
  try {
    simulate(main());
    FAIL("a deadlock must be reported");
  } catch (const tandem::deadlock& d) {
    const std::string report = d.what();
    CHECK(report.find("waits for queue::push") != std::string::npos);
    CHECK(report.find("waits for queue::pop") != std::string::npos);
    CHECK(report.find("waits for queue::join") != std::string::npos);
  }
}

// ---- stats ---------------------------------------------------------------------------------------------------------

TEST_CASE("stats say what is there, who waits, and what has become of all items") {
  queue<int> q(2);
  CHECK(q.capacity() == 2);
  CHECK(queue<int>().capacity() == 64);
  CHECK(queue<int>(unbounded).capacity() == unbounded);
  auto main = [&]() -> task<> {
    auto pushes = [&](int i) -> task<> { co_await q.push(i); };
    auto looks = [&]() -> task<> {
      const auto s = q.stats();
      CHECK(s.capacity == 2);
      CHECK(s.size == 2);
      CHECK(s.most == 2);
      CHECK(s.pushing == 1);
      CHECK(s.popping == 0);
      CHECK(s.pushed == 2);
      CHECK(s.popped == 0);
      CHECK(s.unfinished == 2);
      CHECK(!q.empty());
      CHECK(q.try_pop() == 1);
      q.task_done();
      CHECK(q.stats().pushed == 3);
      CHECK(q.stats().popped == 1);
      CHECK(q.stats().unfinished == 2);
      CHECK(q.stats().pushing == 0);
      (void)q.try_pop();
      (void)q.try_pop();
      CHECK(q.empty());
      co_return;
    };
    co_await gather(pushes(1), pushes(2), pushes(3), looks());
    auto pops = [&]() -> task<> { co_await q.pop(); };
    auto looks_again = [&]() -> task<> {
      CHECK(q.stats().popping == 2);
      CHECK(q.try_push(4));
      CHECK(q.try_push(5));
      CHECK(q.stats().popping == 0);
      CHECK(q.stats().popped == 3);  // the two have not taken theirs yet
      CHECK(q.stats().size == 0);
      co_await yield();
      CHECK(q.stats().popped == 5);
      CHECK(q.stats().most == 2);
    };
    co_await gather(pops(), pops(), looks_again());
  };
  simulate(main());
}
