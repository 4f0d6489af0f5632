#include "ModelWriters.h"

#include "kernelforge/llm/ModelConfig.h"

#include <cmath>

namespace kernelforge {
namespace {

using namespace test;
using nlohmann::json;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

/// The tiny configuration with some fields set.
json with(const json &fields) {
  json config = tinyConfig();
  config.update(fields);
  return config;
}

TEST(ConfigJson, ReadsEveryField) {
  auto config = configOf(with({{"head_dim", 6},
                               {"rope_theta", 5e5},
                               {"hidden_act", "gelu_pytorch_tanh"},
                               {"attention_bias", true},
                               {"mlp_bias", true},
                               {"tie_word_embeddings", false},
                               {"eos_token_id", {1, 4, 1}}}));
  ASSERT_TRUE(config) << line(config);
  const ModelDescription &d = config->description;
  EXPECT_EQ(d.architecture, "llama");
  ASSERT_EQ(d.layers.size(), 1u);
  EXPECT_EQ(d.modelDim, 8);
  const LayerDescription &layer = d.layers[0];
  EXPECT_EQ(layer.attention.heads, 2);
  EXPECT_EQ(layer.attention.kvHeads, 1);
  EXPECT_EQ(layer.attention.headDim, 6);
  EXPECT_EQ(layer.mlp.width, 16);
  EXPECT_EQ(d.vocabSize, 5);
  EXPECT_EQ(d.contextLength, 64);
  const NormDescription norm{NormKind::Rms, 1e-5};
  EXPECT_EQ(d.finalNorm, norm);
  EXPECT_EQ(layer.beforeAttention, norm);
  EXPECT_EQ(layer.beforeMlp, norm);
  EXPECT_FALSE(layer.afterAttention || layer.afterMlp);
  EXPECT_EQ(layer.mlp.activation, ActivationKind::GeluTanh);
  EXPECT_TRUE(layer.mlp.gated && layer.mlp.bias);
  EXPECT_TRUE(layer.attention.bias && layer.attention.outputBias);
  EXPECT_FALSE(d.tiedHead || d.learnedPositions);
  EXPECT_EQ(layer.attention.rope, 0u);
  const RopeDescription rope{.pairing = RopePairing::HalfSplit, .theta = 5e5, .rotaryDim = 6};
  EXPECT_THAT(d.ropes, ElementsAre(rope));
  EXPECT_EQ(config->special.bos, 0);
  EXPECT_EQ(config->special.eos, 1);
  EXPECT_THAT(config->special.endOfGeneration, ElementsAre(1, 4));
}

TEST(ConfigJson, AbsentFieldsTakeTheFamilysDefaults) {
  json config = tinyConfig();
  for (const char *field : {"num_key_value_heads", "max_position_embeddings", "rms_norm_eps",
                            "tie_word_embeddings", "bos_token_id", "eos_token_id"})
    config.erase(field);
  auto read = configOf(config);
  ASSERT_TRUE(read) << line(read);
  EXPECT_EQ(read->description.layers[0].attention.kvHeads, 2);
  EXPECT_EQ(read->description.contextLength, 2048);
  EXPECT_EQ(read->description.finalNorm.epsilon, 1e-6);
  EXPECT_EQ(read->description.ropes[0].theta, 10000.0);
  EXPECT_FALSE(read->description.tiedHead);
  EXPECT_FALSE(read->special.bos || read->special.eos);
  config["architectures"] = json::array(); // names no class
  config["model_type"] = "llama";
  EXPECT_EQ(line(configOf(config)), "accepted");
  config.erase("architectures");
  EXPECT_EQ(line(configOf(config)), "accepted");
}

TEST(ConfigJson, IdsThatMeanNone) {
  for (const json &none : {json(-1), json(UINT32_MAX), json(UINT64_MAX), json()}) {
    auto config = configOf(with({{"bos_token_id", none}, {"eos_token_id", none}}));
    ASSERT_TRUE(config) << line(config);
    EXPECT_EQ(config->special.bos, std::nullopt);
    EXPECT_EQ(config->special.eos, std::nullopt);
    config = configOf(with({{"eos_token_id", {none, 3, none}}}));
    ASSERT_TRUE(config) << line(config);
    EXPECT_EQ(config->special.eos, 3);
    EXPECT_THAT(config->special.endOfGeneration, ElementsAre(3));
  }
  EXPECT_EQ(line(configOf(with({{"pad_token_id", 999}, {"unk_token_id", "<unk>"}}))), "accepted");
}

TEST(ConfigJson, IntegersMayBeWrittenAsFloats) {
  auto config = configOf(with({{"num_hidden_layers", 1.0},
                               {"max_position_embeddings", 6.4e1},
                               {"bos_token_id", 2.0},
                               {"rope_theta", 10000}}));
  ASSERT_TRUE(config) << line(config);
  EXPECT_EQ(config->description.layers.size(), 1u);
  EXPECT_EQ(config->description.contextLength, 64);
  EXPECT_EQ(config->description.ropes[0].theta, 10000.0);
  EXPECT_EQ(config->special.bos, 2);
  EXPECT_THAT(line(configOf(with({{"hidden_size", 8.5}}))),
              HasSubstr("is 8.5, must be an integer"));
  EXPECT_THAT(line(configOf(with({{"hidden_size", 1e30}}))), HasSubstr("must be an integer"));
}

TEST(ConfigJson, RefusesArchitecturesByName) {
  EXPECT_THAT(
      line(configOf(with({{"architectures", {"BloomForCausalLM"}}}))),
      HasSubstr("architectures): architecture \"BloomForCausalLM\" is not supported; supported are "
                "Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3ForConditionalGeneration, "
                "GPT2LMHeadModel, LlamaForCausalLM, MistralForCausalLM, Phi3ForCausalLM, "
                "Qwen2ForCausalLM, Qwen3ForCausalLM and SmolLM3ForCausalLM"));
  EXPECT_THAT(line(configOf(with({{"architectures", "LlamaForCausalLM"}}))),
              HasSubstr("must be an array"));
  json config = tinyConfig();
  config.erase("architectures");
  EXPECT_THAT(line(configOf(config)), HasSubstr("model_type): is missing"));
  config["model_type"] = "bloom";
  EXPECT_THAT(line(configOf(config)), HasSubstr("\"bloom\" is not supported; supported are gemma2, "
                                                "gemma3_text, gemma3, gpt2, llama, mistral, phi3, "
                                                "qwen2, qwen3 and smollm3"));
}

TEST(ConfigJson, MistralsWindow) {
  auto windowOf = [](const json &config) {
    auto read = configOf(config);
    EXPECT_TRUE(read) << line(read);
    return read ? read->description.layers.front().attention.window : -1;
  };
  EXPECT_EQ(windowOf(with({{"sliding_window", 16}})), 0) << "Llama has none";
  const json mistral = with({{"architectures", {"MistralForCausalLM"}}});
  json config = mistral;
  config["sliding_window"] = nullptr;
  EXPECT_EQ(windowOf(config), 0);
  config["sliding_window"] = 64; // as long as the context
  EXPECT_EQ(windowOf(config), 0);
  config["sliding_window"] = 63;
  EXPECT_EQ(windowOf(config), 63);
  config = mistral; // the family's default is 4096
  config["max_position_embeddings"] = 8192;
  EXPECT_EQ(windowOf(config), 4096);
}

TEST(ConfigJson, Qwen2HasBiases) {
  json config = with({{"architectures", {"Qwen2ForCausalLM"}}});
  auto read = configOf(config);
  ASSERT_TRUE(read) << line(read);
  const ModelDescription &d = read->description;
  EXPECT_EQ(d.architecture, "qwen2");
  const AttentionDescription &a = d.layers.front().attention;
  EXPECT_TRUE(a.bias);
  EXPECT_FALSE(a.outputBias);
  EXPECT_FALSE(a.queryNorm);
  EXPECT_EQ(a.headDim * a.heads, d.modelDim);
  EXPECT_EQ(a.window, 0);
  EXPECT_EQ(d.ropes[0].pairing, RopePairing::HalfSplit);
  config["attention_bias"] = true; // no field of this class
  read = configOf(config);
  ASSERT_TRUE(read) << line(read);
  EXPECT_FALSE(read->description.layers.front().attention.outputBias);
  config.update({{"use_sliding_window", true}, {"sliding_window", 16}, {"max_window_layers", 0}});
  read = configOf(config);
  ASSERT_TRUE(read) << line(read);
  EXPECT_EQ(read->description.layers.front().attention.window, 16);
  config["sliding_window"] = nullptr;
  read = configOf(config);
  ASSERT_TRUE(read) << line(read);
  EXPECT_EQ(read->description.layers.front().attention.window, 0);
}

TEST(ConfigJson, Qwen3NormsItsHeads) {
  const json qwen3 = with({{"architectures", {"Qwen3ForCausalLM"}}, {"num_hidden_layers", 3}});
  auto plain = configOf(qwen3);
  ASSERT_TRUE(plain) << line(plain);
  const ModelDescription &d = plain->description;
  EXPECT_EQ(d.architecture, "qwen3");
  const NormDescription norm{NormKind::Rms, 1e-5};
  for (const LayerDescription &layer : d.layers) {
    EXPECT_EQ(layer.attention.queryNorm, norm);
    EXPECT_EQ(layer.attention.keyNorm, norm);
    EXPECT_EQ(layer.attention.headDim, 128); // whatever the heads divide the rows into
    EXPECT_EQ(layer.attention.window, 0);
  }
  EXPECT_EQ(d.ropes[0].pairing, RopePairing::HalfSplit);

  auto windows = [&](const json &fields) {
    json config = qwen3;
    config.update(fields);
    auto read = configOf(config);
    EXPECT_TRUE(read) << line(read);
    std::vector<int64_t> found;
    for (const LayerDescription &layer : read->description.layers)
      found.push_back(layer.attention.window);
    return found;
  };
  const json used = {{"use_sliding_window", true}, {"sliding_window", 16}};
  auto usedAnd = [&](const json &more) {
    json fields = used;
    fields.update(more);
    return fields;
  };
  EXPECT_THAT(windows({{"sliding_window", 16}, {"max_window_layers", 0}}), ElementsAre(0, 0, 0));
  EXPECT_THAT(windows(used), ElementsAre(0, 0, 0)); // from the 28th layer on
  EXPECT_THAT(windows(usedAnd({{"max_window_layers", 1}})), ElementsAre(0, 16, 16));
  const char *full = "full_attention", *sliding = "sliding_attention";
  EXPECT_THAT(windows(usedAnd({{"layer_types", {sliding, full, sliding}}})),
              ElementsAre(16, 0, 16));
  json config = qwen3;
  config.update(usedAnd({{"layer_types", {full, full}}}));
  EXPECT_THAT(line(configOf(config)), HasSubstr("layer_types has 2 elements for 3 layers"));
  config.update(json{{"layer_types", {full, full, "chunked_attention"}}});
  EXPECT_THAT(line(configOf(config)), HasSubstr("\"chunked_attention\" is not supported"));
}

TEST(ConfigJson, RefusesValuesOutOfRange) {
  struct Case {
    const char *field;
    json value;
  };
  for (const auto &[field, value] : std::vector<Case>{{"num_hidden_layers", 0},
                                                      {"num_hidden_layers", 1025},
                                                      {"num_hidden_layers", 1.5},
                                                      {"num_hidden_layers", "1"},
                                                      {"hidden_size", -8},
                                                      {"hidden_size", 1 << 19},
                                                      {"num_attention_heads", 0},
                                                      {"num_key_value_heads", 0},
                                                      {"intermediate_size", 0},
                                                      {"vocab_size", 0},
                                                      {"vocab_size", 1 << 25},
                                                      {"head_dim", 2048},
                                                      {"max_position_embeddings", 0},
                                                      {"rms_norm_eps", 0},
                                                      {"rms_norm_eps", -1e-5},
                                                      {"rope_theta", 0},
                                                      {"rope_theta", "1e4"},
                                                      {"tie_word_embeddings", 1},
                                                      {"attention_bias", "no"},
                                                      {"bos_token_id", 5},
                                                      {"bos_token_id", -2},
                                                      {"bos_token_id", 0.5},
                                                      {"eos_token_id", 5},
                                                      {"partial_rotary_factor", 0.5},
                                                      {"hidden_act", "mish"}})
    EXPECT_THAT(line(configOf(with({{field, value}}))),
                HasSubstr("config.json, field " + std::string(field) + "): "))
        << field << " " << value;
  EXPECT_THAT(line(configOf(with({{"eos_token_id", {1, 5}}}))),
              HasSubstr("eos_token_id[1]): is 5"));
}

TEST(ConfigJson, RefusesDimensionsThatDoNotFit) {
  EXPECT_THAT(line(configOf(with({{"num_attention_heads", 3}}))),
              HasSubstr("hidden_size 8 is no multiple of num_attention_heads 3"));
  EXPECT_THAT(line(configOf(with({{"num_attention_heads", 4}, {"num_key_value_heads", 3}}))),
              HasSubstr("4 attention heads are no multiple of 3"));
  EXPECT_THAT(line(configOf(with({{"head_dim", 3}}))), HasSubstr("head dimension 3 is odd"));
  EXPECT_THAT(line(configOf(with({{"hidden_size", 1 << 14}, {"num_attention_heads", 2}}))),
              HasSubstr("head dimension 8192 is above 1024"));
  EXPECT_THAT(line(configOf(with({{"quantization_config", {{"quant_method", "awq"}}}}))),
              HasSubstr("quantization \"awq\" is not supported"));
}

TEST(ConfigJson, ScalesRope) {
  auto linear = configOf(with({{"rope_scaling", {{"type", "linear"}, {"factor", 4}}}}));
  ASSERT_TRUE(linear) << line(linear);
  EXPECT_THAT(linear->description.ropes[0].frequencyFactors, ElementsAre(4, 4));

  const json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 8192}};
  json config = with({{"head_dim", 128}, {"rope_theta", 5e5}, {"rope_scaling", llama3}});
  auto scaled = configOf(config);
  ASSERT_TRUE(scaled) << line(scaled);
  const auto &factors = scaled->description.ropes[0].frequencyFactors;
  ASSERT_EQ(factors.size(), 64u);
  // Wavelengths below 2048 are kept (i <= 28), those above 8192 divided (i >= 35).
  EXPECT_EQ(factors[28], 1.0);
  EXPECT_GT(factors[29], 1.0);
  EXPECT_LT(factors[34], 8.0);
  EXPECT_EQ(factors[35], 8.0);
  const double wavelength = 2 * M_PI * std::pow(5e5, 2.0 * 31 / 128);
  const double smooth = (8192 / wavelength - 1) / 3;
  EXPECT_DOUBLE_EQ(factors[31], 1 / ((1 - smooth) / 8 + smooth));

