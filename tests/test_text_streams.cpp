#include <tandem/text_streams.hpp>

#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

#include "kit/kit.hpp"
#include "kit/streams.hpp"

#include TANDEM_ASIO_HEADER(async_result.hpp)
#include TANDEM_ASIO_HEADER(local/connect_pair.hpp)
#include TANDEM_ASIO_HEADER(local/stream_protocol.hpp)
#include TANDEM_ASIO_HEADER(write.hpp)

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using kit::all_of;
using kit::at;
using kit::failure_of;
using tandem::clock;
using tandem::gather;
using tandem::generator;
using tandem::simulate;
using tandem::task;
namespace streams = tandem::streams;
using streams::from;

namespace {
/// Not in braces: g++ 12 cannot take an initializer_list inside a co_await.
template <class... Texts>
std::vector<std::string> pieces(Texts... texts) {
  std::vector<std::string> all;
  (all.push_back(texts), ...);
  return all;
}
/// A socket on which all has arrived already, and then the end, or another error. It notes how much it is asked for.
class full_socket {
 public:
  explicit full_socket(std::string bytes, tandem::error_code end = asio::error::eof)
      : bytes_(std::move(bytes)), end_(end) {}
  template <class Buffers, class Token>
  auto async_read_some(const Buffers& buffers, const Token& token) {
    asked.push_back(asio::buffer_size(buffers));
    const std::size_t n = asio::buffer_copy(buffers, asio::buffer(bytes_));
    bytes_.erase(0, n);
    return asio::async_initiate<const Token, void(tandem::error_code, std::size_t)>(
        [](auto handler, tandem::error_code e, std::size_t size) { std::move(handler)(e, size); }, token,
        n == 0 ? end_ : tandem::error_code(), n);
  }
  std::vector<std::size_t> asked;

 private:
  std::string bytes_;
  tandem::error_code end_;
};
std::string text_of(std::vector<std::string> pieces) {
  std::string all;
  for (const auto& p : pieces) all += "[" + p + "]";
  return all;
}

}  // namespace

TEST_CASE("utf8 gives whole characters, however the bytes are cut") {
  auto main = []() -> task<> {
    const std::string text = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x9a\xb2z";  // of 1, 2, 3, 4 and 1 bytes
    for (std::size_t size = 1; size != text.size(); ++size) {
      std::vector<std::string> cut;
      for (std::size_t i = 0; i < text.size(); i += size) cut.push_back(text.substr(i, size));
      std::string all;
      auto g = from(cut) | streams::utf8();
      while (const auto piece = co_await g.next()) {
        CHECK((static_cast<unsigned char>(piece->front()) & 0xc0u) != 0x80u);
        all += *piece;
      }
      CHECK(all == text);
    }
  };
  simulate(main());
}

TEST_CASE("wrong bytes are told with their offset, or replaced, part by part") {
  struct wrong {
    std::vector<std::string> pieces;
    std::size_t offset;
    const char* replaced;  // U+FFFD as ?
  };
  const std::vector<wrong> all = {
      {{"ab\xff"}, 2, "ab?"},
      {{"ab\x80z"}, 2, "ab?z"},
      {{"\xc0\xaf"}, 0, "??"},            // overlong
      {{"\xe0\x80", "\xaf"}, 0, "???"},   // the same
      {{"\xed\xa0\x80"}, 0, "???"},       // half of a surrogate pair
      {{"\xf4\x90\x80\x80"}, 0, "????"},  // beyond U+10FFFF
      {{"\xf0\x9f\x9a", "x"}, 0, "?x"},   // cut short
      {{"ok\xe2", "\x82"}, 2, "ok?"},     // by the end
      {{"\xe2\x82", "\xe2\x82\xac"}, 0, "?\xe2\x82\xac"},
      {{"\xe2", "\xe2", "\xff", ""}, 0, "???"},
      {{"abc", "d\xffz"}, 4, "abcd?z"},  // counted from the beginning of the stream
      {{"a\xe2", "\x82\xac", "b\xff"},
       5,
       "a\xe2\x82\xac"
       "b?"},
  };
  for (const wrong& w : all) {
    auto main = [&]() -> task<> {
      std::optional<std::size_t> offset;
      std::string before;
      auto g = from(w.pieces) | streams::utf8();
      try {
        while (auto text = co_await g.next()) before += *text;
      } catch (const streams::invalid_utf8& e) {
        offset = e.offset();
      }
      CHECK(offset == w.offset);
      CHECK(before == std::string(w.replaced).substr(0, w.offset));  // nothing good is lost
      const auto parts = co_await all_of(from(w.pieces) | streams::utf8(streams::utf8_errors::replace));
      std::string joined;
      for (const auto& p : parts) joined += p;
      for (std::size_t i; (i = joined.find("\xef\xbf\xbd")) != std::string::npos;) joined.replace(i, 3, "?");
      CHECK(joined == w.replaced);
    };
    simulate(main());
  }
}

