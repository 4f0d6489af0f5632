// kernelforge perplexity: how well a model predicts a text, and how far its logits are from others.
#include "Commands.h"
#include "DivergenceBase.h"
#include "LanguageModel.h"
#include "NumberOptions.h"

#include "kernelforge/llm/Logits.h"
#include "kernelforge/llm/Perplexity.h"
#include "kernelforge/support/MappedFile.h"
#include "kernelforge/support/Progress.h"

#include <cmath>
#include <fmt/format.h>

using namespace kernelforge;
using namespace kernelforge::cli;

namespace {

struct PerplexityOptions {
  ModelChoice choice;
  BaseChoice base;
  std::string file;
  int64_t window = 512;
  int64_t maxTokens = 0;
};

struct Answer {
  LikelihoodSum likelihood;
  /// Only where there is a base.
  Divergence divergence;
  LikelihoodSum baseLikelihood;
};

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

/// Adds the divergence from row `index` of the base, and the base's likelihood of `next`.
Status addBaseRow(Answer &answer, DivergenceBase &base, size_t index, std::span<const float> logits,
                  TokenId next) {
  KF_TRY(std::span<const float> theirs, base.logits(index));
  answer.baseLikelihood.add(theirs, next);
  answer.divergence.add(theirs, logits);
  if (std::isfinite(answer.divergence.values.back()))
    return {};
  return failed("divergence is infinite", base.where(index),
                "the model gives no probability to a token that the base gives some");
}

/// What a window adds to an answer, in slices of `chunk` tokens, of which the base is asked first.
Status scoreWindow(Decoder &decoder, DivergenceBase *base, std::span<const TokenId> ids,
                   size_t chunk, Answer &answer, const std::function<void(size_t)> &progress) {
  const std::atomic<bool> *cancel = interruptFlag();
  decoder.truncate(0);
  for (size_t begin = 0; begin < ids.size(); begin += chunk) {
    const auto slice = ids.subspan(begin, std::min(chunk, ids.size() - begin));
    if (base)
      KF_CHECK(base->advance(slice, begin == 0, answer.likelihood.tokens, cancel));
    Status status;
    auto visit = [&](int64_t index, std::span<const float> logits) {
      const size_t at = begin + static_cast<size_t>(index);
      if (!status || at + 1 == ids.size())
        return; // what follows the last is outside the window
      status = addRow(answer, logits, ids[at + 1], static_cast<int64_t>(at + 1));
      if (status && base)
        status = addBaseRow(answer, *base, static_cast<size_t>(index), logits, ids[at + 1]);
      progress(at);
    };
    KF_CHECK(decoder.score(slice, visit, cancel));
    KF_CHECK(std::move(status));
  }
  return {};
}

Expected<Answer> score(Decoder &decoder, DivergenceBase *base, std::span<const TokenId> tokens,
                       std::optional<TokenId> bos, size_t chunk, const PerplexityOptions &options) {
  const auto window = static_cast<size_t>(options.window);
  const size_t windows = tokens.size() / window;
  Answer answer;
  Progress progress("tokens", static_cast<int64_t>(windows * window));
  for (size_t index = 0; index < windows; ++index) {
    const std::vector<TokenId> ids = windowOf(tokens, index, window, bos);
    auto show = [&](size_t at) { progress.update(static_cast<int64_t>(index * window + at)); };
    if (Status status = scoreWindow(decoder, base, ids, chunk, answer, show); !status) {
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

/// How much more perplexed ours is than the base.
double perplexityRatio(const Answer &answer) {
  return std::exp(answer.likelihood.mean() - answer.baseLikelihood.mean());
}

/// A number of JSON, or nothing where it is none: a base may give a token no probability.
Json finiteOrNull(double value) { return std::isfinite(value) ? Json(value) : Json(); }

void addBaseJson(Json &json, const Answer &answer, const DivergenceBase &base) {
  const Divergence &divergence = answer.divergence;
  json["kl_divergence"] = divergence.mean();
  json["kl_median"] = divergence.quantile(0.5);
  json["kl_p99"] = divergence.quantile(0.99);
  json["kl_max"] = divergence.quantile(1);
  json["same_top"] = divergence.sameTopShare();
  json["base_perplexity"] = finiteOrNull(answer.baseLikelihood.perplexity());
  json["perplexity_ratio"] = finiteOrNull(perplexityRatio(answer));
  json["base"] = {{"source", base.name()}};
  if (const Decoder *decoder = base.decoder()) {
    json["base"]["numerics"] = numericsText(*decoder);
    json["base"]["kv_cache"] = cacheName(*decoder);
  }
}

std::string baseText(const Answer &answer, const DivergenceBase &base) {
  const Divergence &divergence = answer.divergence;
  const Decoder *decoder = base.decoder();
  const std::string how = decoder ? fmt::format(", numerics {}, kv cache {}",
                                                numericsText(*decoder), cacheName(*decoder))
                                  : "";
  return fmt::format("base           {}{}\nits perplexity {:.4f}\nratio          {:.6f}\n"
                     "kl divergence  {:.6g}\n  median       {:.6g}\n  99 %         {:.6g}\n"
                     "  greatest     {:.6g}\nsame top       {:.2f} %\n",
                     escapeControls(base.name()), how, answer.baseLikelihood.perplexity(),
                     perplexityRatio(answer), divergence.mean(), divergence.quantile(0.5),
                     divergence.quantile(0.99), divergence.quantile(1),
                     100 * divergence.sameTopShare());
}

void printAnswer(const Answer &answer, const Decoder &decoder, const DivergenceBase *base,
                 const Context &context) {
  const std::string cache = cacheName(decoder), numerics = numericsText(decoder);
  const LikelihoodSum &likelihood = answer.likelihood;
  if (context.json) {
    Json json = {{"perplexity", likelihood.perplexity()},
                 {"nll", likelihood.mean()},
                 {"tokens", likelihood.tokens},
                 {"kv_cache", cache},
                 {"numerics", numerics}};
    if (base)
      addBaseJson(json, answer, *base);
    printJson(json);
    return;
  }
  print(fmt::format("perplexity     {:.4f}\nnll            {:.6f}\ntokens         {}\n"
                    "kv cache       {}\nnumerics       {}\n",
                    likelihood.perplexity(), likelihood.mean(), likelihood.tokens, cache,
                    numerics));
  if (base)
    print(baseText(answer, *base));
}

Expected<int> perplexity(PerplexityOptions options, const Context &context) {
  const auto start = std::chrono::steady_clock::now();
  KF_TRY(ModelFile file, openChosenModel(options.choice, context));
  KF_TRY(Tokenizer tokenizer, Tokenizer::load(file.tokenizer));
  KF_TRY(std::vector<TokenId> tokens, readTokens(options, tokenizer));
  options.choice.context = options.window;
  KF_TRY(LoadedModel model,
         loadModel(std::move(file), secondsSince(start), options.choice, context, true));
  std::optional<DivergenceBase> base;
  if (!options.base.source.empty()) {
    const auto windows = static_cast<int64_t>(tokens.size()) / options.window;
    KF_TRY(base, DivergenceBase::open(options.base, options.choice, model.file->description,
                                      tokenizer, windows * (options.window - 1), context));
  }
  DivergenceBase *against = base ? &*base : nullptr;
  KF_TRY(int64_t chunk, prefillChunkOf(options.choice, context, true));
  KF_TRY(Answer answer,
         explained(score(*model.decoder, against, tokens,
                         tokenizer.addBos() ? tokenizer.bos() : std::optional<TokenId>(),
                         static_cast<size_t>(chunk), options),
                   model));
  printAnswer(answer, *model.decoder, against, context);
  return 0;
}

} // namespace

void cli::addPerplexity(CLI::App &app, Context &context) {
  auto options = std::make_shared<PerplexityOptions>();
  CLI::App &command = addCommand(app, context,
                                 {"perplexity", "how well a language model predicts a text",
                                  "perplexity -m smollm2 --file text.txt --context 512\n"
                                  "  kernelforge perplexity -m smollm2 --file text.txt --numerics "
                                  "i8 --kl-against smollm2"},
                                 [options, &context] { return perplexity(*options, context); });
  addTargetOptions(command, context);
  addModelOptions(command, options->choice);
  addRunOptions(command, options->choice);
  command.add_option("--file", options->file, "the text")->required();
  addInteger(command, "-c,--context", options->window, "tokens of a window", 2, int64_t(1) << 27)
      ->capture_default_str();
  addInteger(command, "--max-tokens", options->maxTokens, "tokens of the text to use; 0: all", 0,
             int64_t(1) << 40);
  addBaseOptions(command, options->base);
}
