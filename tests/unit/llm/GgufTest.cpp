#include "ModelWriters.h"

#include "kernelforge/llm/Gguf.h"

#include <functional>

namespace kernelforge {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::MatchesRegex;

constexpr uint64_t huge = uint64_t{1} << 63;

std::string refusal(const std::string &file) { return line(parseGguf(asBytes(file), "f.gguf")); }

/// The error after a change to a sound file.
std::string refusal(const std::function<void(GgufWriter &)> &change) {
  GgufWriter writer = tinyGguf();
  change(writer);
  return refusal(writer.build());
}

TEST(Gguf, ReadsMetadataAndTensors) {
  GgufWriter writer = tinyGguf();
  writer.put("x.u64", 10, raw<uint64_t>(UINT64_MAX));
  writer.put("x.i8", 1, raw<int8_t>(-5));
  writer.put("x.f64", 12, raw<double>(0.1));
  writer.array<uint8_t>("x.list", 0, {1, 2, 255});
  for (uint32_t version : {2u, 3u}) {
    writer.version = version;
    const std::string file = writer.build();
    auto gguf = parseGguf(asBytes(file), "f.gguf");
    ASSERT_TRUE(gguf) << line(gguf);
    EXPECT_EQ(gguf->version, version);
    EXPECT_EQ(gguf->alignment, 32u);
    const GgufMetadata &m = gguf->metadata;
    EXPECT_EQ(*m.integer("llama.block_count", 1, 9), 1);
    EXPECT_EQ(*m.integer("x.i8", -5, 0), -5);
    EXPECT_EQ(*m.number("x.f64", 0, 1), 0.1);
    EXPECT_EQ(*m.string("general.architecture", 9), "llama");
    EXPECT_THAT(**m.strings("tokenizer.ggml.tokens", 9),
                ElementsAre("<s>", "</s>", "a", "b", "ab"));
    EXPECT_THAT(**m.integers("x.list", 0, 255), ElementsAre(1, 2, 255));
    EXPECT_EQ(*m.integer("absent", 0, 9), std::nullopt);

    ASSERT_EQ(gguf->tensors.size(), 11u);
    const StoredTensor *k = gguf->tensors.find("blk.0.attn_k.weight");
    ASSERT_TRUE(k);
    EXPECT_THAT(k->shape, ElementsAre(4, 8)); // the file has the innermost dimension first
    EXPECT_EQ(k->type, ElementType::F32);
    EXPECT_EQ(k->bytes.size(), 128u);
    float first;
    std::memcpy(&first, gguf->tensors.find("token_embd.weight")->bytes.data(), 4);
    EXPECT_EQ(first, 0.5f);
  }
}

TEST(Gguf, TypedReadsRefuseOtherTypesAndValues) {
  GgufWriter writer;
  writer.u32("u", 7);
  writer.put("big", 10, raw<uint64_t>(UINT64_MAX));
  writer.f32("f", 2.5f);
  writer.f32("nan", std::nanf(""));
  writer.boolean("b", 1);
  writer.string("s", "text");
  writer.string("bad", "\xff");
  writer.strings("ss", {"a", "\xc0\x80"});
  writer.array<float>("fs", 6, {1.0f, INFINITY});
  writer.array<int32_t>("is", 5, {1, -1});
  const std::string file = writer.build();
  auto gguf = parseGguf(asBytes(file), "f.gguf");
  ASSERT_TRUE(gguf) << line(gguf);
  const GgufMetadata &m = gguf->metadata;
  EXPECT_EQ(line(m.integer("u", 8, 9)),
            "model file is not usable (f.gguf, key u): is 7, must be an integer from 8 to 9");
  EXPECT_THAT(line(m.integer("big", 0, INT64_MAX)), HasSubstr("is 18446744073709551615"));
  EXPECT_THAT(line(m.integer("f", 0, 9)), HasSubstr("is 2.5, must be an integer"));
  EXPECT_THAT(line(m.integer("b", 0, 9)), HasSubstr("must be an integer"));
  EXPECT_THAT(line(m.integer("is", 0, 9)), HasSubstr("is an array of 2 values, each an i32"));
  EXPECT_EQ(*m.number("u", 0, 9), 7);
  EXPECT_THAT(line(m.number("u", 8, 9)), HasSubstr("is 7, must be a number from 8 to 9"));
  EXPECT_THAT(line(m.number("s", 0, 9)), HasSubstr("is a string, must be a number"));
  EXPECT_THAT(line(m.number("nan", 0, 9)), HasSubstr("is nan"));
  EXPECT_THAT(line(m.boolean("u")), HasSubstr("must be a bool"));
  EXPECT_THAT(line(m.string("u", 9)), HasSubstr("must be a string"));
  EXPECT_THAT(line(m.string("s", 3)), HasSubstr("has 4 bytes, at most 3"));
  EXPECT_THAT(line(m.string("bad", 9)), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(line(m.strings("s", 9)), HasSubstr("must be an array of strings"));
  EXPECT_THAT(line(m.strings("is", 9)), HasSubstr("must be an array of strings"));
  EXPECT_THAT(line(m.strings("ss", 9)), HasSubstr("element 1 is not valid UTF-8"));
  EXPECT_THAT(line(m.strings("ss", 0)), HasSubstr("element 0 has 1 bytes, at most 0"));
  EXPECT_THAT(line(m.integers("fs", 0, 9)), HasSubstr("must be an array of integers"));
  EXPECT_THAT(line(m.integers("ss", 0, 9)), HasSubstr("must be an array of integers"));
  EXPECT_THAT(line(m.integers("u", 0, 9)), HasSubstr("must be an array of integers"));
  EXPECT_THAT(line(m.integers("is", 0, 9)), HasSubstr("element 1 must be an integer from 0 to 9"));
}

TEST(Gguf, EveryPrefixIsRefused) {
  const std::string file = tinyGguf().build();
  for (size_t size = 0; size < file.size(); ++size) {
    // A copy of exactly that size, so that AddressSanitizer sees the first byte beyond it.
    const auto bytes = asBytes(file);
    const std::vector<std::byte> part(bytes.begin(), bytes.begin() + size);
    auto gguf = parseGguf(part, "f.gguf");
    ASSERT_FALSE(gguf) << size;
    ASSERT_EQ(gguf.error().kind, ErrorKind::Unusable);
  }
}

TEST(Gguf, EveryFlippedByteIsAnsweredByValue) {
  const std::string file = tinyGguf().build();
  const size_t head = file.find("output_norm") + 60;
  for (size_t at = 0; at < head; ++at)
    for (int bits : {0x01, 0x80, 0xff}) {
      std::string damaged = file;
      damaged[at] = static_cast<char>(damaged[at] ^ bits);
      auto gguf = parseGguf(asBytes(damaged), "f.gguf");
      if (!gguf) {
        ASSERT_EQ(gguf.error().kind, ErrorKind::Unusable);
      }
    }
}

TEST(Gguf, RefusesHeaders) {
  EXPECT_THAT(refusal([](auto &g) { g.magic = "GGML"; }), HasSubstr("magic): is not GGUF"));
  EXPECT_THAT(refusal([](auto &g) { g.version = 1; }), HasSubstr("is 1, supported are 2 and 3"));
  EXPECT_THAT(refusal([](auto &g) { g.version = 4; }), HasSubstr("is 4, supported are 2 and 3"));
  EXPECT_THAT(refusal([](auto &g) { g.version = 3u << 24; }), HasSubstr("big-endian"));
  for (uint64_t count : {uint64_t{100000}, huge, UINT64_MAX}) {
    EXPECT_THAT(refusal([&](auto &g) { g.tensorCount = count; }),
                HasSubstr("tensor count): is " + std::to_string(count)));
    EXPECT_THAT(refusal([&](auto &g) { g.entryCount = count; }),
                HasSubstr("metadata count): is " + std::to_string(count)));
  }
}

TEST(Gguf, RefusesEntries) {
  auto entry = [](const std::string &key, uint32_t type, const std::string &payload) {
    return refusal([&](GgufWriter &g) { g.entries.push_back({key, type, payload}); });
  };
  EXPECT_THAT(entry("", 4, raw(1u)), HasSubstr("metadata entry 15): is empty"));
  EXPECT_THAT(entry("\xff", 4, raw(1u)), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(entry(std::string(65536, 'k'), 4, raw(1u)), HasSubstr("at most 65535"));
  EXPECT_THAT(entry("llama.block_count", 4, raw(1u)), HasSubstr("block_count): is there twice"));
  EXPECT_THAT(entry("x", 13, raw(1u)), HasSubstr("value type 13"));
  EXPECT_THAT(entry("x", 7, raw<uint8_t>(2)), HasSubstr("bool with the value 2"));
  EXPECT_THAT(entry("x", 8, raw(huge)), HasSubstr("text of 9223372036854775808 bytes"));
  EXPECT_THAT(entry("x", 8, raw<uint64_t>(50'000'000)), HasSubstr("needs 50000000 bytes"));
  EXPECT_THAT(entry("x", 9, raw(9u) + raw<uint64_t>(1)), HasSubstr("array of arrays"));
  EXPECT_THAT(entry("x", 9, raw(77u) + raw<uint64_t>(1)), HasSubstr("value type 77"));
  EXPECT_THAT(entry("x", 9, raw(7u) + raw<uint64_t>(1) + "\x03"), HasSubstr("neither 0 nor 1"));
  for (uint32_t type : {0u, 5u, 8u, 12u}) // the last count makes bytes wrap to 0
    for (uint64_t count : {uint64_t{1000000}, huge, uint64_t{1} << 61})
      EXPECT_THAT(entry("x", 9, raw(type) + raw(count)),
                  HasSubstr("array of " + std::to_string(count)));
  EXPECT_THAT(entry("x", 9, raw(8u) + raw<uint64_t>(1) + raw(huge)), HasSubstr("text of"));
}

TEST(Gguf, RefusesAlignments) {
  for (uint32_t value : {0u, 4u, 48u, 131072u, 1u << 31})
    EXPECT_THAT(refusal([&](auto &g) { g.u32("general.alignment", value); }),
                HasSubstr("general.alignment): is " + std::to_string(value)));
  EXPECT_THAT(refusal([](auto &g) { g.string("general.alignment", "32"); }),
              HasSubstr("is a string, must be a u32"));
  EXPECT_EQ(refusal([](auto &g) {
              g.u32("general.alignment", 64);
              g.alignment = 64;
            }),
            "accepted");
}

TEST(Gguf, RefusesTensors) {
  auto tensor = [](auto &&change) {
    return refusal([&](GgufWriter &g) { change(g.tensor("blk.0.attn_q.weight")); });
  };
  EXPECT_THAT(tensor([](auto &t) { t.name = ""; }), HasSubstr("is empty"));
  EXPECT_THAT(tensor([](auto &t) { t.name = std::string(65, 'n'); }), HasSubstr("at most 64"));
  EXPECT_THAT(tensor([](auto &t) { t.name = "output_norm.weight"; }), HasSubstr("is there twice"));
  EXPECT_THAT(tensor([](auto &t) { t.dims = {}; }), HasSubstr("has 0 dimensions"));
  EXPECT_THAT(tensor([](auto &t) { t.dims = {8, 8, 1, 1, 1}; }), HasSubstr("has 5 dimensions"));
  EXPECT_THAT(tensor([](auto &t) { t.dims = {0, 8}; }), HasSubstr("dimension 0"));
  EXPECT_THAT(tensor([](auto &t) { t.dims = {huge, 8}; }), HasSubstr("9223372036854775808"));
  const uint64_t half = uint64_t{1} << 32;
  EXPECT_THAT(tensor([&](auto &t) { t.dims = {half, half}; }), HasSubstr("overflows 64 bits"));
  EXPECT_THAT(tensor([&](auto &t) { t.dims = {half, half / 4}; }), HasSubstr("overflows 64 bits"));
  EXPECT_THAT(tensor([](auto &t) { t.dims = {8, 9000}; }), HasSubstr("reach beyond"));
  EXPECT_THAT(tensor([](auto &t) { t.type = 99; }), HasSubstr("unknown type id 99"));
  for (uint32_t id : {4u, 5u, 31u, 32u, 33u, 36u, 37u, 38u})
    EXPECT_THAT(tensor([&](auto &t) { t.type = id; }), HasSubstr("removed type id"));
  EXPECT_THAT(tensor([](auto &t) { t.type = 2; }), HasSubstr("rows of 8 elements, q4_0"));
  EXPECT_THAT(tensor([](auto &t) { t.type = 6; }), HasSubstr("rows of 8 elements, q5_0"));
  EXPECT_THAT(tensor([](auto &t) { t.type = 12; }), HasSubstr("rows of 8 elements, q4_k"));
  EXPECT_THAT(tensor([](auto &t) { t.type = 14; }), HasSubstr("rows of 8 elements, q6_k"));
  EXPECT_THAT(tensor([](auto &t) { t.type = 21; }), HasSubstr("rows of 8 elements, IQ3_S"));
  EXPECT_THAT(tensor([](auto &t) { t.type = 39; }), HasSubstr("rows of 8 elements, mxfp4"));
  EXPECT_THAT(tensor([](auto &t) { t.offset = 33; }), HasSubstr("33 is no multiple"));
  EXPECT_THAT(tensor([](auto &t) { t.offset = 1 << 20; }), HasSubstr("reach beyond"));
  EXPECT_THAT(tensor([](auto &t) { t.offset = UINT64_MAX - 31; }), HasSubstr("reach beyond"));
  EXPECT_THAT(tensor([](auto &t) { t.offset = 64; }), HasSubstr("overlaps that of tensor"));
}

TEST(Gguf, EveryTensorsDataIsItsOwn) {
  // Each but the first over the one before it, whole or in part: one of them begins in the other.
  const size_t count = tinyGguf().tensors.size();
  for (size_t i = 1; i < count; ++i) {
    GgufWriter writer = tinyGguf();
    uint64_t before = 0; // where the data of tensor i - 1 begins
    for (size_t j = 0; j + 1 < i; ++j)
      before += (writer.tensors[j].data.size() + 31) / 32 * 32;
    writer.tensors[i].offset = before;
    EXPECT_THAT(refusal(writer.build()), testing::AllOf(HasSubstr("overlaps that of tensor"),
                                                        HasSubstr(writer.tensors[i].name),
                                                        HasSubstr(writer.tensors[i - 1].name)));
  }
}

TEST(Gguf, ForeignTypesAreListedWithTheirSize) {
  GgufWriter writer;
  writer.tensors.push_back({"k", {256, 2}, 21, std::string(220, '\0')});
  const std::string file = writer.build();
  auto gguf = parseGguf(asBytes(file), "f.gguf");
  ASSERT_TRUE(gguf) << line(gguf);
  EXPECT_EQ(gguf->tensors[0].type, std::nullopt);
  EXPECT_EQ(gguf->tensors[0].typeName, "IQ3_S");
  EXPECT_EQ(gguf->tensors[0].bytes.size(), 220u);
}

TEST(Gguf, EveryTypeOfTheTableIsRead) {
  GgufWriter writer;
  for (const ElementTypeInfo &t : elementTypes())
    if (t.ggmlId >= 0)
      writer.tensors.push_back({std::string(t.name),
                                {256, 2},
                                static_cast<uint32_t>(t.ggmlId),
                                std::string(2 * *rowBytes(t.type, 256), '\1')});
  const std::string file = writer.build();
  auto gguf = parseGguf(asBytes(file), "f.gguf");
  ASSERT_TRUE(gguf) << line(gguf);
  EXPECT_GT(gguf->tensors.size(), 15u);
  for (const StoredTensor &tensor : gguf->tensors) {
    EXPECT_EQ(tensor.type, elementTypeByName(tensor.name)) << tensor.name;
    EXPECT_EQ(tensor.bytes.size(), 2 * *rowBytes(*tensor.type, 256)) << tensor.name;
  }
}

TEST(Gguf, SuperBlocksAreRead) {
  GgufWriter writer;
  writer.tensors.push_back({"a", {512, 2}, 12, std::string(576, '\1')});
  writer.tensors.push_back({"b", {256, 2}, 14, std::string(420, '\2')});
  writer.tensors.push_back({"c", {64, 2}, 6, std::string(88, '\3')});
  const std::string file = writer.build();
  auto gguf = parseGguf(asBytes(file), "f.gguf");
  ASSERT_TRUE(gguf) << line(gguf);
  EXPECT_EQ(gguf->tensors[0].type, ElementType::Q4_K);
  EXPECT_EQ(gguf->tensors[0].bytes.size(), 576u);
  EXPECT_EQ(gguf->tensors[1].type, ElementType::Q6_K);
  EXPECT_EQ(gguf->tensors[1].bytes.size(), 420u);
  EXPECT_EQ(gguf->tensors[2].type, ElementType::Q5_0);
  EXPECT_EQ(gguf->tensors[2].bytes.back(), std::byte{3});
}

class GgufShards : public FolderTest {
protected:
  static constexpr const char *first = "m-00001-of-00002.gguf";
  static constexpr const char *second = "m-00002-of-00002.gguf";

  /// A shard with the tensors [begin, end) of the tiny model.
  static GgufWriter shard(uint16_t number, size_t begin, size_t end) {
    GgufWriter g = tinyGguf();
    g.tensors = {g.tensors.begin() + begin, g.tensors.begin() + end};
    g.put("split.no", 2, raw(number));
    g.put("split.count", 2, raw<uint16_t>(2));
    g.put("split.tensors.count", 5, raw<int32_t>(11));
    return g;
  }
};

TEST_F(GgufShards, AreOneModel) {
  write(first, shard(0, 0, 4).build());
  write(second, shard(1, 4, 11).build());
  auto model = openGguf(path(first));
  ASSERT_TRUE(model) << line(model);
  EXPECT_EQ(model->tensors.size(), 11u);
  EXPECT_EQ(model->files.size(), 2u);
}

TEST_F(GgufShards, MustAgree) {
  write(first, shard(0, 0, 4).build());
  EXPECT_THAT(line(openGguf(path(first))), HasSubstr("m-00002-of-00002.gguf): there is no such"));
  write(second, shard(0, 4, 11).build());
  EXPECT_THAT(line(openGguf(path(first))), HasSubstr("split.no): is 0"));
  GgufWriter other = shard(1, 4, 11);
  other.put("split.count", 2, raw<uint16_t>(3));
  write(second, other.build());
  EXPECT_THAT(line(openGguf(path(first))), HasSubstr("split.count): is 3"));
  other.remove("split.count");
  write(second, other.build());
  EXPECT_THAT(line(openGguf(path(first))), HasSubstr("split.count): is missing"));
  write(second, shard(1, 3, 11).build());
  EXPECT_THAT(line(openGguf(path(first))), HasSubstr("is in two shards"));
  write(second, shard(1, 4, 10).build());
  EXPECT_THAT(line(openGguf(path(first))), HasSubstr("is 11, the shards have 10"));
  EXPECT_THAT(line(openGguf(path(second))), HasSubstr("this is shard 2 of 2"));
  EXPECT_THAT(line(openGguf(write("m.gguf", shard(0, 0, 4).build()))),
              HasSubstr("must end in -00001-of-00002.gguf"));
}

} // namespace
} // namespace kernelforge
