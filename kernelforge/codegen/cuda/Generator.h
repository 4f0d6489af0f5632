// PTX for NVIDIA's GPUs.
#pragma once

#include "kernelforge/codegen/CodeGenerator.h"

#include <memory>

namespace kernelforge::cuda {

std::unique_ptr<CodeGenerator> createGenerator();

} // namespace kernelforge::cuda
