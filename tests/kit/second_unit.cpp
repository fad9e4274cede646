#include "second_unit.hpp"

#include <tandem/tandem.hpp>

namespace second_unit {

tandem::task<int> there(int i) {
  co_await tandem::sleep_for(std::chrono::seconds(1));
  co_return i;
}

int simulate_there(tandem::task<int> t) { return tandem::simulate(std::move(t)); }

}  // namespace second_unit
