#include "kernelforge/codegen/MatmulSources.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

static void collect(MatmulOp matmul, Value value, MatmulSources &sources) {
  Operation *op = value.getDefiningOp();
  if (!op)
    return;
  if (op == matmul) {
    sources.segments.insert(cast<OpResult>(value).getResultNumber());
    return;
  }
  if (!sources.ops.insert(op))
    return;
  for (Value operand : op->getOperands())
    collect(matmul, operand, sources);
}

MatmulSources kernelforge::sourcesOf(MatmulOp matmul, Value value) {
  MatmulSources sources;
  collect(matmul, value, sources);
  return sources;
}
