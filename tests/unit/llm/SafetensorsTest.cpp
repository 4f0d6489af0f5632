#include "ModelWriters.h"

#include "kernelforge/llm/Safetensors.h"

namespace kernelforge {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;

std::string refusal(const std::string &file) {
  return line(parseSafetensors(asBytes(file), "f.safetensors"));
}

/// The error of a file with one tensor, described by `entry`, and `bytes` bytes of data.
std::string refusalOf(const std::string &entry, size_t bytes) {
  return refusal(safetensors("{\"t\": " + entry + "}", std::string(bytes, '\0')));
}

TEST(Safetensors, ReadsTensorsOfEveryShape) {
  const std::string header =
      R"({"__metadata__": {"format": "pt"},
          "b": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [4, 16]},
          "a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
          "none": {"dtype": "F16", "shape": [7, 0], "data_offsets": [16, 16]},
          "i": {"dtype": "I64", "shape": [1], "data_offsets": [16, 24]},
          "h": {"dtype": "F4", "shape": [4], "data_offsets": [24, 26]}}   )";
  const std::string file = safetensors(header, "0123456789abcdefghijklmnop");
  auto tensors = parseSafetensors(asBytes(file), "f.safetensors");
  ASSERT_TRUE(tensors) << line(tensors);
  EXPECT_EQ(tensors->size(), 5u);
  const StoredTensor *b = tensors->find("b");
  ASSERT_TRUE(b);
  EXPECT_EQ(b->type, ElementType::BF16);
  EXPECT_THAT(b->shape, ElementsAre(2, 3));
  EXPECT_EQ(b->bytes.size(), 12u);
  EXPECT_EQ(static_cast<char>(b->bytes[0]), '4');
  EXPECT_TRUE(tensors->find("a")->shape.empty());
  EXPECT_TRUE(tensors->find("none")->bytes.empty());
  EXPECT_EQ(tensors->find("i")->type, std::nullopt);
  EXPECT_EQ(tensors->find("i")->typeName, "I64");
}

TEST(Safetensors, EveryPrefixIsRefused) {
  const std::string file = safetensors(tinyShapes());
  for (size_t size = 0; size < file.size(); ++size) {
    const auto bytes = asBytes(file);
    const std::vector<std::byte> part(bytes.begin(), bytes.begin() + size);
    ASSERT_FALSE(parseSafetensors(part, "f")) << size;
  }
}

TEST(Safetensors, RefusesHeaders) {
  EXPECT_THAT(refusal("1234567"), HasSubstr("the file has 7 bytes, at least 8"));
  EXPECT_THAT(refusal(raw<uint64_t>(3) + "{}"), HasSubstr("length is 3, at most 2"));
  EXPECT_THAT(refusal(raw<uint64_t>(UINT64_MAX) + "{}"), HasSubstr("length is 18446744073709551"));
  EXPECT_THAT(refusal(safetensors("", "")), HasSubstr("does not begin with {"));
  EXPECT_THAT(refusal(safetensors(" {}", "")), HasSubstr("does not begin with {"));
  EXPECT_THAT(refusal(safetensors("{\"a\"", "")), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(safetensors("{\"\xff\": 1}", "")), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(safetensors("{\"a\": 1, \"a\": 2}", "")), HasSubstr("\"a\" is there twice"));
  EXPECT_THAT(refusal(safetensors("{\"a\": [[[[[[[[1]]]]]]]]}", "")), HasSubstr("nested deeper"));
  EXPECT_THAT(refusal(safetensors("{}", "x")), HasSubstr("cover 0 of 1 bytes"));
  EXPECT_THAT(refusal(safetensors(R"({"__metadata__": {"a": 1}})", "")), HasSubstr("be a string"));
  EXPECT_THAT(refusal(safetensors(R"({"__metadata__": []})", "")), HasSubstr("be an object"));
  EXPECT_THAT(refusal(safetensors(R"({"": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}})",
                                  "1234")),
              HasSubstr("empty name"));
}

TEST(Safetensors, RefusesEntries) {
  EXPECT_THAT(refusalOf("3", 0), HasSubstr("field t): is a number, must be an object"));
  EXPECT_THAT(refusalOf(R"({"shape": [], "data_offsets": [0, 4]})", 4), HasSubstr("t.dtype"));
  EXPECT_THAT(refusalOf(R"({"dtype": "F32", "data_offsets": [0, 4]})", 4), HasSubstr("t.shape"));
  EXPECT_THAT(refusalOf(R"({"dtype": "F32", "shape": []})", 4), HasSubstr("t.data_offsets"));
  EXPECT_THAT(refusalOf(R"({"dtype": "F31", "shape": [], "data_offsets": [0, 4]})", 4),
              HasSubstr("\"F31\" is unknown"));
  for (std::string dim : {"-1", "1.0", "1e30", "\"1\"", "null", "9223372036854775808"})
    EXPECT_THAT(
        refusalOf("{\"dtype\": \"F32\", \"shape\": [" + dim + "], \"data_offsets\": [0, 4]}", 4),
        HasSubstr("t.shape[0]): is"))
        << dim;
  EXPECT_THAT(
      refusalOf(R"({"dtype": "F32", "shape": [4294967296, 4294967296, 0], "data_offsets": [0, 0]})",
                0),
      HasSubstr("overflows 64 bits"));
  EXPECT_THAT(refusalOf(R"({"dtype": "F4", "shape": [3], "data_offsets": [0, 2]})", 2),
              HasSubstr("12 bits are no whole number"));
}

