# cmake -DPROGRAM=... -DEXPECTED=... -DOUTPUT=... [-DDRAWS=...] -P same_output.cmake
# The program must end with success and print exactly what the file EXPECTED holds, and write exactly the file DRAWS, if
# there is one, whose name it is given.

set(drawn)
if(DRAWS)
  set(drawn "${OUTPUT}.svg")
  file(REMOVE "${drawn}")
endif()
execute_process(COMMAND "${PROGRAM}" ${drawn} OUTPUT_FILE "${OUTPUT}" RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} ended with ${result}")
endif()
execute_process(COMMAND "${CMAKE_COMMAND}" -E compare_files "${OUTPUT}" "${EXPECTED}" RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  execute_process(COMMAND diff -u "${EXPECTED}" "${OUTPUT}")
  message(FATAL_ERROR "${PROGRAM} did not print what ${EXPECTED} says")
endif()
if(DRAWS)
  execute_process(COMMAND "${CMAKE_COMMAND}" -E compare_files "${drawn}" "${DRAWS}" RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${DRAWS} is out of date: make it again with ${PROGRAM} ${DRAWS}")
  endif()
endif()
