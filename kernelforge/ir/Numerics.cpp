#include "kernelforge/ir/Numerics.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

static constexpr StringLiteral attributeName = "numerics";

Numerics kernelforge::numericsOf(Operation *op) {
  auto attribute = op->getAttrOfType<NumericsAttr>(attributeName);
  return attribute ? attribute.getNumerics() : Numerics::F32;
}

NumericsAttr kernelforge::numericsAttr(MLIRContext *context, Numerics numerics) {
  if (numerics == Numerics::F32)
    return {};
  const std::string_view name = numericsName(numerics);
  return NumericsAttr::get(context, StringRef(name.data(), name.size()), "f32");
}

bool kernelforge::takesNumerics(Operation *op, Numerics numerics) {
  if (isa<AttentionOp>(op))
    return !multipliesIntegers(numerics);
  if (!isa<MatmulOp, MlpOp>(op))
    return false;
  if (!multipliesIntegers(numerics))
    return true;
  for (auto [info, type] : llvm::zip(cast<ComputeOp>(op).describeOperands(), op->getOperandTypes()))
    if (info.role == OperandRole::Weight && !isa<QuantType>(getElementTypeOrSelf(type)))
      return false;
  return true;
}

bool kernelforge::canTake(ModuleOp module, Numerics numerics) {
  return module
      .walk([&](Operation *op) {
        return takesNumerics(op, numerics) ? WalkResult::interrupt() : WalkResult::advance();
      })
      .wasInterrupted();
}

Status kernelforge::setNumerics(ModuleOp module, Numerics numerics) {
  NumericsAttr attribute = numericsAttr(module.getContext(), numerics);
  if (!attribute)
    return {};
  bool canAny = false;
  module.walk([&](Operation *op) {
    if (!takesNumerics(op, numerics))
      return;
    canAny = true;
    if (!op->hasAttr(attributeName))
      op->setAttr(attributeName, attribute);
  });
  if (canAny)
    return {};
  return unusable("numerics are not usable", std::string(numericsName(numerics)),
                  multipliesIntegers(numerics) ? "no matmul's weights are quantized"
                                               : "there is no matmul and no attention",
                  "leave them out");
}
