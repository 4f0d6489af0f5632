// What tokenizers of pieces do to a text before they cut it.
#pragma once

#include "kernelforge/llm/PieceRules.h"
#include "kernelforge/llm/PieceSet.h"

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// Where a part of a text stands that is normalized by itself.
struct TextPart {
  bool isFirst = true, isLast = true;
};

class TextNormalizer {
public:
  /// The longest normalized text, in bytes.
  static constexpr size_t maxBytes = size_t(256) << 20;

  TextNormalizer() = default;
  /// `untouched`: texts that SentencePiece's normalizer leaves as they are (user defined tokens).
  /// `tracksFirst`: whether apply() says what stands for the first character, which takes time.
  TextNormalizer(std::vector<NormalizerStep> steps, PieceSet untouched, bool tracksFirst)
      : steps(std::move(steps)), untouched(std::move(untouched)), tracksFirst(tracksFirst) {}

  /// The text after all steps. `text` is valid UTF-8, and so is the result, but for one of more
  /// than maxBytes bytes, which ends anywhere. `bytesOfFirst` becomes how many bytes at its
  /// beginning stand for the first character of the whole text, as BeginTracker.h has it; 0 unless
  /// that is tracked.
  std::string apply(std::string_view text, TextPart part, size_t &bytesOfFirst) const;

private:
  std::string sentencePiece(const NormalizerStep &step, std::string_view text, TextPart part) const;

  std::vector<NormalizerStep> steps;
  PieceSet untouched;
  bool tracksFirst = false;
};

/// How many bytes of white space `text` begins with.
size_t spaceAtBegin(std::string_view text);
/// Where the white space before `at` begins, which is not before `begin`.
size_t spaceBefore(std::string_view text, size_t begin, size_t at);

/// Cuts a normalized text in one way and calls use(word, `ofFirst` of it) for each word. `ofFirst`:
/// how many bytes at the beginning stand for the first character of the whole text.
void forEachWord(const CutStep &cut, std::string_view text, size_t ofFirst,
                 const std::function<void(std::string_view, size_t)> &use);

} // namespace kernelforge
