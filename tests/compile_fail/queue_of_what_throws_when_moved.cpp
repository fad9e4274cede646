// expect: a queue's items must move without throwing, so that none is lost half way: keep them in unique_ptrs
#include <tandem/queue.hpp>

#include <memory>

struct fragile {
  fragile(fragile&&);
};

#if defined(FIXED)
tandem::queue<std::unique_ptr<fragile>> items;
#else
tandem::queue<fragile> items;
#endif
