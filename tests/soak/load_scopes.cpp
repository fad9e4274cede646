// Scopes, jobs and streams.
#include "world.hpp"

#include <optional>
#include <tuple>
#include <utility>
#include <vector>

namespace soak {
namespace {

task<int> gives(std::uint64_t chance, unsigned percent_failing = 0) {
  const held here(ledger::frames), child(ledger::children);
  dice d(chance);
  co_await rest(d.next());
  if (d.chance(percent_failing)) throw failure();
  co_return static_cast<int>(d.below(1000));
}
task<> does(std::uint64_t chance) { co_await gives(chance); }

task<> gathers(place&, dice& d) {
  const held here(ledger::frames);
  switch (d.below(5)) {
    case 0: {
      auto both = co_await tandem::gather(gives(d.next()), gives(d.next()), tandem::sleep_for(d.moment()));
      if (std::get<0>(both) < 0) complain("gather");
      break;
    }
    case 1: {
      std::vector<task<int>> many;
      const std::size_t n = d.below(20);
      for (std::size_t i = 0; i != n; ++i) many.push_back(gives(d.next(), 2));
      const auto all = co_await tandem::gather(std::move(many));
      if (all.size() != n) complain("gather of %zu gave %zu", n, all.size());
      break;
    }
    case 2: {
      std::vector<task<int>> many;
      const std::size_t n = d.below(20);
      for (std::size_t i = 0; i != n; ++i) many.push_back(gives(d.next(), 30));
      const auto all = co_await tandem::gather(tandem::return_exceptions, std::move(many));
      if (all.size() != n) complain("gather of %zu gave %zu outcomes", n, all.size());
      break;
    }
    case 3: {
      std::vector<int> ids(d.below(30));
      const std::uint64_t chance = d.next();
      const auto fetch = [chance](int) { return gives(chance, 1); };
      const auto all = co_await tandem::transform(ids, fetch, {.limit = 4});
      if (all.size() != ids.size()) complain("transform");
      break;
    }
    default: {
      std::vector<int> ids(d.below(30));
      std::size_t count = 0;
      const auto fetch = [&](int) {
        ++count;
        return does(d.next());
      };
      co_await tandem::for_each(ids, fetch, {.limit = 3});
      if (count != ids.size()) complain("for_each");
    }
  }
}

task<> races(place&, dice& d) {
  const held here(ledger::frames);
  if (d.chance(50)) {
    const auto first = co_await tandem::race(gives(d.next()), gives(d.next()), tandem::sleep_for(d.moment()));
    if (first.index() > 2) complain("race");
    co_return;
  }
  std::vector<task<int>> arms;
  for (std::size_t i = 0, n = 1 + d.below(5); i != n; ++i) arms.push_back(gives(d.next(), 20));
  auto first = tandem::race(tandem::first_successful, std::move(arms));
  co_await std::move(first);
}

task<> limits_time(place& p, dice& d) {
  const held here(ledger::frames);
  try {
    if (d.chance(30))
      co_await tandem::timeout(d.moment(), gives(d.next()));
    else if (d.chance(50))
      co_await tandem::deadline(tandem::clock::now() + d.moment(), does(d.next()));
    else
      co_await tandem::timeout(d.moment(), tandem::timeout(d.moment(), tandem::shield(does(d.next()))));
  } catch (const tandem::timed_out&) {
    ++p.all.made.limits_over;
  }
}

task<int> body(std::uint64_t chance) {
  ledger::bodies.take();
  const held here(ledger::frames);
  co_return co_await gives(chance, 10);
}
task<> cleans_up(place&, dice& d) {
  const held here(ledger::frames);
  // Before the frame of the clean-up is made: that it cannot be made is reported, and no loss.
  const std::uint64_t chance = d.next();
  const auto cleans = [chance](const tandem::ending&) {
    ledger::bodies.give_back();
    return rest(chance);
  };
  co_await tandem::try_timeout(d.moment() + 500us, tandem::finally(body(d.next()), cleans));
}

/// What `acquire` gave, until `release` was called with it.
class borrowed {
 public:
  borrowed() { ledger::acquired.take(); }
  borrowed(borrowed&& o) noexcept : here_(std::move(o.here_)) {}

