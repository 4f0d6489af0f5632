# A room is one folder of kernelforge/ built as one static library: every *.cpp in it.

# kf_add_room(NAME [MLIR] [TEXT] [EXTRA dirs...] [DEPENDS libraries...])
#   MLIR   the room uses MLIR: its headers, the precompiled header, its libraries
#   TEXT   the room has no MLIR, and the precompiled header of text and JSON
#   EXTRA  sub-folders whose sources belong to the room
function(kf_add_room name)
  cmake_parse_arguments(ROOM "MLIR;TEXT" "" "EXTRA;DEPENDS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS *.cpp *.h)
  foreach(dir ${ROOM_EXTRA})
    file(GLOB more CONFIGURE_DEPENDS ${dir}/*.cpp ${dir}/*.h)
    list(APPEND sources ${more})
  endforeach()
  add_library(kf_${name} STATIC ${sources})
  set_target_properties(kf_${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(kf_${name} PUBLIC ${ROOM_DEPENDS} PRIVATE kf_warnings)
  target_include_directories(kf_${name} PUBLIC ${CMAKE_SOURCE_DIR})
  if(ROOM_MLIR)
    target_link_libraries(kf_${name} PUBLIC kf_mlir)
    target_precompile_headers(kf_${name} REUSE_FROM kf_pch_mlir)
  elseif(ROOM_TEXT)
    target_precompile_headers(kf_${name} REUSE_FROM kf_pch_text)
  endif()
endfunction()

# kf_add_unit_test(ROOM [MLIR] [OPTIMISED] [DEPENDS libraries...]): one GoogleTest program of
# every *Test.cpp in tests/unit/ROOM, with the main() of tests/unit/main.
#   OPTIMISED  optimised in a release build, too: what a test shares with the room (the templates
#              of JSON) is linked from the test, and makes the room slow where it is not
function(kf_add_unit_test room)
  cmake_parse_arguments(TEST "MLIR;OPTIMISED" "" "DEPENDS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/unit/${room}/*.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(${room}-test ${sources})
  target_link_libraries(${room}-test PRIVATE kf_${room} ${TEST_DEPENDS} kf_warnings
                        kf_test_main GTest::gtest GTest::gmock)
  target_compile_definitions(${room}-test PRIVATE
    KERNELFORGE_TEST_DATA="${CMAKE_SOURCE_DIR}/tests")
  set(header text)
  if(TEST_MLIR)
    target_link_libraries(${room}-test PRIVATE kf_mlir)
    set(header mlir)
  endif()
  if(NOT TEST_OPTIMISED)
    target_compile_options(${room}-test PRIVATE ${KERNELFORGE_TEST_OPTIONS})
    string(APPEND header _test)
  endif()
  target_precompile_headers(${room}-test REUSE_FROM kf_pch_${header})
  add_test(NAME unit-${room} COMMAND ${room}-test)
endfunction()
