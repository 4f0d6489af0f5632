// Tokenizes lines as `kernelforge tokenize --jsonl` does, from nothing but a vocabulary in JSON:
// the golden test's way in where no model file is at hand.
//
//   tokenizer-probe VOCABULARY|TOKENIZER.json LINES.jsonl [--no-special] > IDS.jsonl
//
// VOCABULARY has {"pre","tokens":[...],"types":[...],"merges":[...]}; a file with a "model" is read
// as a tokenizer.json. LINES has one JSON string a line; each gives one line {"ids":[...]}. The
// time of encoding alone goes to stderr.

#include "kernelforge/llm/Tokenizer.h"
#include "kernelforge/support/Json.h"
#include "kernelforge/support/MappedFile.h"

#include <chrono>
#include <fmt/format.h>
#include <fstream>
#include <iostream>

namespace kernelforge {
namespace {

Expected<TokenizerData> readVocabulary(const JsonView &root) {
  TokenizerData data;
  data.model = "gpt2";
  KF_TRY(data.pre, root.string("pre", 64));
  KF_TRY(auto tokens, root.array("tokens", 1 << 22));
  for (const JsonView &token : tokens) {
    KF_TRY(std::string text, token.asString(1 << 16));
    data.tokens.push_back(std::move(text));
  }
  KF_TRY(auto types, root.array("types", 1 << 22));
  for (const JsonView &type : types) {
    KF_TRY(int64_t number, type.asInteger(1, 6));
    data.types.push_back(static_cast<TokenType>(number));
  }
  KF_TRY(auto merges, root.array("merges", 1 << 22));
  for (const JsonView &merge : merges) {
    KF_TRY(std::string text, merge.asString(1 << 17));
    data.merges.push_back(std::move(text));
  }
  return data;
}

Expected<Tokenizer> readTokenizer(const std::string &path) {
  KF_TRY(std::string text, readFile(path, "vocabulary is not usable", JsonLimits{}.maxBytes));
  KF_TRY(JsonDocument document, parseJson(text, "vocabulary is not usable", path));
  if (document.root().has("model"))
    return Tokenizer::fromJson(text, path);
  KF_TRY(TokenizerData data, readVocabulary(document.root()));
  return Tokenizer::create(std::move(data));
}

Status run(const std::string &vocabulary, const std::string &lines, bool special) {
  KF_TRY(Tokenizer tokenizer, readTokenizer(vocabulary));
  std::ifstream in(lines);
  if (!in)
    return failed("lines cannot be read", lines, "open failed");
  std::chrono::steady_clock::duration spent{};
  for (std::string line; std::getline(in, line);) {
    KF_TRY(JsonDocument document, parseJson(line, "line is not usable", lines));
    KF_TRY(std::string text, document.root().asString(Tokenizer::maxTextBytes));
    auto begin = std::chrono::steady_clock::now();
    KF_TRY(auto ids, tokenizer.encode(text, special));
    spent += std::chrono::steady_clock::now() - begin;
    std::cout << Json{{"ids", ids}}.dump() << "\n";
  }
  fmt::print(stderr, "encode_s {:.3f}\n", std::chrono::duration<double>(spent).count());
  return {};
}

} // namespace
} // namespace kernelforge

int main(int argc, char **argv) {
  bool special = !(argc == 4 && std::string_view(argv[3]) == "--no-special");
  if (argc != 3 && special) {
    fmt::print(stderr, "usage: tokenizer-probe VOCABULARY LINES [--no-special]\n");
    return 2;
  }
  if (auto status = kernelforge::run(argv[1], argv[2], special); !status) {
    fmt::print(stderr, "tokenizer-probe: error: {}\n", status.error().line());
    return 2;
  }
  return 0;
}
