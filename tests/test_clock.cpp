#include <tandem/clock.hpp>

#include <tandem/run.hpp>

#include "catch.hpp"

#include <chrono>
#include <ctime>
#include <type_traits>

using namespace std::chrono_literals;
using namespace tandem;  // and with it two clocks, of which clock:: says which

TEST_CASE("outside a loop the clock is real and never goes back") {
  const auto before = std::chrono::steady_clock::now().time_since_epoch();
  const auto a = tandem::clock::now();
  const auto b = tandem::clock::now();
  CHECK(a.time_since_epoch() >= before);
  CHECK(b >= a);
}

TEST_CASE("under simulate the clock starts where it is told to and moves with sleeps only") {
  const tandem::clock::time_point start(24h);
  auto main = [](tandem::clock::time_point at) -> tandem::task<> {
    CHECK(tandem::clock::now() == at);
    for (int i = 0; i != 1000; ++i) co_await tandem::yield();
    CHECK(tandem::clock::now() == at);
    co_await tandem::sleep_for(90min);
    CHECK(tandem::clock::now() == at + 90min);
  };
  tandem::simulate(main(start), {.seed = 0, .start = start});
  CHECK(tandem::clock::now() != start + 90min);  // and is real again afterwards
}

TEST_CASE("a handler of the context sees virtual time too") {
  auto main = []() -> tandem::task<> {
    co_await tandem::sleep_for(1h);
    tandem::clock::time_point seen{};
    asio::post(co_await tandem::this_task::executor, [&] { seen = tandem::clock::now(); });
    co_await tandem::sleep_for(1s);
    CHECK(seen == tandem::clock::time_point(1h));
  };
  tandem::simulate(main());
}

TEST_CASE("in a loop that is run the clock is the real one") {
  auto main = []() -> task<> {
    const auto before = std::chrono::steady_clock::now().time_since_epoch();
    const auto inside = clock::now().time_since_epoch();
    co_await yield();
    const auto later = clock::now().time_since_epoch();
    CHECK(before <= inside);
    CHECK(inside <= later);
    CHECK(later <= std::chrono::steady_clock::now().time_since_epoch());
  };
  tandem::run(main());
}

TEST_CASE("on another thread than that of a simulation the clock is real") {
  auto main = []() -> task<> {
    const auto before = std::chrono::steady_clock::now().time_since_epoch();
    const auto there = co_await tandem::to_thread([] { return clock::now(); });
    CHECK(there.time_since_epoch() >= before);
    CHECK(there.time_since_epoch() <= std::chrono::steady_clock::now().time_since_epoch());
    CHECK(clock::now() == clock::time_point());
  };
  tandem::simulate(main());
}

TEST_CASE("a time_point of another clock does not convert") {
  STATIC_REQUIRE(!std::is_convertible_v<std::chrono::steady_clock::time_point, tandem::clock::time_point>);
  STATIC_REQUIRE(!std::is_convertible_v<std::chrono::system_clock::time_point, tandem::clock::time_point>);
}
