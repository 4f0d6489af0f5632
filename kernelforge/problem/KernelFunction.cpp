#include "kernelforge/problem/KernelFunction.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

func::FuncOp kernelforge::addKernelFunction(ModuleOp module, KernelOp kernel, StringRef name) {
  OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
  const Location loc = kernel.getLoc();
  auto function = builder.create<func::FuncOp>(
      loc, name, builder.getFunctionType(kernel.getArgumentTypes(), kernel.getResultTypes()));
  for (unsigned i = 0; i < kernel.getNumSizes(); ++i)
    function.setArgAttr(i, sizeAttrName, kernel.getSize(i));
  builder.setInsertionPointToEnd(function.addEntryBlock());
  auto launch = builder.create<LaunchOp>(loc, kernel.getResultTypes(), kernel.getSymName(),
                                         function.getArguments(), IntegerAttr(), StringAttr());
  builder.create<func::ReturnOp>(loc, launch.getOutputs());
  return function;
}

void kernelforge::addMissingKernelFunctions(ModuleOp module) {
  const llvm::StringSet<> code = kernelCode(module);
  for (auto function : module.getOps<func::FuncOp>())
    if (!code.contains(function.getSymName()))
      return;
  for (KernelOp kernel : llvm::to_vector(module.getOps<KernelOp>())) {
    std::string name = "run_" + kernel.getSymName().str();
    while (module.lookupSymbol(name))
      name += "_";
    addKernelFunction(module, kernel, name);
  }
}