 private:
  held here_{ledger::frames};
};
task<borrowed> borrows(std::uint64_t chance) {
  const held here(ledger::frames);
  co_await rest(chance);
  co_return borrowed();
}
task<> uses_resources(place&, dice& d) {
  const held here(ledger::frames);
  const std::uint64_t chance = d.next();
  const auto uses = [chance](borrowed&) { return gives(chance, 10); };
  const auto releases = [chance](borrowed&, const tandem::ending&) {
    ledger::acquired.give_back();
    return rest(chance + 1);
  };
  auto with = tandem::with_resource(borrows(d.next()), uses, releases);
  co_await tandem::try_timeout(d.moment() + 500us, std::move(with));
}

task<> groups(place&, dice& d) {
  const held here(ledger::frames);
  const auto starts = [&](tandem::task_group& group) -> task<> {
    const held here_too(ledger::frames);
    std::vector<tandem::task_handle<int>> handles;
    for (std::size_t i = 0, n = 1 + d.below(8); i != n; ++i) {
      handles.push_back(group.spawn(gives(d.next(), 2)));
      if (d.chance(20)) handles.back().cancel();
    }
    if (d.chance(20)) group.spawn(tandem::sleep_for(1h), {.name = "background", .background = true});
    switch (d.below(5)) {
      case 0: {
        const auto first = co_await tandem::wait(handles, tandem::first_completed);
        if (first.done.empty()) complain("wait for the first");
        break;
      }
      case 1: {
        const auto some = co_await tandem::wait(handles, tandem::all_completed, 1ms);
        if (some.done.size() + some.pending.size() != handles.size()) complain("wait with a limit");
        break;
      }
      case 2: {
        const auto serves = [&](tandem::started<int> ready) -> task<> {
          const held here_again(ledger::frames);
          co_await tandem::yield();
          ready(7);
          co_await rest(d.next());
        };
        const int port = co_await group.start<int>(serves);
        if (port != 7) complain("what start gives");
        break;
      }
      case 3:
        group.close(d.moment());
        break;
      default:
        group.cancel("enough");
    }
  };
  co_await tandem::with_task_group(starts);
}

task<> completes(place&, dice& d) {
  const held here(ledger::frames);
  std::vector<task<int>> many;
  const std::size_t n = d.below(12);
  for (std::size_t i = 0; i != n; ++i) many.push_back(gives(d.next(), 10));
  auto stream = tandem::as_completed(std::move(many), 1 + d.below(5));
  std::size_t count = 0;
  const bool leaves = d.chance(20);
  while (auto one = co_await stream.next()) {
    ++count;
    if (leaves && count == 3) co_return;
  }
  if (count != n) complain("%zu of %zu tasks were completed", count, n);
}

/// Registered with `on_exit`. What is awaited there needs a frame, so without memory it may be lost.
class undoes {
 public:
  explicit undoes(place& p) noexcept : place_(&p) { ledger::exits.take(); }
  undoes(undoes&& o) noexcept : place_(std::exchange(o.place_, nullptr)) {}
  ~undoes() {
    if (!place_) return;
    ++place_->all.made.lost_exits;
    ledger::exits.give_back();
  }
  task<> operator()() {
    place_ = nullptr;
    ledger::exits.give_back();
    return rest(0);
  }

