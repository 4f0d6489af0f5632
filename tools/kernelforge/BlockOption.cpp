#include "BlockOption.h"

#include "kernelforge/llm/architectures/Architecture.h"
#include "kernelforge/support/Numbers.h"
#include "kernelforge/support/Suggest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>

using namespace kernelforge;
using namespace kernelforge::cli;

namespace {

/// The pairs of --block; each is taken once, what is left over is unknown.
class BlockText {
public:
  static Expected<BlockText> parse(const std::string &text) {
    BlockText block;
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(',', begin), text.size());
      const std::string pair = text.substr(begin, end - begin);
      const size_t equals = pair.find('=');
      if (equals == std::string::npos || equals == 0 || equals + 1 == pair.size())
        return refuse("'" + pair + "' is no KEY=VALUE");
      if (!block.pairs.emplace(pair.substr(0, equals), pair.substr(equals + 1)).second)
        return refuse("'" + pair.substr(0, equals) + "' is given twice");
      begin = end + 1;
    }
    return block;
  }

  static tl::unexpected<Error> refuse(std::string why, std::string guess = "") {
    return unusable("block is not usable", "--block", std::move(why),
                    guess + (guess.empty() ? "" : " ") + "write " + blockHelp);
  }

  /// An integer in [1, high]; `fallback` where it is not given, required where that is negative.
  Expected<int64_t> integer(const std::string &key, int64_t high, int64_t fallback) {
    auto pair = take(key);
    if (!pair && fallback < 0) {
      for (const auto &[given, value] : pairs)
        if (!nearestName(given, {&key, 1}).empty())
          return refuse("there is no key '" + given + "'", "did you mean '" + key + "'?");
      return refuse("'" + key + "' is missing");
    }
    if (!pair)
      return fallback;
    const auto value = parseInteger<int64_t>(*pair, 1, high);
    if (!value)
      return refuse(key + ": " + value.error());
    return *value;
  }

  /// One of several words.
  template <typename T>
  Expected<T> word(const std::string &key, const std::map<std::string, T> &words, T fallback) {
    auto pair = take(key);
    if (!pair)
      return fallback;
    if (auto known = words.find(*pair); known != words.end())
      return known->second;
    std::vector<std::string> names;
    for (const auto &[name, value] : words)
      names.push_back(name);
    const std::string guess = didYouMean(*pair, names);
    return refuse(fmt::format("{}={} is none of {}", key, *pair, fmt::join(names, ", ")), guess);
  }

  Expected<bool> boolean(const std::string &key, bool fallback) {
    return word<bool>(key, {{"true", true}, {"false", false}, {"1", true}, {"0", false}}, fallback);
  }

  Status finish() const {
    if (!pairs.empty())
      return refuse("there is no key '" + pairs.begin()->first + "'",
                    didYouMean(pairs.begin()->first, known));
    return {};
  }

private:
  std::optional<std::string> take(const std::string &key) {
    known.push_back(key);
    auto node = pairs.extract(key);
    return node.empty() ? std::nullopt : std::optional(std::move(node.mapped()));
  }

  std::map<std::string, std::string> pairs;
  std::vector<std::string> known; ///< keys that were asked for
};

} // namespace

Expected<ModelDescription> cli::parseBlock(const std::string &text) {
  KF_TRY(BlockText block, BlockText::parse(text));
  ModelDescription d;
  d.architecture = "block";
  LayerDescription layer;
  AttentionDescription &a = layer.attention;
  KF_TRY(d.modelDim, block.integer("d_model", modelLimits::modelDim, -1));
  KF_TRY(a.heads, block.integer("heads", modelLimits::heads, -1));
  KF_TRY(a.kvHeads, block.integer("kv_heads", modelLimits::heads, a.heads));
  KF_TRY(a.headDim, block.integer("head_dim", modelLimits::headDim, 0));
  KF_TRY(layer.mlp.width, block.integer("d_ff", modelLimits::ffnDim, 4 * d.modelDim));
  KF_TRY(d.finalNorm.kind,
         block.word<NormKind>("norm", {{"rms", NormKind::Rms}, {"layer", NormKind::Layer}},
                              NormKind::Rms));
  layer.beforeAttention = layer.beforeMlp = d.finalNorm;
  KF_TRY(layer.mlp.activation, block.word<ActivationKind>("activation",
                                                          {{"silu", ActivationKind::Silu},
                                                           {"gelu", ActivationKind::Gelu},
                                                           {"gelu_tanh", ActivationKind::GeluTanh},
                                                           {"relu", ActivationKind::Relu}},
                                                          ActivationKind::Silu));
  KF_TRY(layer.mlp.gated, block.boolean("gated", true));
  KF_TRY(bool hasRope, block.boolean("rope", true));
  KF_TRY(int64_t layers, block.integer("layers", modelLimits::layers, 1));
  KF_TRY(d.vocabSize, block.integer("vocab", modelLimits::vocabulary, 0));
  KF_TRY(d.contextLength, block.integer("context", modelLimits::context, 4096));
  KF_CHECK(block.finish());
  if (a.headDim == 0) {
    if (d.modelDim % a.heads != 0)
      return BlockText::refuse(
          fmt::format("d_model={} is not divisible by heads={} and head_dim is "
                      "not given",
                      d.modelDim, a.heads));
    a.headDim = d.modelDim / a.heads;
  }
  if (hasRope)
    a.rope = d.addRope({.rotaryDim = a.headDim});
  if (a.heads % a.kvHeads != 0)
    return BlockText::refuse(
        fmt::format("heads={} is not divisible by kv_heads={}", a.heads, a.kvHeads));
  d.layers.assign(static_cast<size_t>(layers), layer);
  if (std::string defect = describeDefect(d); !defect.empty())
    return BlockText::refuse(defect);
  return d;
}

Status cli::checkWeightType(const ModelDescription &description, ElementType type) {
  for (const WeightSlot &slot : weightSlots(description))
    if (slot.isMatrix() && !rowBytes(type, slot.shape[1]))
      return unusable("weight type does not fit", slot.name,
                      fmt::format("rows of {} elements are no whole number of {} blocks of {}",
                                  slot.shape[1], info(type).name, info(type).blockElements),
                      "use another --weights or other dimensions");
  return {};
}

Expected<ElementType> cli::parseWeightType(const std::string &name, const std::string &option) {
  std::vector<std::string> known;
  for (const ElementTypeInfo &row : elementTypes())
    if (row.type != ElementType::I32) {
      if (row.name == name)
        return row.type;
      known.emplace_back(row.name);
    }
  return unusable("unknown type of weights", option + " " + name, "there is no such type",
                  namesHint(name, known));
}
