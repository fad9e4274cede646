// Runs a scenario of a few threads under every schedule that makes a difference, and says what goes wrong in one.
//
// The code under test is the library as it is, compiled with -fsanitize=thread and linked with explorer.cpp in place of
// the compiler's run-time library: so every atomic operation, every plain access, and every lock of it is seen here.
// Threads are fibres of one thread; each atomic operation, lock, wait or hand-over to an executor is a point where
// another may go on. docs/design/threads.md says what is explored and what is not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace explorer {

/// What is done to one kind of operations on one object, to prove that the scenario notices.
enum class mutation : unsigned char {
  relaxed,  // its memory order
  lost,     // it is not done; reads and exchanges give what is there
  torn,     // an exchange, an addition: a load and a store
  late,     // it is done some operations later
};
enum class operation : unsigned char { load, store, exchange, add, compare, lock, any };

struct result {
  bool failed = false;
  bool complete = false;  // nothing is left to explore
  unsigned long schedules = 0, cut_short = 0;
  std::map<std::uint64_t, unsigned long> outcomes;  // see `count`
  std::size_t threads = 0, operations = 0;          // the most of one schedule
  std::string failure;
};
struct limits {
  unsigned long schedules;
  /// How often a thread that could go on may be interrupted; negative: no bound, and what leads to the same is left
  /// out.
  int preemptions = -1;
  bool explains = true;  // in which lines and after which steps it fails, which takes a while to find out
};

/// Runs `scenario` again and again, until it fails or nothing is left.
result explore(void (*scenario)(int mutant), int mutant, limits);

// ---- for scenarios

/// Starts a thread.
class thread {
 public:
  explicit thread(std::function<void()> body);
  thread(const thread&) = delete;
  thread& operator=(const thread&) = delete;
  ~thread() { join(); }
  void join();

 private:
  int index_;
  bool is_joined_ = false;
};
/// Until no other thread can go on.
void wait_until_quiet();
/// One of 0 ... n-1: all are explored.
int choose(int n);
/// This schedule came out so.
void count(std::uint64_t outcome);
void expect(bool truth, const char* what);
/// Names an object in the report of a failure.
void name(const void* object, const char* as);
/// Of that thread only, if one is given; `steps`: of what is late.
void mutate(const void* object, operation, mutation, int thread = -1, int steps = 1);
/// Nobody uses what an addition to this returns, so that their order makes no difference.
void additions_commute(const void* object);
/// What is done to this atomic variable is of no interest: a counter for tests.
void disregard(const void* object);
/// The number of this thread, from 0.
int current_thread();

/// What an executor is made of: first in, first out; the next one is not taken before the last one is `done`.
class serial_queue {
 public:
  serial_queue() = default;
  serial_queue(const serial_queue&) = delete;
  serial_queue& operator=(const serial_queue&) = delete;
  ~serial_queue() { clear(); }
  void post(std::function<void()>);
  /// Waits for one and calls it. False: it was closed.
  bool run_one();
  void close();
  /// Those that are left are destroyed uncalled.
  void clear();
  bool runs_here() const;

 private:
  struct entry;
  entry* first_ = nullptr;
  entry* last_ = nullptr;
  bool is_closed_ = false, is_ready_ = false;
  int runs_on_ = -1;
};

}  // namespace explorer
