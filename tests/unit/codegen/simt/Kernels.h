// Kernels as MLIR text, and their WGSL.
#pragma once

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
    Status status = webgpu::supports(kernel, limits);
    return status ? "" : status.error().line();
  }

  Expected<webgpu::WgslKernel> emit(const Limits &limits = leastLimits()) {
    if (!kernel)
      return unusable("test", "kernel", "the text cannot be parsed");
    return webgpu::emitWgsl(kernel, limits, "main");
  }

private:
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  transformer::KernelOp kernel;
};

/// Rows of `width` that follow the size `tokens`, as a type.
inline std::string rowsText(int64_t width, const std::string &element = "f32") {
  return fmt::format("tensor<?x{}x{}, #transformer.dims<\"tokens\">>", width, element);
}

/// A kernel of up to `most` rows: its arguments after the size, its results and its body.
inline std::string kernelText(const std::string &arguments, const std::string &results,
                              const std::string &body, int64_t most = 64) {
  return fmt::format("!indices = tensor<?xi32, #transformer.dims<\"tokens\">>\n"
                     "transformer.kernel @k(%n: index {{transformer.size = "
                     "#transformer.size<\"tokens\", 1 to {}>}}, {}) {} {{\n{}\n}}\n",
                     most, arguments, results.empty() ? "" : "-> (" + results + ")", body);
}

/// A weight type.
inline std::string weightText(ElementType type, int64_t rows, int64_t width) {
  const std::string name(info(type).name);
  return fmt::format("tensor<{}x{}x{}>", rows, width,
                     info(type).isQuantized() ? "!transformer.quant<" + name + ">" : name);
}

} // namespace kernelforge
