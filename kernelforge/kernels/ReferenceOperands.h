// How reference operations round the operands of their products.
#pragma once

#include "kernelforge/kernels/Reference.h"
#include "kernelforge/support/Numerics.h"

#include <vector>

namespace kernelforge::reference {

/// What numerics make of operands in a precision. Where what is right is asked for nothing is
/// rounded; only what overflows is infinite there, too, as no right result is finite then.
class OperandRounding {
public:
  /// `numerics` must be one that isComputed() says yes to.
  OperandRounding(Numerics numerics, Precision precision)
      : numerics(numerics), isExact(precision == Precision::Exact) {}

  /// Whether there are reference semantics for it.
  static bool isComputed(Numerics numerics) {
    return numerics != Numerics::Tf32x3 && numerics != Numerics::Fp8;
  }

  /// Whether operands that are rounded element by element may change: those of f16 and bf16.
  bool changesElements() const { return numerics == Numerics::F16 || numerics == Numerics::BF16; }
  /// Whether those are rounded, not only infinite where they overflow.
  bool roundsElements() const { return changesElements() && !isExact; }
  /// Whether rows may change.
  bool changesRows() const {
    return changesElements() || (multipliesIntegers(numerics) && !isExact);
  }

  /// One operand by itself: rounded where changesElements().
  float element(float x) const;

  /// Rounds `n` elements of a weight, a key or a value, or of a query, in place.
  void elements(float *values, int64_t n) const;

  /// Rounds a row of activations that is summed over, in place. Of blocks of whole numbers the
  /// values that these stand for, rounded to f32; `n` is a multiple of integerBlock then.
  void row(float *values, int64_t n) const;

private:
  Numerics numerics;
  bool isExact;
};

/// Rounds a block of `n` values to whole numbers from -limit to limit times a scale, the largest
/// magnitude over `limit`, and back, in place. A block of zeros stays so. What a NaN or an infinity
/// gives is not said.
void roundToIntegers(float *values, int64_t n, float limit);

/// The largest whole number of a block: of 8 bits, and of two planes `256 * high + low`, each from
/// -128 to 127.
inline constexpr float largestI8 = 127, largestI8x2 = 127 * 256;

} // namespace kernelforge::reference
