#include <tandem/trace.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/generator.hpp>
#include <tandem/run.hpp>
#include <tandem/task_group.hpp>
#include <tandem/threads.hpp>
#include <tandem/wait.hpp>

#include "kit/json.hpp"
#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(thread_pool.hpp)

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <locale>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {
thread_local bool fail_next = false;
}
[[gnu::noinline]] void* operator new(std::size_t size) {
  if (std::exchange(fail_next, false)) throw std::bad_alloc();
  if (void* p = std::malloc(size)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size); }
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

using namespace std::chrono_literals;
using tandem::glyphs;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::timeline;

// Not in an unnamed namespace, which each compiler spells in its own way.
namespace shop {

static task<> price() { co_await sleep_for(150ms); }
static task<> stock() { co_await sleep_for(50ms); }
static task<> review() { co_await sleep_for(250ms); }
static task<> unknown() {
  co_await sleep_for(50ms);
  throw std::runtime_error("no such product");
}
static task<> immediate() { co_return; }

static task<> ask_all() { co_await tandem::gather(price(), stock(), review()); }
static task<> ask_in_turn() {
  co_await stock();
  co_await price();
}
static task<> visit() { co_await ask_in_turn(); }

static task<> limited() {
  co_await tandem::try_timeout(100ms, review());
  co_await stock();
}
static task<> ask_briefly() { co_await tandem::try_timeout(1500us, ask_all()); }
static task<> recover() {
  try {
    co_await tandem::gather(price(), unknown(), ask_all());
  } catch (const std::runtime_error&) {
  }
  co_await sleep_for(50ms);
}

static task<> late(kit::gate& g) {
  co_await sleep_for(100ms);
  g.open();
}
static task<> early(kit::gate& g) { co_await g.wait(); }
static task<> open_gate(kit::gate& g) { co_await tandem::gather(early(g), late(g)); }

static task<> wrapped() {
  co_await immediate();
  co_await tandem::finally(stock(), [] { return price(); });
  co_await tandem::gather(sleep_for(50ms), immediate());
}
static task<> with_groups() {
  co_await tandem::with_task_group([](tandem::task_group& group) -> task<> {
    group.spawn(price());
    co_await sleep_for(50ms);
    group.spawn(price());
  });
  std::vector<task<>> questions;
  questions.push_back(price());
  questions.push_back(stock());
  auto answers = tandem::as_completed(std::move(questions));
  co_await answers.next();
}

static task<> name_some(tandem::task_group& group) {
  {
    const std::string made = "made & <gone>";
    group.spawn(price(), {.name = made});
    co_await group.spawn(stock(), {.name = "for Ann"});
  }
  group.spawn(sleep_for(50ms), {.name = "pause"});
  group.spawn(tandem::timeout(1s, stock()), {.name = "limited"});
  group.spawn(review()).cancel();
}
static task<> named() { co_await tandem::with_task_group(name_some); }
static task<> name_in_chinese(tandem::task_group& group) {
  group.spawn(stock(), {.name = "汽车"});
  group.spawn(stock(), {.name = "ferry\nboat"});
  co_await group.spawn(stock(), {.name = "一个很长很长的名字，放不下，所以开头没有了"});
}
static task<> name_badly(tandem::task_group& group) {
  group.spawn(stock(), {.name = "a \"quote\", a \\, \x7f, \xff\xc3 and \xed\xa0\x80"});
  co_await group.spawn(stock(), {.name = "汽车 \xf0\x9f\x9a\x97"});
}
static task<> named_badly() { co_await tandem::with_task_group(name_badly); }
static task<> named_in_chinese() { co_await tandem::with_task_group(name_in_chinese); }

static task<> look(const timeline& t, std::string& chart) {
  co_await stock();
  chart = t.gantt(60);
  co_await stock();
}

static task<> sleep(tandem::clock::duration d) { co_await sleep_for(d); }
static task<> give_way() { co_await tandem::yield(); }
static task<> sleep_often() {
  for (int i = 0; i != 10; ++i) co_await sleep_for(10ms);
}
static task<int> sleep_without_memory() {
  co_await sleep_for(10ms);
  fail_next = true;
  co_await sleep_for(10ms);
  co_await sleep_for(10ms);
  co_return 7;
}
static task<> work() {
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start < 20ms) {
  }
  co_await sleep_for(20ms);
}

