// Prints, as JSON, the WGSL of each kernel of a module and how it is launched: what a test on a
// device that is driven from Python needs.
#include "kernelforge/codegen/webgpu/Emit.h"

#include "mlir/Parser/Parser.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <iostream>
#include <iterator>

using namespace kernelforge;
using nlohmann::json;

static json extentJson(const Extent &extent) {
  json terms = json::array();
  for (const Term &term : extent.product)
    terms.push_back({term.size, term.divisor});
  return {{"multiplier", extent.multiplier}, {"product", terms}};
}

static json kernelJson(transformer::KernelOp kernel) {
  json out = {{"name", kernel.getSymName().str()}};
  Target target;
  target.kind = "webgpu";
  target.limits.bindings = 8;
  target.limits.sharedBytes = 16384;
  auto made = webgpu::emitWgsl(KernelAnalysis(kernel), target, "main");
  if (!made) {
    out["error"] = made.error().line();
    return out;
  }
  out["wgsl"] = made->text;
  static const char *const accesses[] = {"read", "write", "read_write"};
  static const char *const kinds[] = {"buffer", "workspace", "size"};
  for (const Phase &phase : made->launching.phases) {
    json parameters = json::array();
    for (const Parameter &parameter : phase.parameters)
      parameters.push_back({kinds[static_cast<int>(parameter.kind)], parameter.index,
                            accesses[static_cast<int>(parameter.access)]});
    out["phases"].push_back({{"entry", phase.entry},
                             {"parameters", parameters},
                             {"grid", extentJson(phase.grid)},
                             {"shared", phase.sharedBytes}});
  }
  return out;
}

int main() {
  const std::string text(std::istreambuf_iterator<char>(std::cin), {});
  mlir::MLIRContext context;
  context.loadDialect<transformer::TransformerDialect, mlir::func::FuncDialect>();
  mlir::OwningOpRef<mlir::ModuleOp> module =
      mlir::parseSourceString<mlir::ModuleOp>(text, mlir::ParserConfig(&context));
  if (!module)
    return 2;
  json kernels = json::array();
  for (auto kernel : module->getOps<transformer::KernelOp>())
    kernels.push_back(kernelJson(kernel));
  std::cout << kernels.dump(1) << "\n";
  return 0;
}
