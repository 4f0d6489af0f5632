#include "kernelforge/llm/Tokenizer.h"

#include "kernelforge/llm/ByteAlphabet.h"
#include "kernelforge/support/Utf8.h"

#include <gmock/gmock.h>

using namespace kernelforge;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

/// A vocabulary of all bytes (ids 0 to 255 in order), then `more`, then control and user defined
/// tokens.
struct Vocabulary {
  TokenizerData data;

  Vocabulary() {
    data.model = "gpt2";
    data.pre = "gpt2";
    for (int byte = 0; byte < 256; ++byte) {
      std::string text;
      appendUtf8(text, byteCharacter(static_cast<uint8_t>(byte)));
      add(text);
    }
  }
  TokenId add(std::string text, TokenType type = TokenType::Normal) {
    data.tokens.push_back(std::move(text));
    data.types.push_back(type);
    return static_cast<TokenId>(data.tokens.size() - 1);
  }
  TokenId merge(const std::string &left, const std::string &right) {
    data.merges.push_back(left + " " + right);
    return add(left + right);
  }
  Tokenizer build() {
    auto tokenizer = Tokenizer::create(data);
    EXPECT_TRUE(tokenizer) << tokenizer.error().line();
    return std::move(*tokenizer);
  }
  std::string refusal() {
    auto tokenizer = Tokenizer::create(data);
    EXPECT_FALSE(tokenizer);
    return tokenizer ? "" : tokenizer.error().line();
  }
};

std::vector<TokenId> encode(const Tokenizer &tokenizer, std::string_view text,
                            bool special = true) {
  auto ids = tokenizer.encode(text, special);
  EXPECT_TRUE(ids);
  return ids ? *ids : std::vector<TokenId>();
}

TEST(Tokenizer, MergesByRankThenFromTheLeft) {
  Vocabulary v;
  TokenId bc = v.merge("b", "c");
  TokenId ab = v.merge("a", "b");
  TokenId aa = v.merge("a", "a");
  TokenId abc = v.merge("a", "bc");
  Tokenizer t = v.build();
  EXPECT_THAT(encode(t, "ab"), ElementsAre(ab));
  EXPECT_THAT(encode(t, "abc"), ElementsAre(abc)); // b c goes first, so a b never does
  EXPECT_THAT(encode(t, "aaa"), ElementsAre(aa, 'a'));
  EXPECT_THAT(encode(t, "xbc"), ElementsAre('x', bc));
}

TEST(Tokenizer, RoundTripsAnyText) {
  Tokenizer t = Vocabulary().build();
  std::string text = "Grüße, 世界! \t\n\x01 👍🏽";
  auto ids = encode(t, text);
  EXPECT_EQ(ids.size(), text.size());
  EXPECT_EQ(t.decode(ids, false), text);
  EXPECT_EQ(t.piece(-1), "");
  EXPECT_EQ(t.piece(1 << 30), "");
}

TEST(Tokenizer, InvalidUtf8BecomesTheReplacementCharacter) {
  Tokenizer t = Vocabulary().build();
  EXPECT_EQ(t.decode(encode(t, "a\xE2\x82z\xFF"), false), "a\uFFFDz\uFFFD");
}

TEST(Tokenizer, ControlTokensOnlyWhereAskedFor) {
  Vocabulary v;
  TokenId end = v.add("<|im_end|>", TokenType::Control);
  TokenId tool = v.add("<tool>", TokenType::UserDefined);
  Tokenizer t = v.build();
  EXPECT_THAT(encode(t, "a<|im_end|><tool>", true), ElementsAre('a', end, tool));
  auto plain = encode(t, "a<|im_end|><tool>", false);
  EXPECT_EQ(plain.size(), 1u + 10u + 1u);
  EXPECT_EQ(plain.back(), tool);
  EXPECT_EQ(t.decode(std::vector<TokenId>{'a', end, tool}, true), "a<tool>");
  EXPECT_EQ(t.decode(std::vector<TokenId>{'a', end}, false), "a<|im_end|>");
  EXPECT_EQ(t.eot(), end);
  EXPECT_TRUE(t.isControl(end));
  EXPECT_FALSE(t.isControl(tool));
  EXPECT_FALSE(t.isControl(-1));
}

