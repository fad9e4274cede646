// 100,000 children that end at once, on the loop of another thread: each sent by itself and its end reported back, or
// a thousand in a batch.
#include <tandem/tandem.hpp>

#include "harness.hpp"

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>

#include <thread>
#include <vector>

namespace {

using tandem::task;

constexpr int n = 100'000;

class other_thread {
 public:
  ~other_thread() {
    work_.reset();
    thread_.join();
  }
  asio::io_context& context() noexcept { return context_; }

 private:
  asio::io_context context_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_{context_.get_executor()};
  std::thread thread_{[this] { context_.run(); }};
};

task<int> immediate(int i) { co_return i; }
task<int> sent(asio::io_context& there, int i) { co_return co_await tandem::on(there, immediate(i)); }
task<> across_threads(items::state& s, asio::io_context& there) {
  for (auto _ : s) {
    std::vector<task<int>> children;
    children.reserve(n);
    for (int i = 0; i != n; ++i) children.push_back(sent(there, i));
    const std::vector<int> values = co_await tandem::gather(std::move(children));
    benchmark::DoNotOptimize(values.back());
  }
  s.SetItemsProcessed(s.iterations() * n);
}

task<std::vector<int>> await_all(std::vector<task<int>> children) {
  co_return co_await tandem::gather(std::move(children));
}
task<std::vector<int>> sent_together(asio::io_context& there, std::vector<task<int>> children) {
  co_return co_await tandem::on(there, await_all(std::move(children)));
}
task<> across_threads_batched(items::state& s, asio::io_context& there) {
  constexpr int batch = 1000;
  for (auto _ : s) {
    std::vector<task<std::vector<int>>> batches;
    batches.reserve(n / batch);
    for (int k = 0; k != n / batch; ++k) {
      std::vector<task<int>> children;
      children.reserve(batch);
      for (int i = 0; i != batch; ++i) children.push_back(immediate(i));
      batches.push_back(sent_together(there, std::move(children)));
    }
    const std::vector<std::vector<int>> values = co_await tandem::gather(std::move(batches));
    benchmark::DoNotOptimize(values.back().back());
  }
  s.SetItemsProcessed(s.iterations() * n);
}

template <auto Item>
void with_other_thread(items::state& s) {
  other_thread there;
  tandem::run(Item(s, there.context()));
}

}  // namespace

void add_thread_items() {
  items::add("across_threads", with_other_thread<across_threads>);
  items::add("across_threads_batched", with_other_thread<across_threads_batched>);
}
