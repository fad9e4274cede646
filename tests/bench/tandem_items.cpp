// The shared items on tandem; a translation unit of its own, so that what else a program measures does not change
// how they are compiled.
#include <tandem/tandem.hpp>

namespace lib = tandem;
#include "items.hpp"

void add_shared_items() { items::add_all(); }
