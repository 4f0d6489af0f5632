#include "kernelforge/llm/architectures/LlamaLike.h"

#include "kernelforge/llm/architectures/ConfigFields.h"
#include "kernelforge/llm/architectures/GgufFields.h"

#include <fmt/format.h>

namespace kernelforge {

static constexpr PartName frameNames[] = {
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
};
static constexpr PartName layerNames[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
    {"attn_output", "self_attn.o_proj"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

/// A size from 1 on; where it is absent, `usual`, if there is one.
static Expected<int64_t> size(const JsonView &root, std::string_view field, int64_t most,
                              int64_t usual) {
  return usual ? wholeOr(root, field, 1, most, usual) : whole(root, field, 1, most);
}

static Expected<AttentionDescription>
readAttention(const JsonView &root, const LlamaDefaults &defaults, int64_t modelDim) {
  AttentionDescription a;
  KF_TRY(a.heads, size(root, "num_attention_heads", modelLimits::heads, defaults.heads));
  constexpr const char *kvHeads = "num_key_value_heads";
  const bool asHeads = !defaults.kvHeads || root.value().contains(kvHeads); // null, where it counts
  KF_TRY(a.kvHeads,
         wholeOr(root, kvHeads, 1, modelLimits::heads, asHeads ? a.heads : defaults.kvHeads));
  if (!root.has("head_dim") && !defaults.headDim && modelDim % a.heads != 0)
    return root.error(
        fmt::format("hidden_size {} is no multiple of num_attention_heads {}", modelDim, a.heads));
  KF_TRY(a.headDim, wholeOr(root, "head_dim", 1, modelLimits::headDim,
                            defaults.headDim ? defaults.headDim : modelDim / a.heads));
  if (a.headDim > modelLimits::headDim)
    return root.error(
        fmt::format("the head dimension {} is above {}", a.headDim, modelLimits::headDim));
  if (defaults.attentionBias) {
    KF_TRY(a.bias, root.booleanOr("attention_bias", false));
  }
  a.outputBias = a.bias; // one switch for q, k, v and o
  return a;
}

void normBefore(LayerDescription &layer, const NormDescription &norm) {
  layer.beforeAttention = layer.beforeMlp = norm;
}

Expected<ModelDescription> readLlamaConfig(const JsonView &root, std::string_view architecture,
                                           const LlamaDefaults &defaults, bool rotates) {
  ModelDescription d;
  d.architecture = architecture;
  KF_TRY(int64_t layers, size(root, "num_hidden_layers", modelLimits::layers, defaults.layers));
  KF_TRY(d.modelDim, size(root, "hidden_size", modelLimits::modelDim, defaults.modelDim));
  KF_TRY(d.vocabSize, size(root, "vocab_size", modelLimits::vocabulary, defaults.vocabulary));
  KF_TRY(d.contextLength,
         wholeOr(root, "max_position_embeddings", 1, modelLimits::context, defaults.context));
  KF_TRY(d.tiedHead, root.booleanOr("tie_word_embeddings", defaults.tiedHead));
  KF_TRY(d.finalNorm.epsilon, root.numberOr("rms_norm_eps", 1e-20, 1, defaults.epsilon));

  LayerDescription layer;
  KF_TRY(layer.attention, readAttention(root, defaults, d.modelDim));
  normBefore(layer, d.finalNorm);
  KF_TRY(layer.mlp.width, size(root, "intermediate_size", modelLimits::ffnDim, defaults.width));
  KF_TRY(layer.mlp.activation, activationOr(root, defaults.activationField, defaults.activation));
  if (defaults.mlpBias) {
    KF_TRY(layer.mlp.bias, root.booleanOr("mlp_bias", false));
  }
  if (rotates) {
    KF_TRY(auto fields, ropeFields(root));
    KF_TRY(RopeDescription rope,
           readRope(root, fields, defaults.rope, layer.attention.headDim, d.contextLength));
    layer.attention.rope = d.addRope(rope);
  }
  d.layers.assign(static_cast<size_t>(layers), layer);
  return d;
}

Expected<ModelDescription> readLlamaGguf(const GgufModel &model, std::string_view architecture,
                                         RopePairing pairing) {
  const GgufFields fields(model, architecture);
  KF_TRY(ModelDescription d, fields.frame());
  KF_TRY(double epsilon, fields.epsilon("attention.layer_norm_rms_epsilon"));
  d.finalNorm = {NormKind::Rms, epsilon};
  for (LayerDescription &layer : d.layers) {
    normBefore(layer, d.finalNorm);
    KF_TRY(RopeDescription rope, fields.rope(layer.attention.headDim));
    rope.pairing = pairing;
    layer.attention.rope = d.addRope(rope);
  }
  return d;
}

Status readWindow(const JsonView &root, int64_t usual, ModelDescription &d) {
  const bool isStated = root.value().contains("sliding_window"); // perhaps as null: none
  KF_TRY(int64_t window,
         wholeOr(root, "sliding_window", 0, modelLimits::context, isStated ? 0 : usual));
  for (LayerDescription &layer : d.layers)
    layer.attention.window = window < d.contextLength ? window : 0;
  return {};
}

Expected<std::optional<std::vector<bool>>> readLayerTypes(const JsonView &root, size_t layers) {
  if (!root.has("layer_types"))
    return std::nullopt;
  KF_TRY(std::vector<JsonView> kinds, root.array("layer_types", layers));
  if (kinds.size() != layers)
    return root.error(
        fmt::format("layer_types has {} elements for {} layers", kinds.size(), layers));
  std::vector<bool> slides;
  for (const JsonView &view : kinds) {
    KF_TRY(std::string kind, view.asString(maxNameBytes));
    if (kind != "full_attention" && kind != "sliding_attention")
      return view.error(fmt::format("attention of kind \"{}\" is not supported", kind));
    slides.push_back(kind == "sliding_attention");
  }
  return slides;
}

TensorSource LlamaLike::locate(const WeightSlot &slot, const ModelDescription &,
                               WeightNaming naming) const {
  return {{naming == WeightNaming::Gguf
               ? slot.name
               : tensorName(slot, frameNames, "model.layers", layerNames)}};
}

bool LlamaLike::isRedundant(std::string_view tensor, const ModelDescription &d,
                            WeightNaming naming) const {
  if (naming == WeightNaming::Gguf)
    return tensor.starts_with("rope_f") || tensor.ends_with(".attn_rot_embd") ||
           tensor.ends_with(".attn_rot_embd.weight");
  return tensor.ends_with(".rotary_emb.inv_freq") || (d.tiedHead && tensor == "lm_head.weight");
}

} // namespace kernelforge
