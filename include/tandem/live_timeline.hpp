// tandem/live_timeline.hpp: the chart of a timeline in the terminal, while the program runs: live_timeline. Included by
// itself, like trace.hpp.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, trace.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/intrusive_list.hpp, detail/json.hpp, detail/leaf.hpp, detail/loop.hpp, detail/loop_watcher.hpp, detail/place.hpp, detail/random.hpp, detail/terminal.hpp, detail/timer_heap.hpp, detail/trace_drawing.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "trace.hpp"

#include "detail/terminal.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <iostream>  // std::cout, std::cerr and std::clog, whose lines go above the chart
#include <memory>
#include <mutex>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/live_timeline.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// Options of `live_timeline`.
struct live_timeline_options {
  std::chrono::milliseconds interval{100};  // from one drawing to the next, at least 1 ms
  std::size_t width = 0;                    // of the chart, at least 40; 0: as wide as the terminal
  timeline_options record{};
};

/// A `timeline` that shows its chart while it lives: `live_timeline t; run(main());`
///
/// On a terminal a thread of its own draws the chart every `interval` and the next one over it, so that it stays at the
/// end of what the program prints: the last of its lines if the window has fewer, with colours unless NO_COLOR is set,
/// in blocks where the locale is UTF-8. What goes on in real time goes on to now; a simulation moves when something
/// happens. At its end the whole chart stays there. Nothing else is left behind: no cursor is hidden, no mode is kept
/// from one drawing to the next, so that a program that is killed leaves a terminal that works.
///
/// Anywhere else, a file or a pipe, there is no thread and no colour: the chart is written once, at the end. On which
/// stream: `out`, which is a terminal only if it is std::cout, std::cerr or std::clog.
///
/// Meanwhile std::cout, std::cerr and std::clog, where they are terminals, print whole lines above the chart: the
/// begin of a line waits for its end, or for the end of the live_timeline. It takes their buffers away for that: give
/// them no others meanwhile, and let no other thread print while it begins or finishes. What is written to the terminal
/// in other ways, by printf or by another process, is drawn over in part. A second live_timeline at the same time draws
/// over the first.
///
/// Hears of loops as `timeline` does, and like it is destroyed on the thread that made it. A drawing copies the record
/// and costs what `timeline::gantt` does; a loop waits for the copying. Without a thread, if none is to be had.
class live_timeline {
 public:
  /// Throws std::invalid_argument if the interval is less than 1 ms. `out` must outlive it.
  explicit live_timeline(live_timeline_options options = {}, std::ostream& out = std::cerr);
  live_timeline(const live_timeline&) = delete;
  live_timeline& operator=(const live_timeline&) = delete;
  /// `finish`, without its exceptions.
  ~live_timeline();

  /// Shows the whole chart, for the last time; gives the streams their buffers back. Recording goes on. Does nothing
  /// when it is called again. Throws std::bad_alloc, and what `out` throws.
  void finish();

  /// What is recorded, to be drawn in other ways; from any thread.
  const timeline& recorded() const noexcept { return timeline_; }

 private:
  std::string chart(bool is_last) const;

  timeline timeline_;
  const live_timeline_options options_;
  std::ostream& out_;
  detail::terminal terminal_;
  bool has_finished_ = false;
  struct drawing;
  void draw_until_finished(drawing& d) noexcept;
  std::unique_ptr<drawing> drawing_;  // on a terminal, until it has finished
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// The end of what a terminal shows: lines that are drawn again and again, below those that are printed.
class live_screen {
 public:
  /// `out` is where the lines are drawn.
  explicit live_screen(std::streambuf& out) noexcept : out_(out) {}

  /// Each line ends with '\n'.
  void draw(std::string lines) {
    const std::scoped_lock lock(mutex_);
    if (lines == lines_) return;
    write(back() + shown(lines));
    lines_ = std::move(lines);
  }
  void print(std::streambuf& to, std::string_view whole_lines) {
    const std::scoped_lock lock(mutex_);
    if (!lines_.empty()) write(back() + "\x1b[J");
    to.sputn(whole_lines.data(), static_cast<std::streamsize>(whole_lines.size()));
    to.pubsync();
    if (!lines_.empty()) write(shown(lines_));
  }
  void clear() {
    const std::scoped_lock lock(mutex_);
    if (!lines_.empty()) write(back() + "\x1b[J");
    lines_.clear();
  }

 private:
  /// To the place of the first line.
  std::string back() const {
    const auto n = std::count(lines_.begin(), lines_.end(), '\n');
    return n == 0 ? "\r" : "\r\x1b[" + std::to_string(n) + 'A';
  }
  /// What is too long for a line is cut by the terminal. A line is cleared just before it is drawn: less flicker.
  static std::string shown(std::string_view lines) {
    std::string out = "\x1b[?7l";
    while (!lines.empty()) {
      const std::size_t end = lines.find('\n') + 1;
      out.append("\x1b[2K").append(lines.substr(0, end));
      lines.remove_prefix(end);
    }
    return out += "\x1b[J\x1b[?7h";
  }
  void write(std::string_view s) {
    out_.sputn(s.data(), static_cast<std::streamsize>(s.size()));
    out_.pubsync();
  }

