// tandem/detail/calls.hpp: a function that is called for somebody, and how the call ended.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../outcome.hpp"
#include "../task.hpp"
#include "frame.hpp"
#include "result.hpp"

#include <exception>
#include <string>
#include <type_traits>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/detail/calls.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// What awaiting what `Function` returns gives.
template <class Function>
using called_t = await_result_t<std::invoke_result_t<Function&>>;

/// Calls it and awaits what it returns. A stop stops.
template <class Function>
task<outcome<called_t<Function>>> outcome_of(Function& function) {
  using value = called_t<Function>;
  result<value> r;
  try {
    if constexpr (std::is_void_v<value>) {
      co_await function();
      r.set_value();
    } else {
      r.set_value(co_await function());
    }
  } catch (...) {
    r.set_error(std::current_exception());
  }
  co_return outcome<value>(std::move(r));
}

/// Its `what()`.
inline std::string text_of(const std::exception_ptr& e) {
  try {
    std::rethrow_exception(e);
  } catch (const std::exception& x) {
    const char* const what = x.what();
    return what ? what : "";
  } catch (...) {
    return "an exception of unknown type";
  }
}
template <class E>
bool is_a(const std::exception_ptr& e) noexcept {
  if (!e) return false;
  try {
    std::rethrow_exception(e);
  } catch (const E&) {
    return true;
  } catch (...) {
    return false;
  }
}

/// The value, or the failure as it is.
template <class T>
T give(outcome<T>&& o) {
  if constexpr (std::is_void_v<T>)
    std::move(o).value();
  else
    return static_cast<T>(std::move(o).value());
}

}  // namespace tandem::inline TANDEM_CONFIG::detail
