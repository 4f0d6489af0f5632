#include "kernelforge/kernels/VerifyMatmul.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <numbers>
#include <random>

using namespace kernelforge;

namespace {

/// An element of the result as it should be, and how far f32 may be from it.
struct Wanted {
  double value = 0, tolerance = 0;
};

double activated(EpilogueStep step, double x) {
  if (std::isinf(x) && x < 0 && step != EpilogueStep::Bias && step != EpilogueStep::Residual)
    return 0; // the limit there; the formulas would multiply it by 0
  switch (step) {
  case EpilogueStep::Silu:
    return x / (1 + std::exp(-x));
  case EpilogueStep::Gelu:
    return 0.5 * x * std::erfc(-x * (std::numbers::sqrt2 / 2));
  case EpilogueStep::GeluTanh:
    return 0.5 * x *
           (1 + std::tanh(std::sqrt(2 * std::numbers::inv_pi) * (x + 0.044715 * x * x * x)));
  case EpilogueStep::Relu:
    return x <= 0 ? 0 : x;
  case EpilogueStep::Bias:
  case EpilogueStep::Residual:
    break;
  }
  return x;
}

/// A result with guards around it. All of it starts as a NaN that no computation yields.
class GuardedResult {
public:
  explicit GuardedResult(int64_t size)
      : size(size), memory(static_cast<size_t>(size + 2 * guard), std::bit_cast<float>(pattern)) {}
  float *data() { return memory.data() + guard; }
  bool isLeft(int64_t i) const {
    return std::bit_cast<uint32_t>(memory[static_cast<size_t>(guard + i)]) == pattern;
  }
  /// The first place beside the result that was written, if any.
  std::optional<int64_t> written() const {
    for (int64_t i = -guard; i < size + guard; i == -1 ? i = size : ++i)
      if (!isLeft(i))
        return i;
    return std::nullopt;
  }

private:
  static constexpr uint32_t pattern = 0x7fa5a5a5;
  static constexpr int64_t guard = 1024;
  int64_t size;
  std::vector<float> memory;
};

class Trial {
public:
  explicit Trial(const MatmulProblem &problem) : problem(problem) {
    std::mt19937 random(static_cast<unsigned>(problem.m * 7919 + problem.n * 31 + problem.k));
    const auto [m, n, k] = std::tuple(problem.m, problem.n, problem.k);
    input = numbers(random, m * k);
    bias = numbers(random, n);
    residual = numbers(random, m * n);
    const std::vector<float> source = numbers(random, n * k);
    const ElementTypeInfo &t = info(problem.weights);
    // An odd address: a weight in a file has whatever alignment it has.
    weight.resize(static_cast<size_t>(n * k / t.blockElements * t.blockBytes + 2));
    quantizeRow(problem.weights, source.data(), static_cast<uint64_t>(n * k), weight.data() + 2);
    expanded.resize(source.size());
    dequantizeRow(problem.weights, weight.data() + 2, static_cast<uint64_t>(n * k),
                  expanded.data());
  }

  Status verify(const MatmulKernel &kernel, const MatmulOptions &options) const {
    KF_TRY(std::unique_ptr<PreparedMatmul> prepared,
           kernel.prepare(problem, {weight.data() + 2, bias.data(), residual.data()}, options));
    const std::string where =
        fmt::format("{}, {}, {} threads", kernel.name(), problem.name(), options.threads);
    auto refuse = [&](std::string why) {
      return makeError(ErrorKind::No, "variant is wrong", where, std::move(why));
    };
    const int64_t size = problem.m * problem.n;
    GuardedResult first(size), second(size);
    const std::vector<float> before = input;
    KF_CHECK(prepared->run(input.data(), first.data()));
    KF_CHECK(prepared->run(input.data(), second.data()));
    if (before != input)
      return refuse("it changed its input");
    for (const GuardedResult *result : {&first, &second})
      if (auto place = result->written())
        return refuse(fmt::format("it wrote to element {} of a result of {}", *place, size));
    for (int64_t i = 0; i < size; ++i) {
      if (first.isLeft(i))
        return refuse(fmt::format("it did not write element {}", i));
      const auto [value, tolerance] = wanted(i / problem.n, i % problem.n);
      const double actual = first.data()[i];
      if (!(std::fabs(actual - value) <= tolerance))
        return refuse(fmt::format("row {}, column {} is {}, not {} +- {:.2g}", i / problem.n,
                                  i % problem.n, actual, value, tolerance));
    }
    if (std::memcmp(first.data(), second.data(), static_cast<size_t>(size) * sizeof(float)) != 0)
      return refuse("a second run gave other bits");
    return {};
  }

private:
  static std::vector<float> numbers(std::mt19937 &random, int64_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(count));
    std::ranges::generate(values, [&] { return normal(random); });
    return values;
  }

