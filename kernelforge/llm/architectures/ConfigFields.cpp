#include "kernelforge/llm/architectures/ConfigFields.h"

#include "kernelforge/llm/architectures/Architecture.h"
#include "kernelforge/llm/architectures/RopeScaling.h"

#include <cmath>
#include <fmt/format.h>

namespace kernelforge {

Expected<int64_t> asWhole(const JsonView &view, int64_t low, int64_t high) {
  constexpr double exact = 1LL << 53;
  const Json &json = view.value();
  if (json.is_number_float()) {
    const auto value = json.get<double>();
    if (std::abs(value) <= exact && std::trunc(value) == value && value >= low && value <= high)
      return static_cast<int64_t>(value);
  }
  return view.asInteger(low, high);
}

Expected<int64_t> whole(const JsonView &root, std::string_view field, int64_t low, int64_t high) {
  KF_TRY(JsonView view, root.at(field));
  return asWhole(view, low, high);
}

Expected<int64_t> wholeOr(const JsonView &root, std::string_view field, int64_t low, int64_t high,
                          int64_t fallback) {
  return root.has(field) ? whole(root, field, low, high) : fallback;
}

Expected<ActivationKind> activationOr(const JsonView &root, std::string_view field,
                                      ActivationKind fallback) {
  if (!root.has(field))
    return fallback;
  KF_TRY(std::string name, root.string(field, maxNameBytes));
  if (name == "silu" || name == "swish")
    return ActivationKind::Silu;
  if (name == "gelu")
    return ActivationKind::Gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh")
    return ActivationKind::GeluTanh;
  if (name == "relu")
    return ActivationKind::Relu;
  KF_TRY(JsonView view, root.at(field));
  return view.error(fmt::format("activation \"{}\" is not supported", name),
                    "supported are silu, gelu, gelu_new, gelu_pytorch_tanh and relu");
}

Expected<std::vector<double>> readRopeScaling(const JsonView &scaling, const RopeDescription &rope,
                                              int64_t context) {
  const std::string field = scaling.has("rope_type") ? "rope_type" : "type";
  KF_TRY(std::string type, scaling.stringOr(field, maxNameBytes, "default"));
  if (type == "default")
    return std::vector<double>{};
  if (type != "linear" && type != "llama3")
    return scaling.error(fmt::format("RoPE scaling \"{}\" is not supported", type),
                         "supported are default, linear and llama3");
  KF_TRY(double factor, scaling.number("factor", 1e-3, 1e6));
  if (type == "linear")
    return linearRopeFactors(rope.rotaryDim / 2, factor);
  Llama3Scaling rule{factor, 0, 0, 0};
  KF_TRY(rule.lowFrequencyFactor, scaling.number("low_freq_factor", 1e-3, 1e6));
  KF_TRY(rule.highFrequencyFactor, scaling.number("high_freq_factor", 1e-3, 1e6));
  KF_TRY(rule.originalContext,
         scaling.numberOr("original_max_position_embeddings", 1, modelLimits::context,
                          static_cast<double>(context)));
  if (rule.highFrequencyFactor <= rule.lowFrequencyFactor)
    return scaling.error(fmt::format("high_freq_factor {} must be above low_freq_factor {}",
                                     rule.highFrequencyFactor, rule.lowFrequencyFactor));
  return llama3RopeFactors(rope.rotaryDim, rope.theta, rule);
}

} // namespace kernelforge
