#include <tandem/progress.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/generator.hpp>
#include <tandem/run.hpp>
#include <tandem/task_group.hpp>
#include <tandem/wait.hpp>

#include "kit/kit.hpp"

#include <array>
#include <list>
#include <map>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using kit::after;
using kit::thrown_by;
using tandem::as_completed;
using tandem::clock;
using tandem::for_each;
using tandem::gather;
using tandem::generator;
using tandem::observed_by;
using tandem::progress_counts;
using tandem::progress_ending;
using tandem::return_exceptions;
using tandem::simulate;
using tandem::sleep_for;
using tandem::task;
using tandem::transform;

namespace {

/// Writes down what it is told: "begin 3; start 0; end 0 ok; finish; ".
struct scribe final : tandem::progress_observer {
  std::string text;
  void on_begin(std::optional<std::size_t> n) noexcept override {
    text += "begin " + (n ? std::to_string(*n) : "?") + "; ";
  }
  void on_total(std::size_t n) noexcept override { text += "total " + std::to_string(n) + "; "; }
  void on_start(std::size_t i) noexcept override { text += "start " + std::to_string(i) + "; "; }
  void on_end(std::size_t i, progress_ending how) noexcept override {
    text += "end " + std::to_string(i) +
            (how == progress_ending::succeeded ? " ok; "
             : how == progress_ending::failed  ? " failed; "
                                               : " stopped; ");
  }
  void on_finish() noexcept override { text += "finish; "; }
};

/// Checks that what it is told makes sense, and counts it.
class ledger final : public tandem::progress_observer {
 public:
  ~ledger() override { CHECK_FALSE(counter_.is_active()); }

  void on_begin(std::optional<std::size_t> total) noexcept override {
    CHECK(!counter_.is_active());
    state_.clear();
    ++begun_;
    counter_.on_begin(total);
  }
  void on_total(std::size_t total) noexcept override {
    CHECK(counter_.is_active());
    counter_.on_total(total);
  }
  void on_start(std::size_t i) noexcept override {
    CHECK(counter_.is_active());
    CHECK(state_.find(i) == state_.end());
    if (const auto total = counter_.counts().total) CHECK(i < *total);
    state_[i] = runs;
    counter_.on_start(i);
  }
  void on_end(std::size_t i, progress_ending how) noexcept override {
    CHECK(counter_.is_active());
    CHECK(state_[i] == runs);
    state_[i] = ended;
    counter_.on_end(i, how);
  }
  void on_finish() noexcept override {
    CHECK(counter_.is_active());
    counter_.on_finish();
    ++finished_;
    const progress_counts& c = counts();
    CHECK(c.under_way() == 0);
    if (c.total) CHECK(*c.total == c.succeeded + c.failed + c.stopped + c.not_started().value());
  }

  const progress_counts& counts() const noexcept { return counter_.counts(); }
  /// Whatever has begun has finished.
  bool balances() const noexcept { return begun_ == finished_ && counts().under_way() == 0; }
  int begun() const noexcept { return begun_; }

 private:
  enum what { never, runs, ended };
  std::map<std::size_t, what> state_;
  tandem::progress_counter counter_;
  int begun_ = 0, finished_ = 0;
};

task<int> fail_after(clock::duration d, const char* text) {
  co_await sleep_for(d);
  throw std::runtime_error(text);
}
task<int> at_once(int i) { co_return i; }
task<int> fail_at_once() {
  throw std::runtime_error("at once");
  co_return 0;
}
template <class... Tasks>
auto vector_of(Tasks... tasks) {
  std::vector<std::common_type_t<Tasks...>> all;
  (all.push_back(std::move(tasks)), ...);
  return all;
}
generator<int> numbers(int n, clock::duration apart = {}) {
  for (int i = 0; i != n; ++i) {
    if (apart != clock::duration::zero()) co_await sleep_for(apart);
    co_yield i;
  }
}

}  // namespace

// ---- what is told --------------------------------------------------------------------------------------------------

