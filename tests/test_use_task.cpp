#include <tandem/use_task.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(connect.hpp)
#include TANDEM_ASIO_HEADER(ip/tcp.hpp)
#include TANDEM_ASIO_HEADER(post.hpp)
#include TANDEM_ASIO_HEADER(read.hpp)
#include TANDEM_ASIO_HEADER(redirect_error.hpp)
#include TANDEM_ASIO_HEADER(steady_timer.hpp)
#include TANDEM_ASIO_HEADER(write.hpp)
#if TANDEM_ASIO_VERSION >= 102400
#include TANDEM_ASIO_HEADER(as_tuple.hpp)
#include TANDEM_ASIO_HEADER(deferred.hpp)
namespace token = asio;
#else
#include TANDEM_ASIO_HEADER(experimental/as_tuple.hpp)
#include TANDEM_ASIO_HEADER(experimental/deferred.hpp)
namespace token = asio::experimental;
#endif

#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using asio::ip::tcp;
using tandem::error_code;
using tandem::task;
using tandem::use_task;

namespace {

tcp::endpoint loopback() { return {asio::ip::address_v4::loopback(), 0}; }

/// Two connected sockets.
task<std::pair<tcp::socket, tcp::socket>> connected() {
  auto executor = co_await tandem::this_task::executor;
  tcp::acceptor acceptor(executor, loopback());
  tcp::socket near(executor);
  auto bound16 =
      co_await tandem::gather(acceptor.async_accept(use_task), near.async_connect(acceptor.local_endpoint(), use_task));
  auto& [far, nothing] = bound16;
  (void)nothing;
  co_return std::pair(std::move(near), std::move(far));
}

/// An operation that calls its handler with `args` from inside its initiating function.
template <class Signature, class... Args>
auto completes_at_once(Args... args) {
  return asio::async_initiate<const tandem::use_task_t, Signature>(
      [](auto handler, auto... a) { std::move(handler)(std::move(a)...); }, use_task, args...);
}

}  // namespace

TEST_CASE("an operation gives what its handler gets after the error code: nothing, one value, or a tuple") {
  auto main = []() -> task<> {
    STATIC_REQUIRE(std::is_void_v<decltype(completes_at_once<void()>().await_resume())>);
    co_await completes_at_once<void()>();
    co_await completes_at_once<void(error_code)>(error_code());
    const int one = co_await completes_at_once<void(error_code, int)>(error_code(), 1);
    const int two = co_await completes_at_once<void(int)>(2);
    const std::tuple<int, char> pair = co_await completes_at_once<void(error_code, int, char)>(error_code(), 3, 'c');
    const auto unique =
        co_await completes_at_once<void(std::exception_ptr, std::shared_ptr<int>)>(nullptr, std::make_shared<int>(4));
    CHECK(one == 1);
    CHECK(two == 2);
    CHECK(pair == std::tuple(3, 'c'));
    CHECK(*unique == 4);
  };
  tandem::simulate(main());
}

TEST_CASE("an error code is thrown as system_error, an exception_ptr as what it holds") {
  auto main = []() -> task<> {
    int caught = 0;
    try {
      co_await completes_at_once<void(error_code, int)>(error_code(asio::error::eof), 1);
    } catch (const tandem::system_error& e) {
      caught += e.code() == asio::error::eof;
    }
    try {
      co_await completes_at_once<void(std::exception_ptr)>(std::make_exception_ptr(std::out_of_range("x")));
    } catch (const std::out_of_range&) {
      ++caught;
    }
    CHECK(caught == 2);
  };
  tandem::simulate(main());
}

