#include "kernelforge/llm/PreTokenizer.h"

#include <gmock/gmock.h>
#include <string>
#include <vector>

using namespace kernelforge;
using testing::ElementsAre;

namespace {

std::vector<std::string> pieces(std::string_view kind, std::string_view text) {
  std::vector<std::string> out;
  PreTokenScanner scanner(*PreTokenizer::byName(kind, "").value(), text);
  for (std::string_view piece; scanner.next(piece);)
    out.emplace_back(piece);
  return out;
}
std::vector<std::string> gpt2(std::string_view text) { return pieces("gpt2", text); }
std::vector<std::string> smollm(std::string_view text) { return pieces("smollm", text); }

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

TEST(PreTokenizer, ContractionsOfAnyCase) {
  EXPECT_THAT(pieces("llama3", "I'M it'S they'Ll"),
              ElementsAre("I", "'M", " it", "'S", " they", "'Ll"));
  EXPECT_THAT(pieces("llama3", "x'\u017ft"), ElementsAre("x", "'\u017f", "t"));
  EXPECT_THAT(pieces("gpt4o", "don't DON'T"), ElementsAre("don't", " DON'T"));
  EXPECT_THAT(pieces("tekken", "don't"), ElementsAre("don", "'t"));
}

TEST(PreTokenizer, NumbersOfOneOrThreeDigits) {
  EXPECT_THAT(pieces("llama3", "12345 6"), ElementsAre("123", "45", " ", "6"));
  EXPECT_THAT(pieces("qwen2", "123"), ElementsAre("1", "2", "3"));
  EXPECT_THAT(pieces("deepseek", "a1234"), ElementsAre("a", "123", "4"));
}

TEST(PreTokenizer, WordsBeginWhereLettersBecomeLarge) {
  EXPECT_THAT(pieces("tekken", "camelCase HTMLParser Ab"),
              ElementsAre("camel", "Case", " HTMLParser", " Ab"));
  // Letters without case belong to both; what is taken for large is given back.
  EXPECT_THAT(pieces("tekken", "AB\u4e2dC"), ElementsAre("AB\u4e2d", "C"));
  EXPECT_THAT(pieces("gpt4o", "a/b\n/c"), ElementsAre("a", "/b", "\n", "/c"));
}

TEST(PreTokenizer, LineBreaksEndWhatIsBeforeThem) {
  EXPECT_THAT(pieces("llama3", "a;\n\n  b"), ElementsAre("a", ";\n\n", " ", " b"));
  EXPECT_THAT(pieces("llama3", "a \n \n b"), ElementsAre("a", " \n \n", " b"));
  EXPECT_THAT(pieces("llama3", "(x)\t(y)"), ElementsAre("(x", ")", "\t", "(y", ")"));
}

TEST(PreTokenizer, DeepSeekCutsNumbersThenKanaThenWords) {
  EXPECT_THAT(pieces("deepseek", "中文abc 1の"), ElementsAre("中文", "abc", " ", "1", "の"));
  EXPECT_THAT(pieces("deepseek", ".member e\u0301"), ElementsAre(".member", " e\u0301"));
}

/// Text that engines which go back and forth take for ever over.
TEST(PreTokenizer, LongRunsTakeLinearTime) {
  for (const char *kind : {"gpt2", "smollm", "llama3", "qwen2", "gpt4o", "tekken", "deepseek"})
    for (const char *run : {" ", "A", "a", "\u4e2d", "1", "'", "\u0301", "\t\u00a0"}) {
      std::string text;
      while (text.size() < 50000)
        text += run;
      for (const std::string &whole : {text + "\u20ac", "\u4e2d" + text + "x", "\n" + text}) {
        std::string together;
        for (const std::string &piece : pieces(kind, whole))
          together += piece;
        EXPECT_TRUE(together == whole) << kind << ", of " << run;
      }
    }
}

TEST(PreTokenizer, NamesAreChecked) {
  auto nameOf = [](std::string_view name) {
    return PreTokenizer::byName(name, "").value()->name();
  };
  EXPECT_EQ(nameOf("gpt-2"), "gpt2");
  EXPECT_EQ(nameOf("smollm"), "smollm");
  EXPECT_EQ(nameOf("llama-bpe"), "llama3");
  EXPECT_EQ(nameOf("gpt-4o"), "gpt4o");
  auto other = PreTokenizer::byName("no-such", "m.gguf");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().line(),
            "tokenizer is not usable (m.gguf): pre-tokenizer \"no-such\" is not supported; "
            "supported are gpt2, smollm, llama3, qwen2, gpt4o, tekken, deepseek");
  EXPECT_FALSE(PreTokenizer::byName("", ""));
  EXPECT_EQ(PreTokenizer::byExpressions(std::vector<std::string>{"\\s+"}), nullptr);
}

TEST(PreTokenizer, Classes) {
  EXPECT_EQ(charClass('a'), CharClass::LowerLetter);
  EXPECT_EQ(charClass('A'), CharClass::UpperLetter);
  EXPECT_EQ(charClass(0x4e2d), CharClass::OtherLetter);
  EXPECT_EQ(charClass('_'), CharClass::Punctuation);
  EXPECT_EQ(charClass('+'), CharClass::Symbol);
  EXPECT_EQ(charClass(0x301), CharClass::Mark);
  EXPECT_EQ(charClass(0x85), CharClass::Space);
  EXPECT_EQ(charClass(0x200B), CharClass::Other);
  EXPECT_EQ(charClass(0x2163), CharClass::Number);
  EXPECT_EQ(charClass(0), CharClass::Other);
  EXPECT_EQ(charClass(0x10FFFF), CharClass::Other);
}

} // namespace
