// tests/fuzz/limits.hpp: the limits that all coroutines of a program share, and the laws that hold for them.
#pragma once

#include <tandem/adaptive_concurrency.hpp>
#include <tandem/cancel.hpp>
#include <tandem/race.hpp>
#include <tandem/rate_limiter.hpp>
#include <tandem/run.hpp>

#include "program.hpp"

#include <chrono>
#include <cstddef>
#include <deque>
#include <exception>
#include <utility>

namespace fuzz {

/// What a rate limiter has allowed, and was used.
class allowed {
 public:
  allowed(std::size_t most, std::chrono::seconds window) : most_(most), window_(window) {}
  void add(std::size_t n) {
    const auto now = tandem::clock::now();
    for (; n != 0; --n) {
      while (!times_.empty() && times_.front() + window_ <= now) times_.pop_front();
      times_.push_back(now);
      fuzz::check(times_.size() <= most_, "in no window are more allowed than may be");
    }
  }

 private:
  std::size_t most_;
  std::chrono::seconds window_;
  std::deque<tandem::clock::time_point> times_;
};

class limits {
 public:
  limits()
      : patient_({.initial = 2, .min = 1, .max = 3, .window = std::chrono::seconds(1), .samples = 1}),
        hasty_(hasty()) {}

  /// A slot of one of the controllers, or none if that takes too long or is refused; before that it may be one's turn
  /// at a rate limiter.
  template <class Dice>
  tandem::task<tandem::concurrency_slot> enter(Dice draw) {
    const unsigned how = draw(8);
    const std::chrono::seconds patience(draw(4));
    const std::size_t count = 1 + draw(3);
    if (draw(2) == 0) co_await takes_turn(how, patience, count, static_cast<int>(draw(5)));
    tandem::concurrency_slot slot;
    const tandem::concurrency_call call{.priority = static_cast<int>(draw(3))};
    try {
      if (how == 0) {
        slot = patient_.try_acquire();
      } else if (how < 4) {
        auto first = co_await tandem::race(patient_.acquire(call), tandem::sleep_for(patience), hasty_.acquire(call));
        if (first.index() != 1)
          slot = first.index() == 0 ? std::move(first.template get<0>()) : std::move(first.template get<2>());
      } else if (how == 4) {
        auto in_time = co_await tandem::try_timeout(patience, patient_.acquire(call));
        if (in_time) slot = std::move(*in_time);
      } else {
        slot = co_await hasty_.acquire(call);
      }
    } catch (const tandem::overloaded& e) {
      fuzz::check(e.retry_after() > std::chrono::nanoseconds(0), "who is refused is told when to come back");
    }
    fuzz::check(patient_.in_flight() <= 3 && hasty_.in_flight() <= 4, "no more are in flight than there may be");
    co_return slot;
  }
  /// When all is over.
  void check() const {
    for (const tandem::adaptive_concurrency_stats& s : {patient_.stats(), hasty_.stats()}) {
      fuzz::check(s.in_flight == 0 && s.waiting == 0, "every slot has come back, and nobody waits");
      fuzz::check(s.gave_up + s.shed <= s.waited + s.succeeded + s.dropped + s.ignored + s.shed,
                  "who gives up has waited");
    }
    fuzz::check(patient_.stats().shed == 0, "nobody is refused who may wait");
    fuzz::check(window_.stats().waiting == 0 && several_.stats().waiting == 0, "nobody waits for his turn");
    fuzz::check(keyed_.size() <= 3, "there are no more keys than may be");
  }

 private:
  static tandem::adaptive_concurrency_options hasty() {
    tandem::adaptive_concurrency_options o{
        .initial = 2, .min = 1, .max = 4, .window = std::chrono::seconds(1), .samples = 1};
    o.max_waiting = 3;
    o.max_wait = std::chrono::seconds(5);
    o.max_wait_overloaded = std::chrono::seconds(2);
    o.overload = std::chrono::seconds(3);
    o.newest_first_overloaded = true;
    return o;
  }
  tandem::task<> takes_turn(unsigned how, std::chrono::seconds patience, std::size_t count, int key) {
    switch (how) {
      case 0:
        if (window_.try_acquire(count)) of_window_.add(count);
        break;
      case 1: {
        const auto in_time = co_await tandem::try_timeout(patience, window_.acquire(count));
        if (in_time) of_window_.add(count);
        break;
      }
      case 2: {
        auto first = co_await tandem::race(window_.acquire(), tandem::sleep_for(patience), several_.acquire(count));
        if (first.index() == 0) of_window_.add(1);
        if (first.index() == 2) of_several_.add(count);
        break;
      }
      case 3:
      case 4:
        co_await several_.acquire(count);
        of_several_.add(count);
        break;
      case 5:
        keyed_.try_acquire(key);
        break;
      default:
        try {
          co_await keyed_.acquire(key);
        } catch (const tandem::too_many_keys&) {
        }
    }
  }

  tandem::rate_limiter window_{tandem::sliding_window{.limit = 4, .window = std::chrono::seconds(3)}};
  tandem::rate_limiter several_{tandem::token_bucket{.rate = 2, .burst = 3},
                                tandem::sliding_window{.limit = 7, .window = std::chrono::seconds(4)}};
  tandem::keyed_rate_limiter<int> keyed_{tandem::keyed_rate_limiter_options{.max_keys = 3}, tandem::gcra{.rate = 1}};
  allowed of_window_{4, std::chrono::seconds(3)}, of_several_{5, std::chrono::seconds(1)};  // a burst, and one second's
  tandem::adaptive_concurrency<> patient_;
  tandem::adaptive_concurrency<tandem::aimd> hasty_;
};

}  // namespace fuzz
