// What the tests compile once for all exercises: what runs a check, and the functions of Asio that are not templates.
#define CHECKING_COMPILED_HERE
#include "checking.hpp"

#include <asio/impl/src.hpp>
