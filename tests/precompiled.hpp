// What most tests include and no test is about, compiled once for all of them: Catch2 and Asio. Nothing of tandem but
// the choice of Asio: that a header needs no other before it is shown by copy_one.
#pragma once

#include <tandem/asio.hpp>

#include TANDEM_ASIO_HEADER(any_io_executor.hpp)
#include TANDEM_ASIO_HEADER(cancellation_signal.hpp)
#include TANDEM_ASIO_HEADER(io_context.hpp)
#include TANDEM_ASIO_HEADER(post.hpp)
#include TANDEM_ASIO_HEADER(signal_set.hpp)
#include TANDEM_ASIO_HEADER(steady_timer.hpp)
#include TANDEM_ASIO_HEADER(strand.hpp)
#include TANDEM_ASIO_HEADER(system_executor.hpp)
#include TANDEM_ASIO_HEADER(thread_pool.hpp)

#include "catch.hpp"

#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>
#include <source_location>  // of which clang forgets something: see detail/frame.hpp
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>
