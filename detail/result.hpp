// tandem/detail/result.hpp: what a child leaves behind: nothing yet, a value, or an exception.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"

#include <exception>
#include <functional>  // std::reference_wrapper
#include <memory>
#include <type_traits>
#include <utility>
#include <variant>  // std::monostate

static_assert(TANDEM_VERSION == 100, "tandem/detail/result.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// How a T is kept, and what it is called in a tuple or a vector: a reference becomes a reference_wrapper, void a
/// monostate.
template <class T>
struct stored {
  using type = T;
};
template <class T>
struct stored<T&> {
  using type = std::reference_wrapper<T>;
};
template <>
struct stored<void> {
  using type = std::monostate;
};
template <class T>
using stored_t = typename stored<T>::type;

template <class T>
class result {
 public:
  using value_type = stored_t<T>;

  result() noexcept {}
  result(result&& o) noexcept(std::is_nothrow_move_constructible_v<value_type>) {
    fill_from(o);
  }
  result(const result& o)
    requires std::is_copy_constructible_v<value_type>
  {
    if (o.has_value())
      set_value(o.value_);
    else if (o.has_error())
      emplace_error(o.error_);
  }
  result& operator=(result&& o)
    requires std::is_move_assignable_v<value_type> && std::is_move_constructible_v<value_type>
  {
    if (this == &o) return *this;
    if (has_value() && o.has_value()) {
      value_ = std::move(o.value_);
    } else {
      clear();
      take_from(o);
    }
    return *this;
  }
  result& operator=(const result& o)
    requires std::is_copy_assignable_v<value_type> && std::is_copy_constructible_v<value_type>
  {
    if (has_value() && o.has_value())
      value_ = o.value_;
    else if (this != &o)
      *this = result(o);
    return *this;
  }
  ~result() { clear(); }

  /// Precondition: empty.
  template <class... Args>
  void set_value(Args&&... args) {
    std::construct_at(std::addressof(value_), std::forward<Args>(args)...);
    holds_ = a_value;
  }
  /// Instead of a value, if there is one: a destructor threw after the co_return.
  void set_error(std::exception_ptr e) noexcept {
    clear();
    emplace_error(std::move(e));
  }
  /// Moves `o` here, where nothing is yet; a move constructor that throws becomes the failure.
  void take_from(result& o) noexcept {
    try {
      fill_from(o);
    } catch (...) {
      emplace_error(std::current_exception());
    }
  }

  bool empty() const noexcept { return holds_ == nothing; }
  bool has_value() const noexcept { return holds_ == a_value; }
  bool has_error() const noexcept { return holds_ == an_error; }
  /// Null if there is none.
  std::exception_ptr get_error() const noexcept { return has_error() ? error_ : nullptr; }
  value_type& get_value() noexcept { return value_; }
  const value_type& get_value() const noexcept { return value_; }

  /// The value moved out, or the exception thrown.
  T take() {
    if (has_error()) rethrow();
    if constexpr (std::is_reference_v<T>)
      return value_.get();
    else if constexpr (!std::is_void_v<T>)
      return std::move(value_);
  }

 private:
  void fill_from(result& o) noexcept(std::is_nothrow_move_constructible_v<value_type>) {
    if (o.has_value())
      set_value(std::move(o.value_));
    else if (o.has_error())
      emplace_error(std::move(o.error_));
  }
  void emplace_error(std::exception_ptr e) noexcept {
    std::construct_at(std::addressof(error_), std::move(e));
    holds_ = an_error;
  }
  void clear() noexcept {
    if (holds_ == a_value)
      std::destroy_at(std::addressof(value_));
    else if (holds_ == an_error)
      std::destroy_at(std::addressof(error_));
    holds_ = nothing;
  }
  [[noreturn, gnu::cold, gnu::noinline]] void rethrow() { std::rethrow_exception(std::exchange(error_, nullptr)); }

  union {
    value_type value_;
    std::exception_ptr error_;
  };
  enum : unsigned char { nothing, a_value, an_error } holds_ = nothing;
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
