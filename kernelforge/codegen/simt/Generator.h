// What code generators share whose code is plain SIMT code in the text of another language.
#pragma once

#include "kernelforge/codegen/CodeGenerator.h"

namespace kernelforge::simt {

class Generator : public CodeGenerator {
public:
  Status supports(const KernelAnalysis &kernel, const Target &target) const override;
  Expected<ScheduleSpace> scheduleSpace(const KernelAnalysis &kernel, const Target &target,
                                        int64_t workers) const override;
  Expected<Launching> emit(mlir::ModuleOp module, const KernelAnalysis &kernel,
                           const Target &target, llvm::StringRef entry) const override;
  /// What a device loads is text already.
  Expected<std::string> print(const EmittedKernel &emitted, const KernelAnalysis &kernel,
                              const Target &target) const override;
  void registerDialects(mlir::DialectRegistry &registry) const override;

protected:
  /// What the code may take of a target.
  virtual Limits limitsOf(const Target &target) const { return target.limits; }
};

} // namespace kernelforge::simt
