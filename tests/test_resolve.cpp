#include <tandem/resolve.hpp>

#include <tandem/tandem.hpp>

#include TANDEM_ASIO_HEADER(connect.hpp)
#include TANDEM_ASIO_HEADER(ip/udp.hpp)

#include "catch.hpp"
#include "kit/kit.hpp"

#include <semaphore>
#include <string>
#include <vector>

using tandem::resolve;
using tandem::task;

TEST_CASE("resolve gives the endpoints of a host and a service") {
  auto main = []() -> task<> {
    const auto numeric = asio::ip::resolver_base::numeric_host | asio::ip::resolver_base::numeric_service;
    const auto tcp = co_await resolve("127.0.0.1", "4711", numeric);
    REQUIRE(tcp.size() == 1);
    CHECK(tcp.begin()->endpoint().port() == 4711);
    const auto udp = co_await resolve<asio::ip::udp>("::1", "4712", numeric);
    REQUIRE(udp.size() == 1);
    CHECK(udp.begin()->endpoint().address().is_v6());
  };
  tandem::run(main());
  tandem::simulate(main());
}

TEST_CASE("what resolve gives connects a socket") {
  auto main = []() -> task<> {
    const auto executor = co_await tandem::this_task::executor;
    asio::ip::tcp::acceptor acceptor(executor, {asio::ip::address_v4::loopback(), 0});
    const auto where = co_await resolve("127.0.0.1", std::to_string(acceptor.local_endpoint().port()));
    asio::ip::tcp::socket client(executor);
    auto connected = asio::async_connect(client, where, tandem::use_task);
    auto both = tandem::gather(acceptor.async_accept(tandem::use_task), std::move(connected));
    co_await std::move(both);
    CHECK(client.is_open());
  };
  tandem::run(main());
}

TEST_CASE("a name that is not there is Asio's error") {
  auto main = []() -> task<> {
    tandem::error_code code;
    try {
      co_await resolve("not an address", "1", asio::ip::resolver_base::numeric_host);
    } catch (const tandem::system_error& e) {
      code = e.code();
    }
    CHECK(code == asio::error::host_not_found);
  };
  tandem::run(main());
}

TEST_CASE("a limit around resolve ends it at once, though no thread answers") {
  constexpr int most_threads = 32;
  std::counting_semaphore<> release(0);
  auto main = [&]() -> task<> {
    auto block = [&]() -> task<> { co_await tandem::to_thread([&] { release.acquire(); }); };
    std::vector<task<>> blocked;
    for (int i = 0; i != most_threads; ++i) blocked.push_back(block());
    auto in_line_behind_them = [&]() -> task<> {
      const auto r = co_await tandem::try_timeout(std::chrono::microseconds(1), resolve("127.0.0.1", "80"));
      CHECK_FALSE(r.has_value());
      release.release(most_threads);
    };
    co_await tandem::gather(tandem::gather(std::move(blocked)), in_line_behind_them());
  };
  tandem::run(main());
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("a null character in a name is refused, with the name") {
  using namespace std::string_literals;
  CHECK_THROWS_AS(resolve("exam\0ple.org"s, "80"), std::invalid_argument);
  CHECK_THROWS_AS(resolve("example.org", "8\0000"s), std::invalid_argument);
  CHECK_THROWS_WITH(resolve("exam\0ple.org"s, "80"),
                    "tandem::resolve: the host is 'exam\\0ple.org'; it must not have a null character");
  CHECK_THROWS_WITH(resolve("example.org", "8\0000"s),
                    "tandem::resolve: the service is '8\\00'; it must not have a null character");
}
