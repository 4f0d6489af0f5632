// Which variant of a matmul a user gets who names none.
#pragma once

#include "kernelforge/codegen/Target.h"
#include "kernelforge/kernels/MatmulRegistry.h"
#include "kernelforge/records/RecordStore.h"

#include "mlir/IR/MLIRContext.h"

namespace kernelforge {

/// The key of measurements of a problem, of any variant: that of the kernel that it fuses into.
/// Unusable where it is not a single kernel, so that there are no records of it.
Expected<RecordKey> matmulKey(const MatmulProblem &problem, const Target &target, int threads);

/// The same for who has a context: making one takes longer than all the rest.
Expected<RecordKey> matmulKey(mlir::MLIRContext *context, const MatmulProblem &problem,
                              const Target &target, int threads);

/// A variant with its schedule (JSON; empty: its own choice), and why it was chosen.
struct AutoMatmul {
  const MatmulKernel *kernel = nullptr;
  std::string schedule;
  std::string why;
};

/// The first of these that there is:
///   1. the winner among the records of this problem, processor, target and thread count, over all
///      variants that can run it here, with a schedule that is still legal;
///   2. the generated variant;
///   3. where it cannot do the problem, the parallel one, which can do all.
/// Without `records`, or where they cannot be read (a warning), there are no records.
Expected<AutoMatmul> chooseMatmul(const MatmulRegistry &variants, const MatmulProblem &problem,
                                  const Target &target, int threads,
                                  const RecordStore *records = nullptr);

} // namespace kernelforge
