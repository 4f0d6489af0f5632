// Matmul weights as emitters read them: groups of 16 outputs side by side, blocks along K,
// dequantized in registers.
#pragma once

#include "kernelforge/codegen/cpu/KernelBuilder.h"

namespace kernelforge::cpu {

/// Reads one weight of a matmul: `[N, K]` in the interleaved layout, or `[K, N]` row-major where
/// the matmul transposes. A group is 16 consecutive outputs; groups past the last one read the
/// last.
class WeightReader {
public:
  WeightReader(KernelBuilder &k, mlir::Value pointer, mlir::RankedTensorType type, bool transposed);

  /// Elements of K that are read together: a quantized block, or a handful of plain numbers. The
  /// last block of plain numbers may be shorter.
  int64_t blockK() const { return block; }
  int64_t n() const { return outputs; }
  int64_t k() const { return depth; }
  int64_t groups() const { return (outputs + lanes - 1) / lanes; }

  /// True where dotBlock needs the sum of x over each block.
  bool needsBlockSums() const;

  /// True where an unpacked panel would be a copy: a group's values lie as a panel does, K rows of
  /// 16 f32.
  bool isPanel() const;

  /// Where group `g` (i64) begins.
  mlir::Value groupPointer(mlir::Value g);

  /// Adds to accumulators[i], for each of several groups, the products of x[0 .. count - 1] with
  /// the group's elements of block `index` (i64). `x` points to the block's first activation;
  /// `blockSum` is their sum (f32), where it is needed. `groups` are the groups' numbers. The block
  /// that is `prefetch` blocks further on in each group is asked for (0: none).
  void dotBlock(llvm::ArrayRef<mlir::Value> groups, mlir::Value index, int64_t count, mlir::Value x,
                mlir::Value blockSum, llvm::MutableArrayRef<mlir::Value> accumulators,
                int64_t prefetch);

  /// Expands block `index` of group `g`: calls `store` with each element's place in the block and
  /// the 16 outputs' values there.
  void unpackBlock(mlir::Value g, mlir::Value index, int64_t count,
                   llvm::function_ref<void(int64_t, mlir::Value)> store);

  /// Number of whole blocks within K, and the elements of a shorter last one.
  int64_t wholeBlocks() const { return depth / block; }
  int64_t lastBlock() const { return depth % block; }

private:
  /// Calls `visit(place, group, value)` with each element's place in the block and its quants as
  /// f32 minus zero (or, for plain numbers, the values), in the order in which they lie in memory,
  /// for each of the groups in turn: independent sums side by side, and an activation that is
  /// broadcast once is used at once.
  void visitQuants(llvm::ArrayRef<mlir::Value> groups, mlir::Value index, int64_t count,
                   llvm::function_ref<void(int64_t, size_t, mlir::Value)> visit);
  int64_t blockStep() const; ///< bytes from a block of a group to its next
  mlir::Value blockPointer(mlir::Value g, mlir::Value index);
  mlir::Value scale(mlir::Value blockPointer);
  mlir::Value minimum(mlir::Value blockPointer);
  mlir::Value loadDense(mlir::Value pointer, mlir::Value g);
  mlir::Value nibbleToFloat(mlir::Value words, int64_t nibble);
  mlir::Value byteToFloat(mlir::Value words, int64_t byte); ///< signed; the zero is 0

  KernelBuilder &b;
  mlir::Value pointer;
  const ElementTypeInfo &element;
  bool transposed;
  int64_t outputs, depth, block;
  mlir::Value table; ///< the sixteen values of a 4-bit quant, where a permutation looks them up
};

} // namespace kernelforge::cpu
