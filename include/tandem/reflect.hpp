// tandem/reflect.hpp: plain structs by their fields: describe, reflected, field_names, for_each_field, and to make keys of
// them reflected_hash and reflected_equal.
// Included by itself: tandem.hpp leaves it out, because it needs Boost, which the rest of tandem does not.
// Version 0.1.0. Needs C++20, Asio 1.22.1 or later, and Boost.PFR of Boost 1.81 or later (Debian 12: libboost1.81-dev).
// needs: asio.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"

#if !__has_include(<boost/pfr/core.hpp>)
#error "tandem/reflect.hpp needs Boost.PFR, of Boost 1.81 or later. Debian 12: libboost1.81-dev; later: libboost-dev"
#endif
#include <boost/pfr/core.hpp>
#include <boost/pfr/tuple_size.hpp>
#if __has_include(<boost/version.hpp>)  // Boost.PFR can be had alone
#include <boost/version.hpp>
#endif

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>  // std::hash
#include <iterator>
#include <limits>
#include <locale>
#include <memory>  // std::addressof
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>  // what std::to_chars returns
#include <tuple>
#include <type_traits>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/reflect.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// A value as text: `describe(pool.stats())` is `{submitted = 3, queue_time = {count = 3, p50 = 1.5ms}}`.
///
/// Plain structs are taken apart: aggregates without base classes, of at most 100 fields, none of which is a C array, a
/// bit-field or a reference. They may be local to a function or private in a class. A field may be
///
///  - `bool`, a number: `true`, `3`, `0.1`, in as many digits as it takes to read the same number back;
///  - a `char`: `'a'`; something that converts to `std::string_view`: `"a \"word\""`;
///  - an enumerator: its `to_string` or `operator<<` if argument-dependent look-up finds one, or else its number;
///  - a duration: `1.5ms`, `1h30min`, exact; a point in time: what has passed since the clock's epoch, or, of the
///    system's clock, date and time in UTC;
///  - a `std::optional`: its value, or `nullopt`; a pointer, a smart one too: `nullptr`, or the address;
///  - a range, a set, a map: `[1, 2]`, `{1, 2}`, `{"a": 1}`; a pair or a tuple: `(1, "a")`, as std::format has them;
///  - anything that has an `operator<<`, which writes in the classic locale;
///  - a plain struct: `{x = 1, y = 2}`.
///
/// Anything else does not compile. A plain struct that has an operator of its own is taken apart nevertheless when it
/// is `value` itself, not a field or an element: so that operator can be written with `reflected`.
template <class T>
std::string describe(const T& value);

/// The same for streams, in one piece: `std::cout << reflected(pool.stats())`. Keeps an rvalue, refers to an lvalue.
template <class T>
class reflected {
 public:
  explicit reflected(T&& value) : value_(std::forward<T>(value)) {}

  friend std::ostream& operator<<(std::ostream& out, const reflected& r) { return out << tandem::describe(r.value_); }

 private:
  T value_;
};
template <class T>
reflected(T&&) -> reflected<T>;

namespace detail {
template <class T>
consteval std::size_t count_fields();
template <class T, std::size_t... I>
consteval auto names_of_fields(std::index_sequence<I...>);
}

/// The names of a plain struct's fields in their order, at compile time: a `std::array` of `std::string_view`.
template <class T>
inline constexpr auto field_names = detail::names_of_fields<T>(std::make_index_sequence<detail::count_fields<T>()>());

/// Calls `f(name, field)` for each field in order, with a `std::string_view` and a constant reference.
template <class T, class F>
void for_each_field(const T& value, F&& f);

/// Hashes a plain struct by its fields, so that it can be a key: `lru_cache<route, timetable, reflected_hash,
/// reflected_equal>`, `std::unordered_map<route, int, reflected_hash, reflected_equal>`.
///
/// A field may be what std::hash takes, a duration or a point in time, an optional, a range in its order (no unordered
/// container), a pair, a tuple, and a plain struct again. Anything else does not compile. What `reflected_equal` finds
/// equal has the same hash. Not the same from one program to another.
struct reflected_hash {
  template <class T>
  std::size_t operator()(const T& value) const;
};