TEST(Safetensors, RefusesOffsets) {
  auto offsets = [](const std::string &text) {
    return refusalOf("{\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": " + text + "}", 8);
  };
  EXPECT_EQ(offsets("[0, 8]"), "accepted");
  EXPECT_THAT(offsets("[0]"), HasSubstr("has 1 elements, must have 2"));
  EXPECT_THAT(offsets("[0, 8, 8]"), HasSubstr("has 3 elements"));
  EXPECT_THAT(offsets("8"), HasSubstr("must be an array"));
  EXPECT_THAT(offsets("[8, 0]"), HasSubstr("data_offsets[1]): is 0"));
  EXPECT_THAT(offsets("[0, 9]"), HasSubstr("is 9, must be an integer from 0 to 8"));
  EXPECT_THAT(offsets("[-8, 0]"), HasSubstr("is -8"));
  EXPECT_THAT(offsets("[18446744073709551608, 0]"), HasSubstr("is 18446744073709551608"));
  EXPECT_THAT(offsets("[0, 4]"), HasSubstr("span 4 bytes, dtype F32 and shape [2] need 8"));
}

TEST(Safetensors, RefusesHolesAndOverlap) {
  auto two = [](const std::string &first, const std::string &second, size_t bytes) {
    return refusal(safetensors(
        "{\"a\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": " + first +
            "}, \"b\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": " + second + "}}",
        std::string(bytes, '\0')));
  };
  EXPECT_EQ(two("[0, 4]", "[4, 8]", 8), "accepted");
  EXPECT_EQ(two("[4, 8]", "[0, 4]", 8), "accepted");
  EXPECT_THAT(two("[0, 4]", "[0, 4]", 4), HasSubstr("overlapping"));
  EXPECT_THAT(two("[0, 4]", "[3, 7]", 7), HasSubstr("overlapping"));
  EXPECT_THAT(two("[0, 4]", "[5, 9]", 9), HasSubstr("leaving a hole"));
  EXPECT_THAT(two("[1, 5]", "[5, 9]", 9), HasSubstr("leaving a hole"));
  EXPECT_THAT(two("[0, 4]", "[4, 8]", 9), HasSubstr("cover 8 of 9 bytes"));
}

class SafetensorsIndex : public FolderTest {
protected:
  SafetensorsIndex() {
    write("one.safetensors", safetensors({{"a", {2}}, {"b", {3}}}));
    write("two.safetensors", safetensors({{"c", {4}}}));
  }
  Expected<SafetensorsModel> open(const nlohmann::json &index) {
    return openSafetensorsIndex(write("model.safetensors.index.json", index.dump()));
  }
  nlohmann::json index() const {
    return {{"metadata", {{"total_size", 36}}},
            {"weight_map",
             {{"a", "one.safetensors"}, {"b", "one.safetensors"}, {"c", "two.safetensors"}}}};
  }
  std::string refusal(const std::string &tensor, const nlohmann::json &file) {
    nlohmann::json changed = index();
    changed["weight_map"][tensor] = file;
    return line(open(changed));
  }
};

TEST_F(SafetensorsIndex, OpensItsShards) {
  auto model = open(index());
  ASSERT_TRUE(model) << line(model);
  EXPECT_EQ(model->tensors.size(), 3u);
  EXPECT_EQ(model->files.size(), 2u);
  EXPECT_TRUE(model->warnings.empty());
}

TEST_F(SafetensorsIndex, TotalSizeOnlyWarns) {
  nlohmann::json changed = index();
  changed["metadata"]["total_size"] = 1e18;
  auto model = open(changed);
  ASSERT_TRUE(model) << line(model);
  EXPECT_THAT(model->warnings, ElementsAre(HasSubstr("the tensors have 36 bytes")));
  changed["metadata"]["total_size"] = "x";
  model = open(changed);
  ASSERT_TRUE(model) << line(model);
  EXPECT_THAT(model->warnings, ElementsAre(HasSubstr("total_size is \"x\"")));
  changed["metadata"]["total_size"] = 36.0;
  EXPECT_TRUE(open(changed)->warnings.empty());
  changed.erase("metadata");
  EXPECT_EQ(line(open(changed)), "accepted");
}

TEST_F(SafetensorsIndex, ShardsArePlainNames) {
  for (std::string name : {"", "/abs.safetensors", "../one.safetensors", "x/one.safetensors",
                           "x\\one.safetensors", "..", "..safetensors"})
    EXPECT_THAT(refusal("a", name), HasSubstr("is no plain file name")) << name;
  EXPECT_THAT(refusal("a", std::string("a\0b.safetensors", 15)), HasSubstr("no plain file name"));
  EXPECT_THAT(refusal("a", "model.safetensors.index.json"), HasSubstr("does not end in"));
  EXPECT_THAT(refusal("a", std::string(300, 'a') + ".safetensors"), HasSubstr("at most 255"));
  EXPECT_THAT(refusal("a", 3), HasSubstr("must be a string"));
}

TEST_F(SafetensorsIndex, MustAgreeWithItsShards) {
  EXPECT_THAT(refusal("a", "absent.safetensors"), HasSubstr("there is no such file"));
  EXPECT_THAT(refusal("a", "two.safetensors"), HasSubstr("the index says that it is in two"));
  EXPECT_THAT(refusal("d", "two.safetensors"), HasSubstr("in this file, it is not"));
  nlohmann::json changed = index();
  changed["weight_map"].erase("a");
  EXPECT_THAT(line(open(changed)), HasSubstr("tensor a): the index does not name it"));
  changed["weight_map"] = nlohmann::json::object();
  EXPECT_THAT(line(open(changed)), HasSubstr("names no tensor"));
  changed.erase("weight_map");
  EXPECT_THAT(line(open(changed)), HasSubstr("weight_map): is missing"));
  write("two.safetensors", safetensors({{"a", {2}}, {"c", {4}}}));
  EXPECT_THAT(line(open(index())), HasSubstr("tensor a): the index says that it is in one"));
}

} // namespace
} // namespace kernelforge
