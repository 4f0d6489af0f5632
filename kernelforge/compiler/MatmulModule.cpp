#include "kernelforge/compiler/MatmulModule.h"

#include "kernelforge/ir/ModuleBuilder.h"
#include "kernelforge/ir/Numerics.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

static constexpr const char *rowsName = "rows";

static std::optional<Activation> activationOf(EpilogueStep step) {
  switch (step) {
  case EpilogueStep::Relu:
    return Activation::Relu;
  case EpilogueStep::Silu:
    return Activation::Silu;
  case EpilogueStep::Gelu:
    return Activation::Gelu;
  case EpilogueStep::GeluTanh:
    return Activation::GeluTanh;
  case EpilogueStep::Bias:
  case EpilogueStep::Residual:
    return std::nullopt;
  }
  return std::nullopt;
}

bool kernelforge::isKernel(const MatmulProblem &problem) {
  return !problem.has(EpilogueStep::Bias) || problem.epilogue.front() == EpilogueStep::Bias;
}

/// One row is a range of its own, as decoding is; more rows are compiled as prefill is.
static int64_t leastRows(const MatmulProblem &problem) { return problem.m == 1 ? 1 : 2; }

/// Adds the steps of a problem's epilogue before `end`, which follows the product; gives their
/// result. `addInput` makes an argument of a type and name.
static Value addEpilogue(const MatmulProblem &problem, MatmulOp product, Operation *end,
                         function_ref<Value(Type, StringRef)> addInput) {
  OpBuilder b(end);
  const Location loc = product.getLoc();
  Value value = product.getOutputs().front();
  for (EpilogueStep step : problem.epilogue) {
    if (std::optional<Activation> kind = activationOf(step)) {
      value = b.create<ActivationOp>(loc, value.getType(), value,
                                     ActivationAttr::get(b.getContext(), *kind));
    } else if (step == EpilogueStep::Bias) {
      Value bias = addInput(RankedTensorType::get({problem.n}, b.getF32Type()), "bias");
      product.getBiasesMutable().assign(bias);
    } else {
      Value residual = addInput(value.getType(), "residual");
      value = b.create<AddOp>(loc, value, residual);
    }
  }
  return value;
}

Expected<OwningOpRef<ModuleOp>> kernelforge::buildMatmulModule(MLIRContext *context,
                                                               const MatmulProblem &problem) {
  KF_CHECK(checkProblem(problem));
  if (!isKernel(problem))
    return unusable("epilogue cannot be generated", problem.name(),
                    "a bias is added to the product itself", "list bias first");
  OwningOpRef<ModuleOp> module = buildMatmul(context, leastRows(problem), problem.m, problem.n,
                                             problem.k, problem.weights, problem.transpose);
  auto function = module->lookupSymbol<func::FuncOp>("matmul");
  auto product = *function.getOps<MatmulOp>().begin();
  if (NumericsAttr numerics = numericsAttr(context, problem.numerics))
    product.setNumericsAttr(numerics);
  auto end = cast<func::ReturnOp>(function.getBody().front().getTerminator());
  Builder b(context);
  const Value result = addEpilogue(problem, product, end, [&](Type type, StringRef name) -> Value {
    const unsigned index = function.getNumArguments();
    function.insertArgument(
        index, type, b.getDictionaryAttr(b.getNamedAttr(inputAttrName, b.getStringAttr(name))),
        end.getLoc());
    return function.getArgument(index);
  });
  end->setOperand(0, result);
  return module;
}

OwningOpRef<KernelOp> kernelforge::buildMatmulKernel(const MatmulProblem &problem,
                                                     RankedTensorType weight) {
  OpBuilder b(weight.getContext());
  const Location loc = b.getUnknownLoc();
  auto rowsOf = [&](int64_t width) { return rowsType(rowsName, width, b.getF32Type()); };
  const Type result = rowsOf(problem.n);
  OwningOpRef<KernelOp> kernel =
      b.create<KernelOp>(loc, "matmul", b.getFunctionType({}, {result}), ArrayAttr(), ArrayAttr(),
                         StringAttr(), ScheduleAttr(), StringAttr(), StringAttr(),
                         FlatSymbolRefAttr(), DictionaryAttr(), DemandsAttr());
  Block &body = kernel->getBody().emplaceBlock();
  SmallVector<DictionaryAttr> attributes = {b.getDictionaryAttr(
      b.getNamedAttr(sizeAttrName, SizeAttr::get(b.getContext(), b.getStringAttr(rowsName),
                                                 leastRows(problem), problem.m)))};
  body.addArgument(b.getIndexType(), loc);
  const Value input = body.addArgument(rowsOf(problem.k), loc);
  const Value by = body.addArgument(weight, loc);
  b.setInsertionPointToEnd(&body);
  auto product = b.create<MatmulOp>(loc, TypeRange{result}, input, ValueRange{by}, ValueRange{},
                                    problem.transpose ? b.getUnitAttr() : UnitAttr(),
                                    numericsAttr(b.getContext(), problem.numerics));
  auto end = b.create<YieldOp>(loc, product.getOutputs());
  const Value value = addEpilogue(problem, product, end, [&](Type type, StringRef) -> Value {
    return body.addArgument(type, loc);
  });
  end->setOperand(0, value);
  attributes.resize(body.getNumArguments(), b.getDictionaryAttr({}));
  kernel->setFunctionType(b.getFunctionType(body.getArgumentTypes(), {result}));
  kernel->setAllArgAttrs(attributes);
  return kernel;
}
