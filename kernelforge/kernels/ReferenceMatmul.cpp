// And the variant that all others are measured against.
#include "kernelforge/kernels/ReferenceMatmul.h"

#include "kernelforge/kernels/MatmulVariants.h"
#include "kernelforge/kernels/ReferenceLoops.h"
#include "kernelforge/kernels/ReferenceOperands.h"

#include <algorithm>
#include <fmt/format.h>
#include <numeric>

using namespace kernelforge;
using reference::MutableRows;
using reference::Precision;
using reference::Rows;

namespace {

/// So many OpenMP threads, until the end of the scope.
class Threads {
public:
  explicit Threads(int count) : before(omp_get_max_threads()) { omp_set_num_threads(count); }
  ~Threads() { omp_set_num_threads(before); }
  Threads(const Threads &) = delete;
  Threads &operator=(const Threads &) = delete;

private:
  int before;
};

void applyStep(EpilogueStep step, const MatmulOperands &operands, MutableRows out,
               Precision precision) {
  using enum EpilogueStep;
  switch (step) {
  case Bias: // the same row beside every row
    return reference::add(out, Rows{operands.bias, out.rows, out.width, 0}, out);
  case Residual:
    return reference::add(out, reference::denseRows(operands.residual, out.rows, out.width), out);
  case Relu:
    return reference::activation(out, ActivationKind::Relu, out, precision);
  case Silu:
    return reference::activation(out, ActivationKind::Silu, out, precision);
  case Gelu:
    return reference::activation(out, ActivationKind::Gelu, out, precision);
  case GeluTanh:
    return reference::activation(out, ActivationKind::GeluTanh, out, precision);
  }
}

/// Expands column `column` of the product: a row of the weight, or, transposed, a column of it.
void readColumn(const WeightView &weight, bool transpose, int64_t column, float *out) {
  if (!transpose)
    return weight.readRow(column, out);
  const int64_t bytes = info(weight.type).blockBytes;
  for (int64_t i = 0; i < weight.rows; ++i)
    dequantizeRow(weight.type, weight.data + (i * weight.width + column) * bytes, 1, out + i);
}

WeightView weightOf(const MatmulProblem &problem, const MatmulOperands &operands) {
  return {problem.weights, operands.weight, problem.transpose ? problem.k : problem.n,
          problem.transpose ? problem.n : problem.k};
}

class PreparedReference final : public PreparedMatmul {
public:
  PreparedReference(const MatmulProblem &problem, const MatmulOperands &operands, int threads)
      : problem(problem), operands(operands), threads(threads) {}

  Status run(const float *input, float *output) override {
    reference::matmulProblem(problem, operands, input, output, threads);
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
  MatmulSupport supports(const MatmulProblem &problem) const override {
    return reference::OperandRounding::isComputed(problem.numerics)
               ? MatmulSupport::ok()
               : MatmulSupport::unsupported(
                     fmt::format("{} has no reference semantics", numericsName(problem.numerics)));
  }

private:
  Expected<std::unique_ptr<PreparedMatmul>> make(const MatmulProblem &problem,
                                                 const MatmulOperands &operands, const KnobValues &,
                                                 int threads) const override {
    return std::make_unique<PreparedReference>(problem, operands, threads);
  }
};

} // namespace

std::unique_ptr<MatmulKernel> kernelforge::makeReferenceMatmul() {
  return std::make_unique<ReferenceMatmul>();
}

void reference::matmulProblem(const MatmulProblem &problem, const MatmulOperands &operands,
                              const float *input, float *output, int threads, Precision precision) {
  const Threads scope(threads);
  const MutableRows out = denseRows(output, problem.m, problem.n);
  matmul(denseRows(input, problem.m, problem.k), weightOf(problem, operands), problem.transpose, {},
         out, precision, problem.numerics);
  for (EpilogueStep step : problem.epilogue)
    applyStep(step, operands, out, precision);
}

void reference::matmulElements(const MatmulProblem &problem, const MatmulOperands &operands,
                               const float *input, std::span<const int64_t> indices,
                               std::span<float> out, int threads, Precision precision) {
  const Threads scope(threads);
  const int64_t n = problem.n, k = problem.k, count = static_cast<int64_t>(indices.size());
  const WeightView weight = weightOf(problem, operands);
  const OperandRounding rounding(problem.numerics, precision);
  std::vector<int64_t> order(indices.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, {}, [&](int64_t i) { return std::pair(indices[i] % n, indices[i]); });

  PerThread<float> columns(k), rows(k);
#pragma omp parallel
  {
    float *column = columns.mine(), *rounded = rows.mine();
    int64_t expanded = -1;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = order[static_cast<size_t>(i)], index = indices[static_cast<size_t>(at)];
      if (index % n != expanded) {
        readColumn(weight, problem.transpose, expanded = index % n, column);
        rounding.elements(column, k);
      }
      const float *row = input + index / n * k;
      if (rounding.changesRows()) {
        std::copy_n(row, k, rounded);
        rounding.row(rounded, k);
        row = rounded;
      }
      out[static_cast<size_t>(at)] = dotProduct(row, column, k, precision);
    }
  }

  // The epilogue works element by element: one row of them, with the operands that belong to each.
  std::vector<float> bias, residual;
  for (int64_t index : indices) {
    if (operands.bias && problem.has(EpilogueStep::Bias))
      bias.push_back(operands.bias[index % n]);
    if (operands.residual && problem.has(EpilogueStep::Residual))
      residual.push_back(operands.residual[index]);
  }
  for (EpilogueStep step : problem.epilogue)
    applyStep(step, {operands.weight, bias.data(), residual.data()},
              denseRows(out.data(), 1, count), precision);
}
