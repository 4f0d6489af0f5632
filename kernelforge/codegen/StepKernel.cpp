#include "kernelforge/codegen/StepKernel.h"

#include "kernelforge/codegen/KernelAnalysis.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

bool kernelforge::endsStep(KernelOp kernel) {
  return llvm::any_of(kernel.getBody().front(), [](Operation &op) { return endsStep(&op); });
}

Operation *kernelforge::stepOperation(KernelOp kernel) { return &kernel.getBody().front().front(); }

/// Empty where there is none.
static std::string stepObstacle(KernelOp kernel) {
  Operation &op = *stepOperation(kernel);
  if (op.getNextNode() != kernel.getBody().front().getTerminator())
    return "it stands in one kernel with other operations";
  if (!llvm::all_of(op.getOperands(), llvm::IsaPred<BlockArgument>))
    return "it works on something that is no argument of the kernel";
  if (op.getResults() != op.getNextNode()->getOperands())
    return "the kernel yields something else than all its results in order";
  SmallVector<Type> types(op.getOperandTypes());
  types.append(op.result_type_begin(), op.result_type_end());
  for (Type type : types)
    if (unnamedDimension(type))
      return "a dimension has no name: " + namedRowsAdvice(cast<RankedTensorType>(type));
  return "";
}

Status kernelforge::checkStep(const KernelAnalysis &kernel, std::string_view processor) {
  const std::string why = stepObstacle(kernel.kernel());
  if (why.empty())
    return {};
  const StringRef operation = stepOperation(kernel.kernel())->getName().getStringRef();
  return unusable("kernel cannot be compiled for " + std::string(processor),
                  kernel.name() + ", " + operation.str(), why, "make it a kernel of its own");
}
