// What every CPU emitter writes with: 64-bit integers, raw pointers, vectors of 16 f32. A vector of
// 16 is one register of AVX-512 and two of AVX2, so one emitter serves both.
#pragma once

#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/ir/Transformer.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Builders.h"

namespace kernelforge::cpu {

/// Lanes of all vectors that emitters work with.
constexpr int64_t lanes = 16;

/// Builds the function of one kernel,
///     func @entry(%args: ptr, %sizes: ptr, %phase: i64, %task: i64, %scratch: ptr)
/// whose buffers are the kernel's tensor and cache arguments, then its results, then the workspace.
class KernelBuilder {
public:
  /// Starts the function `entry` at the end of `module`; the insertion point is its body.
  KernelBuilder(mlir::ModuleOp module, transformer::KernelOp kernel, const Target &target,
                llvm::StringRef entry);

  /// Ends the function with a return.
  void finish();

  transformer::KernelOp kernel;
  const Target &target;
  mlir::OpBuilder b;
  mlir::Location loc;
  mlir::func::FuncOp function;
  mlir::Value phase, task, scratch; ///< i64, i64, pointer

  // Types.
  mlir::Type i1, i8, i16, i32, i64, f16, f32, ptr;
  mlir::VectorType vec(mlir::Type element, int64_t n = lanes);
  mlir::VectorType vf32, vi32; ///< vectors of `lanes`

  // Buffers and sizes of the kernel.
  /// Pointer of a tensor or cache argument of the kernel's body.
  mlir::Value argument(mlir::Value bodyArgument);
  /// Pointer of result `i`.
  mlir::Value result(unsigned i);
  /// Pointer of the workspace (after all results).
  mlir::Value workspace();
  /// Memory for `count` f32 of this call of the function.
  mlir::Value onStack(int64_t count);
  /// Value (i64) of the size that the leading dimension of `type` follows, or its constant.
  mlir::Value rows(mlir::Type type);
  /// The same of dimension `index`.
  mlir::Value dimension(mlir::Type type, unsigned index);
  /// Index of that size among the kernel's sizes, or -1 where it is static.
  int rowsIndex(mlir::Type type);

  // Integers (i64 unless said otherwise); small folds keep the IR readable.
  mlir::Value c(int64_t value);
  mlir::Value add(mlir::Value x, mlir::Value y);
  mlir::Value add(mlir::Value x, int64_t y) { return y == 0 ? x : add(x, c(y)); }
  mlir::Value sub(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, int64_t y) { return y == 1 ? x : mul(x, c(y)); }
  mlir::Value div(mlir::Value x, mlir::Value y); ///< unsigned
  mlir::Value div(mlir::Value x, int64_t y);     ///< unsigned
  mlir::Value rem(mlir::Value x, int64_t y);     ///< unsigned
  mlir::Value min(mlir::Value x, mlir::Value y);
  mlir::Value max(mlir::Value x, mlir::Value y);
  mlir::Value ceilDiv(mlir::Value x, int64_t y);
  mlir::Value cmp(mlir::arith::CmpIPredicate predicate, mlir::Value x, mlir::Value y);
  mlir::Value lessThan(mlir::Value x, mlir::Value y) {
    return cmp(mlir::arith::CmpIPredicate::slt, x, y);
  }
  mlir::Value not_(mlir::Value condition);
  mlir::Value select(mlir::Value condition, mlir::Value x, mlir::Value y);
  /// i32 to i64, with sign.
  mlir::Value widen(mlir::Value x);