 private:
  place* place_;
};
tandem::generator<int> numbers(place& p, int n, std::uint64_t chance) {
  const held here(ledger::frames);
  dice d(chance);
  undoes u(p);
  co_await tandem::on_exit(std::move(u));
  for (int i = 0; i != n; ++i) {
    if (d.chance(20)) co_await rest(d.next());
    co_yield i;
  }
}
task<> takes_all(place& p, dice& d) {
  using namespace tandem::streams;
  const held here(ledger::frames);
  const int n = static_cast<int>(d.below(30));
  long sum = 0;
  switch (d.below(3)) {
    case 0: {
      const auto twice = [](int i) -> task<int> {
        const held here_too(ledger::frames);
        co_await tandem::yield();
        co_return 2 * i;
      };
      const auto is_even = [](int i) { return i % 2 == 0; };
      auto all = numbers(p, n, d.next()) | filter(is_even) | map(twice, {.limit = 3}) | chunk(4) | buffer(2);
      const auto adds = [&](std::vector<int> some) -> task<> {
        const held here_too(ledger::frames);
        for (const int i : some) sum += i;
        co_return;
      };
      co_await tandem::for_each(std::move(all), adds, {.limit = 1});
      long expected = 0;
      for (int i = 0; i < n; i += 2) expected += 2 * i;
      if (sum != expected) complain("the sum of a stream is %ld, not %ld", sum, expected);
      break;
    }
    case 1: {
      auto both = merge(numbers(p, n, d.next()), numbers(p, n, d.next()));
      const auto adds = [&](int i) -> task<> {
        const held here_too(ledger::frames);
        sum += i;
        co_await rest(d.next());
      };
      co_await tandem::for_each(std::move(both), adds, {.limit = 4});
      if (sum != static_cast<long>(n) * (n - 1)) complain("the sum of two streams");
      break;
    }
    default: {  // left before its end
      auto g = numbers(p, n, d.next());
      const auto takes = [&]() -> task<> {
        const held here_too(ledger::frames);
        for (int i = 0; i != 3; ++i) {
          const auto one = co_await g.next();
          if (!one) break;
        }
      };
      const auto closes = [&] { return g.close(); };
      co_await tandem::finally(takes(), closes);
    }
  }
}

/// A job of a pool: it runs as one of so many.
class running {
 public:
  running(account& a, std::atomic<long>& count, long most, const char* what)
      : held_(a), inside_(count, 1, most, what) {}

 private:
  held held_;
  inside inside_;
};
task<int> job(place* p, std::uint64_t chance) {
  const running here(ledger::jobs, p->own->jobs_running, static_cast<long>(tools::workers), "jobs");
  co_return co_await gives(chance, 10);
}
task<> submits(place& p, dice& d) {
  const held here(ledger::frames);
  auto& pool = p.own->pool;
  if (d.chance(5)) {
    co_await tandem::try_timeout(d.moment(), pool.drain());
    co_return;
  }
  tandem::task_handle<int> h;
  if (d.chance(50)) {
    h = pool.try_submit(job, &p, d.next());
  } else {
    auto in_time = co_await tandem::try_timeout(2ms, pool.submit(job, &p, d.next()));
    if (in_time) h = std::move(*in_time);
  }
  if (!h) co_return;
  if (d.chance(20)) h.cancel();
  if (d.chance(10)) co_return;  // nobody looks at it
  try {
    co_await tandem::try_timeout(5ms, h);
  } catch (const tandem::cancelled&) {
  }
}

task<int> scheduled(std::uint64_t chance) {
  const held here(ledger::frames), job(ledger::scheduled_jobs);
  co_await tandem::this_task::checkpoint();
  co_return co_await gives(chance, 10);
}
task<> schedules(place& p, dice& d) {
  const held here(ledger::frames);
  auto& s = p.own->scheduler;
  if (d.chance(5)) {
    co_await tandem::try_timeout(d.moment(), s.drain());
    co_return;
  }
  if (s.stats().queued > 40) co_return;
  tandem::priority_job_options o{.priority = static_cast<int>(d.below(8))};
  if (d.chance(10)) o.deadline = tandem::clock::now() + d.moment();
  auto h = s.submit(o, scheduled, d.next());
  if (d.chance(20)) h.reprioritize(static_cast<int>(d.below(8)));
  if (d.chance(20)) h.cancel();
  if (d.chance(10)) co_return;
  try {
    co_await tandem::try_timeout(5ms, h);
  } catch (const tandem::cancelled&) {
  }
}

}  // namespace

void add_scopes(operations& all) {
  const auto add = [&](const char* name, unsigned weight, task<> (*run)(place&, dice&)) {
    all.push_back(std::make_unique<operation>(name, weight, run));
  };
  add("gather, transform, for_each", 6, gathers);
  add("race", 6, races);
  add("timeout, deadline, shield", 6, limits_time);
  add("finally", 4, cleans_up);
  add("with_resource", 4, uses_resources);
  add("task_group, wait", 6, groups);
  add("as_completed", 4, completes);
  add("generator, streams", 4, takes_all);
  add("worker_pool", 8, submits);
  add("priority_scheduler", 8, schedules);
}

}  // namespace soak