static task<> chain_of_coroutines_with_a_name_that_is_too_long(int depth) {
  if (depth == 0)
    co_await sleep_for(1ms);
  else
    co_await chain_of_coroutines_with_a_name_that_is_too_long(depth - 1);
}

template <class T>
struct box {
  static task<> open() { co_await sleep_for(1ms); }
};

}  // namespace shop

namespace {

/// What a chart of `main` under simulate looks like.
std::string chart_of(task<> main, std::size_t width = 80) {
  timeline t;
  simulate(std::move(main));
  return t.gantt(width);
}
std::string svg_of(task<> main) {
  timeline t;
  simulate(std::move(main));
  return t.svg();
}

std::size_t count(std::string_view text, std::string_view what) {
  std::size_t n = 0;
  for (std::size_t at = text.find(what); at != text.npos; at = text.find(what, at + what.size())) ++n;
  return n;
}
bool contains(std::string_view text, std::string_view what) { return count(text, what) != 0; }

/// Nanoseconds, of microseconds as they are written: by digits, so that nothing is rounded.
std::int64_t ns_of(const kit::json& microseconds) {
  const std::string& s = microseconds.text;
  const std::size_t point = std::min(s.find('.'), s.size());
  std::string fraction = s.substr(std::min(point + 1, s.size()));
  REQUIRE(fraction.size() <= 3);
  fraction.resize(3, '0');
  return std::stoll(s.substr(0, point)) * 1000 + std::stoll(fraction);
}

/// The threads of a trace, by their names. Everything that viewers ask of a trace is checked on the way.
struct traced_thread {
  struct event {
    std::string name, phase, what, parent, category;
    std::int64_t from, to;
    bool is_open;
  };
  std::string name, process;
  std::vector<event> events;

  bool has(std::string_view event_name, std::string_view phase, std::int64_t from, std::int64_t to) const {
    return std::any_of(events.begin(), events.end(), [&](const event& e) {
      return e.name == event_name && e.phase == phase && e.from == from && e.to == to;
    });
  }
};
std::vector<traced_thread> threads_of(const timeline& t) {
  const kit::json trace = kit::json_reader::read(t.chrome_trace());
  CHECK(trace["displayTimeUnit"].text == "ms");
  std::map<std::string, std::string> processes, names;
  std::map<std::string, std::size_t> numbers;
  std::vector<traced_thread> out;
  for (const kit::json& e : trace["traceEvents"].items) {
    const std::string pid = e["pid"].text, tid = e["tid"].text, phase = e["ph"].text, name = e["name"].text;
    CHECK(e["pid"].kind == kit::json::number);
    CHECK(e["tid"].kind == kit::json::number);
    CHECK(pid != "0");
    if (phase == "M") {
      if (name == "process_name") processes[pid] = e["args"]["name"].text;
      if (name != "thread_name") continue;
      CHECK(numbers.emplace(tid, out.size()).second);  // unique in the file
      out.push_back({e["args"]["name"].text, processes.at(pid), {}});
      continue;
    }
    auto& events = out.at(numbers.at(tid)).events;
    const std::int64_t from = ns_of(e["ts"]), to = phase == "X" ? from + ns_of(e["dur"]) : from;
    if (events.empty() ? from < 0 : from < events.back().to) FAIL_CHECK("spans overlap: " + t.chrome_trace());
    if (phase != "X") CHECK(e["s"].text == "t");
    const auto& args = e["args"].members;
    events.push_back({name, phase, args.at("what").text, args.count("parent") ? args.at("parent").text : "",
                      e["cat"].text, from, to, args.count("ended") != 0});
  }
  for (const auto& [pid, process] : processes) CHECK(numbers.count(pid) == 0);
  for (const traced_thread& thread : out) {
    CHECK(!thread.name.empty());
    CHECK(thread.events.at(0).name == "starts");
  }
  return out;
}

/// "" if every element is closed, in order, and every & begins an entity; otherwise what is wrong.
std::string defect_of_xml(std::string_view s) {
  std::vector<std::string> open;
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '>') return "a > outside a tag";
    if (s[i] == '&') {
      const std::string_view entity = s.substr(i, s.find(';', i) + 1 - i);
      if (entity != "&lt;" && entity != "&gt;" && entity != "&amp;") return "an & that begins no entity";
    }
    if (s[i] != '<') continue;
    const std::size_t end = s.find('>', i);
    if (end == s.npos) return "a tag without end";
    const std::string_view tag = s.substr(i + 1, end - i - 1);
    if (tag.find('<') != tag.npos) return "a < inside a tag";
    if (count(tag, "\"") % 2 != 0) return "an attribute without end";
    const std::string name(tag.substr(0, tag.find_first_of(" \n/", 1)));
    if (name.starts_with('/')) {
      if (open.empty() || '/' + open.back() != name) return "closed out of order: " + name;
      open.pop_back();
    } else if (!tag.ends_with('/')) {
      open.push_back(name);
    }
    i = end;
  }
  return open.empty() ? "" : "not closed: " + open.back();
}

}  // namespace

