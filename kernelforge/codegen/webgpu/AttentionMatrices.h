// How attention by matrices of a subgroup is laid out: what schedules and emitter agree on.
#pragma once

#include "kernelforge/codegen/simt/AttentionFacts.h"
#include "kernelforge/codegen/simt/MatmulSchedule.h"

namespace kernelforge::webgpu::matrices {

using simt::tiles::matrixSize;

/// Threads of a subgroup.
constexpr int64_t lanes = simt::tiles::matrixThreads;

/// Sizes of a tile. Memory is counted in vectors of 16 bytes.
struct Shape {
  simt::AttentionFacts facts;
  int64_t rowsOfSubgroup = 32; ///< 16 or 32
  int64_t subgroups = 4;       ///< of a workgroup
  int64_t blockKeys = 32;      ///< 16, 32 or 64
  int64_t pieceOfKey = 8, pieceOfValue = 8;
  int64_t subgroup = 0; ///< as of reduceBlock()

  int64_t threads() const { return subgroups * lanes; }
  int64_t rows() const { return subgroups * rowsOfSubgroup; }
  /// Threads that share a row of a subgroup.
  int64_t rowThreads() const { return lanes / rowsOfSubgroup; }
  // Strides are odd, so that rows meet no bank twice.
  int64_t keyStride() const { return facts.keyDim / 8 + 1 - facts.keyDim / 8 % 2; }
  int64_t valueStride() const { return facts.valueDim / 8 + 1 - facts.valueDim / 8 % 2; }
  int64_t stripStride() const { return blockKeys / 4 + 1; }
  int64_t stripVectors() const { return rowsOfSubgroup * stripStride(); }
  /// Keys and values take turns in one place.
  int64_t blockVectors() const { return blockKeys * std::max(keyStride(), valueStride()); }
  int64_t stripsBegin() const { return blockVectors(); }
  /// All rows of the query lie there, too, before the first key.
  int64_t memoryVectors() const {
    return std::max(stripsBegin() + subgroups * stripVectors(), rows() * keyStride());
  }
  int64_t sharedBytes() const;
  /// Vectors of four scores of a thread.
  int64_t scoreQuads() const { return blockKeys / 4 / rowThreads(); }
};

/// Code of a kernel with a legal shape.
Phase emit(mlir::ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
           llvm::StringRef entry);

} // namespace kernelforge::webgpu::matrices
