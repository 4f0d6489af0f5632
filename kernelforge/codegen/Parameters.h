// What a kernel's launches pass: its tensors and caches with what it does to them, and its sizes.
#pragma once

#include "kernelforge/codegen/Launching.h"
#include "kernelforge/ir/Transformer.h"

namespace kernelforge {

/// The buffers of a launch of `kernel`, in order: its tensor and cache arguments (caches that it
/// writes are read and written), then its results.
std::vector<Access> bufferAccess(transformer::KernelOp kernel);

/// Parameters of an entry that takes everything: all buffers, `workspaces` workspaces, all sizes.
std::vector<Parameter> allParameters(transformer::KernelOp kernel, size_t workspaces);

} // namespace kernelforge
