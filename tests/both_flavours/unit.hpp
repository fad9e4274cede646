// tests/both_flavours/unit.hpp: what a translation unit on one flavour of tandem can do, said without a type of tandem
// or of an Asio, so that units on both can be compared.
#pragma once

#include <string>

struct unit {
  /// Two tasks gathered on virtual time, and when they were done.
  std::string (*gathers)();
  /// The real loop: a handler and a task, both posted to it.
  std::string (*posts)();
  /// What it catches as tandem::timed_out and as tandem::cancelled when its own tasks end so.
  std::string (*catches)();
  /// Throws its tandem::cancelled.
  void (*throws)();
  /// Whether what `f` throws is its tandem::cancelled.
  bool (*is_own)(void (*f)());
  /// Calls `f` inside a task; what `f` gave, and which time it is for the task afterwards.
  std::string (*around)(std::string (*f)());
};

extern const unit on_asio, on_boost;
