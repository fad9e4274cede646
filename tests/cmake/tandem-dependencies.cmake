# What tandem stands on, as the targets tandem::asio_headers, tandem::boost_headers and Threads::Threads. Used by the
# project's CMakeLists.txt and, once installed, by its package config. Sets
#   TANDEM_HAS_ASIO   true if standalone Asio is there, which tandem::tandem needs
#   TANDEM_HAS_BOOST  true if Boost.Asio is there, which tandem::boost needs
#   TANDEM_MISSING    a sentence if neither is there
# The other headers of Boost may be missing, since only some headers of tandem need them.

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

# Sets TANDEM_<name>_INCLUDE_DIR to where `version_header` is, if `macro` in it is at least `floor`, and makes the
# target tandem::<name in lower case>_headers, which carries that directory as a system directory.
function(tandem_find_headers name version_header macro floor fetch_url fetch_include)
  find_path(TANDEM_${name}_INCLUDE_DIR ${version_header} DOC "Directory of ${version_header}")
  set(dir "${TANDEM_${name}_INCLUDE_DIR}")
  if(dir)
    file(STRINGS "${dir}/${version_header}" line REGEX "^#define ${macro} [0-9]+")
    string(REGEX MATCH "[0-9]+" version "${line}")
    if(NOT version GREATER_EQUAL floor)
      message(STATUS "tandem: ${dir}/${version_header} is too old: ${macro} is ${version}, at least ${floor} is needed")
      unset(TANDEM_${name}_INCLUDE_DIR CACHE)
      set(dir "")
    endif()
  endif()
  if(NOT dir AND TANDEM_FETCH_DEPS)
    include(FetchContent)
    string(TOLOWER "tandem_fetched_${name}" fetched)
    # The subdirectory has no CMakeLists.txt: the files are wanted, not the targets of that project.
    FetchContent_Declare(${fetched} URL "${fetch_url}" SOURCE_SUBDIR ${fetch_include})
    FetchContent_MakeAvailable(${fetched})
    set(dir "${${fetched}_SOURCE_DIR}/${fetch_include}")
  endif()

  string(TOLOWER "tandem::${name}_headers" target)
  if(NOT TARGET ${target})
    add_library(${target} INTERFACE IMPORTED GLOBAL)
    if(dir)
      target_include_directories(${target} INTERFACE "${dir}")
    endif()
  endif()
  set(TANDEM_${name}_INCLUDE_DIR "${dir}" PARENT_SCOPE)
endfunction()

tandem_find_headers(ASIO asio/version.hpp ASIO_VERSION 102201
  https://github.com/chriskohlhoff/asio/archive/refs/tags/asio-1-36-0.tar.gz asio/include)
# Of Boost only Boost.PFR is downloaded: it stands alone, while Boost.Asio would take many other libraries along.
tandem_find_headers(BOOST boost/version.hpp BOOST_VERSION 108100
  https://github.com/boostorg/pfr/archive/refs/tags/boost-1.88.0.tar.gz include)

set(TANDEM_HAS_ASIO FALSE)
set(TANDEM_HAS_BOOST FALSE)
if(TANDEM_ASIO_INCLUDE_DIR)
  set(TANDEM_HAS_ASIO TRUE)
endif()
if(TANDEM_BOOST_INCLUDE_DIR AND EXISTS "${TANDEM_BOOST_INCLUDE_DIR}/boost/asio/version.hpp")
  set(TANDEM_HAS_BOOST TRUE)
endif()

string(CONCAT tandem_needs_asio "tandem::tandem needs the headers of standalone Asio, 1.22.1 or later. "
  "Debian and Ubuntu: libasio-dev. Fedora: asio-devel. Arch and Homebrew: asio.")
string(CONCAT tandem_needs_boost "tandem::boost needs the headers of Boost, 1.81 or later, with Boost.Asio. "
  "Debian 12: libboost1.81-dev. Debian 13 and Ubuntu 24.04: libboost-dev. Fedora: boost-devel. "
  "Arch and Homebrew: boost.")
set(TANDEM_MISSING "")
if(NOT TANDEM_HAS_ASIO AND NOT TANDEM_HAS_BOOST)
  set(TANDEM_MISSING "tandem needs standalone Asio or Boost.Asio. ${tandem_needs_asio} ${tandem_needs_boost}")
elseif(NOT tandem_FIND_QUIETLY)
  if(NOT TANDEM_HAS_ASIO)
    message(STATUS "tandem: tandem::tandem is not available, only tandem::boost. ${tandem_needs_asio}")
  elseif(NOT TANDEM_HAS_BOOST AND TANDEM_FETCH_DEPS)
    message(STATUS "tandem: tandem::boost is not available, only tandem::tandem. TANDEM_FETCH_DEPS does not download "
      "Boost.Asio. ${tandem_needs_boost}")
  elseif(NOT TANDEM_HAS_BOOST)
    message(STATUS "tandem: tandem::boost is not available, only tandem::tandem. ${tandem_needs_boost}")
  endif()
  if(NOT EXISTS "${TANDEM_BOOST_INCLUDE_DIR}/boost/pfr.hpp")
    message(STATUS "tandem: without Boost.PFR, which is among the headers of Boost, tandem/reflect.hpp cannot be used.")
  endif()
endif()
