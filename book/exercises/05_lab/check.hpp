// The check of exercise 05: a printer that notes when it begins, and how many print at a time.
#include "../checking.hpp"

using namespace checking;

int printing, most, printed;
std::vector<duration> begun;

task<> print() {
  goes_on();
  begun.push_back(checking::now());
  most = std::max(most, ++printing);
  co_await sleep_for(95ms);
  --printing;
  ++printed;
}

task<> open(bool patient, tally expected, duration expected_end, std::vector<duration> expected_begun) {
  const std::string who = patient ? "with patient customers" : "with impatient customers";
  printing = most = printed = 0;
  begun.clear();
  const tally t = co_await front_desk(patient);
  expect(most != 0, who, " nobody printed anything");
  if (most == 0) co_return;
  expect(most <= 2, who, " ", most, " pictures were printed at a time; the lab has two workers");
  expect(printing == 0, who, " front_desk ended after ", checking::now(), " with ", printing,
         " of the pictures in work: what was accepted is printed before it ends");
  expect(printed + printing == expected.printed, who, " ", printed + printing, " pictures were printed, not ",
         expected.printed, most == 1 ? "; there should be two workers" : "");
  expect(t.printed == expected.printed, who, " front_desk says that ", t.printed, " were printed; it should be ",
         expected.printed);
  expect(t.turned_away == expected.turned_away, who, " front_desk says that ", t.turned_away,
         " were turned away; it should be ", expected.turned_away);
  expect(checking::now() == expected_end, who, " it took ", checking::now(), ", not ", expected_end);
  expect(begun == expected_begun, who, " pictures were begun at: ", list(begun),
         "; with two workers, one place in line and a customer every 20 ms it should be at: ", list(expected_begun));
}

int main() {
  return verdict("the impatient get 5 pictures, the patient 10, and all that was accepted is printed", [] {
    run("with impatient customers, front_desk", open(false, {5, 5}, 285ms, {0ms, 20ms, 95ms, 115ms, 190ms}));
    run("with patient customers, front_desk",
        open(true, {10, 0}, 495ms, {0ms, 20ms, 95ms, 115ms, 190ms, 210ms, 285ms, 305ms, 380ms, 400ms}));
  });
}
