// tandem/text_streams.hpp: text from a socket, line by line: read, utf8, split_lines, lines.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, cancel.hpp, clock.hpp, event.hpp, exceptions.hpp, gather.hpp, generator.hpp, outcome.hpp, progress.hpp, queue.hpp, race.hpp, semaphore.hpp, streams.hpp, task.hpp, task_group.hpp, task_handle.hpp, this_task.hpp, use_task.hpp, detail/alarm.hpp, detail/beside.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/holder.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/one_loop.hpp, detail/place.hpp, detail/priority.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "generator.hpp"
#include "streams.hpp"
#include "use_task.hpp"

#include TANDEM_ASIO_HEADER(buffer.hpp)
#include TANDEM_ASIO_HEADER(error.hpp)

#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/text_streams.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::streams {

/// Bytes that are no UTF-8, or a character that is cut off by the end.
class invalid_utf8 : public std::runtime_error {
 public:
  invalid_utf8(const std::string& what, std::size_t offset) : std::runtime_error(what), offset_(offset) {}
  /// Of the first wrong byte, counted from the beginning of the stream.
  std::size_t offset() const noexcept { return offset_; }

 private:
  std::size_t offset_;
};

/// What happens to wrong bytes: an `invalid_utf8` is thrown, or U+FFFD takes their place.
enum class utf8_errors { strict, replace };

/// `| utf8()`: pieces of text of whole characters, out of strings of bytes that are cut anywhere (RFC 3629). Linear;
/// holds back at most three bytes. The text before a wrong byte is given before that is thrown; with `replace` each
/// maximal wrong part becomes one U+FFFD, as browsers do.
inline auto utf8(utf8_errors errors = utf8_errors::strict);

struct lines_options {
  std::size_t longest = 64 * 1024;  ///< bytes of a line; std::length_error for more
  utf8_errors errors = utf8_errors::strict;
};

/// `| split_lines()`: lines without their ends, "\n" or "\r\n", out of pieces of text; the last may have none. Throws
/// std::length_error for a line of more than `longest` bytes.
inline auto split_lines(std::size_t longest = lines_options().longest);

/// `read(socket)`: what arrives, as strings of up to `size` bytes, until the end. Other errors are thrown; a stop loses
/// what has arrived at that moment. The socket (any AsyncReadStream) must outlive the stream.
template <class Socket>
generator<std::string> read(Socket& socket, std::size_t size = 4096);

/// `lines(socket)`: UTF-8 text, line by line: `read(socket) | utf8() | split_lines()`.
template <class Socket>
generator<std::string> lines(Socket& socket, lines_options options = {});

}  // namespace tandem::inline TANDEM_CONFIG::streams

// ---- implementation ------------------------------------------------------------------------------------------------

namespace tandem::inline TANDEM_CONFIG::detail {

/// What is at the beginning of some bytes: a whole character, a part of one that the bytes end with, or none; and how
/// many bytes that is. Table 3-7 of the Unicode standard.
struct utf8_part {
  enum : unsigned char { whole, cut, wrong } what;
  std::size_t length;
};
inline utf8_part first_utf8(std::string_view bytes) noexcept {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return {utf8_part::whole, 1};
  if (lead < 0xc2 || lead > 0xf4) return {utf8_part::wrong, 1};
  const std::size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  unsigned char low = 0x80, high = 0xbf;  // of the second byte
  if (lead == 0xe0) low = 0xa0;
  if (lead == 0xed) high = 0x9f;
  if (lead == 0xf0) low = 0x90;
  if (lead == 0xf4) high = 0x8f;
  for (std::size_t i = 1; i != length; ++i, low = 0x80, high = 0xbf) {
    if (i == bytes.size()) return {utf8_part::cut, i};
    if (at(i) < low || at(i) > high) return {utf8_part::wrong, i};
  }
  return {utf8_part::whole, length};
}

/// Whole characters out of bytes that come in pieces.
class utf8_decoder {
 public:
  explicit utf8_decoder(streams::utf8_errors errors) noexcept : errors_(errors) {}
  /// As far as they are good: see `check`.
  std::string decode(std::string_view bytes) {
    std::string text;
    text.reserve(bytes.size() + 3);
    if (!held_back_.empty()) {
      // At most three bytes complete what was held back; it takes them one by one.
      while (!held_back_.empty() && !bytes.empty()) {
        held_back_ += bytes.front();
        const utf8_part p = first_utf8(held_back_);
        if (p.what == utf8_part::wrong) {
          held_back_.pop_back();  // which begins something else
          wrong(text, held_back_.size());
          held_back_.clear();
          break;
        }
        bytes.remove_prefix(1);
        if (p.what == utf8_part::cut) continue;
        text += held_back_;
        offset_ += held_back_.size();
        held_back_.clear();
      }
    }
    while (!bytes.empty() && !has_failed_) {
      std::size_t good = 0;
      utf8_part p{utf8_part::whole, 0};
      while (good != bytes.size() && (p = first_utf8(bytes.substr(good))).what == utf8_part::whole) good += p.length;
      text.append(bytes.substr(0, good));
      offset_ += good;
      bytes.remove_prefix(good);
      if (bytes.empty()) break;
      if (p.what == utf8_part::cut) {
        held_back_ = bytes;
        break;
      }
      wrong(text, p.length);
      bytes.remove_prefix(p.length);
    }
    return text;
  }
  /// Throws if wrong bytes have come, when the text before them has been given.
  void check() const {
    if (has_failed_)
      throw streams::invalid_utf8("tandem::streams::invalid_utf8: at byte " + std::to_string(offset_), offset_);
  }
  /// What is left is cut off.
  std::string end() {
    std::string text;
    if (!held_back_.empty()) wrong(text, held_back_.size());
    held_back_.clear();
    return text;
  }

