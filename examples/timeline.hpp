// What `./examples/run NN --timeline` puts in front of an example: a timeline that lives as long as the program, and
// draws it when main has returned, to stderr and into the file that the environment variable TIMELINE_SVG names.
//
// A terminal gets blocks and colours, if its locale is UTF-8 and NO_COLOR is not set, and lines of COLUMNS columns.
// With TIMELINE_VIRTUAL, `run(task)` is `simulate(task)`: the pictures of the book are made so, and always the same.
#pragma once

#include <tandem/run.hpp>
#include <tandem/trace.hpp>

#include <unistd.h>  // isatty

#include <cstddef>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>

#if defined(TIMELINE_VIRTUAL)
template <>
inline void tandem::run(tandem::task<void> main) {
  tandem::simulate(std::move(main));
}
#endif

namespace {

class drawn_timeline {
 public:
  drawn_timeline() = default;
  drawn_timeline(const drawn_timeline&) = delete;
  drawn_timeline& operator=(const drawn_timeline&) = delete;
  ~drawn_timeline() try {
    const std::size_t width = std::strtoul(variable("COLUMNS").c_str(), nullptr, 10);
    const std::string chart =
        timeline_.gantt(width != 0 ? width : 80, blocks() ? tandem::glyphs::blocks : tandem::glyphs::ascii);
    std::cout << std::flush;
    std::cerr << '\n' << (blocks() && variable("NO_COLOR").empty() ? coloured(chart) : chart);
    if (const std::string file = variable("TIMELINE_SVG"); !file.empty()) {
      std::ofstream(file) << timeline_.svg();
      std::cerr << "\nThe same as a picture: " << file << '\n';
    }
  } catch (const std::exception& e) {
    std::cerr << "no timeline: " << e.what() << '\n';
  }

 private:
  static std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
  }
  static bool blocks() {
    std::string locale;
    for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"})
      if (locale.empty()) locale = variable(name);
    return isatty(STDERR_FILENO) && (locale.find("UTF-8") != locale.npos || locale.find("utf8") != locale.npos);
  }
  static std::string coloured(std::string_view text) {
    struct {
      std::string_view glyph;
      const char* colour;
    } static constexpr colours[] = {{"█", "\x1b[32m"}, {"░", "\x1b[34m"}, {"▒", "\x1b[33m"}, {"×", "\x1b[31m"}};
    std::string out;
    while (!text.empty()) {
      std::size_t length = 0;
      for (const auto& [glyph, colour] : colours) {
        while (text.substr(length).starts_with(glyph)) length += glyph.size();
        if (length == 0) continue;
        out.append(colour).append(text.substr(0, length)).append("\x1b[0m");
        break;
      }
      if (length == 0) out += text[length++];
      text.remove_prefix(length);
    }
    return out;
  }

  tandem::timeline timeline_;
} const draws_at_exit;

}  // namespace
