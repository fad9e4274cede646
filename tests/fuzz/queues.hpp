// tests/fuzz/queues.hpp: the queues that all coroutines of a program share, and the laws that hold for them.
#pragma once

#include <tandem/queue.hpp>

#include "program.hpp"

#include <array>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace fuzz {

/// Items are numbered in the order in which their pushes begin. They are `Counted`, so that none is lost.
template <class Counted>
class parcel : Counted {
 public:
  explicit parcel(unsigned number) noexcept : number_(number) {}
  unsigned number() const noexcept { return number_; }

 private:
  unsigned number_;
};

/// One of capacity 0, one of 1, and one of 2 that drops.
template <class Counted>
class queues {
 public:
  using item = parcel<Counted>;
  using queue = tandem::queue<item>;

  queues() {
    for (unsigned i = 0; i != 3; ++i) renew(i);
  }
  queue& operator[](unsigned i) { return *places_[i % 3].q; }
  /// Another takes its place; who waits at the old one is told of its end.
  void renew(unsigned i) {
    place& p = places_[i % 3];
    if (p.q) check_books(p.q->stats());
    const unsigned capacity = i % 3;
    const auto policy = capacity == 2 ? tandem::overflow::drop_oldest : tandem::overflow::wait;
    p = {std::make_unique<queue>(tandem::queue_options{capacity, policy}), {}};
  }

  /// Right before they are pushed.
  item next() noexcept { return item(made_++); }
  std::vector<item> next(unsigned n) {
    std::vector<item> some;
    for (unsigned i = 0; i != n; ++i) some.push_back(next());
    return some;
  }
  /// Right before a pop begins.
  unsigned turn() noexcept { return turns_++; }
  /// What it gave. The queue may have been replaced meanwhile.
  std::uint32_t popped(const queue& q, unsigned turn, const item& got) {
    check(popped_.insert(got.number()).second, "an item is popped once");
    for (place& p : places_) {
      if (p.q.get() != &q) continue;
      const auto here = p.pops.emplace(turn, got.number()).first;
      check(here == p.pops.begin() || std::prev(here)->second < got.number(), "who asks later gets a later item");
      check(std::next(here) == p.pops.end() || std::next(here)->second > got.number(),
            "who asks earlier gets an earlier item");
    }
    return got.number();
  }

  /// When all is over.
  void check_and_empty() {
    for (place& p : places_) {
      const tandem::queue_stats s = p.q->stats();
      check_books(s);
      check(s.pushed == s.popped + s.size + s.dropped, "no item is lost");
      check(s.pushing + s.popping == 0, "nobody is left in line");
      unsigned least = 0;
      for (auto left = s.size; left != 0; --left) {
        const unsigned number = p.q->try_pop()->number();
        check(number >= least, "items are in order");
        check(popped_.insert(number).second, "an item that was popped is not there");
        least = number + 1;
      }
    }
  }

 private:
  static void check_books(const tandem::queue_stats& s) {
    check(s.pushed >= s.popped + s.size + s.dropped, "no item is doubled");  // some may be promised
    check(s.unfinished == s.pushed - s.dropped, "what is not dropped is to be done");
  }
  struct place {
    std::unique_ptr<queue> q;
    std::map<unsigned, unsigned> pops;  // turn, item
  };
  std::array<place, 3> places_;
  std::set<unsigned> popped_;
  unsigned made_ = 0, turns_ = 0;
};

}  // namespace fuzz