  std::streambuf& out_;
  std::mutex mutex_;
  std::string lines_;
};

/// Takes a stream's buffer away, and prints its lines on the screen.
class live_lines final : public std::streambuf {
 public:
  live_lines(std::ostream& stream, live_screen& screen) : stream_(stream), to_(*stream.rdbuf()), screen_(screen) {
    stream.rdbuf(this);
  }
  ~live_lines() override {
    stream_.rdbuf(&to_);
    to_.sputn(begun_.data(), static_cast<std::streamsize>(begun_.size()));
    to_.pubsync();
  }

 private:
  int_type overflow(int_type c) override {
    const char ch = traits_type::to_char_type(c);
    if (!traits_type::eq_int_type(c, traits_type::eof())) xsputn(&ch, 1);
    return traits_type::not_eof(c);
  }
  std::streamsize xsputn(const char* s, std::streamsize n) override {
    const std::scoped_lock lock(mutex_);
    begun_.append(s, static_cast<std::size_t>(n));
    if (const std::size_t end = begun_.rfind('\n') + 1; end != 0) {
      screen_.print(to_, std::string_view(begun_).substr(0, end));
      begun_.erase(0, end);
    }
    return n;
  }

  std::ostream& stream_;
  std::streambuf& to_;
  live_screen& screen_;
  std::mutex mutex_;  // threads may print at the same time
  std::string begun_;
};

/// The last of the lines if there are more than `most`, and how many are not there.
inline std::string last_lines(std::string text, std::size_t most) {
  const auto n = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
  if (n <= most) return text;
  const std::size_t hidden = n - (most - 1);
  std::size_t from = 0;
  for (std::size_t i = 0; i != hidden; ++i) from = text.find('\n', from) + 1;
  return "... " + std::to_string(hidden) + " lines above\n" + text.substr(from);
}

}  // namespace detail

/// In the order in which it begins; it ends the other way round.
struct live_timeline::drawing {
  detail::live_screen screen;
  std::optional<detail::live_lines> lines[3];
  std::mutex mutex{};
  std::condition_variable wake{};
  bool ends = false;
  std::thread thread{};

  explicit drawing(std::ostream& out) : screen(*out.rdbuf()) {
    std::size_t i = 0;
    for (std::ostream* stream : {&std::cout, &std::cerr, &std::clog})
      if (detail::terminal::of(*stream).is_terminal) lines[i++].emplace(*stream, screen);
  }
  ~drawing() {
    {
      const std::scoped_lock lock(mutex);
      ends = true;
    }
    wake.notify_one();
    if (thread.joinable()) thread.join();
    try {
      screen.clear();
    } catch (...) {  // the chart stays where it is
    }
  }
};

inline live_timeline::live_timeline(live_timeline_options options, std::ostream& out)
    : timeline_(options.record), options_(options), out_(out), terminal_(detail::terminal::of(out)) {
  if (options.interval < std::chrono::milliseconds(1))
    throw std::invalid_argument("tandem::live_timeline: the interval is " + std::to_string(options.interval.count()) +
                                " ms; it must be at least 1 ms");
  if (!terminal_.is_terminal) return;
  drawing_ = std::make_unique<drawing>(out);
  try {
    drawing_->thread = std::thread([this, &d = *drawing_] { draw_until_finished(d); });
  } catch (const std::system_error&) {  // no thread is to be had: the chart is there at the end
  }
}

inline live_timeline::~live_timeline() {
  try {
    finish();
  } catch (...) {  // there is nobody left to tell
  }
}

inline void live_timeline::finish() {
  if (std::exchange(has_finished_, true)) return;
  drawing_.reset();
  std::cout << std::flush;  // where both go to one place, what the program printed comes first
  out_ << '\n' << chart(true) << std::flush;
}

inline std::string live_timeline::chart(bool is_last) const {
  detail::trace_record record = timeline_.recorder_->record();
  if (!is_last && record.coroutines.empty()) return {};
  return detail::draw_text(std::move(record), options_.width != 0 ? options_.width : terminal_.width,
                           terminal_.is_terminal && terminal_.utf8, terminal_.colours,
                           is_last ? clock::time_point::min() : detail::real_now());
}

inline void live_timeline::draw_until_finished(drawing& d) noexcept {
  std::unique_lock lock(d.mutex);
  while (!d.wake.wait_for(lock, options_.interval, [&] { return d.ends; })) {
    lock.unlock();
    try {
      terminal_.update_width();
      d.screen.draw(detail::last_lines(chart(false), std::max<std::size_t>(detail::terminal::height(out_), 3) - 1));
    } catch (const std::exception&) {  // there is no memory: perhaps the next time
    }
    lock.lock();
  }
}

}  // namespace tandem::inline TANDEM_CONFIG
