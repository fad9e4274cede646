#include <tandem/gather.hpp>

#include <tandem/cancel.hpp>
#include <tandem/run.hpp>
#include <tandem/task_group.hpp>

#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(steady_timer.hpp)

#include <algorithm>
#include <array>
#include <functional>
#include <list>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using kit::after;
using kit::at;
using kit::thrown_by;
using tandem::clock;
using tandem::for_each;
using tandem::gather;
using tandem::outcome;
using tandem::return_exceptions;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::transform;
using tandem::try_timeout;
using tandem::yield;

namespace {

task<int> fail_after(clock::duration d, const char* text) {
  co_await sleep_for(d);
  throw std::runtime_error(text);
}

struct stubborn {
  explicit stubborn(int v) : value(v) {}
  stubborn(stubborn&&) = default;
  stubborn& operator=(stubborn&&) = delete;
  int value;
};

}  // namespace

// ---- gather, a fixed number ----------------------------------------------------------------------------------------

TEST_CASE("gather runs its awaitables at once and gives a tuple of what they give") {
  auto main = []() -> task<> {
    int target = 0;
    auto reference = [&]() -> task<int&> { co_return target; };
    auto nothing = []() -> task<> { co_return; };
    auto bound2 = co_await gather(after(3s, 1), after(1s, std::string("two")), nothing(), sleep_for(2s),
                                  after(1s, stubborn(5)), reference());
    auto& [number, text, none, slept, one, ref] = bound2;
    STATIC_REQUIRE(std::is_same_v<decltype(none), std::monostate>);
    STATIC_REQUIRE(std::is_same_v<decltype(slept), std::monostate>);
    CHECK(number == 1);
    CHECK(text == "two");
    CHECK(one.value == 5);
    CHECK(&ref.get() == &target);
    CHECK(clock::now() == at(3s));
  };
  simulate(main());
}

TEST_CASE("gather starts its children in order, each running until it first waits") {
  std::string order;
  auto main = [&]() -> task<> {
    auto one = [&](char c) -> task<> {
      order += c;
      co_await yield();
      order += c;
    };
    co_await gather(one('a'), one('b'), one('c'));
  };
  simulate(main());
  CHECK(order == "abcabc");
}

TEST_CASE("gather of nothing gives an empty tuple, an empty vector, or void") {
  auto main = []() -> task<> {
    const std::tuple<> none = co_await gather();
    (void)none;
    std::vector<task<int>> ints;
    const std::vector<int> empty = co_await gather(std::move(ints));
    CHECK(empty.empty());
    std::vector<task<>> nothing;
    co_await gather(std::move(nothing));
    std::vector<task<int>> more;
    const auto outcomes = co_await gather(return_exceptions, std::move(more));
    CHECK(outcomes.empty());
    const std::tuple<> still_none = co_await gather(return_exceptions);
    (void)still_none;
  };
  simulate(main());
}

TEST_CASE("the first failure stops the others, joins them, and is thrown as it is") {
  auto main = []() -> task<> {
    bool cleaned = false;
    auto neighbour = [&]() -> task<int> {
      kit::counted c;
      co_return co_await tandem::finally(after(1h, 1), [&]() -> task<> {
        co_await sleep_for(5s);
        cleaned = true;
      });
    };
    const std::string text = co_await thrown_by(gather(neighbour(), fail_after(1s, "first"), fail_after(2s, "never")));
    CHECK(text == "first");
    CHECK(cleaned);
    CHECK(clock::now() == at(6s));
    CHECK(kit::counted::live() == 0);
  };
  simulate(main());
}

TEST_CASE("failures that come up while the rest is being stopped join the first in an exception_group") {
  auto main = []() -> task<> {
    auto fails_to_clean_up = [](const char* text) -> task<int> {
      co_return co_await tandem::finally(after(1h, 1), [&] { return fail_after(1s, text); });
    };
    std::string text =
        co_await thrown_by(gather(fails_to_clean_up("second"), fail_after(1s, "first"), fails_to_clean_up("third")));
    CHECK(text == "tandem::exception_group: 3 failures: first; second; third");
    auto shared = std::make_exception_ptr(std::runtime_error("shared"));
    auto fails = [&]() -> task<> {
      co_await sleep_for(1s);
      std::rethrow_exception(shared);
    };
    text = co_await thrown_by(gather(fails(), fails()));
    CHECK(text == "shared");
  };
  simulate(main());
}

