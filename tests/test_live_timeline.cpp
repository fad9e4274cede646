#include <tandem/live_timeline.hpp>

#include <tandem/gather.hpp>
#include <tandem/run.hpp>
#include <tandem/threads.hpp>

#include "kit/kit.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <ios>
#include <iostream>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using tandem::live_timeline;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::timeline;

// Not in an unnamed namespace, which each compiler spells in its own way.
namespace shop {

static task<> price() { co_await sleep_for(150ms); }
static task<> stock() { co_await sleep_for(50ms); }
static task<> ask_all() { co_await tandem::gather(price(), stock()); }
static task<> many(std::size_t n) {
  std::vector<task<>> all;
  for (std::size_t i = 0; i != n; ++i) all.push_back(stock());
  co_await tandem::gather(std::move(all));
}

}  // namespace shop

namespace {

using lines = std::vector<std::string>;

/// What a terminal of that size shows when it was sent these bytes, as far as a live_timeline needs one.
class screen {
 public:
  explicit screen(std::size_t height = 24, std::size_t columns = 80) : height_(height), columns_(columns) {}

  void send(std::string_view s) {
    for (std::size_t i = 0; i < s.size(); ++i) {
      if (s[i] == '\r') {
        column_ = 0;
      } else if (s[i] == '\n') {
        column_ = 0;
        if (++line_ == cells_.size()) cells_.emplace_back();
      } else if (s[i] == '\x1b') {
        const std::size_t end = s.find_first_not_of("[?0123456789;", i + 1);
        REQUIRE(end != s.npos);
        control(s[end], s.substr(i + 1, end - i - 1));
        i = end;
      } else {
        put(s[i]);
      }
    }
  }
  /// The lines that the window shows, and those that have left it at the top.
  lines text() const {
    lines out;
    for (const auto& cells : cells_) {
      std::string& line = out.emplace_back();
      for (const std::string& character : cells) line += character;
      line.erase(line.find_last_not_of(' ') + 1);
    }
    while (!out.empty() && out.back().empty()) out.pop_back();
    return out;
  }
  bool wraps() const { return wraps_; }
  bool is_coloured() const { return is_coloured_; }
  std::size_t count(std::string_view line) const {
    const lines all = text();
    return static_cast<std::size_t>(std::count(all.begin(), all.end(), line));
  }

 private:
  void put(char c) {
    auto& cells = cells_[line_];
    if ((static_cast<unsigned char>(c) & 0xc0) == 0x80) {  // of a character that has its column
      cells.at(column_ - 1) += c;
      return;
    }
    if (column_ == columns_ && wraps_) return send("\n" + std::string(1, c));
    column_ = std::min(column_, columns_ - 1);
    if (cells.size() <= column_) cells.resize(column_ + 1, " ");
    cells[column_++] = c;
  }
  void control(char what, std::string_view how) {
    const std::string digits(how.substr(how.find_first_of("0123456789") == how.npos ? how.size() : 1));
    if (what == 'A') {
      const std::size_t n = std::stoul(digits), top = cells_.size() - std::min(cells_.size(), height_);
      line_ = std::max(top, line_ - std::min(line_, n));
    } else if (what == 'J') {
      cells_.resize(line_ + 1);
      cells_[line_].resize(std::min(cells_[line_].size(), column_));
    } else if (what == 'K' && how == "[2") {
      cells_[line_].clear();
    } else if (how == "[?7") {
      wraps_ = what == 'h';
    } else if (what == 'm') {
      is_coloured_ = is_coloured_ || how != "[";
    } else {
      FAIL("a control sequence that is not known: " << how << what);
    }
  }

  std::size_t height_, columns_, line_ = 0, column_ = 0;
  bool wraps_ = true, is_coloured_ = false;
  std::vector<std::vector<std::string>> cells_{1};
};

std::size_t count(std::string_view text, std::string_view what) {
  std::size_t n = 0;
  for (std::size_t at = text.find(what); at != text.npos; at = text.find(what, at + what.size())) ++n;
  return n;
}

void append(lines& out, const std::string& text) {
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
}

/// Sets an environment variable, or takes it away, for as long as it lives.
class variable {
 public:
  variable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    set(value);
  }
  variable(const variable&) = delete;
  variable& operator=(const variable&) = delete;
  ~variable() { set(before_ ? before_->c_str() : nullptr); }

