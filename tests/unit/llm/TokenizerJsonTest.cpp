#include "kernelforge/llm/ByteAlphabet.h"
#include "kernelforge/llm/Tokenizer.h"
#include "kernelforge/support/Json.h"
#include "kernelforge/support/Utf8.h"

#include <fstream>
#include <gmock/gmock.h>

using namespace kernelforge;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

/// A small tokenizer.json: all bytes, "ab", a control and a user defined token.
Json tokenizerJson() {
  Json vocabulary = Json::object();
  for (int byte = 0; byte < 256; ++byte) {
    std::string text;
    appendUtf8(text, byteCharacter(static_cast<uint8_t>(byte)));
    vocabulary[text] = byte;
  }
  vocabulary["ab"] = 256;
  auto added = [](int id, const char *text, bool special) {
    return Json{{"id", id},        {"content", text},    {"single_word", false},  {"lstrip", false},
                {"rstrip", false}, {"special", special}, {"normalized", !special}};
  };
  return Json{{"version", "1.0"},
              {"added_tokens", {added(257, "<s>", true), added(258, "<tool>", false)}},
              {"normalizer", nullptr},
              {"pre_tokenizer",
               {{"type", "Sequence"},
                {"pretokenizers",
                 {{{"type", "Digits"}, {"individual_digits", true}},
                  {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}}}}},
              {"post_processor", nullptr},
              {"decoder", {{"type", "ByteLevel"}}},
              {"model",
               {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", nullptr},
                {"vocab", vocabulary},
                {"merges", Json::array({Json::array({"a", "b"})})}}}};
}

std::string refusal(const Json &json) {
  auto tokenizer = Tokenizer::fromJson(json.dump(), "t.json");
  EXPECT_FALSE(tokenizer);
  return tokenizer ? "" : tokenizer.error().line();
}

TEST(TokenizerJson, Reads) {
  auto t = Tokenizer::fromJson(tokenizerJson().dump());
  ASSERT_TRUE(t) << t.error().line();
  EXPECT_EQ(t->vocabSize(), 259);
  EXPECT_THAT(*t->encode("ab<s><tool>12", true), ElementsAre(256, 257, 258, '1', '2'));
  EXPECT_TRUE(t->isControl(257));
}

/// What cuts text by regular expressions: those of a family that is known.
Json splits(const std::vector<std::string> &regexes) {
  Json steps = Json::array();
  for (const std::string &regex : regexes)
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", regex}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  steps.push_back({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}});
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

constexpr const char *qwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

TEST(TokenizerJson, ExpressionsOfAKnownFamily) {
  Json json = tokenizerJson();
  json["pre_tokenizer"] = splits({qwen2});
  auto t = Tokenizer::fromJson(json.dump());
  ASSERT_TRUE(t) << t.error().line();
  EXPECT_THAT(*t->encode("ab!ab", true), ElementsAre(256, '!', 256));
  auto changed = [&](const char *pointer, Json value) {
    Json other = json;
    other["pre_tokenizer"]["pretokenizers"][Json::json_pointer(pointer)] = std::move(value);
    return refusal(other);
  };
  EXPECT_THAT(changed("/0/pattern", {{"Regex", "\\s+"}}),
              HasSubstr("those of no supported pre-tokenizer; supported are gpt2, smollm, llama3"));
  EXPECT_THAT(changed("/0/pattern", {{"String", " "}}), HasSubstr("Regex"));
  EXPECT_THAT(changed("/0/behavior", "Removed"), HasSubstr("does not isolate"));
  EXPECT_THAT(changed("/0/invert", true), HasSubstr("does not isolate"));
  EXPECT_THAT(changed("/1/use_regex", true), HasSubstr("ByteLevel with use_regex"));
}

TEST(TokenizerJson, TextMayBeComposed) {
  Json json = tokenizerJson();
  const std::string apart = "<s>e\u0301<tool>", whole = "<s>\u00e9<tool>";
  for (const Json &normalizer :
       {Json(nullptr), Json{{"type", "NFC"}},
        Json{{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}}}}}) {
    json["normalizer"] = normalizer;
    auto t = Tokenizer::fromJson(json.dump());
    ASSERT_TRUE(t) << t.error().line();
    EXPECT_EQ(*t->encode(apart, true) == *t->encode(whole, true), !normalizer.is_null());
    EXPECT_EQ(t->encode(apart, true)->back(), 258) << "what is looked for afterwards is found";
  }
  // Text of a user makes no control token, composed or not.
  auto t = Tokenizer::fromJson(json.dump());
  const TextSegment segments[] = {{"<s>", false}, {"e\u0301<s>", true}};
  const std::vector<TokenId> ids = *t->encodeSegments(segments);
  EXPECT_EQ(std::ranges::count(ids, 257), 1);
}

