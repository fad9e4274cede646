// Threads against coroutines, measured: connections, requests, SQLite, files (B 性能测试和基准对比, D's closing table)
#include "database.hpp"
#include "measuring.hpp"

#include <tandem/gather.hpp>
#include <tandem/mutex.hpp>
#include <tandem/run.hpp>
#include <tandem/threads.hpp>

#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read_until.hpp>
#include <asio/thread_pool.hpp>
#include <asio/write.hpp>

#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace tandem;
using asio::ip::tcp;

// [ways]
// Each of `all` is used by a worker of its own, which asks so many times and counts the right answers.
template <class Each, class Ask>
int by_threads(std::vector<Each>& all, int times, Ask ask) {
  const auto worker = [&](Each& each) {
    int right = 0;
    for (int i = 1; i <= times; ++i) right += ask(each, i);
    return right;
  };
  std::vector<std::future<int>> workers;
  for (Each& each : all) workers.push_back(std::async(std::launch::async, worker, std::ref(each)));
  int right = 0;
  for (auto& result : workers) right += result.get();
  return right;
}

template <class Each, class Ask>
task<int> by_coroutines(std::vector<Each>& all, int times, Ask ask) {
  const auto worker = [&](Each& each) -> task<int> {
    int right = 0;
    for (int i = 1; i <= times; ++i) right += co_await ask(each, i);
    co_return right;
  };
  int right = 0;
  for (const int result : co_await transform(all, worker, {.limit = all.size()})) right += result;
  co_return right;
}
// [/ways]

// [ask]
std::string question(int user) { return "GET /users/" + std::to_string(user) + '\n'; }
std::string answer(const std::string& asked) { return "200 user " + asked.substr(asked.rfind('/') + 1); }

void send(tcp::socket& line, int user) { asio::write(line, asio::buffer(question(user))); }
bool receive(tcp::socket& line, int user) {
  std::string reply;
  asio::read_until(line, asio::dynamic_buffer(reply), '\n');
  return reply == answer(question(user));
}
bool ask(tcp::socket& line, int user) {
  send(line, user);
  return receive(line, user);
}

task<bool> async_ask(tcp::socket& line, int user) {
  const std::string asked = question(user);
  std::string reply;
  co_await asio::async_write(line, asio::buffer(asked), use_task);
  co_await asio::async_read_until(line, asio::dynamic_buffer(reply), '\n', use_task);
  co_return reply == answer(asked);
}
// [/ask]

// [serve]
void serve(tcp::socket line) try {
  for (std::string asked;; asked.clear()) {
    asio::read_until(line, asio::dynamic_buffer(asked), '\n');
    asio::write(line, asio::buffer(answer(asked)));
  }
} catch (const asio::system_error&) {  // the client has gone
}

task<> async_serve(tcp::socket line, clock::duration backend) {
  for (std::string asked;; asked.clear()) {
    co_await asio::async_read_until(line, asio::dynamic_buffer(asked), '\n', use_task);
    if (backend != 0s) co_await sleep_for(backend);
    const std::string reply = answer(asked);
    co_await asio::async_write(line, asio::buffer(reply), use_task);
  }
}

void serve_all(lines& some, asio::thread_pool& loop, clock::duration backend) {
  for (tcp::socket& line : some.servers)
    tandem::spawn(loop.get_executor(), async_serve(std::move(line), backend), asio::detached);
}
// [/serve]

// [connections]
int talk(std::vector<tcp::socket>& clients) {  // each asks once, a tenth of them at a time
  int right = 0;
  for (std::size_t first = 0; first != 10; ++first) {
    for (std::size_t i = first; i < clients.size(); i += 10) send(clients[i], int(i));
    for (std::size_t i = first; i < clients.size(); i += 10) right += receive(clients[i], int(i));
  }
  return right;
}

