// The family gpt2: what its configurations say, and where its files have the weights.
#include "ModelWriters.h"

#include "kernelforge/llm/ModelConfig.h"
#include "kernelforge/llm/ModelFile.h"

#include <cmath>

namespace kernelforge {
namespace {

using namespace test;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t dim = 4, ffn = 6, vocabulary = 5, context = 7;

json gpt2Config() {
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"n_layer", 1},
          {"n_embd", dim},
          {"n_head", 2},
          {"n_inner", ffn},
          {"n_positions", context},
          {"vocab_size", vocabulary}};
}

Expected<ModelConfig> gpt2With(const json &fields) {
  json config = gpt2Config();
  config.update(fields);
  return configOf(config);
}

TEST(Gpt2, ReadsEveryField) {
  auto config = gpt2With({{"layer_norm_epsilon", 1e-6}, {"activation_function", "relu"}});
  ASSERT_TRUE(config) << line(config);
  const ModelDescription &d = config->description;
  EXPECT_EQ(d.architecture, "gpt2");
  EXPECT_EQ(config->architecture->name(), "gpt2");
  EXPECT_EQ(d.modelDim, dim);
  EXPECT_EQ(d.contextLength, context);
  EXPECT_EQ(d.vocabSize, vocabulary);
  EXPECT_TRUE(d.learnedPositions && d.tiedHead);
  EXPECT_TRUE(d.ropes.empty());
  const NormDescription norm{NormKind::Layer, 1e-6};
  EXPECT_EQ(d.finalNorm, norm);
  ASSERT_EQ(d.layers.size(), 1u);
  LayerDescription layer;
  layer.beforeAttention = layer.beforeMlp = norm;
  layer.attention = {.heads = 2, .kvHeads = 2, .headDim = 2, .bias = true, .outputBias = true};
  layer.mlp = {.width = ffn, .activation = ActivationKind::Relu, .gated = false, .bias = true};
  EXPECT_EQ(d.layers[0], layer);
}

TEST(Gpt2, AbsentFieldsAreThoseOfTheSmallestModel) {
  auto document = parseJson(R"({"model_type": "gpt2", "n_inner": null})", "w", "config.json");
  auto config = configFromJson(*document);
  ASSERT_TRUE(config) << line(config);
  const ModelDescription &d = config->description;
  EXPECT_EQ(d.layers.size(), 12u);
  EXPECT_EQ(d.modelDim, 768);
  EXPECT_EQ(d.vocabSize, 50257);
  EXPECT_EQ(d.contextLength, 1024);
  EXPECT_EQ(d.finalNorm.epsilon, 1e-5);
  EXPECT_EQ(d.layers[11].attention.headDim, 64);
  EXPECT_EQ(d.layers[11].mlp.width, 3072);
  EXPECT_EQ(d.layers[11].mlp.activation, ActivationKind::GeluTanh);
}

TEST(Gpt2, ScoresMayBeScaledOtherwise) {
  auto scales = [](const json &fields) {
    json two = fields;
    two["n_layer"] = 2;
    auto config = gpt2With(two);
    EXPECT_TRUE(config) << line(config);
    const auto &layers = config->description.layers;
    return std::vector<double>{layers[0].attention.scale, layers[1].attention.scale};
  };
  EXPECT_THAT(scales(json::object()), ElementsAre(0, 0)); // by the head's dimension
  EXPECT_THAT(scales({{"scale_attn_weights", false}}), ElementsAre(1, 1));
  EXPECT_THAT(scales({{"scale_attn_by_inverse_layer_idx", true}}),
              ElementsAre(1 / std::sqrt(2.0), 0.5 / std::sqrt(2.0)));
}

TEST(Gpt2, RefusesWhatItCannotCompute) {
  EXPECT_THAT(line(gpt2With({{"add_cross_attention", true}})), HasSubstr("add_cross_attention"));
  EXPECT_THAT(line(gpt2With({{"n_head", 3}})), HasSubstr("n_head 3 does not divide n_embd 4"));
  EXPECT_THAT(line(gpt2With({{"activation_function", "mish"}})),
              HasSubstr("field activation_function): activation \"mish\" is not supported"));
  EXPECT_THAT(line(gpt2With({{"n_positions", 0}})), HasSubstr("field n_positions): is 0"));
}

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

