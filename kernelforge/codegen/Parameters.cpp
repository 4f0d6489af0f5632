#include "kernelforge/codegen/Parameters.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

std::vector<Access> kernelforge::bufferAccess(KernelOp kernel) {
  std::vector<Access> access;
  for (BlockArgument argument : kernel.getArguments()) {
    if (argument.getType().isIndex())
      continue;
    const bool written = llvm::any_of(argument.getUsers(), [&](Operation *user) {
      return hasEffect<MemoryEffects::Write>(user, argument);
    });
    access.push_back(written ? Access::ReadWrite : Access::Read);
  }
  access.insert(access.end(), kernel.getResultTypes().size(), Access::Write);
  return access;
}

std::vector<Parameter> kernelforge::allParameters(KernelOp kernel, size_t workspaces) {
  std::vector<Parameter> parameters;
  for (Access access : bufferAccess(kernel))
    parameters.push_back({Parameter::Kind::Buffer, static_cast<int>(parameters.size()), access});
  for (size_t i = 0; i < workspaces; ++i)
    parameters.push_back({Parameter::Kind::Workspace, static_cast<int>(i), Access::ReadWrite});
  for (unsigned i = 0; i < kernel.getNumSizes(); ++i)
    parameters.push_back({Parameter::Kind::Size, static_cast<int>(i), Access::Read});
  return parameters;
}
