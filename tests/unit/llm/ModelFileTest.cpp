#include "ModelWriters.h"

#include "kernelforge/llm/ModelFile.h"
#include "kernelforge/llm/ModelWeights.h"
#include "kernelforge/llm/Tokenizer.h"

namespace kernelforge {
namespace {

using namespace test;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

class ModelFileTest : public FolderTest {
protected:
  /// Writes a folder as Hugging Face's models have it, and its parts for tests to replace.
  void writeFolder() {
    write("config.json", tinyConfig().dump());
    write("model.safetensors", safetensors(tinyShapes()));
  }
  std::string openFolder() const { return line(openModel(folder.string())); }
  std::string openGguf(const std::function<void(GgufWriter &)> &change) const {
    GgufWriter writer = tinyGguf();
    change(writer);
    return line(openModel(write("m.gguf", writer.build())));
  }
};

TEST_F(ModelFileTest, OpensGguf) {
  GgufWriter writer = tinyGguf();
  writer.string("tokenizer.chat_template", "{{ messages }}");
  auto model = openModel(write("some.model.gguf", writer.build()));
  ASSERT_TRUE(model) << line(model);
  EXPECT_EQ(model->name, "some.model");
  EXPECT_EQ(model->format, ModelFormat::Gguf);
  EXPECT_EQ(model->description.ropes[0].pairing, RopePairing::Interleaved);
  EXPECT_EQ(model->weights.size(), 11u);
  EXPECT_THAT(model->weights.find("blk.0.ffn_down.weight")->shape, ElementsAre(8, 16));
  EXPECT_EQ(model->special.eos, 1);
  EXPECT_EQ(model->tokenizer.data->tokens.size(), 5u);
  EXPECT_EQ(model->tokenizer.vocabSize, 5);
  EXPECT_EQ(model->chatTemplate, "{{ messages }}");
  EXPECT_EQ(model->mappedBytes(), writer.build().size());
  EXPECT_TRUE(model->checkFiles());
  std::filesystem::resize_file(path("some.model.gguf"), 100);
  EXPECT_FALSE(model->checkFiles());
}

TEST_F(ModelFileTest, FirstBytesDecideWhereTheNameDoesNot) {
  EXPECT_EQ(line(openModel(write("blob", tinyGguf().build()))), "accepted");
  EXPECT_THAT(line(openModel(write("blob", "PK\3\4"))), HasSubstr("neither a GGUF nor"));
  EXPECT_THAT(line(openModel(write("blob", ""))), HasSubstr("the file is empty"));
}

TEST_F(ModelFileTest, AMissingPathIsUnusable) {
  for (const char *name : {"absent.gguf", "absent", "absent/model.safetensors.index.json"}) {
    auto model = openModel(path(name));
    ASSERT_FALSE(model);
    EXPECT_EQ(model.error().kind, ErrorKind::Unusable);
    EXPECT_THAT(line(model), HasSubstr("there is no such file"));
  }
}

TEST_F(ModelFileTest, OpensAFolderAndWhatIsBesideTheWeights) {
  writeFolder();
  write("generation_config.json", R"({"eos_token_id": [1, 3]})");
  write("tokenizer_config.json", R"({"add_bos_token": true, "chat_template": "{{ a }}"})");
  write("tokenizer.json", "{}");
  for (const std::string &name :
       {folder.string(), folder.string() + "/", path("model.safetensors")}) {
    auto model = openModel(name);
    ASSERT_TRUE(model) << line(model);
    EXPECT_EQ(model->name, folder.filename().string());
    EXPECT_EQ(model->format, ModelFormat::Safetensors);
    EXPECT_EQ(model->description.ropes[0].pairing, RopePairing::HalfSplit);
    EXPECT_EQ(model->weights.size(), 11u);
    EXPECT_THAT(model->weights.find("blk.0.attn_k.weight")->shape, ElementsAre(4, 8));
    EXPECT_THAT(model->special.endOfGeneration, ElementsAre(1, 3));
    EXPECT_EQ(model->tokenizer.jsonPath, path("tokenizer.json"));
    EXPECT_EQ(model->tokenizer.addBos, true);
    EXPECT_EQ(model->tokenizer.special.bos, 0);
    EXPECT_EQ(model->chatTemplate, "{{ a }}");
  }
  write("chat_template.jinja", "{{ b }}");
  EXPECT_EQ(openModel(folder.string())->chatTemplate, "{{ b }}");
}

TEST_F(ModelFileTest, OpensShards) {
  write("config.json", tinyConfig().dump());
  auto shapes = tinyShapes();
  json map;
  for (int shard = 0; shard < 3; ++shard) {
    const std::string file = "part" + std::to_string(shard) + ".safetensors";
    std::map<std::string, std::vector<uint64_t>> part;
    int turn = 0;
    for (const auto &tensor : shapes)
      if (turn++ % 3 == shard) {
        part.insert(tensor);
        map[tensor.first] = file;
      }
    write(file, safetensors(part));
  }
  const std::string index = write("model.safetensors.index.json", json{{"weight_map", map}}.dump());
  for (const std::string &name : {folder.string(), index}) {
    auto model = openModel(name);
    ASSERT_TRUE(model) << line(model);
    EXPECT_EQ(model->weights.size(), 11u);
    EXPECT_EQ(model->files.size(), 3u);
  }
}

TEST_F(ModelFileTest, AFolderNeedsItsParts) {
  EXPECT_THAT(openFolder(), HasSubstr("neither model.safetensors nor"));
  write("model.safetensors", safetensors(tinyShapes()));
  EXPECT_THAT(openFolder(), HasSubstr("config.json): there is no such file"));
}

TEST_F(ModelFileTest, SideFilesAreChecked) {
  writeFolder();
  write("generation_config.json", R"({"eos_token_id": 5})");
  EXPECT_THAT(openFolder(), HasSubstr("generation_config.json, field eos_token_id): is 5"));
  write("generation_config.json", "{}");
  write("tokenizer_config.json", R"({"add_bos_token": 1})");
  EXPECT_THAT(openFolder(), HasSubstr("add_bos_token): is 1, must be true or false"));
  write("tokenizer_config.json", R"({"chat_template": 1})");
  EXPECT_THAT(openFolder(), HasSubstr("chat_template): is 1, must be a string"));
  write("tokenizer_config.json",
        R"({"chat_template": [{"name": "tool", "template": "t"},
                            {"name": "default", "template": "d"}]})");
  EXPECT_EQ(openModel(folder.string())->chatTemplate, "d");
  write("chat_template.jinja", "\xff");
  EXPECT_THAT(openFolder(), HasSubstr("chat_template.jinja): is not valid UTF-8"));
  write("chat_template.jinja", std::string((1 << 20) + 1, ' '));
  EXPECT_THAT(openFolder(), HasSubstr("has 1048577 bytes, at most 1048576"));
}

