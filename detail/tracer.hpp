// tandem/detail/tracer.hpp: who is told what the coroutines of a loop do.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "frame.hpp"

static_assert(TANDEM_VERSION == 100, "tandem/detail/tracer.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// Is told what the coroutines of a loop do. `frame::where` and `frame::waits_for` say more.
class tracer {
 public:
  /// It starts, or goes on; `waits_for` still says with what it has waited for.
  virtual void resumes(loop&, frame&, bool starts) noexcept = 0;
  virtual void suspends(loop&, frame&) noexcept = 0;
  /// It ran to its end, or was stopped; soon it is destroyed.
  virtual void ends(loop&, frame&, fate) noexcept = 0;
  /// A task is destroyed that nobody has awaited, though nothing has failed or was stopped. `loop` is null outside one.
  virtual void was_never_awaited(loop*, frame&) noexcept = 0;

  /// The one of the loops that are made on this thread from now on, or null. Not inlined: see clock.hpp.
  [[gnu::noinline]] static tracer*& of_this_thread() noexcept {
    static constinit thread_local tracer* t = nullptr;
    return t;
  }

 protected:
  ~tracer() = default;
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
