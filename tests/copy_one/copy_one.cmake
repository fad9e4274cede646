# cmake -DHEADER=... -DFROM=... -DTO=... -P copy_one.cmake -- compiler flags...
# Who copies one header takes along only the files that its lines "// needs: a.hpp, detail/b.hpp" name (or "// needs:
# nothing of ours"): these alone must compile.

include("${CMAKE_CURRENT_LIST_DIR}/../cmake/command_line.cmake")
file(STRINGS "${FROM}/${HEADER}" lines REGEX "^// needs: ")
if(NOT lines)
  message(FATAL_ERROR "${HEADER} has no line '// needs: a.hpp, detail/b.hpp' or '// needs: nothing of ours'")
endif()

file(REMOVE_RECURSE "${TO}")
set(files "${HEADER}")
foreach(line IN LISTS lines)
  string(REGEX MATCHALL "[a-z0-9_/]+\\.hpp" needs "${line}")
  list(APPEND files ${needs})
endforeach()
foreach(file IN LISTS files)
  if(NOT EXISTS "${FROM}/${file}")
    message(FATAL_ERROR "${HEADER} says that it needs ${file}, which is not in ${FROM}")
  endif()
  cmake_path(GET file PARENT_PATH folder)
  file(COPY "${FROM}/${file}" DESTINATION "${TO}/tandem/${folder}")
endforeach()

file(WRITE "${TO}/program.cpp" "#include \"tandem/${HEADER}\"\n")
execute_process(COMMAND ${COMPILER_COMMAND} -I "${TO}" -fsyntax-only "${TO}/program.cpp"
  RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "copied alone with ${files}, ${HEADER} does not compile")
endif()
