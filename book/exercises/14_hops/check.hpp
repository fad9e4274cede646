// The check of exercise 14: a database that knows on which thread it is asked, and for whom.
#include "../checking.hpp"

#include <mutex>
#include <set>
#include <thread>

using namespace checking;

std::atomic<std::thread::id> loops_thread;
std::atomic<int> on_the_loop, calls;
int wrong_names;  // so many of the users have another name
std::mutex guard;
std::set<int> users;

std::string database::name_of(int user) {
  if (std::this_thread::get_id() == loops_thread) ++on_the_loop;
  if (++calls > 100'000) give_up("there is no end to it: the database is asked again and again");
  const std::scoped_lock lock(guard);
  users.insert(user);
  return user <= wrong_names ? "somebody else" : "user " + std::to_string(user);
}

task<> count(int wrong_ones) {
  loops_thread = std::this_thread::get_id();
  hops = on_the_loop = calls = 0;
  users.clear();
  wrong_names = wrong_ones;
  database db;
  const int right = co_await count_right_names(db);
  expect(users.size() == 1000 && *users.begin() == 1 && *users.rbegin() == 1000, users.size(),
         " different users were asked for; it should be those from 1 to 1000");
  expect(calls == 1000, "the database was asked ", calls.load(), " times, not 1000");
  expect(on_the_loop == 0, on_the_loop.load(),
         " of the questions were asked on the loop's own thread, where everybody else waits meanwhile");
  expect(hops == 1, "there were ", hops.load(), " hops to a thread and back; one is enough for all");
  expect(right == 1000 - wrong_ones, right, " names are said to be right; ", 1000 - wrong_ones, " are");
}

int main() {
  return verdict("1,000 questions in one hop, none of them on the loop's thread", [] {
    run("count_right_names", count(0));
    if (problems().empty()) run("count_right_names", count(3));
  });
}
