#include <tandem/progress_bar.hpp>

#include <tandem/gather.hpp>
#include <tandem/generator.hpp>
#include <tandem/run.hpp>
#include <tandem/task_group.hpp>
#include <tandem/wait.hpp>

#include "kit/kit.hpp"

#include <algorithm>
#include <cstdlib>
#include <ostream>
#include <ranges>
#include <sstream>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

using namespace std::chrono_literals;
using kit::after;
using kit::thrown_by;
using tandem::for_each;
using tandem::gather;
using tandem::generator;
using tandem::observed_by;
using tandem::progress_bar;
using tandem::progress_bar_options;
using tandem::progress_display;
using tandem::progress_ending;
using tandem::return_exceptions;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::transform;
using tandem::detail::terminal;

namespace {

progress_bar_options in_place(std::ostream& out, std::size_t width = 64) {
  return {.out = &out, .display = progress_display::in_place, .width = width, .utf8 = false, .colours = false};
}

/// What a terminal would have shown, one drawing a line.
std::string drawings(const std::ostringstream& out) {
  std::string text;
  for (const std::string all = out.str(); const char c : all) text += c == '\r' ? '\n' : c;
  for (std::size_t at; (at = text.find("\x1b[K")) != std::string::npos;) text.erase(at, 3);
  return text;
}
/// The n-th of its lines.
std::string line(const std::string& text, std::size_t n) {
  std::istringstream in(text);
  std::string one;
  for (std::size_t i = 0; i <= n; ++i) std::getline(in, one);
  return one;
}

/// The i-th of them ends after so many seconds and one.
task<> sleeps(int i) { co_await sleep_for(1s * (i + 1)); }
task<> sleeps_a_second(int) { co_await sleep_for(1s); }
task<> fails_if_odd(int i) {
  co_await sleep_for(1s);
  if (i % 2 == 1) throw std::runtime_error("odd");
}
generator<int> numbers(int n) {
  for (int i = 0; i != n; ++i) co_yield i;
}

}  // namespace

// ---- in place
// --------------------------------------------------------------------------------------------------------

TEST_CASE("a bar on a terminal is drawn in place, from its beginning to its end") {
  std::ostringstream out;
  auto main = [&]() -> task<> {
    progress_bar bar("fetching", in_place(out));
    co_await for_each(observed_by(bar), std::views::iota(0, 4), sleeps);
  };
  simulate(main());
  CHECK(out.str() ==
        "\rfetching   0%                     | 0/4 [00:00<?, ?/s]\x1b[K"
        "\rfetching  25% #####               | 1/4 [00:01<00:03, 1.0/s]\x1b[K"
        "\rfetching  50% ##########          | 2/4 [00:02<00:02, 1.0/s]\x1b[K"
        "\rfetching  75% ###############     | 3/4 [00:03<00:01, 1.0/s]\x1b[K"
        "\rfetching 100% ####################| 4/4 [00:04, 1.0/s]\x1b[K\n");
}

TEST_CASE("a bar in UTF-8 shows eighths of a column") {
  std::ostringstream out;
  auto main = [&]() -> task<> {
    auto options = in_place(out, 49);
    options.utf8 = true;
    progress_bar bar("", options);
    co_await for_each(observed_by(bar), std::views::iota(0, 16), sleeps_a_second, {.limit = 1});
  };
  simulate(main());
  const std::string text = drawings(out);
  CHECK(line(text, 2) == "  6% \u258a           | 1/16 [00:01<00:15, 1.0/s]");
  CHECK(line(text, 4) == " 18% \u2588\u2588\u258e         | 3/16 [00:03<00:13, 1.0/s]");
  CHECK(line(text, 9) == " 50% \u2588\u2588\u2588\u2588\u2588\u2588      | 8/16 [00:08<00:08, 1.0/s]");
}

