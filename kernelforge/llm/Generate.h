// The generation loop: prompt, sample, append, until something ends it. It knows a model only as a
// function from tokens to logits, and perhaps as one that chooses tokens by itself, so that a
// decoder, a test and a remote model can all be behind it.
#pragma once

#include "kernelforge/llm/Sampler.h"
#include "kernelforge/llm/Tokenizer.h"

#include <atomic>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// Appends tokens to the sequence and gives the logits of the last one, valid until the next call.
using AppendTokens =
    std::function<Expected<std::span<const float>>(std::span<const TokenId> tokens)>;

/// A model that chooses the tokens after the first one by itself: `begin` with that token, how the
/// others are sampled, and how many are wanted at most; `next` gives one after the other, those
/// that a Sampler chooses from append()'s logits, -1 where no logit is a number; `end` gives the
/// logits that the last one was chosen from, and forgets what was chosen beyond it. Unset: there is
/// none. Not asked where ids are penalised.
struct TokenSteps {
  std::function<Status(TokenId first, const SamplingOptions &sampling, int64_t most)> begin;
  std::function<Expected<TokenId>()> next;
  std::function<Expected<std::span<const float>>()> end;
};

struct GenerateOptions {
  int64_t maxTokens = 128; ///< 0: only the prompt is run
  SamplingOptions sampling;
  std::vector<std::string> stop; ///< needs a tokenizer
  bool ignoreEos = false;        ///< go on after a token that ends a generation
};

enum class FinishReason {
  Stop,    ///< the model ended its text
  Length,  ///< maxTokens
  Context, ///< no room for another token
  StopString,
  Interrupted, ///< `cancel` became true
};

/// As in JSON: "stop", "length", "context", "stop_string", "interrupted".
std::string_view name(FinishReason reason);

/// Seconds; 0 for what was not reached.
struct GenerateTimings {
  double timeToFirstToken = 0; ///< from the start to the first token's choice
  double prefill = 0;          ///< running the prompt
  double decode = 0;           ///< from the first token to the last
};

struct Generation {
  std::vector<TokenId> ids; ///< all that were chosen, one that ended the text included
  std::string text;         ///< what they say; without control tokens and the stop string
  FinishReason finish = FinishReason::Length;
  int64_t promptTokens = 0;
  GenerateTimings timings;
  /// Of the last row of logits; nothing where a run was interrupted, whose row is not whole.
  std::optional<uint64_t> logitsHash;

  double prefillRate() const; ///< tokens of the prompt per second; 0 where nothing was measured
  double decodeRate() const;  ///< generated - 1 tokens over timings.decode; 0 likewise
};

/// Whether options can be used; generate() asks it itself, but only when a model is loaded.
/// Unusable where one is out of range, or needs a tokenizer where there is none.
Status checkOptions(const GenerateOptions &options, bool hasTokenizer);

/// Generates after `prompt` in a context of `context` positions. `tokenizer` may be null: then
/// there is no text. `showText` gets the text as it becomes certain. Unusable: an empty prompt or
/// one longer than the context, options out of range; and what `append` returns, except that its
/// Interrupted, like `cancel`, ends the generation with what there is. Failed where logits are no
/// numbers. With `steps` all tokens but the first are theirs; of logits that the host does not see
/// only those of the last token are looked at.
Expected<Generation> generate(const AppendTokens &append, const Tokenizer *tokenizer,
                              std::span<const TokenId> prompt, int64_t context,
                              const GenerateOptions &options,
                              const std::function<void(std::string_view)> &showText = {},
                              const std::atomic<bool> *cancel = nullptr,
                              const TokenSteps &steps = {});

} // namespace kernelforge
