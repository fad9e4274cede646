#include <tandem/run.hpp>

#include <asio/post.hpp>

tandem::task<int> answer() {
  co_await asio::post(co_await tandem::this_task::executor, tandem::use_task);
  co_return 42;
}

int main() { return tandem::run(answer()) == 42 ? 0 : 1; }
