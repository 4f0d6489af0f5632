#include "ModelWriters.h"

#include "kernelforge/llm/ModelConfig.h"
#include "kernelforge/llm/Tokenizer.h"

#include <cmath>

namespace kernelforge {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;

Expected<std::optional<TokenizerData>> tokenizerOf(const GgufWriter &writer) {
  const std::string file = writer.build();
  auto contents = parseGguf(asBytes(file), "f.gguf");
  if (!contents)
    return tl::unexpected(contents.error());
  return tokenizerFromGguf(contents->metadata, "f.gguf");
}

TEST(TokenizerMetadata, IsRead) {
  GgufWriter writer = tinyGguf();
  writer.u32("tokenizer.ggml.eot_token_id", 4);
  writer.u32("tokenizer.ggml.eom_token_id", 1);
  writer.boolean("tokenizer.ggml.add_bos_token", 1);
  auto data = tokenizerOf(writer);
  ASSERT_TRUE(data) << line(data);
  ASSERT_TRUE(*data);
  const TokenizerData &t = **data;
  EXPECT_EQ(t.where, "f.gguf");
  EXPECT_EQ(t.model, "gpt2");
  EXPECT_EQ(t.pre, "smollm");
  EXPECT_THAT(t.tokens, ElementsAre("<s>", "</s>", "a", "b", "ab"));
  EXPECT_EQ(t.types[1], TokenType::Control);
  EXPECT_EQ(t.types[2], TokenType::Normal);
  EXPECT_THAT(t.merges, ElementsAre("a b"));
  EXPECT_EQ(t.special.bos, 0);
  EXPECT_EQ(t.special.eos, 1);
  EXPECT_THAT(t.special.endOfGeneration, ElementsAre(1, 4));
  EXPECT_TRUE(t.addBos);

  EXPECT_EQ(*tokenizerOf(GgufWriter()), std::nullopt);
  writer.string("tokenizer.ggml.model", "no_vocab");
  EXPECT_EQ(*tokenizerOf(writer), std::nullopt);
}

TEST(TokenizerMetadata, BosIsUsualWithSomePreTokenizers) {
  auto addsBos = [](const char *pre, std::optional<bool> stated, bool hasBos = true) {
    GgufWriter writer = tinyGguf();
    writer.string("tokenizer.ggml.pre", pre);
    if (stated)
      writer.boolean("tokenizer.ggml.add_bos_token", *stated);
    if (!hasBos)
      writer.u32("tokenizer.ggml.bos_token_id", UINT32_MAX);
    auto data = tokenizerOf(writer);
    EXPECT_TRUE(data) << line(data);
    return data && (*data)->addBos;
  };
  EXPECT_TRUE(addsBos("llama-bpe", std::nullopt));
  EXPECT_TRUE(addsBos("tekken", std::nullopt));
  EXPECT_FALSE(addsBos("llama-bpe", false));
  EXPECT_FALSE(addsBos("llama-bpe", std::nullopt, /*hasBos=*/false));
  EXPECT_FALSE(addsBos("qwen2", std::nullopt));
  EXPECT_TRUE(addsBos("qwen2", true));
}

TEST(TokenizerMetadata, IdsThatMeanNone) {
  const auto none = {std::pair(4u, raw(UINT32_MAX)), std::pair(5u, raw<int32_t>(-1)),
                     std::pair(10u, raw(UINT64_MAX)), std::pair(11u, raw<int64_t>(-1))};
  for (const auto &[type, payload] : none) {
    GgufWriter writer = tinyGguf();
    for (const char *id : {"bos", "eos", "eot", "padding"})
      writer.put(std::string("tokenizer.ggml.") + id + "_token_id", type, payload);
    auto data = tokenizerOf(writer);
    ASSERT_TRUE(data) << line(data);
    EXPECT_FALSE((*data)->special.bos || (*data)->special.eos);
    EXPECT_TRUE((*data)->special.endOfGeneration.empty());
    writer.boolean("tokenizer.ggml.add_bos_token", 1);
    EXPECT_THAT(line(tokenizerOf(writer)),
                HasSubstr("bos_token_id): means none, but add_bos_token asks for it"));
  }
}

TEST(TokenizerMetadata, WhatNothingUsesIsNotRead) {
  GgufWriter writer = tinyGguf();
  for (const char *id : {"unknown", "padding", "mask", "seperator"})
    writer.u32(std::string("tokenizer.ggml.") + id + "_token_id", 99);
  writer.array<float>("tokenizer.ggml.scores", 6, {NAN});
  writer.boolean("tokenizer.ggml.add_space_prefix", 1);
  EXPECT_EQ(line(tokenizerOf(writer)), "accepted");
}

TEST(TokenizerMetadata, OfAModelThatIsNotSupportedOnlyTheNameIsRead) {
  GgufWriter writer = tinyGguf();
  writer.string("tokenizer.ggml.model", "rwkv");
  writer.remove("tokenizer.ggml.pre");
  writer.boolean("tokenizer.ggml.add_bos_token", 1);
  writer.u32("tokenizer.ggml.bos_token_id", 99);
  writer.array<float>("tokenizer.ggml.scores", 6, {1});
  auto data = tokenizerOf(writer);
  ASSERT_TRUE(data) << line(data);
  EXPECT_EQ((*data)->model, "rwkv");
  TokenizerSource source;
  source.data = **data;
  EXPECT_EQ(
      line(Tokenizer::load(source)),
      "tokenizer is not usable (f.gguf): tokenizer model \"rwkv\" is not supported; byte-level "
      "BPE and SentencePiece's BPE and unigram are");
}

TEST(TokenizerMetadata, IsChecked) {
  auto refused = [](const std::function<void(GgufWriter &)> &change) {
    GgufWriter writer = tinyGguf();
    change(writer);
    return line(tokenizerOf(writer));
  };
  const std::string key = "tokenizer.ggml.";
  EXPECT_THAT(refused([&](auto &g) { g.remove(key + "tokens"); }),
              HasSubstr("tokens): is missing"));
  EXPECT_THAT(refused([&](auto &g) { g.remove(key + "model"); }), HasSubstr("model): is missing"));
  EXPECT_THAT(refused([&](auto &g) { g.strings(key + "tokens", {}); }), HasSubstr("is empty"));
  EXPECT_THAT(refused([&](auto &g) { g.string(key + "tokens", "a"); }),
              HasSubstr("must be an array of strings"));
  EXPECT_THAT(refused([&](auto &g) { g.strings(key + "tokens", {std::string(70000, 'a')}); }),
              HasSubstr("has 70000 bytes, at most 65536"));
  EXPECT_THAT(refused([&](auto &g) { g.template array<int32_t>(key + "token_type", 5, {1}); }),
              HasSubstr("has 1 elements, there are 5 tokens"));
  for (int32_t type : {0, 7, -1})
    EXPECT_THAT(refused([&](auto &g) {
                  g.template array<int32_t>(key + "token_type", 5, {1, 1, 1, 1, type});
                }),
                HasSubstr("element 4 must be an integer from 1 to 6"));
  EXPECT_THAT(refused([&](auto &g) { g.template array<float>(key + "token_type", 6, {1}); }),
              HasSubstr("must be an array of integers"));
  for (const char *id : {"bos", "eos", "eot", "eom"}) {
    EXPECT_THAT(refused([&](auto &g) { g.u32(key + id + "_token_id", 5); }),
                HasSubstr("_token_id): is 5, must be an integer from 0 to 4"));
    EXPECT_THAT(refused([&](auto &g) { g.string(key + id + "_token_id", "1"); }),
                HasSubstr("is a string, must be an integer"));
  }
  EXPECT_THAT(refused([&](auto &g) {
                g.boolean(key + "add_bos_token", 1);
                g.remove(key + "bos_token_id");
              }),
              HasSubstr("bos_token_id): is missing"));
}

} // namespace
} // namespace kernelforge