TEST_CASE("a chart shows who waited when, below the one that awaits it") {
  CHECK('\n' + chart_of(shop::ask_all(), 60) == R"(
milliseconds   0                 100               200
               |                 |                 |
shop::ask_all  ---------------------------------------------
  shop::price  ~~~~~~~~~~~~~~~~~~~~~~~~~~~
  shop::stock  ~~~~~~~~~
  shop::review ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~

~ sleeps   - awaits children
)");
}

TEST_CASE("coroutines that await each other are indented further and further") {
  CHECK('\n' + chart_of(shop::visit(), 60) == R"(
milliseconds        0         50        100       150
                    |         |         |         |
shop::visit         ----------------------------------------
  shop::ask_in_turn ----------------------------------------
    shop::stock     ~~~~~~~~~~
    shop::price               ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~

~ sleeps   - awaits children
)");
}

TEST_CASE("a time limit marks what it stops") {
  CHECK('\n' + chart_of(shop::limited(), 60) == R"(
milliseconds   0              50             100
               |              |              |
shop::limited  ---------------------------------------------
  shop::review ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~x
  shop::stock                                ~~~~~~~~~~~~~~~

~ sleeps   - awaits children   x stopped
)");
}

TEST_CASE("a failure shows in the siblings that it stops") {
  CHECK('\n' + chart_of(shop::recover(), 60) == R"(
milliseconds     0                     50
                 |                     |
shop::recover    ----------------------~~~~~~~~~~~~~~~~~~~~~
  shop::price    ~~~~~~~~~~~~~~~~~~~~~x
  shop::unknown  ~~~~~~~~~~~~~~~~~~~~~~
  shop::ask_all  ---------------------x
    shop::price  ~~~~~~~~~~~~~~~~~~~~~x
    shop::stock  ~~~~~~~~~~~~~~~~~~~~~~
    shop::review ~~~~~~~~~~~~~~~~~~~~~x

~ sleeps   - awaits children   x stopped
)");
}

TEST_CASE("waits for something else than time and children look different") {
  kit::gate g;
  CHECK('\n' + chart_of(shop::open_gate(g), 60) == R"(
milliseconds    0                     50
                |                     |
shop::open_gate --------------------------------------------
  shop::early   ============================================
  shop::late    ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~

~ sleeps   - awaits children   = waits
)");
}

