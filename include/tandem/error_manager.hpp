// tandem/error_manager.hpp: what to do about failures, by their kinds: error_manager.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, cancel.hpp, clock.hpp, error_kind.hpp, exceptions.hpp, gather.hpp, lru_cache.hpp, priority_scheduler.hpp, rate_limiter.hpp, retry.hpp, run.hpp, spawn.hpp, task.hpp, task_handle.hpp, threads.hpp, use_task.hpp, detail/alarm.hpp, detail/await_tree.hpp, detail/cache_load.hpp, detail/calls.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/holder.hpp, detail/intrusive_list.hpp, detail/jobs.hpp, detail/loop.hpp, detail/lru_table.hpp, detail/one_loop.hpp, detail/priority.hpp, detail/random.hpp, detail/result.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "error_kind.hpp"
#include "exceptions.hpp"
#include "gather.hpp"  // outcome
#include "lru_cache.hpp"
#include "priority_scheduler.hpp"
#include "rate_limiter.hpp"
#include "retry.hpp"
#include "run.hpp"  // sleep_for
#include "task.hpp"

#include "detail/calls.hpp"
#include "detail/gcc12.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>  // std::function
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeindex>
#include <utility>
#include <vector>

namespace tandem::inline TANDEM_CONFIG {

/// What a handler and a fallback are told of a failure.
struct error_info {
  error_info() = default;  // so that it is no aggregate, which g++ 12 would destroy twice
  error_kind kind = error_kind::unknown;
  std::exception_ptr error;
  std::string message;           ///< its `what()`
  std::string operation;         ///< the name that `guard` was given
  clock::time_point when{};      ///< of the last attempt's end
  std::size_t attempts = 1;      ///< that there were
  std::uint64_t suppressed = 0;  ///< of this handler: failures that it was not told of since the last one
};

struct error_handler_options {
  /// A failure with the kind and the message of one that it was told of so lately is not told again.
  clock::duration deduplicate{};
  std::size_t limit = 0;  ///< it is told of so many in each `per` at most; 0: of all
  clock::duration per = std::chrono::minutes(1);
};

struct error_manager_options {
  std::size_t handlers_at_a_time = 4;  ///< at least 1
  std::size_t max_pending = 1000;      ///< failures that wait for their handlers; more are not told
};

/// Of one kind.
struct error_kind_stats {
  error_kind kind = error_kind::unknown;
  std::uint64_t seen = 0;                                        ///< failures of attempts
  std::uint64_t retried = 0;                                     ///< attempts that were made because of them
  std::uint64_t recovered = 0;                                   ///< guarded calls that succeeded after them
  std::uint64_t gave_up = 0;                                     ///< guarded calls that failed with one
  std::uint64_t fell_back = 0;                                   ///< of these, those that gave a fallback
  std::uint64_t told = 0, suppressed = 0, handler_failures = 0;  ///< of all handlers together
};

/// Knows what to do about failures, and does it for the calls that it guards: `co_await errors.guard(fetch, "fetch")`.
///
/// A failure has a kind (`kind_of`, or what `classify` has been told). Kinds for which there is a `retry` are tried
/// again as that says, each kind by its own count. If the call fails in the end, the handlers of the kind are told, or,
/// if it has none, those of `on_other`; then, if there is a `fallback` for the kind and the type of the result, the
/// call gives that, and otherwise the failure goes on as it is.
///
/// Handlers are coroutines, and nobody waits for them: they run as jobs of the tree in which the call was made, so that
/// this ends after them. What a handler throws is counted and changes nothing; so does a fallback that throws, and then
/// the failure goes on. A stop, and `cancelled`, are no failures: they are neither retried nor told.
///
/// For the coroutines of one loop. A call that succeeds costs two frames. Settings are made before calls; those of
/// calls that are under way stay valid. Destroying the manager stops handlers that run and drops others.
class error_manager {
 public:
  using handler = std::function<task<>(error_info)>;

  /// Throws std::invalid_argument for no handlers at a time.
  explicit error_manager(error_manager_options options = {});
  ~error_manager() { state_->jobs.cancel(); }
  error_manager(const error_manager&) = delete;  // a manager is shared: pass it by reference
  error_manager& operator=(const error_manager&) = delete;

  /// Exceptions of type E are of that kind, whatever `kind_of` says. The first that fits counts.
  template <class E>
  void classify(error_kind kind) {
    classify([kind](const std::exception_ptr& e) -> std::optional<error_kind> {
      try {
        std::rethrow_exception(e);
      } catch (const E&) {
        return kind;
      } catch (...) {
        return std::nullopt;
      }
    });
  }
  /// What it gives for an exception, if anything, is its kind.
  void classify(std::function<std::optional<error_kind>(const std::exception_ptr&)> classifier) {
    state_->classifiers.push_back(std::move(classifier));
  }
  error_kind kind_of(const std::exception_ptr& error) const { return state_->kind_of(error); }

