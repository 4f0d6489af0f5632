#include "kernelforge/llm/Generate.h"

#include "kernelforge/llm/Logits.h"
#include "kernelforge/llm/StopStrings.h"

#include <chrono>
#include <fmt/format.h>
#include <utility>

namespace kernelforge {

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Ids to text: complete characters, then stop strings. A text begins behind a control token, else
/// that of the prompt goes on.
class TextStream {
public:
  TextStream(const Tokenizer *tokenizer, TokenId lastOfPrompt, StopStrings stop,
             const std::function<void(std::string_view)> &show)
      : stop(std::move(stop)), show(show) {
    if (tokenizer)
      decoder.emplace(*tokenizer, /*skipSpecial=*/true, tokenizer->isControl(lastOfPrompt));
  }

  /// True where a stop string was completed.
  bool put(TokenId id) {
    if (decoder)
      give(stop.put(decoder->put(id)).text);
    return stop.stopped();
  }

  void finish() {
    if (!decoder || stop.stopped())
      return;
    give(stop.put(decoder->finish()).text);
    give(stop.finish());
  }

  std::string text;

private:
  void give(const std::string &piece) {
    text += piece;
    if (show && !piece.empty())
      show(piece);
  }

  std::optional<StreamDecoder> decoder;
  StopStrings stop;
  const std::function<void(std::string_view)> &show;
};

Status checkPrompt(std::span<const TokenId> prompt, int64_t context) {
  if (prompt.empty())
    return unusable("prompt is not usable", "prompt", "it has no tokens", "give some text");
  if (static_cast<int64_t>(prompt.size()) > context)
    return unusable("prompt is not usable", "prompt",
                    fmt::format("its {} tokens exceed the context of {}", prompt.size(), context),
                    "shorten it or ask for a larger --context");
  return {};
}

bool endsText(const Tokenizer *tokenizer, TokenId id) {
  return tokenizer && (tokenizer->isEndOfGeneration(id) || tokenizer->eot() == id);
}

} // namespace

std::string_view name(FinishReason reason) {
  switch (reason) {
  case FinishReason::Stop:
    return "stop";
  case FinishReason::Length:
    return "length";
  case FinishReason::Context:
    return "context";
  case FinishReason::StopString:
    return "stop_string";
  case FinishReason::Interrupted:
    return "interrupted";
  }
  return "";
}

double Generation::prefillRate() const {
  return timings.prefill > 0 ? static_cast<double>(promptTokens) / timings.prefill : 0;
}

double Generation::decodeRate() const {
  return timings.decode > 0 && ids.size() > 1 ? static_cast<double>(ids.size() - 1) / timings.decode
                                              : 0;
}

Status checkOptions(const GenerateOptions &options, bool hasTokenizer) {
  if (options.maxTokens < 0)
    return unusable("generation option is not usable", "max-tokens",
                    fmt::format("{} is not 0 or more", options.maxTokens));
  if (!hasTokenizer && !options.stop.empty())
    return unusable("generation option is not usable", "stop",
                    "the model has no tokenizer to find strings with");
  KF_CHECK(Sampler::create(options.sampling));
  KF_CHECK(StopStrings::create(options.stop));
  return {};
}

Expected<Generation> generate(const AppendTokens &append, const Tokenizer *tokenizer,
                              std::span<const TokenId> prompt, int64_t context,
                              const GenerateOptions &options,
                              const std::function<void(std::string_view)> &showText,
                              const std::atomic<bool> *cancel, const TokenSteps &steps) {
  KF_CHECK(checkPrompt(prompt, context));
  KF_CHECK(checkOptions(options, tokenizer));
  KF_TRY(Sampler sampler, Sampler::create(options.sampling));
  KF_TRY(StopStrings stop, StopStrings::create(options.stop));
  TextStream stream(tokenizer, prompt.back(), std::move(stop), showText);

  Generation out;
  out.promptTokens = static_cast<int64_t>(prompt.size());
  std::vector<TokenId> sequence(prompt.begin(), prompt.end());
  const Clock::time_point start = Clock::now();
  Clock::time_point firstToken = start;
  Expected<std::span<const float>> logits = append(prompt);
  if (logits)
    out.timings.prefill = secondsSince(start);
  bool isStepping = false;
  TokenId chosen = 0; // by the last step
  auto endSteps = [&]() -> Status {
    KF_TRY(logits, steps.end());
    return checkLogits(*logits, static_cast<int64_t>(sequence.size()));
  };
  auto goOn = [&]() -> Status {
    if (!steps.begin || options.sampling.repeatPenalty != 1) {
      logits = append(std::span(sequence).last(1));
      return {};
    }
    const auto left = options.maxTokens - static_cast<int64_t>(out.ids.size());
    if (!std::exchange(isStepping, true))
      KF_CHECK(steps.begin(sequence.back(), options.sampling, left));
    KF_TRY(chosen, steps.next());
    if (chosen >= 0)
      return {};
    KF_CHECK(endSteps());
    return failed(logitsError, fmt::format("after {} tokens", sequence.size()),
                  "none can be chosen");
  };
  while (true) {
    if (!logits && logits.error().kind != ErrorKind::Interrupted)
      return tl::unexpected<Error>(std::move(logits).error());
    if (!logits || (cancel && *cancel)) {
      out.finish = FinishReason::Interrupted;
      break;
    }
    if (static_cast<int64_t>(out.ids.size()) == options.maxTokens) {
      KF_CHECK(checkLogits(*logits, out.promptTokens)); // nothing samples them
      out.finish = FinishReason::Length;
      break;
    }
    TokenId id = chosen;
    if (!isStepping) {
      KF_TRY(id, sampler.sample(*logits, sequence, sequence.size()));
    }
    if (out.ids.empty()) {
      firstToken = Clock::now();
      out.timings.timeToFirstToken = std::chrono::duration<double>(firstToken - start).count();
    }
    sequence.push_back(id);
    out.ids.push_back(id);
    out.timings.decode = secondsSince(firstToken);
    if (!options.ignoreEos && endsText(tokenizer, id)) {
      out.finish = FinishReason::Stop;
      break;
    }
    if (stream.put(id)) {
      out.finish = FinishReason::StopString;
      break;
    }
    if (static_cast<int64_t>(out.ids.size()) == options.maxTokens) {
      out.finish = FinishReason::Length; // its own logits are not needed
      break;
    }
    if (static_cast<int64_t>(sequence.size()) > context) {
      out.finish = FinishReason::Context;
      break;
    }
    if (Status status = goOn(); !status)
      logits = tl::unexpected<Error>(std::move(status).error());
  }
  if (isStepping && logits)
    KF_CHECK(endSteps());
  stream.finish();
  out.text = std::move(stream.text);
  if (logits)
    out.logitsHash = hashLogits(*logits);
  return out;
}

} // namespace kernelforge
