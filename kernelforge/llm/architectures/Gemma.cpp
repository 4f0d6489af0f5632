// Gemma 2 and 3 (Gemma Team 2024, 2025): RMS norms that multiply by 1 + their weights, before and
// after attention and mlp; embeddings scaled by the root of their width; a mlp with the tanh form
// of GELU. Of Gemma 2 every second layer has a window, scores and logits are capped; of Gemma 3
// every sixth has none and a RoPE table of its own, and the heads of Q and K are normed. GGUF files
// have the 1 in the weights.
#include "kernelforge/llm/architectures/ConfigFields.h"
#include "kernelforge/llm/architectures/GgufFields.h"
#include "kernelforge/llm/architectures/LlamaLike.h"

#include <cmath>

namespace kernelforge {

namespace {

constexpr PartName layerNames[] = {
    {"post_attention_norm", "post_attention_layernorm"},
    {"ffn_norm", "pre_feedforward_layernorm"},
    {"post_ffw_norm", "post_feedforward_layernorm"},
};

/// Where a number may be null, which means none, and has a usual value where it is absent.
Expected<double> capOr(const JsonView &root, std::string_view field, double usual) {
  return root.numberOr(field, 0, 1e6, root.value().contains(field) ? 0 : usual);
}

/// In what Gemma 2 and 3 differ.
struct Generation {
  std::string_view name;
  std::vector<HuggingFaceClass> classes;
  int64_t context;
  double theta;         ///< of layers without a window
  int64_t pattern;      ///< every so many-th layer has no window
  bool normsHeads;      ///< of Q and K
  bool hasLocalTable;   ///< layers with a window rotate by a table of their own
  double scoreCap, cap; ///< of scores and logits, where a file is silent
  int64_t ggufWindow;   ///< where a GGUF file is silent; 0: none
  int64_t vocabulary;
  /// Layers of the model whose scores are divided by the root of a share of the row, not of a head;
  /// GGUF files do not say it.
  int64_t layersOfLargest;
};

/// Of windows' layers, and where nothing is said.
constexpr double localTheta = 10000;
constexpr int64_t usualWindow = 4096;
constexpr std::string_view patternKey = "attention.sliding_window_pattern";

class Gemma : public LlamaLike {
public:
  explicit Gemma(Generation generation)
      : LlamaLike(generation.name, generation.classes), generation(std::move(generation)) {}

  Expected<ModelDescription> fromGguf(const GgufModel &model) const override {
    const GgufFields fields(model, name());
    KF_TRY(ModelDescription d, readLlamaGguf(model, name(), RopePairing::HalfSplit));
    KF_TRY(double scoreCap, fields.numberOr("attn_logit_softcapping", 0, 1e6, generation.scoreCap));
    KF_TRY(d.logitSoftcap, fields.numberOr("final_logit_softcapping", 0, 1e6, generation.cap));
    KF_TRY(auto pattern,
           fields.perLayer(patternKey, 0, modelLimits::layers, int64_t(d.layers.size())));
    if (!model.metadata.find(fields.key("attention.sliding_window")) &&
        generation.ggufWindow < d.contextLength)
      for (LayerDescription &layer : d.layers)
        layer.attention.window = generation.ggufWindow;
    RopeDescription local;
    KF_TRY(local.theta, fields.numberOr("rope.freq_base_swa", 1e-3, 1e15, localTheta));
    const bool isLargest = static_cast<int64_t>(d.layers.size()) == generation.layersOfLargest;
    for (size_t i = 0; i < d.layers.size(); ++i) {
      AttentionDescription &a = d.layers[i].attention;
      // The key has one number, or of each layer whether it has a window.
      const int64_t stated = pattern ? (*pattern)[i] : generation.pattern;
      if (pattern && fields.isList(patternKey) ? stated == 0 : hasNoWindow(i, stated))
        a.window = 0;
      else if (generation.hasLocalTable)
        a.rope = localTable(d, local.theta, a.headDim);
      a.softcap = scoreCap;
      d.layers[i].mlp.activation = ActivationKind::GeluTanh;
      if (a.scale == 0 && isLargest)
        a.scale = 1 / std::sqrt(double(d.modelDim) / double(a.heads));
    }
    finish(d, /*offset=*/0);
    return d;
  }

  Expected<ModelDescription> fromConfig(const JsonView &outer,
                                        const HuggingFaceClass &kind) const override {
    JsonView root = outer;
    if (isWithVision(kind)) {
      KF_TRY(root, outer.object("text_config"));
    }
    KF_TRY(bool seesAhead, root.booleanOr("use_bidirectional_attention", false));
    if (seesAhead)
      return root.error("attention to later positions (use_bidirectional_attention) is not "
                        "supported");
    KF_TRY(ModelDescription d, readLlamaConfig(root, name(), defaults(), /*rotates=*/false));
    KF_TRY(double scalar, root.numberOr("query_pre_attn_scalar", 1e-6, 1e9, 256));
    KF_TRY(double scoreCap, capOr(root, "attn_logit_softcapping", generation.scoreCap));
    KF_TRY(d.logitSoftcap, capOr(root, "final_logit_softcapping", generation.cap));
    for (LayerDescription &layer : d.layers) {
      layer.attention.scale = 1 / std::sqrt(scalar);
      layer.attention.softcap = scoreCap;
    }
    KF_CHECK(readLayerKinds(root, d));
    finish(d, /*offset=*/1);
    return d;
  }

