#include "kernelforge/support/Utf8.h"

#include <algorithm>

namespace kernelforge {

void appendUtf8(std::string &out, char32_t c) {
  auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | (c >> 6));
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | (c >> 12));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | (c >> 18));
    put(0x80 | ((c >> 12) & 0x3F));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

std::string replaceInvalidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    Utf8Step step = decodeUtf8(text.substr(i));
    if (step.valid)
      out.append(text.substr(i, step.length));
    else
      appendUtf8(out, 0xFFFD);
    i += step.length;
  }
  return out;
}

size_t incompleteUtf8Suffix(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    size_t at = text.size() - back;
    if ((static_cast<uint8_t>(text[at]) & 0xC0) == 0x80)
      continue; // a continuation byte: the lead is further back
    // It can be completed if all that is missing is the text's continuation.
    auto lead = static_cast<uint8_t>(text[at]);
    Utf8Step step = decodeUtf8(text.substr(at));
    return lead >= 0xC2 && lead <= 0xF4 && !step.valid && step.length == back ? back : 0;
  }
  return 0;
}

} // namespace kernelforge
