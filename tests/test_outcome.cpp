#include <tandem/outcome.hpp>

#include <tandem/gather.hpp>
#include <tandem/run.hpp>
#include <tandem/task_group.hpp>

#include "kit/kit.hpp"

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

using namespace std::chrono_literals;
using kit::after;
using tandem::gather;
using tandem::outcome;
using tandem::return_exceptions;
using tandem::simulate;
using tandem::task;

TEST_CASE(
    "an outcome has a value or an error, and value() gives the one or throws the other, as often as it is asked") {
  auto main = []() -> task<> {
    auto fails = []() -> task<int> {
      throw std::runtime_error("bad");
      co_return 0;
    };
    auto nothing = []() -> task<> { co_return; };
    auto ended = co_await gather(return_exceptions, after(1s, 1), fails(), nothing());
    auto& [good, bad, none] = ended;
    STATIC_REQUIRE(std::is_same_v<decltype(none), outcome<>>);
    CHECK((good.has_value() && good && good.value() == 1 && !good.error()));
    CHECK((none.has_value() && !none.error()));
    CHECK_FALSE(bad.has_value());
    for (int i = 0; i != 2; ++i) CHECK_THROWS_WITH(bad.value(), "bad");
    const outcome<int> copy = bad;
    CHECK(copy.error() == bad.error());  // shared, not copied
    CHECK_THROWS_WITH(copy.value(), "bad");
  };
  simulate(main());
}

TEST_CASE("the outcome of a child that was cancelled alone is the error cancelled") {
  auto main = []() -> task<> {
    auto body = [](tandem::task_group& group) -> task<> {
      auto child = group.spawn(after(1h, 1));
      child.cancel();
      const auto ended = co_await gather(return_exceptions, child);
      CHECK_FALSE(std::get<0>(ended));
      CHECK_THROWS_AS(std::get<0>(ended).value(), tandem::cancelled);
    };
    co_await tandem::with_task_group(body);
  };
  simulate(main());
  const outcome<int> of_nothing{tandem::detail::result<int>()};  // what a child leaves that was stopped
  CHECK_FALSE(of_nothing);
  CHECK_THROWS_AS(of_nothing.value(), tandem::cancelled);
}

TEST_CASE("outcomes are copied, assigned and sorted like values") {
  auto main = []() -> task<> {
    std::vector<task<int>> tasks;
    for (int i : {3, 1, 2}) tasks.push_back(after(1s, i));
    auto outcomes = co_await gather(return_exceptions, std::move(tasks));
    std::sort(outcomes.begin(), outcomes.end(), [](auto& a, auto& b) { return a.value() < b.value(); });
    const outcome<int> copy = outcomes.front();
    CHECK(copy.value() == 1);
    outcomes.erase(outcomes.begin());
    CHECK(outcomes.back().value() == 3);
  };
  simulate(main());
}

TEST_CASE("outcomes of references and of move-only values") {
  auto main = []() -> task<> {
    int target = 0;
    auto reference = [&]() -> task<int&> { co_return target; };
    auto unique = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(1); };
    auto bound6 = co_await gather(return_exceptions, reference(), unique());
    auto& [r, u] = bound6;
    CHECK(&r.value().get() == &target);
    const std::unique_ptr<int> taken = std::move(u).value();
    CHECK(*taken == 1);
  };
  simulate(main());
}

TEST_CASE("an outcome is copied and assigned as its value is, from a value to an error and back") {
  struct constant {
    const int value = 1;
  };
  STATIC_REQUIRE(std::is_copy_constructible_v<outcome<int>>);
  STATIC_REQUIRE(std::is_copy_assignable_v<outcome<std::string>>);
  STATIC_REQUIRE(std::is_copy_assignable_v<outcome<>>);
  STATIC_REQUIRE(std::is_copy_assignable_v<outcome<int&>>);
  STATIC_REQUIRE(!std::is_copy_constructible_v<outcome<std::unique_ptr<int>>>);
  STATIC_REQUIRE(!std::is_copy_assignable_v<outcome<std::unique_ptr<int>>>);
  STATIC_REQUIRE(std::is_move_assignable_v<outcome<std::unique_ptr<int>>>);
  STATIC_REQUIRE(std::is_copy_constructible_v<outcome<constant>>);
  STATIC_REQUIRE(!std::is_move_assignable_v<outcome<constant>>);
  auto main = []() -> task<> {
    auto fails = []() -> task<std::string> {
      throw std::runtime_error("bad");
      co_return "";
    };
    const std::string text(100, 'a');
    const auto ended = co_await gather(return_exceptions, after(1s, text), fails());
    const auto& [good, bad] = ended;
    outcome<std::string> one = good, two = bad;
    one = bad;
    two = good;
    CHECK_THROWS_WITH(one.value(), "bad");
    CHECK(two.value() == text);
    CHECK_FALSE(two.error());
    std::swap(one, two);
    CHECK(one.value() == text);
    CHECK_THROWS_WITH(two.value(), "bad");
    auto& same = one;
    one = same;
    CHECK(one.value() == text);
    CHECK(good.value() == text);
    CHECK_THROWS_WITH(bad.value(), "bad");
  };
  simulate(main());
}

TEST_CASE("value() of an outcome that stays is a reference to what is kept, that of one that goes moves it out") {
  auto main = []() -> task<> {
    auto nothing = []() -> task<> { co_return; };
    auto ended = co_await gather(return_exceptions, after(1s, std::string(100, 'a')), nothing());
    auto& [text, none] = ended;
    STATIC_REQUIRE(std::is_same_v<decltype(none.value()), std::monostate&>);
    STATIC_REQUIRE(std::is_same_v<decltype(std::as_const(text).value()), const std::string&>);
    STATIC_REQUIRE(std::is_same_v<decltype(std::move(text).value()), std::string>);
    none.value();
    text.value() += 'b';
    CHECK(&text.value() == &std::as_const(text).value());
    const char* const characters = text.value().data();
    const std::string taken = std::move(text).value();
    CHECK(taken == std::string(100, 'a') + 'b');
    CHECK((taken.data() == characters));
  };
  simulate(main());
}
