#include "kernelforge/llm/StopStrings.h"

#include <gmock/gmock.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

/// Feeds `text` in pieces of `size` bytes; "text|index" if stopped, "text" if not.
std::string feed(std::vector<std::string> strings, const std::string &text, size_t size) {
  auto stop = StopStrings::create(std::move(strings));
  EXPECT_TRUE(stop);
  std::string out;
  for (size_t at = 0; at < text.size(); at += size) {
    auto result = stop->put(std::string_view(text).substr(at, size));
    out += result.text;
    if (result.stopped)
      return out + "|" + std::to_string(result.index);
  }
  return out + stop->finish();
}

TEST(StopStrings, TheSameWhateverThePieces) {
  struct Case {
    std::vector<std::string> strings;
    std::string text, expected;
  };
  std::vector<Case> cases = {
      {{"stop"}, "a stop b", "a |0"},
      {{"stop"}, "a sto", "a sto"},
      {{"stop"}, "ststop!", "st|0"},
      {{"aab"}, "aaab", "a|0"},
      {{"abab", "ba"}, "xabab", "xa|1"},
      {{"ab", "zab"}, "zab", "|1"}, // both end there: the longer is cut off
      {{"\n\n"}, "a\nb\n\nc", "a\nb|0"},
      {{"é"}, "caf\xC3\xA9!", "caf|0"},
      {{"x"}, "", ""},
      {{}, "anything", "anything"},
  };
  for (const Case &c : cases)
    for (size_t size : {1, 2, 3, 100})
      EXPECT_EQ(feed(c.strings, c.text, size), c.expected) << c.text << " by " << size;
}

TEST(StopStrings, HoldsBackOnlyWhatMayBeginAStop) {
  auto stop = StopStrings::create({"<end>"});
  EXPECT_EQ(stop->put("ab<e").text, "ab");
  EXPECT_EQ(stop->put("x").text, "<ex");
  EXPECT_EQ(stop->put("<en").text, "");
  EXPECT_EQ(stop->finish(), "<en");
}

TEST(StopStrings, NothingFollowsAStop) {
  auto stop = StopStrings::create({"."});
  EXPECT_TRUE(stop->put("a.b").stopped);
  EXPECT_TRUE(stop->stopped());
  EXPECT_EQ(stop->put("c").text, "");
  EXPECT_EQ(stop->finish(), "");
}

TEST(StopStrings, AreChecked) {
  EXPECT_FALSE(StopStrings::create({""}));
  EXPECT_FALSE(StopStrings::create({"a", "\xFF"}));
  EXPECT_FALSE(StopStrings::create({std::string(StopStrings::maxStringBytes + 1, 'a')}));
  auto many = StopStrings::create(std::vector<std::string>(StopStrings::maxStrings + 1, "a"));
  ASSERT_FALSE(many);
  EXPECT_THAT(many.error().line(), HasSubstr("17"));
}

} // namespace
