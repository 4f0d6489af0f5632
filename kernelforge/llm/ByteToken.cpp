#include "kernelforge/llm/ByteToken.h"

#include <fmt/format.h>

namespace kernelforge {

static int hexDigit(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int byteOfToken(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>')
    return -1;
  int high = hexDigit(text[3]), low = hexDigit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

Expected<MergeText> splitMerge(const TokenizerData &data, size_t rank) {
  const std::string_view text = data.merges[rank];
  const size_t space = text.find(' ');
  if (space == text.npos || text.find(' ', space + 1) != text.npos)
    return unusable("tokenizer is not usable", data.where,
                    fmt::format("merge {} is not two tokens with a space between", rank));
  return MergeText{text.substr(0, space), text.substr(space + 1)};
}

} // namespace kernelforge
