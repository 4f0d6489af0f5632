#include "kernelforge/codegen/cuda/Ptx.h"

#include "kernelforge/codegen/LlvmEmission.h"
#include "kernelforge/codegen/cuda/Lowering.h"
#include "kernelforge/codegen/cuda/Target.h"
#include "kernelforge/codegen/simt/Emit.h"

#include "llvm/IR/Module.h"
#include "llvm/Target/TargetMachine.h"

#include <fmt/format.h>

using namespace kernelforge;

Expected<std::string> cuda::printPtx(const EmittedKernel &lowered, const Target &target,
                                     const std::vector<std::string> &comment) {
  KF_TRY(auto machine, createTargetMachine(target));
  LlvmEmission emission;
  emission.registerTranslations = registerTranslations;
  emission.dialect = "nvvm";
  emission.prepare = [](llvm::Module &ir) {
    for (llvm::Function &function : ir)
      if (!function.isDeclaration())
        function.setDoesNotThrow();
  };
  emission.level = llvm::OptimizationLevel::O3;
  emission.type = llvm::CodeGenFileType::AssemblyFile;
  std::vector<std::string> entries;
  for (const Phase &phase : lowered.launching.phases)
    entries.push_back(phase.entry);
  if (entries.empty()) // nothing has to be computed
    return simt::commentText(comment);
  KF_TRY(std::string text, emitWithLlvm(*lowered.module, *machine, entries, emission));
  if (text.find(".extern") != std::string::npos)
    return failed("kernel is not self-contained", lowered.entry, "its code refers to other code",
                  "code generation must expand these operations itself");
  return simt::commentText(comment) + text;
}
