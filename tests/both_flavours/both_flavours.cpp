#include "unit.hpp"

#include "catch.hpp"

TEST_CASE("one program may hold tandem on both flavours: each gathers, sleeps and runs on its own Asio") {
  for (const unit& u : {on_asio, on_boost}) {
    CHECK(u.gathers() == "1 and 2 at 300 ms");
    CHECK(u.posts() == "handler, task");
  }
}

TEST_CASE("each flavour catches its own exceptions and not the other's") {
  for (const unit& u : {on_asio, on_boost}) {
    CHECK(u.catches() == "timed_out, cancelled");
    CHECK(u.is_own(u.throws));
  }
  CHECK_FALSE(on_asio.is_own(on_boost.throws));
  CHECK_FALSE(on_boost.is_own(on_asio.throws));
}

TEST_CASE("each flavour has a loop and a clock of its own, so that a task on one may simulate the other") {
  CHECK(on_asio.around(on_boost.gathers) == "1 and 2 at 300 ms, around it 2000 ms");
  CHECK(on_boost.around(on_asio.gathers) == "1 and 2 at 300 ms, around it 2000 ms");
}
