// What stands in for Asio: contexts whose executors are queues of the explorer. Everything else is the library.
#pragma once

#include "explorer.hpp"

// All that the library includes: what comes after has its insides open, so that a scenario can name them.
#include <tandem/asio.hpp>

#include <asio.hpp>

#include <algorithm>
#include <any>
#include <array>
#include <atomic>
#include <bit>
#include <cassert>
#include <charconv>
#include <chrono>
#include <cmath>
#include <concepts>
#include <condition_variable>
#include <coroutine>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <iterator>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <optional>
#include <random>
#include <ranges>
#include <source_location>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <tuple>
#include <type_traits>
#include <typeindex>
#include <typeinfo>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#define private public
#define protected public
#include <tandem/detail/loop.hpp>

// The threads of to_thread are a queue as well.
namespace asio {
class queue_as_pool {
 public:
  explicit queue_as_pool(int) noexcept {}
  void attach() noexcept {}
  static inline explorer::serial_queue* queue = nullptr;
};
template <class Call>
void post(queue_as_pool&, Call c) {
  queue_as_pool::queue->post(std::move(c));
}
}  // namespace asio
#undef TANDEM_ASIO_HEADER
#define TANDEM_ASIO_HEADER(header) <asio.hpp>  // which is there already
#define thread_pool queue_as_pool
#include <tandem/threads.hpp>
#undef thread_pool

#include <tandem/inspect.hpp>
#include <tandem/lru_cache.hpp>
#include <tandem/queue.hpp>
#include <tandem/run.hpp>
#include <tandem/semaphore.hpp>
#include <tandem/task.hpp>
#undef private
#undef protected

namespace tandem::inline TANDEM_CONFIG::detail {

/// A context without threads: whoever runs its queues does.
class world : public asio::execution_context {
 public:
  class executor {
   public:
    executor(world& w, explorer::serial_queue& q) noexcept : world_(&w), queue_(&q) {}
    asio::execution_context& query(asio::execution::context_t) const noexcept { return *world_; }
    static constexpr asio::execution::blocking_t query(asio::execution::blocking_t) noexcept {
      return asio::execution::blocking.never;
    }
    executor require(asio::execution::blocking_t::never_t) const noexcept { return *this; }
    template <class Function>
    void execute(Function f) const {
      explorer::expect(!world_->is_gone_, "no post to an executor whose context has gone");
      queue_->post([kept = std::make_shared<Function>(std::move(f))] { (*kept)(); });
    }
    bool operator==(const executor& o) const noexcept { return queue_ == o.queue_; }
    bool operator!=(const executor& o) const noexcept { return queue_ != o.queue_; }

    world* world_;
    explorer::serial_queue* queue_;
  };

  explicit world() { asio::use_service<loop_service>(*this); }
  ~world() { end(); }
  void end() {
    if (std::exchange(is_ended_, true)) return;
    shutdown();
    is_gone_ = true;
    for (explorer::serial_queue* q : queues_) q->clear();
    destroy();
  }

  /// The loop that stays as long as the context.
  loop& permanent(explorer::serial_queue& q) {
    queues_[0] = &q;
    auto& loops = asio::use_service<loop_service>(*this);
    const asio::any_io_executor e(executor(*this, q));
    if (!loops.main_) loops.main_ = new loop(loops, e, reach(e), false);
    return known(*loops.main_);
  }
  /// The one of a strand, which goes when it is idle.
  loop::entry strand(explorer::serial_queue& q) {
    auto e = asio::use_service<loop_service>(*this).of(asio::any_io_executor(executor(*this, q)), reach);
    known(*e);
    return e;
  }
  void owns(explorer::serial_queue& q) { queues_[1] = &q; }

 private:
  static loop& known(loop& l) {
    explorer::name(&l.inbox_, "inbox_");
    explorer::name(&l.posting_, "posting_");
    explorer::name(&l.closed_, "closed_");
    explorer::name(&l.pushers_, "pushers_");
    explorer::name(&l.entries_, "entries_");
    explorer::name(&l.visit_wanted_, "visit_wanted_");
    explorer::name(&l.observed_, "observed_");
    explorer::name(&l.turn_.number, "turn_.number");
    explorer::name(&l.service_->mutex_, "mutex of the service");
    explorer::name(&loops_alive::get().mutex, "mutex of the loops");
    explorer::additions_commute(&l.pushers_);
    return l;
  }
  static loop::access reach(const asio::any_io_executor& e) {
    return {e,
            [](loop& l) {
              const executor& own = *l.executor_.target<executor>();
              explorer::expect(!own.world_->is_gone_, "no post to an executor whose context has gone");
              own.queue_->post([&l] {
                explorer::expect(!l.running_, "never two drains of a loop at once");
                loop::drain_handler{&l}();
              });
            },
            [](const loop& l) { return l.executor_.target<executor>()->queue_->runs_here(); }};
  }
  static explorer::serial_queue& none() {
    static explorer::serial_queue q;
    return q;
  }
  explorer::serial_queue* queues_[2] = {&none(), &none()};
  bool is_gone_ = false, is_ended_ = false;
};

/// Counts, in a turn of the loop.
class message : public arrival {
 public:
  explicit message(int& count) noexcept : count_(count) {}
  const char* what() const noexcept override { return "message"; }
  void arrive() noexcept override { ++count_; }

 private:
  int& count_;
};
/// Asks a tree to stop, in a turn of its loop, if it is still there.
class stop_message : public arrival {
 public:
  stop_message(root& r, const bool& is_over) noexcept : root_(r), loop_(*r.scope().loop), is_over_(is_over) {}
  const char* what() const noexcept override { return "stop"; }
  void arrive() noexcept override {
    if (!is_over_) loop_.ask_to_stop(root_);
  }

 private:
  root& root_;
  loop& loop_;
  const bool& is_over_;
};

/// What has become of a tree.
struct ending {
  bool is_over = false, was_stopped = false;
  int value = 0;
};
class tree : public root {
 public:
  tree(loop& l, ending& e) noexcept : root(l), ending_(e) {}
  void begin(task<int> t) noexcept { start(*t.release()); }

 private:
  void ended(frame& body, fate how) noexcept override {
    explorer::expect(!ending_.is_over, "a tree ends once");
    ending_.is_over = true;
    ending_.was_stopped = how == fate::stopped;
    if (how == fate::done && static_cast<promise<int>&>(body).result.has_value())
      ending_.value = static_cast<promise<int>&>(body).result.take();
    body.destroy();
  }
  ending& ending_;
};

/// Waits until it is stopped.
class forever : public leaf {
 public:
  forever() noexcept = default;
  forever(forever&&) noexcept {}
  const char* what() const noexcept override { return "forever"; }
  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    park(f);
    return true;
  }
  void await_resume() noexcept { consume(); }
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
