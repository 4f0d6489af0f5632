// Matmuls that read the same rows become segments of one, so that the rows are read once.
#include "kernelforge/passes/Passes.h"

#include "mlir/IR/Dominance.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

namespace kernelforge {
#define GEN_PASS_DEF_MERGEMATMULS
#include "kernelforge/passes/Passes.h.inc"
} // namespace kernelforge

namespace {

/// What must agree for matmuls to be merged.
using MergeKey = std::tuple<Value, unsigned, unsigned, Attribute>;

MergeKey keyOf(MatmulOp op) {
  return {op.getInput(), op.getTranspose(), !op.getBiases().empty(), op.getNumericsAttr()};
}

/// True where all weights and biases of `op` are known before `point`.
bool operandsReach(MatmulOp op, Operation *point, DominanceInfo &dominance) {
  return llvm::all_of(op->getOperands(),
                      [&](Value value) { return dominance.properlyDominates(value, point); });
}

struct MergeMatmuls : kernelforge::impl::MergeMatmulsBase<MergeMatmuls> {
  void runOnOperation() override {
    DominanceInfo dominance(getOperation());
    for (Block &block : getOperation().getBody()) {
      llvm::MapVector<MergeKey, SmallVector<MatmulOp>> groups;
      for (auto op : block.getOps<MatmulOp>())
        groups[keyOf(op)].push_back(op);
      for (auto &[key, group] : groups) {
        MatmulOp first = group.front();
        llvm::erase_if(group, [&](MatmulOp op) { return !operandsReach(op, first, dominance); });
        if (group.size() > 1)
          merge(group);
      }
    }
  }

  static void merge(ArrayRef<MatmulOp> group) {
    SmallVector<Value> weights, biases;
    SmallVector<Type> types;
    for (MatmulOp op : group) {
      llvm::append_range(weights, op.getWeights());
      llvm::append_range(biases, op.getBiases());
      llvm::append_range(types, op->getResultTypes());
    }
    MatmulOp first = group.front();
    OpBuilder builder(first);
    auto merged = builder.create<MatmulOp>(first.getLoc(), types, first.getInput(), weights, biases,
                                           first.getTransposeAttr(), first.getNumericsAttr());
    const Place place = joinedPlace(SmallVector<Operation *>(group.begin(), group.end()));
    setPlace(merged, place.layer, place.role);
    unsigned next = 0;
    for (MatmulOp op : group) {
      for (Value output : op.getOutputs())
        output.replaceAllUsesWith(merged.getOutputs()[next++]);
      op.erase();
    }
  }
};

} // namespace
