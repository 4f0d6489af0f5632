// tokenizer.model, the file that SentencePiece itself writes.
#pragma once

#include "kernelforge/llm/TokenizerData.h"
#include "kernelforge/support/Error.h"

#include <string_view>

namespace kernelforge {

/// Reads a tokenizer.model: its pieces, and the rules of its trainer and normalizer. Models of
/// words or characters, and denormalizers, are refused by name; all that SentencePiece itself would
/// refuse is, too. `where` names the file. BOS is wanted where there is one and the model is BPE,
/// as the models with such a file do; their configuration may say otherwise.
Expected<TokenizerData> readSentencePiece(std::string_view file, std::string_view where);

} // namespace kernelforge