TEST_CASE("as_tuple gives the code as a value, redirect_error assigns it") {
  auto main = []() -> task<> {
    auto bound17 = co_await connected();
    auto& [near, far] = bound17;
    far.close();
    char byte = 0;
    auto bound18 = co_await near.async_read_some(asio::buffer(&byte, 1), token::as_tuple(use_task));
    auto& [code, size] = bound18;
    CHECK(code == asio::error::eof);
    CHECK(size == 0);
    error_code redirected = asio::error::access_denied;
    const std::size_t none =
        co_await near.async_read_some(asio::buffer(&byte, 1), asio::redirect_error(use_task, redirected));
    CHECK(redirected == asio::error::eof);
    CHECK(none == 0);
    near.close();
    asio::steady_timer timer(near.get_executor(), 0s);
    co_await timer.async_wait(asio::redirect_error(use_task, redirected));
    CHECK_FALSE(redirected);
  };
  tandem::run(main());
}

TEST_CASE("as_tuple and redirect_error do not turn a stop into a value") {
  auto main = []() -> task<> {
    asio::steady_timer timer(co_await tandem::this_task::executor, 1h);
    bool went_on = false;
    error_code code;
    auto tuple = [&]() -> task<> {
      co_await timer.async_wait(token::as_tuple(use_task));
      went_on = true;
    };
    auto redirect = [&]() -> task<> {
      co_await timer.async_wait(asio::redirect_error(use_task, code));
      went_on = true;
    };
    co_await tandem::try_timeout(0s, tuple());
    co_await tandem::try_timeout(0s, redirect());
    CHECK_FALSE(went_on);
  };
  tandem::run(main());
}

TEST_CASE("a deferred operation is awaited as it is") {
  auto main = []() -> task<> {
    asio::steady_timer timer(co_await tandem::this_task::executor, 0s);
    co_await timer.async_wait(token::deferred);
    auto operation = timer.async_wait(token::deferred);
    co_await tandem::timeout(1min, std::move(operation));
  };
  tandem::run(main());
}

TEST_CASE("use_task can be a socket's default token") {
  auto main = []() -> task<> {
    using socket = tandem::use_task_t::as_default_on_t<tcp::socket>;
    auto executor = co_await tandem::this_task::executor;
    tcp::acceptor acceptor(executor, loopback());
    socket near(executor);
    auto bound19 =
        co_await tandem::gather(acceptor.async_accept(use_task), near.async_connect(acceptor.local_endpoint()));
    auto& [far, nothing] = bound19;
    (void)nothing;
    co_await asio::async_write(far, asio::buffer("x", 1), use_task);
    char byte = 0;
    co_await near.async_read_some(asio::buffer(&byte, 1));
    CHECK(byte == 'x');
    auto adapted = use_task.as_default_on(std::move(far));
    co_await adapted.async_write_some(asio::buffer("y", 1));
  };
  tandem::run(main());
}

TEST_CASE("what an initiating function throws is thrown from the co_await") {
  auto main = []() -> task<> {
    for (bool consume : {false, true}) {
      int caught = 0;
      try {
        co_await asio::async_initiate<const tandem::use_task_t, void(error_code)>(
            [consume](auto handler) {
              if (consume) {
                auto gone = std::move(handler);
                throw 42;
              }
              throw 42;
            },
            use_task);
      } catch (int x) {
        caught = x;
      }
      CHECK(caught == 42);
    }
    co_await tandem::yield();  // the loop has no operation left over: it goes on, and ends
  };
  tandem::simulate(main());
}

TEST_CASE("a handler destroyed inside its initiating function is operation_aborted, not a hang") {
  auto main = []() -> task<> {
    bool aborted = false;
    try {
      co_await asio::async_initiate<const tandem::use_task_t, void(error_code)>([](auto handler) { (void)handler; },
                                                                                use_task);
    } catch (const tandem::system_error& e) {
      aborted = e.code() == asio::error::operation_aborted;
    }
    CHECK(aborted);
  };
  tandem::simulate(main());
}

