// tandem/asio.hpp: which Asio tandem stands on, and the few names that differ between its versions.
// Version 0.1.0. Needs C++20 and standalone Asio 1.22.1 or later (Debian: libasio-dev).
// needs: nothing of ours
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <asio/version.hpp>

#if ASIO_VERSION < 102201
#error "tandem needs Asio 1.22.1 or later"
#endif

// Asio before 1.26 does not notice that clang with libstdc++ has coroutines; it must be told before its first header.
#if defined(__clang__) && ASIO_VERSION < 102600
#if !defined(ASIO_HAS_CO_AWAIT)
#define ASIO_HAS_CO_AWAIT 1
#endif
#if !defined(ASIO_HAS_STD_COROUTINE)
#define ASIO_HAS_STD_COROUTINE 1
#endif
#endif

#include <asio/any_io_executor.hpp>
#include <asio/error.hpp>
#include <asio/error_code.hpp>
#include <asio/io_context.hpp>
#include <asio/system_error.hpp>

// A free list of frames would hide a use of a dead frame from the sanitizers, so there the heap serves every frame.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TANDEM_PLAIN_FRAMES 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define TANDEM_PLAIN_FRAMES 1
#endif
#endif

// Everything that depends on how tandem was configured lives in an inline namespace of that name, so that two
// configurations in one program are two sets of symbols and never one broken one. Users never spell it.
#if defined(TANDEM_PLAIN_FRAMES)
#define TANDEM_CONFIG on_asio_with_plain_frames
#else
#define TANDEM_CONFIG on_asio
#endif

namespace tandem::inline TANDEM_CONFIG {

/// The Asio in use. `tandem::asio` and `::asio` are the same namespace.
namespace asio = ::asio;

using error_code = asio::error_code;
using system_error = asio::system_error;

}  // namespace tandem::inline TANDEM_CONFIG