TEST_CASE("a bar is not drawn again before the interval is over, but at the end always") {
  std::ostringstream out;
  auto main = [&]() -> task<> {
    progress_bar bar("", in_place(out));
    auto f = [](int) -> task<> { co_await sleep_for(30ms); };
    co_await for_each(observed_by(bar), std::views::iota(0, 9), f, {.limit = 1});
  };
  simulate(main());
  const std::string text = drawings(out);
  CHECK(line(text, 1).find(" 0/9 ") != std::string::npos);
  CHECK(line(text, 2).find(" 4/9 [00:00<00:00, 33.3/s]") != std::string::npos);
  CHECK(line(text, 3).find(" 8/9 ") != std::string::npos);
  CHECK(line(text, 4).find(" 9/9 ") != std::string::npos);
  CHECK(line(text, 5).empty());
}

TEST_CASE("the interval is as it was given; with none each child that ends is drawn") {
  for (const auto& [interval, expected] :
       {std::pair(tandem::clock::duration(0), 10u), std::pair(tandem::clock::duration(1s), 4u)}) {
    std::ostringstream out;
    auto main = [&, every = interval]() -> task<> {
      auto options = in_place(out);
      options.interval = every;
      progress_bar bar("", options);
      auto f = [](int) -> task<> { co_await sleep_for(300ms); };
      co_await for_each(observed_by(bar), std::views::iota(0, 9), f, {.limit = 1});
    };
    simulate(main());
    const std::string text = drawings(out);
    CHECK(static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) == expected + 1);
    CHECK(line(text, 2).find(expected == 10 ? " 1/9 " : " 4/9 ") != std::string::npos);
  }
}

TEST_CASE("of several things at once a bar shows the sum, and what begins after them has a bar of its own") {
  std::ostringstream out;
  auto main = [&]() -> task<> {
    progress_bar bar("", in_place(out));
    co_await gather(for_each(observed_by(bar), std::views::iota(0, 2), sleeps),
                    for_each(observed_by(bar), std::views::iota(2, 4), sleeps));
    co_await for_each(observed_by(bar), std::views::iota(0, 1), sleeps);
  };
  simulate(main());
  const std::string text = drawings(out);
  CHECK(line(text, 2).find("| 1/4 [00:01<") != std::string::npos);
  CHECK(line(text, 4).find("| 3/4 [00:03<") != std::string::npos);
  CHECK(line(text, 5).find("100% ") == 0);
  CHECK(line(text, 5).find("| 4/4 [00:04, 1.0/s]") != std::string::npos);
  const std::string next = text.substr(text.find("4/4"));
  CHECK(next.find("| 0/1 [00:00<?, ?/s]") != std::string::npos);
  CHECK(next.find("| 1/1 [00:01, 1.0/s]") != std::string::npos);
}

TEST_CASE("failures are in the text, and what was stopped in the last line") {
  std::ostringstream out;
  auto main = [&]() -> task<> {
    progress_bar bar("all", in_place(out));
    const auto outcomes = co_await gather(observed_by(bar), return_exceptions, fails_if_odd(1), sleeps(1), sleeps(2));
    (void)outcomes;
    const std::string text = co_await thrown_by(gather(observed_by(bar), sleeps(0), fails_if_odd(1), sleeps(9)));
    CHECK(text == "odd");
  };
  simulate(main());
  const std::string text = drawings(out);
  CHECK(line(text, 2) == "all  33% ######            | 1/3 [00:01<00:02, 1.0/s, 1 failed]");
  CHECK(line(text, 4) == "all 100% ########################| 3/3 [00:03, 1.0/s, 1 failed]");
  CHECK(line(text, 8) == "all  66% ########     | 2/3 [00:01, 2.0/s, 1 failed, 1 stopped]");
}

TEST_CASE("without a total there is no bar, until the stream has come to its end") {
  std::ostringstream out;
  auto main = [&]() -> task<> {
    progress_bar bar("lines", in_place(out));
    co_await for_each(observed_by(bar), numbers(3), sleeps, {.limit = 3});
  };
  simulate(main());
  const std::string text = drawings(out);
  CHECK(line(text, 1) == "lines 0 [00:00, ?/s]");
  CHECK(line(text, 2) == "lines 1 [00:01, 1.0/s]");
  CHECK(line(text, 3).find("lines  66% ###") == 0);
  CHECK(line(text, 4).find("lines 100% ###") == 0);
}

