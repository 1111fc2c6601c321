# plastic::compiled: the kernels of kernels/compiled.hpp and the cells of cells/compiled.hpp and
# cells/families.hpp, compiled once for all targets of a project.
#
# They are libraries of the project that includes this file, and take the flags that it has set for
# all: build type, CMAKE_CXX_FLAGS, and add_compile_options before this point. All files of a program
# must have the same -march; a flag of one target alone, as target_compile_options sets it, goes to
# plastic_compiled_float and plastic_compiled_double too. Nothing is built that no target links.
#
# plastic::compiled_float has them in float alone, which halves the work; a target with fast weights in
# double then does not link.
if(TARGET plastic_compiled)
  return()
endif()

add_library(plastic_compiled INTERFACE)
add_library(plastic::compiled ALIAS plastic_compiled)
foreach(scalar float double)
  add_library(plastic_compiled_${scalar} STATIC EXCLUDE_FROM_ALL
              ${plastic_compiled_dir}/kernels_${scalar}.cpp
              ${plastic_compiled_dir}/compiled_${scalar}.cpp
              ${plastic_compiled_dir}/families_${scalar}.cpp)
  add_library(plastic::compiled_${scalar} ALIAS plastic_compiled_${scalar})
  target_link_libraries(plastic_compiled_${scalar} PUBLIC plastic::plastic)
  target_compile_definitions(plastic_compiled_${scalar} PUBLIC PLASTIC_COMPILED)
  # Shared libraries may link it too.
  set_target_properties(plastic_compiled_${scalar} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_link_libraries(plastic_compiled INTERFACE plastic_compiled_${scalar})
endforeach()
