// A limit that all callers share: scraping a site over TCP (B `AsyncWebScraper`, C Semaphore机制, E 异步并发控制)
#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>
#include <tandem/semaphore.hpp>

#include <asio/detached.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read_until.hpp>
#include <asio/write.hpp>

#include <iostream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using namespace tandem;
using asio::ip::tcp;

// [site]
task<std::string> read_line(tcp::socket& socket) {
  std::string line;
  co_await asio::async_read_until(socket, asio::dynamic_buffer(line), '\n', use_task);
  co_return line.substr(0, line.find('\n'));
}

task<> answer_one(tcp::socket client) {  // the path of a page in, out the paths that it links to
  const std::string path = co_await read_line(client);
  co_await sleep_for(100ms);
  std::string links;  // each page has the menu of its section
  for (const char* article : {"/1 ", "/2 ", "/3 ", "/4 ", "/5 ", "/6\n"})
    links += path.substr(0, path.find('/', 1)) + article;
  co_await asio::async_write(client, asio::buffer(links), use_task);
}

task<> serve(tcp::acceptor acceptor) {
  for (;;) {
    tcp::socket client = co_await acceptor.async_accept(use_task);
    tandem::spawn(acceptor.get_executor(), answer_one(std::move(client)), asio::detached);
  }
}
// [/site]

// [fetch]
struct newspaper {
  tcp::endpoint site;
  std::set<std::string> seen = {};  // pages
  int under_way = 0, most = 0;      // requests now, and at the busiest moment
};

struct request {  // counted however it ends
  explicit request(newspaper& n) : of(n) { of.most = std::max(of.most, ++of.under_way); }
  ~request() { --of.under_way; }
  newspaper& of;
};

task<std::vector<std::string>> fetch(newspaper& n, semaphore& limit, std::string path) {
  const permit turn = co_await limit.acquire();
  const request counted(n);
  tcp::socket socket(co_await this_task::executor);
  co_await socket.async_connect(n.site, use_task);
  path += '\n';
  co_await asio::async_write(socket, asio::buffer(path), use_task);
  std::istringstream links(co_await read_line(socket));
  co_return std::vector<std::string>(std::istream_iterator<std::string>(links), {});
}
// [/fetch]

// [scrape]
task<> scrape(newspaper& n, semaphore& limit, std::string page) {
  if (!n.seen.insert(page).second) co_return;
  const std::vector<std::string> links = co_await fetch(n, limit, page);
  co_await for_each(links, [&](const std::string& link) { return scrape(n, limit, link); });
}
// [/scrape]

void report(const char* how, const newspaper& n) {
  std::cout << how << ": " << n.seen.size() << " pages, " << n.most << " requests at the busiest moment\n";
}

// [own]
task<> scrape_with_its_own(newspaper& n, std::string section) {
  semaphore limit(4);
  co_await scrape(n, limit, section);
}

task<> each_its_own(newspaper n) {
  co_await gather(scrape_with_its_own(n, "/news"), scrape_with_its_own(n, "/sport"), scrape_with_its_own(n, "/arts"));
  report("a semaphore of 4 for each caller", n);
}
// [/own]

// [shared]
task<> one_for_all(newspaper n) {
  semaphore limit(4);
  co_await gather(scrape(n, limit, "/news"), scrape(n, limit, "/sport"), scrape(n, limit, "/arts"));
  report("one semaphore of 4 for all", n);
}
// [/shared]

// [quiet]
task<> quiet_moment(newspaper& n, semaphore& limit) {
  const permit all = co_await limit.acquire(limit.capacity());
  std::cout << "all permits taken: " << n.under_way << " requests under way\n";

  if (const permit turn = limit.try_acquire(); !turn) std::cout << "  no permit without a wait\n";
  const auto page = co_await try_timeout(50ms, fetch(n, limit, "/arts"));
  if (!page) std::cout << "  none within 50 ms\n";
  std::cout << "  in line: " << limit.waiting() << ", gave up: " << limit.stats().gave_up << '\n';
}

task<> with_a_quiet_moment(newspaper n) {
  semaphore limit(4);
  co_await gather(scrape(n, limit, "/news"), quiet_moment(n, limit));
  report("with a quiet moment", n);
  std::cout << "  permits at the end: " << limit.available() << " of " << limit.capacity() << '\n';
}
// [/quiet]

// [main]
task<> read_the_papers() {
  const auto loop = co_await this_task::executor;
  tcp::acceptor acceptor(loop, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const newspaper unread{acceptor.local_endpoint()};
  tandem::spawn(loop, serve(std::move(acceptor)), asio::detached);

  co_await each_its_own(unread);
  co_await one_for_all(unread);
  co_await with_a_quiet_moment(unread);
}

int main() { run(read_the_papers()); }
// [/main]