  config.erase("rope_scaling");
  config.erase("rope_theta");
  config["rope_parameters"] = llama3;
  config["rope_parameters"]["rope_theta"] = 5e5;
  auto parameters = configOf(config);
  ASSERT_TRUE(parameters) << line(parameters);
  EXPECT_EQ(parameters->description.ropes[0].frequencyFactors, factors);
  EXPECT_EQ(parameters->description.ropes[0].theta, 5e5);
}

TEST(ConfigJson, StretchesTheContext) {
  auto dynamic = configOf(with({{"rope_scaling", {{"type", "dynamic"}, {"factor", 4}}}}));
  ASSERT_TRUE(dynamic) << line(dynamic);
  EXPECT_EQ(dynamic->description.ropes[0].dynamicFactor, 4);
  EXPECT_EQ(dynamic->description.ropes[0].originalContext, 64);
  EXPECT_EQ(dynamic->description.contextLength, 256);
  auto yarn = configOf(with({{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 2}}}}));
  ASSERT_TRUE(yarn) << line(yarn);
  EXPECT_EQ(yarn->description.contextLength, 128);
  EXPECT_DOUBLE_EQ(yarn->description.ropes[0].magnitude, 0.1 * std::log(2.0) + 1);
}

TEST(ConfigJson, RefusesRopeScaling) {
  auto scaling = [](const json &fields) {
    return line(configOf(with({{"rope_scaling", fields}})));
  };
  EXPECT_EQ(scaling({{"rope_type", "default"}}), "accepted");
  EXPECT_THAT(scaling({{"rope_type", "proportional"}}),
              HasSubstr("RoPE scaling \"proportional\" is not supported; supported are default, "
                        "linear, dynamic, llama3, yarn and longrope"));
  EXPECT_THAT(scaling({{"full_attention", {{"rope_type", "default"}}}}),
              HasSubstr("tables for each kind of layer, which this family has not"));
  EXPECT_THAT(line(configOf(with({{"rope_scaling", {{"type", "linear"}, {"factor", 2}}},
                                  {"rope_parameters", {{"rope_type", "default"}}}}))),
              HasSubstr("rope_scaling): says how RoPE is stretched, and so does rope_parameters"));
  EXPECT_THAT(scaling({{"rope_type", "dynamic"}, {"factor", 0.5}}), HasSubstr("factor): is 0.5"));
  EXPECT_THAT(scaling({{"rope_type", "longrope"}, {"factor", 2}}),
              HasSubstr("short_factor): is missing"));
  EXPECT_THAT(scaling({{"rope_type", "longrope"}, {"short_factor", {1}}, {"long_factor", {1, 2}}}),
              HasSubstr("short_factor has 1 elements, must have 2, half the 4 rotary dimensions"));
  EXPECT_THAT(
      scaling({{"rope_type", "longrope"}, {"short_factor", {1, 0}}, {"long_factor", {1, 2}}}),
      HasSubstr("short_factor[1]): is 0"));
  EXPECT_THAT(scaling({{"rope_type", "yarn"}, {"factor", 2}, {"beta_fast", 1}, {"beta_slow", 2}}),
              HasSubstr("beta_fast 1 must not be below beta_slow 2"));
  EXPECT_THAT(scaling({{"type", "linear"}}), HasSubstr("rope_scaling.factor): is missing"));
  EXPECT_THAT(scaling({{"type", "linear"}, {"factor", 0}}), HasSubstr("factor): is 0"));
  EXPECT_THAT(scaling({{"type", "llama3"}, {"factor", 8}}), HasSubstr("low_freq_factor): is miss"));
  EXPECT_THAT(
      scaling({{"type", "llama3"}, {"factor", 8}, {"low_freq_factor", 4}, {"high_freq_factor", 1}}),
      HasSubstr("high_freq_factor 1 must be above low_freq_factor 4"));
  EXPECT_THAT(scaling(json::array()), HasSubstr("must be an object"));
}

