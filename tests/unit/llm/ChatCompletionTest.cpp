#include "kernelforge/llm/remote/ChatCompletion.h"
#include "kernelforge/llm/remote/SseParser.h"

#include <gmock/gmock.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

// As it was recorded: fields in this order, null ones left out, no [DONE].
const std::string recorded =
    R"(data: {"id":"chatcmpl-1","choices":[{"delta":{"role":"assistant"},"index":0}],"created":1,"model":"m","system_fingerprint":"fp_1","object":"chat.completion.chunk"}

data: {"id":"chatcmpl-1","choices":[{"delta":{"content":"Oi, \u00e9 "},"index":0}],"created":1,"model":"m","system_fingerprint":"fp_1","object":"chat.completion.chunk"}

data: {"id":"chatcmpl-1","choices":[{"delta":{},"index":0}],"created":1,"model":"m","system_fingerprint":"fp_1","object":"chat.completion.chunk"}

data: {"id":"chatcmpl-1","choices":[{"delta":{"content":")"
    "\xE4\xBD\xA0\xF0\x9F\x98\x80"
    R"("},"index":0}],"created":1,"model":"m","system_fingerprint":"fp_1","object":"chat.completion.chunk"}

data: {"id":"chatcmpl-1","choices":[{"delta":{},"finish_reason":"stop","index":0}],"created":1,"model":"m","system_fingerprint":"fp_1","object":"chat.completion.chunk","usage":{"total_tokens":12,"completion_tokens":4,"prompt_tokens":8},"time_info":{"queue_time":0.0001,"prompt_time":0.002,"completion_time":0.004,"total_time":0.007,"created":1.5}}

)";

Expected<Completion> streamed(const std::vector<std::string> &parts) {
  CompletionReader reader("server");
  SseParser parser("server");
  auto take = [&](const SseEvent &event) { return reader.readEvent(event); };
  for (const std::string &part : parts)
    KF_CHECK(parser.feed(part, take));
  KF_CHECK(parser.finish(take));
  KF_CHECK(reader.finish());
  return reader.completion();
}

TEST(ChatCompletion, AStreamSplitAtEachByteGivesTheSameText) {
  for (size_t i = 0; i <= recorded.size(); ++i) {
    const auto c = streamed({recorded.substr(0, i), recorded.substr(i)});
    ASSERT_TRUE(c) << i << ": " << c.error().line();
    EXPECT_EQ(c->text, "Oi, \xC3\xA9 \xE4\xBD\xA0\xF0\x9F\x98\x80") << i;
    EXPECT_EQ(c->finishReason, "stop");
    EXPECT_EQ(c->promptTokens, 8);
    EXPECT_EQ(c->completionTokens, 4);
    EXPECT_EQ(c->times.completion, 0.004);
  }
}

