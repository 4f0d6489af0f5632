// A phase of a matmul of few rows by the matrix units of a warp. The weights are the left operand:
// a warp has 16 columns of the results and all rows of the block beside them. Warps that share out
// K add up through shared memory, from where what follows the matmul reads.
#pragma once

#include "kernelforge/codegen/cuda/Matmul.h"
#include "kernelforge/codegen/cuda/WarpMatrices.h"
#include "kernelforge/codegen/simt/Strip.h"

namespace kernelforge::cuda::matmul {

class NarrowEmitter {
public:
  virtual ~NarrowEmitter() = default;
  NarrowEmitter(const NarrowEmitter &) = delete;
  NarrowEmitter &operator=(const NarrowEmitter &) = delete;

  Phase emit();

protected:
  using Values = llvm::SmallVector<mlir::Value>;

  /// Emits group `number`; `parts` numbers stand for one of a row.
  NarrowEmitter(mlir::ModuleOp module, const KernelAnalysis &kernel, const simt::rows::Shape &shape,
                size_t number, llvm::StringRef entry, const NarrowKnobs &knobs, int64_t parts);

  /// Weights and rows of a thread, after it knows its place.
  virtual void placeOperands() = 0;
  /// What memory has of a column's next pieces of K, for both columns of each segment.
  virtual Values load(mlir::Value piece, int64_t count) = 0;
  /// Adds the products of what load() gave for these pieces to sums: of each segment and product
  /// tile four, as WarpMatrices has them.
  virtual Values add(mlir::ValueRange loads, mlir::Value piece, int64_t count,
                     mlir::ValueRange sums) = 0;

  /// Columns of a product are rows of the results, or their parts, one behind the other.
  static constexpr int64_t productColumns = WarpMatrices::columns;
  int64_t productsHeld() const { return rowsHeld * parts; }
  int64_t tiles() const { return (productsHeld() + productColumns - 1) / productColumns; }
  int64_t segments() const { return columns.segments; }
  /// Which row of the results, or part of one, a column of products is: number `row * parts +
  /// part`, of rows that are there.
  mlir::Value rowOf(mlir::Value productColumn);

  simt::PhaseBuilder p;
  WarpMatrices units;
  transformer::MatmulOp matmul;
  const SegmentGroup &group;
  const simt::rows::Columns &columns;
  const NarrowKnobs &knobs;
  int64_t parts, rowsHeld;
  int64_t pieces = 0; ///< of K: placeOperands() says it
  mlir::Value total, firstRow;
  // Of this thread: its number in the warp, the part of K, and its first column among the block's;
  // which of the four threads of the column it is; its two columns in the results.
  mlir::Value lane, part, local, quarter;
  std::array<mlir::Value, 2> cols;

private:
  /// Pieces of K that all warps which share it out ask for at once, and how often they do.
  int64_t round() const { return knobs.ks * knobs.u; }
  int64_t rounds() const { return pieces / round(); }
  mlir::Value pieceOf(mlir::Value roundNumber);
  void placeThread(const simt::rows::ColumnPlace &place);
  simt::Strip stripOf(const simt::rows::ColumnPlace &place);
  Values multiply(Values loads);
  Values multiplyRounds(const Values &first, const Values &zeros);
  Values multiplyAhead(Values loads, Values sums);
  void put(const Values &sums, const simt::Strip &strip);

  bool isOneBlock;
};

} // namespace kernelforge::cuda::matmul