/// The description in a GGUF file; the bytes must outlive the call only.
Expected<ModelDescription> descriptionOf(const GgufWriter &writer) {
  const std::string file = writer.build();
  auto contents = parseGguf(asBytes(file), "f.gguf");
  if (!contents)
    return tl::unexpected(contents.error());
  GgufModel model;
  model.metadata = std::move(contents->metadata);
  model.tensors = std::move(contents->tensors);
  model.files.emplace_back();
  auto config = configFromGguf(model);
  if (!config)
    return tl::unexpected(config.error());
  return config->description;
}

std::string configRefusal(const std::function<void(GgufWriter &)> &change) {
  GgufWriter writer = tinyGguf();
  change(writer);
  return line(descriptionOf(writer));
}

TEST(ConfigGguf, ReadsEveryField) {
  GgufWriter writer = tinyGguf();
  writer.u32("llama.attention.key_length", 6);
  writer.u32("llama.attention.value_length", 6);
  writer.u32("llama.rope.dimension_count", 4);
  writer.f32("llama.rope.freq_base", 5e5f);
  writer.f32("llama.attention.scale", 0.25f);
  writer.f32Tensor("output.weight", {8, 5});
  writer.f32Tensor("blk.0.attn_q.bias", {8});
  auto d = descriptionOf(writer);
  ASSERT_TRUE(d) << line(d);
  ASSERT_EQ(d->layers.size(), 1u);
  EXPECT_EQ(d->modelDim, 8);
  const AttentionDescription &attention = d->layers[0].attention;
  EXPECT_EQ(attention.heads, 2);
  EXPECT_EQ(attention.kvHeads, 1);
  EXPECT_EQ(attention.headDim, 6);
  EXPECT_EQ(d->layers[0].mlp.width, 16);
  EXPECT_EQ(d->vocabSize, 5);
  EXPECT_EQ(d->contextLength, 64);
  const NormDescription norm{NormKind::Rms, static_cast<double>(1e-5f)};
  EXPECT_EQ(d->finalNorm, norm);
  EXPECT_EQ(d->layers[0].beforeMlp, norm);
  const RopeDescription rope{.pairing = RopePairing::Interleaved, .theta = 5e5, .rotaryDim = 4};
  EXPECT_THAT(d->ropes, ElementsAre(rope));
  EXPECT_EQ(attention.scale, 0.25);
  EXPECT_FALSE(d->tiedHead);
  EXPECT_TRUE(attention.bias);
  EXPECT_FALSE(attention.outputBias || d->layers[0].mlp.bias);
}

