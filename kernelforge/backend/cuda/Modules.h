// Code of kernels on a GPU: PTX that the driver has finished.
#pragma once

#include "kernelforge/backend/Device.h"
#include "kernelforge/backend/cuda/Context.h"

#include <memory>
#include <span>
#include <vector>

namespace kernelforge::cuda {

/// A loaded module.
class Module {
public:
  Module(std::shared_ptr<Context> context, CUmodule handle)
      : context(std::move(context)), handle(handle) {}
  ~Module();
  Module(const Module &) = delete;
  Module &operator=(const Module &) = delete;

  CUmodule get() const { return handle; }

private:
  std::shared_ptr<Context> context;
  CUmodule handle;
};

/// One phase of a kernel.
struct Function {
  CUfunction handle = nullptr;
  unsigned dynamicSharedBytes = 0; ///< what is to be given to each block
};

/// One artifact's code.
struct Kernel {
  std::unique_ptr<Module> module;
  std::vector<Function> phases;
  KernelResources resources;
};

/// Unusable where a program has a kernel that no GPU of this kind can launch: a function of this
/// process, a block, cluster or shared memory beyond a limit.
Status checkKernels(const Context &context, const Program &program);

/// Finishes the code of all artifacts at once, on all processors of the host. Failed, naming the
/// kernel with the compiler's message, where it is refused. By program and artifact.
Expected<std::vector<std::vector<Kernel>>>
loadKernels(const std::shared_ptr<Context> &context,
            std::span<const std::shared_ptr<const Program>> programs);

} // namespace kernelforge::cuda
