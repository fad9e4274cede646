// tandem/detail/await_tree.hpp: the await tree as text, for the report of a deadlock.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../clock.hpp"
#include "frame.hpp"
#include "loop.hpp"

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tandem::inline TANDEM_CONFIG::detail {

/// "void shop::buy(shop::buy(int)::_ZN4...Frame*)" (g++) and "task<> shop::buy(int)" (clang) both become "shop::buy".
inline std::string_view function_name(const std::source_location& where) noexcept {
  std::string_view s = where.function_name();
  std::size_t depth = 0, end = s.size();
  for (std::size_t i = 0; i != s.size(); ++i) {  // the parameter list begins at the first parenthesis outside <>
    if (s[i] == '<')
      ++depth;
    else if (s[i] == '>' && depth != 0)
      --depth;
    else if (s[i] == '(' && depth == 0 && i != 0) {
      end = i;
      break;
    }
  }
  s = s.substr(0, end);
  depth = 0;
  for (std::size_t i = s.size(); i-- != 0;) {  // the name begins after the last blank outside <>
    if (s[i] == '>')
      ++depth;
    else if (s[i] == '<' && depth != 0)
      --depth;
    else if (s[i] == ' ' && depth == 0)
      return s.substr(i + 1);
  }
  return s;
}

inline std::string_view file_name(const std::source_location& where) noexcept {
  const std::string_view path = where.file_name();
  const std::size_t slash = path.find_last_of("/\\");
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

/// One line per frame: "name (file:line) waits for sleep_for since 1.5 s", children below their parent, two more blanks
/// to the right. Walks with a list of its own, so that a deep tree does not need a deep stack.
inline std::string await_tree(const root& top, clock::time_point now) {
  struct item {
    const frame* f;
    std::size_t depth;
  };
  std::string out;
  std::vector<item> todo;
  std::size_t lines = 0;
  if (const frame* body = top.child(0)) todo.push_back({body, 1});
  while (!todo.empty()) {
    const auto [f, depth] = todo.back();
    todo.pop_back();
    if (++lines > 1000) return out + "\n  ...";
    out.append("\n").append(2 * std::min<std::size_t>(depth, 40), ' ');
    const wait_node* n = f->waits_for;
    if (!n) {
      out += "a task that has not started, or runs";
      continue;
    }
    out.append(function_name(f->where)).append(" (").append(file_name(f->where)).append(":");
    out.append(std::to_string(f->where.line())).append(") waits for ").append(n->what());
    if (const clock::time_point* since = n->since(); since && n->children() == 0)
      out.append(" since ").append(std::to_string((now - *since) / std::chrono::milliseconds(1))).append(" ms");
    for (std::size_t i = n->children(); i-- != 0;)
      if (const frame* c = n->child(i)) todo.push_back({c, depth + 1});
  }
  return out;
}

}  // namespace tandem::inline TANDEM_CONFIG::detail
