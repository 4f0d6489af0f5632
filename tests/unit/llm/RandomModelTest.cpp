// Made-up weights: complete, bounded, the same for the same seed.
#include "kernelforge/llm/RandomModel.h"

#include "kernelforge/llm/ModelWeights.h"
#include "kernelforge/llm/Tokenizer.h"
#include "tests/unit/llm/ModelWriters.h"

#include <algorithm>
#include <cmath>

using namespace kernelforge;
using namespace kernelforge::test;
using testing::HasSubstr;

namespace {

class RandomModelTest : public FolderTest {};

std::vector<float> values(const Weight &weight) {
  const auto columns = static_cast<uint64_t>(weight.shape.back());
  const uint64_t row = *rowBytes(weight.type, columns);
  std::vector<float> out(weight.bytes.size() / row * columns);
  for (uint64_t i = 0; i < weight.bytes.size() / row; ++i)
    dequantizeRow(weight.type, weight.bytes.data() + i * row, columns, out.data() + i * columns);
  return out;
}

TEST_F(RandomModelTest, HasEveryWeightOfEveryType) {
  nlohmann::json wide = tinyConfig(); // for rows of blocks of 256
  wide["hidden_size"] = 256;
  wide["intermediate_size"] = 512;
  wide["vocab_size"] = 64;
  const std::string wideFile = write("wide.json", wide.dump());
  for (const ElementTypeInfo &type : elementTypes()) {
    if (type.type == ElementType::I32)
      continue;
    auto model = makeRandomModel(type.blockElements > 32 ? wideFile : "tiny", {type.type, {}, 3});
    ASSERT_TRUE(model) << model.error().line();
    const auto slots = weightSlots(model->description);
    ASSERT_EQ(model->weights.size(), slots.size());
    for (const WeightSlot &slot : slots) {
      const Weight *weight = model->weights.find(slot.name);
      ASSERT_TRUE(weight) << slot.name;
      EXPECT_EQ(weight->shape, slot.shape);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(weight->bytes.data()) % 64, 0u);
      const std::vector<float> all = values(*weight);
      double sum = 0, squares = 0;
      for (float value : all) {
        ASSERT_TRUE(std::isfinite(value));
        sum += value;
        squares += double(value) * value;
      }
      const auto count = static_cast<double>(all.size());
      if (!slot.isMatrix()) {
        EXPECT_EQ(sum, count) << slot.name; // norms multiply by 1
        continue;
      }
      const double expected = 1 / std::sqrt(static_cast<double>(slot.shape[1]));
      EXPECT_NEAR(std::sqrt(squares / count), expected, 0.05 * expected) << type.name;
      EXPECT_NEAR(sum / count, 0, 0.15 * expected) << type.name << " " << slot.name;
    }
  }
}

TEST_F(RandomModelTest, LargeWeightsHaveAllTheirValues) { // which several threads make
  nlohmann::json large = tinyConfig();
  large["vocab_size"] = 200'000;
  const std::string file = write("large.json", large.dump());
  auto model = makeRandomModel(file, {ElementType::BF16, {}, 3});
  ASSERT_TRUE(model) << model.error().line();
  const Weight *table = model->weights.find("token_embd.weight");
  ASSERT_TRUE(table);
  const std::vector<float> all = values(*table);
  ASSERT_GT(all.size(), size_t(1) << 20);
  EXPECT_LT(std::ranges::count(all, 0.0f), 100);
  // A value is of its place alone: the beginning is that of a smaller one.
  large["vocab_size"] = 1'000;
  auto smaller = makeRandomModel(write("small.json", large.dump()), {ElementType::BF16, {}, 3});
  ASSERT_TRUE(smaller);
  const std::vector<float> first = values(*smaller->weights.find("token_embd.weight"));
  EXPECT_TRUE(std::equal(first.begin(), first.end(), all.begin()));
}