TEST_CASE("an observed gather gives what it gives, and tells starts and ends in their order") {
  auto main = []() -> task<> {
    scribe s;
    const auto given = co_await gather(observed_by(s), after(3s, 1), after(1s, std::string("two")), sleep_for(2s));
    CHECK(std::get<0>(given) == 1);
    CHECK(std::get<1>(given) == "two");
    CHECK(s.text == "begin 3; start 0; start 1; start 2; end 1 ok; end 2 ok; end 0 ok; finish; ");

    s.text.clear();
    auto ints = vector_of(after(2s, 1), after(1s, 2));
    const std::vector<int> numbers = co_await gather(observed_by(s), std::move(ints));
    CHECK(numbers == std::vector<int>{1, 2});
    CHECK(s.text == "begin 2; start 0; start 1; end 1 ok; end 0 ok; finish; ");

    s.text.clear();
    auto texts = vector_of(after(2s, std::string("a")), after(1s, std::string("b")));
    const std::vector<std::string> words = co_await gather(observed_by(s), std::move(texts));
    CHECK(words == std::vector<std::string>{"a", "b"});
    CHECK(s.text == "begin 2; start 0; start 1; end 1 ok; end 0 ok; finish; ");
  };
  simulate(main());
}

TEST_CASE("children that end at once have ended before the next one starts") {
  auto main = []() -> task<> {
    scribe s;
    co_await gather(observed_by(s), at_once(1), at_once(2));
    CHECK(s.text == "begin 2; start 0; end 0 ok; start 1; end 1 ok; finish; ");
    s.text.clear();
    std::vector<int> three{1, 2, 3};
    co_await for_each(observed_by(s), three, at_once, {.limit = 2});
    CHECK(s.text == "begin 3; start 0; end 0 ok; start 1; end 1 ok; start 2; end 2 ok; finish; ");
  };
  simulate(main());
}

TEST_CASE("when a child is told to have ended, its frame is gone, and it has started before") {
  struct looks final : tandem::progress_observer {
    std::vector<int> alive;  // at each start, and at each end
    void on_begin(std::optional<std::size_t>) noexcept override { note(); }
    void on_start(std::size_t) noexcept override { note(); }
    void on_end(std::size_t, progress_ending) noexcept override { note(); }
    void on_finish() noexcept override { note(); }
    void note() { alive.push_back(kit::counted::live()); }
  };
  auto child = [](int i) -> task<int> {
    const kit::counted object;
    if (i == 3) throw std::runtime_error("at once");
    co_await sleep_for(std::chrono::seconds(i));
    co_return i;
  };
  auto main = [&]() -> task<> {
    looks o;
    const std::vector<int> two{1, 2};
    const std::vector<int> expected{0, 0, 1, 1, 0, 0};  // begin, start, start, end, end, finish
    (void)co_await gather(observed_by(o), child(1), child(2));
    CHECK(o.alive == expected);
    o.alive.clear();
    auto tasks = vector_of(child(1), child(2));
    (void)co_await gather(observed_by(o), std::move(tasks));
    CHECK(o.alive == expected);
    o.alive.clear();
    (void)co_await transform(observed_by(o), two, child);
    CHECK(o.alive == expected);
    o.alive.clear();
    const std::string text = co_await thrown_by(gather(observed_by(o), child(1), child(3)));
    CHECK(text == "at once");
    CHECK(o.alive == std::vector<int>{0, 0, 1, 1, 0, 0});  // it failed, and then the other was stopped
    o.alive.clear();
    const auto in_time = co_await tandem::try_timeout(500ms, gather(observed_by(o), child(1), child(2)));
    CHECK(!in_time);
    REQUIRE(o.alive.size() == 6);
    CHECK(o.alive.back() == 0);
  };
  simulate(main());
}

TEST_CASE("nothing to do begins and finishes") {
  auto main = []() -> task<> {
    scribe s;
    co_await gather(observed_by(s));
    std::vector<task<>> none;
    co_await gather(observed_by(s), std::move(none));
    std::vector<int> nobody;
    co_await for_each(observed_by(s), nobody, at_once);
    CHECK(s.text == "begin 0; finish; begin 0; finish; begin 0; finish; ");
    s.text.clear();
    co_await for_each(observed_by(s), numbers(0), at_once);
    CHECK(s.text == "begin ?; total 0; finish; ");
  };
  simulate(main());
}