TEST_CASE("blocks are UTF-8") {
  timeline t;
  simulate(shop::ask_in_turn());
  CHECK('\n' + t.gantt(60, glyphs::blocks) == R"(
milliseconds      0          50        100        150
                  |          |         |          |
shop::ask_in_turn ──────────────────────────────────────────
  shop::stock     ░░░░░░░░░░░
  shop::price                ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░

░ sleeps   ─ awaits children
)");
}

TEST_CASE("coroutines that never wait, and tandem's own, are left out; their children are not") {
  CHECK('\n' + chart_of(shop::wrapped(), 60) == R"(
milliseconds  0                 100                200
              |                 |                  |
shop::wrapped ----------------------------------------------
  shop::stock ~~~~~~~~~
  shop::price          ~~~~~~~~~~~~~~~~~~~~~~~~~~~~

~ sleeps   - awaits children
)");
}

TEST_CASE("what a task group and an as_completed run is below who waits, or at the top of its tree") {
  const std::string chart = chart_of(shop::with_groups());
  CHECK(count(chart, "\n  shop::price") == 3);
  CHECK(count(chart, "\n  shop::stock") == 1);
}

TEST_CASE("a child of a group has the name that it was given beside that of its function") {
  const std::string chart = chart_of(shop::named(), 100);
  INFO(chart);
  CHECK(contains(chart, "\n  shop::price 'made & <gone>' ~"));
  CHECK(contains(chart, "\n  shop::stock 'for Ann'       ~"));
  CHECK(contains(chart, "\n  'pause'                    "));  // of no function of the user's
  CHECK(contains(chart, "\n  'limited'"));
  CHECK(contains(chart, "\n    shop::stock  "));
  CHECK(contains(chart, "\n  shop::review  "));
  const std::string svg = svg_of(shop::named());
  CHECK(defect_of_xml(svg) == "");
  CHECK(contains(svg, ">shop::price 'made &amp; &lt;gone&gt;'</text>"));
  CHECK(contains(svg, "<title>shop::stock 'for Ann' waits for sleep, 0 ms to 50 ms</title>"));
}

TEST_CASE("names may be of wide characters: a chart's lines stay in line, and no character is cut in two") {
  timeline t;
  simulate(shop::named_in_chinese());
  CHECK('\n' + t.gantt(80) == R"(
milliseconds                     0                  20                 40
                                 |                  |                  |
shop::named_in_chinese           -----------------------------------------------
  shop::name_in_chinese          ===============================================
  shop::stock '汽车'             ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
  shop::stock 'ferry boat'       ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
  ..字，放不下，所以开头没有了'  ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~

~ sleeps   - awaits children   = waits
)");
}

TEST_CASE("each simulation has a chart and a time axis of its own") {
  timeline t;
  simulate(shop::stock());
  simulate(shop::price(), {.start = kit::at(24h)});
  CHECK('\n' + t.gantt(60) == R"(
milliseconds 0                  20                 40
             |                  |                  |
shop::stock  ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~

milliseconds 0               50             100
             |               |              |
shop::price  ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~

~ sleeps
)");
}

TEST_CASE("coroutines that have not ended are marked, while they run") {
  timeline t;
  std::string chart;
  simulate(shop::look(t, chart));
  CHECK('\n' + chart == R"(
milliseconds  0                 20                 40
              |                 |                  |
shop::look    --------------------------------------------->
  shop::stock ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~

~ sleeps   - awaits children   > not ended
)");
}

