#include <tandem/run.hpp>

#include <boost/asio/post.hpp>

#if defined(ASIO_VERSION)
#error "standalone Asio came along"
#endif

tandem::task<int> answer() {
  co_await boost::asio::post(co_await tandem::this_task::executor, tandem::use_task);
  co_return 42;
}

int main() { return tandem::run(answer()) == 42 ? 0 : 1; }
