// tandem/detail/terminal.hpp: what is behind a stream: a terminal that is drawn on, or a file that is written to.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <iostream>  // std::cout and std::cerr, to be told from other streams
#include <string_view>

#if __has_include(<sys/ioctl.h>) && __has_include(<unistd.h>)
#include <sys/ioctl.h>
#include <unistd.h>
#define TANDEM_HAS_TERMINALS
#endif

static_assert(TANDEM_VERSION == 100, "tandem/detail/terminal.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// What may be written. Asked for once: environment variables must not be read while another thread sets them.
struct terminal {
  bool is_terminal = false;  // one on which a line can be drawn again; no file, and not TERM=dumb
  bool utf8 = false;         // by LC_ALL, LC_CTYPE or LANG, whichever is the first that is set
  bool colours = false;      // on such a terminal, unless NO_COLOR is set and not empty
  std::size_t width = 80;    // by COLUMNS, or of the window; at least 1
  int window = -1;           // the file descriptor of the window that has the width; -1: it never changes

  /// Reads an environment variable: null if it is not set.
  using environment = const char* (*)(const char*);

  /// Of a file descriptor.
  static terminal of(
      int fd, environment get = [](const char* name) -> const char* { return std::getenv(name); }) {
    return of(is_tty(fd), window_width(fd), fd, get);
  }
  static terminal of_stderr() { return of(2); }
  /// Of std::cout, std::cerr and std::clog; any other stream is no terminal. If they were given another buffer, that
  /// cannot be seen here.
  static terminal of(const std::ostream& out) {
    return of(&out == &std::cout ? 1 : &out == &std::cerr || &out == &std::clog ? 2 : -1);
  }
  /// `window_width`: 0 if it is not known.
  static terminal of(bool is_tty, std::size_t window_width, int fd, environment get) {
    const auto value = [get](const char* name) {
      const char* v = get(name);
      return std::string_view(v ? v : "");
    };
    terminal t;
    t.is_terminal = is_tty && !value("TERM").empty() && value("TERM") != "dumb";
    for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"})
      if (const std::string_view v = value(name); !v.empty()) {
        t.utf8 = names_utf8(v);
        break;
      }
    t.colours = t.is_terminal && value("NO_COLOR").empty();
    if (const std::size_t columns = number(value("COLUMNS")); columns != 0) {
      t.width = columns;
    } else if (window_width != 0) {
      t.width = window_width;
      t.window = fd;
    }
    return t;
  }

  /// How many lines the window of std::cout, std::cerr or std::clog has now; 24 if that is not known. A call of the
  /// system.
  static std::size_t height([[maybe_unused]] const std::ostream& out) noexcept {
    std::size_t lines = 0;
#if defined(TANDEM_HAS_TERMINALS) && defined(TIOCGWINSZ)
    ::winsize size{};
    if (::ioctl(&out == &std::cout ? 1 : 2, TIOCGWINSZ, &size) == 0) lines = size.ws_row;
#endif
    return lines != 0 ? lines : 24;
  }
  /// The window may have another size by now. A call of the system.
  void update_width() noexcept {
    if (const std::size_t now = window == -1 ? 0 : window_width(window); now != 0) width = now;
  }

 private:
  static bool is_tty([[maybe_unused]] int fd) noexcept {
#if defined(TANDEM_HAS_TERMINALS)
    return fd >= 0 && ::isatty(fd) == 1;
#else
    return false;
#endif
  }
  static std::size_t window_width([[maybe_unused]] int fd) noexcept {
#if defined(TANDEM_HAS_TERMINALS) && defined(TIOCGWINSZ)
    ::winsize size{};
    if (fd >= 0 && ::ioctl(fd, TIOCGWINSZ, &size) == 0) return size.ws_col;
#endif
    return 0;
  }
  /// 0 if it is none, or an unlikely one.
  static std::size_t number(std::string_view text) noexcept {
    std::size_t n = 0;
    for (const char c : text) {
      if (c < '0' || c > '9' || n > 10'000) return 0;
      n = 10 * n + static_cast<std::size_t>(c - '0');
    }
    return n > 10'000 ? 0 : n;
  }
  /// As "de_DE.UTF-8", "C.utf8@euro".
  static bool names_utf8(std::string_view locale) noexcept {
    const auto is = [](char c, char lower) { return (c | 0x20) == lower; };
    for (std::size_t i = locale.find('.'); i < locale.size(); ++i) {
      const std::string_view rest = locale.substr(i);
      if (rest.size() < 4 || !is(rest[0], 'u') || !is(rest[1], 't') || !is(rest[2], 'f')) continue;
      return rest[3] == '8' || (rest.size() > 4 && rest[3] == '-' && rest[4] == '8');
    }
    return false;
  }
};

/// The columns that a character of UTF-8 takes on a terminal, by its first byte: two for most of three bytes and more,
/// which are of East Asia, none for the bytes that follow.
inline std::size_t columns_of(char first) noexcept {
  const auto byte = static_cast<unsigned char>(first);
  return byte < 0x80 ? 1 : byte < 0xc0 ? 0 : byte < 0xe3 ? 1 : 2;
}
inline std::size_t columns_of(std::string_view s) noexcept {
  std::size_t n = 0;
  for (const char c : s) n += columns_of(c);
  return n;
}

}  // namespace tandem::inline TANDEM_CONFIG::detail

#undef TANDEM_HAS_TERMINALS
