// A flat table of entries that are in a list, by their last use.
#include "floor.hpp"
#include "harness.hpp"

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

struct link {
  link *before = nullptr, *after = nullptr;
};
template <class Key>
class cache {
 public:
  explicit cache(const std::vector<Key>& keys) : places_(4 * keys.size()) {
    newest_.before = newest_.after = &newest_;
    while (mask_ + 1 < 2 * keys.size()) mask_ = 2 * mask_ + 1;
    for (const Key& k : keys) {
      entries_.push_back(std::make_unique<entry>(entry{{}, k, 1}));
      std::size_t i = place_of(k);
      while (places_[i]) i = (i + 1) & mask_;
      places_[i] = entries_.back().get();
      to_front(*places_[i]);
    }
  }
  int find(const Key& key) {
    std::size_t i = place_of(key);
    while (places_[i]->key != key) i = (i + 1) & mask_;
    entry& e = *places_[i];
    e.before->after = e.after;
    e.after->before = e.before;
    to_front(e);
    return e.value;
  }

 private:
  struct entry : link {
    Key key;
    int value;
  };
  std::size_t place_of(const Key& k) const { return (std::hash<Key>()(k) * 0x9e3779b97f4a7c15u >> 32) & mask_; }
  void to_front(entry& e) noexcept {
    e.before = &newest_;
    e.after = newest_.after;
    newest_.after = e.after->before = &e;
  }
  std::vector<std::unique_ptr<entry>> entries_;
  std::vector<entry*> places_;
  std::size_t mask_ = 1;
  link newest_;
};

template <class Key>
bare::task<> find(items::state& s) {
  const auto keys = items::cache_keys<Key>();
  cache<Key> all(keys);
  for (auto _ : s)
    for (const Key& k : keys) benchmark::DoNotOptimize(all.find(k));
  s.SetItemsProcessed(s.iterations() * static_cast<long>(keys.size()));
  co_return;
}

template <auto Item>
void run(items::state& s) {
  bare::run(Item(s));
}

}  // namespace

void add_cache_items() {
  items::add("cache_find", run<find<int>>);
  items::add("cache_get", run<find<int>>);
  items::add("cache_get_string", run<find<std::string>>);
  items::add("cache_get_concurrent", run<find<int>>);
}
