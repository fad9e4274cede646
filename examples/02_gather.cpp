// gather over TCP: all at once, failures, bounded fan-out (A asyncio基础, B `APICollector`, C, D, E `batch-users`)
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

#include <asio/connect.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read_until.hpp>
#include <asio/write.hpp>

#include <iostream>
#include <ranges>
#include <sstream>

using namespace std::chrono_literals;
using namespace tandem;
using asio::ip::tcp;
using address = tcp::resolver::results_type;

// [service]
task<std::string> read_line(tcp::socket& socket) {
  std::string line;
  co_await asio::async_read_until(socket, asio::dynamic_buffer(line), '\n', use_task);
  co_return line.substr(0, line.find('\n'));
}

// A line with a product's number in, a line out; an empty one if there is no such product.
task<> answer_one(tcp::socket client, std::chrono::milliseconds thinking_time, std::string (*answer)(int)) {
  const std::string line = answer(std::stoi(co_await read_line(client))) + '\n';
  co_await sleep_for(thinking_time);
  co_await asio::async_write(client, asio::buffer(line), use_task);
}

task<> serve(tcp::acceptor acceptor, std::chrono::milliseconds thinking_time, std::string (*answer)(int)) {
  for (;;) {
    tcp::socket client = co_await acceptor.async_accept(use_task);
    tandem::spawn(acceptor.get_executor(), answer_one(std::move(client), thinking_time, answer), asio::detached);
  }
}

address start(asio::any_io_executor loop, std::chrono::milliseconds thinking_time, std::string (*answer)(int)) {
  tcp::acceptor acceptor(loop, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const address here = address::create(acceptor.local_endpoint(), "localhost", "");
  tandem::spawn(loop, serve(std::move(acceptor), thinking_time, answer), asio::detached);
  return here;
}
// [/service]

// [ask]
struct shop {
  address price, stock, review;
  int under_way = 0, most = 0;  // requests now, and at the busiest moment
  std::string answered{};       // by whom, in that order
};

struct request {  // counted however it ends: answered, failed or cancelled
  explicit request(shop& s) : at(s) { at.most = std::max(at.most, ++at.under_way); }
  ~request() { --at.under_way; }
  shop& at;
};

task<std::string> ask(shop& s, const address& service, std::string what, int product) {
  const request counted(s);
  tcp::socket socket(co_await this_task::executor);
  co_await asio::async_connect(socket, service, use_task);
  co_await asio::async_write(socket, asio::buffer(std::to_string(product) + '\n'), use_task);
  const std::string answer = co_await read_line(socket);
  if (answer.empty()) throw std::runtime_error("no " + what + " of product " + std::to_string(product));
  s.answered += ' ' + what;
  co_return answer;
}

task<double> price_of(shop& s, int product) { co_return std::stod(co_await ask(s, s.price, "price", product)); }
task<int> stock_of(shop& s, int product) { co_return std::stoi(co_await ask(s, s.stock, "stock", product)); }
task<std::string> review_of(shop& s, int product) { return ask(s, s.review, "review", product); }
// [/ask]

// [text]
std::string text(const auto& outcome) try {
  return (std::ostringstream() << outcome.value()).str();
} catch (const std::exception& e) {
  return std::string("(") + e.what() + ')';
}
// [/text]

task<> visit(shop& s) {
  // [gather]
  const auto page = co_await gather(price_of(s, 7), stock_of(s, 7), review_of(s, 7));
  const auto& [price, stock, review] = page;
  std::cout << "product 7: " << price << " euros, " << stock << " in stock, " << review << '\n';
  std::cout << "  answers came in this order:" << s.answered << '\n';
  // [/gather]

  // [failure]
  try {
    co_await gather(price_of(s, 13), stock_of(s, 13), review_of(s, 13));
  } catch (const std::exception& e) {
    std::cout << "product 13: " << e.what() << "\n  requests still under way: " << s.under_way << '\n';
  }
  // [/failure]

  // [outcomes]
  const auto what_there_is = co_await gather(return_exceptions, price_of(s, 13), stock_of(s, 13), review_of(s, 13));
  const auto& [euros, pieces, words] = what_there_is;
  std::cout << "product 13: " << text(euros) << " euros, " << text(pieces) << " in stock, " << text(words) << '\n';
  // [/outcomes]

  // [bounded]
  const auto stocks = co_await transform(return_exceptions, std::views::iota(1, 16),
                                         [&](int product) { return stock_of(s, product); }, {.limit = 4});
  std::cout << "products 1 to 15:";
  for (const auto& one : stocks) std::cout << ' ' << text(one);
  std::cout << "\n  requests under way at the busiest moment: " << s.most << '\n';
  // [/bounded]
}

// [main]
task<> go_shopping(std::vector<std::string> others) {
  const auto loop = co_await this_task::executor;
  shop s{start(loop, 150ms, [](int product) { return std::to_string(product) + ".50"; }),
         start(loop, 50ms, [](int product) { return product == 13 ? "" : std::to_string(product % 5); }),
         start(loop, 250ms, [](int) { return std::string("works as described"); })};
  tcp::resolver resolver(loop);
  const auto find = [&](std::size_t i) { return resolver.async_resolve(others[i], others[i + 1], use_task); };
  if (!others.empty()) std::tie(s.price, s.stock, s.review) = co_await gather(find(0), find(2), find(4));
  co_await visit(s);
}

int main(int count, char** arguments) try {
  if (count != 1 && count != 7) throw std::invalid_argument("name three services, price stock review, by HOST PORT");
  run(go_shopping({arguments + 1, arguments + count}));
} catch (const std::exception& e) {
  std::cerr << e.what() << '\n';
  return 1;
}
// [/main]
