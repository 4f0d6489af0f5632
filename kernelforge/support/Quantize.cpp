// Makes blocks of numbers: quantizeRow().
#include "kernelforge/support/BlockFields.h"
#include "kernelforge/support/ElementType.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace kernelforge {

namespace {

using namespace fields;

/// Cuts off the fraction and keeps the result in [low, high]; NaN gives `low`.
int truncateInto(float value, int low, int high) {
  if (!(value > static_cast<float>(low)))
    return low;
  if (value >= static_cast<float>(high))
    return high;
  return static_cast<int>(value);
}

/// The quant whose value is the nearest to `x`.
int nearestQuant(const ElementTypeInfo &t, float x) {
  if (!t.values) {
    const float stored = std::round(x) + static_cast<float>(t.zero);
    return truncateInto(stored, 0, (1 << t.quantBits) - 1);
  }
  int best = 0;
  for (int q = 1; q < 16; ++q)
    if (std::fabs(x - static_cast<float>(t.value(q))) <
        std::fabs(x - static_cast<float>(t.value(best))))
      best = q;
  return best;
}

/// Scale and minimum for a sub-block's values by weighted least squares: for each of a range of
/// step widths around the plain one the values are rounded to quants, then the scale and minimum
/// that fit these quants best are computed; the best of all is taken. Large values weigh more. A
/// minimum is at most 0.
ScaleAndMin fitSubBlock(const ElementTypeInfo &t, const float *in) {
  const int64_t count = t.subElements;
  float low = 0.0f, high = 0.0f, largest = 0.0f, squares = 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    low = std::fmin(low, in[i]);
    high = std::fmax(high, in[i]);
    largest = std::fabs(in[i]) > std::fabs(largest) ? in[i] : largest;
    squares += in[i] * in[i];
  }
  // The value that the largest magnitude, or the range, becomes.
  const auto steps = static_cast<float>(t.hasMin() ? (1 << t.quantBits) - 1 : t.value(0));
  const float spacing = t.values ? 1.6f : 0.1f; // of candidates
  const float width = t.hasMin() ? high - low : largest;
  const float floorWeight = std::sqrt(squares / static_cast<float>(count));
  ScaleAndMin best{width / steps, t.hasMin() ? low : 0.0f};
  float leastError = std::numeric_limits<float>::infinity();
  for (int candidate = -10; candidate <= 10; ++candidate) {
    const float inverse = (steps + spacing * static_cast<float>(candidate)) / width;
    // Sums over the elements.
    float w1 = 0, wq = 0, wqq = 0, wx = 0, wqx = 0, wxx = 0;
    for (int64_t i = 0; i < count; ++i) {
      const float x = in[i], w = floorWeight + std::fabs(x);
      const float scaled = (t.hasMin() ? x - low : x) * inverse;
      const auto q = static_cast<float>(t.value(nearestQuant(t, scaled)));
      w1 += w;
      wq += w * q;
      wqq += w * q * q;
      wx += w * x;
      wqx += w * q * x;
      wxx += w * x * x;
    }
    ScaleAndMin fit{wqx / wqq, 0.0f};
    if (const float determinant = w1 * wqq - wq * wq; t.hasMin() && determinant > 0) {
      const ScaleAndMin both{(w1 * wqx - wx * wq) / determinant,
                             (wqq * wx - wq * wqx) / determinant};
      if (both.minimum <= 0)
        fit = both;
    }
    const float error = wxx - 2 * fit.scale * wqx - 2 * fit.minimum * wx +
                        fit.scale * fit.scale * wqq + 2 * fit.scale * fit.minimum * wq +
                        fit.minimum * fit.minimum * w1;
    if (error < leastError) {
      leastError = error;
      best = fit;
    }
  }
  return best;
}

/// Numbers e4m3: the largest magnitude becomes the largest number.
void quantizeE4M3(const ElementTypeInfo &t, const float *in, float largest, std::byte *block) {
  const float d = largest / 448.0f;
  // Of a number below the normal ones it would be infinite, and 0 times that no number.
  const float inverse = d != 0.0f && std::isfinite(1.0f / d) ? 1.0f / d : 0.0f;
  store(block + t.scaleOffset, d);
  for (int64_t j = 0; j < t.blockElements; ++j)
    block[t.quantsOffset + j] = static_cast<std::byte>(floatToE4M3(in[j] * inverse));
}

/// A table's values times a power of two: the one for which the largest magnitude stands between
/// the largest value and half of it.
void quantizeByPowers(const ElementTypeInfo &t, const float *in, float largest, std::byte *block) {
  const bool isThere = largest > 0 && std::isfinite(largest);
  const int below = std::ilogb(static_cast<float>(t.largestValue()));
  const int e = isThere ? std::clamp(std::ilogb(largest) - below + 128, 0, 254) : 0;
  store(block + t.scaleOffset, static_cast<uint8_t>(e));
  const float inverse = std::ldexp(1.0f, 128 - e);
  for (int64_t j = 0; j < t.blockElements; ++j)
    QuantPlace(t, j).store(t, block, isThere ? nearestQuant(t, in[j] * inverse) : 0);
}

/// A table's values times what fits best.
void quantizeByTable(const ElementTypeInfo &t, const float *in, std::byte *block) {
  const uint16_t d = floatToHalf(fitSubBlock(t, in).scale);
  store(block + t.scaleOffset, d);
  const float scale = halfToFloat(d), inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
  for (int64_t j = 0; j < t.blockElements; ++j)
    QuantPlace(t, j).store(t, block, nearestQuant(t, in[j] * inverse));
}

