// Qwen2 (Yang et al. 2024), which has biases on Q, K and V and, in some models, windows in some
// layers; Qwen3 (2025) norms the heads of Q and K instead. Their rows are permuted in no file.
#include "kernelforge/llm/architectures/ConfigFields.h"
#include "kernelforge/llm/architectures/LlamaLike.h"

namespace kernelforge {

namespace {

/// Windows of the layers from a certain one on, or of those that a list names, where a switch says
/// so.
Status readSwitchedWindows(const JsonView &root, ModelDescription &d) {
  KF_TRY(bool areUsed, root.booleanOr("use_sliding_window", false));
  if (!areUsed)
    return {};
  const bool isStated = root.value().contains("sliding_window"); // perhaps as null: none
  KF_TRY(int64_t window, wholeOr(root, "sliding_window", isStated ? 0 : 1, modelLimits::context,
                                 isStated ? 0 : 4096));
  KF_TRY(int64_t first, wholeOr(root, "max_window_layers", 0, modelLimits::layers, 28));
  KF_TRY(auto listed, readLayerTypes(root, d.layers.size()));
  for (size_t i = 0; i < d.layers.size(); ++i)
    d.layers[i].attention.window =
        (listed ? (*listed)[i] : static_cast<int64_t>(i) >= first) ? window : 0;
  return {};
}

class Qwen2 : public LlamaLike {
public:
  Qwen2() : LlamaLike("qwen2", {{"Qwen2ForCausalLM", "qwen2"}}) {}

  Expected<ModelDescription> fromGguf(const GgufModel &model) const override {
    KF_TRY(ModelDescription d, readLlamaGguf(model, name(), RopePairing::HalfSplit));
    for (LayerDescription &layer : d.layers)
      layer.attention.bias = true;
    return d;
  }

  Expected<ModelDescription> fromConfig(const JsonView &root,
                                        const HuggingFaceClass &) const override {
    KF_TRY(ModelDescription d,
           readLlamaConfig(
               root, name(),
               {.context = 32768, .kvHeads = 32, .attentionBias = false, .mlpBias = false}));
    for (LayerDescription &layer : d.layers)
      layer.attention.bias = true;
    KF_CHECK(readSwitchedWindows(root, d));
    return d;
  }
};

class Qwen3 : public LlamaLike {
public:
  Qwen3() : LlamaLike("qwen3", {{"Qwen3ForCausalLM", "qwen3"}}) {}

  Expected<ModelDescription> fromGguf(const GgufModel &model) const override {
    KF_TRY(ModelDescription d, readLlamaGguf(model, name(), RopePairing::HalfSplit));
    normHeads(d);
    return d;
  }

  Expected<ModelDescription> fromConfig(const JsonView &root,
                                        const HuggingFaceClass &) const override {
    KF_TRY(ModelDescription d,
           readLlamaConfig(root, name(),
                           {.context = 32768, .kvHeads = 32, .headDim = 128, .mlpBias = false}));
    normHeads(d);
    KF_CHECK(readSwitchedWindows(root, d));
    return d;
  }

private:
  static void normHeads(ModelDescription &d) {
    for (LayerDescription &layer : d.layers)
      layer.attention.queryNorm = layer.attention.keyNorm = d.finalNorm;
  }
};

} // namespace

const Architecture &qwen2Architecture() {
  static const Qwen2 qwen2;
  return qwen2;
}

const Architecture &qwen3Architecture() {
  static const Qwen3 qwen3;
  return qwen3;
}

} // namespace kernelforge
