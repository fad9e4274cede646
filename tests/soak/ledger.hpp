// tests/soak/ledger.hpp: what is taken and given back, and what must never be.
#pragma once

#include <tandem/clock.hpp>

#include <atomic>
#include <chrono>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <utility>

namespace soak {

using namespace std::chrono_literals;

/// Something was found wrong: says so on stderr, the first times, and the soak fails. Allocates nothing.
[[gnu::format(printf, 1, 2)]] inline void complain(const char* format, ...) noexcept;
inline std::atomic<long> complaints{0};

inline void complain(const char* format, ...) noexcept {
  if (++complaints > 20) return;
  char text[600];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  std::fprintf(stderr, "soak: WRONG: %s\n", text);
}

/// One line of the ledger: so many were taken, so many given back. All accounts are in a list.
class account {
 public:
  explicit account(const char* name) noexcept : name_(name) {
    account** end = &first();
    while (*end) end = &(*end)->next_;
    *end = this;
  }
  account(const account&) = delete;
  account& operator=(const account&) = delete;

  void take(long n = 1) noexcept { taken_.fetch_add(n, std::memory_order_relaxed); }
  void give_back(long n = 1) noexcept { back_.fetch_add(n, std::memory_order_relaxed); }
  long taken() const noexcept { return taken_.load(); }
  long back() const noexcept { return back_.load(); }
  const char* name() const noexcept { return name_; }

  static account*& first() noexcept {
    static account* list = nullptr;
    return list;
  }
  account* next() const noexcept { return next_; }

 private:
  const char* name_;
  std::atomic<long> taken_{0}, back_{0};
  account* next_ = nullptr;
};

namespace ledger {

inline account frames("coroutines of the load");
inline account trees("trees begun, handlers called");
inline account permits("permits");
inline account shared_permits("permits, shared by loops");
inline account locks("locks");
inline account events("waits for an event");
inline account stock("things sold, bought");
inline account item_objects("items made, destroyed");
inline account items("items accepted, popped");
inline account range_items("items of ranges");
inline account picky_items("items of full queues");
inline account shared_items("items, shared by loops");
inline account jobs("jobs of pools");
inline account scheduled_jobs("jobs of schedulers");
inline account children("children of groups");
inline account bodies("bodies, clean-ups");
inline account acquired("resources acquired, released");
inline account exits("on_exit registered, awaited");
inline account loads("loads of caches");
inline account shared_loads("loads, shared by loops");
inline account leases("leases");
inline account resources("resources made, destroyed");
inline account slots("slots of a controller");
inline account calls("calls of services");
inline account error_handlers("error handlers told, ended");
inline account elsewhere("tasks on other loops");
inline account thread_calls("calls on threads");
inline account abandoned_calls("calls that may be abandoned");
inline account clients("connections of clients");
inline account served("connections of the server");
inline account lines("lines sent, echoed");

}  // namespace ledger

/// So many of an account, from now until it is destroyed.
class [[nodiscard]] held {
 public:
  explicit held(account& a, long n = 1) noexcept : account_(&a), n_(n) { a.take(n); }
  held(held&& o) noexcept : account_(std::exchange(o.account_, nullptr)), n_(o.n_) {}
  held& operator=(held&&) = delete;
  ~held() {
    if (account_) account_->give_back(n_);
  }

 private:
  account* account_;
  long n_;
};

/// So many of those who are in a place where there may be `most`, from now until it is destroyed.
class [[nodiscard]] inside {
 public:
  inside(std::atomic<long>& count, long n, long most, const char* what) noexcept : count_(&count), n_(n) {
    const long now = count.fetch_add(n) + n;
    if (now > most) complain("%ld %s are out, and there are %ld", now, what, most);
  }
  inside(inside&& o) noexcept : count_(std::exchange(o.count_, nullptr)), n_(o.n_) {}
  inside& operator=(inside&&) = delete;
  ~inside() {
    if (count_) count_->fetch_sub(n_);
  }

 private:
  std::atomic<long>* count_;
  long n_;
};

/// What goes through queues. It comes out once.
class item {
 public:
  explicit item(std::uint64_t) noexcept : is_there_(true) { ledger::item_objects.take(); }
  item(item&& o) noexcept : is_there_(std::exchange(o.is_there_, false)) {}
  item& operator=(item&& o) noexcept {
    end();
    is_there_ = std::exchange(o.is_there_, false);
    return *this;
  }
  ~item() { end(); }
  /// It has been popped.
  void consume(account& a) noexcept {
    if (!is_there_) complain("%s: an item came out that was moved from", a.name());
    a.give_back();
    end();
  }

 private:
  void end() noexcept {
    if (std::exchange(is_there_, false)) ledger::item_objects.give_back();
  }
  bool is_there_;
};

/// Chance, by a seed: SplitMix64.
class dice {
 public:
  explicit dice(std::uint64_t seed) noexcept : state_(seed) {}
  std::uint64_t next() noexcept {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t n) noexcept { return next() % n; }
  bool chance(std::uint64_t percent) noexcept { return below(100) < percent; }
  /// A short time, often none.
  tandem::clock::duration moment() noexcept {
    return chance(20) ? tandem::clock::duration() : std::chrono::microseconds(below(2000));
  }

 private:
  std::uint64_t state_;
};

}  // namespace soak
