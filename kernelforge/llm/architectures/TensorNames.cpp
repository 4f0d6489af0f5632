#include "kernelforge/llm/architectures/TensorNames.h"

#include <fmt/format.h>

namespace kernelforge {

std::string tensorName(const WeightSlot &slot, std::span<const PartName> frame,
                       std::string_view layers, std::span<const PartName> layer) {
  const bool ofLayer = slot.layer >= 0;
  for (const PartName &name : ofLayer ? layer : frame)
    if (name.part == slot.part)
      return fmt::format("{}{}.{}", ofLayer ? fmt::format("{}.{}.", layers, slot.layer) : "",
                         name.huggingFace, slot.kind == WeightKind::Bias ? "bias" : "weight");
  return "";
}

} // namespace kernelforge
