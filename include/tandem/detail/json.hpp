// tandem/detail/json.hpp: text for JSON, and for other formats that want UTF-8 and nothing else.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"

#include <cstddef>
#include <string>
#include <string_view>

static_assert(TANDEM_VERSION == 100, "tandem/detail/json.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// How many bytes the first character of `s` takes: 0 if there is no character of UTF-8 (RFC 3629: none in more bytes
/// than it needs, no halves of a pair, nothing above U+10FFFF).
inline std::size_t utf8_length(std::string_view s) noexcept {
  const auto byte = [s](std::size_t i) { return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u; };
  const unsigned first = byte(0), second = byte(1);
  if (s.empty() || first < 0x80) return s.empty() ? 0 : 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  if (second < (first == 0xe0 ? 0xa0u : first == 0xf0 ? 0x90u : 0x80u)) return 0;
  if (second > (first == 0xed ? 0x9fu : first == 0xf4 ? 0x8fu : 0xbfu)) return 0;
  const std::size_t length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  for (std::size_t i = 2; i != length; ++i)
    if (byte(i) < 0x80 || byte(i) > 0xbf) return 0;
  return length;
}

/// Calls `add` with each character; a byte that belongs to none is U+FFFD, as in browsers.
template <class Add>
void for_each_character(std::string_view s, Add add) {
  while (!s.empty()) {
    const std::size_t length = utf8_length(s);
    add(length != 0 ? s.substr(0, length) : std::string_view("\xef\xbf\xbd"));
    s.remove_prefix(length != 0 ? length : 1);
  }
}

/// In quotation marks, escaped. Never a control character: DEL is escaped too, since some readers take it for one.
inline std::string json_text(std::string_view text) {
  std::string out = "\"";
  for_each_character(text, [&](std::string_view character) {
    const auto c = static_cast<unsigned char>(character.front());
    if (c == '"' || c == '\\')
      (out += '\\') += character;
    else if (c < ' ' || c == 0x7f)
      ((out += "\\u00") += "0123456789abcdef"[c >> 4]) += "0123456789abcdef"[c & 15];
    else
      out += character;
  });
  return out += '"';
}

}  // namespace tandem::inline TANDEM_CONFIG::detail