TEST_CASE("a narrow terminal gets no bar, then what fits, counted in columns") {
  for (const auto& [width, expected] :
       {std::pair(40u, " 50% ##   | 1/2 [00:01<00:01, 1.0/s]"), std::pair(39u, " 50% 1/2 [00:01<00:01, 1.0/s]"),
        std::pair(20u, "\u4e0b\u8f7d  50% 1/2 [00:0"), std::pair(4u, "\u4e0b"), std::pair(1u, "")}) {
    std::ostringstream out;
    auto main = [&]() -> task<> {
      progress_bar bar(width >= 39 ? "" : "\u4e0b\u8f7d", in_place(out, width));
      co_await for_each(observed_by(bar), std::views::iota(0, 2), sleeps);
    };
    simulate(main());
    INFO(width);
    CHECK(line(drawings(out), 2) == expected);
  }
}

TEST_CASE("colours are green, and red once something has failed") {
  std::ostringstream out;
  auto main = [&]() -> task<> {
    auto options = in_place(out, 52);
    options.colours = true;
    progress_bar bar("", options);
    (void)co_await transform(observed_by(bar), return_exceptions, std::views::iota(0, 3), fails_if_odd, {.limit = 1});
  };
  simulate(main());
  const std::string text = drawings(out);
  CHECK(line(text, 2) == " 33% \x1b[32m#####\x1b[0m            | 1/3 [00:01<00:02, 1.0/s]");
  CHECK(line(text, 3).find(" 66% \x1b[31m######\x1b[0m    | 2/3") == 0);
}

TEST_CASE("print puts a line above the bar, and redraw shows that time passes") {
  std::ostringstream out;
  auto main = [&]() -> task<> {
    progress_bar bar("", in_place(out, 40));
    auto talks = [&](int) -> task<> {
      co_await sleep_for(2s);
      bar.print("hello");
      co_await sleep_for(1s);
      bar.redraw();
      co_await sleep_for(1s);
    };
    co_await for_each(observed_by(bar), std::views::iota(0, 1), talks);
    bar.redraw();  // of nothing
    bar.print("bye");
  };
  simulate(main());
  CHECK(out.str() ==
        "\r  0%      | 0/1 [00:00<?, ?/s]\x1b[K"
        "\r\x1b[Khello\n"
        "\r  0%      | 0/1 [00:02<?, ?/s]\x1b[K"
        "\r  0%      | 0/1 [00:03<?, ?/s]\x1b[K"
        "\r100% #####| 1/1 [00:04, 15.0/min]\x1b[K\nbye\n");
}

// ---- in lines
// --------------------------------------------------------------------------------------------------------

TEST_CASE("what is no terminal gets few lines, without control characters") {
  std::ostringstream out;
  auto main = [&]() -> task<> {
    progress_bar bar("fetching", {.out = &out});
    co_await for_each(observed_by(bar), std::views::iota(0, 1000), sleeps_a_second, {.limit = 100});
  };
  simulate(main());
  CHECK(out.str() ==
        "fetching  10% 100/1000 [00:01<00:09, 100/s]\n"
        "fetching  20% 200/1000 [00:02<00:08, 100/s]\n"
        "fetching  30% 300/1000 [00:03<00:07, 100/s]\n"
        "fetching  40% 400/1000 [00:04<00:06, 100/s]\n"
        "fetching  50% 500/1000 [00:05<00:05, 100/s]\n"
        "fetching  60% 600/1000 [00:06<00:04, 100/s]\n"
        "fetching  70% 700/1000 [00:07<00:03, 100/s]\n"
        "fetching  80% 800/1000 [00:08<00:02, 100/s]\n"
        "fetching  90% 900/1000 [00:09<00:01, 100/s]\n"
        "fetching 100% 1000/1000 [00:10, 100/s]\n");
}

