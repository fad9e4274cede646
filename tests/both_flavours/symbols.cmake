# cmake -DNM=... -DON_ASIO=library -DON_BOOST=library -P symbols.cmake
# No symbol of tandem may be in both libraries: of several inline functions of one name the linker keeps any.
cmake_minimum_required(VERSION 3.22)

foreach(library IN ITEMS ON_ASIO ON_BOOST)
  execute_process(COMMAND "${NM}" --extern-only --defined-only "${${library}}"
    OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^ \n]*6tandem[^ \n]*" ${library} "${symbols}")  # a mangled name follows its length
  if(NOT ${library})
    message(FATAL_ERROR "there is no symbol of tandem in the library ${library}")
  endif()
endforeach()

foreach(symbol IN LISTS ON_BOOST)
  if(symbol IN_LIST ON_ASIO)
    message(SEND_ERROR "in both: ${symbol}")
  endif()
endforeach()
