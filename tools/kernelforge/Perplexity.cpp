// kernelforge perplexity: how well a model predicts a text, and how far its logits are from others.
#include "Commands.h"
#include "LanguageModel.h"
#include "NumberOptions.h"

#include "kernelforge/llm/Logits.h"
#include "kernelforge/llm/Perplexity.h"
#include "kernelforge/support/MappedFile.h"
#include "kernelforge/support/Npy.h"
#include "kernelforge/support/Progress.h"

#include <cmath>
#include <fmt/format.h>

using namespace kernelforge;
using namespace kernelforge::cli;

namespace {

struct PerplexityOptions {
  ModelChoice choice;
  std::string file, base;
  int64_t window = 512;
  int64_t maxTokens = 0;
};

struct Answer {
  LikelihoodSum likelihood;
  std::optional<DivergenceSum> divergence;
};

/// Logits of another model for the same tokens, one row for each that counts.
Expected<NpyArray> readBase(const std::string &path, int64_t rows, int64_t vocabulary) {
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

void readBaseRow(const NpyArray &base, int64_t row, std::vector<float> &out) {
  const ElementType type = base.type == NpyType::F16 ? ElementType::F16 : ElementType::F32;
  out.resize(base.shape[1]);
  const std::byte *from =
      base.data.data() + static_cast<uint64_t>(row) * base.shape[1] * elementBytes(base.type);
  dequantizeRow(type, from, out.size(), out.data());
}

Expected<std::vector<TokenId>> readTokens(const PerplexityOptions &options,
                                          const Tokenizer &tokenizer) {
  KF_TRY(std::string text, readText(options.file, "text is not usable", Tokenizer::maxTextBytes));
  KF_TRY(std::vector<TokenId> tokens, tokenizer.encode(text, false));
  if (options.maxTokens > 0 && tokens.size() > static_cast<size_t>(options.maxTokens))
    tokens.resize(static_cast<size_t>(options.maxTokens));
  if (tokens.size() < static_cast<size_t>(options.window))
    return unusable(
        "text is not usable", options.file,
        fmt::format("its {} tokens do not fill one window of {}", tokens.size(), options.window),
        "give a longer text or a smaller --context");
  return tokens;
}

/// Adds the likelihood of `next` after a row of logits. The sums must stay numbers.
Status addRow(Answer &answer, std::span<const float> logits, TokenId next, int64_t tokens) {
  KF_CHECK(checkLogits(logits, tokens));
  answer.likelihood.add(logits, next);
  if (std::isfinite(answer.likelihood.sum))
    return {};
  return failed("perplexity is infinite", fmt::format("after {} tokens", tokens),
                fmt::format("the model gives the token that follows, {}, no probability", next),
                "leave that part of the text out, or look at the model's weights");
}

/// Adds the divergence from a row of the base, which is row `row` of the file `path`.
Status addBaseRow(Answer &answer, std::span<const float> base, std::span<const float> logits,
                  const std::string &path, int64_t row) {
  const std::string where = fmt::format("{}, row {}", path, row);
  if (std::string defect = describeDefect(base); !defect.empty())
    return unusable("base logits are not usable", where, std::move(defect));
  answer.divergence->add(base, logits);
  if (std::isfinite(answer.divergence->sum))
    return {};
  return failed("divergence is infinite", where,
                "the model gives no probability to a token that the base gives some");
}

Expected<Answer> score(Decoder &decoder, std::span<const TokenId> tokens,
                       std::optional<TokenId> bos, const PerplexityOptions &options) {
  const std::atomic<bool> *cancel = interruptFlag();
  const auto window = static_cast<size_t>(options.window);
  const size_t windows = tokens.size() / window;
  Answer answer;
  std::optional<NpyArray> base;
  std::vector<float> baseRow;
  if (!options.base.empty()) {
    KF_TRY(base, readBase(options.base, static_cast<int64_t>(windows * (window - 1)),
                          decoder.description().vocabSize));
    answer.divergence.emplace();
  }
  Progress progress("tokens", static_cast<int64_t>(windows * window));
  for (size_t index = 0; index < windows; ++index) {
    const std::vector<TokenId> ids = windowOf(tokens, index, window, bos);
    Status status;
    auto visit = [&](int64_t position, std::span<const float> logits) {
      const auto at = static_cast<size_t>(position);
      if (!status || at + 1 == ids.size())
        return; // what follows the last is outside the window
      const int64_t row = answer.likelihood.tokens;
      status = addRow(answer, logits, ids[at + 1], position + 1);
      if (status && base) {
        readBaseRow(*base, row, baseRow);
        status = addBaseRow(answer, baseRow, logits, options.base, row);
      }
      progress.update(static_cast<int64_t>(index * window + at));
    };
    decoder.truncate(0);
    KF_CHECK(decoder.score(ids, visit, cancel));
    if (!status) {
      if (status.error().kind == ErrorKind::Failed)
        status.error().where += fmt::format(" of window {}", index + 1);
      return tl::unexpected<Error>(status.error());
    }
  }
  if (!std::isfinite(answer.likelihood.perplexity()))
    return failed("perplexity is out of range", options.file,
                  fmt::format("the mean negative log-likelihood is {:.6g}, and its exponential no "
                              "number",
                              answer.likelihood.mean()),
                  "look at the model's weights");
  return answer;
}

void printAnswer(const Answer &answer, const Decoder &decoder, const Context &context) {
  const std::string cache = cacheName(decoder), numerics = numericsText(decoder);
  const LikelihoodSum &likelihood = answer.likelihood;
  if (context.json) {
    Json json = {{"perplexity", likelihood.perplexity()},
                 {"nll", likelihood.mean()},
                 {"tokens", likelihood.tokens},
                 {"kv_cache", cache},
                 {"numerics", numerics}};
    if (answer.divergence) {
      json["kl_divergence"] = answer.divergence->mean();
      json["same_top"] = answer.divergence->sameTopShare();
    }
    printJson(json);
    return;
  }
  print(fmt::format("perplexity     {:.4f}\nnll            {:.6f}\ntokens         {}\n"
                    "kv cache       {}\nnumerics       {}\n",
                    likelihood.perplexity(), likelihood.mean(), likelihood.tokens, cache,
                    numerics));
  if (answer.divergence)
    print(fmt::format("kl divergence  {:.6g}\nsame top       {:.2f} %\n", answer.divergence->mean(),
                      100 * answer.divergence->sameTopShare()));
}

Expected<int> perplexity(PerplexityOptions options, const Context &context) {
  const auto start = std::chrono::steady_clock::now();
  KF_TRY(ModelFile file, openChosenModel(options.choice, context));
  KF_TRY(Tokenizer tokenizer, Tokenizer::load(file.tokenizer));
  KF_TRY(std::vector<TokenId> tokens, readTokens(options, tokenizer));
  options.choice.context = options.window;
  KF_TRY(LoadedModel model,
         loadModel(std::move(file), secondsSince(start), options.choice, context, true));
  KF_TRY(Answer answer,
         explained(score(*model.decoder, tokens,
                         tokenizer.addBos() ? tokenizer.bos() : std::optional<TokenId>(), options),
                   model));
  printAnswer(answer, *model.decoder, context);
  return 0;
}

} // namespace

void cli::addPerplexity(CLI::App &app, Context &context) {
  auto options = std::make_shared<PerplexityOptions>();
  CLI::App &command = addCommand(app, context,
                                 {"perplexity", "how well a language model predicts a text",
                                  "perplexity -m smollm2 --file text.txt --context 512"},
                                 [options, &context] { return perplexity(*options, context); });
  addTargetOptions(command, context);
  addModelOptions(command, options->choice);
  addRunOptions(command, options->choice);
  command.add_option("--file", options->file, "the text")->required();
  addInteger(command, "-c,--context", options->window, "tokens of a window", 2, int64_t(1) << 27)
      ->capture_default_str();
  addInteger(command, "--max-tokens", options->maxTokens, "tokens of the text to use; 0: all", 0,
             int64_t(1) << 40);
  command.add_option("--kl-against", options->base,
                     ".npy of base logits, float16 or float32 [tokens, vocabulary]: also print the "
                     "divergence from them");
}
