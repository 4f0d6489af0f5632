// The target that has no code: what its device gets is the kernel's own IR.
#pragma once

#include "kernelforge/codegen/CodeGenerator.h"

#include <memory>

namespace kernelforge::reference {

std::unique_ptr<CodeGenerator> createGenerator();

} // namespace kernelforge::reference
