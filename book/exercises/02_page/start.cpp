// Exercise 02, a page that does not wait for its reviews. page_of asks for price, stock and review at once, and shows
// the review only if it comes within 200 ms; otherwise "no review in time" stands in its place. If price or stock fail,
// the page fails, and nothing is under way any more. To check it: ./examples/run check 02
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
  // TODO
  page p;
  p.euros = co_await price_of(product);
  p.in_stock = co_await stock_of(product);
  p.review = co_await review_of(product);
  co_return p;
}

#include "check.hpp"