TEST_CASE("an axis goes from nothing to years") {
  CHECK('\n' + chart_of(shop::give_way(), 60) == R"(
nanoseconds    0
               |
shop::give_way #

# runs
)");
  CHECK('\n' + chart_of(shop::sleep(7ns), 60) == R"(
nanoseconds  0            2             4            6
             |            |             |            |
shop::sleep  ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~

~ sleeps
)");
  CHECK('\n' + chart_of(shop::sleep(90min), 60) == R"(
minutes      0         20         40        60         80
             |         |          |         |          |
shop::sleep  ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~

~ sleeps
)");
  CHECK('\n' + chart_of(shop::sleep(24h * 365 * 20), 60) == R"(
days         0            2000         4000         6000
             |            |            |            |
shop::sleep  ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~

~ sleeps
)");
  CHECK(contains(svg_of(shop::sleep(24h * 365 * 20)), "0 ms to 630720000000 ms"));
}

TEST_CASE("a chart is as wide as asked for, at least 40 columns; names that are too long lose their beginning") {
  for (const std::size_t width : {0u, 40u, 55u, 80u, 400u}) {
    const std::string chart = chart_of(shop::chain_of_coroutines_with_a_name_that_is_too_long(30), width);
    std::size_t longest = 0;
    for (std::size_t i = 0, end = 0; (end = chart.find('\n', i)) != chart.npos; i = end + 1)
      if (!contains(chart.substr(i, end - i), "sleeps")) longest = std::max(longest, end - i);
    CHECK(longest == std::max<std::size_t>(width, 40));
    CHECK(contains(chart, "..") == (width < 400));
    CHECK(contains(chart, "long "));
  }
}

TEST_CASE("the same run gives the same chart, shuffled or not") {
  for (const std::uint64_t seed : {0u, 7u}) {
    const auto draw = [&] {
      timeline t;
      simulate(shop::ask_all(), {.seed = seed});
      return t.gantt() + t.svg() + t.chrome_trace();
    };
    CHECK(draw() == draw());
  }
}

