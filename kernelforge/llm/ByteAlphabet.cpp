#include "kernelforge/llm/ByteAlphabet.h"

#include "kernelforge/support/Utf8.h"

#include <array>

namespace kernelforge {

namespace {

constexpr char32_t alphabetEnd = 0x144; ///< 68 bytes have no printable character of their own

struct Alphabet {
  std::array<char32_t, 256> characters{};
  std::array<int16_t, alphabetEnd> bytes{}; ///< -1: not in the alphabet

  constexpr Alphabet() {
    bytes.fill(-1);
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      characters[b] = printable ? static_cast<char32_t>(b) : next++;
      bytes[characters[b]] = static_cast<int16_t>(b);
    }
  }
};
constexpr Alphabet alphabet;

} // namespace

char32_t byteCharacter(uint8_t byte) { return alphabet.characters[byte]; }

std::optional<std::string> bytesOfCharacters(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    Utf8Step step = decodeUtf8(text.substr(i));
    if (!step.valid || step.codePoint >= alphabetEnd || alphabet.bytes[step.codePoint] < 0)
      return std::nullopt;
    out.push_back(static_cast<char>(alphabet.bytes[step.codePoint]));
    i += step.length;
  }
  return out;
}

} // namespace kernelforge