 private:
  void wrong(std::string& text, std::size_t length) {
    has_failed_ = errors_ == streams::utf8_errors::strict;
    if (has_failed_) return;
    text += "\xef\xbf\xbd";
    offset_ += length;
  }
  streams::utf8_errors errors_;
  std::string held_back_;
  std::size_t offset_ = 0;  // of what comes next
  bool has_failed_ = false;
};

template <class S>
generator<std::string> decode_utf8(S source, streams::utf8_errors errors) {
  co_await on_exit(closes<S>{&source});
  utf8_decoder decoder(errors);
  while (auto bytes = co_await source.next()) {
    std::string text = decoder.decode(*bytes);
    if (!text.empty()) co_yield std::move(text);
    decoder.check();
  }
  std::string rest = decoder.end();
  decoder.check();
  if (!rest.empty()) co_yield std::move(rest);
}

[[noreturn, gnu::cold, gnu::noinline]] inline void throw_long_line(std::size_t longest) {
  throw std::length_error("tandem::streams::split_lines: a line is longer than " + std::to_string(longest) + " bytes");
}

template <class S>
generator<std::string> split_into_lines(S source, std::size_t longest) {
  co_await on_exit(closes<S>{&source});
  std::string rest;
  while (auto text = co_await source.next()) {
    std::size_t begin = 0;
    for (std::size_t end; (end = text->find('\n', begin)) != std::string::npos; begin = end + 1) {
      rest.append(*text, begin, end - begin);
      if (!rest.empty() && rest.back() == '\r') rest.pop_back();
      if (rest.size() > longest) throw_long_line(longest);
      co_yield std::move(rest);
      rest.clear();
    }
    rest.append(*text, begin);
    if (rest.size() > longest && (rest.size() != longest + 1 || rest.back() != '\r')) throw_long_line(longest);
  }
  if (!rest.empty() && rest.back() == '\r') rest.pop_back();
  if (!rest.empty()) co_yield std::move(rest);
}

}  // namespace tandem::inline TANDEM_CONFIG::detail

namespace tandem::inline TANDEM_CONFIG::streams {

inline auto utf8(utf8_errors errors) {
  return detail::stream_operator(
      [errors]<class S>(S source) { return detail::decode_utf8(std::move(source), errors); });
}
inline auto split_lines(std::size_t longest) {
  if (longest == 0) detail::throw_zero("split_lines: the longest line");
  return detail::stream_operator(
      [longest]<class S>(S source) { return detail::split_into_lines(std::move(source), longest); });
}

template <class Socket>
generator<std::string> read(Socket& socket, std::size_t size) {
  if (size == 0) detail::throw_zero("read: the size");
  std::string bytes(size, '\0');
  for (;;) {
    std::size_t n = 0;
    try {
      n = co_await socket.async_read_some(asio::buffer(bytes), use_task);
    } catch (const system_error& e) {
      if (e.code() == asio::error::eof) break;
      throw;
    }
    co_yield bytes.substr(0, n);
  }
}

template <class Socket>
generator<std::string> lines(Socket& socket, lines_options options) {
  return read(socket) | utf8(options.errors) | split_lines(options.longest);
}

}  // namespace tandem::inline TANDEM_CONFIG::streams
