// The alphabet in which byte-level vocabularies write bytes: each byte is one printable character.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kernelforge {

/// The character that stands for a byte: itself for ! to ~, U+00A1 to U+00AC and U+00AE to U+00FF;
/// the others, in order, are U+0100 and what follows.
char32_t byteCharacter(uint8_t byte);

/// The bytes that a text of such characters stands for; nothing if it holds another character.
std::optional<std::string> bytesOfCharacters(std::string_view text);

} // namespace kernelforge
