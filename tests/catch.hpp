// Catch2, whichever version the machine has: 3, or the single header of 2.13.
#pragma once

#if defined(__clang__)
#if __has_warning("-Wc2y-extensions")
#pragma clang diagnostic ignored "-Wc2y-extensions"  // __COUNTER__ in the macros of Catch2, from clang 22 on
#endif
#endif

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
#else
#include <catch2/catch.hpp>
#endif

/// For CHECK_THROWS_WITH: a message with this text somewhere in it.
inline auto containing(const std::string& text) {
#if CATCH_VERSION_MAJOR >= 3
  return Catch::Matchers::ContainsSubstring(text);
#else
  return Catch::Contains(text);
#endif
}

// Tests say `asio` whichever Asio tandem stands on.
#if defined(TANDEM_BOOST_ASIO)
namespace boost::asio {}
namespace asio = boost::asio;
#endif
