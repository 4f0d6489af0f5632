#include "kernelforge/llm/Tokenizer.h"

#include <cmath>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <limits>

using namespace kernelforge;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

using Ids = std::vector<TokenId>;

/// A vocabulary of pieces: <unk>, <s>, </s>, and what is added.
struct Pieces {
  TokenizerData data;

  explicit Pieces(PieceRules::Algorithm algorithm = PieceRules::Algorithm::MergesByScore) {
    data.model = algorithm == PieceRules::Algorithm::Unigram ? "t5" : "llama";
    data.pieces.emplace();
    rules().algorithm = algorithm;
    rules().unknown = 0;
    rules().unknownText = defaultUnknownText;
    normalizer() = {};
    add("<unk>", 0, TokenType::Unknown);
    add("<s>", 0, TokenType::Control);
    add("</s>", 0, TokenType::Control);
  }
  PieceRules &rules() { return *data.pieces; }
  NormalizerStep &normalizer() {
    if (rules().steps.empty())
      rules().steps.emplace_back().kind = NormalizerStep::Kind::SentencePiece;
    return rules().steps[0];
  }
  TokenId add(std::string text, double score, TokenType type = TokenType::Normal) {
    data.tokens.push_back(std::move(text));
    data.types.push_back(type);
    rules().scores.push_back(score);
    return static_cast<TokenId>(data.tokens.size() - 1);
  }
  /// The token of byte 0; those of the others follow.
  TokenId addBytes() {
    const auto first = static_cast<TokenId>(data.tokens.size());
    for (int byte = 0; byte < 256; ++byte)
      add(fmt::format("<0x{:02X}>", byte), 0, TokenType::Byte);
    rules().byteFallback = true;
    return first;
  }
  void addPrefix() {
    normalizer().addDummyPrefix = true;
    rules().leadingSpace = PieceRules::LeadingSpace::DropOne;
  }
  Tokenizer build() {
    auto tokenizer = Tokenizer::create(data);
    EXPECT_TRUE(tokenizer) << tokenizer.error().line();
    return std::move(*tokenizer);
  }
  std::string refusal() {
    auto tokenizer = Tokenizer::create(data);
    return tokenizer ? "accepted" : tokenizer.error().line();
  }
};

Ids encode(const Tokenizer &tokenizer, std::string_view text, bool special = true) {
  auto ids = tokenizer.encode(text, special);
  EXPECT_TRUE(ids);
  return ids ? *ids : Ids();
}

TEST(PieceTokenizer, TheHighestScoreMergesFirstThenTheLeftmost) {
  Pieces p;
  const TokenId a = p.add("a", -9), b = p.add("b", -9), c = p.add("c", -9);
  const TokenId ab = p.add("ab", -2), bc = p.add("bc", -1), aa = p.add("aa", -3);
  const Tokenizer t = p.build();
  EXPECT_EQ(encode(t, "abc"), (Ids{a, bc}));
  EXPECT_EQ(encode(t, "abab"), (Ids{ab, ab}));
  EXPECT_EQ(encode(t, "aaa"), (Ids{aa, a}));
  EXPECT_EQ(encode(t, "cb"), (Ids{c, b}));
  EXPECT_THAT(encode(t, ""), IsEmpty());
}

TEST(PieceTokenizer, UnknownCharactersAreOneTokenOrTheirBytes) {
  Pieces p;
  const TokenId a = p.add("a", -1);
  EXPECT_EQ(encode(p.build(), "aéßa世"), (Ids{a, 0, a, 0}));
  p.rules().fuseUnknown = false;
  EXPECT_EQ(encode(p.build(), "éß"), (Ids{0, 0}));
  const TokenId bytes = p.addBytes();
  EXPECT_EQ(encode(p.build(), "aé"), (Ids{a, bytes + 0xc3, bytes + 0xa9}));
  EXPECT_EQ(encode(p.build(), "a\xff"), (Ids{a, bytes + 0xef, bytes + 0xbf, bytes + 0xbd}));
}

