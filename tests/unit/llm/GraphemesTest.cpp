#include "kernelforge/llm/Graphemes.h"

#include <gmock/gmock.h>

using namespace kernelforge;
using testing::ElementsAre;
using testing::IsEmpty;

namespace {

std::vector<std::string> graphemes(std::string_view text) {
  std::vector<std::string> found;
  forEachGrapheme(text, [&](std::string_view grapheme) { found.emplace_back(grapheme); });
  return found;
}

TEST(Graphemes, MarksGoWithWhatIsBeforeThem) {
  EXPECT_THAT(graphemes(""), IsEmpty());
  EXPECT_THAT(graphemes("ab"), ElementsAre("a", "b"));
  EXPECT_THAT(graphemes("e\u0301\u0323x"), ElementsAre("e\u0301\u0323", "x"));
  EXPECT_THAT(graphemes("\u0301a"), ElementsAre("\u0301", "a"));
  EXPECT_THAT(graphemes("क\u0903त"), ElementsAre("क\u0903", "त"));
  EXPECT_THAT(graphemes("\u0600a\u0301b"), ElementsAre("\u0600a\u0301", "b")) << "one before";
  EXPECT_THAT(graphemes("a\u1acf"), ElementsAre("a\u1acf")) << "new in Unicode 17";
}

TEST(Graphemes, ControlCharactersStandAlone) {
  EXPECT_THAT(graphemes("\r\n\r\r\n\n"), ElementsAre("\r\n", "\r", "\r\n", "\n"));
  EXPECT_THAT(graphemes("\t\u0301\u0600\n"), ElementsAre("\t", "\u0301", "\u0600", "\n"));
  using namespace std::string_view_literals;
  EXPECT_THAT(graphemes("\u0600\0\u0301"sv), ElementsAre("\u0600", "\0"sv, "\u0301"));
}

TEST(Graphemes, HangulMakesSyllables) {
  EXPECT_THAT(graphemes("\u1100\u1100\u1161\u11a8\u1100"),
              ElementsAre("\u1100\u1100\u1161\u11a8", "\u1100"));
  EXPECT_THAT(graphemes("가\u1161각\u1161"), ElementsAre("가\u1161", "각", "\u1161"));
  EXPECT_THAT(graphemes("가\u11a8각\u11a8"), ElementsAre("가\u11a8", "각\u11a8"));
  EXPECT_THAT(graphemes("\u1100가\u1161\u1100"), ElementsAre("\u1100가\u1161", "\u1100"));
}

TEST(Graphemes, PictographsAreJoined) {
  EXPECT_THAT(graphemes("👩\u200d👩😀"), ElementsAre("👩\u200d👩", "😀"));
  EXPECT_THAT(graphemes("👩\u0301\u200d👩"), ElementsAre("👩\u0301\u200d👩"));
  EXPECT_THAT(graphemes("a\u200d👩"), ElementsAre("a\u200d", "👩"));
  EXPECT_THAT(graphemes("👩\u200d\u200d👩"), ElementsAre("👩\u200d\u200d", "👩"));
  EXPECT_THAT(graphemes("🇫🇷🇯🇵🇯"), ElementsAre("🇫🇷", "🇯🇵", "🇯"));
}

TEST(Graphemes, IndicConsonantsAreLinked) {
  EXPECT_THAT(graphemes("क\u094dत"), ElementsAre("क\u094dत"));
  EXPECT_THAT(graphemes("क\u094d\u200dतत"), ElementsAre("क\u094d\u200dत", "त"));
  EXPECT_THAT(graphemes("क\u093c\u094d\u093cत"), ElementsAre("क\u093c\u094d\u093cत"));
  EXPECT_THAT(graphemes("क\u094d\u200cत"), ElementsAre("क\u094d\u200c", "त"));
  EXPECT_THAT(graphemes("a\u094dत"), ElementsAre("a\u094d", "त"));
  EXPECT_THAT(graphemes("क\u094d"
                        "a"),
              ElementsAre("क\u094d", "a"));
}

} // namespace
