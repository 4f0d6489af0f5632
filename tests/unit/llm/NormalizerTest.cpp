#include "kernelforge/llm/Normalizer.h"

#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

TEST(Normalizer, ComposesWhatUnicode9Has) {
  EXPECT_EQ(composeUtf8("e\u0301 a\u0301\u0323"), "é \u1ea1\u0301");
  EXPECT_EQ(composeUtf8("\ufb01\u00b4"), "\ufb01\u00b4");
  EXPECT_EQ(composeCompatibilityUtf8("\ufb01\u00b4\u3000"), "fi \u0301 ");
  // A mark of Unicode 9, and those of 10 and 11, which are no marks here.
  EXPECT_EQ(composeUtf8("a\u08d4\u0323"), "\u1ea1\u08d4");
  EXPECT_EQ(composeUtf8("a\u0d3b\u0323"), "a\u0d3b\u0323");
  EXPECT_EQ(composeUtf8("a\u08d3\u0323"), "a\u08d3\u0323");
  EXPECT_EQ(composeCompatibilityUtf8("\u32ff\ua7f2"), "\u32ff\ua7f2") << "of 12.1 and 14";
}

TEST(Normalizer, LongRunsOfMarksAreOrderedAsShortOnes) {
  std::string run = "a";
  std::string expected = "\u1ea1";
  for (int i = 0; i < 40; ++i)
    run += "\u0301", expected += "\u0301";
  EXPECT_EQ(composeUtf8(run + "\u0323"), expected);
  EXPECT_EQ(composeUtf8(run + "\u08d3\u0323").substr(0, 2), "á") << "no mark of Unicode 9 between";
}

std::string times(int count, std::string_view text) {
  std::string out;
  for (int i = 0; i < count; ++i)
    out += text;
  return out;
}

TEST(Normalizer, WhatIsTakenApartIntoMarksIsOrderedAsMarksAre) {
  for (int count : {3, 40}) {
    EXPECT_EQ(composeUtf8("a" + times(count, "\u0f73") + "\u0323"),
              "\u1ea1" + times(count, "\u0f71") + times(count, "\u0f72"));
    EXPECT_EQ(composeUtf8(times(count, "\uff9e")), times(count, "\uff9e"));
    EXPECT_EQ(composeCompatibilityUtf8("a" + times(count, "\u0301") + times(count, "\uff9e")),
              "á" + times(count, "\u3099") + times(count - 1, "\u0301"));
  }
}

TEST(Normalizer, MarksTakeLinearTime) { // else the time-out of the tests ends it
  EXPECT_EQ(composeUtf8(times(1'000'000, "\u0f73")).size(), 6'000'000u);
}

TEST(Normalizer, LowersEachCharacterByItself) {
  EXPECT_EQ(lowercaseUtf8("AZaz[ÀÞ×\u0100\u0101\u0178"), "azaz[àþ×\u0101\u0101ÿ");
  EXPECT_EQ(lowercaseUtf8("ΣΊΣ\u0130\u1e9e"), "σίσi\u0307ß") << "no final sigma";
  EXPECT_EQ(lowercaseUtf8("\u1c89\ua7cb"), "\u1c8a\u0264") << "new in Unicode 16";
  EXPECT_EQ(lowercaseUtf8("𐐀\U00016ea0"), "𐐨\U00016ebb") << "beyond the first plane, and in 17";
}

} // namespace
