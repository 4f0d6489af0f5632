#include "ModelWriters.h"

#include "kernelforge/llm/ModelConfig.h"
#include "kernelforge/llm/SentencePieceFile.h"
#include "kernelforge/llm/Tokenizer.h"

namespace kernelforge {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;

std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7)
    out.push_back(static_cast<char>((value & 0x7f) | 0x80));
  out.push_back(static_cast<char>(value));
  return out;
}
std::string number(int field, uint64_t value) {
  return varint(uint64_t(field) << 3) + varint(value);
}
std::string bytes(int field, const std::string &value) {
  return varint(uint64_t(field) << 3 | 2) + varint(value.size()) + value;
}
std::string piece(const std::string &text, float score, TokenType type) {
  return bytes(1, bytes(1, text) + varint(2 << 3 | 5) + raw(score) +
                      number(3, static_cast<uint64_t>(type)));
}

/// <unk>, <s>, </s>, then ▁, a, b, ab (ids 3 to 6), of BPE.
std::string smallFile(const std::string &trainer = "", const std::string &normalizer = "") {
  return piece("<unk>", 0, TokenType::Unknown) + piece("<s>", 0, TokenType::Control) +
         piece("</s>", 0, TokenType::Control) + piece("▁", -1, TokenType::Normal) +
         piece("a", -2, TokenType::Normal) + piece("b", -3, TokenType::Normal) +
         piece("ab", -0.5, TokenType::Normal) + bytes(2, number(3, 2) + trainer) +
         bytes(3, normalizer);
}

TEST(SentencePieceFile, IsRead) {
  auto data = readSentencePiece(smallFile(number(41, 1) + bytes(44, "?")), "t.model");
  ASSERT_TRUE(data) << line(data);
  EXPECT_THAT(data->tokens, ElementsAre("<unk>", "<s>", "</s>", "▁", "a", "b", "ab"));
  EXPECT_EQ(data->special.bos, 1);
  EXPECT_EQ(data->special.eos, 2);
  EXPECT_TRUE(data->addBos);
  EXPECT_EQ(data->pieces->unknown, 0);
  EXPECT_EQ(data->pieces->unknownText, "?");
  EXPECT_THAT(data->pieces->scores, ElementsAre(0, 0, 0, -1, -2, -3, -0.5));
  EXPECT_FALSE(data->pieces->byteFallback);

  auto unigram = readSentencePiece(smallFile(number(3, 1) + number(41, UINT64_MAX)), "t.model");
  ASSERT_TRUE(unigram) << line(unigram);
  EXPECT_EQ(unigram->pieces->algorithm, PieceRules::Algorithm::Unigram);
  EXPECT_FALSE(unigram->special.bos || unigram->addBos);
}

TEST(SentencePieceFile, DefaultsAreThoseOfTheFormat) {
  auto t = Tokenizer::fromSentencePiece(smallFile());
  ASSERT_TRUE(t) << t.error().line();
  EXPECT_THAT(*t->encode("  ab  a c", true), ElementsAre(3, 6, 3, 4, 3, 0));
  EXPECT_EQ(t->decode(std::vector<TokenId>{3, 6, 3, 4}, true), "ab a");
  t = Tokenizer::fromSentencePiece(smallFile("", number(3, 0) + number(4, 0)));
  EXPECT_THAT(*t->encode("ab  a", true), ElementsAre(6, 3, 3, 4));
}

TEST(SentencePieceFile, EveryBeginningIsRefusedOrSound) {
  const std::string file = smallFile(number(41, 1), number(4, 0));
  for (size_t size = 0; size < file.size(); ++size) {
    auto data = readSentencePiece(file.substr(0, size), "t.model");
    EXPECT_TRUE(data ? !data->tokens.empty() : data.error().kind == ErrorKind::Unusable) << size;
  }
}

/// What lies beside a tokenizer.model.
struct SentencePieceFolder : testing::Test {
  std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / ("sp" + std::to_string(getpid()));
  void SetUp() override {
    std::filesystem::create_directories(folder);
    write("tokenizer.model", smallFile());
  }
  void TearDown() override { std::filesystem::remove_all(folder); }
  void write(const char *name, const std::string &content) {
    std::ofstream(folder / name, std::ios::binary) << content;
  }
  Expected<Tokenizer> load() {
    TokenizerSource source;
    source.modelPath = (folder / "tokenizer.model").string();
    source.special.eos = 2;
    source.vocabSize = 10;
    return Tokenizer::load(source);
  }
};

