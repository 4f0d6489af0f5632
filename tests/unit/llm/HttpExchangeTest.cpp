#include "kernelforge/llm/remote/RetryPolicy.h"

#include <gmock/gmock.h>

using namespace kernelforge;
using testing::HasSubstr;
using testing::Not;

namespace {

TEST(ServerAddress, Parts) {
  auto full = ServerAddress::parse("https://api.example.org:8443/inference/", "URL");
  ASSERT_TRUE(full);
  EXPECT_EQ(full->origin(), "https://api.example.org:8443");
  EXPECT_EQ(full->prefix, "/inference");
  auto plain = ServerAddress::parse("https://api.example.org", "URL");
  EXPECT_EQ(plain->origin(), "https://api.example.org:443");
  EXPECT_EQ(plain->prefix, "");
  for (const char *here : {"http://127.0.0.1:80", "http://localhost", "http://127.9.9.9/",
                           "http://[::1]:8080", "https://[2001:db8::1]"})
    EXPECT_TRUE(ServerAddress::parse(here, "URL")) << here;
  EXPECT_EQ(ServerAddress::parse("http://[::1]:8080", "URL")->origin(), "http://[::1]:8080");
}

TEST(ServerAddress, WhatIsNone) {
  for (const char *bad : {"",
                          "api.example.org",
                          "ftp://a",
                          "https://",
                          "https:///x",
                          "https://a:",
                          "https://a:0",
                          "https://a:65536",
                          "https://a:1x",
                          "https://u:secret@a",
                          "https://a?key=secret",
                          "https://a/#secret",
                          "https://a b",
                          "https://a\n",
                          "https://[::1",
                          "https://[::1]x",
                          "http://example.org",
                          "http://10.0.0.1",
                          "http://localhost.example.org",
                          "http://127.0.0.1.example.org"}) {
    auto address = ServerAddress::parse(bad, "URL");
    ASSERT_FALSE(address) << bad;
    EXPECT_EQ(address.error().kind, ErrorKind::Unusable);
    EXPECT_THAT(address.error().line(), HasSubstr("server address is not usable (URL)"));
    EXPECT_THAT(address.error().line(), Not(HasSubstr("secret")));
  }
}

HttpHead head(int status, std::vector<HttpHeader> headers = {}) { return {status, headers}; }

TEST(RetryPolicy, Statuses) {
  for (int status : {408, 409, 429, 500, 502, 503, 504, 599})
    EXPECT_TRUE(asksForRetry(head(status))) << status;
  for (int status : {302, 400, 401, 402, 403, 404, 422})
    EXPECT_FALSE(asksForRetry(head(status))) << status;
  EXPECT_TRUE(asksForRetry(head(400, {{"x-should-retry", "true"}})));
  EXPECT_FALSE(asksForRetry(head(500, {{"x-should-retry", "false"}})));
  EXPECT_TRUE(asksForRetry(head(500, {{"x-should-retry", "perhaps"}})));
}

TEST(RetryPolicy, WhatTheServerAsksFor) {
  constexpr std::time_t now = 784'111'777; // Sun, 06 Nov 1994 08:49:37 GMT
  auto wait = [](std::vector<HttpHeader> headers) {
    return requestedWait(head(429, headers), now);
  };
  EXPECT_EQ(wait({}), std::nullopt);
  EXPECT_EQ(wait({{"retry-after-ms", "1500"}, {"retry-after", "9"}}), 1.5);
  EXPECT_EQ(wait({{"retry-after-ms", "soon"}, {"retry-after", "9"}}), 9);
  EXPECT_EQ(wait({{"retry-after", "0.25"}}), 0.25);
  EXPECT_EQ(wait({{"retry-after", "Sun, 06 Nov 1994 08:49:47 GMT"}}), 10);
  EXPECT_EQ(wait({{"retry-after", "Sun, 06 Nov 1994 08:49:27 GMT"}}), 0);
  for (const char *bad : {"", "-1", "nan", "inf", "1e999", "7 s", "Sun, 06 Nov", "0x10"})
    EXPECT_EQ(wait({{"retry-after", bad}}), std::nullopt) << bad;
}

TEST(RetryPolicy, BacksOff) {
  EXPECT_EQ(backOff(0, 0), 0.5);
  EXPECT_EQ(backOff(1, 0), 1);
  EXPECT_EQ(backOff(4, 0), 8);
  EXPECT_EQ(backOff(1'000'000, 0), 8);
  EXPECT_EQ(backOff(1, 1), 0.75);
}

} // namespace
