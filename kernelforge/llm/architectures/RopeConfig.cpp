#include "kernelforge/llm/architectures/RopeConfig.h"

#include "kernelforge/llm/architectures/Architecture.h"
#include "kernelforge/llm/architectures/ConfigFields.h"
#include "kernelforge/llm/architectures/RopeScaling.h"

#include <cmath>
#include <fmt/format.h>

namespace kernelforge {

namespace {

constexpr double leastFactor = 1e-3, mostFactor = 1e6;

/// Reads the rule of one object of fields into a table of which all else is known.
class ScalingReader {
public:
  ScalingReader(const JsonView &root, const JsonView &fields, const RopeDefaults &defaults,
                RopeDescription &rope, int64_t &context)
      : root(root), fields(fields), defaults(defaults), rope(rope), context(context) {}

  Status read() {
    KF_TRY(std::string type, fields.stringOr(fields.has("rope_type") ? "rope_type" : "type",
                                             maxNameBytes, "default"));
    if (type == "default")
      return {};
    if (type == "linear")
      return readLinear();
    if (type == "dynamic")
      return readDynamic();
    if (type == "llama3")
      return readLlama3();
    // Names that longrope had at first.
    if (type == "longrope" || type == "su" || (type == "yarn" && fields.has("short_factor")))
      return readLongRope();
    if (type == "yarn")
      return readYarn();
    return fields.error(fmt::format("RoPE scaling \"{}\" is not supported", type),
                        "supported are default, linear, dynamic, llama3, yarn and longrope");
  }

private:
  Expected<double> factor() const { return fields.number("factor", leastFactor, mostFactor); }

  /// Positions that the model was trained for at first: at the root, which a class may have a value
  /// for, or else beside the rule.
  Expected<double> originalContext() const {
    constexpr std::string_view name = "original_max_position_embeddings";
    KF_TRY(double beside, fields.numberOr(name, 1, modelLimits::context, double(context)));
    const double usual = defaults.originalContext ? double(defaults.originalContext) : beside;
    return root.numberOr(name, 1, modelLimits::context, usual);
  }

  void stretch(double positions) {
    const double most = std::min(positions, double(modelLimits::context));
    context = std::max(context, static_cast<int64_t>(most));
  }

  Status readLinear() {
    KF_TRY(double by, factor());
    rope.frequencyFactors = linearRopeFactors(rope.rotaryDim / 2, by);
    return {};
  }

  Status readDynamic() {
    KF_TRY(rope.dynamicFactor, fields.number("factor", 1, mostFactor));
    if (rope.rotaryDim <= 2)
      return fields.error("dynamic RoPE scaling needs more than 2 rotary dimensions");
    rope.originalContext = context;
    stretch(double(context) * rope.dynamicFactor);
    return {};
  }

  Status readLlama3() {
    KF_TRY(double by, factor());
    Llama3Scaling rule{by, 0, 0, 0};
    KF_TRY(rule.lowFrequencyFactor, fields.number("low_freq_factor", leastFactor, mostFactor));
    KF_TRY(rule.highFrequencyFactor, fields.number("high_freq_factor", leastFactor, mostFactor));
    KF_TRY(rule.originalContext, originalContext());
    if (rule.highFrequencyFactor <= rule.lowFrequencyFactor)
      return fields.error(fmt::format("high_freq_factor {} must be above low_freq_factor {}",
                                      rule.highFrequencyFactor, rule.lowFrequencyFactor));
    rope.frequencyFactors = llama3RopeFactors(rope.rotaryDim, rope.theta, rule);
    return {};
  }

