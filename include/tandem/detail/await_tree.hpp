// tandem/detail/await_tree.hpp: the await tree as text, for the report of a deadlock.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../clock.hpp"
#include "frame.hpp"
#include "holder.hpp"
#include "loop.hpp"

#include <cstddef>
#include <cstdio>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

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

/// The writer of `await_tree`. It is recursive; how many frames it visits bounds how deep its stack gets.
class await_tree_writer {
 public:
  explicit await_tree_writer(clock::time_point now) noexcept : now_(now) {}

  void visit(const frame& f, std::size_t depth) {
    if (frames_left_ == 0) {
      cut_off_ = true;
      return;
    }
    --frames_left_;
    const wait_node* n = f.waits_for;
    const std::string_view name = n ? function_name(f.where.function_name()) : std::string_view();
    const bool ours = is_ours(name);
    if (!ours || n->children() == 0) write_line(f, ours ? std::string_view() : name, depth);
    if (!n) return;
    for (std::size_t i = 0, count = n->children(); i != count && !cut_off_; ++i)
      if (const frame* c = n->child(i)) visit(*c, ours ? depth : depth + 1);
  }
  std::string text() {
    if (cut_off_) text_ += "\n  ...";
    return std::move(text_);
  }

 private:
  static constexpr std::size_t most_frames = 1000, most_depth = 40, most_holders = 3;

  /// "buy (shop.cpp:12)"
  void write_place(std::string_view name, const std::source_location& where) {
    const std::string_view file = file_name(where.file_name());
    text_.append(name.data(), name.size());
    text_ += " (";
    text_.append(file.data(), file.size());
    char number[32];
    std::snprintf(number, sizeof number, ":%lu)", static_cast<unsigned long>(where.line()));
    text_ += number;
  }
  static bool same_place(const std::source_location& a, const std::source_location& b) noexcept {
    return a.line() == b.line() && std::string_view(a.file_name()) == b.file_name();
  }
  void write_holders(const holder* first) {
    const holder* places[most_holders] = {};
    std::size_t at_place[most_holders] = {}, named = 0, more = 0;
    for (const holder* h = first; h; h = h->next()) {
      std::size_t i = 0;
      while (i != named && !same_place(places[i]->where(), h->where())) ++i;
      if (i == most_holders) {
        ++more;
        continue;
      }
      if (i == named) places[named++] = h;
      ++at_place[i];
    }
    char number[32];
    for (std::size_t i = 0; i != named; ++i) {
      text_ += i == 0 ? ", held by " : ", ";
      if (at_place[i] != 1) {
        std::snprintf(number, sizeof number, "%zu x ", at_place[i]);
        text_ += number;
      }
      write_place(function_name(places[i]->where().function_name()), places[i]->where());
    }
    if (more == 0) return;
    std::snprintf(number, sizeof number, " and %zu more", more);
    text_ += number;
  }

  void write_line(const frame& f, std::string_view name, std::size_t depth) {
    text_ += "\n";
    for (std::size_t i = 0; i != depth && i != most_depth; ++i) text_ += "  ";
    const wait_node* n = f.waits_for;
    if (!n) {
      text_ += "a task that has not started";
      return;
    }
    if (const std::string_view given = f.owner->name_of_child(); !given.empty()) {
      text_ += "'";
      text_.append(given.data(), given.size());
      text_ += "' ";
    }
    if (!name.empty()) {
      write_place(name, f.where);
      text_ += " ";
    }
    text_ += "waits for ";
    text_ += n->what();
    const auto since = n->since();
    if (!since || n->children() != 0) return;
    char number[32];
    std::snprintf(number, sizeof number, " since %lld ms", static_cast<long long>((now_ - *since).count() / 1'000'000));
    text_ += number;
    write_holders(n->held_by());
  }

  clock::time_point now_;
  std::string text_;
  std::size_t frames_left_ = most_frames;
  bool cut_off_ = false;
};

/// One line per frame: "name (file:line) waits for sleep since 1500 ms", children below their parent, two more blanks
/// to the right. Frames of tandem's own coroutines are passed over.
inline std::string await_tree(const root& top, clock::time_point now) {
  await_tree_writer writer(now);
  if (const frame* body = top.child(0)) writer.visit(*body, 1);
  for (const stray* s = top.first_stray(); s; s = top.next_stray(*s))
    for (std::size_t i = 0; i != s->node_of_stray().children(); ++i)
      if (const frame* c = s->node_of_stray().child(i)) writer.visit(*c, 1);
  return writer.text();
}

}  // namespace tandem::inline TANDEM_CONFIG::detail
