// The rules of stopping, each under its number in docs/design/stopping.md.

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

#include "kit/kit.hpp"

#include TANDEM_ASIO_HEADER(ip/tcp.hpp)
#include TANDEM_ASIO_HEADER(signal_set.hpp)
#include TANDEM_ASIO_HEADER(steady_timer.hpp)
#include TANDEM_ASIO_HEADER(write.hpp)

#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#include <memory>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using tandem::sleep_for;
using tandem::task;
using tandem::try_timeout;
using tandem::use_task;
using tandem::yield;

namespace {

/// Says in `log` when its frame is destroyed.
class noted {
 public:
  noted(std::vector<std::string>& log, std::string text) : log_(log), text_(std::move(text)) {}
  noted(const noted&) = delete;
  noted& operator=(const noted&) = delete;
  ~noted() { log_.push_back("~" + text_); }

 private:
  std::vector<std::string>& log_;
  std::string text_;
};

/// Stops `body` after `d` and waits until it has ended.
template <class T>
task<> stop_after(tandem::clock::duration d, task<T> body) {
  co_await try_timeout(d, std::move(body));
}

}  // namespace

// ---- 1. where ------------------------------------------------------------------------------------------------------

TEST_CASE("rule 1: an await that need not wait does not stop") {
  int reached = 0;
  auto immediate = []() -> task<int> { co_return 1; };
  auto body = [&]() -> task<> {
    co_await tandem::shield(sleep_for(2s));  // the stop comes while this waits
    reached += co_await immediate();
    auto bound11 = co_await tandem::gather(immediate(), immediate());
    auto& [a, b] = bound11;
    reached += a + b;
    kit::gate open;
    open.open_one();
    co_await open.wait();
    ++reached;
    co_await sleep_for(0s);
    reached += 100;
  };
  tandem::simulate(stop_after(1s, body()));
  CHECK(reached == 4);
}

TEST_CASE("rule 1: a loop of immediate awaits stops at a checkpoint, and can ask whether it is to stop") {
  int rounds = 0;
  bool asked = false;
  auto body = [&]() -> task<> {
    co_await tandem::shield(sleep_for(2s));
    asked = co_await tandem::this_task::cancel_requested;
    for (;; ++rounds) co_await tandem::this_task::checkpoint();
  };
  tandem::simulate(stop_after(1s, body()));
  CHECK(asked);
  CHECK(rounds == 0);
}

TEST_CASE("rule 1: nobody asked, so cancel_requested is false") {
  auto main = []() -> task<bool> { co_return co_await tandem::this_task::cancel_requested; };
  CHECK_FALSE(tandem::simulate(main()));
}

TEST_CASE("rule 1: a yield that is in the queue when the stop comes does not come back") {
  bool came_back = false;
  auto body = [&]() -> task<> {
    co_await sleep_for(1s);
    co_await yield();
    came_back = true;
  };
  auto main = [&]() -> task<> {
    auto fails = [&]() -> task<> {  // runs between the other's sleep and the end of its yield
      co_await sleep_for(1s);
      throw std::runtime_error("now");
    };
    co_await tandem::gather(body(), fails());
  };
  CHECK_THROWS_WITH(tandem::simulate(main()), "now");
  CHECK_FALSE(came_back);
}

// ---- 2. reaping ----------------------------------------------------------------------------------------------------

TEST_CASE("rule 2: stopped frames are destroyed innermost first, and before the scope's owner goes on") {
  std::vector<std::string> log;
  auto inner = [&]() -> task<> {
    noted n(log, "inner");
    co_await sleep_for(1h);
  };
  auto middle = [&]() -> task<> {
    noted n(log, "middle");
    co_await inner();
  };
  auto outer = [&]() -> task<> {
    noted n(log, "outer");
    auto bound12 = co_await tandem::gather(middle(), sleep_for(1h));
    auto& [a, b] = bound12;
    (void)a, (void)b;
  };
  auto main = [&]() -> task<> {
    co_await stop_after(1s, outer());
    log.push_back("after");
  };
  tandem::simulate(main());
  CHECK(log == std::vector<std::string>{"~inner", "~middle", "~outer", "after"});
}