TEST(PieceTokenizer, SpacesAreEscapedAndOneIsPutInFront) {
  Pieces p;
  const TokenId space = p.add("▁", -5), a = p.add("a", -6), spaceA = p.add("▁a", -1);
  EXPECT_EQ(encode(p.build(), "a a"), (Ids{a, spaceA}));
  p.addPrefix();
  EXPECT_EQ(encode(p.build(), "a  a "), (Ids{spaceA, space, spaceA, space}));
  // What is between control tokens is a text of its own.
  EXPECT_EQ(encode(p.build(), "a<s>a"), (Ids{spaceA, 1, spaceA}));
  EXPECT_THAT(encode(p.build(), ""), IsEmpty());
  p.normalizer().removeExtraSpaces = true;
  EXPECT_EQ(encode(p.build(), "  a   a  "), (Ids{spaceA, spaceA}));
  EXPECT_THAT(encode(p.build(), "   "), IsEmpty());
  p.normalizer().spaceIsSuffix = true;
  EXPECT_EQ(encode(p.build(), " a"), (Ids{a, space}));
}

TEST(PieceTokenizer, DecodingLeavesOutTheSpaceInFront) {
  Pieces p;
  p.addPrefix();
  const TokenId spaceA = p.add("▁a", -1), bytes = p.addBytes();
  const Tokenizer t = p.build();
  EXPECT_EQ(t.decode(Ids{1, spaceA, spaceA}, true), "a a");
  EXPECT_EQ(t.decode(Ids{1, spaceA}, false), "<s> a") << "there is text before";
  EXPECT_EQ(t.decode(Ids{bytes + 0xc3, bytes + 0xa9, spaceA}, true), "é a");
  EXPECT_EQ(t.decode(Ids{0, spaceA}, true), " \u2047  a");
  EXPECT_EQ(t.piece(spaceA), " a");
  StreamDecoder begins(t), continues(t, /*skipSpecial=*/true, /*atStart=*/false);
  EXPECT_EQ(begins.put(1) + begins.put(spaceA) + begins.put(spaceA), "a a");
  EXPECT_EQ(continues.put(spaceA), " a");
  EXPECT_EQ(continues.put(bytes + 0xf0) + continues.put(bytes + 0x9f), "");
  EXPECT_EQ(continues.put(bytes + 0x98) + continues.put(bytes + 0x80), "😀");
  EXPECT_EQ(continues.put(bytes + 0xe2) + continues.put(spaceA), "\uFFFD a");
}

TEST(PieceTokenizer, UserDefinedTokensAreWholeWithinTheTextOrCutIt) {
  Pieces p;
  p.addPrefix();
  const TokenId space = p.add("▁", -5), a = p.add("a", -6), spaceA = p.add("▁a", -1);
  const TokenId tool = p.add("<t>", 0, TokenType::UserDefined);
  const TokenId longer = p.add("<t>a", 0, TokenType::UserDefined);
  // As GGUF files and tokenizer.json have it.
  EXPECT_EQ(encode(p.build(), "a<t> a", false), (Ids{spaceA, tool, space, spaceA}));
  EXPECT_EQ(encode(p.build(), "<t>aa", false), (Ids{longer, spaceA}));
  // As SentencePiece has it.
  p.rules().userDefinedWithin = true;
  EXPECT_EQ(encode(p.build(), "a<t>a", false), (Ids{spaceA, longer}));
  EXPECT_EQ(encode(p.build(), "<t>", false), (Ids{space, tool}));
  EXPECT_EQ(encode(p.build(), "<t>aa", false), (Ids{space, longer, a}));
  EXPECT_EQ(p.build().addedToken("<t>"), tool);
}

TEST(PieceTokenizer, ControlTokensAreNeverMadeOfOrdinaryText) {
  for (auto algorithm : {PieceRules::Algorithm::MergesByScore, PieceRules::Algorithm::Unigram}) {
    Pieces p(algorithm);
    const TokenId open = p.add("<", -3), s = p.add("s", -3), close = p.add(">", -3);
    p.add("<s", -1);
    const TokenId half = p.data.tokens.size() - 1;
    const TokenId control = p.add("x", 0, TokenType::Control);
    const Tokenizer t = p.build();
    EXPECT_EQ(encode(t, "<s>", false), (Ids{half, close}));
    EXPECT_EQ(encode(t, "<s>x", true), (Ids{1, control}));
    EXPECT_EQ(encode(t, "x", false), (Ids{0}));
    const TextSegment segments[] = {{"<s>", false}, {"<s>", true}, {"<", false}, {"s>", true}};
    EXPECT_EQ(*t.encodeSegments(segments), (Ids{1, half, close, half, close})) << open << s;
  }
}