TEST_CASE("a chain of 40,000 coroutines is recorded and drawn") {
  timeline t({.most_spans = 80'000});
  simulate(shop::chain_of_coroutines_with_a_name_that_is_too_long(39'999));
  const std::string chart = t.gantt();
  CHECK(count(chart, "\n") == 40'004);
  CHECK(count(t.chrome_trace(), "\"thread_name\"") == 40'000);
  CHECK(!contains(chart, "Recording ended early"));
}

TEST_CASE("an SVG document is well-formed, and its titles give exact times and what was waited for") {
  const std::string svg = svg_of(shop::ask_briefly());
  CHECK(defect_of_xml(svg) == "");
  CHECK(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  CHECK(contains(svg, "<title>shop::ask_all waits for gather, 0 ms to 1.5 ms</title>"));
  CHECK(contains(svg, "<title>shop::stock waits for sleep, 0 ms to 1.5 ms</title>"));
  CHECK(count(svg, "<title>shop::price stopped, 0 ms to 1.5 ms</title>") == 1);
  CHECK(count(svg, "http") == 1);  // the name of the format; nothing is loaded
  CHECK(contains(svg, "prefers-color-scheme:dark"));
}

TEST_CASE("names are escaped in an SVG document") {
  const std::string svg = svg_of(shop::box<int>::open());
  CHECK(defect_of_xml(svg) == "");
  CHECK(contains(svg, "shop::box&lt;"));
  CHECK(tandem::detail::xml_text("a < b && c > d") == "a &lt; b &amp;&amp; c &gt; d");
  CHECK(tandem::detail::xml_text("a\x1b\xef\xbf\xbe\xef\xbf\xbf\xc3z") == "a\ufffd\ufffd\ufffd\ufffdz");
}

TEST_CASE("a Chrome trace has a thread for each coroutine, with what it did when, exactly") {
  timeline t;
  simulate(shop::ask_briefly());
  const auto threads = threads_of(t);
  REQUIRE(threads.size() == 5);
  CHECK(threads[0].name == "shop::ask_briefly");
  CHECK(threads[0].process == "simulation 1");
  CHECK(threads[0].events.size() == 3);
  CHECK(threads[0].has("timeout", "X", 0, 1'500'000));
  CHECK(threads[0].has("ends", "i", 1'500'000, 1'500'000));
  CHECK(threads[0].events[1].category == "children");
  CHECK(threads[0].events[1].parent == "");
  CHECK(threads[3].name == "shop::stock");
  CHECK(threads[3].has("starts", "i", 0, 0));
  CHECK(threads[3].has("sleep", "X", 0, 1'500'000));
  CHECK(threads[3].has("stopped", "i", 1'500'000, 1'500'000));
  CHECK(threads[3].events[1].what == "waits for sleep");
  CHECK(threads[3].events[1].parent == "shop::ask_all");
  CHECK(threads[3].events[1].category == "sleeps");
}

TEST_CASE("times in a Chrome trace are exact to the nanosecond, after years too") {
  const auto sleeps_for = [](tandem::clock::duration d) {
    timeline t;
    simulate(shop::sleep(d));
    return threads_of(t).at(0).has("sleep", "X", 0, d.count());
  };
  CHECK(sleeps_for(1ns));
  CHECK(sleeps_for(1001ns));
  CHECK(sleeps_for(24h * 365 * 20 + 999'999'987ns));
  timeline t;
  simulate(shop::sleep(1'000'010ns));
  CHECK(contains(t.chrome_trace(), "\"ts\":0,\"dur\":1000.01,"));
}

TEST_CASE("what has not ended is closed in a Chrome trace, and marked") {
  timeline t;
  std::vector<traced_thread> threads;
  auto look = [&]() -> task<> {
    co_await shop::stock();
    threads = threads_of(t);
    co_await shop::stock();
  };
  simulate(look());
  REQUIRE(threads.size() == 2);
  CHECK(threads[0].events.back().name == "not ended");
  CHECK(threads[0].events.back().from == 50'000'000);
  CHECK(threads[0].events.at(2).is_open);
  CHECK(threads[1].events.back().name == "ends");
  for (const auto& e : threads[1].events) CHECK(!e.is_open);
}

TEST_CASE("each simulation is a process of a Chrome trace, and real_time another, each from 0 on") {
  timeline t;
  simulate(shop::stock());
  simulate(shop::price(), {.start = kit::at(24h)});
  tandem::run(shop::work());
  const auto threads = threads_of(t);
  REQUIRE(threads.size() == 3);
  CHECK(threads[0].process == "simulation 1");
  CHECK(threads[1].process == "simulation 2");
  CHECK(threads[2].process == "real time");
  CHECK(threads[1].has("sleep", "X", 0, 150'000'000));
  CHECK(threads[2].events.at(0).from == 0);
  CHECK(threads[2].events.at(1).name == "runs");
  CHECK(threads[2].events.at(1).to - threads[2].events.at(1).from >= 20'000'000);
}

TEST_CASE("names in a Chrome trace and in an SVG document may be anything") {
  timeline t;
  simulate(shop::named_badly());
  std::vector<std::string> names;
  for (const auto& thread : threads_of(t)) names.push_back(thread.name);
  REQUIRE(names.size() == 4);
  CHECK(names[2] == "shop::stock 'a \"quote\", a \\, \x7f, \ufffd\ufffd and \ufffd\ufffd\ufffd'");
  CHECK(names[3] == "shop::stock '汽车 \xf0\x9f\x9a\x97'");
  CHECK(contains(t.chrome_trace(), "\\u007f"));
  CHECK(defect_of_xml(t.svg()) == "");
  CHECK(contains(t.svg(), "\ufffd\ufffd and \ufffd\ufffd\ufffd'"));
}

TEST_CASE("text for JSON is valid UTF-8 without control characters, whatever it was") {
  using tandem::detail::json_text;
  CHECK(json_text("") == "\"\"");
  CHECK(json_text("a\n\t\x01z") == "\"a\\u000a\\u0009\\u0001z\"");
  CHECK(json_text(std::string_view("\0", 1)) == "\"\\u0000\"");
  CHECK(json_text("\xe6\xb1\xbd \xc2\x80 \xf4\x8f\xbf\xbf") == "\"\xe6\xb1\xbd \xc2\x80 \xf4\x8f\xbf\xbf\"");
  const std::string_view wrong[] = {"\xc0\xaf",          // in more bytes than it needs
                                    "\xe0\x9f\xbf",      // the same
                                    "\xf0\x8f\xbf\xbf",  // the same
                                    "\xed\xb0\x80",      // half of a pair
                                    "\xf4\x90\x80\x80",  // too large
                                    "\xf5\x80\x80\x80",  // the same
                                    "\xe6\xb1",          // ends early
                                    "\x80"};
  for (const std::string_view s : wrong) {
    std::string expected = "\"";
    for (std::size_t i = 0; i != s.size(); ++i) expected += "\ufffd";
    CHECK(json_text(s) == expected + '"');
  }
  CHECK(json_text("\xe6\xb1z") == "\"\ufffd\ufffdz\"");
}

TEST_CASE("a Chrome trace does not depend on the locale") {
  struct grouping : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };
  timeline t;
  simulate(shop::sleep(1'234'567'890'123ns));
  const std::string before = t.chrome_trace();
  const std::locale classic = std::locale::global(std::locale(std::locale::classic(), new grouping));
  const std::string after = t.chrome_trace();
  std::locale::global(classic);
  CHECK(before == after);
  CHECK(contains(before, "1234567890.123"));
}

TEST_CASE("a timeline that heard of nothing says so") {
  timeline t;
  CHECK(t.gantt() == "No coroutine has waited.\n");
  simulate(shop::immediate());
  CHECK(t.gantt() == "No coroutine has waited.\n");
  CHECK(defect_of_xml(t.svg()) == "");
  CHECK(threads_of(t).empty());
}

TEST_CASE("without a timeline nothing is recorded, nor of loops that were made before it or on other threads") {
  asio::io_context earlier;
  tandem::spawn(earlier, shop::stock(), asio::detached);
  timeline t;
  std::thread([] { simulate(shop::price()); }).join();
  earlier.poll();
  CHECK(t.gantt() == "No coroutine has waited.\n");
  { timeline inner; }
  simulate(shop::price());
  CHECK(contains(t.gantt(), "shop::price"));
}

TEST_CASE("no more spans than were asked for are kept, and the charts say so") {
  timeline t({.most_spans = 4});
  simulate(shop::sleep_often());
  CHECK('\n' + t.gantt(60) == R"(
milliseconds      0                20               40
                  |                |                |
shop::sleep_often ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~>

~ sleeps   > not ended
Recording ended early: no more spans than timeline_options::most_spans are kept.
)");
  CHECK(contains(t.svg(), "Recording ended early"));
  CHECK(contains(t.chrome_trace(), "simulation 1 (recording ended early: no more spans than"));
  CHECK(threads_of(t).at(0).events.back().name == "not ended");

  timeline few({.most_spans = 3});
  simulate(shop::ask_all());
  CHECK(contains(few.gantt(), "Recording ended early: no more coroutines than timeline_options::most_spans are kept."));

  timeline none({.most_spans = 0});
  simulate(shop::ask_all());
  CHECK(contains(none.gantt(), "Recording ended early"));
  CHECK(defect_of_xml(none.svg()) == "");
  CHECK(contains(none.chrome_trace(), "recording ended early"));
  CHECK(threads_of(none).empty());
}

TEST_CASE("when memory runs out recording ends, and the coroutine does not notice") {
  timeline t;
  CHECK(simulate(shop::sleep_without_memory()) == 7);
  CHECK(!fail_next);
  CHECK(contains(t.gantt(), "Recording ended early: there was no more memory."));
}

TEST_CASE("a loop may outlive the timeline, whose end then goes with a later one") {
  const std::size_t before = tandem::detail::trace_recorder::count();
  {
    asio::io_context context;
    {
      timeline t;
      tandem::spawn(context, shop::ask_all(), asio::detached);
      context.poll();
      CHECK(contains(t.gantt(), "shop::price"));
    }
    CHECK(tandem::detail::trace_recorder::count() == before + 1);
    bool done = false;
    tandem::spawn(context, shop::immediate(), [&](std::exception_ptr) { done = true; });
    context.poll();
    CHECK(done);
    { timeline t; }
    CHECK(tandem::detail::trace_recorder::count() == before + 1);
  }
  { timeline t; }
  CHECK(tandem::detail::trace_recorder::count() == before);
}

namespace shop {

tandem::generator<int> deliveries() {
  for (int i = 0; i != 3; ++i) {
    co_await sleep_for(10ms);
    co_yield i;
  }
}
task<> receives() {
  auto all = deliveries();
  while (auto one = co_await all.next()) {
  }
}

}  // namespace shop

TEST_CASE("a generator is one line, however often it is asked") {
  timeline t;
  simulate(shop::receives());
  const std::string chart = t.gantt();
  INFO(chart);
  const std::size_t first = chart.find("shop::deliveries");
  CHECK(first != chart.npos);
  CHECK(chart.find("shop::deliveries", first + 1) == chart.npos);
  CHECK(!contains(chart, "stopped"));
}

TEST_CASE("of timelines that live at once, each hears of a loop, in whatever order they go") {
  auto outer = std::make_optional<timeline>();
  auto middle = std::make_optional<timeline>();
  auto inner = std::make_optional<timeline>();
  simulate(shop::price());
  CHECK(contains(inner->gantt(), "shop::price"));
  middle.reset();
  simulate(shop::stock());
  CHECK(contains(inner->gantt(), "shop::stock"));
  CHECK(contains(outer->gantt(), "shop::price"));
  CHECK(contains(outer->gantt(), "shop::stock"));
  inner.reset();
  simulate(shop::review());
  CHECK(contains(outer->gantt(), "shop::review"));
  outer.reset();
  CHECK(tandem::detail::trace_recorder::count() == 0);
  CHECK(tandem::detail::tracer::of_this_thread() == nullptr);
}

TEST_CASE("a timeline that another thread destroys leaves nothing dangling") {
  std::thread([] {
    auto t = std::make_unique<timeline>();
    std::thread([&] { t.reset(); }).join();
    simulate(shop::price());
    const timeline later;
    simulate(shop::price());
    CHECK(contains(later.gantt(), "shop::price"));
  }).join();
}

TEST_CASE("trees that are destroyed with their context are shown as stopped") {
  timeline t;
  {
    asio::io_context context;
    tandem::spawn(context, shop::ask_all(), asio::detached);
    context.poll();
  }
  CHECK(count(t.svg(), " stopped, ") == 4);
}

TEST_CASE("real_loops of one timeline that run on several threads are in one chart") {
  asio::thread_pool pool(2);
  timeline t;
  auto main = [&]() -> task<> {
    co_await tandem::gather(tandem::on(pool.get_executor(), shop::stock()),
                            tandem::on(asio::make_strand(pool), shop::stock()),
                            tandem::on(asio::make_strand(pool), shop::ask_in_turn()));
  };
  tandem::run(main());
  const std::string chart = t.gantt();
  CHECK(count(chart, "milliseconds") == 1);
  CHECK(count(chart, "\nshop::stock") == 2);
  CHECK(count(chart, "\n  shop::stock") == 1);
  CHECK(defect_of_xml(t.svg()) == "");
  CHECK(threads_of(t).size() == 6);
}

TEST_CASE("real_time is recorded, running too") {
  timeline t;
  tandem::run(shop::work());
  CHECK(contains(t.gantt(), "####"));
  CHECK(contains(t.gantt(), "~~~~"));
}
