// How attention for few rows by a warp's matrix units is shared out: what schedules and emitter
// agree on.
#pragma once

#include "kernelforge/codegen/cuda/WarpMatrices.h"
#include "kernelforge/codegen/simt/AttentionFacts.h"
#include "kernelforge/support/CacheSlot.h"

namespace kernelforge::cuda::groups {

/// A schedule.
struct Knobs {
  int64_t chunk = 0;    ///< keys of a block; 0: all of them, and one phase
  int64_t warps = 4;    ///< of a block
  int64_t keys = 16;    ///< that a warp takes at once
  int64_t resident = 3; ///< blocks that share a multiprocessor, and its registers
};

/// Keys of a product of the query with keys, and of one of values with weights.
constexpr int64_t tileKeys = WarpMatrices::columns, blockKeys = WarpMatrices::depth;

/// How the numbers of a cache are multiplied.
struct Factors {
  ElementType element = ElementType::BF16; ///< what matrix units take
  int64_t parts = 1;                       ///< that what they are multiplied with is cut into
  /// f16 has few exponents: what is cut into parts of it is scaled so that these are normal.
  bool isScaled() const { return element == ElementType::F16 && parts > 1; }
};

/// What follows from it.
struct GroupsShape {
  simt::AttentionFacts facts;
  Knobs knobs;
  Factors keys, values;
  bool isPaged = false; ///< slots of keys are looked up

  /// Columns of keys that four threads read at once, 16 bytes each, and of values that eight do.
  static constexpr int64_t keyUnit = 32, valueUnit = 64;
  /// Most query heads of a block.
  static constexpr int64_t mostHeads = WarpMatrices::columns;

  int64_t threads() const { return knobs.warps * WarpMatrices::threads; }
  /// Query heads of a block, which share a head of the caches.
  int64_t heads() const;
  /// Blocks of a row and chunk.
  int64_t blocks() const { return facts.heads / heads(); }
  /// Registers of a thread that keys and values of a step take.
  int64_t wordsUnderWay() const { return knobs.keys * (facts.keyBytes + facts.valueBytes) / 128; }
  /// Sums of a thread.
  int64_t outputs() const { return facts.valueDim / 4; }
  /// Registers of a thread, at most.
  int64_t registers() const;
  int64_t sharedBytes() const;
};

/// Code of a kernel with a legal schedule.
Launching emit(mlir::ModuleOp module, const KernelAnalysis &kernel, const GroupsShape &shape,
               llvm::StringRef entry);

} // namespace kernelforge::cuda::groups
