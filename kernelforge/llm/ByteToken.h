// What the texts of tokens and merges say.
#pragma once

#include "kernelforge/llm/TokenizerData.h"
#include "kernelforge/support/Error.h"

#include <string_view>

namespace kernelforge {

/// The byte of "<0xNN>", exactly that; -1 for anything else (a sign or a third digit included).
int byteOfToken(std::string_view text);

/// The two tokens of a merge, which are views of the data.
struct MergeText {
  std::string_view left, right;
};
/// Merge `rank` of the data; an error where it is not two tokens with a space between.
Expected<MergeText> splitMerge(const TokenizerData &data, size_t rank);

} // namespace kernelforge
