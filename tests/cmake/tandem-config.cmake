# The package config: finds the dependencies on the machine of who uses the installed tandem.
include("${CMAKE_CURRENT_LIST_DIR}/tandem-dependencies.cmake")
if(TANDEM_MISSING)
  set(tandem_FOUND FALSE)
  set(tandem_NOT_FOUND_MESSAGE "${TANDEM_MISSING}")
  return()
endif()
include("${CMAKE_CURRENT_LIST_DIR}/tandem-targets.cmake")