TEST_CASE("rule 2: what stops a scope does not destroy its frames, the loop does") {
  std::vector<std::string> log;
  auto victim = [&]() -> task<> {
    noted n(log, "victim");
    co_await sleep_for(1h);
  };
  auto stopper = [&](kit::gate& g) -> task<> {
    co_await g.wait();
    kit::at_exit last([&] { log.push_back("stopper ends"); });
    throw std::runtime_error("x");
  };
  auto main = [&]() -> task<> {
    kit::gate g;
    auto opens = [&]() -> task<> {
      g.open_one();
      log.push_back("opened");
      co_return;
    };
    co_await tandem::gather(victim(), stopper(g), opens());
  };
  CHECK_THROWS(tandem::simulate(main()));
  CHECK(log == std::vector<std::string>{"opened", "stopper ends", "~victim"});
}

// ---- 3. finished children ------------------------------------------------------------------------------------------

TEST_CASE("rule 3: a finished child's frame is gone before a sibling is woken by its end") {
  // One pass, held by value by each child while it lives: only if it is handed on at the child's end can the next
  // start.
  struct pass {
    explicit pass(kit::gate& g) : gate(&g) {}
    pass(pass&& o) noexcept : gate(std::exchange(o.gate, nullptr)) {}
    ~pass() {
      if (gate) gate->open_one();
    }
    kit::gate* gate;
  };
  int ended = 0;
  auto use = [&](pass) -> task<> {
    co_await yield();
    ++ended;
  };
  auto wait_and_use = [&](kit::gate& g) -> task<> {
    co_await g.wait();
    co_await use(pass(g));
  };
  auto main = [&]() -> task<> {
    kit::gate g;
    g.open_one();
    std::vector<task<>> all;
    for (int i = 0; i != 20; ++i) all.push_back(wait_and_use(g));
    co_await tandem::gather(std::move(all));
    CHECK(g.passes() == 1);
  };
  tandem::simulate(main());
  CHECK(ended == 20);
}

// ---- 4. start and re-entry -----------------------------------------------------------------------------------------

TEST_CASE("rule 4: a child that fails at once keeps the later ones from starting") {
  int started = 0;
  auto child = [&](int i, kit::counted) -> task<> {
    ++started;
    if (i == 2) throw std::runtime_error("third");
    co_await sleep_for(1h);
  };
  auto main = [&]() -> task<> {
    std::vector<task<>> all;
    for (int i = 0; i != 5; ++i) all.push_back(child(i, {}));
    co_await tandem::gather(std::move(all));
  };
  CHECK_THROWS_WITH(tandem::simulate(main()), "third");
  CHECK(started == 3);
  CHECK(kit::counted::live() == 0);
}

TEST_CASE("rule 4: a stop that arrives while children are being started is applied at the end of the start") {
  // The second child stops the whole tree from outside, as a handler of another program part would.
  int started = 0;
  bool stopped = false, after = false;
  asio::io_context context;
  asio::cancellation_signal signal;
  auto child = [&](int i) -> task<> {
    kit::counted c;
    ++started;
    if (i == 1) signal.emit(asio::cancellation_type::terminal);
    co_await sleep_for(1h);
  };
  auto main = [&]() -> task<> {
    std::vector<task<>> all;
    for (int i = 0; i != 4; ++i) all.push_back(child(i));
    co_await tandem::gather(std::move(all));
    after = true;
  };
  tandem::spawn(context, main(), asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) {
                  try {
                    std::rethrow_exception(e);
                  } catch (const tandem::cancelled&) {
                    stopped = true;
                  }
                }));
  context.run();
  CHECK(started == 2);
  CHECK(stopped);
  CHECK_FALSE(after);
  CHECK(kit::counted::live() == 0);
}

TEST_CASE("rule 4: a stop that has not come down to a nested group yet keeps its later children from starting") {
  for (bool in_timeout : {false, true}) {
    asio::io_context context;
    asio::cancellation_signal signal;
    bool started = false;
    auto stops = [&]() -> task<> {
      signal.emit(asio::cancellation_type::terminal);
      co_return;
    };
    auto second = [&]() -> task<> {
      started = true;
      co_return;
    };
    auto inner = [&]() -> task<> { co_await tandem::gather(stops(), second()); };
    auto main = [&]() -> task<> {
      if (in_timeout) co_await tandem::timeout(1h, inner());
      co_await tandem::gather(inner());
    };
    tandem::spawn(context, main(), asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr) {}));
    context.run();
    CHECK_FALSE(started);
  }
}

