#include <tandem/exceptions.hpp>

#include "catch.hpp"

#include <string>
#include <type_traits>

using tandem::exception_group;

namespace {
std::exception_ptr failure(const char* text) { return std::make_exception_ptr(std::runtime_error(text)); }
}  // namespace

TEST_CASE("cancelled is a system_error with operation_aborted, timed_out one with timed_out") {
  CHECK(tandem::cancelled().code() == asio::error::operation_aborted);
  CHECK(tandem::timed_out().code() == asio::error::timed_out);
  STATIC_REQUIRE(std::is_base_of_v<tandem::system_error, tandem::cancelled>);
}

TEST_CASE("interrupted carries the signal") { CHECK(tandem::interrupted(15).signal() == 15); }

TEST_CASE("an exception_group lists its failures in order and says what they say") {
  const exception_group group({failure("first"), failure("second")});
  REQUIRE(group.exceptions().size() == 2);
  CHECK_THROWS_WITH(std::rethrow_exception(group.exceptions()[0]), "first");
  CHECK(std::string(group.what()) == "tandem::exception_group: 2 failures: first; second");
}

TEST_CASE("the same exception counts once in an exception_group") {
  const auto e = failure("only");
  CHECK(exception_group({e, e, nullptr}).exceptions().size() == 1);
}

TEST_CASE("groups of groups say a bounded amount") {
  std::exception_ptr e = failure("innermost");
  for (int i = 0; i != 1000; ++i)
    e = std::make_exception_ptr(exception_group({e, failure(std::string(2000, 'x').c_str())}));
  try {
    std::rethrow_exception(e);
  } catch (const exception_group& group) {
    CHECK(std::string(group.what()).size() < 1200);
  }
}

TEST_CASE("an exception_group is copied without throwing, and copies share the list") {
  STATIC_REQUIRE(std::is_nothrow_copy_constructible_v<exception_group>);
  const exception_group group({failure("a"), std::make_exception_ptr(7)});
  const exception_group copy = group;
  CHECK(&copy.exceptions() == &group.exceptions());
  CHECK(std::string(copy.what()) == "tandem::exception_group: 2 failures: a; an exception of unknown type");
}
