// The target-neutral passes. Each is one file; Passes.td says what it does and why.
#pragma once

#include "kernelforge/ir/Transformer.h"

#include "mlir/Pass/Pass.h"

namespace kernelforge {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "kernelforge/passes/Passes.h.inc"

} // namespace kernelforge
