// What the variants that call a vendor's library have in common.
#pragma once

#include "kernelforge/kernels/MatmulKernel.h"
#include "kernelforge/kernels/VendorLibrary.h"

#include <functional>

namespace kernelforge {

/// Ok for f32 weights and numerics where `library` was opened; says why otherwise.
template <typename Library>
MatmulSupport vendorSupport(const MatmulProblem &problem, const Expected<Library> &library) {
  if (problem.weights != ElementType::F32)
    return MatmulSupport::unsupported("the library multiplies f32 by f32 weights only, not by " +
                                      std::string(info(problem.weights).name));
  if (!library)
    return MatmulSupport::unavailable(library.error().line());
  return MatmulSupport::inF32(problem);
}

/// cblas_sgemm with its integers of 32 or 64 bits.
template <typename Int>
using Sgemm = void(int order, int transposeA, int transposeB, Int m, Int n, Int k, float alpha,
                   const float *a, Int lda, const float *b, Int ldb, float beta, float *c, Int ldc);

/// A matmul by cblas_sgemm: the product, then the epilogue in a pass of its own.
template <typename Int> class SgemmMatmul final : public PreparedMatmul {
public:
  /// `setThreads` is called before each run, as the count is the library's and not the caller's.
  /// Where the library has threads of its own, they spin after a call, and a team of ours would
  /// wait a time slice, 4 ms, for their cores: the calling thread does an epilogue that takes no
  /// longer.
  SgemmMatmul(const MatmulProblem &problem, const MatmulOperands &operands, Sgemm<Int> *sgemm,
              std::function<void(int)> setThreads, int threads, bool hasOwnThreads)
      : problem(problem), operands(operands), sgemm(sgemm), setThreads(std::move(setThreads)),
        threads(threads),
        epilogueThreads(hasOwnThreads && problem.m * problem.n < inOneSlice ? 1 : threads) {}

  Status run(const float *input, float *output) override {
    constexpr int rowMajor = 101, noTranspose = 111, transpose = 112;
    const auto m = static_cast<Int>(problem.m), n = static_cast<Int>(problem.n),
               k = static_cast<Int>(problem.k);
    setThreads(threads);
    // A weight as in a file, [n, k], is the transposed right operand.
    sgemm(rowMajor, noTranspose, problem.transpose ? noTranspose : transpose, m, n, k, 1.0f, input,
          k, reinterpret_cast<const float *>(operands.weight), problem.transpose ? n : k, 0.0f,
          output, n);
    Epilogue{problem.epilogue, operands.bias, operands.residual, problem.n}.applyToAll(
        problem.m, epilogueThreads, output);
    return {};
  }

private:
  static constexpr int64_t inOneSlice = int64_t(1) << 22; ///< results, at a nanosecond each

  MatmulProblem problem;
  MatmulOperands operands;
  Sgemm<Int> *sgemm;
  std::function<void(int)> setThreads;
  int threads, epilogueThreads;
};

} // namespace kernelforge
