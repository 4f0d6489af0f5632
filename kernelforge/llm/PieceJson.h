// What a tokenizer.json says of a tokenizer of pieces.
#pragma once

#include "kernelforge/llm/TokenizerData.h"
#include "kernelforge/support/Error.h"
#include "kernelforge/support/Json.h"

namespace kernelforge {

/// Whether its pre-tokenizer or decoder has to do with bytes as characters.
bool mentionsByteLevel(const JsonView &root);

/// Reads normalizer, pre-tokenizer, decoder and what the model says of unknown characters into
/// data.pieces, all but scores; `data` has the tokens and their types, of which those of bytes are
/// set. What would be done differently from what the file asks for is refused by name.
Status readPieceRules(const JsonView &root, TokenizerData &data);

} // namespace kernelforge