  Wanted wanted(int64_t row, int64_t column) const {
    double sum = 0, magnitude = 0;
    for (int64_t i = 0; i < problem.k; ++i) {
      const int64_t at = problem.transpose ? i * problem.n + column : column * problem.k + i;
      const double product = double(input[static_cast<size_t>(row * problem.k + i)]) *
                             double(expanded[static_cast<size_t>(at)]);
      sum += product;
      magnitude += std::fabs(product);
    }
    for (EpilogueStep step : problem.epilogue) {
      const double operand = step == EpilogueStep::Bias ? bias[static_cast<size_t>(column)]
                             : step == EpilogueStep::Residual
                                 ? residual[static_cast<size_t>(row * problem.n + column)]
                                 : 0.0;
      sum = activated(step, sum) + operand;
      magnitude += std::fabs(operand);
    }
    // The bound of a sum of k rounded products and of the epilogue's steps, a few roundings each;
    // no activation function is steeper than 1.2.
    constexpr double unit = 0x1p-24;
    return {sum, 1.2 * unit * (double(problem.k) + 8) * magnitude + 8 * unit * std::fabs(sum)};
  }

  MatmulProblem problem;
  std::vector<float> input, bias, residual, expanded;
  std::vector<std::byte> weight;
};

} // namespace

std::vector<MatmulProblem> kernelforge::trialProblems() {
  using enum EpilogueStep;
  using enum ElementType;
  std::vector<MatmulProblem> problems = {
      {1, 1, 1},
      {1, 512, 256},
      {7, 333, 129},
      {17, 31, 64},
      {64, 1, 96},
      {3, 50, 1500},
      {67, 97, 1100},
      {2, 700, 33},
      {9, 100, 40, F32, true},
      {1, 130, 70, F32, true},
      {33, 49, 555, F16, true},
      {33, 49, 555, BF16, true},
      {8, 96, 64, F32, false, {Bias}},
      {7, 333, 129, F32, false, {Bias, Relu}},
      {5, 97, 64, F32, false, {Silu, Residual}},
      {5, 97, 64, F32, false, {Bias, Gelu, Residual}},
      {5, 97, 64, F32, true, {GeluTanh}},
      {1, 2500, 64, F32, false, {Residual, Bias}},
  };
  for (const ElementTypeInfo &t : elementTypes()) {
    if (t.type == I32)
      continue;
    const int64_t unit = std::max<int64_t>(32, t.blockElements);
    problems.push_back({1, 51, 3 * unit, t.type, false, {Bias}});
    problems.push_back({13, 101, 20 * unit, t.type});
  }
  return problems;
}

Status kernelforge::verifyMatmul(const MatmulKernel &kernel, const MatmulProblem &problem,
                                 const MatmulOptions &options) {
  KF_CHECK(checkProblem(problem));
  return Trial(problem).verify(kernel, options);
}

Expected<int> kernelforge::verifyMatmul(const MatmulKernel &kernel) {
  int verified = 0;
  for (const MatmulProblem &problem : trialProblems()) {
    const MatmulSupport support = kernel.supports(problem);
    if (support.kind == MatmulSupport::Kind::Unsupported)
      continue;
    for (int threads : {1, 2})
      KF_CHECK(verifyMatmul(kernel, problem, {threads, ""}));
    ++verified;
  }
  return verified;
}
