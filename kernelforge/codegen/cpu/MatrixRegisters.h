// The tile registers of AMX, by fixed numbers: LLVM 19 keeps no tile across a loop.
#pragma once

#include "kernelforge/codegen/cpu/KernelBuilder.h"

namespace kernelforge::cpu {

/// Eight registers of up to 16 rows of 64 bytes: sums of 16 f32, 32 elements of K of a left side's
/// row, or a pair of elements of K for each of 16 columns of a right side.
class MatrixRegisters {
public:
  static constexpr int64_t count = 8, rowBytes = 64, depth = 32;

  explicit MatrixRegisters(KernelBuilder &k) : k(k) {}

  /// Before all else: gives register i rows[i] rows. It takes long: once a task.
  void configure(llvm::ArrayRef<int64_t> rows);
  /// After all else.
  void release() { k.intrinsic("llvm.x86.tilerelease", {}, {}); }

  void zero(int64_t i) { k.intrinsic("llvm.x86.tilezero", {}, {number(i)}); }
  /// Rows lie `stride` bytes apart.
  void load(int64_t i, mlir::Value from, int64_t stride) {
    k.intrinsic("llvm.x86.tileloadd64", {}, {number(i), from, k.c(stride)});
  }
  void store(int64_t i, mlir::Value to, int64_t stride) {
    k.intrinsic("llvm.x86.tilestored64", {}, {number(i), to, k.c(stride)});
  }
  /// sums += left * right, of bf16.
  void multiply(int64_t sums, int64_t left, int64_t right) {
    k.intrinsic("llvm.x86.tdpbf16ps", {}, {number(sums), number(left), number(right)});
  }

private:
  mlir::Value number(int64_t i) {
    return k.b.create<mlir::LLVM::ConstantOp>(k.loc, k.i8, k.b.getI8IntegerAttr(int8_t(i)));
  }

  KernelBuilder &k;
};

} // namespace kernelforge::cpu