TEST_CASE("split_lines gives lines without their ends, however the text is cut, and refuses one that is too long") {
  auto main = []() -> task<> {
    const auto lines =
        co_await all_of(from(pieces("a\nb", "c\r", "\n\n", "d\re\r\n", "last\r")) | streams::split_lines());
    CHECK(text_of(lines) == "[a][bc][][d\re][last]");
    const auto exact = co_await all_of(from(pieces("12345\r", "\n12345")) | streams::split_lines(5));
    CHECK(text_of(exact) == "[12345][12345]");
    for (const char* text : {"123456\n", "123456", "1234567"}) {
      const auto said = co_await failure_of(from(pieces(text)) | streams::split_lines(5));
      CHECK(said == "tandem::streams::split_lines: a line is longer than 5 bytes");
    }
  };
  simulate(main());
}

TEST_CASE("real_ lines over a socket: whole characters, the last line, and the error of a connection that breaks") {
  auto main = []() -> task<> {
    const auto executor = co_await tandem::this_task::executor;
    asio::local::stream_protocol::socket in(executor), out(executor);
    asio::local::connect_pair(in, out);
    auto writes = [&]() -> task<> {
      for (const char* piece : {"one\ntw\xc3", "\xb6\r\n", "thr", "ee"}) {
        co_await asio::async_write(out, asio::buffer(std::string(piece)), tandem::use_task);
        co_await tandem::yield();
      }
      out.close();
    };
    const auto both = co_await gather(all_of(streams::lines(in)), writes());
    CHECK(text_of(std::get<0>(both)) == "[one][tw\xc3\xb6][three]");

    asio::local::stream_protocol::socket left(executor), right(executor);
    asio::local::connect_pair(left, right);
    auto g = streams::lines(left);
    const auto late = co_await tandem::try_timeout(10ms, g.next());
    CHECK_FALSE(late);
    CHECK_FALSE(g);
    left.close();
    const auto said = co_await failure_of(streams::read(left));
    CHECK_FALSE(said.empty());
  };
  tandem::run(main());
  CHECK(kit::live_frames() == 0);
}

TEST_CASE("split_lines and read refuse a length or a size of zero") {
  CHECK_THROWS_AS((void)streams::split_lines(0), std::invalid_argument);
  auto main = []() -> task<> {
    asio::local::stream_protocol::socket in(co_await tandem::this_task::executor);
    const std::string said = co_await failure_of(streams::read(in, 0));
    CHECK(said == "tandem::streams::read: the size is 0; it must be at least 1");
  };
  simulate(main());
}

TEST_CASE("invalid_utf8 says at which byte of the stream, as a text and as a number") {
  auto main = []() -> task<> {
    const std::string said = co_await failure_of(from(pieces("ab", "\xc3\xa4", "\xff")) | streams::utf8());
    CHECK(said == "tandem::streams::invalid_utf8: at byte 4");
  };
  simulate(main());
}

