// What example 14 measures with: two sides that take turns, the medians of their times, a table and a picture.
#pragma once

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <limits>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

// [lines]
struct lines {  // both ends of n connections over loopback
  std::vector<asio::ip::tcp::socket> clients, servers;

  lines(int n, auto& context_of_clients, auto& context_of_servers) {
    using asio::ip::tcp;
    tcp::acceptor door(context_of_servers, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    for (int i = 0; i != n; ++i) {
      clients.emplace_back(context_of_clients).connect(door.local_endpoint());
      servers.push_back(door.accept());
      for (tcp::socket* end : {&clients.back(), &servers.back()}) end->set_option(tcp::no_delay(true));
    }
  }
};
// [/lines]

/// What the program has in memory now, in KB, exactly: /proc/self/statm lags behind. 0 where it cannot be asked.
inline double resident() {
  std::ifstream words("/proc/self/smaps_rollup");
  for (std::string word; words >> word;)
    if (double kilobytes = 0; word == "Rss:" && words >> kilobytes) return kilobytes;
  return 0;
}

/// Many systems allow 1,024 open files until they are asked for more.
inline void allow_many_files() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

struct temporary_folder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("tandem_14_" + std::to_string(std::random_device()()));
  temporary_folder() { std::filesystem::create_directory(path); }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;
  ~temporary_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

/// So many times as fast with coroutines, or as small.
struct claim {
  double from, to;
};

// [side]
struct side {
  std::vector<double> times, cpu_times;  // in ms; the CPU time is that of all threads, those that answer included
  int fewest_right = std::numeric_limits<int>::max();

  template <class Work>
  void take_turn(Work& work, bool counts) {
    const std::clock_t cpu_begin = std::clock();
    const auto begin = std::chrono::steady_clock::now();
    fewest_right = std::min(fewest_right, work());
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - begin;
    const double cpu_time = 1000.0 * double(std::clock() - cpu_begin) / CLOCKS_PER_SEC;
    if (!counts) return;
    times.push_back(time.count());
    cpu_times.push_back(cpu_time);
  }
};

inline double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ptrdiff_t(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}
// [/side]

class comparison {
 public:
  explicit comparison(int rounds) : rounds_(rounds) {
    std::cout << std::left << std::setw(name_width) << "right answers" << std::right << std::setw(14) << "threads"
              << std::setw(14) << "coroutines" << '\n';
  }

  // [measure]
  /// Both do the same and give how many of its answers, `all` if it goes well, were right.
  template <class Threads, class Coroutines>
  void measure(const std::string& name, int all, Threads threads, Coroutines coroutines, claim article) {
    side t, c;
    for (int round = 0; round <= rounds_; ++round) {  // the first one warms up, and does not count
      if (round % 2 == 0) t.take_turn(threads, round != 0);
      c.take_turn(coroutines, round != 0);
      if (round % 2 == 1) t.take_turn(threads, round != 0);
    }
    // [/measure]
    const auto of_all = [&](int right) { return std::to_string(right) + " of " + std::to_string(all); };
    std::cout << std::left << std::setw(name_width) << name << std::right << std::setw(14) << of_all(t.fewest_right)
              << std::setw(14) << of_all(c.fewest_right) << '\n';
    rows_.push_back({name, "ms", median(t.times), median(c.times), median(t.cpu_times), median(c.cpu_times), article});
  }

  /// What was not timed, in a unit of its own.
  void add(const std::string& name, const std::string& unit, double threads, double coroutines, claim article) {
    if (threads > 0 && coroutines > 0) rows_.push_back({name, unit, threads, coroutines, 0, 0, article});
  }

  void print(std::ostream& out) const {
    out << "\nmedians of " << rounds_ << " rounds" << std::setw(name_width) << ""
        << "CPU time, all threads\n"
        << std::left << std::setw(name_width) << "" << std::right << std::setw(12) << "threads" << std::setw(13)
        << "coroutines" << std::setw(8) << "here" << std::setw(13) << "the article" << std::setw(13) << "threads"
        << std::setw(13) << "coroutines" << '\n'
        << std::fixed << std::setprecision(1);
    for (const row& r : rows_) {
      out << std::left << std::setw(name_width) << r.name << std::right << std::setw(9) << r.threads << ' ' << r.unit
          << std::setw(10) << r.coroutines << ' ' << r.unit << std::setw(8) << times(r.ratio()) << std::setw(13)
          << digits(r.article.from) + " to " + times(r.article.to);
      if (r.unit == "ms") out << std::setw(10) << r.threads_cpu << " ms" << std::setw(10) << r.coroutines_cpu << " ms";
      out << '\n';
    }
  }

