// Kernels of the operations that a step ends with.
#pragma once

#include <string>

namespace kernelforge::transformer {
class KernelOp;
} // namespace kernelforge::transformer

namespace kernelforge {

/// True where a kernel holds an operation that a step ends with (endsStep()).
bool endsStep(transformer::KernelOp kernel);

/// Why such a kernel is none that code is generated for; empty where it is one operation that works
/// on arguments and whose results are yielded in order.
std::string stepObstacle(transformer::KernelOp kernel);

} // namespace kernelforge
