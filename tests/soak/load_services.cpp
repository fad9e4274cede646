// Caches, pools, limits, and what is done about failures.
#include "world.hpp"

#include <optional>
#include <utility>
#include <vector>

namespace soak {
namespace {

using value = std::shared_ptr<const int>;

task<value> loads(int key, account& a, std::uint64_t chance) {
  const held here(ledger::frames), load(a);
  dice d(chance);
  co_await rest(d.next());
  if (d.chance(10)) throw failure();
  co_return std::make_shared<const int>(key);
}

template <class Cache>
task<> uses_cache(Cache& cache, account& a, dice& d) {
  const held here(ledger::frames);
  const int key = static_cast<int>(d.below(100));
  const std::uint64_t chance = d.next();
  const auto load = [&a, chance](int k) { return loads(k, a, chance); };
  switch (d.below(10)) {
    case 0:
      cache.put(key, std::make_shared<const int>(key));
      break;
    case 1:
      cache.erase(key);
      break;
    case 2:
      if (d.chance(5)) cache.clear();
      if (const auto found = cache.find(key); found && **found != key) complain("a cache has the value of another key");
      break;
    case 3: {
      const auto load_later = [&a, chance](int k) { return loads(k, a, chance); };
      cache.refresh(key, load_later);
      break;
    }
    case 4: {
      std::vector<int> keys;
      for (int i = 0; i != 5; ++i) keys.push_back(static_cast<int>(d.below(100)));
      const auto load_many = [&a, chance](std::vector<int> ks) -> task<std::vector<value>> {
        const held here_too(ledger::frames), l(a);
        co_await rest(chance);
        std::vector<value> all;
        for (const int k : ks) all.push_back(std::make_shared<const int>(k));
        co_return all;
      };
      const auto got = co_await cache.get_many(keys, load_many);
      for (std::size_t i = 0; i != keys.size(); ++i)
        if (*got[i] != keys[i]) complain("a cache gives the value of another key");
      break;
    }
    default: {
      auto in_time = co_await tandem::try_timeout(d.moment() + 1ms, cache.get(key, load));
      if (in_time && **in_time != key) complain("a cache gives the value of another key");
    }
  }
}
task<> uses_own_cache(place& p, dice& d) { return uses_cache(p.own->cache, ledger::loads, d); }
task<> uses_shared_cache(place& p, dice& d) { return uses_cache(p.all.cache, ledger::shared_loads, d); }

/// A thing that is lent is nobody else's.
class borrower {
 public:
  explicit borrower(tandem::lease<thing>& l) : held_(ledger::leases), thing_(&*l) {
    if (std::exchange(thing_->is_lent(), true)) complain("a resource was lent twice");
  }
  borrower(const borrower&) = delete;
  borrower& operator=(const borrower&) = delete;
  ~borrower() { thing_->is_lent() = false; }