TEST_CASE("in lines time alone is told of too, seldomer and seldomer") {
  std::ostringstream out;
  auto main = [&]() -> task<> {
    progress_bar bar("", {.out = &out});
    co_await for_each(observed_by(bar), numbers(100), sleeps_a_second, {.limit = 1});
  };
  simulate(main());
  CHECK(out.str() ==
        "10 [00:10, 1.0/s]\n"
        "20 [00:20, 1.0/s]\n"
        "40 [00:40, 1.0/s]\n"
        "80 [01:20, 1.0/s]\n"
        "100% 100/100 [01:40, 1.0/s]\n");
}

TEST_CASE("what is over at once gets one line") {
  std::ostringstream out;
  auto main = [&]() -> task<> {
    progress_bar bar("quick", {.out = &out});
    auto f = [](int) -> task<> { co_return; };
    co_await for_each(observed_by(bar), std::views::iota(0, 1000), f);
    std::vector<task<>> none;
    co_await gather(observed_by(bar), std::move(none));
  };
  simulate(main());
  CHECK(out.str() == "quick 100% 1000/1000 [00:00, ?/s]\nquick 100% 0/0 [00:00, ?/s]\n");
}

TEST_CASE("in lines print writes its line, and there is nothing to draw again") {
  std::ostringstream out;
  auto main = [&]() -> task<> {
    progress_bar bar("", {.out = &out});
    auto talks = [&](int) -> task<> {
      co_await sleep_for(2s);
      bar.print("hello");
      bar.redraw();
    };
    co_await for_each(observed_by(bar), std::views::iota(0, 1), talks);
  };
  simulate(main());
  CHECK(out.str() == "hello\n100% 1/1 [00:02, 30.0/min]\n");
}

TEST_CASE("a bar that is not shown counts all the same, and prints") {
  std::ostringstream out;
  auto main = [&]() -> task<> {
    progress_bar bar("quiet", {.out = &out, .display = progress_display::none});
    co_await for_each(observed_by(bar), std::views::iota(0, 9), sleeps);
    CHECK(bar.counts().succeeded == 9);
    bar.print("done");
  };
  simulate(main());
  CHECK(out.str() == "done\n");
}

// ---- figures
// ---------------------------------------------------------------------------------------------------------

TEST_CASE("times and rates are written as their size asks for") {
  using tandem::detail::bar_rate;
  using tandem::detail::bar_time;
  CHECK(bar_time(0) == "00:00");
  CHECK(bar_time(59.99) == "00:59");
  CHECK(bar_time(3599) == "59:59");
  CHECK(bar_time(3600) == "1:00:00");
  CHECK(bar_time(100 * 3600 + 62) == "100:01:02");
  CHECK(bar_time(1e300) == "?");
  CHECK(bar_rate(0) == "?/s");
  CHECK(bar_rate(1e13) == "?/s");
  CHECK(bar_rate(18.44) == "18.4/s");
  CHECK(bar_rate(99.94) == "99.9/s");
  CHECK(bar_rate(99.96) == "100/s");
  CHECK(bar_rate(123456) == "123456/s");
  CHECK(bar_rate(0.25) == "15.0/min");
  CHECK(bar_rate(0.001) == "3.6/h");
}

TEST_CASE("the rate follows the last ten seconds, and the last line has that of all") {
  std::ostringstream out;
  auto main = [&]() -> task<> {
    progress_bar bar("", in_place(out, 80));
    auto first_slowly = [](int i) -> task<> { co_await sleep_for(i < 20 ? 1s : 100ms); };
    co_await for_each(observed_by(bar), std::views::iota(0, 400), first_slowly, {.limit = 1});
  };
  simulate(main());
  const std::string text = drawings(out);
  CHECK(text.find(" 20/400 [00:20<06:20, 1.0/s]") != std::string::npos);
  CHECK(text.find(" 399/400 [00:57<00:00, 9.8/s]") != std::string::npos);
  CHECK(text.find(" 400/400 [00:58, 6.9/s]") != std::string::npos);
}

