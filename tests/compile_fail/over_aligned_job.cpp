// expect: a job cannot hold over-aligned objects
#include <tandem/worker_pool.hpp>

#include <memory>

struct alignas(64) tile {
  float cells[4][4] = {};
};
tandem::task<> invert(std::unique_ptr<tile>);

void start(tandem::worker_pool& pool) {
#if defined(FIXED)
  pool.submit(invert, std::make_unique<tile>());
#else
  pool.submit([](tile t) { return invert(std::make_unique<tile>(t)); }, tile());
#endif
}
