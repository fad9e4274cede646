#include <tandem/reflect.hpp>

#include <tandem/metrics.hpp>
#include <tandem/run.hpp>

#include "catch.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <iomanip>
#include <limits>
#include <list>
#include <locale>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

using namespace std::chrono_literals;
using tandem::describe;
using tandem::field_names;
using tandem::reflected;

struct point {
  int x = 0;
  int y = 0;
};

struct pool_stats {
  std::uint64_t submitted = 0;
  std::size_t running = 0;
  tandem::latency_summary queue_time;
};

namespace shop {

enum class colour { red, green };
enum kind : unsigned char { plain = 65, fancy = 66 };

enum class state { open, closed };
std::string_view to_string(state s) { return s == state::open ? "open" : "closed"; }

enum class level { low, high };
std::ostream& operator<<(std::ostream& out, level l) { return out << (l == level::low ? "low" : "high"); }

enum grade : char { good = 'g' };
std::ostream& operator<<(std::ostream& out, grade) { return out << "good"; }

/// Has an operator of its own, written with what it is there for.
struct item {
  std::string name;
  int price = 0;

  friend std::ostream& operator<<(std::ostream& out, const item& i) { return out << "item " << reflected(i); }
};

class money {
 public:
  explicit money(int cents) : cents_(cents) {}
  friend std::ostream& operator<<(std::ostream& out, const money& m) { return out << m.cents_ << " cents"; }

 private:
  int cents_;
};

}  // namespace shop

/// Has functions that argument-dependent look-up would find for any call that is not qualified.
namespace greedy {

struct thing {
  int n = 1;
};
struct two_things {
  thing a, b;
};
enum class flag { up };

template <class T>
std::string describe(const T&) {
  return "greedy";
}
template <class T, class F>
void for_each_field(T&, F&&) {}
template <class... T>
void append(std::string& out, const T&...) {
  out += "greedy";
}
template <std::size_t I, class T>
int get_field(const T&) {
  return 0;
}

}  // namespace greedy

namespace {

struct unnamed_place {
  int hidden;
  std::string too;
};

template <class T, class U>
struct generic {
  T first_one;
  U second_one;
};

class owner {
 public:
  static std::string text() { return describe(secret{1, {2.5}}); }