 private:
  void set(const char* value) { value ? ::setenv(name_, value, 1) : ::unsetenv(name_); }
  const char* name_;
  std::optional<std::string> before_;
};

/// stdout and stderr are a terminal of that size until its end. What they were sent is read by a thread meanwhile.
class terminal {
 public:
  terminal(unsigned short height, unsigned short width) : master_(::posix_openpt(O_RDWR | O_NOCTTY)) {
    REQUIRE((master_ != -1 && ::grantpt(master_) == 0 && ::unlockpt(master_) == 0));
    const int slave = ::open(::ptsname(master_), O_RDWR | O_NOCTTY);
    REQUIRE(slave != -1);
    const ::winsize size{height, width, 0, 0};
    REQUIRE(::ioctl(slave, TIOCSWINSZ, &size) == 0);
    for (int fd : {1, 2}) {
      before_[fd - 1] = ::dup(fd);
      ::dup2(slave, fd);
    }
    ::close(slave);
    reader_ = std::thread([this] {
      char buffer[4096];
      for (ssize_t n; (n = ::read(master_, buffer, sizeof buffer)) > 0;)
        got_.append(buffer, static_cast<std::size_t>(n));
    });
  }
  terminal(const terminal&) = delete;
  terminal& operator=(const terminal&) = delete;
  ~terminal() { end(); }

  /// What it was sent from begin to end.
  const std::string& end() {
    if (!reader_.joinable()) return got_;
    std::cout << std::flush;
    for (int fd : {1, 2}) {
      ::dup2(before_[fd - 1], fd);
      ::close(before_[fd - 1]);
    }
    reader_.join();  // nobody has the other side any more
    ::close(master_);
    return got_;
  }

 private:
  int master_, before_[2]{};
  std::thread reader_;
  std::string got_;
};

}  // namespace

TEST_CASE("anywhere but on a terminal the chart is written once, when real_time has gone by, as plain text") {
  std::ostringstream out;
  std::string chart;
  {
    live_timeline t({.interval = 1ms}, out);
    simulate(shop::ask_all());
    std::this_thread::sleep_for(5ms);
    CHECK(out.str() == "");
    chart = t.recorded().gantt();
  }
  CHECK(out.str() == '\n' + chart);
  CHECK(count(chart, "shop::price") == 1);
}

TEST_CASE("the width of a chart may be given; finish draws once; recording goes on after it") {
  const variable columns("COLUMNS", "60");
  std::ostringstream narrow, wide;
  {
    live_timeline t({}, narrow);
    simulate(shop::ask_all());
    CHECK(narrow.str() == "");
    t.finish();
    CHECK(narrow.str() == '\n' + t.recorded().gantt(60));
    const std::string once = narrow.str();
    simulate(shop::stock());
    t.finish();
    CHECK(narrow.str() == once);
    CHECK(count(t.recorded().gantt(), "shop::stock") == 2);
  }
  {
    live_timeline t({.width = 100, .record = {.most_spans = 0}}, wide);
    simulate(shop::ask_all());
  }
  CHECK(count(wide.str(), "Recording ended early") == 1);
}

TEST_CASE("a chart has at least 40 columns, whatever is asked for") {
  std::ostringstream out;
  std::string chart;
  {
    live_timeline t({.width = 1}, out);
    simulate(shop::ask_all());
    chart = t.recorded().gantt(40);
  }
  CHECK(out.str() == '\n' + chart);
}

TEST_CASE("finish throws what the stream throws, once; a destructor keeps it to itself") {
  struct full final : std::streambuf {
    int calls = 0;
    std::streamsize xsputn(const char*, std::streamsize) override { return ++calls, 0; }
    int_type overflow(int_type) override { return ++calls, traits_type::eof(); }
  };
  full disk;
  std::ostream out(&disk);
  out.exceptions(std::ios::badbit | std::ios::failbit);
  {
    live_timeline t({}, out);
    simulate(shop::ask_all());
    CHECK_THROWS_AS(t.finish(), std::ios_base::failure);
    CHECK(disk.calls == 1);
    CHECK_NOTHROW(t.finish());
    CHECK(count(t.recorded().gantt(), "shop::price") == 1);
  }
  CHECK(disk.calls == 1);
  out.clear();
  {
    const live_timeline t({}, out);
    simulate(shop::ask_all());
  }
  CHECK(disk.calls == 2);
}

