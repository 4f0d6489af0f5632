// What the operands of a product are rounded to before they are multiplied, by name. Meaning and
// rounding of each: docs/numerics.md.
#pragma once

#include "kernelforge/support/Error.h"

#include <functional>
#include <optional>
#include <span>
#include <string_view>

namespace kernelforge {

enum class Numerics {
  F32,    ///< nothing is rounded
  Tf32x3, ///< an f32 in parts of 11 bits
  BF16,
  F16,
  I8,   ///< rows in blocks of 32 whole numbers of 8 bits, by weights that are whole numbers, too
  I8x2, ///< the same with 16 bits, in two planes of 8
  Fp8   ///< e4m3
};

/// All of them, in the order of the enumeration.
std::span<const Numerics> allNumerics();

/// As attributes and the command line say it: "f32", "i8x2".
std::string_view numericsName(Numerics numerics);
std::optional<Numerics> numericsByName(std::string_view name);

/// The same of what a user chose: one of those that are computed somewhere, where "exact" is f32.
/// Unusable, naming them, where it is none.
Expected<Numerics> parseNumerics(std::string_view name);
/// As parseNumerics() takes it: "exact", "i8x2".
std::string_view numericsChoice(Numerics numerics);

/// Whether rows are rounded to blocks of whole numbers, which needs a quantized weight.
constexpr bool multipliesIntegers(Numerics numerics) {
  return numerics == Numerics::I8 || numerics == Numerics::I8x2;
}

/// A matmul or an attention, as far as numerics are chosen by it.
struct ProductTraits {
  bool isAttention = false;
  bool byQuantized = false; ///< all its weights are
  int64_t rows = 1;         ///< the most of a run
};

/// What products are given that do not say their own numerics: the same for all that can have them,
/// or by what each is.
class ChosenNumerics {
public:
  using Rule = std::function<Numerics(const ProductTraits &)>;
  ChosenNumerics(Numerics all = Numerics::F32) : all(all) {}
  ChosenNumerics(Rule rule) : rule(std::move(rule)) {}

  Numerics of(const ProductTraits &product) const { return rule ? rule(product) : all; }
  /// The numerics of all; nothing where a rule says.
  std::optional<Numerics> ofAll() const { return rule ? std::nullopt : std::optional(all); }

private:
  Numerics all = Numerics::F32;
  Rule rule;
};

/// Elements of such a block, along the sum.
inline constexpr int integerBlock = 32;

} // namespace kernelforge
