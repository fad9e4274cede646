// tandem/use_task.hpp: use_task, the completion token that makes any Asio operation awaitable.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, clock.hpp, exceptions.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/intrusive_list.hpp, detail/leaf.hpp, detail/loop.hpp, detail/random.hpp, detail/timer_heap.hpp, detail/tracer.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "detail/frame.hpp"
#include "detail/loop.hpp"

#include TANDEM_ASIO_HEADER(async_result.hpp)
#include TANDEM_ASIO_HEADER(awaitable.hpp)
#include TANDEM_ASIO_HEADER(cancellation_signal.hpp)
#include TANDEM_ASIO_HEADER(co_spawn.hpp)
#include TANDEM_ASIO_HEADER(redirect_error.hpp)

#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

static_assert(TANDEM_VERSION == 100, "tandem/use_task.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG {

/// Completion token: `std::size_t n = co_await socket.async_read_some(buffer, use_task)`.
///
/// The operation starts when it is awaited and the coroutine is resumed by its loop, on the loop's executor, when the
/// operation's handler has been called. An `error_code` or `exception_ptr` that comes first is thrown (`system_error`
/// carries the code); what remains is the result: nothing, one value, or a tuple. `as_tuple(use_task)` gives the code
/// as a value, `redirect_error(use_task, ec)` assigns it. What an initiating function throws is thrown from the
/// co_await.
///
/// Cancellation: in a stopped scope the operation is not started. A stop while it runs emits Asio's cancellation, and
/// the handler's result decides: `operation_aborted` stops the coroutine, under `as_tuple` and `redirect_error` too;
/// anything else is delivered, and the next wait stops. The bytes that a composed operation such as `async_read` had
/// transferred when it was stopped are lost. A handler that is destroyed without a call counts as `operation_aborted`.
///
/// A handler that is called on another thread than the loop's is taken home; its cancellation may be asked for until
/// then.
///
/// An `asio::awaitable<T>` is awaited as it is. It runs as one operation, on the loop's executor; inside, cancellation
/// is Asio's exception, and only an end in `operation_aborted` stops the coroutine.
///
/// Allocates nothing beyond Asio's own, recycled, operation memory. The awaitable may be moved until it is awaited, as
/// in `timeout(1s, socket.async_read_some(buffer, use_task))`.
struct use_task_t {
  /// `use_task_t::as_default_on_t<asio::ip::tcp::socket>`: a socket whose operations need no token.
  template <class Executor>
  struct executor_with_default : Executor {
    using default_completion_token_type = use_task_t;
    executor_with_default(const Executor& e) noexcept : Executor(e) {}
    template <class Other>
    requires(!std::is_same_v<Other, executor_with_default> && std::is_convertible_v<Other, Executor>)
        executor_with_default(const Other& e)
    noexcept : Executor(e) {}
  };
  template <class Object>
  using as_default_on_t =
      typename Object::template rebind_executor<executor_with_default<typename Object::executor_type>>::other;

  /// `use_task.as_default_on(std::move(socket))`.
  template <class Object>
  static as_default_on_t<std::decay_t<Object>> as_default_on(Object&& object) {
    return as_default_on_t<std::decay_t<Object>>(std::forward<Object>(object));
  }
};
inline constexpr use_task_t use_task{};

// ---- implementation ------------------------------------------------------------------------------------------------

namespace detail {

/// The part of an operation in flight that does not depend on its signature.
class any_operation : public arrival {
 public:
  /// What completes this operation is a tree of the same loop, not something outside.
  void is_completed_by(loop& l) noexcept {
    if (&l == &loop_of_waiter() && std::exchange(counts_, false)) l.operation_ended_inline();
  }

 protected:
  any_operation() = default;
  ~any_operation() = default;
  bool counts_ = true;  // as in flight
};

/// A cancellation slot whose handler lives in the awaiting frame instead of on the heap.
class slot_memory {
 public:
  explicit slot_memory(any_operation& o) noexcept : operation_(o) {}
  slot_memory(const slot_memory&) = delete;
  slot_memory& operator=(const slot_memory&) = delete;
  ~slot_memory() { clear(); }

  template <class Handler, class... Args>
  Handler& emplace(Args&&... args) {
    clear();
    constexpr bool fits = sizeof(Handler) <= sizeof(bytes_) && alignof(Handler) <= alignof(std::max_align_t);
    const bool here = fits && !emitting_;  // where the handler that is being called still is
    void* where = here ? bytes_ : ::operator new(sizeof(Handler), std::align_val_t(alignof(Handler)));
    Handler* h = ::new (where) Handler(std::forward<Args>(args)...);
    handler_ = h;
    call_ = [](void* p, asio::cancellation_type_t type) { (*static_cast<Handler*>(p))(type); };
    destroy_ = [](void* p, bool on_heap) {
      std::destroy_at(static_cast<Handler*>(p));
      if (on_heap) ::operator delete(p, std::align_val_t(alignof(Handler)));
    };
    return *h;
  }
  /// A handler that completes the operation from inside its own call goes when that call returns.
  void clear() noexcept {
    if (void* h = std::exchange(handler_, nullptr); h && h != emitting_) destroy_(h, h != bytes_);
  }
  bool has_handler() const noexcept { return handler_ != nullptr; }
  void emit() {
    if (!handler_) {
      if (fallback_) fallback_->emit(asio::cancellation_type::all);
      return;
    }
    struct done {  // also when the handler throws
      slot_memory& memory;
      void* handler;
      void (*destroy)(void*, bool);
      ~done() {
        memory.emitting_ = nullptr;
        if (memory.handler_ != handler) destroy(handler, handler != memory.bytes_);
      }
    } done{*this, emitting_ = handler_, destroy_};
    call_(handler_, asio::cancellation_type::all);
  }
  any_operation& operation() const noexcept { return operation_; }
  asio::cancellation_slot plain_slot() {  // for libraries that store no other type of slot
    if (!fallback_) fallback_ = std::make_unique<asio::cancellation_signal>();
    return fallback_->slot();
  }

 private:
  alignas(std::max_align_t) unsigned char bytes_[48];
  void* handler_ = nullptr;
  void (*call_)(void*, asio::cancellation_type_t) = nullptr;
  void (*destroy_)(void*, bool on_heap) = nullptr;
  void* emitting_ = nullptr;  // the handler that is being called
  any_operation& operation_;
  std::unique_ptr<asio::cancellation_signal> fallback_;
};

class operation_slot {
 public:
  explicit operation_slot(slot_memory& m) noexcept : memory_(&m) {}
  template <class Handler, class... Args>
  Handler& emplace(Args&&... args) {
    return memory_->emplace<Handler>(std::forward<Args>(args)...);
  }
  template <class Handler>
  std::decay_t<Handler>& assign(Handler&& h) {
    return emplace<std::decay_t<Handler>>(std::forward<Handler>(h));
  }
  void clear() noexcept { memory_->clear(); }
  bool is_connected() const noexcept { return true; }
  bool has_handler() const noexcept { return memory_->has_handler(); }
  operator asio::cancellation_slot() const { return memory_->plain_slot(); }
  any_operation& operation() const noexcept { return memory_->operation(); }
  bool operator==(const operation_slot&) const noexcept = default;

 private:
  slot_memory* memory_;
};

template <class Executor>
const Executor& plain_executor(const use_task_t::executor_with_default<Executor>& e) noexcept {
  return e;
}
template <class Executor>
const Executor& plain_executor(const Executor& e) noexcept {
  return e;
}

template <class Executor>
const auto& checked_executor(const Executor& executor, const char* who) {
  const auto& e = plain_executor(executor);
  if constexpr (std::is_constructible_v<bool, decltype(e)>)
    if (!e) throw std::invalid_argument(std::string(who) + ": the executor is empty");
  return e;
}

inline bool is_aborted(const error_code& e) noexcept { return e == asio::error::operation_aborted; }
inline bool is_aborted(const std::exception_ptr& e) noexcept {
  if (!e) return false;
  try {
    std::rethrow_exception(e);
  } catch (const system_error& x) {
    return is_aborted(x.code());
  } catch (...) {
    return false;
  }
}
template <class T, class... Rest>
bool is_aborted(const std::tuple<T, Rest...>& t) noexcept {
  return is_aborted(std::get<0>(t));
}
template <class T>
bool is_aborted(const T&) noexcept {
  return false;
}

inline void throw_if(const error_code& e) {
  if (e) throw system_error(e);
}
inline void throw_if(const std::exception_ptr& e) {
  if (e) std::rethrow_exception(e);
}
template <class T>
concept error_argument = std::is_same_v<T, error_code> || std::is_same_v<T, std::exception_ptr>;

/// An operation in flight. It depends on the completion signature only, and so does its handler: a composed operation
/// is instantiated once a signature, not once a call.
template <class... Args>
class operation : public any_operation {
 public:
  const char* what() const noexcept override { return "Asio operation"; }

  void stop(stop_mode m) noexcept override {
    if (!waiting()) return;
    if (m == stop_mode::abandon) {  // its handler is gone by now, or goes with the tree that it waits for
      if (counts_) leaf::stop(m);
      return;
    }
    if (std::exchange(stop_asked_, true)) return;
    try {
      slot_.emit();
    } catch (...) {  // the operation goes on, and its result decides
    }
  }

 protected:
  operation() = default;
  operation(operation&& o) noexcept : phase_(std::exchange(o.phase_, over)) {}
  ~operation() = default;

  template <class Initiate>
  bool start(frame& f, Initiate&& initiate) {
    if (phase_ != fresh)
      throw std::logic_error("tandem: awaiting an Asio operation that was moved from, or awaited before");
    if (f.scope->stop_asked()) {  // maybe further out, by a stop that has not come down yet
      park_to_be_stopped(f);
      return true;
    }
    loop& l = *f.scope->loop;
    waiter = &f;
    phase_ = initiating;
    l.operation_begins();
    try {
      std::forward<Initiate>(initiate)(handler(*this));
    } catch (...) {
      if (phase_ == over) {  // the handler is gone, and with it the operation
        slot_.clear();
        throw;
      }
      failure_ = std::current_exception();  // somebody kept the handler, which refers to the frame: wait for its end
    }
    if (phase_ == over) return false;
    phase_ = in_flight;
    settle_in();  // not `waiter` again: the operation may be ending on another thread, which reads it
    if (f.scope->state != scope::running) stop(stop_mode::ask);  // asked for while the operation was being initiated
    return true;
  }

  std::tuple<Args...>& arguments() {
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    if (!arguments_) throw system_error(error_code(asio::error::operation_aborted), "handler destroyed without a call");
    return *arguments_;
  }

 private:
  class handler {
   public:
    explicit handler(operation& o) noexcept : operation_(&o), owns_(true) {}
    handler(handler&& o) noexcept : operation_(o.operation_), owns_(std::exchange(o.owns_, false)) {}
    handler& operator=(handler&&) = delete;
    ~handler() {
      if (owns_) operation_->dropped();
    }
    template <class... A>
    void operator()(A&&... a) {
      owns_ = false;
      operation_->complete(std::forward<A>(a)...);
    }

    using executor_type = asio::any_io_executor;
    const executor_type& get_executor() const noexcept { return operation_->loop_of_waiter().executor(); }
    using cancellation_slot_type = operation_slot;
    cancellation_slot_type get_cancellation_slot() const noexcept { return operation_slot(operation_->slot_); }

   private:
    operation* operation_;
    bool owns_;
  };

  /// The handler was called, on the loop's executor as it should be, or on another thread.
  template <class... A>
  void complete(A&&... a) noexcept {
    called_ = true;
    try {
      arguments_.emplace(std::forward<A>(a)...);
    } catch (...) {  // a result that cannot be moved
      failure_ = std::current_exception();
    }
    come_home();
  }
  void dropped() noexcept { come_home(); }
  void come_home() noexcept {
    loop& l = loop_of_waiter();
    // Under simulate a cancellation handler may have posted itself, and may need the slot: it goes first.
    const bool is_in_turn = !stop_asked_ || l.closed() || !l.is_virtual();
    if (is_in_turn && l.here())
      arrive();
    else
      l.push(*this);
  }
  void arrive() noexcept override {
    slot_.clear();
    loop& l = loop_of_waiter();
    if (!called_) {  // the handler was destroyed without a call
      const bool goes_with_context = phase_ == in_flight && l.closed();
      if (goes_with_context && counts_) return l.operation_dropped();
      return end((stop_asked_ && !failure_) || goes_with_context,
                 [](loop& at, leaf& o, bool counts) { at.operation_lost(o, counts); });
    }
    bool aborted = false;
    if constexpr (sizeof...(Args) > 0) aborted = !failure_ && stop_asked_ && is_aborted(std::get<0>(*arguments_));
    end(aborted, [](loop& at, leaf& o, bool counts) { at.operation_ended(o, counts); });
  }
  template <class Tell>
  void end(bool was_stopped, Tell tell) noexcept {
    if (std::exchange(phase_, over) == initiating) {
      if (counts_) loop_of_waiter().operation_ended_inline();
      return;
    }
    state_ = was_stopped ? stopped : woken;
    tell(loop_of_waiter(), *this, counts_);
  }

  enum : unsigned char { fresh, initiating, in_flight, over } phase_ = fresh;
  bool stop_asked_ = false;
  bool called_ = false;
  std::optional<std::tuple<Args...>> arguments_;
  std::exception_ptr failure_;  // of the initiating function, or of a result that cannot be moved
  slot_memory slot_{*this};
};

/// What an operation that starts later has to keep can be copied or moved there.
template <class... Ts>
concept can_keep = (std::is_constructible_v<std::decay_t<Ts>, Ts> && ...);

/// The awaitable that an initiating function returns. `Redirect`: assign the error code there instead of throwing it.
template <bool Redirect, class Initiation, class InitArgs, class... Args>
class asio_operation final : public operation<Args...> {
 public:
  template <class Init, class... A>
  explicit asio_operation(error_code* redirect, Init&& init, A&&... a)
      : redirect_(redirect), initiation_(std::forward<Init>(init)), init_args_(std::forward<A>(a)...) {}
  asio_operation(asio_operation&&) = default;

  bool await_ready() const noexcept { return false; }
  bool suspend(frame& f) {
    return this->start(f, [this](auto&& h) {
      std::apply([&](auto&... a) { std::move(initiation_)(std::move(h), std::move(a)...); }, init_args_);
    });
  }
  auto await_resume() {
    leaf::consume();
    if constexpr (sizeof...(Args) == 0) {
      this->arguments();
    } else {
      std::tuple<Args...>& args = this->arguments();
      using first = std::tuple_element_t<0, std::tuple<Args...>>;
      if constexpr (error_argument<first>) {
        if constexpr (Redirect)
          *redirect_ = std::get<0>(args);
        else
          throw_if(std::get<0>(args));
        return std::apply([](auto&, auto&... rest) { return only(rest...); }, args);
      } else {
        return std::apply([](auto&... all) { return only(all...); }, args);
      }
    }
  }

 private:
  static void only() noexcept {}
  template <class T>
  static T only(T& t) {
    return std::move(t);
  }
  template <class T, class U, class... More>
  static std::tuple<T, U, More...> only(T& t, U& u, More&... more) {
    return std::tuple<T, U, More...>(std::move(t), std::move(u), std::move(more)...);
  }

  error_code* redirect_;
  Initiation initiation_;
  InitArgs init_args_;
};

/// Anything that takes a completion token, above all what `asio::deferred` returns.
template <class A>
requires requires(A a) {
  { std::move(a)(use_task) } -> suspender;
}
struct from_token<A> {
  static constexpr bool possible = true;

  class awaiter {
   public:
    explicit awaiter(A&& a) : operation_(std::move(a)(use_task)) {}
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> h) {
      return operation_.suspend(h.promise());
    }
    decltype(auto) await_resume() { return operation_.await_resume(); }

   private:
    decltype(std::declval<A>()(use_task)) operation_;
  };
  static awaiter make(A&& a) { return awaiter(std::move(a)); }
};

/// An asio::awaitable runs as a co_spawn of its own: one operation, whatever it awaits inside.
template <class T, class Executor>
struct from_token<asio::awaitable<T, Executor>> {
  static constexpr bool possible = true;
  static_assert(std::is_constructible_v<Executor, const asio::any_io_executor&>,
                "a task awaits asio::awaitable<T> with the executor type that Asio gives it by default, "
                "any_io_executor");

  class awaiter {
   public:
    explicit awaiter(asio::awaitable<T, Executor>&& a) : awaitable_(std::move(a)) {
      if (!awaitable_.valid())
        throw std::logic_error("tandem: awaiting an empty asio::awaitable: it was moved from, or awaited before");
    }
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> h) {
      frame& f = h.promise();
      operation_.emplace(start(Executor(f.scope->loop->executor()), std::move(awaitable_)));
      return operation_->suspend(f);
    }
    T await_resume() {
      if constexpr (std::is_void_v<T> || std::is_default_constructible_v<T>)
        return operation_->await_resume();
      else
        return std::move(*operation_->await_resume());
    }

   private:
    static auto start(const Executor& executor, asio::awaitable<T, Executor> a) {
      if constexpr (std::is_void_v<T> || std::is_default_constructible_v<T>)
        return asio::co_spawn(executor, std::move(a), use_task);
      else  // co_spawn gives its handler a T in any case
        return asio::co_spawn(executor, as_optional(std::move(a)), use_task);
    }
    static asio::awaitable<std::optional<T>, Executor> as_optional(asio::awaitable<T, Executor> a) {
      co_return co_await std::move(a);
    }

    asio::awaitable<T, Executor> awaitable_;
    std::optional<decltype(start(std::declval<Executor>(), std::declval<asio::awaitable<T, Executor>>()))> operation_;
  };
  static awaiter make(asio::awaitable<T, Executor>&& a) { return awaiter(std::move(a)); }
};

}  // namespace detail
}  // namespace tandem::inline TANDEM_CONFIG

