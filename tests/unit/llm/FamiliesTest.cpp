// What configurations of the families that are built like Llama say; logits are compared with
// transformers by tests/golden/formats_test.py.
#include "ModelWriters.h"

#include "kernelforge/llm/ModelConfig.h"

#include <cmath>

namespace kernelforge {
namespace {

using namespace test;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

/// A configuration of a family, with the numbers of the tiny one.
json configFor(const char *architecture, const json &fields) {
  json config = tinyConfig();
  config["architectures"] = {architecture};
  config.update(fields);
  return config;
}

std::vector<int64_t> windowsOf(const ModelDescription &d) {
  std::vector<int64_t> windows;
  for (const LayerDescription &layer : d.layers)
    windows.push_back(layer.attention.window);
  return windows;
}

WeightSlot slotOf(const ModelDescription &d, const std::string &name) {
  for (const WeightSlot &slot : weightSlots(d))
    if (slot.name == name)
      return slot;
  ADD_FAILURE() << name;
  return {};
}

TEST(Gemma2, CapsAndWindowsOfEverySecondLayer) {
  auto config = configOf(configFor("Gemma2ForCausalLM", {{"num_hidden_layers", 3},
                                                         {"head_dim", 4},
                                                         {"sliding_window", 16},
                                                         {"query_pre_attn_scalar", 144},
                                                         {"final_logit_softcapping", nullptr}}));
  ASSERT_TRUE(config) << line(config);
  const ModelDescription &d = config->description;
  EXPECT_THAT(windowsOf(d), ElementsAre(16, 0, 16));
  EXPECT_EQ(d.ropes.size(), 1u);
  EXPECT_EQ(d.layers[0].attention.softcap, 50); // the field is absent
  EXPECT_EQ(d.logitSoftcap, 0);                 // and this one null
  EXPECT_EQ(d.layers[0].attention.scale, 1.0 / 12);
  EXPECT_EQ(d.embeddingScale, std::sqrt(8.0));
  EXPECT_EQ(d.finalNorm.offset, 1);
  EXPECT_TRUE(d.layers[0].afterAttention && d.layers[0].afterMlp);
  EXPECT_FALSE(d.layers[0].attention.queryNorm);
}

TEST(Gemma3, TablesOfLayersWithAndWithoutWindow) {
  json fields = {{"num_hidden_layers", 7},
                 {"head_dim", 4},
                 {"sliding_window", 16},
                 {"rope_theta", 1e6},
                 {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8}}}};
  auto config = configOf(configFor("Gemma3ForCausalLM", fields));
  ASSERT_TRUE(config) << line(config);
  const ModelDescription &d = config->description;
  EXPECT_THAT(windowsOf(d), ElementsAre(16, 16, 16, 16, 16, 0, 16));
  ASSERT_EQ(d.ropes.size(), 2u);
  EXPECT_EQ(d.layers[0].attention.rope, 0u);
  EXPECT_EQ(d.layers[5].attention.rope, 1u);
  EXPECT_EQ(d.ropes[0].theta, 1e4);
  EXPECT_TRUE(d.ropes[0].frequencyFactors.empty());
  EXPECT_EQ(d.ropes[1].theta, 1e6);
  EXPECT_THAT(d.ropes[1].frequencyFactors, ElementsAre(8, 8));
  EXPECT_EQ(d.layers[0].attention.queryNorm->offset, 1);
  EXPECT_EQ(d.layers[0].attention.softcap, 0);

  // The same as newer files say it.
  fields.erase("rope_theta");
  fields.erase("rope_scaling");
  fields["rope_parameters"] = {
      {"full_attention", {{"rope_type", "linear"}, {"factor", 8}, {"rope_theta", 1e6}}},
      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 1e4}}}};
  auto newer = configOf(configFor("Gemma3ForCausalLM", fields));
  ASSERT_TRUE(newer) << line(newer);
  EXPECT_EQ(newer->description.ropes, d.ropes);

  fields["use_bidirectional_attention"] = true;
  EXPECT_THAT(line(configOf(configFor("Gemma3ForCausalLM", fields))),
              HasSubstr("use_bidirectional_attention) is not supported"));
}