TEST_CASE("children that all have a value when the stop comes deliver it, and the next wait stops") {
  bool delivered = false, went_on = false;
  auto main = [&]() -> task<> {
    auto body = [&]() -> task<> {
      auto bound3 = co_await gather(tandem::shield(after(2s, 1)), tandem::shield(after(3s, 2)));
      auto& [a, b] = bound3;
      delivered = a == 1 && b == 2;
      co_await yield();
      went_on = true;
    };
    co_await try_timeout(1s, body());
  };
  simulate(main());
  CHECK(delivered);
  CHECK_FALSE(went_on);
}

TEST_CASE("a failure during a stop is not swallowed") {
  auto main = []() -> task<> {
    auto fails_to_clean_up = []() -> task<int> {
      co_return co_await tandem::finally(after(1h, 1), [] { return fail_after(1s, "clean-up"); });
    };
    const std::string text = co_await thrown_by(tandem::timeout(1s, gather(fails_to_clean_up(), after(1h, 2))));
    CHECK(text == "clean-up");
  };
  simulate(main());
}

TEST_CASE("return_exceptions gives an outcome for each child, and a failure stops nothing") {
  auto main = []() -> task<> {
    auto nothing = []() -> task<> { co_return; };
    auto bound4 = co_await gather(return_exceptions, after(2s, 1), fail_after(1s, "bad"), nothing());
    auto& [ok, bad, none] = bound4;
    STATIC_REQUIRE(std::is_same_v<decltype(ok), outcome<int>>);
    CHECK(clock::now() == at(2s));
    CHECK(ok.has_value());
    CHECK(ok.value() == 1);
    CHECK_FALSE(ok.error());
    CHECK_FALSE(bad);
    CHECK_THROWS_WITH(bad.value(), "bad");
    CHECK_THROWS_WITH(std::rethrow_exception(bad.error()), "bad");
    CHECK(none);
  };
  simulate(main());
}

TEST_CASE("a clean-up that fails while a gather with return_exceptions is being stopped is not swallowed") {
  auto main = []() -> task<> {
    auto fails_to_clean_up = []() -> task<int> {
      co_return co_await tandem::finally(after(1h, 1), [] { return fail_after(1s, "clean-up"); });
    };
    std::string text =
        co_await thrown_by(tandem::timeout(1s, gather(return_exceptions, fails_to_clean_up(), after(1h, 2))));
    CHECK(text == "clean-up");
    text = co_await thrown_by(tandem::timeout(1s, gather(return_exceptions, fail_after(1ms, "earlier"), after(1h, 2))));
    CHECK(text.starts_with("tandem::timed_out"));
  };
  simulate(main());
}

TEST_CASE("a stop ends a gather with return_exceptions like any other") {
  bool went_on = false;
  auto main = [&]() -> task<> {
    auto body = [&]() -> task<> {
      auto bound5 = co_await gather(return_exceptions, after(1h, 1), fail_after(1ms, "x"));
      auto& [a, b] = bound5;
      (void)a, (void)b;
      went_on = true;
    };
    const auto late = co_await try_timeout(1s, body());
    CHECK_FALSE(late);
  };
  simulate(main());
  CHECK_FALSE(went_on);
}

// ---- gather, any number --------------------------------------------------------------------------------------------

TEST_CASE("gather of a vector gives the results in the order of the tasks") {
  auto main = []() -> task<> {
    std::vector<task<std::string>> all;
    for (int i = 0; i != 100; ++i) all.push_back(after(std::chrono::seconds(100 - i), std::to_string(i)));
    const auto results = co_await gather(std::move(all));
    REQUIRE(results.size() == 100);
    for (int i = 0; i != 100; ++i) CHECK(results[static_cast<std::size_t>(i)] == std::to_string(i));
    CHECK(clock::now() == at(100s));
    std::vector<task<bool>> flags;
    flags.push_back(after(1s, true));
    flags.push_back(after(1s, false));
    const std::vector<bool> bits = co_await gather(std::move(flags));
    CHECK(bits == std::vector<bool>{true, false});
    std::vector<task<stubborn>> strange;
    strange.push_back(after(1s, stubborn(3)));
    const std::vector<stubborn> one = co_await gather(std::move(strange));
    CHECK(one.front().value == 3);
  };
  simulate(main());
}

