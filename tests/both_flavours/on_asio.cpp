#include "unit.ipp"

static_assert(ASIO_VERSION >= 102201);
#if defined(BOOST_ASIO_VERSION)
#error "Boost.Asio came along"
#endif

constinit const unit on_asio = this_unit;
