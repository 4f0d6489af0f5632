// A model's configuration, from config.json or GGUF metadata, as one description. Architectures and
// switches that we cannot compute are refused by name, never ignored.
#pragma once

#include "kernelforge/ir/ModelDescription.h"
#include "kernelforge/llm/Gguf.h"
#include "kernelforge/llm/TokenizerData.h"
#include "kernelforge/support/Error.h"
#include "kernelforge/support/Json.h"

#include <optional>
#include <string>
#include <vector>

namespace kernelforge {

/// Limits of what a configuration may ask for; beyond them a file is taken for damaged.
namespace modelLimits {
inline constexpr int64_t layers = 1024;
inline constexpr int64_t modelDim = 1 << 18;
inline constexpr int64_t heads = 4096;
inline constexpr int64_t headDim = 1024;
inline constexpr int64_t ffnDim = 1 << 22;
inline constexpr int64_t vocabulary = 1 << 24;
inline constexpr int64_t context = 1 << 27;
} // namespace modelLimits

struct ModelConfig {
  ModelDescription description;
  SpecialTokens special; ///< ids from config.json and generation_config.json, below vocabSize
};

/// Reads a config.json (Hugging Face): LlamaForCausalLM, and MistralForCausalLM without a sliding
/// window that matters. RoPE pairing is HalfSplit. Errors are Unusable and name file, field, value
/// and limit.
Expected<ModelConfig> readConfigJson(const std::string &path);

/// The same from a parsed document.
Expected<ModelConfig> configFromJson(const JsonDocument &document);

/// Adds what generation_config.json says about the ids that end a generation.
Status addGenerationConfig(const JsonDocument &document, ModelConfig &config);

/// The description in a GGUF file of architecture llama; RoPE pairing is Interleaved. Whether the
/// embeddings are tied and which biases there are is seen from the tensors; factors of
/// rope_freqs.weight are read. The tokenizer is not (tokenizerFromGguf).
Expected<ModelDescription> configFromGguf(const GgufModel &model);

/// The tokenizer in GGUF metadata: nothing where there is none. Lengths of the arrays, token types
/// and special ids are checked; `where` names the file.
Expected<std::optional<TokenizerData>> tokenizerFromGguf(const GgufMetadata &metadata,
                                                         const std::string &where);

/// Relations between dimensions that every loader checks after it has read them: heads divide by
/// kvHeads, headDim and rotaryDim are even, ...; empty, or what is wrong in a sentence.
std::string describeDefect(const ModelDescription &description);

/// Linear scaling: every frequency divided by `factor`. `count` is rotaryDim / 2.
std::vector<double> linearRopeFactors(int64_t count, double factor);

/// Llama 3's rule: long wavelengths divided by `factor`, short ones kept, smooth between.
struct Llama3Scaling {
  double factor, lowFrequencyFactor, highFrequencyFactor, originalContext;
};
std::vector<double> llama3RopeFactors(int64_t rotaryDim, double theta, const Llama3Scaling &rule);

} // namespace kernelforge
