// tandem/detail/await_tree.hpp: the await tree as text, for the report of a deadlock.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../clock.hpp"
#include "frame.hpp"
#include "loop.hpp"

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

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

inline std::string_view file_name(std::string_view path) noexcept {
  const std::size_t slash = path.find_last_of("/\\");
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

/// One line per frame: "name (file:line) waits for sleep since 1500 ms", children below their parent, two more blanks
/// to the right. Frames of tandem's own coroutines are passed over. Walks with a list of its own, so that a deep tree
/// does not need a deep stack.
inline std::string await_tree(const root& top, clock::time_point now) {
  struct item {
    const frame* f;
    std::size_t depth;
  };
  constexpr std::size_t most_lines = 1000, most_depth = 40;
  std::string out;
  std::vector<item> todo;
  if (const frame* body = top.child(0)) todo.push_back({body, 1});
  for (std::size_t lines = 0; !todo.empty() && lines != most_lines; ++lines) {
    const auto [f, depth] = todo.back();
    todo.pop_back();
    const wait_node* n = f->waits_for;
    const std::string_view name = n ? function_name(f->where.function_name()) : std::string_view();
    const bool ours = name.starts_with("tandem::") && name.find("detail::") != std::string_view::npos;
    if (!ours || n->children() == 0) {
      out.append("\n").append(2 * (depth < most_depth ? depth : most_depth), ' ');
      if (const std::string_view given = f->owner->name_of_child(); n && !given.empty())
        out.append("'").append(given).append("' ");
      if (!n)
        out += "a task that has not started";
      else if (!ours)
        out.append(name)
            .append(" (")
            .append(file_name(f->where.file_name()))
            .append(":")
            .append(std::to_string(f->where.line()))
            .append(") ");
      if (n) out.append("waits for ").append(n->what());
      if (const auto since = n ? n->since() : std::nullopt; since && n->children() == 0)
        out.append(" since ").append(std::to_string((now - *since) / std::chrono::milliseconds(1))).append(" ms");
    }
    if (!n) continue;
    for (std::size_t i = n->children(); i-- != 0;)
      if (const frame* c = n->child(i)) todo.push_back({c, ours ? depth : depth + 1});
  }
  if (!todo.empty()) out += "\n  ...";
  return out;
}

}  // namespace tandem::inline TANDEM_CONFIG::detail
