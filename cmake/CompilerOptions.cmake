# Compiler, linker and ccache settings that every target shares.

set(CMAKE_CXX_FLAGS_RELEASE "-O2")
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g")
set(CMAKE_CXX_FLAGS_SANITIZE
    "-O1 -gline-tables-only -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer")
set(CMAKE_EXE_LINKER_FLAGS_SANITIZE "-fsanitize=address,undefined")
set(CMAKE_SHARED_LINKER_FLAGS_SANITIZE "-fsanitize=address,undefined")

# Of tests, and of the command line, which parses and prints: most of their compilation would be
# optimising templates of GoogleTest, CLI11 and JSON, for nothing.
if(CMAKE_BUILD_TYPE MATCHES "^(Release|Sanitize)$")
  set(KERNELFORGE_NOT_OPTIMISED -O0)
endif()

# Six files of a target at once, where CMAKE_UNITY_BUILD asks for it: at its first template a file
# reads all specialisations that a precompiled header holds, half a second with MLIR's.
set(CMAKE_UNITY_BUILD_BATCH_SIZE 6)

# One kind of position independence everywhere: programs and libraries share precompiled headers.
add_compile_options(-fPIC)
add_link_options(-fuse-ld=lld)

# The object cache asks by this id whether the code generator is still the same.
add_link_options(-Wl,--build-id=sha1)

# -fno-pch-timestamp and the sloppiness make precompiled headers cacheable.
find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE})
endif()
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:SHELL:-Xclang -fno-pch-timestamp>")

# The warnings of our own code; headers of libraries are SYSTEM includes.
add_library(kf_warnings INTERFACE)
target_compile_options(kf_warnings INTERFACE
  -Wall -Wextra -Werror -Wno-unused-parameter)
target_include_directories(kf_warnings INTERFACE ${CMAKE_SOURCE_DIR})
target_include_directories(kf_warnings SYSTEM INTERFACE ${CMAKE_BINARY_DIR})
