#include <tandem/inspect.hpp>

#include "kit/captured_stderr.hpp"
#include "kit/json.hpp"
#include "kit/kit.hpp"

#include <tandem/cancel.hpp>
#include <tandem/event.hpp>
#include <tandem/gather.hpp>
#include <tandem/generator.hpp>
#include <tandem/mutex.hpp>
#include <tandem/run.hpp>
#include <tandem/semaphore.hpp>
#include <tandem/wait.hpp>

#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(strand.hpp)
#include TANDEM_ASIO_HEADER(thread_pool.hpp)
#include TANDEM_ASIO_HEADER(use_future.hpp)

#include <algorithm>
#include <atomic>
#include <csignal>
#include <future>
#include <mutex>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

using namespace tandem;
using namespace std::chrono_literals;
using kit::json;
using kit::json_reader;

namespace {

bool contains(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }
std::string line(int n) { return "(test_inspect.cpp:" + std::to_string(n) + ")"; }

}  // namespace

namespace shop {

constexpr int pay_locks = __LINE__ + 2;
task<> pay(mutex& m) {
  auto lock = co_await m.lock();
  co_await sleep_for(10s);
}

constexpr int buy_waits = __LINE__ + 1;
task<> buy(mutex& m) { auto lock = co_await m.lock(); }

task<> looks_around(mutex& m, std::string& text, std::string& as_json) {
  co_await sleep_for(1500ms);
  auto later = buy(m);  // made, and not awaited yet
  text = format_await_tree();
  as_json = format_await_tree(tree_format::json);
  co_await std::move(later);
}

task<> opens(std::string& text, std::string& as_json) {
  mutex m;
  co_await with_task_group([&](task_group& group) -> task<> {
    group.spawn(pay(m));
    group.spawn(buy(m), {.name = "the \"first\"\ncustomer"});
    co_await looks_around(m, text, as_json);
  });
}

}  // namespace shop

// ---- the await tree ------------------------------------------------------------------------------------------------

TEST_CASE("the await tree names each coroutine, its line, what it waits for, since when, and who has it") {
  std::string text, as_json;
  simulate(shop::opens(text, as_json));
  INFO(text);
  CHECK(contains(
      text, "shop::pay (test_inspect.cpp:" + std::to_string(shop::pay_locks + 1) + ") waits for sleep for 1500 ms"));
  CHECK(contains(text, "shop::buy " + line(shop::buy_waits) + " waits for mutex for 1500 ms, held by shop::pay " +
                           line(shop::pay_locks)));
  CHECK(contains(text, "shop::looks_around (test_inspect.cpp:"));
  CHECK(contains(text, ") runs"));
  CHECK(contains(text, "shop::opens (test_inspect.cpp:"));
  CHECK(!contains(text, "detail::"));
}

TEST_CASE("as JSON it is one object, with the same in it, whatever the names") {
  std::string text, as_json;
  simulate(shop::opens(text, as_json));
  INFO(as_json);
  const json all = json_reader::read(as_json);
  CHECK(all["virtual_time"].text == "true");
  CHECK(all["cut_off"].text == "false");
  REQUIRE(all["trees"].items.size() == 1);
  const json& top = all["trees"].items[0];
  CHECK(top["function"].text == "shop::opens");
  CHECK(top["state"].text == "waits");

  std::vector<const json*> found{&top};
  const json *buys = nullptr, *looks = nullptr;
  for (std::size_t i = 0; i != found.size(); ++i) {
    for (const json& child : (*found[i])["children"].items) found.push_back(&child);
    if (!found[i]->has("function")) continue;
    if ((*found[i])["function"].text == "shop::buy") buys = found[i];
    if ((*found[i])["function"].text == "shop::looks_around") looks = found[i];
  }
  REQUIRE(buys);
  REQUIRE(looks);
  CHECK((*buys)["name"].text == "the \"first\"\ncustomer");
  CHECK((*buys)["file"].text == "test_inspect.cpp");
  CHECK((*buys)["line"].text == std::to_string(shop::buy_waits));
  CHECK((*buys)["waits_for"].text == "mutex");
  CHECK((*buys)["since_ms"].text == "1500");
  REQUIRE((*buys)["held_by"].items.size() == 1);
  CHECK((*buys)["held_by"].items[0]["function"].text == "shop::pay");
  CHECK((*buys)["held_by"].items[0]["line"].text == std::to_string(shop::pay_locks));
  CHECK((*buys)["held_by"].items[0]["count"].text == "1");
  CHECK((*looks)["state"].text == "runs");
  CHECK(!looks->has("waits_for"));
}

