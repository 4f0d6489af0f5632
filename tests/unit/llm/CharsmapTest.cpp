#include "kernelforge/llm/Charsmap.h"
#include "kernelforge/llm/TextNormalizer.h"

#include <cstring>
#include <gmock/gmock.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

/// A unit of the double array: what leads to it, where its children are, whether it has a value.
uint32_t unit(char label, uint32_t offset, bool hasValue = false) {
  return offset << 10 | uint32_t(hasValue) << 8 | static_cast<uint8_t>(label);
}
uint32_t value(uint32_t place) { return place | 1u << 31; }

/// A table of "a" -> "x" and "ab" -> "", written by hand: the root's children lie around 0x100.
struct Table {
  std::vector<uint32_t> units = std::vector<uint32_t>(0x400, 0);
  std::string texts = std::string("x\0\0", 3);

  Table() {
    units[0] = unit(0, 0x100);
    const uint32_t a = 0x100 ^ 'a';
    units[a] = unit('a', a ^ 0x200, true); // its children lie around 0x200
    units[0x200] = value(0);
    const uint32_t ab = 0x200 ^ 'b';
    units[ab] = unit('b', ab ^ 0x300, true);
    units[0x300] = value(2);
  }
  std::string bytes(std::optional<uint32_t> size = {}) const {
    const auto count = size.value_or(static_cast<uint32_t>(units.size() * 4));
    std::string out(4 + units.size() * 4, '\0');
    std::memcpy(out.data(), &count, 4);
    std::memcpy(out.data() + 4, units.data(), units.size() * 4);
    return out + texts;
  }
  std::shared_ptr<const Charsmap> read() const {
    auto map = Charsmap::read(bytes());
    EXPECT_TRUE(map) << map.error();
    return map ? *map : nullptr;
  }
  std::string refusal() const {
    auto map = Charsmap::read(bytes());
    return map ? "accepted" : map.error();
  }
};

TEST(Charsmap, FindsTheLongestAndTheShortest) {
  auto map = Table().read();
  ASSERT_TRUE(map);
  EXPECT_EQ(map->longest("abc").length, 2);
  EXPECT_EQ(map->longest("abc").replacement, "");
  EXPECT_EQ(map->shortest("abc").length, 1);
  EXPECT_EQ(map->shortest("abc").replacement, "x");
  EXPECT_EQ(map->longest("ac").replacement, "x");
  for (std::string_view text :
       {std::string_view("b"), std::string_view(), std::string_view("\0a", 2)})
    EXPECT_EQ(map->longest(text).length, 0);
}

TEST(Charsmap, IsUsedByBothNormalizers) {
  NormalizerStep step;
  step.charsmap = Table().read();
  auto apply = [&](NormalizerStep::Kind kind, std::string_view text) {
    step.kind = kind;
    size_t ignored = 0;
    return TextNormalizer({step}, PieceSet(), /*tracksFirst=*/false).apply(text, {}, ignored);
  };
  EXPECT_EQ(apply(NormalizerStep::Kind::SentencePiece, "cab ba"), "c▁bx");
  EXPECT_EQ(apply(NormalizerStep::Kind::Charsmap, "cab ba"), "cxb bx") << "one grapheme at a time";
}

TEST(Charsmap, IsCheckedBeforeUse) {
  auto refused = [](auto change) {
    Table table;
    change(table);
    return table.refusal();
  };
  EXPECT_THAT(Charsmap::read("ab").error(), HasSubstr("has 2 bytes"));
  for (uint32_t size : {0u, 6u, 0x1004u + 4, UINT32_MAX - 3})
    EXPECT_THAT(Charsmap::read(Table().bytes(size)).error(), HasSubstr("its trie has")) << size;
  EXPECT_THAT(Charsmap::read(std::string(Charsmap::maxBytes + 1, 'a')).error(),
              HasSubstr("more than"));
  EXPECT_THAT(refused([](Table &t) { t.texts = "xy"; }), HasSubstr("ends without a NUL"));
  EXPECT_THAT(refused([](Table &t) { t.texts.clear(); }), HasSubstr("ends without a NUL"));
  EXPECT_THAT(refused([](Table &t) { t.texts[0] = '\xff'; }), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(refused([](Table &t) { t.units[0x300] = value(3); }),
              HasSubstr("points to byte 3 of the 3 bytes"));
  EXPECT_THAT(refused([](Table &t) {
                t.texts = "é";
                t.texts.push_back('\0');
                t.units[0x300] = value(1);
              }),
              HasSubstr("points to byte 1"));
  EXPECT_THAT(refused([](Table &t) { t.units[0x300] = 0; }), HasSubstr("has no value where"));
  EXPECT_THAT(refused([](Table &t) { t.units[0x200 ^ 'b'] = unit('b', 0x1fffff, true); }),
              HasSubstr("has no value where"));
  EXPECT_THAT(refused([](Table &t) {
                t.texts = std::string(300, 'x');
                t.texts.push_back('\0');
              }),
              HasSubstr("has a text of 300 bytes"));
  // "b" leads back to where "b" is.
  EXPECT_THAT(refused([](Table &t) { t.units[0x200 ^ 'b'] = unit('b', 'b'); }),
              HasSubstr("strings without an end"));
}

TEST(Charsmap, StringsMayShareTheirEnds) {
  Table table; // "cb" -> "", by the node of "ab"
  const uint32_t c = 0x100 ^ 'c';
  table.units[c] = unit('c', c ^ 0x200, true);
  auto map = table.read();
  ASSERT_TRUE(map);
  EXPECT_EQ(map->longest("cb").length, 2);
}

} // namespace
