// What the picture of chapter 06 shows: the program itself without the chart that it prints, since of two timelines
// only one hears a simulation.
#pragma GCC diagnostic ignored "-Wreturn-type"  // what was main needs no return
#define main prints_its_own_chart
#include "../06_priority_scheduler.cpp"
#undef main

int main() {
  simulate(the_article());
  simulate(emergency_room());
}