TEST_F(ModelFileTest, ATokenizerThatIsNotSupportedIsNamed) {
  auto refusal = [&] { return line(Tokenizer::load(openModel(folder.string())->tokenizer)); };
  writeFolder();
  EXPECT_THAT(refusal(), HasSubstr("the model brings none"));
  write("tokenizer.model", "\n\x0e\n\x05<unk>");
  EXPECT_THAT(refusal(), HasSubstr("tokenizer.model, byte 0): field 1 has 14 bytes"));
  write("tokenizer.model", "IQ== 0\n");
  EXPECT_THAT(refusal(), HasSubstr("tokenizer model \"tiktoken\" is not supported"));
  write("tokenizer.json", "{}");
  EXPECT_THAT(refusal(), HasSubstr("tokenizer.json, field model): is missing"));

  GgufWriter writer = tinyGguf();
  writer.string("tokenizer.ggml.model", "rwkv");
  writer.strings("tokenizer.ggml.tokens", {"<unk>"}); // whatever it holds
  auto model = openModel(write("m.gguf", writer.build()));
  ASSERT_TRUE(model) << line(model); // its weights can be run
  EXPECT_THAT(line(Tokenizer::load(model->tokenizer)), HasSubstr("\"rwkv\" is not supported"));
}

TEST_F(ModelFileTest, WeightsMustFitTheDescription) {
  EXPECT_THAT(openGguf([](auto &g) { g.removeTensor("blk.0.ffn_up.weight"); }),
              HasSubstr("tensor blk.0.ffn_up.weight): is missing"));
  EXPECT_THAT(openGguf([](auto &g) { g.tensor("blk.0.ffn_up.weight").dims = {16, 8}; }),
              HasSubstr("has shape [8, 16], the model needs [16, 8]"));
  EXPECT_THAT(openGguf([](auto &g) { g.tensor("output_norm.weight").dims = {8, 1}; }),
              HasSubstr("has shape [1, 8], the model needs [8]"));
  EXPECT_THAT(openGguf([](auto &g) { g.tensor("blk.0.attn_q.weight").type = 26; }),
              HasSubstr("type i32 is not supported for a weight matrix"));
  EXPECT_THAT(openGguf([](auto &g) { g.f32Tensor("blk.1.attn_q.weight", {8, 8}); }),
              HasSubstr("blk.1.attn_q.weight): has no place"));
  EXPECT_THAT(openGguf([](auto &g) { g.f32Tensor("blk.0.attn_k.bias", {4}); }),
              HasSubstr("blk.0.attn_k.bias): has no place"));
  EXPECT_THAT(openGguf([](auto &g) { g.f32Tensor("blk.0.attn_q.bias", {8}); }),
              HasSubstr("blk.0.attn_k.bias): is missing"));
  EXPECT_EQ(openGguf([](auto &g) { g.f32Tensor("rope_freqs.weight", {2}, 1); }), "accepted");
  EXPECT_THAT(openGguf([](auto &g) {
                g.strings("tokenizer.ggml.tokens", {"a", "b", "c", "d"});
                g.template array<int32_t>("tokenizer.ggml.token_type", 5, {1, 1, 1, 1});
              }),
              HasSubstr("tokens): has 4 elements, the embedding has 5 rows"));
}

