// What WGSL is made for: an adapter with its features, or any.
#pragma once

#include "kernelforge/codegen/Target.h"
#include "kernelforge/support/Error.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge::webgpu {

/// What matrix units multiply at once, over the threads of a subgroup: an m x k matrix with a k x n
/// one, both of `type`. Sums are f32 where that is f16, i32 where it is i8.
struct MatrixShape {
  std::string type; ///< "f16" or "i8"
  int64_t m = 0, n = 0, k = 0;

  bool operator==(const MatrixShape &) const = default;
  /// The feature that says that it is there: "subgroup-matrix-f16-16x16x16", in the order m, n, k.
  std::string feature() const;
};

/// The shape that a feature names; nothing where it is another feature.
std::optional<MatrixShape> matrixShape(std::string_view feature);

/// The shapes that a target has, in the order of their names.
std::vector<MatrixShape> matrixShapes(const Target &target);

/// The target of `--target-cpu` and `--target-features`: `native` has the features of the adapter
/// that code can use, `portable` none. The list adds (+x) and takes away (-x); -subgroup-matrix
/// takes away every shape. Without a feature that it needs, another one goes, too: subgroups for
/// matrices, shader-f16 for those of f16; in `portable` what is added brings along what it needs.
/// Subgroups of `portable` have 4 to 128 threads, and 32 where it has matrices. Unusable, naming
/// near names, where a word is not known; Missing where an adapter is needed, or a feature that it
/// has not.
Expected<Target> parseTarget(std::string_view chip, std::string_view features,
                             const DeviceInfo *device);

/// Missing, naming what is lacking, where an adapter does not have what the target's code may need.
Status checkRunnable(const Target &target, const DeviceInfo &device);

} // namespace kernelforge::webgpu