TEST(PieceTokenizer, UnusedPiecesAreStepsOnly) {
  Pieces p;
  const TokenId a = p.add("a", -9), b = p.add("b", -9), c = p.add("c", -9);
  p.add("ab", -1, TokenType::Unused);
  const TokenId abc = p.add("abc", -2);
  EXPECT_EQ(encode(p.build(), "abcab"), (Ids{abc, a, b}));
  EXPECT_EQ(encode(p.build(), "cab"), (Ids{c, a, b}));
}

TEST(PieceTokenizer, UnigramTakesTheBestPath) {
  Pieces p(PieceRules::Algorithm::Unigram);
  const TokenId a = p.add("a", -1), ab = p.add("ab", -3), b = p.add("b", -1.5),
                bc = p.add("bc", -1);
  const TokenId unused = p.add("abc", 10, TokenType::Unused);
  const Tokenizer t = p.build();
  EXPECT_EQ(encode(t, "abc"), (Ids{a, bc})) << unused;
  EXPECT_EQ(encode(t, "ab"), (Ids{a, b}));
  EXPECT_EQ(encode(t, "abéü"), (Ids{a, b, 0}));
  p.rules().scores[ab] = -2.5; // as good: the one that was found first
  EXPECT_EQ(encode(p.build(), "ab"), (Ids{ab}));
  const TokenId bytes = p.addBytes();
  EXPECT_EQ(encode(p.build(), "é"), (Ids{bytes + 0xc3, bytes + 0xa9}));
}

TEST(PieceTokenizer, MergesByRankOfCharacters) {
  Pieces p(PieceRules::Algorithm::MergesByRank);
  const TokenId a = p.add("a", 0), b = p.add("b", 0), eb = p.add("éb", 0), e = p.add("é", 0);
  p.rules().scores.clear();
  p.data.merges = {"é b"};
  EXPECT_EQ(encode(p.build(), "aébé"), (Ids{a, eb, e}));
  EXPECT_EQ(encode(p.build(), "abü"), (Ids{a, b, 0}));
  p.data.merges.clear();
  EXPECT_EQ(encode(p.build(), "éb"), (Ids{e, b}));
  p.data.ignoresMerges = true;
  EXPECT_EQ(encode(p.build(), "éb"), (Ids{eb}));
  p.data.merges = {"é z"};
  EXPECT_THAT(p.refusal(), HasSubstr("merge 0 has a token that is not in the vocabulary"));
}

TEST(PieceTokenizer, WordsBeginAtSpaces) {
  Pieces p(PieceRules::Algorithm::Unigram);
  const TokenId a = p.add("▁a", -1), two = p.add("▁a▁a", -1), space = p.add("▁", -1);
  p.rules().steps.clear();
  CutStep &cut = p.rules().cuts.emplace_back();
  cut.kind = CutStep::Kind::Metaspace;
  cut.prefix = CutStep::Prefix::Always;
  cut.split = false;
  EXPECT_EQ(encode(p.build(), "a a<s>a"), (Ids{two, 1, a}));
  cut.split = true;
  EXPECT_EQ(encode(p.build(), "a a"), (Ids{a, a}));
  EXPECT_EQ(encode(p.build(), "a   a"), (Ids{a, space, space, a}));
  cut.prefix = CutStep::Prefix::First;
  EXPECT_EQ(encode(p.build(), "a<s>a"), (Ids{a, 1, 0}));
}

TEST(PieceTokenizer, TheFirstWordStandsForTheFirstCharacter) {
  Pieces p;
  const TokenId space = p.add("▁", -1), bytes = p.addBytes();
  const TokenId acute = bytes + 0xcc, a = bytes + 'a';
  p.rules().steps.clear();
  p.rules().steps.emplace_back().kind = NormalizerStep::Kind::ComposeCompatibility;
  NormalizerStep &strip = p.rules().steps.emplace_back();
  strip.kind = NormalizerStep::Kind::Strip;
  strip.left = true;
  CutStep &cut = p.rules().cuts.emplace_back();
  cut.kind = CutStep::Kind::Metaspace;
  cut.prefix = CutStep::Prefix::First;
  EXPECT_EQ(encode(p.build(), "a"), (Ids{space, a}));
  EXPECT_EQ(encode(p.build(), " a"), (Ids{a})) << "the first character is gone";
  // A space and a mark, of which the space is stripped.
  EXPECT_EQ(encode(p.build(), "\u00b4"), (Ids{space, acute, bytes + 0x81}));
  EXPECT_EQ(encode(p.build(), " \u00b4"), (Ids{acute, bytes + 0x81}));
  EXPECT_EQ(encode(p.build(), "\u00b4\u0323")[0], acute) << "the mark below comes first";
  EXPECT_EQ(encode(p.build(), "<s>\u00b4"), (Ids{1, acute, bytes + 0x81}));
}

