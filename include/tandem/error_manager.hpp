// tandem/error_manager.hpp: what to do about failures, by their kinds: error_manager.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, cancel.hpp, clock.hpp, error_kind.hpp, exceptions.hpp, gather.hpp, lru_cache.hpp, outcome.hpp, priority_scheduler.hpp, progress.hpp, rate_limiter.hpp, retry.hpp, task.hpp, task_handle.hpp, this_task.hpp, detail/alarm.hpp, detail/cache_load.hpp, detail/calls.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/intrusive_list.hpp, detail/jobs.hpp, detail/leaf.hpp, detail/loop.hpp, detail/lru_table.hpp, detail/one_loop.hpp, detail/place.hpp, detail/priority.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "error_kind.hpp"
#include "exceptions.hpp"
#include "lru_cache.hpp"
#include "outcome.hpp"
#include "priority_scheduler.hpp"
#include "rate_limiter.hpp"
#include "retry.hpp"
#include "task.hpp"
#include "this_task.hpp"

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

static_assert(TANDEM_VERSION == 100, "tandem/error_manager.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// What a handler and a fallback are told of a failure.
struct error_info {
  error_info() = default;  // so that it is no aggregate, which g++ 12 would destroy twice
  error_kind kind = error_kind::unknown;
  std::exception_ptr error;
  std::string message;           ///< its `what()`
  std::string operation;         ///< the name that `guard` was given
  clock::time_point began{};     ///< when the call did
  clock::time_point when{};      ///< of the last attempt's end
  std::size_t attempts = 1;      ///< that there were
  std::uint64_t suppressed = 0;  ///< of this handler: failures that it was not told of since the last one
};

struct error_handler_options {
  /// A failure with the kind and the message of one that it was told of so lately is not told again; of the last 1,000
  /// messages.
  clock::duration deduplicate{};
  std::size_t limit = 0;  ///< it is told of so many in each `per` at most; 0: of all
  clock::duration per = std::chrono::minutes(1);
};

struct error_manager_options {
  std::size_t handlers_at_a_time = 4;  ///< at least 1
  std::size_t max_pending = 1000;      ///< failures that handlers have not done with; more are not told
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
/// this ends after them. What a handler throws is counted and changes nothing. If a fallback throws, the failure goes
/// on. A stop, and `cancelled`, are no failures: they are neither retried nor told.
///
/// For the coroutines of one loop. A call that succeeds costs two frames. Settings are made before calls; those of
/// calls that are under way stay valid. Destroying the manager stops handlers that run and drops others.
class error_manager {
 public:
  using handler = std::function<task<>(error_info)>;

  /// Throws std::invalid_argument for no handlers at a time.
  explicit error_manager(error_manager_options options);
  error_manager() : error_manager(error_manager_options()) {}
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
  /// What it gives for an exception, if anything, is its kind; if it throws it says nothing. It is not asked about what
  /// is cancelled.
  void classify(std::function<std::optional<error_kind>(const std::exception_ptr&)> classifier) {
    state_->classifiers.push_back(std::make_shared<const classifier_function>(std::move(classifier)));
  }
  error_kind kind_of(const std::exception_ptr& error) const { return state_->kind_of(error); }

  /// Another handler for failures of this kind. Throws std::invalid_argument for an empty handler, for a negative
  /// `deduplicate`, and, with a `limit`, for a `per` that is not positive.
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
  using classifier_function = std::function<std::optional<error_kind>(const std::exception_ptr&)>;
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
    error_kind kind_of(const std::exception_ptr& e) const noexcept;
    error_kind_stats& count(error_kind kind);
    /// Not, if the kind is new and there is no memory.
    void tell_count(error_kind kind, std::uint64_t error_kind_stats::*what) noexcept {
      try {
        ++(count(kind).*what);
      } catch (...) {
      }
    }
    const retry_options* retry_of(error_kind kind) const noexcept;
    /// A call begins.
    void deposit() noexcept;
    template <class T>
    std::shared_ptr<fallback_of<T>> fallback_for(error_kind kind) const noexcept {
      for (const auto& f : fallbacks)
        if (f->kind == kind && f->type == typeid(std::type_identity<T>))
          return std::static_pointer_cast<fallback_of<T>>(f);
      return nullptr;
    }

    error_manager_options options;
    std::vector<std::shared_ptr<const classifier_function>> classifiers;
    std::vector<std::shared_ptr<told>> handlers;
    std::vector<std::pair<error_kind, retry_options>> retries;
    std::vector<std::shared_ptr<any_fallback>> fallbacks;
    std::vector<error_kind_stats> counts;
    std::size_t pending = 0;
    priority_scheduler jobs;
  };
  /// A failure that is told of to one handler, until that has ended, however it ends.
  class ticket {
   public:
    explicit ticket(const std::shared_ptr<state>& s) noexcept : state_(s) { ++s->pending; }
    ticket(ticket&& o) noexcept : state_(std::exchange(o.state_, {})) {}
    ticket& operator=(ticket&&) = delete;
    ~ticket() {
      if (const auto s = state_.lock()) --s->pending;
    }
    std::shared_ptr<state> manager() const noexcept { return state_.lock(); }

   private:
    std::weak_ptr<state> state_;
  };
  /// The attempts of one call that failed in one way.
  struct tries {
    error_kind kind;
    retry_options options;
    std::size_t failures = 0;
    backoff waits;
  };
  template <class Function>
  static task<detail::called_t<Function>> guarded(std::shared_ptr<state> s, Function function, std::string operation);
  static task<> run_handler(ticket t, std::shared_ptr<told> h, error_info info);
  static void tell(const std::shared_ptr<state>& s, error_info& info) noexcept;
  /// True if it is to be told of that.
  static bool wants(told& h, const error_info& info);
  static retry_attempt decide(state& s, std::vector<tries>& all, const error_info& info, clock::duration took);

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

inline error_kind error_manager::state::kind_of(const std::exception_ptr& e) const noexcept {
  const error_kind usual = tandem::kind_of(e);
  if (!e || usual == error_kind::cancelled) return usual;
  for (std::size_t i = 0; i != classifiers.size(); ++i) {
    const auto c = classifiers[i];  // it may add others
    try {
      if (const auto kind = (*c)(e)) return *kind;
    } catch (...) {  // it says nothing
    }
  }
  return usual;
}
inline error_kind_stats& error_manager::state::count(error_kind kind) {
  for (error_kind_stats& c : counts)
    if (c.kind == kind) return c;
  return counts.emplace_back(error_kind_stats{.kind = kind});
}
inline void error_manager::state::deposit() noexcept {
  for (auto r = retries.begin(); r != retries.end(); ++r) {
    retry_budget* const budget = r->second.budget;
    const bool is_known =
        std::any_of(retries.begin(), r, [&](const auto& other) { return other.second.budget == budget; });
    if (budget && !is_known) budget->deposit();
  }
}
inline const retry_options* error_manager::state::retry_of(error_kind kind) const noexcept {
  for (const auto& r : retries)
    if (r.first == kind) return &r.second;
  return nullptr;
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
inline void error_manager::tell(const std::shared_ptr<state>& s, error_info& info) noexcept {
  const auto& all = s->handlers;
  const bool has_one = std::any_of(all.begin(), all.end(), [&](const auto& h) { return h->kind == info.kind; });
  for (std::size_t i = 0; i != all.size(); ++i) {
    const std::shared_ptr<told> h = all[i];
    if (has_one ? h->kind != info.kind : h->kind.has_value()) continue;
    bool is_told = false;
    try {
      if (info.message.empty()) info.message = detail::text_of(info.error);
      if (s->pending < s->options.max_pending && wants(*h, info)) {
        error_info told_of = info;
        told_of.suppressed = std::exchange(h->suppressed, 0);
        s->jobs.submit({.name = "error handler"}, run_handler, ticket(s), h, std::move(told_of));
        is_told = true;
      }
    } catch (...) {  // no memory, or the manager is gone
    }
    s->tell_count(info.kind, is_told ? &error_kind_stats::told : &error_kind_stats::suppressed);
    if (!is_told) ++h->suppressed;
  }
  try {
    if (info.message.empty()) info.message = detail::text_of(info.error);  // for a fallback
  } catch (...) {
  }
}

inline task<> error_manager::run_handler(ticket t, std::shared_ptr<told> h, error_info info) {
  const error_kind kind = info.kind;
  bool has_failed = false;
  try {
    auto handles = h->function(std::move(info));
    co_await std::move(handles);
  } catch (...) {
    has_failed = true;
  }
  const auto manager = t.manager();
  if (has_failed && manager) ++manager->count(kind).handler_failures;
}

/// What is to be done about a failure, or why nothing is.
inline retry_attempt error_manager::decide(state& s, std::vector<tries>& all, const error_info& info,
                                           clock::duration took) {
  retry_attempt a{info.attempts, took, info.error, std::nullopt, ""};
  const retry_options* const o = s.retry_of(info.kind);
  if (!o) return a;
  auto t = std::find_if(all.begin(), all.end(), [&](const tries& x) { return x.kind == info.kind; });
  if (t == all.end()) t = all.insert(t, tries{info.kind, *o, 0, detail::checked_backoff(*o)});
  detail::decide_on_another(a, t->options, detail::again_after(info.error), ++t->failures, t->waits,
                            detail::saturated_sum(info.began, t->options.total_timeout));
  t->options.observer(a);
  return a;
}

template <class Function>
task<detail::called_t<Function>> error_manager::guarded(std::shared_ptr<state> s, Function function,
                                                        std::string operation) {
  using T = detail::called_t<Function>;
  s->deposit();
  std::vector<tries> all;
  error_info info;
  info.operation = std::move(operation);
  info.began = clock::now();
  for (;; ++info.attempts) {
    const clock::time_point begin = clock::now();
    auto attempt = detail::outcome_of(function);
    auto result = co_await std::move(attempt);
    if (result) {
      for (const tries& t : all) s->tell_count(t.kind, &error_kind_stats::recovered);
      co_return detail::give(std::move(result));
    }
    info.when = clock::now();
    info.error = result.error();
    info.kind = s->kind_of(info.error);
    if (info.kind == error_kind::cancelled) std::rethrow_exception(info.error);
    s->tell_count(info.kind, &error_kind_stats::seen);
    retry_attempt a;
    try {
      a = decide(*s, all, info, info.when - begin);
    } catch (...) {  // no memory
    }
    if (!a.wait) break;
    co_await sleep_for(*a.wait);
    const tries& t = *std::find_if(all.begin(), all.end(), [&](const tries& x) { return x.kind == info.kind; });
    if (!detail::may_begin(a, t.options, detail::saturated_sum(info.began, t.options.total_timeout))) break;
    s->tell_count(info.kind, &error_kind_stats::retried);
  }
  s->tell_count(info.kind, &error_kind_stats::gave_up);
  tell(s, info);
  if (const auto instead = s->template fallback_for<T>(info.kind)) {
    const auto falls_back = [&] { return instead->function(info); };
    auto call = detail::outcome_of(falls_back);
    auto result = co_await std::move(call);
    if (result) {
      s->tell_count(info.kind, &error_kind_stats::fell_back);
      co_return detail::give(std::move(result));
    }
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
