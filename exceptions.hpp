// tandem/exceptions.hpp: what can be thrown at you: cancelled, timed_out, interrupted, deadlock, unavailable,
// exception_group.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/exceptions.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// A task was stopped, seen from outside: what the completion handler of a `spawn` or the `outcome` of a child gets. A
/// coroutine never sees its own cancellation as an exception: a stopped coroutine is not resumed, its destructors run.
/// Carries `asio::error::operation_aborted`.
class cancelled : public system_error {
 public:
  cancelled() : system_error(error_code(asio::error::operation_aborted), "tandem::cancelled") {}
  explicit cancelled(const std::string& reason)
      : system_error(error_code(asio::error::operation_aborted), "tandem::cancelled: " + reason) {}
};

/// Thrown by `timeout` and `deadline` when the time is up. Carries `asio::error::timed_out`. `what()` says which time
/// limit it was, and where the innermost coroutine under it was suspended.
class timed_out : public system_error {
 public:
  timed_out() : system_error(error_code(asio::error::timed_out), "tandem::timed_out") {}
  timed_out(std::source_location where, const std::string& text)
      : system_error(error_code(asio::error::timed_out), text), where_(where) {}

  /// The co_await of the time limit that was over: of several, one inside the other, this tells which.
  const std::source_location& where() const noexcept { return where_; }

 private:
  std::source_location where_;
};

/// Thrown by `run(task)` after SIGINT or SIGTERM, when the task was stopped and had cleaned up.
class interrupted : public std::exception {
 public:
  explicit interrupted(int signal) noexcept : signal_(signal) {}

  /// The signal's number, as in <csignal>.
  int signal() const noexcept { return signal_; }
  const char* what() const noexcept override { return "tandem::interrupted: stopped by a signal"; }

 private:
  int signal_;
};

/// Thrown by `run` and `simulate` when the root still waits and nothing is ready, timed or in flight. `what()` is the
/// await tree at that moment: who waits for what, since when, at which line.
class deadlock : public std::runtime_error {
 public:
  explicit deadlock(const std::string& await_tree) : std::runtime_error(await_tree) {}
};

/// A service was not called, since it could not have taken the call: what `overloaded` and `circuit_open` derive from.
class unavailable : public std::runtime_error {
 public:
  unavailable(const std::string& text, clock::duration retry_after)
      : std::runtime_error(text), retry_after_(retry_after) {}
  /// It makes sense to come back after so long.
  clock::duration retry_after() const noexcept { return retry_after_; }

 private:
  clock::duration retry_after_;
};

/// Several failures that happened in one scope: the first one and those that came up while the rest was being stopped.
/// A single failure is never wrapped. Copies share the list.
class exception_group : public std::exception {
 public:
  /// The failures in the order in which they happened; one that is in `failures` twice counts once.
  explicit exception_group(std::vector<std::exception_ptr> failures);

  const std::vector<std::exception_ptr>& exceptions() const noexcept { return content_->failures; }
  const char* what() const noexcept override { return content_->text.c_str(); }

 private:
  struct content {
    std::vector<std::exception_ptr> failures;
    std::string text;

    void add(const std::exception_ptr& failure);
  };
  std::shared_ptr<content> content_;  // an exception must be copied without throwing
};

// ---- implementation ------------------------------------------------------------------------------------------------

inline exception_group::exception_group(std::vector<std::exception_ptr> failures) : content_(new content) {
  for (const auto& e : failures) content_->add(e);
  char head[64];
  std::snprintf(head, sizeof head, "tandem::exception_group: %zu failures", content_->failures.size());
  content_->text = head;
  const char* separator = ": ";
  for (const auto& e : content_->failures) {
    content_->text += separator;
    separator = "; ";
    try {
      std::rethrow_exception(e);
    } catch (const std::exception& x) {
      constexpr std::size_t most = 500;  // groups may hold groups
      const std::size_t length = std::strlen(x.what());
      content_->text.append(x.what(), length < most ? length : most);
      if (length > most) content_->text += "...";
    } catch (...) {
      content_->text += "an exception of unknown type";
    }
  }
}

inline void exception_group::content::add(const std::exception_ptr& failure) {
  if (!failure) return;
  for (const auto& known : failures)
    if (known == failure) return;
  failures.push_back(failure);
}

namespace detail {

/// `cancelled`, or std::bad_alloc if there is no memory for its text.
inline std::exception_ptr make_cancelled() noexcept {
  try {
    return std::make_exception_ptr(cancelled());
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace detail

}  // namespace tandem::inline TANDEM_CONFIG
