// tandem/error_kind.hpp: what kind of failure an exception is: error_kind, kind_of.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "exceptions.hpp"

#include TANDEM_ASIO_HEADER(error.hpp)

#include <cerrno>
#include <exception>
#include <functional>  // std::bad_function_call
#include <memory>      // std::bad_weak_ptr
#include <new>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <typeinfo>  // std::bad_cast
#include <variant>

static_assert(TANDEM_VERSION == 100, "tandem/error_kind.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// A kind of failure: one of these, or one of your own, `constexpr error_kind payment("payment")`. Kinds of one name
/// are the same.
class error_kind {
 public:
  static const error_kind network;     ///< a peer could not be reached, or is gone
  static const error_kind timeout;     ///< it took too long
  static const error_kind validation;  ///< an argument or an input is not as it must be
  static const error_kind business;    ///< a rule of the application; nothing but a classifier of yours says so
  static const error_kind system;      ///< this program, or the machine: memory, files, permissions, bugs
  static const error_kind cancelled;   ///< somebody has stopped it; this is no failure of what was called
  static const error_kind unknown;     ///< none of these

  /// The characters must stay.
  constexpr explicit error_kind(std::string_view name) noexcept : name_(name) {}
  constexpr std::string_view name() const noexcept { return name_; }
  friend constexpr bool operator==(const error_kind&, const error_kind&) = default;

 private:
  std::string_view name_;
};

inline constexpr error_kind error_kind::network("network");
inline constexpr error_kind error_kind::timeout("timeout");
inline constexpr error_kind error_kind::validation("validation");
inline constexpr error_kind error_kind::business("business");
inline constexpr error_kind error_kind::system("system");
inline constexpr error_kind error_kind::cancelled("cancelled");
inline constexpr error_kind error_kind::unknown("unknown");

/// Of an error code, std's or Boost's: by its number if it is one of the system, by its category if it is one of
/// Asio's. `unknown` for no error and for categories of others.
template <class ErrorCode>
error_kind kind_of_code(const ErrorCode& code) noexcept;

/// Of an exception:
///
///  - `cancelled`, or any other with `operation_aborted`: cancelled
///  - `timed_out`, or any other with such a code: timeout
///  - `unavailable`: network
///  - std::system_error, Boost's, and what derives from them: by the code
///  - std::invalid_argument, domain_error, length_error, out_of_range: validation
///  - std::bad_alloc, std::bad_cast and their like, and other std::logic_error: system
///  - an `exception_group`: the kind of all of them, if it is one
///
/// and otherwise unknown; null is too. It throws the exception and catches it, some microseconds.
error_kind kind_of(const std::exception_ptr& error) noexcept;

// ---- implementation ------------------------------------------------------------------------------------------------

template <class ErrorCode>
error_kind kind_of_code(const ErrorCode& code) noexcept {
  if (!code) return error_kind::unknown;
  const std::string_view category = code.category().name();
  if (category == "asio.netdb" || category == "asio.addrinfo" || category.starts_with("asio.ssl"))
    return error_kind::network;
  if (category == "asio.misc") return code.value() == asio::error::eof ? error_kind::network : error_kind::system;
  if (category == "iostream") return error_kind::system;
  if (category != "system" && category != "generic" && category != "asio.system") return error_kind::unknown;
  switch (code.value()) {
    case ECANCELED:
      return error_kind::cancelled;
    case ETIMEDOUT:
      return error_kind::timeout;
    case ECONNABORTED:
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETDOWN:
    case ENETRESET:
    case ENETUNREACH:
    case ENOTCONN:
    case EPIPE:
    case ESHUTDOWN:
      return error_kind::network;
    default:
      return error_kind::system;
  }
}

inline error_kind kind_of(const std::exception_ptr& error) noexcept {
  if (!error) return error_kind::unknown;
  try {
    std::rethrow_exception(error);
  } catch (const unavailable&) {
    return error_kind::network;
  } catch (const exception_group& g) {
    error_kind all = g.exceptions().empty() ? error_kind::unknown : kind_of(g.exceptions().front());
    for (const std::exception_ptr& e : g.exceptions())
      if (kind_of(e) != all) return error_kind::unknown;
    return all;
  } catch (const system_error& e) {
    return kind_of_code(e.code());
#if defined(TANDEM_BOOST_ASIO)
  } catch (const std::system_error& e) {
    return kind_of_code(e.code());
#endif
  } catch (const std::invalid_argument&) {
    return error_kind::validation;
  } catch (const std::domain_error&) {
    return error_kind::validation;
  } catch (const std::length_error&) {
    return error_kind::validation;
  } catch (const std::out_of_range&) {
    return error_kind::validation;
  } catch (const std::logic_error&) {
    return error_kind::system;
  } catch (const std::bad_alloc&) {
    return error_kind::system;
  } catch (const std::bad_cast&) {
    return error_kind::system;
  } catch (const std::bad_function_call&) {
    return error_kind::system;
  } catch (const std::bad_optional_access&) {
    return error_kind::system;
  } catch (const std::bad_variant_access&) {
    return error_kind::system;
  } catch (const std::bad_weak_ptr&) {
    return error_kind::system;
  } catch (...) {
    return error_kind::unknown;
  }
}

}  // namespace tandem::inline TANDEM_CONFIG