  TensorSource locate(const WeightSlot &slot, const ModelDescription &d,
                      WeightNaming naming) const override {
    TensorSource source = LlamaLike::locate(slot, d, naming);
    if (naming == WeightNaming::Gguf)
      return source;
    if (std::string own = tensorName(slot, {}, "model.layers", layerNames); !own.empty())
      source.names = {own};
    // Checkpoints that see images have the decoder as a part.
    const std::string &name = source.names.front();
    const std::string inner = name.substr(name.find('.') + 1);
    if (name.starts_with("model."))
      source.names = {name, "language_model." + name, "model.language_model." + inner};
    else
      source.names = {name, "language_model." + name};
    return source;
  }

  bool isRedundant(std::string_view tensor, const ModelDescription &d,
                   WeightNaming naming) const override {
    if (naming == WeightNaming::HuggingFace)
      for (std::string_view part : {"vision_tower.", "multi_modal_projector."})
        if (tensor.starts_with(part) || tensor.starts_with("model." + std::string(part)))
          return true;
    return (d.tiedHead && tensor == "language_model.lm_head.weight") ||
           LlamaLike::isRedundant(tensor, d, naming);
  }

private:
  static bool isWithVision(const HuggingFaceClass &kind) {
    return kind.name == "Gemma3ForConditionalGeneration";
  }
  static bool hasNoWindow(size_t layer, int64_t pattern) {
    return pattern > 0 && static_cast<int64_t>(layer + 1) % pattern == 0;
  }

  LlamaDefaults defaults() const {
    return {.context = generation.context,
            .kvHeads = 4,
            .headDim = 256,
            .tiedHead = true,
            .activationField = "hidden_activation",
            .activation = ActivationKind::GeluTanh,
            .mlpBias = false,
            .layers = 26,
            .modelDim = 2304,
            .vocabulary = generation.vocabulary,
            .heads = 8,
            .width = 9216};
  }

  /// Index of the table of layers with a window, which no rule stretches.
  static size_t localTable(ModelDescription &d, double theta, int64_t headDim) {
    return d.addRope({.theta = theta, .rotaryDim = headDim});
  }

  /// Which layers have a window, and each one's table.
  Status readLayerKinds(const JsonView &root, ModelDescription &d) const {
    const int64_t headDim = d.layers[0].attention.headDim;
    KF_TRY(auto fields, ropeFields(root));
    std::optional<JsonView> localFields;
    if (generation.hasLocalTable && fields) {
      // An object for each kind of layer, or one, which is about those without a window.
      if (fields->has("sliding_attention")) {
        KF_TRY(localFields, fields->object("sliding_attention"));
      }
      if (fields->has("full_attention")) {
        KF_TRY(fields, fields->object("full_attention"));
      } else if (localFields) {
        fields = std::nullopt;
      }
    }
    int64_t ofLocal = d.contextLength;
    KF_TRY(const RopeDescription table,
           readRope(root, fields, {.theta = generation.theta}, headDim, d.contextLength));
    RopeDescription local = table;
    if (generation.hasLocalTable) {
      RopeDefaults usual{.theta = localTheta, .ofRoot = false};
      KF_TRY(usual.theta, root.numberOr("rope_local_base_freq", 1e-3, 1e15, localTheta));
      local = {.theta = usual.theta, .rotaryDim = headDim};
      if (localFields) {
        KF_TRY(local, readRope(root, localFields, usual, headDim, ofLocal));
      }
    }
    d.contextLength = std::max(d.contextLength, ofLocal);

    KF_CHECK(readWindow(root, usualWindow, d));
    KF_TRY(auto listed, readLayerTypes(root, d.layers.size()));
    int64_t pattern = generation.pattern;
    if (generation.hasLocalTable) {
      KF_TRY(pattern, wholeOr(root, "sliding_window_pattern", 1, modelLimits::layers, pattern));
    }
    for (size_t i = 0; i < d.layers.size(); ++i) {
      AttentionDescription &a = d.layers[i].attention;
      const bool slides = listed ? (*listed)[i] : !hasNoWindow(i, pattern);
      if (!slides)
        a.window = 0;
      a.rope = d.addRope(slides ? local : table);
    }
    return {};
  }

  /// What both formats leave unsaid.
  void finish(ModelDescription &d, double offset) const {
    d.embeddingScale = std::sqrt(static_cast<double>(d.modelDim));
    d.finalNorm.offset = offset;
    for (LayerDescription &layer : d.layers) {
      normBefore(layer, d.finalNorm);
      layer.afterAttention = layer.afterMlp = d.finalNorm;
      if (generation.normsHeads)
        layer.attention.queryNorm = layer.attention.keyNorm = d.finalNorm;
    }
  }

  Generation generation;
};

} // namespace

const Architecture &gemma2Architecture() {
  static const Gemma gemma2({.name = "gemma2",
                             .classes = {{"Gemma2ForCausalLM", "gemma2"}},
                             .context = 8192,
                             .theta = 10000,
                             .pattern = 2,
                             .normsHeads = false,
                             .hasLocalTable = false,
                             .scoreCap = 50,
                             .cap = 30,
                             .ggufWindow = 4096,
                             .vocabulary = 256000,
                             .layersOfLargest = 46});
  return gemma2;
}

const Architecture &gemma3Architecture() {
  static const Gemma gemma3({.name = "gemma3",
                             .classes = {{"Gemma3ForCausalLM", "gemma3_text"},
                                         {"Gemma3ForConditionalGeneration", "gemma3"}},
                             .context = 131072,
                             .theta = 1e6,
                             .pattern = 6,
                             .normsHeads = true,
                             .hasLocalTable = true,
                             .scoreCap = 0,
                             .cap = 0,
                             .ggufWindow = 0,
                             .vocabulary = 262208,
                             .layersOfLargest = 62});
  return gemma3;
}

} // namespace kernelforge