TEST_CASE("gather of a vector<task<>> gives void; its failures stop the rest") {
  int ended = 0;
  auto main = [&]() -> task<> {
    auto one = [&](int i) -> task<> {
      co_await sleep_for(std::chrono::seconds(i));
      ++ended;
      if (i == 5) throw std::runtime_error("fifth");
    };
    std::vector<task<>> all;
    for (int i = 0; i != 10; ++i) all.push_back(one(i));
    auto everything = gather(std::move(all));
    STATIC_REQUIRE(std::is_void_v<decltype(everything.await_resume())>);
    const std::string text = co_await thrown_by(std::move(everything));
    CHECK(text == "fifth");
  };
  simulate(main());
  CHECK(ended == 6);
}

TEST_CASE("gather of a vector with return_exceptions gives a vector of outcomes") {
  auto main = []() -> task<> {
    std::vector<task<int>> all;
    for (int i = 0; i != 6; ++i) all.push_back(i % 2 == 0 ? after(1s, i) : fail_after(1s, "odd"));
    const auto outcomes = co_await gather(return_exceptions, std::move(all));
    REQUIRE(outcomes.size() == 6);
    for (std::size_t i = 0; i != 6; ++i) CHECK(outcomes[i].has_value() == (i % 2 == 0));
    CHECK(outcomes[4].value() == 4);
  };
  simulate(main());
}

TEST_CASE("an empty task in a gather is invalid_argument that says which, before anything starts") {
  bool started = false;
  auto child = [&]() -> task<int> {
    started = true;
    co_return 1;
  };
  std::vector<task<int>> all;
  all.push_back(child());
  all.push_back(child());
  auto moved = std::move(all[1]);
  CHECK_THROWS_WITH(gather(std::move(all)),
                    "tandem::gather: task 1 of 2 is empty: it was moved from, or awaited before");
  CHECK_THROWS_AS(gather(child(), task<>()), std::invalid_argument);
  CHECK_FALSE(started);
}

TEST_CASE("an awaitable that was awaited, or moved from, is logic_error when it is awaited again") {
  auto main = []() -> task<> {
    int errors = 0;
    auto refused = [&](auto& awaitable) -> task<> {
      try {
        co_await awaitable;
      } catch (const std::logic_error&) {
        ++errors;
      }
    };
    auto pair = gather(after(1s, 1), after(1s, 2));
    co_await pair;
    co_await refused(pair);
    std::vector<task<int>> tasks;
    tasks.push_back(after(1s, 1));
    auto many = gather(std::move(tasks));
    auto moved = std::move(many);
    co_await refused(many);
    co_await moved;
    co_await refused(moved);
    std::vector<int> ids(2);
    auto fanned = transform(ids, [](int i) { return after(1s, i); });
    co_await fanned;
    co_await refused(fanned);
    auto limited = tandem::timeout(2s, after(1s, 1));
    co_await limited;
    co_await refused(limited);
    auto shielded = tandem::shield(after(1s, 1));
    auto taken = std::move(shielded);
    co_await refused(shielded);
    CHECK(errors == 6);
    asio::steady_timer timer(co_await tandem::this_task::executor, 0s);
    auto operation = timer.async_wait(tandem::use_task);
    co_await operation;
    co_await refused(operation);
    CHECK(errors == 7);
  };
  simulate(main());
}

TEST_CASE("a result whose move throws is that child's failure") {
  struct fragile {
    explicit fragile(int n) : moves_left(n) {}
    fragile(fragile&& o) : moves_left(o.moves_left - 1) {
      if (moves_left < 0) throw std::runtime_error("broke");
    }
    int moves_left;
  };
  auto make = [](int n) -> task<fragile> {
    co_await yield();
    co_return fragile(n);
  };
  auto main = [&]() -> task<> {
    for (int n = 0; n != 4; ++n) {
      const std::string text = co_await thrown_by(gather(make(n), after(1s, 1)));
      CHECK((text == "broke" || text.empty()));
      if (n < 2) CHECK(text == "broke");
    }
  };
  simulate(main());
}