TEST_CASE("utf8 gives at once what is whole: it holds back the beginning of a character, and nothing else") {
  auto main = []() -> task<> {
    auto slow = []() -> generator<std::string> {
      for (const char* piece : {"ab\xf0\x9f\x9a", "\xb2", "\xe2\x82", "\xac\xc3", "\xa4z"}) {
        co_await tandem::sleep_for(1s);
        co_yield std::string(piece);
      }
    };
    auto g = slow() | streams::utf8();
    std::string all;
    while (const auto piece = co_await g.next())
      all += "[" + *piece + "]" + std::to_string((clock::now() - at(0s)) / 1s);
    CHECK(all == "[ab]1[\xf0\x9f\x9a\xb2]2[\xe2\x82\xac]4[\xc3\xa4z]5");
  };
  simulate(main());
}

TEST_CASE("a line that is too long is a std::length_error as soon as it is, whether its end has come or not") {
  auto main = []() -> task<> {
    int given = 0;
    auto endless = [&]() -> generator<std::string> {
      for (; given != 1000; ++given) co_yield std::string(given == 0 ? "a\nbb" : "bb");
    };
    auto g = endless() | streams::split_lines(5);
    const auto line = co_await g.next();
    CHECK(line == "a");
    bool is_length_error = false;
    try {
      co_await g.next();
    } catch (const std::length_error&) {
      is_length_error = true;
    }
    CHECK(is_length_error);
    CHECK(given == 2);  // two more than the first: six bytes
    CHECK_FALSE(g);
  };
  simulate(main());
}

TEST_CASE("unless it is told otherwise the longest line is one of 64 KiB") {
  auto main = []() -> task<> {
    const std::string longest(64 * 1024, 'x');
    const auto split = co_await all_of(from(pieces(longest + "\n" + longest)) | streams::split_lines());
    CHECK((split.size() == 2 && split[0] == longest && split[1] == longest));
    const std::string too_long = co_await failure_of(from(pieces(longest + "x")) | streams::split_lines());
    CHECK(too_long == "tandem::streams::split_lines: a line is longer than 65536 bytes");
    full_socket fits(longest + "\r\n"), does_not(longest + "x");
    const auto read = co_await all_of(streams::lines(fits));
    CHECK((read.size() == 1 && read[0] == longest));
    const std::string refused = co_await failure_of(streams::lines(does_not));
    CHECK(refused == too_long);
  };
  simulate(main());
}

TEST_CASE("read gives strings of up to so many bytes until the end, and throws any other error") {
  auto main = []() -> task<> {
    full_socket socket("abcdefgh");
    const auto all = co_await all_of(streams::read(socket, 3));
    CHECK(text_of(all) == "[abc][def][gh]");
    CHECK(socket.asked == std::vector<std::size_t>{3, 3, 3, 3});
    full_socket large(std::string(5000, 'x'));
    auto g = streams::read(large);
    const auto first = co_await g.next();
    CHECK(first->size() == 4096);
    CHECK(large.asked.size() == 1);  // and no more before it is wanted
    co_await g.close();

    full_socket breaks("abc", asio::error::connection_reset);
    auto broken = streams::read(breaks);
    const auto before = co_await broken.next();
    CHECK(before == "abc");
    tandem::error_code code;
    try {
      co_await broken.next();
    } catch (const tandem::system_error& e) {
      code = e.code();
    }
    CHECK(code == asio::error::connection_reset);
    CHECK_FALSE(broken);
  };
  simulate(main());
}

TEST_CASE("lines takes the longest line and what happens to wrong bytes") {
  auto main = []() -> task<> {
    const std::string text =
        "ab\nc\xff"
        "d\r\nlast";
    full_socket strict(text), replaces(text), is_short("ab\nabcd\n");
    const std::string said = co_await failure_of(streams::lines(strict));
    CHECK(said == "tandem::streams::invalid_utf8: at byte 4");
    const auto replaced = co_await all_of(streams::lines(replaces, {.errors = streams::utf8_errors::replace}));
    CHECK(text_of(replaced) ==
          "[ab][c\xef\xbf\xbd"
          "d][last]");
    const std::string too_long = co_await failure_of(streams::lines(is_short, {.longest = 3}));
    CHECK(too_long == "tandem::streams::split_lines: a line is longer than 3 bytes");
  };
  simulate(main());
}
