#include "kernelforge/codegen/StepKernel.h"

#include "kernelforge/ir/Transformer.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

bool kernelforge::endsStep(KernelOp kernel) {
  return llvm::any_of(kernel.getBody().front(), [](Operation &op) { return endsStep(&op); });
}

std::string kernelforge::stepObstacle(KernelOp kernel) {
  Operation &op = kernel.getBody().front().front();
  if (op.getNextNode() != kernel.getBody().front().getTerminator())
    return "it stands in one kernel with other operations";
  if (!llvm::all_of(op.getOperands(), [](Value value) { return isa<BlockArgument>(value); }))
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
