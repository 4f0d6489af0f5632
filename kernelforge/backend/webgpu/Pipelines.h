// The compiled phases of a program's kernels.
#pragma once

#include "kernelforge/backend/Program.h"
#include "kernelforge/backend/webgpu/Context.h"

#include <memory>
#include <span>
#include <vector>

namespace kernelforge::webgpu {

/// One phase, ready to be bound and dispatched.
struct PhasePipeline {
  Handle<WGPUBindGroupLayout> layout;
  Handle<WGPUComputePipeline> pipeline;
};

/// The phases of one artifact, in order.
struct Kernel {
  std::vector<PhasePipeline> phases;
};

/// Whether the kernels of a program can run on this device at all, and are launched as they say
/// (Convention.h). Unusable, with the kernel, where not.
Status checkKernels(const Context &context, const Program &program);

/// Compiles the kernels of programs that checkKernels() found nothing in, by program and artifact;
/// on several threads where the library allows it. Failed, with the kernel and the message of the
/// shader's compiler, where one is refused.
Expected<std::vector<std::vector<Kernel>>>
loadKernels(const std::shared_ptr<Context> &context,
            std::span<const std::shared_ptr<const Program>> programs);

} // namespace kernelforge::webgpu