/// Tensors of a checkpoint with numbers that say where they stand: row * 100 + column.
class Checkpoint {
public:
  explicit Checkpoint(std::string prefix) : prefix(std::move(prefix)) {
    add("wte.weight", {vocabulary, dim});
    add("wpe.weight", {context, dim});
    for (const char *norm : {"h.0.ln_1", "h.0.ln_2", "ln_f"})
      for (const char *part : {".weight", ".bias"})
        add(std::string(norm) + part, {dim});
    linear("h.0.attn.c_attn", dim, 3 * dim);
    linear("h.0.attn.c_proj", dim, dim);
    linear("h.0.mlp.c_fc", dim, ffn);
    linear("h.0.mlp.c_proj", ffn, dim);
  }

  void add(const std::string &name, std::vector<int64_t> shape, const char *type = "F32") {
    const uint64_t begin = data.size();
    const int64_t width = shape.back(), rows = shape.size() == 1 ? 1 : shape.front();
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t column = 0; column < width; ++column) {
        const auto value = static_cast<float>(row * 100 + column);
        data += type == std::string("F32") ? raw(value) : raw(floatToHalf(value));
      }
    header[prefix + name] = {
        {"dtype", type}, {"shape", shape}, {"data_offsets", {begin, data.size()}}};
  }
  void linear(const std::string &name, int64_t in, int64_t out) {
    add(name + ".weight", {in, out}, "F16");
    add(name + ".bias", {out});
  }
  std::string build() const { return safetensors(header.dump(), data); }

  json header = json::object();

private:
  std::string prefix, data;
};

class Gpt2Weights : public FolderTest {
protected:
  Expected<ModelFile> open(const Checkpoint &checkpoint, const json &fields = json::object()) {
    json config = gpt2Config();
    config.update(fields);
    write("config.json", config.dump());
    write("model.safetensors", checkpoint.build());
    return openModel(folder.string());
  }

  static std::vector<float> values(const ModelFile &model, std::string_view name) {
    const Weight *weight = model.weights.find(name);
    if (!weight) {
      ADD_FAILURE() << "no weight " << name;
      return {};
    }
    const auto width = static_cast<uint64_t>(weight->shape.back());
    const uint64_t bytes = *rowBytes(weight->type, width);
    std::vector<float> all(weight->bytes.size() / bytes * width);
    for (uint64_t row = 0; row < all.size() / width; ++row)
      dequantizeRow(weight->type, weight->bytes.data() + row * bytes, width,
                    all.data() + row * width);
    return all;
  }
};

TEST_F(Gpt2Weights, AreTurnedAndCutOutOfTheirTensors) {
  for (const char *prefix : {"transformer.", ""}) {
    auto model = open(Checkpoint(prefix));
    ASSERT_TRUE(model) << line(model);
    EXPECT_EQ(model->weights.size(), weightSlots(model->description).size());
    // Stored [in, out], so element [o, i] is 100 i + o; k is the second third of the outputs.
    EXPECT_THAT(model->weights.find("blk.0.attn_k.weight")->shape, ElementsAre(dim, dim));
    EXPECT_THAT(
        values(*model, "blk.0.attn_k.weight"),
        ElementsAre(4, 104, 204, 304, 5, 105, 205, 305, 6, 106, 206, 306, 7, 107, 207, 307));
    EXPECT_THAT(values(*model, "blk.0.attn_v.bias"), ElementsAre(8, 9, 10, 11));
    EXPECT_THAT(model->weights.find("blk.0.ffn_down.weight")->shape, ElementsAre(dim, ffn));
    EXPECT_THAT(values(*model, "blk.0.ffn_up.weight"),
                ElementsAre(0, 100, 200, 300, 1, 101, 201, 301, 2, 102, 202, 302, 3, 103, 203, 303,
                            4, 104, 204, 304, 5, 105, 205, 305));
    EXPECT_EQ(values(*model, "position_embd.weight")[4], 100); // lies as it is needed
    EXPECT_EQ(model->weights.find("blk.0.attn_q.weight")->fileName,
              std::string(prefix) + "h.0.attn.c_attn.weight");
  }
}

