#include "unit.ipp"

static_assert(BOOST_ASIO_VERSION >= 102600);
#if defined(ASIO_VERSION)
#error "standalone Asio came along"
#endif

constinit const unit on_boost = this_unit;
