// How attention for few rows is shared out: what schedules and emitter agree on.
#pragma once

#include "kernelforge/codegen/simt/AttentionFacts.h"

#include "llvm/ADT/bit.h"

namespace kernelforge::simt::split {

/// A schedule.
struct Knobs {
  int64_t chunk = 0;    ///< keys of a workgroup; 0: all of them, and one phase
  int64_t threads = 64; ///< of a workgroup that reads keys
  int64_t unroll = 1;   ///< keys that a thread reads before it needs any
  int64_t heads = 1;    ///< query heads of a workgroup, which share a head of the caches
};

/// What follows from it.
struct Shape {
  AttentionFacts facts;
  Knobs knobs;
  int64_t block = 0;     ///< keys whose scores are kept at once
  int64_t keyPieces = 0; ///< of a thread, of a key
  int64_t keyLanes = 0;  ///< threads that share a key
  int64_t keysAtOnce = 0;
  int64_t valuePieces = 0, valueLanes = 0, valuesAtOnce = 0;
  int64_t pieceOfKey = 0, pieceOfValue = 0; ///< elements
  /// Threads with equal columns whose outputs are summed up in workgroup memory.
  int64_t parts = 0;

  int64_t subgroup() const { return facts.subgroup; }
  /// Workgroups of a row and chunk.
  int64_t groups() const { return facts.heads / knobs.heads; }
  /// f32 in workgroup memory: scores, then partial outputs.
  int64_t poolFloats() const {
    return std::max(knobs.heads * block, parts * knobs.heads * facts.valueDim);
  }
  int64_t sharedBytes() const;
  /// Threads of a workgroup that joins chunks: at least those that have its columns.
  int64_t joiningThreads() const {
    return std::min<int64_t>(256, llvm::bit_floor(uint64_t(facts.threads)));
  }
  /// Whether threads read all keys and values of a block at once, as far as they have registers.
  bool isOneStep() const {
    constexpr int64_t mostLoads = 16;
    return block == keysAtOnce * knobs.unroll && block == valuesAtOnce * knobs.unroll &&
           knobs.unroll * (keyPieces + valuePieces) <= mostLoads;
  }
  /// Vectors of four of a query head that a thread keeps.
  int64_t queryQuads() const { return knobs.heads * keyPieces * pieceOfKey / 4; }
  int64_t outputQuads() const { return knobs.heads * valuePieces * pieceOfValue / 4; }
  /// Vectors of four of a partial result in the workspace: outputs, then highest score and sum.
  int64_t partialQuads() const { return facts.valueDim / 4 + 1; }
};

/// `pieceOfKey`, `pieceOfValue`: elements of a piece of the caches.
Shape shapeOf(const AttentionFacts &facts, const Knobs &knobs, int64_t pieceOfKey,
              int64_t pieceOfValue);

/// The phase that joins the chunks of a query head of a row.
Phase emitJoin(mlir::ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
               llvm::StringRef entry);

/// Code of a kernel with a legal schedule.
Launching emit(mlir::ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
               llvm::StringRef entry);

} // namespace kernelforge::simt::split
