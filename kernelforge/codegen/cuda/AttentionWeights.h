// The weights of keys as a warpgroup has them: an online softmax over the sums of a product, in
// registers.
#pragma once

#include "kernelforge/codegen/cuda/Attention.h"

namespace kernelforge::cuda::attention {

/// What a thread has of its two rows between blocks of keys: the highest score of all four threads
/// of a row, and the sum of its own weights.
struct RunningRows {
  std::array<mlir::Value, 2> highest, sum;
};

/// Turns scores into weights. Scores stay as products give them; weights are powers of two of the
/// difference to the highest one, times a factor.
class Weights {
public:
  Weights(simt::PhaseBuilder &p, transformer::AttentionOp op, const Roles &roles);

  /// Why scores cannot be scaled so: the attention's scale is none, or too large or small. Empty
  /// where they can.
  static std::string obstacle(transformer::AttentionOp op);

  /// Before the first key of a query head; a sink is what was seen before.
  RunningRows start(mlir::Value head);

  /// Scores as they are masked: bounded by the soft cap, where there is one.
  llvm::SmallVector<mlir::Value> bounded(mlir::ValueRange products);
  /// A score (f32) that weighs nothing.
  mlir::Value unseen();

  struct Step {
    llvm::SmallVector<mlir::Value> weights; ///< f32, where the scores were
    RunningRows next;
    std::array<mlir::Value, 2> fade; ///< what was summed up before is multiplied by
    mlir::Value fades;               ///< i1: whether by anything but 1
  };
  Step step(mlir::ValueRange scores, const RunningRows &before);

  /// What outputs are multiplied by at the end: 0 where a row saw nothing.
  std::array<mlir::Value, 2> factors(const RunningRows &last);

private:
  mlir::Value acrossRow(mlir::Value value,
                        llvm::function_ref<mlir::Value(mlir::Value, mlir::Value)> combine);

  simt::PhaseBuilder &p;
  Assembly assembly;
  transformer::AttentionOp op;
  const Roles &roles;
  double softcap, scale;
  double factor; ///< times a bounded score: a power of two
};

} // namespace kernelforge::cuda::attention
