// tests/kit/child_process.hpp: what ends a process is tried in a process of its own.
#pragma once

#include "../catch.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <exception>
#include <type_traits>

namespace kit {

/// `in_child` gives this if std::terminate was called.
constexpr int terminated = 90;

/// Runs `f` in a child process and gives what it returned (0 for void), `terminated`, or a signal as a negative number.
/// A child that hangs is ended by SIGALRM. It has this thread only, so threads that `f` needs must not be there yet.
template <class F>
int in_child(F f) {
  const pid_t pid = fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    alarm(60);
    std::set_terminate([] { _exit(terminated); });
    if constexpr (std::is_void_v<std::invoke_result_t<F&>>) {
      f();
      _exit(0);
    } else {
      _exit(f());
    }
  }
  int status = 0;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace kit
