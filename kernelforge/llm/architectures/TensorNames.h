// Names of tensors in Hugging Face checkpoints.
#pragma once

#include "kernelforge/ir/ModelDescription.h"

#include <span>
#include <string>
#include <string_view>

namespace kernelforge {

/// A part of the frame or of a layer, and what a family's checkpoints call it.
struct PartName {
  std::string_view part, huggingFace;
};

/// "NAME.weight" or "NAME.bias", for a part of a layer with "LAYERS.N." before it; empty where the
/// lists do not have the part.
std::string tensorName(const WeightSlot &slot, std::span<const PartName> frame,
                       std::string_view layers, std::span<const PartName> layer);

} // namespace kernelforge
