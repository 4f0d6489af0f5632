#include "ModuleText.h"

#include "kernelforge/problem/KernelFunction.h"
#include "kernelforge/support/MappedFile.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cli;

Expected<OwningOpRef<ModuleOp>> cli::parseModule(MLIRContext *context, const std::string &file) {
  KF_TRY(std::string text, readText(file, "module is not usable", maxModuleBytes));
  return parseModuleText(context, text, file == "-" ? "standard input" : file);
}

Expected<OwningOpRef<ModuleOp>> cli::parseRunnableModule(MLIRContext *context,
                                                         const std::string &file) {
  KF_TRY(OwningOpRef<ModuleOp> module, parseModule(context, file));
  addMissingKernelFunctions(*module);
  return module;
}

Expected<OwningOpRef<ModuleOp>> cli::parseRunnableText(MLIRContext *context,
                                                       const std::string &text, std::string where) {
  KF_TRY(OwningOpRef<ModuleOp> module, parseModuleText(context, text, std::move(where)));
  addMissingKernelFunctions(*module);
  return module;
}
