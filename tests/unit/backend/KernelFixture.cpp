#include "KernelFixture.h"

#include "kernelforge/codegen/LowerToLLVM.h"
#include "kernelforge/codegen/cpu/ObjectEmitter.h"

#include <cstdio>
#include <cstdlib>

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Parser/Parser.h"

namespace kernelforge {

Artifact compileKernel(const std::string &name, const std::string &body,
                       const std::vector<Extent> &grids, int sizes, int64_t scratchBytes) {
  mlir::MLIRContext context;
  context.loadDialect<mlir::LLVM::LLVMDialect, mlir::func::FuncDialect, mlir::arith::ArithDialect,
                      mlir::scf::SCFDialect, mlir::vector::VectorDialect>();
  auto module = mlir::parseSourceString<mlir::ModuleOp>(
      "func.func @" + name +
          "(%args: !llvm.ptr, %sizes: !llvm.ptr, %phase: i64, %task: i64, %scratch: !llvm.ptr) {" +
          body + "\nreturn }",
      &context);
  Artifact artifact;
  Status lowered = module ? lowerToLLVM(*module) : failed("kernel", name, "it does not parse");
  auto object = lowered ? emitObject(*module, parseTarget("native", "").value(), name)
                        : Expected<std::string>(tl::unexpected<Error>(lowered.error()));
  if (!object) {
    std::fprintf(stderr, "%s\n", object.error().line().c_str());
    std::abort();
  }
  artifact.kernel = artifact.entry = name;
  artifact.code = *object;
  for (const Extent &grid : grids) {
    artifact.launching.phases.push_back(
        {.entry = name, .grid = grid, .scratchBytes = scratchBytes});
  }
  for (int i = 0; i < sizes; ++i)
    artifact.sizeNames.push_back("n" + std::to_string(i));
  return artifact;
}

} // namespace kernelforge
