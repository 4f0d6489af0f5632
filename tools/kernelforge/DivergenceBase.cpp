#include "DivergenceBase.h"

#include "NumericsOption.h"
#include "Usage.h"

#include "kernelforge/llm/Logits.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

using namespace kernelforge;
using namespace kernelforge::cli;

void cli::addBaseOptions(CLI::App &command, BaseChoice &choice) {
  CLI::Option *against = command.add_option(
      "--kl-against", choice.source,
      "a model, as -m takes it (the same one, too), or .npy of stored logits, float16 or float32 "
      "[tokens, vocabulary]: also print how far the distributions are from those of that one");
  command
      .add_option("--kl-numerics", choice.numerics,
                  "numerics of the model that --kl-against names (default: exact)")
      ->needs(against);
  command
      .add_option("--kl-kv-cache", choice.cacheType,
                  fmt::format("type of its keys and values: {} (default: f32)",
                              fmt::join(cacheNames(), ", ")))
      ->check(oneOf(cacheNames()))
      ->needs(against);
}

/// Logits for the same tokens, one row for each that counts.
static Expected<NpyArray> readStored(const std::string &path, int64_t rows, int64_t vocabulary) {
  KF_TRY(NpyArray base, readNpy(path));
  const bool isFloat = base.type == NpyType::F32 || base.type == NpyType::F16;
  if (!isFloat || base.shape.size() != 2 || base.shape[0] < static_cast<uint64_t>(rows) ||
      base.shape[1] != static_cast<uint64_t>(vocabulary))
    return unusable(
        "base logits are not usable", path,
        fmt::format("float16 or float32 of shape [{} or more, {}] are needed", rows, vocabulary),
        "store the logits of the same text, --context and --max-tokens");
  return base;
}

/// Two models can be compared where an id means the same to both. A file without a tokenizer can
/// only be asked for its size.
static Status checkVocabulary(const ModelFile &base, const ModelDescription &model,
                              const Tokenizer &tokenizer) {
  auto refused = [&](std::string why) -> Status {
    return unusable("models cannot be compared", base.path, std::move(why),
                    "name a base with the same vocabulary");
  };
  if (base.description.vocabSize != model.vocabSize)
    return refused(fmt::format("its vocabulary has {} tokens, not {}", base.description.vocabSize,
                               model.vocabSize));
  Expected<Tokenizer> other = Tokenizer::load(base.tokenizer);
  if (!other)
    return {};
  for (TokenId id = 0; id < model.vocabSize; ++id)
    if (other->piece(id) != tokenizer.piece(id))
      return refused(fmt::format("token {} is \"{}\" in its vocabulary, not \"{}\"", id,
                                 other->piece(id), tokenizer.piece(id)));
  return {};
}

Expected<DivergenceBase> DivergenceBase::open(const BaseChoice &choice, const ModelChoice &ours,
                                              const ModelDescription &model,
                                              const Tokenizer &tokenizer, int64_t rows,
                                              const Context &context) {
  DivergenceBase base;
  base.source = choice.source;
  if (choice.source.ends_with(".npy")) {
    if (!choice.numerics.empty() || !choice.cacheType.empty())
      return unusable("wrong usage", "kernelforge " + context.command,
                      "stored logits have neither numerics nor a cache",
                      "leave out --kl-numerics and --kl-kv-cache, or name a model");
    KF_TRY(base.stored, readStored(choice.source, rows, model.vocabSize));
    return base;
  }
  ModelChoice theirs = ours;
  theirs.model = choice.source;
  theirs.randomWeights.clear();
  theirs.numerics = choice.numerics.empty() ? "exact" : choice.numerics;
  theirs.cacheType = choice.cacheType.empty() ? "f32" : choice.cacheType;
  if (Expected<ChosenNumerics> numerics = requestedNumerics(theirs.numerics, context); !numerics) {
    Error error = numerics.error();
    error.where = "--kl-numerics " + theirs.numerics;
    return tl::unexpected(std::move(error));
  }
  KF_TRY(ModelFile file, openChosenModel(theirs, context));
  KF_CHECK(checkVocabulary(file, model, tokenizer));
  KF_TRY(base.model, loadModel(std::move(file), 0, theirs, context, true));
  return base;
}

Status DivergenceBase::advance(std::span<const TokenId> ids, bool isFirst, int64_t row,
                               const std::atomic<bool> *cancel) {
  firstRow = row;
  if (!model)
    return {};
  if (isFirst)
    model->decoder->truncate(0);
  modelRows.clear();
  auto keep = [&](int64_t, std::span<const float> logits) { modelRows.push_back(logits); };
  return model->decoder->score(ids, keep, cancel);
}

std::string DivergenceBase::where(size_t index) const {
  const int64_t row = firstRow + static_cast<int64_t>(index);
  return model ? fmt::format("{}, token {} of those compared", source, row + 1)
               : fmt::format("{}, row {}", source, row);
}

Expected<std::span<const float>> DivergenceBase::logits(size_t index) {
  constexpr const char *what = "base logits are not usable";
  if (model) {
    if (std::string defect = describeDefect(modelRows[index]); !defect.empty())
      return failed(what, where(index), std::move(defect), "look at that model alone");
    return modelRows[index];
  }
  const ElementType type = stored->type == NpyType::F16 ? ElementType::F16 : ElementType::F32;
  const uint64_t columns = stored->shape[1];
  const uint64_t row = static_cast<uint64_t>(firstRow) + index;
  storedRow.resize(columns);
  dequantizeRow(type, stored->data.data() + row * columns * elementBytes(stored->type), columns,
                storedRow.data());
  if (std::string defect = describeDefect(storedRow); !defect.empty())
    return unusable(what, where(index), std::move(defect));
  return std::span<const float>(storedRow);
}
