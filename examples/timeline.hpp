// What `./examples/run NN --timeline` puts in front of an example: a timeline that lives as long as the program and
// draws itself on stderr, in a terminal while the program runs, elsewhere when main has returned. The environment
// variables TIMELINE_SVG and TIMELINE_JSON name files for the chart as a picture and as a trace for ui.perfetto.dev.
//
// With TIMELINE_VIRTUAL, `run(task)` is `simulate(task)`: the pictures of the book are made so, and always the same.
#pragma once

#include <tandem/live_timeline.hpp>
#include <tandem/run.hpp>

#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <string>
#include <utility>

#if defined(TIMELINE_VIRTUAL)
template <>
inline void tandem::run(tandem::task<void> main) {
  tandem::simulate(std::move(main));
}
#endif

namespace {

class drawn_timeline {
 public:
  drawn_timeline() = default;
  drawn_timeline(const drawn_timeline&) = delete;
  drawn_timeline& operator=(const drawn_timeline&) = delete;
  ~drawn_timeline() try {
    timeline_.finish();
    if (const char* file = std::getenv("TIMELINE_SVG"))
      save(file, timeline_.recorded().svg(), "The same as a picture: ");
    if (const char* file = std::getenv("TIMELINE_JSON"))
      save(file, timeline_.recorded().chrome_trace(), "To be opened in ui.perfetto.dev or chrome://tracing: ");
  } catch (const std::exception& e) {
    std::cerr << "no timeline: " << e.what() << '\n';
  }

 private:
  static void save(const char* file, const std::string& text, const char* what) {
    std::ofstream out(file, std::ios::binary);
    out << text << std::flush;
    if (out)
      std::cerr << '\n' << what << file << '\n';
    else
      std::cerr << "\ncannot write " << file << '\n';
  }

  tandem::live_timeline timeline_;
} const draws_at_exit;

}  // namespace