TEST_CASE("a failure stops the rest, and those that have not started are left out") {
  auto main = []() -> task<> {
    scribe s;
    std::string text = co_await thrown_by(gather(observed_by(s), after(1h, 1), fail_after(1s, "f"), after(1h, 2)));
    CHECK(text == "f");
    CHECK(s.text == "begin 3; start 0; start 1; start 2; end 1 failed; end 0 stopped; end 2 stopped; finish; ");

    s.text.clear();
    text = co_await thrown_by(gather(observed_by(s), at_once(1), fail_at_once(), after(1h, 2), after(1h, 3)));
    CHECK(text == "at once");
    CHECK(s.text == "begin 4; start 0; end 0 ok; start 1; end 1 failed; finish; ");

    s.text.clear();
    std::vector<int> four{0, 1, 2, 3};
    auto second_fails = [](int i) { return i == 1 ? fail_after(1s, "f") : after(1h, i); };
    text = co_await thrown_by(transform(observed_by(s), four, second_fails, {.limit = 2}));
    CHECK(text == "f");
    CHECK(s.text == "begin 4; start 0; start 1; end 1 failed; end 0 stopped; finish; ");
  };
  simulate(main());
}

TEST_CASE("with return_exceptions failures are told and stop nothing") {
  auto main = []() -> task<> {
    scribe s;
    const auto outcomes = co_await gather(observed_by(s), return_exceptions, fail_after(1s, "f"), after(2s, 2));
    CHECK(std::get<1>(outcomes).value() == 2);
    CHECK(s.text == "begin 2; start 0; start 1; end 0 failed; end 1 ok; finish; ");

    s.text.clear();
    auto tasks = vector_of(fail_after(1s, "f"), after(2s, 2));
    const auto more = co_await gather(observed_by(s), return_exceptions, std::move(tasks));
    CHECK(more[1].value() == 2);
    CHECK(s.text == "begin 2; start 0; start 1; end 0 failed; end 1 ok; finish; ");

    s.text.clear();
    std::vector<int> two{0, 1};
    auto first_fails = [](int i) { return i == 0 ? fail_after(1s, "f") : after(2s, i); };
    const auto last = co_await transform(observed_by(s), return_exceptions, two, first_fails);
    CHECK(last[1].value() == 1);
    CHECK(s.text == "begin 2; start 0; start 1; end 0 failed; end 1 ok; finish; ");
  };
  simulate(main());
}

TEST_CASE("a function that throws instead of returning a task is a child that failed") {
  auto main = []() -> task<> {
    scribe s;
    std::vector<int> three{0, 1, 2};
    auto refuses = [](int i) -> task<int> { return i == 1 ? throw std::runtime_error("refused") : after(1h, i); };
    const std::string text = co_await thrown_by(transform(observed_by(s), three, refuses));
    CHECK(text == "refused");
    CHECK(s.text == "begin 3; start 0; start 1; end 1 failed; end 0 stopped; finish; ");
  };
  simulate(main());
}

TEST_CASE("a range that does not know its size tells the total when it has come to its end") {
  auto main = []() -> task<> {
    scribe s;
    auto even = std::views::iota(0, 4) | std::views::filter([](int i) { return i % 2 == 0; });
    co_await for_each(observed_by(s), even, [](int) { return sleep_for(1s); });
    CHECK(s.text == "begin ?; start 0; start 1; total 2; end 0 ok; end 1 ok; finish; ");
  };
  simulate(main());
}

TEST_CASE("a list that grows meanwhile tells its new size in the end") {
  auto main = []() -> task<> {
    scribe s;
    std::list<int> jobs{1};
    auto work = [&](int i) -> task<> {
      if (i == 1) jobs.push_back(2);
      co_return;
    };
    co_await for_each(observed_by(s), jobs, work);
    CHECK(s.text == "begin 1; start 0; end 0 ok; start 1; end 1 ok; total 2; finish; ");
  };
  simulate(main());
}

TEST_CASE("for_each over a stream tells the total when the stream is over") {
  auto main = []() -> task<> {
    for (const std::size_t limit : {1u, 2u, 16u}) {
      scribe s;
      co_await for_each(observed_by(s), numbers(2), [](int i) { return sleep_for(1s * (i + 1)); }, {.limit = limit});
      CHECK(s.text == (limit == 1   ? "begin ?; start 0; end 0 ok; start 1; end 1 ok; total 2; finish; "
                       : limit == 2 ? "begin ?; start 0; start 1; end 0 ok; total 2; end 1 ok; finish; "
                                    : "begin ?; start 0; start 1; total 2; end 0 ok; end 1 ok; finish; "));
    }
    scribe s;
    auto second_fails = [](int i) { return i == 1 ? fail_after(1s, "f") : after(1h, i); };
    const std::string text = co_await thrown_by(for_each(observed_by(s), numbers(9, 1s), second_fails, {.limit = 2}));
    CHECK(text == "f");
    CHECK(s.text == "begin ?; start 0; start 1; end 1 failed; end 0 stopped; finish; ");
  };
  simulate(main());
}