TEST(ConfigGguf, AbsentFieldsHaveDefaults) {
  GgufWriter writer = tinyGguf();
  writer.remove("llama.attention.head_count_kv");
  auto d = descriptionOf(writer);
  ASSERT_TRUE(d) << line(d);
  EXPECT_EQ(d->layers[0].attention.kvHeads, 2);
  EXPECT_EQ(d->layers[0].attention.headDim, 4);
  EXPECT_EQ(d->ropes[0].rotaryDim, 4);
  EXPECT_EQ(d->ropes[0].theta, 10000.0);
  EXPECT_TRUE(d->tiedHead);
  for (const char *key : {"general.architecture", "llama.block_count", "llama.context_length",
                          "llama.embedding_length", "llama.feed_forward_length",
                          "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon"})
    EXPECT_THAT(configRefusal([&](auto &g) { g.remove(key); }),
                HasSubstr("key " + std::string(key) + "): is missing"));
}

TEST(ConfigGguf, LayersMayDiffer) {
  GgufWriter writer = tinyGguf();
  writer.u32("llama.block_count", 2);
  writer.array<uint32_t>("llama.attention.head_count_kv", 4, {1, 2});
  writer.array<uint32_t>("llama.feed_forward_length", 4, {16, 24});
  auto d = descriptionOf(writer);
  ASSERT_TRUE(d) << line(d);
  EXPECT_EQ(d->layers[0].attention.kvHeads, 1);
  EXPECT_EQ(d->layers[1].attention.kvHeads, 2);
  EXPECT_EQ(d->layers[0].mlp.width, 16);
  EXPECT_EQ(d->layers[1].mlp.width, 24);
  auto heads = [](const std::vector<uint32_t> &values) {
    return configRefusal([&](GgufWriter &g) {
      g.u32("llama.block_count", 2);
      g.array("llama.attention.head_count_kv", 4, values);
    });
  };
  EXPECT_THAT(heads({1}), HasSubstr("has 1 elements for 2 layers"));
  EXPECT_THAT(heads({1, 0}), HasSubstr("element 1 must be an integer from 1"));
}

