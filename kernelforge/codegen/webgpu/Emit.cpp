#include "kernelforge/codegen/webgpu/Emit.h"

#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/webgpu/Methods.h"
#include "kernelforge/codegen/webgpu/Pieces.h"
#include "kernelforge/codegen/webgpu/Wgsl.h"

#include <fmt/format.h>

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

/// Bytes of a buffer of the launch; 0 where they follow a size, or it is none of the arguments.
static int64_t bytesOf(KernelOp kernel, int buffer) {
  const unsigned number = kernel.getNumSizes() + static_cast<unsigned>(buffer);
  if (number >= kernel.getNumArguments())
    return 0;
  auto type = dyn_cast<RankedTensorType>(kernel.getArgumentTypes()[number]);
  if (!type || !type.hasStaticShape() || type.getRank() != 2)
    return 0;
  return static_cast<int64_t>(weightBytes(type).value_or(0));
}

Expected<Launching> webgpu::emitInPieces(ModuleOp module, const KernelAnalysis &kernel,
                                         const Target &target, StringRef entry) {
  KF_TRY(Launching launching, webgpu::methods().emit(module, kernel, target, entry));
  KernelOp op = kernel.kernel();
  for (Phase &phase : launching.phases) {
    std::vector<Parameter> parameters;
    int64_t buffers = 0;
    for (const Parameter &parameter : phase.parameters) {
      int64_t count = 1;
      const unsigned number = op.getNumSizes() + static_cast<unsigned>(parameter.index);
      if (parameter.kind == Parameter::Kind::Buffer && parameter.access == Access::Read &&
          number < op.getNumArguments() && simt::isMatrix(op.getBody().getArgument(number)))
        count = pieceCount(bytesOf(op, parameter.index), target.limits.bindingBytes);
      parameters.insert(parameters.end(), static_cast<size_t>(count), parameter);
      buffers += parameter.kind == Parameter::Kind::Size ? 0 : count;
    }
    if (parameters.size() > phase.parameters.size() && buffers > target.limits.bindings)
      return unusable("kernel cannot be compiled for this GPU", kernel.name() + ", " + phase.entry,
                      fmt::format("its weights take {} buffers of at most {} bytes, and the device "
                                  "allows {}",
                                  buffers, target.limits.bindingBytes, target.limits.bindings),
                      "use an adapter with larger bindings");
    phase.parameters = std::move(parameters);
  }
  return launching;
}

Expected<std::string> webgpu::wgslText(ModuleOp module, const Launching &launching,
                                       const KernelAnalysis &kernel, const Target &target) {
  WgslOptions options;
  options.comment = webgpu::methods().describe(kernel, target);
  options.f16 = target.has("shader-f16");
  options.emulatesMatrices = target.has(emulatedMatrices);
  options.isWeight = [op = kernel.kernel()](int buffer) mutable {
    const unsigned number = op.getNumSizes() + static_cast<unsigned>(buffer);
    return number < op.getNumArguments() && isWeight(op, number);
  };
  options.bytesOf = [op = kernel.kernel()](int buffer) { return bytesOf(op, buffer); };
  return printWgsl(module, launching, options);
}

Expected<webgpu::WgslKernel> webgpu::emitWgsl(const KernelAnalysis &kernel, const Target &target,
                                              StringRef entry) {
  KernelOp op = kernel.kernel();
  simt::loadDialects(*op.getContext());
  OwningOpRef<ModuleOp> module = ModuleOp::create(op.getLoc());
  KF_TRY(Launching launching, webgpu::emitInPieces(*module, kernel, target, entry));
  KF_TRY(std::string text, wgslText(*module, launching, kernel, target));
  return WgslKernel{std::move(text), std::move(launching)};
}
