// How kernels and tuning records find each other.
#pragma once

#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/records/Record.h"

namespace kernelforge {

/// The key of measurements of `kernel` on this machine with that target and thread count.
RecordKey recordKey(transformer::KernelOp kernel, const CpuTarget &target, int threads);

} // namespace kernelforge
