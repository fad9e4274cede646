// Workers and a line of jobs: worker_pool, and the same by hand with a queue (C 任务队列与工作池, `TaskWorkerPool`)
#include <tandem/queue.hpp>
#include <tandem/run.hpp>
#include <tandem/task_group.hpp>
#include <tandem/worker_pool.hpp>

#include <iomanip>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using namespace tandem;

// [photo]
std::ostream& say() { return std::cout << std::setw(5) << clock::now().time_since_epoch() / 1ms << " ms  "; }

struct photo {
  const char* name;
  int megapixels;  // 0: not a photo at all
};
constexpr photo album[] = {{"beach", 12}, {"dog", 4}, {"dinner", 8}, {"invoice", 0}, {"harbour", 16}, {"cake", 2}};

struct thumbnail {
  std::string file;
  int kilobytes;
};

task<thumbnail> shrink(photo p) {
  co_await sleep_for(10ms + p.megapixels * 10ms);  // a real one would compute: co_await to_thread(...)
  if (p.megapixels == 0) throw std::runtime_error("not a photo");
  co_return thumbnail{std::string(p.name) + ".jpg", p.megapixels / 2};
}
// [/photo]

// [submit]
task<std::vector<task_handle<thumbnail>>> order_thumbnails(worker_pool& lab) {
  std::vector<task_handle<thumbnail>> ordered;
  for (const photo& p : album) {
    ordered.push_back(co_await lab.submit({.name = p.name}, shrink, p));
    say() << p.name << " is accepted\n";
  }
  co_return ordered;
}
// [/submit]

// [handles]
task<> collect(const std::vector<task_handle<thumbnail>>& ordered) {
  for (const task_handle<thumbnail>& h : ordered) {
    try {
      const thumbnail& t = co_await h;
      say() << t.file << ", " << t.kilobytes << " kB\n";
    } catch (const std::exception& e) {
      say() << "no thumbnail of " << h.name() << ": " << e.what() << '\n';
    }
  }
}
// [/handles]

// [drain]
task<int> count_faces(photo p) { co_return p.megapixels / 4; }

task<> print(photo p, int copies) {
  co_await sleep_for(copies * 20ms);
  if (p.megapixels < 4) throw std::runtime_error(std::string("too small to print: ") + p.name);
}

task<> last_orders(worker_pool& lab) {
  const task_handle<int> faces = co_await lab.submit(count_faces, album[2]);
  co_await lab.submit(print, album[4], 3);
  co_await lab.submit(print, album[5], 10);
  lab.close();
  try {
    co_await lab.drain();
  } catch (const std::exception& e) {
    say() << "drained; nobody looked at this: " << e.what() << '\n';
  }
  say() << "faces at dinner: " << faces.outcome().value() << '\n';
}
// [/drain]

// [stats]
void show(const worker_pool_stats& s) {
  std::cout << s.submitted << " jobs: " << s.succeeded << " succeeded, " << s.failed << " failed, " << s.cancelled
            << " cancelled; at most " << s.most_queued << " in line\n"
            << "  in line: mean " << s.queue_time.mean / 1ms << " ms, longest " << s.queue_time.max / 1ms << " ms\n"
            << "  at work: mean " << s.run_time.mean / 1ms << " ms, longest " << s.run_time.max / 1ms << " ms\n";
}

task<> at_the_lab() {
  worker_pool lab({.workers = 2, .backlog = 1});
  const auto ordered = co_await order_thumbnails(lab);
  co_await collect(ordered);
  co_await last_orders(lab);
  show(lab.stats());
}
// [/stats]

// [by_hand]
task<> worker(queue<photo>& line) {
  while (const std::optional<photo> p = co_await line.pop()) {
    try {
      const thumbnail t = co_await shrink(*p);
      say() << t.file << ", " << t.kilobytes << " kB\n";
    } catch (const std::exception& e) {
      say() << "no thumbnail of " << p->name << ": " << e.what() << '\n';
    }
  }
}

task<> by_hand() {
  queue<photo> line(1);
  co_await with_task_group([&](task_group& group) -> task<> {
    for (int i = 0; i != 2; ++i) group.spawn(worker(line));
    for (const photo& p : album) {
      co_await line.push(p);
      say() << p.name << " is accepted\n";
    }
    line.close();
  });
}
// [/by_hand]

// [main]
int main() {
  std::cout << "the pool:\n";
  simulate(at_the_lab());
  std::cout << "the same by hand:\n";
  simulate(by_hand());
}
// [/main]
