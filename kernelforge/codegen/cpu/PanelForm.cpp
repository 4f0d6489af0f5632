#include "kernelforge/codegen/cpu/PanelForm.h"

using namespace kernelforge;
using namespace kernelforge::cpu;

PanelForm PanelForm::of(Numerics numerics, const Target &target) {
  if (numerics != Numerics::BF16)
    return {};
  if (!target.has("avx512bf16") || target.limits.vectorBits != 512)
    return {.rounds = true};
  return {.unit = target.has("amx-bf16") ? Unit::Tiles : Unit::Pairs};
}