 private:
  held held_;
  thing* thing_;
};
task<> leases(place& p, dice& d) {
  const held here(ledger::frames);
  tandem::lease<thing> l;
  if (d.chance(40)) {
    auto in_time = co_await tandem::try_timeout(d.moment(), p.own->things.acquire());
    if (!in_time) co_return;
    l = std::move(*in_time);
  } else {
    l = co_await p.own->things.acquire();
  }
  {
    const borrower b(l);
    co_await rest(d.next());
    if (d.chance(5)) throw failure();  // so the thing is destroyed
  }
  if (d.chance(10)) l.discard();
}

task<> waits_its_turn(place& p, dice& d) {
  const held here(ledger::frames);
  tools& t = *p.own;
  if (d.chance(30)) {
    const auto verdict = t.limit.try_acquire(1 + d.below(3));
    if (!verdict && verdict.retry_after <= tandem::clock::duration()) complain("a limiter refuses, and says: at once");
  } else if (d.chance(50)) {
    co_await tandem::try_timeout(d.moment(), t.limit.acquire(1 + d.below(3)));
  } else if (d.chance(50)) {
    (void)t.keyed.try_acquire(static_cast<int>(d.below(100)));
  } else {
    try {
      co_await tandem::try_timeout(d.moment(), t.keyed.acquire(static_cast<int>(d.below(100))));
    } catch (const tandem::too_many_keys&) {
    }
  }
}

task<> retries(place& p, dice& d) {
  const held here(ledger::frames);
  const auto calls = [&] { return service(d.next(), 40); };
  const tandem::retry_options o{.attempts = 3,
                                .base = 100us,
                                .max = 1ms,
                                .budget = &p.own->budget,
                                .total_timeout = 20ms,
                                .attempt_timeout = 2ms};
  co_await tandem::retry(calls, o);
}

task<> goes_through_breaker(place& p, dice& d) {
  const held here(ledger::frames);
  const auto calls = [&] { return service(d.next(), d.chance(10) ? 90 : 10); };
  co_await p.own->breaker.run(calls);
}

task<> is_guarded(place& p, dice& d) {
  const held here(ledger::frames);
  if (d.chance(3)) {
    co_await tandem::try_timeout(d.moment(), p.own->errors.drain());
    co_return;
  }
  const auto calls = [&] { return service(d.next(), 30); };
  co_await p.own->errors.guard(calls, "service");
}

task<> is_controlled(place& p, dice& d) {
  const held here(ledger::frames);
  auto& control = p.own->control;
  const auto calls = [&]() -> task<int> {
    const held slot(ledger::slots);
    co_return co_await service(d.next());
  };
  if (d.chance(20)) {
    auto slot = co_await control.acquire({.priority = static_cast<int>(d.below(3))});
    const held mine(ledger::slots);
    co_await rest(d.next());
    slot.release(tandem::concurrency_outcome::success);
  } else {
    co_await control.run(tandem::concurrency_call{.priority = static_cast<int>(d.below(3))}, calls);
  }
}

task<> follows_policy(place& p, dice& d) {
  const held here(ledger::frames);
  tools& t = *p.own;
  const tandem::policy all(tandem::total_timeout{50ms}, tandem::retry_options{.attempts = 3, .base = 100us, .max = 1ms},
                           t.breaker, t.limit, t.control, tandem::attempt_timeout{5ms});
  const auto calls = [&] { return service(d.next(), 20); };
  if (d.chance(20)) {
    tandem::call_trace trace;
    co_await all.run(calls, trace);
  } else {
    co_await all.run(calls);
  }
}

task<thing> makes_thing(std::uint64_t chance) {
  const held here(ledger::frames);
  dice d(chance);
  co_await rest(d.next());
  if (d.chance(5)) throw failure();
  co_return thing();
}
task<bool> checks_thing(std::uint64_t chance) {
  const held here(ledger::frames);
  dice d(chance);
  co_await rest(d.next());
  co_return !d.chance(10);
}
task<> resets_thing(std::uint64_t chance) {
  const held here(ledger::frames);
  dice d(chance);
  co_await rest(d.next());
  if (d.chance(5)) throw failure();
}
task<> hears_of_error(std::uint64_t chance) {
  const held here(ledger::frames), handler(ledger::error_handlers);
  dice d(chance);
  co_await rest(d.next());
  if (d.chance(10)) throw failure();
}

tandem::resource_pool_options<thing> options_of_pool(std::shared_ptr<dice> d) {
  tandem::resource_pool_options<thing> o;
  o.min = 1;
  o.max = 3;
  o.idle_lifetime = 20ms;
  o.max_lifetime = 200ms;
  o.acquire_timeout = 50ms;
  o.check_after = 1ms;
  o.create = [d] { return makes_thing(d->next()); };
  o.check = [d](thing&) { return checks_thing(d->next()); };
  o.reset = [d](thing& t) {
    if (t.is_lent()) complain("a resource is reset while it is lent");
    return resets_thing(d->next());
  };
  return o;
}

}  // namespace

tools::tools(place& p)
    : cache({.capacity = 30, .ttl = 20ms, .jitter = .1}),
      things(options_of_pool(std::make_shared<dice>(p.all.chosen.seed))),
      errors({.handlers_at_a_time = 2, .max_pending = 20}) {
  errors.retry(tandem::error_kind::network, {.attempts = 2, .base = 100us, .max = 1ms});
  const auto d = std::make_shared<dice>(p.all.chosen.seed + 1);
  errors.on(tandem::error_kind::timeout, [d](const tandem::error_info&) { return hears_of_error(d->next()); });
  errors.on_other([d](const tandem::error_info&) { return hears_of_error(d->next()); });
  errors.fallback<int>(tandem::error_kind::timeout, [](const tandem::error_info&) { return -1; });
}

void add_services(operations& all) {
  const auto add = [&](const char* name, unsigned weight, task<> (*run)(place&, dice&)) {
    all.push_back(std::make_unique<operation>(name, weight, run));
  };
  add("lru_cache", 8, uses_own_cache);
  add("concurrent_lru_cache", 8, uses_shared_cache);
  add("resource_pool", 8, leases);
  add("rate_limiter", 4, waits_its_turn);
  add("retry", 4, retries);
  add("circuit_breaker", 4, goes_through_breaker);
  add("error_manager", 4, is_guarded);
  add("adaptive_concurrency", 4, is_controlled);
  add("policy", 4, follows_policy);
}

}  // namespace soak
