#include "kernelforge/codegen/Operands.h"

#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/ir/Numerics.h"
#include "kernelforge/ir/WeightLayouts.h"

#include <cmath>
#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

namespace {

class Checker {
public:
  Checker(KernelOp kernel, ComputeOp op, const OperandSupport &support)
      : kernel(kernel), op(op), support(support) {}

  Status check() {
    const OpKind kind = op.getKind();
    // Functions have theirs taken apart before kernels are formed; a kernel that a user wrote is
    // left as it is.
    if (kind == OpKind::Composite)
      return refuse("it is composite: more than one matmul",
                    "write it into a func.func, where it is taken apart");
    if (isRowwise(kind) && kind != OpKind::EndsStep && kind != OpKind::Packs &&
        !support.hasCode(op))
      return refuse("no code is generated for this operation", "");
    if (const Numerics numerics = numericsOf(op);
        numerics != Numerics::F32 && !(support.multipliesIn && support.multipliesIn(op, numerics)))
      return refuse(fmt::format("its numerics are to multiply in {}, which is not computed there",
                                numericsName(numerics)),
                    "leave the numerics out");
    KF_CHECK(checkTypes());
    if (support.needsFiniteF32)
      KF_CHECK(checkNumbers());
    // All that these two work on stands in memory: their own checks say so.
    if (kind != OpKind::EndsStep && kind != OpKind::Packs)
      KF_CHECK(checkMemory());
    return {};
  }

private:
  tl::unexpected<Error> refuse(std::string why, std::string hint) {
    return unusable(fmt::format("kernel cannot be compiled for {}", support.device),
                    kernelName(kernel) + ", " + op->getName().getStringRef().str(), std::move(why),
                    std::move(hint));
  }

  /// Every element type that the dialect lets an operand have is computed.
  Status checkTypes() {
    for (auto [info, type] : llvm::zip(op.describeOperands(), op->getOperandTypes()))
      KF_CHECK(checkType("operand '" + info.name.str() + "'", type));
    for (Type type : op->getResultTypes())
      KF_CHECK(checkType("result", type));
    return {};
  }

  Status checkType(const std::string &name, Type type) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (!tensor)
      return {};
    const WeightLayout layout = weightLayoutOf(tensor);
    const WeightLayout read = support.readsLayouts ? support.layout : WeightLayout::RowMajor;
    if (layout != WeightLayout::RowMajor && layout != read)
      return refuse(fmt::format("its {} has the layout {}, and weights are read in {} alone", name,
                                nameOf(layout), nameOf(read)),
                    "use the weight without a layout");
    const bool isRows = tensor.getRank() == 2 && isa<FloatType>(tensor.getElementType());
    if (isRows && tensor.isDynamicDim(0) && rowsSizeName(tensor).empty())
      return refuse(fmt::format("its {} has a leading dimension that no size gives", name),
                    namedRowsAdvice(tensor));
    return {};
  }

  Status checkNumbers() {
    for (NamedAttribute attribute : op->getAttrs())
      if (auto number = dyn_cast<FloatAttr>(attribute.getValue());
          number && !std::isfinite(static_cast<float>(number.getValueAsDouble())))
        return refuse(fmt::format("its {} is no finite f32", attribute.getName().str()), "");
    return {};
  }

  Status checkMemory() {
    const SmallVector<Value> rows = op.getRowInputs();
    for (Value operand : op->getOperands())
      if (!llvm::is_contained(rows, operand) && !isa<BlockArgument>(operand))
        return refuse("a weight, parameter, table or index is computed in the same kernel",
                      "make it an argument of the kernel");
    return {};
  }

  KernelOp kernel;
  ComputeOp op;
  const OperandSupport &support;
};

} // namespace

Status kernelforge::checkOperations(KernelOp kernel, const OperandSupport &support) {
  for (auto op : kernel.getBody().getOps<ComputeOp>())
    KF_CHECK(Checker(kernel, op, support).check());
  return {};
}
