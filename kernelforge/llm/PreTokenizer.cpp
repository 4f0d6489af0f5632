#include "kernelforge/llm/PreTokenizer.h"

#include "kernelforge/support/Utf8.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <utility>

namespace kernelforge {

struct PreTokenizer::Definition {
  std::string_view name;
  std::vector<std::string_view> otherNames = {}; ///< that GGUF files have for it
  std::vector<std::string_view> regexes;
  bool ignoresMerges = false, composes = false, addsBos = false;
};

namespace {

constexpr std::string_view gpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view llama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view gpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view tekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view deepSeek =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

} // namespace

PreTokenizer::PreTokenizer(const Definition &definition)
    : definition(&definition), stages(definition.regexes.begin(), definition.regexes.end()) {}

std::string_view PreTokenizer::name() const { return definition->name; }
bool PreTokenizer::ignoresMerges() const { return definition->ignoresMerges; }
bool PreTokenizer::composes() const { return definition->composes; }
bool PreTokenizer::addsBos() const { return definition->addsBos; }

const std::vector<PreTokenizer> &PreTokenizer::all() {
  static const std::vector<Definition> definitions = {
      {.name = "gpt2", .otherNames = {"gpt-2"}, .regexes = {gpt2}},
      // Every numeric code point alone, then as gpt2 what is between them.
      {.name = "smollm", .otherNames = {"starcoder"}, .regexes = {R"(\p{Numeric})", gpt2}},
      {.name = "llama3",
       .otherNames = {"llama-bpe", "llama-v3", "falcon3"},
       .regexes = {llama3},
       .ignoresMerges = true,
       .addsBos = true},
      {.name = "qwen2", .otherNames = {"deepseek-r1-qwen"}, .regexes = {qwen2}, .composes = true},
      {.name = "gpt4o", .otherNames = {"gpt-4o", "llama4"}, .regexes = {gpt4o}},
      {.name = "tekken", .regexes = {tekken}, .ignoresMerges = true, .addsBos = true},
      {.name = "deepseek",
       .otherNames = {"deepseek-v3"},
       .regexes = {R"(\p{N}{1,3})", "[一-龥぀-ゟ゠-ヿ]+", deepSeek}},
  };
  static const std::vector<PreTokenizer> made = [] {
    std::vector<PreTokenizer> list;
    for (const Definition &definition : definitions)
      list.push_back(PreTokenizer(definition));
    return list;
  }();
  return made;
}

std::string PreTokenizer::names() {
  std::vector<std::string_view> list;
  for (const PreTokenizer &one : all())
    list.push_back(one.name());
  return fmt::format("{}", fmt::join(list, ", "));
}

Expected<const PreTokenizer *> PreTokenizer::byName(std::string_view name, std::string_view where) {
  for (const PreTokenizer &one : all())
    if (one.name() == name || std::ranges::count(one.definition->otherNames, name) > 0)
      return &one;
  return unusable("tokenizer is not usable", std::string(where),
                  name.empty() ? std::string("it names no pre-tokenizer")
                               : fmt::format("pre-tokenizer \"{}\" is not supported", name),
                  fmt::format("supported are {}", names()));
}

const PreTokenizer *PreTokenizer::byExpressions(std::span<const std::string> texts) {
  for (const PreTokenizer &one : all())
    if (std::ranges::equal(one.definition->regexes, texts))
      return &one;
  return nullptr;
}

bool PreTokenScanner::next(size_t count, std::string_view &piece) {
  if (count == 0) {
    piece = text;
    return !std::exchange(isTaken, true) && !text.empty();
  }
  Stage &stage = stages[count - 1];
  if (stage.at == stage.piece.size()) {
    std::string_view outer;
    if (!next(count - 1, outer))
      return false;
    stage = {.piece = outer};
  }
  if (!stage.isKnown) {
    const SplitPattern &pattern = patterns[count - 1];
    stage.first = stage.at;
    while (stage.first < stage.piece.size() &&
           (stage.end = pattern.match(stage.piece, stage.first)) == stage.first)
      stage.first += decodeUtf8(stage.piece.substr(stage.first)).length;
    stage.isKnown = true;
  }
  // What lies before the match, then the match.
  const size_t begin = stage.at;
  const bool isMatch = stage.first == begin;
  stage.at = isMatch ? stage.end : stage.first;
  stage.isKnown = !isMatch && stage.first < stage.piece.size();
  piece = stage.piece.substr(begin, stage.at - begin);
  return true;
}

} // namespace kernelforge
