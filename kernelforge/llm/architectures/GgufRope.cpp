// RoPE as GGUF metadata states it.
#include "kernelforge/llm/architectures/Architecture.h"
#include "kernelforge/llm/architectures/ConfigFields.h"
#include "kernelforge/llm/architectures/GgufFields.h"
#include "kernelforge/llm/architectures/RopeScaling.h"

#include <fmt/format.h>

namespace kernelforge {

/// The factors in a tensor, or none where it is not there.
Expected<std::vector<double>> GgufFields::factorsOf(std::string_view name, int64_t count) const {
  const StoredTensor *tensor = model.tensors.find(name);
  if (!tensor)
    return std::vector<double>{};
  if (tensor->type != ElementType::F32 || tensor->shape != std::vector<int64_t>{count})
    return unusable(std::string(modelFileError),
                    fmt::format("{}, tensor {}", model.files.front().path(), name),
                    fmt::format("is {} {}, must be f32 [{}]", tensor->typeName,
                                printShape(tensor->shape), count));
  std::vector<float> values(static_cast<size_t>(count));
  dequantizeRow(ElementType::F32, tensor->bytes.data(), values.size(), values.data());
  return std::vector<double>(values.begin(), values.end());
}

/// As files' readers have it: the share of frequencies by the usual boundaries, cos and sin by
/// YaRN's magnitude and what the file has besides.
Status GgufFields::readYarn(RopeDescription &rope, double factor, double original) const {
  YarnScaling rule{factor, original};
  KF_TRY(rule.betaFast, numberOr("rope.scaling.yarn_beta_fast", 1e-3, 1e6, rule.betaFast));
  KF_TRY(rule.betaSlow, numberOr("rope.scaling.yarn_beta_slow", 1e-3, 1e6, rule.betaSlow));
  KF_TRY(double own, numberOr("rope.scaling.yarn_attn_factor", 1e-3, 1e6, 1));
  for (auto [name, neutral] : {std::pair("yarn_ext_factor", 1.0), {"yarn_log_multiplier", 0.0}}) {
    const std::string full = fmt::format("rope.scaling.{}", name);
    KF_TRY(double value, numberOr(full, -1e6, 1e6, neutral));
    if (value != neutral && !(neutral == 1 && value < 0)) // below 0: not said
      return model.metadata.error(key(full), fmt::format("is {}, which is not supported", value));
  }
  rope.frequencyFactors = yarnRopeFactors(rope.rotaryDim, rope.theta, rule);
  rope.magnitude *= own * yarnMagnitude(factor);
  return {};
}

Expected<RopeDescription> GgufFields::rope(int64_t headDim) const {
  RopeDescription rope;
  KF_TRY(rope.theta, numberOr("rope.freq_base", 1e-3, 1e15, 10000.0));
  KF_TRY(auto rotary, model.metadata.integer(key("rope.dimension_count"), 2, headDim));
  rope.rotaryDim = rotary.value_or(headDim);
  KF_TRY(rope.magnitude, numberOr("rope.scaling.attn_factor", 1e-3, 1e6, 1.0));

  const std::string originalKey = key("rope.scaling.original_context_length");
  KF_TRY(auto stated, model.metadata.integer(originalKey, 1, modelLimits::context));
  KF_TRY(int64_t context, integer("context_length", 1, modelLimits::context));
  const int64_t original = stated.value_or(context);

  const int64_t count = rope.rotaryDim / 2;
  KF_TRY(rope.frequencyFactors, factorsOf("rope_freqs.weight", count));
  KF_TRY(rope.longFactors, factorsOf("rope_factors_long.weight", count));
  if (!rope.longFactors.empty()) {
    KF_TRY(rope.frequencyFactors, factorsOf("rope_factors_short.weight", count));
    rope.originalContext = original;
  }

  // A factor without a type means linear; files before scaling.* have scale_linear.
  const std::string typeKey = key("rope.scaling.type");
  KF_TRY(auto type, model.metadata.string(typeKey, maxNameBytes));
  if (type && *type != "none" && *type != "linear" && *type != "yarn" && *type != "longrope")
    return model.metadata.error(
        typeKey, fmt::format("RoPE scaling \"{}\" is not supported", *type),
        "supported are none, linear, yarn, longrope and tensors of factors");
  KF_TRY(double old, numberOr("rope.scale_linear", 1e-3, 1e6, 1.0));
  KF_TRY(double factor, numberOr("rope.scaling.factor", 0, 1e6, old));
  if (type == "none" || type == "longrope" || factor == 0 || factor == 1)
    return rope;
  if (type == "yarn") {
    if (!rope.frequencyFactors.empty() || rope.theta <= 1)
      return model.metadata.error(typeKey, "is yarn, which goes with neither a tensor of factors "
                                           "nor a rope.freq_base of at most 1");
    KF_CHECK(readYarn(rope, factor, static_cast<double>(original)));
    return rope;
  }
  if (rope.frequencyFactors.empty())
    rope.frequencyFactors = linearRopeFactors(count, factor);
  else
    for (double &existing : rope.frequencyFactors)
      existing *= factor;
  return rope;
}

} // namespace kernelforge