  /// Another handler for failures of this kind. Throws std::invalid_argument for negative or zero times.
  void on(error_kind kind, handler h, error_handler_options options = {});
  /// One for kinds that have none.
  void on_other(handler h, error_handler_options options = {});

  /// Calls that fail so are tried again. As for `retry`, but for `attempt_timeout`, since a kind is known only
  /// afterwards; `total_timeout` counts from the start of the call, and stops no attempt. Replaces what was there.
  /// Throws std::invalid_argument for options outside their range, for an attempt_timeout, and for cancelled.
  void retry(error_kind kind, retry_options options);

  /// Calls of type T that fail so give what `function(error_info)` returns in place of the failure, a T or something to
  /// await that gives one. Replaces what was there.
  template <class T, class Function>
  void fallback(error_kind kind, Function function);

  /// Calls `function()`, awaits what that returns, and gives it.
  template <class Function>
  auto guard(Function&& function, std::string_view operation = {});

  /// Waits until every handler that was started has ended.
  [[nodiscard("it does nothing until it is awaited")]] auto drain() { return state_->jobs.drain(); }

  /// Of each kind that was seen, in the order in which they were.
  std::vector<error_kind_stats> stats() const { return state_->counts; }
  error_kind_stats stats(error_kind kind) const;

 private:
  struct told {
    told(error_kind k, handler h, const error_handler_options& o);
    std::optional<error_kind> kind;  // none: for others
    handler function;
    std::uint64_t suppressed = 0;
    std::unique_ptr<lru_cache<std::string, bool>> lately;
    std::unique_ptr<rate_limiter> limit;
  };
  struct any_fallback {
    any_fallback(error_kind k, std::type_index t) : kind(k), type(t) {}
    virtual ~any_fallback() = default;
    error_kind kind;
    std::type_index type;
  };
  template <class T>
  struct fallback_of : any_fallback {
    fallback_of(error_kind k, std::function<task<T>(error_info)> f)
        : any_fallback(k, typeid(std::type_identity<T>)), function(std::move(f)) {}
    std::function<task<T>(error_info)> function;
  };
  /// It lives as long as the manager, or a call.
  struct state {
    explicit state(const error_manager_options& o)
        : options(o), jobs(priority_scheduler_options{.slots = o.handlers_at_a_time}) {}
    error_kind kind_of(const std::exception_ptr& e) const;
    error_kind_stats& count(error_kind kind);
    const retry_options* retry_of(error_kind kind) const noexcept;

    error_manager_options options;
    std::vector<std::function<std::optional<error_kind>(const std::exception_ptr&)>> classifiers;
    std::vector<std::shared_ptr<told>> handlers;
    std::vector<std::pair<error_kind, retry_options>> retries;
    std::vector<std::shared_ptr<any_fallback>> fallbacks;
    std::vector<error_kind_stats> counts;
    std::size_t pending = 0;
    priority_scheduler jobs;
  };
  /// The attempts of one call that failed in one way.
  struct tries {
    error_kind kind;
    std::size_t failures = 0;
    backoff waits;
  };
  template <class Function>
  static task<detail::called_t<Function>> guarded(std::shared_ptr<state> s, Function function, std::string operation);
  static task<> run_handler(std::weak_ptr<state> s, std::shared_ptr<told> h, error_info info);
  static void tell(const std::shared_ptr<state>& s, const error_info& info) noexcept;
  /// True if it is to be told of that.
  static bool wants(told& h, const error_info& info);
  static std::optional<clock::duration> wait_before_another(state& s, std::vector<tries>& all, error_kind kind,
                                                            const std::exception_ptr& error, clock::time_point began,
                                                            std::size_t attempts, clock::duration took);
  static std::string message_of(const std::exception_ptr& e);

