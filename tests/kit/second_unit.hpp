// tests/kit/second_unit.hpp: functions of another translation unit that includes all of tandem.
#pragma once

#include <tandem/task.hpp>

namespace second_unit {

tandem::task<int> there(int i);
int simulate_there(tandem::task<int> t);

}  // namespace second_unit
