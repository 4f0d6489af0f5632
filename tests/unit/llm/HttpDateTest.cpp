#include "kernelforge/llm/remote/HttpDate.h"

#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

constexpr std::time_t then = 784'111'777; // Sun, 06 Nov 1994 08:49:37 GMT

TEST(HttpDate, ItsThreeForms) {
  EXPECT_EQ(parseHttpDate("Sun, 06 Nov 1994 08:49:37 GMT"), then);
  EXPECT_EQ(parseHttpDate("Sunday, 06-Nov-94 08:49:37 GMT"), then);
  EXPECT_EQ(parseHttpDate("Sun Nov  6 08:49:37 1994"), then);
  EXPECT_EQ(parseHttpDate("Thu, 29 Feb 2024 23:59:60 GMT"), 1'709'251'200); // a leap second
  EXPECT_EQ(parseHttpDate("Thu Jan  1 00:00:00 1970"), 0);
  EXPECT_EQ(parseHttpDate("Wed, 31 Dec 1969 23:59:59 GMT"), -1);
}

TEST(HttpDate, AYearOfTwoDigitsIsOfAHundred) {
  EXPECT_EQ(parseHttpDate("Thursday, 01-Jan-26 00:00:00 GMT"), 1'767'225'600); // 2026
  EXPECT_EQ(parseHttpDate("Saturday, 01-Jan-77 00:00:00 GMT"), 220'924'800);   // 1977
}

TEST(HttpDate, WhatIsNone) {
  for (const char *bad : {"", "Sun", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 GMT ",
                          "Sun, 06 Nov 1994 08:49:37 UTC", "Son, 06 Nov 1994 08:49:37 GMT",
                          "Sun, 31 Nov 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
                          "Sun, 06 Nov 1994 24:00:00 GMT", "Sun, 06 Nov 1994 08:60:00 GMT",
                          "Sun, 06 Nov 1994 08:49:62 GMT", "Sun, 06 Nov -994 08:49:37 GMT",
                          "Sunday, 06-Nov-1994 08:49:37 GMT"})
    EXPECT_EQ(parseHttpDate(bad), std::nullopt) << bad;
}

} // namespace
