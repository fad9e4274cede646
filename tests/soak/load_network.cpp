// TCP over the loopback: a server that echoes lines, and clients of which some are bad.
#include "world.hpp"

#include TANDEM_ASIO_HEADER(buffer.hpp)
#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(ip/tcp.hpp)
#include TANDEM_ASIO_HEADER(read_until.hpp)
#include TANDEM_ASIO_HEADER(write.hpp)

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

namespace soak {
namespace {

using tcp = asio::ip::tcp;

strand new_strand(world& w) {
  const memory::spare spare;
  return asio::make_strand(w.context);
}

std::unique_ptr<tcp::acceptor>& acceptor() {
  static std::unique_ptr<tcp::acceptor> a;
  return a;
}

task<std::size_t> reads_line(tcp::socket& socket, std::string& to) {
  const held here(ledger::frames);
  auto begins = [&](auto handler) {
    asio::async_read_until(socket, asio::dynamic_buffer(to, 1000), '\n', std::move(handler));
  };
  co_return co_await spared<void(tandem::error_code, std::size_t)>(begins);
}
task<> writes(tcp::socket& socket, const char* text, std::size_t size) {
  const held here(ledger::frames);
  auto begins = [&](auto handler) { asio::async_write(socket, asio::buffer(text, size), std::move(handler)); };
  co_await spared<void(tandem::error_code, std::size_t)>(begins);
}
task<> connects(tcp::socket& socket, unsigned short port) {
  const held here(ledger::frames);
  const tcp::endpoint server(asio::ip::address_v4::loopback(), port);
  auto begins = [&](auto handler) { socket.async_connect(server, std::move(handler)); };
  co_await spared<void(tandem::error_code)>(begins);
}

/// A connection of the server: a tree on a strand of its own.
task<> echoes(tcp::socket socket, held, tandem::clock::duration patience) {
  const held here(ledger::frames);
  std::string text;
  try {
    for (;;) {
      // A silent peer is left after a while. A stop loses bytes of a composed operation; here that ends the connection.
      const std::size_t n = co_await tandem::timeout(patience, reads_line(socket, text));
      co_await tandem::timeout(patience, writes(socket, text.data(), n));
      text.erase(0, n);
    }
  } catch (const tandem::system_error&) {  // its end, a reset, or the time is over
  } catch (...) {
    note_failure(std::current_exception(), "a connection of the server");
  }
}

/// A line that was sent: it comes back, or is given up.
class line_sent {
 public:
  explicit line_sent(faults& f) noexcept : faults_(f) { ledger::lines.take(); }
  line_sent(const line_sent&) = delete;
  line_sent& operator=(const line_sent&) = delete;
  ~line_sent() {
    if (!is_back_) ++faults_.lines_given_up;
    ledger::lines.give_back();
  }
  void is_back() noexcept { is_back_ = true; }

 private:
  faults& faults_;
  bool is_back_ = false;
};

task<> talks(place& p, dice& d, tcp::socket& socket) {
  const held here(ledger::frames);
  for (std::size_t i = 0, lines = 1 + d.below(10); i != lines; ++i) {
    std::string line(1 + d.below(200), 'x');
    line.push_back('\n');
    std::string answer;
    line_sent l(p.all.made);
    co_await writes(socket, line.data(), line.size());
    const std::size_t n = co_await reads_line(socket, answer);
    if (n != line.size() || answer != line) complain("a line came back as another");
    l.is_back();
  }
}

task<> asks(place& p, dice& d) {
  const held here(ledger::frames);
  const auto turn = p.own->connects.try_acquire();  // ports of closed connections are free again after a minute only
  if (!turn) co_return;
  const bool has_faults = p.all.chosen.faults;
  const asio::any_io_executor mine = co_await tandem::this_task::executor;
  tcp::socket socket(mine);
  co_await tandem::timeout(20s, connects(socket, p.all.port));
  const held connection(ledger::clients);
  if (has_faults) {  // the server has no memory now and then, and hangs up
    co_await talks(p, d, socket);
  } else {
    try {
      co_await talks(p, d, socket);
    } catch (const tandem::system_error& e) {
      complain("a connection failed: %s", e.what());
    }
  }
  if (!has_faults || !d.chance(40)) co_return;

  const std::string half(1 + d.below(300), 'y');
  switch (d.below(4)) {
    case 0: {
      ++p.all.made.resets;
      co_await writes(socket, half.data(), half.size());
      socket.set_option(asio::socket_base::linger(true, 0));
      break;
    }
    case 1:
      ++p.all.made.half_lines;
      co_await writes(socket, half.data(), half.size());
      break;
    case 2: {
      ++p.all.made.slow_peers;
      for (std::size_t i = 0; i != 10; ++i) {
        co_await writes(socket, half.data(), 1);
        co_await tandem::sleep_for(d.moment());
      }
      break;
    }
    default: {
      ++p.all.made.silent_peers;
      if (d.chance(10)) co_await tandem::sleep_for(600ms);
    }
  }
}

}  // namespace

void listen(world& w) {
  acceptor() = std::make_unique<tcp::acceptor>(w.context, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  w.port = acceptor()->local_endpoint().port();
}

task<> serve(world& w) {
  const held here(ledger::frames);
  // Long enough that a busy machine does not make a peer seem silent, unless silent peers are what is looked for.
  const tandem::clock::duration patience = w.chosen.faults ? tandem::clock::duration(500ms) : 60s;
  struct shuts {
    ~shuts() { acceptor().reset(); }
  } const in_the_end;
  for (;;) {
    try {
      const strand its = new_strand(w);
      tcp::socket socket(its);
      auto begins = [&](auto handler) { acceptor()->async_accept(socket, std::move(handler)); };
      co_await spared<void(tandem::error_code)>(begins);
      held connection(ledger::served);
      held tree(ledger::trees);
      auto ended = [t = std::move(tree)](std::exception_ptr e) mutable {
        const held ends(std::move(t));
        if (e) note_failure(e, "a connection of the server");
      };
      tandem::spawn(its, echoes(std::move(socket), std::move(connection), patience), std::move(ended));
    } catch (...) {
      if (note_failure(std::current_exception(), "the server") == verdict::wrong) throw;
    }
    co_await tandem::yield();
  }
}

void add_network(operations& all) { all.push_back(std::make_unique<operation>("TCP", 3, asks)); }

}  // namespace soak
