// What every emitter of plain SIMT code writes with: scalars of one thread, 32-bit integers, flat
// buffers, workgroup memory. One function is one phase.
#pragma once

#include "kernelforge/codegen/Launching.h"
#include "kernelforge/ir/Transformer.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Builders.h"

#include <map>

namespace kernelforge::simt {

/// Threads of a workgroup, where an emitter has no reason for another number.
constexpr int64_t threads = 64;

/// On a load from workgroup memory: all threads load the same, and what depends on it is uniform.
constexpr llvm::StringLiteral uniformAttrName = "uniform";

/// Builds the function of one phase of a kernel. Its parameters are the buffers that it uses, in
/// the order of the kernel's arguments and results, then the sizes that it uses (i32). A buffer is
/// a flat memref: of f32 where it holds f32, of i16 where elements narrower than a word are written
/// to it (f16, bf16, q8_0), of i32 for all else. `gpu.block_id x` is the block's number within the
/// grid. Values carry readable names as name locations.
class PhaseBuilder {
public:
  /// Starts the function `entry` at the end of `module`; the insertion point is its body. A block
  /// has `blockThreads` threads, a power of two.
  PhaseBuilder(mlir::ModuleOp module, transformer::KernelOp kernel, llvm::StringRef entry,
               int64_t blockThreads = threads);

  /// Ends the function with a return and says how it is launched: `grid` blocks.
  Phase finish(Extent grid);

  transformer::KernelOp kernel;
  mlir::OpBuilder b;
  mlir::Location loc;
  mlir::Type i1, i32, f32;

  // Buffers and sizes of the kernel.
  /// Buffer of a tensor or cache argument of the kernel's body.
  mlir::Value argument(mlir::Value bodyArgument, Access access = Access::Read);
  /// Buffer of result `i`, which is written; read where a phase before this one wrote it.
  mlir::Value result(unsigned i, Access access = Access::Write);
  /// Dimension `index` of `type` (i32): a constant, or the size that it follows.
  mlir::Value dimension(mlir::Type type, unsigned index);
  mlir::Value rows(mlir::Type type) { return dimension(type, 0); }
  /// ceil(rows / divisor) for a grid.
  Extent rowsExtent(mlir::Type type, int64_t divisor = 1);
  /// Workgroup memory of `count` elements, named after the phase and `name`.
  mlir::Value shared(llvm::StringRef name, mlir::Type element, int64_t count);

  mlir::Value block();  ///< i32: number of the workgroup
  mlir::Value thread(); ///< i32: number of the thread in it
  void barrier();

  /// The value, with a name for people; constants and values that have one keep what they have.
  mlir::Value named(mlir::Value value, llvm::StringRef name);

  // Unsigned 32-bit integers; small folds keep the code readable.
  mlir::Value c(int64_t value);
  mlir::Value add(mlir::Value x, mlir::Value y);
  mlir::Value add(mlir::Value x, int64_t y) { return add(x, c(y)); }
  mlir::Value sub(mlir::Value x, mlir::Value y);
  mlir::Value sub(mlir::Value x, int64_t y) { return sub(x, c(y)); }
  mlir::Value mul(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, int64_t y) { return mul(x, c(y)); }
  mlir::Value div(mlir::Value x, int64_t y);
  mlir::Value rem(mlir::Value x, int64_t y);
  mlir::Value andBits(mlir::Value x, int64_t mask);
  mlir::Value orBits(mlir::Value x, mlir::Value y);
  mlir::Value xorBits(mlir::Value x, mlir::Value y);
  mlir::Value shl(mlir::Value x, mlir::Value y);
  mlir::Value shl(mlir::Value x, int64_t y) { return shl(x, c(y)); }
  mlir::Value shr(mlir::Value x, mlir::Value y);
  mlir::Value shr(mlir::Value x, int64_t y) { return shr(x, c(y)); }
  mlir::Value shrSigned(mlir::Value x, int64_t y);
  mlir::Value min(mlir::Value x, mlir::Value y);
  mlir::Value max(mlir::Value x, mlir::Value y);
  mlir::Value minSigned(mlir::Value x, mlir::Value y);
  mlir::Value maxSigned(mlir::Value x, mlir::Value y);
  mlir::Value cmp(mlir::arith::CmpIPredicate predicate, mlir::Value x, mlir::Value y);
  mlir::Value lessThan(mlir::Value x, mlir::Value y) {
    return cmp(mlir::arith::CmpIPredicate::ult, x, y);
  }
  mlir::Value select(mlir::Value condition, mlir::Value x, mlir::Value y);