TEST_CASE("rule 4: stopping oneself takes effect at the next wait") {
  asio::io_context context;
  asio::cancellation_signal signal;
  int reached = 0;
  auto main = [&]() -> task<> {
    kit::counted c;
    signal.emit(asio::cancellation_type::terminal);
    reached = 1;
    co_await yield();
    reached = 2;
  };
  tandem::spawn(context, main(), asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr) {}));
  context.run();
  CHECK(reached == 1);
  CHECK(kit::counted::live() == 0);
}

TEST_CASE("rule 4: cancel_requested knows of a stop that has not come down to its scope yet") {
  asio::io_context context;
  asio::cancellation_signal signal;
  bool asked = false, asked_in_shield = true;
  auto child = [&]() -> task<> {
    signal.emit(asio::cancellation_type::terminal);
    asked = co_await tandem::this_task::cancel_requested;
    auto shielded = [&]() -> task<> { asked_in_shield = co_await tandem::this_task::cancel_requested; };
    co_await tandem::shield(shielded());
  };
  auto main = [&]() -> task<> { co_await tandem::gather(child()); };
  tandem::spawn(context, main(), asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr) {}));
  context.run();
  CHECK(asked);
  CHECK_FALSE(asked_in_shield);
}

TEST_CASE("rule 4: a tree that is stopped before it has started never starts") {
  asio::io_context context;
  asio::cancellation_signal signal;
  bool ran = false, cancelled = false;
  auto main = [&](kit::counted) -> task<> {
    ran = true;
    co_return;
  };
  tandem::spawn(context, main({}),
                asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) { cancelled = !!e; }));
  signal.emit(asio::cancellation_type::terminal);
  context.run();
  CHECK_FALSE(ran);
  CHECK(cancelled);
  CHECK(kit::counted::live() == 0);
}

// ---- 5. granted, then stopped or destroyed --------------------------------------------------------------------------

TEST_CASE("rule 5: when grant and stop meet the value wins, and the next wait stops") {
  bool granted = false, went_on = false;
  auto main = [&]() -> task<> {
    kit::gate g;
    auto waits = [&]() -> task<> {
      co_await g.wait();
      granted = true;
      co_await yield();
      went_on = true;
    };
    auto grants_and_fails = [&]() -> task<> {
      co_await yield();
      g.open_one();
      throw std::runtime_error("after the grant");
    };
    co_await tandem::gather(waits(), grants_and_fails());
  };
  CHECK_THROWS_WITH(tandem::simulate(main()), "after the grant");
  CHECK(granted);
  CHECK_FALSE(went_on);
}

TEST_CASE("rule 5: a pass granted to a frame that is destroyed goes to the next in line, and none is ever lost") {
  struct state {
    std::unique_ptr<kit::gate> gate = std::make_unique<kit::gate>();
    int used = 0;
  };
  auto user = [](state& s) -> task<> {
    kit::counted c;
    co_await s.gate->wait();
    kit::at_exit give_back([&] { s.gate->open_one(); });
    ++s.used;
    co_await sleep_for(1s);
    co_await yield();
  };
  kit::explore<state>(
      [&](state& s) -> task<> {
        s.gate->open_one();
        s.gate->open_one();
        std::vector<task<>> all;
        for (int i = 0; i != 5; ++i) all.push_back(user(s));
        co_await tandem::gather(std::move(all));
      },
      [](state& s, kit::end how) {
        // Two passes were put in before anybody waited; unless the program never began, they must be there again.
        if (s.used != 0) CHECK(s.gate->passes() == 2);
        if (how == kit::end::returned) CHECK(s.used == 5);
      });
}

// ---- 6. Asio operations --------------------------------------------------------------------------------------------

TEST_CASE("rule 6: a stop cancels an Asio operation, and the frame goes when its handler has run") {
  auto main = []() -> task<> {
    auto waits = []() -> task<> {
      kit::counted c;
      asio::steady_timer t(co_await tandem::this_task::executor, 1h);
      co_await t.async_wait(use_task);
      FAIL("the timer fired");
    };
    co_await stop_after(0s, waits());
    CHECK(kit::counted::live() == 0);
  };
  tandem::run(main());
}

