// record FOLDER: writes FOLDER/timeline.svg and FOLDER/timeline.json, a chart with everything that a chart may have.
#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>
#include <tandem/task_group.hpp>
#include <tandem/trace.hpp>

#include <chrono>
#include <fstream>
#include <iostream>
#include <string>

using namespace std::chrono_literals;
using tandem::sleep_for;
using tandem::task;

namespace {

task<> pause() { co_await sleep_for(30ms); }
task<> give_way() {
  for (int i = 0; i != 100; ++i) co_await tandem::yield();
}
task<> work() {
  const auto end = std::chrono::steady_clock::now() + 5ms;
  while (std::chrono::steady_clock::now() < end) {
  }
  co_await sleep_for(1ms);
}
task<> everything() { co_await tandem::gather(pause(), give_way(), work()); }
task<> in_a_hurry() {
  co_await tandem::try_timeout(1'000'001ns, everything());
  co_await sleep_for(7ns);
}
task<> name_them(tandem::task_group& group) {
  group.spawn(pause(), {.name = "汽车 \"<&>\" \\ \xff\xed\xa0\x80 \xef\xbf\xbf"});
  group.spawn(sleep_for(20ms), {.name = "a name that is so long that it does not fit into the column of the names"});
  co_await pause();
}
task<> named() { co_await tandem::with_task_group(name_them); }
template <class Record>
task<> while_it_runs(Record record) {
  co_await pause();
  record();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: record FOLDER\n";
    return 2;
  }
  const std::string folder = argv[1];
  const tandem::timeline t;
  tandem::simulate(in_a_hurry());
  tandem::simulate(named());
  tandem::run(everything());
  bool written = false;
  const auto record = [&] {  // this coroutine has not ended
    std::ofstream svg(folder + "/timeline.svg"), json(folder + "/timeline.json");
    svg << t.svg() << std::flush;
    json << t.chrome_trace() << std::flush;
    written = svg && json;
  };
  tandem::run(while_it_runs([&] { record(); }));
  if (!written) std::cerr << "record: cannot write to " << folder << '\n';
  return written ? 0 : 1;
}