TEST_CASE("an as_completed begins with its first next, and finishes with the last task") {
  auto main = []() -> task<> {
    scribe s;
    auto tasks = vector_of(after(3s, 0), fail_after(1s, "f"), after(1s, 2));
    auto stream = as_completed(observed_by(s), std::move(tasks), 2);
    CHECK(s.text.empty());
    co_await stream.next();
    CHECK(s.text == "begin 3; start 0; start 1; end 1 failed; start 2; ");
    co_await sleep_for(1h);
    CHECK(s.text == "begin 3; start 0; start 1; end 1 failed; start 2; end 2 ok; end 0 ok; finish; ");
    while (auto one = co_await stream.next()) CHECK(one->outcome.has_value());
    CHECK(s.text == "begin 3; start 0; start 1; end 1 failed; start 2; end 2 ok; end 0 ok; finish; ");
  };
  simulate(main());
}

TEST_CASE("a stream that is dropped counts what is left as stopped, and tells nothing more") {
  auto main = []() -> task<> {
    auto told = std::make_unique<scribe>();
    bool cleaned_up = false;
    auto work = [](bool& flag) -> task<int> {
      co_return co_await tandem::finally(after(1h, 1), [&]() -> task<> {
        co_await sleep_for(1s);
        flag = true;
      });
    };
    {
      auto tasks = vector_of(work(cleaned_up), after(1s, 1), after(1h, 2), after(1h, 3));
      auto stream = as_completed(observed_by(*told), std::move(tasks), 2);
      co_await stream.next();
    }
    CHECK(told->text == "begin 4; start 0; start 1; end 1 ok; start 2; end 0 stopped; end 2 stopped; finish; ");
    told.reset();  // the task that cleans up must not tell it
    co_await sleep_for(2s);
    CHECK(cleaned_up);
  };
  simulate(main());
}

TEST_CASE("a task whose frame drops the stream it is of has ended before") {
  auto main = []() -> task<> {
    scribe s;
    std::optional<tandem::completion_stream<int>> stream;
    auto drops = [](std::optional<tandem::completion_stream<int>>& all) -> task<int> {
      const kit::at_exit end([&] { all.reset(); });
      co_await sleep_for(1s);
      co_return 1;
    };
    auto tasks = vector_of(drops(stream), after(1h, 1));
    stream = as_completed(observed_by(s), std::move(tasks));
    const auto none = co_await stream->next();
    CHECK(!none);
    CHECK(s.text == "begin 2; start 0; start 1; end 0 stopped; end 1 stopped; finish; ");
  };
  simulate(main());
}

TEST_CASE("an observer may ask for a stop") {
  struct stops_after_two final : tandem::progress_observer {
    tandem::task_handle<> whole;
    int ended = 0;
    void on_begin(std::optional<std::size_t>) noexcept override {}
    void on_end(std::size_t, progress_ending) noexcept override {
      if (++ended == 2) whole.cancel();
    }
  };
  for (const bool yields : {false, true}) {
    stops_after_two o;
    int started = 0;
    auto main = [&]() -> task<> {
      auto work = [&](int) -> task<> {
        ++started;
        if (yields) co_await tandem::yield();
      };
      auto whole = [&]() -> task<> {
        co_await tandem::yield();  // until its handle is known
        co_await for_each(observed_by(o), std::views::iota(0, 9), work, {.limit = 2});
      };
      auto body = [&](tandem::task_group& group) -> task<> {
        o.whole = group.spawn(whole());
        co_return;
      };
      co_await tandem::with_task_group(body);
      CHECK(o.whole.done());
      CHECK_FALSE(o.whole.outcome().has_value());
      o.whole = {};
    };
    simulate(main());
    CHECK(started <= 4);
  }
}

TEST_CASE("an observed gather that is never awaited tells nothing") {
  scribe s;
  auto main = [&]() -> task<> {
    { auto g = gather(observed_by(s), after(1s, 1), after(1s, 2)); }
    auto tasks = vector_of(after(1s, 1));
    { auto g = gather(observed_by(s), std::move(tasks)); }
    auto more = vector_of(after(1s, 1));
    { auto stream = as_completed(observed_by(s), std::move(more)); }
    co_return;
  };
  simulate(main());
  CHECK(s.text.empty());
}