/// Compares plain structs field by field; optionals, ranges, pairs and tuples element by element; anything else by `==`.
struct reflected_equal {
  template <class T>
  bool operator()(const T& a, const T& b) const;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

// Fields: how many, and which. Whatever is done with a plain struct begins here.

/// Never called, but defined: where a constexpr constructor takes it, clang refuses the conversion to a type that other
/// files cannot see unless this file has it.
template <std::size_t>
struct converts_to_any {
  template <class Field>
  operator Field() const {
    __builtin_unreachable();
  }
};

template <class Base, class T>
concept proper_base_of = std::is_base_of_v<Base, T> && !std::is_same_v<Base, T>;

template <class T>
struct converts_to_base {
  template <proper_base_of<T> Base>
  operator Base() const {
    __builtin_unreachable();
  }
};

struct converts_to_nothing {};

template <class T, class First>
concept begins_with = requires {
  T{First()};
};

/// Not so if the first field can be made from anything.
template <class T>
concept has_base = begins_with<T, converts_to_base<T>> && !begins_with<T, converts_to_nothing>;

template <class T, std::size_t... I>
consteval bool takes(std::index_sequence<I...>) {
  return requires { T{converts_to_any<I>()...}; };
}

/// Whether the field that the initialiser after those `Before` begins is an array: two initialisers in braces are right
/// for it, and leave too few to do for those `After`.
template <class T, std::size_t... Before, std::size_t... After>
consteval bool is_array_at(std::index_sequence<Before...>, std::index_sequence<After...>) {
  using any = converts_to_any<0>;
  constexpr bool takes_two = requires { T{converts_to_any<Before>()..., {any(), any()}}; };
  constexpr bool takes_all = requires { T{converts_to_any<Before>()..., {any(), any()}, converts_to_any<After>()...}; };
  return takes_two && !takes_all;
}

template <class T, std::size_t... I>
consteval bool has_array(std::index_sequence<I...> all) {
  if constexpr (takes<T>(all))
    return (is_array_at<T>(std::make_index_sequence<I>(), std::make_index_sequence<sizeof...(I) - 1 - I>()) || ...);
  else
    return false;  // a field that this cannot find out about
}

#if defined(BOOST_VERSION) && BOOST_VERSION < 108800
// g++ 12 crashes where these versions count the fields of a struct that has a std::array of strings, or sets a vector
// of strings to {"a"}. So here they are counted without them; the functions used instead will not change any more.

template <class T, std::size_t N = 0>
consteval std::size_t count_initialisers() {
  constexpr std::size_t most = 100;
  constexpr bool enough = takes<T>(std::make_index_sequence<N>());
  if constexpr (takes<T>(std::make_index_sequence<N + 1>()) || (!enough && N != most))
    return count_initialisers<T, N + 1>();
  else
    return enough ? N : 0;
}

template <std::size_t I, std::size_t Count, class T>
constexpr const auto& get_field(const T& value) {
  namespace pfr = boost::pfr::detail;
  return pfr::sequence_tuple::get<I>(pfr::tie_as_tuple(value, pfr::size_t_<Count>()));
}
#else
template <class T>
consteval std::size_t count_initialisers() {
  return boost::pfr::tuple_size_v<T>;
}

template <std::size_t I, std::size_t Count, class T>
constexpr const auto& get_field(const T& value) {
  return boost::pfr::get<I>(value);
}
#endif

/// The number of fields; for what is no plain struct, a sentence.
template <class T>
consteval std::size_t count_fields() {
  if constexpr (!std::is_class_v<T> || !std::is_aggregate_v<T>) {
    static_assert(!std::is_same_v<T, T>, "not a plain struct: only an aggregate has fields that can be told apart");
    return 0;
  } else if constexpr (has_base<T>) {
    static_assert(!has_base<T>, "not a plain struct, because it has a base class: make that a field");
    return 0;
  } else if constexpr (std::is_empty_v<T>) {
    return 0;
  } else {
    constexpr std::size_t count = count_initialisers<T>();
    constexpr bool array = has_array<T>(std::make_index_sequence<count>());
    static_assert(count != 0, "a field is a reference, or of a type that cannot be made from itself");
    static_assert(!array, "a field is a C array: make it a std::array or a std::string");
    return array ? 0 : count;
  }
}

template <class T>
inline constexpr std::size_t field_count = count_fields<T>();

// Names: a compiler that spells the address of a member, as the argument of a template, spells the member's name.
// Boost.PFR has names too from 1.84 on; one way for all versions is less to test.

/// Room for an object that is never alive; its members have addresses all the same.
template <class T>
union unborn {
  constexpr unborn() noexcept : nothing() {}
  constexpr ~unborn() {}
  char nothing;
  T value;
};

// Only its address is ever used, so that hardly anything of it is left in the program. clang before 17 knows no
// constexpr of such a type; g++ would keep all that is constinit, and register its destructor.
#if defined(__clang__)
template <class T>
inline constinit unborn<T> unborn_object{};
#else
template <class T>
inline constexpr unborn<T> unborn_object{};
#endif

/// clang before 18 takes the address of a member as an argument of a template only inside of an object.
template <class Pointer>
struct address {
  Pointer pointer;
};

template <class T, std::size_t I>
consteval auto address_of_field() {
  const T& object = unborn_object<T>.value;
  const auto* pointer = std::addressof(detail::get_field<I, field_count<T>>(object));
  return address<decltype(pointer)>{pointer};
}

template <auto Address>
struct has_address {};

/// Neither a reference nor a bit-field has an address that is known to the compiler.
template <class T, std::size_t I>
concept addressable = requires {
  typename has_address<address_of_field<T, I>()>;
};

/// g++ spells `[with auto Address = ...::address<const int*>{(& ...::unborn_object<S>...::unborn<S>::value.S::name)}]`,
/// with a cast and its parentheses around it if a const was cast away; clang `[Address = address<const int
/// *>{&unborn_object.value.name}]`.
consteval std::string_view last_name(std::string_view text) {
  text = text.substr(0, text.rfind('}'));
  text = text.substr(0, text.find_last_not_of(')') + 1);
  return text.substr(text.find_last_of(".:") + 1);
}

/// A copy of the name, so that the program does not contain all that the compiler wrote around it.
template <auto Address>
consteval auto name_in() {
  constexpr std::string_view name = last_name(__PRETTY_FUNCTION__);
  std::array<char, name.size()> copy{};
  for (std::size_t i = 0; i != name.size(); ++i) copy[i] = name[i];
  return copy;
}

template <class T, std::size_t I>
inline constexpr auto field_name = name_in<address_of_field<T, I>()>();

struct known_field {
  int its_name;
};
static_assert(std::string_view(field_name<known_field, 0>.data(), field_name<known_field, 0>.size()) == "its_name",
              "this compiler spells the address of a member in a way that tandem/reflect.hpp does not know");

template <class T, std::size_t... I>
consteval auto names_of_fields(std::index_sequence<I...>) {
  constexpr bool named = (addressable<T, I> && ...);
  static_assert(named, "a field is a reference or a bit-field, which has no address that is known beforehand");
  if constexpr (named)
    return std::array<std::string_view, sizeof...(I)>{{{field_name<T, I>.data(), field_name<T, I>.size()}...}};
}

template <class T, class F, std::size_t... I>
void visit_fields([[maybe_unused]] const T& value, [[maybe_unused]] F& f, std::index_sequence<I...>) {
  (static_cast<void>(f(field_names<T>[I], detail::get_field<I, sizeof...(I)>(value))), ...);
}

// Text.

template <class Number>
void append_number(std::string& out, Number n, auto... how) {
  char text[64];
  out.append(text, std::to_chars(text, text + sizeof text, n, how...).ptr);
}

/// As std::format of C++23 quotes. Bytes beyond ASCII are left alone, so that UTF-8 stays what it is.
inline void append_quoted(std::string& out, std::string_view text, char quote) {
  out += quote;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == quote || c == '\\') {
      out += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += "\\u{";
      append_number(out, static_cast<int>(c), 16);
      out += '}';
    } else {
      out += c;
    }
  }
  out += quote;
}

