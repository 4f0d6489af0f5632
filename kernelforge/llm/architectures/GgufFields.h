// Metadata of GGUF files that families read alike. Keys are ARCHITECTURE.NAME.
#pragma once

#include "kernelforge/ir/ModelDescription.h"
#include "kernelforge/llm/Gguf.h"

#include <optional>
#include <string>
#include <vector>

namespace kernelforge {

/// What a GGUF file says under its architecture's keys. Errors name file, key, value and limit.
class GgufFields {
public:
  /// Both must outlive this.
  GgufFields(const GgufModel &model, std::string_view architecture)
      : model(model), architecture(architecture) {}

  std::string key(std::string_view name) const;

  /// An integer that must be there.
  Expected<int64_t> integer(std::string_view name, int64_t low, int64_t high) const;

  /// A number for each of `layers` layers, or one for all: in any case as many values as layers;
  /// nothing where the key is absent.
  Expected<std::optional<std::vector<int64_t>>> perLayer(std::string_view name, int64_t low,
                                                         int64_t high, int64_t layers) const;

  Expected<double> numberOr(std::string_view name, double low, double high, double fallback) const;

  /// Whether a key has a value for each layer.
  bool isList(std::string_view name) const;

  /// The table of heads of `headDim`: theta, scaling rule (none, linear, yarn; longrope and llama3
  /// by tensors of factors) and the share that rotates. Other rules are refused by name.
  Expected<RopeDescription> rope(int64_t headDim) const;

  /// The epsilon of the model's norms, which must be there.
  Expected<double> epsilon(std::string_view name) const;

  /// All that families share: sizes, heads, widths of the mlp, context, a window over all layers,
  /// vocabulary, which biases there are and whether there is a head of its own (both seen from the
  /// tensors). Norms,
  /// activation and positions are left to the caller. Keys that change what is computed in a way
  /// that nothing here computes are refused.
  Expected<ModelDescription> frame() const;

private:
  bool has(std::string_view tensor) const { return model.tensors.find(tensor) != nullptr; }
  Status readLayers(ModelDescription &d, int64_t count) const;
  Status readHeadDim(ModelDescription &d) const;
  Status refuseUnsupported() const;
  Expected<std::vector<double>> factorsOf(std::string_view tensor, int64_t count) const;
  Status readYarn(RopeDescription &rope, double factor, double original) const;
  Expected<int64_t> vocabSize() const;

  const GgufModel &model;
  std::string_view architecture;
};

} // namespace kernelforge
