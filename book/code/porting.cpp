// The port of porting.py, step by step (book/en/porting.md). On virtual time; with an argument in real time, for Ctrl-C.
#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/queue.hpp>
#include <tandem/retry.hpp>
#include <tandem/run.hpp>

#include <chrono>
#include <iomanip>
#include <iostream>
#include <map>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace tandem;

std::ostream& say() { return std::cout << std::setw(5) << clock::now().time_since_epoch() / 1ms << " ms  "; }

std::vector<std::string> five_shops() { return {"corner", "flaky", "snail", "market", "mill"}; }

// [ask]
struct service {
  std::map<std::string, int> asked;
};

task<int> ask(service& s, std::string shop) {  // stands for a request over the network
  const int times = ++s.asked[shop];
  co_await sleep_for(shop == "snail" ? 30s : 100ms);
  if (shop == "flaky" && times < 3) throw std::system_error(std::make_error_code(std::errc::connection_reset));
  co_return static_cast<int>(shop.size());
}
// [/ask]

// [step1]
task<> step_1() {
  service s;
  const int corner = co_await ask(s, "corner");
  const int market = co_await ask(s, "market");
  say() << "corner " << corner << ", market " << market << '\n';
}
// [/step1]

// [fetch]
task<int> fetch(service& s, std::string shop) {
  const auto once = [&] { return ask(s, shop); };
  co_return co_await retry(
      once, {.attempts = 3, .base = 200ms, .jitter = jitter_kind::none, .attempt_timeout = 1s});
}
// [/fetch]

// [step2]
task<> step_2() {
  service s;
  const int flaky = co_await fetch(s, "flaky");
  say() << "flaky " << flaky << " at attempt " << s.asked["flaky"] << '\n';
  try {
    co_await fetch(s, "snail");
  } catch (const timed_out&) {
    say() << "snail: too late, " << s.asked["snail"] << " times\n";
  }
}
// [/step2]

// [workers]
using price_list = std::map<std::string, int>;

task<> worker(service& s, queue<std::string>& line, price_list& prices) {
  while (auto shop = co_await line.pop()) {
    try {
      const int price = co_await fetch(s, *shop);
      prices[*shop] = price;
    } catch (const timed_out&) {
      say() << *shop << ": too late\n";
    } catch (const std::system_error& e) {
      say() << *shop << ": " << e.code().message() << '\n';
    }
  }
}

task<> feed(queue<std::string>& line, std::vector<std::string> shops) {
  for (std::string& shop : shops) co_await line.push(std::move(shop));
  line.close();  // the workers leave their loops when the line is empty
}

task<> ask_all(service& s, std::vector<std::string> shops, price_list& prices) {
  queue<std::string> line;
  co_await gather(feed(line, std::move(shops)), worker(s, line, prices), worker(s, line, prices));
}
// [/workers]

// [collect]
task<> save(const price_list& prices) {
  co_await sleep_for(50ms);
  say() << "saved";
  for (const auto& [shop, price] : prices) std::cout << ' ' << shop << ' ' << price;
  std::cout << '\n';
}

task<> collect(std::vector<std::string> shops) {
  service s;
  price_list prices;
  co_await finally(ask_all(s, std::move(shops), prices), [&] { return save(prices); });
}
// [/collect]

// [step3]
task<> step_3() {
  service s;
  price_list prices;
  co_await ask_all(s, five_shops(), prices);
  say() << prices.size() << " prices\n";
}
// [/step3]

// [without]
task<> without_workers() {
  service s;
  const auto shops = five_shops();
  const auto one = [&](std::string shop) { return fetch(s, std::move(shop)); };
  const auto prices = co_await transform(return_exceptions, shops, one, {.limit = 2});
  for (std::size_t i = 0; i != shops.size(); ++i)
    say() << shops[i] << ' ' << (prices[i] ? std::to_string(prices[i].value()) : "failed") << '\n';
}
// [/without]

// [step4]
task<> step_4(std::chrono::milliseconds patience) {
  const auto all = co_await try_timeout(patience, collect(five_shops()));
  say() << (all ? "all asked\n" : "stopped\n");
}
// [/step4]

// [main]
void act(const char* title, task<> scene) {
  std::cout << title << '\n';
  simulate(std::move(scene));
}

int main(int argc, char**) {
  if (argc > 1) {
    try {
      run(collect(five_shops()));
    } catch (const interrupted&) {
      std::cout << "interrupted\n";
    }
    return 0;
  }
  act("1, coroutines:", step_1());
  act("2, limits and retries:", step_2());
  act("3, workers:", step_3());
  act("3, without workers:", without_workers());
  act("4, to the end:", step_4(1h));
  act("4, stopped early:", step_4(1500ms));
}
// [/main]
