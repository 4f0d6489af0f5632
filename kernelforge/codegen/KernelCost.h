// What a kernel must compute and move at least, from its operations: the floor under its time.
#pragma once

#include "kernelforge/codegen/Launching.h"
#include "kernelforge/support/Numerics.h"

#include <vector>

namespace kernelforge::transformer {
class KernelOp;
} // namespace kernelforge::transformer

namespace kernelforge {

/// Floating-point operations and bytes of one launch, over the kernel's sizes. Where a size bounds
/// what attention reads, they are those of so many positions: an upper bound under a causal mask or
/// a window.
struct KernelCost {
  std::vector<Extent> flopTerms, byteTerms;
  Numerics numerics = Numerics::F32; ///< of the kernel's products
  /// False where nothing says how many positions an attention reads: they are left out then.
  bool isWhole = true;

  double flops(const int64_t *sizes) const;
  double bytes(const int64_t *sizes) const;
};

/// Matmuls count 2 M N K, attention 4 rows heads dim keys (half of it for each of keys and values,
/// which may differ in dim); rowwise operations count no flops. Each tensor argument and result
/// counts once, but of tables only the rows that are looked up. The keys of an attention are as
/// many as the size that it names `cached`; without one, as the pages of its table hold; a
/// contiguous cache says no number then, and the cost is not whole.
KernelCost costOf(transformer::KernelOp kernel);

} // namespace kernelforge
