// When things fail: what to try again, whom to tell, what to give instead (C 异步异常处理机制, 综合异常处理框架)
#include <tandem/cancel.hpp>
#include <tandem/error_manager.hpp>
#include <tandem/run.hpp>

#include <asio/detached.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read_until.hpp>
#include <asio/write.hpp>

#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace tandem;
using asio::ip::tcp;

task<std::string> read_line(tcp::socket& socket) {
  std::string line;
  co_await asio::async_read_until(socket, asio::dynamic_buffer(line), '\n', use_task);
  co_return line.substr(0, line.find('\n'));
}

// [service]
struct shop {  // to each request its answers, one after the other; the last one stays
  std::map<std::string, std::vector<std::string>> answers{
      {"buy tea", {"hangs up", "hangs up", "bought"}},
      {"buy jam", {"says nothing"}},
      {"buy -3", {"wrong: -3 is no article"}},
      {"buy car", {"refused: you have not enough money"}},
      {"price tea", {"4", "hangs up"}},
  };
};

task<> answer(shop& s, tcp::socket client) {
  std::vector<std::string>& answers = s.answers.at(co_await read_line(client));
  std::string said = answers.front();
  if (answers.size() > 1) answers.erase(answers.begin());
  if (said == "hangs up") co_return;
  if (said == "says nothing") co_await sleep_for(1min);
  said += '\n';
  co_await asio::async_write(client, asio::buffer(said), use_task);
}

task<> serve(shop& s, tcp::acceptor door) {
  for (;;) {
    tcp::socket client = co_await door.async_accept(use_task);
    tandem::spawn(door.get_executor(), answer(s, std::move(client)), asio::detached);
  }
}
// [/service]

// [client]
struct not_enough_money : std::runtime_error {
  using std::runtime_error::runtime_error;
};

task<std::string> ask(tcp::endpoint service, std::string request) {
  tcp::socket socket(co_await this_task::executor);
  co_await socket.async_connect(service, use_task);
  request += '\n';
  co_await asio::async_write(socket, asio::buffer(request), use_task);
  const std::string said = co_await timeout(100ms, read_line(socket));
  if (said.starts_with("wrong: ")) throw std::invalid_argument(said);
  if (said.starts_with("refused: ")) throw not_enough_money(said);
  co_return said;
}
// [/client]

// [settings]
task<> tell(const char* whom, error_info e) {
  std::cout << "  (" << whom << " is told: " << e.operation << ", " << e.kind.name() << ", attempts: " << e.attempts
            << ")\n";
  co_return;
}
auto tells(const char* whom) {
  return [whom](error_info e) { return tell(whom, std::move(e)); };
}

void set_up(error_manager& errors) {
  errors.classify<not_enough_money>(error_kind::business);
  errors.retry(error_kind::network, {.attempts = 3, .base = 5ms});
  errors.retry(error_kind::timeout, {.attempts = 2, .base = 5ms});
  errors.on(error_kind::network, tells("the operator"));
  errors.on(error_kind::timeout, tells("the operator"), {.deduplicate = 1min});
  errors.on_other(tells("the log"));
}
// [/settings]

// [orders]
task<> order(error_manager& errors, tcp::endpoint service, std::string request) {
  const auto call = [&] { return ask(service, request); };
  try {
    const std::string said = co_await errors.guard(call, request);
    std::cout << request << ": " << said << '\n';
  } catch (const std::invalid_argument& e) {
    std::cout << request << ": my mistake, " << e.what() << '\n';
  } catch (const not_enough_money& e) {
    std::cout << request << ": " << e.what() << '\n';
  } catch (const std::exception&) {
    std::cout << request << ": failed\n";
  }
  co_await errors.drain();  // so that what is printed comes in order
}
// [/orders]

// [main]
task<> orders(shop& s) {
  const auto loop = co_await this_task::executor;
  tcp::acceptor door(loop, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const tcp::endpoint service = door.local_endpoint();
  tandem::spawn(loop, serve(s, std::move(door)), asio::detached);

  error_manager errors;
  set_up(errors);
  for (const char* request : {"buy tea", "buy jam", "buy jam", "buy -3", "buy car", "price tea", "price tea"})
    co_await order(errors, service, request);
  errors.fallback<std::string>(error_kind::network, [](const error_info&) { return "4, as far as we know"; });
  co_await order(errors, service, "price tea");

  for (const error_kind_stats& k : errors.stats())
    std::cout << k.kind.name() << ": seen " << k.seen << ", retried " << k.retried << ", recovered " << k.recovered
              << ", gave up " << k.gave_up << ", fell back " << k.fell_back << '\n';
}

int main() {
  shop s;
  run(orders(s));
}
// [/main]
