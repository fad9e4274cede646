// The check of exercise 09: a line that breaks so many times, a question that is wrong, and a line that says nothing.
#include "../checking.hpp"

#include <stdexcept>

using namespace checking;

enum class line { good, broken, wrong_question, silent };
std::vector<line> what_happens;  // the last of them for ever
std::vector<duration> attempts;

task<int> ask() {
  goes_on();
  const line now_it_is = what_happens[std::min(attempts.size(), what_happens.size() - 1)];
  attempts.push_back(checking::now());
  co_await sleep_for(10ms);
  if (now_it_is == line::silent) co_await sleep_for(24h);
  if (now_it_is == line::broken) throw system_error(asio::error::connection_reset);
  if (now_it_is == line::wrong_question) throw std::invalid_argument("there is no such question");
  co_return 42;
}

task<> call(const char* who, std::vector<line> happens, std::vector<duration> expected, duration expected_end,
            std::string expected_result) {
  what_happens = std::move(happens);
  attempts.clear();
  std::string result;
  try {
    const int answer = co_await ask_patiently();
    result = sentence("the answer ", answer);
  } catch (const timed_out&) {
    result = "timed_out";
  } catch (const std::invalid_argument&) {
    result = "the wrong question";
  } catch (const system_error& e) {
    result = e.code() == asio::error::connection_reset ? "the broken line" : e.what();
  }
  expect(attempts == expected, who, ": asked at ", list(attempts), "; it should be at ", list(expected));
  expect(result == expected_result, who, ": the caller gets ", result, "; it should be ", expected_result);
  expect(checking::now() == expected_end, who, ": it took ", checking::now(), ", not ", expected_end);
}

int main() {
  using enum line;
  return verdict("four attempts where they help, one where they do not, and never more than a second", [] {
    run("a good line", call("a good line", {good}, {0ms}, 10ms, "the answer 42"));
    run("a line that breaks three times", call("a line that breaks three times", {broken, broken, broken, good},
                                               {0ms, 110ms, 320ms, 730ms}, 740ms, "the answer 42"));
    run("a wrong question", call("a wrong question", {wrong_question}, {0ms}, 10ms, "the wrong question"));
    run("a line that stays broken",
        call("a line that stays broken, where the fifth attempt would begin after more than a second", {broken},
             {0ms, 110ms, 320ms, 730ms}, 740ms, "the broken line"));
    run("a line that says nothing", call("a line that says nothing", {silent}, {0ms}, 1s, "timed_out"));
  });
}
