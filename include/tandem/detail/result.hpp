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
  result(result&& o) noexcept(std::is_nothrow_move_constructible_v<value_type>) : error_(std::move(o.error_)) {
    if (o.has_value_) set_value(std::move(o.value_));
  }
  result& operator=(result&&) = delete;
  ~result() {
    if (has_value_) std::destroy_at(std::addressof(value_));
  }

  /// Precondition: empty.
  template <class... Args>
  void set_value(Args&&... args) {
    std::construct_at(std::addressof(value_), std::forward<Args>(args)...);
    has_value_ = true;
  }
  /// Instead of a value, if there is one: a destructor threw after the co_return.
  void set_error(std::exception_ptr e) noexcept {
    if (std::exchange(has_value_, false)) std::destroy_at(std::addressof(value_));
    error_ = std::move(e);
  }
  /// Moves `o` here, where nothing is yet; a move constructor that throws becomes the failure.
  void take_from(result& o) noexcept {
    try {
      if (o.has_value_) return set_value(std::move(o.value_));
      set_error(std::move(o.error_));
    } catch (...) {
      set_error(std::current_exception());
    }
  }

  bool empty() const noexcept { return !has_value_ && !error_; }
  bool has_value() const noexcept { return has_value_; }
  bool has_error() const noexcept { return error_ != nullptr; }
  /// Null if there is none.
  const std::exception_ptr& get_error() const noexcept { return error_; }
  value_type& get_value() noexcept { return value_; }
  const value_type& get_value() const noexcept { return value_; }

  /// The value moved out, or the exception thrown.
  T take() {
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    if constexpr (std::is_reference_v<T>)
      return value_.get();
    else if constexpr (!std::is_void_v<T>)
      return std::move(value_);
  }

 private:
  std::exception_ptr error_;
  union {
    value_type value_;
  };
  bool has_value_ = false;
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
