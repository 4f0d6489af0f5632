#include "kernelforge/compiler/LibraryKernels.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

namespace {

/// The number of the kernel's argument that a value is.
std::optional<unsigned> argumentOf(Value value) {
  auto argument = dyn_cast<BlockArgument>(value);
  return argument ? std::optional(argument.getArgNumber()) : std::nullopt;
}

bool isF32(Type type) { return getElementTypeOrSelf(type).isF32(); }

EpilogueStep stepOf(Activation function) {
  switch (function) {
  case Activation::Relu:
    return EpilogueStep::Relu;
  case Activation::Silu:
    return EpilogueStep::Silu;
  case Activation::Gelu:
    return EpilogueStep::Gelu;
  case Activation::GeluTanh:
    return EpilogueStep::GeluTanh;
  }
  llvm_unreachable("an activation without a step");
}

class Reader {
public:
  explicit Reader(KernelOp kernel) : kernel(kernel) {}

  std::optional<LibraryCall> read() {
    Block &body = kernel.getBody().front();
    found.sizes = kernel.getNumSizes();
    found.arguments = kernel.getNumArguments();
    auto matmul = dyn_cast<MatmulOp>(body.front()); // anything before it would be a prologue
    if (!matmul || !readMatmul(matmul) || !readRows(matmul))
      return std::nullopt;
    Value value = matmul.getOutputs().front();
    Operation *op = matmul->getNextNode();
    for (; !isa<YieldOp>(op); op = op->getNextNode()) {
      if (!value.hasOneUse() || !readStep(op, value))
        return std::nullopt;
      value = op->getResult(0);
    }
    auto yield = cast<YieldOp>(op);
    if (yield.getValues().size() != 1 || yield.getValues().front() != value || !value.hasOneUse() ||
        !isF32(value.getType()) || !checkProblem(found.problem))
      return std::nullopt;
    return std::move(found);
  }

private:
  bool readMatmul(MatmulOp matmul) {
    if (matmul.getWeights().size() != 1 || matmul.getBiases().size() > 1)
      return false;
    if (matmul.getNumerics() && !matmul.getNumerics()->isF32())
      return false;
    const std::optional<unsigned> input = argumentOf(matmul.getInput());
    const std::optional<unsigned> weight = argumentOf(matmul.getWeights().front());
    auto type = dyn_cast<RankedTensorType>(matmul.getWeights().front().getType());
    const std::optional<ElementType> element = type ? elementTypeOf(type) : std::nullopt;
    if (!input || !weight || !element || !isF32(matmul.getInput().getType()))
      return false;
    found.input = *input;
    found.weight = *weight;
    found.problem.n = matmul.getN(0);
    found.problem.k = matmul.getK();
    found.problem.weights = *element;
    found.problem.transpose = matmul.getTranspose();
    if (matmul.getBiases().empty())
      return true;
    found.bias = argumentOf(matmul.getBiases().front());
    found.problem.epilogue.push_back(EpilogueStep::Bias);
    return found.bias && isF32(matmul.getBiases().front().getType());
  }

  bool readRows(MatmulOp matmul) {
    auto type = cast<RankedTensorType>(matmul.getInput().getType());
    if (type.getRank() != 2)
      return false;
    if (!type.isDynamicDim(0)) {
      found.problem.m = type.getDimSize(0);
      return true;
    }
    for (unsigned i = 0; i < kernel.getNumSizes(); ++i)
      if (kernel.getSize(i).getName().getValue() == rowsSizeName(type)) {
        found.rowsSize = static_cast<int>(i);
        found.problem.m = kernel.getSize(i).getMax();
        return true;
      }
    return false;
  }

  /// One operation after the product, whose value so far is `value`.
  bool readStep(Operation *op, Value value) {
    if (auto activation = dyn_cast<ActivationOp>(op))
      return activation.getInput() == value && addStep(stepOf(activation.getFunction()));
    auto add = dyn_cast<AddOp>(op);
    if (!add)
      return false;
    const Value other = add.getLhs() == value ? add.getRhs() : add.getLhs();
    if (other == value || (add.getLhs() != value && add.getRhs() != value))
      return false;
    found.residual = argumentOf(other);
    return found.residual && addStep(EpilogueStep::Residual);
  }

  /// Each step once, as in every epilogue.
  bool addStep(EpilogueStep step) {
    if (found.problem.has(step))
      return false;
    found.problem.epilogue.push_back(step);
    return true;
  }

  KernelOp kernel;
  LibraryCall found;
};

} // namespace

std::optional<LibraryCall> kernelforge::libraryCall(KernelOp kernel) {
  return Reader(kernel).read();
}