TEST_CASE("handles may be gathered, one of them twice; a cancelled one is a failure, or an outcome") {
  auto main = []() -> task<> {
    auto body = [](tandem::task_group& group) -> task<> {
      auto one = group.spawn(after(1s, 1));
      auto two = group.spawn(after(2s, 2));
      auto all = co_await gather(one, two, one);
      CHECK(all == std::tuple(1, 2, 1));
      CHECK(clock::now() == at(2s));
      auto other = group.spawn(after(1h, 3));
      auto pending = group.spawn(after(1s, 4));
      other.cancel();
      bool thrown = false;
      try {
        co_await gather(pending, other);
      } catch (const tandem::cancelled&) {
        thrown = true;
      }
      CHECK(thrown);
      CHECK(!pending.done());  // its waiter was stopped, not the task
      auto outcomes = co_await gather(return_exceptions, pending, other, one);
      CHECK(clock::now() == at(3s));
      CHECK(std::get<0>(outcomes).value() == 4);
      CHECK_THROWS_AS(std::get<1>(outcomes).value(), tandem::cancelled);
      CHECK(std::get<2>(outcomes).value() == 1);
    };
    co_await tandem::with_task_group(body);
  };
  simulate(main());
}

TEST_CASE("gathers lose nothing under any schedule, stop or teardown") {
  struct state {
    int ended = 0;
    kit::gate gate;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto one = [&](int i) -> task<int> {
          kit::counted c;
          if (i % 3 == 0) co_await yield();
          if (i % 3 == 1) co_await s.gate.wait();
          if (i % 3 == 2) co_await sleep_for(std::chrono::seconds(i));
          s.gate.open_one();
          ++s.ended;
          co_return i;
        };
        std::vector<task<int>> all;
        for (int i = 0; i != 7; ++i) all.push_back(one(i));
        auto bound7 = co_await gather(gather(std::move(all)), one(3), one(4));
        auto& [many, three, four] = bound7;
        int sum = three + four;
        for (int x : many) sum += x;
        CHECK(sum == 28);
      },
      [](state& s, kit::end how) {
        if (how == kit::end::returned) CHECK(s.ended == 9);
        CHECK(how != kit::end::failed);
      });
}

TEST_CASE("failures are never lost under any schedule") {
  struct state {
    std::string text;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        auto fails = [](int i) -> task<> {
          kit::counted c;
          auto body = [&]() -> task<> {
            co_await sleep_for(1s);
            throw std::runtime_error("body " + std::to_string(i));
          };
          co_await tandem::finally(body(), []() -> task<> { co_await yield(); });
        };
        s.text = co_await thrown_by(gather(fails(1), fails(2), sleep_for(1h)));
      },
      [](state& s, kit::end how) {
        if (how == kit::end::returned) CHECK(s.text.find("body ") != std::string::npos);
        CHECK(how != kit::end::failed);
      });
}

// ---- transform and for_each ----------------------------------------------------------------------------------------

TEST_CASE("transform keeps the order, runs at most limit at a time, and pulls elements only as places become free") {
  auto main = []() -> task<> {
    std::vector<int> ids(20);
    for (std::size_t i = 0; i != ids.size(); ++i) ids[i] = static_cast<int>(i);
    int under_way = 0, most = 0;
    auto square = [&](int i) -> task<int> {
      most = std::max(most, ++under_way);
      co_await sleep_for(std::chrono::seconds(i % 5));
      --under_way;
      co_return i* i;
    };
    for (std::size_t limit : {1u, 3u, 20u, 100u}) {
      most = 0;
      const auto squares = co_await transform(ids, square, {.limit = limit});
      REQUIRE(squares.size() == 20);
      for (std::size_t i = 0; i != 20; ++i) CHECK(squares[i] == static_cast<int>(i * i));
      CHECK(most == static_cast<int>(std::min<std::size_t>(limit, 20)));
    }
    most = 0;
    std::vector<int> many(100, 1);
    co_await transform(many, square);
    CHECK(most == 16);  // the limit that the page states
    most = 0;
    co_await for_each(many, square);
    CHECK(most == 16);
    most = 0;
    co_await transform(return_exceptions, many, square);
    CHECK(most == 16);
  };
  simulate(main());
}

