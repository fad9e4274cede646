// Four faults of a photo shop, and what finds each of them (B `PerformanceMetrics`, C `MemoryMonitor`, D
// `AsyncDebugHelper`)
#include <tandem/gather.hpp>
#include <tandem/inspect.hpp>
#include <tandem/lints.hpp>
#include <tandem/measure.hpp>
#include <tandem/mutex.hpp>
#include <tandem/run.hpp>
#include <tandem/threads.hpp>
#include <tandem/trace.hpp>

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <thread>

using namespace std::chrono_literals;
using namespace tandem;

// [deadlock]
struct printer {
  mutex paper, ink;
};

task<> print_photo(printer& p) {
  const auto paper = co_await p.paper.lock();
  co_await sleep_for(1s);
  const auto ink = co_await p.ink.lock();
}

task<> print_poster(printer& p) {
  const auto ink = co_await p.ink.lock();
  co_await sleep_for(2s);
  const auto paper = co_await p.paper.lock();
}

task<> rush_hour() {
  printer p;
  co_await gather(print_photo(p), print_poster(p));
}
// [/deadlock]

// [lost]
task<> send_receipt(int order) {
  co_await sleep_for(20ms);
  std::cout << "  receipt for order " << order << " sent\n";
}

task<> take_order(int order) {
  co_await sleep_for(100ms);
  const auto receipt = send_receipt(order);
  std::cout << "  order " << order << " taken\n";
}
// [/lost]

// [slow]
task<> ask_for_prices() { co_await sleep_for(30ms); }
task<> ask_for_frames(clock::duration delay) { co_await sleep_for(delay); }
task<> ask_for_stock() { co_await sleep_for(60ms); }

struct supplier {
  std::string_view name;
  call_metrics calls{};
};
struct suppliers {
  supplier prices{"prices"}, frames{"frames"}, stock{"stock"};
};

task<> order_page(suppliers& of, int visit) {
  const auto slow = visit % 10 == 0 ? 900ms : 40ms;
  co_await gather(measure(of.prices.calls, ask_for_prices()), measure(of.frames.calls, ask_for_frames(slow)),
                  measure(of.stock.calls, ask_for_stock()));
}

void show(const suppliers& all) {
  std::cout << "  request  calls   ok    p50    p95    max\n";
  for (const supplier* s : {&all.prices, &all.frames, &all.stock}) {
    const call_summary c = s->calls.stats().window;
    std::cout << "  " << std::left << std::setw(8) << s->name << std::right << std::setw(6) << c.count << std::setw(5)
              << c.success_ratio * 100 << '%';
    for (const clock::duration d : {c.latency.p50, c.latency.p95, c.latency.max})
      std::cout << std::setw(4) << (d + 500us) / 1ms << " ms";
    std::cout << '\n';
  }
}

task<> visits() {
  suppliers all;
  for (int visit = 1; visit <= 50; ++visit) co_await order_page(all, visit);
  show(all);
}
// [/slow]

// [blocking]
void compress_files() { std::this_thread::sleep_for(600ms); }  // stands for a function that takes its time

task<> archive() {
  co_await sleep_for(10ms);
  compress_files();
}

task<> archive_on_a_thread() {
  co_await sleep_for(10ms);
  co_await to_thread(compress_files);
}

task<> serve() {
  for (int i = 0; i != 20; ++i) co_await sleep_for(5ms);
}

task<> evening(task<> work) { co_await gather(serve(), std::move(work)); }

stall longest_stall(task<> day) {
  stall longest;
  {
    stall_watchdog watchdog({.threshold = 200ms}, [&](const stall& s) {
      if (s.lasted > longest.lasted) longest = s;
    });
    run(std::move(day));
  }
  return longest;
}
// [/blocking]

// [main]
int main() {
  std::cout << "Nothing is printed any more:\n";
  try {
    simulate(rush_hour());
  } catch (const deadlock& d) {
    std::cout << d.what() << '\n';
  }

  std::cout << "\nCustomers get no receipt:\n";
  {
    const lints watch({}, [](const lint& l) { std::cout << "  lint: " << l.text << '\n'; });
    simulate(take_order(7));
  }

  std::cout << "\nSome visits take long:\n";
  simulate(visits());
  suppliers again;
  const timeline chart;
  simulate(order_page(again, 10));
  std::cout << "One of the slow ones:\n" << chart.gantt(76);

  std::cout << "\nNobody is served for a while:\n";
  for (const stall& s : {longest_stall(evening(archive())), longest_stall(evening(archive_on_a_thread()))})
    if (s.function.empty())
      std::cout << "  on a thread: nobody blocks the loop any more\n";
    else
      std::cout << "  " << s.function << " blocks the loop; look at what follows " << s.file << ':' << s.line << '\n';
}
// [/main]
