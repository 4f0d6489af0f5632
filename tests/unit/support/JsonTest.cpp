#include "kernelforge/support/Json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kernelforge {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// The error line of a text that must be refused.
std::string refusal(std::string_view text, const JsonLimits &limits = {}) {
  auto document = parseJson(text, "settings are not usable", "s.json", limits);
  return document ? "accepted" : document.error().line();
}

JsonDocument parsed(std::string_view text) {
  auto document = parseJson(text, "settings are not usable", "s.json");
  EXPECT_TRUE(document) << document.error().line();
  return std::move(*document);
}

template <typename T> std::string line(const Expected<T> &result) {
  return result ? "accepted" : result.error().line();
}

TEST(Json, ParsesEveryKindOfValue) {
  JsonDocument d = parsed(R"({"a": [1, -2, 2.5, true, null, "x\u00e9\ud83d\ude00"], "b": {}})");
  EXPECT_EQ(d.value().dump(), R"({"a":[1,-2,2.5,true,null,"xé😀"],"b":{}})");
}

TEST(Json, RefusesWhatIsNoJson) {
  for (std::string_view text : {"", "{", "[1,]", "{\"a\":}", "{a:1}", "nul", "[1] 2", "'a'",
                                "{\"a\":1,}", "// x\n1", "[01]", "[+1]", "[.5]", "\"a\nb\""})
    EXPECT_THAT(refusal(text), HasSubstr("not valid JSON at byte")) << text;
}

TEST(Json, RefusesNumbersThatAreNotFinite) {
  EXPECT_THAT(refusal("[NaN]"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal("[Infinity]"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal("[1e999]"), HasSubstr("overflow"));
  EXPECT_THAT(refusal("[-1e999]"), HasSubstr("overflow"));
}

TEST(Json, RefusesTextThatIsNoUtf8) {
  for (std::string_view text : {"\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xe2\x82\"",
                                "\"\\ud800\"", "{\"\xf5\": 1}"})
    EXPECT_THAT(refusal(text), HasSubstr("not valid JSON")) << text;
  EXPECT_EQ(refusal("\"\xff\"").find('\xff'), std::string::npos);
}

TEST(Json, RefusesDuplicateKeysInOneObjectOnly) {
  EXPECT_THAT(refusal(R"({"a": 1, "b": {"c": 1, "c": 2}})"), HasSubstr("\"c\" is there twice"));
  EXPECT_THAT(refusal(R"({"a": 1, "\u0061": 2})"), HasSubstr("\"a\" is there twice"));
  parsed(R"({"a": {"a": 1}, "b": {"a": 2}})");
}

TEST(Json, KeepsToItsLimits) {
  EXPECT_THAT(refusal("[1,2]", {.maxBytes = 4}), HasSubstr("5 bytes, at most 4"));
  EXPECT_THAT(refusal("[[[1]]]", {.maxDepth = 2}), HasSubstr("deeper than 2"));
  EXPECT_EQ(refusal("[[1],[2]]", {.maxDepth = 2}), "accepted");
  EXPECT_THAT(refusal(R"([{"a":1},{"b":2}])", {.maxKeys = 1}), HasSubstr("more than 1 keys"));
  EXPECT_THAT(refusal("[1,2,3]", {.maxValues = 3}), HasSubstr("more than 3 values"));
  EXPECT_THAT(refusal(std::string(1 << 20, '[')), HasSubstr("deeper than 64"));
}

TEST(Json, GettersReturnValues) {
  JsonDocument d =
      parsed(R"({"i": -3, "n": 2.5, "b": true, "s": "x", "l": [1, 2], "o": {"k": 4}})");
  JsonView root = d.root();
  EXPECT_EQ(*root.integer("i", -3, 5), -3);
  EXPECT_EQ(*root.number("n", 0, 2.5), 2.5);
  EXPECT_EQ(*root.number("i", -3, 0), -3.0);
  EXPECT_EQ(*root.boolean("b"), true);
  EXPECT_EQ(*root.string("s", 1), "x");
  EXPECT_EQ(*(*root.array("l", 2))[1].asInteger(0, 9), 2);
  EXPECT_EQ(*root.object("o")->integer("k", 0, 9), 4);
  EXPECT_EQ(root.members()->size(), 6u);
  EXPECT_FALSE(root.has("absent"));
}

TEST(Json, AbsentAndNullGiveTheFallback) {
  JsonDocument d = parsed(R"({"null": null, "i": 7})");
  JsonView root = d.root();
  EXPECT_EQ(*root.integerOr("absent", 0, 5, 4), 4);
  EXPECT_EQ(*root.integerOr("null", 0, 5, 4), 4);
  EXPECT_EQ(*root.numberOr("null", 0, 5, 1.5), 1.5);
  EXPECT_EQ(*root.booleanOr("null", true), true);
  EXPECT_EQ(*root.stringOr("null", 9, "x"), "x");
  EXPECT_FALSE(root.integerOr("i", 0, 5, 4));
  EXPECT_THAT(line(root.integer("null", 0, 5)), HasSubstr("field null): is null"));
  EXPECT_THAT(line(root.integer("absent", 0, 5)), HasSubstr("field absent): is missing"));
}

TEST(Json, GetterErrorsNameFileFieldValueAndLimit) {
  JsonDocument d =
      parsed(R"({"a": {"i": 9, "f": 1.0, "u": 18446744073709551615, "s": "long", "l": [1, "x"]}})");
  JsonView view = *d.root().object("a");
  EXPECT_EQ(line(view.integer("i", 1, 8)),
            "settings are not usable (s.json, field a.i): is 9, must be an integer from 1 to 8");
  EXPECT_THAT(line(view.integer("f", 1, 8)), HasSubstr("is 1.0, must be an integer"));
  EXPECT_THAT(line(view.integer("u", 0, INT64_MAX)), HasSubstr("is 18446744073709551615"));
  EXPECT_THAT(line(view.number("s", 0, 1)), HasSubstr("is \"long\", must be a number"));
  EXPECT_THAT(line(view.number("i", 0, 1)), HasSubstr("is 9, must be from 0 to 1"));
  EXPECT_THAT(line(view.boolean("i")), HasSubstr("must be true or false"));
  EXPECT_THAT(line(view.string("i", 9)), HasSubstr("must be a string"));
  EXPECT_THAT(line(view.string("s", 3)), HasSubstr("has 4 bytes, at most 3"));
  EXPECT_THAT(line(view.array("l", 1)), HasSubstr("has 2 elements, at most 1"));
  EXPECT_THAT(line(view.array("i", 1)), HasSubstr("must be an array"));
  EXPECT_THAT(line(view.object("l")), HasSubstr("is an array, must be an object"));
  EXPECT_THAT(line((*view.array("l", 2))[1].asInteger(0, 1)),
              AllOf(HasSubstr("field a.l[1]"), HasSubstr("is \"x\"")));
  EXPECT_THAT(line((*view.array("l", 2))[0].integer("x", 0, 1)),
              HasSubstr("is a number, must be an object"));
}

} // namespace
} // namespace kernelforge
