// Rows for 'sample' with all that is special.
#pragma once

#include "kernelforge/support/CounterRandom.h"
#include "kernelforge/support/Sampling.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace kernelforge {

/// Rows of logits with all that is special: equal ones, no numbers, infinities, tiny ones.
inline std::vector<float> specialLogits(int64_t rows, int64_t vocabulary) {
  // Few are large: sums of three numbers of -4 to 4.
  std::vector<float> logits(static_cast<size_t>(rows * vocabulary));
  for (size_t i = 0; i < logits.size(); ++i)
    for (uint64_t part = 0; part < 3; ++part)
      logits[i] +=
          static_cast<float>(randomBits(static_cast<uint64_t>(vocabulary), 3 * i + part) >> 40) *
              0x1p-21F -
          4;
  auto at = [&](int64_t r, uint64_t seed) -> float & {
    return logits[r * vocabulary + randomBits(seed, r) % vocabulary];
  };
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < vocabulary; ++i)
      if (r % 7 == 1) // many equal ones
        logits[r * vocabulary + i] = std::round(logits[r * vocabulary + i]);
      else if (r % 7 == 2) // all of them
        logits[r * vocabulary + i] = -2;
      else if (r % 7 == 3) // next to nothing
        logits[r * vocabulary + i] *= 1e-39F;
    if (r % 7 == 4) {
      at(r, 1) = NAN;
      at(r, 2) = -INFINITY;
      at(r, 3) = 1e38F;
    }
    if (r % 7 == 5)
      std::fill_n(logits.begin() + r * vocabulary, vocabulary, r % 2 ? -INFINITY : NAN);
    if (r % 7 == 6)
      at(r, 4) = INFINITY;
  }
  return logits;
}

struct Sampled {
  std::vector<float> logits, settings;
  std::vector<int32_t> draws, positions, recent;
};

/// Every combination of filters comes up as rows go by.
inline Sampled sampled(int64_t rows, int64_t vocabulary, int64_t window) {
  Sampled s;
  s.logits = specialLogits(rows, vocabulary);
  for (int32_t r = 0; r < rows; ++r) {
    const float temperature = r % 5 == 4 ? 0 : r % 5 == 3 ? 0.01F : 0.5F + float(r % 3);
    const float topP = r % 2 ? 1 : r % 4 ? 0.9F : 0.3F;
    const auto row =
        SampleSettings::of(temperature, topP, r % 3 == 2 ? 0.1F : 0, r % 4 == 1 ? 1 : 1.7F).row();
    s.settings.insert(s.settings.end(), row.begin(), row.end());
    const std::vector<int32_t> k{0, 1, 7, static_cast<int32_t>(vocabulary), -3, 40};
    s.draws.insert(s.draws.end(), {k[r % 6], 11 * r - 5, r % 3 - 1});
    s.positions.push_back(r * r);
    for (int64_t j = 0; j < window; ++j)
      s.recent.push_back(j % 3 == 2 ? -1 : int32_t(randomBits(r, j % 5) % vocabulary));
  }
  return s;
}

} // namespace kernelforge