/// n / 10^digits without zeros at its end.
inline void append_decimal(std::string& out, std::uint64_t n, int digits) {
  char fraction[20];
  for (int i = digits; i-- != 0; n /= 10) fraction[i] = static_cast<char>('0' + n % 10);
  while (digits != 0 && fraction[digits - 1] == '0') --digits;
  append_number(out, n);
  if (digits != 0) out.append(1, '.').append(fraction, static_cast<std::size_t>(digits));
}

inline void append_nanoseconds(std::string& out, std::int64_t count) {
  constexpr std::uint64_t us = 1'000, ms = 1'000'000, s = 1'000'000'000, min = 60 * s, h = 60 * min;
  auto n = static_cast<std::uint64_t>(count);
  if (count < 0) {
    out += '-';
    n = 0 - n;  // also of the least one, which has no counterpart
  }
  if (n >= min) {
    if (n >= h) {
      append_number(out, n / h);
      out += 'h';
      n %= h;
    }
    if (n >= min) {
      append_number(out, n / min);
      out += "min";
      n %= min;
    }
    if (n == 0) return;
    append_decimal(out, n, 9);
    out += 's';
  } else if (n >= s || n == 0) {
    append_decimal(out, n, 9);
    out += 's';
  } else if (n >= ms) {
    append_decimal(out, n, 6);
    out += "ms";
  } else if (n >= us) {
    append_decimal(out, n, 3);
    out += "us";
  } else {
    append_number(out, n);
    out += "ns";
  }
}

