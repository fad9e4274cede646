# The package config: finds the dependencies on the machine of who uses the installed tandem, and makes the targets that
# can be used with them: tandem::tandem, tandem::boost, or both.
include("${CMAKE_CURRENT_LIST_DIR}/tandem-dependencies.cmake")
if(TANDEM_MISSING)
  set(tandem_FOUND FALSE)
  set(tandem_NOT_FOUND_MESSAGE "${TANDEM_MISSING}")
  return()
endif()
if(TANDEM_HAS_ASIO)
  include("${CMAKE_CURRENT_LIST_DIR}/tandem-targets.cmake")
endif()
if(TANDEM_HAS_BOOST)
  include("${CMAKE_CURRENT_LIST_DIR}/tandem-boost-targets.cmake")
endif()
