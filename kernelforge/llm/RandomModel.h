// Models with made-up weights: any configuration runs, is measured and is tested without its file.
#pragma once

#include "kernelforge/llm/ModelFile.h"

#include <optional>

namespace kernelforge {

struct RandomModelOptions {
  ElementType matrixType = ElementType::Q4_1;
  /// Of the embedding; not set: Q8_0 where matrices are quantized, else theirs.
  std::optional<ElementType> embeddingType;
  uint64_t seed = 0;
};

/// Names of the shapes that need no file: "smollm2", "tinyllama", "tiny", and "mixed", whose layers
/// differ in all that layers can.
std::string builtInShapes();

/// A model of the shape `config`: a config.json or a folder with one, a GGUF file (of which only
/// shape and tokenizer are read), or a built-in shape's name; a file wins over a name. Weights are
/// a function of the options alone, as wide as 1 / sqrt(inputs), so that activations stay finite;
/// norms multiply by 1. Without a tokenizer, tokens 0 to 255 are the bytes and the others print as
/// <ID>. Missing where a name is none of the built-in shapes; Unusable where a file is not usable,
/// a type cannot hold the rows, or memory does not suffice; Failed where it cannot be had.
Expected<ModelFile> makeRandomModel(const std::string &config, const RandomModelOptions &options);

} // namespace kernelforge
