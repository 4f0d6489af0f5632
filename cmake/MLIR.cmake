# LLVM and MLIR from the distribution: only the two shared libraries are linked.

find_package(MLIR 19.1 REQUIRED CONFIG HINTS /usr/lib/llvm-19/lib/cmake/mlir)
list(APPEND CMAKE_MODULE_PATH ${MLIR_CMAKE_DIR} ${LLVM_CMAKE_DIR})
include(TableGen)
include(AddLLVM)
include(AddMLIR)

add_library(kf_mlir INTERFACE)
target_include_directories(kf_mlir SYSTEM INTERFACE ${LLVM_INCLUDE_DIRS} ${MLIR_INCLUDE_DIRS})
separate_arguments(LLVM_DEFINITIONS_LIST NATIVE_COMMAND "${LLVM_DEFINITIONS}")
target_compile_definitions(kf_mlir INTERFACE ${LLVM_DEFINITIONS_LIST})
target_link_libraries(kf_mlir INTERFACE MLIR LLVM)

kf_add_pch(kf_pch_mlir mlir.h DEPENDS kf_mlir)
