// tandem/cached.hpp: functions that remember what they gave: cached.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, gather.hpp, lru_cache.hpp, outcome.hpp, progress.hpp, task.hpp, detail/cache_load.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/lru_table.hpp, detail/one_loop.hpp, detail/random.hpp, detail/result.hpp, detail/timer_heap.hpp, detail/tracer.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "clock.hpp"
#include "lru_cache.hpp"
#include "task.hpp"

#include "detail/gcc12.hpp"
#include "detail/loop.hpp"
#include "detail/lru_table.hpp"

#include <concepts>
#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/cached.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

struct cached_options {
  std::size_t capacity = 1000;                   ///< results that are kept; at least 1
  clock::duration ttl = clock::duration::max();  ///< time to live of each
  /// A result that has no longer than this to live is still given, and fetched again meanwhile, so that nobody waits
  /// for what is in use. If that fails the old one stays to its end, and the next call tries again.
  clock::duration refresh_ahead{};
  double jitter = 0;  ///< as in lru_cache_options
};

namespace detail {
template <class Function, class Value, class... Args>
struct cached_state;
}  // namespace detail

/// What `cached` returns. Copies share the results.
template <class Function, class Value, class... Args>
class cached_function {
 public:
  /// `co_await` gives the Value. The look-up, and the start of a refresh, are made by the call.
  template <class... A>
  requires(std::convertible_to<A, Args>&&...) auto operator()(A&&... args) const {
    detail::refuse_what_gcc12_miscompiles<A...>();
    return state_->get(args...);
  }

  /// Keeps the value as what the function gives for these arguments.
  void put(const Args&... args, Value value) const { state_->results.put({args...}, std::move(value)); }
  /// Forgets what it gave for these. False if there was nothing.
  bool erase(const Args&... args) const { return state_->results.erase(std::tuple<Args...>(args...)); }
  void clear() const { state_->results.clear(); }
  lru_cache_stats stats() const { return state_->results.stats(); }

  /// Made by the library.
  explicit cached_function(std::shared_ptr<detail::cached_state<Function, Value, Args...>> s) : state_(std::move(s)) {}

 private:
  std::shared_ptr<detail::cached_state<Function, Value, Args...>> state_;
};

/// `auto fetch_user = cached(load_user)`, and from then on `co_await fetch_user(id)`: calls `load_user(id)` for each id
/// once, and remembers what it gave.
///
/// For a function, or an object with one call operator that is no template, which returns an awaitable. The arguments,
/// as by std::decay, are the key. What is said of `lru_cache` holds here: one call at a time for the same arguments,
/// failures are not kept, the work belongs to the cache, a refresh too; what is put or erased meanwhile is not
/// overruled. Results go when the last copy and the last work under way have gone. For the coroutines of one loop.
/// Throws std::invalid_argument as `lru_cache` does, and for a `refresh_ahead` that is negative, or no shorter than
/// `ttl`.
template <class Function>
auto cached(Function function, cached_options options = {});

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

struct arguments_hash {
  template <class... Args>
  std::size_t operator()(const std::tuple<Args...>& args) const {
    std::size_t h = 0;
    std::apply([&](const Args&... a) { ((h = spread(h + 1) ^ lru_cache_hash<Args>()(a)), ...); }, args);
    return h;
  }
};

template <class Function, class Value, class... Args>
struct cached_state : std::enable_shared_from_this<cached_state<Function, Value, Args...>> {
  using key = std::tuple<Args...>;

  cached_state(Function f, const cached_options& o)
      : function(std::move(f)),
        refresh_ahead(o.refresh_ahead),
        results({.capacity = o.capacity, .ttl = o.ttl, .jitter = o.jitter}) {
    if (o.refresh_ahead < clock::duration::zero() || o.refresh_ahead >= o.ttl)
      throw std::invalid_argument("tandem::cached: refresh_ahead is " + std::to_string(o.refresh_ahead.count()) +
                                  " ns; it must not be negative, and shorter than ttl");
  }

  /// A loader that keeps the state once it is copied: a hit copies none.
  class loader {
   public:
    explicit loader(cached_state& s) noexcept : state_(&s) {}
    loader(const loader& o) : state_(o.state_), kept_(o.state_->shared_from_this()) {}
    auto operator()(const key& k) { return std::apply(state_->function, k); }

   private:
    cached_state* state_;
    std::shared_ptr<cached_state> kept_;
  };

  auto get(const Args&... args) {
    const key k(args...);
    const loader load(*this);
    if (refresh_ahead != clock::duration::zero()) refresh_if_due(k, load);
    return results.get(k, load);
  }
  void refresh_if_due(const key& k, const loader& load) {
    loop* here = loop::current();
    const auto end = results.expires_at(k);
    if (!here || !end || *end <= here->now() || *end > saturated_sum(here->now(), refresh_ahead)) return;
    try {
      results.refresh(k, load);
    } catch (const std::bad_alloc&) {  // the next call tries again
    }
  }

  Function function;
  clock::duration refresh_ahead;
  lru_cache<key, Value, arguments_hash> results;
};

/// Kept as keys, they would refer to what has gone.
template <class T>
constexpr bool is_view = false;
template <class T>
constexpr bool is_view<T*> = requires(T* text) {
  std::basic_string_view(text);
};
template <class C, class Traits>
constexpr bool is_view<std::basic_string_view<C, Traits>> = true;
template <class T, std::size_t N>
constexpr bool is_view<std::span<T, N>> = true;

template <class Function>
struct signature_of {
  static_assert(
      requires { &Function::operator(); },
      "cached takes a function, or an object with one call operator that is no template");
};
template <class Function>
requires requires { &Function::operator(); }
struct signature_of<Function> : signature_of<decltype(&Function::operator())> {};
template <class R, class... Args>
struct signature_of<R (*)(Args...)> {
  static_assert(
      requires(R(*f)(Args...), Args... args) { as_task(f(std::forward<Args>(args)...)); },
      "the function must return an awaitable, such as a task");
  static_assert((!is_view<std::decay_t<Args>> && ...),
                "the arguments are kept as a key: take a std::string, or another type that owns what it stands for, "
                "instead of a pointer or a view");
  template <class Function>
  using state =
      cached_state<Function, typename decltype(as_task(std::declval<R>()))::value_type, std::decay_t<Args>...>;
  template <class Function>
  using face =
      cached_function<Function, typename decltype(as_task(std::declval<R>()))::value_type, std::decay_t<Args>...>;
};
template <class R, class... Args>
struct signature_of<R (*)(Args...) noexcept> : signature_of<R (*)(Args...)> {};
template <class R, class C, class... Args>
struct signature_of<R (C::*)(Args...)> : signature_of<R (*)(Args...)> {};
template <class R, class C, class... Args>
struct signature_of<R (C::*)(Args...) const> : signature_of<R (*)(Args...)> {};
template <class R, class C, class... Args>
struct signature_of<R (C::*)(Args...) noexcept> : signature_of<R (*)(Args...)> {};
template <class R, class C, class... Args>
struct signature_of<R (C::*)(Args...) const noexcept> : signature_of<R (*)(Args...)> {};

}  // namespace detail

template <class Function>
auto cached(Function function, cached_options options) {
  using signature = detail::signature_of<Function>;
  using state = typename signature::template state<Function>;
  using face = typename signature::template face<Function>;
  return face(std::make_shared<state>(std::move(function), options));
}

}  // namespace tandem::inline TANDEM_CONFIG