TEST_CASE("a burst of many that end together does not make the rate of a slow job jump") {
  std::ostringstream out;
  auto main = [&]() -> task<> {
    progress_bar bar("", in_place(out, 80));
    auto slow = [](int) -> task<> { co_await sleep_for(60s); };
    co_await for_each(observed_by(bar), std::views::iota(0, 400), slow, {.limit = 10});
  };
  simulate(main());
  const std::string text = drawings(out);
  for (std::size_t n = 12; n + 2 < 400 / 10; ++n) {
    INFO(line(text, n));
    CHECK((line(text, n).find(", 8.") != std::string::npos || line(text, n).find(", 9.") != std::string::npos));
  }
}

// ---- what must not disturb the work
// ------------------------------------------------------------------------------------

TEST_CASE("a stream that throws or fails does not disturb the work") {
  struct throws final : std::streambuf {
    int_type overflow(int_type) override { throw std::runtime_error("disk full"); }
  };
  struct fails final : std::streambuf {
    int calls = 0;
    std::streamsize xsputn(const char*, std::streamsize) override { return ++calls, 0; }
    int sync() override { return -1; }
  };
  auto main = []() -> task<> {
    for (const bool exceptions : {false, true}) {
      throws t;
      fails f;
      std::ostream out1(&t), out2(&f);
      if (exceptions) {
        out1.exceptions(std::ios::badbit | std::ios::failbit);
        out2.exceptions(std::ios::badbit | std::ios::failbit);
      }
      progress_bar one("", in_place(out1)), two("", {.out = &out2});
      const auto a = co_await transform(observed_by(one), std::views::iota(0, 20), [](int i) { return after(1s, i); });
      const auto b = co_await transform(observed_by(two), std::views::iota(0, 20), [](int i) { return after(1s, i); });
      two.print("more");
      CHECK(a.size() == 20);
      CHECK(b.size() == 20);
      CHECK(f.calls == 1);  // it is left alone after that
    }
  };
  simulate(main());
}

TEST_CASE("control characters do not get into the line") {
  std::ostringstream out;
  auto main = [&]() -> task<> {
    progress_bar bar("a\nb\x1b[2J\x7f", {.out = &out});
    co_await gather(observed_by(bar), sleeps(0));
  };
  simulate(main());
  CHECK(out.str() == "a b [2J  100% 1/1 [00:01, 1.0/s]\n");
}

TEST_CASE("a bar ends its line however the work ends") {
  struct state {
    std::ostringstream out;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        progress_bar bar("", in_place(s.out));
        auto f = [](int i) -> task<> {
          if (i % 2 == 0) co_await tandem::yield();
          co_await sleep_for(1s);
        };
        co_await for_each(observed_by(bar), std::views::iota(0, 5), f, {.limit = 2});
      },
      [](state& s, kit::end how) {
        const std::string text = s.out.str();
        if (!text.empty()) CHECK(text.back() == '\n');
        if (how == kit::end::returned) CHECK(text.find("| 5/5 [00:03, 1.7/s]") != std::string::npos);
      });
}

TEST_CASE("options that make no sense are refused") {
  CHECK_THROWS_WITH(progress_bar("", {.out = nullptr}), "tandem::progress_bar: out is null; it must be a stream");
  CHECK_THROWS_WITH(progress_bar("", {.interval = -1ms}),
                    "tandem::progress_bar: interval is -1000000 ns; it must not be negative");
  CHECK_THROWS_AS(progress_bar("", {.out = nullptr}), std::invalid_argument);
  CHECK_THROWS_AS(progress_bar("", {.interval = -1ms}), std::invalid_argument);
}

// ---- the terminal
// ----------------------------------------------------------------------------------------------------

namespace {

/// Variables of an environment, of which a terminal is told through a plain function.
struct variables {
  const char *lc_all = nullptr, *lc_ctype = nullptr, *lang = nullptr, *columns = nullptr, *no_color = nullptr,
             *term = "xterm";
};
variables& environment() {
  static variables v;
  return v;
}
const char* get(const char* name) {
  const std::string_view n = name;
  const variables& v = environment();
  return n == "LC_ALL"     ? v.lc_all
         : n == "LC_CTYPE" ? v.lc_ctype
         : n == "LANG"     ? v.lang
         : n == "COLUMNS"  ? v.columns
         : n == "NO_COLOR" ? v.no_color
         : n == "TERM"     ? v.term
                           : nullptr;
}
terminal seen(variables v, bool is_tty = true, std::size_t width = 132) {
  environment() = v;
  return terminal::of(is_tty, width, 7, get);
}

}  // namespace