namespace shop {

task<> sells() { co_await yield(); }
task<> stands_in_line(int behind, std::string& text) {
  if (behind == 0)
    text = format_await_tree();
  else
    co_await stands_in_line(behind - 1, text);
}
task<> many_at_the_end_of_a_line(int behind, std::string& text) {
  if (behind != 0) {
    co_await many_at_the_end_of_a_line(behind - 1, text);
  } else {
    co_await gather(stands_in_line(0, text), sells(), sells());
  }
}

}  // namespace shop

TEST_CASE("of a long chain the first thousand coroutines are shown, and that there are more") {
  std::string text;
  simulate(shop::stands_in_line(3000, text));
  CHECK(std::count(text.begin(), text.end(), '\n') == 1001);
  CHECK(text.ends_with("\n  ..."));
}

TEST_CASE("coroutines whose start is put off because the stack is deep are shown as not started") {
  bool seen = false;
  for (int depth = 55; depth != 70; ++depth) {
    std::string text;
    simulate(shop::many_at_the_end_of_a_line(depth, text));
    CHECK(contains(text, "shop::many_at_the_end_of_a_line"));
    seen = seen || contains(text, "  a task has not started\n");
  }
  CHECK(seen);
}

namespace shop {

task<> looks_alone(std::string& text) {
  co_await yield();
  text = format_await_tree(tree_format::json);
}
task<> looks_at_the_end_of_a_line(int behind, std::string& text) {
  if (behind == 0)
    co_await looks_alone(text);
  else
    co_await looks_at_the_end_of_a_line(behind - 1, text);
}
task<> looks_first(std::string& text) {
  text = format_await_tree(tree_format::json);
  co_return;
}
task<> many_who_look_at_the_end_of_a_line(int behind, std::string& text) {
  if (behind != 0) {
    co_await many_who_look_at_the_end_of_a_line(behind - 1, text);
  } else {
    co_await gather(looks_first(text), sells(), sells());
  }
}
std::size_t count_of(const json& trees, std::vector<const json*>* with_state = nullptr, std::string_view state = "") {
  std::size_t n = 0;
  for (const json& t : trees.items) {
    ++n;
    if (with_state && t["state"].text == state) with_state->push_back(&t);
    if (t.has("children")) n += count_of(t["children"], with_state, state);
  }
  return n;
}

}  // namespace shop

TEST_CASE("JSON says that a tree was cut off, after a thousand coroutines, and whether time is virtual") {
  std::string text;
  simulate(shop::looks_at_the_end_of_a_line(3000, text));
  json all = json_reader::read(text);
  CHECK(all["cut_off"].text == "true");
  CHECK(all["virtual_time"].text == "true");
  CHECK(shop::count_of(all["trees"]) == 1000);
  tandem::run(shop::looks_at_the_end_of_a_line(10, text));
  all = json_reader::read(text);
  CHECK(all["cut_off"].text == "false");
  CHECK(all["virtual_time"].text == "false");
  CHECK(shop::count_of(all["trees"]) == 12);
  CHECK(all["loop"].kind == json::number);
}

