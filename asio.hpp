// tandem/asio.hpp: which Asio tandem stands on, and the few names that differ between its versions.
// Version 0.1.0. Needs C++20 and standalone Asio 1.22.1 or later (Debian: libasio-dev), or Boost.Asio 1.81 or later.
// needs: nothing of ours
// SPDX-License-Identifier: BSL-1.0
#pragma once

// Comes again only from another directory.
#if defined(TANDEM_VERSION)
#error "two copies of tandem in one translation unit"
#endif
#define TANDEM_VERSION 100  // 0.1.0: major * 10000 + minor * 100 + patch

// TANDEM_BOOST_ASIO, defined for a whole translation unit, puts tandem on Boost.Asio instead of the standalone Asio.
// TANDEM_ASIO_HEADER(post.hpp) is <asio/post.hpp> or <boost/asio/post.hpp>.
#if defined(TANDEM_BOOST_ASIO)

#include <boost/asio/version.hpp>
#define TANDEM_ASIO_HEADER(name) <boost/asio/name>
#define TANDEM_ASIO_VERSION BOOST_ASIO_VERSION
#if TANDEM_ASIO_VERSION < 102600
#error "tandem needs Boost 1.81 or later"
#endif

#else

#include <asio/version.hpp>
#define TANDEM_ASIO_HEADER(name) <asio/name>
#define TANDEM_ASIO_VERSION ASIO_VERSION
#if TANDEM_ASIO_VERSION < 102201
#error "tandem needs Asio 1.22.1 or later"
#endif
// Asio before 1.26 does not notice that clang with libstdc++ has coroutines; it must be told before its first header.
#if defined(__clang__) && TANDEM_ASIO_VERSION < 102600
#if !defined(ASIO_HAS_CO_AWAIT)
#define ASIO_HAS_CO_AWAIT 1
#endif
#if !defined(ASIO_HAS_STD_COROUTINE)
#define ASIO_HAS_STD_COROUTINE 1
#endif
#endif

#endif

#include TANDEM_ASIO_HEADER(any_io_executor.hpp)
#include TANDEM_ASIO_HEADER(error.hpp)
#include TANDEM_ASIO_HEADER(io_context.hpp)
#if defined(TANDEM_BOOST_ASIO)
#include <boost/system/error_code.hpp>
#include <boost/system/system_error.hpp>
#else
#include <asio/error_code.hpp>
#include <asio/system_error.hpp>
#endif

// A free list of frames would hide a use of a dead frame from the sanitizers, so there the heap serves every frame.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TANDEM_PLAIN_FRAMES 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define TANDEM_PLAIN_FRAMES 1
#endif
#endif

// What is only kept for reports (who holds which permit) costs time, so it is there where assert() is.
#if !defined(NDEBUG)
#define TANDEM_DEBUG 1
#endif

// Everything that depends on how tandem was configured lives in an inline namespace of that name and version, so that
// two configurations in one program are two sets of symbols and never one broken one. Users never spell it.
#if defined(TANDEM_BOOST_ASIO)
#define TANDEM_CONFIG_ASIO on_boost_asio
#else
#define TANDEM_CONFIG_ASIO on_asio
#endif
#if defined(TANDEM_PLAIN_FRAMES)
#define TANDEM_CONFIG_FRAMES _with_plain_frames
#else
#define TANDEM_CONFIG_FRAMES
#endif
#if defined(TANDEM_DEBUG)
#define TANDEM_CONFIG_DEBUG _in_debug
#else
#define TANDEM_CONFIG_DEBUG
#endif
#define TANDEM_PASTE(a, b, c, d) a##b##c##_v##d
#define TANDEM_PASTE_EXPANDED(a, b, c, d) TANDEM_PASTE(a, b, c, d)
#define TANDEM_CONFIG \
  TANDEM_PASTE_EXPANDED(TANDEM_CONFIG_ASIO, TANDEM_CONFIG_FRAMES, TANDEM_CONFIG_DEBUG, TANDEM_VERSION)

namespace tandem::inline TANDEM_CONFIG {

#if defined(TANDEM_BOOST_ASIO)
namespace asio = ::boost::asio;
using error_code = ::boost::system::error_code;
using system_error = ::boost::system::system_error;
#else
/// The Asio in use: `::asio` or `::boost::asio`.
namespace asio = ::asio;
using error_code = asio::error_code;
using system_error = asio::system_error;
#endif

}  // namespace tandem::inline TANDEM_CONFIG
