// Code for this kind of processor.
#pragma once

#include "kernelforge/codegen/CodeGenerator.h"

#include <memory>

namespace kernelforge::cpu {

std::unique_ptr<CodeGenerator> createGenerator();

} // namespace kernelforge::cpu