TEST(Gemma3, TheDecoderOfOneThatSeesImages) {
  json config = configFor("Gemma3ForConditionalGeneration", {{"vision_config", json::object()}});
  // All that the published one of 4B says.
  config["text_config"] = {{"hidden_size", 2560},
                           {"intermediate_size", 10240},
                           {"model_type", "gemma3_text"},
                           {"num_hidden_layers", 34},
                           {"rope_scaling", {{"factor", 8.0}, {"rope_type", "linear"}}},
                           {"sliding_window", 1024}};
  auto read = configOf(config);
  ASSERT_TRUE(read) << line(read);
  const ModelDescription &d = read->description;
  EXPECT_EQ(d.vocabSize, 262208);
  EXPECT_EQ(d.layers[0].attention.heads, 8);
  EXPECT_EQ(d.layers[0].attention.window, 1024);
  const Architecture &family = *read->architecture;
  const auto where =
      family.locate(slotOf(d, "blk.0.post_attention_norm.weight"), d, WeightNaming::HuggingFace);
  EXPECT_THAT(where.names,
              ElementsAre("model.layers.0.post_attention_layernorm.weight",
                          "language_model.model.layers.0.post_attention_layernorm.weight",
                          "model.language_model.layers.0.post_attention_layernorm.weight"));
  EXPECT_TRUE(family.isRedundant("vision_tower.patch.weight", d, WeightNaming::HuggingFace));
  EXPECT_FALSE(family.isRedundant("model.layers.0.other", d, WeightNaming::HuggingFace));
}

TEST(Gemma3, TablesAreStretchedOnce) {
  const json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}};
  auto config = configOf(
      configFor("Gemma3ForCausalLM",
                {{"num_hidden_layers", 13},
                 {"head_dim", 4},
                 {"rope_theta", 5e5},
                 {"sliding_window", 64},
                 {"rope_parameters",
                  {{"full_attention", yarn}, {"sliding_attention", {{"rope_type", "default"}}}}}}));
  ASSERT_TRUE(config) << line(config);
  const ModelDescription &d = config->description;
  EXPECT_EQ(d.contextLength, 256);
  EXPECT_EQ(d.ropes.size(), 2u);
  EXPECT_EQ(d.ropes[0].theta, 1e4); // that of the root is about layers without a window
  EXPECT_EQ(d.ropes[1].theta, 5e5);
  EXPECT_EQ(d.layers[0].attention.window, 64); // which the stretched context outgrows
}

TEST(Families, HeadsOfKeysThatAreNull) {
  for (const char *name : {"MistralForCausalLM", "Qwen3ForCausalLM", "SmolLM3ForCausalLM"}) {
    auto config = configOf(configFor(name, {{"num_key_value_heads", nullptr}, {"head_dim", 4}}));
    ASSERT_TRUE(config) << line(config);
    EXPECT_EQ(config->description.layers[0].attention.kvHeads, 2);
  }
}

TEST(Phi3, PartsOfFusedTensors) {
  auto config = configOf(configFor(
      "Phi3ForCausalLM",
      {{"partial_rotary_factor", 0.5}, {"sliding_window", 20}, {"num_key_value_heads", 1}}));
  ASSERT_TRUE(config) << line(config);
  const ModelDescription &d = config->description;
  EXPECT_EQ(d.ropes[0].rotaryDim, 2);
  EXPECT_THAT(windowsOf(d), ElementsAre(20));
  auto where = [&](const char *name, WeightNaming naming) {
    return config->architecture->locate(slotOf(d, name), d, naming);
  };
  // 2 heads and 1 key/value head of 4, an mlp of 16.
  const TensorSource value = where("blk.0.attn_v.weight", WeightNaming::HuggingFace);
  EXPECT_THAT(value.names, ElementsAre("model.layers.0.self_attn.qkv_proj.weight"));
  EXPECT_EQ(value.firstRow, 12);
  EXPECT_EQ(value.rows, 16);
  const TensorSource up = where("blk.0.ffn_up.weight", WeightNaming::Gguf);
  EXPECT_THAT(up.names, ElementsAre("blk.0.ffn_up.weight"));
  EXPECT_EQ(up.firstRow, 16);
  EXPECT_EQ(up.rows, 32);
}

TEST(SmolLm3, LayersThatDoNotRotate) {
  auto rotating = [](const json &fields) {
    auto config = configOf(configFor("SmolLM3ForCausalLM", fields));
    EXPECT_TRUE(config) << line(config);
    std::string layers;
    for (const LayerDescription &layer : config->description.layers)
      layers += layer.attention.rope ? 'r' : '-';
    return layers;
  };
  EXPECT_EQ(rotating({{"num_hidden_layers", 9}}), "rrr-rrr-r");
  EXPECT_EQ(rotating({{"num_hidden_layers", 3}, {"no_rope_layers", {0, 1, 0}}}), "-r-");
  EXPECT_THAT(line(configOf(configFor("SmolLM3ForCausalLM", {{"no_rope_layers", {1, 1}}}))),
              HasSubstr("no_rope_layers has 2 elements for 1 layers"));
}

} // namespace
} // namespace kernelforge
