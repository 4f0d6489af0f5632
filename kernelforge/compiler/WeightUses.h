// Who reads which weight of a module, and in what layout.
#pragma once

#include "kernelforge/ir/Transformer.h"

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringMap.h"

#include <optional>
#include <string>

namespace kernelforge {

class WeightUses {
public:
  explicit WeightUses(mlir::ModuleOp module);

  /// Why argument `argument` of a kernel cannot be read row-major, as it lies in the file: what a
  /// function passes there is no weight, or someone else reads that weight packed. `readsRowMajor`
  /// says of which kernels and arguments this is to become possible. Nothing where it can.
  std::optional<std::string>
  obstacle(transformer::KernelOp kernel, unsigned argument,
           llvm::function_ref<bool(transformer::KernelOp, unsigned)> readsRowMajor) const;

  /// Makes that argument row-major: in the kernel, and in all functions that pass a weight there.
  void makeRowMajor(transformer::KernelOp kernel, unsigned argument) const;

private:
  /// Name of the weight that a launch passes there; empty where it is none.
  static llvm::StringRef weightOf(transformer::LaunchOp launch, unsigned argument);

  llvm::StringMap<mlir::SmallVector<transformer::LaunchOp>> launches; ///< by kernel
  llvm::StringMap<mlir::SmallVector<mlir::BlockArgument>> weights;    ///< by name
};

} // namespace kernelforge
