// SmolLM3 (Hugging Face 2025): a Llama in which every fourth layer does not rotate. In GGUF files
// the rows of Q and K are permuted as Llama's.
#include "kernelforge/llm/architectures/ConfigFields.h"
#include "kernelforge/llm/architectures/LlamaLike.h"

#include <fmt/format.h>

namespace kernelforge {

namespace {

constexpr int64_t usualInterval = 4;

/// Every `interval`-th layer knows of no positions.
void stopRotation(ModelDescription &d, int64_t interval) {
  for (size_t i = 0; i < d.layers.size(); ++i)
    if (static_cast<int64_t>(i + 1) % interval == 0)
      d.layers[i].attention.rope = std::nullopt;
}

class SmolLm3 : public LlamaLike {
public:
  SmolLm3() : LlamaLike("smollm3", {{"SmolLM3ForCausalLM", "smollm3"}}) {}

  Expected<ModelDescription> fromGguf(const GgufModel &model) const override {
    KF_TRY(ModelDescription d, readLlamaGguf(model, name(), RopePairing::Interleaved));
    stopRotation(d, usualInterval);
    return d;
  }

  Expected<ModelDescription> fromConfig(const JsonView &root,
                                        const HuggingFaceClass &) const override {
    KF_TRY(ModelDescription d,
           readLlamaConfig(
               root, name(),
               {.context = 32768, .kvHeads = 4, .tiedHead = true, .rope = {.theta = 2e6}}));
    KF_CHECK(readRotation(root, d));
    KF_CHECK(readWindows(root, d));
    return d;
  }

private:
  /// no_rope_layers has a 1 for each layer that rotates.
  static Status readRotation(const JsonView &root, ModelDescription &d) {
    KF_TRY(int64_t interval,
           wholeOr(root, "no_rope_layer_interval", 1, modelLimits::layers, usualInterval));
    if (!root.has("no_rope_layers")) {
      stopRotation(d, interval);
      return {};
    }
    KF_TRY(std::vector<JsonView> rotates, root.array("no_rope_layers", modelLimits::layers));
    if (rotates.size() != d.layers.size())
      return root.error(fmt::format("no_rope_layers has {} elements for {} layers", rotates.size(),
                                    d.layers.size()));
    for (size_t i = 0; i < rotates.size(); ++i) {
      KF_TRY(int64_t value, asWhole(rotates[i], 0, 1));
      if (value == 0)
        d.layers[i].attention.rope = std::nullopt;
    }
    return {};
  }

  static Status readWindows(const JsonView &root, ModelDescription &d) {
    KF_TRY(bool areUsed, root.booleanOr("use_sliding_window", false));
    KF_TRY(auto listed, readLayerTypes(root, d.layers.size()));
    KF_TRY(int64_t window, wholeOr(root, "sliding_window", 0, modelLimits::context, 0));
    for (size_t i = 0; areUsed && i < d.layers.size(); ++i) {
      AttentionDescription &a = d.layers[i].attention;
      a.window = (listed ? (*listed)[i] : !a.rope.has_value()) ? window : 0;
    }
    return {};
  }
};

} // namespace

const Architecture &smollm3Architecture() {
  static const SmolLm3 smollm3;
  return smollm3;
}

} // namespace kernelforge
