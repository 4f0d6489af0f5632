#include "kernelforge/support/Numbers.h"

#include <cstdint>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

TEST(Numbers, IntegersAreDecimal) {
  EXPECT_EQ(parseInteger<int>("0"), 0);
  EXPECT_EQ(parseInteger<int>("-17"), -17);
  EXPECT_EQ(parseInteger<int>("010"), 10) << "leading zeros mean nothing";
  EXPECT_EQ(parseInteger<int64_t>("9223372036854775807"), INT64_MAX);
  EXPECT_EQ(parseInteger<uint64_t>("18446744073709551615"), UINT64_MAX);
}

TEST(Numbers, WhatIsNoIntegerIsRefused) {
  for (const char *text : {"", " ", "-", "+1", " 1", "1 ", "1x", "0x10", "1.0", "1e3", "nan", "inf",
                           "99999999999999999999", "-99999999999999999999", "1,000"})
    EXPECT_FALSE(parseInteger<int64_t>(text)) << text;
  EXPECT_FALSE(parseInteger<uint64_t>("-1")) << "it would be 2^64 - 1";
  EXPECT_FALSE(parseInteger<int32_t>("4294967297")) << "it would be 1";
}

TEST(Numbers, LimitsAreInclusiveAndShown) {
  EXPECT_EQ(parseInteger<int>("1", 1, 1024), 1);
  EXPECT_EQ(parseInteger<int>("1024", 1, 1024), 1024);
  EXPECT_FALSE(parseInteger<int>("0", 1, 1024));
  EXPECT_EQ(parseInteger<int>("1025", 1, 1024).error(), "'1025' is no integer from 1 to 1,024");
  EXPECT_EQ(parseInteger<uint64_t>("x", 0).error(),
            "'x' is no integer from 0 to 18,446,744,073,709,551,615");
}

TEST(Numbers, NumbersAreFiniteAndWithinLimits) {
  EXPECT_EQ(parseNumber("0.25", 0, 1), 0.25);
  EXPECT_EQ(parseNumber("1e-3", 0.001, 10), 0.001);
  EXPECT_EQ(parseNumber("10", 0.001, 10), 10);
  for (const char *text : {"", "nan", "-nan", "inf", "-inf", "infinity", "1e400", "0x1p1", "1x",
                           " 1", "1 ", "+1", "-1", "11", "0", "."})
    EXPECT_FALSE(parseNumber(text, 0.001, 10)) << text;
  EXPECT_EQ(parseNumber("nan", 1e-6, 3600).error(), "'nan' is no number from 0.000001 to 3,600");
}

TEST(Numbers, AreShownAsPeopleWriteThem) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1000), "1,000");
  EXPECT_EQ(grouped(-123456), "-123,456");
  EXPECT_EQ(grouped(INT64_MAX), "9,223,372,036,854,775,807");
  EXPECT_EQ(writtenOut(0), "0");
  EXPECT_EQ(writtenOut(0.5), "0.5");
  EXPECT_EQ(writtenOut(1e6), "1,000,000");
  EXPECT_EQ(writtenOut(1234.5678), "1,234.5678");
}

TEST(Numbers, ComplaintsAreShortAndSafe) {
  const std::string error = parseInteger<int>(std::string(1000, '\x1b'), 0, 1).error();
  EXPECT_LT(error.size(), 300u);
  EXPECT_EQ(error.find('\x1b'), std::string::npos);
}

} // namespace