TEST(Tokenizer, TheLongestAddedTokenWins) {
  Vocabulary v;
  TokenId open = v.add("<|", TokenType::Control);
  TokenId start = v.add("<|start", TokenType::Control);
  TokenId user = v.add("<|start|>user", TokenType::UserDefined);
  Tokenizer t = v.build();
  EXPECT_THAT(encode(t, "<|start|>user"), ElementsAre(user));
  EXPECT_THAT(encode(t, "<|start|"), ElementsAre(start, '|'));
  EXPECT_THAT(encode(t, "<|x<"), ElementsAre(open, 'x', '<'));
}

TEST(Tokenizer, AControlTokenIsNeverMadeByMerging) {
  Vocabulary v;
  TokenId left = v.merge("e", "n");
  v.data.merges.push_back("en d");
  v.add("end", TokenType::Control);
  v.data.types['!'] = TokenType::Control;
  Tokenizer t = v.build();
  EXPECT_THAT(encode(t, "end", false), ElementsAre(left, 'd'));
  EXPECT_THAT(encode(t, "a!", false), ElementsAre('a'));
}

TEST(Tokenizer, TextOfUsersMakesNoControlToken) {
  Vocabulary v;
  TokenId end = v.add("<end>", TokenType::Control);
  v.merge("\u010A", "\u010A"); // two newlines: the pre-tokenizer keeps these two apart
  Tokenizer t = v.build();
  std::vector<TextSegment> segments = {
      {"a", false}, {"<end>", true}, {"<end>", false}, {"\n", false}, {"\nb", true}};
  auto ids = t.encodeSegments(segments);
  ASSERT_TRUE(ids);
  EXPECT_THAT(*ids, ElementsAre('a', '<', 'e', 'n', 'd', '>', end, '\n', '\n', 'b'));
  // A token is not put together from a trusted and a user's half either.
  auto halves = t.encodeSegments(std::vector<TextSegment>{{"<e", false}, {"nd>", true}});
  ASSERT_TRUE(halves);
  EXPECT_THAT(*halves, ElementsAre('<', 'e', 'n', 'd', '>'));
}

TEST(Tokenizer, MergesCrossTheBordersOfSegments) {
  Vocabulary v;
  TokenId ab = v.merge("a", "b");
  Tokenizer t = v.build();
  auto ids = t.encodeSegments(std::vector<TextSegment>{{"a", false}, {"b", true}});
  ASSERT_TRUE(ids);
  EXPECT_THAT(*ids, ElementsAre(ab));
}

TEST(Tokenizer, BytesWithoutATokenAreLeftOut) {
  Vocabulary v;
  v.data.tokens[4] = "nothing";
  Tokenizer t = v.build();
  EXPECT_THAT(encode(t, "a\x04z"), ElementsAre('a', 'z'));
}

TEST(Tokenizer, LongPieceOfOneLetterIsFast) {
  Vocabulary v;
  std::string run = "a";
  for (int i = 0; i < 6; ++i) {
    v.merge(run, run);
    run += run;
  }
  Tokenizer t = v.build();
  std::string text(1 << 20, 'a'); // a quadratic loop would take minutes
  EXPECT_EQ(encode(t, text).size(), text.size() / 64);
}

TEST(Tokenizer, TooLongATextIsRefused) {
  Tokenizer t = Vocabulary().build();
  std::string text(Tokenizer::maxTextBytes + 1, 'a');
  EXPECT_FALSE(t.encode(text, false));
  EXPECT_FALSE(t.encodeSegments(std::vector<TextSegment>{{text, false}}));
}

