// tandem/detail/trace_drawing.hpp: a record of what coroutines did, and its charts as text, SVG and JSON.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../clock.hpp"
#include "json.hpp"
#include "place.hpp"
#include "terminal.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <locale>
#include <sstream>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/detail/trace_drawing.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

enum class doing : unsigned char { runs, sleeps, waits_for_children, waits };

struct traced_span {
  clock::time_point begin, end;
  const char* what;  // is waited for; null: it runs
  doing kind;
};

struct traced_coroutine {
  static constexpr std::uint32_t nobody = ~std::uint32_t(0);

  const char* function = nullptr;  // unknown before its first wait
  std::uint32_t parent = nobody;   // starts earlier, so its number is smaller
  std::uint64_t axis = 0;          // the number of a simulation's loop, 0 in real time
  clock::time_point start;
  traced_span now;  // what it does since when; at last, `end` is the end of all
  enum : unsigned char { goes_on, ended, stopped } state = goes_on;
  std::string name{};                // that it was given
  std::vector<traced_span> spans{};  // those that took time
};

/// All that there is to draw.
struct trace_record {
  std::vector<traced_coroutine> coroutines;  // in the order of their starts
  const char* ended_early = nullptr;         // why
};

/// What was recorded on one time axis, in the order in which it is drawn. By integers throughout: the same on every
/// machine.
struct trace_chart {
  struct row {
    std::string name;
    std::size_t depth;
    traced_coroutine coroutine;
  };
  struct tick {
    std::size_t at;
    std::string label;
  };
  std::vector<row> rows;
  clock::time_point start = clock::time_point::max(), end = clock::time_point::min();

