// UTF-8, strictly: the one decoder that everything which reads text from outside uses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace kernelforge {

/// One step through a text. Where the bytes are no character, `valid` is false, `codePoint` is
/// U+FFFD and `length` covers the maximal invalid subpart, which Unicode says becomes one U+FFFD.
struct Utf8Step {
  char32_t codePoint;
  uint32_t length; ///< bytes, at least 1
  bool valid;
};

/// Decodes the character at `text`'s beginning; `text` is not empty.
inline Utf8Step decodeUtf8(std::string_view text) {
  const auto lead = static_cast<uint8_t>(text[0]);
  if (lead < 0x80)
    return {lead, 1, true};
  // The second byte's range keeps out overlong forms, surrogates and what is above U+10FFFF.
  uint32_t length = 0, low = 0x80, high = 0xbf;
  char32_t value = 0;
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
    value = lead & 0x1f;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    value = lead & 0x0f;
    low = lead == 0xe0 ? 0xa0 : low;
    high = lead == 0xed ? 0x9f : high;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    value = lead & 0x07;
    low = lead == 0xf0 ? 0x90 : low;
    high = lead == 0xf4 ? 0x8f : high;
  } else {
    return {0xfffd, 1, false};
  }
  for (uint32_t i = 1; i < length; ++i) {
    const uint32_t next = i < text.size() ? static_cast<uint8_t>(text[i]) : 0;
    if (next < low || next > high)
      return {0xfffd, i, false};
    value = value << 6 | (next & 0x3f);
    low = 0x80;
    high = 0xbf;
  }
  return {value, length, true};
}

/// Whether the whole text is well-formed.
inline bool isValidUtf8(std::string_view text) {
  while (!text.empty()) {
    const Utf8Step step = decodeUtf8(text);
    if (!step.valid)
      return false;
    text.remove_prefix(step.length);
  }
  return true;
}

/// Appends a code point, which must be a Unicode scalar value.
void appendUtf8(std::string &out, char32_t codePoint);

/// `text` with each maximal invalid subpart replaced by U+FFFD.
std::string replaceInvalidUtf8(std::string_view text);

/// How many bytes at the end of `text` are the beginning of a character that more bytes could
/// complete: 0 to 3.
size_t incompleteUtf8Suffix(std::string_view text);

} // namespace kernelforge
