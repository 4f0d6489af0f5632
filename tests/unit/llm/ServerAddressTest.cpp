#include "kernelforge/llm/remote/ServerAddress.h"

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

} // namespace