template <class R, class... Args>
struct tandem::asio::async_result<tandem::use_task_t, R(Args...)> {
  template <class Initiation, class... InitArgs>
  requires tandem::detail::can_keep<Initiation, InitArgs...>
  static auto initiate(Initiation&& initiation, tandem::use_task_t, InitArgs&&... init_args) {
    return tandem::detail::asio_operation<false, std::decay_t<Initiation>, std::tuple<std::decay_t<InitArgs>...>,
                                          std::decay_t<Args>...>(nullptr, std::forward<Initiation>(initiation),
                                                                 std::forward<InitArgs>(init_args)...);
  }
};

// Asio's own adapter would hide the error code from the operation, and with it whether it was stopped.
template <class R, class... Args>
struct tandem::asio::async_result<tandem::asio::redirect_error_t<tandem::use_task_t>, R(tandem::error_code, Args...)> {
  template <class Initiation, class... InitArgs>
  requires tandem::detail::can_keep<Initiation, InitArgs...>
  static auto initiate(Initiation&& initiation, tandem::asio::redirect_error_t<tandem::use_task_t> token,
                       InitArgs&&... init_args) {
    return tandem::detail::asio_operation<true, std::decay_t<Initiation>, std::tuple<std::decay_t<InitArgs>...>,
                                          tandem::error_code, std::decay_t<Args>...>(
        &token.ec_, std::forward<Initiation>(initiation), std::forward<InitArgs>(init_args)...);
  }
};