TEST_CASE("all is over before the awaiter goes on, though the awaitable is still there") {
  auto main = []() -> task<> {
    scribe s;
    const auto is_over = [&] { return s.text.ends_with("finish; "); };
    auto some = gather(observed_by(s), after(1s, 1), after(2s, 2));
    (void)co_await std::move(some);
    CHECK(is_over());
    s.text.clear();
    auto at_first = gather(observed_by(s), at_once(1));
    (void)co_await std::move(at_first);
    CHECK(is_over());
    s.text.clear();
    auto tasks = vector_of(after(1s, 1));
    auto all = gather(observed_by(s), std::move(tasks));
    (void)co_await std::move(all);
    CHECK(is_over());
    s.text.clear();
    auto each = for_each(observed_by(s), std::views::iota(0, 3), at_once);
    co_await std::move(each);
    CHECK(is_over());
    s.text.clear();
    auto rest = transform(observed_by(s), std::views::iota(0, 3), [](int i) { return after(1s, i); });
    (void)co_await std::move(rest);
    CHECK(is_over());
  };
  simulate(main());
}

TEST_CASE("an observed gather may be moved until it is awaited") {
  auto main = []() -> task<> {
    scribe s;
    auto first = gather(observed_by(s), after(1s, 1), after(2s, 2));
    auto second = std::move(first);
    co_await tandem::timeout(1h, std::move(second));
    CHECK(s.text == "begin 2; start 0; start 1; end 0 ok; end 1 ok; finish; ");
  };
  simulate(main());
}

TEST_CASE("a value whose move throws is told as the failure that it is") {
  struct throws_when_moved {
    explicit throws_when_moved(bool b) : throws(b) {}
    throws_when_moved(throws_when_moved&& o) : throws(o.throws) {
      if (throws) throw std::runtime_error("moved");
    }
    bool throws;
  };
  auto main = []() -> task<> {
    scribe s;
    auto bad = [](bool& flag) -> task<throws_when_moved> {
      struct arm {
        bool& f;
        operator throws_when_moved() const { return throws_when_moved(f); }
      };
      co_await sleep_for(1s);
      co_return arm{flag};
    };
    bool throws = true;
    auto tasks = vector_of(bad(throws));
    const std::string text = co_await thrown_by(gather(observed_by(s), std::move(tasks)));
    CHECK(text == "moved");
    CHECK(s.text == "begin 1; start 0; end 0 failed; finish; ");
  };
  simulate(main());
}

// ---- the counter ---------------------------------------------------------------------------------------------------

TEST_CASE("a counter counts what it observes, each time from zero") {
  auto main = []() -> task<> {
    tandem::progress_counter c;
    auto look = [&]() -> task<> {
      co_await sleep_for(1500ms);
      CHECK(c.is_active());
      CHECK(c.counts().total == 4u);
      CHECK(c.counts().under_way() == 2);
      CHECK(c.counts().succeeded == 1);
      CHECK(c.counts().not_started() == 1u);
    };
    std::vector<int> seconds{1, 2, 3, 4};
    auto sleep = [](int i) { return after(std::chrono::seconds(i), i); };
    co_await gather(transform(observed_by(c), seconds, sleep, {.limit = 2}), look());
    CHECK_FALSE(c.is_active());
    CHECK(c.counts() == progress_counts{.total = 4, .started = 4, .succeeded = 4});
    (void)co_await gather(observed_by(c), return_exceptions, fail_after(1s, "f"), at_once(1));
    CHECK(c.counts() == progress_counts{.total = 2, .started = 2, .succeeded = 1, .failed = 1});
    CHECK(c.counts().not_started() == 0u);
  };
  simulate(main());
}

TEST_CASE("of several at once a counter knows the total if each knew its own") {
  auto main = []() -> task<> {
    tandem::progress_counter c;
    co_await gather(gather(observed_by(c), after(1s, 1), after(3s, 2)), gather(observed_by(c), after(2s, 1)));
    CHECK(c.counts() == progress_counts{.total = 3, .started = 3, .succeeded = 3});
    co_await gather(gather(observed_by(c), after(1s, 1), after(3s, 2)), for_each(observed_by(c), numbers(2), at_once));
    CHECK(c.counts() == progress_counts{.total = std::nullopt, .started = 4, .succeeded = 4});
    CHECK(c.counts().not_started() == std::nullopt);
    co_await for_each(observed_by(c), numbers(2), at_once);
    CHECK(c.counts() == progress_counts{.total = 2, .started = 2, .succeeded = 2});
    std::list<int> jobs{1};
    auto grows = [&](int i) -> task<> {
      if (i == 1) jobs.push_back(2);
      co_return;
    };
    co_await gather(gather(observed_by(c), after(1s, 1)), for_each(observed_by(c), jobs, grows));
    CHECK(c.counts() == progress_counts{.total = std::nullopt, .started = 3, .succeeded = 3});
  };
  simulate(main());
}

