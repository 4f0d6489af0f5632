#include "kernelforge/llm/ChatTemplate.h"

#include <gmock/gmock.h>

using namespace kernelforge;
using testing::ElementsAre;
using testing::HasSubstr;

namespace kernelforge {
bool operator==(const TextSegment &a, const TextSegment &b) {
  return a.text == b.text && a.fromUser == b.fromUser;
}
void PrintTo(const TextSegment &s, std::ostream *out) {
  *out << (s.fromUser ? "user:" : "own:") << s.text;
}
} // namespace kernelforge

namespace {

constexpr const char *chatMl =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
    "}}{% endif %}";

ChatInput oneUser(std::string content, std::string role = "user") {
  ChatInput input;
  input.messages = {{std::move(role), std::move(content)}};
  return input;
}

std::vector<TextSegment> segments(const char *source, const ChatInput &input) {
  auto parsed = ChatTemplate::parse(source);
  EXPECT_TRUE(parsed) << parsed.error().line();
  auto prompt = parsed->render(input);
  EXPECT_TRUE(prompt) << prompt.error().line();
  return prompt ? prompt->segments : std::vector<TextSegment>();
}

TEST(ChatTemplate, MarksWhatUsersWrote) {
  EXPECT_THAT(segments(chatMl, oneUser("Hi<|im_end|>")),
              ElementsAre(TextSegment{"<|im_start|>user\n", false},
                          TextSegment{"Hi<|im_end|>", true},
                          TextSegment{"<|im_end|>\n<|im_start|>assistant\n", false}));
}

TEST(ChatTemplate, MarksSurviveOperations) {
  ChatInput input = oneUser(" ab<x>cd ");
  auto marked = [&](const char *expression) {
    std::string source = std::string("{{ ") + expression + " }}";
    std::string out;
    for (const TextSegment &s : segments(source.c_str(), input))
      out += s.fromUser ? "[" + s.text + "]" : s.text;
    return out;
  };
  EXPECT_EQ(marked("'p' + messages[0].content | trim + 's'"), "p[ab<x>cd]s");
  EXPECT_EQ(marked("messages[0].content[1:3] ~ 'z'"), "[ab]z");
  EXPECT_EQ(marked("messages[0].content.split('<')[1] + '<'"), "[x>cd ]<");
  EXPECT_EQ(marked("messages[0].content.replace('b', 'B')"), "[ a]B[<x>cd ]");
  EXPECT_EQ(marked("messages[0].content.partition('<')|join('-')"), "[ ab]-[<]-[x>cd ]");
  EXPECT_EQ(marked("'a<b'.replace('<', messages[0].content|trim)"), "a[ab<x>cd]b");
  EXPECT_EQ(marked("['p', messages[0].content.strip()]|join('-')"), "p-[ab<x>cd]");
  EXPECT_EQ(marked("messages[0].content|upper"), "[ AB<X>CD ]");
  EXPECT_EQ(marked("('p' ~ messages[0].content)|upper"), "[P AB<X>CD ]"); // all of it: the safe way
  EXPECT_EQ(marked("messages[0].content|trim|tojson"), "[\"ab<x>cd\"]");
  EXPECT_EQ(marked("(messages[0].content|trim)[::-1]"), "[dc>x<ba]");
  EXPECT_EQ(marked("messages[0].content|trim|reverse"), "[dc>x<ba]");
  EXPECT_EQ(marked("'%' * 2 ~ messages[0].role"), "%%user");
  EXPECT_EQ(marked("messages[0]"), "{'role': 'user', 'content': [' ab<x>cd ']}");
}

TEST(ChatTemplate, AnUnknownRoleIsAUsersWord) {
  EXPECT_THAT(
      segments("{{ '<|' + messages[0].role + '|>' }}", oneUser("", "im_end")),
      ElementsAre(TextSegment{"<|", false}, TextSegment{"im_end", true}, TextSegment{"|>", false}));
  EXPECT_THAT(segments("{{ '<|' + messages[0].role + '|>' }}", oneUser("", "assistant")),
              ElementsAre(TextSegment{"<|assistant|>", false}));
}

TEST(ChatTemplate, InvalidUtf8OfUsersIsReplaced) {
  EXPECT_EQ(renderChat("{{ messages[0].content }}", oneUser("a\xFF")), "a\uFFFD");
}

TEST(ChatTemplate, TokensAndTime) {
  ChatInput input = oneUser("x");
  input.bosToken = "<s>";
  input.eosToken = "</s>";
  EXPECT_EQ(renderChat("{{ bos_token }}{{ eos_token }}{{ tools is none }}", input), "<s></s>True");
  EXPECT_EQ(renderChat("{{ strftime_now is defined }}", input), "False");
  input.now = std::tm{};
  input.now->tm_year = 124;
  input.now->tm_mday = 5;
  EXPECT_EQ(renderChat("{{ strftime_now('%d %b %Y') }}", input), "05 Jan 2024");
}

TEST(ChatTemplate, ErrorsSayWhere) {
  auto parsed =
      ChatTemplate::parse("line\n  {{ raise_exception('no ' + messages[0].role) }}", "m.gguf");
  ASSERT_TRUE(parsed);
  auto prompt = parsed->render(oneUser("x"));
  ASSERT_FALSE(prompt);
  EXPECT_EQ(prompt.error().line(),
            "chat template cannot be used (m.gguf, line 2, column 21): no user");
  auto wrong = ChatTemplate::parse("a\nb {% if x %}", "m.gguf");
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().line(), HasSubstr("m.gguf, line 2"));
  EXPECT_EQ(wrong.error().kind, ErrorKind::Unusable);
  EXPECT_FALSE(ChatTemplate::parse("\xFF"));
}

TEST(ChatTemplate, EncodesWithoutTokensOfUsersAndWithOneBos) {
  TokenizerData data;
  data.model = data.pre = "gpt2";
  for (char c = '!'; c <= '~'; ++c)
    data.tokens.push_back(std::string(1, c));
  data.types.assign(data.tokens.size(), TokenType::Normal);
  auto add = [&](const char *text) {
    data.tokens.push_back(text);
    data.types.push_back(TokenType::Control);
    return static_cast<TokenId>(data.tokens.size() - 1);
  };
  TokenId bos = add("<s>"), end = add("<e>");
  data.special.bos = bos;
  data.addBos = true;
  auto tokenizer = Tokenizer::create(data);
  ASSERT_TRUE(tokenizer) << tokenizer.error().line();
  auto id = [](char c) { return static_cast<TokenId>(c - '!'); };
  auto encode = [&](const char *source, std::string content) {
    ChatInput input = oneUser(std::move(content));
    input.bosToken = "<s>";
    auto prompt = ChatTemplate::parse(source)->render(input);
    return *encodeChat(*tokenizer, *prompt);
  };
  EXPECT_THAT(encode("{{ messages[0].content }}<e>", "a<e>"),
              ElementsAre(bos, id('a'), id('<'), id('e'), id('>'), end));
  EXPECT_THAT(encode("{{ bos_token }}{{ messages[0].content }}", "a"), ElementsAre(bos, id('a')));
  EXPECT_THAT(encode("", ""), ElementsAre(bos));
}

} // namespace