TEST_CASE("rule 6: in a stopped scope an operation is not even started") {
  bool started = false;
  auto main = [&]() -> task<> {
    auto body = [&]() -> task<> {
      co_await tandem::shield(sleep_for(2s));
      co_await asio::async_initiate<const tandem::use_task_t, void()>([&](auto&&) { started = true; }, use_task);
    };
    co_await stop_after(1s, body());
  };
  tandem::simulate(main());
  CHECK_FALSE(started);
}

TEST_CASE("rule 6: operation_aborted without a stop is an error like any other") {
  auto main = []() -> task<> {
    asio::steady_timer t(co_await tandem::this_task::executor, 1h);
    asio::post(t.get_executor(), [&] { t.cancel(); });
    bool caught = false;
    try {
      co_await t.async_wait(use_task);
    } catch (const tandem::system_error& e) {
      caught = e.code() == asio::error::operation_aborted;
    }
    CHECK(caught);
    co_await yield();  // and nobody is being stopped
  };
  tandem::run(main());
}

TEST_CASE("rule 6: any other result is delivered in spite of a stop, and the next wait stops") {
  int got = 0;
  bool went_on = false;
  auto main = [&]() -> task<> {
    auto body = [&]() -> task<> {
      // An operation that hears the cancellation and completes with a value all the same.
      got = co_await asio::async_initiate<const tandem::use_task_t, void(tandem::error_code, int)>(
          [](auto handler) {
            auto kept = std::make_shared<decltype(handler)>(std::move(handler));
            auto slot = asio::get_associated_cancellation_slot(*kept);
            slot.assign([kept, text = std::string("state of a handler that completes inside its own call")](
                            asio::cancellation_type_t) mutable {
              auto h = std::move(*kept);
              std::move(h)(tandem::error_code(), 42);
              CHECK(text.size() == 53);  // still there
            });
          },
          use_task);
      co_await yield();
      went_on = true;
    };
    co_await stop_after(1ms, body());
  };
  tandem::run(main());
  CHECK(got == 42);
  CHECK_FALSE(went_on);
}

TEST_CASE("rule 6: a stop that comes while the operation is being initiated reaches it") {
  asio::io_context context;
  asio::cancellation_signal signal;
  bool cancelled = false;
  auto main = [&]() -> task<> {
    asio::steady_timer t(co_await tandem::this_task::executor, 1h);
    co_await asio::async_initiate<const tandem::use_task_t, void(tandem::error_code)>(
        [&](auto handler) {
          t.async_wait(std::move(handler));
          signal.emit(asio::cancellation_type::terminal);
        },
        use_task);
  };
  tandem::spawn(context, main(),
                asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) { cancelled = !!e; }));
  context.run();
  CHECK(cancelled);
}

// ---- 11. shield and finally -----------------------------------------------------------------------------------------

TEST_CASE("rule 11: a stop does not reach into a shield, a time limit inside it does") {
  std::vector<std::string> log;
  auto protected_work = [&]() -> task<> {
    co_await sleep_for(5s);
    log.push_back("slept");
    try {
      co_await tandem::timeout(1s, sleep_for(1h));
    } catch (const tandem::timed_out&) {
      log.push_back("timed out inside");
    }
  };
  auto main = [&]() -> task<> {
    auto body = [&]() -> task<> {
      co_await tandem::shield(protected_work());
      log.push_back("shield left");
      co_await yield();
      log.push_back("not reached");
    };
    co_await stop_after(1s, body());
    CHECK(tandem::clock::now() == tandem::clock::time_point(6s));
  };
  tandem::simulate(main());
  CHECK(log == std::vector<std::string>{"slept", "timed out inside", "shield left"});
}

TEST_CASE("rule 11: the frames of a body are destroyed before its clean-up starts") {
  std::vector<std::string> log;
  auto body = [&]() -> task<> {
    noted n(log, "body");
    co_await sleep_for(1h);
  };
  auto cleanup = [&]() -> task<> {
    log.push_back("clean-up");
    co_await sleep_for(1s);
    log.push_back("clean-up ended");
  };
  auto main = [&]() -> task<> {
    auto scope = tandem::finally(body(), cleanup);
    co_await stop_after(1s, [](auto s) -> task<> { co_await std::move(s); }(std::move(scope)));
    log.push_back("after");
  };
  tandem::simulate(main());
  CHECK(log == std::vector<std::string>{"~body", "clean-up", "clean-up ended", "after"});
}