TEST_CASE("a handler destroyed later by whoever kept it is operation_aborted, not a hang") {
  auto main = []() -> task<> {
    std::shared_ptr<void> keeper;
    auto executor = co_await tandem::this_task::executor;
    asio::steady_timer drop(executor, 1ms);
    bool aborted = false;
    try {
      co_await asio::async_initiate<const tandem::use_task_t, void(error_code)>(
          [&](auto handler) {
            keeper = std::make_shared<decltype(handler)>(std::move(handler));
            drop.async_wait([&](error_code) { keeper.reset(); });
          },
          use_task);
    } catch (const tandem::system_error& e) {
      aborted = e.code() == asio::error::operation_aborted;
    }
    CHECK(aborted);
  };
  tandem::run(main());
}

TEST_CASE("a handler that is destroyed because of a stop stops the coroutine") {
  auto main = []() -> task<> {
    bool went_on = false;
    auto body = [&]() -> task<> {
      const kit::counted here;
      try {
        co_await asio::async_initiate<const tandem::use_task_t, void(error_code)>(
            [](auto handler) {
              auto kept = std::make_shared<std::optional<decltype(handler)>>(std::move(handler));
              asio::get_associated_cancellation_slot(**kept).assign([kept](asio::cancellation_type_t) {
                asio::post(asio::get_associated_executor(**kept), [kept] { kept->reset(); });
              });
            },
            use_task);
      } catch (...) {
      }
      went_on = true;
    };
    const auto late = co_await tandem::try_timeout(0s, body());
    CHECK_FALSE(late);
    CHECK_FALSE(went_on);
    CHECK(kit::counted::live() == 0);
  };
  tandem::run(main());
}

TEST_CASE(
    "what a handler gets on another thread is delivered though a stop comes before it is home, which is asked for") {
  asio::io_context context;
  asio::cancellation_signal signal;
  std::function<void()> complete;
  int value = 0;
  bool asked = false, went_on = false, cancelled = false;
  auto waits = [&]() -> task<> {
    value = co_await asio::async_initiate<const tandem::use_task_t, void(error_code, int)>(
        [&](auto handler) {
          asio::get_associated_cancellation_slot(handler).assign([&](asio::cancellation_type_t) { asked = true; });
          auto kept = std::make_shared<decltype(handler)>(std::move(handler));
          complete = [kept] { std::move (*kept)(error_code(), 7); };
        },
        use_task);
    co_await tandem::yield();
    went_on = true;
  };
  auto completes_and_stops = [&]() -> task<> {
    std::thread(std::exchange(complete, nullptr)).join();
    signal.emit(asio::cancellation_type::terminal);
    co_return;
  };
  tandem::spawn(context, waits(),
                asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) { cancelled = e != nullptr; }));
  tandem::spawn(context, completes_and_stops(), asio::detached);
  context.run();
  CHECK(value == 7);
  CHECK(asked);
  CHECK_FALSE(went_on);
  CHECK(cancelled);
}

TEST_CASE("three million completions inside the initiating function need no more stack than one") {
  auto main = []() -> task<long> {
    long sum = 0;
    for (int i = 0; i != 3'000'000; ++i) sum += co_await completes_at_once<void(error_code, int)>(error_code(), 1);
    co_return sum;
  };
  CHECK(tandem::simulate(main()) == 3'000'000);
}

TEST_CASE("an operation's handler runs on the loop's executor, with a cancellation slot") {
  auto main = []() -> task<> {
    auto executor = co_await tandem::this_task::executor;
    co_await asio::async_initiate<const tandem::use_task_t, void()>(
        [&](auto handler) {
          CHECK(asio::get_associated_executor(handler) == executor);
          CHECK(asio::get_associated_cancellation_slot(handler).is_connected());
          asio::post(executor, std::move(handler));
        },
        use_task);
  };
  tandem::run(main());
}

TEST_CASE("a tree awaited through an adapted token does not hold virtual time either") {
  auto main = []() -> task<> {
    auto inner = []() -> task<int> {
      co_await tandem::sleep_for(1h);
      co_return 3;
    };
    auto bound20 = co_await tandem::spawn(co_await tandem::this_task::executor, inner(), token::as_tuple(use_task));
    auto& [error, value] = bound20;
    CHECK_FALSE(error);
    CHECK(value == 3);
  };
  tandem::simulate(main());
}

