# What tandem::tandem needs, as the targets tandem::asio, tandem::boost and Threads::Threads. Used by the project's
# CMakeLists.txt and, once installed, by its package config. Sets TANDEM_MISSING to a sentence when Asio is missing;
# Boost may be missing, since only some headers need it.

set(TANDEM_MISSING "")
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

# Sets TANDEM_<name>_INCLUDE_DIR to where `header` is, if `macro` in `version_header` is at least `floor`, and makes
# the target tandem::<name in lower case>, which carries that directory as a system directory.
function(tandem_find_headers name header version_header macro floor fetch_url fetch_include)
  find_path(TANDEM_${name}_INCLUDE_DIR ${header} DOC "Directory of ${header}")
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

  string(TOLOWER "tandem::${name}" target)
  if(NOT TARGET ${target})
    add_library(${target} INTERFACE IMPORTED GLOBAL)
    if(dir)
      target_include_directories(${target} INTERFACE "${dir}")
    endif()
  endif()
  set(TANDEM_${name}_INCLUDE_DIR "${dir}" PARENT_SCOPE)
endfunction()

tandem_find_headers(ASIO asio/version.hpp asio/version.hpp ASIO_VERSION 102200
  https://github.com/chriskohlhoff/asio/archive/refs/tags/asio-1-36-0.tar.gz asio/include)
if(NOT TANDEM_ASIO_INCLUDE_DIR)
  string(CONCAT TANDEM_MISSING "tandem needs the headers of standalone Asio, 1.22 or later. "
    "Debian and Ubuntu: libasio-dev. Fedora: asio-devel. Arch and Homebrew: asio.")
endif()

tandem_find_headers(BOOST boost/pfr.hpp boost/version.hpp BOOST_VERSION 108100
  https://github.com/boostorg/pfr/archive/refs/tags/boost-1.88.0.tar.gz include)
if(NOT TANDEM_BOOST_INCLUDE_DIR)
  message(STATUS "tandem: without the headers of Boost 1.81 or later (Boost.PFR), tandem/reflect.hpp cannot be used. "
    "Debian 12: libboost1.81-dev. Debian 13 and Ubuntu 24.04: libboost-dev. Fedora: boost-devel. "
    "Arch and Homebrew: boost.")
endif()
