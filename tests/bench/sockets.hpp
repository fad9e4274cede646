// Two ends of a connection on loopback, for the items that measure operations of Asio.
#pragma once

#include <asio/connect.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/steady_timer.hpp>

constexpr int operations = 1000;  // an iteration

struct socket_pair {
  asio::ip::tcp::socket client, server;
};
inline socket_pair connected_pair(const asio::any_io_executor& executor) {
  using asio::ip::tcp;
  tcp::acceptor acceptor(executor, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  tcp::socket client(executor);
  client.connect(acceptor.local_endpoint());
  tcp::socket server = acceptor.accept();
  for (tcp::socket* s : {&client, &server}) {
    s->set_option(tcp::no_delay(true));
    s->non_blocking(true);
  }
  return {std::move(client), std::move(server)};
}
