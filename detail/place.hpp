// tandem/detail/place.hpp: the places of coroutines in words: names of functions and files.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"

#include <cstddef>
#include <cstdio>
#include <source_location>
#include <string>
#include <string_view>

static_assert(TANDEM_VERSION == 100, "tandem/detail/place.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// The plain name in what std::source_location calls a function: "shop::buy" out of "void
/// shop::buy(shop::buy(int)::_ZN4... Frame*)" (g++) and out of "task<> shop::buy(int)" (clang).
inline std::string_view function_name(std::string_view s) noexcept {
  constexpr std::string_view anonymous = "(anonymous namespace)";
  std::size_t depth = 0;
  for (std::size_t i = 0; i != s.size(); ++i) {  // the parameter list begins at the first parenthesis outside <>
    if (s.substr(i, anonymous.size()) == anonymous) {
      i += anonymous.size() - 1;
    } else if (s[i] == '<') {
      ++depth;
    } else if (s[i] == '>' && depth != 0) {
      --depth;
    } else if (s[i] == '(' && depth == 0) {
      s = s.substr(0, i);
      break;
    }
  }
  depth = 0;
  for (std::size_t i = s.size(); i-- != 0;) {  // the name begins after the last blank outside <> and ()
    if (s[i] == '>' || s[i] == ')')
      ++depth;
    else if ((s[i] == '<' || s[i] == '(') && depth != 0)
      --depth;
    else if (s[i] == ' ' && depth == 0)
      return s.substr(i + 1);
  }
  return s;
}

/// Is that the name of one of tandem's own coroutines?
inline bool is_ours(std::string_view function) noexcept {
  return function.starts_with("tandem::") && function.find("detail::") != std::string_view::npos;
}

inline std::string_view file_name(std::string_view path) noexcept {
  const std::size_t slash = path.find_last_of("/\\");
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

/// Where a coroutine is: "buy (shop.cpp:12)"; without a line if it is nowhere yet.
inline void append_place(std::string& text, std::string_view name, const std::source_location& where, bool has_line) {
  const std::string_view file = file_name(where.file_name());
  text.append(name.data(), name.size());
  if (file.empty()) return;
  text += name.empty() ? "(" : " (";
  text.append(file.data(), file.size());
  if (has_line) {
    char number[32];
    std::snprintf(number, sizeof number, ":%lu", static_cast<unsigned long>(where.line()));
    text += number;
  }
  text += ')';
}

}  // namespace tandem::inline TANDEM_CONFIG::detail
