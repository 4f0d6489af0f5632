#include "kernelforge/ir/Numerics.h"

#include <limits>
#include <set>

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
    if (info.role == OperandRole::Weight) {
      const std::optional<ElementType> element = elementTypeOf(type);
      if (!element || !kernelforge::info(*element).hasIntegers())
        return false;
    }
  return true;
}

/// The most rows that an operation's first operand has in a run.
static int64_t mostRows(Operation *op) {
  auto rows = cast<RankedTensorType>(op->getOperand(0).getType());
  if (!rows.isDynamicDim(0))
    return rows.getDimSize(0);
  auto around = op->getParentOfType<FunctionOpInterface>();
  for (unsigned i = 0; around && i < around.getNumArguments(); ++i)
    if (auto size = around.getArgAttrOfType<SizeAttr>(i, sizeAttrName);
        size && size.getName().getValue() == rowsSizeName(rows))
      return size.getMax();
  return std::numeric_limits<int64_t>::max();
}

Status kernelforge::setNumerics(ModuleOp module, const ChosenNumerics &chosen) {
  const std::optional<Numerics> all = chosen.ofAll();
  if (all == Numerics::F32)
    return {};
  bool canAny = false;
  module.walk([&](Operation *op) {
    if (!isa<MatmulOp, MlpOp, AttentionOp>(op))
      return;
    const Numerics numerics = chosen.of({.isAttention = isa<AttentionOp>(op),
                                         .byQuantized = takesNumerics(op, Numerics::I8),
                                         .rows = mostRows(op)});
    if (!takesNumerics(op, numerics))
      return;
    canAny = true;
    NumericsAttr attribute = numericsAttr(module.getContext(), numerics);
    if (attribute && !op->hasAttr(attributeName))
      op->setAttr(attributeName, attribute);
  });
  if (canAny || !all)
    return {};
  return unusable("numerics are not usable", std::string(numericsName(*all)),
                  multipliesIntegers(*all) ? "no matmul's weights are quantized"
                                           : "there is no matmul and no attention",
                  "leave them out");
}

std::string kernelforge::numericsOf(ModuleOp module) {
  std::set<Numerics> found;
  module.walk([&](Operation *op) { found.insert(numericsOf(op)); });
  found.erase(Numerics::F32);
  std::string text;
  for (Numerics numerics : found)
    text += (text.empty() ? "" : "+") + std::string(numericsChoice(numerics));
  return found.empty() ? std::string(numericsChoice(Numerics::F32)) : text;
}
