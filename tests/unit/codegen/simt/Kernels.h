// Kernels and their WGSL.
#pragma once

#include "KernelTexts.h"

#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/StepKernel.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/webgpu/Emit.h"

#include "mlir/Parser/Parser.h"

#include <fmt/format.h>

#include <string>

namespace kernelforge {

/// What WebGPU guarantees.
inline Limits leastLimits() {
  Limits limits;
  limits.bindings = 8;
  limits.sharedBytes = 16384;
  limits.threadsPerBlock = 256;
  limits.bindingBytes = 128 << 20;
  return limits;
}

/// A module with one kernel, which it keeps alive.
class ParsedKernel {
public:
  explicit ParsedKernel(const std::string &text) {
    context.loadDialect<transformer::TransformerDialect, mlir::func::FuncDialect>();
    module = mlir::parseSourceString<mlir::ModuleOp>(text, mlir::ParserConfig(&context));
    if (module)
      for (auto found : module->getOps<transformer::KernelOp>())
        kernel = found;
  }

  /// "": supported; else the error's line, or that the text is none.
  std::string obstacle(const Limits &limits = leastLimits()) {
    if (!kernel)
      return "the text cannot be parsed";
    Status status = simt::supports(KernelAnalysis(kernel), limits);
    return status ? "" : status.error().line();
  }

  /// By plain code, whatever else there is for it on WebGPU.
  Expected<webgpu::WgslKernel> emit(const Limits &limits = leastLimits()) {
    if (!kernel)
      return unusable("test", "kernel", "the text cannot be parsed");
    if (!endsStep(kernel))
      kernel.setScheduleAttr(scheduleAttr(&context, {{"method", 0}}));
    Target target;
    target.kind = "webgpu";
    target.limits = limits;
    return webgpu::emitWgsl(KernelAnalysis(kernel), target, "main");
  }

private:
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  transformer::KernelOp kernel;
};

} // namespace kernelforge