  // Floats.
  mlir::Value cf(double value);
  mlir::Value addf(mlir::Value x, mlir::Value y);
  mlir::Value subf(mlir::Value x, mlir::Value y);
  mlir::Value mulf(mlir::Value x, mlir::Value y);
  mlir::Value divf(mlir::Value x, mlir::Value y);
  mlir::Value negf(mlir::Value x);
  mlir::Value absf(mlir::Value x);
  mlir::Value maxf(mlir::Value x, mlir::Value y); ///< the other one where one is NaN
  mlir::Value minf(mlir::Value x, mlir::Value y); ///< the other one where one is NaN
  mlir::Value cmpf(mlir::arith::CmpFPredicate predicate, mlir::Value x, mlir::Value y);
  mlir::Value exp(mlir::Value x);
  mlir::Value sqrt(mlir::Value x);
  mlir::Value toFloat(mlir::Value x);       ///< of an unsigned integer
  mlir::Value signedToFloat(mlir::Value x); ///< of a signed one
  mlir::Value toInteger(mlir::Value x);     ///< rounded down, of a float from 0 on, below 2^31
  mlir::Value bitsToFloat(mlir::Value bits);
  mlir::Value floatToBits(mlir::Value x);
  /// The f16 in the low half of a word.
  mlir::Value halfToFloat(mlir::Value word);
  /// Rounded to the nearest f16, ties to even, in the low half of a word with nothing above it.
  mlir::Value floatToHalf(mlir::Value x);

  mlir::Value load(mlir::Value buffer, mlir::Value index);
  /// From workgroup memory, the same for all threads of the block: what follows is uniform.
  mlir::Value loadUniform(mlir::Value buffer, int64_t index);
  void store(mlir::Value value, mlir::Value buffer, mlir::Value index);

  // Control flow: the bodies get the induction variable and the carried values. Bounds are below
  // 2^31.
  using LoopBody = llvm::function_ref<void(mlir::Value iv)>;
  using CarryBody =
      llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value iv, mlir::ValueRange carried)>;
  void loop(llvm::StringRef name, mlir::Value from, mlir::Value to, int64_t step, LoopBody body);
  /// `carriedNames` names what is carried, with spaces between; what is more than that takes the
  /// last one with a number ("sum": sum0, sum1).
  llvm::SmallVector<mlir::Value> loop(llvm::StringRef name, mlir::Value from, mlir::Value to,
                                      int64_t step, llvm::StringRef carriedNames,
                                      mlir::ValueRange init, CarryBody body);
  void ifThen(mlir::Value condition, llvm::function_ref<void()> then);
  /// One value of two (f32 where no type is given), of which only one is computed.
  mlir::Value ifElse(llvm::StringRef name, mlir::Value condition,
                     llvm::function_ref<mlir::Value()> then,
                     llvm::function_ref<mlir::Value()> otherwise, mlir::Type type = {});

  /// Every thread's `value` (f32 or i32) combined by `combine`, the same in all threads, in a fixed
  /// order. All threads of the block must come here.
  mlir::Value reduce(mlir::Value value,
                     llvm::function_ref<mlir::Value(mlir::Value, mlir::Value)> combine);

private:
  void dropUnused();
  mlir::Value parameter(Parameter::Kind kind, int index, Access access, mlir::Type type,
                        llvm::StringRef name);
  mlir::Value buffer(int index, mlir::Type tensor, Access access, llvm::StringRef name);
  mlir::Value size(int index);
  int sizeIndex(llvm::StringRef name);
  mlir::Location nameLocation(llvm::StringRef name);
  template <typename Op> mlir::Value make(mlir::Value x, mlir::Value y) {
    return b.create<Op>(loc, x, y);
  }

  mlir::ModuleOp module;
  mlir::func::FuncOp function;
  Phase phase;
  int64_t sharedBytes = 0;
  std::map<std::string, mlir::Value> sharedMemory;
  mlir::Value blockId, threadId;
  llvm::DenseMap<int64_t, mlir::Value> constants;
  std::map<double, mlir::Value> floatConstants;
};

/// What a kernel's argument is for: "weight", "positions"; for readable code.
std::string roleOf(transformer::KernelOp kernel, unsigned argument);

} // namespace kernelforge::simt
