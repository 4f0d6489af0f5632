// SentencePiece's table of what characters become (its precompiled_charsmap, such as nmt_nfkc): a
// trie of strings as a double array, and the texts that take their place.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

class Charsmap {
public:
  static constexpr size_t maxBytes = size_t(4) << 20;
  /// The longest text that takes the place of a string (of nmt_nfkc: 33).
  static constexpr size_t maxReplacementBytes = 256;

  /// The longest string that is replaced (of nmt_nfkc: 12).
  static constexpr size_t maxKeyBytes = 64;

  /// Reads a table: a u32 of the trie's bytes, the trie, and texts each with a NUL behind it. The
  /// whole trie is walked first: a table with a value beyond its end, strings without an end, or a
  /// text that is no UTF-8 or too long is an error, which says why.
  static tl::expected<std::shared_ptr<const Charsmap>, std::string> read(std::string_view table);

  struct Match {
    size_t length = 0; ///< bytes of the text that are replaced; 0: none
    std::string_view replacement;
  };
  /// The longest string of the table that `text` begins with.
  Match longest(std::string_view text) const { return find(text, false); }
  /// The shortest.
  Match shortest(std::string_view text) const { return find(text, true); }

private:
  Match find(std::string_view text, bool isFirstEnough) const;
  /// Why the trie cannot be used; empty where it can.
  std::string check() const;
  std::string checkValue(uint32_t node, const std::vector<uint32_t> &bytesLeft) const;
  std::string_view replacementAt(uint32_t value) const;

  std::vector<uint32_t> units;
  std::string texts;
};

} // namespace kernelforge
