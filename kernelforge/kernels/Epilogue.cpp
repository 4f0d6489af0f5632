#include "kernelforge/kernels/Epilogue.h"

#include "kernelforge/kernels/Processor.h"
#include "kernelforge/support/Suggest.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <numbers>

using namespace kernelforge;

namespace {

struct StepName {
  EpilogueStep step;
  std::string_view name;
};
constexpr StepName stepNames[] = {
    {EpilogueStep::Bias, "bias"},          {EpilogueStep::Relu, "relu"},
    {EpilogueStep::Silu, "silu"},          {EpilogueStep::Gelu, "gelu"},
    {EpilogueStep::GeluTanh, "gelu_tanh"}, {EpilogueStep::Residual, "residual"},
};

//===----------------------------------------------------------------------===//
// Functions of one value, without branches and calls, so that loops of them are vectorised. The
// polynomials are those of codegen/cpu/VectorMath.cpp.
//===----------------------------------------------------------------------===//

template <size_t n> KF_INLINE float polynomial(float x, const float (&c)[n]) {
  float sum = c[n - 1];
  for (size_t i = n - 1; i-- > 0;)
    sum = sum * x + c[i];
  return sum;
}

KF_INLINE float exponential(float x) {
  // x = n ln 2 + r with |r| <= ln 2 / 2; adding 1.5 * 2^23 leaves n in the low bits.
  constexpr float shift = 12582912.0f;
  const float shifted = x * std::numbers::log2e_v<float> + shift;
  const float n = shifted - shift;
  float r = n * -0.693359375f + x;
  r = n * 2.12194440054690583e-4f + r;
  const float q =
      polynomial(r, {0.49999994f, 0.166665211f, 0.0416682735f, 0.00836868398f, 0.00138200796f});
  const float power = r * r * q + r + 1.0f;
  const float y = std::bit_cast<float>(std::bit_cast<uint32_t>(power) +
                                       (std::bit_cast<uint32_t>(shifted) << 23));
  // The largest x whose exp is finite, and the smallest whose exp is normal.
  const float inRange = x <= 0x1.62e42ep+6f ? y : x + std::numeric_limits<float>::infinity();
  return x < -0x1.5d589ep+6f ? 0.0f : inRange;
}

/// What an activation is at -inf is 0, which the formulas would multiply by infinity.
KF_INLINE float zeroAtMinusInfinity(float x, float y) {
  return x == -std::numeric_limits<float>::infinity() ? 0.0f : y;
}

KF_INLINE float logisticTimes(float x, float y) {
  return zeroAtMinusInfinity(x, x / (1.0f + exponential(-y)));
}

/// 1 + erf(x), accurate where erf is near -1.
KF_INLINE float onePlusErf(float x) {
  const float magnitude = std::fabs(x);
  const float erf = magnitude * polynomial(magnitude * magnitude,
                                           {0.128379151f, -0.376125067f, 0.112819649f,
                                            -0.0267724283f, 0.00500232307f, -0.000604072178f}) +
                    magnitude;
  // erfc(a) = exp(-a^2) P(t), t = 1 / (1 + a / 2); from 10 on it is below all normal numbers.
  const float a = magnitude > 10.0f ? 10.0f : magnitude;
  const float t = 1.0f / (a * 0.5f + 1.0f);
  const float complement =
      exponential(-(a * a)) *
      polynomial(t, {-3.52023926e-05f, 0.282943934f, 0.273447901f, 0.295197815f, 0.0150715597f,
                     0.405326158f, -0.356415838f, 0.084199369f});
  const float small = 1.0f + std::copysign(erf, x);
  const float large = x < 0.0f ? complement : 2.0f - complement;
  return magnitude < 0.875f ? small : large;
}

KF_INLINE float gelu(float x) {
  return zeroAtMinusInfinity(x, 0.5f * x * onePlusErf(x * (std::numbers::sqrt2_v<float> / 2)));
}

KF_INLINE float geluTanh(float x) {
  // (1 + tanh(u)) / 2 is the logistic function of 2u, u = sqrt(2 / pi) (x + 0.044715 x^3).
  constexpr float factor = 1.59576912160573f; // 2 sqrt(2 / pi)
  return logisticTimes(x, factor * (x * (0.044715f * x * x + 1.0f)));
}

/// Applies one step to `count` values; `operand` is the part of bias or residual beside them.
KF_INLINE void applyStep(EpilogueStep step, const float *operand, int64_t count, float *values) {
  switch (step) {
  case EpilogueStep::Bias:
  case EpilogueStep::Residual:
    for (int64_t i = 0; i < count; ++i)
      values[i] += operand[i];
    return;
  case EpilogueStep::Relu: // NaN stays NaN
    for (int64_t i = 0; i < count; ++i)
      values[i] = values[i] <= 0.0f ? 0.0f : values[i];
    return;
  case EpilogueStep::Silu:
    for (int64_t i = 0; i < count; ++i)
      values[i] = logisticTimes(values[i], values[i]);
    return;
  case EpilogueStep::Gelu:
    for (int64_t i = 0; i < count; ++i)
      values[i] = gelu(values[i]);
    return;
  case EpilogueStep::GeluTanh:
    for (int64_t i = 0; i < count; ++i)
      values[i] = geluTanh(values[i]);
    return;
  }
}

using StepFunction = void (*)(EpilogueStep, const float *, int64_t, float *);

[[gnu::target(KF_AVX512)]] void applyStepAvx512(EpilogueStep step, const float *operand,
                                                int64_t count, float *values) {
  applyStep(step, operand, count, values);
}
[[gnu::target(KF_AVX2)]] void applyStepAvx2(EpilogueStep step, const float *operand, int64_t count,
                                            float *values) {
  applyStep(step, operand, count, values);
}
void applyStepPortable(EpilogueStep step, const float *operand, int64_t count, float *values) {
  applyStep(step, operand, count, values);
}

StepFunction stepFunction() {
  switch (vectorLevel()) {
  case VectorLevel::Avx512:
    return applyStepAvx512;
  case VectorLevel::Avx2:
    return applyStepAvx2;
  case VectorLevel::Portable:
    break;
  }
  return applyStepPortable;
}

} // namespace