/// The scale and offset of ggml's reference quantizers, of blocks whose bytes are zero. With a
/// minimum, the range [min, max] is cut into 2^bits - 1 steps; with a zero point, the value of
/// largest magnitude becomes quant 0; otherwise the largest magnitude becomes the largest signed
/// quant.
void quantizeBlock(const ElementTypeInfo &t, const float *in, std::byte *block) {
  float low = in[0], high = in[0], largest = 0.0f;
  for (int64_t j = 0; j < t.blockElements; ++j) {
    low = std::fmin(low, in[j]);
    high = std::fmax(high, in[j]);
    if (std::fabs(in[j]) > std::fabs(largest))
      largest = in[j];
  }
  const int top = (1 << t.quantBits) - 1;
  float d, bias, subtract = 0.0f;
  if (t.isE4M3)
    return quantizeE4M3(t, in, std::fabs(largest), block);
  if (t.scaleFormat == ScaleFormat::E8M0)
    return quantizeByPowers(t, in, std::fabs(largest), block);
  if (t.values)
    return quantizeByTable(t, in, block);
  if (t.hasMin()) {
    d = (high - low) / static_cast<float>(top);
    bias = 0.5f;
    subtract = low;
    store(block + t.minOffset, floatToHalf(low));
  } else if (t.zero != 0) {
    d = largest / static_cast<float>(-t.zero);
    bias = static_cast<float>(t.zero) + 0.5f;
  } else {
    const int largestQuant = top / 2; // both signs
    d = std::fabs(largest) / static_cast<float>(largestQuant);
    bias = 0.0f;
  }
  store(block + t.scaleOffset, floatToHalf(d));
  // A scale that is subnormal has an infinite inverse; the quants are then clamped.
  const float inverse = d != 0.0f ? 1.0f / d : 0.0f;

  for (int64_t j = 0; j < t.blockElements; ++j) {
    const float scaled = (in[j] - subtract) * inverse;
    QuantPlace(t, j).store(t, block,
                           t.quantBits == 8 ? truncateInto(std::round(scaled), -(top / 2), top / 2)
                                            : truncateInto(scaled + bias, 0, top));
  }
}

/// What the factor of a sub-block's scale can be.
std::pair<int, int> rangeOf(SubScales kind) {
  if (kind == SubScales::Signed8)
    return {-128, 127};
  const auto excess = static_cast<int>(subScaleExcess(kind));
  return {-excess, (kind == SubScales::Packed4 ? 15 : 63) - excess};
}

/// A block of sub-blocks: each is fitted by itself, then the scales (and minima) are quantized to
/// what d (and m) times a sub-scale can be, and the values to those.
void quantizeSubBlocks(const ElementTypeInfo &t, const float *in, std::byte *block) {
  std::array<ScaleAndMin, 16> fits;
  const int64_t count = t.blockElements / t.subElements;
  assert(count <= static_cast<int64_t>(fits.size()));
  float largest = 0.0f, lowest = 0.0f;
  for (int64_t s = 0; s < count; ++s) {
    fits[s] = fitSubBlock(t, in + s * t.subElements);
    if (std::fabs(fits[s].scale) > std::fabs(largest))
      largest = fits[s].scale;
    lowest = std::fmin(lowest, fits[s].minimum);
  }
  const auto [least, most] = rangeOf(t.subScales);
  const float d = largest / static_cast<float>(least != 0 ? least : most);
  const float m = -lowest / static_cast<float>(most);
  store(block + t.scaleOffset, floatToHalf(d));
  if (t.hasMin())
    store(block + t.minOffset, floatToHalf(m));
  for (int64_t s = 0; s < count; ++s) {
    const float sc = d != 0.0f ? std::round(fits[s].scale / d) : 0.0f;
    const float mn = m != 0.0f ? std::round(-fits[s].minimum / m) : 0.0f;
    storeSubScale(t, block, s, false, truncateInto(sc, least, most));
    if (t.hasMin())
      storeSubScale(t, block, s, true, truncateInto(mn, 0, most));
    const ScaleAndMin stored = loadScale(t, block, s);
    const float inverse = stored.scale != 0.0f ? 1.0f / stored.scale : 0.0f;
    for (int64_t i = s * t.subElements; i < (s + 1) * t.subElements; ++i)
      QuantPlace(t, i).store(t, block, nearestQuant(t, (in[i] - stored.minimum) * inverse));
  }
}

} // namespace

void quantizeRow(ElementType type, const float *in, uint64_t elements, std::byte *row) {
  const ElementTypeInfo &t = info(type);
  assert(elements % static_cast<uint64_t>(t.blockElements) == 0 && "a row is whole blocks");
  switch (type) {
  case ElementType::F32:
    if (elements != 0)
      std::memcpy(row, in, elements * sizeof(float));
    return;
  case ElementType::F16:
    for (uint64_t i = 0; i < elements; ++i)
      store(row + 2 * i, floatToHalf(in[i]));
    return;
  case ElementType::BF16:
    for (uint64_t i = 0; i < elements; ++i)
      store(row + 2 * i, floatToBfloat16(in[i]));
    return;
  case ElementType::I32: // to nearest, kept inside the type: the cast alone would be undefined
    for (uint64_t i = 0; i < elements; ++i) {
      double rounded = std::nearbyint(static_cast<double>(in[i]));
      double inside = std::fmin(std::fmax(rounded, -2147483648.0), 2147483647.0);
      store(row + 4 * i, static_cast<int32_t>(inside));
    }
    return;
  default:
    for (uint64_t i = 0; i < elements; i += t.blockElements, row += t.blockBytes) {
      std::memset(row, 0, t.blockBytes);
      t.hasSubScales() ? quantizeSubBlocks(t, in + i, row) : quantizeBlock(t, in + i, row);
    }
  }
}

} // namespace kernelforge
