// tests/kit/json.hpp: a strict reader of JSON (RFC 8259), to look into what tandem writes. Throws at the first mistake.
#pragma once

#include <cstddef>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace kit {

struct json {
  enum { null, boolean, number, string, array, object } kind = null;
  std::string text;  // of a string, unescaped; of a number or a boolean as it is written
  std::vector<json> items;
  std::map<std::string, json> members;

  const json& operator[](const std::string& name) const { return members.at(name); }
  bool has(const std::string& name) const { return members.count(name) != 0; }
};

class json_reader {
 public:
  static json read(std::string_view text) {
    json_reader r(text);
    json out = r.value();
    r.space();
    if (r.at_ != text.size()) r.fail("more after the end");
    return out;
  }

 private:
  explicit json_reader(std::string_view text) : text_(text) {}

  [[noreturn]] void fail(const char* what) const {
    throw std::runtime_error("JSON: " + std::string(what) + " at byte " + std::to_string(at_));
  }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(std::string_view s) {
    const bool there = text_.substr(at_).starts_with(s);
    if (there) at_ += s.size();
    return there;
  }
  void space() {
    while (take(" ") || take("\n") || take("\r") || take("\t")) {
    }
  }
  bool take_sign(std::string_view s) {
    space();
    const bool there = take(s);
    space();
    return there;
  }
  std::size_t digits() {
    const std::size_t from = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    if (at_ == from) fail("no digit");
    return at_ - from;
  }

  json value() {
    json out;
    space();
    const std::size_t from = at_;
    if (peek() == '"') {
      out.kind = json::string;
      out.text = string();
    } else if (take("{")) {
      out.kind = json::object;
      if (take_sign("}")) return out;
      do {
        space();
        const std::string name = string();
        if (!take_sign(":")) fail("no colon");
        if (!out.members.emplace(name, value()).second) fail("a name that was there before");
      } while (take_sign(","));
      if (!take("}")) fail("no }");
    } else if (take("[")) {
      out.kind = json::array;
      if (take_sign("]")) return out;
      do out.items.push_back(value());
      while (take_sign(","));
      if (!take("]")) fail("no ]");
    } else if (take("true") || take("false")) {
      out.kind = json::boolean;
      out.text = text_.substr(from, at_ - from);
    } else if (!take("null")) {
      out.kind = json::number;
      take("-");
      const bool zero = peek() == '0';
      if (digits() != 1 && zero) fail("a number that begins with 0");
      if (take(".")) digits();
      if (take("e") || take("E")) {
        if (!take("+")) take("-");
        digits();
      }
      out.text = text_.substr(from, at_ - from);
    }
    return out;
  }
  std::string string() {
    std::string out;
    if (!take("\"")) fail("no string");
    while (!take("\"")) {
      const char c = peek();
      if (static_cast<unsigned char>(c) < 0x20) fail("a control character, or no end, in a string");
      ++at_;
      if (c != '\\') {
        out += c;
        continue;
      }
      const char e = peek();
      const std::size_t known = std::string_view("\"\\/bfnrt").find(e);
      ++at_;
      if (e == 'u') {  // only what stands for ASCII, which is all that tandem escapes
        const std::string hex(text_.substr(at_, 4));
        if (hex.size() != 4 || hex.find_first_not_of("0123456789abcdefABCDEF") != hex.npos) fail("no four digits");
        const unsigned long code = std::stoul(hex, nullptr, 16);
        if (code > 0x7f) fail("an escape that this reader does not know");
        out += static_cast<char>(code);
        at_ += 4;
      } else if (known == std::string_view::npos) {
        fail("an unknown escape");
      } else {
        out += "\"\\/\b\f\n\r\t"[known];
      }
    }
    return out;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace kit