TEST(TokenizerJson, TokensThatAreLookedForInComposedText) {
  Json json = tokenizerJson();
  json["normalizer"] = {{"type", "NFC"}};
  json["added_tokens"][0]["normalized"] = true; // <s>, beside text of a user
  json["added_tokens"][1]["content"] = "e\u0301x";
  auto t = Tokenizer::fromJson(json.dump());
  ASSERT_TRUE(t) << t.error().line();
  for (const char *text : {"e\u0301x", "\u00e9x"})
    EXPECT_THAT(*t->encode(text, true), ElementsAre(258));
  const TextSegment segments[] = {{"<s>", false}, {"e\u0301<s>", true}, {"<s>", false}};
  EXPECT_EQ(std::ranges::count(*t->encodeSegments(segments), 257), 2);
}

/// Each mark belongs before all that are there already.
TEST(TokenizerJson, ManyMarksAreComposedInLinearTime) {
  Json json = tokenizerJson();
  json["normalizer"] = {{"type", "NFC"}};
  auto t = Tokenizer::fromJson(json.dump());
  ASSERT_TRUE(t) << t.error().line();
  std::string above, below;
  for (int i = 0; i < 500000; ++i)
    above += "\u0301", below += "\u0327";
  // c and the first mark below it are one letter, and so are that and the first mark above.
  EXPECT_EQ(*t->encode("c" + above + below, true),
            *t->encode("\u1e09" + below.substr(2) + above.substr(2), true));
}

TEST(TokenizerJson, WholePiecesMayGoBeforeMerges) {
  Json json = tokenizerJson();
  json["model"]["vocab"]["abc"] = 259; // no merge makes it
  for (bool ignores : {false, true}) {
    json["model"]["ignore_merges"] = ignores;
    auto t = Tokenizer::fromJson(json.dump());
    ASSERT_TRUE(t) << t.error().line();
    const std::vector<TokenId> whole{259}, merged{256, 'c'};
    EXPECT_EQ(*t->encode("abc", true), ignores ? whole : merged);
    EXPECT_THAT(*t->encode("abcd", true), ElementsAre(256, 'c', 'd'));
  }
}

TEST(TokenizerJson, MergesMayBeStrings) {
  Json json = tokenizerJson();
  json["model"]["merges"] = {"a b"};
  auto t = Tokenizer::fromJson(json.dump());
  ASSERT_TRUE(t) << t.error().line();
  EXPECT_THAT(*t->encode("ab", true), ElementsAre(256));
}

TEST(TokenizerJson, BosOfThePostProcessor) {
  Json json = tokenizerJson();
  json["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single",
                             {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
                              {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}}};
  auto t = Tokenizer::fromJson(json.dump());
  ASSERT_TRUE(t) << t.error().line();
  EXPECT_TRUE(t->addBos());
  EXPECT_EQ(t->bos(), 257);
  EXPECT_THAT(*t->encode("a", true), ElementsAre('a'));
}