TEST(ChatCompletion, WhatKeepsAStreamAliveSaysNothing) {
  for (const std::string alive :
       {": ping\n\n", "\n\n", "data:\n\n", "data: \n\n", "data:  \ndata:\n\n", "event: ping\n\n",
        "event: ping\ndata: ping\n\n", "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        "event: heartbeat\ndata:\n\n", "retry: 3000\n\n", "event: ping\ndata: null\n\n"}) {
    std::string stream = alive;
    for (size_t begin = 0; begin < recorded.size();) {
      const size_t end = recorded.find("\n\n", begin) + 2;
      stream += recorded.substr(begin, end - begin) + alive;
      begin = end;
    }
    const auto c = streamed({stream});
    ASSERT_TRUE(c) << alive << c.error().line();
    EXPECT_EQ(c->text, "Oi, \xC3\xA9 \xE4\xBD\xA0\xF0\x9F\x98\x80") << alive;
  }
  EXPECT_FALSE(streamed({"data: ping\n\n" + recorded})); // an event of ours that is none
  EXPECT_TRUE(streamed({recorded + "data:  [DONE] \n\n"}));
}

TEST(ChatCompletion, AnEventNamedErrorIsOne) {
  for (const std::string data : {"overloaded", R"({"message": "overloaded", "code": "x"})",
                                 R"({"error": {"message": "overloaded"}})"}) {
    const auto c = streamed({"event: error\ndata: " + data + "\n\n" + recorded});
    ASSERT_FALSE(c) << data;
    EXPECT_THAT(c.error().line(), HasSubstr("it gave up half-way: overloaded")) << data;
  }
}

TEST(ChatCompletion, AStreamCutAnywhereIsAnError) {
  // Two bytes from its end nothing of it is missing but the empty line.
  for (size_t i = 0; i + 2 < recorded.size(); ++i)
    EXPECT_FALSE(streamed({recorded.substr(0, i)})) << i;
}

TEST(ChatCompletion, RequestsSayWhatIsWanted) {
  CompletionRequest request;
  request.model = "m";
  request.messages = {{"system", "s"}, {"user", "\xE4\xBD\xA0"}};
  request.maxTokens = 9;
  request.stream = false;
  EXPECT_EQ(toJson(request).dump(),
            R"({"max_completion_tokens":9,"messages":[{"content":"s","role":"system"},)"
            R"({"content":"你","role":"user"}],"model":"m","stream":false})");
}

TEST(ChatCompletion, ErrorsOfEveryShape) {
  auto line = [](int status, const std::string &body) {
    return errorOfStatus(status, body, "server").line();
  };
  EXPECT_EQ(
      line(401, R"({"message":"Wrong API Key","type":"t","param":"p","code":"wrong_api_key"})"),
      "server refused the request (server): 401 not authorised: Wrong API Key "
      "(wrong_api_key); check the key");
  EXPECT_THAT(line(403, R"({"detail":"Not authenticated"})"), HasSubstr("forbidden: Not auth"));
  EXPECT_THAT(line(422, R"({"detail":[{"msg":"a"},{"loc":["b"]},"c"]})"),
              HasSubstr(R"(: a; {"loc":["b"]}; "c")"));
  EXPECT_THAT(line(422, R"({"detail":{"x":1}})"), HasSubstr(R"({"x":1})"));
  EXPECT_THAT(line(500, R"({"error":{"message":"m","code":7}})"), HasSubstr(": m (7)"));
  EXPECT_THAT(line(500, R"({"error":"plain"})"), HasSubstr(": plain"));
  EXPECT_THAT(line(500, R"({"error":null,"message":null})"), HasSubstr("message"));
  EXPECT_THAT(line(404, ""), HasSubstr("404 not found; check the address"));
  EXPECT_THAT(line(418, "short and stout"), HasSubstr("418 refused: short and stout"));
  EXPECT_THAT(line(500, std::string(10'000, 'x')), HasSubstr("xxx ..."));
  EXPECT_LT(line(500, std::string(10'000, 'x')).size(), 700u);
  // Cut between characters.
  std::string wide = "x";
  while (wide.size() < 1000)
    wide += "\xE4\xBD\xA0";
  EXPECT_THAT(line(500, wide), HasSubstr("\xE4\xBD\xA0 ..."));
  EXPECT_THAT(line(0, R"({"error":{"message":"m"}})"), HasSubstr("it gave up half-way: m"));
}

TEST(ChatCompletion, BodiesThatAreNone) {
  for (const char *body :
       {"", "{", "[]", "7", R"({"choices":{}})", R"({"choices":[]})", R"({"choices":[7]})",
        R"({"choices":[{"message":7}]})", R"({"choices":[{"message":{"content":7}}]})",
        R"({"choices":[{}],"usage":{"prompt_tokens":-1}})",
        R"({"choices":[{}],"usage":{"prompt_tokens":1e99}})",
        R"({"choices":[{}],"time_info":{"queue_time":"now"}})"}) {
    CompletionReader reader("server");
    Status status = reader.readBody(body);
    ASSERT_FALSE(status) << body;
    EXPECT_THAT(status.error().line(), HasSubstr("answer is not usable (server"));
  }
}

} // namespace
