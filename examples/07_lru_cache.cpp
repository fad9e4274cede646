// Asked once, however many want to know: lru_cache, for a weather service over TCP (B 缓存和结果复用, C 内存管理优化)
#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/lru_cache.hpp>
#include <tandem/run.hpp>

#include <asio/detached.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read_until.hpp>
#include <asio/write.hpp>

#include <iostream>
#include <map>
#include <optional>
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
struct weather_service {
  std::map<std::string, int> degrees{{"Bergen", 9}, {"Cusco", 17}, {"Lyon", 21}, {"Oslo", 0}};
  bool is_line_bad = true;  // the first time that somebody asks for Lyon
  int requests = 0;
};

task<> answer(weather_service& service, tcp::socket client) {
  const std::string city = co_await read_line(client);
  ++service.requests;
  co_await sleep_for(20ms);  // far away
  const auto found = service.degrees.find(city);
  std::string said = found == service.degrees.end() ? "unknown" : std::to_string(found->second);
  if (city == "Lyon" && std::exchange(service.is_line_bad, false)) said = "error: the line is bad";
  said += '\n';
  co_await asio::async_write(client, asio::buffer(said), use_task);
}

task<> serve(weather_service& service, tcp::acceptor acceptor) {
  for (;;) {
    tcp::socket client = co_await acceptor.async_accept(use_task);
    tandem::spawn(acceptor.get_executor(), answer(service, std::move(client)), asio::detached);
  }
}
// [/service]

// [client]
class weather_client {
 public:
  explicit weather_client(tcp::endpoint service) : service_(service) {}

  task<std::optional<int>> degrees(std::string city) {
    const auto load = [&](const std::string& c) { return ask_for(c); };
    co_return co_await known_.get(city, load);
  }
  lru_cache_stats stats() const { return known_.stats(); }

 private:
  task<std::optional<int>> ask_for(std::string city) {
    tcp::socket socket(co_await this_task::executor);
    co_await socket.async_connect(service_, use_task);
    city += '\n';
    co_await asio::async_write(socket, asio::buffer(city), use_task);
    const std::string said = co_await read_line(socket);
    if (said == "unknown") co_return std::nullopt;
    if (said.starts_with("error")) throw std::runtime_error(said);
    co_return std::stoi(said);
  }

  tcp::endpoint service_;
  lru_cache<std::string, std::optional<int>> known_{{.capacity = 100, .ttl = 5min, .absent_ttl = 30s}};
};
// [/client]

// [rounds]
task<> show(weather_client& weather, std::string city) {
  try {
    const std::optional<int> degrees = co_await weather.degrees(city);
    std::cout << "  " << city << (degrees ? ": " + std::to_string(*degrees) + " °C\n" : " is nowhere\n");
  } catch (const std::runtime_error& e) {
    std::cout << "  " << city << ": " << e.what() << '\n';
  }
}

task<> rounds(weather_client& weather, const weather_service& service) {
  for (const char* round : {"first", "second"}) {
    std::cout << round << " round:\n";
    for (const char* city : {"Bergen", "Oslo", "Atlantis", "Lyon"}) co_await show(weather, city);
    std::cout << "  requests so far: " << service.requests << '\n';
  }
}
// [/rounds]

// [stampede]
task<> everybody(weather_client& weather) {
  std::vector<task<std::optional<int>>> all;
  for (int i = 0; i != 10'000; ++i) all.push_back(weather.degrees("Cusco"));
  co_await gather(std::move(all));
}

task<> somebody_in_a_hurry(weather_client& weather) {
  const auto degrees = co_await try_timeout(5ms, weather.degrees("Cusco"));
  if (!degrees) std::cout << "  one has left\n";
}

task<> stampede(weather_client& weather, const weather_service& service) {
  std::cout << "ten thousand and one:\n";
  co_await gather(everybody(weather), somebody_in_a_hurry(weather));
  std::cout << "  requests so far: " << service.requests << '\n';
}
// [/stampede]

// [main]
task<> ask(weather_service& service) {
  const auto loop = co_await this_task::executor;
  tcp::acceptor acceptor(loop, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  weather_client weather(acceptor.local_endpoint());
  tandem::spawn(loop, serve(service, std::move(acceptor)), asio::detached);
  co_await rounds(weather, service);
  co_await stampede(weather, service);

  const lru_cache_stats s = weather.stats();
  std::cout << s.hits << " hits, " << s.misses << " misses, " << s.joined << " of them joined a load; " << s.loads
            << " loads, " << s.load_failures << " failed\n";
}

int main() {
  weather_service service;
  run(ask(service));
}
// [/main]
