// The shared items on the floor; a translation unit of its own, so that what else a program measures does not change
// how they are compiled.
#include "floor.hpp"

namespace lib = bare;
#include "items.hpp"

void add_shared_items() { items::add_all(); }
