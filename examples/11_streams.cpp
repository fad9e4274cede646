// Items that come one at a time, and how to leave early: a feed over TCP (B 实时数据流处理, 异步生成器和流式处理)
#include <tandem/gather.hpp>
#include <tandem/generator.hpp>
#include <tandem/run.hpp>
#include <tandem/streams.hpp>
#include <tandem/text_streams.hpp>

#include <asio/ip/tcp.hpp>
#include <asio/write.hpp>

#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using namespace tandem;
using asio::ip::tcp;

// [thermometer]
generator<std::string> thermometer(std::string place) {  // never ends by itself
  const auto switch_off = [&]() -> task<> {
    co_await sleep_for(10ms);
    std::cout << "  " << place << " is switched off\n";
  };
  co_await on_exit(switch_off);
  for (int hour = 0;; ++hour) {
    co_yield place + ' ' + std::to_string(12 + 5 * hour % 11) + " °C\n";
    co_await sleep_for(1ms);
  }
}
// [/thermometer]

// [by_hand]
task<> until_it_is_warm() {
  auto readings = thermometer("Malmö");
  while (const auto reading = co_await readings.next()) {
    std::cout << *reading;
    if (reading->find(" 2") != std::string::npos) break;
  }
  co_await readings.close();
}
// [/by_hand]

// [station]
task<> send(tcp::socket& reader, std::string line) {
  for (char& byte : line) {  // each by itself, so that no character of two bytes arrives in one piece
    co_await asio::async_write(reader, asio::buffer(&byte, 1), use_task);
    co_await sleep_for(100us);
  }
}

task<> station(tcp::acceptor& door, generator<std::string> readings) {
  tcp::socket reader = co_await door.async_accept(use_task);
  reader.set_option(tcp::no_delay(true));
  try {
    const auto to_reader = [&](std::string line) { return send(reader, std::move(line)); };
    co_await for_each(std::move(readings), to_reader, {.limit = 1});
  } catch (const system_error&) {
    std::cout << "  the reader has gone\n";
  }
}
// [/station]

// [pipeline]
struct reading {
  std::string place;
  int degrees;
};

reading parse(const std::string& line) {
  std::istringstream words(line);
  reading r;
  if (!(words >> r.place >> r.degrees)) throw std::runtime_error("this is no reading: " + line);
  return r;
}

task<> store(std::vector<reading> some) {  // a database likes several at a time
  std::cout << "stored:";
  for (const auto& [place, degrees] : some) std::cout << "  " << place << ' ' << degrees;
  std::cout << '\n';
  co_return;
}

task<> five_warm_hours(tcp::endpoint address) {
  tcp::socket socket(co_await this_task::executor);
  co_await socket.async_connect(address, use_task);
  const auto is_warm = [](const reading& r) { return r.degrees >= 18; };
  auto warm = streams::lines(socket) | streams::map(parse) | streams::filter(is_warm) | streams::take(5);
  co_await for_each(std::move(warm) | streams::chunk(2), store, {.limit = 1});
}
// [/pipeline]

// [failure]
task<> all_hours(tcp::endpoint address) {
  tcp::socket socket(co_await this_task::executor);
  co_await socket.async_connect(address, use_task);
  try {
    co_await for_each(streams::lines(socket) | streams::map(parse) | streams::chunk(2), store, {.limit = 1});
    std::cout << "  the end\n";
  } catch (const std::exception& e) {
    std::cout << "  " << e.what() << '\n';
  }
}
// [/failure]

// [main]
task<> weather() {
  co_await until_it_is_warm();

  tcp::acceptor door(co_await this_task::executor, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const tcp::endpoint address = door.local_endpoint();
  co_await gather(five_warm_hours(address), station(door, thermometer("Zürich")));

  for (const char* second : {"Genève 19 °C", "Genève is closed\n", "Gen\xe8ve 19 \xb0""C\n"}) {
    const std::vector<std::string> lines{"Genève 17 °C\n", second};
    co_await gather(all_hours(address), station(door, streams::from(lines)));
  }
}

int main() { run(weather()); }
// [/main]
