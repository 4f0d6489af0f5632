// Kernels of the operations that a step ends with.
#pragma once

#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Error.h"

#include <cstdint>
#include <string_view>

namespace kernelforge {

class KernelAnalysis;

/// True where a kernel holds an operation that a step ends with (endsStep()).
bool endsStep(transformer::KernelOp kernel);

/// The one operation of such a kernel, which checkStep() has passed.
mlir::Operation *stepOperation(transformer::KernelOp kernel);

/// Results of `advance`, by number.
enum class AdvanceResult : uint8_t { Ids, Positions, Slots, Lengths, Recent };

/// Unusable, naming kernel and operation, where such a kernel is none that code is generated for:
/// one operation that works on arguments and whose results are yielded in order. `processor` is for
/// people: "a GPU".
Status checkStep(const KernelAnalysis &kernel, std::string_view processor);

} // namespace kernelforge
