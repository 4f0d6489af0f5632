// Values of all threads of a workgroup, combined.
#pragma once

#include "kernelforge/codegen/simt/Builder.h"

namespace kernelforge::simt {

enum class Combine { Sum, Max };

/// x + y, or the larger one; the other one where one is NaN, and integers without a sign. Vectors
/// lane by lane.
mlir::Value combine(PhaseBuilder &p, Combine how, mlir::Value x, mlir::Value y);

/// Workgroup memory (bytes) that reduceBlock() takes.
int64_t reduceBytes(int64_t values, int64_t blockThreads, int64_t subgroupMin);

/// Every thread's values (all f32 or all i32), each combined, the same in all threads. With one
/// barrier where subgroups have `subgroupMin` threads or more, numbered in order, a power of two;
/// 0: the device has no operations of subgroups, and workgroup memory is all that is used. All
/// threads of the block must come here. `name` is that of the memory: before it is written again,
/// by the same name, there must be a barrier.
llvm::SmallVector<mlir::Value> reduceBlock(PhaseBuilder &p, mlir::ValueRange values, Combine how,
                                           int64_t subgroupMin, llvm::StringRef name);

/// Two or four values (i32) that are the same in all threads, as the language knows them to be: the
/// first thread's, of which barriers may depend. `name` is as of reduceBlock().
llvm::SmallVector<mlir::Value> madeUniform(PhaseBuilder &p, mlir::ValueRange values,
                                           llvm::StringRef name);

} // namespace kernelforge::simt