TEST(Tokenizer, StreamDecoderGivesWholeCharacters) {
  Tokenizer t = Vocabulary().build();
  StreamDecoder decoder(t);
  std::string text = "é👍\xFFz";
  std::vector<std::string> shown;
  for (char c : text)
    shown.push_back(decoder.put(static_cast<uint8_t>(c)));
  EXPECT_THAT(shown, ElementsAre("", "é", "", "", "", "👍", "\uFFFD", "z"));
  EXPECT_EQ(decoder.put(0xE2), "");
  EXPECT_EQ(decoder.put('x'), "\uFFFDx");
  EXPECT_EQ(decoder.put(0xE2), "");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
  EXPECT_EQ(decoder.finish(), "");
}

TEST(Tokenizer, ByteTokens) {
  Vocabulary v;
  TokenId byte = v.add("<0x0A>", TokenType::Byte);
  EXPECT_EQ(v.build().piece(byte), "\n");
  for (const char *bad : {"<0x-1>", "<0x1>", "<0x100>", "<0x+A>", "0x0A", "<0xG0>", "<0X0A>"}) {
    Vocabulary w;
    w.add(bad, TokenType::Byte);
    EXPECT_THAT(w.refusal(), HasSubstr("<0xNN>")) << bad;
  }
}

TEST(Tokenizer, UnusableDataIsRefused) {
  auto refusal = [](auto change) {
    Vocabulary v;
    change(v.data);
    return v.refusal();
  };
  EXPECT_THAT(refusal([](auto &d) { d.model = "rwkv"; }), HasSubstr("\"rwkv\""));
  EXPECT_THAT(refusal([](auto &d) { // whatever else there is
                d = {};
                d.model = "bert";
              }),
              HasSubstr("\"bert\" is not supported"));
  EXPECT_THAT(refusal([](auto &d) { d.pre = "bert-bge"; }), HasSubstr("\"bert-bge\""));
  EXPECT_THAT(refusal([](auto &d) {
                d.tokens.clear();
                d.types.clear();
              }),
              HasSubstr("empty"));
  EXPECT_THAT(refusal([](auto &d) { d.types.pop_back(); }), HasSubstr("255 token types"));
  EXPECT_THAT(refusal([](auto &d) { d.special.bos = 256; }), HasSubstr("BOS token 256"));
  EXPECT_THAT(refusal([](auto &d) { d.special.eos = -1; }), HasSubstr("EOS token -1"));
  EXPECT_THAT(refusal([](auto &d) { d.special.endOfGeneration = {1, 999}; }), HasSubstr("999"));
  EXPECT_THAT(refusal([](auto &d) { d.merges = {"a"}; }), HasSubstr("merge 0"));
  EXPECT_THAT(refusal([](auto &d) { d.merges = {"a b c"}; }), HasSubstr("merge 0"));
  EXPECT_THAT(refusal([](auto &d) { d.merges = {"a b"}; }), HasSubstr("not in the vocabulary"));
  EXPECT_THAT(refusal([](auto &d) { d.tokens[7] = "\xFF"; }), HasSubstr("token 7"));
  EXPECT_THAT(refusal([](auto &d) { d.tokens[7].assign(70000, 'a'); }), HasSubstr("70000"));
  EXPECT_THAT(refusal([](auto &d) {
                d.tokens[7].assign(2000, 'a');
                d.types[7] = TokenType::Control;
              }),
              HasSubstr("2000"));
  EXPECT_THAT(refusal([](auto &d) { d.addBos = true; }), HasSubstr("BOS"));
}

TEST(Tokenizer, EndOfGeneration) {
  Vocabulary v;
  v.data.special.eos = 3;
  v.data.special.endOfGeneration = {3, 5};
  Tokenizer t = v.build();
  EXPECT_TRUE(t.isEndOfGeneration(3));
  EXPECT_TRUE(t.isEndOfGeneration(5));
  EXPECT_FALSE(t.isEndOfGeneration(4));
  EXPECT_FALSE(t.eot());
  EXPECT_FALSE(t.addBos());
}

} // namespace
