// The ways to multiply that processors have: by numerics and target one is chosen, for matmuls and
// for attention alike.
#pragma once

#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/support/Numerics.h"

namespace kernelforge::cpu {

inline int64_t roundUp(int64_t x, int64_t to) { return (x + to - 1) / to * to; }
inline int64_t ceilDiv(int64_t x, int64_t y) { return (x + y - 1) / y; }

/// How the two sides of a product meet, by what the processor has for the operands' numerics.
struct PanelForm {
  enum class Unit {
    Floats, ///< f32 by multiply-adds
    Pairs,  ///< pairs of bf16 by AVX512-BF16
    Tiles,  ///< tiles of 16 x 32 bf16 by AMX
  };
  Unit unit = Unit::Floats;
  bool rounds = false; ///< f32 are rounded to bf16 and stay f32

  /// That of operands with these numerics.
  static PanelForm of(Numerics numerics, const Target &target);

  /// Whether what is multiplied is bf16, in memory or as f32 that were rounded.
  bool isBfloat16() const { return rounds || unit != Unit::Floats; }
  int64_t elementBytes() const { return unit == Unit::Floats ? 4 : 2; }
  /// Elements of K that an instruction multiplies, with those of one row and one column.
  int64_t step() const { return unit == Unit::Tiles ? 32 : unit == Unit::Pairs ? 2 : 1; }
};

} // namespace kernelforge::cpu
