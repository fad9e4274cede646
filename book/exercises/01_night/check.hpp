// The check of exercise 01: it hears every alarm clock, and knows when it must ring and be put away.
#include "../checking.hpp"

#include <map>

using namespace checking;

struct heard {
  int made = 0;
  std::vector<duration> rings, put_away;
};
std::map<std::string, heard> clocks;

alarm_clock::alarm_clock(std::string name) : name_(std::move(name)) { ++clocks[name_].made; }
alarm_clock::~alarm_clock() { clocks[name_].put_away.push_back(checking::now()); }
void alarm_clock::ring() const {
  goes_on();
  clocks[name_].rings.push_back(checking::now());
}

void must_ring(const std::string& name, const std::vector<duration>& times, duration end) {
  const heard& h = clocks[name];
  if (!expect(h.made != 0, "nobody has made an alarm clock called \"", name, "\"")) return;
  expect(h.made == 1, "there were ", h.made, " alarm clocks called \"", name,
         "\"; ring_every holds one for all its rings");
  expect(h.rings == times, name, " rang at: ", list(h.rings), "; it should ring at: ", list(times));
  if (h.made == 1)
    expect(h.put_away == std::vector{end}, name, " was put away at: ", list(h.put_away), "; it should be at: ", end);
}

int main() {
  return verdict("both clocks rang, and the church tower was stopped when the night was over", [] {
    if (run("ring_every", ring_every(7min, 2, "the egg timer"))) must_ring("the egg timer", {7min, 14min}, 14min);
    if (!problems().empty()) return;
    duration length{};
    const auto whole_night = [](duration& ended) -> task<> {
      co_await night();
      ended = checking::now();
    };
    if (!run("night", whole_night(length))) return;
    expect(length == 150min, "the night took ", length, ", not 150 min",
           length > 6h ? ": who awaits ring_every waits until it has rung for the last time; spawn does not wait" : "");
    must_ring("the snooze", {10min, 20min, 30min}, 30min);
    must_ring("the church tower", {60min, 120min}, 150min);
  });
}
