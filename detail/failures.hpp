// tandem/detail/failures.hpp: the failures of one scope, and what is thrown for them.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"
#include "../exceptions.hpp"

#include <exception>
#include <new>
#include <utility>
#include <vector>

static_assert(TANDEM_VERSION == 100, "tandem/detail/failures.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// The failures of one scope, in the order in which they happened.
class failures {
 public:
  void add(std::exception_ptr e) noexcept {
    if (!first_) {
      first_ = std::move(e);
      return;
    }
    try {
      more_.push_back(e);
    } catch (...) {  // no memory to note it; the first failure is what the caller gets
    }
  }
  bool any() const noexcept { return first_ != nullptr; }
  /// One failure as it is, several as an exception_group.
  [[noreturn]] void rethrow() const {
    if (!more_.empty()) throw_group();
    std::rethrow_exception(first_);
  }
  /// What `rethrow` would throw if `first`, unless that is null, had come before all of these.
  [[gnu::cold, gnu::noinline]] std::exception_ptr together_with(std::exception_ptr first) const noexcept {
    failures all;
    if (first) all.add(std::move(first));
    all.add(first_);
    for (const auto& e : more_) all.add(e);
    try {
      all.rethrow();
    } catch (...) {
      return std::current_exception();
    }
  }

 private:
  /// Returns if all are the same one, or if there is no memory: then, too, the first failure is what the caller gets.
  void throw_group() const {
    try {
      std::vector<std::exception_ptr> every;
      every.push_back(first_);
      for (const auto& e : more_) every.push_back(e);
      const exception_group group(std::move(every));
      if (group.exceptions().size() > 1) throw group;
    } catch (const std::bad_alloc&) {
    }
  }

  std::exception_ptr first_;
  std::vector<std::exception_ptr> more_;
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
