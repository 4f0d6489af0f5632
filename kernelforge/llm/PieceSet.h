// A set of texts in which all that begin another text are found.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// Texts with an id each, in order: those that begin alike are neighbours, and each further byte
/// narrows them down. Takes no memory but theirs, whatever they are.
class PieceSet {
public:
  PieceSet() = default;
  /// Of equal texts the highest id counts. Empty ones are left out.
  explicit PieceSet(std::vector<std::pair<std::string, int32_t>> texts);

  bool empty() const { return pieces.empty(); }

  /// Calls found(length, id) for each piece that `text` begins with, shortest first.
  template <typename Found> void forEachPrefix(std::string_view text, Found &&found) const {
    if (text.empty())
      return;
    const auto byte = static_cast<uint8_t>(text[0]);
    uint32_t low = begins[byte], high = begins[byte + 1];
    for (size_t length = 1; low < high; ++length) {
      if (pieces[low].first.size() == length) {
        found(length, pieces[low].second);
        ++low;
      }
      if (length >= text.size())
        return;
      narrow(low, high, length, static_cast<uint8_t>(text[length]));
    }
  }

  /// The longest piece that `text` begins with: its bytes, or 0.
  size_t longestPrefix(std::string_view text) const {
    size_t longest = 0;
    forEachPrefix(text, [&](size_t length, int32_t) { longest = length; });
    return longest;
  }

private:
  /// Of pieces [low, high), which are longer than `at` and equal up to there, those whose byte `at`
  /// is `byte`.
  void narrow(uint32_t &low, uint32_t &high, size_t at, uint8_t byte) const;

  std::vector<std::pair<std::string, int32_t>> pieces; ///< sorted by bytes
  std::array<uint32_t, 257> begins{};                  ///< of those with each first byte
};

} // namespace kernelforge