 private:
  struct inner {
    double deep;
  };
  struct secret {
    int a;
    inner b;
  };
};

struct no_default {
  explicit no_default(int n) : number(n) {}
  int number;
  friend std::ostream& operator<<(std::ostream& out, const no_default& n) { return out << n.number; }
};

struct wants_everything {
  no_default made;
  const int fixed;
  std::unique_ptr<int> owned;
};

struct takes_anything {
  template <class T>
  takes_anything(T&&) {}
  friend std::ostream& operator<<(std::ostream& out, const takes_anything&) { return out << "anything"; }
};

struct starts_with_anything {
  takes_anything a;
  std::optional<std::chrono::milliseconds> b;
  std::array<int, 1> c;
  int d[1];
};

struct cannot_move {
  std::unique_ptr<std::mutex> m;
  std::array<std::unique_ptr<int>, 2> two;
  cannot_move* self;
};

struct tree {
  int value;
  std::vector<tree> below;
};

struct grouping : std::numpunct<char> {
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\3"; }
  char do_decimal_point() const override { return ','; }
};

#define TEN(p) int p##0, p##1, p##2, p##3, p##4, p##5, p##6, p##7, p##8, p##9;
struct a_hundred {
  TEN(a) TEN(b) TEN(c) TEN(d) TEN(e) TEN(f) TEN(g) TEN(h) TEN(i) TEN(j)
};
#undef TEN

template <class T>
std::string put(const T& value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

}  // namespace

TEST_CASE("a plain struct is its fields by name, structs within it too") {
  CHECK(describe(point{1, -2}) == "{x = 1, y = -2}");

  const tandem::latency_summary times{3, 1'500us, 2ms, 1'812'345ns, 3s, 3s, 90min};
  CHECK(describe(pool_stats{3, 0, times}) ==
        "{submitted = 3, running = 0, queue_time = {count = 3, min = 1.5ms, mean = 2ms, p50 = 1.812345ms, p95 = 3s, "
        "p99 = 3s, max = 1h30min}}");
}

TEST_CASE("names are known at compile time") {
  STATIC_REQUIRE(field_names<point>.size() == 2);
  STATIC_REQUIRE(field_names<point>[0] == "x");
  STATIC_REQUIRE(field_names<point>[1] == "y");
  STATIC_REQUIRE(field_names<tandem::latency_summary>[4] == "p95");
}

TEST_CASE("fields have names wherever their struct was declared") {
  struct local {
    int loc;
    struct {
      int deeper;
    } nameless;
  };
  CHECK(describe(local{1, {2}}) == "{loc = 1, nameless = {deeper = 2}}");
  CHECK(describe(unnamed_place{1, "b"}) == "{hidden = 1, too = \"b\"}");
  CHECK(describe(generic<int, generic<char, std::map<int, int>>>{1, {'c', {}}}) ==
        "{first_one = 1, second_one = {first_one = 'c', second_one = {}}}");
  CHECK(owner::text() == "{a = 1, b = {deep = 2.5}}");
}

TEST_CASE("a name may be any identifier") {
  struct names {
    int _1;
    int point;
    int value;
    int Upper_case_9;
    int größe;
  };
  CHECK(describe(names{1, 2, 3, 4, 5}) == "{_1 = 1, point = 2, value = 3, Upper_case_9 = 4, größe = 5}");
}

TEST_CASE("a struct may have no fields, one, or a hundred") {
  struct empty {};
  struct holds_empty {
    empty nothing;
    int something;
  };
  struct one {
    std::string only;
  };
  CHECK(describe(empty()) == "{}");
  CHECK(field_names<empty>.empty());
  CHECK(describe(std::monostate()) == "{}");
  CHECK(describe(holds_empty{{}, 1}) == "{nothing = {}, something = 1}");
  CHECK(describe(one{"x"}) == "{only = \"x\"}");

  a_hundred many{};
  many.j9 = 7;
  CHECK(field_names<a_hundred>[57] == "f7");
  const std::string text = describe(many);
  CHECK(text.substr(0, 9) == "{a0 = 0, ");
  CHECK(text.substr(text.size() - 17) == ", j8 = 0, j9 = 7}");
}

TEST_CASE("fields need be neither default-constructible nor copyable nor movable") {
  CHECK(describe(wants_everything{no_default(5), 6, nullptr}) == "{made = 5, fixed = 6, owned = nullptr}");
  const cannot_move c{nullptr, {}, nullptr};
  CHECK(field_names<cannot_move>[2] == "self");
  std::size_t seen = 0;
  tandem::for_each_field(c, [&](std::string_view, const auto&) { ++seen; });
  CHECK(seen == 3);
  struct locked {
    std::mutex mutex;
    int guarded;
  };
  CHECK(field_names<locked>[1] == "guarded");
  CHECK(describe(starts_with_anything{1, 5ms, {6}, {7}}) == "{a = anything, b = 5ms, c = [6], d = [7]}");
}

TEST_CASE("for_each_field gives the names and references to the fields, in order") {
  const pool_stats stats{1, 2, {}};
  std::string names;
  tandem::for_each_field(stats, [&]<class Field>(std::string_view name, const Field& field) {
    names.append(name).append(" ");
    if constexpr (std::is_same_v<Field, tandem::latency_summary>) CHECK(&field == &stats.queue_time);
  });
  CHECK(names == "submitted running queue_time ");
}

TEST_CASE("numbers are written in full") {
  CHECK(describe(true) == "true");
  CHECK(describe(std::numeric_limits<std::int64_t>::min()) == "-9223372036854775808");
  CHECK(describe(std::numeric_limits<std::uint64_t>::max()) == "18446744073709551615");
  CHECK(describe(std::uint8_t(200)) == "200");
  CHECK(describe(std::int8_t(-1)) == "-1");
  CHECK(describe(u'a') == "97");
  CHECK(describe(0.1) == "0.1");
  CHECK(describe(0.1f) == "0.1");
  CHECK(describe(1.0 / 3) == "0.3333333333333333");
  CHECK(describe(1e100) == "1e+100");
  CHECK(describe(std::numeric_limits<double>::quiet_NaN()) == "nan");
  CHECK(describe(-std::numeric_limits<double>::infinity()) == "-inf");
  CHECK(describe(std::byte(17)) == "17");
}

TEST_CASE("text is quoted, and what cannot be seen is escaped") {
  CHECK(describe('a') == "'a'");
  CHECK(describe('\'') == "'\\''");
  CHECK(describe('"') == "'\"'");
  CHECK(describe("it's \"so\" \\") == "\"it's \\\"so\\\" \\\\\"");
  CHECK(describe(std::string("a\0b\n\t\r\x1b\x7f", 8)) == "\"a\\u{0}b\\n\\t\\r\\u{1b}\\u{7f}\"");
  CHECK(describe(std::string_view("größe")) == "\"größe\"");
  const char* nobody = nullptr;
  CHECK(describe(nobody) == "nullptr");
  char buffer[8] = "abc";
  CHECK(describe(buffer) == "\"abc\"");
}

namespace {

class label {
 public:
  explicit label(std::string text) : text_(std::move(text)) {}
  operator std::string_view() const { return text_; }

 private:
  std::string text_;
};
struct open_label {
  const char* text;
  operator std::string_view() const { return text; }
};

}  // namespace

TEST_CASE("what converts to a string_view is text, be it a class or a plain struct") {
  struct parcel {
    label from;
    open_label to;
  };
  CHECK(describe(parcel{label("the \"shop\""), {"Ann"}}) == "{from = \"the \\\"shop\\\"\", to = \"Ann\"}");
  CHECK(describe(std::vector<open_label>{{"a"}, {"b"}}) == "[\"a\", \"b\"]");
}

TEST_CASE("an enumerator is what its own function says, or else its number") {
  CHECK(describe(shop::colour::green) == "1");
  CHECK(describe(shop::fancy) == "66");
  CHECK(describe(shop::state::closed) == "closed");
  CHECK(describe(shop::level::high) == "high");
  CHECK(describe(shop::good) == "good");
  struct order {
    shop::state state;
    shop::kind kind;
  };
  CHECK(describe(order{shop::state::open, shop::plain}) == "{state = open, kind = 65}");
}

TEST_CASE("durations are exact, in the unit that suits") {
  const std::pair<std::chrono::nanoseconds, const char*> expected[] = {
      {0ns, "0s"},
      {1ns, "1ns"},
      {999ns, "999ns"},
      {1us, "1us"},
      {1'500us, "1.5ms"},
      {1'234ns, "1.234us"},
      {1'000'001ns, "1.000001ms"},
      {999'999'999ns, "999.999999ms"},
      {1s, "1s"},
      {59'999ms, "59.999s"},
      {1min, "1min"},
      {90min, "1h30min"},
      {1h + 1s, "1h1s"},
      {1min + 1ns, "1min0.000000001s"},
      {100h, "100h"},
      {-1'500us, "-1.5ms"},
      {std::chrono::nanoseconds::max(), "2562047h47min16.854775807s"},
      {std::chrono::nanoseconds::min(), "-2562047h47min16.854775808s"},
  };
  for (const auto& [d, text] : expected) CHECK(describe(d) == text);

  CHECK(describe(std::chrono::milliseconds(1'500)) == "1.5s");
  CHECK(describe(std::chrono::duration<unsigned char, std::deci>(255)) == "25.5s");
  CHECK(describe(std::chrono::days(2)) == "48h");
  // What is no whole number of nanoseconds, or too many of them, is in seconds.
  CHECK(describe(std::chrono::duration<int, std::pico>(1'500)) == "1.5e-09s");
  CHECK(describe(std::chrono::years(1'000)) == "31556952000s");
  CHECK(describe(std::chrono::duration<double>(0.25)) == "0.25s");
  CHECK(describe(std::chrono::hours::max()).back() == 's');
}

TEST_CASE("points in time are what has passed since the clock's epoch, or a date in UTC") {
  auto main = []() -> tandem::task<> {
    co_await tandem::sleep_for(90min);
    CHECK(describe(tandem::clock::now()) == "1h30min");
  };
  tandem::simulate(main());
  CHECK(describe(std::chrono::steady_clock::time_point(5ms)) == "5ms");

  using std::chrono::sys_days;
  const sys_days day = std::chrono::year(2026) / 11 / 20;
  CHECK(describe(day) == "2026-11-20T00:00:00Z");
  CHECK(describe(day + 13h + 4min + 5s) == "2026-11-20T13:04:05Z");
  CHECK(describe(day + 59'050ms) == "2026-11-20T00:00:59.05Z");
  CHECK(describe(std::chrono::system_clock::time_point()) == "1970-01-01T00:00:00Z");
  CHECK(describe(std::chrono::sys_time<std::chrono::nanoseconds>(-1ns)) == "1969-12-31T23:59:59.999999999Z");
}

TEST_CASE("optionals are their value, pointers and smart pointers the address") {
  CHECK(describe(std::optional<std::string>("a")) == "\"a\"");
  CHECK(describe(std::optional<int>()) == "nullopt");
  CHECK(describe(std::optional<std::optional<point>>(point{1, 2})) == "{x = 1, y = 2}");
  CHECK(describe(nullptr) == "nullptr");
  const int* none = nullptr;
  CHECK(describe(none) == "nullptr");
  CHECK(describe(reinterpret_cast<const point*>(0xbeef)) == "0xbeef");
  const auto letters = std::make_unique<char[]>(2);  // no text: nothing ends it
  CHECK(describe(letters) == describe(static_cast<const void*>(letters.get())));
  CHECK(describe(std::shared_ptr<point>()) == "nullptr");
  CHECK(describe(&put<int>).substr(0, 2) == "0x");
}

TEST_CASE("ranges, sets, maps and tuples are written as std::format writes them") {
  CHECK(describe(std::vector<point>{{1, 2}, {3, 4}}) == "[{x = 1, y = 2}, {x = 3, y = 4}]");
  CHECK(describe(std::list<std::string>()) == "[]");
  CHECK(describe(std::vector<bool>{true, false}) == "[true, false]");
  CHECK(describe(std::array<std::deque<int>, 2>{{{1}, {}}}) == "[[1], []]");
  const int numbers[] = {1, 2, 3};
  CHECK(describe(numbers) == "[1, 2, 3]");
  CHECK(describe(std::set<char>{'b', 'a'}) == "{'a', 'b'}");
  CHECK(describe(std::map<std::string, std::vector<int>>{{"a", {1}}, {"b", {}}}) == "{\"a\": [1], \"b\": []}");
  CHECK(describe(std::unordered_map<int, point>{{1, {2, 3}}}) == "{1: {x = 2, y = 3}}");
  CHECK(describe(std::pair(1, "a")) == "(1, \"a\")");
  CHECK(describe(std::tuple(1, 2.5, point{})) == "(1, 2.5, {x = 0, y = 0})");
  CHECK(describe(std::tuple<>()) == "()");
}

TEST_CASE("what has an operator<< is written by it; a struct itself is taken apart all the same") {
  CHECK(describe(shop::money(5)) == "5 cents");
  CHECK(describe(std::filesystem::path("/tmp")) == "\"/tmp\"");
  CHECK(describe(std::error_code(5, std::generic_category())) == "generic:5");

  const shop::item pen{"pen", 3};
  CHECK(describe(pen) == "{name = \"pen\", price = 3}");
  CHECK(put(pen) == "item {name = \"pen\", price = 3}");
  CHECK(describe(std::vector<shop::item>{pen}) == "[item {name = \"pen\", price = 3}]");
  CHECK(describe(std::optional(pen)) == "item {name = \"pen\", price = 3}");
}

TEST_CASE("functions of the fields' namespace that are named as tandem's are left alone") {
  CHECK(tandem::describe(std::vector<greedy::two_things>(1)) == "[{a = {n = 1}, b = {n = 1}}]");
  CHECK(put(reflected(greedy::two_things())) == "{a = {n = 1}, b = {n = 1}}");
  CHECK(tandem::describe(std::pair(greedy::thing(), greedy::flag::up)) == "({n = 1}, 0)");
}

TEST_CASE("a struct may contain itself, in a container") {
  CHECK(describe(tree{1, {{2, {}}, {3, {{4, {}}}}}}) ==
        "{value = 1, below = [{value = 2, below = []}, {value = 3, below = [{value = 4, below = []}]}]}");
}

TEST_CASE("neither the global locale nor a stream's flags change the text") {
  struct mixed {
    int whole = 1'234'567;
    double part = 0.5;
    shop::money money{1'234'567};
  };
  const std::string expected = "{whole = 1234567, part = 0.5, money = 1234567 cents}";
  const std::locale before = std::locale::global(std::locale(std::locale::classic(), new grouping));
  const std::string text = describe(mixed());
  std::ostringstream out;
  out << std::hex << std::showpos << std::setprecision(1) << reflected(mixed());
  std::locale::global(before);
  CHECK(text == expected);
  CHECK(out.str() == expected);
}

TEST_CASE("reflected writes one piece of text") {
  std::ostringstream out;
  out << std::setw(18) << std::left << reflected(point{1, 2}) << '|';
  CHECK(out.str() == "{x = 1, y = 2}    |");
}

TEST_CASE("reflected keeps an rvalue and refers to an lvalue") {
  const auto kept = reflected(std::vector<std::string>{"long enough to be somewhere on the heap"});
  CHECK(put(kept) == "[\"long enough to be somewhere on the heap\"]");
  point p{1, 2};
  const auto seen = reflected(p);
  p.x = 5;
  CHECK(put(seen) == "{x = 5, y = 2}");
  STATIC_REQUIRE(sizeof(seen) == sizeof(void*));
}

TEST_CASE("what tandem takes as options can be looked at") {
  CHECK(describe(tandem::simulation_options{.seed = 7, .start = tandem::clock::time_point(1h)}) ==
        "{seed = 7, start = 1h}");
}

// ---- keys ----------------------------------------------------------------------------------------------------------

namespace {

struct stop {
  std::string name;
  std::optional<point> at;
};
struct route {
  int line;
  std::vector<stop> stops;
  std::pair<std::chrono::minutes, double> every;
  std::filesystem::path map;
};

}  // namespace

TEST_CASE("plain structs are keys by their fields, however deep") {
  const route a{7, {{"harbour", point{1, 2}}, {"hill", std::nullopt}}, {10min, 2.5}, "maps/7"};
  const tandem::reflected_hash hash;
  const tandem::reflected_equal equal;
  const std::vector<route> others{{8, a.stops, a.every, a.map},
                                  {7, {a.stops[0]}, a.every, a.map},
                                  {7, {a.stops[0], {"hill", point{0, 0}}}, a.every, a.map},
                                  {7, {{"harbor", point{1, 2}}, a.stops[1]}, a.every, a.map},
                                  {7, {a.stops[1], a.stops[0]}, a.every, a.map},
                                  {7, a.stops, {11min, 2.5}, a.map},
                                  {7, a.stops, {10min, 2.25}, a.map},
                                  {7, a.stops, a.every, "maps/8"}};
  const route copy = a;
  CHECK(equal(a, copy));
  CHECK(hash(a) == hash(copy));
  for (const route& o : others) {
    CHECK(!equal(a, o));
    CHECK(hash(a) != hash(o));
  }
  std::unordered_map<route, int, tandem::reflected_hash, tandem::reflected_equal> passengers;
  passengers[a] = 5;
  passengers[others[0]] = 6;
  ++passengers[copy];
  CHECK(passengers.size() == 2);
  CHECK(passengers[a] == 6);
}

TEST_CASE("hashes of small structs are spread, and zero and minus zero are one") {
  std::set<std::size_t> seen;
  for (int x = 0; x != 100; ++x)
    for (int y = 0; y != 100; ++y) seen.insert(tandem::reflected_hash()(point{x, y}));
  CHECK(seen.size() == 10'000);
  struct weight {
    double kilos;
  };
  CHECK(tandem::reflected_equal()(weight{0.0}, weight{-0.0}));
  CHECK(tandem::reflected_hash()(weight{0.0}) == tandem::reflected_hash()(weight{-0.0}));
}

namespace {

class coin {
 public:
  explicit coin(int side) : side_(side) {}
  friend bool operator==(const coin& a, const coin& b) { return a.side_ == b.side_; }

 private:
  int side_;
};

}  // namespace

TEST_CASE("points in time, tuples, arrays and what is in order in a container are parts of a key") {
  struct departure {
    tandem::clock::time_point at;
    std::chrono::system_clock::time_point day;
    std::tuple<int, std::optional<std::string>> platform;
    std::array<point, 2> ends;
    std::map<std::string, std::vector<int>> seats;
    std::set<char> classes;
  };
  const tandem::reflected_hash hash;
  const tandem::reflected_equal equal;
  const departure a{tandem::clock::time_point(5min),
                    std::chrono::sys_days(std::chrono::year(2026) / 11 / 20),
                    {3, "b"},
                    {{{1, 2}, {3, 4}}},
                    {{"front", {1, 2}}},
                    {'1', '2'}};
  const departure same = a;
  CHECK(equal(a, same));
  CHECK(hash(a) == hash(same));
  const auto differs = [&](auto change) {
    departure b = a;
    change(b);
    return !equal(a, b) && !equal(b, a) && hash(a) != hash(b);
  };
  CHECK(differs([](departure& d) { d.at += 1ns; }));
  CHECK(differs([](departure& d) { d.day += 24h; }));
  CHECK(differs([](departure& d) { std::get<0>(d.platform) = 4; }));
  CHECK(differs([](departure& d) { std::get<1>(d.platform).reset(); }));
  CHECK(differs([](departure& d) { d.ends[1].x = 4; }));
  CHECK(differs([](departure& d) { d.seats["front"].push_back(3); }));
  CHECK(differs([](departure& d) { d.seats["back"]; }));
  CHECK(differs([](departure& d) { d.classes.erase('2'); }));
}

TEST_CASE(
    "what is no plain struct, optional, range, pair or tuple is compared by its own operator, as is what has no "
    "order") {
  struct purse {
    coin last;
    std::optional<coin> lucky;
    std::vector<coin> others;
    std::unordered_map<int, int> counts;
    std::pair<int, coin> best;
  };
  const tandem::reflected_equal equal;
  purse a{coin(1), coin(2), {coin(3)}, {}, {1, coin(4)}};
  for (int i = 0; i != 100; ++i) a.counts[i] = i;
  purse b = a;
  b.counts.clear();
  for (int i = 100; i-- != 0;) b.counts[i] = i;
  CHECK(equal(a, b));
  const auto differs = [&](auto change) {
    purse c = b;
    change(c);
    return !equal(a, c) && !equal(c, a);
  };
  CHECK(differs([](purse& p) { p.last = coin(9); }));
  CHECK(differs([](purse& p) { p.lucky = coin(9); }));
  CHECK(differs([](purse& p) { p.lucky.reset(); }));
  CHECK(differs([](purse& p) { p.others[0] = coin(9); }));
  CHECK(differs([](purse& p) { p.others.clear(); }));
  CHECK(differs([](purse& p) { p.counts[7] = 8; }));
  CHECK(differs([](purse& p) { p.best.second = coin(9); }));
}
