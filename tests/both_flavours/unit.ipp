// tests/both_flavours/unit.ipp: the definition of a unit, on the flavour of the translation unit that includes this.

#include "unit.hpp"

#include <tandem/tandem.hpp>

#include TANDEM_ASIO_HEADER(post.hpp)

#include <chrono>
#include <exception>
#include <utility>

using namespace std::chrono_literals;
namespace asio_in_use = tandem::asio;

// Not static, and yet no clash: with a task among its parameters it is another function on each flavour.
std::string text_of(tandem::task<std::string> t) { return tandem::simulate(std::move(t)); }

namespace {

std::string now() { return std::to_string(tandem::clock::now().time_since_epoch() / 1ms) + " ms"; }

tandem::task<int> after(std::chrono::milliseconds d, int value) {
  co_await tandem::sleep_for(d);
  co_return value;
}

tandem::task<std::string> gathered() {
  const auto [a, b] = co_await tandem::gather(after(200ms, 1), after(300ms, 2));
  co_return std::to_string(a) + " and " + std::to_string(b) + " at " + now();
}

tandem::task<std::string> posted() {
  std::string order;
  const auto loop = co_await tandem::this_task::executor;
  asio_in_use::post(loop, [&] { order += "handler, "; });
  co_await asio_in_use::post(loop, tandem::use_task);
  co_return order + "task";
}

tandem::task<std::string> caught() {
  try {
    co_await tandem::timeout(1s, after(1h, 0));
  } catch (const tandem::timed_out& e) {
    co_return e.code() == asio_in_use::error::timed_out ? "timed_out" : "timed_out with another code";
  }
  co_return "nothing";
}

// Ends before what it has started.
tandem::task<> start(std::string& end) {
  tandem::spawn(co_await tandem::this_task::executor, tandem::sleep_for(1h), [&](std::exception_ptr e) {
    try {
      std::rethrow_exception(e);
    } catch (const tandem::cancelled& c) {
      end = c.code() == asio_in_use::error::operation_aborted ? "cancelled" : "cancelled with another code";
    }
  });
}

std::string what_is_caught() {
  std::string end;
  tandem::simulate(start(end));
  return text_of(caught()) + ", " + end;
}

bool is_own(void (*f)()) {
  try {
    f();
  } catch (const tandem::cancelled&) {
    return true;
  } catch (const std::exception&) {
  }
  return false;
}

tandem::task<std::string> around(std::string (*f)()) {
  co_await tandem::sleep_for(1s);
  const std::string inside = f();
  co_await tandem::sleep_for(1s);
  co_return inside + ", around it " + now();
}

constexpr unit this_unit = {
    .gathers = [] { return text_of(gathered()); },
    .posts = [] { return tandem::run(posted()); },
    .catches = what_is_caught,
    .throws = [] { throw tandem::cancelled(); },
    .is_own = is_own,
    .around = [](std::string (*f)()) { return text_of(around(f)); },
};

}  // namespace
