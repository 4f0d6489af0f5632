// A kernel as one call of a library: which matmul, and which of the kernel's arguments its operands
// are. Plain data that any artifact may hold; who runs it finds the library (LibraryMatmul.h).
#pragma once

#include "kernelforge/kernels/MatmulProblem.h"

#include <optional>

namespace kernelforge {

/// Operands are numbers among the kernel's arguments, sizes before all others. The weight lies as
/// in a file. The kernel has one result, the problem's.
struct LibraryCall {
  MatmulProblem problem; ///< with the most rows of the kernel's range
  int rowsSize = -1;     ///< the size that the rows follow; -1: there are always problem.m
  unsigned input = 0, weight = 0;
  std::optional<unsigned> bias = {}, residual = {};
  unsigned sizes = 0, arguments = 0; ///< how many the kernel takes, sizes among the arguments

  /// Where an operand lies among the buffers of a launch: its arguments without the sizes, then the
  /// result.
  unsigned bufferOf(unsigned argument) const { return argument - sizes; }
  unsigned buffers() const { return arguments - sizes + 1; }

  bool operator==(const LibraryCall &) const = default;
};

/// Unusable where the problem is none (checkProblem), or an operand or the size of the rows is not
/// among the kernel's.
Status checkLibraryCall(const LibraryCall &call);

} // namespace kernelforge
