// What the programs beside this include, compiled beforehand: parsing it each time took most of their time.
#include <tandem/measure.hpp>
#include <tandem/reflect.hpp>
#include <tandem/resolve.hpp>
#include <tandem/tandem.hpp>
