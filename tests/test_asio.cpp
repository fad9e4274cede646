#include <tandem/asio.hpp>

#include "catch.hpp"

#include <type_traits>

TEST_CASE("tandem::asio is the Asio that the program uses") {
  STATIC_REQUIRE(std::is_same_v<tandem::asio::io_context, asio::io_context>);
  STATIC_REQUIRE(std::is_same_v<tandem::error_code, decltype(tandem::error_code(asio::error::eof))>);
  STATIC_REQUIRE(std::is_base_of_v<std::exception, tandem::system_error>);
}
