// GPT-2 (Radford et al. 2019): layer norm, learned positions, a plain mlp with the tanh form of
// GELU, biases everywhere, the embedding as head. Checkpoints store q, k and v as one tensor, and
// matrices [in, out]; GGUF files have them [out, in].
#include "kernelforge/llm/architectures/Architecture.h"
#include "kernelforge/llm/architectures/ConfigFields.h"
#include "kernelforge/llm/architectures/GgufFields.h"
#include "kernelforge/llm/architectures/TensorNames.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>

namespace kernelforge {

namespace {

constexpr HuggingFaceClass classList[] = {{"GPT2LMHeadModel", "gpt2"}};

constexpr PartName frameNames[] = {
    {"token_embd", "wte"},
    {"position_embd", "wpe"},
    {"output_norm", "ln_f"},
    {"output", "lm_head"},
};
constexpr PartName layerNames[] = {
    {"attn_norm", "ln_1"},     {"attn_q", "attn.c_attn"},      {"attn_k", "attn.c_attn"},
    {"attn_v", "attn.c_attn"}, {"attn_output", "attn.c_proj"}, {"ffn_norm", "ln_2"},
    {"ffn_up", "mlp.c_fc"},    {"ffn_down", "mlp.c_proj"},
};

/// Which third of the tensor of q, k and v a weight is; nothing for other weights.
std::optional<int64_t> thirdOf(const WeightSlot &slot) {
  constexpr std::array<std::string_view, 3> parts = {"attn_q", "attn_k", "attn_v"};
  const auto part = std::find(parts.begin(), parts.end(), slot.part);
  return part == parts.end() ? std::nullopt : std::optional<int64_t>(part - parts.begin());
}

std::string huggingFaceName(const WeightSlot &slot) {
  return tensorName(slot, frameNames, "h", layerNames);
}

std::string ggufName(const WeightSlot &slot) {
  if (!thirdOf(slot))
    return slot.name;
  return fmt::format("blk.{}.attn_qkv.{}", slot.layer,
                     slot.kind == WeightKind::Bias ? "bias" : "weight");
}

/// What checkpoints of the whole model have before a tensor's name, and those of the model without
/// its head have not.
constexpr std::string_view prefix = "transformer.";

class Gpt2 : public Architecture {
public:
  std::string_view name() const override { return "gpt2"; }
  std::span<const HuggingFaceClass> classes() const override { return classList; }

  Expected<ModelDescription> fromGguf(const GgufModel &model) const override {
    const GgufFields fields(model, name());
    KF_TRY(ModelDescription d, fields.frame());
    KF_TRY(double epsilon, fields.epsilon("attention.layer_norm_epsilon"));
    d.learnedPositions = true;
    d.finalNorm = {NormKind::Layer, epsilon};
    for (LayerDescription &layer : d.layers) {
      layer.beforeAttention = layer.beforeMlp = d.finalNorm;
      layer.mlp.activation = ActivationKind::GeluTanh;
      layer.mlp.gated = false;
    }
    return d;
  }

  Expected<ModelDescription> fromConfig(const JsonView &root,
                                        const HuggingFaceClass &) const override {
    ModelDescription d;
    d.architecture = name();
    d.learnedPositions = true;
    KF_TRY(int64_t layers, wholeOr(root, "n_layer", 1, modelLimits::layers, 12));
    KF_TRY(d.modelDim, wholeOr(root, "n_embd", 1, modelLimits::modelDim, 768));
    KF_TRY(d.vocabSize, wholeOr(root, "vocab_size", 1, modelLimits::vocabulary, 50257));
    KF_TRY(d.contextLength, wholeOr(root, "n_positions", 1, modelLimits::context, 1024));
    KF_TRY(d.tiedHead, root.booleanOr("tie_word_embeddings", true));
    d.finalNorm.kind = NormKind::Layer;
    KF_TRY(d.finalNorm.epsilon, root.numberOr("layer_norm_epsilon", 1e-20, 1, 1e-5));

    LayerDescription layer;
    layer.beforeAttention = layer.beforeMlp = d.finalNorm;
    KF_TRY(layer.attention, readAttention(root, d.modelDim));
    layer.mlp.gated = false;
    layer.mlp.bias = true;
    KF_TRY(layer.mlp.width, wholeOr(root, "n_inner", 1, modelLimits::ffnDim, 4 * d.modelDim));
    KF_TRY(layer.mlp.activation,
           activationOr(root, "activation_function", ActivationKind::GeluTanh));
    d.layers.assign(static_cast<size_t>(layers), layer);
    KF_CHECK(scaleAttention(root, d));
    return d;
  }

  TensorSource locate(const WeightSlot &slot, const ModelDescription &d,
                      WeightNaming naming) const override {
    TensorSource source;
    if (auto third = thirdOf(slot)) {
      const AttentionDescription &a = d.layers[static_cast<size_t>(slot.layer)].attention;
      source.rows = a.queryDim() + 2 * a.kvDim();
      source.firstRow = *third == 0 ? 0 : a.queryDim() + (*third - 1) * a.kvDim();
    }
    if (naming == WeightNaming::Gguf) {
      source.names = {ggufName(slot)};
      return source;
    }
    const std::string name = huggingFaceName(slot);
    source.names = {std::string(prefix) + name, name};
    source.transposed = slot.kind == WeightKind::Matrix && slot.layer >= 0;
    return source;
  }

  bool isRedundant(std::string_view tensor, const ModelDescription &d,
                   WeightNaming naming) const override {
    if (naming == WeightNaming::Gguf)
      return false;
    // The causal mask, which old checkpoints carry, and the head where it is the embedding.
    return tensor.ends_with(".attn.bias") || tensor.ends_with(".attn.masked_bias") ||
           (d.tiedHead && tensor == "lm_head.weight");
  }

private:
  static Expected<AttentionDescription> readAttention(const JsonView &root, int64_t modelDim) {
    AttentionDescription a;
    KF_TRY(a.heads, wholeOr(root, "n_head", 1, modelLimits::heads, 12));
    a.kvHeads = a.heads;
    a.bias = a.outputBias = true;
    if (modelDim % a.heads != 0 || modelDim / a.heads > modelLimits::headDim)
      return root.error(fmt::format("n_head {} does not divide n_embd {} into at most {} each",
                                    a.heads, modelDim, modelLimits::headDim));
    a.headDim = modelDim / a.heads;
    KF_TRY(bool crosses, root.booleanOr("add_cross_attention", false));
    if (crosses)
      return root.error("attention to an encoder (add_cross_attention) is not supported");
    return a;
  }

  /// Two switches, both rare: scores that are not scaled, or in layer i also divided by i + 1.
  static Status scaleAttention(const JsonView &root, ModelDescription &d) {
    KF_TRY(bool byDim, root.booleanOr("scale_attn_weights", true));
    KF_TRY(bool byLayer, root.booleanOr("scale_attn_by_inverse_layer_idx", false));
    for (size_t i = 0; i < d.layers.size(); ++i) {
      AttentionDescription &a = d.layers[i].attention;
      if (!byDim || byLayer)
        a.scale = (byDim ? 1 / std::sqrt(static_cast<double>(a.headDim)) : 1.0) /
                  (byLayer ? static_cast<double>(i + 1) : 1.0);
    }
    return {};
  }
};

} // namespace

const Architecture &gpt2Architecture() {
  static const Gpt2 gpt2;
  return gpt2;
}

} // namespace kernelforge