TEST_CASE("of a coroutine that has not started JSON has the state, and no line") {
  std::size_t seen = 0;
  for (int depth = 55; depth != 70; ++depth) {
    std::string text;
    simulate(shop::many_who_look_at_the_end_of_a_line(depth, text));
    const json all = json_reader::read(text);
    std::vector<const json*> unstarted;
    shop::count_of(all["trees"], &unstarted, "not started");
    seen += unstarted.size();
    for (const json* t : unstarted) {
      CHECK(!t->has("line"));
      CHECK(!t->has("waits_for"));
    }
  }
  CHECK(seen != 0);
}

namespace shop {

struct looks_when_it_goes {
  explicit looks_when_it_goes(std::string& t) : text(t) {}
  looks_when_it_goes(const looks_when_it_goes&) = delete;
  ~looks_when_it_goes() { text = format_await_tree(); }
  std::string& text;
};
task<> sells_until_stopped(std::string& text) {
  const looks_when_it_goes here(text);
  co_await gather(sells(), sleep_for(10s));
}
task<> closes(std::string& text) { (void)co_await try_timeout(1s, sells_until_stopped(text)); }

}  // namespace shop

TEST_CASE("a destructor may look while its coroutine is being stopped: what goes is not shown, what stays is") {
  std::string text;
  simulate(shop::closes(text));
  INFO(text);
  CHECK(contains(text, "shop::closes (test_inspect.cpp:"));
  CHECK(!contains(text, "shop::sells_until_stopped"));
  CHECK(!contains(text, "shop::sells "));
}

namespace shop {

task<> closes_itself(task_handle<void>& own, semaphore& permits) {
  co_await sleep_for(5s);
  own.cancel();
  const auto permit = co_await permits.acquire();  // it stops here
}
task<> looks_at_who_stops(std::string& text) {
  semaphore permits(1);
  const auto held = co_await permits.acquire();
  task_handle<void> own;
  co_await with_task_group([&](task_group& group) -> task<> {
    own = group.spawn(closes_itself(own, permits));
    co_await sleep_for(5s);
    text = format_await_tree();
  });
}

}  // namespace shop

TEST_CASE("who stops where he would wait has waited for no time") {
  std::string text;
  simulate(shop::looks_at_who_stops(text));
  INFO(text);
  CHECK(contains(text, "shop::closes_itself (test_inspect.cpp:"));
  CHECK(contains(text, "waits for semaphore for 0 "));
}

TEST_CASE("where no loop runs there is no tree of it: that is said") {
  CHECK_THROWS_WITH(format_await_tree(), containing("no loop runs on this thread"));
  CHECK(format_all_await_trees() == "no loops\n");
  CHECK(json_reader::read(format_all_await_trees(tree_format::json))["loops"].items.empty());
  CHECK_THROWS_WITH(format_all_await_trees(tree_format::text, -1ms), containing("patience is -1 ms"));
  CHECK_THROWS_AS(format_await_tree(), std::logic_error);
  CHECK_THROWS_AS(format_all_await_trees(tree_format::text, -1ms), std::invalid_argument);
}

namespace shop {

task<> waits_for(event& e) { co_await e.wait(); }

}  // namespace shop

TEST_CASE("of all loops the one that runs on this thread answers at once, and others that only it runs cannot") {
  asio::io_context mine;
  tandem::spawn(mine, shop::sells(), asio::detached);
  std::string text, as_json;
  const auto looks = [&]() -> task<> {
    co_await yield();
    text = format_all_await_trees(tree_format::text, 0ms);
    as_json = format_all_await_trees(tree_format::json, 0ms);
  };
  const auto waits_for_it = [&]() -> task<> { co_await gather(looks(), shop::sells()); };
  simulate(waits_for_it());
  INFO(text);
  CHECK(contains(text, "shop::sells (test_inspect.cpp:"));
  CHECK(contains(text, "waits for yield"));
  CHECK(contains(text, "did not answer within 0 ms"));
  const json all = json_reader::read(as_json);
  REQUIRE(all["loops"].items.size() == 2);
  std::size_t answered = 0;
  for (const json& l : all["loops"].items) answered += l.has("trees");
  CHECK(answered == 1);
  mine.poll();
}

