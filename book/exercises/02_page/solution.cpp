// Exercise 02, a page that does not wait for its reviews: a solution.
#include <tandem/cancel.hpp>
#include <tandem/gather.hpp>
#include <tandem/run.hpp>

#include <string>

using namespace std::chrono_literals;
using namespace tandem;

struct page {
  double euros = 0;
  int in_stock = 0;
  std::string review{};
};

task<double> price_of(int product);        // takes 150 ms
task<int> stock_of(int product);           // takes 50 ms
task<std::string> review_of(int product);  // takes 250 ms for most products, and 100 ms for product 8

task<page> page_of(int product) {
  const auto answers = co_await gather(price_of(product), stock_of(product), try_timeout(200ms, review_of(product)));
  const auto& [euros, in_stock, review] = answers;  // an optional<std::string> is the third
  page p{euros, in_stock, review.value_or("no review in time")};
  co_return p;
}

#include "check.hpp"
