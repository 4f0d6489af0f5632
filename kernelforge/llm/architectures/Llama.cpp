// Llama (Touvron et al. 2023) and what is built like it: RMS norm, grouped queries, RoPE, gated
// mlp. In GGUF files of llama the rows of Q and K are permuted, so that RoPE rotates neighbours.
// Mistral (Jiang et al. 2023) sees a window of positions. Qwen2 (Yang et al. 2024) has biases on Q,
// K and V and, in some models, windows in some layers; Qwen3 (2025) norms the heads of Q and K
// instead. Theirs are permuted in no file.
#include "kernelforge/llm/architectures/Architecture.h"
#include "kernelforge/llm/architectures/ConfigFields.h"
#include "kernelforge/llm/architectures/GgufFields.h"
#include "kernelforge/llm/architectures/RopeScaling.h"
#include "kernelforge/llm/architectures/TensorNames.h"

#include <array>
#include <fmt/format.h>

namespace kernelforge {

namespace {

/// What transformers takes where a field is absent; the classes differ.
struct Defaults {
  HuggingFaceClass kind;
  int64_t context;
  int64_t kvHeads;              ///< 0: as many as heads
  int64_t window;               ///< of attention; 0: the class has none
  int64_t headDim;              ///< 0: what the heads divide the rows into
  bool switchesWindows = false; ///< layers have a window where a switch and a list say so, else all
};
constexpr std::array<Defaults, 4> defaults = {{
    {{"LlamaForCausalLM", "llama"}, 2048, 0, 0, 0},
    {{"MistralForCausalLM", "mistral"}, 131072, 8, 4096, 0},
    {{"Qwen2ForCausalLM", "qwen2"}, 32768, 32, 4096, 0, true},
    {{"Qwen3ForCausalLM", "qwen3"}, 32768, 32, 4096, 128, true},
}};

const Defaults &defaultsOf(const HuggingFaceClass &kind) {
  for (const Defaults &each : defaults)
    if (each.kind.name == kind.name)
      return each;
  return defaults[0];
}

/// In what one of these families differs from the others.
struct Family {
  std::string_view name;
  std::vector<HuggingFaceClass> classes;
  RopePairing ggufPairing;
  bool normsHeads = false; ///< of Q and K, before they rotate
  bool addsBiases = false; ///< to Q, K and V, whatever config.json says
};

constexpr PartName frameNames[] = {
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
};
constexpr PartName layerNames[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
    {"attn_output", "self_attn.o_proj"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

std::string huggingFaceName(const WeightSlot &slot) {
  return tensorName(slot, frameNames, "model.layers", layerNames);
}

/// The factors of rope_freqs.weight, or none.
Expected<std::vector<double>> readRopeTensor(const GgufModel &model, int64_t count) {
  constexpr std::string_view ropeTensor = "rope_freqs.weight";
  const StoredTensor *tensor = model.tensors.find(ropeTensor);
  if (!tensor)
    return std::vector<double>{};
  if (tensor->type != ElementType::F32 || tensor->shape != std::vector<int64_t>{count})
    return unusable(std::string(modelFileError),
                    fmt::format("{}, tensor {}", model.files.front().path(), ropeTensor),
                    fmt::format("is {} {}, must be f32 [{}]", tensor->typeName,
                                printShape(tensor->shape), count));
  std::vector<float> values(static_cast<size_t>(count));
  dequantizeRow(ElementType::F32, tensor->bytes.data(), values.size(), values.data());
  return std::vector<double>(values.begin(), values.end());
}

Expected<RopeDescription> readRope(const GgufModel &model, const GgufFields &fields,
                                   int64_t headDim) {
  RopeDescription rope;
  KF_TRY(rope.theta, fields.numberOr("rope.freq_base", 1e-3, 1e15, 10000.0));
  KF_TRY(auto rotary, model.metadata.integer(fields.key("rope.dimension_count"), 2, headDim));
  rope.rotaryDim = rotary.value_or(headDim);
  KF_TRY(rope.magnitude, fields.numberOr("rope.scaling.attn_factor", 1e-3, 1e6, 1.0));
  KF_TRY(rope.frequencyFactors, readRopeTensor(model, rope.rotaryDim / 2));

  // A factor without a type means linear; files before scaling.* have scale_linear.
  const std::string typeKey = fields.key("rope.scaling.type");
  KF_TRY(auto type, model.metadata.string(typeKey, maxNameBytes));
  if (type && *type != "none" && *type != "linear")
    return model.metadata.error(typeKey, fmt::format("RoPE scaling \"{}\" is not supported", *type),
                                "supported are none, linear and rope_freqs.weight");
  KF_TRY(double old, fields.numberOr("rope.scale_linear", 1e-3, 1e6, 1.0));
  KF_TRY(double factor, fields.numberOr("rope.scaling.factor", 0, 1e6, old));
  if (type != "none" && factor != 0 && factor != 1) {
    if (rope.frequencyFactors.empty())
      rope.frequencyFactors = linearRopeFactors(rope.rotaryDim / 2, factor);
    else
      for (double &existing : rope.frequencyFactors)
        existing *= factor;
  }
  return rope;
}

/// RoPE's fields stand at the root with scaling in rope_scaling, or together in rope_parameters.
Expected<RopeDescription> readRope(const JsonView &root, int64_t headDim, int64_t context) {
  RopeDescription rope;
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
    KF_TRY(rope.frequencyFactors, readRopeScaling(place, rope, context));
  } else if (root.has("rope_scaling")) {
    KF_TRY(JsonView scaling, root.object("rope_scaling"));
    KF_TRY(rope.frequencyFactors, readRopeScaling(scaling, rope, context));
  }
  return rope;
}

/// Qwen's windows: of the layers from a certain one on, or of those that a list names, where a
/// switch says so.
Status readSwitchedWindows(const JsonView &root, const Defaults &family, ModelDescription &d) {
  KF_TRY(bool areUsed, root.booleanOr("use_sliding_window", false));
  if (!areUsed)
    return {};
  const bool isStated = root.value().contains("sliding_window"); // perhaps as null: none
  KF_TRY(int64_t window, wholeOr(root, "sliding_window", isStated ? 0 : 1, modelLimits::context,
                                 isStated ? 0 : family.window));
  KF_TRY(int64_t first, wholeOr(root, "max_window_layers", 0, modelLimits::layers, 28));
  const size_t layers = d.layers.size();
  for (size_t i = static_cast<size_t>(first); i < layers; ++i)
    d.layers[i].attention.window = window;
  if (!root.has("layer_types"))
    return {};
  KF_TRY(std::vector<JsonView> kinds, root.array("layer_types", layers));
  if (kinds.size() != layers)
    return root.error(
        fmt::format("layer_types has {} elements for {} layers", kinds.size(), layers));
  for (size_t i = 0; i < layers; ++i) {
    KF_TRY(std::string kind, kinds[i].asString(maxNameBytes));
    if (kind != "full_attention" && kind != "sliding_attention")
      return kinds[i].error(fmt::format("attention of kind \"{}\" is not supported", kind));
    d.layers[i].attention.window = kind == "full_attention" ? 0 : window;
  }
  return {};
}

/// What of the positions before them the layers see.
Status readWindows(const JsonView &root, const Defaults &family, ModelDescription &d) {
  if (family.switchesWindows)
    return readSwitchedWindows(root, family, d);
  if (!family.window) // it has none, whatever the field says
    return {};
  const bool isStated = root.value().contains("sliding_window"); // perhaps as null: none
  KF_TRY(int64_t window,
         wholeOr(root, "sliding_window", 0, modelLimits::context, isStated ? 0 : family.window));
  for (LayerDescription &layer : d.layers)
    layer.attention.window = window < d.contextLength ? window : 0;
  return {};
}

Expected<AttentionDescription> readAttention(const JsonView &root, const Defaults &family,
                                             int64_t modelDim) {
  AttentionDescription a;
  KF_TRY(a.heads, whole(root, "num_attention_heads", 1, modelLimits::heads));
  KF_TRY(a.kvHeads, wholeOr(root, "num_key_value_heads", 1, modelLimits::heads,
                            family.kvHeads ? family.kvHeads : a.heads));
  if (!root.has("head_dim") && !family.headDim && modelDim % a.heads != 0)
    return root.error(
        fmt::format("hidden_size {} is no multiple of num_attention_heads {}", modelDim, a.heads));
  KF_TRY(a.headDim, wholeOr(root, "head_dim", 1, modelLimits::headDim,
                            family.headDim ? family.headDim : modelDim / a.heads));
  if (a.headDim > modelLimits::headDim)
    return root.error(
        fmt::format("the head dimension {} is above {}", a.headDim, modelLimits::headDim));
  KF_TRY(a.bias, root.booleanOr("attention_bias", false));
  a.outputBias = a.bias; // one switch for q, k, v and o
  return a;
}

class Llama : public Architecture {
public:
  explicit Llama(Family family) : family(std::move(family)) {}

  std::string_view name() const override { return family.name; }
  std::span<const HuggingFaceClass> classes() const override { return family.classes; }

  Expected<ModelDescription> fromGguf(const GgufModel &model) const override {
    const GgufFields fields(model, name());
    KF_TRY(ModelDescription d, fields.frame());
    KF_TRY(double epsilon, fields.epsilon("attention.layer_norm_rms_epsilon"));
    d.finalNorm = {NormKind::Rms, epsilon};
    for (LayerDescription &layer : d.layers) {
      normAll(layer, d.finalNorm);
      layer.attention.bias |= family.addsBiases;
      KF_TRY(RopeDescription rope, readRope(model, fields, layer.attention.headDim));
      rope.pairing = family.ggufPairing;
      layer.attention.rope = d.addRope(rope);
    }
    return d;
  }

  Expected<ModelDescription> fromConfig(const JsonView &root,
                                        const HuggingFaceClass &kind) const override {
    const Defaults &given = defaultsOf(kind);
    ModelDescription d;
    d.architecture = name();
    KF_TRY(int64_t layers, whole(root, "num_hidden_layers", 1, modelLimits::layers));
    KF_TRY(d.modelDim, whole(root, "hidden_size", 1, modelLimits::modelDim));
    KF_TRY(d.vocabSize, whole(root, "vocab_size", 1, modelLimits::vocabulary));
    KF_TRY(d.contextLength,
           wholeOr(root, "max_position_embeddings", 1, modelLimits::context, given.context));
    KF_TRY(d.tiedHead, root.booleanOr("tie_word_embeddings", false));
    KF_TRY(d.finalNorm.epsilon, root.numberOr("rms_norm_eps", 1e-20, 1, 1e-6));

    LayerDescription layer;
    KF_TRY(layer.attention, readAttention(root, given, d.modelDim));
    if (family.addsBiases) {
      layer.attention.bias = true;
      layer.attention.outputBias = false;
    }
    normAll(layer, d.finalNorm);
    KF_TRY(layer.mlp.width, whole(root, "intermediate_size", 1, modelLimits::ffnDim));
    KF_TRY(layer.mlp.activation, activationOr(root, "hidden_act", ActivationKind::Silu));
    KF_TRY(layer.mlp.bias, root.booleanOr("mlp_bias", false));
    KF_TRY(RopeDescription rope, readRope(root, layer.attention.headDim, d.contextLength));
    layer.attention.rope = d.addRope(rope);
    d.layers.assign(static_cast<size_t>(layers), layer);
    KF_CHECK(readWindows(root, given, d));
    return d;
  }

  TensorSource locate(const WeightSlot &slot, const ModelDescription &,
                      WeightNaming naming) const override {
    return {{naming == WeightNaming::Gguf ? slot.name : huggingFaceName(slot)}};
  }

  bool isRedundant(std::string_view tensor, const ModelDescription &d,
                   WeightNaming naming) const override {
    if (naming == WeightNaming::Gguf)
      return tensor == "rope_freqs.weight" || tensor.ends_with(".attn_rot_embd") ||
             tensor.ends_with(".attn_rot_embd.weight");
    return tensor.ends_with(".rotary_emb.inv_freq") || (d.tiedHead && tensor == "lm_head.weight");
  }

private:
  void normAll(LayerDescription &layer, const NormDescription &norm) const {
    layer.beforeAttention = layer.beforeMlp = norm;
    if (family.normsHeads)
      layer.attention.queryNorm = layer.attention.keyNorm = norm;
  }

  Family family;
};

} // namespace

const Architecture &llamaArchitecture() {
  static const Llama llama(
      {"llama", {defaults[0].kind, defaults[1].kind}, RopePairing::Interleaved});
  return llama;
}

const Architecture &qwen2Architecture() {
  static const Llama qwen2({"qwen2",
                            {defaults[2].kind},
                            RopePairing::HalfSplit,
                            /*normsHeads=*/false,
                            /*addsBiases=*/true});
  return qwen2;
}

const Architecture &qwen3Architecture() {
  static const Llama qwen3(
      {"qwen3", {defaults[3].kind}, RopePairing::HalfSplit, /*normsHeads=*/true});
  return qwen3;
}

} // namespace kernelforge
