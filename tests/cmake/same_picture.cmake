# cmake -DPROGRAM=... -DPICTURE=... -DEXAMPLE=NN_name -DOUTPUT=... -P same_picture.cmake
# The program must end with success and draw exactly the picture that the book has.

set(ENV{TIMELINE_SVG} "${OUTPUT}")
file(REMOVE "${OUTPUT}")
execute_process(COMMAND "${PROGRAM}" OUTPUT_QUIET RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} ended with ${result}")
endif()
execute_process(COMMAND "${CMAKE_COMMAND}" -E compare_files "${OUTPUT}" "${PICTURE}" RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  string(SUBSTRING "${EXAMPLE}" 0 2 number)
  message(FATAL_ERROR "${PICTURE} is out of date: make it again with ./examples/run ${number} --picture")
endif()
