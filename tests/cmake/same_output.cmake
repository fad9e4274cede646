# cmake -DPROGRAM=... -DEXPECTED=... -DOUTPUT=... -P same_output.cmake
# The program must end with success and print exactly what the file EXPECTED holds.

execute_process(COMMAND "${PROGRAM}" OUTPUT_FILE "${OUTPUT}" RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} ended with ${result}")
endif()
execute_process(COMMAND "${CMAKE_COMMAND}" -E compare_files "${OUTPUT}" "${EXPECTED}" RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  execute_process(COMMAND diff -u "${EXPECTED}" "${OUTPUT}")
  message(FATAL_ERROR "${PROGRAM} did not print what ${EXPECTED} says")
endif()
