// What a kernel must compute and move at least, from its operations: the floor under its time.
#pragma once

#include "kernelforge/codegen/Launching.h"

#include <vector>

namespace kernelforge::transformer {
class KernelOp;
} // namespace kernelforge::transformer

namespace kernelforge {

/// Floating-point operations and bytes of one launch, over the kernel's sizes and the number of
/// cached positions that attention reads (an upper bound under a causal mask or a window).
struct KernelCost {
  std::vector<Extent> flopTerms, byteTerms;
  std::vector<Extent> flopTermsPerCached; ///< each times the cached positions
  int64_t bytesPerCached = 0;

  double flops(const int64_t *sizes, int64_t cached) const;
  double bytes(const int64_t *sizes, int64_t cached) const;
};

/// Matmuls count 2 M N K, attention 4 rows heads dim keys (half of it for each of keys and values,
/// which may differ in dim); rowwise operations count no flops. Each tensor argument and result
/// counts once, but of tables only the rows that are looked up.
KernelCost costOf(transformer::KernelOp kernel);

} // namespace kernelforge
