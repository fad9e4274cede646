// tandem/outcome.hpp: outcome<T>, how a child ended.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, detail/result.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "exceptions.hpp"

#include "detail/result.hpp"

#include <exception>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/outcome.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

namespace detail {
struct outcome_access;
}

/// How a child ended: with a value or with an error. A child that was cancelled has the error `cancelled`.
///
/// `stored` is T itself; a reference is kept as a reference_wrapper, void as a monostate. Copied and assigned as T is.
template <class T = void>
class outcome {
 public:
  using value_type = T;
  using stored = detail::stored_t<T>;

  bool has_value() const noexcept { return result_.has_value(); }
  explicit operator bool() const noexcept { return has_value(); }
  /// The value, or the error thrown.
  stored& value() & { return checked(), result_.get_value(); }
  const stored& value() const& { return checked(), result_.get_value(); }
  stored value() && { return checked(), std::move(result_.get_value()); }
  /// The error, or null if there is a value.
  std::exception_ptr error() const noexcept { return result_.get_error(); }

  /// Made by the library.
  explicit outcome(detail::result<T>&& r) : result_(std::move(r)) {
    if (result_.empty()) result_.set_error(std::make_exception_ptr(cancelled()));
  }

 private:
  friend struct detail::outcome_access;
  outcome() noexcept = default;  // neither yet
  void checked() const {
    if (has_value()) return;
    std::rethrow_exception(error());
  }
  detail::result<T> result_;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

struct outcome_access {
  /// Neither a value nor an error yet.
  template <class T>
  static outcome<T> make_empty() noexcept {
    return outcome<T>();
  }
  template <class T>
  static result<T>& get(outcome<T>& o) noexcept {
    return o.result_;
  }
};

}  // namespace detail

}  // namespace tandem::inline TANDEM_CONFIG