TEST_CASE("real_the trees of all loops are written from any thread, those that nobody runs are said not to answer") {
  asio::thread_pool pool(2);
  asio::io_context nobody;
  std::atomic<int> waiting{0};
  event opened[2];
  const auto wait = [&](int i) -> task<> {
    ++waiting;
    co_await shop::waits_for(opened[i]);
  };
  asio::strand<asio::thread_pool::executor_type> strands[] = {asio::make_strand(pool), asio::make_strand(pool)};
  for (int i = 0; i != 2; ++i) tandem::spawn(strands[i], wait(i), asio::detached);
  tandem::spawn(nobody, shop::sells(), asio::detached);
  while (waiting != 2) std::this_thread::yield();

  const std::string text = format_all_await_trees(tree_format::text, 500ms);
  INFO(text);
  std::size_t found = 0;
  for (std::size_t at = 0; (at = text.find("shop::waits_for (test_inspect.cpp:", at)) != text.npos; ++at) ++found;
  CHECK(found == 2);
  CHECK(contains(text, " waits for event for "));
  CHECK(contains(text, "did not answer within 500 ms: nobody runs it, or something keeps it"));

  const json all = json_reader::read(format_all_await_trees(tree_format::json, 500ms));
  std::size_t answered = 0, silent = 0;
  for (const json& l : all["loops"].items) {
    l.has("trees") ? ++answered : ++silent;
    CHECK(l.has("loop"));
    CHECK(l.has("trees") != l.has("answered"));
    if (l.has("answered")) CHECK(l["answered"].text == "false");
  }
  CHECK(answered == 2);
  CHECK(silent == 1);
  for (int i = 0; i != 2; ++i) asio::post(strands[i], [&, i] { opened[i].set(); });
  pool.join();
}

TEST_CASE("real_loops come and go while others look at them") {
  std::atomic<bool> over{false};
  asio::thread_pool pool(2);
  std::thread looker([&] {
    while (!over) {
      const std::string text = format_all_await_trees(tree_format::text, 20ms);
      if (text.empty()) std::abort();
    }
  });
  for (int i = 0; i != 300; ++i) {
    std::vector<std::future<void>> done;
    for (int k = 0; k != 4; ++k)
      done.push_back(tandem::spawn(asio::make_strand(pool), shop::sells(), asio::use_future));
    for (auto& d : done) d.get();
    simulate(shop::sells());
    asio::io_context context;
    tandem::run(context, shop::sells());
  }
  over = true;
  looker.join();
  pool.join();
}

TEST_CASE("real_a signal has the trees written, also when the loops are idle") {
  std::promise<std::string> written;
  await_trees_on_signal trees(SIGUSR1, [&, n = 0](const std::string& text) mutable {
    if (n++ == 0) written.set_value(text);
  });
  event closed;
  asio::io_context context;
  auto work = asio::make_work_guard(context);
  tandem::spawn(context, shop::waits_for(closed), asio::detached);
  context.poll();  // it waits
  std::thread runs([&] { context.run(); });
  ::kill(::getpid(), SIGUSR1);
  const std::string text = written.get_future().get();
  INFO(text);
  CHECK(contains(text, "shop::waits_for (test_inspect.cpp:"));
  CHECK(contains(text, "waits for event"));
  asio::post(context, [&] {
    closed.set();
    work.reset();
  });
  runs.join();
}