// ---- the ledger balances, however it ends
// ----------------------------------------------------------------------------

namespace {

/// What is observed in these: some wait, some end at once, maybe one fails.
task<int> work(int i, int fails) {
  kit::counted c;
  if (i % 3 == 0) co_await tandem::yield();
  if (i % 3 == 1) co_await sleep_for(std::chrono::seconds(i));
  if (i == fails) throw std::runtime_error("failed");
  co_return i;
}
task<int> with_clean_up(int i, int fails) {
  co_return co_await tandem::finally(work(i, fails), [] { return sleep_for(1s); });
}

struct state {
  ledger told;
  bool is_local_left = false;
};

/// Runs `program(ledger)` through every schedule, with the ledger outside of its frames, and with one inside, which is
/// gone when its frame is.
template <class Program>
void explore(Program program) {
  kit::explore<state>(
      [&](state& s) -> task<> {
        try {
          co_await program(s.told);
        } catch (const std::runtime_error&) {
        }
        co_await program(s.told);
      },
      [&](state& s, kit::end how) {
        CHECK(s.told.balances());
        if (how == kit::end::returned) CHECK(s.told.begun() == 2);
      });
  kit::explore<state>(
      [&](state&) -> task<> {
        ledger inside;
        co_await program(inside);
        CHECK(inside.balances());
      },
      [](state&, kit::end) {});
}

}  // namespace

TEST_CASE("the ledger of a gather balances under every schedule, stop and destruction") {
  for (const int fails : {-1, 1, 2, 3}) {
    auto program = [&](ledger& told) -> task<> {
      co_await gather(observed_by(told), work(0, fails), with_clean_up(1, fails), work(2, fails), work(3, fails));
      CHECK(told.counts().succeeded == 4);
    };
    explore(program);
    auto of_a_vector = [&](ledger& told) -> task<> {
      std::vector<task<int>> all;
      for (int i = 0; i != 5; ++i) all.push_back(with_clean_up(i, fails));
      const auto outcomes = co_await gather(observed_by(told), return_exceptions, std::move(all));
      const auto& c = told.counts();
      CHECK(c.succeeded + c.failed == 5);
      CHECK(c.failed == (fails >= 0 ? 1u : 0u));
      CHECK(outcomes.size() == 5);
    };
    explore(of_a_vector);
  }
}

TEST_CASE("the ledger of a transform balances under every schedule, stop and destruction") {
  for (const int fails : {-1, 0, 4, 5}) {
    auto program = [&](ledger& told) -> task<> {
      auto f = [&](int i) { return with_clean_up(i, fails); };
      const auto all = co_await transform(observed_by(told), std::views::iota(0, 7), f, {.limit = 3});
      CHECK(all.size() == 7);
      CHECK(told.counts().succeeded == 7);
    };
    explore(program);
  }
}

TEST_CASE("the ledger of a for_each over a stream balances under every schedule, stop and destruction") {
  for (const std::size_t limit : {1u, 2u}) {
    for (const int fails : {-1, 1, 2}) {
      auto program = [&](ledger& told) -> task<> {
        auto f = [&](int i) { return work(i, fails); };
        co_await for_each(observed_by(told), numbers(4, limit == 1 ? 0s : 1s), f, {.limit = limit});
        CHECK(told.counts().succeeded == 4);
        CHECK(told.counts().total == 4u);
      };
      explore(program);
    }
  }
}

TEST_CASE("the ledger of an as_completed balances under every schedule, stop and destruction") {
  for (const int taken : {1, 3, 9}) {
    auto program = [&](ledger& told) -> task<> {
      std::vector<task<int>> all;
      for (int i = 0; i != 5; ++i) all.push_back(with_clean_up(i, 2));
      {
        auto stream = as_completed(observed_by(told), std::move(all), 3);
        for (int i = 0; i != taken; ++i) {
          const auto one = co_await stream.next();
          if (!one) break;
        }
      }
      CHECK(told.balances());
    };
    explore(program);
  }
}