  // Pointers, loads and stores; alignment in bytes.
  mlir::Value at(mlir::Value pointer, mlir::Value byteOffset);
  mlir::Value at(mlir::Value pointer, int64_t byteOffset);
  mlir::Value load(mlir::Type type, mlir::Value pointer, unsigned alignment = 1);
  void store(mlir::Value value, mlir::Value pointer, unsigned alignment = 1);
  mlir::Value loadF32(mlir::Value pointer) { return load(f32, pointer, 4); }
  mlir::Value loadVec(mlir::Value pointer) { return load(vf32, pointer, 4); }
  /// Masked forms: lanes that are off load 0 and are not stored. A null mask is all lanes.
  mlir::Value loadVec(mlir::Value pointer, mlir::Value mask);
  /// Elements of any type, here and below: `lanes` of them, aligned to their size.
  void storeVec(mlir::Value value, mlir::Value pointer, mlir::Value mask = {});
  mlir::Value loadVec(mlir::Type element, mlir::Value pointer, mlir::Value mask = {});
  /// Asks for the cache line at `pointer`, for reading, to be brought to L2; never faults.
  void prefetch(mlir::Value pointer);
  /// f32 at base + 4 * offsets[lane] (vector of i32), 0 where the mask is off.
  mlir::Value gather(mlir::Value base, mlir::Value offsets, mlir::Value mask = {});
  /// Elements of any type, unaligned, at base + byteOffsets[lane] (vector of i32 or i64).
  mlir::Value gatherBytes(mlir::Type element, mlir::Value base, mlir::Value byteOffsets,
                          mlir::Value mask = {});

  // Floats and vectors.
  mlir::Value cf(double value);              ///< f32
  mlir::Value splat(double value);           ///< vector of f32
  mlir::Value splatI(int64_t value);         ///< vector of i32
  mlir::Value iota();                        ///< vector of i32: 0, 1, ..., 15
  mlir::Value broadcast(mlir::Value scalar); ///< any scalar to a vector of `lanes`
  mlir::Value fma(mlir::Value x, mlir::Value y, mlir::Value z);
  mlir::Value addf(mlir::Value x, mlir::Value y);
  mlir::Value subf(mlir::Value x, mlir::Value y);
  mlir::Value mulf(mlir::Value x, mlir::Value y);
  mlir::Value divf(mlir::Value x, mlir::Value y);
  mlir::Value maxf(mlir::Value x, mlir::Value y); ///< NaN in either gives NaN
  mlir::Value cmpf(mlir::arith::CmpFPredicate predicate, mlir::Value x, mlir::Value y);
  mlir::Value sqrtf(mlir::Value x);
  mlir::Value shuffle(mlir::Value x, mlir::Value y, llvm::ArrayRef<int64_t> indices);
  /// Sum (or maximum) of a vector's lanes, as f32. The order of the sum is a fixed tree.
  mlir::Value reduceAdd(mlir::Value x);
  mlir::Value reduceMax(mlir::Value x);
  /// Mask of the first `count` lanes (i64); all lanes where count >= 16.
  mlir::Value firstLanes(mlir::Value count);
  mlir::Value halfToF32(mlir::Value x);     ///< f16 scalar or vector; F16C
  mlir::Value bfloat16ToF32(mlir::Value x); ///< vector of i16 holding bf16, of any length

  /// Calls one of LLVM's intrinsics; `result` is null where it has none.
  mlir::Value intrinsic(llvm::StringRef name, mlir::Type result, mlir::ValueRange operands);

  // What LLVM's scheduler is to leave alone; both are instructions that do nothing.
  /// Ends what computes `values` (vectors) before anything is loaded for what follows: in long
  /// straight code LLVM otherwise computes so far ahead that registers run out.
  void fence(llvm::ArrayRef<mlir::Value *> values);
  /// The same of vectors of any elements that are one register each.
  void fenceRegisters(llvm::ArrayRef<mlir::Value *> values);
  /// A constant vector to keep in a register, not to read again at each use. AVX-512 only.
  mlir::Value inRegister(mlir::Value constant);

  // Control flow: the bodies get the induction variable and the carried values.
  using LoopBody = llvm::function_ref<void(mlir::Value iv)>;
  using CarryBody =
      llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value iv, mlir::ValueRange carried)>;
  void loop(mlir::Value from, mlir::Value to, int64_t step, LoopBody body);
  llvm::SmallVector<mlir::Value> loop(mlir::Value from, mlir::Value to, int64_t step,
                                      mlir::ValueRange init, CarryBody body);
  void ifThen(mlir::Value condition, llvm::function_ref<void()> then);
  /// One of `count` bodies by the value of `index` (i64, in range).
  void switchOn(mlir::Value index, unsigned count, llvm::function_ref<void(unsigned)> body);

private:
  mlir::Value buffer(unsigned index);

  mlir::Value args, sizes;
  llvm::DenseMap<unsigned, mlir::Value> buffers; ///< pointers, by index
  llvm::DenseMap<int64_t, mlir::Value> constants;
};

} // namespace kernelforge::cpu
