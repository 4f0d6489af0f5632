# Precompiled headers, each made once and shared by many targets: without them a source that includes
# MLIR's headers takes 15 s instead of 3 s.

# kf_add_pch(NAME HEADER [ON BASE] [OPTIONS options...] [DEPENDS libraries...]): a header of cmake/pch,
# compiled for targets that call target_precompile_headers(... REUSE_FROM NAME) and have the same
# options. BASE is another one of these options, whose header this one begins with: only the rest is
# compiled.
function(kf_add_pch name header)
  cmake_parse_arguments(PCH "" "ON" "OPTIONS;DEPENDS" ${ARGN})
  add_library(${name} OBJECT ${CMAKE_SOURCE_DIR}/cmake/pch/pch.cpp)
  target_link_libraries(${name} PRIVATE kf_warnings ${PCH_DEPENDS})
  target_compile_options(${name} PRIVATE ${PCH_OPTIONS})
  target_precompile_headers(${name} PRIVATE ${CMAKE_SOURCE_DIR}/cmake/pch/${header})
  if(PCH_ON AND NOT CMAKE_DISABLE_PRECOMPILE_HEADERS)
    get_target_property(aliased ${PCH_ON} ALIASED_TARGET)
    if(aliased)
      set(PCH_ON ${aliased})
    endif()
    get_target_property(dir ${PCH_ON} BINARY_DIR)
    set(base ${dir}/CMakeFiles/${PCH_ON}.dir/cmake_pch.hxx.pch)
    # CMake's own -include-pch, with which pch.cpp is compiled, stands behind it and takes its place.
    target_compile_options(${name} PRIVATE "SHELL:-Xclang -include-pch -Xclang ${base}")
    set_source_files_properties(${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/${name}.dir/cmake_pch.hxx.cxx
                                PROPERTIES OBJECT_DEPENDS ${base})
  endif()
endfunction()
