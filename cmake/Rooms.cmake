# A room is one folder of kernelforge/ built as one static library: every *.cpp in it.

# kf_add_room(NAME [MLIR] [TEXT] [APART] [PCH name] [EXTRA dirs...] [DEPENDS libraries...])
#   MLIR   the room uses MLIR: its headers, its libraries, and the precompiled header of kernels
#   TEXT   the room has no MLIR, and the precompiled header of text and JSON
#   PCH    another precompiled header than these
#   APART  each file is compiled by itself, in every build: one changed pass or kernel is one file
#   EXTRA  sub-folders whose sources belong to the room
function(kf_add_room name)
  cmake_parse_arguments(ROOM "MLIR;TEXT;APART" "PCH" "EXTRA;DEPENDS" ${ARGN})
  set(sources)
  foreach(dir . ${ROOM_EXTRA})
    file(GLOB more CONFIGURE_DEPENDS ${dir}/*.cpp ${dir}/*.h)
    list(APPEND sources ${more})
    # Those compiled together are of one folder, which has a namespace.
    list(FILTER more INCLUDE REGEX "\\.cpp$")
    set(count 0)
    foreach(source ${more})
      math(EXPR group "${count} / ${CMAKE_UNITY_BUILD_BATCH_SIZE}")
      math(EXPR count "${count} + 1")
      set_source_files_properties(${source} PROPERTIES UNITY_GROUP "${dir}_${group}")
    endforeach()
  endforeach()
  add_library(kf_${name} STATIC ${sources})
  set_target_properties(kf_${name} PROPERTIES LINKER_LANGUAGE CXX UNITY_BUILD_MODE GROUP)
  target_link_libraries(kf_${name} PUBLIC ${ROOM_DEPENDS} PRIVATE kf_warnings)
  target_include_directories(kf_${name} PUBLIC ${CMAKE_SOURCE_DIR})
  if(ROOM_APART)
    set_target_properties(kf_${name} PROPERTIES UNITY_BUILD OFF)
  endif()
  if(ROOM_MLIR)
    target_link_libraries(kf_${name} PUBLIC kf_mlir)
    set(header kernel)
  elseif(ROOM_TEXT)
    set(header text)
  endif()
  if(ROOM_PCH)
    set(header ${ROOM_PCH})
  endif()
  if(header)
    target_precompile_headers(kf_${name} REUSE_FROM kf_pch_${header})
  endif()
endfunction()

# kf_without_missing_targets(LIST): takes the sources of tests off the list that need a target which
# this build has not: whatever includes a header of its folders or names it, whatever includes those
# headers beside it, and the sources of these headers.
function(kf_without_missing_targets list)
  set(pattern)
  foreach(target cpu cuda webgpu)
    string(TOUPPER ${target} upper)
    if(NOT KERNELFORGE_${upper})
      list(APPEND pattern "(codegen|backend)/${target}/" "\"${target}\"")
    endif()
  endforeach()
  # With the headers beside them, each of which stands for the source of its name as well.
  set(kept ${${list}})
  foreach(source ${${list}})
    cmake_path(GET source PARENT_PATH folder)
    file(GLOB headers ${folder}/*.h)
    list(APPEND kept ${headers})
  endforeach()
  list(REMOVE_DUPLICATES kept)
  set(changed ${pattern})
  while(changed)
    set(changed)
    list(REMOVE_DUPLICATES pattern)
    list(JOIN pattern "|" expression)
    foreach(file ${kept})
      file(STRINGS ${file} found REGEX "${expression}")
      if(found)
        cmake_path(GET file STEM LAST_ONLY stem)
        list(FILTER kept EXCLUDE REGEX "/${stem}\\.(h|cpp)$")
        if(NOT stem MATCHES "Test$")
          list(APPEND pattern "[/\"]${stem}\\.h\"")
          set(changed ON)
        endif()
      endif()
    endforeach()
  endwhile()
  list(FILTER kept INCLUDE REGEX "\\.cpp$")
  set(${list} ${kept} PARENT_SCOPE)
endfunction()

# kf_rooms_first(PROGRAM rooms...): of a template or an inline function that several files have, the
# linker takes the first code that it meets. A program whose own files are not optimised gets the
# rooms before them, so that these run as they are shipped.
function(kf_rooms_first program)
  foreach(room ${ARGN} kf_support)
    target_link_options(${program} PRIVATE
      "LINKER:SHELL:--whole-archive $<TARGET_FILE:${room}> --no-whole-archive")
  endforeach()
endfunction()

# kf_make_test(PROGRAM [TEXT] ROOMS rooms...): what all programs of tests have that are compiled:
# the options and the precompiled header of tests, and the code of the rooms named here and of what
# is under them.
#   TEXT  no room among them has MLIR
function(kf_make_test program)
  cmake_parse_arguments(TEST "TEXT" "" "ROOMS" ${ARGN})
  set(header kernel_test)
  if(TEST_TEXT)
    set(header text_test)
  else()
    target_link_libraries(${program} PRIVATE kf_mlir)
  endif()
  target_link_libraries(${program} PRIVATE ${TEST_ROOMS} kf_warnings GTest::gtest GTest::gmock)
  target_compile_options(${program} PRIVATE ${KERNELFORGE_NOT_OPTIMISED})
  target_precompile_headers(${program} REUSE_FROM kf_pch_${header})
  kf_rooms_first(${program} ${TEST_ROOMS})
endfunction()

# kf_add_unit_test(ROOM [TEXT] [DEPENDS rooms...]): one GoogleTest program of every *Test.cpp in
# tests/unit/ROOM, with the main() of tests/unit/main.
function(kf_add_unit_test room)
  cmake_parse_arguments(TEST "TEXT" "" "DEPENDS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/unit/${room}/*.cpp)
  kf_without_missing_targets(sources)
  if(NOT sources)
    return()
  endif()
  add_executable(${room}-test ${sources})
  if(TEST_TEXT)
    set(text TEXT)
  endif()
  kf_make_test(${room}-test ${text} ROOMS kf_${room} ${TEST_DEPENDS})
  target_link_libraries(${room}-test PRIVATE kf_test_main)
  target_compile_definitions(${room}-test PRIVATE
    KERNELFORGE_TEST_DATA="${CMAKE_SOURCE_DIR}/tests")
  add_test(NAME unit-${room} COMMAND ${room}-test)
endfunction()
