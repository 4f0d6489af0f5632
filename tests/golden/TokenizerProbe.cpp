// Tokenizes lines as `kernelforge tokenize --jsonl` does, from nothing but a vocabulary: the golden
// test's way in where no model file is at hand.
//
//   tokenizer-probe VOCABULARY|TOKENIZER.json|tokenizer.model|FILE.gguf LINES.jsonl [--no-special]
//   tokenizer-probe ... IDS.jsonl --decode
//
// VOCABULARY has {"pre","tokens":[...],"types":[...],"merges":[...]}; a JSON file with a "model" is
// read as a tokenizer.json, of a GGUF file only the metadata. LINES has one JSON string a line;
// each gives one line {"ids":[...]}, as IDS has them. With --decode each gives {"text":...},
// control tokens left out, once as a whole and once id by id. The time of encoding alone goes to
// stderr.

#include "kernelforge/llm/Gguf.h"
#include "kernelforge/llm/ModelConfig.h"
#include "kernelforge/llm/Tokenizer.h"
#include "kernelforge/support/Json.h"
#include "kernelforge/support/MappedFile.h"
#include "kernelforge/support/Utf8.h"

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
  if (path.ends_with(".gguf")) {
    KF_TRY(GgufModel gguf, openGguf(path));
    KF_TRY(auto data, tokenizerFromGguf(gguf.metadata, path));
    return Tokenizer::create(data.value_or(TokenizerData()));
  }
  if (path.ends_with(".model")) {
    KF_TRY(std::string file, readFile(path, "vocabulary is not usable", JsonLimits{}.maxBytes));
    return Tokenizer::fromSentencePiece(file, path);
  }
  KF_TRY(std::string text, readFile(path, "vocabulary is not usable", JsonLimits{}.maxBytes));
  KF_TRY(JsonDocument document, parseJson(text, "vocabulary is not usable", path));
  if (document.root().has("model"))
    return Tokenizer::fromJson(text, path);
  KF_TRY(TokenizerData data, readVocabulary(document.root()));
  return Tokenizer::create(std::move(data));
}

Status printText(const Tokenizer &tokenizer, const JsonView &line) {
  KF_TRY(auto elements, line.array("ids", Tokenizer::maxTextBytes));
  std::vector<TokenId> ids;
  StreamDecoder decoder(tokenizer);
  std::string streamed;
  for (const JsonView &element : elements) {
    KF_TRY(int64_t id, element.asInteger(0, tokenizer.vocabSize() - 1));
    ids.push_back(static_cast<TokenId>(id));
    streamed += decoder.put(ids.back());
  }
  streamed += decoder.finish();
  const std::string text = replaceInvalidUtf8(tokenizer.decode(ids, /*skipSpecial=*/true));
  std::cout << Json{{"text", text}, {"streamed", streamed}}.dump() << "\n";
  return {};
}

Status run(const std::string &vocabulary, const std::string &lines, bool special, bool decode) {
  KF_TRY(Tokenizer tokenizer, readTokenizer(vocabulary));
  std::ifstream in(lines);
  if (!in)
    return failed("lines cannot be read", lines, "open failed");
  std::chrono::steady_clock::duration spent{};
  for (std::string line; std::getline(in, line);) {
    KF_TRY(JsonDocument document, parseJson(line, "line is not usable", lines));
    if (decode) {
      KF_CHECK(printText(tokenizer, document.root()));
      continue;
    }
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
  const std::string_view mode = argc == 4 ? argv[3] : "";
  if (argc < 3 || argc > 4 || (argc == 4 && mode != "--no-special" && mode != "--decode")) {
    fmt::print(stderr, "usage: tokenizer-probe VOCABULARY LINES [--no-special | --decode]\n");
    return 2;
  }
  if (auto status = kernelforge::run(argv[1], argv[2], mode.empty(), mode == "--decode"); !status) {
    fmt::print(stderr, "tokenizer-probe: error: {}\n", status.error().line());
    return 2;
  }
  return 0;
}