/// In nanoseconds if it is a whole number of them that fits; else in seconds, as a floating-point number.
template <class Rep, class Period>
void append_duration(std::string& out, std::chrono::duration<Rep, Period> d) {
  constexpr std::intmax_t second = 1'000'000'000;
  if constexpr (std::is_integral_v<Rep> && Period::num <= second && second % Period::den == 0) {
    constexpr std::int64_t tick = Period::num * (second / Period::den);
    using limits = std::numeric_limits<std::int64_t>;
    if (std::cmp_less_equal(d.count(), limits::max() / tick) && std::cmp_greater_equal(d.count(), limits::min() / tick))
      return append_nanoseconds(out, static_cast<std::int64_t>(d.count()) * tick);
  }
  append_number(out, std::chrono::duration<double>(d).count());
  out += 's';
}

template <class Duration>
void append_utc(std::string& out, std::chrono::sys_time<Duration> t) {
  const auto day = std::chrono::floor<std::chrono::days>(t);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(std::chrono::duration_cast<std::chrono::nanoseconds>(t - day));
  char text[64];
  std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()));
  out += text;
  if (time.seconds().count() < 10) out += '0';
  append_decimal(out, static_cast<std::uint64_t>((time.seconds() + time.subseconds()).count()), 9);
  out += 'Z';
}

template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;

template <class T>
inline constexpr bool is_duration = false;
template <class Rep, class Period>
inline constexpr bool is_duration<std::chrono::duration<Rep, Period>> = true;

template <class T>
inline constexpr bool is_time_point = false;
template <class Clock, class Duration>
inline constexpr bool is_time_point<std::chrono::time_point<Clock, Duration>> = true;

template <class T>
concept string_like = std::is_convertible_v<const T&, std::string_view>;

template <class T>
concept smart_pointer = requires(const T& p) {
  typename T::element_type;
  {static_cast<const void*>(p.get())};
};

template <class T>
concept tuple_like = requires {
  std::tuple_size<T>::value;
};

template <class T>
concept range = requires(const T& r) {
  std::begin(r) != std::end(r);
};

template <class T>
concept streamable = requires(std::ostream& out, const T& value) {
  out << value;
};

template <class T>
concept has_to_string = requires(const T& value) {
  { to_string(value) } -> std::convertible_to<std::string_view>;
};

