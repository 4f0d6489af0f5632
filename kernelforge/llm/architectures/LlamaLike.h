// What most decoders share with Llama: RMS norms before attention and mlp, grouped queries that
// rotate, a gated mlp, and their tensors' names. A family says in what it differs.
#pragma once

#include "kernelforge/llm/architectures/Architecture.h"
#include "kernelforge/llm/architectures/RopeConfig.h"
#include "kernelforge/llm/architectures/TensorNames.h"

namespace kernelforge {

/// What transformers takes where a field of config.json is absent; its classes differ.
struct LlamaDefaults {
  int64_t context = 2048;
  int64_t kvHeads = 0; ///< 0: as many as heads, which null means to all
  int64_t headDim = 0; ///< 0: what the heads divide the rows into
  bool tiedHead = false;
  RopeDefaults rope = {};
  std::string_view activationField = "hidden_act";
  ActivationKind activation = ActivationKind::Silu;
  double epsilon = 1e-6;
  bool attentionBias = true, mlpBias = true; ///< whether the class has these switches
  /// Sizes; 0: the field must be there.
  int64_t layers = 0, modelDim = 0, vocabulary = 0, heads = 0, width = 0;
};

/// A decoder of equal layers, each with the same table of RoPE where `rotates`. Windows, and what
/// else a family has, are left to it.
Expected<ModelDescription> readLlamaConfig(const JsonView &root, std::string_view architecture,
                                           const LlamaDefaults &defaults, bool rotates = true);

/// The same from GGUF metadata, whose norms are RMS norms. `pairing` is that of the files' Q and K.
Expected<ModelDescription> readLlamaGguf(const GgufModel &model, std::string_view architecture,
                                         RopePairing pairing);

/// A window over all layers, `sliding_window` or what the class has where the field is absent; null
/// is none, and so is one that no sequence outgrows.
Status readWindow(const JsonView &root, int64_t usual, ModelDescription &d);

/// Of each layer whether `layer_types` says that it has a window; nothing where there is no such
/// list.
Expected<std::optional<std::vector<bool>>> readLayerTypes(const JsonView &root, size_t layers);

/// What files of these families have in common.
class LlamaLike : public Architecture {
public:
  LlamaLike(std::string_view family, std::vector<HuggingFaceClass> kinds)
      : family(family), kinds(std::move(kinds)) {}

  std::string_view name() const override { return family; }
  std::span<const HuggingFaceClass> classes() const override { return kinds; }
  TensorSource locate(const WeightSlot &slot, const ModelDescription &description,
                      WeightNaming naming) const override;
  bool isRedundant(std::string_view tensor, const ModelDescription &description,
                   WeightNaming naming) const override;

private:
  std::string_view family;
  std::vector<HuggingFaceClass> kinds;
};

/// The norms of a layer whose attention and mlp have one before them.
void normBefore(LayerDescription &layer, const NormDescription &norm);

} // namespace kernelforge
