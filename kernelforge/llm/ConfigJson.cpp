// config.json of Hugging Face, with the defaults that `transformers` gives to absent fields.
#include "kernelforge/llm/ModelConfig.h"
#include "kernelforge/llm/WeightFile.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>

namespace kernelforge {

namespace {

constexpr uint64_t maxNameBytes = 128;

/// What transformers takes where a field is absent; the families differ.
struct Family {
  std::string_view className, modelType;
  int64_t context;
  int64_t kvHeads; ///< 0: as many as heads
  int64_t window;  ///< of attention; 0: the family has none
};
constexpr std::array<Family, 2> families = {{
    {"LlamaForCausalLM", "llama", 2048, 0, 0},
    {"MistralForCausalLM", "mistral", 131072, 8, 4096},
}};

/// An integer, which other languages' writers make a float of ("4096.0").
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

/// By `architectures`, or by `model_type` where that names none.
Expected<Family> readFamily(const JsonView &root) {
  std::vector<JsonView> names;
  if (root.has("architectures")) {
    KF_TRY(names, root.array("architectures", 16));
  }
  const bool byClass = !names.empty();
  const std::string field = byClass ? "architectures" : "model_type";
  KF_TRY(JsonView view, root.at(field));
  if (!byClass)
    names.push_back(view);
  std::string shown;
  for (const JsonView &name : names) {
    KF_TRY(std::string text, name.asString(maxNameBytes));
    for (const Family &family : families)
      if (text == (byClass ? family.className : family.modelType))
        return family;
    shown += (shown.empty() ? "" : ", ") + text;
  }
  return view.error(fmt::format("architecture \"{}\" is not supported", shown),
                    "supported are LlamaForCausalLM and MistralForCausalLM");
}

Expected<ActivationKind> readActivation(const JsonView &root) {
  KF_TRY(std::string name, root.stringOr("hidden_act", maxNameBytes, "silu"));
  if (name == "silu" || name == "swish")
    return ActivationKind::Silu;
  if (name == "gelu")
    return ActivationKind::Gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh")
    return ActivationKind::GeluTanh;
  if (name == "relu")
    return ActivationKind::Relu;
  KF_TRY(JsonView view, root.at("hidden_act"));
  return view.error(fmt::format("activation \"{}\" is not supported", name),
                    "supported are silu, gelu, gelu_new, gelu_pytorch_tanh and relu");
}

/// The frequency factors of a rope_scaling (or rope_parameters) object.
Expected<std::vector<double>> readScaling(const JsonView &scaling, const RopeDescription &rope,
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

/// RoPE's fields stand at the root with scaling in rope_scaling, or together in rope_parameters.
Expected<RopeDescription> readRope(const JsonView &root, int64_t headDim, int64_t context) {
  RopeDescription rope;
  rope.present = true;
  rope.pairing = RopePairing::HalfSplit;
  rope.rotaryDim = headDim;
  JsonView place = root;
  if (root.has("rope_parameters")) {
    KF_TRY(place, root.object("rope_parameters"));
  }
  KF_TRY(double theta, root.numberOr("rope_theta", 1e-3, 1e15, 10000.0));
  KF_TRY(rope.theta, place.numberOr("rope_theta", 1e-3, 1e15, theta));
  KF_TRY(double partial, place.numberOr("partial_rotary_factor", 0, 1, 1));
  if (partial != 1) {
    KF_TRY(JsonView view, place.at("partial_rotary_factor"));
    return view.error(fmt::format("is {}, rotating a part of a head is not supported", partial));
  }
  if (root.has("rope_parameters")) {
    KF_TRY(rope.frequencyFactors, readScaling(place, rope, context));
  } else if (root.has("rope_scaling")) {
    KF_TRY(JsonView scaling, root.object("rope_scaling"));
    KF_TRY(rope.frequencyFactors, readScaling(scaling, rope, context));
  }
  return rope;
}

/// A special id: nothing where it means none.
Expected<std::optional<TokenId>> asTokenId(const JsonView &view, int64_t vocabulary) {
  if (view.value().is_null() || (view.isInteger() && meansNoToken(view.value().get<int64_t>())))
    return std::nullopt;
  KF_TRY(int64_t id, asWhole(view, 0, vocabulary - 1));
  return static_cast<TokenId>(id);
}

/// Adds `eos_token_id`, one id or several.
Status addEndOfGeneration(const JsonView &root, int64_t vocabulary, SpecialTokens &special) {
  if (!root.has("eos_token_id"))
    return {};
  KF_TRY(JsonView view, root.at("eos_token_id"));
  std::vector<JsonView> ids{view};
  if (view.isArray()) {
    KF_TRY(ids, view.elements(64));
  }
  for (const JsonView &element : ids) {
    KF_TRY(auto id, asTokenId(element, vocabulary));
    if (!id)
      continue;
    if (!special.eos)
      special.eos = id;
    if (std::find(special.endOfGeneration.begin(), special.endOfGeneration.end(), *id) ==
        special.endOfGeneration.end())
      special.endOfGeneration.push_back(*id);
  }
  return {};
}

Expected<SpecialTokens> readSpecialTokens(const JsonView &root, int64_t vocabulary) {
  SpecialTokens special;
  if (root.has("bos_token_id")) {
    KF_TRY(JsonView bos, root.at("bos_token_id"));
    KF_TRY(special.bos, asTokenId(bos, vocabulary));
  }
  KF_CHECK(addEndOfGeneration(root, vocabulary, special));
  return special;
}

/// Fields that change what is computed in a way that we do not compute.
Status refuseUnsupported(const JsonView &root, const Family &family, int64_t context) {
  if (root.has("quantization_config")) {
    KF_TRY(JsonView view, root.at("quantization_config"));
    KF_TRY(std::string method, view.stringOr("quant_method", maxNameBytes, "unnamed"));
    return view.error(fmt::format("quantization \"{}\" is not supported", method),
                      "use the unquantized checkpoint or a GGUF file");
  }
  if (!family.window) // it has none, whatever the field says
    return {};
  const bool isStated = root.value().contains("sliding_window");
  KF_TRY(int64_t window,
         wholeOr(root, "sliding_window", 0, modelLimits::context, isStated ? 0 : family.window));
  if (window != 0 && window < context)
    return root.error(fmt::format("a sliding window of {} positions is not supported for {}",
                                  window, family.className));
  return {};
}

} // namespace

Expected<ModelConfig> configFromJson(const JsonDocument &document) {
  namespace limits = modelLimits;
  const JsonView root = document.root();
  KF_TRY(Family family, readFamily(root));
  ModelConfig config;
  ModelDescription &d = config.description;
  KF_TRY(d.layers, whole(root, "num_hidden_layers", 1, limits::layers));
  KF_TRY(d.modelDim, whole(root, "hidden_size", 1, limits::modelDim));
  KF_TRY(d.heads, whole(root, "num_attention_heads", 1, limits::heads));
  KF_TRY(d.kvHeads, wholeOr(root, "num_key_value_heads", 1, limits::heads,
                            family.kvHeads ? family.kvHeads : d.heads));
  if (!root.has("head_dim") && d.modelDim % d.heads != 0)
    return root.error(fmt::format("hidden_size {} is no multiple of num_attention_heads {}",
                                  d.modelDim, d.heads));
  KF_TRY(d.headDim, wholeOr(root, "head_dim", 1, limits::headDim, d.modelDim / d.heads));
  if (d.headDim > limits::headDim)
    return root.error(fmt::format("the head dimension {} is above {}", d.headDim, limits::headDim));
  KF_TRY(d.ffnDim, whole(root, "intermediate_size", 1, limits::ffnDim));
  KF_TRY(d.vocabSize, whole(root, "vocab_size", 1, limits::vocabulary));
  KF_TRY(d.contextLength,
         wholeOr(root, "max_position_embeddings", 1, limits::context, family.context));
  KF_TRY(d.normEpsilon, root.numberOr("rms_norm_eps", 1e-20, 1, 1e-6));
  KF_TRY(d.activation, readActivation(root));
  KF_TRY(d.rope, readRope(root, d.headDim, d.contextLength));
  KF_TRY(d.tiedEmbeddings, root.booleanOr("tie_word_embeddings", false));
  KF_TRY(d.attentionBias, root.booleanOr("attention_bias", false));
  d.outputBias = d.attentionBias; // one switch for q, k, v and o
  KF_TRY(d.mlpBias, root.booleanOr("mlp_bias", false));
  KF_CHECK(refuseUnsupported(root, family, d.contextLength));
  if (std::string defect = describeDefect(d); !defect.empty())
    return root.error(std::move(defect));
  KF_TRY(config.special, readSpecialTokens(root, d.vocabSize));
  return config;
}

Expected<ModelConfig> readConfigJson(const std::string &path) {
  KF_TRY(JsonDocument document, readJsonFile(path, modelFileError, configJsonLimits));
  return configFromJson(document);
}

Status addGenerationConfig(const JsonDocument &document, ModelConfig &config) {
  return addEndOfGeneration(document.root(), config.description.vocabSize, config.special);
}

} // namespace kernelforge
