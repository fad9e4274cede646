// So many in so long: limits for clients, and for calls to others (E 并发控制和限流 `RateLimiter`, D 异步 API 网关)
#include <tandem/gather.hpp>
#include <tandem/rate_limiter.hpp>
#include <tandem/run.hpp>

#include <iomanip>
#include <iostream>
#include <string>

using namespace std::chrono_literals;
using namespace tandem;

// [policies]
task<> knock(const char* policy, rate_limiter& door) {  // every 100 ms
  std::cout << "  " << policy;
  for (int i = 0; i != 16; ++i) {
    std::cout << (door.try_acquire() ? " x" : " .");
    co_await sleep_for(100ms);
  }
  std::cout << '\n';
}

task<> policies() {
  rate_limiter bucket{token_bucket{.rate = 4, .burst = 4}};
  rate_limiter even{gcra{.rate = 4}};
  rate_limiter window{sliding_window{.limit = 4, .window = 1s}};
  co_await knock("token_bucket  ", bucket);
  co_await knock("gcra          ", even);
  co_await knock("sliding_window", window);
}
// [/policies]

// [gateway]
std::ostream& say() { return std::cout << std::setw(6) << clock::now().time_since_epoch() / 1ms << " ms  "; }

struct gateway {
  keyed_rate_limiter<std::string> clients{keyed_rate_limiter_options{.max_keys = 1'000},
                                          token_bucket{.rate = 2, .burst = 3},
                                          sliding_window{.limit = 8, .window = 10s}};

  bool answers(const std::string& client) {
    const rate_verdict v = clients.try_acquire(client);
    if (v)
      say() << client << ": 200, " << v.remaining << " left\n";
    else
      say() << client << ": 429, Retry-After " << v.retry_after / 1ms << " ms\n";
    return v.allowed;
  }
};

task<> client(gateway& g, std::string name, int requests, clock::duration pause) {
  for (int i = 0; i != requests; ++i) {
    g.answers(name);
    co_await sleep_for(pause);
  }
}

task<> clients(gateway& g) {
  co_await gather(client(g, "ann", 3, 400ms), client(g, "crawler", 9, 250ms));
  say() << g.clients.size() << " clients are remembered\n";
  co_await sleep_for(10s);
  g.answers("ben");
  say() << g.clients.size() << " client is remembered\n";
}
// [/gateway]

// [outgoing]
task<> call(rate_limiter& limit, std::string what, std::size_t cost) {
  co_await limit.acquire(cost);
  say() << what << " is sent, cost " << cost << '\n';
}

task<> outgoing() {  // a service that allows us 5 units a second
  rate_limiter limit{token_bucket{.rate = 5, .burst = 5}};
  co_await gather(call(limit, "report", 5), call(limit, "search", 3), call(limit, "ping", 1), call(limit, "pong", 1));
}
// [/outgoing]

// [main]
int main() {
  std::cout << "every 100 ms, four a second:\n";
  simulate(policies());
  std::cout << "a gateway:\n";
  gateway g;
  simulate(clients(g));
  std::cout << "calls to others:\n";
  simulate(outgoing());
}
// [/main]
