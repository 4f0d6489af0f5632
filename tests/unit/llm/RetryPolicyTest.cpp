#include "kernelforge/llm/remote/RetryPolicy.h"

#include <gmock/gmock.h>

using namespace kernelforge;

namespace {

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
  EXPECT_EQ(wait({{"retry-after", "Sunday, 06-Nov-94 08:49:47 GMT"}}), 10);
  EXPECT_EQ(wait({{"retry-after", "Sun Nov  6 08:49:47 1994"}}), 10);
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