/// An unscoped enumeration fits the operators for characters as well, if it is stored in one; here it finds these
/// first.
namespace characters {
void operator<<(std::ostream&, char);
void operator<<(std::ostream&, signed char);
void operator<<(std::ostream&, unsigned char);
template <class T>
concept have_no_operator_for = !requires(std::ostream & out, const T& value) {
  { operator<<(out, value) } -> std::convertible_to<std::ostream&>;
};
}  // namespace characters

template <class T>
concept plain_struct = std::is_class_v<T> && std::is_aggregate_v<T> && !string_like<T> && !range<T> && !tuple_like<T>;

template <class T>
void append(std::string& out, const T& value);

template <class T>
void append_streamed(std::string& out, const T& value) {
  std::ostringstream text;
  text.imbue(std::locale::classic());
  text << value;
  out += text.str();
}

template <class T>
void append_struct(std::string& out, const T& value) {
  const char* separator = "{";
  tandem::for_each_field(value, [&](std::string_view name, const auto& field) {
    out.append(std::exchange(separator, ", ")).append(name).append(" = ");
    detail::append(out, field);
  });
  out += *separator == '{' ? "{}" : "}";
}

template <class T>
void append_range(std::string& out, const T& value) {
  constexpr bool is_map = requires { typename T::mapped_type; };
  constexpr bool is_set = requires { typename T::key_type; };
  out += is_set ? '{' : '[';
  const char* separator = "";
  for (const auto& element : value) {
    out += std::exchange(separator, ", ");
    if constexpr (is_map) {
      const auto& [key, mapped] = element;
      detail::append(out, key);
      out += ": ";
      detail::append(out, mapped);
    } else {
      detail::append(out, element);
    }
  }
  out += is_set ? '}' : ']';
}

template <class T, std::size_t... I>
void append_tuple(std::string& out, const T& value, std::index_sequence<I...>) {
  using std::get;
  out += '(';
  ((out += I == 0 ? "" : ", ", detail::append(out, get<I>(value))), ...);
  out += ')';
}

template <class T>
void append_enumerator(std::string& out, const T& value) {
  if constexpr (has_to_string<T>)
    out += std::string_view(to_string(value));
  else if constexpr (characters::have_no_operator_for<T>)
    append_number(out, +static_cast<std::underlying_type_t<T>>(value));
  else
    detail::append_streamed(out, value);
}

template <class T>
void append(std::string& out, const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    out += value ? "true" : "false";
  } else if constexpr (std::is_same_v<T, char>) {
    append_quoted(out, std::string_view(&value, 1), '\'');
  } else if constexpr (std::is_arithmetic_v<T>) {
    append_number(out, +value);
  } else if constexpr (std::is_enum_v<T>) {
    detail::append_enumerator(out, value);
  } else if constexpr (std::is_null_pointer_v<T>) {
    out += "nullptr";
  } else if constexpr (std::is_pointer_v<T>) {
    if (!value) {
      out += "nullptr";
    } else if constexpr (string_like<T>) {
      append_quoted(out, value, '"');
    } else {
      out += "0x";
      append_number(out, reinterpret_cast<std::uintptr_t>(value), 16);
    }
  } else if constexpr (smart_pointer<T>) {
    detail::append(out, static_cast<const void*>(value.get()));
  } else if constexpr (string_like<T>) {
    const std::string_view text = value;
    append_quoted(out, text, '"');
  } else if constexpr (is_duration<T>) {
    append_duration(out, value);
  } else if constexpr (is_time_point<T>) {
    if constexpr (std::is_same_v<typename T::clock, std::chrono::system_clock>)
      append_utc(out, value);
    else
      append_duration(out, value.time_since_epoch());
  } else if constexpr (is_optional<T>) {
    if (value)
      detail::append(out, *value);
    else
      out += "nullopt";
  } else if constexpr (std::is_array_v<T>) {  // which, being a pointer too, streams as its address
    detail::append_range(out, value);
  } else if constexpr (streamable<T>) {
    detail::append_streamed(out, value);
  } else if constexpr (range<T>) {  // after: a path is a range of paths
    detail::append_range(out, value);
  } else if constexpr (tuple_like<T>) {
    detail::append_tuple(out, value, std::make_index_sequence<std::tuple_size_v<T>>());
  } else if constexpr (plain_struct<T>) {
    detail::append_struct(out, value);
  } else {
    static_assert(!std::is_same_v<T, T>,
                  "this type has no text: give it an operator<<, or make it a plain struct (an aggregate)");
  }
}