TEST_F(RandomModelTest, LayersThatDifferHaveWeightsThatDo) {
  auto model = makeRandomModel("mixed", {ElementType::F32, {}, 3});
  ASSERT_TRUE(model) << model.error().line();
  EXPECT_EQ(describeDefect(model->description), "");
  EXPECT_EQ(model->description.ropes.size(), 2u);
  for (const WeightSlot &slot : weightSlots(model->description)) {
    const Weight *weight = model->weights.find(slot.name);
    ASSERT_TRUE(weight) << slot.name;
    EXPECT_EQ(weight->shape, slot.shape);
    if (slot.isMatrix())
      continue;
    for (float value : values(*weight)) // norms multiply by 1 + weight
      EXPECT_EQ(value, 0) << slot.name;
  }
  EXPECT_THAT(model->weights.find("blk.0.attn_q_norm.weight")->shape, testing::ElementsAre(32));
  EXPECT_THAT(model->weights.find("blk.1.attn_k_norm.weight")->shape, testing::ElementsAre(64));
  EXPECT_THAT(model->weights.find("blk.2.attn_sinks.weight")->shape, testing::ElementsAre(4));
  EXPECT_THAT(model->weights.find("blk.3.ffn_up.weight")->shape, testing::ElementsAre(96, 64));
}

TEST_F(RandomModelTest, DependsOnTheSeedAlone) {
  auto bytes = [](uint64_t seed) {
    auto model = makeRandomModel("tiny", {ElementType::Q4_1, {}, seed});
    const auto memory = model->ownedWeights.span();
    return std::vector<std::byte>(memory.begin(), memory.end());
  };
  EXPECT_EQ(bytes(1), bytes(1));
  EXPECT_NE(bytes(1), bytes(2));
}

TEST_F(RandomModelTest, HasTheTypesOfSmolLM2sFile) {
  auto model = makeRandomModel("smollm2", {});
  ASSERT_TRUE(model) << model.error().line();
  EXPECT_EQ(model->weights.find("token_embd.weight")->type, ElementType::Q8_0);
  EXPECT_EQ(model->weights.find("blk.29.ffn_down.weight")->type, ElementType::Q4_1);
  EXPECT_EQ(model->weights.find("output.weight"), nullptr);
  EXPECT_EQ(model->mappedBytes(), model->ownedWeights.size());
}

TEST_F(RandomModelTest, HasATokenPerByte) {
  auto model = makeRandomModel("tiny", {});
  ASSERT_TRUE(model) << model.error().line();
  auto tokenizer = Tokenizer::load(model->tokenizer);
  ASSERT_TRUE(tokenizer) << tokenizer.error().line();
  EXPECT_THAT(*tokenizer->encode("h\xC3\xA9", true), testing::ElementsAre('h', 0xC3, 0xA9));
  EXPECT_EQ(tokenizer->piece(300), "<300>");
  EXPECT_EQ(tokenizer->vocabSize(), model->description.vocabSize);
}

TEST_F(RandomModelTest, ReadsTheShapeOfFiles) {
  nlohmann::json config = tinyConfig();
  config["hidden_size"] = 32;
  config["intermediate_size"] = 64;
  const std::string file = write("config.json", config.dump());
  for (const std::string &path : {file, folder.string(), write("shape.json", config.dump())}) {
    auto model = makeRandomModel(path, {});
    ASSERT_TRUE(model) << model.error().line();
    EXPECT_EQ(model->description.modelDim, 32);
    EXPECT_EQ(model->special.eos, 1);
  }
  const std::string gguf = write("tiny.gguf", tinyGguf().build());
  auto model = makeRandomModel(gguf, {ElementType::F16, {}, 0});
  ASSERT_TRUE(model) << model.error().line();
  EXPECT_TRUE(model->files.empty());
  EXPECT_EQ(model->weights.find("token_embd.weight")->type, ElementType::F16);
}

TEST_F(RandomModelTest, RefusesWhatCannotBeMade) {
  auto unknown = makeRandomModel("nosuchshape", {});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().kind, ErrorKind::Missing);
  EXPECT_THAT(unknown.error().line(), HasSubstr("smollm2, tinyllama, tiny, mixed"));

  // Rows of 8 elements are no blocks of 32.
  const std::string config = write("config.json", tinyConfig().dump());
  auto blocks = makeRandomModel(config, {});
  ASSERT_FALSE(blocks);
  EXPECT_THAT(blocks.error().line(), HasSubstr("q8_0 blocks"));
  EXPECT_TRUE(makeRandomModel(config, {ElementType::F32, {}, 0}));

  nlohmann::json huge = tinyConfig();
  huge["vocab_size"] = 1 << 24;
  huge["hidden_size"] = 1 << 18;
  huge["num_attention_heads"] = 256;
  auto memory = makeRandomModel(write("huge.json", huge.dump()), {ElementType::F32, {}, 0});
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().kind, ErrorKind::Unusable);
  EXPECT_THAT(memory.error().line(), HasSubstr("this machine has"));
}

} // namespace
