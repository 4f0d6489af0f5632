// RoPE as config.json states it.
#pragma once

#include "kernelforge/ir/ModelDescription.h"
#include "kernelforge/support/Json.h"

namespace kernelforge {

/// What a family gives where a configuration is silent.
struct RopeDefaults {
  double theta = 10000;
  int64_t originalContext = 0; ///< before it was stretched; 0: what the model states
  bool rotatesPart = false;    ///< a partial_rotary_factor counts; others are refused
  bool ofRoot = true;          ///< theta may be the root's
};

/// The object that has the scaling's fields: rope_parameters, which has theta too, or rope_scaling;
/// nothing where there is neither, and both are refused.
Expected<std::optional<JsonView>> ropeFields(const JsonView &root);

/// A table for heads of `headDim`. `fields` is ropeFields(), or what of it is about some layers.
/// `context`, what the model states as its longest sequence, grows where a rule stretches that.
/// Scaling rules are default, linear, dynamic, llama3, yarn and longrope; others are refused by
/// name.
Expected<RopeDescription> readRope(const JsonView &root, const std::optional<JsonView> &fields,
                                   const RopeDefaults &defaults, int64_t headDim, int64_t &context);

} // namespace kernelforge
