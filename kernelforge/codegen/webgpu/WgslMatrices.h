// Matrices of a subgroup in plain WGSL, for devices that have no matrix units: to see that code is
// right, not for speed. 32 threads that follow one another stand for a subgroup, whatever the
// device's are; each holds as many numbers of a matrix, row by row. All threads of a workgroup must
// come to a multiplication.
#pragma once

#include "mlir/Dialect/GPU/IR/GPUDialect.h"

#include <map>
#include <string>

namespace kernelforge::webgpu {

/// The functions that emulate what a module's code does with matrices.
class EmulatedMatrices {
public:
  /// Type of a variable that holds a thread's share of a matrix.
  static std::string typeText(mlir::gpu::MMAMatrixType matrix);

  // Calls; `memory` is the name of an array of vectors or numbers of `element`.
  std::string load(mlir::gpu::MMAMatrixType matrix, const std::string &memory, mlir::Type element,
                   const std::string &at, int64_t stride, bool columnMajor);
  std::string store(mlir::gpu::MMAMatrixType matrix, const std::string &value,
                    const std::string &memory, mlir::Type element, const std::string &at,
                    int64_t stride);
  std::string multiply(mlir::gpu::MMAMatrixType left, mlir::gpu::MMAMatrixType right,
                       const std::string &a, const std::string &b, const std::string &sum);
  std::string scale(mlir::gpu::MMAMatrixType matrix, const std::string &value,
                    const std::string &factor);
  /// The f32 at the lane whose number differs in the bits of `mask`.
  std::string shuffleXor(const std::string &value, const std::string &mask);

  bool isUsed() const { return !functions.empty(); }
  /// What a function that uses any of them begins with.
  static std::string start(const std::string &launch);
  /// Workgroups have up to so many threads.
  void setThreads(int64_t count) { threads = std::max(threads, count); }

  /// Everything that was called, and the memory that it needs.
  std::string text() const;

private:
  std::map<std::string, std::string> functions; ///< by name
  int64_t threads = 0, leftElements = 0, rightElements = 0;
};

} // namespace kernelforge::webgpu
