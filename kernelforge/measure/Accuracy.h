// Is a result right? All distances from a reference that one may want to see, and the two rules
// that decide: a fixed tolerance, or a multiple of what an honest simple implementation is off by.
#pragma once

#include "kernelforge/support/ElementType.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace kernelforge {

/// Distances of a result from its reference. Where the reference is not finite the result must be
/// the same there; these places count in `nan` if they differ and are left out of the distances.
struct Accuracy {
  int64_t outputs = 0;        ///< elements of the result
  int64_t checked = 0;        ///< of those, compared
  double maxAbs = 0;          ///< largest |out - reference|
  double maxRel = 0;          ///< largest |out - reference| / max(|reference|, 1e-3 maxReference)
  double l2Rel = 0;           ///< |out - reference| / |reference|, Euclidean
  double cosineDiff = 0;      ///< 1 - 2 * sum(out * reference) / sum(out^2 + reference^2)
  double maxReference = 0;    ///< largest |reference|
  int64_t nan = 0;            ///< places where only one is a number, or infinities differ
  int64_t nanInBoth = 0;      ///< places that are alike and no number: right, and worth a word
  int64_t poisonedLeft = 0;   ///< places that still hold what poison() put there
  int64_t worst = -1;         ///< index of maxAbs, or of the first place counted in `nan`
  double tolerance = 0;       ///< of maxAbs, as a multiple of maxReference
  bool judged = false;        ///< by judge(): the fields below are set
  double yardstickMaxAbs = 0; ///< maxAbs of the plain implementation
  double yardstickL2Rel = 0;  ///< l2Rel of the plain implementation
  double l2Tolerance = 0;     ///< of l2Rel
  bool pass = false;          ///< by the rule of the function that made this
  std::string why;            ///< one sentence where judge() did not let it pass
};

/// Compares `out` with `reference`, which must be as long. A wholly zero reference asks for a
/// wholly zero result. Passes where nan and poisonedLeft are 0 and
/// maxAbs <= tolerance * maxReference.
Accuracy compareValues(std::span<const float> out, std::span<const float> reference,
                       double tolerance);

/// What judge() knows about the elements that it is given.
struct JudgedElements {
  ElementType stored = ElementType::F32; ///< the coarsest type that it is rounded to
  int64_t width = 0;                     ///< of a row, to name places by; 0: by index alone
  std::span<const int64_t> indices = {}; ///< of each element in the whole result; empty: all of it
  int64_t outputs = 0;                   ///< elements of the whole result; 0: as many as are given
};

/// Compares `out` with `reference` by the distance of `plain` from it: what an honest simple f32
/// implementation of the same computation gives (reference::Precision::Plain). All three as long as
/// each other. Passes where all of these hold:
///   1. nan and poisonedLeft are 0;
///   2. max|out - ref| <= 4 max|plain - ref| + 4 h + 2 t, h = half a unit in the last place, in
///      f32, of the largest |ref|, t the same in the stored type where that is narrower: a right
///      value may lie next to where rounding changes, and round the other way. The shape is that of
///      FlashAttention's tests (hopper/test_flash_attn.py), whose factors are 2 or 3;
///   3. |out - ref| <= 3 |plain - ref| + 3 |h| + 2 |t|, Euclidean norms, h and t of each ref: sees
///      an error of many elements, each within 2;
///   4. `out` is neither all zero nor constant where `reference` is not.
/// A maximum of few values is a chance: with fewer than 64 elements each is taken to be off by at
/// least 2^-18 of the largest |ref| in the plain implementation. Where what 2 allows is more than
/// an eighth of the largest |ref| the problem cannot tell right from wrong, and nothing passes.
Accuracy judge(std::span<const float> out, std::span<const float> reference,
               std::span<const float> plain, const JudgedElements &elements = {});

/// The first element of two results that differs in a bit; nothing where none does. Both as long.
std::optional<int64_t> firstDifferentBit(std::span<const float> a, std::span<const float> b);

/// An element of a result of rows of `width`, in words: "row 3, column 5 (element 101)"; "element
/// 101" where width is 0.
std::string placeOf(int64_t index, int64_t width);

/// Elements of a result that are no numbers.
struct NotNumbers {
  int64_t poisoned = 0; ///< still hold what poison() put there
  int64_t others = 0;   ///< NaN and infinities
  int64_t first = -1;   ///< index of the first; -1 where there is none
};
NotNumbers findNotNumbers(std::span<const float> values);

/// What is to be said of the places that are no number in the result or in the reference: "0 not
/// numbers"; "3 not numbers, as in the reference"; "5 not numbers, 2 of them on one side only".
std::string notNumbersText(const Accuracy &accuracy);

/// Fills `values` with a NaN that no computation yields, so that what was never written shows.
void poison(std::span<float> values);

} // namespace kernelforge
