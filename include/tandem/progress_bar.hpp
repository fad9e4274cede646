// tandem/progress_bar.hpp: how far it is, on a terminal or in a log: progress_bar. Included by itself: tandem.hpp
// leaves it out, because of <iostream>.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, progress.hpp, detail/terminal.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "progress.hpp"

#include "detail/terminal.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

static_assert(TANDEM_VERSION == 100, "tandem/progress_bar.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// How a progress_bar is shown. `automatic`: in place on a terminal, unless TERM is dumb, and else in lines.
enum class progress_display : unsigned char { automatic, in_place, lines, none };

/// Options of `progress_bar`.
struct progress_bar_options {
  std::ostream* out = &std::cerr;  ///< not null; outlives the bar
  progress_display display = progress_display::automatic;
  /// The least time between two drawings; not negative.
  clock::duration interval = std::chrono::milliseconds(100);
  std::size_t width = 0;                       ///< in columns; 0: that of the terminal, or 80
  std::optional<bool> utf8 = std::nullopt;     ///< not given: by the locale in LC_ALL, LC_CTYPE or LANG
  std::optional<bool> colours = std::nullopt;  ///< not given: on a terminal, unless NO_COLOR is set
};

/// An observer that shows how far it is:
///
///   progress_bar bar("fetching");
///   co_await transform(observed_by(bar), ids, fetch, {.limit = 8});
///
///   fetching  62% ████████████▌       | 62/100 [00:03<00:02, 18.4/s, 3 failed]
///
/// Percent, done of the total, the time since it began, what is left of it, how many end in a second (or in a minute or
/// an hour, if that is less than one), and failures. Done is what succeeded or failed; what was stopped is told in the
/// end. The speed is an average that follows the last ten seconds, or the last ten children if that is longer; in the
/// last line it is that of all. Without a total it is `fetching 62 [00:03, 18.4/s]`. What begins after the end of all
/// before it has a bar of its own, of several things at once it shows the sum. Times are of tandem's clock, so that a
/// simulation always shows the same.
///
/// On a terminal the line is drawn again, at the beginning and the end, and when a child ends, but not within 100 ms.
/// Elsewhere there are plain lines without control characters: when another tenth is done, after 10 s and each time as
/// much time again has passed, and at the end. Two bars on one terminal disturb each other, and so does other output:
/// see `print`. Used on one loop, like what it observes.
///
/// A stream that fails or throws ends the showing and nothing else; so does, for the moment, a lack of memory. Writing
/// blocks the loop while the terminal takes nothing. A drawing costs some microseconds and a system call, a child that
/// ends between two of them one reading of the clock.
class progress_bar final : public progress_counter {
 public:
  /// The text is copied; control characters in it become spaces. Throws std::invalid_argument for no stream and for an
  /// interval that is negative.
  explicit progress_bar(std::string_view description = {}, progress_bar_options options = {});
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;

  /// Draws it again now, on a terminal: so that time is seen to pass, for who wants that.
  void redraw() noexcept;
  /// Writes a line of text above the bar.
  void print(std::string_view line) noexcept;

  void on_begin(std::optional<std::size_t> total) noexcept override;
  void on_end(std::size_t index, progress_ending how) noexcept override;
  void on_finish() noexcept override;

 private:
  std::size_t done() const noexcept { return counts().succeeded + counts().failed; }
  /// As many of `whole` as are done of the total; without a total 0.
  std::size_t part_of(std::size_t whole) const noexcept;
  bool is_in_place() const noexcept { return options_.display == progress_display::in_place; }
  clock::duration elapsed() const noexcept { return latest_ - began_; }
  void draw_if_due() noexcept;
  void draw(bool is_last) noexcept;
  void append_in_place(bool is_last);
  void append_bar(std::size_t cells);
  std::string percent() const;
  std::string figures(bool is_last) const;
  void write();

  progress_bar_options options_;
  detail::terminal terminal_;
  std::string description_;
  std::string text_;  // to be written
  clock::time_point began_, latest_, drawn_, ended_;
  double count_ = 0, seconds_ = 0;  // how many ended in that time, what is long past counting less
  std::size_t tenths_ = 0;          // in lines: those that have been told
  clock::duration due_{};           // in lines: when the next is due though no other tenth is done
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// "02:05", "1:02:05"; "?" from a year on. Whole seconds, the rest is cut off.
inline std::string bar_time(double seconds) {
  if (!(seconds < 366 * 24 * 3600.0)) return "?";
  const auto s = static_cast<unsigned long>(seconds);
  const auto two = [](unsigned long n) { return (n < 10 ? "0" : "") + std::to_string(n); };
  return (s < 3600 ? "" : std::to_string(s / 3600) + ':') + two(s / 60 % 60) + ':' + two(s % 60);
}

/// "18.4/s", "240/s", "15.0/min", "2.5/h"; "?/s" if it is not known. Digits as in C, whatever the locale.
inline std::string bar_rate(double per_second) {
  if (!(per_second > 0 && per_second < 1e12)) return "?/s";
  double n = per_second;
  const char* unit = "/s";
  if (n < 1) n *= 60, unit = "/min";
  if (n < 1) n *= 60, unit = "/h";
  if (n >= 99.95) return std::to_string(static_cast<std::uint64_t>(n + 0.5)) + unit;
  const auto tenths = static_cast<std::uint64_t>(10 * n + 0.5);
  return std::to_string(tenths / 10) + '.' + std::to_string(tenths % 10) + unit;
}

}  // namespace detail

inline progress_bar::progress_bar(std::string_view description, progress_bar_options options)
    : options_(options), description_(description) {
  if (!options.out) throw std::invalid_argument("tandem::progress_bar: out is null; it must be a stream");
  detail::refuse_negative(options.interval, "tandem::progress_bar: interval");
  terminal_ = detail::terminal::of(*options.out);
  if (options.display == progress_display::automatic)
    options_.display = terminal_.is_terminal ? progress_display::in_place : progress_display::lines;
  if (options.width != 0) {
    terminal_.width = options.width;
    terminal_.window = -1;
  }
  terminal_.utf8 = options.utf8.value_or(terminal_.utf8);
  terminal_.colours = options.colours.value_or(terminal_.colours);
  for (char& c : description_)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  if (!description_.empty()) description_ += ' ';
}

inline void progress_bar::on_begin(std::optional<std::size_t> total) noexcept {
  const bool is_first = !is_active();
  progress_counter::on_begin(total);
  if (!is_first) return;
  began_ = latest_ = ended_ = drawn_ = clock::now();
  count_ = seconds_ = 0;
  tenths_ = 0;
  due_ = std::chrono::seconds(10);
  if (is_in_place()) draw(false);
}

inline void progress_bar::on_end(std::size_t index, progress_ending how) noexcept {
  progress_counter::on_end(index, how);
  latest_ = std::max(latest_, clock::now());
  if (how == progress_ending::stopped) return;
  const double passed = std::chrono::duration<double>(latest_ - ended_).count();
  const double weight = std::max(10 / (10 + passed), 0.9);  // the last ten seconds, or the last ten
  ended_ = latest_;
  count_ = count_ * weight + 1;
  seconds_ = seconds_ * weight + passed;
  draw_if_due();
}

inline void progress_bar::on_finish() noexcept {
  progress_counter::on_finish();
  if (is_active()) return;
  latest_ = std::max(latest_, clock::now());
  draw(true);
}

inline void progress_bar::redraw() noexcept {
  if (!is_active() || !is_in_place()) return;
  latest_ = std::max(latest_, clock::now());
  draw(false);
}

inline void progress_bar::print(std::string_view line) noexcept {
  try {
    text_.assign(is_active() && is_in_place() ? "\r\x1b[K" : "").append(line) += '\n';
    write();
  } catch (...) {
  }
  redraw();
}

inline std::size_t progress_bar::part_of(std::size_t whole) const noexcept {
  const auto total = counts().total;
  if (!total) return 0;
  if (done() >= *total) return whole;
  return static_cast<std::size_t>(static_cast<double>(whole) * static_cast<double>(done()) /
                                  static_cast<double>(*total));
}

inline void progress_bar::draw_if_due() noexcept {
  if (latest_ - drawn_ < options_.interval || done() == counts().total) return;  // the last line comes soon
  if (is_in_place()) return draw(false);
  const std::size_t tenths = part_of(10);
  if (tenths == tenths_ && elapsed() < due_) return;
  tenths_ = tenths;
  due_ = std::max(due_, 2 * elapsed());
  draw(false);
}

inline void progress_bar::draw(bool is_last) noexcept {
  if (options_.display == progress_display::none) return;
  drawn_ = latest_;
  try {
    if (is_in_place()) {
      append_in_place(is_last);
    } else {
      text_ = description_ + percent() + figures(is_last) + '\n';
    }
    write();
  } catch (...) {  // of the stream, or for want of memory: the work goes on
  }
}

/// All but the last column, after which some terminals go on to the next line.
inline void progress_bar::append_in_place(bool is_last) {
  terminal_.update_width();
  constexpr std::size_t least = 5, most = 40;
  const std::size_t room = terminal_.width - 1;
  const std::string begin = description_ + percent(), end = figures(is_last);
  // As much as the figures will mostly take, so that the bar does not change its length each time.
  const std::size_t usual =
      2 * std::to_string(counts().total.value_or(0)).size() + std::size("/ [00:00<00:00, 15.0/min]") - 1;
  const std::size_t taken = detail::columns_of(begin) + std::max(end.size(), usual) + 2;
  text_ = '\r';
  if (counts().total && taken + least <= room) {
    text_ += begin;
    append_bar(std::min(room - taken, most));
    text_.append("| ").append(end);
  } else {
    std::size_t columns = 0;
    for (const char c : begin + end) {
      if ((columns += detail::columns_of(c)) > room) break;
      text_ += c;
    }
  }
  text_ += "\x1b[K";
  if (is_last) text_ += '\n';
}

inline void progress_bar::append_bar(std::size_t cells) {
  const std::size_t eighths = part_of(8 * cells);
  const std::size_t full = eighths / 8;
  std::size_t taken = full;
  if (terminal_.colours) text_ += counts().failed == 0 ? "\x1b[32m" : "\x1b[31m";
  for (std::size_t i = 0; i != full; ++i) text_ += terminal_.utf8 ? "\u2588" : "#";
  if (terminal_.utf8 && eighths % 8 != 0) {
    constexpr const char* blocks[] = {"", "\u258f", "\u258e", "\u258d", "\u258c", "\u258b", "\u258a", "\u2589"};
    text_ += blocks[eighths % 8];
    ++taken;
  }
  if (terminal_.colours) text_ += "\x1b[0m";
  text_.append(cells - taken, ' ');
}

/// " 62% ", or nothing without a total.
inline std::string progress_bar::percent() const {
  if (!counts().total) return {};
  const std::string number = std::to_string(part_of(100));
  return std::string(3 - number.size(), ' ') + number + "% ";
}

/// "62/100 [00:03<00:02, 18.4/s, 3 failed]"
inline std::string progress_bar::figures(bool is_last) const {
  const auto total = counts().total;
  const double passed = std::chrono::duration<double>(elapsed()).count();
  const double rate =
      is_last ? (passed > 0 ? static_cast<double>(done()) / passed : 0) : (seconds_ > 0 ? count_ / seconds_ : 0);
  std::string out = std::to_string(done());
  if (total) out += '/' + std::to_string(*total);
  out += " [" + detail::bar_time(passed);
  if (total && !is_last) {
    const std::size_t left = *total - std::min(*total, done());
    out += '<' + (rate > 0 ? detail::bar_time(static_cast<double>(left) / rate + 0.5) : "?");
  }
  out += ", " + detail::bar_rate(rate);
  if (counts().failed != 0) out += ", " + std::to_string(counts().failed) + " failed";
  if (counts().stopped != 0 && is_last) out += ", " + std::to_string(counts().stopped) + " stopped";
  return out += ']';
}

inline void progress_bar::write() {
  if (!*options_.out) return;
  options_.out->write(text_.data(), static_cast<std::streamsize>(text_.size()));
  options_.out->flush();
}

}  // namespace tandem::inline TANDEM_CONFIG