TEST_CASE("a slot handler may be replaced while it is being called") {
  auto main = []() -> task<> {
    auto body = []() -> task<> {
      co_await asio::async_initiate<const tandem::use_task_t, void(error_code)>(
          [](auto handler) {
            auto kept = std::make_shared<decltype(handler)>(std::move(handler));
            auto slot = asio::get_associated_cancellation_slot(*kept);
            slot.assign([kept, slot, text = std::string("a first handler, with a state on the heap")](
                            asio::cancellation_type_t) mutable {
              slot.assign([](asio::cancellation_type_t) {});
              CHECK(text.size() == 41);
              auto h = std::move(*kept);
              auto executor = asio::get_associated_executor(h);
              asio::post(executor, [h = std::move(h)]() mutable { std::move(h)(asio::error::operation_aborted); });
            });
          },
          use_task);
    };
    const auto late = co_await tandem::try_timeout(1ms, body());
    CHECK_FALSE(late);
  };
  tandem::run(main());
}

TEST_CASE("a library that keeps a plain cancellation_slot is cancelled too") {
  auto main = []() -> task<> {
    bool heard = false, went_on = false;
    auto body = [&]() -> task<> {
      co_await asio::async_initiate<const tandem::use_task_t, void(error_code)>(
          [&](auto handler) {
            auto kept = std::make_shared<decltype(handler)>(std::move(handler));
            asio::cancellation_slot slot = asio::get_associated_cancellation_slot(*kept);
            slot.assign([kept, &heard](asio::cancellation_type_t) mutable {
              heard = true;
              auto h = std::move(*kept);
              auto executor = asio::get_associated_executor(h);
              asio::post(executor, [h = std::move(h)]() mutable { std::move(h)(asio::error::operation_aborted); });
            });
          },
          use_task);
      went_on = true;
    };
    co_await tandem::try_timeout(1ms, body());
    CHECK(heard);
    CHECK_FALSE(went_on);
  };
  tandem::run(main());
}

TEST_CASE("composed operations over sockets echo a megabyte") {
  auto main = []() -> task<> {
    auto bound21 = co_await connected();
    auto& [near, far] = bound21;
    std::string sent(1 << 20, '.');
    for (std::size_t i = 0; i != sent.size(); ++i) sent[i] = static_cast<char>('a' + i % 26);
    auto echo = [&]() -> task<> {
      std::vector<char> buffer(4096);
      for (std::size_t done = 0; done != sent.size();) {
        const std::size_t n = co_await far.async_read_some(asio::buffer(buffer), use_task);
        co_await asio::async_write(far, asio::buffer(buffer.data(), n), use_task);
        done += n;
      }
    };
    std::string received(sent.size(), ' ');
    co_await tandem::gather(echo(), asio::async_write(near, asio::buffer(sent), use_task),
                            asio::async_read(near, asio::buffer(received), use_task));
    CHECK(received == sent);
  };
  tandem::run(main());
}

TEST_CASE("sockets lose nothing under any stop or teardown") {
  struct state {
    std::string received;
  };
  kit::explore<state>(
      [](state& s) -> task<> {
        kit::counted c;
        auto bound22 = co_await connected();
        auto& [near, far] = bound22;
        auto sends = [&]() -> task<> {
          kit::counted d;
          co_await asio::async_write(near, asio::buffer("hello", 5), use_task);
        };
        auto receives = [&]() -> task<> {
          kit::counted d;
          s.received.resize(5);
          co_await asio::async_read(far, asio::buffer(s.received), use_task);
        };
        co_await tandem::gather(receives(), sends());
      },
      [](state& s, kit::end how) {
        if (how == kit::end::returned) CHECK(s.received == "hello");
        CHECK(how != kit::end::failed);
      });
}