TEST(PieceTokenizer, DecodingLeavesOutTheSpacesOfTheFirstToken) {
  Pieces p;
  p.rules().leadingSpace = PieceRules::LeadingSpace::DropFirstToken;
  const TokenId words = p.add("▁a▁b▁", -1), own = p.add("▁< >", 0, TokenType::UserDefined);
  const Tokenizer t = p.build();
  EXPECT_EQ(t.decode(Ids{words, words}, true), "ab a b ");
  EXPECT_EQ(t.decode(Ids{1, own, own}, true), "< > < >") << "no U+2581, but a space of its own";
  StreamDecoder stream(t);
  EXPECT_EQ(stream.put(1) + stream.put(words) + stream.put(own), "ab < >");
}

TEST(PieceTokenizer, TokensThatAreOnlyAddedAreNoPieces) {
  Pieces p;
  const TokenId a = p.add("a", -1), u = p.add("u", 0, TokenType::UserDefined);
  NormalizerStep &prepend = p.rules().steps.emplace_back();
  prepend.kind = NormalizerStep::Kind::Prepend;
  prepend.to = "a";
  p.data.added[u].isLate = true; // so that "au" is looked for
  EXPECT_EQ(encode(p.build(), "au"), (Ids{a, u}));
  p.data.added[u].isApart = true;
  EXPECT_EQ(encode(p.build(), "u"), (Ids{u}));
  EXPECT_EQ(encode(p.build(), "xu"), (Ids{a, 0}));
}

/// A quadratic loop would take minutes.
TEST(PieceTokenizer, LongTextsTakeLinearTime) {
  for (auto algorithm : {PieceRules::Algorithm::MergesByScore, PieceRules::Algorithm::Unigram}) {
    Pieces p(algorithm);
    p.addPrefix();
    p.normalizer().removeExtraSpaces = true;
    p.rules().sumsInF32 = true;
    p.add("▁", -1);
    std::string run;
    for (int i = 0; i < 64; ++i)
      p.add(run += "a", -65 + i);
    const Tokenizer t = p.build();
    const std::string text(1 << 20, 'a'), spaces(1 << 20, ' ');
    EXPECT_GE(encode(t, text).size(), text.size() / 64);
    EXPECT_EQ(encode(t, spaces).size(), 0);
    std::string unknown, mixed;
    for (int i = 0; i < 1 << 18; ++i)
      unknown += "é", mixed += i % 7 ? "a" : " <s";
    EXPECT_EQ(encode(t, unknown).size(), 2);
    EXPECT_GT(encode(t, mixed).size(), 1000);
  }
}

TEST(PieceTokenizer, UnusableDataIsRefused) {
  auto refusal = [](auto change) {
    Pieces p;
    p.add("a", -1);
    change(p);
    return p.refusal();
  };
  EXPECT_THAT(refusal([](Pieces &p) { p.rules().scores.pop_back(); }),
              HasSubstr("4 tokens but 3 scores"));
  for (double score : {double(NAN), std::numeric_limits<double>::infinity()})
    EXPECT_THAT(refusal([&](Pieces &p) { p.rules().scores[3] = score; }),
                HasSubstr("the score of token 3 is not a finite number"));
  EXPECT_THAT(refusal([](Pieces &p) { p.rules().unknown = 4; }), HasSubstr("unknown token 4"));
  EXPECT_THAT(refusal([](Pieces &p) { p.rules().unknown = -1; }), HasSubstr("unknown token -1"));
  EXPECT_THAT(refusal([](Pieces &p) { p.add(std::string(1025, 'a'), 0); }),
              HasSubstr("token 4 is 1025 bytes long; the limit of pieces is 1024"));
  EXPECT_THAT(refusal([](Pieces &p) { p.add("<0x-1>", 0, TokenType::Byte); }),
              HasSubstr("byte token 4 is not of the form"));
}

} // namespace
