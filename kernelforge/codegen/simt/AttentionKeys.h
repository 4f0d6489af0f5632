// Which keys a row of an attention sees, and where they lie.
#pragma once

#include "kernelforge/codegen/simt/Builder.h"

#include <limits>
#include <utility>

namespace kernelforge::simt {

/// Not above any score; no infinity, which shader languages do not promise.
constexpr double lowestScore = std::numeric_limits<float>::lowest();

/// The keys of an attention's rows.
class AttentionKeys {
public:
  AttentionKeys(PhaseBuilder &p, transformer::AttentionOp op) : p(p), op(op) {}

  /// Slot of position `key` of a sequence. `begin`: what firstSlot() gave for it, if it was asked.
  mlir::Value slot(mlir::Value sequence, mlir::Value key, mlir::Value begin = {});

  /// Slot of position 0 of a sequence; null where the cache is paged.
  mlir::Value firstSlot(mlir::Value sequence);

  /// The positions that a row sees, as the first one and the one after the last: both 0 or more.
  std::pair<mlir::Value, mlir::Value> range(mlir::Value row, mlir::Value sequence);

  /// The same, of a row that all threads of the block have in common. They take it from one place,
  /// so that it is certain that they go through the keys together; all must come here.
  std::pair<mlir::Value, mlir::Value> sharedRange(mlir::Value row, mlir::Value sequence);

  /// Of a query head, like a score: -inf as the lowest number, as which it is as little.
  mlir::Value sink(mlir::Value head);

private:
  PhaseBuilder &p;
  transformer::AttentionOp op;
};

} // namespace kernelforge::simt
