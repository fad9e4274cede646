// How well the algorithms of adaptive_concurrency do before services that are simulated, on virtual time: every run
// prints the same. With an argument, for that algorithm alone.
#include "../kit/service.hpp"

#include <cstdio>
#include <cstring>

namespace {

using kit::times;
using kit::workload;

struct row {
  const char* name;
  workload s;
};

const row rows[] = {
    {"5 workers", {.workers = [](double) { return 5.0; }}},
    {"20 workers", {}},
    {"80 workers", {.workers = [](double) { return 80.0; }}},
    {"5 workers, exponential times", {.workers = [](double) { return 5.0; }, .spread = times::exponential}},
    {"20 workers, exponential times", {.spread = times::exponential}},
    {"80 workers, exponential times", {.workers = [](double) { return 80.0; }, .spread = times::exponential}},
    {"20 workers, lognormal times", {.spread = times::lognormal}},
    {"from 5 to 80 workers: the next 10 s",
     {.workers = [](double t) { return t < 30 ? 5.0 : 80.0; }, .seconds = 40, .from = 30}},
    {"and the 20 s after that", {.workers = [](double t) { return t < 30 ? 5.0 : 80.0; }, .from = 40}},
    {"from 80 to 5 workers: the next 10 s",
     {.workers = [](double t) { return t < 30 ? 80.0 : 5.0; }, .seconds = 40, .from = 30}},
    {"and the 20 s after that", {.workers = [](double t) { return t < 30 ? 80.0 : 5.0; }, .from = 40}},
    {"from 10 to 30 ms: the next 10 s",
     {.milliseconds = [](double t) { return t < 30 ? 10.0 : 30.0; }, .seconds = 40, .from = 30}},
    {"and the 20 s after that", {.milliseconds = [](double t) { return t < 30 ? 10.0 : 30.0; }, .from = 40}},
    {"from 10 to 30 ms in a minute", {.milliseconds = [](double t) { return 10 + t / 3; }}},
    {"from 80 to 20 workers in a minute", {.workers = [](double t) { return 80 - t; }}},
    {"bursts: 1 s of every 5", {.busy = [](double t) { return std::fmod(t, 5) < 1 ? 1.0 : 0.02; }}},
    {"idle for 20 s, then 20 s busy", {.busy = [](double t) { return t < 20 || t >= 40 ? 1.0 : 0.0; }, .from = 40}},
    {"one call in ten times out", {.drops = [](double) { return 0.1; }}},
    {"every call times out", {.drops = [](double) { return 1.0; }}},
    {"for 10 s every call does, 10 s after that",
     {.drops = [](double t) { return t > 20 && t < 30 ? 1.0 : 0.0; }, .from = 40}},
    {"10 clients", {.clients = 10}},
    {"10,000 clients", {.clients = 10'000}},
    {"two controllers", {.controllers = 2}},
    {"two controllers, exponential times", {.spread = times::exponential, .controllers = 2}},
};

template <class Algorithm>
void print(const row& r, const char* algorithm) {
  kit::simulated_service<Algorithm> service(r.s, {.initial = 10, .min = 1, .max = 200});
  const auto all = service.run();
  for (const kit::service_figures& f : all)
    std::printf("%-42s %-9s %6.1f %% %8.1f ms %8.1f ms   %4.0f to %4.0f\n", r.name, algorithm, f.throughput * 100,
                f.p50, f.p99, f.least, f.most);
}

}  // namespace

int main(int argc, char** argv) {
  std::printf(
      "Up to 200 calls at a time, 10 to begin with; 300 clients who ask again at once; 20 workers of 10 ms, 60 s, if\n"
      "nothing else is said. The times are those of the calls, from their start.\n\n");
  std::printf("%-42s %-9s %8s %11s %11s   %s\n", "service", "algorithm", "of ideal", "median", "p99", "limit");
  for (const row& r : rows) {
    const auto is_wanted = [&](const char* name) { return argc < 2 || std::strcmp(argv[1], name) == 0; };
    if (is_wanted("knee")) print<tandem::knee>(r, "knee");
    if (is_wanted("gradient")) print<tandem::gradient>(r, "gradient");
    if (is_wanted("vegas")) print<tandem::vegas>(r, "vegas");
    if (is_wanted("aimd")) print<tandem::aimd>(r, "aimd");
  }
}
