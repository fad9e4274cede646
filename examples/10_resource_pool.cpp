// Few connections for many customers: a bank over TCP (C 异步资源池管理, 自定义异步上下文管理器, B and E 异步上下文管理器)
#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/resource_pool.hpp>
#include <tandem/run.hpp>

#include <asio/detached.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read_until.hpp>
#include <asio/write.hpp>

#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using namespace tandem;
using asio::ip::tcp;

task<std::string> read_line(tcp::socket& socket) {
  std::string line;
  co_await asio::async_read_until(socket, asio::dynamic_buffer(line), '\n', use_task);
  co_return line.substr(0, line.find('\n'));
}

// [bank]
using ledger = std::map<std::string, int>;

task<> session(ledger& books, tcp::socket client) {
  ledger changes;  // of the transaction that is open: without a commit they go with the connection
  for (;;) {
    std::istringstream question(co_await read_line(client));
    std::string verb, name, answer = "ok";
    int amount = 0;
    question >> verb >> name >> amount;
    if (name == "taxes") co_await sleep_for(10s);  // an office takes its time
    if (verb == "commit")
      for (const auto& [owner, sum] : changes) books[owner] += sum;
    if (name.empty())  // begin, commit, rollback
      changes.clear();
    else if (books.contains(name))  // balance NAME, add NAME AMOUNT
      answer = std::to_string(books[name] + (changes[name] += amount));
    else
      answer = "error: no account of " + name;
    answer += '\n';
    co_await asio::async_write(client, asio::buffer(answer), use_task);
  }
}

task<> serve(ledger& books, tcp::acceptor acceptor) {
  for (;;) {
    tcp::socket client = co_await acceptor.async_accept(use_task);
    tandem::spawn(acceptor.get_executor(), session(books, std::move(client)), asio::detached);
  }
}
// [/bank]

// [connection]
class connection {
 public:
  explicit connection(tcp::socket s) : socket_(std::move(s)) {}

  task<std::string> ask(std::string question) {
    is_asking_ = true;
    question += '\n';
    co_await asio::async_write(socket_, asio::buffer(question), use_task);
    std::string said = co_await read_line(socket_);
    is_asking_ = false;
    if (said.starts_with("error")) throw std::runtime_error(said);
    co_return said;
  }

  task<> begin() { co_await ask("begin"); }
  task<> commit() { co_await ask("commit"); }
  task<> rollback() {
    if (is_asking_) co_return socket_.close();  // left before the answer came: hang up, which rolls back too
    co_await ask("rollback");
  }

 private:
  tcp::socket socket_;
  bool is_asking_ = false;
};
// [/connection]

// [lease]
using pool = resource_pool<connection>;

task<std::string> balance(pool& lines, std::string owner) {
  const lease<connection> line = co_await lines.acquire();
  co_return owner + ' ' + co_await line->ask("balance " + owner);
}

task<> show_balances(pool& lines) {
  const std::vector<std::string> owners{"anna", "ben", "cleo", "dora", "emil"};
  for (const std::string& b : co_await transform(owners, [&](auto& owner) { return balance(lines, owner); }))
    std::cout << "  " << b;
  std::cout << '\n';
}
// [/lease]

// [transfer]
task<> transfer(pool& lines, std::string from, std::string to, int amount) {
  const auto both_or_none = [&](connection& line) -> task<> {
    co_await line.ask("add " + from + " -" + std::to_string(amount));
    co_await line.ask("add " + to + ' ' + std::to_string(amount));
  };
  co_await with_transaction(lines, both_or_none);
}
// [/transfer]

// [scenes]
task<> transfers(pool& lines) {
  co_await transfer(lines, "anna", "ben", 30);
  std::cout << "anna to ben: done\n";
  try {
    co_await transfer(lines, "anna", "karl", 30);
  } catch (const std::runtime_error& e) {
    std::cout << "anna to karl: " << e.what() << '\n';
  }
  const auto in_time = co_await try_timeout(200ms, transfer(lines, "anna", "taxes", 30));
  if (!in_time) std::cout << "anna to the taxes: given up\n";
}

task<> absent_minded(pool& lines) {
  const lease<connection> line = co_await lines.acquire();
  co_await line->begin();
  co_await line->ask("add emil 1000");  // and no commit
}
// [/scenes]

// [main]
task<> at_the_bank(ledger& books) {
  const auto loop = co_await this_task::executor;
  tcp::acceptor acceptor(loop, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const tcp::endpoint address = acceptor.local_endpoint();
  tandem::spawn(loop, serve(books, std::move(acceptor)), asio::detached);

  const auto connect = [&]() -> task<connection> {
    tcp::socket socket(loop);
    co_await socket.async_connect(address, use_task);
    co_return connection(std::move(socket));
  };
  pool lines({.max = 2, .create = connect, .reset = [](connection& line) { return line.rollback(); }});
  co_await show_balances(lines);
  co_await transfers(lines);
  co_await show_balances(lines);
  co_await absent_minded(lines);
  co_await show_balances(lines);
  co_await lines.close();

  const resource_pool_stats s = lines.stats();
  std::cout << s.acquired << " leases of " << s.created << " connections, at most " << s.most_lent << " at a time\n"
            << s.discarded << " discarded, " << s.size << " left\n";
}

int main() {
  ledger books{{"anna", 100}, {"ben", 100}, {"cleo", 100}, {"dora", 100}, {"emil", 100}, {"taxes", 0}};
  run(at_the_bank(books));
}
// [/main]