// ---- 14. destructors in stopped frames ------------------------------------------------------------------------------

TEST_CASE(
    "rule 14: a destructor in a stopped frame may open, and stop; what it wakes in a stopped scope is not resumed") {
  struct state {
    kit::gate gate;
    int woken = 0;
  };
  auto waits = [](state& s) -> task<> {
    kit::counted c;
    co_await s.gate.wait();
    ++s.woken;
    co_await yield();
    FAIL("resumed in a stopped scope");
  };
  auto opens_when_destroyed = [](state& s) -> task<> {
    kit::at_exit open([&] { s.gate.open(); });
    co_await sleep_for(1h);
  };
  kit::explore<state>(
      [&](state& s) -> task<> {
        std::vector<task<>> all;
        all.push_back(waits(s));
        all.push_back(opens_when_destroyed(s));
        all.push_back(waits(s));
        co_await try_timeout(1s, tandem::gather(std::move(all)));
      },
      [](state& s, kit::end) { CHECK(s.woken == 0); });
}

TEST_CASE("rule 14: a destructor in a stopped frame wakes others outside its scope properly") {
  kit::gate gate;
  bool woken = false;
  auto waits = [&]() -> task<> {
    co_await gate.wait();
    woken = true;
  };
  auto main = [&]() -> task<> {
    auto opens = [&]() -> task<> {
      kit::at_exit open([&] { gate.open_one(); });
      co_await sleep_for(1h);
    };
    co_await tandem::gather(waits(), stop_after(1s, opens()));
  };
  tandem::simulate(main());
  CHECK(woken);
}

// ---- 15. teardown --------------------------------------------------------------------------------------------------

TEST_CASE("rule 15: destroying a context destroys every suspended frame, innermost first, and resumes none") {
  std::vector<std::string> log;
  auto leaf = [&](auto wait) -> task<> {
    noted n(log, "leaf");
    co_await wait();
    log.push_back("resumed");
  };
  auto tree = [&](auto wait) -> task<> {
    noted n(log, "tree");
    co_await tandem::finally(tandem::shield(leaf(wait)), [&]() -> task<> {
      log.push_back("clean-up");
      co_return;
    });
  };
  kit::gate gate;
  {
    asio::io_context context;
    asio::steady_timer timer(context, 1h);
    tandem::spawn(context, tree([] { return sleep_for(1h); }), asio::detached);
    tandem::spawn(context, tree([&] { return gate.wait(); }), asio::detached);
    tandem::spawn(context, tree([&] { return timer.async_wait(use_task); }), asio::detached);
    context.poll();
    CHECK(log.empty());
    // the timer goes first, as any object declared after its context does: its operation is aborted, and never resumed
  }
  std::vector<std::string> expected;
  for (int i = 0; i != 3; ++i) expected.insert(expected.end(), {"~leaf", "~tree"});
  CHECK(log == expected);
}

TEST_CASE("rule 15: what waits for a younger service of the context is destroyed, not resumed") {
  bool resumed = false;
  {
    asio::io_context context;
    auto waits = [&]() -> task<> {
      kit::counted c;
      asio::signal_set signals(co_await tandem::this_task::executor, SIGUSR1);
      try {
        co_await signals.async_wait(use_task);
      } catch (...) {
      }
      resumed = true;
    };
    tandem::spawn(context, waits(), asio::detached);
    tandem::spawn(context, waits(), asio::detached);
    context.run_for(5ms);
    CHECK(kit::counted::live() == 2);
  }
  CHECK_FALSE(resumed);
  CHECK(kit::counted::live() == 0);
}

