#include "kernelforge/llm/PreTokenizer.h"

#include <gmock/gmock.h>
#include <string>
#include <vector>

using namespace kernelforge;
using testing::ElementsAre;

namespace {

std::vector<std::string> pieces(PreTokenizer kind, std::string_view text) {
  std::vector<std::string> out;
  PreTokenScanner scanner(kind, text);
  for (std::string_view piece; scanner.next(piece);)
    out.emplace_back(piece);
  return out;
}
std::vector<std::string> gpt2(std::string_view text) { return pieces(PreTokenizer::Gpt2, text); }
std::vector<std::string> smollm(std::string_view text) {
  return pieces(PreTokenizer::SmolLm, text);
}

TEST(PreTokenizer, WordsTakeOneSpaceBefore) {
  EXPECT_THAT(gpt2("Hello world"), ElementsAre("Hello", " world"));
  EXPECT_THAT(gpt2("a  b"), ElementsAre("a", " ", " b"));
  EXPECT_THAT(gpt2("a \tb"), ElementsAre("a", " ", "\t", "b"));
  EXPECT_THAT(gpt2("a\n\nb "), ElementsAre("a", "\n", "\n", "b", " "));
  EXPECT_THAT(gpt2("x   "), ElementsAre("x", "   "));
  EXPECT_THAT(gpt2(""), ElementsAre());
}

TEST(PreTokenizer, ContractionsAreLowerCaseOnly) {
  EXPECT_THAT(gpt2("I'm they'LL"), ElementsAre("I", "'m", " they", "'", "LL"));
  EXPECT_THAT(gpt2("'re've'll'd's't"), ElementsAre("'re", "'ve", "'ll", "'d", "'s", "'t"));
  EXPECT_THAT(gpt2("'r 'v '"), ElementsAre("'", "r", " '", "v", " '"));
  EXPECT_THAT(gpt2(" 's"), ElementsAre(" '", "s"));
}

TEST(PreTokenizer, ClassesOfOtherScripts) {
  EXPECT_THAT(gpt2("é\u0301x ½ Ⅳ٣"), ElementsAre("é", "\u0301", "x", " ½", " Ⅳ٣"));
  EXPECT_THAT(gpt2("a\u00A0\u3000b"), ElementsAre("a", "\u00A0", "\u3000", "b"));
  EXPECT_THAT(gpt2("你好，世界"), ElementsAre("你好", "，", "世界"));
}

TEST(PreTokenizer, SmolLmTakesEveryNumberAlone) {
  EXPECT_THAT(gpt2(" 123a"), ElementsAre(" 123", "a"));
  EXPECT_THAT(smollm(" 123a"), ElementsAre(" ", "1", "2", "3", "a"));
  // A stretch between numbers ends as a text ends: its white space stays together.
  EXPECT_THAT(smollm("a  1  b"), ElementsAre("a", "  ", "1", " ", " b"));
  EXPECT_THAT(smollm("½Ⅳ٣"), ElementsAre("½", "Ⅳ", "٣"));
  EXPECT_THAT(smollm("it's4's"), ElementsAre("it", "'s", "4", "'s"));
}

TEST(PreTokenizer, NamesAreChecked) {
  EXPECT_EQ(preTokenizerByName("gpt-2", ""), PreTokenizer::Gpt2);
  EXPECT_EQ(preTokenizerByName("smollm", ""), PreTokenizer::SmolLm);
  auto other = preTokenizerByName("llama-bpe", "m.gguf");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().line(),
            "tokenizer is not usable (m.gguf): pre-tokenizer \"llama-bpe\" is "
            "not supported; supported are gpt2 and smollm");
  EXPECT_FALSE(preTokenizerByName("", ""));
}

TEST(PreTokenizer, Classes) {
  EXPECT_EQ(charClass('a'), CharClass::Letter);
  EXPECT_EQ(charClass('_'), CharClass::Other);
  EXPECT_EQ(charClass(0x85), CharClass::Space);
  EXPECT_EQ(charClass(0x200B), CharClass::Other);
  EXPECT_EQ(charClass(0x2163), CharClass::Number);
  EXPECT_EQ(charClass(0), CharClass::Other);
  EXPECT_EQ(charClass(0x10FFFF), CharClass::Other);
}

} // namespace
