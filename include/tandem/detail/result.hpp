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
  result(result&& o) noexcept(std::is_nothrow_move_constructible_v<value_type>) { take_over(o); }
  result& operator=(result&& o) noexcept(std::is_nothrow_move_constructible_v<value_type>) {
    if (this != &o) {
      clear();
      take_over(o);
    }
    return *this;
  }
  ~result() { clear(); }

  template <class... Args>
  void set_value(Args&&... args) {
    clear();
    std::construct_at(std::addressof(value_), std::forward<Args>(args)...);
    kind_ = value;
  }
  void set_error(std::exception_ptr e) noexcept {
    clear();
    std::construct_at(std::addressof(error_), std::move(e));
    kind_ = error;
  }

  /// Moves `o` here; a move constructor that throws becomes the failure.
  void take_from(result& o) noexcept {
    try {
      *this = std::move(o);
    } catch (...) {
      set_error(std::current_exception());
    }
  }

  bool empty() const noexcept { return kind_ == nothing; }
  bool has_value() const noexcept { return kind_ == value; }
  bool has_error() const noexcept { return kind_ == error; }
  const std::exception_ptr& get_error() const noexcept { return error_; }
  value_type& get_value() noexcept { return value_; }
  const value_type& get_value() const noexcept { return value_; }

  /// The value moved out, or the exception thrown.
  T take() {
    if (kind_ == error) {
      std::exception_ptr e = std::move(error_);
      clear();
      std::rethrow_exception(std::move(e));
    }
    if constexpr (std::is_reference_v<T>)
      return value_.get();
    else if constexpr (!std::is_void_v<T>)
      return std::move(value_);
  }

 private:
  void take_over(result& o) {
    if (o.kind_ == value)
      std::construct_at(std::addressof(value_), std::move(o.value_));
    else if (o.kind_ == error)
      std::construct_at(std::addressof(error_), std::move(o.error_));
    kind_ = o.kind_;
  }
  void clear() noexcept {
    const kind was = std::exchange(kind_, nothing);
    if (was == value)
      std::destroy_at(std::addressof(value_));
    else if (was == error)
      std::destroy_at(std::addressof(error_));
  }

  union {
    value_type value_;
    std::exception_ptr error_;
  };
  enum kind : unsigned char { nothing, value, error } kind_ = nothing;
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
