// Proves that the thread sanitizer of this build sees what it must: two strands run in parallel, and their trees share
// an int without a lock. The test passes when that is reported.
#include <tandem/tandem.hpp>

#include TANDEM_ASIO_HEADER(detached.hpp)
#include TANDEM_ASIO_HEADER(strand.hpp)

#include <thread>

namespace {

tandem::task<> counts(int& shared) {
  for (int i = 0; i != 10'000; ++i) {
    ++shared;
    co_await tandem::yield();
    if (i % 100 == 0) co_await tandem::sleep_for(std::chrono::microseconds(10));
  }
}

}  // namespace

int main() {
  tandem::asio::io_context context;
  int shared = 0;
  for (int i = 0; i != 4; ++i)
    tandem::spawn(tandem::asio::make_strand(context), counts(shared), tandem::asio::detached);
  std::thread other([&] { context.run(); });
  context.run();
  other.join();
}