  std::shared_ptr<state> state_;
};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {
/// A function of an error_info as a coroutine.
template <class T, class Function>
class fallback_function {
 public:
  explicit fallback_function(Function f) : function_(std::move(f)) {}
  task<T> operator()(error_info info) {
    if constexpr (gives_awaitable<Function&, error_info>())
      co_return co_await function_(std::move(info));
    else
      co_return function_(std::move(info));
  }

 private:
  Function function_;
};
}  // namespace detail

inline error_manager::error_manager(error_manager_options options) {
  if (options.handlers_at_a_time == 0)
    throw std::invalid_argument("tandem::error_manager: handlers_at_a_time is 0; it must be at least 1");
  state_ = std::make_shared<state>(options);
}

inline error_manager::told::told(error_kind k, handler h, const error_handler_options& o)
    : kind(k), function(std::move(h)) {
  if (!function) throw std::invalid_argument("tandem::error_manager: the handler is empty");
  detail::refuse_negative(o.deduplicate, "tandem::error_manager: deduplicate");
  if (o.deduplicate != clock::duration::zero())
    lately = std::make_unique<lru_cache<std::string, bool>>(
        lru_cache_options<std::string, bool>{.capacity = 1000, .ttl = o.deduplicate});
  if (o.limit != 0) limit = std::make_unique<rate_limiter>(sliding_window{.limit = o.limit, .window = o.per});
}

inline void error_manager::on(error_kind kind, handler h, error_handler_options options) {
  state_->handlers.push_back(std::make_shared<told>(kind, std::move(h), options));
}
inline void error_manager::on_other(handler h, error_handler_options options) {
  state_->handlers.push_back(std::make_shared<told>(error_kind::unknown, std::move(h), options));
  state_->handlers.back()->kind.reset();
}

inline void error_manager::retry(error_kind kind, retry_options options) {
  detail::checked_backoff(options);
  if (kind == error_kind::cancelled)
    throw std::invalid_argument("tandem::error_manager: what was cancelled is not retried");
  if (options.attempt_timeout != clock::duration::max())
    throw std::invalid_argument(
        "tandem::error_manager: an attempt_timeout is for every kind; put tandem::timeout into the function");
  for (auto& [known, old] : state_->retries)
    if (known == kind) {
      old = options;
      return;
    }
  state_->retries.emplace_back(kind, options);
}

template <class T, class Function>
void error_manager::fallback(error_kind kind, Function function) {
  static_assert(std::is_invocable_v<Function&, error_info>,
                "a fallback takes an error_info and gives a T, or something to await that gives one");
  auto made = std::make_shared<fallback_of<T>>(kind, detail::fallback_function<T, Function>(std::move(function)));
  std::erase_if(state_->fallbacks, [&](const auto& f) { return f->kind == kind && f->type == made->type; });
  state_->fallbacks.push_back(std::move(made));
}

inline error_kind_stats error_manager::stats(error_kind kind) const {
  for (const error_kind_stats& c : state_->counts)
    if (c.kind == kind) return c;
  return {.kind = kind};
}

inline error_kind error_manager::state::kind_of(const std::exception_ptr& e) const {
  for (const auto& c : classifiers)
    if (const auto kind = c(e)) return *kind;
  return tandem::kind_of(e);
}
inline error_kind_stats& error_manager::state::count(error_kind kind) {
  for (error_kind_stats& c : counts)
    if (c.kind == kind) return c;
  return counts.emplace_back(error_kind_stats{.kind = kind});
}
inline const retry_options* error_manager::state::retry_of(error_kind kind) const noexcept {
  for (const auto& r : retries)
    if (r.first == kind) return &r.second;
  return nullptr;
}

inline std::string error_manager::message_of(const std::exception_ptr& e) {
  try {
    std::rethrow_exception(e);
  } catch (const std::exception& x) {
    return x.what();
  } catch (...) {
    return "an exception of unknown type";
  }
}

inline bool error_manager::wants(told& h, const error_info& info) {
  if (h.lately) {
    const std::string key = std::string(info.kind.name()) + '\n' + info.message;
    if (h.lately->find(key)) return false;
    if (h.limit && !h.limit->try_acquire()) return false;
    h.lately->put(key, true);
    return true;
  }
  return !h.limit || h.limit->try_acquire();
}

/// Those who are to know. What goes wrong here must not hide the failure.
inline void error_manager::tell(const std::shared_ptr<state>& s, const error_info& info) noexcept {
  bool has_one = false;
  for (const auto& h : s->handlers) has_one = has_one || h->kind == info.kind;
  const std::vector<std::shared_ptr<told>>& all = s->handlers;
  for (std::size_t i = 0; i != all.size(); ++i) {
    const std::shared_ptr<told> h = all[i];
    if (has_one ? h->kind != info.kind : h->kind.has_value()) continue;
    error_kind_stats* const c = &s->count(info.kind);
    try {
      if (s->pending >= s->options.max_pending || !wants(*h, info)) {
        ++c->suppressed;
        ++h->suppressed;
        continue;
      }
      error_info told_of = info;
      told_of.suppressed = h->suppressed;
      s->jobs.submit({.name = "error handler"}, run_handler, std::weak_ptr<state>(s), h, std::move(told_of));
      h->suppressed = 0;
      ++s->pending;
      ++c->told;
    } catch (...) {  // no memory, or the manager is gone
      ++c->suppressed;
      ++h->suppressed;
    }
  }
}

inline task<> error_manager::run_handler(std::weak_ptr<state> s, std::shared_ptr<told> h, error_info info) {
  const error_kind kind = info.kind;
  bool has_failed = false;
  try {
    auto handles = h->function(std::move(info));
    co_await std::move(handles);
  } catch (...) {
    has_failed = true;
  }
  if (const auto still = s.lock()) {
    --still->pending;
    if (has_failed) ++still->count(kind).handler_failures;
  }
}

inline std::optional<clock::duration> error_manager::wait_before_another(state& s, std::vector<tries>& all,
                                                                         error_kind kind,
                                                                         const std::exception_ptr& error,
                                                                         clock::time_point began, std::size_t attempts,
                                                                         clock::duration took) {
  const retry_options* const o = s.retry_of(kind);
  if (!o) return std::nullopt;
  auto t = std::find_if(all.begin(), all.end(), [&](const tries& x) { return x.kind == kind; });
  if (t == all.end()) t = all.insert(t, tries{kind, 0, detail::checked_backoff(*o)});
  ++t->failures;
  retry_attempt a{attempts, took, error, std::nullopt, ""};
  const retry_decision d = detail::again_after(error);
  if (t->failures >= o->attempts) {
    a.reason = "there are no more attempts";
  } else if (!o->idempotent && !d.is_safe()) {
    a.reason = "it may have been done, and must not be done twice";
  } else {
    const clock::duration wait = std::max(d.wait() ? *d.wait() : t->waits.next(), clock::duration::zero());
    if (detail::saturated_sum(clock::now(), wait) >= detail::saturated_sum(began, o->total_timeout))
      a.reason = "there is no time for another attempt";
    else if (o->budget && !o->budget->withdraw())
      a.reason = "the budget has no retry left";
    else
      a.wait = wait;
  }
  o->observer(a);
  return a.wait;
}

template <class Function>
task<detail::called_t<Function>> error_manager::guarded(std::shared_ptr<state> s, Function function,
                                                        std::string operation) {
  using T = detail::called_t<Function>;
  const clock::time_point began = clock::now();
  for (auto r = s->retries.begin(); r != s->retries.end(); ++r)
    if (r->second.budget &&
        std::none_of(s->retries.begin(), r, [&](const auto& other) { return other.second.budget == r->second.budget; }))
      r->second.budget->deposit();
  std::vector<tries> all;
  error_info info;
  info.operation = std::move(operation);
  for (;; ++info.attempts) {
    const clock::time_point begin = clock::now();
    auto attempt = detail::outcome_of(function);
    auto result = co_await std::move(attempt);
    if (result) {
      for (const tries& t : all) ++s->count(t.kind).recovered;
      co_return detail::give(std::move(result));
    }
    info.when = clock::now();
    info.error = result.error();
    info.kind = s->kind_of(info.error);
    if (info.kind == error_kind::cancelled) std::rethrow_exception(info.error);
    ++s->count(info.kind).seen;
    const auto wait = wait_before_another(*s, all, info.kind, info.error, began, info.attempts, info.when - begin);
    if (!wait) break;
    ++s->count(info.kind).retried;
    co_await sleep_for(*wait);
  }
  ++s->count(info.kind).gave_up;
  info.message = message_of(info.error);
  tell(s, info);
  for (const auto& f : std::vector(s->fallbacks)) {
    if (f->kind != info.kind || f->type != typeid(std::type_identity<T>)) continue;
    auto instead = static_cast<fallback_of<T>&>(*f).function;
    const auto falls_back = [&] { return instead(info); };
    auto call = detail::outcome_of(falls_back);
    auto result = co_await std::move(call);
    if (!result) break;
    ++s->count(info.kind).fell_back;
    co_return detail::give(std::move(result));
  }
  std::rethrow_exception(info.error);
}

template <class Function>
auto error_manager::guard(Function&& function, std::string_view operation) {
  detail::refuse_what_gcc12_miscompiles<Function>();
  static_assert(detail::gives_awaitable<std::decay_t<Function>&>(),
                "what is guarded is a callable that takes nothing and returns an awaitable, such as a task");
  return guarded<std::decay_t<Function>>(state_, std::forward<Function>(function), std::string(operation));
}

}  // namespace tandem::inline TANDEM_CONFIG