TEST_F(ModelFileTest, SafetensorsWeightsMustFitToo) {
  writeFolder();
  auto shapes = tinyShapes();
  shapes["lm_head.weight"] = {5, 8}; // a second copy of tied embeddings does no harm
  shapes["model.layers.0.self_attn.rotary_emb.inv_freq"] = {2};
  write("model.safetensors", safetensors(shapes));
  EXPECT_EQ(openFolder(), "accepted");
  shapes["model.layers.0.self_attn.q_norm.weight"] = {4};
  write("model.safetensors", safetensors(shapes));
  EXPECT_THAT(openFolder(), HasSubstr("q_norm.weight): has no place"));
  shapes = tinyShapes();
  shapes["model.embed_tokens.weight"] = {6, 8};
  write("model.safetensors", safetensors(shapes));
  EXPECT_THAT(openFolder(), HasSubstr("has shape [6, 8], the model needs [5, 8]"));
  json config = tinyConfig();
  config["tie_word_embeddings"] = false;
  write("config.json", config.dump());
  write("model.safetensors", safetensors(tinyShapes()));
  EXPECT_THAT(openFolder(), HasSubstr("tensor lm_head.weight): is missing"));
}

/// A model that is an embedding of two tokens and a norm.
ModelDescription embeddingOnly() {
  ModelDescription d;
  d.modelDim = 32;
  d.vocabSize = 2;
  d.tiedHead = true;
  return d;
}

/// The weights of a model of family llama, named as in GGUF files.
Expected<BoundWeights> bindLlama(const ModelDescription &d,
                                 const NamedList<StoredTensor> &tensors) {
  return bindWeights(*findArchitecture("llama"), d, tensors, WeightNaming::Gguf, "f");
}

TEST(ModelWeights, OfTypesThatAVectorCannotHave) {
  const ModelDescription d = embeddingOnly();
  NamedList<StoredTensor> tensors;
  const std::vector<std::byte> bytes(256);
  tensors.add({"token_embd.weight", "q8_0", ElementType::Q8_0, {2, 32}, bytes});
  tensors.add({"output_norm.weight", "q8_0", ElementType::Q8_0, {32}, bytes});
  EXPECT_THAT(line(bindLlama(d, tensors)),
              HasSubstr("type q8_0 is not supported for a norm or bias; supported are f32, f16, "
                        "bf16"));
  NamedList<StoredTensor> foreign;
  foreign.add({"token_embd.weight", "IQ3_S", std::nullopt, {2, 32}, bytes});
  EXPECT_THAT(line(bindLlama(d, foreign)),
              HasSubstr("type IQ3_S is not supported for a weight matrix; supported are f32"));
}

TEST(ModelWeights, ATypeIsNamedBeforeItsShape) {
  const ModelDescription d = embeddingOnly();
  NamedList<StoredTensor> packed;
  const std::vector<std::byte> bytes(32);
  packed.add({"token_embd.weight", "U8", std::nullopt, {32, 1}, bytes});
  EXPECT_THAT(line(bindLlama(d, packed)),
              HasSubstr("type U8 is not supported for a weight matrix"));
}

TEST(ModelWeights, WhatIsNoNumberIsFound) {
  std::vector<float> norm(8, 1), matrix(32, 0.5f);
  NamedList<Weight> weights;
  weights.add({"output_norm.weight", ElementType::F32, {8}, std::as_bytes(std::span(norm))});
  weights.add({"q.weight", ElementType::F32, {4, 8}, std::as_bytes(std::span(matrix))});
  EXPECT_EQ(describeNonFinite(weights), "");
  matrix.back() = -INFINITY;
  EXPECT_EQ(describeNonFinite(weights), "q.weight has -inf in row 3");
  norm[7] = -NAN;
  EXPECT_EQ(describeNonFinite(weights), "output_norm.weight has nan in row 0");
  NamedList<Weight> named; // under what its file calls it
  named.add({"n", ElementType::F32, {8}, std::as_bytes(std::span(norm)), "model.norm.weight"});
  EXPECT_EQ(describeNonFinite(named), "model.norm.weight has nan in row 0");
  // A block of q8_0 whose scale is infinite.
  std::string block(34, '\1');
  block[0] = 0;
  block[1] = 0x7C;
  NamedList<Weight> quantized;
  quantized.add({"k.weight", ElementType::Q8_0, {1, 32}, asBytes(block)});
  EXPECT_EQ(describeNonFinite(quantized), "k.weight has inf in row 0");
}