TEST(ConfigGguf, RefusesValues) {
  auto number = [](const std::string &key, uint32_t value) {
    return configRefusal([&](GgufWriter &g) { g.u32("llama." + key, value); });
  };
  auto real = [](const std::string &key, float value) {
    return configRefusal([&](GgufWriter &g) { g.f32("llama." + key, value); });
  };
  EXPECT_THAT(configRefusal([](auto &g) { g.string("general.architecture", "bloom"); }),
              HasSubstr("architecture \"bloom\" is not supported"));
  EXPECT_THAT(number("block_count", 0), HasSubstr("is 0, must be an integer from 1 to 1024"));
  EXPECT_THAT(number("block_count", 1025), HasSubstr("is 1025"));
  EXPECT_THAT(real("block_count", 1), HasSubstr("must be an integer"));
  EXPECT_THAT(number("embedding_length", 1 << 19), HasSubstr("is 524288"));
  EXPECT_THAT(number("context_length", UINT32_MAX), HasSubstr("is 4294967295"));
  EXPECT_THAT(number("feed_forward_length", 0), HasSubstr("is 0"));
  EXPECT_THAT(number("attention.head_count", 3), HasSubstr("3 heads do not divide 8"));
  EXPECT_THAT(number("attention.head_count", 8), HasSubstr("head dimension 1 is odd"));
  EXPECT_THAT(number("attention.key_length", 1025), HasSubstr("is 1025"));
  EXPECT_THAT(number("attention.value_length", 2), HasSubstr("keys have 4 dimensions"));
  EXPECT_THAT(number("rope.dimension_count", 3), HasSubstr("3 rotary dimensions must be even"));
  EXPECT_THAT(number("rope.dimension_count", 6), HasSubstr("is 6, must be an integer from 2 to 4"));
  EXPECT_THAT(number("vocab_size", 4), HasSubstr("is 4, the embedding has 5 rows"));
  EXPECT_THAT(number("expert_count", 8), HasSubstr("mixture of experts"));
  EXPECT_EQ(number("attention.sliding_window", 64), "accepted"); // as long as the context
  for (float value : {0.0f, -1e-5f, NAN, INFINITY})
    EXPECT_THAT(real("attention.layer_norm_rms_epsilon", value), HasSubstr("rms_epsilon): is"));
  for (float value : {0.0f, -1.0f, NAN, INFINITY})
    EXPECT_THAT(real("rope.freq_base", value), HasSubstr("freq_base): is"));
  EXPECT_THAT(real("logit_scale", 2), HasSubstr("logit_scale): is 2, which is not supported"));
  EXPECT_EQ(real("logit_scale", 1), "accepted"); // changes nothing
  EXPECT_THAT(real("attention.clamp_kqv", 1), HasSubstr("clamp_kqv): is 1"));
  EXPECT_EQ(number("rope.freq_base", 10000), "accepted");
  EXPECT_THAT(real("attention.clamp_kqv", 8), HasSubstr("clamp_kqv): is 8"));
  EXPECT_THAT(configRefusal([](auto &g) { g.boolean("llama.attention.causal", 0); }),
              HasSubstr("attention.causal"));
  EXPECT_THAT(configRefusal([](auto &g) { g.boolean("llama.use_parallel_residual", 1); }),
              HasSubstr("parallel residuals are not supported"));
  EXPECT_THAT(configRefusal([](auto &g) { g.removeTensor("token_embd.weight"); }),
              HasSubstr("token_embd.weight): is missing"));
  EXPECT_THAT(configRefusal([](auto &g) { g.tensor("token_embd.weight").dims = {40}; }),
              HasSubstr("has shape [40], must have two dimensions"));
}

