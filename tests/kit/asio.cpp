// The functions of Asio that are not templates, once for all tests: see ASIO_SEPARATE_COMPILATION in ../CMakeLists.txt.
#include <tandem/asio.hpp>

#include TANDEM_ASIO_HEADER(impl/src.hpp)