TEST_F(SentencePieceFolder, TheConfigurationAddsTokens) {
  write("tokenizer_config.json", R"({"added_tokens_decoder": {
    "0": {"content": "<unk>", "special": true},
    "6": {"content": "ab", "special": false},
    "8": {"content": "<|end|>", "special": true, "rstrip": true, "normalized": true}}})");
  auto t = load();
  ASSERT_TRUE(t) << t.error().line();
  EXPECT_EQ(t->vocabSize(), 9);
  EXPECT_EQ(t->eot(), 8);
  EXPECT_THAT(*t->encode("b<|end|> \nb", true), ElementsAre(3, 5, 8, 3, 5));
  EXPECT_THAT(*t->encode("bab", true), ElementsAre(3, 5, 6)) << "cut out";
  EXPECT_THAT(*t->encode("c", true), ElementsAre(3, 0));

  write("tokenizer_config.json", R"({"added_tokens_decoder": {"4": {"content": "x"}}})");
  EXPECT_THAT(line(load()), HasSubstr("id 4 is given to two tokens"));
  write("tokenizer_config.json", R"({"added_tokens_decoder": {"-1": {"content": "x"}}})");
  EXPECT_THAT(line(load()), HasSubstr("its id '-1' is no integer"));
  write("tokenizer_config.json", R"({"added_tokens_decoder": {"10": {"content": "x"}}})");
  EXPECT_THAT(line(load()), HasSubstr("it has 11 tokens but the model has embeddings for 10"));
}

TEST_F(SentencePieceFolder, TokensOfUnknownKindAreRefused) {
  write("added_tokens.json", R"({"a": 4})");
  EXPECT_EQ(line(load()), "accepted");
  write("added_tokens.json", R"({"<|end|>": 7})");
  EXPECT_THAT(line(load()), HasSubstr("adds a token to tokenizer.model, but does not say"));
}

TEST(SentencePieceMetadata, OfGgufFiles) {
  auto tokenizerOf = [](const std::function<void(GgufWriter &)> &change) {
    GgufWriter writer = tinyGguf();
    writer.string("tokenizer.ggml.model", "llama");
    for (const char *key : {"pre", "merges", "bos_token_id", "eos_token_id"})
      writer.remove(std::string("tokenizer.ggml.") + key);
    writer.strings("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "▁a", "a"});
    writer.array<int32_t>("tokenizer.ggml.token_type", 5, {2, 3, 3, 1, 1});
    writer.array<float>("tokenizer.ggml.scores", 6, {0, 0, 0, -1, -2});
    change(writer);
    const std::string file = writer.build();
    auto contents = parseGguf(asBytes(file), "f.gguf");
    EXPECT_TRUE(contents) << line(contents);
    auto data = tokenizerFromGguf(contents->metadata, "f.gguf");
    return data ? Tokenizer::create(std::move(**data))
                : Expected<Tokenizer>(tl::unexpected(data.error()));
  };
  auto plain = tokenizerOf([](auto &) {});
  ASSERT_TRUE(plain) << line(plain);
  EXPECT_THAT(*plain->encode("a", true), ElementsAre(3)) << "▁ and a, which are one piece";
  EXPECT_TRUE(plain->addBos());
  EXPECT_EQ(plain->bos(), 1);
  EXPECT_EQ(plain->eos(), 2);
  EXPECT_TRUE(plain->isEndOfGeneration(2));
  EXPECT_THAT(*plain->encode("</s> \na", true), ElementsAre(2, 0, 4));

  auto phi3 = tokenizerOf([](auto &g) { g.string("general.architecture", "phi3"); });
  ASSERT_TRUE(phi3) << line(phi3);
  EXPECT_THAT(*phi3->encode("</s> \na<s> a", true), ElementsAre(2, 3, 1, 0, 3));
}

} // namespace
} // namespace kernelforge
