// Is a result right? All distances from a reference that one may want to see, and the rule that
// decides.
#pragma once

#include <cstdint>
#include <span>

namespace kernelforge {

/// Distances of a result from its reference. Where the reference is not finite the result must be
/// the same there; these places count in `nan` if they differ and are left out of the distances.
struct Accuracy {
  double maxAbs = 0;        ///< largest |out - reference|
  double maxRel = 0;        ///< largest |out - reference| / max(|reference|, 1e-3 * maxReference)
  double l2Rel = 0;         ///< |out - reference| / |reference|, Euclidean
  double cosineDiff = 0;    ///< 1 - 2 * sum(out * reference) / sum(out^2 + reference^2)
  double maxReference = 0;  ///< largest |reference|
  int64_t nan = 0;          ///< places where only one of the two is a number, or infinities differ
  int64_t poisonedLeft = 0; ///< places that still hold what poison() put there
  int64_t worst = -1;       ///< index of maxAbs, or of the first place counted in `nan`
  double tolerance = 0;     ///< of maxAbs, as a multiple of maxReference
  bool pass = false;        ///< nan and poisonedLeft are 0 and maxAbs <= tolerance * maxReference
};

/// Compares `out` with `reference`, which must be as long. A wholly zero reference asks for a
/// wholly zero result.
Accuracy compareValues(std::span<const float> out, std::span<const float> reference,
                       double tolerance);

/// Fills `values` with a NaN that no computation yields, so that what was never written shows.
void poison(std::span<float> values);

} // namespace kernelforge
