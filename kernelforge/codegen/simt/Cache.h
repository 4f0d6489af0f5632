// Key and value caches as a thread reads and writes them, of each element type that they may have.
// How a slot lies in memory is in support/CacheSlot.h.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/simt/Elements.h"
#include "kernelforge/ir/Caches.h"

namespace kernelforge::simt {

/// Whether a sink is an append to a cache of q8_0, which is written in blocks, not element by
/// element.
bool isInBlocks(const Sink &sink);

/// Blocks of a slot of such a cache.
int64_t blocksOf(transformer::CacheType type);

/// Reads heads of a cache.
class CacheReader {
public:
  CacheReader(PhaseBuilder &p, mlir::Value buffer, transformer::CacheType type)
      : p(p), buffer(buffer), slot(slotOf(type)) {}

  /// A head of slot `number`. `start` is called `name` in the code: its first element, or where it
  /// is quantized its first byte; its scales begin at byte `scales`.
  struct Head {
    mlir::Value start, scales;
  };
  Head head(mlir::Value number, mlir::Value head, llvm::StringRef name);

  /// Element `d` of a head (f32).
  mlir::Value element(const Head &head, mlir::Value d);

  using Body = llvm::function_ref<mlir::Value(llvm::function_ref<mlir::Value()> element,
                                              mlir::Value d, mlir::Value)>;
  /// Goes through a head; each word of an even head and each scale is read once. `body` gets what
  /// gives an element (f32), where it is wanted, its number, and what is carried under
  /// `carriedName` from one to the next, from `init` on.
  mlir::Value fold(const Head &head, llvm::StringRef carriedName, mlir::Value init, Body body);

private:
  mlir::Value scale(const Head &head, mlir::Value block);

  PhaseBuilder &p;
  mlir::Value buffer;
  CacheSlot slot;
};

/// Writes block `index` of slot `number` of such a cache, quantized as quantizeRow()
/// (support/ElementType.h) does it, from what `element` gives for each column of the row.
void writeCacheBlock(PhaseBuilder &p, mlir::Value buffer, transformer::CacheType type,
                     mlir::Value number, mlir::Value index,
                     llvm::function_ref<mlir::Value(mlir::Value col)> element);

} // namespace kernelforge::simt
