#include "kernelforge/measure/Accuracy.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fmt/format.h>

namespace kernelforge {

/// A signalling-free NaN with a payload of its own: arithmetic yields 0x7fc00000 or 0xffc00000.
static constexpr uint32_t poisonBits = 0x7fc5a5a5;

void poison(std::span<float> values) {
  std::fill(values.begin(), values.end(), std::bit_cast<float>(poisonBits));
}

NotNumbers findNotNumbers(std::span<const float> values) {
  NotNumbers found;
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i]))
      continue;
    ++(std::bit_cast<uint32_t>(values[i]) == poisonBits ? found.poisoned : found.others);
    if (found.first < 0)
      found.first = static_cast<int64_t>(i);
  }
  return found;
}

std::optional<int64_t> firstDifferentBit(std::span<const float> a, std::span<const float> b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i]))
      return static_cast<int64_t>(i);
  return std::nullopt;
}

std::string placeOf(int64_t index, int64_t width) {
  return width > 0
             ? fmt::format("row {}, column {} (element {})", index / width, index % width, index)
             : fmt::format("element {}", index);
}

std::string notNumbersText(const Accuracy &a) {
  const std::string text = fmt::format("{} not numbers", a.nan + a.nanInBoth);
  if (a.nan > 0)
    return text + fmt::format(", {} of them on one side only", a.nan);
  return text + (a.nanInBoth > 0 ? ", as in the reference" : "");
}

/// All of Accuracy that no rule is needed for.
static Accuracy distances(std::span<const float> out, std::span<const float> reference) {
  Accuracy result;
  result.outputs = result.checked = static_cast<int64_t>(reference.size());
  for (float value : reference)
    if (std::isfinite(value))
      result.maxReference = std::max(result.maxReference, std::abs(double(value)));
  const double floor = 1e-3 * result.maxReference;

  double errorSquares = 0, referenceSquares = 0, outSquares = 0, products = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double x = out[i], r = reference[i];
    const bool poisoned = std::bit_cast<uint32_t>(out[i]) == poisonBits;
    result.poisonedLeft += poisoned;
    if (!std::isfinite(x) || !std::isfinite(r)) {
      if (!poisoned && (x == r || (std::isnan(x) && std::isnan(r))))
        ++result.nanInBoth;
      else if (result.nan++ == 0)
        result.worst = static_cast<int64_t>(i);
      continue;
    }
    const double error = std::abs(x - r);
    if (result.nan == 0 && (error > result.maxAbs || result.worst < 0))
      result.worst = static_cast<int64_t>(i);
    result.maxAbs = std::max(result.maxAbs, error);
    if (error > 0)
      result.maxRel = std::max(result.maxRel, error / std::max(std::abs(r), floor));
    errorSquares += error * error;
    referenceSquares += r * r;
    outSquares += x * x;
    products += x * r;
  }
  if (errorSquares > 0) {
    result.l2Rel = std::sqrt(errorSquares / referenceSquares);
    result.cosineDiff = 1 - 2 * products / (outSquares + referenceSquares);
  }
  return result;
}

Accuracy compareValues(std::span<const float> out, std::span<const float> reference,
                       double tolerance) {
  Accuracy result = distances(out, reference);
  result.tolerance = tolerance;
  result.pass = result.nan == 0 && result.poisonedLeft == 0 &&
                result.maxAbs <= tolerance * result.maxReference;
  return result;
}

//===----------------------------------------------------------------------===//
// The rule with a yardstick
//===----------------------------------------------------------------------===//

namespace {

/// What is allowed as multiples of the plain implementation's error and of f32's rounding: about
/// twice the worst of right kernels (docs/evaluation-fidelity.md). The last is for narrower types.
constexpr double largestErrors = 4, normOfErrors = 3, narrowRoundings = 2;

/// Elements from which on a maximum over them is no chance, and how far off fewer are taken to be
/// in the plain implementation, as a part of the largest value.
constexpr size_t manyElements = 64;
constexpr double fewElementsError = 0x1p-18;

/// The part of the largest value from which on a tolerance allows wrong results.
constexpr double largestTolerance = 0.125;

/// Half a unit in the last place of `value` as the type stores it. Of a block of q8_0 it is half a
/// step between quants, taking `value` for the block's largest.
double halfUnit(double value, ElementType type) {
  constexpr double quants = 254; // from the most negative to the largest
  if (type == ElementType::Q8_0)
    return std::isfinite(value) ? std::fabs(value) / quants : 0;
  const int digits = type == ElementType::F16 ? 11 : type == ElementType::BF16 ? 8 : 24;
  const int least = type == ElementType::F16 ? -14 : -126; // exponents below are denormal
  if (value == 0 || !std::isfinite(value))
    return 0;
  return std::ldexp(1.0, std::max(std::ilogb(value), least) - digits);
}

bool isConstant(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [&](float x) { return x == values.front(); });
}

