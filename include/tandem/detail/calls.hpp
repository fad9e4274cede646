// tandem/detail/calls.hpp: a function that is called for somebody, and how the call ended.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../gather.hpp"  // outcome
#include "../task.hpp"
#include "frame.hpp"
#include "result.hpp"

#include <exception>
#include <type_traits>
#include <utility>

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

/// The value, or the failure as it is.
template <class T>
T give(outcome<T>&& o) {
  if constexpr (std::is_void_v<T>)
    std::move(o).value();
  else
    return static_cast<T>(std::move(o).value());
}

}  // namespace tandem::inline TANDEM_CONFIG::detail