TEST(ConfigGguf, WindowsOfAllLayers) {
  GgufWriter writer = tinyGguf();
  writer.u32("llama.attention.sliding_window", 63);
  EXPECT_EQ(descriptionOf(writer)->layers[0].attention.window, 63);
}

TEST(ConfigGguf, StretchesRopeByTensorsAndYarn) {
  GgufWriter writer = tinyGguf();
  writer.f32Tensor("rope_factors_long.weight", {2}, 5);
  writer.f32Tensor("rope_factors_short.weight", {2}, 2);
  writer.u32("llama.rope.scaling.original_context_length", 32);
  const RopeDescription longRope = descriptionOf(writer)->ropes[0];
  EXPECT_THAT(longRope.frequencyFactors, ElementsAre(2, 2));
  EXPECT_THAT(longRope.longFactors, ElementsAre(5, 5));
  EXPECT_EQ(longRope.originalContext, 32);

  writer = tinyGguf();
  writer.string("llama.rope.scaling.type", "yarn");
  writer.f32("llama.rope.scaling.factor", 4);
  writer.u32("llama.rope.scaling.original_context_length", 64);
  const RopeDescription yarn = descriptionOf(writer)->ropes[0];
  // 64 positions: the first dimension turns ten times, between the boundaries' dimensions 0 and 1.
  EXPECT_THAT(yarn.frequencyFactors, ElementsAre(1, 4));
  EXPECT_DOUBLE_EQ(yarn.magnitude, 0.1 * std::log(4.0) + 1);
}

