// From what a file says to a tokenizer: all checks of untrusted tokenizer data are here.
#pragma once

#include "kernelforge/llm/Tokenizer.h"

#include <string>
#include <unordered_map>

namespace kernelforge {

class TokenizerBuilder {
public:
  explicit TokenizerBuilder(TokenizerData data) : data(std::move(data)) {}

  Expected<Tokenizer> build();

private:
  Status checkShape() const;
  Status checkSpecial() const;
  Status addTokens();
  Status addAdded(TokenId id);
  Status addPieceText(TokenId id);
  Status addByteText(TokenId id);
  void addByteIds();
  Status addPieces();
  Status addMerges();
  void findEndOfTurn();
  tl::unexpected<Error> error(std::string why, std::string hint = "") const;

  TokenizerData data;
  Tokenizer out;
  std::unordered_map<std::string_view, TokenId> idOf; ///< views into data.tokens
};

} // namespace kernelforge
