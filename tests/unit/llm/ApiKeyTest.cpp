#include "kernelforge/llm/remote/ApiKey.h"

#include <gmock/gmock.h>

using namespace kernelforge;
using testing::HasSubstr;
using testing::Not;

namespace {

constexpr const char *text = "csk-7hX2mQ9vKd4wTz8bNp6r";

std::string redacted(std::string_view shown) { return ApiKey::create(text, "KEY")->redact(shown); }

TEST(ApiKey, IsForOneHeader) {
  auto key = ApiKey::create(text, "KEY");
  ASSERT_TRUE(key);
  EXPECT_EQ(key->bearer(), std::string("Bearer ") + text);
  EXPECT_TRUE(ApiKey::create("abc.DEF_~+/123==", "KEY"));
}

TEST(ApiKey, WhatIsNoKeyIsNotShown) {
  EXPECT_EQ(ApiKey::create("", "KEY").error().kind, ErrorKind::Missing);
  for (const std::string &bad :
       {std::string(text) + "\n", std::string("Bearer ") + text, "\"" + std::string(text) + "\"",
        std::string("a=bcdefgh"), std::string("========"), std::string("short"),
        std::string(5000, 'k'), std::string("sk-\xC3\xA9-123456789"),
        std::string("with\0nul-1234", 13)}) {
    auto key = ApiKey::create(bad, "KEY");
    ASSERT_FALSE(key) << bad;
    EXPECT_EQ(key.error().kind, ErrorKind::Unusable);
    EXPECT_THAT(key.error().line(), HasSubstr("API key is not usable (KEY)"));
    EXPECT_THAT(key.error().line(), Not(HasSubstr(bad.substr(0, 6))));
  }
}

TEST(ApiKey, PiecesAreTakenOut) {
  EXPECT_EQ(redacted(""), "");
  EXPECT_EQ(redacted("nothing of it, but csk-7"), "nothing of it, but csk-7"); // five characters
  EXPECT_EQ(redacted("csk-7h"), "[key]");
  EXPECT_EQ(redacted("CSK-7HX"), "[key]"); // as a name of a header
  EXPECT_EQ(redacted(std::string("<") + text + ">"), "<[key]>");
  EXPECT_EQ(redacted("a X2mQ9vK b z8bNp6r c"), "a [key] b [key] c");
  EXPECT_EQ(redacted(std::string(text) + text), "[key]");
}

TEST(ApiKey, InHexadecimal) {
  EXPECT_EQ(redacted("63736b2d3768"), "[key]"); // "csk-7h"
  EXPECT_EQ(redacted("x63736B2D3768x"), "x[key]x");
  EXPECT_EQ(redacted("63736b2d37"), "63736b2d37");
}

TEST(ApiKey, InBase64AtAnyOffset) {
  EXPECT_EQ(redacted("Y3NrLTdo"), "[key]"); // "csk-7h"
  // "x" and "xx" before the key, whose first characters share one with them.
  EXPECT_EQ(redacted("eGNzay03aFgybVE="), "eG[key]="); // "xcsk-7hX2mQ"
  EXPECT_THAT(redacted("eHhjc2stN2hYMm1ROQ=="), HasSubstr("[key]"));
  // Either alphabet: "+~ff?>" has characters 62 and 63.
  const auto key = ApiKey::create("aaa+~/~/+~/~/bbb", "KEY");
  ASSERT_TRUE(key);
  EXPECT_EQ(key->redact("K34vfi8r"), "[key]"); // "+~/~/+"
  EXPECT_EQ(key->redact("fi8rfi9-"), "[key]"); // "~/+~/~"
}

TEST(ApiKey, PercentEncoded) {
  EXPECT_EQ(redacted("k=%63sk%2D7h&"), "k=[key]&");
  EXPECT_EQ(redacted("%63%73%6b%2d%37%68"), "[key]");
  EXPECT_EQ(redacted("100% csk-7 %zz"), "100% csk-7 %zz");
}

} // namespace
