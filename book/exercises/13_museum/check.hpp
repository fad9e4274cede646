// The check of exercise 13: a door where it is written down who goes in when, and what he was told.
#include "../checking.hpp"

#include <tandem/gather.hpp>

using namespace checking;

std::vector<std::string> book;  // "the family walks in at 0 ms"

void walks_in(const char* who) { goes_on(), book.push_back(sentence(who, " walks in at ", checking::now())); }
void is_told(const char* who, clock::duration d) {
  goes_on(), book.push_back(sentence(who, " is told ", d, " at ", checking::now()));
}
void is_let_in(const char* who) { goes_on(), book.push_back(sentence(who, " is let in at ", checking::now())); }

task<> comes(rate_limiter& door, duration when, const char* who, std::size_t people) {
  co_await sleep_until(clock::time_point(when));
  co_await visit(door, who, people);
}

void must_be(const char* day, const std::vector<std::string>& expected) {
  for (std::size_t i = 0; i != std::max(book.size(), expected.size()); ++i) {
    const std::string happened = i < book.size() ? book[i] : "nothing more";
    const std::string should = i < expected.size() ? expected[i] : "nothing more";
    if (!expect(happened == should, day, ": what happens is: ", happened, "; it should be: ", should)) return;
  }
}

task<> a_morning() {
  rate_limiter door{rule};
  co_await gather(comes(door, 0s, "the family", 3), comes(door, 0s, "the couple", 2),
                  comes(door, 0s, "the student", 1));
  must_be("a family of 3, a couple and a student come together",
          {"the family walks in at 0 ms", "the couple is told 1 min at 0 ms", "the student is told 90 s at 0 ms",
           "the couple is let in at 1 min", "the student is let in at 90 s"});
}

task<> an_afternoon() {
  rate_limiter door{rule};
  co_await gather(comes(door, 0s, "the guide", 1), comes(door, 30min, "the class", 3),
                  comes(door, 30min, "the teacher", 1));
  must_be("nobody comes for half an hour, and then a class of 3 with a teacher",
          {"the guide walks in at 0 ms", "the class walks in at 30 min", "the teacher is told 30 s at 30 min",
           "the teacher is let in at 1830 s"});
}

int main() {
  return verdict("whoever has to wait is told how long, and is let in then", [] {
    for (task<> (*day)() : {a_morning, an_afternoon}) {
      book.clear();
      if (!run("a day at the museum", day()) || !problems().empty()) return;
    }
  });
}
