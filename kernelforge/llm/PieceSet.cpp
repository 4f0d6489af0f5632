#include "kernelforge/llm/PieceSet.h"

#include <algorithm>

namespace kernelforge {

PieceSet::PieceSet(std::vector<std::pair<std::string, int32_t>> texts) : pieces(std::move(texts)) {
  // char_traits<char> compares as unsigned bytes.
  std::ranges::sort(pieces);
  size_t count = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const bool isRepeated = i + 1 < pieces.size() && pieces[i].first == pieces[i + 1].first;
    if (pieces[i].first.empty() || isRepeated)
      continue;
    if (count != i)
      pieces[count] = std::move(pieces[i]);
    ++count;
  }
  pieces.resize(count);
  for (const auto &[text, id] : pieces)
    ++begins[static_cast<uint8_t>(text[0]) + 1];
  for (size_t byte = 0; byte < 256; ++byte)
    begins[byte + 1] += begins[byte];
}

void PieceSet::narrow(uint32_t &low, uint32_t &high, size_t at, uint8_t byte) const {
  auto byteAt = [at](const std::pair<std::string, int32_t> &piece) {
    return static_cast<uint8_t>(piece.first[at]);
  };
  const auto found =
      std::ranges::equal_range(pieces.begin() + low, pieces.begin() + high, byte, {}, byteAt);
  low = static_cast<uint32_t>(found.begin() - pieces.begin());
  high = static_cast<uint32_t>(found.end() - pieces.begin());
}

} // namespace kernelforge