TEST_CASE("rule 15: a tree that waits for a tree of its own context goes with it") {
  {
    asio::io_context context;
    auto inner = []() -> task<> {
      kit::counted c;
      co_await sleep_for(1h);
    };
    auto outer = [&]() -> task<> {
      kit::counted c;
      co_await tandem::spawn(context, inner(), use_task);
    };
    tandem::spawn(context, outer(), asio::detached);
    context.run_for(5ms);
    CHECK(kit::counted::live() == 2);
  }
  CHECK(kit::counted::live() == 0);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("rule 15: what a destructor spawns while the context goes never runs") {
  bool ran = false;
  {
    asio::io_context context;
    auto second = [&](kit::counted) -> task<> {
      ran = true;
      co_return;
    };
    auto spawns_when_destroyed = [&]() -> task<> {
      kit::at_exit spawn([&] { tandem::spawn(context, second({}), asio::detached); });
      co_await sleep_for(1h);
    };
    tandem::spawn(context, spawns_when_destroyed(), asio::detached);
    context.poll();
    // and a handler that is destroyed after the loop has been shut down
    auto guard = std::shared_ptr<int>(new int, [&](int* p) {
      delete p;
      tandem::spawn(context, second({}), asio::detached);
    });
    asio::post(context, [guard = std::move(guard)] {});
  }
  CHECK_FALSE(ran);
  CHECK(kit::counted::live() == 0);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("rule 15: a tree goes with its context when what it waited for has ended and not been told yet") {
  {
    asio::io_context context;
    auto inner = []() -> task<> { co_await yield(); };
    auto outer = [&]() -> task<> {
      kit::counted c;
      co_await tandem::spawn(context, inner(), use_task);
    };
    tandem::spawn(context, outer(), asio::detached);
    context.run_one();  // one batch: the inner tree has ended, its completion is posted
    CHECK(kit::counted::live() == 1);
  }
  CHECK(kit::counted::live() == 0);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("rule 15: a handler that outlives its context is dropped without touching it") {
  const pid_t child = fork();  // what such a handler points to is given up on purpose; here nobody counts it as a leak
  if (child == 0) {
    std::shared_ptr<void> keeper;
    {
      asio::io_context context;
      auto waits = [&]() -> task<> {
        co_await asio::async_initiate<const tandem::use_task_t, void()>(
            [&](auto handler) { keeper = std::make_shared<decltype(handler)>(std::move(handler)); }, use_task);
      };
      tandem::spawn(context, waits(), asio::detached);
      context.run();
    }
    keeper.reset();
    _exit(0);
  }
  int status = 1;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("rule 15: a frame that owns the sockets of its pending operation goes with the context") {
  {
    asio::io_context context;
    auto echo = [&]() -> task<> {
      kit::counted c;
      auto executor = co_await tandem::this_task::executor;
      asio::ip::tcp::acceptor acceptor(executor, {asio::ip::address_v4::loopback(), 0});
      asio::ip::tcp::socket socket(executor);
      char byte = 0;
      auto reads = [&]() -> task<> {
        kit::counted d;
        asio::ip::tcp::socket peer = co_await acceptor.async_accept(use_task);
        co_await peer.async_read_some(asio::buffer(&byte, 1), use_task);
      };
      co_await tandem::gather(reads(), socket.async_connect(acceptor.local_endpoint(), use_task), sleep_for(1h));
    };
    tandem::spawn(context, echo(), asio::detached);
    context.run_for(20ms);
    CHECK(kit::counted::live() == 2);
  }
  CHECK(kit::counted::live() == 0);
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("rule 15: a primitive that is destroyed before its context orphans its waiters") {
  {
    asio::io_context context;
    kit::gate gate;  // destroyed first
    auto waits = [&]() -> task<> {
      kit::counted c;
      co_await gate.wait();
    };
    tandem::spawn(context, waits(), asio::detached);
    tandem::spawn(context, waits(), asio::detached);
    context.run();
    CHECK(kit::counted::live() == 2);
  }
  CHECK(kit::counted::live() == 0);
}

TEST_CASE("rule 15: a context that never ran destroys what was spawned on it, handlers too") {
  {
    asio::io_context context;
    auto never = [](kit::counted) -> task<> {
      FAIL("ran");
      co_return;
    };
    tandem::spawn(context, never({}), asio::detached);
    tandem::spawn(context, never({}), [c = kit::counted()](std::exception_ptr) { FAIL("called"); });
    CHECK(kit::counted::live() == 3);
  }
  CHECK(kit::counted::live() == 0);
  CHECK(kit::live_frames() == 0);
}
