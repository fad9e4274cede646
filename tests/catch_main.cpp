// main() of every test. Catch2 3 brings its own; the single header of 2.13 makes one here, once for all.
#if !__has_include(<catch2/catch_all.hpp>)
#define CATCH_CONFIG_MAIN
#define CATCH_CONFIG_NO_POSIX_SIGNALS  // signals belong to the tests, and crashes to the sanitizers
#endif
#include "catch.hpp"
