// A model's configuration, from config.json or GGUF metadata, as one description. Architectures and
// switches that we cannot compute are refused by name, never ignored.
#pragma once

#include "kernelforge/llm/TokenizerData.h"
#include "kernelforge/llm/architectures/Architecture.h"

#include <optional>
#include <string>

namespace kernelforge {

struct ModelConfig {
  const Architecture *architecture = nullptr; ///< the family; never null once read
  ModelDescription description;
  SpecialTokens special; ///< ids from config.json and generation_config.json, below vocabSize
};

/// Reads a config.json (Hugging Face) of one of the families in llm/architectures. Errors are
/// Unusable and name file, field, value and limit.
Expected<ModelConfig> readConfigJson(const std::string &path);

/// The same from a parsed document.
Expected<ModelConfig> configFromJson(const JsonDocument &document);

/// Adds what generation_config.json says about the ids that end a generation.
Status addGenerationConfig(const JsonDocument &document, ModelConfig &config);

/// The model in a GGUF file of one of the families. The tokenizer is not read (tokenizerFromGguf).
Expected<ModelConfig> configFromGguf(const GgufModel &model);

/// The tokenizer in GGUF metadata: nothing where there is none. Lengths of the arrays, token types
/// and special ids are checked; `where` names the file.
Expected<std::optional<TokenizerData>> tokenizerFromGguf(const GgufMetadata &metadata,
                                                         const std::string &where);

} // namespace kernelforge
