#include "kernelforge/codegen/webgpu/Emit.h"

#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/webgpu/Wgsl.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

/// Whether argument `number` is a weight: marked as one, or of a type that no kernel computes
/// (results are rows of f32, which may be multiplied with and looked up in, too). Weights lie in
/// memory of their own, which no kernel writes; all else may share its memory with results.
static bool isWeight(KernelOp kernel, unsigned number) {
  if (kernel.getArgAttr(number, weightAttrName))
    return true;
  BlockArgument argument = kernel.getBody().getArgument(number);
  auto type = dyn_cast<RankedTensorType>(argument.getType());
  if (!type || argument.use_empty())
    return false;
  Type element = type.getElementType();
  return isa<QuantType>(element) ||
         (isa<FloatType>(element) && (type.getRank() == 1 || !element.isF32()));
}

Status webgpu::supports(KernelOp kernel, const Limits &limits) {
  return simt::supports(kernel, limits);
}

Expected<std::string> webgpu::wgslText(ModuleOp module, const Launching &launching,
                                       KernelOp kernel) {
  WgslOptions options;
  options.comment = simt::describe(kernel);
  options.isWeight = [&](int buffer) {
    const unsigned number = kernel.getNumSizes() + static_cast<unsigned>(buffer);
    return number < kernel.getNumArguments() && isWeight(kernel, number);
  };
  return printWgsl(module, launching, options);
}

Expected<webgpu::WgslKernel> webgpu::emitWgsl(KernelOp kernel, const Limits &limits,
                                              StringRef entry) {
  simt::loadDialects(*kernel.getContext());
  OwningOpRef<ModuleOp> module = ModuleOp::create(kernel.getLoc());
  KF_TRY(Launching launching, simt::emit(*module, kernel, limits, entry));
  KF_TRY(std::string text, wgslText(*module, launching, kernel));
  return WgslKernel{std::move(text), std::move(launching)};
}