TEST_CASE("real_a call of the system goes on after the signal") {
  await_trees_on_signal trees(SIGUSR1, [](const std::string&) {});
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pthread_t reader = ::pthread_self();
  std::thread writer([&] {
    for (int i = 0; i != 20; ++i) {
      ::pthread_kill(reader, SIGUSR1);
      std::this_thread::sleep_for(1ms);
    }
    CHECK_NOTHROW(::write(ends[1], "x", 1) == 1 ? void() : throw std::runtime_error("write"));
  });
  char c = 0;
  const auto n = ::read(ends[0], &c, 1);
  writer.join();
  CHECK(n == 1);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("a signal that cannot be caught is refused") { CHECK_THROWS(await_trees_on_signal(SIGKILL)); }

// ---- the watchdog --------------------------------------------------------------------------------------------------

namespace shop {

void block(std::chrono::milliseconds time) { std::this_thread::sleep_for(time); }

constexpr int counts_waits = __LINE__ + 2;
task<> counts_the_till() {
  co_await yield();
  block(500ms);
  co_await yield();
}
task<> blocks_and_ends() {
  block(500ms);
  co_return;
}
task<> asks_one_that_blocks_and_ends() {
  co_await yield();
  co_await blocks_and_ends();
}
task<> customer(event& e) { co_await e.wait(); }
task<> day(task<> work) {
  event served;
  co_await with_task_group([&](task_group& group) -> task<> {
    group.spawn(customer(served));
    co_await yield();
    co_await std::move(work);
    served.set();
  });
}

struct reports {
  std::mutex mutex;
  std::vector<stall> all;
  auto taker() {
    return [this](const stall& s) {
      const std::scoped_lock lock(mutex);
      all.push_back(s);
    };
  }
};

}  // namespace shop

TEST_CASE("real_who keeps the loop is named with its line, while it does and when it is over") {
  shop::reports got;
  {
    stall_watchdog watchdog({.threshold = 100ms}, got.taker());
    tandem::run(shop::day(shop::counts_the_till()));
    CHECK(watchdog.stalls() == 1);
  }
  REQUIRE(got.all.size() == 2);
  for (const stall& s : got.all) {
    INFO(s.text());
    CHECK(s.function == "shop::counts_the_till");
    CHECK(s.file == "test_inspect.cpp");
    CHECK(s.line == static_cast<std::uint_least32_t>(shop::counts_waits));
  }
  CHECK(!got.all[0].is_over);
  CHECK(got.all[0].lasted >= 100ms);
  CHECK(got.all[1].is_over);
  CHECK(got.all[1].lasted >= 350ms);
  CHECK(contains(got.all[1].await_tree, "shop::customer (test_inspect.cpp:"));
  CHECK(contains(got.all[1].await_tree, "waits for event"));
  const std::string where =
      "; look at what follows its co_await at test_inspect.cpp:" + std::to_string(shop::counts_waits);
  CHECK(contains(got.all[0].text(), "shop::counts_the_till has blocked its loop for 1"));
  CHECK(contains(got.all[0].text(), " ms and goes on" + where));
  CHECK(contains(got.all[1].text(), "shop::counts_the_till blocked its loop for "));
  CHECK(contains(got.all[1].text(), " ms" + where));
}

TEST_CASE("real_a coroutine that has ended with its stall is named, not the one that awaited it") {
  shop::reports got;
  {
    stall_watchdog watchdog({.threshold = 100ms}, got.taker());
    tandem::run(shop::day(shop::asks_one_that_blocks_and_ends()));
  }
  REQUIRE(got.all.size() == 2);
  for (const stall& s : got.all) {
    CHECK(s.function == "shop::blocks_and_ends");
    CHECK(s.line == 0);
    CHECK(contains(s.text(), "; look at its beginning, in test_inspect.cpp"));
  }
}

namespace shop {

task<> ends_at_once() { co_return; }
constexpr int blocks_after_a_child = __LINE__ + 2;
task<> blocks_after_one_that_ends() {
  co_await yield();
  co_await ends_at_once();
  block(500ms);
  co_await yield();
}
constexpr int yields_after = __LINE__ + 2;
generator<int> counts() {
  co_await yield();
  co_yield 1;
  block(500ms);
  co_yield 2;
}
task<> pulls() {
  auto numbers = counts();
  while (auto n = co_await numbers.next()) {
  }
}

}  // namespace shop

TEST_CASE("real_a child that has ended before is not blamed, and a generator goes on from where it yielded") {
  shop::reports got;
  {
    stall_watchdog watchdog({.threshold = 100ms}, got.taker());
    tandem::run(shop::blocks_after_one_that_ends());
    tandem::run(shop::pulls());
  }
  REQUIRE(got.all.size() == 4);
  CHECK(got.all[1].function == "shop::blocks_after_one_that_ends");
  CHECK(got.all[1].line == static_cast<std::uint_least32_t>(shop::blocks_after_a_child));
  CHECK(got.all[3].function == "shop::counts");
  CHECK(got.all[3].line == static_cast<std::uint_least32_t>(shop::yields_after + 1));
}

TEST_CASE("real_a loop that is there already, on another thread, is watched, under simulate too") {
  asio::io_context context;
  auto work = asio::make_work_guard(context);
  std::thread runs([&] { context.run(); });
  event closed;
  tandem::spawn(context, shop::customer(closed), asio::detached);
  shop::reports got;
  {
    stall_watchdog watchdog({.threshold = 100ms}, got.taker());
    tandem::spawn(context, shop::counts_the_till(), asio::use_future).get();
    CHECK(watchdog.stalls() == 1);
    simulate(shop::counts_the_till());
    CHECK(watchdog.stalls() == 2);
  }
  CHECK(got.all.size() == 4);
  asio::post(context, [&] {
    closed.set();
    work.reset();
  });
  runs.join();
}

TEST_CASE("real_a program that waits and works in short turns is not reported, and without a watchdog nobody looks") {
  shop::reports got;
  {
    stall_watchdog watchdog({.threshold = 500ms}, got.taker());
    const auto works = []() -> task<> {
      for (int i = 0; i != 20; ++i) {
        co_await sleep_for(1ms);
        shop::block(1ms);
      }
    };
    tandem::run(works());
    CHECK(watchdog.stalls() == 0);
  }
  CHECK(got.all.empty());
  const auto nobody_looks = []() -> task<> {
    co_await yield();
    const detail::loop& here = *detail::loop::current();
    if (here.is_observed() || here.turn().number != 0) throw std::logic_error("somebody looks");
  };
  tandem::run(nobody_looks());
}

TEST_CASE("real_two watchdogs watch, each by its own threshold") {
  shop::reports strict, patient;
  {
    stall_watchdog first({.threshold = 50ms}, strict.taker()), second({.threshold = 10s}, patient.taker());
    tandem::run(shop::counts_the_till());
  }
  CHECK(strict.all.size() == 2);
  CHECK(patient.all.empty());
}

TEST_CASE("real_without a function to report to a stall is said on stderr") {
  const kit::captured_stderr captured;
  {
    stall_watchdog watchdog({.threshold = 50ms});
    tandem::run(shop::counts_the_till());
  }
  CHECK(contains(captured.text(), "tandem: shop::counts_the_till has blocked its loop for "));
  CHECK(contains(captured.text(), "tandem: shop::counts_the_till blocked its loop for "));
}

TEST_CASE("real_a loop that is kept is said to be, by whom, to who asks for the trees") {
  stall_watchdog watchdog({.threshold = 1s}, [](const stall&) {});
  std::thread runs([] { tandem::run(shop::counts_the_till()); });
  std::string text;
  while (!contains(text, "kept by")) text = format_all_await_trees(tree_format::text, 20ms);
  INFO(text);
  CHECK(contains(text, "did not answer within 20 ms: kept by shop::counts_the_till " + line(shop::counts_waits)));
  runs.join();
}

TEST_CASE("a threshold that is not positive is refused") {
  CHECK_THROWS_WITH(stall_watchdog({.threshold = 0ms}), containing("the threshold is 0 ms; it must be positive"));
  CHECK_THROWS_AS(stall_watchdog({.threshold = -1ms}), std::invalid_argument);
}