TEST_CASE("transform pulls lazily, from any range: a stream, a list, an array") {
  auto main = []() -> task<> {
    std::istringstream words("three two one");
    struct stream_range {
      std::istringstream& in;
      auto begin() { return std::istream_iterator<std::string>(in); }
      auto end() { return std::istream_iterator<std::string>(); }
    } range{words};
    auto size = [](const std::string& s) -> task<std::size_t> {
      const std::size_t n = s.size();
      co_await yield();
      co_return n;
    };
    const auto sizes = co_await transform(range, size, {.limit = 1});
    CHECK(sizes == std::vector<std::size_t>{5, 3, 3});

    int array[] = {1, 2, 3};
    int sum = 0;
    co_await for_each(array, [&](int& i) -> task<> {
      sum += i++;
      co_return;
    });
    CHECK(sum == 6);
    CHECK(array[2] == 4);

    // of 1000 elements only those are pulled for which there was a place before the failure
    struct counting {
      int* pulled;
      int i = 0;
      int operator*() const { return i; }
      counting& operator++() {
        ++*pulled;
        ++i;
        return *this;
      }
      bool operator==(const counting& o) const { return i == o.i; }
    };
    struct counting_range {
      int* pulled;
      counting begin() const { return {pulled, 0}; }
      counting end() const { return {pulled, 1000}; }
    };
    int pulled = 0;
    counting_range lazy{&pulled};
    const std::string text = co_await thrown_by(
        for_each(lazy, [](int i) { return fail_after(std::chrono::seconds(1 + i), "early"); }, {.limit = 4}));
    CHECK(text == "early");
    CHECK(pulled == 3);
  };
  simulate(main());
}

TEST_CASE("transform keeps an rvalue range and its callable until the end") {
  auto make = [] {
    std::vector<std::unique_ptr<int>> owned;
    for (int i = 0; i != 10; ++i) owned.push_back(std::make_unique<int>(i));
    auto twice = [factor = std::make_shared<int>(2)](const std::unique_ptr<int>& p) -> task<int> {
      co_await sleep_for(1s);
      co_return *p** factor;
    };
    return transform(std::move(owned), twice, {.limit = 2});
  };
  auto main = [&]() -> task<> {
    auto first = make();
    auto moved = std::move(first);
    const auto results = co_await std::move(moved);
    REQUIRE(results.size() == 10);
    CHECK(results[9] == 18);
    CHECK(clock::now() == at(5s));
  };
  simulate(main());
}

TEST_CASE("a failure in transform stops the rest and starts no more, wherever it comes from") {
  auto main = []() -> task<> {
    std::vector<int> ids(50);
    int started = 0;
    auto third_fails = [&](int) -> task<int> {
      if (++started == 3) throw std::runtime_error("third");
      co_await sleep_for(1h);
      co_return 1;
    };
    std::string text = co_await thrown_by(transform(ids, third_fails, {.limit = 10}));
    CHECK(text == "third");
    CHECK(started == 3);
    CHECK(clock::now() == at(0s));

    auto plain_throw = [](int) -> task<int> { throw std::runtime_error("no task"); };
    text = co_await thrown_by(transform(ids, plain_throw));
    CHECK(text == "no task");

    auto empty_task = [](int) { return task<int>(); };
    text = co_await thrown_by(transform(ids, empty_task));
    CHECK(text.find("empty task") != std::string::npos);

    struct broken {
      int i = 0;
      int operator*() const {
        if (i == 2) throw std::runtime_error("iterator");
        return i;
      }
      broken& operator++() {
        ++i;
        return *this;
      }
      bool operator==(const broken&) const { return false; }
    };
    struct broken_range {
      broken begin() const { return {}; }
      broken end() const { return {}; }
    } range;
    text = co_await thrown_by(for_each(range, [](int) { return sleep_for(1h); }));
    CHECK(text == "iterator");
  };
  simulate(main());
}

