# cmake -DSOURCE=... -P compile_fail.cmake -- compiler flags...
# The compiler must refuse SOURCE and say each text of its lines "// expect: text". That it accepts SOURCE with -DFIXED,
# so that the one mistake is what it refused, is what the test compile_fail_fixed proves of all of them.

include("${CMAKE_CURRENT_LIST_DIR}/command_line.cmake")
set(ENV{LC_ALL} C)  # plain quotation marks in messages
file(STRINGS "${SOURCE}" expected REGEX "^// expect: ")
if(NOT expected)
  message(FATAL_ERROR "${SOURCE} has no line '// expect: what the compiler must say'")
endif()

execute_process(COMMAND ${COMPILER_COMMAND} -fsyntax-only "${SOURCE}" RESULT_VARIABLE result ERROR_VARIABLE said)
if(result EQUAL 0)
  message(FATAL_ERROR "it compiled, but must be refused")
endif()
foreach(line IN LISTS expected)
  string(REGEX REPLACE "^// expect: " "" text "${line}")
  string(FIND "${said}" "${text}" position)
  if(position EQUAL -1)
    message(FATAL_ERROR "it was refused without the words\n  ${text}\nbut with\n${said}")
  endif()
endforeach()
