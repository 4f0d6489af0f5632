// What perplexity compares a model's distributions with: stored logits, or another model, or the
// same one with other numerics, which runs beside it, so that nobody has to store logits.
#pragma once

#include "LanguageModel.h"

#include "kernelforge/support/Npy.h"

#include <optional>
#include <span>
#include <string>
#include <vector>

namespace kernelforge::cli {

/// --kl-against and what belongs to it.
struct BaseChoice {
  std::string source;    ///< a model as -m takes it, or FILE.npy; empty: no base
  std::string numerics;  ///< --kl-numerics; empty: exact
  std::string cacheType; ///< --kl-kv-cache; empty: f32
};

/// Adds --kl-against, --kl-numerics and --kl-kv-cache.
void addBaseOptions(CLI::App &command, BaseChoice &choice);

class DivergenceBase {
public:
  /// Opens stored logits of `rows` tokens, or loads the model with the options of `ours` but for
  /// numerics and cache. Unusable where its vocabulary is not that of `tokenizer` and `model`,
  /// which of a file without a usable tokenizer is asked by its size alone.
  static Expected<DivergenceBase> open(const BaseChoice &choice, const ModelChoice &ours,
                                       const ModelDescription &model, const Tokenizer &tokenizer,
                                       int64_t rows, const Context &context);

  /// Goes on by the tokens `ids` of a window, no more than the prefill chunk; `isFirst`: they begin
  /// it. `row` counts the tokens compared before.
  Status advance(std::span<const TokenId> ids, bool isFirst, int64_t row,
                 const std::atomic<bool> *cancel);

  /// The logits after token `index` of those; valid until the next call. Unusable (of a file) or
  /// Failed (of a model) where they are no numbers.
  Expected<std::span<const float>> logits(size_t index);

  /// Where row `index` of those stands, for error lines.
  std::string where(size_t index) const;

  /// The base model; null where logits are stored.
  const Decoder *decoder() const { return model ? model->decoder.get() : nullptr; }
  const std::string &name() const { return source; }

private:
  DivergenceBase() = default;

  std::string source;
  int64_t firstRow = 0;
  std::optional<NpyArray> stored;
  std::vector<float> storedRow;
  std::optional<LoadedModel> model;
  std::vector<std::span<const float>> modelRows;
};

} // namespace kernelforge::cli
