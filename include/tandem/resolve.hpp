// tandem/resolve.hpp: name resolution that can be abandoned.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, task.hpp, threads.hpp, use_task.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "threads.hpp"

#include TANDEM_ASIO_HEADER(ip/resolver_base.hpp)
#include TANDEM_ASIO_HEADER(ip/tcp.hpp)

#include <stdexcept>
#include <string>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/resolve.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// `auto where = co_await resolve("example.org", "https")`: looks up a name and gives Asio's `results_type`, for
/// `asio::async_connect`.
///
/// The system's look-up blocks and cannot be interrupted, for half a minute if no server answers. Here it runs on a
/// thread of `to_thread` and is left behind by a stop, so that `timeout(2s, resolve(...))` takes two seconds; an
/// operation of Asio's resolver would end when the look-up does. Look-ups that hang occupy threads of the pool
/// meanwhile. Throws system_error as the resolver does, and std::invalid_argument if a name has a null character in it.
/// `resolve<asio::ip::udp>` for another protocol.
template <class Protocol = asio::ip::tcp>
auto resolve(std::string host, std::string service,
             asio::ip::resolver_base::flags flags = asio::ip::resolver_base::flags());

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

template <class Protocol>
typename Protocol::resolver::results_type resolve_now(const std::string& host, const std::string& service,
                                                      asio::ip::resolver_base::flags flags) {
  asio::io_context context(1);
  return typename Protocol::resolver(context).resolve(host, service, flags);
}

inline void refuse_null_character(const std::string& name, const char* which) {
  if (name.find('\0') == std::string::npos) return;
  std::string text = std::string("tandem::resolve: the ") + which + " is '";
  for (const char c : name) c == '\0' ? text += "\\0" : text += c;  // the text of an exception ends with such a one
  throw std::invalid_argument(text + "'; it must not have a null character");
}

}  // namespace detail

template <class Protocol>
auto resolve(std::string host, std::string service, asio::ip::resolver_base::flags flags) {
  detail::refuse_null_character(host, "host");
  detail::refuse_null_character(service, "service");
  return to_thread(abandon_on_cancel, detail::resolve_now<Protocol>, std::move(host), std::move(service), flags);
}

}  // namespace tandem::inline TANDEM_CONFIG