  /// A bar goes to the right if coroutines did better, otherwise to the left; the scale is logarithmic.
  void draw(const std::string& file) const {
    std::ofstream svg(file);
    const int top = 48, height = 46, bottom = top + height * int(rows_.size());
    const auto x = [](double ratio) { return int(500 + 52 * std::clamp(std::log2(ratio), -4.0, 6.0)); };
    const auto bar = [&](const char* kind, double from, double to, int y) {
      const int left = x(std::min(from, to)), right = x(std::max(from, to));
      svg << "<rect class='" << kind << "' x='" << left << "' y='" << y << "' width='" << std::max(right - left, 1)
          << "' height='14'/>\n";
    };
    const auto text = [&](int at, int y, const std::string& words, const char* kind = "name") {
      svg << "<text class='" << kind << "' x='" << at << "' y='" << y << "'>" << words << "</text>\n";
    };
    svg << "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 880 " << bottom + 34 << "' width='880' height='"
        << bottom + 34 << "' font-family='sans-serif' font-size='13'>\n"
        << "<title>How many times as fast, or as small, with coroutines</title>\n<style>\n"
        << ".paper{fill:#fff}text{fill:#1f2328}.detail,.mark{fill:#656d76;font-size:11px}.mark{text-anchor:middle}\n"
        << "line{stroke:#8c959f;stroke-opacity:.5}.same{stroke:#1f2328;stroke-opacity:1}\n"
        << ".better{fill:#1a7f37}.worse{fill:#cf222e}.article{fill:#8c959f}\n"
        << "@media(prefers-color-scheme:dark){.paper{fill:#161b22}text{fill:#e6edf3}.detail,.mark{fill:#9198a1}\n"
        << ".same{stroke:#e6edf3}.better{fill:#3fb950}.worse{fill:#ff7b72}.article{fill:#7d8590}}\n</style>\n"
        << "<rect class='paper' width='100%' height='100%' rx='8'/>\n";
    const auto key = [&](const char* kind, int at, const std::string& words) {
      svg << "<rect class='" << kind << "' x='" << at << "' y='14' width='14' height='14'/>\n";
      text(at + 20, 26, words);
    };
    key("better", 12, "better with coroutines");
    key("worse", 200, "worse with coroutines");
    key("article", 390, "the article's claim");
    for (int power = -4; power <= 6; ++power) {
      const double ratio = std::pow(2, power);
      svg << "<line" << (power == 0 ? " class='same'" : "") << " x1='" << x(ratio) << "' x2='" << x(ratio) << "' y1='"
          << top - 6 << "' y2='" << bottom << "'/>\n";
      text(x(ratio), bottom + 18, power < 0 ? "1/" + digits(1 / ratio) : digits(ratio), "mark");
    }
    int y = top;
    for (const row& r : rows_) {
      std::ostringstream detail;
      detail << std::fixed << std::setprecision(1) << r.threads << ' ' << r.unit << ", with coroutines "
             << r.coroutines;
      text(12, y + 14, r.name);
      text(12, y + 30, detail.str() + ' ' + r.unit, "detail");
      bar(r.ratio() < 1 ? "worse" : "better", 1, r.ratio(), y + 2);
      text(x(std::max(1.0, r.ratio())) + 6, y + 14, digits(r.ratio()) + " ×");
      bar("article", r.article.from, r.article.to, y + 18);
      y += height;
    }
    if (!(svg << "</svg>\n").flush()) throw std::runtime_error("cannot write " + file);
  }

 private:
  struct row {
    std::string name, unit;
    double threads, coroutines, threads_cpu, coroutines_cpu;
    claim article;
    double ratio() const { return threads / coroutines; }
  };
  static constexpr int name_width = 36;

  static std::string digits(double ratio) {  // two of them
    std::ostringstream text;
    text << std::setprecision(ratio < 100 ? 2 : 3) << ratio;
    return text.str();
  }
  static std::string times(double ratio) { return digits(ratio) + " x"; }

  int rounds_;
  std::vector<row> rows_;
};
