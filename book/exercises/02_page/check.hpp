// The check of exercise 02: a shop that notes when it is asked, and what is under way.
#include "../checking.hpp"

using namespace checking;

struct asked {
  std::string what;
  duration at;
};
std::vector<asked> questions;
int under_way = 0;

struct question {  // ends in whatever way
  explicit question(std::string what) {
    goes_on();
    questions.push_back({std::move(what), checking::now()});
    ++under_way;
  }
  ~question() { --under_way; }
  question(const question&) = delete;
};

task<double> price_of(int product) {
  const question q("price");
  co_await sleep_for(150ms);
  co_return product + .5;
}

task<int> stock_of(int product) {
  const question q("stock");
  co_await sleep_for(50ms);
  if (product == 13) throw std::runtime_error("no stock of product 13");
  co_return product % 5;
}

task<std::string> review_of(int product) {
  const question q("review");
  co_await sleep_for(product == 8 ? 100ms : 250ms);
  co_return "works as described";
}

task<> visit(int product, duration length, std::string review) {
  questions.clear();
  const page p = co_await page_of(product);
  const duration took = checking::now();
  const std::string which = sentence("the page of product ", product);
  for (const asked& q : questions)
    expect(q.at == 0ms, which, ": the ", q.what, " was asked for after ", q.at, "; ask for all three at once");
  expect(questions.size() == 3, which, ": ", count(questions.size(), "question"), " were asked, not 3");
  expect(p.euros == product + .5, which, " says ", p.euros, " euros, not ", product + .5);
  expect(p.in_stock == product % 5, which, " says ", p.in_stock, " in stock, not ", product % 5);
  expect(p.review == review, which, " has the review \"", p.review, "\"; it should be \"", review, "\"");
  expect(took == length, which, " took ", took, ", not ", length);
  expect(under_way == 0, which, ": ", count(static_cast<std::size_t>(under_way), "question"), " under way at its end");
}

task<> visit_what_there_is_not() {
  bool failed = false;
  try {
    co_await page_of(13);
  } catch (const std::runtime_error&) {
    failed = true;
  }
  if (!expect(failed, "product 13 has no stock: page_of(13) should throw what stock_of throws, and gave a page"))
    co_return;
  expect(checking::now() == 50ms, "product 13 has no stock, which is known after 50 ms; page_of threw after ",
         checking::now());
  expect(under_way == 0, "product 13: page_of threw, and ", count(static_cast<std::size_t>(under_way), "question"),
         " still under way; what was started must be gone by then");
}

int main() {
  return verdict("the page comes after 200 ms at the latest, and leaves nothing behind", [] {
    run("the page of product 7", visit(7, 200ms, "no review in time"));
    run("the page of product 8", visit(8, 150ms, "works as described"));
    run("the page of product 13", visit_what_there_is_not());
  });
}
