#include "kernelforge/support/Utf8.h"

#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

const std::string mark = "\xEF\xBF\xBD"; // U+FFFD

TEST(Utf8, ReplacesEachMaximalInvalidSubpart) {
  EXPECT_EQ(replaceInvalidUtf8("a\x80z"), "a" + mark + "z");
  EXPECT_EQ(replaceInvalidUtf8("\xE2\x82"), mark); // cut short: one
  EXPECT_EQ(replaceInvalidUtf8("\xE2\x82x"), mark + "x");
  EXPECT_EQ(replaceInvalidUtf8("\xC0\xAF"), mark + mark);            // overlong: each byte
  EXPECT_EQ(replaceInvalidUtf8("\xED\xA0\x80"), mark + mark + mark); // a surrogate
  EXPECT_EQ(replaceInvalidUtf8("\xF4\x90\x80\x80"), mark + mark + mark + mark);
  EXPECT_EQ(replaceInvalidUtf8("\xF0\x9F\x98\x80"), "\xF0\x9F\x98\x80");
  // The example of the Unicode standard, table 3-8.
  EXPECT_EQ(replaceInvalidUtf8("a\xF1\x80\x80\xE1\x80\xC2z\x80"),
            "a" + mark + mark + mark + "z" + mark);
}

TEST(Utf8, AppendsWhatItDecodes) {
  for (char32_t c :
       {U'\0', U'\x7F', U'\x80', U'\x7FF', U'\x800', U'\xFFFD', U'\x10000', U'\x10FFFF'}) {
    std::string text;
    appendUtf8(text, c);
    Utf8Step step = decodeUtf8(text);
    EXPECT_TRUE(step.valid);
    EXPECT_EQ(step.codePoint, c);
    EXPECT_EQ(step.length, text.size());
  }
}

TEST(Utf8, FindsAnIncompleteEnd) {
  EXPECT_EQ(incompleteUtf8Suffix(""), 0u);
  EXPECT_EQ(incompleteUtf8Suffix("abc"), 0u);
  EXPECT_EQ(incompleteUtf8Suffix("a\xC3"), 1u);
  EXPECT_EQ(incompleteUtf8Suffix("a\xC3\xA9"), 0u);
  EXPECT_EQ(incompleteUtf8Suffix("\xE2\x82"), 2u);
  EXPECT_EQ(incompleteUtf8Suffix("\xF0\x9F\x98"), 3u);
  EXPECT_EQ(incompleteUtf8Suffix("\xF0\x9F\x98\x80"), 0u);
  EXPECT_EQ(incompleteUtf8Suffix("\xFF"), 0u);     // nothing completes it
  EXPECT_EQ(incompleteUtf8Suffix("\xE0\x80"), 0u); // overlong already
  EXPECT_EQ(incompleteUtf8Suffix("\x80\x80\x80\x80"), 0u);
}

} // namespace
