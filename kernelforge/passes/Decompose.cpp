// Composite operations are written by users and model builders; kernels are made of simple ones.
#include "kernelforge/passes/Passes.h"

#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

namespace kernelforge {
#define GEN_PASS_DEF_DECOMPOSE
#include "kernelforge/passes/Passes.h.inc"
} // namespace kernelforge

namespace {

struct DecomposeMlp : OpRewritePattern<MlpOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(MlpOp op, PatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    // Each part says which one it is, where the whole has a role.
    const Place place = placeOf(op);
    auto named = [&](Operation *part, StringRef name) {
      setPlace(part, place.layer, place.role.empty() ? "" : place.role + "_" + name.str());
    };
    auto linear = [&](StringRef name, Value x, Value weight, Value bias) -> Value {
      auto input = cast<RankedTensorType>(x.getType());
      int64_t n = cast<RankedTensorType>(weight.getType()).getDimSize(0);
      auto type = RankedTensorType::get({input.getDimSize(0), n}, input.getElementType(),
                                        input.getEncoding());
      auto matmul = rewriter.create<MatmulOp>(loc, TypeRange{type}, x, ValueRange{weight},
                                              bias ? ValueRange{bias} : ValueRange{}, UnitAttr(),
                                              op.getNumericsAttr());
      named(matmul, name);
      return matmul.getOutputs()[0];
    };
    auto activate = [&](Value x) -> Value {
      auto activation = rewriter.create<ActivationOp>(loc, x.getType(), x, op.getActivationAttr());
      named(activation, "activation");
      return activation;
    };
    Value hidden;
    if (op.getGate()) {
      Value gate = linear("gate", op.getInput(), op.getGate(), op.getGateBias());
      Value up = linear("up", op.getInput(), op.getUp(), op.getUpBias());
      auto gated = rewriter.create<MulOp>(loc, activate(gate), up);
      named(gated, "gated");
      hidden = gated;
    } else {
      hidden = activate(linear("up", op.getInput(), op.getUp(), op.getUpBias()));
    }
    rewriter.replaceOp(op, linear("down", hidden, op.getDown(), op.getDownBias()));
    return success();
  }
};

struct Decompose : kernelforge::impl::DecomposeBase<Decompose> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<DecomposeMlp>(&getContext());
    const FrozenRewritePatternSet frozen(std::move(patterns));
    // A kernel's body is what its writer made it: it is folded no further.
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (failed(applyPatternsAndFoldGreedily(function, frozen)))
        return signalPassFailure();
  }
};

} // namespace
