// Sums of a warpgroup's product as values of a thread, and the way of results from there to memory.
#pragma once

#include "kernelforge/codegen/cuda/Pipeline.h"
#include "kernelforge/codegen/cuda/SharedLayout.h"

namespace kernelforge::cuda {

/// The f32 that a thread has of 64 rows of a product: pairs of neighbouring columns, of two rows
/// for every eight columns. Each has a row and a column, so what follows is elementwise code.
class Accumulators {
public:
  Accumulators(simt::PhaseBuilder &p, const Roles &roles, const MatrixShape &shape)
      : p(p), roles(roles), shape(shape) {}

  llvm::SmallVector<mlir::Value> zeros() {
    return llvm::SmallVector<mlir::Value>(size_t(shape.sums()), p.cf(0));
  }

  static constexpr int64_t blockColumns = 8; ///< a thread has a pair of each, in two rows
  int64_t blocks() const { return shape.columns / blockColumns; }
  /// Number of a thread's value: of a block, its upper or lower row, first or second of a pair.
  static int64_t numberOf(int64_t block, int64_t lower, int64_t second) {
    return 4 * block + 2 * lower + second;
  }

  /// Row of the warpgroup's 64 that a thread's values are of, i32.
  mlir::Value row(int64_t lower);
  /// Column of a block's eight that a thread's pair begins at, i32.
  mlir::Value firstColumn();
  /// The same of a thread by number.
  static int64_t rowOf(int64_t thread, int64_t lower) {
    return thread / warp * 16 + thread % warp / 4 + 8 * lower;
  }
  static int64_t firstColumnOf(int64_t thread) { return thread % 4 * 2; }

private:
  simt::PhaseBuilder &p;
  const Roles &roles;
  MatrixShape shape;
};

/// Panels through which a warpgroup's results go to memory: written by all its threads, read by a
/// bulk copy, two in turns; or by its threads, for which one is enough.
class ResultPanels {
public:
  /// `element`: of the results in memory, f32, f16 or bf16. `memory` has so many buffers of each
  /// warpgroup.
  ResultPanels(simt::PhaseBuilder &p, const Roles &roles, mlir::Value memory, ElementType element,
               int64_t buffers = mostBuffers);

  static constexpr int64_t mostBuffers = 2;
  static constexpr Panel panel{MatrixShape::rows};
  static constexpr int64_t bytesOfGroup = mostBuffers * panel.bytes();

  /// Columns of a panel.
  int64_t columns() const { return Panel::rowBytes / elementBytes; }
  static int64_t columnsOf(ElementType element) {
    return Panel::rowBytes / (element == ElementType::F32 ? 4 : 2);
  }
  /// The map of results of that many rows and columns.
  static TensorMap map(ElementType element, Extent rows, int64_t columns);

  using PairOf = llvm::function_ref<std::array<mlir::Value, 2>(int64_t block, int64_t lower)>;
  /// Puts a panel's results together and stores them: panel `number` that a tile has of all its
  /// results, of which some tile has an odd number where `isOdd`. `pairOf` gives the two f32 of a
  /// thread in a block of the panel's; `copy` stores what lies at an address: all threads come
  /// there.
  void store(Accumulators &sums, int64_t number, bool isOdd, PairOf pairOf,
             llvm::function_ref<void(mlir::Value address)> copy);

  /// Whether this thread copies for the warpgroup.
  mlir::Value isLeader;
  /// A barrier of the warpgroup.
  void meet() { assembly.meet(barrier, warpgroup); }

private:
  void putHalves(mlir::Value address, PairOf pairOf);
  void putFloats(Accumulators &sums, mlir::Value address, PairOf pairOf);

  simt::PhaseBuilder &p;
  const Roles &roles;
  Assembly assembly;
  mlir::Value memory, barrier;
  ElementType element;
  int64_t elementBytes, buffers;
};

} // namespace kernelforge::cuda
