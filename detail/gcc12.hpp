// tandem/detail/gcc12.hpp: refuses what g++ 12 would miscompile.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"

#include <string_view>
#include <type_traits>

static_assert(TANDEM_VERSION == 100, "tandem/detail/gcc12.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// g++ 12 destroys closures with captures that need a destructor, and other aggregates, twice when they are temporaries
/// of a co_await expression (GCC bug 104031 and its kin; g++ 13 is right). A temporary cannot be told from a moved
/// variable, so both are refused, on that compiler alone.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
template <class T>
consteval bool is_closure() {
  return std::string_view(__PRETTY_FUNCTION__).find("<lambda(") != std::string_view::npos && std::is_class_v<T>;
}
template <class Argument>  // deduced from a forwarding reference: no reference means an rvalue
inline constexpr bool miscompiled = !std::is_reference_v<Argument> && !std::is_trivially_destructible_v<Argument> &&
                                    (std::is_aggregate_v<Argument> || is_closure<Argument>());
#else
template <class>
inline constexpr bool miscompiled = false;
#endif

/// In every public function that takes a callable: the sentence that the user reads.
template <class... Arguments>
constexpr void refuse_what_gcc12_miscompiles() {
  static_assert(
      (!miscompiled<Arguments> && ...),
      "g++ 12 would destroy this temporary twice inside a co_await expression. Capture by reference ([&]), or "
      "give the lambda a name and pass the name (it is copied; std::ref passes it by reference), or make the "
      "awaitable in one statement and await it in the next from a named callable");
}

}  // namespace tandem::inline TANDEM_CONFIG::detail