  /// Where a moment is on an axis of that length, rounded.
  std::size_t place(clock::time_point t, std::size_t length) const noexcept {
    auto part = static_cast<std::uint64_t>((t - start).count()),
         all = static_cast<std::uint64_t>((end - start).count());
    for (; all >> 40 != 0; all >>= 1) part >>= 1;  // no overflow below
    return all == 0 ? 0 : static_cast<std::size_t>((2 * part * length + all) / (2 * all));
  }
  /// Round numbers of one unit, at least `apart` from each other, and the unit's name.
  std::vector<tick> ticks(std::size_t length, std::size_t apart, std::string& unit) const {
    static constexpr std::pair<std::int64_t, const char*> units[] = {{86'400'000'000'000, "days"},
                                                                     {3'600'000'000'000, "hours"},
                                                                     {60'000'000'000, "minutes"},
                                                                     {1'000'000'000, "seconds"},
                                                                     {1'000'000, "milliseconds"},
                                                                     {1'000, "microseconds"},
                                                                     {1, "nanoseconds"}};
    const std::int64_t all = (end - start).count();
    const auto* u = units;
    while (u->first != 1 && all / u->first < 3) ++u;
    unit = u->second;
    const auto at = [&](std::int64_t n) { return place(start + clock::duration(n * u->first), length); };
    std::int64_t step = 1;
    for (int i = 0; step <= all / u->first && at(step) < apart; ++i) step = i % 3 == 1 ? step / 2 * 5 : step * 2;
    std::vector<tick> out;
    for (std::int64_t n = 0; n <= all / u->first; n += step) out.push_back({at(n), std::to_string(n)});
    return out;
  }
};

/// "buy", or "buy 'for Ann'" if that was its name in a group. Nothing for tandem's own without a name.
inline std::string label_of(const traced_coroutine& c) {
  if (!c.function) return {};
  const std::string_view function = function_name(c.function);
  std::string out(is_ours(function) ? std::string_view() : function);
  if (c.name.empty()) return out;
  out += out.empty() ? "'" : " '";
  for (const char ch : c.name) out += static_cast<unsigned char>(ch) < ' ' ? ' ' : ch;
  return out += '\'';
}

/// Puts each coroutine below its parent, and tandem's own out of sight. A chart of real time in which something goes on
/// ends `now`, or later.
inline std::vector<trace_chart> charts_of(std::vector<traced_coroutine> all,
                                          clock::time_point now = clock::time_point::min()) {
  const std::size_t n = static_cast<std::uint32_t>(all.size());  // g++ 12 fears that n + 1 overflows
  std::vector<std::string> names(n);
  std::vector<std::size_t> above(n), below(n + 1, n), next(n, n);  // above: 0 for none, else 1 + number; others: n
  for (std::size_t i = 0; i != n; ++i) {
    names[i] = label_of(all[i]);
    if (const std::size_t p = all[i].parent; p < n) above[i] = names[p].empty() ? above[p] : p + 1;
  }
  for (std::size_t i = n; i-- != 0;)
    if (!names[i].empty()) next[i] = std::exchange(below[above[i]], i);

  std::vector<trace_chart> charts;
  std::unordered_map<std::uint64_t, std::size_t> chart_of;  // by axis
  std::vector<std::pair<std::size_t, std::size_t>> todo;    // number and depth; not by recursion, a tree may be deep
  if (below[0] != n) todo.push_back({below[0], 0});
  while (!todo.empty()) {
    const auto [i, depth] = todo.back();
    todo.pop_back();
    if (next[i] != n) todo.push_back({next[i], depth});
    if (below[i + 1] != n) todo.push_back({below[i + 1], depth + 1});
    const auto number = chart_of.emplace(all[i].axis, charts.size()).first->second;
    trace_chart& chart = number == charts.size() ? charts.emplace_back() : charts[number];
    chart.start = std::min(chart.start, all[i].start);
    chart.end = std::max(chart.end, all[i].now.end);
    if (all[i].axis == 0 && all[i].state == traced_coroutine::goes_on) chart.end = std::max(chart.end, now);
    chart.rows.push_back({std::move(names[i]), depth, std::move(all[i])});
  }
  for (trace_chart& chart : charts)
    for (auto& [name, depth, c] : chart.rows) {
      if (c.state != traced_coroutine::goes_on) continue;
      c.now.end = chart.end;
      c.spans.push_back(c.now);
    }
  return charts;
}

/// "    buy", padded to that many columns; what distinguishes names that are too long is their end.
inline std::string indented(const trace_chart::row& r, std::size_t columns) {
  std::string out(std::min(2 * r.depth, columns / 2), ' ');
  const std::size_t room = columns - out.size();
  std::size_t length = columns_of(r.name), from = 0;
  if (length > room) {
    out += "..";
    for (; length > room - 2 || columns_of(r.name[from]) == 0; ++from) length -= columns_of(r.name[from]);
  }
  out.append(r.name, from);
  return out.append(columns - std::min(columns, columns_of(out)), ' ');
}
inline std::size_t columns_for_names(const std::vector<trace_chart>& charts, std::size_t most) {
  std::size_t longest = std::string_view("milliseconds").size();
  for (const trace_chart& c : charts)
    for (const auto& r : c.rows) longest = std::max(longest, 2 * r.depth + columns_of(r.name));
  return std::min(longest, most);
}

/// How a chart shows each `doing`; then the end of a coroutine that was stopped, and of one that has not ended.
struct trace_style {
  std::string_view ascii, block, meaning, name;
  std::size_t height;
};
inline constexpr trace_style trace_styles[] = {{"#", "\u2588", "runs", "runs", 140},
                                               {"~", "\u2591", "sleeps", "sleeps", 140},
                                               {"-", "\u2500", "awaits children", "children", 40},
                                               {"=", "\u2592", "waits", "waits", 140},
                                               {"x", "\u00d7", "stopped", "stopped", 0},
                                               {">", ">", "not ended", "goes-on", 0}};
inline constexpr std::size_t trace_style_of_end[] = {5, 0, 4};  // by the state of the coroutine
inline constexpr std::string_view trace_colours[] = {"\x1b[32m", "\x1b[34m", "", "\x1b[33m", "\x1b[31m", ""};

inline std::string draw_text(trace_record record, std::size_t width, bool blocks, bool colours = false,
                             clock::time_point now = clock::time_point::min()) {
  const std::vector<trace_chart> charts = charts_of(std::move(record.coroutines), now);
  width = std::clamp<std::size_t>(width, 40, 10'000);
  const std::size_t names = columns_for_names(charts, width * 2 / 5) + 1, columns = width - names;
  const auto glyph = [&](std::size_t i) { return blocks ? trace_styles[i].block : trace_styles[i].ascii; };
  const auto colour = [&](std::size_t i) {
    return colours && i < std::size(trace_colours) ? trace_colours[i] : std::string_view();
  };
  std::string out;
  const auto add_line = [&](std::string line) {
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
  };
  constexpr std::size_t nothing = std::size(trace_styles);
  bool used[nothing] = {};
  for (const trace_chart& chart : charts) {
    const auto at = [&](clock::time_point t) { return chart.place(t, columns); };
    if (!out.empty()) out += '\n';
    std::string unit, labels(columns, ' '), marks(columns, ' ');
    for (const auto& [tick, label] : chart.ticks(columns, 10, unit)) {
      if (tick + label.size() > columns) break;
      labels.replace(tick, label.size(), label);
      marks[tick] = '|';
    }
    unit.resize(names, ' ');
    add_line(unit + labels);
    add_line(std::string(names, ' ') + marks);
    for (const trace_chart::row& row : chart.rows) {
      const traced_coroutine& c = row.coroutine;
      std::vector<std::size_t> cells(columns, nothing);
      for (const traced_span& s : c.spans)
        for (std::size_t i = at(s.begin), end = at(s.end); i != end; ++i) cells[i] = static_cast<std::size_t>(s.kind);
      const std::size_t first = std::min(at(c.start), columns - 1), last = std::max(at(c.now.end), first + 1) - 1;
      if (cells[last] == nothing && !c.spans.empty()) cells[last] = static_cast<std::size_t>(c.spans.back().kind);
      if (cells[last] == nothing || c.state != traced_coroutine::ended) cells[last] = trace_style_of_end[c.state];
      std::string line = indented(row, names - 1) + ' ';
      std::string_view colour_now;
      for (const std::size_t i : cells) {
        if (i != nothing) used[i] = true;
        if (const std::string_view next = colour(i); next != colour_now) {
          line += next.empty() ? "\x1b[m" : next;
          colour_now = next;
        }
        line += i == nothing ? " " : glyph(i);
      }
      if (!colour_now.empty()) line += "\x1b[m";
      add_line(line);
    }
  }
  if (out.empty()) out = "No coroutine has waited.\n";
  std::string legend;
  for (std::size_t i = 0; i != nothing; ++i)
    if (used[i])
      legend.append(legend.empty() ? "\n" : "   ")
          .append(colour(i))
          .append(glyph(i))
          .append(colour(i).empty() ? " " : "\x1b[m ")
          .append(trace_styles[i].meaning);
  if (!legend.empty()) add_line(legend);
  if (record.ended_early) add_line(std::string("Recording ended early: ") + record.ended_early + '.');
  return out;
}

inline std::string xml_text(std::string_view s) {
  std::string out;
  for_each_character(s, [&](std::string_view c) {
    if (c == "&" || c == "<" || c == ">")
      out += c == "&" ? "&amp;" : c == "<" ? "&lt;" : "&gt;";
    else if (static_cast<unsigned char>(c[0]) < ' ' || c == "\xef\xbf\xbe" || c == "\xef\xbf\xbf")
      out += "\xef\xbf\xbd";  // XML has no such characters, not even escaped
    else
      out += c;
  });
  return out;
}
/// Exactly, so that a reader can calculate with it: 1,200,500 ns are "1.2005" of a `unit` of 1,000,000 ns.
inline std::string exact(clock::duration d, std::int64_t unit) {
  std::string digits = std::to_string(unit + d.count() % unit);
  digits[0] = '.';
  digits.erase(digits.find_last_not_of('0') + 1);
  return std::to_string(d.count() / unit) + (digits.size() == 1 ? "" : digits);
}
inline std::string exact_ms(clock::duration d) { return exact(d, 1'000'000) + " ms"; }

/// In tenths of a pixel.
inline std::string draw_svg(trace_record record) {
  constexpr std::size_t width = 9600, margin = 160, row_height = 200, character = 73;
  constexpr const char* head = R"( font-family="monospace" font-size="120">
<title>What each coroutine did when</title>
<style>
.paper{fill:#fff}rect{stroke:#fff;stroke-width:8}text{fill:#1f2328}.grid{stroke:#8c959f;stroke-width:5;stroke-opacity:.5}
.runs{fill:#1a7f37}.sleeps{fill:#80b3ff}.children{fill:#8c959f}.waits{fill:#e0a030}
.stopped,.goes-on{font-weight:bold;font-size:180px;text-anchor:middle}.stopped{fill:#cf222e}
@media(prefers-color-scheme:dark){.paper{fill:#161b22}rect{stroke:#161b22}text{fill:#e6edf3}.runs{fill:#3fb950}.sleeps{fill:#4070b0}
.children{fill:#7d8590}.waits{fill:#bb8009}.stopped{fill:#ff7b72}}
</style>
<rect class="paper" width="100%" height="100%" rx="80"/>
)";
  const std::vector<trace_chart> charts = charts_of(std::move(record.coroutines));
  const std::size_t names = columns_for_names(charts, 40), left = 2 * margin + names * character,
                    length = width - 2 * margin - left;
  std::ostringstream out;
  out.imbue(std::locale::classic());
  std::size_t height = 2 * margin + row_height;
  for (const trace_chart& chart : charts) height += (chart.rows.size() + 2) * row_height;
  out << R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 )" << width << ' ' << height << R"(" width=")"
      << width / 10 << R"(" height=")" << height / 10 << '"' << head;

  std::size_t y = margin + row_height / 2;  // the middle of the current row
  const auto text = [&](std::size_t x, std::string_view s) {
    out << "<text x=\"" << x << "\" y=\"" << y + 40 << "\">" << xml_text(s) << "</text>\n";
  };
  const auto mark = [&](const trace_style& s, std::size_t x, std::size_t length_of_bar, std::string_view title) {
    const std::string what = xml_text(title);
    if (s.height != 0)
      out << "<rect class=\"" << s.name << "\" x=\"" << x << "\" y=\"" << y - s.height / 2 << "\" width=\""
          << std::max<std::size_t>(length_of_bar, 10) << "\" height=\"" << s.height << "\"><title>" << what
          << "</title></rect>\n";
    else
      out << "<text class=\"" << s.name << "\" x=\"" << x << "\" y=\"" << y + 60 << "\">" << xml_text(s.block)
          << "<title>" << what << "</title></text>\n";
  };
  for (const trace_chart& chart : charts) {
    const auto at = [&](clock::time_point t) { return left + chart.place(t, length); };
    std::string unit;
    for (const auto& [tick, label] : chart.ticks(length, 800, unit)) {
      if (tick + label.size() * character < length + 2 * margin) text(left + tick, label);
      out << "<path class=\"grid\" d=\"M" << left + tick << ' ' << y + row_height / 2 << 'v'
          << chart.rows.size() * row_height << "\"/>\n";
    }
    text(margin, unit);
    for (const trace_chart::row& row : chart.rows) {
      const traced_coroutine& c = row.coroutine;
      const auto title = [&](std::string_view does, clock::time_point from, clock::time_point to) {
        return (row.name + ' ').append(does) + ", " + exact_ms(from - chart.start) + " to " +
               exact_ms(to - chart.start);
      };
      y += row_height;
      const std::string name = indented(row, names);
      const std::size_t indent = name.find_first_not_of(' ');
      text(margin + indent * character, name.substr(indent, name.find_last_not_of(' ') + 1 - indent));
      for (const traced_span& s : c.spans)
        mark(trace_styles[static_cast<std::size_t>(s.kind)], at(s.begin), at(s.end) - at(s.begin),
             title(s.what ? std::string("waits for ") + s.what : "runs", s.begin, s.end));
      if (c.spans.empty() || c.state != traced_coroutine::ended) {
        const trace_style& end = trace_styles[trace_style_of_end[c.state]];
        mark(end, at(c.now.end), 0, title(end.meaning, c.start, c.now.end));
      }
    }
    y += 2 * row_height;
  }
  std::size_t x = margin;
  for (const trace_style& s : trace_styles) {
    mark(s, s.height != 0 ? x : x + 70, 140, s.meaning);
    text(x + 200, s.meaning);
    x += 400 + s.meaning.size() * character;
  }
  y += row_height;
  if (record.ended_early) text(margin, std::string("Recording ended early: ") + record.ended_early + '.');
  out << "</svg>\n";
  return out.str();
}

/// Viewers order threads by their number where they know no sort index, take a thread that has a process's number for
/// its main one, and some know a thread by its number alone: so these are in order, and unique in the file.
inline std::string draw_chrome_trace(trace_record record) {
  const std::vector<trace_chart> charts = charts_of(std::move(record.coroutines));
  const std::string early = record.ended_early ? std::string("recording ended early: ") + record.ended_early : "";
  std::string out = "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"tandem\":" + json_text(early) + "},\"traceEvents\":[";
  std::size_t process = 0, thread = charts.size(), simulations = 0;
  const auto event = [&](std::string_view name, std::string_view members, std::string_view args) {
    out.append(out.back() == '[' ? "\n" : ",\n").append("{\"name\":").append(json_text(name));
    out.append(members).append(",\"pid\":").append(std::to_string(process));
    out.append(",\"tid\":").append(std::to_string(thread)).append(",\"args\":{").append(args).append("}}");
  };
  const auto describe = [&](std::string_view name, std::string_view key, std::string_view value) {
    event(name, ",\"ph\":\"M\"", json_text(key).append(":").append(value));
  };
  std::vector<std::string> above;  // the names on the way down to a row
  for (const trace_chart& chart : charts) {
    ++process;
    std::size_t order = 0;
    for (const trace_chart::row& row : chart.rows) {
      const traced_coroutine& c = row.coroutine;
      ++thread;
      if (order == 0) {
        const std::string name = c.axis == 0 ? "real time" : "simulation " + std::to_string(++simulations);
        describe("process_name", "name", json_text(early.empty() ? name : name + " (" + early + ")"));
        describe("process_sort_index", "sort_index", std::to_string(process));
      }
      describe("thread_name", "name", json_text(row.name));
      describe("thread_sort_index", "sort_index", std::to_string(++order));

      above.resize(row.depth);
      const std::string parent = above.empty() ? "" : ",\"parent\":" + above.back();
      above.push_back(json_text(row.name));
      const auto at = [&](clock::time_point t) { return ",\"ts\":" + exact(t - chart.start, 1'000); };
      const auto instant = [&](std::string_view name, clock::time_point t) {
        event(name, ",\"cat\":\"life\",\"ph\":\"i\",\"s\":\"t\"" + at(t), "\"what\":" + json_text(name) + parent);
      };
      instant("starts", c.start);
      for (const traced_span& s : c.spans) {
        const std::string what = s.what ? std::string("waits for ") + s.what : "runs";
        const bool is_open = &s == &c.spans.back() && c.state == traced_coroutine::goes_on;
        event(s.what ? s.what : "runs",
              std::string(",\"cat\":\"").append(trace_styles[static_cast<std::size_t>(s.kind)].name) +
                  "\",\"ph\":\"X\"" + at(s.begin) + ",\"dur\":" + exact(s.end - s.begin, 1'000),
              "\"what\":" + json_text(what) + parent + (is_open ? ",\"ended\":false" : ""));
      }
      instant(c.state == traced_coroutine::ended ? "ends" : trace_styles[trace_style_of_end[c.state]].meaning,
              c.now.end);
    }
  }
  return out += "\n]}\n";
}

}  // namespace tandem::inline TANDEM_CONFIG::detail