TEST_CASE("an interval below 1 ms is refused by name") {
  std::ostringstream out;
  CHECK_THROWS_AS(live_timeline({.interval = -1ms}, out), std::invalid_argument);
  CHECK_THROWS_WITH(live_timeline({.interval = 0ms}, out),
                    "tandem::live_timeline: the interval is 0 ms; it must be at least 1 ms");
  CHECK(out.str() == "");
}

TEST_CASE("a drawing takes the place of the one before") {
  std::stringbuf sent;
  tandem::detail::live_screen live(sent);
  screen s;
  live.draw("one\ntwo\nthree\n");
  live.draw("1\n2\n");
  s.send(sent.str());
  CHECK(s.text() == lines{"1", "2"});
  live.draw("1\n2\n3\n4\n");
  s = screen();
  s.send(sent.str());
  CHECK(s.text() == lines{"1", "2", "3", "4"});
  CHECK(s.wraps());
  const std::string before = sent.str();
  live.draw("1\n2\n3\n4\n");
  CHECK(sent.str() == before);  // nothing new, nothing sent
  live.clear();
  s = screen();
  s.send(sent.str());
  CHECK(s.text().empty());
}

TEST_CASE("lines that are printed go above the drawing") {
  std::stringbuf sent;
  tandem::detail::live_screen live(sent);
  live.print(sent, "first\n");
  live.draw("chart\nlegend\n");
  live.print(sent, "second\nthird\n");
  live.draw("chart!\n");
  screen s;
  s.send(sent.str());
  CHECK(s.text() == lines{"first", "second", "third", "chart!"});
}

TEST_CASE("a window scrolls, and the drawing stays at its end") {
  std::stringbuf sent;
  tandem::detail::live_screen live(sent);
  lines expected;
  for (int i = 0; i != 20; ++i) {
    live.draw("chart " + std::to_string(i) + "\nlegend\n");
    live.print(sent, "line " + std::to_string(i) + '\n');
    expected.push_back("line " + std::to_string(i));
  }
  expected.insert(expected.end(), {"chart 19", "legend"});
  screen s(5);
  s.send(sent.str());
  CHECK(s.text() == expected);
}

TEST_CASE("what is wider than the terminal is cut, and takes one line") {
  std::stringbuf sent;
  tandem::detail::live_screen live(sent);
  live.draw("0123456789abc\nx\n");
  live.draw("0123456789xyz\ny\n");
  screen s(24, 10);
  s.send(sent.str());
  REQUIRE(s.text().size() == 2);
  CHECK(s.text()[0].starts_with("012345678"));
  CHECK(s.text()[1] == "y");
}

TEST_CASE("of a chart that is taller than the window the last lines are drawn") {
  using tandem::detail::last_lines;
  CHECK(last_lines("a\nb\nc\n", 3) == "a\nb\nc\n");
  CHECK(last_lines("a\nb\nc\nd\n", 3) == "... 2 lines above\nc\nd\n");
  CHECK(last_lines("a\nb\n", 1) == "... 2 lines above\n");
  CHECK(last_lines("", 3) == "");
}

TEST_CASE("a stream whose lines go above the chart prints whole lines, and has its buffer back afterwards") {
  std::stringbuf chart, printed;
  std::ostream stream(&printed);
  tandem::detail::live_screen live(chart);
  {
    tandem::detail::live_lines all(stream, live);
    live.draw("chart\n");
    stream << "one" << std::flush;
    CHECK(printed.str() == "");
    stream << ' ' << 1 << "\ntwo\nthr" << std::flush;
    CHECK(printed.str() == "one 1\ntwo\n");
    stream.put('e').put('\n').put('4');
    CHECK(printed.str() == "one 1\ntwo\nthre\n");
  }
  CHECK(printed.str() == "one 1\ntwo\nthre\n4");
  CHECK(stream.rdbuf() == &printed);
}