TEST_CASE("a terminal is what TERM and the file descriptor say") {
  CHECK(seen({}).is_terminal);
  CHECK_FALSE(seen({.term = "dumb"}).is_terminal);
  CHECK_FALSE(seen({.term = nullptr}).is_terminal);
  CHECK_FALSE(seen({}, false).is_terminal);
  std::ostringstream out;
  CHECK_FALSE(terminal::of(out).is_terminal);
}

TEST_CASE("COLUMNS is stronger than the window, and 80 is taken where nothing is known") {
  CHECK(seen({}).width == 132);
  CHECK(seen({}).window == 7);
  for (const char* no : {"", "0", "-5", "12x", "99999", "99999999999999999999999"}) {
    INFO(no);
    CHECK(seen({.columns = no}).width == 132);
  }
  CHECK(seen({.columns = "44"}).width == 44);
  CHECK(seen({.columns = "44"}).window == -1);
  CHECK(seen({}, true, 0).width == 80);
  CHECK(seen({.columns = "100"}, false, 0).width == 100);
}

TEST_CASE("NO_COLOR takes the colours if it is not empty, and a file has none") {
  CHECK(seen({}).colours);
  CHECK(seen({.no_color = ""}).colours);
  CHECK_FALSE(seen({.no_color = "0"}).colours);
  CHECK_FALSE(seen({}, false).colours);
  CHECK_FALSE(seen({.term = "dumb"}).colours);
}

TEST_CASE("UTF-8 is what the first of LC_ALL, LC_CTYPE and LANG says") {
  CHECK_FALSE(seen({}).utf8);
  CHECK(seen({.lang = "de_DE.UTF-8"}).utf8);
  CHECK(seen({.lang = "C.utf8"}).utf8);
  CHECK(seen({.lang = "de_DE.Utf-8@euro"}).utf8);
  CHECK_FALSE(seen({.lang = "C"}).utf8);
  CHECK_FALSE(seen({.lang = "zh_CN.UTF-16"}).utf8);
  CHECK_FALSE(seen({.lang = "zh_CN.GB18030"}).utf8);
  CHECK_FALSE(seen({.lc_all = "C", .lang = "de_DE.UTF-8"}).utf8);
  CHECK(seen({.lc_all = "", .lc_ctype = "zh_CN.UTF-8", .lang = "C"}).utf8);
}

TEST_CASE("a window tells its width, also after it was resized") {
  const int fd = ::posix_openpt(O_RDWR | O_NOCTTY);
  REQUIRE(fd >= 0);
  const kit::at_exit closes([&] { ::close(fd); });
  REQUIRE(::grantpt(fd) == 0);
  REQUIRE(::unlockpt(fd) == 0);
  const int window = ::open(::ptsname(fd), O_RDWR | O_NOCTTY);
  REQUIRE(window >= 0);
  const kit::at_exit closes_window([&] { ::close(window); });
  ::winsize size{};
  size.ws_col = 97;
  REQUIRE(::ioctl(window, TIOCSWINSZ, &size) == 0);

  environment() = {};
  terminal t = terminal::of(window, get);
  CHECK(t.is_terminal);
  CHECK(t.width == 97);
  size.ws_col = 50;
  REQUIRE(::ioctl(window, TIOCSWINSZ, &size) == 0);
  t.update_width();
  CHECK(t.width == 50);
  size.ws_col = 0;
  REQUIRE(::ioctl(window, TIOCSWINSZ, &size) == 0);
  t.update_width();
  CHECK(t.width == 50);
  CHECK_FALSE(terminal::of(-1, get).is_terminal);
}
