// WGSL for any GPU.
#pragma once

#include "kernelforge/codegen/CodeGenerator.h"

#include <memory>

namespace kernelforge::webgpu {

std::unique_ptr<CodeGenerator> createGenerator();

} // namespace kernelforge::webgpu
