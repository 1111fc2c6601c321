# Installs the library with the include folder given as an absolute and as a relative path, and asks
# pkg-config for it. Needs SOURCE, FOLDER (emptied) and GENERATOR.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output
                  ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGN}: ${output}")
  endif()
endfunction()

foreach(include "${FOLDER}/there/headers" headers share/headers)
  file(REMOVE_RECURSE ${FOLDER})
  run(${CMAKE_COMMAND} -S ${SOURCE} -B ${FOLDER}/build -G ${GENERATOR}
      -DCMAKE_INSTALL_PREFIX=${FOLDER}/there -DCMAKE_INSTALL_INCLUDEDIR=${include}
      -DPLASTIC_BUILD_TESTS=OFF -DPLASTIC_BUILD_BENCHMARKS=OFF -DPLASTIC_BUILD_EXAMPLES=OFF)
  run(${CMAKE_COMMAND} --install ${FOLDER}/build)
  set(ENV{PKG_CONFIG_PATH} ${FOLDER}/there/share/pkgconfig)
  execute_process(COMMAND pkg-config --variable=includedir plastic OUTPUT_VARIABLE found
                  OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT EXISTS ${found}/plastic/plastic.hpp)
    message(FATAL_ERROR "with ${include} pkg-config names ${found}, where the headers are not")
  endif()
endforeach()