TEST(ConfigGguf, ScalesRope) {
  GgufWriter writer = tinyGguf();
  writer.f32("llama.rope.scaling.factor", 4);
  EXPECT_THAT(descriptionOf(writer)->ropes[0].frequencyFactors, ElementsAre(4, 4));
  writer.string("llama.rope.scaling.type", "none");
  EXPECT_TRUE(descriptionOf(writer)->ropes[0].frequencyFactors.empty());
  writer.string("llama.rope.scaling.type", "linear");
  writer.f32Tensor("rope_freqs.weight", {2}, 3);
  EXPECT_THAT(descriptionOf(writer)->ropes[0].frequencyFactors, ElementsAre(12, 12));
  writer.remove("llama.rope.scaling.factor");
  writer.f32("llama.rope.scale_linear", 2);
  EXPECT_THAT(descriptionOf(writer)->ropes[0].frequencyFactors, ElementsAre(6, 6));
  writer.f32("llama.rope.scaling.attn_factor", 1.5f);
  EXPECT_EQ(descriptionOf(writer)->ropes[0].magnitude, 1.5);

  EXPECT_THAT(configRefusal([](auto &g) { g.string("llama.rope.scaling.type", "dynamic"); }),
              HasSubstr("RoPE scaling \"dynamic\" is not supported"));
  EXPECT_THAT(configRefusal([](auto &g) {
                g.string("llama.rope.scaling.type", "yarn");
                g.f32("llama.rope.scaling.factor", 4);
                g.f32("llama.rope.scaling.yarn_ext_factor", 0.5f);
              }),
              HasSubstr("yarn_ext_factor): is 0.5, which is not supported"));
  for (float value : {0.0f, -1.0f, NAN, INFINITY})
    EXPECT_THAT(configRefusal([&](auto &g) { g.f32Tensor("rope_freqs.weight", {2}, value); }),
                HasSubstr("is not finite and above 0"));
  EXPECT_THAT(configRefusal([](auto &g) { g.f32Tensor("rope_freqs.weight", {3}, 1); }),
              HasSubstr("is f32 [3], must be f32 [2]"));
}

} // namespace
} // namespace kernelforge
