// The check of exercise 10: clerks who think, and answer in the order in which they were asked.
#include "../checking.hpp"

using namespace checking;

std::vector<std::string> asked;

task<std::string> clerk::ask(std::string what, clock::duration takes) {
  goes_on();
  asked.push_back(what);
  answers_.push_back("the answer to " + what);
  co_await sleep_for(takes);
  std::string answer = std::move(answers_.front());
  answers_.pop_front();
  co_return answer;
}

task<clerk> hire() { co_return clerk(); }

task<> office(duration first_takes, duration expected_end, std::uint64_t hired, std::uint64_t sent_home) {
  asked.clear();
  resource_pool<clerk> clerks({.max = 1, .create = hire});
  const std::string answer = co_await at_the_counter(clerks, first_takes);
  const std::string who = sentence("if the first answer takes ", first_takes);
  const duration end = checking::now();
  expect(asked == std::vector<std::string>{"A", "B"}, who, ", these were asked: ", list(asked), "; it should be A, B");
  expect(answer == "the answer to B", who, ", the second question gets \"", answer,
         "\"; it should be \"the answer to B\"");
  expect(end == expected_end, who, ", it took ", end, ", not ", expected_end);
  const auto stats = clerks.stats();
  expect(stats.created == hired, who, ", ", count(stats.created, "clerk"), " hired, not ", hired);
  expect(stats.discarded == sent_home, who, ", ", count(stats.discarded, "clerk"), " sent home, not ", sent_home,
         stats.discarded > sent_home ? ": one who owes nothing may stay" : "");
  expect(stats.lent == 0, who, ", a lease has not ended");
}

int main() {
  return verdict("each question gets its own answer, and only the clerk who owes one is sent home", [] {
    run("with a slow clerk, at_the_counter", office(5s, 2s, 2, 1));
    run("with a quick clerk, at_the_counter", office(500ms, 1500ms, 1, 0));
  });
}