/// Why a result with these distances does not pass; empty where it does. `place` names the worst
/// element, `allowed` is what its error may be.
std::string refusal(const Accuracy &a, std::span<const float> out, std::span<const float> reference,
                    double allowed, const std::string &place) {
  if (a.poisonedLeft > 0)
    return fmt::format("{} of {} elements were not written", a.poisonedLeft, a.checked);
  if (reference.empty())
    return {};
  const float is = out[static_cast<size_t>(std::max<int64_t>(a.worst, 0))];
  const float right = reference[static_cast<size_t>(std::max<int64_t>(a.worst, 0))];
  if (a.nan > 0)
    return fmt::format("{} is {} where {} is right ({} such elements)", place, is, right, a.nan);
  if (isConstant(out) && !isConstant(reference))
    return fmt::format("all elements are {}, those of the reference are not alike", out.front());
  if (a.maxAbs > allowed)
    return fmt::format("{} is {} where {} is right: it is off by {:.3g}, {:.3g} is allowed (a "
                       "plain f32 implementation is off by {:.3g})",
                       place, is, right, a.maxAbs, allowed, a.yardstickMaxAbs);
  if (a.l2Rel > a.l2Tolerance)
    return fmt::format("many elements are a little off: {:.3g} of the reference's norm, {:.3g} is "
                       "allowed (a plain f32 implementation is off by {:.3g}); the worst is {}",
                       a.l2Rel, a.l2Tolerance, a.yardstickL2Rel, place);
  if (allowed > largestTolerance * a.maxReference && a.maxAbs > 0)
    return fmt::format("right cannot be told from wrong: {:.3g} would have to be allowed where the "
                       "largest value is {:.3g}",
                       allowed, a.maxReference);
  return {};
}

} // namespace

Accuracy judge(std::span<const float> out, std::span<const float> reference,
               std::span<const float> plain, const JudgedElements &elements) {
  Accuracy result = distances(out, reference);
  const Accuracy yardstick = distances(plain, reference);
  result.judged = true;
  result.yardstickMaxAbs = yardstick.maxAbs;
  result.yardstickL2Rel = yardstick.l2Rel;

  const bool narrow = elements.stored != ElementType::F32;
  auto roundings = [&](double value, double factor) {
    return factor * halfUnit(value, ElementType::F32) +
           (narrow ? narrowRoundings * halfUnit(value, elements.stored) : 0);
  };
  double squares = 0, roundingSquares = 0;
  for (float value : reference)
    if (std::isfinite(value)) {
      const double rounding = roundings(value, normOfErrors);
      squares += double(value) * double(value);
      roundingSquares += rounding * rounding;
    }
  double plainError = yardstick.maxAbs, plainL2 = yardstick.l2Rel;
  if (reference.size() < manyElements && squares > 0) {
    const double least = fewElementsError * result.maxReference;
    plainError = std::max(plainError, least);
    plainL2 = std::max(plainL2, least * std::sqrt(double(reference.size()) / squares));
  }
  const double allowed = largestErrors * plainError + roundings(result.maxReference, largestErrors);
  if (squares > 0) {
    result.tolerance = allowed / result.maxReference;
    result.l2Tolerance = normOfErrors * plainL2 + std::sqrt(roundingSquares / squares);
  }

  const auto worst = static_cast<size_t>(std::max<int64_t>(result.worst, 0));
  const int64_t index =
      elements.indices.empty() ? static_cast<int64_t>(worst) : elements.indices[worst];
  result.why = refusal(result, out, reference, allowed, placeOf(index, elements.width));
  result.pass = result.why.empty();
  if (result.worst >= 0)
    result.worst = index;
  if (elements.outputs > 0)
    result.outputs = elements.outputs;
  return result;
}

} // namespace kernelforge