void connections(comparison& result, int n) {
  asio::io_context io;
  asio::thread_pool loop(1);
  std::vector<std::jthread> threads;  // each ends when its client closes
  lines a(n, io, io), b(n, io, loop);
  const double before = resident();
  for (tcp::socket& line : a.servers) threads.emplace_back(serve, std::move(line));
  talk(a.clients);
  const double between = resident();
  serve_all(b, loop, 0s);
  talk(b.clients);
  const double after = resident();
  result.add("memory of an open connection", "KB", (between - before) / n, (after - between) / n, {3.3, 5});
  result.measure(
      "messages on " + std::to_string(n) + " connections", n, [&] { return talk(a.clients); },
      [&] { return talk(b.clients); }, {5, 10});
}
// [/connections]

// [requests]
void requests(comparison& result, int n, int each) {
  asio::io_context io;
  asio::thread_pool service(1);
  lines a(n, io, service), b(n, io, service);
  serve_all(a, service, 2ms);
  serve_all(b, service, 2ms);

  const auto one_by_one = [&] {
    int right = 0;
    for (tcp::socket& line : a.clients) right += ask(line, 1);
    return right;
  };
  const auto at_once = [&] { return run(io, by_coroutines(b.clients, 1, async_ask)); };
  result.measure(std::to_string(n) + " requests, one by one or at once", n, one_by_one, at_once, {3, 5});

  const auto threads = [&] { return by_threads(a.clients, each, ask); };
  const auto coroutines = [&] { return run(io, by_coroutines(b.clients, each, async_ask)); };
  result.measure("requests, " + std::to_string(n) + " at a time", n * each, threads, coroutines, {3, 5});
}
// [/requests]

// [database]
void databases(comparison& result, const std::string& file, int each) {
  std::vector<database> a, b;  // four connections on each side
  for (int i = 0; i != 4; ++i) a.emplace_back(file), b.emplace_back(file);

  const auto find = [](database& db, int user) { return db.name_of(user) == "user " + std::to_string(user); };
  const auto async_find = [&](database& db, int user) { return to_thread(find, std::ref(db), user); };
  result.measure(
      "database, a name by its number", 4 * each, [&] { return by_threads(a, each, find); },
      [&] { return run(by_coroutines(b, each, async_find)); }, {2, 3});

  std::mutex pen;  // one writes at a time, says SQLite
  const auto order = [&](database& db, int user) {
    const std::scoped_lock turn(pen);
    return db.order(user);
  };
  tandem::mutex async_pen;
  const auto async_order = [&](database& db, int user) -> task<int> {
    const auto turn = co_await async_pen.lock();
    co_return co_await to_thread(&database::order, std::ref(db), user);
  };
  result.measure(
      "database, an order", 4 * each, [&] { return by_threads(a, each, order); },
      [&] { return run(by_coroutines(b, each, async_order)); }, {2, 3});
}
// [/database]

// [files]
bool write_and_read(const std::filesystem::path& file) {
  const std::string text(4096, 'x');
  std::ofstream(file) << text;
  std::string found(text.size(), '?');
  return std::ifstream(file).read(found.data(), 4096) && found == text;
}

void files(comparison& result, const std::filesystem::path& folder, int each) {
  std::vector<std::string> clerks{"ann", "bob", "cem", "dan"};
  const auto name = [&](const std::string& clerk, int i) { return folder / (clerk + std::to_string(i)); };
  const auto file = [&](const std::string& clerk, int i) { return write_and_read(name(clerk, i)); };
  const auto async_file = [&](const std::string& clerk, int i) { return to_thread(write_and_read, name(clerk, i)); };
  result.measure(
      "files of 4 KB, written and read", 4 * each, [&] { return by_threads(clerks, each, file); },
      [&] { return run(by_coroutines(clerks, each, async_file)); }, {2, 2.5});
}
// [/files]

// [main]
int main(int argc, char** argv) {
  const bool at_length = argc > 1;
  allow_many_files();
  const temporary_folder folder;
  comparison result(at_length ? 15 : 3);
  connections(result, at_length ? 1000 : 100);  // first, since the memory that others leave behind would be used
  requests(result, at_length ? 64 : 16, at_length ? 50 : 5);
  databases(result, (folder.path / "shop.db").string(), at_length ? 1000 : 50);
  files(result, folder.path, at_length ? 500 : 20);
  result.print(std::cerr);
  if (at_length) result.draw(argv[1]);
}
// [/main]
