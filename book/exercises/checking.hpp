// What the checks of the exercises have in common. The fakes of a check note what they see; a check compares that with
// what should be, and says in sentences what is different. It ends with 0 and "correct: ...", or with 1 and a line that
// begins with "not yet: " for each thing that is wrong, also if the answer throws, waits for ever, or never stops.
#pragma once

#include <tandem/run.hpp>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include <sys/time.h>  // setitimer
#include <unistd.h>    // alarm

namespace checking {

using duration = tandem::clock::duration;

// --- words -----------------------------------------------------------------------------------------------------------

template <class Rep, class Period>
std::string word(std::chrono::duration<Rep, Period> d) {
  using namespace std::chrono_literals;
  if (d % 24h == 0h && d > 24h) return std::to_string(d / 24h) + " days";
  if (d % 1min == 0min && d != 0min) return std::to_string(d / 1min) + " min";
  if (d % 1s == 0s && d != 0s) return std::to_string(d / 1s) + " s";
  return std::to_string(d / 1ms) + " ms";
}
inline const std::string& word(const std::string& s) { return s; }
inline const char* word(const char* s) { return s; }
inline std::string word(bool b) { return b ? "true" : "false"; }
template <class Number>
std::string word(Number n) {
  return (std::ostringstream() << n).str();
}

template <class... Parts>
std::string sentence(const Parts&... parts) {
  std::string all;
  ((all += word(parts)), ...);
  return all;
}

template <class Item>
std::string list(const std::vector<Item>& items) {
  std::string text;
  for (const Item& item : items) text += (text.empty() ? "" : ", ") + sentence(item);
  return text.empty() ? "never" : text;
}

/// "1 page", "2 pages"
inline std::string count(std::size_t n, const char* noun) { return sentence(n, " ", noun, n == 1 ? "" : "s"); }

// --- what is wrong ---------------------------------------------------------------------------------------------------

inline std::vector<std::string>& problems() {
  static std::vector<std::string> all;
  return all;
}

template <class... Parts>
void wrong(const Parts&... parts) {
  std::string s = sentence(parts...);
  for (const std::string& known : problems())
    if (known == s) return;
  problems().push_back(std::move(s));
}

template <class... Parts>
bool expect(bool holds, const Parts&... parts) {
  if (!holds) wrong(parts...);
  return holds;
}

inline int tell_what_is_wrong() {
  for (const std::string& p : problems()) std::cout << "not yet: " << p << '\n';
  std::cout << std::flush;
  return 1;
}

/// Where there is no going on.
template <class... Parts>
[[noreturn]] void give_up(const Parts&... parts) {
  wrong(parts...);
  std::_Exit(tell_what_is_wrong());
}

// --- running ---------------------------------------------------------------------------------------------------------

/// What the time is, from the beginning of the simulation.
inline duration now() { return tandem::clock::now().time_since_epoch(); }

/// For each call of a fake, so that an answer which goes on for ever comes to an end.
inline void goes_on(duration limit = std::chrono::hours(24 * 365)) {
  static int calls = 0;
  if (++calls == 100'000) give_up("there is no end to it: something is done again and again");
  if (now() > limit) give_up("after ", limit, " it has still not ended");
}

/// Runs `t` on virtual time. False if it failed or can never end, which is wrong; `what` is its name.
#if defined(CHECKING_COMPILED_ONCE) && !defined(CHECKING_COMPILED_HERE)  // by the tests: see checking.cpp
bool run(const std::string& what, tandem::task<> t, std::uint64_t seed = 0);
#else
#ifndef CHECKING_COMPILED_ONCE
inline
#endif
    bool
    run(const std::string& what, tandem::task<> t, std::uint64_t seed = 0) {
  try {
    tandem::simulate(std::move(t), {.seed = seed});
    return true;
  } catch (const tandem::deadlock& e) {
    const std::string tree = e.what();
    wrong(what, " waits for ever. Nothing is ready, and nobody is left to wake it:", tree.substr(tree.find('\n')));
  } catch (const std::exception& e) {
    wrong(what, " ended with an exception: ", e.what());
  } catch (...) {
    wrong(what, " ended with an exception");
  }
  return false;
}
#endif

/// All of a check: `body` looks at everything, and then this says what came of it. Gives what `main` returns.
template <class Body>
int verdict(const char* correct, Body body) {
  std::set_terminate([] {
    try {
      if (std::exception_ptr e = std::current_exception()) std::rethrow_exception(e);
    } catch (const std::exception& e) {
      give_up("an exception came where none may: ", e.what());
    } catch (...) {
    }
    give_up("std::terminate was called");
  });
  std::signal(SIGPROF, [](int) {
    give_up("it still calculates after 10 seconds: some loop never ends, or goes round far too often");
  });
  std::signal(SIGALRM, [](int) { give_up("it waits for ever, for something outside of the program"); });
  const itimerval ten_seconds{{}, {10, 0}};
  setitimer(ITIMER_PROF, &ten_seconds, nullptr);  // of the processor's time: a busy machine does not count
  alarm(60);
  body();
  if (!problems().empty()) return tell_what_is_wrong();
  std::cout << "correct: " << correct << '\n';
  return 0;
}

}  // namespace checking
