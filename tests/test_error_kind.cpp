#include <tandem/error_kind.hpp>

#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(error.hpp)

#include <any>
#include <cerrno>
#include <exception>
#include <filesystem>
#include <functional>
#include <future>
#include <ios>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <typeinfo>
#include <utility>
#include <variant>

using tandem::error_kind;
using tandem::kind_of;
using tandem::kind_of_code;

namespace {
template <class E>
error_kind kind(E e) {
  return kind_of(std::make_exception_ptr(std::move(e)));
}
error_kind kind_of_asio(tandem::error_code code) { return kind(tandem::system_error(code)); }
}  // namespace

TEST_CASE("tandem's own exceptions have their kinds") {
  CHECK(kind(tandem::timed_out()) == error_kind::timeout);
  CHECK(kind(tandem::cancelled()) == error_kind::cancelled);
  CHECK(kind(tandem::unavailable("gone", tandem::clock::duration(1))) == error_kind::network);
}

TEST_CASE("Asio's errors are known by their categories and numbers") {
  namespace error = asio::error;
  CHECK(kind_of_asio(error::connection_refused) == error_kind::network);
  CHECK(kind_of_asio(error::connection_reset) == error_kind::network);
  CHECK(kind_of_asio(error::broken_pipe) == error_kind::network);
  CHECK(kind_of_asio(error::eof) == error_kind::network);
  CHECK(kind_of_asio(error::not_found) == error_kind::system);
  CHECK(kind_of_asio(error::host_not_found) == error_kind::network);
  CHECK(kind_of_asio(error::service_not_found) == error_kind::network);
  CHECK(kind_of_asio(error::timed_out) == error_kind::timeout);
  CHECK(kind_of_asio(error::operation_aborted) == error_kind::cancelled);
  CHECK(kind_of_asio(error::access_denied) == error_kind::system);
  CHECK(kind_of_asio(error::no_memory) == error_kind::system);
  CHECK(kind_of_asio({}) == error_kind::unknown);
}

TEST_CASE("the standard library's errors have their kinds, whatever Asio it is") {
  CHECK(kind(std::system_error(std::make_error_code(std::errc::connection_reset))) == error_kind::network);
  CHECK(kind(std::system_error(std::make_error_code(std::errc::timed_out))) == error_kind::timeout);
  CHECK(kind(std::system_error(std::make_error_code(std::errc::permission_denied))) == error_kind::system);
  CHECK(kind_of_code(std::make_error_code(std::errc::host_unreachable)) == error_kind::network);
  CHECK(kind_of_code(std::error_code(1, std::iostream_category())) == error_kind::system);
  CHECK(kind_of_code(std::make_error_code(std::future_errc::no_state)) == error_kind::unknown);
  CHECK(kind(std::bad_function_call()) == error_kind::system);
  CHECK(kind(std::bad_optional_access()) == error_kind::system);
  CHECK(kind(std::bad_cast()) == error_kind::system);
  CHECK(kind_of_code(std::error_code()) == error_kind::unknown);
  CHECK(kind(std::invalid_argument("")) == error_kind::validation);
  CHECK(kind(std::out_of_range("")) == error_kind::validation);
  CHECK(kind(std::domain_error("")) == error_kind::validation);
  CHECK(kind(std::length_error("")) == error_kind::validation);
  CHECK(kind(std::logic_error("")) == error_kind::system);
  CHECK(kind(std::bad_alloc()) == error_kind::system);
  CHECK(kind(std::runtime_error("")) == error_kind::unknown);
  CHECK(kind(5) == error_kind::unknown);
  CHECK(kind_of(nullptr) == error_kind::unknown);
}

TEST_CASE("what derives from an exception that has a kind has it too") {
  namespace fs = std::filesystem;
  CHECK(kind(fs::filesystem_error("", std::make_error_code(std::errc::permission_denied))) == error_kind::system);
  CHECK(kind(fs::filesystem_error("", std::make_error_code(std::errc::timed_out))) == error_kind::timeout);
  CHECK(kind(std::ios_base::failure("")) == error_kind::system);
  CHECK(kind(std::bad_array_new_length()) == error_kind::system);
  CHECK(kind(std::bad_any_cast()) == error_kind::system);
  CHECK(kind(std::bad_variant_access()) == error_kind::system);
  CHECK(kind(std::bad_weak_ptr()) == error_kind::system);
  CHECK(kind(std::future_error(std::future_errc::no_state)) == error_kind::system);
  struct busy : tandem::unavailable {
    busy() : unavailable("busy", tandem::clock::duration(1)) {}
  };
  CHECK(kind(busy()) == error_kind::network);
  struct wrong_number : std::out_of_range {
    wrong_number() : out_of_range("wrong number") {}
  };
  CHECK(kind(wrong_number()) == error_kind::validation);
}

TEST_CASE("a code of a category that nobody knows is of no known kind, whatever its number") {
  struct others : std::error_category {
    const char* name() const noexcept override { return "others"; }
    std::string message(int) const override { return ""; }
  };
  static const others category;
  CHECK(kind_of_code(std::error_code(ETIMEDOUT, category)) == error_kind::unknown);
  CHECK(kind(std::system_error(ECONNRESET, category)) == error_kind::unknown);
}

TEST_CASE("a group is of the kind that all its failures are of") {
  const auto late = std::make_exception_ptr(tandem::timed_out()), bad = std::make_exception_ptr(std::range_error(""));
  const auto also_late = std::make_exception_ptr(tandem::timed_out());
  CHECK(kind(tandem::exception_group({late, also_late})) == error_kind::timeout);
  CHECK(kind(tandem::exception_group({late, bad})) == error_kind::unknown);
  CHECK(kind(tandem::exception_group({bad, late})) == error_kind::unknown);
  const auto both = std::make_exception_ptr(tandem::exception_group({late, also_late}));
  CHECK(kind(tandem::exception_group({both, late})) == error_kind::timeout);
  CHECK(kind(tandem::exception_group({both, bad})) == error_kind::unknown);
}

TEST_CASE("kinds of one's own are told by their names") {
  constexpr error_kind payment("payment"), the_same("payment"), other("other");
  CHECK(payment == the_same);
  CHECK(payment != other);
  CHECK(payment != error_kind::business);
  CHECK(payment.name() == "payment");
  static_assert(error_kind::network.name() == "network");
}