TEST_CASE("on a real_terminal the chart is drawn while the program runs, below what it prints, and stays at the end") {
  const variable term("TERM", "xterm"), no_colour("NO_COLOR", nullptr), columns("COLUMNS", nullptr),
      lc_all("LC_ALL", "C.UTF-8");
  std::streambuf *const out = std::cout.rdbuf(), *const err = std::cerr.rdbuf(), *const log = std::clog.rdbuf();
  terminal window(20, 70);
  std::string chart;
  {
    live_timeline t({.interval = 2ms});
    auto main = [&]() -> task<> {
      for (int i = 0; i != 5; ++i) {
        std::cout << "line " << i << std::endl;
        co_await shop::stock();
      }
      std::cerr << "from stderr\n";
      std::clog << "from clog\n";
      std::cout << "and so on";
    };
    tandem::run(main());
    chart = t.recorded().gantt(70, tandem::glyphs::blocks);
  }
  const std::string sent = window.end();
  CHECK(std::cout.rdbuf() == out);
  CHECK(std::cerr.rdbuf() == err);
  CHECK(std::clog.rdbuf() == log);
  CHECK(count(sent, "not ended") >= 3);  // drawn while it ran

  screen s(20, 70);
  s.send(sent);
  lines expected{"line 0", "line 1", "line 2", "line 3", "line 4", "from stderr", "from clog", "and so on"};
  const lines shown = s.text();
  append(expected, chart);
  CHECK(shown == expected);
  CHECK(s.wraps());
  CHECK(s.is_coloured());
  CHECK(count(sent, "░") > 0);
}

TEST_CASE("on a real_terminal NO_COLOR and a locale without UTF-8 are respected, and a chart may be too tall for it") {
  const variable term("TERM", "xterm"), no_colour("NO_COLOR", "1"), columns("COLUMNS", nullptr), lc_all("LC_ALL", "C");
  terminal window(10, 60);
  std::string chart;
  {
    live_timeline t({.interval = 2ms});
    tandem::run(shop::many(30));
    chart = t.recorded().gantt(60);
  }
  const std::string sent = window.end();
  CHECK(count(sent, "░") == 0);
  CHECK(count(sent, "... 27 lines above") > 0);  // 8 of 35: 2 of the axis, 31 coroutines, 2 of the legend
  screen s(10, 60);
  s.send(sent);
  CHECK(!s.is_coloured());
  lines expected{""};
  append(expected, chart);
  CHECK(s.text() == expected);  // all of it, at the end
}

TEST_CASE(
    "on a real_terminal what goes on is drawn up to now, though nothing happens; what was drawn is gone at the end") {
  const variable term("TERM", "xterm"), columns("COLUMNS", nullptr), lc_all("LC_ALL", "C");
  terminal window(10, 60);
  std::string chart;
  {
    live_timeline t({.interval = 2ms});
    tandem::run(shop::price());
    chart = t.recorded().gantt(60);
  }
  const std::string sent = window.end();
  CHECK(count(sent, "\x1b[?7l") >= 5);  // two things happen: it begins to wait, and it ends
  screen s(10, 60);
  s.send(sent);
  lines expected{""};
  append(expected, chart);
  CHECK(s.text() == expected);
}

TEST_CASE("on a dumb real_terminal nothing is drawn again") {
  const variable term("TERM", "dumb"), columns("COLUMNS", nullptr);
  std::string chart, sent;
  {
    terminal window(10, 60);
    {
      live_timeline t({.interval = 1ms});
      tandem::run(shop::ask_all());
      chart = t.recorded().gantt(60);
    }
    sent = window.end();
  }
  CHECK(count(sent, "\x1b") == 0);
  CHECK(count(sent, "shop::price") == 1);
}

TEST_CASE("threads may print while a real_terminal shows a chart, and no line is lost or torn") {
  const variable term("TERM", "xterm"), columns("COLUMNS", nullptr), lc_all("LC_ALL", "C");
  terminal window(12, 60);
  {
    live_timeline t({.interval = 1ms});
    auto print = [](const char* text) {
      return [text] {
        for (int i = 0; i != 50; ++i) std::cout << std::string(text) + '\n';
      };
    };
    auto main = [&]() -> task<> {
      auto a = print("from the first thread"), b = print("from the second thread");
      co_await tandem::gather(tandem::to_thread(a), tandem::to_thread(b), shop::stock());
    };
    tandem::run(main());
  }
  screen s(12, 60);
  s.send(window.end());
  CHECK(s.count("from the first thread") == 50);
  CHECK(s.count("from the second thread") == 50);
}