std::string_view kernelforge::epilogueStepName(EpilogueStep step) {
  return stepNames[static_cast<size_t>(step)].name;
}

Expected<std::vector<EpilogueStep>> kernelforge::parseEpilogue(std::string_view text) {
  std::vector<EpilogueStep> steps;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view name = text.substr(0, comma);
    const auto *found = std::ranges::find(stepNames, name, &StepName::name);
    if (found == std::end(stepNames)) {
      std::vector<std::string> known;
      for (const StepName &entry : stepNames)
        known.emplace_back(entry.name);
      return unusable("epilogue is not usable", std::string(name), "there is no such step",
                      namesHint(name, known));
    }
    if (std::ranges::find(steps, found->step) != steps.end())
      return unusable("epilogue is not usable", std::string(name), "the step is given twice");
    steps.push_back(found->step);
    text.remove_prefix(comma);
    if (text == ",")
      return unusable("epilogue is not usable", ",", "it ends with a comma");
    text.remove_prefix(text.empty() ? 0 : 1);
  }
  return steps;
}

std::string kernelforge::epilogueText(std::span<const EpilogueStep> steps) {
  std::vector<std::string_view> names;
  for (EpilogueStep step : steps)
    names.push_back(epilogueStepName(step));
  return fmt::format("{}", fmt::join(names, ","));
}

void Epilogue::apply(const MatmulArea &area, float *out) const {
  static const StepFunction function = stepFunction();
  for (int64_t row = area.rowBegin; row < area.rowEnd; ++row) {
    const int64_t first = row * columns + area.columnBegin;
    for (EpilogueStep step : steps) {
      const float *operand = step == EpilogueStep::Bias       ? bias + area.columnBegin
                             : step == EpilogueStep::Residual ? residual + first
                                                              : nullptr;
      function(step, operand, area.columnEnd - area.columnBegin, out + first);
    }
  }
}

void Epilogue::applyToAll(int64_t rows, int threads, float *out) const {
  if (steps.empty())
    return;
  // Columns are cut, too, so that one long row keeps all threads busy.
  constexpr int64_t width = 2048;
  const int64_t cuts = (columns + width - 1) / width;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t part = 0; part < rows * cuts; ++part) {
    const int64_t row = part / cuts, column = part % cuts * width;
    apply({row, row + 1, column, std::min(column + width, columns), 0, 0}, out);
  }
}
