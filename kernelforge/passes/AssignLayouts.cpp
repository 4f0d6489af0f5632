// A weight's layout belongs to the weight: chosen once over all uses, so that one copy serves all.
#include "kernelforge/ir/WeightLayouts.h"
#include "kernelforge/passes/Passes.h"

#include "llvm/ADT/StringMap.h"

using namespace mlir;
using namespace kernelforge::transformer;

namespace kernelforge {
#define GEN_PASS_DEF_ASSIGNLAYOUTS
#include "kernelforge/passes/Passes.h.inc"
} // namespace kernelforge

namespace {

/// Planes where there are any.
kernelforge::WeightLayout planesFor(RankedTensorType weight) {
  return isa<QuantType>(weight.getElementType()) ? kernelforge::WeightLayout::Planes
                                                 : kernelforge::WeightLayout::RowMajor;
}

struct AssignLayouts : kernelforge::impl::AssignLayoutsBase<AssignLayouts> {
  using AssignLayoutsBase::AssignLayoutsBase;
  AssignLayouts(kernelforge::LayoutChoice layoutFor, bool needsLayouts)
      : layoutFor(std::move(layoutFor)), needsLayouts(needsLayouts) {}

  /// Where no target says it, the option does.
  LogicalResult initialize(MLIRContext *context) override {
    if (layoutFor)
      return success();
    const auto named = kernelforge::weightLayoutByName(layout.getValue());
    if (named != kernelforge::WeightLayout::Interleaved &&
        named != kernelforge::WeightLayout::Planes)
      return emitError(UnknownLoc::get(context))
             << "unknown layout '" << layout << "'; use interleaved or planes";
    needsLayouts = named == kernelforge::WeightLayout::Interleaved;
    layoutFor = needsLayouts
                    ? [](RankedTensorType) { return kernelforge::WeightLayout::Interleaved; }
                    : kernelforge::LayoutChoice(planesFor);
    return success();
  }

  void runOnOperation() override {
    // By name over all functions: weights that some matmul multiplies with, and those whose layout
    // is settled by a use that reads them as they are (a transposed matmul, a pinned kernel).
    llvm::StringMap<bool> multiplied, settled;
    forEachWeight([&](StringRef name, BlockArgument weight) {
      for (OpOperand &use : weight.getUses()) {
        auto matmul = dyn_cast<MatmulOp>(use.getOwner());
        if ((matmul && !matmul.getTranspose()) || isa<MlpOp>(use.getOwner()))
          multiplied[name] = true;
        else if (!isa<EmbeddingOp>(use.getOwner()))
          settled[name] = true;
      }
    });
    forEachWeight([&](StringRef name, BlockArgument weight) {
      auto type = dyn_cast<RankedTensorType>(weight.getType());
      bool matrix = type && type.getRank() == 2 && type.hasStaticShape() && !type.getEncoding();
      if (matrix && multiplied.lookup(name) && !settled.lookup(name))
        weight.setType(laidOut(type));
    });
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      if (function.isExternal())
        continue;
      function.setFunctionType(FunctionType::get(
          &getContext(), function.getBody().getArgumentTypes(), function.getResultTypes()));
      if (needsLayouts)
        packTheRest(function);
    }
  }

private:
  RankedTensorType laidOut(RankedTensorType type) {
    return kernelforge::withLayout(type, kernelforge::layoutAttr(&getContext(), layoutFor(type)));
  }

  /// Gives matmuls packed copies of the weights that have no layout: packed in each run, once.
  void packTheRest(func::FuncOp function) {
    llvm::DenseMap<Value, Value> packed;
    function.walk([&](MatmulOp matmul) {
      if (matmul.getTranspose())
        return;
      for (OpOperand &use : matmul.getWeightsMutable()) {
        Value weight = use.get();
        if (kernelforge::layoutOf(weight.getType()))
          continue;
        Value &copy = packed[weight];
        if (!copy) {
          OpBuilder builder(function.getContext());
          builder.setInsertionPointAfterValue(weight);
          auto type = cast<RankedTensorType>(weight.getType());
          copy = builder.create<PackOp>(matmul.getLoc(), laidOut(type), weight);
        }
        use.set(copy);
      }
    });
  }

  void forEachWeight(function_ref<void(StringRef, BlockArgument)> visit) {
    for (auto function : getOperation().getOps<func::FuncOp>())
      for (BlockArgument argument : function.getBody().getArguments())
        if (auto name = function.getArgAttrOfType<StringAttr>(argument.getArgNumber(),
                                                              kernelforge::weightAttrName))
          visit(name.getValue(), argument);
  }

  kernelforge::LayoutChoice layoutFor; ///< null: the option says it
  bool needsLayouts = true;
};

} // namespace

std::unique_ptr<Pass> kernelforge::createAssignLayouts(LayoutChoice layoutFor, bool needsLayouts) {
  return std::make_unique<AssignLayouts>(std::move(layoutFor), needsLayouts);
}
