// Makes modules of the transformer dialect from plain descriptions: a whole decoder, or a block.
#pragma once

#include "kernelforge/ir/ModelDescription.h"
#include "kernelforge/support/ElementType.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <functional>
#include <string>
#include <vector>

namespace kernelforge {

/// One function of a module: the same decoder for a range of sizes. One schedule cannot suit one
/// row and five hundred, so prefill and decode are functions of their own over the same weights and
/// caches.
struct FunctionRange {
  std::string name;      ///< "prefill", "decode", ...
  int64_t minTokens = 1; ///< rows of one call
  int64_t maxTokens = 1;
  int64_t maxOutputs = 1;   ///< rows whose logits are wanted
  int64_t maxSequences = 1; ///< sequences that the rows may belong to
  /// A step of decoding that ends where the next one begins: each row chooses its token. The
  /// description must have a vocabulary.
  bool step = false;
  int64_t recentWindow = 0; ///< of a step: ids that the repetition penalty knows; 0: none
};

/// How keys and values lie in memory.
struct CacheDescription {
  ElementType type = ElementType::F32; ///< f32, f16, bf16 or q8_0 (heads of multiples of 32)
  /// Positions of a page, a power of two; 0: those of a sequence lie one after the other.
  int64_t page = 0;
};

/// Element type of the weight of that name ("blk.0.attn_q.weight").
using WeightTypeFn = std::function<ElementType(llvm::StringRef)>;

/// Builds one function per range. Arguments, in order: the sizes `tokens`, `outputs` (with a
/// vocabulary), `sequences`, `context` (with RoPE), `cached` (a bound of every length, up to the
/// description's context); the inputs `ids` (or `x`, where the model has no vocabulary),
/// `positions`, `slots`, `sequences`, `table`, `lengths`, `outputs`, `rope` (and `rope.1`, ..., as
/// the description has tables); each layer's caches `cache.N.k` and `cache.N.v`; the weights by
/// name, as weightSlots() lists them. Each carries its name as an attribute, and each operation its
/// role and layer. The result is the logits of the wanted rows, or the rows of the last layer.
///
/// A step has no `outputs`, and before `rope` the inputs `settings`, `draws`, `limits` and, with a
/// window, `recent` (as `sample` and `advance` take them). Its results are what the next step's
/// inputs `ids`, `positions`, `slots`, `lengths` and `recent` are to be: no host stands between
/// them. Last come the logits that the tokens were chosen from. The row of a sequence that has
/// ended has slot -1; its id means nothing from there on.
///
/// In a paged cache `table` is [sequences, pages]: pages enough for the description's context.
///
/// The description must be consistent (heads divisible by kvHeads, sizes positive); loaders and the
/// command line check that.
mlir::OwningOpRef<mlir::ModuleOp> buildDecoder(mlir::MLIRContext *context,
                                               const ModelDescription &description,
                                               llvm::ArrayRef<FunctionRange> ranges,
                                               const WeightTypeFn &weightType,
                                               const CacheDescription &cache = {});

/// Builds `@matmul(%x, %w) -> y` for one product of M up to `maxRows` rows, the unit that
/// benchmarks and tests use: x is f32 [rows, k], w [n, k] of type `weights` (or [k, n] with
/// `transpose`).
mlir::OwningOpRef<mlir::ModuleOp> buildMatmul(mlir::MLIRContext *context, int64_t minRows,
                                              int64_t maxRows, int64_t n, int64_t k,
                                              ElementType weights, bool transpose = false);

} // namespace kernelforge
