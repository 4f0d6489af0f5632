// The variant that all others are measured against: f64 sums and functions, a rounding to f32 after
// the sum and after each step of the epilogue.
#include "kernelforge/kernels/MatmulVariants.h"
#include "kernelforge/kernels/Reference.h"

#include <omp.h>

using namespace kernelforge;
using reference::MutableRows;
using reference::Rows;

namespace {

void applyReference(EpilogueStep step, const MatmulOperands &operands, MutableRows out) {
  using enum EpilogueStep;
  switch (step) {
  case Bias: // the same row beside every row
    return reference::add(out, Rows{operands.bias, out.rows, out.width, 0}, out);
  case Residual:
    return reference::add(out, reference::denseRows(operands.residual, out.rows, out.width), out);
  case Relu:
    return reference::activation(out, ActivationKind::Relu, out);
  case Silu:
    return reference::activation(out, ActivationKind::Silu, out);
  case Gelu:
    return reference::activation(out, ActivationKind::Gelu, out);
  case GeluTanh:
    return reference::activation(out, ActivationKind::GeluTanh, out);
  }
}

class Prepared final : public PreparedMatmul {
public:
  Prepared(const MatmulProblem &problem, const MatmulOperands &operands, int threads)
      : problem(problem), operands(operands), threads(threads) {}

  Status run(const float *input, float *output) override {
    const auto &[m, n, k, type, transpose, epilogue] = problem;
    const WeightView weight{type, operands.weight, transpose ? k : n, transpose ? n : k, false};
    const MutableRows out = reference::denseRows(output, m, n);
    const int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    reference::matmul(reference::denseRows(input, m, k), weight, transpose, {}, out);
    for (EpilogueStep step : epilogue)
      applyReference(step, operands, out);
    omp_set_num_threads(before);
    return {};
  }

private:
  MatmulProblem problem;
  MatmulOperands operands;
  int threads;
};

class ReferenceMatmul final : public MatmulKernel {
public:
  std::string_view name() const override { return "reference"; }
  MatmulSupport supports(const MatmulProblem &) const override { return MatmulSupport::ok(); }

private:
  Expected<std::unique_ptr<PreparedMatmul>> make(const MatmulProblem &problem,
                                                 const MatmulOperands &operands, const KnobValues &,
                                                 int threads) const override {
    return std::make_unique<Prepared>(problem, operands, threads);
  }
};

} // namespace

std::unique_ptr<MatmulKernel> kernelforge::makeReferenceMatmul() {
  return std::make_unique<ReferenceMatmul>();
}
