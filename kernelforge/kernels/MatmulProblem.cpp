#include "kernelforge/kernels/MatmulProblem.h"

#include "kernelforge/support/Numbers.h"

#include <algorithm>
#include <fmt/format.h>

using namespace kernelforge;

std::string MatmulProblem::name() const {
  std::string text =
      fmt::format("matmul_{}x{}x{}_{}{}", m, n, k, info(weights).name, transpose ? "_t" : "");
  if (numerics != Numerics::F32)
    text.append("_as_").append(numericsName(numerics));
  for (EpilogueStep step : epilogue)
    text.append("_").append(epilogueStepName(step));
  return text;
}

bool MatmulProblem::has(EpilogueStep step) const {
  return std::ranges::find(epilogue, step) != epilogue.end();
}

double MatmulProblem::bytes() const {
  const ElementTypeInfo &t = info(weights);
  const double weightBytes = double(n) * double(k) / double(t.blockElements) * double(t.blockBytes);
  const double results = has(EpilogueStep::Residual) ? 2 : 1;
  return weightBytes + 4.0 * (double(m) * double(k) + results * double(m) * double(n) +
                              (has(EpilogueStep::Bias) ? double(n) : 0.0));
}

uint64_t MatmulProblem::weightBytes() const {
  const int64_t rows = transpose ? k : n, width = transpose ? n : k;
  return static_cast<uint64_t>(rows) * *rowBytes(weights, static_cast<uint64_t>(width));
}

Status kernelforge::checkProblem(const MatmulProblem &problem) {
  auto refuse = [&](std::string why, std::string hint) {
    return unusable("problem is not usable", problem.name(), std::move(why), std::move(hint));
  };
  // Products of two sizes, in bytes, stay far below 2^63.
  constexpr int64_t largest = int64_t(1) << 28;
  for (auto [name, size] : {std::pair("m", problem.m), {"n", problem.n}, {"k", problem.k}})
    if (size < 1 || size > largest)
      return refuse(
          fmt::format("{} is {}, but must be from 1 to {}", name, size, grouped(largest)),
          fmt::format("the nearest legal value is {}", std::clamp<int64_t>(size, 1, largest)));
  const ElementTypeInfo &t = info(problem.weights);
  if (problem.weights == ElementType::I32)
    return refuse("i32 is no type of weights", "take a floating-point or a quantized type");
  if (problem.transpose && t.isQuantized())
    return refuse(fmt::format("{} weights cannot be transposed: their blocks lie along k", t.name),
                  "leave out the transposition, or take f32, bf16 or f16 weights");
  if (multipliesIntegers(problem.numerics) && !t.hasIntegers())
    return refuse(fmt::format("numerics {} multiply by whole numbers, and {} weights are none",
                              numericsName(problem.numerics), t.name),
                  "take weights of a quantized type, or numerics f16");
  if (!problem.transpose && problem.k % t.blockElements != 0)
    return refuse(
        fmt::format("k is {}, which is no multiple of the {} elements of a {} block", problem.k,
                    t.blockElements, t.name),
        fmt::format("the nearest legal value is {}",
                    std::max<int64_t>(1, (problem.k + t.blockElements / 2) / t.blockElements) *
                        t.blockElements));
  return {};
}
