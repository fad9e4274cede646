// tandem/detail/await_tree.hpp: the await tree as text, for the report of a deadlock.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../clock.hpp"
#include "frame.hpp"
#include "holder.hpp"
#include "loop.hpp"
#include "place.hpp"

#include <cstddef>
#include <cstdio>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/detail/await_tree.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// Those who hold the same thing, counted by the line where they took it.
struct holders_by_place {
  static constexpr std::size_t most = 3;
  const holder* place[most] = {};
  std::size_t count[most] = {}, places = 0, more = 0;

  explicit holders_by_place(const holder* first) noexcept {
    for (const holder* h = first; h; h = h->next()) {
      std::size_t i = 0;
      while (i != places && !same(place[i]->where(), h->where())) ++i;
      if (i == most) {
        ++more;
        continue;
      }
      if (i == places) place[places++] = h;
      ++count[i];
    }
  }

 private:
  static bool same(const std::source_location& a, const std::source_location& b) noexcept {
    return a.line() == b.line() && std::string_view(a.file_name()) == b.file_name();
  }
};

/// A frame of the tree, as it is shown.
struct await_tree_node {
  const frame& f;
  std::string_view function;  // empty if it is not known
  std::string_view name;      // that it was given in its group
  std::size_t depth;
  enum : unsigned char { not_started, runs, waits } state;
};

/// Visits the frames of trees from top to bottom: `begin(node)`, then its children, then `end()`. Frames of tandem's own
/// coroutines are passed over, unless they are what waits. It is recursive; how many frames it visits bounds how deep
/// its stack gets.
template <class Visitor>
class await_tree_walk {
 public:
  explicit await_tree_walk(Visitor& visitor) noexcept : visitor_(visitor) {}

  void visit(const root& top, std::size_t depth) {
    if (const frame* body = top.child(0)) visit(*body, depth);
    for (const stray* s = top.first_stray(); s; s = top.next_stray(*s))
      for (std::size_t i = 0; i != s->node_of_stray().children(); ++i)
        if (const frame* c = s->node_of_stray().child(i)) visit(*c, depth);
  }
  /// There were more frames than are visited.
  bool is_cut_off() const noexcept { return cut_off_; }

 private:
  static constexpr std::size_t most_frames = 1000;

  void visit(const frame& f, std::size_t depth) {
    if (f.is_going()) return;  // a destructor looks
    if (frames_left_ == 0) {
      cut_off_ = true;
      return;
    }
    --frames_left_;
    const wait_node* n = f.waits_for;
    const bool is_put_off = f.start != frame::in_turn;
    const std::string_view function = is_put_off ? std::string_view() : function_name(f.where.function_name());
    const bool passed_over = n && n->children() != 0 && is_ours(function);
    if (!passed_over)
      visitor_.begin(await_tree_node{f, is_ours(function) ? std::string_view() : function,
                                     f.scope ? f.owner->name_of_child() : std::string_view(), depth,
                                     n                        ? await_tree_node::waits
                                     : f.scope && !is_put_off ? await_tree_node::runs
                                                              : await_tree_node::not_started});
    if (n)
      for (std::size_t i = 0, count = n->children(); i != count && !cut_off_; ++i)
        if (const frame* c = n->child(i)) visit(*c, passed_over ? depth : depth + 1);
    if (!passed_over) visitor_.end();
  }

  Visitor& visitor_;
  std::size_t frames_left_ = most_frames;
  bool cut_off_ = false;
};

/// One line per frame: "name (file:line) waits for sleep for 1500 ms", children below their parent, two more blanks
/// to the right.
class await_tree_text {
 public:
  explicit await_tree_text(clock::time_point now) noexcept : now_(now) {}

  void begin(const await_tree_node& node) {
    text_ += "\n";
    for (std::size_t i = 0; i != node.depth && i != most_depth; ++i) text_ += "  ";
    if (!node.name.empty()) {
      text_ += "'";
      text_.append(node.name.data(), node.name.size());
      text_ += "' ";
    }
    if (!node.function.empty()) {
      append_place(text_, node.function, node.f.where, node.state != await_tree_node::not_started);
      text_ += " ";
    }
    if (node.state != await_tree_node::waits) {
      if (node.function.empty()) text_ += "a task ";
      text_ += node.state == await_tree_node::runs ? "runs" : "has not started";
      return;
    }
    const wait_node& n = *node.f.waits_for;
    text_ += "waits for ";
    text_ += n.what();
    const auto since = n.since();
    if (!since || n.children() != 0) return;
    char number[32];
    std::snprintf(number, sizeof number, " for %lld ms", static_cast<long long>((now_ - *since).count() / 1'000'000));
    text_ += number;
    write_holders(holders_by_place(n.held_by()));
  }
  void end() noexcept {}
  std::string take(bool is_cut_off) {
    if (is_cut_off) text_ += "\n  ...";
    return std::move(text_);
  }

 private:
  static constexpr std::size_t most_depth = 40;

  void write_holders(const holders_by_place& by) {
    char number[32];
    for (std::size_t i = 0; i != by.places; ++i) {
      text_ += i == 0 ? ", held by " : ", ";
      if (by.count[i] != 1) {
        std::snprintf(number, sizeof number, "%zu x ", by.count[i]);
        text_ += number;
      }
      const std::source_location& where = by.place[i]->where();
      append_place(text_, function_name(where.function_name()), where, true);
    }
    if (by.more == 0) return;
    std::snprintf(number, sizeof number, " and %zu more", by.more);
    text_ += number;
  }

  clock::time_point now_;
  std::string text_;
};

inline std::string await_tree(const root& top, clock::time_point now) {
  await_tree_text text(now);
  await_tree_walk walk(text);
  walk.visit(top, 1);
  return text.take(walk.is_cut_off());
}

}  // namespace tandem::inline TANDEM_CONFIG::detail
