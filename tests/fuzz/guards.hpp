// tests/fuzz/guards.hpp: what all calls of a program are guarded by, and the laws that hold for it.
#pragma once

#include <tandem/cancel.hpp>
#include <tandem/error_manager.hpp>
#include <tandem/policy.hpp>
#include <tandem/run.hpp>

#include "program.hpp"

#include <chrono>
#include <cstdint>
#include <exception>

namespace fuzz {

class guards {
 public:
  guards() {
    errors_.retry(tandem::error_kind::network, {.attempts = 3, .base = std::chrono::seconds(1), .budget = &budget_});
    errors_.on(tandem::error_kind::network, [this](tandem::error_info e) -> tandem::task<> {
      ++told_;
      if (e.attempts == 2) co_await tandem::sleep_for(std::chrono::seconds(1));
      if (e.attempts == 1) throw e.error;
    });
  }

  /// Calls `child`, which does not fail, after so many failures, in one of several ways, or not at all.
  template <class Dice, class Child>
  tandem::task<> use(Dice draw, Child& child) {
    unsigned failures = draw(4);
    const unsigned how = draw(4);
    const std::chrono::seconds takes(draw(2));
    const auto call = [&]() -> tandem::task<> {
      if (failures != 0) {
        --failures;
        co_await tandem::sleep_for(takes);
        throw tandem::unavailable("not yet", std::chrono::seconds(1));
      }
      co_await child();
    };
    try {
      if (how == 0)
        co_await tandem::retry(call, {.attempts = 3, .base = std::chrono::seconds(1), .budget = &budget_});
      else if (how == 1)
        co_await errors_.guard(call, "call");
      else if (how == 2)
        co_await breaker_.run(call);
      else
        co_await all_.run(call);
    } catch (const std::exception&) {  // it did not come to that
    }
  }
  /// When all is over.
  void check() const {
    const tandem::error_kind_stats s = errors_.stats(tandem::error_kind::network);
    fuzz::check(s.retried + s.gave_up <= s.seen, "of each failure something comes");
    fuzz::check(told_ <= s.told, "a handler is called as often as it is told");
    const tandem::circuit_breaker_stats b = breaker_.stats();
    fuzz::check(b.late <= b.succeeded + b.failed + b.ignored, "a result is late at most once");
    fuzz::check(control_.in_flight() == 0 && control_.stats().waiting == 0, "every slot of a policy has come back");
  }

 private:
  tandem::retry_budget budget_{{.ratio = 0.5, .per_second = 1, .burst = 4}};
  std::uint64_t told_ = 0;
  tandem::error_manager errors_{{.handlers_at_a_time = 1, .max_pending = 2}};
  tandem::circuit_breaker breaker_{{.window = 4, .min_calls = 2, .cool_down = std::chrono::seconds(2), .probes = 1}};
  tandem::rate_limiter limit_{tandem::token_bucket{.rate = 2, .burst = 2}};
  // Calls that are guarded inside one another hold a slot each: the innermost must not wait for ever.
  tandem::adaptive_concurrency<> control_{{.initial = 2,
                                           .min = 1,
                                           .max = 4,
                                           .window = std::chrono::seconds(1),
                                           .samples = 1,
                                           .max_wait = std::chrono::seconds(5)}};
  tandem::policy<tandem::retry_options, tandem::circuit_breaker&, tandem::rate_limiter&,
                 tandem::adaptive_concurrency<>&>
      all_{tandem::retry_options{.attempts = 3, .base = std::chrono::seconds(1)}, breaker_, limit_, control_};
};

}  // namespace fuzz