TEST(TokenizerJson, WhatItWouldDoDifferentlyIsRefusedByName) {
  auto changed = [](const char *pointer, Json value) {
    Json json = tokenizerJson();
    json[Json::json_pointer(pointer)] = std::move(value);
    return refusal(json);
  };
  EXPECT_THAT(changed("/normalizer", {{"type", "NFKC"}}), HasSubstr("normalizer NFKC"));
  EXPECT_THAT(
      changed("/normalizer", {{"type", "Sequence"},
                              {"normalizers", {{{"type", "NFC"}}, {{"type", "Lowercase"}}}}}),
      HasSubstr("normalizer Lowercase"));
  EXPECT_THAT(changed("/model/type", "Unigram"),
              HasSubstr("Unigram is not supported with ByteLevel"));
  EXPECT_THAT(changed("/model/type", "WordPiece"), HasSubstr("WordPiece"));
  EXPECT_THAT(changed("/model/dropout", 0.1), HasSubstr("dropout"));
  EXPECT_THAT(changed("/model/end_of_word_suffix", "</w>"), HasSubstr("end_of_word_suffix"));
  EXPECT_THAT(changed("/pre_tokenizer", {{"type", "Metaspace"}}), HasSubstr("Metaspace"));
  EXPECT_THAT(changed("/pre_tokenizer/pretokenizers/0", {{"type", "Punctuation"}}),
              HasSubstr("Punctuation, ByteLevel"));
  EXPECT_THAT(changed("/pre_tokenizer/pretokenizers/0/individual_digits", false),
              HasSubstr("individual_digits"));
  EXPECT_THAT(changed("/pre_tokenizer/pretokenizers/1/add_prefix_space", true),
              HasSubstr("add_prefix_space"));
  EXPECT_THAT(changed("/pre_tokenizer/pretokenizers/1/use_regex", false), HasSubstr("use_regex"));
  EXPECT_THAT(changed("/decoder", {{"type", "Metaspace"}}), HasSubstr("Metaspace"));
  EXPECT_THAT(changed("/post_processor", {{"type", "BertProcessing"}}),
              HasSubstr("BertProcessing"));
  EXPECT_THAT(changed("/added_tokens/0/single_word", true), HasSubstr("single_word"));
}

TEST(TokenizerJson, WhatIsNeverUsedChangesNothing) {
  for (const Json &more :
       {Json{{"unk_token", ""}}, Json{{"unk_token", "<s>"}}, Json{{"byte_fallback", true}},
        Json{{"dropout", 0.0}}, Json{{"fuse_unk", true}}, Json{{"end_of_word_suffix", ""}}}) {
    Json json = tokenizerJson();
    json["model"].update(more);
    auto t = Tokenizer::fromJson(json.dump());
    ASSERT_TRUE(t) << t.error().line();
    EXPECT_THAT(*t->encode("ab<s><tool>12", true), ElementsAre(256, 257, 258, '1', '2')) << more;
  }
  Json json = tokenizerJson();
  json["normalizer"] = {{"type", "Sequence"}, {"normalizers", Json::array()}};
  std::swap(json["added_tokens"][0], json["added_tokens"][1]);
  EXPECT_TRUE(Tokenizer::fromJson(json.dump()));
}

TEST(TokenizerJson, WithoutAByteTheUnknownTokenIsUsed) {
  auto without = [](std::string_view text, Json more) {
    Json json = tokenizerJson();
    Json &vocabulary = json["model"]["vocab"];
    vocabulary["--"] = vocabulary[std::string(text)];
    vocabulary.erase(std::string(text));
    json["model"].update(more);
    return json;
  };
  EXPECT_TRUE(Tokenizer::fromJson(without("!", Json::object()).dump())); // such bytes are left out
  EXPECT_THAT(refusal(without("!", {{"unk_token", "<s>"}})), HasSubstr("byte 0x21 has no token"));
  EXPECT_THAT(refusal(without("!", {{"byte_fallback", true}})), HasSubstr("byte_fallback"));
  // No text has the byte 0xFF.
  EXPECT_TRUE(Tokenizer::fromJson(without("\u00FF", {{"unk_token", "<s>"}}).dump()));
}

