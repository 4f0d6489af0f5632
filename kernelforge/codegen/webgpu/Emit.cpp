#include "kernelforge/codegen/webgpu/Emit.h"

#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/webgpu/Methods.h"
#include "kernelforge/codegen/webgpu/Wgsl.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

/// Whether argument `number` is a weight: marked as one, or of a type that no kernel computes
/// (results are rows of numbers, which may be multiplied with and looked up in, too, or weights in
/// a layout). Weights lie in memory of their own, which no kernel writes; all else may share its
/// memory with results.
static bool isWeight(KernelOp kernel, unsigned number) {
  if (kernel.getArgAttr(number, weightAttrName))
    return true;
  BlockArgument argument = kernel.getBody().getArgument(number);
  auto type = dyn_cast<RankedTensorType>(argument.getType());
  if (!type || argument.use_empty())
    return false;
  Type element = type.getElementType();
  return (isa<QuantType>(element) && !layoutOf(type)) ||
         (isa<FloatType>(element) && type.getRank() == 1);
}

Expected<std::string> webgpu::wgslText(ModuleOp module, const Launching &launching,
                                       const KernelAnalysis &kernel, const Target &target) {
  WgslOptions options;
  options.comment = webgpu::describe(kernel, target);
  options.f16 = target.has("shader-f16");
  options.emulatesMatrices = target.has(emulatedMatrices);
  options.isWeight = [op = kernel.kernel()](int buffer) mutable {
    const unsigned number = op.getNumSizes() + static_cast<unsigned>(buffer);
    return number < op.getNumArguments() && isWeight(op, number);
  };
  return printWgsl(module, launching, options);
}

Expected<webgpu::WgslKernel> webgpu::emitWgsl(const KernelAnalysis &kernel, const Target &target,
                                              StringRef entry) {
  KernelOp op = kernel.kernel();
  simt::loadDialects(*op.getContext());
  OwningOpRef<ModuleOp> module = ModuleOp::create(op.getLoc());
  KF_TRY(Launching launching, webgpu::emit(*module, kernel, target, entry));
  KF_TRY(std::string text, wgslText(*module, launching, kernel, target));
  return WgslKernel{std::move(text), std::move(launching)};
}
