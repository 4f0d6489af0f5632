// Tokens that are looked for in a text before all else, as Hugging Face's files list them.
#pragma once

#include "kernelforge/llm/TokenizerData.h"
#include "kernelforge/support/Error.h"
#include "kernelforge/support/Json.h"

namespace kernelforge {

/// Makes room for `id` and stores its text; an error where it is given to two tokens. `view` is
/// where that is said.
Status placeToken(const JsonView &view, int64_t id, std::string text, TokenType type,
                  TokenizerData &data);

/// Stores an entry of such a list, which has a content, whether it is special, and how it is looked
/// for: a special one is a control token.
Status addToken(const JsonView &token, int64_t id, TokenizerData &data);

/// Stores what the tokenizer_config.json in `folder` adds to the pieces of a tokenizer.model there
/// (its added_tokens_decoder), if it is there. An added_tokens.json alone does not say which tokens
/// are control tokens, and is refused where it lists others than the pieces.
Status addConfiguredTokens(const std::string &folder, TokenizerData &data);

/// Ids of tokens are below this.
inline constexpr int64_t maxTokens = 4'000'000;

} // namespace kernelforge