TEST(TokenizerJson, AddedTokensMayTakeWhiteSpaceWithThem) {
  Json json = tokenizerJson();
  json["added_tokens"][0]["rstrip"] = true;
  json["added_tokens"][1]["lstrip"] = true;
  auto t = Tokenizer::fromJson(json.dump());
  ASSERT_TRUE(t) << t.error().line();
  EXPECT_THAT(*t->encode("1<s> \u00a0\n2 <tool> 3<s> <tool>", true),
              ElementsAre('1', 257, '2', 258, ' ', '3', 257, 258));
  EXPECT_THAT(*t->encode(" <s> ", true), ElementsAre(' ', 257));
}

TEST(TokenizerJson, MalformedFilesAreRefused) {
  auto changed = [](const char *pointer, Json value) {
    Json json = tokenizerJson();
    json[Json::json_pointer(pointer)] = std::move(value);
    return refusal(json);
  };
  EXPECT_THAT(refusal(Json::array()), HasSubstr("t.json"));
  EXPECT_THAT(refusal(Json::object()), HasSubstr("model"));
  EXPECT_THAT(changed("/model/vocab/ab", -1), HasSubstr("-1"));
  EXPECT_THAT(changed("/model/vocab/ab", 1e30), HasSubstr("integer"));
  EXPECT_THAT(changed("/model/vocab/ab", int64_t(1) << 40), HasSubstr("integer"));
  EXPECT_THAT(changed("/model/vocab/ab", 3), HasSubstr("two tokens"));
  EXPECT_THAT(changed("/model/merges/0", {"a", "z!"}), HasSubstr("merge 0"));
  EXPECT_THAT(changed("/model/merges/0", {"a"}), HasSubstr("pair"));
  EXPECT_THAT(changed("/model/merges/0", 7), HasSubstr("string"));
  EXPECT_THAT(changed("/added_tokens/0/id", 3), HasSubstr("two tokens"));
  EXPECT_THAT(changed("/added_tokens/0/id", 4'000'000), HasSubstr("integer"));
  EXPECT_THAT(changed("/added_tokens/0/content", 1), HasSubstr("string"));
  auto cut = tokenizerJson().dump();
  EXPECT_FALSE(Tokenizer::fromJson(cut.substr(0, cut.size() / 2)));
}

TEST(TokenizerJson, GapsAmongIdsStandForNothing) {
  Json json = tokenizerJson();
  json["added_tokens"][1]["id"] = 300;
  auto t = Tokenizer::fromJson(json.dump());
  ASSERT_TRUE(t) << t.error().line();
  EXPECT_EQ(t->vocabSize(), 301);
  EXPECT_EQ(t->piece(270), "");
  EXPECT_THAT(*t->encode("<tool>", false), ElementsAre(300));
}

TEST(TokenizerJson, LoadJoinsTheFileWithTheConfiguration) {
  std::string path = testing::TempDir() + "kernelforge-tokenizer.json";
  std::ofstream(path) << tokenizerJson().dump();
  TokenizerSource source;
  source.jsonPath = path;
  source.special.bos = 257;
  source.special.eos = 258;
  source.special.endOfGeneration = {258};
  source.addBos = true;
  source.vocabSize = 300;
  auto t = Tokenizer::load(source);
  ASSERT_TRUE(t) << t.error().line();
  EXPECT_EQ(t->bos(), 257);
  EXPECT_EQ(t->eos(), 258);
  EXPECT_TRUE(t->addBos());
  source.vocabSize = 100;
  auto small = Tokenizer::load(source);
  ASSERT_FALSE(small);
  EXPECT_THAT(small.error().line(), HasSubstr("259 tokens"));
  EXPECT_FALSE(Tokenizer::load(TokenizerSource{}));
}

} // namespace
