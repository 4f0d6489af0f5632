// Numbers in memory, of any plain type: f32, f16 or bf16. Code computes in f32: what is loaded is
// widened exactly, what is stored is rounded to nearest even.
#pragma once

#include "kernelforge/codegen/cpu/KernelBuilder.h"

namespace kernelforge::cpu {

/// Bits of f16 or bf16 (vector of i16, of any length) as f32.
mlir::Value widened(KernelBuilder &k, ElementType type, mlir::Value bits);

/// A vector of f32, of any length, after it was stored as numbers of a plain type and loaded again.
mlir::Value roundTo(KernelBuilder &k, ElementType type, mlir::Value x);

/// A vector of 16 f32 rounded to bf16, as bits (i16), by AVX512-BF16, which takes what is below the
/// normal numbers for 0.
mlir::Value bfloat16Bits(KernelBuilder &k, mlir::Value x);

/// Numbers of one plain type that follow each other in memory, from an address on.
class Numbers {
public:
  Numbers(KernelBuilder &k, ElementType type, mlir::Value begin)
      : k(&k), type(type), begin(begin) {}
  /// What an argument of the kernel's body holds, or its result `i`, which is of type `resultType`.
  static Numbers ofArgument(KernelBuilder &k, mlir::Value argument);
  static Numbers ofResult(KernelBuilder &k, unsigned i, mlir::Type resultType);

  /// Those from number `index` (i64) on.
  Numbers from(mlir::Value index) const;
  Numbers from(int64_t index) const { return from(k->c(index)); }
  /// Those from row `row` (i64) of `width` numbers on.
  Numbers row(mlir::Value row, int64_t width) const;

  /// The first sixteen; lanes that `mask` turns off (null: none) are 0.
  mlir::Value load(mlir::Value mask = {}) const;
  /// The first `count`.
  mlir::Value loadFirst(int64_t count) const;
  /// Sixteen, those `offsets` (vector of i32) numbers on.
  mlir::Value gather(mlir::Value offsets, mlir::Value mask = {}) const;
  /// Stores sixteen f32 over the first; lanes that `mask` turns off are left as they are.
  void store(mlir::Value x, mlir::Value mask = {}) const;

private:
  KernelBuilder *k;
  ElementType type;
  mlir::Value begin;
};

} // namespace kernelforge::cpu