// Keys.

template <class T>
concept hashable = requires(const T& value) {
  { std::hash<T>()(value) } -> std::convertible_to<std::size_t>;
};
template <class T>
concept in_no_order = requires { typename T::hasher; };

inline void mix_in(std::size_t& hash, std::size_t part) noexcept {
  const std::uint64_t x = (std::uint64_t(hash) ^ part) * 0x9e3779b97f4a7c15u;
  hash = static_cast<std::size_t>(x ^ (x >> 32));
}
template <class T>
void hash_into(std::size_t& hash, const T& value) {
  if constexpr (is_duration<T>) {
    detail::hash_into(hash, value.count());
  } else if constexpr (is_time_point<T>) {
    detail::hash_into(hash, value.time_since_epoch());
  } else if constexpr (is_optional<T>) {
    mix_in(hash, value.has_value());
    if (value) detail::hash_into(hash, *value);
  } else if constexpr (hashable<T>) {
    mix_in(hash, std::hash<T>()(value));
  } else if constexpr (range<T> && !in_no_order<T>) {
    std::size_t n = 0;
    for (const auto& element : value) {
      detail::hash_into(hash, element);
      ++n;
    }
    mix_in(hash, n);
  } else if constexpr (tuple_like<T>) {
    std::apply([&](const auto&... elements) { (detail::hash_into(hash, elements), ...); }, value);
  } else if constexpr (plain_struct<T>) {
    tandem::for_each_field(value, [&](std::string_view, const auto& field) { detail::hash_into(hash, field); });
  } else {
    static_assert(!std::is_same_v<T, T>,
                  "this type cannot be hashed: give it a std::hash, or make it a plain struct (an aggregate) of fields "
                  "that have one");
  }
}

template <class T>
bool same(const T& a, const T& b);
template <class T, std::size_t... I>
bool same_elements(const T& a, const T& b, std::index_sequence<I...>) {
  return (detail::same(std::get<I>(a), std::get<I>(b)) && ...);
}
template <class T, std::size_t... I>
bool same_fields(const T& a, const T& b, std::index_sequence<I...>) {
  return (detail::same(detail::get_field<I, sizeof...(I)>(a), detail::get_field<I, sizeof...(I)>(b)) && ...);
}
template <class T>
bool same(const T& a, const T& b) {
  if constexpr (hashable<T>)
    return a == b;
  else if constexpr (is_optional<T>)
    return a.has_value() == b.has_value() && (!a || detail::same(*a, *b));
  else if constexpr (range<T> && !in_no_order<T>)
    return std::equal(std::begin(a), std::end(a), std::begin(b), std::end(b),
                      [](const auto& x, const auto& y) { return detail::same(x, y); });
  else if constexpr (tuple_like<T>)
    return detail::same_elements(a, b, std::make_index_sequence<std::tuple_size_v<T>>());
  else if constexpr (plain_struct<T>)
    return detail::same_fields(a, b, std::make_index_sequence<detail::field_count<T>>());
  else
    return a == b;
}

}  // namespace detail

template <class T>
std::size_t reflected_hash::operator()(const T& value) const {
  std::size_t hash = 0;
  detail::hash_into(hash, value);
  return hash;
}
template <class T>
bool reflected_equal::operator()(const T& a, const T& b) const {
  return detail::same(a, b);
}

template <class T, class F>
void for_each_field(const T& value, F&& f) {
  detail::visit_fields(value, f, std::make_index_sequence<detail::field_count<T>>());
}

template <class T>
std::string describe(const T& value) {
  std::string out;
  if constexpr (detail::plain_struct<T>)
    detail::append_struct(out, value);
  else
    detail::append(out, value);
  return out;
}

}  // namespace tandem::inline TANDEM_CONFIG