TEST_F(Gpt2Weights, RedundantTensorsDoNoHarm) {
  Checkpoint checkpoint("transformer.");
  checkpoint.add("h.0.attn.bias", {context, context});
  checkpoint.add("h.0.attn.masked_bias", {1});
  EXPECT_EQ(line(open(checkpoint)), "accepted");
  checkpoint.add("h.0.attn.q_norm", {2});
  EXPECT_THAT(line(open(checkpoint)), HasSubstr("q_norm): has no place"));
  Checkpoint bare("");
  bare.add("lm_head.weight", {vocabulary, dim});
  EXPECT_EQ(line(open(bare)), "accepted");
  auto untied = open(bare, {{"tie_word_embeddings", false}});
  ASSERT_TRUE(untied) << line(untied);
  EXPECT_THAT(untied->weights.find("output.weight")->shape, ElementsAre(vocabulary, dim));
}

TEST_F(Gpt2Weights, MustFit) {
  Checkpoint checkpoint("");
  checkpoint.header["h.0.attn.c_attn.weight"]["shape"] = {3 * dim, dim};
  EXPECT_THAT(line(open(checkpoint)),
              HasSubstr("c_attn.weight): has shape [12, 4], the model needs [4, 12]"));
  EXPECT_THAT(line(open(Checkpoint(""), {{"n_positions", 8}})),
              HasSubstr("wpe.weight): has shape [7, 4], the model needs [8, 4]"));
  EXPECT_THAT(line(open(Checkpoint("other."))),
              HasSubstr("tensor transformer.wte.weight): is missing"));
}

TEST_F(Gpt2Weights, OfGgufFilesLieAsTheyAreNeeded) {
  GgufWriter g;
  g.string("general.architecture", "gpt2");
  for (const auto &[key, value] : std::map<std::string, uint32_t>{{"block_count", 1},
                                                                  {"context_length", context},
                                                                  {"embedding_length", dim},
                                                                  {"feed_forward_length", ffn},
                                                                  {"attention.head_count", 2}})
    g.u32("gpt2." + key, value);
  g.f32("gpt2.attention.layer_norm_epsilon", 1e-5f);
  g.f32Tensor("token_embd.weight", {dim, vocabulary});
  g.f32Tensor("position_embd.weight", {dim, context});
  for (const std::string norm : {"blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"})
    for (const char *part : {".weight", ".bias"})
      g.f32Tensor(norm + part, {dim});
  auto linear = [&](const std::string &name, uint64_t in, uint64_t out) {
    g.f32Tensor(name + ".weight", {in, out});
    g.f32Tensor(name + ".bias", {out});
  };
  linear("blk.0.attn_qkv", dim, 3 * dim);
  linear("blk.0.attn_output", dim, dim);
  linear("blk.0.ffn_up", dim, ffn);
  linear("blk.0.ffn_down", ffn, dim);
  std::string &qkv = g.tensor("blk.0.attn_qkv.weight").data;
  qkv.clear();
  for (int i = 0; i < 3 * dim * dim; ++i)
    qkv += raw(static_cast<float>(i));
  auto model = openModel(write("m.gguf", g.build()));
  ASSERT_TRUE(model) << line(model);
  EXPECT_TRUE(model->description.tiedHead && model->description.learnedPositions);
  EXPECT_TRUE(model->description.layers[0].attention.bias);
  EXPECT_EQ(model->description.layers[0].mlp.activation, ActivationKind::GeluTanh);
  EXPECT_EQ(values(*model, "blk.0.attn_q.weight")[0], 0);
  EXPECT_EQ(values(*model, "blk.0.attn_k.weight")[0], dim * dim);
  EXPECT_EQ(values(*model, "blk.0.attn_v.weight")[1], 2 * dim * dim + 1);
  EXPECT_EQ(model->ownedWeights.size(), 0u); // nothing was copied
  g.removeTensor("blk.0.ffn_down.bias");
  EXPECT_THAT(line(openModel(write("m.gguf", g.build()))),
              HasSubstr("tensor blk.0.ffn_down.bias): is missing"));
}

} // namespace
} // namespace kernelforge