TEST_CASE("failures that come up while the rest is being stopped join the first, in a vector and in a fan-out too") {
  auto main = []() -> task<> {
    auto one = [](int i) -> task<int> {
      if (i == 0) co_return co_await fail_after(1s, "first");
      auto cleanup = [] { return fail_after(1s, "clean-up"); };
      co_return co_await tandem::finally(after(1h, i), cleanup);
    };
    const std::string both = "tandem::exception_group: 3 failures: first; clean-up; clean-up";
    std::vector<task<int>> tasks;
    for (int i : {1, 0, 2}) tasks.push_back(one(i));
    std::string text = co_await thrown_by(gather(std::move(tasks)));
    CHECK(text == both);
    const std::vector<int> ids{1, 0, 2, 3};
    text = co_await thrown_by(transform(ids, one, {.limit = 3}));
    CHECK(text == both);
    text = co_await thrown_by(for_each(ids, one, {.limit = 3}));
    CHECK(text == both);
    CHECK(clock::now() == at(6s));
  };
  simulate(main());
}

TEST_CASE("a range without end stops being pulled when the scope is stopped") {
  struct forever {
    int operator*() const { return 1; }
    forever& operator++() { return *this; }
    bool operator==(const forever&) const { return false; }
  };
  struct forever_range {
    forever begin() const { return {}; }
    forever end() const { return {}; }
  } range;
  int started = 0;
  auto one = [&](int) -> task<> {
    ++started;
    co_await sleep_for(1s);
  };
  auto main = [&]() -> task<> {
    auto late = co_await try_timeout(10500ms, for_each(range, one, {.limit = 2}));
    CHECK_FALSE(late);
    CHECK(started == 22);
    auto in_a_stopped_scope = [&]() -> task<> {
      co_await tandem::shield(sleep_for(2s));
      co_await for_each(range, one, {.limit = 2});
      FAIL("for_each came back");
    };
    late = co_await try_timeout(1s, in_a_stopped_scope());
    CHECK_FALSE(late);
  };
  simulate(main());
}

TEST_CASE("transform with return_exceptions gives an outcome for each element, and a failure stops nothing") {
  auto main = []() -> task<> {
    std::vector<int> ids{1, 2, 3, 4, 5};
    auto odd_fails = [](int i) { return i % 2 == 0 ? after(1s, i) : fail_after(1s, "odd"); };
    const auto outcomes = co_await transform(return_exceptions, ids, odd_fails, {.limit = 2});
    REQUIRE(outcomes.size() == 5);
    for (std::size_t i = 0; i != 5; ++i) CHECK(outcomes[i].has_value() == (ids[i] % 2 == 0));
    CHECK(outcomes[3].value() == 4);
    CHECK(clock::now() == at(3s));
  };
  simulate(main());
}

TEST_CASE("for_each gives nothing, whatever its function gives; a member function will do") {
  struct account {
    int balance = 1;
    task<int> close() {
      balance = 0;
      co_return 7;
    }
  };
  auto main = []() -> task<> {
    std::vector<account> accounts(3);
    auto closing = for_each(accounts, &account::close);
    STATIC_REQUIRE(std::is_void_v<decltype(closing.await_resume())>);
    co_await std::move(closing);
    CHECK(accounts[2].balance == 0);
    const auto codes = co_await transform(accounts, &account::close);
    CHECK(codes == std::vector<int>{7, 7, 7});
  };
  simulate(main());
}

TEST_CASE("after a stop no element is pulled, not even to see whether there is one") {
  struct watched {
    int* pulled;
    int i;
    int operator*() const { return i; }
    watched& operator++() {
      ++*pulled;
      ++i;
      return *this;
    }
    bool operator==(const watched& o) const { return i == o.i; }
  };
  struct watched_range {
    int* pulled;
    watched begin() const { return {pulled, 0}; }
    watched end() const { return {pulled, 100}; }
  };
  auto main = []() -> task<> {
    int pulled = 0;
    watched_range range{&pulled};
    auto one = [](int i) { return tandem::shield(after(1s, i)); };
    const auto late = co_await try_timeout(1500ms, transform(range, one, {.limit = 1}));
    CHECK_FALSE(late);
    CHECK(pulled == 1);
  };
  simulate(main());
}