TEST(WeightSlots, OfABlockAndOfAPlainMlp) {
  ModelDescription d;
  d.modelDim = 8;
  LayerDescription layer;
  layer.beforeAttention = layer.beforeMlp = NormDescription{.kind = NormKind::Layer};
  layer.attention = {.heads = 2, .kvHeads = 2, .headDim = 4};
  layer.mlp = {.width = 32, .gated = false};
  d.layers.push_back(layer);
  std::vector<std::string> names;
  for (const WeightSlot &slot : weightSlots(d)) {
    names.push_back(slot.name.substr(std::string("blk.0.").size()));
    EXPECT_EQ(slot.layer, 0);
    EXPECT_TRUE(slot.name.starts_with("blk.0." + std::string(slot.part) + ".")) << slot.name;
    EXPECT_EQ(slot.isMatrix(), slot.shape.size() == 2) << slot.name;
  }
  EXPECT_THAT(names,
              ElementsAre("attn_norm.weight", "attn_norm.bias", "attn_q.weight", "attn_k.weight",
                          "attn_v.weight", "attn_output.weight", "ffn_norm.weight", "ffn_norm.bias",
                          "ffn_up.weight", "ffn_down.weight"));
}

/// Two layers that differ, in a frame with positions and a head of its own.
ModelDescription twoLayers() {
  ModelDescription d;
  d.modelDim = 8;
  d.vocabSize = 5;
  d.contextLength = 7;
  d.learnedPositions = true;
  LayerDescription layer;
  layer.attention = {.heads = 2, .kvHeads = 1, .headDim = 4, .bias = true};
  layer.mlp = {.width = 16};
  layer.afterMlp = NormDescription{};
  d.layers.push_back(layer);
  layer.attention.kvHeads = 2;
  layer.attention.queryNorm = NormDescription{.offset = 1};
  layer.attention.keyNorm = NormDescription{.kind = NormKind::Layer};
  layer.attention.sinks = true;
  layer.beforeMlp = layer.afterMlp = std::nullopt;
  d.layers.push_back(layer);
  return d;
}

TEST(WeightSlots, OfLayersThatDiffer) {
  std::map<std::string, WeightSlot> slots;
  for (const WeightSlot &slot : weightSlots(twoLayers()))
    slots[slot.name] = slot;
  EXPECT_EQ(slots.size(), 13u + 15u + 4u);
  EXPECT_THAT(slots["position_embd.weight"].shape, ElementsAre(7, 8));
  EXPECT_EQ(slots["position_embd.weight"].kind, WeightKind::Table);
  EXPECT_EQ(slots["output.weight"].kind, WeightKind::Matrix);
  EXPECT_EQ(slots["output.weight"].layer, -1);
  EXPECT_THAT(slots["blk.0.attn_k.weight"].shape, ElementsAre(4, 8));
  EXPECT_THAT(slots["blk.1.attn_k.weight"].shape, ElementsAre(8, 8));
  EXPECT_EQ(slots["blk.1.attn_k.bias"].kind, WeightKind::Bias);
  EXPECT_EQ(slots["blk.0.post_ffw_norm.weight"].kind, WeightKind::Norm);
  EXPECT_THAT(slots["blk.1.attn_q_norm.weight"].shape, ElementsAre(4));
  EXPECT_EQ(slots["blk.1.attn_q_norm.weight"].offset, 1);
  EXPECT_EQ(slots["blk.1.attn_k_norm.weight"].offset, 0);
  EXPECT_EQ(slots["blk.1.attn_k_norm.bias"].kind, WeightKind::Bias);
  EXPECT_THAT(slots["blk.1.attn_sinks.weight"].shape, ElementsAre(2));
  EXPECT_EQ(slots["blk.1.attn_sinks.weight"].kind, WeightKind::Score);
  EXPECT_FALSE(slots.contains("blk.0.attn_q_norm.weight"));
  EXPECT_FALSE(slots.contains("blk.1.post_ffw_norm.weight"));
  EXPECT_FALSE(slots.contains("blk.1.ffn_norm.weight"));
}

} // namespace
} // namespace kernelforge