  Status readYarn() {
    YarnScaling rule{};
    KF_TRY(rule.originalContext, originalContext());
    KF_TRY(rule.factor, fields.numberOr("factor", leastFactor, mostFactor,
                                        double(context) / rule.originalContext));
    KF_TRY(rule.betaFast, fields.numberOr("beta_fast", leastFactor, mostFactor, rule.betaFast));
    KF_TRY(rule.betaSlow, fields.numberOr("beta_slow", leastFactor, mostFactor, rule.betaSlow));
    KF_TRY(rule.truncate, fields.booleanOr("truncate", true));
    if (rule.betaFast < rule.betaSlow)
      return fields.error(
          fmt::format("beta_fast {} must not be below beta_slow {}", rule.betaFast, rule.betaSlow));
    if (rope.theta <= 1)
      return fields.error(fmt::format("yarn needs a rope_theta above 1, not {}", rope.theta));
    rope.frequencyFactors = yarnRopeFactors(rope.rotaryDim, rope.theta, rule);
    // Absent and 0 mean the same to both.
    KF_TRY(double weight, fields.numberOr("mscale", 0, mostFactor, 0));
    KF_TRY(double weightAll, fields.numberOr("mscale_all_dim", 0, mostFactor, 0));
    const double usual = weight != 0 && weightAll != 0 ? yarnMagnitude(rule.factor, weight) /
                                                             yarnMagnitude(rule.factor, weightAll)
                                                       : yarnMagnitude(rule.factor);
    KF_TRY(rope.magnitude, fields.numberOr("attention_factor", leastFactor, mostFactor, usual));
    stretch(rule.originalContext * rule.factor);
    return {};
  }

  Expected<std::vector<double>> factors(std::string_view name) const {
    const auto count = static_cast<size_t>(rope.rotaryDim / 2);
    KF_TRY(std::vector<JsonView> elements, fields.array(name, modelLimits::headDim));
    if (elements.size() != count)
      return fields.error(fmt::format("{} has {} elements, must have {}, half the {} rotary "
                                      "dimensions",
                                      name, elements.size(), count, rope.rotaryDim));
    std::vector<double> values;
    for (const JsonView &element : elements) {
      KF_TRY(double value, element.asNumber(leastFactor, mostFactor));
      values.push_back(value);
    }
    return values;
  }

  Status readLongRope() {
    KF_TRY(rope.frequencyFactors, factors("short_factor"));
    KF_TRY(rope.longFactors, factors("long_factor"));
    KF_TRY(double original, originalContext());
    rope.originalContext = static_cast<int64_t>(original);
    KF_TRY(double by,
           fields.numberOr("factor", leastFactor, mostFactor, double(context) / original));
    KF_TRY(rope.magnitude, fields.numberOr("attention_factor", leastFactor, mostFactor,
                                           longRopeMagnitude(by, original)));
    return {};
  }

  const JsonView &root, &fields;
  const RopeDefaults &defaults;
  RopeDescription &rope;
  int64_t &context;
};

} // namespace

Expected<std::optional<JsonView>> ropeFields(const JsonView &root) {
  std::optional<JsonView> found;
  for (std::string_view name : {"rope_parameters", "rope_scaling"}) {
    if (!root.has(name))
      continue;
    KF_TRY(JsonView fields, root.object(name));
    if (found && !fields.value().empty())
      return fields.error("says how RoPE is stretched, and so does rope_parameters",
                          "leave one of the two");
    if (!found || !fields.value().empty())
      found = fields;
  }
  return found;
}

Expected<RopeDescription> readRope(const JsonView &root, const std::optional<JsonView> &fields,
                                   const RopeDefaults &defaults, int64_t headDim,
                                   int64_t &context) {
  RopeDescription rope;
  rope.pairing = RopePairing::HalfSplit;
  const JsonView &place = fields ? *fields : root;
  for (std::string_view kind : {"full_attention", "sliding_attention"})
    if (fields && fields->has(kind))
      return fields->error("has tables for each kind of layer, which this family has not");
  double theta = defaults.theta;
  if (defaults.ofRoot) {
    KF_TRY(theta, root.numberOr("rope_theta", 1e-3, 1e15, theta));
  }
  KF_TRY(rope.theta, place.numberOr("rope_theta", 1e-3, 1e15, theta));
  constexpr std::string_view partial = "partial_rotary_factor";
  KF_TRY(double atRoot, root.numberOr(partial, 0, 1, 1));
  KF_TRY(double share, place.numberOr(partial, 0, 1, atRoot));
  if (share != 1 && !defaults.rotatesPart) {
    KF_TRY(JsonView view, (place.has(partial) ? place : root).at(partial));
    return view.error(fmt::format("is {}, rotating a part of a head is not supported", share));
  }
  rope.rotaryDim = static_cast<int64_t>(static_cast<double>(headDim) * share);
  if (rope.rotaryDim < 2)
    return root.error(
        fmt::format("{} {} rotates none of the {} dimensions of a head", partial, share, headDim));
  if (fields)
    KF_CHECK(ScalingReader(root, *fields, defaults, rope, context).read());
  return rope;
}

} // namespace kernelforge