TEST_CASE("after a stop no further element is pulled") {
  struct fragile {
    int i = 0;
    int operator*() const { return i; }
    fragile& operator++() {
      if (++i == 2) throw std::runtime_error("pulled too far");
      return *this;
    }
    bool operator==(const fragile&) const { return false; }
  };
  struct fragile_range {
    fragile begin() const { return {}; }
    fragile end() const { return {}; }
  } range;
  auto main = [&]() -> task<> {
    const auto late = co_await try_timeout(1s, for_each(range, [](int) { return sleep_for(1h); }, {.limit = 2}));
    CHECK_FALSE(late);
  };
  simulate(main());
}

TEST_CASE("a fan-out whose children all have values when the stop comes delivers them if nothing is left over") {
  auto main = []() -> task<> {
    for (std::size_t limit : {3u, 2u}) {
      bool delivered = false;
      std::vector<int> ids{1, 2, 3};
      auto body = [&]() -> task<> {
        co_await transform(ids, [](int i) { return tandem::shield(after(2s, i)); }, {.limit = limit});
        delivered = true;
      };
      co_await try_timeout(1s, body());
      CHECK(delivered == (limit == 3));
    }
  };
  simulate(main());
}

TEST_CASE("transform over nothing gives nothing, at once") {
  auto main = []() -> task<> {
    std::vector<int> none;
    const auto results = co_await transform(none, [](int i) { return after(1s, i); });
    CHECK(results.empty());
    co_await for_each(none, [](int) { return sleep_for(1s); });
    CHECK(clock::now() == at(0s));
  };
  simulate(main());
}

TEST_CASE("a limit of zero is invalid_argument that names the function") {
  std::vector<int> ids(3);
  CHECK_THROWS_WITH(transform(ids, [](int i) { return after(1s, i); }, {.limit = 0}),
                    "tandem::transform: the limit is 0; it must be at least 1");
  CHECK_THROWS_AS(for_each(ids, [](int) { return sleep_for(1s); }, {.limit = 0}), std::invalid_argument);
  CHECK_THROWS_WITH(for_each(ids, [](int) { return sleep_for(1s); }, {.limit = 0}),
                    "tandem::for_each: the limit is 0; it must be at least 1");
  CHECK_THROWS_AS(transform(return_exceptions, ids, [](int i) { return after(1s, i); }, {.limit = 0}),
                  std::invalid_argument);
}

TEST_CASE("a million immediate children of for_each need no more stack than one") {
  struct count_to {
    int i;
    int operator*() const { return i; }
    count_to& operator++() {
      ++i;
      return *this;
    }
    bool operator==(const count_to& o) const { return i == o.i; }
  };
  struct million {
    count_to begin() const { return {0}; }
    count_to end() const { return {1'000'000}; }
  } range;
  long sum = 0;
  auto add = [&](int i) -> task<> {
    sum += i;
    co_return;
  };
  auto main = [&]() -> task<> { co_await for_each(range, add, {.limit = 3}); };
  simulate(main());
  CHECK(sum == 499'999'500'000);
}

TEST_CASE("transform loses nothing under any schedule, stop or teardown") {
  struct state {
    int started = 0, ended = 0;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        std::vector<int> ids{5, 3, 8, 1, 9, 2};
        auto one = [&](int i) -> task<int> {
          kit::counted c;
          ++s.started;
          if (i % 2 == 0) co_await sleep_for(std::chrono::seconds(i));
          co_await yield();
          ++s.ended;
          co_return i;
        };
        const auto results = co_await transform(ids, one, {.limit = 2});
        CHECK(results == ids);
      },
      [](state& s, kit::end how) {
        if (how == kit::end::returned) CHECK(s.ended == 6);
        CHECK(s.ended <= s.started);
        CHECK(how != kit::end::failed);
      });
}
