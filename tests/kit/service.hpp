// tests/kit/service.hpp: a service that is simulated, its clients, and how well a controller between them does.
#pragma once

#include <tandem/adaptive_concurrency.hpp>
#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>
#include <tandem/semaphore.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

namespace kit {

enum class times { constant, uniform, exponential, lognormal };

/// So many workers, each of whom takes so long for a call, and a line before them. What is a function of time is given
/// the seconds that have passed.
struct workload {
  double (*workers)(double) = [](double) { return 20.0; };
  double (*milliseconds)(double) = [](double) { return 10.0; };
  times spread = times::constant;
  double (*drops)(double) = [](double) { return 0.0; };  ///< the share of calls that end with `timed_out`
  std::size_t clients = 300;                             ///< of each controller
  double pause = 0;                                      ///< of a client after a call: milliseconds, on the average
  double (*busy)(double) = [](double) { return 1.0; };   ///< the share of the clients that ask at all
  double seconds = 60, from = 0;                         ///< what is before `from` does not count
  std::size_t controllers = 1;
  std::uint64_t seed = 1;
};

/// What came of it, from `from` on; of one controller.
struct service_figures {
  double throughput = 0;                 ///< calls that ended, as a share of what the service could have done
  double p50 = 0, p99 = 0;               ///< milliseconds from the start of a call to its end
  double least = 0, most = 0, last = 0;  ///< of the limit
};

template <class Algorithm>
class simulated_service {
 public:
  simulated_service(workload s, tandem::adaptive_concurrency_options o, Algorithm a = Algorithm())
      : s_(s), random_(s.seed), workers_(static_cast<std::size_t>(s.workers(0))) {
    for (std::size_t i = 0; i != s.controllers; ++i) sides_.push_back(std::make_unique<side>(o, a));
  }
  /// Of each controller.
  std::vector<service_figures> run() {
    tandem::simulate(all());
    std::vector<service_figures> f;
    for (auto& s : sides_) f.push_back(figures(*s));
    return f;
  }
  const tandem::adaptive_concurrency<Algorithm>& controller(std::size_t i = 0) const { return sides_[i]->control; }

 private:
  struct side {
    side(const tandem::adaptive_concurrency_options& o, const Algorithm& a) : control(o, a) {}
    tandem::adaptive_concurrency<Algorithm> control;
    std::vector<double> took;  // milliseconds
    double least = 1e9, most = 0;
  };
  static double now() { return std::chrono::duration<double>(tandem::clock::now().time_since_epoch()).count(); }
  static tandem::clock::duration milliseconds(double ms) {
    return tandem::clock::duration(static_cast<tandem::clock::rep>(ms * 1e6));
  }
  double part() { return static_cast<double>(random_() >> 11) * 0x1p-53; }
  double exponential() { return -std::log(1 - part()); }
  double draw() {
    switch (s_.spread) {
      case times::uniform:
        return 0.8 + 0.4 * part();
      case times::exponential:
        return exponential();
      case times::lognormal:  // of mean 1
        return std::exp(std::sqrt(-2 * std::log(1 - part())) * std::cos(6.283185307179586 * part()) - 0.5);
      default:
        return 1;
    }
  }
  tandem::task<> serve() {
    const tandem::permit worker = co_await workers_.acquire();
    co_await tandem::sleep_for(milliseconds(s_.milliseconds(now()) * draw()));
    if (part() < s_.drops(now())) throw tandem::timed_out();
  }
  tandem::task<> client(side& s, std::size_t number) {
    const auto call = [&]() -> tandem::task<> {
      const double begin = now();
      co_await serve();
      if (begin >= s_.from) s.took.push_back((now() - begin) * 1e3);
    };
    co_await tandem::sleep_for(milliseconds(10 * part()));
    for (;;) {
      const bool rests = static_cast<double>(number) >= s_.busy(now()) * static_cast<double>(s_.clients);
      if (rests) {
        co_await tandem::sleep_for(milliseconds(100));
        continue;
      }
      try {
        co_await s.control.run(call);
      } catch (const tandem::timed_out&) {
      }
      if (s_.pause != 0) co_await tandem::sleep_for(milliseconds(s_.pause * exponential()));
    }
  }
  tandem::task<> observe() {
    for (;;) {
      const double t = now(), n = std::max(1.0, s_.workers(t));
      workers_.resize(static_cast<std::size_t>(n));
      if (t >= s_.from) possible_ += n / s_.milliseconds(t) * 100;
      for (auto& s : sides_) {
        if (t < s_.from) break;
        const auto limit = static_cast<double>(s->control.limit());
        s->least = std::min(s->least, limit);
        s->most = std::max(s->most, limit);
      }
      co_await tandem::sleep_for(milliseconds(100));
    }
  }
  tandem::task<> all() {
    std::vector<tandem::task<>> everybody;
    everybody.push_back(observe());
    for (auto& s : sides_)
      for (std::size_t i = 0; i != s_.clients; ++i) everybody.push_back(client(*s, i));
    auto whole = tandem::gather(std::move(everybody));
    co_await tandem::try_timeout(milliseconds(s_.seconds * 1e3), std::move(whole));
  }
  service_figures figures(side& s) {
    service_figures f;
    f.throughput = static_cast<double>(s.took.size()) / possible_;
    if (!s.took.empty()) {
      std::sort(s.took.begin(), s.took.end());
      f.p50 = s.took[s.took.size() / 2];
      f.p99 = s.took[s.took.size() * 99 / 100];
    }
    f.least = s.least;
    f.most = s.most;
    f.last = static_cast<double>(s.control.limit());
    return f;
  }

  workload s_;
  std::mt19937_64 random_;
  tandem::semaphore workers_;
  std::vector<std::unique_ptr<side>> sides_;
  double possible_ = 0;
};

}  // namespace kit
