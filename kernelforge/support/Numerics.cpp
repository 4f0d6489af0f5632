#include "kernelforge/support/Numerics.h"

#include "kernelforge/support/Suggest.h"

#include <algorithm>

namespace kernelforge {

static constexpr Numerics all[] = {Numerics::F32, Numerics::Tf32x3, Numerics::BF16, Numerics::F16,
                                   Numerics::I8,  Numerics::I8x2,   Numerics::Fp8};

std::span<const Numerics> allNumerics() { return all; }

std::string_view numericsName(Numerics numerics) {
  switch (numerics) {
  case Numerics::F32:
    return "f32";
  case Numerics::Tf32x3:
    return "tf32x3";
  case Numerics::BF16:
    return "bf16";
  case Numerics::F16:
    return "f16";
  case Numerics::I8:
    return "i8";
  case Numerics::I8x2:
    return "i8x2";
  case Numerics::Fp8:
    return "fp8";
  }
  return "f32";
}

std::optional<Numerics> numericsByName(std::string_view name) {
  const auto *found = std::ranges::find(all, name, numericsName);
  return found == std::end(all) ? std::nullopt : std::optional(*found);
}

std::string_view numericsChoice(Numerics numerics) {
  return numerics == Numerics::F32 ? "exact" : numericsName(numerics);
}

Expected<Numerics> parseNumerics(std::string_view name) {
  static constexpr Numerics computed[] = {Numerics::F32, Numerics::BF16, Numerics::F16,
                                          Numerics::I8, Numerics::I8x2};
  std::vector<std::string> names;
  for (Numerics numerics : computed) {
    names.emplace_back(numericsChoice(numerics));
    if (name == names.back())
      return numerics;
  }
  return unusable("numerics are not usable", std::string(name),
                  "there is no code for such numerics", namesHint(name, names));
}

} // namespace kernelforge
