// The check of exercise 03: providers that note when they are asked, and when they are no longer.
#include "../checking.hpp"

#include <map>

using namespace checking;

struct question {
  std::string name;
  duration asked, ended{};
  bool answered = false;
};
std::map<std::string, question> questions;

struct asking {  // ends in whatever way
  explicit asking(const char* name) : q(questions[name]) {
    goes_on();
    expect(q.name.empty(), "the ", name, " was asked twice");
    q = {name, checking::now()};
  }
  ~asking() { q.ended = checking::now(); }
  asking(const asking&) = delete;
  question& q;
};

task<int> ask(provider p) {
  const asking a(p.name);
  co_await sleep_for(p.thinking_time);
  a.q.answered = true;
  if (p.euros == 0) throw std::runtime_error(std::string("the ") + p.name + " is sold out");
  co_return p.euros;
}

std::string price(const std::optional<int>& euros) { return euros ? sentence(*euros, " euros") : "nothing"; }

task<> travel(std::chrono::milliseconds patience, std::optional<int> expected, std::chrono::milliseconds expected_end,
              duration& end) {
  const auto best = co_await cheapest(patience);
  end = checking::now();
  const std::string who = sentence("with a patience of ", patience);
  expect(best == expected, who, " one gets ", price(best), "; it should be ", price(expected),
         !best && expected ? ", which had come by then" : "");
  expect(end == expected_end, who, " it took ", end, ", not ", duration(expected_end));
}

void check(std::chrono::milliseconds patience, std::optional<int> expected, std::chrono::milliseconds expected_end) {
  if (!problems().empty()) return;  // one at a time
  questions.clear();
  duration end{};
  const std::string who = sentence("with a patience of ", patience);
  if (!run(who + ", cheapest", travel(patience, expected, expected_end, end))) return;
  for (const provider& p : providers) {
    if (!expect(questions.contains(p.name), who, " the ", p.name, " was not asked")) continue;
    const question& q = questions[p.name];
    expect(q.asked == 0ms, who, " the ", p.name, " was asked after ", q.asked, "; ask all of them at once");
    expect(q.answered || q.ended == patience, who, " the ", p.name, " was still asked after ", q.ended,
           ", when nobody wanted to know any more");
  }
}

int main() {
  return verdict("the lowest price that came in time, and nobody is asked for longer than that", [] {
    check(40ms, std::nullopt, 40ms);
    check(60ms, std::nullopt, 60ms);  // the bus is sold out
    check(150ms, 140, 150ms);
    check(250ms, 89, 250ms);
    check(1s, 89, 300ms);
  });
}
